//! Base64 and hexadecimal, strict and in place.
//!
//! Owns the choice of alphabets: *standard* is RFC 4648 section 4 with padding, *url* is section 5 without.
//! Invariants: decoding accepts only the canonical form (no white space, no missing padding, no stray bits);
//! no function allocates unless its name says so.

use base64_simd::{AsOut as _, Base64, STANDARD, URL_SAFE_NO_PAD};

/// Length of the padded standard base64 of `len` bytes.
#[must_use]
pub const fn base64_len(len: usize) -> usize {
    len.div_ceil(3) * 4
}

/// Writes the padded standard base64 of `source` to the front of `target`.
///
/// Returns how many bytes were written, or nothing if `target` is too short.
pub fn base64_encode(source: &[u8], target: &mut [u8]) -> Option<usize> {
    encode(&STANDARD, base64_len(source.len()), source, target)
}

/// Decodes padded standard base64 in place.
///
/// Returns the length of the bytes that now stand at the front of `text`, or nothing if it was not canonical.
pub fn base64_decode_in_place(text: &mut [u8]) -> Option<usize> {
    STANDARD.decode_inplace(text).ok().map(|bytes| bytes.len())
}

/// Decodes padded standard base64 into the front of `target`.
///
/// Returns how many bytes were written, or nothing if the text is not canonical or `target` is too short.
pub fn base64_decode(text: &[u8], target: &mut [u8]) -> Option<usize> {
    decode(&STANDARD, text, target)
}

/// Decodes padded standard base64 into new memory.
#[must_use]
pub fn base64_decode_to_vec(text: &[u8]) -> Option<Vec<u8>> {
    STANDARD.decode_to_vec(text).ok()
}

/// Writes the unpadded URL-safe base64 of `source` to the front of `target`.
///
/// Returns how many bytes were written, or nothing if `target` is too short.
pub fn base64url_encode(source: &[u8], target: &mut [u8]) -> Option<usize> {
    encode(&URL_SAFE_NO_PAD, (source.len() * 4).div_ceil(3), source, target)
}

/// Decodes unpadded URL-safe base64 into the front of `target`.
///
/// Returns how many bytes were written, or nothing if the text is not canonical or `target` is too short.
pub fn base64url_decode(text: &[u8], target: &mut [u8]) -> Option<usize> {
    decode(&URL_SAFE_NO_PAD, text, target)
}

/// Writes the lower-case hexadecimal form of `source` to the front of `target`.
///
/// Returns how many bytes were written, or nothing if `target` is too short.
pub fn hex_encode(source: &[u8], target: &mut [u8]) -> Option<usize> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let target = target.get_mut(..source.len().checked_mul(2)?)?;
    for (pair, byte) in target.chunks_exact_mut(2).zip(source) {
        for (place, nibble) in pair.iter_mut().zip([byte >> 4, byte & 15]) {
            *place = DIGITS.get(usize::from(nibble)).copied()?;
        }
    }
    Some(target.len())
}

/// Decodes lower-case hexadecimal in place.
///
/// Returns the length of the bytes that now stand at the front of `text`, or nothing if it was not canonical.
pub fn hex_decode_in_place(text: &mut [u8]) -> Option<usize> {
    let len = text.len() / 2;
    for at in 0..len {
        let pair = [*text.get(2 * at)?, *text.get(2 * at + 1)?];
        *text.get_mut(at)? = hex_byte(pair)?;
    }
    text.len().is_multiple_of(2).then_some(len)
}

/// Decodes lower-case hexadecimal into the front of `target`.
///
/// Returns how many bytes were written, or nothing if the text is not canonical or `target` is too short.
pub fn hex_decode(text: &[u8], target: &mut [u8]) -> Option<usize> {
    let (pairs, rest) = text.as_chunks::<2>();
    let target = target.get_mut(..pairs.len()).filter(|_| rest.is_empty())?;
    for (byte, pair) in target.iter_mut().zip(pairs) {
        *byte = hex_byte(*pair)?;
    }
    Some(target.len())
}

