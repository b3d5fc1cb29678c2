//! The forms in which a ciphertext leaves the program and comes back.
//!
//! Owns both forms of one and the same body, `nonce || ciphertext || tag`:
//!
//! - **text**: `quantonium:v<N>:` and the body in standard padded base64 (RFC 4648 section 4). `vault:v<N>:`,
//!   as written by Vault and OpenBao for the same key types, is read as well;
//! - **binary**: `QN`, the byte 0x01, N as 32 bits big-endian, and the body.
//!
//! `<N>` is the key version: canonical decimal from 1 to 4294967295, no sign, no leading zero. Vault takes
//! version 0 for 1; here it is refused in both forms, so that a ciphertext has one spelling per prefix.
//!
//! Invariants: nothing is copied or allocated when reading; what is written by one function of a pair is read
//! by the other; the length functions are exact. The forms bind nothing: neither version nor prefix are
//! authenticated, and the AEADs do not commit to their key, as in Vault.

use super::aead::{Algorithm, TAG_BYTES};
use crate::encoding::{base64_encode, base64_len};
use crate::limits;

/// Prefix of the text form that is written.
pub const TEXT_PREFIX: &[u8] = b"quantonium:v";
/// Prefix of the text form that is only read.
pub const VAULT_PREFIX: &[u8] = b"vault:v";
/// First bytes of the binary form: a magic and the format's number.
pub const BINARY_MAGIC: &[u8; 3] = b"QN\x01";
/// Length of the binary form before its body.
pub const BINARY_HEADER_BYTES: usize = BINARY_MAGIC.len() + 4;
/// Longest prefix of the text form, with the greatest version.
pub const TEXT_PREFIX_MAX_BYTES: usize = TEXT_PREFIX.len() + VERSION_DIGITS_MAX + 1;

/// Decimal digits of the greatest version.
const VERSION_DIGITS_MAX: usize = 10;
/// Bytes of ciphertext that the text form encodes together with the tag, at most: base64 goes by threes.
const BODY_END_MAX_BYTES: usize = 2 + TAG_BYTES;

const _: () = {
    assert!(TEXT_PREFIX_MAX_BYTES + 24 + TAG_BYTES <= limits::ENVELOPE_OVERHEAD_MAX_BYTES);
    assert!(BINARY_HEADER_BYTES + 24 + TAG_BYTES <= limits::ENVELOPE_OVERHEAD_MAX_BYTES);
};

/// One of the two forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Prefix, version and base64.
    Text,
    /// Magic, version and octets.
    Binary,
}

/// Says by its first bytes which form `bytes` claims to have. It may still not parse.
#[must_use]
pub fn recognise(bytes: &[u8]) -> Option<Form> {
    if bytes.starts_with(BINARY_MAGIC) {
        Some(Form::Binary)
    } else if bytes.starts_with(TEXT_PREFIX) || bytes.starts_with(VAULT_PREFIX) {
        Some(Form::Text)
    } else {
        None
    }
}

/// Splits the text form into the key version and the base64 of the body, which is not looked at.
///
/// The second part is the end of `text`, so that `text.len() - body.len()` is where it begins.
#[must_use]
pub fn parse_text(text: &[u8]) -> Option<(u32, &[u8])> {
    let rest = text.strip_prefix(TEXT_PREFIX).or_else(|| text.strip_prefix(VAULT_PREFIX))?;
    let colon = rest.iter().take(VERSION_DIGITS_MAX + 1).position(|byte| *byte == b':')?;
    let (digits, rest) = rest.split_at_checked(colon)?;
    Some((parse_version(digits)?, rest.split_first()?.1))
}

/// Splits the binary form into the key version and the body.
#[must_use]
pub fn parse_binary(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (version, body) = bytes.strip_prefix(BINARY_MAGIC)?.split_first_chunk::<4>()?;
    let version = u32::from_be_bytes(*version);
    (version != 0).then_some((version, body))
}

/// Splits a decoded body into nonce, ciphertext and tag, the ciphertext ready to be opened in place.
#[must_use]
pub fn split_body(algorithm: Algorithm, body: &mut [u8]) -> Option<(&[u8], &mut [u8], &[u8; TAG_BYTES])> {
    let (nonce, rest) = body.split_at_mut_checked(algorithm.nonce_len())?;
    let (ciphertext, tag) = rest.split_last_chunk_mut::<TAG_BYTES>()?;
    Some((nonce, ciphertext, tag))
}

/// Length of the text form of a plaintext of `plaintext_len` bytes; nothing for version 0 and on overflow.
#[must_use]
pub fn text_len(version: u32, algorithm: Algorithm, plaintext_len: usize) -> Option<usize> {
    let body = body_len(algorithm, plaintext_len)?;
    // `base64_len` multiplies by four thirds: refuse what cannot be a length of memory before it does.
    let body = (body <= usize::MAX / 2).then(|| base64_len(body))?;
    body.checked_add(text_prefix_len(version)?)
}

