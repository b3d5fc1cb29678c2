//! Checkpoints: how far the streams of a start had come, as the store keeps it, out of reach of who can write to the
//! audit files alone.
//!
//! Owns [`Checkpoint`], the record of a start, and the record of the roots that were in use before the present one.
//! Invariants: each has one encoding, and only that one is read back; what was removed on purpose is named, so that it is
//! told from what somebody took away.

use zeroize::Zeroizing;

use crate::audit::chain::{LineMac, Mark, Root};
use crate::audit::name::{Start, Stream, Who};
use crate::limits::{AUDIT_ROOTS_MAX_COUNT, AUDIT_STREAMS_MAX_COUNT, KEY_BYTES};
use crate::secret::Secret;

const KIND: u8 = b'C';
const ROOTS_KIND: u8 = b'X';
const FORMAT: u8 = 1;
const WORKER: u8 = 1;
const KEEPER: u8 = 2;

/// How far the streams of a start had come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The start.
    pub start: Start,
    /// Whether it had stopped: what its streams have beyond is at most what was cut off then.
    pub ended: bool,
    /// Its streams, in the order of [`Who`]. One of which no file is kept any more is missing.
    pub streams: Vec<StreamMark>,
}

/// How far a stream had come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamMark {
    /// Who writes it.
    pub who: Who,
    /// The last line: the file has to reach it.
    pub last: Mark,
    /// The last line that was removed with its file because it had become old enough: the first one that is left is
    /// behind it.
    pub removed: Mark,
}

/// The bytes are not the one encoding of anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl Checkpoint {
    /// The name of its record.
    #[must_use]
    pub fn name(&self) -> String {
        self.start.to_string()
    }

    /// What it says of `stream`.
    #[must_use]
    pub fn of(&self, stream: Stream) -> Option<&StreamMark> {
        self.streams.iter().find(|of| self.start == stream.start && of.who == stream.who)
    }

    /// The bytes of its record.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![KIND, FORMAT];
        bytes.extend_from_slice(&self.start.seconds.to_be_bytes());
        bytes.extend_from_slice(&self.start.random.to_be_bytes());
        bytes.push(u8::from(self.ended));
        let count = u8::try_from(self.streams.len()).unwrap_or(u8::MAX);
        bytes.push(count);
        for of in self.streams.iter().take(usize::from(count)) {
            let (kind, number) = match of.who {
                Who::Worker(number) => (WORKER, number),
                Who::Keeper => (KEEPER, 0),
            };
            bytes.push(kind);
            bytes.extend_from_slice(&number.to_be_bytes());
            for mark in [of.last, of.removed] {
                bytes.extend_from_slice(&mark.seq.to_be_bytes());
                bytes.extend_from_slice(&mark.mac);
            }
        }
        bytes
    }

    /// Reads a record.
    ///
    /// # Errors
    /// [`Malformed`]
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut left = Left(bytes);
        if left.take::<2>()? != [KIND, FORMAT] {
            return Err(Malformed);
        }
        let seconds = u64::from_be_bytes(left.take()?);
        let start = Start { seconds, random: u32::from_be_bytes(left.take()?) };
        let [ended, count] = left.take()?;
        let mut streams: Vec<StreamMark> = Vec::new();
        for _ in 0..count {
            let [kind] = left.take()?;
            let number = u16::from_be_bytes(left.take()?);
            let who = match (kind, number) {
                (WORKER, number) => Who::Worker(number),
                (KEEPER, 0) => Who::Keeper,
                _ => return Err(Malformed),
            };
            let of = StreamMark { who, last: left.mark()?, removed: left.mark()? };
            if of.removed.seq > of.last.seq || streams.last().is_some_and(|before| before.who >= who) {
                return Err(Malformed);
            }
            streams.push(of);
        }
        if ended > 1 || !left.0.is_empty() || streams.len() > AUDIT_STREAMS_MAX_COUNT {
            return Err(Malformed);
        }
        Ok(Self { start, ended: ended == 1, streams })
    }
}

/// The record of the roots that were in use before the present one, the oldest first. There is one at most, and its
/// name is [`ROOTS_NAME`].
#[must_use]
pub fn encode_roots(roots: &[Root]) -> Zeroizing<Vec<u8>> {
    let kept = roots.get(roots.len().saturating_sub(AUDIT_ROOTS_MAX_COUNT)..).unwrap_or_default();
    // The whole room at once: growing would leave a copy behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(3 + kept.len() * KEY_BYTES));
    bytes.extend_from_slice(&[ROOTS_KIND, FORMAT, u8::try_from(kept.len()).unwrap_or(u8::MAX)]);
    kept.iter().for_each(|root| root.with(|root| bytes.extend_from_slice(root)));
    bytes
}

