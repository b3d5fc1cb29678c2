//! The keeper's own audit stream: what the server does to keys by itself.
//!
//! Owns [`Diary`]. Invariants: a change that nobody asked for has its attempt in the log before it is made, and its
//! outcome after; no attempt of an earlier start stays without an outcome; where the store stands is told only of what
//! is durable, again if it could not be told, and in each part of the stream, so that those before it are not needed for it.

use std::collections::HashMap;
use std::sync::Arc;

use crate::api::Rejection;
use crate::api::change::{Change, ChangeError, Outcome as Made};
use crate::audit::line::{
    AUDIT_REMOVED, Event, INTEGRITY_CLEARED, INTEGRITY_FINDING, Outcome, Own, Request, SANDBOX_SKIPPED,
    SERVER_START, STORE_HEAD, TLS_RELOAD,
};
use crate::audit::replay::Unfinished;
use crate::audit::{Finding, Office, Outlets, StoreMark, StreamName, WriteFailed};
use crate::clock::WallTime;
use crate::integrity::Check;
use crate::limits::{REMOVALS_PER_COMMIT_COUNT, STORE_ORIGINS_MAX_COUNT};
use crate::metrics::Stream as Counters;
use crate::model::{Mode, RequestId};
use crate::store::{Head, Origin};

/// The stream, and the identifiers of what it tells of.
#[derive(Debug)]
pub struct Diary {
    sink: Outlets,
    /// Random for each start: the first half of the identifiers.
    start: u64,
    count: u64,
    /// Where the store stands, as long as it is not told.
    untold: Option<Head>,
    /// Where it was told to stand last, and in which part of the stream.
    told: Option<(Head, Option<u32>)>,
    /// Who removes audit files, and which of them were not told yet.
    office: Option<Arc<Office>>,
    removed: Vec<StreamName>,
}

impl Diary {
    /// A diary that goes to `sink`, whose lines are told as soon as they are committed.
    #[must_use]
    pub fn new(sink: Outlets, start: u64) -> Self {
        Self { sink, start, count: 0, untold: None, told: None, office: None, removed: Vec::new() }
    }

    /// What is counted of its lines.
    #[must_use]
    pub fn counters(&self) -> Arc<Counters> {
        self.sink.counters()
    }

    /// The same, which tells what `office` says was removed.
    #[must_use]
    pub fn with_office(self, office: Arc<Office>) -> Self {
        Self { office: Some(office), ..self }
    }

    /// Tells of something that happened to the server as a whole. It goes out with the next commit.
    ///
    /// # Errors
    /// [`WriteFailed`] if the log takes nothing.
    pub fn tell(
        &mut self,
        name: &str,
        outcome: Outcome,
        code: Option<&'static str>,
        at: WallTime,
    ) -> Result<(), WriteFailed> {
        self.tell_own((name, outcome), code, None, at)
    }

    fn tell_own(
        &mut self,
        (name, outcome): (&str, Outcome),
        code: Option<&'static str>,
        own: Option<Own<'_>>,
        at: WallTime,
    ) -> Result<(), WriteFailed> {
        if !self.sink.has_room() {
            self.sink.commit_now(at)?;
        }
        self.sink.append(&Event { at, name, outcome, code, count: None, own, store: None, request: None });
        Ok(())
    }

    /// Tells that the server is locked in, how much of it had to be, and which steps were not taken.
    ///
    /// # Errors
    /// [`WriteFailed`] if the log takes nothing.
    pub fn begin(
        &mut self,
        mode: Mode,
        skipped: impl IntoIterator<Item = &'static str>,
        at: WallTime,
    ) -> Result<(), WriteFailed> {
        self.tell_own((SERVER_START, Outcome::Success), None, Some(Own::Mode(mode)), at)?;
        for step in skipped {
            self.tell(SANDBOX_SKIPPED, Outcome::Failure, Some(step), at)?;
        }
        self.sink.commit_now(at)
    }

    /// Tells where the store stands, durably: a store that is behind it later was rolled back. Here the traffic of the
    /// workers cannot push it out of what a start reads.
    ///
    /// # Errors
    /// [`WriteFailed`]: a later look tells it again.
    pub fn stand_at(&mut self, head: Head, now: WallTime) -> Result<(), WriteFailed> {
        self.untold = Some(head);
        self.tell_standing(now)
    }

