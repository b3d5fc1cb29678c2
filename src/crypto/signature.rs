//! The text form of a signature: `quantonium:v<N>:` and the HMAC tag in standard padded base64.
//!
//! Owns writing and reading. `vault:v<N>:`, as Vault and OpenBao write it, is read as well; prefix and version
//! follow the rules of [`envelope`]. Invariants: nothing allocates; only the canonical base64 of a whole tag of
//! SHA-256, SHA-384 or SHA-512 is read, so that a signature has one spelling per prefix; what is written is
//! read back; whether a tag is right is for [`mac`](super::mac) to say.

use super::envelope;
use super::hash::Algorithm;
use super::mac::Tag;
use crate::encoding::{base64_decode, base64_encode, base64_len};
use crate::limits::DIGEST_MAX_BYTES;

/// Longest text form: the greatest version and the longest tag.
pub const TEXT_MAX_BYTES: usize = envelope::TEXT_PREFIX_MAX_BYTES + base64_len(DIGEST_MAX_BYTES);

const ALGORITHMS: [Algorithm; 3] = [Algorithm::Sha256, Algorithm::Sha384, Algorithm::Sha512];

/// A tag that somebody claims to be right. It is not secret: its sender had it.
#[derive(Clone, Copy, Debug)]
pub struct Presented {
    bytes: [u8; DIGEST_MAX_BYTES],
    algorithm: Algorithm,
}

impl Presented {
    /// The tag: as many bytes as one of the hashes has.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.split_at(self.algorithm.digest_len()).0
    }
}

/// Length of the text form; nothing for version 0.
#[must_use]
pub fn text_len(version: u32, algorithm: Algorithm) -> Option<usize> {
    Some(envelope::text_prefix_len(version)? + base64_len(algorithm.digest_len()))
}

/// Writes the text form to the front of `target`.
///
/// Returns how many bytes were written, or nothing if `target` is too short or the version is 0.
pub fn write_text(target: &mut [u8], version: u32, tag: &Tag) -> Option<usize> {
    let prefix = envelope::write_text_prefix(target, version)?;
    Some(prefix + base64_encode(tag.as_bytes(), target.get_mut(prefix..)?)?)
}

/// Reads the text form: the key version and the tag.
#[must_use]
pub fn parse_text(text: &[u8]) -> Option<(u32, Presented)> {
    let (version, body) = envelope::parse_text(text)?;
    let algorithm = ALGORITHMS.into_iter().find(|one| base64_len(one.digest_len()) == body.len())?;
    let mut bytes = [0; DIGEST_MAX_BYTES];
    // Other padding at the same length of text is a tag of another length.
    let len = base64_decode(body, &mut bytes)?;
    (len == algorithm.digest_len()).then_some((version, Presented { bytes, algorithm }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::mac::MacKey;

    fn written(version: u32, tag: &Tag) -> Vec<u8> {
        let mut target = vec![0; TEXT_MAX_BYTES];
        let len = write_text(&mut target, version, tag).unwrap();
        target.truncate(len);
        target
    }

    #[test]
    fn every_tag_is_read_back_from_either_prefix() {
        for algorithm in ALGORITHMS {
            for version in [1, 9, 10, 4_294_967_295] {
                let tag = MacKey::new(algorithm, b"key").tag(&[b"message"]);
                let text = written(version, &tag);
                assert_eq!(text_len(version, algorithm), Some(text.len()));
                let vault = String::from_utf8(text.clone()).unwrap().replace("quantonium:", "vault:");
                for text in [text.as_slice(), vault.as_bytes()] {
                    let (read, presented) = parse_text(text).unwrap();
                    assert_eq!(read, version);
                    assert_eq!(presented.as_bytes(), tag.as_bytes());
                    assert!(tag.matches(presented.as_bytes()));
                }
            }
        }
    }

    #[test]
    fn the_longest_form_has_its_length_and_nothing_is_written_into_less_room() {
        let tag = MacKey::new(Algorithm::Sha512, b"key").tag(&[]);
        let text = written(u32::MAX, &tag);
        assert_eq!(text.len(), TEXT_MAX_BYTES);
        for len in 0..TEXT_MAX_BYTES {
            assert_eq!(write_text(&mut vec![0; len], u32::MAX, &tag), None, "{len}");
        }
        assert_eq!(write_text(&mut [0; TEXT_MAX_BYTES], 0, &tag), None);
        assert_eq!(text_len(0, Algorithm::Sha256), None);
    }

    #[test]
    fn other_spellings_and_lengths_are_refused() {
        let text = String::from_utf8(written(1, &MacKey::new(Algorithm::Sha256, b"key").tag(&[]))).unwrap();
        let body = text.strip_prefix("quantonium:v1:").unwrap();
        assert!(parse_text(text.as_bytes()).is_some());
        for wrong in [
            body.to_owned(),
            format!("quantonium:v0:{body}"),
            format!("quantonium:v01:{body}"),
            format!("quantonium:v1:{}", body.trim_end_matches('=')),
            format!("quantonium:v1:{body}="),
            format!("quantonium:v1:{body}\n"),
            format!("quantonium:v1: {body}"),
            format!("quantonium:v1:sha2-256:{body}"),
            // 31 and 33 bytes, in as many characters as 32.
            format!("quantonium:v1:{}A==", &body[..41]),
            format!("quantonium:v1:{}", "A".repeat(44)),
            // 66 bytes, in as many characters as 64.
            format!("quantonium:v1:{}", "A".repeat(88)),
            "quantonium:v1:".to_owned(),
        ] {
            assert!(parse_text(wrong.as_bytes()).is_none(), "{wrong}");
        }
        for len in 0..100 {
            if !ALGORITHMS.iter().any(|algorithm| algorithm.digest_len() == len) {
                let mut text = b"quantonium:v1:".to_vec();
                let mut body = vec![0; base64_len(len)];
                base64_encode(&vec![7; len], &mut body).unwrap();
                text.extend(body);
                assert!(parse_text(&text).is_none(), "{len} bytes");
            }
        }
        // The last character carries four bits: another one with the same four would be a second spelling.
        for last in b'A'..=b'Z' {
            let mut respelt = text.clone().into_bytes();
            let at = respelt.len() - 2;
            respelt[at] = last;
            if let Some((_, presented)) = parse_text(&respelt) {
                let mut again = vec![0; body.len()];
                base64_encode(presented.as_bytes(), &mut again).unwrap();
                assert!(respelt.ends_with(&again));
            }
        }
    }
}
