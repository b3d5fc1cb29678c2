//! The API of the transit engine of Vault and `OpenBao`, below `/v1/`: a second face of the same keys.
//!
//! - `route`: its table, and the search in it.
//! - `members`, `envelope`, `errors`: how requests are read, replies are wrapped and refusals are told there.
//! - `payload`, `datakey`, `plain`: encrypting, decrypting, rewrapping, HMACs, data keys; random bytes and hashes.
//! - `keys`, `material`: the life of keys; export, backup, restore and import.
//! - `token`, `system`: who asks, and how the server is, in the words of its clients.
//!
//! Invariants: nothing is done here that the native API does not do: the same key ring, permissions, audit events and
//! limits; a member that cannot be honoured is refused where it would change the result, and passed over elsewhere;
//! where Vault does what surprises, `docs/VAULT.md` says what is done instead.

pub mod datakey;
pub mod envelope;
pub mod errors;
pub mod keys;
pub mod material;
pub mod members;
pub mod payload;
pub mod plain;
pub mod route;
pub mod system;
pub mod token;

use crate::api::{Call, Rejection};
use crate::crypto::hash::Algorithm;
use crate::http::responder::Fault;

const BAD_ALGORITHM: Fault<'static> = errors::fault(
    "unknown_algorithm",
    "unsupported algorithm: those of this server are sha2-256, sha2-384 and sha2-512",
);

/// What stands in the path behind the variable part that the table names: an algorithm, a version, a number.
#[must_use]
pub fn second_of<'a>(call: &Call<'a>) -> Option<&'a str> {
    // Before it stand `v1`, the mount, the operation and the variable part.
    segment_of(call, 5)
}

/// A segment of the path: the first, before the first slash, is empty.
fn segment_of<'a>(call: &Call<'a>, index: usize) -> Option<&'a str> {
    let path = call.arrival.head.path(call.arrival.bytes);
    let segment = path.split(|byte| *byte == b'/').nth(index)?;
    str::from_utf8(segment).ok().filter(|text| !text.is_empty())
}

/// The hash of this name; the usual one if none is named.
///
/// # Errors
/// 400 for one that this server does not have.
pub fn hash_of(name: Option<&str>) -> Result<Algorithm, Rejection> {
    match name {
        None | Some("" | "sha2-256") => Ok(Algorithm::Sha256),
        Some("sha2-384") => Ok(Algorithm::Sha384),
        Some("sha2-512") => Ok(Algorithm::Sha512),
        Some(_) => Err(BAD_ALGORITHM.into()),
    }
}
