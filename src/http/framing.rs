//! How long a request's body is (RFC 9112, section 6).
//!
//! Owns [`Framing`] and the collection of `Content-Length` and `Transfer-Encoding`. Invariant: whatever two
//! servers in a row could read as two lengths is refused; nothing is repaired, not even where the RFC allows it.

use super::grammar::{is_token, trim};
use super::refusal::Refusal;
use super::target::Version;

/// The framing of a request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Neither field: there is no body, and none was announced.
    Empty,
    /// That many bytes, perhaps none.
    Length(u64),
    /// Chunks ([`super::chunked`]).
    Chunked,
}

/// What the framing fields of a head have said so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct FramingFields {
    length: Option<u64>,
    chunked: bool,
    other_coding: bool,
}

impl FramingFields {
    /// Takes a `Content-Length`: digits only, once.
    ///
    /// # Errors
    /// A second one, a list, or anything but a decimal number below 2^64.
    pub fn take_length(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if self.length.is_some() || value.is_empty() {
            return Err(Refusal::MalformedLength);
        }
        let length = value.iter().try_fold(0u64, |length, digit| {
            let digit = digit.is_ascii_digit().then(|| digit - b'0')?;
            length.checked_mul(10)?.checked_add(u64::from(digit))
        });
        self.length = Some(length.ok_or(Refusal::MalformedLength)?);
        Ok(())
    }

    /// Takes a `Transfer-Encoding`; several lines are one list (RFC 9110, section 5.3).
    ///
    /// # Errors
    /// A member that is no bare token, an empty member, or anything after `chunked`.
    pub fn take_coding(&mut self, value: &[u8]) -> Result<(), Refusal> {
        for member in value.split(|byte| *byte == b',').map(trim) {
            // Without its parameters: those of an unknown coding do not matter, `chunked` has none.
            let name = member.split(|byte| *byte == b';').next().map(trim).unwrap_or_default();
            let chunked = name.eq_ignore_ascii_case(b"chunked");
            if !is_token(name) || self.chunked || (chunked && name != member) {
                return Err(Refusal::MalformedCoding);
            }
            self.chunked = chunked;
            self.other_coding |= !chunked;
        }
        Ok(())
    }

    /// The framing that follows from all fields of a head.
    ///
    /// # Errors
    /// The fields contradict each other, or the coding is unknown.
    pub fn conclude(self, version: Version) -> Result<Framing, Refusal> {
        match self.length {
            Some(_) if self.chunked || self.other_coding => Err(Refusal::AmbiguousFraming),
            Some(length) => Ok(Framing::Length(length)),
            None if !self.chunked && !self.other_coding => Ok(Framing::Empty),
            None if version == Version::Http10 => Err(Refusal::CodingInOldVersion),
            None if self.other_coding => Err(Refusal::UnknownCoding),
            None => Ok(Framing::Chunked),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codings(values: &[&str]) -> Result<Framing, Refusal> {
        let mut fields = FramingFields::default();
        for value in values {
            fields.take_coding(value.as_bytes())?;
        }
        fields.conclude(Version::Http11)
    }

    #[test]
    fn only_plain_decimal_lengths_are_taken() {
        for (value, length) in [("0", 0), ("007", 7), ("18446744073709551615", u64::MAX)] {
            let mut fields = FramingFields::default();
            fields.take_length(value.as_bytes()).unwrap();
            assert_eq!(fields.conclude(Version::Http10), Ok(Framing::Length(length)));
        }
        for value in [
            "",
            "+5",
            "-5",
            "5 5",
            "5, 5",
            "0x5",
            "5a",
            "5.0",
            "18446744073709551616",
            "99999999999999999999",
        ] {
            let refused = FramingFields::default().take_length(value.as_bytes());
            assert_eq!(refused, Err(Refusal::MalformedLength), "{value:?}");
        }
    }

    #[test]
    fn a_second_length_is_refused_even_if_equal() {
        let mut fields = FramingFields::default();
        fields.take_length(b"5").unwrap();
        assert_eq!(fields.take_length(b"5"), Err(Refusal::MalformedLength));
    }

    #[test]
    fn only_one_chunked_coding_is_taken() {
        assert_eq!(codings(&["chunked"]), Ok(Framing::Chunked));
        assert_eq!(codings(&["Chunked"]), Ok(Framing::Chunked));
        for unknown in [&["gzip"][..], &["gzip, chunked"], &["gzip", "chunked"], &["identity"], &["xchunked"]]
        {
            assert_eq!(codings(unknown), Err(Refusal::UnknownCoding), "{unknown:?}");
        }
        assert_eq!(codings(&["gzip;level=9"]), Err(Refusal::UnknownCoding));
        for bad in [
            &["chunked, chunked"][..],
            &["chunked", "chunked"],
            &["chunked, gzip"],
            &["chunked", "gzip"],
            &["gzip, chunked, gzip"],
            &["chunked;a=b"],
            &["chunked,"],
            &[", chunked"],
            &[""],
            &["\"chunked\""],
            &["chun ked"],
        ] {
            assert_eq!(codings(bad), Err(Refusal::MalformedCoding), "{bad:?}");
        }
    }

    #[test]
    fn contradictions_are_refused() {
        let mut fields = FramingFields::default();
        fields.take_coding(b"chunked").unwrap();
        assert_eq!(fields.conclude(Version::Http10), Err(Refusal::CodingInOldVersion));
        fields.take_length(b"5").unwrap();
        assert_eq!(fields.conclude(Version::Http11), Err(Refusal::AmbiguousFraming));
    }
}
