//! The state of the keeper's thread: the store, where it stands, and the ring that follows from it.
//!
//! Owns [`Ledger`] and the commit of a group of changes. Invariants: what is published is durable, apart from a
//! restriction whose durability is unknown, which holds at once; whoever else writes to the store is heard before
//! changes are judged; an answer says what is known, and nothing better.

use core::fmt;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use crate::api::change::{ChangeError, Outcome, Target};
use crate::clock::{Moment, WallTime};
use crate::crypto::random::Generator;
use crate::fleet::Fleet;
use crate::keeper::checkpoints::Checkpoints;
use crate::keeper::diary::Diary;
use crate::keeper::group::{Asked, Group};
use crate::keeper::queue::{Committed, Job};
use crate::keeper::records;
use crate::keeper::rounds::Rounds;
use crate::keeper::state::State;
use crate::keyring::{self, Circumstances};
use crate::limits::{COMMIT_CONFLICTS_MAX_COUNT, COMMIT_CONFLICTS_MILLIS, SCHEDULED_CHANGES_MAX_COUNT};
use crate::log::{self, Level, Module};
use crate::metrics::process::STORE;
use crate::model::{KeyName, StoreHealth};
use crate::publication::{Epoch, Publication};
use crate::store::{AppendError, Condition, Head, MaintainError, Record, Sealer, Store};

/// The time of one turn of the keeper.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// For distances.
    pub moment: Moment,
    /// For dates.
    pub wall: WallTime,
}

impl Now {
    /// Reads both clocks.
    #[must_use]
    pub fn read() -> Self {
        Self { moment: Moment::now(), wall: WallTime::now() }
    }
}

/// What the keeper's thread has to itself.
pub struct Ledger {
    pub(super) store: Box<dyn Store>,
    pub(super) sealer: Arc<Sealer>,
    pub(super) publication: Arc<Publication<State>>,
    pub(super) random: Generator,
    /// Where the store stands with what is published.
    pub(super) head: Head,
    pub(super) diary: Diary,
    pub(super) rounds: Rounds,
    pub(super) checkpoints: Checkpoints,
    /// What the workers know of how new the state is.
    fleet: Arc<Fleet>,
    restore_window_seconds: u64,
    /// Whether keys are still to be distrusted.
    pub(super) counts_set_back: bool,
    /// What has a change of which nobody knows whether it outlives a restart.
    doubtful: BTreeSet<Target>,
    /// What was said last of the store.
    told: StoreHealth,
}

/// What a ledger is made of.
pub struct Parts {
    /// The store, loaded.
    pub store: Box<dyn Store>,
    /// Seals its records.
    pub sealer: Sealer,
    /// Where it stands.
    pub head: Head,
    /// Holds the ring that was loaded.
    pub publication: Arc<Publication<State>>,
    /// The audit lines of what the keeper does by itself.
    pub diary: Diary,
    /// How far the audit streams have come, those of earlier starts too.
    pub checkpoints: Checkpoints,
    /// What the workers know of how new the state is.
    pub fleet: Arc<Fleet>,
    /// How long a deleted key can be brought back.
    pub restore_window_seconds: u64,
    /// Whether the store may have been set back, so that more was sealed than it knows of.
    pub counts_set_back: bool,
}

/// The store or the audit log does not take what has to be done first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotBegun;

impl fmt::Display for NotBegun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "keys whose seals may be more than the store knows got no fresh version: store or audit log cannot be \
             written; free some space and start again with --accept-store-rollback",
        )
    }
}

impl Ledger {
    /// A ledger that draws what it needs from `random`.
    #[must_use]
    pub fn new(parts: Parts, random: Generator) -> Self {
        let Parts {
            store,
            sealer,
            head,
            publication,
            diary,
            checkpoints,
            fleet,
            restore_window_seconds,
            counts_set_back,
        } = parts;
        Self {
            store,
            sealer: Arc::new(sealer),
            publication,
            random,
            head,
            diary,
            rounds: Rounds::default(),
            checkpoints,
            fleet,
            restore_window_seconds,
            counts_set_back,
            doubtful: BTreeSet::new(),
            told: StoreHealth::Good,
        }
    }

    /// What has to be done before anything is served: where the store was set back, what counted its seals is not
    /// believed.
    ///
    /// # Errors
    /// [`NotBegun`]: nothing may be served.
    pub fn begin(&mut self, now: Now) -> Result<(), NotBegun> {
        if !core::mem::take(&mut self.counts_set_back) {
            return Ok(());
        }
        let state = self.publication.current();
        let counted = state.ring.keys().filter(|key| key.kind().counts_seals());
        let names: Vec<KeyName> = counted.map(|key| key.name().clone()).collect();
        for some in names.chunks(SCHEDULED_CHANGES_MAX_COUNT) {
            let changes = some.iter().map(|name| keyring::Change::Distrust { name: name.clone() });
            if !self.make(changes.collect(), now) {
                return Err(NotBegun);
            }
        }
        if !names.is_empty() {
            log::warn(
                Module::Store,
                format_args!(
                    "{} keys with 96-bit nonces got a fresh version: their older ones only decrypt, since more \
                     may have been sealed with them than the store knows",
                    names.len()
                ),
            );
        }
        Ok(())
    }

