//! What the keeper does by itself at a tick: rotations and destructions that are due, and use figures.
//!
//! Owns when each of them is next looked at ([`Rounds`]). Invariants: a tick at which nothing is due writes nothing and
//! looks at no key; figures are looked at once in a while, each key once, however busy it is; what failed is not tried again at once; a change that nobody asked for is told in the audit log
//! before it is made, or is not made.

use crate::api::change::{Change, Target};
use crate::audit::Outcome;
use crate::audit::line::SERVER_STOP;
use crate::auth;
use crate::clock::{Moment, WallTime};
use crate::crypto;
use crate::integrity::Check;
use crate::keeper::group::Asked;
use crate::keeper::ledger::{Ledger, Now};
use crate::keeper::queue::Committed;
use crate::keeper::state::Entry;
use crate::keyring::{self, encode_uses, schedule};
use crate::limits::{
    FIGURES_PER_APPEND_MAX_COUNT, KEEPER_RETRY_MILLIS, SCHEDULED_CHANGES_MAX_COUNT, USES_PERSIST_SECONDS,
};
use crate::log::{self, Module};
use crate::model::RequestId;
use crate::publication::Epoch;
use crate::store::{AppendError, Condition, Kind, Record, SEAL_NONCE_BYTES};

/// When the keeper looks at what.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    /// The snapshot for which `next_due` was found.
    seen: Option<Epoch>,
    next_due: Option<WallTime>,
    changes_not_before: Moment,
    figures_not_before: Option<Moment>,
    /// What was in use when the round of the figures began, and whose turn is still to come.
    figures_left: Vec<Target>,
    pub(super) maintain_not_before: Moment,
    /// Whether the stop was told.
    stopped: bool,
}

/// Why figures were not written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unwritten {
    Append(AppendError),
    Crypto(crypto::Error),
}

impl Ledger {
    /// Looks at the time, about once in a second.
    pub(super) fn tick(&mut self, now: Now) {
        if let Err(error) = self.catch_up() {
            log::error(Module::Store, format_args!("the store cannot be read: {error}"));
            return;
        }
        self.run_due(now);
        self.diary.mend(now.wall);
        self.diary.tell_removed(now.wall);
        self.diary.tell_reloads(now.wall);
        self.diary.tell_findings(now.wall);
        let persist = USES_PERSIST_SECONDS * 1_000;
        let figures = *self.rounds.figures_not_before.get_or_insert(now.moment.plus_millis(persist));
        if self.rounds.figures_left.is_empty() && figures <= now.moment {
            self.rounds.figures_not_before = Some(now.moment.plus_millis(persist));
            self.begin_figures();
        }
        if !self.rounds.figures_left.is_empty() && self.write_figures(now).is_err() {
            // What was not written is news still.
            self.rounds.figures_left.clear();
            self.rounds.figures_not_before = Some(now.moment.plus_millis(persist));
        }
        self.checkpoint_if_due(now);
    }

    /// Writes down everything that is only in memory, if it can.
    pub(super) fn flush(&mut self, now: Now) {
        // What was written behind foreign bytes no start could read, and one byte would cost all of it.
        let is_given_up = self.store.standing().condition == Condition::Poisoned;
        let found = self.store.take_found().or_else(|| (!is_given_up).then(|| self.store.verify_tail()));
        if let Some(text) = found.and_then(|found| found.finding()) {
            log::error(Module::Integrity, format_args!("{}: {text}", Check::Journal.name()));
            self.diary.note_finding(Check::Journal, &text);
        }
        self.begin_figures();
        while !self.rounds.figures_left.is_empty() && self.write_figures(now).is_ok() {}
        self.diary.tell_removed(now.wall);
        self.diary.tell_reloads(now.wall);
        self.diary.tell_findings(now.wall);
        if !core::mem::replace(&mut self.rounds.stopped, true) {
            let _ = self.diary.tell(SERVER_STOP, Outcome::Success, None, now.wall);
        }
        let _ = self.diary.commit(now.wall);
        // After the last line: all that the streams hold can then be proved.
        self.checkpoint(now, true);
    }

    /// Writes down what the process found in itself, and nothing else: not even that it ends, because it does not end in
    /// order.
    pub(super) fn tell_findings(&mut self, now: Now) {
        self.diary.tell_findings(now.wall);
    }

    /// Housekeeping that failed is not tried again at once.
    pub(super) fn maintain_later(&mut self, now: Now) {
        self.rounds.maintain_not_before = now.moment.plus_millis(KEEPER_RETRY_MILLIS);
    }

    /// Rotates and destroys what is due.
    fn run_due(&mut self, now: Now) {
        if now.moment < self.rounds.changes_not_before || !self.is_due(now.wall) {
            return;
        }
        let at_most = match self.store.standing().condition {
            Condition::Good => SCHEDULED_CHANGES_MAX_COUNT,
            // One of them finds out whether it goes again.
            Condition::Full | Condition::Failing | Condition::Away => 1,
            Condition::Poisoned | Condition::SetBack => return,
        };
        let due = schedule::due(&self.publication.current().ring, now.wall, at_most);
        if !self.make(due, now) {
            self.rounds.changes_not_before = now.moment.plus_millis(KEEPER_RETRY_MILLIS);
        }
    }

