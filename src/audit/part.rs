//! The content of an audit file, whether it is compressed or not.
//!
//! Owns the choice of gzip (RFC 1952). Invariants: a part is read in pieces, however long it is; what was compressed comes
//! back byte by byte, or reading it is an error.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write as _};
use std::path::Path;

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use rustix::fs::{Mode, OFlags};

use crate::audit::chain::{self, Mark};
use crate::audit::member;
use crate::audit::name::COMPRESSED_SUFFIX;
use crate::limits::{AUDIT_COMPRESS_PIECE_BYTES, AUDIT_LINE_MAX_BYTES, AUDIT_REPLAY_PIECE_BYTES};

/// Opens an audit file to read its lines; its name says whether it is compressed.
///
/// # Errors
/// What the system says. A compressed file that is damaged is an error of the read.
pub fn open(path: &Path) -> io::Result<Box<dyn BufRead>> {
    // Without NONBLOCK the open of a FIFO would wait for its other end.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let file = BufReader::with_capacity(AUDIT_REPLAY_PIECE_BYTES, file);
    let compressed = path.to_str().is_some_and(|path| path.ends_with(COMPRESSED_SUFFIX));
    Ok(if compressed { Box::new(BufReader::new(GzDecoder::new(file))) } else { Box::new(file) })
}

/// The last `budget` bytes of what was compressed.
///
/// # Errors
/// What reading says, and a file that is damaged.
pub fn tail(compressed: impl Read, budget: u64) -> io::Result<Vec<u8>> {
    end(&mut GzDecoder::new(compressed), usize::try_from(budget).unwrap_or(usize::MAX))
}

/// Where the stream stood at the end of a part; nothing if it has no line with a mac.
///
/// # Errors
/// What reading says, and a file that is damaged.
pub fn last_mark(mut part: impl Read, compressed: bool) -> io::Result<Option<Mark>> {
    // A whole line, and what a crash may have left of one behind it.
    let budget = 2 * (AUDIT_LINE_MAX_BYTES + 1);
    let bytes = if compressed { end(&mut GzDecoder::new(part), budget) } else { end(&mut part, budget) }?;
    let whole = bytes.rsplitn(2, |byte| *byte == b'\n').nth(1).unwrap_or_default();
    Ok(whole.rsplit(|byte| *byte == b'\n').next().and_then(mark))
}

fn mark(line: &[u8]) -> Option<Mark> {
    let (covered, _, mac) = chain::split(line)?;
    Some(Mark { seq: member::number(covered, b"{\"seq\":")?, mac })
}

/// The last `budget` bytes of what `reader` has.
fn end(reader: &mut dyn Read, budget: usize) -> io::Result<Vec<u8>> {
    let mut piece = vec![0; AUDIT_COMPRESS_PIECE_BYTES];
    let mut kept = VecDeque::new();
    loop {
        let count = reader.read(&mut piece)?;
        if count == 0 {
            return Ok(kept.into());
        }
        kept.extend(piece.get(..count).unwrap_or_default());
        kept.drain(..kept.len().saturating_sub(budget));
    }
}

/// Compresses a part piece by piece.
pub struct Compressor(GzEncoder<Vec<u8>>);

impl Compressor {
    /// One that has taken nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self(GzEncoder::new(Vec::new(), Compression::default()))
    }

    /// Takes a piece; returns what is to be written of it and of what came before.
    ///
    /// # Errors
    /// A fault of the compressor.
    pub fn take(&mut self, piece: &[u8]) -> io::Result<Vec<u8>> {
        self.0.write_all(piece)?;
        Ok(core::mem::take(self.0.get_mut()))
    }

    /// What is to be written at the end.
    ///
    /// # Errors
    /// A fault of the compressor.
    pub fn finish(self) -> io::Result<Vec<u8>> {
        self.0.finish()
    }
}

impl Default for Compressor {
    fn default() -> Self {
        Self::new()
    }
}

impl core::fmt::Debug for Compressor {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Compressor").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(count: u32) -> Vec<u8> {
        (0..count).flat_map(|number| format!("{{\"seq\":{number}}}\n").into_bytes()).collect()
    }

    fn compressed(bytes: &[u8]) -> Vec<u8> {
        let mut compressor = Compressor::new();
        let mut out: Vec<u8> =
            bytes.chunks(1_000).flat_map(|piece| compressor.take(piece).unwrap()).collect();
        out.extend(compressor.finish().unwrap());
        out
    }

    #[test]
    fn a_compressed_part_is_shorter_and_comes_back_whole() {
        let path = std::env::temp_dir().join(format!("quantonium-part-{}.jsonl.gz", std::process::id()));
        for count in [0, 1, 50_000] {
            let bytes = lines(count);
            let packed = compressed(&bytes);
            assert!(count < 2 || packed.len() * 3 < bytes.len(), "{}", packed.len());
            std::fs::write(&path, &packed).unwrap();
            let mut found = Vec::new();
            open(&path).unwrap().read_to_end(&mut found).unwrap();
            assert_eq!(found, bytes);
            let cut = packed.get(..packed.len() - 1).unwrap();
            std::fs::write(&path, cut).unwrap();
            assert!(open(&path).unwrap().read_to_end(&mut Vec::new()).is_err(), "cut by one byte");
        }
        let plain = path.with_extension("");
        std::fs::write(&plain, lines(3)).unwrap();
        assert_eq!(open(&plain).unwrap().lines().count(), 3);
        std::fs::remove_file(&path).unwrap();
        std::fs::remove_file(&plain).unwrap();
    }

    #[test]
    fn where_a_part_ends_is_read_from_its_last_whole_line() {
        let line = |seq: u32, mac: &str| format!("{{\"seq\":{seq},\"prev\":\"{mac}\",\"mac\":\"{mac}\"}}\n");
        let (one, two) = ("01".repeat(16), "02".repeat(16));
        let whole = [line(1, &one), line(2, &two)].concat().into_bytes();
        let torn = [&*whole, b"{\"seq\":3,\"ts"].concat();
        let expected = Some(Mark { seq: 2, mac: [2; 16] });
        for bytes in [whole, torn] {
            assert_eq!(last_mark(&*bytes, false).unwrap(), expected);
            assert_eq!(last_mark(&*compressed(&bytes), true).unwrap(), expected);
        }
        for none in [&b""[..], b"{\"seq\":3,\"ts", b"{\"seq\":3}\n", b"\n"] {
            assert_eq!(last_mark(none, false).unwrap(), None);
        }
        assert!(last_mark(&b"no gzip"[..], true).is_err());
    }

    #[test]
    fn the_end_of_a_compressed_part_is_found() {
        let bytes = lines(50_000);
        let packed = compressed(&bytes);
        for budget in [0, 1, 1_000, bytes.len(), usize::MAX] {
            let expected = bytes.get(bytes.len().saturating_sub(budget)..).unwrap();
            assert_eq!(tail(&*packed, budget as u64).unwrap(), expected, "{budget}");
        }
        assert!(tail(packed.get(..500).unwrap(), 10).is_err());
    }
}