    /// Carries out what waits, in as few groups as it fits into, and answers it.
    pub(super) fn commit_all(&mut self, jobs: Vec<Job>, now: Now) {
        let mut jobs = VecDeque::from(jobs);
        while !jobs.is_empty() {
            let asked: Vec<&Asked> = jobs.iter().map(|job| &job.asked).collect();
            for committed in self.commit(&asked, now) {
                if let Some(job) = jobs.pop_front() {
                    job.answer(committed);
                }
            }
        }
    }

    /// Carries out as many of `asked` as fit one append, at least one, from the front.
    pub(super) fn commit(&mut self, asked: &[&Asked], now: Now) -> Vec<Committed> {
        let all = |error| asked.iter().map(|_| Committed::refused(error)).collect();
        let end = Moment::now().plus_millis(COMMIT_CONFLICTS_MILLIS);
        for round in 0..COMMIT_CONFLICTS_MAX_COUNT {
            if round > 0 && Moment::now() >= end {
                break;
            }
            if let Err(error) = self.catch_up() {
                log::error(Module::Store, format_args!("the store cannot be read: {error}"));
                return all(ChangeError::StoreFailed);
            }
            let sealer = Arc::clone(&self.sealer);
            let group = self.judge(&sealer, asked, now);
            if group.is_empty() {
                return self.conclude(group, None, now);
            }
            let revision = match self.next_revision() {
                Ok(revision) => revision,
                Err(error) => return self.abandon(group, meaning(error)),
            };
            let draw = |bytes: &mut [u8]| self.random.fill(now.moment, bytes);
            let Ok(records) = group.seal(revision, draw) else {
                return self.abandon(group, keyring::ChangeError::Entropy.into());
            };
            match self.store.append(self.head.revision, &records, &group.origins) {
                Ok(head) => return self.conclude(group, Some(head), now),
                Err(AppendError::Conflict { .. }) => {}
                Err(AppendError::Ambiguous) => return self.doubt(group, asked, now),
                Err(error) => return self.abandon(group, meaning(error)),
            }
        }
        all(ChangeError::Unavailable)
    }

    /// Takes in what others have written, or says why it cannot.
    pub(super) fn take_news(&mut self) {
        if let Err(error) = self.catch_up() {
            log::error(Module::Store, format_args!("the store cannot be read: {error}"));
        }
    }

    /// Takes in what others have written.
    pub(super) fn catch_up(&mut self) -> Result<(), crate::store::StoreError> {
        let mut news: Vec<Record> = Vec::new();
        let head = self.store.watch(self.head.revision, &mut |record| {
            news.push(record);
            Ok(())
        })?;
        if !news.is_empty() {
            let mut state = (*self.publication.current()).clone();
            records::take_in(&mut state, &self.sealer, news)?;
            self.publication.publish(Arc::new(state));
        }
        if head.revision > self.head.revision {
            self.head = head;
            // What others did is witnessed here, too: a store that loses it was rolled back for all of them.
            let _ = self.diary.stand_at(head, WallTime::now());
        }
        if self.store.standing().condition == Condition::Good {
            // What was doubtful has been read since.
            self.doubtful.clear();
        }
        if let Some(fresh_nanos) = self.store.fresh_nanos() {
            let members = self.store.members();
            self.fleet.note(fresh_nanos, members);
            STORE.fresh_nanos.set(fresh_nanos);
            STORE.members.set(members as u64);
        }
        Ok(())
    }

    /// Housekeeping of the store, with a line for the operator.
    pub(super) fn maintain(&mut self, now: Now) {
        if now.moment < self.rounds.maintain_not_before {
            return;
        }
        match self.store.maintain() {
            Ok(None) => {}
            Ok(Some(done)) => log::info(
                Module::Store,
                format_args!(
                    "compacted from {} to {} bytes, {} records",
                    done.before_bytes, done.after_bytes, done.records
                ),
            ),
            Err(error) => {
                self.maintain_later(now);
                let level = if error == MaintainError::Full { Level::Warn } else { Level::Error };
                log::tell(level, Module::Store, format_args!("{error}"));
            }
        }
    }

    /// How the store is; news are told to the operator.
    pub(super) fn health(&mut self) -> StoreHealth {
        let standing = self.store.standing();
        STORE.journal_bytes.set(standing.bytes);
        STORE.live_bytes.set(standing.live_bytes);
        let health = match standing.condition {
            Condition::Good => StoreHealth::Good,
            Condition::Full => StoreHealth::Full,
            Condition::Failing => StoreHealth::Failing,
            Condition::Poisoned => StoreHealth::Poisoned,
            Condition::Away => StoreHealth::Away,
            Condition::SetBack => StoreHealth::SetBack,
        };
        if health != self.told {
            self.told = health;
            let level = if health == StoreHealth::Good { Level::Info } else { Level::Error };
            log::tell(level, Module::Store, format_args!("{}", health.detail()));
        }
        health
    }