    /// Makes changes that nobody asked for; returns whether all of it was done and told.
    pub(super) fn make(&mut self, due: Vec<keyring::Change>, now: Now) -> bool {
        let mut asked: Vec<(RequestId, Asked)> = Vec::with_capacity(due.len());
        let mut told = Ok(());
        for change in due.into_iter().map(Change::from) {
            match self.diary.attempt(&change, now.wall) {
                Ok(id) => asked.push((id, Asked { change, origin: id.to_bytes() })),
                Err(failed) => told = Err(failed),
            }
        }
        let told = told.and_then(|()| self.diary.commit(now.wall));
        told.is_ok() && self.carry_out_due(&asked, now)
    }

    /// Returns whether all of it was done and told.
    fn carry_out_due(&mut self, asked: &[(RequestId, Asked)], now: Now) -> bool {
        let mut done = true;
        let mut rest = asked;
        while !rest.is_empty() {
            let changes: Vec<&Asked> = rest.iter().map(|(_, asked)| asked).collect();
            let committed = self.commit(&changes, now);
            let (these, others) = rest.split_at_checked(committed.len()).unwrap_or((rest, &[]));
            for ((id, asked), Committed { outcome, head, .. }) in these.iter().zip(committed) {
                done &= outcome.is_ok();
                done &= self.diary.outcome(&asked.change, id, &outcome, head, now.wall).is_ok();
            }
            rest = others;
        }
        self.diary.commit(now.wall).is_ok() && done
    }

    fn is_due(&mut self, now: WallTime) -> bool {
        let epoch = self.publication.epoch();
        if self.rounds.seen != Some(epoch) {
            self.rounds.next_due = schedule::next_due(&self.publication.current().ring);
            self.rounds.seen = Some(epoch);
        }
        self.rounds.next_due.is_some_and(|due| due <= now)
    }

    /// Notes which keys and API keys were used since their figures were written down.
    fn begin_figures(&mut self) {
        let state = self.publication.current();
        let keys = state.ring.keys().filter(|key| key.has_news()).map(|key| Target::Key(key.name().clone()));
        let callers = state.callers.keys().filter(|key| key.usage.has_news());
        self.rounds.figures_left = keys.chain(callers.map(|key| Target::Caller(key.id))).collect();
    }

    /// Writes down the figures of those whose turn it is, as many as one append takes.
    fn write_figures(&mut self, now: Now) -> Result<(), Unwritten> {
        let state = self.publication.current();
        let revision = self.next_revision().map_err(Unwritten::Append)?;
        let mut used: Vec<Entry> = Vec::new();
        let mut records: Vec<Record> = Vec::new();
        let mut weight = 0;
        let mut unsealed = None;
        let bounds = self.store.bounds();
        let most = FIGURES_PER_APPEND_MAX_COUNT.min(bounds.records_count);
        while used.len() < most && weight < bounds.append_bytes / 2 {
            let Some(target) = self.rounds.figures_left.pop() else { break };
            if let Some(entry) = state.get(&target).filter(Entry::take_news) {
                let record = self.figures(&entry, revision, now);
                used.push(entry);
                match record {
                    Ok(record) => {
                        weight += record.weight();
                        records.push(record);
                    }
                    Err(error) => {
                        unsealed = Some(error);
                        break;
                    }
                }
            }
        }
        if used.is_empty() {
            return Ok(());
        }
        let written = match unsealed {
            Some(error) => Err(Unwritten::Crypto(error)),
            None => self.store.append(self.head.revision, &records, &[]).map_err(Unwritten::Append),
        };
        match written {
            Ok(head) => {
                self.stand_at(head, now);
                Ok(())
            }
            Err(error) => {
                used.iter().for_each(Entry::keep_news);
                Err(error)
            }
        }
    }

    /// The record of the figures of `entry`, for `revision`.
    fn figures(&mut self, entry: &Entry, revision: u64, now: Now) -> Result<Record, crypto::Error> {
        let (path, figures) = match entry {
            Entry::Key(key) => (self.sealer.path(Kind::Uses, key.name().as_str()), encode_uses(key)),
            Entry::Caller(key) => (self.sealer.path(Kind::CallerUse, key.id.as_str()), auth::encode_use(key)),
        };
        let nonce = self.random.array::<SEAL_NONCE_BYTES>(now.moment)?;
        let sealed = self.sealer.seal(path, revision, &nonce, &figures)?;
        Ok(Record { path, revision, sealed: Some(sealed) })
    }
}

impl Entry {
    /// Whether it was used since the last call; whoever asks writes the figures down.
    fn take_news(&self) -> bool {
        match self {
            Self::Key(key) => key.take_news(),
            Self::Caller(key) => key.usage.take_news(),
        }
    }

    /// Notes that the figures were not written down after all.
    fn keep_news(&self) {
        match self {
            Self::Key(key) => key.keep_news(),
            Self::Caller(key) => key.usage.keep_news(),
        }
    }
}
