//! The keeper's own audit stream: what the server does to keys by itself.
//!
//! Owns [`Diary`]. Invariants: a change that nobody asked for has its attempt in the log before it is made, and its
//! outcome after; no attempt of an earlier start stays without an outcome.

use std::fs::File;

use crate::audit::line::{Event, Outcome, Request};
use crate::audit::replay::Unfinished;
use crate::audit::{Sink, StoreMark, WriteFailed};
use crate::clock::WallTime;
use crate::keyring::{Change, ChangeError};
use crate::model::RequestId;
use crate::store::{Head, Origin};

/// The stream, and the identifiers of what it tells of.
#[derive(Debug)]
pub struct Diary {
    sink: Sink,
    /// Random for each start: the first half of the identifiers.
    start: u64,
    count: u64,
}

impl Diary {
    /// A diary in `file`, which appends, as the stream `stream`.
    #[must_use]
    pub fn new(file: File, stream: &str, start: u64) -> Self {
        Self { sink: Sink::new(file, stream), start, count: 0 }
    }

    /// Gives the attempts of earlier starts that have no outcome the one they had: `recent` are the origins of what the
    /// store took last.
    ///
    /// # Errors
    /// [`WriteFailed`]: what was written counts, the rest is for the next start.
    pub fn reconcile(
        &mut self,
        unfinished: &[Unfinished],
        recent: &[Origin],
        now: WallTime,
    ) -> Result<(), WriteFailed> {
        for of in unfinished {
            let origin = of.request.to_bytes();
            let kept = recent.iter().filter(|recent| **recent == origin).count();
            let outcome = if kept > of.before { Outcome::Success } else { Outcome::Failure };
            let about =
                Request { principal: of.principal.as_deref(), key: of.key.as_deref(), ..about(&of.request) };
            self.append(&of.event, outcome, Some("reconciled"), None, about, now)?;
        }
        self.sink.commit(now)
    }

    /// Tells that `change` is about to be made; returns the identifier under which.
    pub(super) fn attempt(&mut self, change: &Change, now: WallTime) -> Result<RequestId, WriteFailed> {
        self.count += 1;
        let id = RequestId::new(self.start, self.count);
        let about = Request { key: Some(change.key().as_str()), ..about(&id) };
        self.append(change.name(), Outcome::Attempt, None, None, about, now)?;
        Ok(id)
    }

    /// Tells what became of `change`.
    pub(super) fn outcome(
        &mut self,
        change: &Change,
        id: &RequestId,
        error: Option<ChangeError>,
        version: Option<u32>,
        head: Option<Head>,
        now: WallTime,
    ) -> Result<(), WriteFailed> {
        let outcome = if error.is_some() { Outcome::Failure } else { Outcome::Success };
        let about = Request { key: Some(change.key().as_str()), key_version: version, ..about(id) };
        self.append(
            change.name(),
            outcome,
            error.map(|error| crate::api::Rejection::from(error).code()),
            head,
            about,
            now,
        )
    }

    /// Writes what was told.
    pub(super) fn commit(&mut self, now: WallTime) -> Result<(), WriteFailed> {
        self.sink.commit(now)
    }

    /// Whether what was told last could not be written.
    pub(super) fn is_broken(&self) -> bool {
        self.sink.is_broken()
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
            self.sink.commit(at)?;
        }
        let store = head.map(mark);
        self.sink.append(&Event { at, name, outcome, code, count: None, store, request: Some(about) });
        Ok(())
    }
}

/// A head as audit lines tell it.
#[must_use]
pub const fn mark(head: Head) -> StoreMark {
    StoreMark { revision: head.revision, tag: head.tag }
}

/// What the server does by itself has neither a principal nor an address.
const fn about(id: &RequestId) -> Request<'_> {
    Request {
        id,
        principal: None,
        remote: None,
        route: None,
        status: 0,
        elapsed_micros: 0,
        key: None,
        key_version: None,
        detail: None,
        items: None,
        bytes: None,
    }
}
