//! The JSON members of the requests of Vault's clients, read as that API reads them.
//!
//! Owns [`Members`], [`Lenient`] and the walk through a batch. Invariants: members that are not known are passed over,
//! `null` counts as absent, numbers and truth values may stand as texts; an error names no value; texts without escapes are
//! lent from the body, to be worked on in place; a batch is looked at whole before anything of it is done.

use core::fmt;
use core::ops::Range;

use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::api::Rejection;
use crate::api::body::{Object, Piece, Text};
use crate::api::vault::errors::bad;
use crate::encoding::base64_decode_in_place;

/// A number or a truth value, which may stand as a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lenient<T>(pub T);

/// What a [`Lenient`] can hold.
pub trait Plain: Sized {
    /// From a number.
    fn of_number(number: u64) -> Option<Self>;
    /// From a text.
    fn of_text(text: &str) -> Option<Self>;
}

impl Plain for u32 {
    fn of_number(number: u64) -> Option<Self> {
        Self::try_from(number).ok()
    }

    fn of_text(text: &str) -> Option<Self> {
        if text.is_empty() { Some(0) } else { text.parse().ok() }
    }
}

impl Plain for bool {
    fn of_number(number: u64) -> Option<Self> {
        Some(number != 0)
    }

    fn of_text(text: &str) -> Option<Self> {
        match text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
            "" | "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
            _ => None,
        }
    }
}

/// A time in seconds: a number, or a text as Go writes durations (`24h`, `1h30m`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Duration(pub u64);

impl Plain for Duration {
    fn of_number(number: u64) -> Option<Self> {
        Some(Self(number))
    }

    fn of_text(text: &str) -> Option<Self> {
        if text.is_empty() {
            return Some(Self(0));
        }
        if let Ok(number) = text.parse() {
            return Some(Self(number));
        }
        let (mut rest, mut seconds) = (text, 0u64);
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let (number, behind) = rest.split_at_checked(digits)?;
            let unit = match behind.bytes().next()? {
                b'd' => 86_400,
                b'h' => 3_600,
                b'm' => 60,
                b's' => 1,
                _ => return None,
            };
            seconds = seconds.checked_add(number.parse::<u64>().ok()?.checked_mul(unit)?)?;
            rest = behind.get(1..)?;
        }
        Some(Self(seconds))
    }
}

impl<'de, T: Plain> Deserialize<'de> for Lenient<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PlainVisitor<T>(core::marker::PhantomData<T>);
        impl<T: Plain> Visitor<'_> for PlainVisitor<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, a truth value, or a text of one")
            }

            fn visit_bool<E: de::Error>(self, value: bool) -> Result<T, E> {
                T::of_number(u64::from(value)).ok_or_else(|| E::custom(WRONG))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
                T::of_number(number).ok_or_else(|| E::custom(WRONG))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
                T::of_text(text).ok_or_else(|| E::custom(WRONG))
            }
        }
        deserializer.deserialize_any(PlainVisitor(core::marker::PhantomData)).map(Lenient)
    }
}

const WRONG: &str = "not of the type";

/// The members that some operation on payloads takes.
#[derive(serde::Deserialize)]
pub struct Members<'a> {
    #[serde(borrow, default)]
    plaintext: Option<Text<'a>>,
    #[serde(borrow, default)]
    ciphertext: Option<Text<'a>>,
    #[serde(borrow, default)]
    input: Option<Text<'a>>,
    #[serde(borrow, default)]
    hmac: Option<Text<'a>>,
    #[serde(borrow, default)]
    signature: Option<Text<'a>>,
    #[serde(borrow, default)]
    associated_data: Option<Text<'a>>,
    #[serde(borrow, default)]
    context: Option<Text<'a>>,
    #[serde(borrow, default)]
    nonce: Option<Text<'a>>,
    #[serde(borrow, default)]
    reference: Option<Text<'a>>,
    #[serde(default)]
    key_version: Option<Lenient<u32>>,
    #[serde(borrow, default)]
    algorithm: Option<Text<'a>>,
    #[serde(borrow, default)]
    hash_algorithm: Option<Text<'a>>,
    /// The items of a batch.
    #[serde(borrow, default)]
    pub batch_input: Option<&'a RawValue>,
    /// The status of a batch of which some items failed.
    #[serde(default)]
    pub partial_failure_response_code: Option<Lenient<u32>>,
}

impl fmt::Debug for Members<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Members")
    }
}

/// What an operation works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// `plaintext`
    Plaintext,
    /// `ciphertext`
    Ciphertext,
    /// `input`
    Input,
}