/// The name of the record of roots.
pub const ROOTS_NAME: &str = "audit-roots";

/// Reads the record of roots.
///
/// # Errors
/// [`Malformed`]
pub fn decode_roots(bytes: &[u8]) -> Result<Vec<Root>, Malformed> {
    let mut left = Left(bytes);
    let [kind, format, count] = left.take()?;
    let (keys, odd) = left.0.as_chunks::<KEY_BYTES>();
    let fits = keys.len() == usize::from(count) && odd.is_empty() && keys.len() <= AUDIT_ROOTS_MAX_COUNT;
    if [kind, format] != [ROOTS_KIND, FORMAT] || !fits {
        return Err(Malformed);
    }
    Ok(keys.iter().map(|key| Root::new(Secret::copy_of(key))).collect())
}

/// What is left to read.
struct Left<'a>(&'a [u8]);

impl Left<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn mark(&mut self) -> Result<Mark, Malformed> {
        let mark = Mark { seq: u64::from_be_bytes(self.take()?), mac: self.take()? };
        // Before the first line there is nothing that a mac could be of.
        if mark.seq == 0 && mark.mac != LineMac::default() { Err(Malformed) } else { Ok(mark) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint() -> Checkpoint {
        let mark = |seq: u64| Mark { seq, mac: [u8::try_from(seq).unwrap(); 16] };
        let of = |who, last, removed| StreamMark { who, last: mark(last), removed: mark(removed) };
        let streams = vec![of(Who::Worker(0), 9, 4), of(Who::Worker(7), 2, 0), of(Who::Keeper, 3, 3)];
        Checkpoint { start: Start { seconds: 0x6b03_20c6, random: 0x3226_8f1d }, ended: true, streams }
    }

    #[test]
    fn a_checkpoint_has_one_encoding() {
        let checkpoint = checkpoint();
        let bytes = checkpoint.encode();
        assert_eq!(Checkpoint::decode(&bytes).as_ref(), Ok(&checkpoint));
        for len in 0..bytes.len() {
            assert_eq!(Checkpoint::decode(&bytes[..len]), Err(Malformed), "{len}");
        }
        assert_eq!(Checkpoint::decode(&[&bytes[..], &[0]].concat()), Err(Malformed));
        for at in 0..bytes.len() {
            let mut altered = bytes.clone();
            altered[at] ^= 1;
            // Whatever is read is what would be written.
            if let Ok(read) = Checkpoint::decode(&altered) {
                assert_eq!(read.encode(), altered, "{at}");
            }
        }
    }

    #[test]
    fn what_no_start_can_have_is_malformed() {
        type Alter = fn(&mut Checkpoint);
        let altered: [Alter; 4] = [
            |of| of.streams[0].removed.seq = 10,
            |of| of.streams.swap(0, 1),
            |of| of.streams[1].who = Who::Worker(0),
            |of| of.streams[1].removed.mac = [1; 16],
        ];
        for alter in altered {
            let mut checkpoint = checkpoint();
            alter(&mut checkpoint);
            assert_eq!(Checkpoint::decode(&checkpoint.encode()), Err(Malformed), "{checkpoint:?}");
        }
    }

    #[test]
    fn a_stream_is_found_by_its_start_and_its_writer() {
        let checkpoint = checkpoint();
        let stream = Stream { start: checkpoint.start, who: Who::Keeper };
        assert_eq!(checkpoint.of(stream).unwrap().last.seq, 3);
        assert_eq!(checkpoint.of(Stream { who: Who::Worker(1), ..stream }), None);
        let start = Start { random: 1, ..checkpoint.start };
        assert_eq!(checkpoint.of(Stream { start, ..stream }), None);
    }

    #[test]
    fn the_last_roots_come_back_and_no_more_than_are_kept() {
        let root = |byte: u8| Root::new(Secret::take(&mut [byte; 32]));
        let most = u8::try_from(AUDIT_ROOTS_MAX_COUNT).unwrap();
        let roots: Vec<Root> = (0..=most).map(root).collect();
        let bytes = encode_roots(&roots);
        let read = decode_roots(&bytes).unwrap();
        let first: Vec<u8> = read.iter().map(|root| root.with(|bytes| bytes[0])).collect();
        assert_eq!(first, (1..=most).collect::<Vec<u8>>());
        for altered in [&bytes[1..], &bytes[..bytes.len() - 1], b"X\x01\x01", b"X\x02\x00", b""] {
            assert!(decode_roots(altered).is_err());
        }
        assert_eq!(decode_roots(&encode_roots(&[])).unwrap().len(), 0);
    }
}