fn hex_byte(pair: [u8; 2]) -> Option<u8> {
    let nibble = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let [high, low] = pair;
    Some(nibble(high)? << 4 | nibble(low)?)
}

fn decode(alphabet: &Base64, text: &[u8], target: &mut [u8]) -> Option<usize> {
    let len = alphabet.decoded_length(text).ok()?;
    let target = target.get_mut(..len)?;
    alphabet.decode(text, target.as_out()).ok().map(|bytes| bytes.len())
}

fn encode(alphabet: &Base64, len: usize, source: &[u8], target: &mut [u8]) -> Option<usize> {
    let target = target.get_mut(..len)?;
    Some(alphabet.encode(source, target.as_out()).len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_4648_section_10_vectors_round_trip() {
        for (plain, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            let mut buffer = [0u8; 16];
            let len = base64_encode(plain.as_bytes(), &mut buffer).unwrap();
            assert_eq!(&buffer[..len], text.as_bytes());
            let len = base64_decode_in_place(&mut buffer[..len]).unwrap();
            assert_eq!(&buffer[..len], plain.as_bytes());
        }
    }

    #[test]
    fn non_canonical_base64_is_refused() {
        for text in ["Zg", "Zg=", "Zh==", "Zm9=", "Zm 9v", "Zm9v\n", "Zm9-", "====", "Zg==Zg=="] {
            let mut bytes = text.as_bytes().to_vec();
            assert_eq!(base64_decode_in_place(&mut bytes), None, "{text:?}");
            assert_eq!(base64_decode_to_vec(text.as_bytes()), None, "{text:?}");
            assert_eq!(base64_decode(text.as_bytes(), &mut [0; 16]), None, "{text:?}");
        }
        let mut out = [0u8; 8];
        for text in ["Zg==", "Zh", "Zm9+", "Z"] {
            assert_eq!(base64url_decode(text.as_bytes(), &mut out), None, "{text:?}");
        }
    }

    #[test]
    fn targets_that_are_too_short_are_refused() {
        assert_eq!(base64_encode(b"abc", &mut [0; 3]), None);
        assert_eq!(base64url_encode(b"abc", &mut [0; 3]), None);
        assert_eq!(base64url_decode(b"AAAA", &mut [0; 2]), None);
        assert_eq!(base64_decode(b"AAAA", &mut [0; 2]), None);
        assert_eq!(hex_encode(b"ab", &mut [0; 3]), None);
    }

    #[test]
    fn hexadecimal_has_one_form() {
        let mut bytes = *b"0fa0ff";
        assert_eq!(hex_decode_in_place(&mut bytes), Some(3));
        assert_eq!(&bytes[..3], &[0x0f, 0xa0, 0xff]);
        let mut target = [0u8; 3];
        assert_eq!(hex_decode(b"0fa0", &mut target), Some(2));
        assert_eq!(&target[..2], &[0x0f, 0xa0]);
        for text in ["0", "0F", "0g", " 0", "0x00", "000", "0:"] {
            assert_eq!(hex_decode_in_place(&mut text.as_bytes().to_vec()), None, "{text}");
            assert_eq!(hex_decode(text.as_bytes(), &mut [0; 8]), None, "{text}");
        }
        assert_eq!(hex_decode(b"00000000", &mut target), None);
        assert_eq!(hex_decode_in_place(&mut []), Some(0));
    }

    #[test]
    fn hex_and_url_forms_are_written() {
        let mut out = [0u8; 8];
        assert_eq!(hex_encode(&[0x0f, 0xa0], &mut out), Some(4));
        assert_eq!(&out[..4], b"0fa0");
        assert_eq!(base64url_encode(&[0xfb, 0xff], &mut out), Some(3));
        assert_eq!(&out[..3], b"-_8");
        let mut back = [0u8; 2];
        assert_eq!(base64url_decode(b"-_8", &mut back), Some(2));
        assert_eq!(back, [0xfb, 0xff]);
    }
}
