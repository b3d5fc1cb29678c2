//! Changes that are judged together: what they lead to, and what has to be written down for it.
//!
//! Owns [`Group`]. Invariants: a change sees the effects of those before it in the group and of no others; one that is
//! refused, or that finds no room, leaves no trace; several changes of one key make one record; the records of a group
//! fit one append.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::api::change::{Change, ChangeError, Outcome, Target};
use crate::auth;
use crate::crypto;
use crate::keeper::state::{Entry, State};
use crate::keyring::{self, Circumstances, Effect, Key, encode_key, encode_uses};
use crate::limits::STORE_RECORD_OVERHEAD_BYTES;
use crate::store::{Bounds, Kind, Origin, Path, Record, SEAL_NONCE_BYTES, SEAL_OVERHEAD_BYTES, Sealer};

/// A change, and who asked for it.
#[derive(Debug)]
pub(super) struct Asked {
    /// What is to be changed.
    pub(super) change: Change,
    /// The request that asked.
    pub(super) origin: Origin,
}

/// What is to be written at a path: the plaintext of a record, or that there is none any more.
type Content = Option<Zeroizing<Vec<u8>>>;

/// What a change of the group leads to.
#[derive(Debug)]
pub(super) struct Verdict {
    pub(super) outcome: Result<Outcome, ChangeError>,
    /// Whether it was judged against a key that the group had changed: then it stands and falls with the group.
    pub(super) depends: bool,
}

/// Changes that were judged, and are to be written down in one append.
pub(super) struct Group<'a> {
    sealer: &'a Sealer,
    /// The state with all of them.
    pub(super) state: State,
    /// What became of each, in their order. Those that found no room are missing at the end.
    pub(super) verdicts: Vec<Verdict>,
    /// Who caused what is written.
    pub(super) origins: Vec<Origin>,
    /// What is another than before.
    pub(super) touched: BTreeSet<Target>,
    /// Seals to be granted once they are durable.
    grants: Vec<(Arc<Key>, u32, u64)>,
    contents: BTreeMap<Path, Content>,
    weight: usize,
    bounds: Bounds,
}

/// Why a change could not be taken into the group.
enum Unfit {
    /// The next group has room for it.
    Later,
    /// No group has: its key is too large.
    Never,
}

impl<'a> Group<'a> {
    /// A group without changes, on top of `state`.
    pub(super) fn new(sealer: &'a Sealer, state: State, bounds: Bounds) -> Self {
        Self {
            sealer,
            state,
            verdicts: Vec::new(),
            origins: Vec::new(),
            touched: BTreeSet::new(),
            grants: Vec::new(),
            contents: BTreeMap::new(),
            weight: 0,
            bounds,
        }
    }

    /// Judges one more change. Returns whether there was room for it.
    pub(super) fn judge(&mut self, asked: &Asked, at: &mut Circumstances<'_>) -> bool {
        let target = asked.change.target();
        let depends = self.is_touched(&target);
        let before = self.state.get(&target);
        let mut outcome = self.state.apply(&asked.change, at);
        if let Ok(made) = &outcome
            && made.changed()
        {
            match self.stage(before.as_ref(), made) {
                Ok(()) => {
                    self.touched.insert(target);
                    self.origins.push(asked.origin);
                }
                Err(unfit) => {
                    self.state.put_back(&target, before);
                    if matches!(unfit, Unfit::Later) {
                        return false;
                    }
                    outcome = Err(match made {
                        Outcome::Key(_) => keyring::ChangeError::VersionsFull.into(),
                        Outcome::Caller(_) => ChangeError::StoreFailed,
                    });
                }
            }
        }
        self.verdicts.push(Verdict { outcome, depends });
        true
    }

    /// Whether what `target` is judged by is another than before. An API key is judged by the others, too: by whoever
    /// asks, and by those that may do everything.
    fn is_touched(&self, target: &Target) -> bool {
        match target {
            Target::Key(_) => self.touched.contains(target),
            // They come last in the order of targets.
            Target::Caller(_) => matches!(self.touched.last(), Some(Target::Caller(_))),
        }
    }

    /// Whether there is nothing to write down.
    pub(super) fn is_empty(&self) -> bool {
        self.contents.is_empty()
    }

    /// The records to be appended as `revision`, sealed; `draw` gives their nonces.
    pub(super) fn seal(
        &self,
        revision: u64,
        mut draw: impl FnMut(&mut [u8]) -> Result<(), crypto::Error>,
    ) -> Result<Vec<Record>, crypto::Error> {
        let mut records = Vec::with_capacity(self.contents.len());
        for (path, content) in &self.contents {
            let sealed = match content {
                None => None,
                Some(plaintext) => {
                    let mut nonce = [0; SEAL_NONCE_BYTES];
                    draw(&mut nonce)?;
                    Some(self.sealer.seal(*path, revision, &nonce, plaintext)?)
                }
            };
            records.push(Record { path: *path, revision, sealed });
        }
        Ok(records)
    }

    /// Grants the seals that were set aside. To be called when that is durable.
    pub(super) fn grant(&self) {
        for (key, version, seals) in &self.grants {
            if let Some(version) = key.version(*version) {
                version.uses().grant(*seals);
            }
        }
    }

    /// Notes what has to be written down for one change.
    fn stage(&mut self, before: Option<&Entry>, made: &Outcome) -> Result<(), Unfit> {
        match made {
            Outcome::Key(made) => {
                let before = before.and_then(|before| match before {
                    Entry::Key(key) => Some(&**key),
                    Entry::Caller(_) => None,
                });
                self.stage_key(before, made)
            }
            Outcome::Caller(made) => self.stage_caller(made),
        }
    }

