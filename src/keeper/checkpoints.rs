//! How far the audit streams have come, sealed in the store now and then: whoever can write to the audit files alone cannot
//! cut them off unseen.
//!
//! Owns [`Checkpoints`], of this start and of earlier ones. Invariants: a server that tells nothing writes nothing; what is
//! about to be removed is named in the store before it is gone; of earlier starts the latest are kept.

use std::sync::Arc;

use crate::audit::chain::{Mark, Tip};
use crate::audit::{Checkpoint, Start, Stream, StreamMark, Who};
use crate::clock::Moment;
use crate::crypto;
use crate::keeper::ledger::{Ledger, Now};
use crate::limits::{AUDIT_CHECKPOINT_SECONDS, AUDIT_CHECKPOINTS_MAX_COUNT, KEEPER_RETRY_MILLIS};
use crate::store::{AppendError, Kind, Record, SEAL_NONCE_BYTES};

/// What the keeper knows of audit streams.
#[derive(Debug)]
pub struct Checkpoints {
    start: Start,
    tips: Vec<(Who, Arc<Tip>)>,
    /// What the store has of this start: nothing until the first time.
    own: Checkpoint,
    /// Of earlier starts, the oldest first.
    earlier: Vec<Checkpoint>,
    /// Where the keeper's own stream stood after it had told of the last checkpoint: that is no news.
    settled: Mark,
    not_before: Option<Moment>,
}

/// A part of a stream that is to be removed, since it is old enough.
#[derive(Clone, Copy, Debug)]
pub struct Removal {
    /// The stream.
    pub stream: Stream,
    /// The last line that goes.
    pub through: Mark,
    /// Whether no other part is left of it.
    pub is_all: bool,
}

/// Why a checkpoint was not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unwritten {
    Append(AppendError),
    Crypto(crypto::Error),
}

impl Checkpoints {
    /// Of the streams of `start`, whose last lines stand in `tips` in the order of [`Who`], and what the store has of
    /// `earlier` ones.
    #[must_use]
    pub fn new(start: Start, tips: Vec<(Who, Arc<Tip>)>, found: Vec<Checkpoint>) -> Self {
        let mut earlier: Vec<Checkpoint> = Vec::with_capacity(found.len());
        for of in found {
            earlier.insert(earlier.partition_point(|before| before.start < of.start), of);
        }
        let own = Checkpoint { start, ended: false, streams: Vec::new() };
        Self { start, tips, own, earlier, settled: Mark::default(), not_before: None }
    }

    /// What the streams have come to.
    fn reached(&self, ended: bool) -> Checkpoint {
        let of = |(who, tip): &(Who, Arc<Tip>)| {
            let stream = Stream { start: self.start, who: *who };
            let removed = self.own.of(stream).map_or_else(Mark::default, |of| of.removed);
            StreamMark { who: *who, last: tip.get(), removed }
        };
        Checkpoint { start: self.start, ended, streams: self.tips.iter().map(of).collect() }
    }

    /// What is to be written down, if there is news.
    fn news(&self, ended: bool) -> Option<Checkpoint> {
        let reached = self.reached(ended);
        let mut known = self.own.clone();
        for of in known.streams.iter_mut().filter(|of| of.who == Who::Keeper) {
            of.last = self.settled;
        }
        (!self.tips.is_empty() && reached != known).then_some(reached)
    }

    /// Starts of which nothing is kept any more, since there are later ones.
    fn too_many(&self) -> usize {
        self.earlier.len().saturating_sub(AUDIT_CHECKPOINTS_MAX_COUNT - 1)
    }

    /// Takes what is to be removed out of what is known; returns what has to be written for it.
    fn without(&self, removals: &[Removal]) -> Vec<Checkpoint> {
        let mut changed: Vec<Checkpoint> = Vec::new();
        for removal in removals {
            let start = removal.stream.start;
            if !changed.iter().any(|of| of.start == start) {
                let own = (start == self.start).then(|| self.reached(false));
                changed.extend(own.or_else(|| self.earlier.iter().find(|of| of.start == start).cloned()));
            }
            let Some(of) = changed.iter_mut().find(|of| of.start == start) else { continue };
            if removal.is_all && start != self.start {
                of.streams.retain(|of| of.who != removal.stream.who);
            }
            for of in of.streams.iter_mut().filter(|of| of.who == removal.stream.who) {
                // What was written after the last checkpoint may be removed as well.
                of.removed = removal.through;
                of.last = if of.last.seq < removal.through.seq { removal.through } else { of.last };
            }
        }
        changed
    }

