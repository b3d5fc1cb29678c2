//! A JSON object of a token, read once, strictly and without allocating.
//!
//! Owns [`read`] and [`Value`]. Invariants: a name that stands twice in any object, at any depth, is refused, escaped
//! or not; so are bytes behind the object, too many members and too deep values; only texts with an escape in
//! them are copied to memory of their own.

use core::fmt;
use std::borrow::Cow;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::TokenFault;
use crate::limits::{TOKEN_AUDIENCES_MAX_COUNT, TOKEN_DEPTH_MAX_COUNT, TOKEN_MEMBERS_MAX_COUNT};

/// The value of a member, as far as a token's reader can use one.
#[derive(Debug)]
pub(super) enum Value<'a> {
    /// A string.
    Text(Cow<'a, str>),
    /// A whole number from 0 up.
    Whole(u64),
    /// Any other number but a negative whole one.
    Fraction(f64),
    /// An array of at most [`TOKEN_AUDIENCES_MAX_COUNT`] strings.
    Texts(Texts<'a>),
    /// Anything else.
    Other,
}

/// A few strings, held in place.
#[derive(Debug, Default)]
pub(super) struct Texts<'a> {
    texts: [Cow<'a, str>; TOKEN_AUDIENCES_MAX_COUNT],
    count: usize,
}

impl<'a> Texts<'a> {
    /// One string.
    pub(super) fn of(text: Cow<'a, str>) -> Self {
        let mut texts = Self::default();
        texts.add(Value::Text(text));
        texts
    }

    /// Whether `text` is one of them.
    pub(super) fn contains(&self, text: &str) -> bool {
        self.texts.iter().take(self.count).any(|own| own == text)
    }

    /// Takes one more; says whether it was a string and there was room.
    fn add(&mut self, value: Value<'a>) -> bool {
        let (Value::Text(text), Some(place)) = (value, self.texts.get_mut(self.count)) else { return false };
        *place = text;
        self.count += 1;
        true
    }
}

/// What each member is handed to.
type Take<'t, 'a, E> = &'t mut dyn FnMut(&str, Value<'a>) -> Result<(), E>;

/// Hands each member of the object that `text` is to `take`, in their order.
///
/// # Errors
/// [`TokenFault::Malformed`] if `text` is no such object; what `take` returns.
pub(super) fn read<'a>(text: &'a [u8], take: Take<'_, 'a, TokenFault>) -> Result<(), TokenFault> {
    let text = str::from_utf8(text).map_err(|_| TokenFault::Malformed)?;
    let mut fault = TokenFault::Malformed;
    let mut parser = serde_json::Deserializer::from_str(text);
    let whole = Object { take, fault: &mut fault };
    let end = parser.deserialize_map(whole).and_then(|()| parser.end());
    end.map_err(|_| fault)
}

/// The outermost object.
struct Object<'f, 'a> {
    take: Take<'f, 'a, TokenFault>,
    /// What `take` had against a member: errors of the parser cannot carry it.
    fault: &'f mut TokenFault,
}

impl<'a> Visitor<'a> for Object<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, map: A) -> Result<(), A::Error> {
        each_member(map, TOKEN_DEPTH_MAX_COUNT, &mut |name, value| {
            (self.take)(name, value).map_err(|fault| {
                *self.fault = fault;
                A::Error::custom(fault)
            })
        })
    }
}

/// Hands each member of an object to `take`, after it has made sure that none before it has its name.
fn each_member<'a, A: MapAccess<'a>>(
    mut map: A,
    depth_left: usize,
    take: Take<'_, 'a, A::Error>,
) -> Result<(), A::Error> {
    let mut names: [Cow<'a, str>; TOKEN_MEMBERS_MAX_COUNT] = [const { Cow::Borrowed("") }; _];
    let mut count = 0;
    while let Some(name) = map.next_key_seed(Name)? {
        let (before, rest) = names.split_at_mut(count);
        if before.contains(&name) {
            return Err(A::Error::custom("a member stands twice"));
        }
        let place = rest.first_mut().ok_or_else(|| A::Error::custom("too many members"))?;
        *place = name;
        count += 1;
        let value = map.next_value_seed(Within { depth_left })?;
        take(place, value)?;
    }
    Ok(())
}

/// The name of a member.
struct Name;

impl<'a> DeserializeSeed<'a> for Name {
    type Value = Cow<'a, str>;

    fn deserialize<D: Deserializer<'a>>(self, name: D) -> Result<Self::Value, D::Error> {
        name.deserialize_str(self)
    }
}

impl<'a> Visitor<'a> for Name {
    type Value = Cow<'a, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_borrowed_str<E>(self, text: &'a str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}

/// A value, and how deep others may stand in it.
#[derive(Clone, Copy)]
struct Within {
    depth_left: usize,
}

impl Within {
    fn deeper<E: Error>(self) -> Result<Self, E> {
        let depth_left = self.depth_left.checked_sub(1).ok_or_else(|| E::custom("too deep"))?;
        Ok(Self { depth_left })
    }
}

impl<'a> DeserializeSeed<'a> for Within {
    type Value = Value<'a>;

    fn deserialize<D: Deserializer<'a>>(self, value: D) -> Result<Self::Value, D::Error> {
        value.deserialize_any(self)
    }
}

