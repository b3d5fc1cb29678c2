//! The making of a store with its first admin key.
//!
//! Owns [`initialise`]. Invariant: a store whose making was cut off before its admin key was in it has no API key, and is
//! made complete by the next attempt.

use std::io;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::auth::entry::SALT_BYTES;
use crate::auth::{ApiKey, Authenticator, Generation, Terms, Usage, api_key, encode_key};
use crate::clock::{Moment, WallTime};
use crate::crypto::random::Generator;
use crate::keeper::records::load;
use crate::limits::KEY_BYTES;
use crate::secret::Secret;
use crate::store::{
    AppendError, DataDir, Journal, Kind, MasterKey, Record, SEAL_NONCE_BYTES, Sealer, Store, StoreError,
    Witness,
};

/// Makes the store in `data_dir` and the first admin key in it; returns the key's text, which nothing else keeps.
///
/// # Errors
/// [`StoreError::StoreExists`] if there is a store with an API key; what the system refuses.
pub fn initialise(
    data_dir: &DataDir,
    master: &MasterKey,
    random: &mut Generator,
) -> Result<Zeroizing<String>, StoreError> {
    let now = Moment::now();
    let text = api_key::generate(|bytes| random.fill(now, bytes))?;
    initialise_with(data_dir, master, random, &text, Witness::default())?;
    Ok(text)
}

/// As [`initialise`], with an admin key that was made before, and beyond what `witness` has seen, if that is accepted.
///
/// # Errors
/// As for [`initialise`]; a text that is no API key.
pub fn initialise_with(
    data_dir: &DataDir,
    master: &MasterKey,
    random: &mut Generator,
    admin: &str,
    witness: Witness,
) -> Result<(), StoreError> {
    if !Journal::exists(data_dir)? {
        Journal::create(data_dir, master, random)?;
    }
    let opened = Journal::open(data_dir, master, witness)?;
    let (mut journal, sealer) = (opened.journal, opened.root.sealer(opened.ring)?);
    let opening = load(&mut journal, &sealer)?;
    if !opening.state.callers.is_empty() {
        return Err(StoreError::StoreExists { path: data_dir.path().join("journal") });
    }
    let at = opening.loaded.head.revision;
    let revision = at.checked_add(1).ok_or(StoreError::NotAppended(AppendError::TooLarge))?;
    let record = admin_record(&sealer, &opened.root.pepper()?, random, admin, revision)?;
    journal.append(at, &[record], &[]).map_err(StoreError::NotAppended)?;
    Ok(())
}

/// The record of the first API key.
fn admin_record(
    sealer: &Sealer,
    pepper: &Secret<KEY_BYTES>,
    random: &mut Generator,
    text: &str,
    revision: u64,
) -> Result<Record, StoreError> {
    let now = Moment::now();
    let authenticator = pepper.with(|pepper| Authenticator::new(pepper, "", ""));
    let salt = random.array::<SALT_BYTES>(now)?;
    let token_secret = Secret::try_fill(|bytes| random.fill(now, bytes))?;
    let (id, digest) = authenticator
        .digest(text, &salt)
        .map_err(|error| StoreError::KeyNotMade(Box::new(io::Error::other(error))))?;
    let created = WallTime::now();
    let key = ApiKey {
        id,
        salt,
        terms: Arc::new(Terms::first()),
        created,
        created_by: None,
        revoked: None,
        current: Arc::new(Generation { number: 1, digest, token_secret, created }),
        previous: None,
        usage: Arc::new(Usage::default()),
    };
    let path = sealer.path(Kind::ApiKey, id.as_str());
    let nonce = random.array::<SEAL_NONCE_BYTES>(now)?;
    let sealed = sealer.seal(path, revision, &nonce, &encode_key(&key))?;
    Ok(Record { path, revision, sealed: Some(sealed) })
}
