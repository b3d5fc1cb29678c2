//! The parameters of a query: `name=value` pairs in the form encoding.
//!
//! Owns [`Query`] and [`Text`]. Invariants: a query that exists is correctly encoded (`%XX` only, `+` is a
//! space), so that decoding it cannot fail; a parameter that may occur once is never picked from several.

use std::borrow::Cow;

use super::grammar::hex_value;
use super::refusal::Refusal;

/// A query whose encoding was checked.
#[derive(Clone, Copy, Debug, Default)]
pub struct Query<'a>(&'a [u8]);

/// A name or a value of a query, still encoded.
#[derive(Clone, Copy, Debug, Default)]
pub struct Text<'a>(&'a [u8]);

impl<'a> Query<'a> {
    /// Checks the text after the `?` of a target.
    ///
    /// # Errors
    /// A percent sign is not followed by two hexadecimal digits.
    pub fn parse(text: &'a [u8]) -> Result<Self, Refusal> {
        let mut rest = text;
        while let Some(at) = memchr::memchr(b'%', rest) {
            match rest.get(at..) {
                Some([_, high, low, tail @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                    rest = tail;
                }
                _ => return Err(Refusal::MalformedQuery),
            }
        }
        Ok(Self(text))
    }

    /// The pairs in their order; empty ones are skipped, a name without `=` has an empty value.
    pub fn pairs(self) -> impl Iterator<Item = (Text<'a>, Text<'a>)> {
        let pairs = self.0.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty());
        pairs.map(|pair| {
            let mut parts = pair.splitn(2, |byte| *byte == b'=');
            (Text(parts.next().unwrap_or_default()), Text(parts.next().unwrap_or_default()))
        })
    }

    /// The value of the parameter `name`, if it occurs.
    ///
    /// # Errors
    /// It occurs more than once.
    pub fn find_unique(self, name: &str) -> Result<Option<Text<'a>>, Refusal> {
        let mut found = self.pairs().filter(|(known, _)| known.is(name.as_bytes())).map(|(_, value)| value);
        match (found.next(), found.next()) {
            (_, Some(_)) => Err(Refusal::RepeatedParameter),
            (value, None) => Ok(value),
        }
    }
}

impl<'a> Text<'a> {
    /// The decoded bytes, one by one.
    pub fn bytes(self) -> impl Iterator<Item = u8> {
        let mut rest = self.0;
        core::iter::from_fn(move || {
            let (byte, tail) = match rest {
                [b'%', high, low, tail @ ..] => {
                    (hex_value(*high).unwrap_or(0) << 4 | hex_value(*low).unwrap_or(0), tail)
                }
                [b'+', tail @ ..] => (b' ', tail),
                [byte, tail @ ..] => (*byte, tail),
                [] => return None,
            };
            rest = tail;
            Some(byte)
        })
    }

    /// Whether the decoded text is `other`.
    #[must_use]
    pub fn is(self, other: &[u8]) -> bool {
        self.bytes().eq(other.iter().copied())
    }

    /// Writes the decoded text to the front of `target`.
    ///
    /// Returns how many bytes were written, or nothing if `target` is too short.
    pub fn decode(self, target: &mut [u8]) -> Option<usize> {
        let mut len = 0;
        for byte in self.bytes() {
            *target.get_mut(len)? = byte;
            len += 1;
        }
        Some(len)
    }

    /// The decoded text: borrowed as it stands if nothing in it is encoded, else in new memory.
    #[must_use]
    pub fn to_cow(self) -> Cow<'a, [u8]> {
        if memchr::memchr2(b'%', b'+', self.0).is_none() {
            Cow::Borrowed(self.0)
        } else {
            Cow::Owned(self.bytes().collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_decoded() {
        let query = Query::parse(b"key=orders&&a+b=%3d%26=+c&flag&=x").unwrap();
        let pairs: Vec<_> = query
            .pairs()
            .map(|(name, value)| {
                let text = |text: Text<'_>| String::from_utf8(text.to_cow().into_owned()).unwrap();
                (text(name), text(value))
            })
            .collect();
        let expected = [("key", "orders"), ("a b", "=&= c"), ("flag", ""), ("", "x")];
        assert_eq!(pairs, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn incomplete_escapes_are_refused() {
        for text in ["%", "a=%4", "a=%g0&b=1", "%%41", "a=%-1", "a=%u0041"] {
            assert_eq!(Query::parse(text.as_bytes()).unwrap_err(), Refusal::MalformedQuery, "{text}");
        }
    }

    #[test]
    fn repeated_parameters_are_refused_in_any_encoding() {
        let query = Query::parse(b"key=a&other=1&k%65y=b").unwrap();
        assert_eq!(query.find_unique("key").unwrap_err(), Refusal::RepeatedParameter);
        assert!(query.find_unique("other").unwrap().unwrap().is(b"1"));
        assert!(query.find_unique("absent").unwrap().is_none());
    }

    #[test]
    fn only_encoded_texts_are_copied() {
        let query = Query::parse(b"a=plain&b=%41").unwrap();
        let value = |name| query.find_unique(name).unwrap().unwrap();
        assert!(matches!(value("a").to_cow(), Cow::Borrowed(b"plain")));
        assert!(matches!(value("b").to_cow(), Cow::Owned(text) if text == b"A"));
        assert_eq!(value("a").decode(&mut [0; 4]), None);
        let mut target = [0; 5];
        assert_eq!(value("a").decode(&mut target), Some(5));
        assert_eq!(&target, b"plain");
    }
}
