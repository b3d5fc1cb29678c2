//! The names of audit files: which start wrote them, who of it, and which part of the stream they are.
//!
//! Owns [`StreamName`]. Invariants: a name has one spelling, and only that one is read; names are ordered as their
//! lines were written, as far as names can tell: starts by their second, the parts of a stream by their number.

use core::fmt;

/// How the name of a part ends.
pub const SUFFIX: &str = ".jsonl";
/// How the name of a part ends that was compressed.
pub const COMPRESSED_SUFFIX: &str = ".jsonl.gz";

/// One start of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Start {
    /// When it was, in seconds since 1970.
    pub seconds: u64,
    /// Random: tells it from others within the same second.
    pub random: u32,
}

/// Who of a start writes a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Who {
    /// A worker, by its number.
    Worker(u16),
    /// The keeper.
    Keeper,
}

/// The name of a part of a stream: `<start>-w<worker>-<part>` or `<start>-k-<part>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamName {
    /// The start.
    pub start: Start,
    /// Who writes it.
    pub who: Who,
    /// Which part: from 1 on. A stream of the time before parts is a single one, which counts as 0 and has no number in
    /// its name.
    pub part: u32,
}

/// A stream with all its parts: what the lines carry and what its key is derived for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stream {
    /// The start.
    pub start: Start,
    /// Who writes it.
    pub who: Who,
}

impl Start {
    /// Reads a start: the seconds in hexadecimal, a hyphen, eight hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (seconds, random) = text.split_once('-')?;
        let read = Self {
            seconds: u64::from_str_radix(seconds, 16).ok()?,
            random: u32::from_str_radix(random, 16).ok()?,
        };
        is_spelled(&read, text).then_some(read)
    }
}

impl Stream {
    /// Reads the name of a stream, without a part.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (start, who) = text.rsplit_once('-')?;
        let start = Start::parse(start)?;
        let who = match who.split_at_checked(1)? {
            ("k", "") => Who::Keeper,
            ("w", number) => Who::Worker(number.parse().ok()?),
            _ => return None,
        };
        let read = Self { start, who };
        is_spelled(&read, text).then_some(read)
    }

    /// The name of its part `part`.
    #[must_use]
    pub const fn part(self, part: u32) -> StreamName {
        StreamName { start: self.start, who: self.who, part }
    }
}

impl StreamName {
    /// Reads a name, without directory and suffix.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(stream) = Stream::parse(text) {
            return Some(stream.part(0));
        }
        let (stream, part) = text.rsplit_once('-')?;
        let read = Stream::parse(stream)?.part(part.parse().ok().filter(|part| *part > 0)?);
        is_spelled(&read, text).then_some(read)
    }

    /// Reads the name of a file, and tells whether it is a compressed one.
    #[must_use]
    pub fn parse_file(name: &str) -> Option<(Self, bool)> {
        let plain = name.strip_suffix(SUFFIX).map(|stem| (stem, false));
        let (stem, compressed) = plain.or_else(|| Some((name.strip_suffix(COMPRESSED_SUFFIX)?, true)))?;
        Some((Self::parse(stem)?, compressed))
    }

    /// The stream that it is a part of.
    #[must_use]
    pub const fn stream(self) -> Stream {
        Stream { start: self.start, who: self.who }
    }
}

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{:08x}", self.seconds, self.random)
    }
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.who {
            Who::Worker(number) => write!(f, "{}-w{number}", self.start),
            Who::Keeper => write!(f, "{}-k", self.start),
        }
    }
}

impl fmt::Display for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.part {
            0 => self.stream().fmt(f),
            part => write!(f, "{}-{part:04}", self.stream()),
        }
    }
}

/// Whether `text` is how `read` is written: signs, capitals and leading zeros would make a second spelling.
fn is_spelled(read: &impl fmt::Display, text: &str) -> bool {
    read.to_string() == text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_as_they_were_written() {
        for (text, who, part) in [
            ("6b0320c6-32268f1d-w0", Who::Worker(0), 0),
            ("6b0320c6-32268f1d-w63-0001", Who::Worker(63), 1),
            ("6b0320c6-32268f1d-k-9999", Who::Keeper, 9_999),
            ("6b0320c6-32268f1d-k-10000", Who::Keeper, 10_000),
        ] {
            let name = StreamName::parse(text).unwrap();
            let start = Start { seconds: 0x6b03_20c6, random: 0x3226_8f1d };
            assert_eq!(name, StreamName { start, who, part });
            assert_eq!(name.to_string(), text);
            assert_eq!(StreamName::parse_file(&format!("{text}.jsonl")), Some((name, false)));
            assert_eq!(StreamName::parse_file(&format!("{text}.jsonl.gz")), Some((name, true)));
            assert_eq!(Stream::parse(&name.stream().to_string()), Some(name.stream()));
        }
    }

    #[test]
    fn another_spelling_is_no_name() {
        for text in [
            "",
            "-",
            "k",
            "6b0320c6-k",
            "6b0320c6-32268f1d",
            "6b0320c6-32268f1d-",
            "6b0320c6-32268f1d-x0",
            "6b0320c6-32268f1d-k0",
            "6b0320c6-32268f1d-w",
            "6b0320c6-32268f1d-w00",
            "6b0320c6-32268f1d-w+1",
            "6b0320c6-32268f1d-w65536",
            "6B0320c6-32268f1d-w0",
            "06b0320c6-32268f1d-w0",
            "6b0320c6-2268f1d-w0",
            "6b0320c6-32268f1d-w0-",
            "6b0320c6-32268f1d-w0-0000",
            "6b0320c6-32268f1d-w0-001",
            "6b0320c6-32268f1d-w0-00001",
            "6b0320c6-32268f1d-w0-1000000000000",
            "6b0320c6-32268f1d-w0-0001-0001",
        ] {
            assert_eq!(StreamName::parse(text), None, "{text}");
            assert_eq!(StreamName::parse_file(&format!("{text}.jsonl")), None, "{text}");
        }
        assert_eq!(StreamName::parse_file("6b0320c6-32268f1d-k.json"), None);
    }

    #[test]
    fn names_are_ordered_as_they_were_written() {
        let names = ["9-00000001-k", "a-00000000-w2-0001", "a-00000000-w2-0002", "a-00000000-w10-0001"];
        let read: Vec<StreamName> = names.map(|text| StreamName::parse(text).unwrap()).to_vec();
        assert!(read.is_sorted(), "{read:?}");
        assert!(StreamName::parse("a-00000000-k-9999") < StreamName::parse("a-00000000-k-10000"));
    }
}