    fn judge<'a>(&mut self, sealer: &'a Sealer, asked: &[&Asked], now: Now) -> Group<'a> {
        let mut group = Group::new(sealer, (*self.publication.current()).clone(), self.store.bounds());
        let random = &mut self.random;
        let mut draw = |bytes: &mut [u8]| random.fill(now.moment, bytes);
        let restore_window_seconds = self.restore_window_seconds;
        let mut at = Circumstances { now: now.wall, restore_window_seconds, draw: &mut draw };
        for asked in asked {
            if !group.judge(asked, &mut at) {
                break;
            }
        }
        group
    }

    /// What leads to `head` is durable.
    pub(super) fn stand_at(&mut self, head: Head, now: Now) {
        self.head = head;
        // The line of the change tells it too: what could not be told here is told later.
        let _ = self.diary.stand_at(head, now.wall);
    }

    /// The revision of the next append; nothing if there is none left, which no store reaches by itself.
    pub(super) fn next_revision(&self) -> Result<u64, AppendError> {
        self.head.revision.checked_add(1).ok_or(AppendError::Refused)
    }

    /// The group is durable, or had nothing to write.
    fn conclude(&mut self, group: Group<'_>, head: Option<Head>, now: Now) -> Vec<Committed> {
        if let Some(head) = head {
            self.stand_at(head, now);
        }
        group.grant();
        let mut outcomes = group.verdicts.iter().filter_map(|verdict| verdict.outcome.as_ref().ok());
        let epoch = if outcomes.any(Outcome::is_published) {
            self.publication.publish(Arc::new(group.state))
        } else {
            self.publication.epoch()
        };
        let committed = group.verdicts.into_iter().map(|verdict| match verdict.outcome {
            // What was there already may have come with a change that was never answered.
            Ok(outcome) if !outcome.changed() && self.doubtful.contains(&outcome.target()) => {
                Committed { settle: Some(epoch), ..Committed::refused(ChangeError::Ambiguous) }
            }
            Ok(outcome) => {
                // What is said to be so already must be so for every worker, too.
                let settle = (outcome.restricts() || !outcome.changed()).then_some(epoch);
                let head = head.filter(|_| outcome.changed());
                Committed { outcome: Ok(outcome), head, settle }
            }
            Err(error) => Committed::refused(error),
        });
        committed.collect()
    }

    /// Nothing of the group was kept.
    fn abandon(&self, group: Group<'_>, error: ChangeError) -> Vec<Committed> {
        let epoch = self.publication.epoch();
        let committed = group.verdicts.into_iter().map(|verdict| match verdict.outcome {
            // Judged by what the group had made of its key, which is not so.
            _ if verdict.depends => Committed::refused(error),
            Ok(outcome) if outcome.changed() => Committed::refused(error),
            outcome => Committed { outcome, head: None, settle: Some(epoch) },
        });
        committed.collect()
    }

    /// Whether the group is durable is not known. What takes a right away holds from now on; what brings new secrets
    /// does not, because whatever were sealed under them could be lost with them.
    fn doubt(&mut self, mut group: Group<'_>, asked: &[&Asked], now: Now) -> Vec<Committed> {
        self.doubtful.append(&mut group.touched);
        let epoch = self.restrict(&group, asked, now);
        let mut committed = self.abandon(group, ChangeError::Ambiguous);
        committed.iter_mut().for_each(|committed| committed.settle = Some(epoch));
        committed
    }

    /// Publishes what of the group takes rights away and makes nothing new.
    fn restrict(&mut self, group: &Group<'_>, asked: &[&Asked], now: Now) -> Epoch {
        let mut state: State = (*self.publication.current()).clone();
        let mut nothing = |_: &mut [u8]| Err(crate::crypto::Error::Entropy);
        let restore_window_seconds = self.restore_window_seconds;
        let mut at = Circumstances { now: now.wall, restore_window_seconds, draw: &mut nothing };
        for (verdict, asked) in group.verdicts.iter().zip(asked) {
            if let Ok(made) = &verdict.outcome
                && made.restricts()
                && asked.change.is_bare()
            {
                state.restrict(&asked.change, made, &mut at);
            }
        }
        self.publication.publish(Arc::new(state))
    }
}

/// What a failed append means for those who asked.
fn meaning(error: AppendError) -> ChangeError {
    match error {
        AppendError::Full => ChangeError::StoreFull,
        AppendError::Refused => ChangeError::StoreRefuses,
        AppendError::Ambiguous => ChangeError::Ambiguous,
        AppendError::Conflict { .. } => ChangeError::Unavailable,
        AppendError::Failed | AppendError::Away => ChangeError::StoreFailed,
        AppendError::TooLarge | AppendError::Malformed => {
            log::error(Module::Store, format_args!("a defect of this program: {error}"));
            ChangeError::StoreFailed
        }
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger").field("head", &self.head).finish_non_exhaustive()
    }
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").field("head", &self.head).finish_non_exhaustive()
    }
}
