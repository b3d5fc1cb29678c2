//! Reading JSON bodies strictly, and lending their texts for work in place.
//!
//! Owns [`read`], [`Text`] and [`Piece`]. Invariants: unknown and repeated members are errors, so that a misspelt
//! `associated_data` can never be ignored; an error names members and places, never values; a text without escapes is
//! borrowed from the body and later worked on where it stands.

use core::marker::PhantomData;
use core::ops::Range;
use std::borrow::Cow;

use serde::de::{self, Deserialize, Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;
use zeroize::Zeroizing;

use crate::api::Rejection;
use crate::http::responder::Fault;
use crate::http::status::Status;
use crate::limits::{BATCH_ITEMS_MAX_COUNT, ERROR_DETAIL_MAX_BYTES};

const BATCH_TOO_LARGE: Fault<'static> =
    Fault::new(Status::ContentTooLarge, "batch_too_large", "A batch may have at most 4096 items.");

/// Reads the body as the JSON object `T`.
///
/// # Errors
/// 400 `malformed_json`, with what is wrong and where.
pub fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Rejection> {
    serde_json::from_slice(body).map(|Object(value)| value).map_err(|error| {
        let detail = if body.is_empty() {
            "The body is empty. This route takes a JSON object.".to_owned()
        } else {
            describe(&error)
        };
        Rejection::Described { status: Status::BadRequest, code: "malformed_json", detail }
    })
}

/// What may be said of a parser's error: the names of members, but not the values, which may be secret.
fn describe(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let told =
        ["missing field", "unknown field", "duplicate field"].iter().any(|kind| text.starts_with(kind));
    if told && text.len() <= ERROR_DETAIL_MAX_BYTES {
        return format!("The body does not fit this route: {text}.");
    }
    let (line, column) = (error.line(), error.column());
    if error.is_data() {
        format!("A member has another type than this route takes, at line {line} column {column}.")
    } else {
        format!("The body is not valid JSON, at line {line} column {column}.")
    }
}

/// A `T` from a JSON object and from nothing else.
///
/// What serde derives takes an array as well, whose values stand for the members in their order: a caller would bind
/// by place what it must name.
#[derive(Debug)]
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(ObjectsOnly(deserializer)).map(Object)
    }
}

/// Hands on whatever is asked for as a map.
struct ObjectsOnly<D>(D);

impl<'de, D: Deserializer<'de>> Deserializer<'de> for ObjectsOnly<D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_map(visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// The objects of a JSON array, kept up to the bound of a batch.
#[derive(Debug)]
pub struct Items<T>(Option<Vec<T>>);

impl<T> Items<T> {
    /// The objects.
    ///
    /// # Errors
    /// 413 if there were too many.
    pub fn within_bound(self) -> Result<Vec<T>, Rejection> {
        self.0.ok_or_else(|| BATCH_TOO_LARGE.into())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Items<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ItemsVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for ItemsVisitor<T> {
            type Value = Items<T>;

            fn expecting(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str("an array of objects")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Self::Value, A::Error> {
                let mut items = Vec::new();
                while let Some(Object(item)) = array.next_element()? {
                    if items.len() == BATCH_ITEMS_MAX_COUNT {
                        while array.next_element::<IgnoredAny>()?.is_some() {}
                        return Ok(Items(None));
                    }
                    items.push(item);
                }
                Ok(Items(Some(items)))
            }
        }
        deserializer.deserialize_seq(ItemsVisitor(PhantomData))
    }
}

/// A JSON string: borrowed if it stands in the body as it is, owned if it held escapes.
#[derive(Debug)]
pub struct Text<'a>(Cow<'a, str>);

impl Text<'_> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample<'a> {
        #[serde(borrow)]
        plain: Text<'a>,
        #[serde(borrow)]
        maybe: Option<Text<'a>>,
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
        assert!(detail(r#"{"plain":"a","associated_date":"x"}"#).contains("unknown field `associated_date`"));
        assert!(detail(r#"{"plain":"a","plain":"b"}"#).contains("duplicate field `plain`"));
        let typed = detail(r#"{"plain":"a","number":"topsecret"}"#);
        assert!(typed.contains("another type") && !typed.contains("topsecret"), "{typed}");
        let broken = detail("{\"plain\":\"topsecret");
        assert!(broken.contains("line 1") && !broken.contains("topsecret"), "{broken}");
        let long = detail(&format!(r#"{{"{}":1}}"#, "k".repeat(5_000)));
        assert!(long.len() < 200, "{long}");
    }

    #[test]
    fn trailing_bytes_and_invalid_text_are_refused() {
        for body in [
            &b"{\"plain\":\"a\"} x"[..],
            b"{\"plain\":\"\xff\"}",
            b"\xef\xbb\xbf{\"plain\":\"a\"}",
            b"[]",
            b"null",
            b"[\"a\",null,null]",
            b"{\"plain\":[\"a\"]}",
        ] {
            assert!(read::<Sample<'_>>(body).is_err(), "{body:?}");
        }
        let deep = format!("{{\"plain\":{}", "[".repeat(10_000));
        assert!(read::<Sample<'_>>(deep.as_bytes()).is_err());
    }
}
