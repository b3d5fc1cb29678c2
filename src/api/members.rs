//! The JSON members of the operations on payloads, alike in a request and in an item of its batch.
//!
//! Owns [`Members`], [`Pieces`] and the check of a whole batch before anything of it is done. Invariants: which members
//! a route takes is a list, and any other is an error; a batch that is malformed anywhere is refused before its first
//! item is worked on; reading takes no memory that grows with the number of items.

use core::ops::Range;

use serde::Deserialize;
use serde::de::{self, Deserializer as _, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::api::Rejection;
use crate::api::body::{self, Object, Piece, Text, present};
use crate::api::plain::{Value, each_member};

/// The members that some operation takes, each at most once.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Members<'a> {
    /// The name of the key.
    #[serde(borrow, default, deserialize_with = "present")]
    pub key: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "present")]
    plaintext: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "present")]
    ciphertext: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "present")]
    input: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "present")]
    signature: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "present")]
    associated_data: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "present")]
    context: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "present")]
    reference: Option<Text<'a>>,
    /// The version that was asked for.
    #[serde(default, deserialize_with = "present")]
    pub key_version: Option<u32>,
    /// How binary values are encoded.
    #[serde(borrow, default, deserialize_with = "present")]
    pub format: Option<Text<'a>>,
    /// The text of a batch.
    #[serde(borrow, default, deserialize_with = "present")]
    pub batch: Option<&'a RawValue>,
}

impl core::fmt::Debug for Members<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Members")
    }
}

/// What an object may have and must have.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Every member that it may have.
    pub known: &'static [&'static str],
    /// Those of them that it must have.
    pub required: &'static [&'static str],
}

/// What an item of a batch is made of, let go of the body so that the body can be worked on.
#[derive(Debug)]
pub struct Pieces {
    /// The plaintext, ciphertext or input.
    pub payload: Piece,
    /// The signature to check.
    pub signature: Option<Piece>,
    /// The associated data.
    pub associated_data: Option<Piece>,
    /// The context of a derived key.
    pub context: Option<Piece>,
    /// What the caller calls the item.
    pub reference: Option<Piece>,
}

/// The marks by which errors are known again.
const UNKNOWN_MEMBER: &str = "unknown field";

impl<'a> Members<'a> {
    /// Reads the body as an object of this shape.
    ///
    /// # Errors
    /// 400 `malformed_json`, with what is wrong and where.
    pub fn read(bytes: &'a [u8], shape: Shape) -> Result<Self, Rejection> {
        if bytes.is_empty() {
            return Err(body::empty());
        }
        // The full parser takes several times as long. It judges whatever the quick one does not take, or the shape refuses.
        if let Some(members) = Self::plain(bytes)
            && members.check::<serde_json::Error>(shape).is_ok()
        {
            return Ok(members);
        }
        let read = serde_json::from_slice(bytes).and_then(|Object(members): Object<Self>| {
            members.check::<serde_json::Error>(shape)?;
            Ok(members)
        });
        read.map_err(|error| body::malformed("The body", &error, Some(shape.known)))
    }

    /// The members of a plain object: texts and the version, each at most once.
    fn plain(bytes: &'a [u8]) -> Option<Self> {
        let mut members = Self::default();
        each_member(bytes, |name, value| {
            let place = match (name, value) {
                (b"key_version", Value::Number(number)) => {
                    return members.key_version.replace(number).is_none().then_some(());
                }
                (b"key", Value::Text(_)) => &mut members.key,
                (b"plaintext", Value::Text(_)) => &mut members.plaintext,
                (b"ciphertext", Value::Text(_)) => &mut members.ciphertext,
                (b"input", Value::Text(_)) => &mut members.input,
                (b"signature", Value::Text(_)) => &mut members.signature,
                (b"associated_data", Value::Text(_)) => &mut members.associated_data,
                (b"context", Value::Text(_)) => &mut members.context,
                (b"reference", Value::Text(_)) => &mut members.reference,
                (b"format", Value::Text(_)) => &mut members.format,
                _ => return None,
            };
            let Value::Text(text) = value else { return None };
            place.replace(Text::borrowed(text)).is_none().then_some(())
        })
        .map(|()| members)
    }