    /// Makes good what could not be told, if it goes again.
    pub(super) fn mend(&mut self, now: WallTime) {
        // The part that told it may be removed one day, like any other.
        let elsewhere = self.told.filter(|(_, part)| *part != self.sink.part());
        self.untold = self.untold.or(elsewhere.map(|(head, _)| head));
        if self.untold.is_some() {
            let _ = self.tell_standing(now);
        } else if self.sink.is_broken() {
            // Says what is missing.
            let _ = self.sink.commit_now(now);
        }
    }

    /// Tells which audit files were removed since it was told last.
    pub(super) fn tell_removed(&mut self, at: WallTime) {
        if let Some(office) = &self.office {
            self.removed.append(&mut office.take_removed());
        }
        while !self.removed.is_empty() {
            let some = self.removed.len().min(REMOVALS_PER_COMMIT_COUNT);
            let (name, outcome) = (AUDIT_REMOVED, Outcome::Success);
            for part in self.removed.iter().take(some) {
                let own = Some(Own::Removed(*part));
                let event =
                    Event { at, name, outcome, code: None, count: None, own, store: None, request: None };
                self.sink.append(&event);
            }
            if self.sink.commit_now(at).is_err() {
                // Told again with the next tick; a gap names what was not written.
                return;
            }
            self.removed.drain(..some);
        }
    }

    /// Tells which reloads of certificates there were since it was told last.
    pub(super) fn tell_reloads(&mut self, at: WallTime) {
        let reloads = self.office.as_ref().map(|office| office.take_reloads()).unwrap_or_default();
        let Some((office, _)) = self.office.clone().zip(reloads.first()) else { return };
        for replaced in &reloads {
            let outcome = if *replaced { Outcome::Success } else { Outcome::Failure };
            let _ = self.tell(TLS_RELOAD, outcome, None, at);
        }
        if self.sink.commit_now(at).is_err() {
            // Told again with the next tick; a gap names what was not written.
            reloads.into_iter().for_each(|replaced| office.note_reload(replaced));
        }
    }

    /// Notes that `check` found this, to be told with the other findings.
    pub(super) fn note_finding(&self, check: Check, found: &str) {
        if let Some(office) = &self.office {
            office.note_finding(check, Some(found));
        }
    }

    /// Tells what the process found in itself, or does not find any more, as far as it is not told.
    pub(super) fn tell_findings(&mut self, at: WallTime) {
        let Some(office) = self.office.clone() else { return };
        let findings = office.untold_findings();
        let Some(last) = findings.last().map(|finding| finding.number) else { return };
        for Finding { check, found, lost, .. } in &findings {
            let ((name, outcome), own) = match found {
                Some(text) => ((INTEGRITY_FINDING, Outcome::Failure), Own::Finding(*check, text)),
                None => ((INTEGRITY_CLEARED, Outcome::Success), Own::Cleared(*check)),
            };
            if !self.sink.has_room() && self.sink.commit_now(at).is_err() {
                return;
            }
            let (count, own) = ((*lost > 0).then_some(*lost), Some(own));
            self.sink.append(&Event {
                at,
                name,
                outcome,
                code: None,
                count,
                own,
                store: None,
                request: None,
            });
        }
        // What could not be written is told again with the next tick; a gap names the numbers.
        if self.sink.commit_now(at).is_ok() {
            office.tell_findings(last);
        }
    }

    fn tell_standing(&mut self, at: WallTime) -> Result<(), WriteFailed> {
        let store = self.untold.map(mark);
        if !self.sink.has_room() {
            self.sink.commit_now(at)?;
        }
        let (name, outcome) = (STORE_HEAD, Outcome::Success);
        let event = Event { at, name, outcome, code: None, count: None, own: None, store, request: None };
        self.sink.append(&event);
        self.sink.commit_now(at)?;
        let part = self.sink.part();
        self.told = self.untold.take().map(|head| (head, part));
        if let Some((office, part)) = self.office.as_ref().zip(part) {
            office.note_standing(part);
        }
        Ok(())
    }