    /// Notes what is durable.
    fn note(&mut self, written: Vec<Checkpoint>) {
        for of in written {
            if of.start == self.start {
                self.own = of;
            } else if of.streams.is_empty() {
                self.earlier.retain(|earlier| earlier.start != of.start);
            } else if let Some(place) = self.earlier.iter_mut().find(|earlier| earlier.start == of.start) {
                *place = of;
            }
        }
    }
}

impl Ledger {
    /// Seals how far the audit streams have come, if it is time for it and there is news.
    pub(super) fn checkpoint_if_due(&mut self, now: Now) {
        let pause = AUDIT_CHECKPOINT_SECONDS * 1_000;
        let due = *self.checkpoints.not_before.get_or_insert(now.moment.plus_millis(pause));
        if due > now.moment {
            return;
        }
        let written = self.checkpoint(now, false);
        let pause = if written { pause } else { KEEPER_RETRY_MILLIS };
        self.checkpoints.not_before = Some(now.moment.plus_millis(pause));
    }

    /// Seals how far the audit streams have come, if there is news; returns whether that is in the store.
    pub(super) fn checkpoint(&mut self, now: Now, ended: bool) -> bool {
        let Some(reached) = self.checkpoints.news(ended) else { return true };
        let gone = self.checkpoints.too_many();
        let mut changed: Vec<Checkpoint> = self.checkpoints.earlier.iter().take(gone).cloned().collect();
        changed.iter_mut().for_each(|of| of.streams.clear());
        changed.push(reached);
        self.write_checkpoints(changed, now).is_ok()
    }

    /// Notes in the store that parts of audit streams are about to be removed; returns whether they may be.
    pub(super) fn note_removed(&mut self, removals: &[Removal], now: Now) -> bool {
        let changed = self.checkpoints.without(removals);
        changed.is_empty() || self.write_checkpoints(changed, now).is_ok()
    }

    fn write_checkpoints(&mut self, changed: Vec<Checkpoint>, now: Now) -> Result<(), Unwritten> {
        let (mut rest, bounds) = (changed, self.store.bounds());
        while !rest.is_empty() {
            let revision = self.next_revision().map_err(Unwritten::Append)?;
            let (mut weight, mut records) = (0, Vec::new());
            for of in &rest {
                let record = self.checkpoint_record(of, revision, now).map_err(Unwritten::Crypto)?;
                weight += record.weight();
                if (weight > bounds.append_bytes || records.len() >= bounds.records_count)
                    && !records.is_empty()
                {
                    break;
                }
                records.push(record);
            }
            let head = self.store.append(self.head.revision, &records, &[]).map_err(Unwritten::Append)?;
            let written: Vec<Checkpoint> = rest.drain(..records.len()).collect();
            self.checkpoints.note(written);
            // Told as any other: a store that loses it later was rolled back.
            self.stand_at(head, now);
        }
        let keepers = self.checkpoints.tips.iter().find(|(who, _)| *who == Who::Keeper);
        self.checkpoints.settled = keepers.map_or_else(Mark::default, |(_, tip)| tip.get());
        Ok(())
    }

    /// The record of a start, for `revision`; a start without streams has none.
    fn checkpoint_record(
        &mut self,
        of: &Checkpoint,
        revision: u64,
        now: Now,
    ) -> Result<Record, crypto::Error> {
        let path = self.sealer.path(Kind::Checkpoint, &of.name());
        if of.streams.is_empty() {
            return Ok(Record { path, revision, sealed: None });
        }
        let nonce = self.random.array::<SEAL_NONCE_BYTES>(now.moment)?;
        let sealed = self.sealer.seal(path, revision, &nonce, &of.encode())?;
        Ok(Record { path, revision, sealed: Some(sealed) })
    }
}
