//! The chain of a stream: what ties each line to the one before it, under a key that does not come back.
//!
//! Owns [`Root`], from which the keys of all streams are derived, [`Chain`], the key and the last line of one stream, and
//! [`Tip`], where its last written line is told to others. Invariants: a running server holds no key with which lines
//! that were written under an earlier one could be made again (RFC 2104 HMAC as a one-way step, so that a thief of
//! memory rewrites at most the last [`AUDIT_RATCHET_LINES_COUNT`] lines); a line costs one HMAC and no allocation.

use core::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::crypto::hash::Algorithm;
use crate::crypto::mac::MacKey;
use crate::crypto::{Error, kdf};
use crate::cursor::Cursor;
use crate::encoding::{hex_decode, hex_encode};
use crate::limits::{AUDIT_RATCHET_LINES_COUNT, KEY_BYTES};
use crate::secret::Secret;

const STREAM_LABEL: &[u8] = b"quantonium/audit/stream/v1";
const RATCHET_LABEL: &[u8] = b"quantonium/audit/ratchet/v1";
const BODY_LABEL: &[u8] = b"quantonium/audit/body/v1";

/// What stands before the mac of the line before, and before a line's own.
pub const PREV: &[u8] = b",\"prev\":\"";
/// See [`PREV`].
pub const MAC: &[u8] = b",\"mac\":\"";

/// The mac of a line. That of the line before the first is all zeros.
pub type LineMac = [u8; 16];
/// A [`LineMac`] in hexadecimal.
pub const MAC_DIGITS_BYTES: usize = 32;

/// A line of a stream: its number and its mac. The default stands before the first line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// Its number.
    pub seq: u64,
    /// Its mac.
    pub mac: LineMac,
}

/// The key from which those of all streams are derived. A server keeps it no longer than its start.
#[derive(Debug)]
pub struct Root(Secret<KEY_BYTES>);

impl Root {
    /// A root of these bytes.
    #[must_use]
    pub const fn new(bytes: Secret<KEY_BYTES>) -> Self {
        Self(bytes)
    }

    /// Lends the bytes to `look`, which must not copy them anywhere that is not wiped.
    pub fn with<R>(&self, look: impl FnOnce(&[u8; KEY_BYTES]) -> R) -> R {
        self.0.with(look)
    }

    /// The chain of `stream`, before its first line. The parts of a stream share one chain, so their numbers are no part
    /// of its name.
    ///
    /// # Errors
    /// None in practice; what the derivation returns.
    pub fn chain(&self, stream: &str) -> Result<Chain, Error> {
        let key: Secret<KEY_BYTES> =
            self.0.with(|root| kdf::derive_secret(&[], root, &[STREAM_LABEL, &[0], stream.as_bytes()]))?;
        let key = key.with(|key| MacKey::new(Algorithm::Sha256, key));
        Ok(Chain { key, index: 0, prev: LineMac::default(), tip: Arc::default() })
    }

    /// The key under which lines tell of the bodies of requests.
    ///
    /// # Errors
    /// As for [`Root::chain`].
    pub fn body_key(&self) -> Result<MacKey, Error> {
        let key: Secret<KEY_BYTES> = self.0.with(|root| kdf::derive_secret(&[], root, &[BODY_LABEL]))?;
        Ok(key.with(|key| MacKey::new(Algorithm::Sha256, key)))
    }
}

/// The key of a stream at its present step, and the mac of the last line.
pub struct Chain {
    key: MacKey,
    /// How often the key has been stepped on.
    index: u64,
    prev: LineMac,
    tip: Arc<Tip>,
}

impl Chain {
    /// Ends the line that `cursor` has written, but for its last two members and its end, as number `sequence`. If there
    /// is no room the chain stays where it was.
    pub(super) fn close(&mut self, cursor: &mut Cursor<'_>, sequence: u64) -> Option<()> {
        let mut digits = [0; MAC_DIGITS_BYTES];
        hex_encode(&self.prev, &mut digits)?;
        cursor.put(PREV)?;
        cursor.put(&digits)?;
        cursor.put(b"\"")?;
        let mac = self.mac(sequence, cursor.written())?;
        hex_encode(&mac, &mut digits)?;
        cursor.put(MAC)?;
        cursor.put(&digits)?;
        cursor.put(b"\"}\n")?;
        self.prev = mac;
        Some(())
    }

    /// The mac of line `sequence`, of which `line` is everything that stands before its last member. Nothing for a
    /// number whose key is gone.
    pub(super) fn mac(&mut self, sequence: u64, line: &[u8]) -> Option<LineMac> {
        let index = sequence.checked_sub(1)? / AUDIT_RATCHET_LINES_COUNT;
        if index < self.index {
            return None;
        }
        while self.index < index {
            let next = self.key.tag(&[RATCHET_LABEL]);
            self.key.rekey(next.as_bytes());
            self.index += 1;
        }
        self.key.tag(&[line]).as_bytes().first_chunk().copied()
    }

    /// Whether the key of line `sequence` is gone.
    pub(super) const fn is_beyond(&self, sequence: u64) -> bool {
        sequence.saturating_sub(1) / AUDIT_RATCHET_LINES_COUNT < self.index
    }

    /// The mac of the last line.
    pub(super) const fn prev(&self) -> LineMac {
        self.prev
    }

