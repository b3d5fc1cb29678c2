//! Figures that go on when a key is read anew: what was counted here must not be forgotten.
//!
//! Owns nothing. Invariant: figures go from a key only to the same key, which its identifier tells and not its name.

use std::sync::Arc;

use crate::keyring::key::Key;
use crate::keyring::record::UsesRecord;

impl Key {
    /// The same key with the figures of `before`, if that is an older state of this very key.
    #[must_use]
    pub fn with_figures_of(&self, before: &Self) -> Self {
        let mut key = self.clone();
        if key.id == before.id {
            for version in &mut key.versions {
                if let Some(counted) = before.version(version.number) {
                    let mut next = (**version).clone();
                    next.uses = Arc::clone(&counted.uses);
                    *version = Arc::new(next);
                }
            }
        }
        key
    }

    /// Takes in the figures that another server wrote down for this key.
    pub fn absorb(&self, record: &UsesRecord) {
        let written = self.with_uses(record);
        for (own, written) in self.versions.iter().zip(&written.versions) {
            // What the record does not name is shared, not restored.
            if !Arc::ptr_eq(&own.uses, &written.uses) {
                own.uses.absorb(&written.uses);
            }
        }
    }

    /// Whether something was done with it that was not written down.
    #[must_use]
    pub fn has_news(&self) -> bool {
        self.versions.iter().any(|version| version.uses.has_news())
    }

    /// As [`Key::has_news`]; whoever asks writes it down.
    #[must_use]
    pub fn take_news(&self) -> bool {
        let mut news = false;
        for version in &self.versions {
            // Each is asked, whatever the others said: asking takes the news.
            news |= version.uses.take_news();
        }
        news
    }

    /// Notes that its figures were not written down after all.
    pub fn keep_news(&self) {
        self.versions.iter().for_each(|version| version.uses.keep_news());
    }
}

#[cfg(test)]
mod tests {
    use crate::clock::WallTime;
    use crate::keyring::record::{decode_key, decode_uses, encode_key, encode_uses};
    use crate::keyring::trial::Trial;
    use crate::limits::SEALS_BLOCK_COUNT;
    use crate::model::KeyType;

    #[test]
    fn a_key_that_is_read_anew_keeps_its_figures_and_another_of_its_name_does_not() {
        let trial = Trial::of(KeyType::ChaCha20Poly1305);
        let key = trial.key();
        key.version(1).unwrap().uses().note(WallTime::from_millis(5_000), 3);
        let read = decode_key(&encode_key(key)).unwrap();
        assert_eq!(read.version(1).unwrap().uses().operations(), 0);
        assert_eq!(read.with_figures_of(key).version(1).unwrap().uses().operations(), 3);
        let other = Trial::of(KeyType::ChaCha20Poly1305);
        let mut other = (**other.key()).clone();
        other.id[0] ^= 1;
        assert_eq!(other.with_figures_of(key).version(1).unwrap().uses().operations(), 0);
    }

    #[test]
    fn what_another_server_set_aside_cannot_be_used_here() {
        let trial = Trial::of(KeyType::ChaCha20Poly1305);
        let (here, there) = (trial.key(), decode_key(&encode_key(trial.key())).unwrap());
        let (own, foreign) = (here.version(1).unwrap().uses(), there.version(1).unwrap().uses());
        own.grant(SEALS_BLOCK_COUNT);
        own.count_seals(SEALS_BLOCK_COUNT - 5).unwrap();
        foreign.grant(2 * SEALS_BLOCK_COUNT);
        foreign.note(WallTime::from_millis(9_000), 7);
        let record = decode_uses(&encode_uses(&there)).unwrap();
        here.absorb(&record);
        here.absorb(&record);
        assert_eq!((own.reserved(), own.operations()), (2 * SEALS_BLOCK_COUNT, 7));
        own.count_seals(5).unwrap();
        assert!(own.count_seals(1).is_err());
        let next = own.promise_block().unwrap();
        assert_eq!(next, 3 * SEALS_BLOCK_COUNT);
        own.grant(next);
        own.count_seals(SEALS_BLOCK_COUNT).unwrap();
        assert!(own.count_seals(1).is_err());
    }

    #[test]
    fn news_are_told_once_unless_they_are_kept() {
        let trial = Trial::of(KeyType::HmacSha256);
        assert!(!trial.key().take_news());
        trial.key().version(1).unwrap().uses().note(WallTime::from_millis(5_000), 1);
        assert!(trial.key().has_news() && trial.key().take_news());
        assert!(!trial.key().has_news() && !trial.key().take_news());
        trial.key().keep_news();
        assert!(trial.key().take_news());
    }
}