    /// Gives the attempts of earlier starts that have no outcome the one they had: `recent` are the origins of what the
    /// store took last. If these do not reach back to an attempt, its outcome is unknown.
    ///
    /// # Errors
    /// [`WriteFailed`]: what was written counts, the rest is for the next start.
    pub fn reconcile(
        &mut self,
        unfinished: &[Unfinished],
        recent: &[Origin],
        now: WallTime,
    ) -> Result<(), WriteFailed> {
        let mut kept: HashMap<Origin, usize> = HashMap::with_capacity(recent.len());
        recent.iter().for_each(|origin| *kept.entry(*origin).or_insert(0) += 1);
        for of in unfinished {
            let of_request = |request: &RequestId| kept.get(&request.to_bytes()).copied().unwrap_or(0);
            let reaches_back = recent.len() < STORE_ORIGINS_MAX_COUNT
                || of.after.as_ref().is_some_and(|after| of_request(after) > 0);
            let outcome = match of_request(&of.request) > of.before {
                true => Outcome::Success,
                false if reaches_back => Outcome::Failure,
                false => Outcome::Unknown,
            };
            let about = Request {
                principal: of.principal.as_deref(),
                key: of.key.as_deref(),
                api_key: of.api_key.as_deref(),
                ..about(&of.request)
            };
            self.append(&of.event, outcome, Some("reconciled"), None, about, now)?;
        }
        self.sink.commit_now(now)
    }

    /// Tells that `change` is about to be made; returns the identifier under which.
    pub(super) fn attempt(&mut self, change: &Change, now: WallTime) -> Result<RequestId, WriteFailed> {
        self.count += 1;
        let id = RequestId::new(self.start, self.count);
        let target = change.target();
        let about = Request { key: target.key(), api_key: target.api_key(), ..about(&id) };
        self.append(change.name(), Outcome::Attempt, None, None, about, now)?;
        Ok(id)
    }

    /// Tells what became of `change`.
    pub(super) fn outcome(
        &mut self,
        change: &Change,
        id: &RequestId,
        made: &Result<Made, ChangeError>,
        head: Option<Head>,
        now: WallTime,
    ) -> Result<(), WriteFailed> {
        let outcome = if made.is_err() { Outcome::Failure } else { Outcome::Success };
        let code = made.as_ref().err().map(|error| Rejection::from(*error).code());
        let (target, key_version) = (change.target(), made.as_ref().ok().and_then(Made::version));
        let about = Request { key: target.key(), api_key: target.api_key(), key_version, ..about(id) };
        self.append(change.name(), outcome, code, head, about, now)
    }

    /// Writes what was told.
    pub(super) fn commit(&mut self, now: WallTime) -> Result<(), WriteFailed> {
        self.sink.commit_now(now)
    }

    /// What `next` would be if it had taken over from this one.
    #[cfg(test)]
    pub(super) fn continued_by(&self, next: Self) -> Self {
        Self { untold: self.untold, ..next }
    }

    fn append(
        &mut self,
        name: &str,
        outcome: Outcome,
        code: Option<&'static str>,
        head: Option<Head>,
        about: Request<'_>,
        at: WallTime,
    ) -> Result<(), WriteFailed> {
        if !self.sink.has_room() {
            self.sink.commit_now(at)?;
        }
        let store = head.map(mark);
        let request = Some(about);
        self.sink.append(&Event { at, name, outcome, code, count: None, own: None, store, request });
        Ok(())
    }
}

/// A head as audit lines tell it.
#[must_use]
pub const fn mark(head: Head) -> StoreMark {
    StoreMark { revision: head.revision, tag: head.tag }
}

/// What the server does by itself has neither a principal nor an address.
pub(super) const fn about(id: &RequestId) -> Request<'_> {
    Request {
        id,
        principal: None,
        token: None,
        identity: None,
        remote: None,
        trace: None,
        route: None,
        status: 0,
        elapsed_micros: 0,
        key: None,
        api_key: None,
        key_version: None,
        detail: None,
        items: None,
        bytes: None,
        body: None,
    }
}
