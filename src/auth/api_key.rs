//! The text form of an API key: `qk_<8 hexadecimal digits>.<43 base64url characters>`.
//!
//! Owns making and taking apart that form. Invariants: the secret is 32 random bytes; a parsed secret is wiped when
//! it is dropped; text that is not exactly of the form is no key.

use zeroize::{Zeroize as _, Zeroizing};

use crate::encoding::{base64url_decode, base64url_encode, hex_encode};
use crate::model::ApiKeyId;

/// Length of the secret part, decoded.
pub const SECRET_BYTES: usize = 32;
const PREFIX: &[u8] = b"qk_";
const SECRET_TEXT_BYTES: usize = 43;
const TEXT_BYTES: usize = PREFIX.len() + ApiKeyId::LEN + 1 + SECRET_TEXT_BYTES;

/// A key as it was sent.
pub struct Presented {
    /// The public part.
    pub id: [u8; ApiKeyId::LEN],
    /// The secret part.
    pub secret: Zeroizing<[u8; SECRET_BYTES]>,
}

impl core::fmt::Debug for Presented {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Presented").field("id", &self.id.escape_ascii()).finish_non_exhaustive()
    }
}

/// Takes a key's text apart.
#[must_use]
pub fn parse(text: &[u8]) -> Option<Presented> {
    let rest = text.strip_prefix(PREFIX)?;
    let (id, rest) = rest.split_first_chunk::<{ ApiKeyId::LEN }>()?;
    let secret_text = rest.strip_prefix(b".").filter(|text| text.len() == SECRET_TEXT_BYTES)?;
    if !id.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    let mut secret = Zeroizing::new([0; SECRET_BYTES]);
    base64url_decode(secret_text, &mut *secret).filter(|len| *len == SECRET_BYTES)?;
    Some(Presented { id: *id, secret })
}

/// Makes the text of a new key, its randomness from `draw`.
///
/// # Errors
/// What `draw` returns.
pub fn generate<E>(mut draw: impl FnMut(&mut [u8]) -> Result<(), E>) -> Result<Zeroizing<String>, E> {
    let mut id = [0; ApiKeyId::LEN / 2];
    let mut secret = Zeroizing::new([0; SECRET_BYTES]);
    draw(&mut id)?;
    draw(&mut *secret)?;
    let mut text = Zeroizing::new([0u8; TEXT_BYTES]);
    let (prefix, rest) = text.split_at_mut(PREFIX.len());
    prefix.copy_from_slice(PREFIX);
    let (id_text, rest) = rest.split_at_mut(ApiKeyId::LEN);
    hex_encode(&id, id_text);
    let (dot, secret_text) = rest.split_at_mut(1);
    dot.fill(b'.');
    base64url_encode(&*secret, secret_text);
    id.zeroize();
    Ok(Zeroizing::new(String::from_utf8_lossy(&*text).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counting() -> impl FnMut(&mut [u8]) -> Result<(), ()> {
        let mut next = 0xF0u8;
        move |bytes| {
            bytes.iter_mut().for_each(|byte| {
                *byte = next;
                next = next.wrapping_add(1);
            });
            Ok(())
        }
    }

    #[test]
    fn a_generated_key_is_of_the_form_and_parses_back() {
        let text = generate(counting()).unwrap();
        assert_eq!(text.len(), TEXT_BYTES);
        assert!(text.starts_with("qk_f0f1f2f3."), "{}", text.as_str());
        let parsed = parse(text.as_bytes()).unwrap();
        assert_eq!(&parsed.id, b"f0f1f2f3");
        assert_eq!(parsed.secret[0], 0xF4);
        assert!(!format!("{parsed:?}").contains("244"));
    }

    #[test]
    fn anything_else_is_no_key() {
        let good = generate(counting()).unwrap();
        let good = good.as_str();
        let mut bad: Vec<String> = vec![String::new(), "qk_".into(), good[1..].into(), good.to_uppercase()];
        bad.push(format!("{good}A"));
        bad.push(format!("{good}="));
        bad.push(good[..good.len() - 1].into());
        bad.push(good.replace('.', "_"));
        bad.push(good.replace("qk_f0", "qk_g0"));
        bad.push(format!("{} ", &good[..good.len() - 1]));
        // The last character carries four bits of the secret and two that must be zero.
        bad.push(format!("{}B", &good[..good.len() - 1]));
        for text in bad {
            assert!(parse(text.as_bytes()).is_none(), "{text:?}");
        }
    }

    #[test]
    fn without_randomness_there_is_no_key() {
        assert_eq!(generate(|_| Err("no")).err(), Some("no"));
    }
}
