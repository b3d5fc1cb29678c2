//! Reading JSON bodies strictly, and lending their texts for work in place.
//!
//! Owns [`read`], [`Text`] and [`Piece`]. Invariants: unknown and repeated members are errors, so that a misspelt
//! `associated_data` can never be ignored; an error names members and places, never values; a text without escapes is
//! borrowed from the body and later worked on where it stands.

use core::marker::PhantomData;
use core::ops::Range;
use std::borrow::Cow;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use zeroize::Zeroizing;

use crate::api::Rejection;
use crate::http::status::Status;

/// Reads the body as the JSON object `T`.
///
/// # Errors
/// 400 `malformed_json`, with what is wrong and where.
pub fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Rejection> {
    if body.is_empty() {
        return Err(empty());
    }
    let read: Result<Object<T>, _> = serde_json::from_slice(body);
    read.map(|object| object.0).map_err(|error| malformed("The body", &error, None))
}

/// The refusal of a body that is not there.
#[must_use]
pub fn empty() -> Rejection {
    refusal("The body is empty. This route takes a JSON object.".to_owned())
}

/// What may be said of a parser's error: what the route knows, and where, but nothing that the caller sent.
///
/// `whole` is what was read, and `known` its members, unless the error itself names them.
#[must_use]
pub fn malformed(whole: &str, error: &serde_json::Error, known: Option<&[&str]>) -> Rejection {
    let text = error.to_string();
    let (line, column) = (error.line(), error.column());
    if text.starts_with("missing field") || text.starts_with("duplicate field") {
        let what = text.split(" at line ").next().unwrap_or_default();
        return refusal(format!("{whole} does not fit this route: {what}."));
    }
    if text.starts_with("unknown field") {
        let expected = text.rsplit_once(", expected ").map(|(_, names)| names.to_owned());
        let known = known.map(|names| format!("one of `{}`", names.join("`, `"))).or(expected);
        let known = known.unwrap_or_default();
        return refusal(format!("{whole} has a member that this route does not know: expected {known}."));
    }
    refusal(if error.is_data() {
        format!("A member has another type than this route takes, at line {line} column {column}.")
    } else {
        format!("{whole} is not valid JSON, at line {line} column {column}.")
    })
}

fn refusal(detail: String) -> Rejection {
    Rejection::Described { status: Status::BadRequest, code: "malformed_json", detail }
}

/// A JSON string: borrowed if it stands in the body as it is, owned if it held escapes.
#[derive(Debug)]
pub struct Text<'a>(Cow<'a, str>);

impl<'a> Text<'a> {
    /// A text that stands in the body as it is.
    pub(super) const fn borrowed(text: &'a str) -> Self {
        Self(Cow::Borrowed(text))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Lets go of the body and remembers where in it the text stands. `body` is what the text was read from.
    #[must_use]
    pub fn into_piece(self, body: &[u8]) -> Piece {
        match self.0 {
            Cow::Borrowed(text) => {
                let start = text.as_ptr().addr().saturating_sub(body.as_ptr().addr());
                Piece::Span(start..start + text.len())
            }
            Cow::Owned(text) => Piece::Owned(Zeroizing::new(text.into_bytes())),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

/// A text of the body, to be worked on in place.
#[derive(Debug)]
pub enum Piece {
    /// It stands there.
    Span(Range<usize>),
    /// It held escapes and stands by itself.
    Owned(Zeroizing<Vec<u8>>),
}

impl Piece {
    /// Its bytes. `body` is the one it was taken from.
    pub fn bytes_mut<'a>(&'a mut self, body: &'a mut [u8]) -> &'a mut [u8] {
        match self {
            Self::Span(range) => body.get_mut(range.clone()).unwrap_or_default(),
            Self::Owned(bytes) => bytes,
        }
    }

    /// Its bytes, to read.
    #[must_use]
    pub fn bytes<'a>(&'a self, body: &'a [u8]) -> &'a [u8] {
        match self {
            Self::Span(range) => body.get(range.clone()).unwrap_or_default(),
            Self::Owned(bytes) => bytes,
        }
    }
}

/// A JSON object, and not an array whose elements would be taken for members by their place.
#[derive(Debug)]
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(members)).map(Object)
            }
        }
        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

/// For members that may be absent but not `null`: a `null` where data was meant to be bound must not pass for none.
///
/// # Errors
/// Those of `T`.
pub fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample<'a> {
        #[serde(borrow)]
        plain: Text<'a>,
        #[serde(borrow, default, deserialize_with = "present")]
        maybe: Option<Text<'a>>,
        #[serde(default, deserialize_with = "present")]
        number: Option<u32>,
    }

    fn detail(body: &str) -> String {
        match read::<Sample<'_>>(body.as_bytes()) {
            Err(Rejection::Described { code: "malformed_json", detail, .. }) => detail,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn texts_without_escapes_are_worked_on_where_they_stand() {
        let mut body = br#"{"plain":"abc","maybe":"d\/e"}"#.to_vec();
        let Sample { plain, maybe, number } = read(&body).unwrap();
        let maybe: Text<'_> = maybe.unwrap();
        assert_eq!((plain.as_str(), maybe.as_str(), number), ("abc", "d/e", None));
        let (mut plain, mut maybe) = (plain.into_piece(&body), maybe.into_piece(&body));
        assert!(matches!(plain, Piece::Span(_)) && matches!(maybe, Piece::Owned(_)));
        plain.bytes_mut(&mut body).fill(b'x');
        assert_eq!(maybe.bytes_mut(&mut body), b"d/e");
        assert!(body.starts_with(br#"{"plain":"xxx""#));
    }

    #[test]
    fn errors_name_members_and_places_but_no_values() {
        assert!(detail("").contains("empty"));
        assert!(detail("{}").contains("missing field `plain`"));
        assert!(detail(r#"{"plain":"a","associated_date":"x"}"#).contains("does not know: expected"));
        assert!(detail(r#"{"plain":"a","plain":"b"}"#).contains("duplicate field `plain`"));
        let typed = detail(r#"{"plain":"a","number":"topsecret"}"#);
        assert!(typed.contains("another type") && !typed.contains("topsecret"), "{typed}");
        let broken = detail("{\"plain\":\"topsecret");
        assert!(broken.contains("line 1") && !broken.contains("topsecret"), "{broken}");
        let long = detail(&format!(r#"{{"{}":1}}"#, "k".repeat(5_000)));
        assert!(!long.contains("kkk"), "{long}");
    }

    #[test]
    fn arrays_do_not_pass_for_objects_and_null_not_for_absent() {
        assert!(read::<Sample<'_>>(br#"["a","b",1]"#).is_err());
        assert!(read::<Sample<'_>>(br#"{"plain":"a","maybe":null}"#).is_err());
        assert!(read::<Sample<'_>>(br#"{"plain":"a","number":null}"#).is_err());
    }

    #[test]
    fn trailing_bytes_and_invalid_text_are_refused() {
        for body in [
            &b"{\"plain\":\"a\"} x"[..],
            b"{\"plain\":\"\xff\"}",
            b"\xef\xbb\xbf{\"plain\":\"a\"}",
            b"[]",
            b"null",
        ] {
            assert!(read::<Sample<'_>>(body).is_err(), "{body:?}");
        }
        let deep = format!("{{\"plain\":{}", "[".repeat(10_000));
        assert!(read::<Sample<'_>>(deep.as_bytes()).is_err());
    }
}
