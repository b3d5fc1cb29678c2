//! Objects as nearly every client writes them, read in one pass.
//!
//! Owns [`each_member`]. It takes a part of what JSON allows: one object whose names are plain words and whose values are texts
//! without escapes or numbers without a sign. Invariants: what it takes, the full parser takes too, and understands in the
//! same way; of anything else it says nothing but that it did not take it, so that the full parser judges it, and says what is
//! wrong. Nothing is copied.

/// A value of a plain object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// A text that stands in the body as it is.
    Text(&'a str),
    /// A whole number.
    Number(u32),
}

/// Calls `take` with each member of the object that `bytes` are; nothing if they are not a plain one, or `take` refuses.
pub(super) fn each_member<'a>(
    bytes: &'a [u8],
    mut take: impl FnMut(&'a [u8], Value<'a>) -> Option<()>,
) -> Option<()> {
    let mut rest = after(bytes, b'{')?;
    loop {
        let (name, behind) = text(after(rest, b'"')?)?;
        let behind = blank(after(behind, b':')?);
        let (value, behind) = match behind.split_first()? {
            (b'"', behind) => {
                let (text, behind) = text(behind)?;
                (Value::Text(str::from_utf8(text).ok()?), behind)
            }
            _ => number(behind)?,
        };
        take(name, value)?;
        let (byte, behind) = blank(behind).split_first()?;
        match byte {
            b',' => rest = behind,
            b'}' => return blank(behind).is_empty().then_some(()),
            _ => return None,
        }
    }
}

/// What follows `byte`, which must come next but for white space.
fn after(bytes: &[u8], byte: u8) -> Option<&[u8]> {
    let (first, rest) = blank(bytes).split_first()?;
    (*first == byte).then_some(rest)
}

/// What is left behind white space (RFC 8259, section 2).
fn blank(bytes: &[u8]) -> &[u8] {
    let at = bytes.iter().position(|byte| !matches!(byte, b' ' | b'\t' | b'\n' | b'\r'));
    bytes.get(at.unwrap_or(bytes.len())..).unwrap_or_default()
}

/// The text up to its quotation mark, and what follows that; nothing if an escape or a control character stands in it.
fn text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memchr2(b'"', b'\\', bytes)?;
    let (text, rest) = bytes.split_at_checked(end)?;
    let (mark, rest) = rest.split_first()?;
    // Without a way out of the middle, so that the compiler takes many bytes at once.
    let controls = text.iter().fold(false, |found, byte| found | (*byte < b' '));
    (*mark == b'"' && !controls).then_some((text, rest))
}

/// The digits up to what is none, as a number, and what follows.
fn number(bytes: &[u8]) -> Option<(Value<'_>, &[u8])> {
    let end = bytes.iter().position(|byte| !byte.is_ascii_digit())?;
    let (digits, rest) = bytes.split_at_checked(end)?;
    // A zero in front is an error, and a fraction or an exponent another number: what follows is neither a comma nor a brace.
    if digits.len() > 1 && digits.starts_with(b"0") {
        return None;
    }
    Some((Value::Number(str::from_utf8(digits).ok()?.parse().ok()?), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(text: &str) -> Option<Vec<(String, String)>> {
        let mut found = Vec::new();
        each_member(text.as_bytes(), |name, value| {
            let value = match value {
                Value::Text(text) => format!("{text:?}"),
                Value::Number(number) => number.to_string(),
            };
            found.push((String::from_utf8_lossy(name).into_owned(), value));
            Some(())
        })
        .map(|()| found)
    }

    #[test]
    fn plain_objects_are_taken() {
        let two = Some(vec![("a".to_owned(), "\"bé\"".to_owned()), ("c".to_owned(), "17".to_owned())]);
        assert_eq!(members(r#"{"a":"bé","c":17}"#), two);
        assert_eq!(members("\r\n{ \"a\"\t: \"bé\" ,\n\"c\" : 17 } "), two);
        assert_eq!(members(r#"{"a":""}"#), Some(vec![("a".to_owned(), "\"\"".to_owned())]));
        assert_eq!(members(r#"{"a":0}"#), Some(vec![("a".to_owned(), "0".to_owned())]));
    }

    #[test]
    fn everything_else_is_left_to_the_full_parser() {
        for text in [
            "",
            "{",
            "{}",
            "{\"a\"",
            "{\"a\":",
            "{\"a\":\"",
            "{\"a\":\"b",
            "{\"a\":\"b\"",
            "{\"a\":1",
            "[1]",
            "1",
            "{\"a\":\"b\"}x",
            "{\"a\":\"b\",}",
            "{,}",
            "{\"a\" \"b\"}",
            "{\"a\":\"b\" \"c\":\"d\"}",
            "{a:1}",
            "{\"a\":\"\\n\"}",
            "{\"a\\u0062\":1}",
            "{\"a\":\"\u{1}\"}",
            "{\"a\":\"\n\"}",
            "{\"a\":01}",
            "{\"a\":-1}",
            "{\"a\":1.0}",
            "{\"a\":1e3}",
            "{\"a\":4294967296}",
            "{\"a\":null}",
            "{\"a\":true}",
            "{\"a\":[]}",
            "{\"a\":{}}",
            "\u{feff}{\"a\":1}",
            "{\"a\":1}\u{b}",
            "{\"a\":\"b\"}}",
            "{\"a\":}",
            "{\"a\":,\"b\":1}",
        ] {
            assert_eq!(members(text), None, "{text:?}");
        }
        assert!(each_member(b"{\"a\":\"\xff\"}", |_, _| Some(())).is_none(), "no UTF-8");
        assert!(each_member(b"{\"a\":1}", |_, _| None).is_none(), "refused");
    }
}
