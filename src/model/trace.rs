//! The position of a request in a trace that somebody else keeps (W3C Trace Context, section 3.2).
//!
//! Owns [`TraceParent`] and [`TraceId`]. Invariants: it is text of hexadecimal digits and hyphens, so that it can stand in a line unescaped; it is told, and
//! nothing is decided by it: whoever asks writes what he likes.

use core::fmt;

/// A `traceparent`: version, trace, the caller's span, flags.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TraceParent([u8; Self::LEN]);

impl TraceParent {
    /// Length of the text of version 00, and of what a later version must begin with.
    pub const LEN: usize = 55;

    /// Reads the value of the field; nothing if it is malformed. Of a later version what is known of it is kept.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (own, rest) = value.split_first_chunk::<{ Self::LEN }>()?;
        let mut parts = own.split(|byte| *byte == b'-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let is_hex = |part: &[u8], len: usize| {
            part.len() == len && part.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        let is_zero = |part: &[u8]| part.iter().all(|byte| *byte == b'0');
        let is_known = match version {
            b"ff" => false,
            b"00" => rest.is_empty(),
            _ => rest.first().is_none_or(|byte| *byte == b'-'),
        };
        let good = is_known
            && parts.next().is_none()
            && is_hex(version, 2)
            && is_hex(trace, 32)
            && is_hex(span, 16)
            && is_hex(flags, 2)
            && !is_zero(trace)
            && !is_zero(span);
        good.then_some(Self(*own))
    }

    /// The text.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

impl TraceParent {
    /// The trace that it belongs to.
    #[must_use]
    pub fn trace(&self) -> TraceId {
        let (_, behind) = self.0.split_at(VERSION_BYTES);
        TraceId(*behind.first_chunk().unwrap_or(&[b'0'; TraceId::LEN]))
    }
}

/// What stands in front of the trace: `00-`.
const VERSION_BYTES: usize = 3;

/// The identifier of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceId([u8; Self::LEN]);

impl TraceId {
    /// Length of its text.
    pub const LEN: usize = 32;

    /// The text: hexadecimal digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Digits are all that it was read from.
        str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Debug for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn the_trace_stands_behind_the_version() {
        let trace = TraceParent::parse(GOOD.as_bytes()).unwrap().trace();
        assert_eq!(trace.as_str(), "4bf92f3577b34da6a3ce929d0e0e4736");
    }

    #[test]
    fn a_well_formed_one_is_kept_as_it_is() {
        let parsed = TraceParent::parse(GOOD.as_bytes()).unwrap();
        assert_eq!(parsed.as_bytes(), GOOD.as_bytes());
        assert_eq!(format!("{parsed:?}"), GOOD);
    }

    #[test]
    fn a_later_version_may_say_more_behind_a_hyphen() {
        for value in [
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-09-what-the-future-is",
        ] {
            assert_eq!(TraceParent::parse(value.as_bytes()).unwrap().as_bytes(), &value.as_bytes()[..55]);
        }
    }

    #[test]
    fn everything_else_counts_as_absent() {
        let zeros = "0".repeat(32);
        for bad in [
            "",
            "00",
            &GOOD[..54],
            &format!("{GOOD}-"),
            &format!("{GOOD}0"),
            &GOOD.replacen("00", "ff", 1),
            &GOOD.replacen("00", "01", 1).replace("-01", "-01x"),
            &GOOD.replace('b', "B"),
            &GOOD.replace('f', "g"),
            &GOOD.replace("4bf92f3577b34da6a3ce929d0e0e4736", &zeros),
            &GOOD.replace("00f067aa0ba902b7", &zeros[..16]),
            &GOOD.replace('-', "_"),
            "00-4bf92f3577b34da6a3ce929d0e0e473-600f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0\"",
        ] {
            assert_eq!(TraceParent::parse(bad.as_bytes()), None, "{bad}");
        }
    }
}
