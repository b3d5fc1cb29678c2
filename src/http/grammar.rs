//! The few productions of RFC 9110 and RFC 3986 that several parsers share.
//!
//! Owns the table of character classes. Invariants: every function looks at its whole input and knows no
//! context; white space means SP and HTAB only.

const TOKEN: u8 = 1;
const PATH: u8 = 2;
const QUERY: u8 = 4;
const NAME: u8 = 8;

/// The classes of every byte value.
static CLASSES: [u8; 256] = classes();

#[expect(clippy::indexing_slicing, reason = "evaluated at compile time, where a wrong index does not build")]
const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut byte = 0usize;
    while byte < 256 {
        let letter = byte.to_le_bytes()[0];
        let unreserved = letter.is_ascii_alphanumeric() || matches!(letter, b'-' | b'.' | b'_' | b'~');
        let sub_delims =
            matches!(letter, b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=');
        let token = letter.is_ascii_alphanumeric()
            || matches!(letter, b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.')
            || matches!(letter, b'^' | b'_' | b'`' | b'|' | b'~');
        let path = unreserved || sub_delims || matches!(letter, b':' | b'@' | b'/');
        table[byte] = if token { TOKEN } else { 0 }
            | if path { PATH } else { 0 }
            | if path || letter == b'?' { QUERY } else { 0 }
            | if unreserved || sub_delims { NAME } else { 0 };
        byte += 1;
    }
    table
}

fn is(byte: u8, class: u8) -> bool {
    CLASSES.get(usize::from(byte)).is_some_and(|classes| classes & class != 0)
}

/// Whether the byte may stand in a token (RFC 9110, section 5.6.2).
#[must_use]
pub fn is_token_byte(byte: u8) -> bool {
    is(byte, TOKEN)
}

/// Whether the text is a token: not empty, token bytes only.
#[must_use]
pub fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|byte| is(*byte, TOKEN))
}

/// Whether the text is a path of RFC 3986, section 3.3: `pchar` and `/`, percent signs only in triplets.
#[must_use]
pub fn is_path(text: &[u8]) -> bool {
    is_made_of(text, PATH)
}

/// Whether the text is a query of RFC 3986, section 3.4.
#[must_use]
pub fn is_query(text: &[u8]) -> bool {
    is_made_of(text, QUERY)
}

/// Whether the text is a registered name of RFC 3986, section 3.2.2, and not empty.
#[must_use]
pub fn is_registered_name(text: &[u8]) -> bool {
    !text.is_empty() && is_made_of(text, NAME)
}

/// Whether the byte may stand in a field value: HTAB, SP, visible ASCII, or 0x80 and above.
#[must_use]
pub const fn is_value_byte(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// Whether the byte is SP or HTAB.
#[must_use]
pub const fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// The value of a hexadecimal digit of either case.
#[must_use]
pub const fn hex_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// The text without SP and HTAB at both ends.
#[must_use]
pub fn trim(mut text: &[u8]) -> &[u8] {
    while let [byte, rest @ ..] = text
        && is_blank(*byte)
    {
        text = rest;
    }
    while let [rest @ .., byte] = text
        && is_blank(*byte)
    {
        text = rest;
    }
    text
}

/// Splits at the first `separator` that is not inside a quoted string (RFC 9110, section 5.6.4).
///
/// Returns what stands before it and, if there is one, what stands after it.
#[must_use]
pub fn split_unquoted(text: &[u8], separator: u8) -> (&[u8], Option<&[u8]>) {
    let (mut quoted, mut escaped) = (false, false);
    for (at, byte) in text.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ if *byte == separator && !quoted => {
                let (before, rest) = text.split_at_checked(at).unwrap_or((text, &[]));
                return (before, rest.get(1..));
            }
            _ => {}
        }
    }
    (text, None)
}

/// Whether the text is one complete quoted string (RFC 9110, section 5.6.4).
#[must_use]
pub fn is_quoted_string(text: &[u8]) -> bool {
    let [b'"', inner @ .., b'"'] = text else { return false };
    let mut escaped = false;
    for byte in inner {
        match byte {
            _ if !is_value_byte(*byte) => return false,
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return false,
            _ => {}
        }
    }
    !escaped
}

fn is_made_of(text: &[u8], class: u8) -> bool {
    let mut rest = text;
    while let [byte, tail @ ..] = rest {
        rest = if is(*byte, class) {
            tail
        } else if let [b'%', high, low, tail @ ..] = rest
            && high.is_ascii_hexdigit()
            && low.is_ascii_hexdigit()
        {
            tail
        } else {
            return false;
        };
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_bytes_are_those_of_the_rfc() {
        let all: Vec<u8> = (0..=255).filter(|byte| is_token_byte(*byte)).collect();
        let text = "!#$%&'*+-.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ^_`abcdefghijklmnopqrstuvwxyz|~";
        assert_eq!(String::from_utf8(all).unwrap(), text);
        assert!(!is_token(b""));
    }

    #[test]
    fn paths_take_percent_signs_only_in_triplets() {
        for good in ["/", "/a/b;c=1", "/%41%2f", "/~a:b@c!$&'()*+,="] {
            assert!(is_path(good.as_bytes()), "{good}");
        }
        for bad in ["/%", "/%4", "/%4g", "/a b", "/a?b", "/a#b", "/\u{e9}", "/a\"", "/\\", "/{x}"] {
            assert!(!is_path(bad.as_bytes()), "{bad}");
        }
        assert!(is_query(b"a=/?:@b"));
        assert!(!is_query(b"a[]=1"));
    }

    #[test]
    fn splitting_looks_through_quoted_strings() {
        assert_eq!(split_unquoted(b"a;b", b';'), (&b"a"[..], Some(&b"b"[..])));
        assert_eq!(split_unquoted(b"a=\";\\\";\";b", b';'), (&b"a=\";\\\";\""[..], Some(&b"b"[..])));
        assert_eq!(split_unquoted(b"a=\";", b';'), (&b"a=\";"[..], None));
        assert_eq!(split_unquoted(b"a;", b';'), (&b"a"[..], Some(&b""[..])));
    }

    #[test]
    fn quoted_strings_must_be_complete() {
        for good in ["\"\"", "\"a b\"", "\"\\\"\"", "\"\\\\\""] {
            assert!(is_quoted_string(good.as_bytes()), "{good}");
        }
        for bad in ["", "\"", "a", "\"a", "\"\\\"", "\"a\"b\"", "\"\n\""] {
            assert!(!is_quoted_string(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn trimming_takes_blanks_only() {
        assert_eq!(trim(b" \t a b\t "), b"a b");
        assert_eq!(trim(b" \t"), b"");
        assert_eq!(trim(b"\x0ba"), b"\x0ba");
    }
}
