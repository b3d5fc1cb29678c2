//! DER, as much of it as certificates need (X.690, sections 8 and 10).
//!
//! Owns [`Reader`] and the writing functions. Invariants: a reader never leaves its bytes; lengths are definite and
//! shortest; tags have one byte.

/// Universal tags, and those that certificates choose for themselves.
pub(super) mod tag {
    pub(in crate::tls) const BOOLEAN: u8 = 0x01;
    pub(in crate::tls) const INTEGER: u8 = 0x02;
    pub(in crate::tls) const BIT_STRING: u8 = 0x03;
    pub(in crate::tls) const OCTET_STRING: u8 = 0x04;
    pub(in crate::tls) const OID: u8 = 0x06;
    pub(in crate::tls) const ENUMERATED: u8 = 0x0a;
    pub(in crate::tls) const UTF8: u8 = 0x0c;
    pub(in crate::tls) const UTC_TIME: u8 = 0x17;
    pub(in crate::tls) const GENERALIZED_TIME: u8 = 0x18;
    pub(in crate::tls) const SEQUENCE: u8 = 0x30;
    pub(in crate::tls) const SET: u8 = 0x31;

    /// A context-specific tag, primitive.
    pub(in crate::tls) const fn context(number: u8) -> u8 {
        0x80 | number
    }

    /// A context-specific tag, constructed.
    pub(in crate::tls) const fn explicit(number: u8) -> u8 {
        0xa0 | number
    }
}

/// Reads elements from the front of its bytes.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// The next element: its tag and its content.
    pub(super) fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (tag, rest) = self.0.split_first()?;
        let (first, mut rest) = rest.split_first()?;
        // Tags of several bytes and indefinite lengths do not occur here.
        if tag & 0x1f == 0x1f || *first == 0x80 {
            return None;
        }
        let mut length = usize::from(*first);
        if *first > 0x80 {
            let (digits, after) = rest.split_at_checked(usize::from(first & 0x7f))?;
            if digits.len() > 4 || digits.first() == Some(&0) {
                return None;
            }
            length = digits.iter().fold(0, |sum, digit| sum << 8 | usize::from(*digit));
            if length < 0x80 {
                return None;
            }
            rest = after;
        }
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((*tag, content))
    }

    /// The content of the next element, which must have this tag.
    pub(super) fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        let mut ahead = *self;
        let (found, content) = ahead.next()?;
        (found == tag).then(|| *self = ahead)?;
        Some(content)
    }

    /// The same as a reader.
    pub(super) fn enter(&mut self, tag: u8) -> Option<Self> {
        self.expect(tag).map(Reader)
    }
}

/// An element with the concatenation of `parts` as its content.
pub(super) fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut written = Vec::with_capacity(length + 6);
    written.push(tag);
    let [.., low] = length.to_be_bytes();
    if length < 0x80 {
        written.push(low);
    } else {
        let digits: Vec<u8> = length.to_be_bytes().into_iter().skip_while(|digit| *digit == 0).collect();
        let [.., count] = digits.len().to_be_bytes();
        written.push(0x80 | count);
        written.extend_from_slice(&digits);
    }
    for part in parts {
        written.extend_from_slice(part);
    }
    written
}

/// A bit string of whole bytes.
pub(super) fn bit_string(bytes: &[u8]) -> Vec<u8> {
    element(tag::BIT_STRING, &[&[0], bytes])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_of_every_length_are_read_again() {
        for length in [0, 1, 127, 128, 255, 256, 65_535, 65_536] {
            let content = vec![7; length];
            let (first, rest) = content.split_at(length / 2);
            let mut written = element(tag::OCTET_STRING, &[first, rest]);
            written.push(1);
            let mut reader = Reader::new(&written);
            assert!(reader.expect(tag::INTEGER).is_none(), "another tag moves nothing");
            assert_eq!(reader.expect(tag::OCTET_STRING), Some(&content[..]));
            assert!(!reader.is_empty());
        }
    }

    #[test]
    fn lengths_that_are_cut_long_or_indefinite_are_refused() {
        for bad in [
            &[][..],
            &[4],
            &[4, 1],
            &[4, 0x80, 0, 0],
            &[4, 0x81],
            &[4, 0x81, 1, 0],
            &[4, 0x82, 0, 200],
            &[4, 0x84, 0xff, 0xff, 0xff, 0xff],
            &[4, 0x85, 1, 0, 0, 0, 0],
            &[0x1f, 1, 0],
        ] {
            assert!(Reader::new(bad).next().is_none(), "{bad:?}");
        }
    }
}
