//! Compact JWS (RFC 7515, section 7.1) with HMAC-SHA256, as a closed profile.
//!
//! Owns [`Jws`], the [`Room`] in which one is decoded, and [`sign`]. Invariants: the header says `HS256` and nothing
//! that could change what is checked or with which key; each part has one spelling; a signature is compared in
//! time that does not depend on it; what was decoded is wiped.

use core::fmt;

use zeroize::{Zeroizing, zeroize_bytes};

use super::TokenFault;
use super::object::{self, Value};
use crate::crypto::hash::Algorithm;
use crate::crypto::mac::tag_once;
use crate::encoding::{base64url_decode, base64url_encode};
use crate::limits::{TOKEN_DECODED_MAX_BYTES, TOKEN_MAX_BYTES};

const HEADER: &[u8] = br#"{"alg":"HS256","typ":"JWT"}"#;
const SIGNATURE_BYTES: usize = 32;

/// Where a token is decoded; wiped when dropped.
pub struct Room {
    bytes: [u8; TOKEN_DECODED_MAX_BYTES],
    /// How many bytes from the front were ever written.
    used: usize,
}

impl Room {
    /// Room for one token at a time.
    #[must_use]
    pub const fn new() -> Self {
        Self { bytes: [0; TOKEN_DECODED_MAX_BYTES], used: 0 }
    }
}

impl Default for Room {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        zeroize_bytes(self.bytes.get_mut(..self.used).unwrap_or_default());
    }
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Room(redacted)")
    }
}

/// A token in its parts, of which nothing is believed yet.
pub struct Jws<'a> {
    signed: &'a [u8],
    payload: &'a [u8],
    signature: &'a [u8],
}

impl fmt::Debug for Jws<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Jws(redacted)")
    }
}

impl<'a> Jws<'a> {
    /// Takes a token apart and looks at its header.
    ///
    /// # Errors
    /// [`TokenFault::Oversized`], [`TokenFault::Malformed`], [`TokenFault::Algorithm`], [`TokenFault::Type`],
    /// [`TokenFault::Header`]
    pub fn read(token: &'a [u8], room: &'a mut Room) -> Result<Self, TokenFault> {
        if token.len() > TOKEN_MAX_BYTES {
            return Err(TokenFault::Oversized);
        }
        let mut parts = token.split(|byte| *byte == b'.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(TokenFault::Malformed);
        };
        let (signed, _) =
            token.split_at_checked(header.len() + 1 + payload.len()).ok_or(TokenFault::Malformed)?;
        // Set before anything is written: no way out leaves bytes behind.
        room.used = room.used.max(token.len().min(TOKEN_DECODED_MAX_BYTES));
        let (header, rest) = decode(header, &mut room.bytes)?;
        look_at_header(header)?;
        let (payload, rest) = decode(payload, rest)?;
        let (signature, _) = decode(signature, rest)?;
        Ok(Self { signed, payload, signature })
    }

    /// What was signed, decoded.
    #[must_use]
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// Whether the signature is that of `secret`, in time that does not depend on either.
    #[must_use]
    pub fn is_authentic(&self, secret: &[u8]) -> bool {
        tag_once(Algorithm::Sha256, secret, &[self.signed]).matches(self.signature)
    }
}

/// Decodes a part into the front of `room`; returns it and the rest of the room.
fn decode<'a>(part: &[u8], room: &'a mut [u8]) -> Result<(&'a [u8], &'a mut [u8]), TokenFault> {
    let len = base64url_decode(part, room).ok_or(TokenFault::Malformed)?;
    let (decoded, rest) = room.split_at_mut_checked(len).ok_or(TokenFault::Malformed)?;
    Ok((decoded, rest))
}