/// Length of the binary form of a plaintext of `plaintext_len` bytes; nothing on overflow.
#[must_use]
pub fn binary_len(algorithm: Algorithm, plaintext_len: usize) -> Option<usize> {
    body_len(algorithm, plaintext_len)?.checked_add(BINARY_HEADER_BYTES)
}

/// Length of `quantonium:v<N>:`; nothing for version 0.
#[must_use]
pub fn text_prefix_len(version: u32) -> Option<usize> {
    let digits = version.checked_ilog10()? as usize + 1;
    Some(TEXT_PREFIX.len() + digits + 1)
}

/// Writes `quantonium:v<N>:` to the front of `target`.
///
/// Returns how many bytes were written, or nothing if `target` is too short or the version is 0.
pub fn write_text_prefix(target: &mut [u8], version: u32) -> Option<usize> {
    let len = text_prefix_len(version)?;
    let (prefix, rest) = target.get_mut(..len)?.split_at_mut_checked(TEXT_PREFIX.len())?;
    prefix.copy_from_slice(TEXT_PREFIX);
    let (colon, digits) = rest.split_last_mut()?;
    *colon = b':';
    let mut left = version;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + u8::try_from(left % 10).ok()?;
        left /= 10;
    }
    Some(len)
}

/// Writes the header of the binary form to the front of `target`.
///
/// Returns how many bytes were written, or nothing if `target` is too short or the version is 0.
pub fn write_binary_header(target: &mut [u8], version: u32) -> Option<usize> {
    if version == 0 {
        return None;
    }
    let header = target.get_mut(..BINARY_HEADER_BYTES)?;
    let (magic, number) = header.split_at_mut_checked(BINARY_MAGIC.len())?;
    magic.copy_from_slice(BINARY_MAGIC);
    number.copy_from_slice(&version.to_be_bytes());
    Some(BINARY_HEADER_BYTES)
}

/// Writes the base64 of `nonce || ciphertext || tag` to the front of `target`, without joining the three first.
///
/// Returns how many bytes were written, or nothing if `target` is too short or the length of `nonce` is not a
/// multiple of 3, as those of both [`Algorithm`]s are.
pub fn write_text_body(
    target: &mut [u8],
    nonce: &[u8],
    ciphertext: &[u8],
    tag: &[u8; TAG_BYTES],
) -> Option<usize> {
    if !nonce.len().is_multiple_of(3) {
        return None;
    }
    let (whole, left) = ciphertext.split_at_checked(ciphertext.len() - ciphertext.len() % 3)?;
    let mut end = [0u8; BODY_END_MAX_BYTES];
    let end = end.get_mut(..left.len() + TAG_BYTES)?;
    let (first, second) = end.split_at_mut_checked(left.len())?;
    first.copy_from_slice(left);
    second.copy_from_slice(tag);

    let mut written = base64_encode(nonce, target)?;
    written += base64_encode(whole, target.get_mut(written..)?)?;
    written += base64_encode(end, target.get_mut(written..)?)?;
    Some(written)
}

fn body_len(algorithm: Algorithm, plaintext_len: usize) -> Option<usize> {
    plaintext_len.checked_add(algorithm.nonce_len() + TAG_BYTES)
}