    fn stage_caller(&mut self, made: &auth::Outcome) -> Result<(), Unfit> {
        let id = made.key.id.as_str();
        let keys = self.sealer.path(Kind::ApiKey, id);
        self.take(match made.effect {
            auth::Effect::None => Vec::new(),
            auth::Effect::Put => vec![(keys, Some(auth::encode_key(&made.key)))],
            auth::Effect::Removed => vec![(keys, None), (self.sealer.path(Kind::CallerUse, id), None)],
        })
    }

    fn stage_key(&mut self, before: Option<&Key>, made: &keyring::Outcome) -> Result<(), Unfit> {
        let key = &made.key;
        let keys = self.sealer.path(Kind::Key, key.name().as_str());
        let uses = self.sealer.path(Kind::Uses, key.name().as_str());
        let figures = || Some(Zeroizing::new(encode_uses(key)));
        let another = before.is_some_and(|before| before.id() != key.id());
        let mut contents: Vec<(Path, Content)> = Vec::with_capacity(2);
        let mut grant = None;
        match made.effect {
            Effect::None => {}
            Effect::Put => {
                grant = first_block(key);
                contents.push((keys, Some(encode_key(key))));
                if grant.is_some() {
                    contents.push((uses, figures()));
                } else if another {
                    // The figures are those of the key that had the name before.
                    contents.push((uses, None));
                }
            }
            Effect::Removed => contents.extend([(keys, None), (uses, None)]),
            Effect::Reserved { version, seals } => {
                grant = Some((version, seals));
                contents.push((uses, figures()));
            }
        }
        self.take(contents)?;
        self.grants.extend(grant.map(|(version, seals)| (Arc::clone(key), version, seals)));
        Ok(())
    }

    /// Takes all of `contents`, or none of it if they do not fit.
    fn take(&mut self, contents: Vec<(Path, Content)>) -> Result<(), Unfit> {
        let sealed =
            |content: &Content| content.as_ref().map_or(0, |bytes| bytes.len() + SEAL_OVERHEAD_BYTES);
        let weigh = |content: &Content| STORE_RECORD_OVERHEAD_BYTES + sealed(content);
        if contents.iter().any(|(_, content)| sealed(content) > self.bounds.record_bytes) {
            return Err(Unfit::Never);
        }
        let added: usize = contents.iter().map(|(_, content)| weigh(content)).sum();
        let replaced = contents.iter().filter_map(|(path, _)| self.contents.get(path)).map(weigh);
        let weight = self.weight + added - replaced.sum::<usize>();
        let added = contents.iter().filter(|(path, _)| !self.contents.contains_key(path)).count();
        if weight > self.bounds.append_bytes || self.contents.len() + added > self.bounds.records_count {
            return Err(if self.is_empty() { Unfit::Never } else { Unfit::Later });
        }
        self.weight = weight;
        self.contents.extend(contents);
        Ok(())
    }
}

/// The first seals of a version whose nonces have 96 bits are set aside with the change that makes it.
fn first_block(key: &Key) -> Option<(u32, u64)> {
    let latest = key.version(key.latest_number()).filter(|_| key.kind().counts_seals())?;
    let fresh = latest.uses().reserved() == 0 && key.sealing_version(None).is_ok();
    let seals = fresh.then(|| latest.uses().promise_block()).flatten()?;
    Some((latest.number(), seals))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::WallTime;
    use crate::keeper::tests::callers::make;
    use crate::limits::{STORE_APPEND_MAX_BYTES, STORE_RECORD_MAX_BYTES};
    use crate::store::RootKey;

    #[test]
    fn what_fits_no_append_is_told_from_what_fits_a_later_one_and_neither_is_taken() {
        let sealer = RootKey::take(&mut [7; 32]).sealer([1; 16]).unwrap();
        let mut group = Group::new(&sealer, State::default(), Bounds::default());
        let content = |bytes: usize| Some(Zeroizing::new(vec![0; bytes]));
        let path = |number: u8| Path::new([number; Path::BYTES]);
        let most = STORE_RECORD_MAX_BYTES - SEAL_OVERHEAD_BYTES;
        assert!(matches!(group.take(vec![(path(1), content(most + 1))]), Err(Unfit::Never)));
        assert!(group.is_empty() && group.weight == 0);
        assert!(group.take(vec![(path(1), content(most))]).is_ok());
        let weight = group.weight;
        let two = vec![(path(2), content(9)), (path(3), content(most))];
        assert!(matches!(group.take(two), Err(Unfit::Later)));
        assert_eq!((group.contents.len(), group.weight), (1, weight));
        assert!(group.take(vec![(path(1), content(most))]).is_ok(), "what is replaced weighs nothing");
        assert_eq!(group.weight, weight);
    }
    #[test]
    fn an_api_key_for_which_there_is_no_room_is_as_it_was_and_fits_the_next_group() {
        let sealer = RootKey::take(&mut [7; 32]).sealer([1; 16]).unwrap();
        let asked = |number| Asked { change: make(number, &["admin"]), origin: [1; 16] };
        let mut draw = |_: &mut [u8]| Ok(());
        let mut at = Circumstances { now: WallTime::default(), restore_window_seconds: 0, draw: &mut draw };
        let mut group = Group::new(&sealer, State::default(), Bounds::default());
        assert!(group.judge(&asked(1), &mut at));
        group.weight = STORE_APPEND_MAX_BYTES;
        assert!(!group.judge(&asked(2), &mut at));
        assert_eq!((group.state.callers.len(), group.verdicts.len(), group.origins.len()), (1, 1, 1));
        group.weight = 0;
        assert!(group.judge(&asked(2), &mut at));
        assert_eq!((group.state.callers.len(), group.contents.len()), (2, 2));
    }
}