/// Bears `alg` and `typ` and nothing else: any other member asks for something that is not done here, or names a key.
fn look_at_header(header: &[u8]) -> Result<(), TokenFault> {
    let mut has_algorithm = false;
    object::read(header, &mut |name, value| match (name, value) {
        ("alg", Value::Text(algorithm)) if algorithm == "HS256" => {
            has_algorithm = true;
            Ok(())
        }
        ("alg", _) => Err(TokenFault::Algorithm),
        ("typ", Value::Text(kind)) if kind.eq_ignore_ascii_case("JWT") => Ok(()),
        ("typ", _) => Err(TokenFault::Type),
        _ => Err(TokenFault::Header),
    })?;
    if has_algorithm { Ok(()) } else { Err(TokenFault::Algorithm) }
}

/// The token with this payload, signed with `secret`.
///
/// # Errors
/// [`TokenFault::Oversized`]
pub fn sign(secret: &[u8], payload: &[u8]) -> Result<Zeroizing<String>, TokenFault> {
    let encoded_len = |len: usize| (len * 4).div_ceil(3);
    let signed_len = encoded_len(HEADER.len()) + 1 + encoded_len(payload.len());
    let len = signed_len + 1 + encoded_len(SIGNATURE_BYTES);
    if len > TOKEN_MAX_BYTES {
        return Err(TokenFault::Oversized);
    }
    // Made at its length, so that growing leaves no copy.
    let mut token = Zeroizing::new(vec![b'.'; len]);
    let (signed, rest) = token.split_at_mut(signed_len);
    let (header_text, payload_text) = signed.split_at_mut(encoded_len(HEADER.len()));
    base64url_encode(HEADER, header_text).ok_or(TokenFault::Oversized)?;
    base64url_encode(payload, payload_text.split_at_mut(1).1).ok_or(TokenFault::Oversized)?;
    let signature = tag_once(Algorithm::Sha256, secret, &[signed]);
    base64url_encode(signature.as_bytes(), rest.split_at_mut(1).1).ok_or(TokenFault::Oversized)?;
    // It is ASCII, so the bytes become the string where they are.
    String::from_utf8(core::mem::take(&mut *token)).map(Zeroizing::new).map_err(|_| TokenFault::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7515, appendix A.1.
    const TOKEN: &str = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.\
        eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.\
        dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";

    #[test]
    fn the_room_holds_everything_that_is_decoded_and_is_wiped_as_far() {
        let mut room = Room::new();
        let jws = Jws::read(TOKEN.as_bytes(), &mut room).unwrap();
        assert!(jws.payload().starts_with(b"{\"iss\":\"joe\","));
        let decoded = room.bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        assert!(decoded > 100 && decoded <= room.used, "{decoded} of {}", room.used);
        // What fails halfway is within it too.
        let mut room = Room::new();
        let half = TOKEN.replace(".dBj", ".d=j");
        assert_eq!(Jws::read(half.as_bytes(), &mut room).err(), Some(TokenFault::Malformed));
        assert!(room.bytes.iter().rposition(|byte| *byte != 0).unwrap() < room.used);
    }

    #[test]
    fn debug_shows_nothing_of_a_token() {
        let mut room = Room::new();
        assert_eq!(format!("{room:?}"), "Room(redacted)");
        let jws = Jws::read(TOKEN.as_bytes(), &mut room).unwrap();
        assert_eq!(format!("{jws:?}"), "Jws(redacted)");
    }

    #[test]
    fn the_longest_token_is_signed_and_read_back() {
        let mut payload = vec![b'x'; 2_900];
        while sign(b"key", &payload).is_ok() {
            payload.push(b'x');
        }
        assert_eq!(sign(b"key", &payload).err(), Some(TokenFault::Oversized));
        payload.pop();
        let token = sign(b"key", &payload).unwrap();
        assert!(token.len() > TOKEN_MAX_BYTES - 4 && token.len() <= TOKEN_MAX_BYTES);
        let mut room = Room::new();
        let jws = Jws::read(token.as_bytes(), &mut room).unwrap();
        assert_eq!(jws.payload(), payload);
        assert!(jws.is_authentic(b"key") && !jws.is_authentic(b"kez"));
    }
}
