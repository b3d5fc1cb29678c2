//! The making of a store with its first admin key.
//!
//! Owns [`initialise`]. Invariant: a store whose making was cut off before its admin key was in it holds nothing at all,
//! and is made complete by the next attempt.

use std::io;

use zeroize::Zeroizing;

use crate::auth::registry::SALT_BYTES;
use crate::auth::{Registry, api_key};
use crate::clock::{Moment, WallTime};
use crate::crypto::random::Generator;
use crate::keeper::records::load;
use crate::limits::KEY_BYTES;
use crate::model::Rights;
use crate::secret::Secret;
use crate::store::{
    DataDir, Journal, Kind, MasterKey, Record, SEAL_NONCE_BYTES, Sealer, Store, StoreError, Witness,
};

/// Makes the store in `data_dir` and the first admin key in it; returns the key's text, which nothing else keeps.
///
/// # Errors
/// [`StoreError::StoreExists`] if there is a store with something in it; what the system refuses.
pub fn initialise(
    data_dir: &DataDir,
    master: &MasterKey,
    random: &mut Generator,
) -> Result<Zeroizing<String>, StoreError> {
    let now = Moment::now();
    let text = api_key::generate(|bytes| random.fill(now, bytes))?;
    initialise_with(data_dir, master, random, &text)?;
    Ok(text)
}

/// As [`initialise`], with an admin key that was made before.
///
/// # Errors
/// As for [`initialise`]; a text that is no API key.
pub fn initialise_with(
    data_dir: &DataDir,
    master: &MasterKey,
    random: &mut Generator,
    admin: &str,
) -> Result<(), StoreError> {
    if !Journal::exists(data_dir)? {
        Journal::create(data_dir, master, random)?;
    }
    let opened = Journal::open(data_dir, master, Witness::default())?;
    let (mut journal, sealer) = (opened.journal, opened.root.sealer(opened.ring)?);
    let opening = load(&mut journal, &sealer)?;
    if opening.loaded.head.revision > 0 {
        return Err(StoreError::StoreExists { path: data_dir.path().join("journal") });
    }
    let record = admin_record(&sealer, &opened.root.pepper()?, random, admin)?;
    journal.append(0, &[record], &[]).map_err(StoreError::NotAppended)?;
    Ok(())
}

/// The record of the first API key, as the first revision.
fn admin_record(
    sealer: &Sealer,
    pepper: &Secret<KEY_BYTES>,
    random: &mut Generator,
    text: &str,
) -> Result<Record, StoreError> {
    let now = Moment::now();
    let registry = pepper.with(Registry::new);
    let salt = random.array::<SALT_BYTES>(now)?;
    let key = registry
        .stored(text, salt, Rights::Admin, WallTime::now())
        .map_err(|error| StoreError::KeyNotMade(Box::new(io::Error::other(error))))?;
    let (path, revision) = (sealer.path(Kind::ApiKey, key.name()), 1);
    let nonce = random.array::<SEAL_NONCE_BYTES>(now)?;
    let sealed = sealer.seal(path, revision, &nonce, &key.encode())?;
    Ok(Record { path, revision, sealed: Some(sealed) })
}
