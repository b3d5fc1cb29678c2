//! What clients of Vault are told when something is refused: its texts and statuses for the codes of this server.
//!
//! Owns the translation. Invariants: the code stays the same, so that the audit log speaks one language; whoever may not
//! do something is told neither more nor less than by the native API.

use crate::api::Rejection;
use crate::http::responder::Fault;
use crate::http::status::Status;

/// There is nothing to be read: a list of errors without a text, as clients expect it.
pub const NOTHING_THERE: Fault<'static> = Fault::new(Status::NotFound, "unknown_key", "");

/// A refusal of what was sent.
#[must_use]
pub const fn bad(code: &'static str, detail: String) -> Rejection {
    Rejection::Described { status: Status::BadRequest, code, detail }
}

/// A refusal of what was sent, with a fixed text.
#[must_use]
pub const fn fault(code: &'static str, detail: &'static str) -> Fault<'static> {
    Fault::new(Status::BadRequest, code, detail)
}

/// Says the same in the words of Vault.
#[must_use]
pub fn translate(rejection: Rejection) -> Rejection {
    match rejection {
        Rejection::Fault(Fault { detail: "", .. }) => rejection,
        Rejection::Fault(Fault { status, code, .. }) => match words(code) {
            Some(text) => fault(code, text).into(),
            None if status == Status::NotFound => fault(code, "encryption key not found").into(),
            None => rejection,
        },
        other => other,
    }
}

/// What an item of a batch is told.
#[must_use]
pub fn text_of(rejection: &Rejection) -> &str {
    match rejection {
        Rejection::Fault(Fault { code, detail, .. }) => words(code).unwrap_or(detail),
        Rejection::Described { detail, .. } => detail,
        Rejection::Unrecognised(_) => "permission denied",
        Rejection::Overloaded => rejection.detail(),
    }
}

/// What Vault says where this server has that code.
const fn words(code: &str) -> Option<&'static str> {
    Some(match code.as_bytes() {
        b"unknown_key" => "encryption key not found",
        b"key_deleted" => "refusing to use soft-deleted key",
        b"decryption_failed" => "cipher: message authentication failed",
        b"key_version_too_old" => "ciphertext or signature version is disallowed by policy (too old)",
        b"context_required" => {
            "missing 'context' for key derivation; the key was created using a derived key, which means additional, per-request information must be included in order to perform operations with the key"
        }
        b"context_not_allowed" => "'context' was sent for a key that is not a derived one",
        b"malformed_context" => "failed to base64-decode context, or it is longer than 1024 bytes",
        b"malformed_associated_data" => {
            "failed to base64-decode associated_data, or it is longer than 4096 bytes"
        }
        b"deletion_not_allowed" => "deletion is not allowed for this key",
        b"key_exists" => "a key of that name exists with other options",
        b"key_not_exportable" => "private key material is not exportable",
        b"bits_not_allowed" => "invalid bit length",
        b"policy_not_allowed" => {
            "the versions do not fit: a bound must name a version that the key has, min_encryption_version may not be below min_decryption_version, and what is trimmed must lie below both"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{FORBIDDEN, UNKNOWN_KEY};

    #[test]
    fn a_key_that_is_not_there_is_a_bad_request_when_it_is_to_be_used() {
        let Rejection::Fault(fault) = translate(UNKNOWN_KEY.into()) else { panic!("a fault") };
        assert_eq!((fault.status, fault.code), (Status::BadRequest, "unknown_key"));
        assert_eq!(fault.detail, "encryption key not found");
        let Rejection::Fault(fault) = translate(NOTHING_THERE.into()) else { panic!("a fault") };
        assert_eq!((fault.status, fault.detail), (Status::NotFound, ""));
    }

    #[test]
    fn what_is_forbidden_stays_forbidden() {
        let Rejection::Fault(fault) = translate(FORBIDDEN.into()) else { panic!("a fault") };
        assert_eq!(fault, FORBIDDEN);
    }
}
