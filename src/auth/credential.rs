//! What a request may carry to say who asks.
//!
//! Owns the reading of `X-API-Key` and `Authorization: Bearer` (RFC 6750, section 2.1). Invariants: exactly one
//! credential is looked at; a request with two is refused, so that no intermediary and this server can disagree on
//! which one counts.

use crate::limits::CREDENTIAL_MAX_BYTES;

/// Why a request brings no usable credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialFault {
    /// None was sent.
    Missing,
    /// Two were sent.
    Repeated,
    /// It is not of a form that could ever be valid.
    Malformed,
}

/// Finds the credential among the values of `X-API-Key` and `Authorization`.
///
/// # Errors
/// [`CredentialFault`]
pub fn find<'a>(
    api_key: Option<&'a [u8]>,
    authorization: Option<&'a [u8]>,
) -> Result<&'a [u8], CredentialFault> {
    let credential = match (api_key, authorization) {
        (None, None) => return Err(CredentialFault::Missing),
        (Some(_), Some(_)) => return Err(CredentialFault::Repeated),
        (Some(key), None) => key,
        (None, Some(value)) => bearer(value).ok_or(CredentialFault::Malformed)?,
    };
    if credential.is_empty() || credential.len() > CREDENTIAL_MAX_BYTES {
        return Err(CredentialFault::Malformed);
    }
    Ok(credential)
}

/// The token of a `Bearer` credential; the scheme's letters may be of either case (RFC 9110, section 11.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked(6)?;
    let token = rest.trim_ascii_start();
    (scheme.eq_ignore_ascii_case(b"bearer") && token.len() < rest.len()).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_credential_is_found_in_either_field() {
        assert_eq!(find(Some(b"k"), None), Ok(&b"k"[..]));
        assert_eq!(find(None, Some(b"Bearer  k")), Ok(&b"k"[..]));
        assert_eq!(find(None, Some(b"bEARER k")), Ok(&b"k"[..]));
    }

    #[test]
    fn none_two_and_malformed_ones_are_told_apart() {
        assert_eq!(find(None, None), Err(CredentialFault::Missing));
        assert_eq!(find(Some(b"k"), Some(b"Bearer k")), Err(CredentialFault::Repeated));
        for bad in [&b"Basic a2V5"[..], b"Bearer", b"Bearer ", b"Bearerk", b"", b"k"] {
            assert_eq!(find(None, Some(bad)), Err(CredentialFault::Malformed), "{bad:?}");
        }
        assert_eq!(find(Some(b""), None), Err(CredentialFault::Malformed));
        assert_eq!(find(Some(&[b'k'; CREDENTIAL_MAX_BYTES + 1]), None), Err(CredentialFault::Malformed));
    }
}
