//! The making of a store with its first admin key.
//!
//! Owns [`initialise`]. Invariant: a store whose making was cut off before its admin key was in it has no API key, and is
//! made complete by the next attempt.

use zeroize::Zeroizing;

use crate::auth::{Terms, api_key};
use crate::clock::{Moment, WallTime};
use crate::crypto::random::Generator;
use crate::keeper::stopped::{Making, NotMade, Stopped};
use crate::store::{DataDir, Journal, MasterKey, StoreError, Witness};

/// Who tells the audit log that the first admin key was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Telling {
    /// A stream of its own: no server may start for long.
    Here,
    /// The start that makes the store, whose stream begins with where the store stands.
    AtTheStart,
}

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
    initialise_with(data_dir, master, random, &text, Witness::default(), Telling::AtTheStart)?;
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
    telling: Telling,
) -> Result<(), StoreError> {
    if !Journal::exists(data_dir)? {
        Journal::create(data_dir, master, random)?;
    }
    let store = Stopped::open(data_dir, master, witness)?;
    if !store.callers().is_empty() {
        return Err(StoreError::StoreExists { path: data_dir.path().join("journal") });
    }
    complete(store, random, admin, telling)
}

/// As [`initialise_with`], in a store that was made and has no API key yet.
///
/// # Errors
/// As for [`initialise_with`].
pub fn initialise_in(
    making: Making<'_>,
    random: &mut Generator,
    admin: &str,
    telling: Telling,
) -> Result<(), StoreError> {
    let path = making.data_dir.path().to_owned();
    let store = Stopped::of(making)?;
    if !store.callers().is_empty() {
        return Err(StoreError::FleetExists { place: path });
    }
    complete(store, random, admin, telling)
}

fn complete(
    store: Stopped<'_>,
    random: &mut Generator,
    admin: &str,
    telling: Telling,
) -> Result<(), StoreError> {
    let now = WallTime::now();
    let change = store.creation(admin, Terms::first(), now, random)?;
    let made = match telling {
        Telling::Here => store.make(change, random, now),
        Telling::AtTheStart => store.make_untold(change, random, now),
    };
    made.map(drop).map_err(|error| match error {
        NotMade::Store(error) => error,
        error => StoreError::KeyNotMade(Box::new(error)),
    })
}