    fn check<E: de::Error>(&self, shape: Shape) -> Result<(), E> {
        let present = [
            ("key", self.key.is_some()),
            ("plaintext", self.plaintext.is_some()),
            ("ciphertext", self.ciphertext.is_some()),
            ("input", self.input.is_some()),
            ("signature", self.signature.is_some()),
            ("associated_data", self.associated_data.is_some()),
            ("context", self.context.is_some()),
            ("reference", self.reference.is_some()),
            ("key_version", self.key_version.is_some()),
            ("format", self.format.is_some()),
            ("batch", self.batch.is_some()),
        ];
        if present.iter().any(|(name, there)| *there && !shape.known.contains(name)) {
            return Err(E::custom(UNKNOWN_MEMBER));
        }
        let missing = |name: &&&str| !present.contains(&(**name, true));
        shape.required.iter().find(missing).map_or(Ok(()), |name| Err(E::missing_field(name)))
    }

    /// Whether a member is there that belongs into the items of a batch.
    #[must_use]
    pub fn has_item_members(&self) -> bool {
        let texts = [
            &self.plaintext,
            &self.ciphertext,
            &self.input,
            &self.signature,
            &self.associated_data,
            &self.context,
        ];
        texts.iter().any(|text| text.is_some())
    }

    /// Lets go of `body`, from which the members were read; nothing if no payload is there.
    #[must_use]
    pub fn into_pieces(self, body: &[u8]) -> Option<Pieces> {
        let piece = |text: Option<Text<'_>>| text.map(|text| text.into_piece(body));
        Some(Pieces {
            payload: piece(self.plaintext.or(self.ciphertext).or(self.input))?,
            signature: piece(self.signature),
            associated_data: piece(self.associated_data),
            context: piece(self.context),
            reference: piece(self.reference),
        })
    }
}

/// Where in `body`, from which it was read, the text of a batch stands.
#[must_use]
pub fn place_of(batch: &RawValue, body: &[u8]) -> Range<usize> {
    let start = batch.get().as_ptr().addr().saturating_sub(body.as_ptr().addr());
    start..start + batch.get().len()
}

/// Reads every item of a batch, to find whatever is wrong before anything is done; returns how many there are.
///
/// # Errors
/// 400 `malformed_json`, with what is wrong and where.
pub fn check_batch(batch: &RawValue, shape: Shape) -> Result<usize, Rejection> {
    struct Items(Shape);
    impl<'de> Visitor<'de> for Items {
        type Value = usize;

        fn expecting(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
            f.write_str("an array of objects")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<usize, A::Error> {
            let mut count = 0;
            while let Some(Object(members)) = items.next_element::<Object<Members<'de>>>()? {
                members.check::<A::Error>(self.0)?;
                count += 1;
            }
            Ok(count)
        }
    }
    let read = serde_json::Deserializer::from_str(batch.get()).deserialize_seq(Items(shape));
    read.map_err(|error| body::malformed("The batch", &error, Some(shape.known)))
}

