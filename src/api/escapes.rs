//! Needless escapes in JSON strings, resolved in place before the body is parsed.
//!
//! Some writers escape `/`, `+` and `=` in strings, so that base64 texts carry escapes. A parser would have to copy
//! such a text into memory of its own, where the plaintext in it would outlive the lease. Invariants: only escapes
//! of printable ASCII other than `"` and `\` are resolved, and only inside strings, so that a body means the same
//! before and after, and one that is not JSON does not become JSON; what the body loses in length is filled with
//! blanks at its end, so that a second look at the same memory finds the same body.

use memchr::memchr;

/// Resolves what can be resolved, and fills with blanks what is left over at the end.
pub fn resolve(body: &mut [u8]) {
    let Some(first) = memchr(b'\\', body) else { return };
    // Whether a string is open there: quotes before the first backslash are all plain ones.
    let quotes = body.get(..first).unwrap_or_default().iter().filter(|byte| **byte == b'"').count();
    let mut in_string = !quotes.is_multiple_of(2);
    let (mut from, mut to) = (first, first);
    while let Some(byte) = body.get(from).copied() {
        let (written, taken) = match byte {
            b'\\' if in_string => escape(body.get(from..).unwrap_or_default()),
            b'"' => {
                in_string = !in_string;
                (None, 1)
            }
            _ => (None, 1),
        };
        if let Some(plain) = written {
            put(body, to, plain);
            to += 1;
        } else {
            body.copy_within(from..from + taken, to);
            to += taken;
        }
        from += taken;
    }
    body.get_mut(to..).unwrap_or_default().fill(b' ');
}

fn put(body: &mut [u8], at: usize, byte: u8) {
    if let Some(place) = body.get_mut(at) {
        *place = byte;
    }
}

/// What the escape at the front of `text` stands for, if it is one to resolve, and its length.
fn escape(text: &[u8]) -> (Option<u8>, usize) {
    match text {
        [_, b'/', ..] => (Some(b'/'), 2),
        [_, b'u', a, b, c, d, ..] => {
            let hex = |digit: &u8| char::from(*digit).to_digit(16);
            let code = [a, b, c, d].into_iter().try_fold(0, |code, digit| Some(code * 16 + hex(digit)?));
            let plain = code.and_then(|code| u8::try_from(code).ok());
            let harmless = |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
            (plain.filter(harmless), 6)
        }
        // Any other escape is two bytes that belong together; a lone backslash at the end is one.
        _ => (None, text.len().min(2)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn resolved(text: &str) -> String {
        let mut body = text.as_bytes().to_vec();
        resolve(&mut body);
        assert_eq!(body.len(), text.len());
        let mut again = body.clone();
        resolve(&mut again);
        assert_eq!(again, body, "a second time changes nothing");
        String::from_utf8(body).unwrap().trim_end_matches(' ').to_owned()
    }

    #[test]
    fn escapes_of_plain_characters_are_resolved_and_others_stay() {
        for (given, expected) in [
            (r#"{"a":"b"}"#, r#"{"a":"b"}"#),
            (r#"{"a":"x\/y\u002Bz\u003d"}"#, r#"{"a":"x/y+z="}"#),
            (r#"{"a":"\\/\\u002B\"\/"}"#, r#"{"a":"\\/\\u002B\"/"}"#),
            (r#"{"a":"\u0022\u005c\u000a\u00e9\u20ac"}"#, r#"{"a":"\u0022\u005c\u000a\u00e9\u20ac"}"#),
            (r#"{"a":1\u002C"b":"\/"}"#, r#"{"a":1\u002C"b":"/"}"#),
            (r#"{"a":"\u00"#, r#"{"a":"\u00"#),
            (r#"{"a":"\"#, r#"{"a":"\"#),
            (r#"{"a":"\u00g1\/"}"#, r#"{"a":"\u00g1/"}"#),
        ] {
            assert_eq!(resolved(given), expected, "{given}");
        }
    }

    proptest! {
        #[test]
        fn a_body_means_the_same_before_and_after(text in r#"\{"[a-z\\/u0-9"]{0,12}":"([ -~]|\\\\|\\/|\\u00[0-9a-f]{2}|\\"){0,20}"\}"#) {
            let before: Option<serde_json::Value> = serde_json::from_str(&text).ok();
            let after: Option<serde_json::Value> = serde_json::from_str(&resolved(&text)).ok();
            prop_assert_eq!(before, after);
        }
    }
}