/// Reads a canonical decimal from 1 to 4294967295.
fn parse_version(digits: &[u8]) -> Option<u32> {
    if digits.first() == Some(&b'0') {
        return None;
    }
    let value = digits.iter().try_fold(0u32, |value, byte| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit <= 9)?;
        value.checked_mul(10)?.checked_add(u32::from(digit))
    })?;
    (value != 0).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding::base64_decode_to_vec;

    const BOTH: [Algorithm; 2] = [Algorithm::ChaCha20Poly1305, Algorithm::XChaCha20Poly1305];
    const VERSIONS: [u32; 8] = [1, 9, 10, 99, 100, 65_535, 1_000_000_000, u32::MAX];

    #[test]
    fn text_is_read_with_either_prefix() {
        assert_eq!(parse_text(b"quantonium:v1:AAAA"), Some((1, &b"AAAA"[..])));
        assert_eq!(parse_text(b"vault:v20:AA:A"), Some((20, &b"AA:A"[..])));
        assert_eq!(parse_text(b"vault:v4294967295:"), Some((u32::MAX, &b""[..])));
    }

    #[test]
    fn other_spellings_of_a_version_are_refused() {
        for version in [
            "",
            "0",
            "00",
            "01",
            "+1",
            "-1",
            " 1",
            "1 ",
            "1_0",
            "0x1",
            "4294967296",
            "99999999999",
            "\u{661}",
        ] {
            for prefix in ["quantonium:v", "vault:v"] {
                let text = format!("{prefix}{version}:AAAA");
                assert_eq!(parse_text(text.as_bytes()), None, "{text}");
            }
        }
        for text in
            ["", "quantonium", "quantonium:v", "quantonium:v1", "quantonium:1:A", "Vault:v1:A", "v1:A"]
        {
            assert_eq!(parse_text(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn binary_headers_round_trip_and_others_are_refused() {
        for version in VERSIONS {
            let mut bytes = *b"\xEE\xEE\xEE\xEE\xEE\xEE\xEEbody";
            assert_eq!(write_binary_header(&mut bytes, version), Some(7));
            assert_eq!(parse_binary(&bytes), Some((version, &b"body"[..])));
            assert_eq!(recognise(&bytes), Some(Form::Binary));
        }
        for bytes in
            [&b""[..], b"QN\x01", b"QN\x01\0\0\0", b"QN\x01\0\0\0\0body", b"QN\x02\0\0\0\x01", b"QNS\x01"]
        {
            assert_eq!(parse_binary(bytes), None, "{bytes:?}");
        }
        assert_eq!(write_binary_header(&mut [0; 7], 0), None);
        assert_eq!(write_binary_header(&mut [0; 6], 1), None);
    }

    #[test]
    fn forms_are_told_apart_by_their_first_bytes() {
        assert_eq!(recognise(b"quantonium:v1:AAAA"), Some(Form::Text));
        assert_eq!(recognise(b"vault:v1:AAAA"), Some(Form::Text));
        assert_eq!(recognise(b"quantonium:"), None);
        assert_eq!(recognise(b"QN"), None);
        assert_eq!(recognise(b""), None);
    }

    #[test]
    fn text_prefixes_round_trip_at_every_number_of_digits() {
        for version in VERSIONS {
            let mut target = [0u8; TEXT_PREFIX_MAX_BYTES];
            let len = write_text_prefix(&mut target, version).unwrap();
            assert_eq!(&target[..len], format!("quantonium:v{version}:").as_bytes());
            assert_eq!(parse_text(&target[..len]), Some((version, &b""[..])));
            assert_eq!(write_text_prefix(&mut target[..len - 1], version), None);
        }
        assert_eq!(write_text_prefix(&mut [0; 32], 0), None);
    }

    #[test]
    fn a_body_is_written_as_the_base64_of_its_three_parts() {
        for algorithm in BOTH {
            for len in 0..40u8 {
                let nonce = vec![0xA1; algorithm.nonce_len()];
                let ciphertext: Vec<u8> = (0..len).collect();
                let tag = [0xC3; TAG_BYTES];
                let mut target = vec![0u8; 200];
                let prefix = write_text_prefix(&mut target, 77).unwrap();
                let body = write_text_body(&mut target[prefix..], &nonce, &ciphertext, &tag).unwrap();
                assert_eq!(Some(prefix + body), text_len(77, algorithm, ciphertext.len()));

                let (version, text) = parse_text(&target[..prefix + body]).unwrap();
                assert_eq!(version, 77);
                let mut decoded = base64_decode_to_vec(text).unwrap();
                assert_eq!(decoded, [&nonce[..], &ciphertext, &tag].concat());
                assert_eq!(
                    binary_len(algorithm, ciphertext.len()),
                    Some(BINARY_HEADER_BYTES + decoded.len())
                );
                let (first, middle, last) = split_body(algorithm, &mut decoded).unwrap();
                assert_eq!((first, &*middle, last), (&nonce[..], &ciphertext[..], &tag));

                assert_eq!(write_text_body(&mut target[..body - 1], &nonce, &ciphertext, &tag), None);
            }
        }
        assert_eq!(write_text_body(&mut [0; 200], &[0; 8], b"abc", &[0; TAG_BYTES]), None);
    }

    #[test]
    fn bodies_that_are_too_short_do_not_split() {
        for algorithm in BOTH {
            let least = algorithm.nonce_len() + TAG_BYTES;
            assert!(split_body(algorithm, &mut vec![0; least]).is_some());
            assert!(split_body(algorithm, &mut vec![0; least - 1]).is_none());
            assert!(split_body(algorithm, &mut []).is_none());
        }
    }

    #[test]
    fn lengths_that_overflow_are_refused() {
        for algorithm in BOTH {
            assert_eq!(text_len(1, algorithm, usize::MAX), None);
            assert_eq!(text_len(1, algorithm, usize::MAX / 2), None);
            assert_eq!(binary_len(algorithm, usize::MAX - 20), None);
            assert_eq!(text_len(0, algorithm, 1), None);
        }
    }
}