impl<'a> Visitor<'a> for Within {
    type Value = Value<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_borrowed_str<E>(self, text: &'a str) -> Result<Self::Value, E> {
        Ok(Value::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Value::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Value::Whole(number))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
        Ok(Value::Fraction(number))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Value::Other)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Value::Other)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Value::Other)
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut array: A) -> Result<Self::Value, A::Error> {
        let inner = self.deeper()?;
        let mut texts = Texts::default();
        let mut only_texts = true;
        while let Some(value) = array.next_element_seed(inner)? {
            only_texts &= texts.add(value);
        }
        Ok(if only_texts { Value::Texts(texts) } else { Value::Other })
    }

    fn visit_map<A: MapAccess<'a>>(self, map: A) -> Result<Self::Value, A::Error> {
        let inner = self.deeper::<A::Error>()?;
        each_member(map, inner.depth_left, &mut |_, _| Ok(()))?;
        Ok(Value::Other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Result<Vec<String>, TokenFault> {
        let mut names = Vec::new();
        read(text.as_bytes(), &mut |name, _| {
            names.push(name.to_owned());
            Ok(())
        })?;
        Ok(names)
    }

    #[test]
    fn members_come_in_their_order() {
        let text = " {\"b\":1,\"a\" : [ {\"a\":null} , true ],\n\"\\u0063\":{\"b\":1.5}} \t";
        assert_eq!(names(text).unwrap(), ["b", "a", "c"]);
        assert_eq!(names("{}").unwrap(), [""; 0]);
    }

    #[test]
    fn a_name_that_stands_twice_is_refused_at_every_depth() {
        for text in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"b":2,"\u0061":1}"#,
            r#"{"":1,"":1}"#,
            r#"{"x":{"a":1,"a":2}}"#,
            r#"{"x":[0,{"y":{"a":1,"b":0,"a":2}}]}"#,
        ] {
            assert_eq!(names(text), Err(TokenFault::Malformed), "{text}");
        }
        assert!(names(r#"{"a":{"a":{"a":1}},"b":[{"a":1},{"a":1}]}"#).is_ok());
    }

    #[test]
    fn what_is_no_strict_object_is_refused() {
        for text in [
            "",
            "null",
            "[]",
            "\"a\"",
            "{",
            r#"{"a":1,}"#,
            r#"{"a":1}}"#,
            r#"{"a":1} {}"#,
            "{\"a\":1}\0",
            "\u{FEFF}{}",
            r"{a:1}",
            r"{'a':1}",
            r#"{"a":01}"#,
            r#"{"a":+1}"#,
            r#"{"a":.5}"#,
            r#"{"a":NaN}"#,
            r#"{"a":Infinity}"#,
            r#"{"a":1e400}"#,
            r#"{"a":-1e400}"#,
            r#"{"a":"\ud800"}"#,
            "{\"a\":\"\n\"}",
            "{/**/}",
        ] {
            assert_eq!(names(text), Err(TokenFault::Malformed), "{text}");
        }
        assert_eq!(read(b"{\"a\":\"\xFF\"}", &mut |_, _| Ok(())), Err(TokenFault::Malformed));
    }

    #[test]
    fn members_and_depth_are_bounded() {
        let members = |count| (0..count).map(|at| format!("\"{at}\":0")).collect::<Vec<_>>().join(",");
        assert!(names(&format!("{{{}}}", members(TOKEN_MEMBERS_MAX_COUNT))).is_ok());
        for within in ["{@}", r#"{"x":{@}}"#] {
            let text = within.replace('@', &members(TOKEN_MEMBERS_MAX_COUNT + 1));
            assert_eq!(names(&text), Err(TokenFault::Malformed));
        }
        let deep = |depth| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(names(&deep(TOKEN_DEPTH_MAX_COUNT)).is_ok());
        assert_eq!(names(&deep(TOKEN_DEPTH_MAX_COUNT + 1)), Err(TokenFault::Malformed));
        let deep = format!("{}1{}", r#"{"a":"#.repeat(1_000), "}".repeat(1_000));
        assert_eq!(names(&deep), Err(TokenFault::Malformed));
    }

    #[test]
    fn values_are_told_apart() {
        let one = |text: &str| {
            let text = format!("{{\"a\":{text}}}");
            let mut shown = String::new();
            read(text.as_bytes(), &mut |_, value| {
                shown = match value {
                    Value::Text(Cow::Borrowed(text)) => format!("borrowed {text}"),
                    Value::Text(Cow::Owned(text)) => format!("owned {text}"),
                    Value::Whole(number) => format!("whole {number}"),
                    Value::Fraction(number) => format!("fraction {number}"),
                    Value::Texts(texts) => format!("texts {}", texts.count),
                    Value::Other => "other".to_owned(),
                };
                Ok(())
            })
            .unwrap();
            shown
        };
        for (text, shown) in [
            ("\"x\"", "borrowed x"),
            (r#""\u0078""#, "owned x"),
            ("17", "whole 17"),
            ("17.5", "fraction 17.5"),
            ("1e3", "fraction 1000"),
            ("-0", "fraction -0"),
            ("18446744073709551616", "fraction 18446744073709552000"),
            ("-1", "other"),
            ("null", "other"),
            ("true", "other"),
            ("{}", "other"),
            ("[]", "texts 0"),
            (r#"["a","b"]"#, "texts 2"),
            (r#"["a",1]"#, "other"),
            (r#"[["a"]]"#, "other"),
            (r#"["1","2","3","4","5","6","7","8"]"#, "texts 8"),
            (r#"["1","2","3","4","5","6","7","8","9"]"#, "other"),
        ] {
            assert_eq!(one(text), shown, "{text}");
        }
    }

    #[test]
    fn what_is_held_against_a_member_comes_out() {
        let found = read(b"{\"a\":1,\"b\":2}", &mut |name, _| {
            if name == "b" { Err(TokenFault::Header) } else { Ok(()) }
        });
        assert_eq!(found, Err(TokenFault::Header));
    }
}