/// Reads the next item of a checked batch, whose text ends where `body` ends; returns it and where the rest begins.
/// Nothing behind the last one.
pub fn next_item(body: &[u8], from: usize) -> Option<(Pieces, usize)> {
    let rest = body.get(from..)?;
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b',');
    let start = from + rest.iter().position(|byte| !blank(byte))?;
    let text = body.get(start..)?;
    if !text.starts_with(b"{") {
        return None;
    }
    let mut items = serde_json::Deserializer::from_slice(text).into_iter::<Object<Members<'_>>>();
    let Object(members) = items.next()?.ok()?;
    let end = start + items.byte_offset();
    members.into_pieces(body).map(|pieces| (pieces, end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SHAPE: Shape = Shape { known: &["plaintext", "reference"], required: &["plaintext"] };

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    fn detail(text: &str) -> String {
        match check_batch(&raw(text), SHAPE) {
            Err(Rejection::Described { code: "malformed_json", detail, .. }) => detail,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_batch_is_counted_and_whatever_is_wrong_in_it_is_found() {
        assert_eq!(check_batch(&raw("[]"), SHAPE).unwrap(), 0);
        assert_eq!(check_batch(&raw(r#"[{"plaintext":"a"} , {"plaintext":""}]"#), SHAPE).unwrap(), 2);
        assert!(detail(r#"[{"plaintext":"a"},{}]"#).contains("missing field `plaintext`"));
        assert!(
            detail(r#"[{"plaintext":"a","key":"k"}]"#).contains("expected one of `plaintext`, `reference`")
        );
        assert!(detail(r#"[{"plaintext":"a","nokey":"k"}]"#).contains("expected one of `plaintext`"));
        for text in ["{}", "1", "null", "[1]", "[null]", r#"[["a"]]"#, r#"[{"plaintext":null}]"#] {
            assert!(detail(text).starts_with("A member has another type"), "{text}");
        }
    }

    /// What both parsers say of a body: the members, as far as they took it.
    fn both(text: &str) -> [Option<String>; 2] {
        let full = serde_json::from_slice::<Object<Members<'_>>>(text.as_bytes()).ok().map(|object| object.0);
        [Members::plain(text.as_bytes()), full].map(|members| members.map(|members| shown(&members)))
    }

    fn shown(members: &Members<'_>) -> String {
        let Members { key, plaintext, ciphertext, input, signature, .. } = members;
        let Members { associated_data, context, reference, key_version, format, batch, .. } = members;
        let texts =
            [key, plaintext, ciphertext, input, signature, associated_data, context, reference, format];
        let texts = texts.map(|text| text.as_ref().map(Text::as_str));
        format!("{texts:?} {key_version:?} {:?}", batch.map(RawValue::get))
    }

    #[test]
    fn the_quick_parser_takes_every_member_and_leaves_what_repeats() {
        for name in [
            "key",
            "plaintext",
            "ciphertext",
            "input",
            "signature",
            "associated_data",
            "context",
            "reference",
            "format",
        ] {
            let [quick, full] = both(&format!("{{\"{name}\":\"ab\",\"key_version\":7}}"));
            assert!(quick.is_some() && quick == full, "{name}");
            assert_eq!(both(&format!("{{\"{name}\":\"a\",\"{name}\":\"a\"}}")), [None, None], "{name}");
            assert_eq!(both(&format!("{{\"{name}\":1}}")), [None, None], "{name}");
        }
        assert_eq!(both(r#"{"key_version":1,"key_version":1}"#), [None, None]);
        assert_eq!(both(r#"{"key_version":"1"}"#), [None, None]);
        assert_eq!(both(r#"{"other":"1"}"#), [None, None]);
    }

    proptest! {
        #[test]
        fn what_the_quick_parser_takes_the_full_one_understands_alike(
            parts in proptest::collection::vec(
                prop_oneof![
                    Just("{"), Just("}"), Just("["), Just("]"), Just(","), Just(":"), Just("\""), Just("\\"), Just(" "),
                    Just("\"key\":\"k\""), Just("\"plaintext\":\"cHQ=\""), Just("\"key_version\":"), Just("\"format\" : \"hex\""),
                    Just("\"context\":\"\u{e9}\""), Just("\"batch\":[]"), Just("0"), Just("17"), Just("4294967295"), Just("-"),
                    Just("."), Just("e"), Just("\n"), Just("\u{0}"), Just("null"), Just("\\u0041"), Just("\\\""),
                ],
                0..9,
            ),
            framed in any::<bool>(),
        ) {
            let inner = parts.concat();
            let text = if framed { format!("{{{inner}}}") } else { inner };
            let [quick, full] = both(&text);
            prop_assert!(quick.is_none() || quick == full, "{}", text);
        }
    }

    #[test]
    fn items_are_read_one_by_one_where_they_stand() {
        let mut body = br#" {"batch": [ {"plaintext":"a]","reference":"\"1"} ,{"plaintext":"b"}]} "#.to_vec();
        let shape = Shape { known: &["batch"], required: &[] };
        let members = Members::read(&body, shape).unwrap();
        let place = place_of(members.batch.unwrap(), &body);
        let (mut first, after) = next_item(&body[..place.end], place.start + 1).unwrap();
        assert_eq!(first.reference.unwrap().bytes(&body), b"\"1");
        first.payload.bytes_mut(&mut body).fill(b'"');
        let (second, after) = next_item(&body[..place.end], after).unwrap();
        assert_eq!(second.payload.bytes(&body), b"b");
        assert!(next_item(&body[..place.end], after).is_none());
    }

    #[test]
    fn members_of_other_operations_are_not_known() {
        let shape = Shape { known: &["key", "input"], required: &["key"] };
        assert!(Members::read(br#"{"key":"a","input":"b"}"#, shape).is_ok());
        for wrong in [r#"{"key":"a","plaintext":"b"}"#, r#"{"input":"b"}"#, r#"["a"]"#, ""] {
            assert!(Members::read(wrong.as_bytes(), shape).is_err(), "{wrong}");
        }
    }
}