    /// The last line is another one than was thought: those behind it are not in the file. Their numbers are not given
    /// again, so the key need not go back.
    pub(super) const fn resume_at(&mut self, prev: LineMac) {
        self.prev = prev;
    }

    /// Tells that the last line has the number `sequence` and is with the kernel.
    pub(super) fn tell(&self, sequence: u64) {
        self.tip.set(Mark { seq: sequence, mac: self.prev });
    }

    /// Where the last line that is with the kernel is told.
    #[must_use]
    pub fn tip(&self) -> Arc<Tip> {
        Arc::clone(&self.tip)
    }
}

#[cfg(test)]
impl Chain {
    /// A chain for tests of what is written with one.
    pub(crate) fn sample(stream: &str) -> Self {
        Root::new(Secret::take(&mut [7; KEY_BYTES])).chain(stream).unwrap()
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chain").field("index", &self.index).finish_non_exhaustive()
    }
}

/// The last line of a stream that is with the kernel, for who seals checkpoints.
#[derive(Debug, Default)]
pub struct Tip(Mutex<Mark>);

impl Tip {
    /// The last line; the default if there is none yet.
    #[must_use]
    pub fn get(&self) -> Mark {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, mark: Mark) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = mark;
    }
}

/// The two parts of a line: what its mac is over, with the mac of the line before, and its own mac. Nothing if it does not
/// end as lines do.
#[must_use]
pub fn split(line: &[u8]) -> Option<(&[u8], LineMac, LineMac)> {
    let (rest, mac) = take_mac(line.strip_suffix(b"\"}")?, MAC)?;
    let (_, prev) = take_mac(rest.strip_suffix(b"\"")?, PREV)?;
    Some((rest, prev, mac))
}

/// The mac at the end of `bytes`, and what stands before its member.
fn take_mac<'a>(bytes: &'a [u8], member: &[u8]) -> Option<(&'a [u8], LineMac)> {
    let (rest, digits) = bytes.split_at_checked(bytes.len().checked_sub(MAC_DIGITS_BYTES)?)?;
    let mut mac = LineMac::default();
    hex_decode(digits, &mut mac)?;
    Some((rest.strip_suffix(member)?, mac))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(byte: u8) -> Root {
        Root::new(Secret::take(&mut [byte; 32]))
    }

    #[test]
    fn each_root_stream_and_step_has_another_key_and_none_comes_back() {
        let mut macs = std::collections::BTreeSet::new();
        for (byte, stream) in [(1, "s-w0"), (2, "s-w0"), (1, "s-w1")] {
            let mut chain = root(byte).chain(stream).unwrap();
            for sequence in [1, 257, 513, 1_000_000] {
                assert!(macs.insert(chain.mac(sequence, b"{").unwrap()), "{stream} {sequence}");
            }
            let same = chain.mac(1_000_000, b"{").unwrap();
            assert_eq!(chain.mac(999_937, b"{"), Some(same), "of the same step");
            assert_eq!(chain.mac(999_936, b"{"), None);
        }
        assert_eq!(root(1).chain("s").unwrap().mac(0, b"{"), None);
    }

    #[test]
    fn a_line_is_closed_over_all_that_stands_before_its_mac() {
        let mut chain = root(1).chain("s").unwrap();
        let mut target = [0; 200];
        let mut prev = LineMac::default();
        for sequence in 1..4 {
            let mut cursor = Cursor::new(&mut target);
            cursor.put(b"{\"a\":1").unwrap();
            chain.close(&mut cursor, sequence).unwrap();
            let line = cursor.written().strip_suffix(b"\n").unwrap();
            let (covered, before, mac) = split(line).unwrap();
            assert_eq!((before, chain.prev()), (prev, mac));
            assert_eq!(root(1).chain("s").unwrap().mac(sequence, covered), Some(mac));
            prev = mac;
        }
        let mut cursor = Cursor::new(&mut target[..90]);
        cursor.put(b"{\"a\":1").unwrap();
        assert_eq!(chain.close(&mut cursor, 4), None);
        assert_eq!(chain.prev(), prev, "a line that found no room is not in the chain");
    }

    #[test]
    fn what_does_not_end_as_a_line_has_no_mac() {
        let mut chain = root(1).chain("s").unwrap();
        let mut target = [0; 200];
        let mut cursor = Cursor::new(&mut target);
        cursor.put(b"{").unwrap();
        chain.close(&mut cursor, 1).unwrap();
        let line = String::from_utf8(cursor.written().to_vec()).unwrap();
        let line = line.trim_end();
        assert!(split(line.as_bytes()).is_some());
        for altered in [
            line.replace("\"prev\"", "\"perv\""),
            line.replace("\"mac\"", "\"cam\""),
            line.replace("00", "0G"),
            line.replace('}', ""),
            format!("{line}\n"),
            line[1..].replace(",\"prev\":\"", ""),
            String::new(),
        ] {
            assert!(split(altered.as_bytes()).is_none(), "{altered}");
        }
    }

    #[test]
    fn debug_shows_no_key() {
        let shown = format!("{:?} {:?}", root(0xA5), root(0xA5).chain("s").unwrap());
        assert!(!shown.contains("165") && shown.contains("redacted"), "{shown}");
    }
}