/// The members of one item, let go of the body so that the body can be worked on.
#[derive(Debug)]
pub struct Pieces {
    /// The plaintext, ciphertext or input.
    pub payload: Option<Piece>,
    /// The HMAC to check.
    pub hmac: Option<Piece>,
    /// Whether it was sent as what it is not.
    pub signature: bool,
    /// The associated data.
    pub associated_data: Option<Piece>,
    /// The context of a derived key.
    pub context: Option<Piece>,
    /// Whether a nonce was sent.
    pub nonce: bool,
    /// What the caller calls the item.
    pub reference: Option<Piece>,
    /// The version that was asked for; the latest is not named.
    pub version: Option<u32>,
}

impl Members<'_> {
    /// The version that was asked for; the latest is not named.
    #[must_use]
    pub fn version(&self) -> Option<u32> {
        self.key_version.map(|Lenient(number)| number).filter(|number| *number != 0)
    }

    /// The hash of an HMAC, under either of its names.
    #[must_use]
    pub fn hash(&self) -> Option<&str> {
        self.hash_algorithm.as_ref().or(self.algorithm.as_ref()).map(Text::as_str)
    }

    /// Lets go of `body`, from which the members were read.
    #[must_use]
    pub fn into_pieces(self, payload: Payload, body: &[u8]) -> Pieces {
        let version = self.version();
        let piece = |text: Option<Text<'_>>| text.map(|text| text.into_piece(body));
        let filled = |text: Option<Text<'_>>| piece(text.filter(|text| !text.as_str().is_empty()));
        let signed = self.signature.is_some_and(|text| !text.as_str().is_empty());
        Pieces {
            payload: match payload {
                Payload::Plaintext => piece(self.plaintext),
                Payload::Ciphertext => filled(self.ciphertext),
                Payload::Input => piece(self.input),
            },
            hmac: filled(self.hmac),
            signature: signed,
            associated_data: filled(self.associated_data),
            context: filled(self.context),
            nonce: self.nonce.is_some_and(|text| !text.as_str().is_empty()),
            reference: piece(self.reference),
            version,
        }
    }
}

/// Whether there is nothing in a body: it is empty or `null`, as the `bao` command line sends it.
#[must_use]
pub fn is_nothing(body: &[u8]) -> bool {
    matches!(body.trim_ascii(), b"" | b"null")
}

/// Reads a body as a JSON object; nothing counts as one without members.
///
/// # Errors
/// 400, with where it is wrong.
pub fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Rejection> {
    let body = if is_nothing(body) { b"{}" } else { body };
    let read: Result<Object<T>, _> = serde_json::from_slice(body);
    read.map(|Object(members)| members).map_err(|error| unreadable(&error))
}

/// Refuses a body that is no object; what is in it does not matter.
///
/// # Errors
/// 400, with where it is wrong.
pub fn require_object(body: &[u8]) -> Result<(), Rejection> {
    #[derive(serde::Deserialize)]
    struct Anything {}
    read::<Anything>(body).map(|Anything {}| ())
}

/// What may be said of a parser's error: where, and nothing that the caller sent.
fn unreadable(error: &serde_json::Error) -> Rejection {
    let (line, column) = (error.line(), error.column());
    let what = if error.is_data() {
        "a member has another type than this path takes"
    } else {
        "failed to decode JSON input"
    };
    bad("malformed_json", format!("{what}, at line {line} column {column}"))
}

/// Looks at every item of a batch, in order; returns how many there are.
///
/// # Errors
/// 400 if it is no array of objects; whatever `look` says of an item.
pub fn walk(
    batch: &RawValue,
    mut look: impl FnMut(&Members<'_>) -> Result<(), Rejection>,
) -> Result<usize, Rejection> {
    struct Items<'l>(&'l mut dyn FnMut(&Members<'_>) -> Result<(), Rejection>);
    impl<'de> Visitor<'de> for Items<'_> {
        type Value = Result<usize, Rejection>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an array of objects")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
            let (mut count, mut refused) = (0, None);
            while let Some(Object(members)) = items.next_element::<Object<Members<'de>>>()? {
                if refused.is_none() {
                    refused = (self.0)(&members).err();
                }
                count += 1;
            }
            Ok(refused.map_or(Ok(count), Err))
        }
    }
    let read = serde_json::Deserializer::from_str(batch.get()).deserialize_seq(Items(&mut look));
    read.map_err(|error| {
        let (line, column) = (error.line(), error.column());
        bad("malformed_json", format!("failed to parse batch input, at line {line} column {column}"))
    })?
}

/// Where in `body`, from which it was read, the text of a batch stands.
#[must_use]
pub fn place_of(batch: &RawValue, body: &[u8]) -> Range<usize> {
    let start = batch.get().as_ptr().addr().saturating_sub(body.as_ptr().addr());
    start..start + batch.get().len()
}

/// Reads the next item of a batch that was walked through, whose text ends where `body` ends; returns it and where the rest
/// begins. Nothing behind the last one.
#[must_use]
pub fn next_item(payload: Payload, body: &[u8], from: usize) -> Option<(Pieces, usize)> {
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
    Some((members.into_pieces(payload, body), end))
}

/// Decodes base64 in place. Line ends in it are passed over, as Go does.
pub fn decode(text: &mut [u8]) -> Option<&mut [u8]> {
    let mut len = text.len();
    if memchr::memchr2(b'\n', b'\r', text).is_some() {
        len = 0;
        for at in 0..text.len() {
            let byte = *text.get(at)?;
            if !matches!(byte, b'\n' | b'\r') {
                *text.get_mut(len)? = byte;
                len += 1;
            }
        }
    }
    let text = text.get_mut(..len)?;
    let len = base64_decode_in_place(text)?;
    text.get_mut(..len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    struct Sample {
        #[serde(default)]
        number: Option<Lenient<u32>>,
        #[serde(default)]
        flag: Option<Lenient<bool>>,
        #[serde(default)]
        period: Option<Lenient<Duration>>,
    }

    fn sample(body: &str) -> Option<(Option<u32>, Option<bool>, Option<u64>)> {
        let read: Sample = read(body.as_bytes()).ok()?;
        let period = read.period.map(|Lenient(Duration(seconds))| seconds);
        Some((read.number.map(|of| of.0), read.flag.map(|of| of.0), period))
    }

    #[test]
    fn nothing_is_an_object_without_members() {
        for body in ["", " \n", "null", "{}", " null ", r#"{"number":null,"name":"k","other":[1,{}]}"#] {
            assert_eq!(sample(body), Some((None, None, None)), "{body}");
        }
        for body in ["[]", "1", "\"a\"", "{", "{\"number\":}", "nul"] {
            assert_eq!(sample(body), None, "{body}");
        }
    }

    #[test]
    fn numbers_and_truth_values_may_stand_as_texts() {
        for (body, number) in [(r#"{"number":2}"#, 2), (r#"{"number":"2"}"#, 2), (r#"{"number":""}"#, 0)] {
            assert_eq!(sample(body), Some((Some(number), None, None)), "{body}");
        }
        for (body, flag) in
            [(r#"{"flag":true}"#, true), (r#"{"flag":"true"}"#, true), (r#"{"flag":0}"#, false)]
        {
            assert_eq!(sample(body), Some((None, Some(flag), None)), "{body}");
        }
        for body in [r#"{"number":-1}"#, r#"{"number":"x"}"#, r#"{"number":4294967296}"#, r#"{"flag":"yes"}"#]
        {
            assert_eq!(sample(body), None, "{body}");
        }
    }

    #[test]
    fn periods_are_read_as_go_writes_them() {
        for (text, seconds) in [
            ("3600", 3_600),
            ("\"3600\"", 3_600),
            ("\"24h\"", 86_400),
            ("\"1h30m\"", 5_400),
            ("\"30d\"", 2_592_000),
            ("\"\"", 0),
        ] {
            assert_eq!(
                sample(&format!("{{\"period\":{text}}}")),
                Some((None, None, Some(seconds))),
                "{text}"
            );
        }
        for text in ["\"h\"", "\"1\u{fc}\"", "\"1h2\"", "\"99999999999999999999h\"", "\"1w\"", "-1"] {
            assert_eq!(sample(&format!("{{\"period\":{text}}}")), None, "{text}");
        }
    }

    #[test]
    fn a_batch_is_walked_through_and_then_read_item_by_item() {
        let body = br#"{"batch_input": [ {"plaintext":"YQ==","reference":"r","x":1} ,{"key_version":"3"}]}"#;
        let members: Members<'_> = read(body).unwrap();
        let batch = members.batch_input.unwrap();
        let mut versions = Vec::new();
        let count = walk(batch, |item| {
            versions.push(item.version());
            Ok(())
        });
        assert_eq!((count.unwrap(), versions), (2, vec![None, Some(3)]));
        let place = place_of(batch, body);
        let (first, after) = next_item(Payload::Plaintext, &body[..place.end], place.start + 1).unwrap();
        assert_eq!(first.payload.unwrap().bytes(body), b"YQ==");
        let (second, after) = next_item(Payload::Plaintext, &body[..place.end], after).unwrap();
        assert!(second.payload.is_none() && second.version == Some(3));
        assert!(next_item(Payload::Plaintext, &body[..place.end], after).is_none());
        for bad in ["{}", "[1]", "[null]", "\"a\""] {
            let raw = RawValue::from_string(bad.to_owned()).unwrap();
            assert!(walk(&raw, |_| Ok(())).is_err(), "{bad}");
        }
    }

    #[test]
    fn line_ends_in_base64_are_passed_over() {
        for text in ["aGVsbG8=", "aGVs\nbG8=\n", "\r\naGVsbG8="] {
            let mut text = text.as_bytes().to_vec();
            assert_eq!(decode(&mut text).unwrap(), b"hello");
        }
        for text in ["aGVsbG8", "aGVs bG8=", "!!"] {
            assert!(decode(&mut text.as_bytes().to_vec()).is_none(), "{text}");
        }
    }
}
