//! A store in memory for tests: shared by as many keepers as one likes, and as faulty as one likes.
//!
//! Owns [`Shelf`]. Invariant: it keeps to the contract of [`Store`], so what works with it works with any.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::store::{
    AppendError, Compacted, Condition, Deliver, Head, Loaded, MaintainError, Origin, Record, Standing, Store,
    StoreError,
};

/// What the next appends do instead of succeeding.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    /// They fail, and nothing remains.
    Fails(AppendError),
    /// Nobody knows whether they were kept, and they were.
    Kept,
    /// Nobody knows whether they were kept, and they were not.
    Lost,
}

#[derive(Debug, Default)]
pub(super) struct Inner {
    /// The appends that were kept: their number is the revision.
    pub(super) appends: Vec<(Vec<Record>, Vec<Origin>)>,
    pub(super) faults: VecDeque<Fault>,
    pub(super) poisoned: bool,
}

/// Done between the moment a keeper decides and the moment it writes.
type Interloper = Box<dyn FnOnce() + Send>;

/// One handle on the shelf.
#[derive(Default)]
pub(super) struct Shelf {
    inner: Arc<Mutex<Inner>>,
    interloper: Arc<Mutex<Option<Interloper>>>,
}

impl Shelf {
    /// Another handle, for another keeper.
    pub(super) fn another(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), interloper: Arc::default() }
    }

    /// The same handle, to look at it from outside.
    pub(super) fn same(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), interloper: Arc::clone(&self.interloper) }
    }

    pub(super) fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    pub(super) fn revision(&self) -> u64 {
        self.inner().appends.len() as u64
    }

    /// Has `act` done in the middle of the next append of this handle.
    pub(super) fn interrupt(&self, act: impl FnOnce() + Send + 'static) {
        *self.interloper.lock().unwrap() = Some(Box::new(act));
    }
}

fn head(revision: u64) -> Head {
    Head { revision, tag: [u8::try_from(revision % 251).unwrap(); 16] }
}

impl Store for Shelf {
    fn load(&mut self, each: &mut Deliver<'_>) -> Result<Loaded, StoreError> {
        let head = self.watch(0, each)?;
        let recent = self.inner().appends.iter().flat_map(|(_, origins)| origins.clone()).collect();
        Ok(Loaded { head, recent, ..Loaded::default() })
    }

    fn append(&mut self, expected: u64, records: &[Record], origins: &[Origin]) -> Result<Head, AppendError> {
        let interloper = self.interloper.lock().unwrap().take();
        if let Some(act) = interloper {
            act();
        }
        let mut inner = self.inner();
        let at = inner.appends.len() as u64;
        if inner.poisoned {
            return Err(AppendError::Refused);
        }
        if at != expected {
            return Err(AppendError::Conflict { at });
        }
        if records.iter().any(|record| record.revision != expected + 1) {
            return Err(AppendError::Malformed);
        }
        let kept = match inner.faults.pop_front() {
            Some(Fault::Fails(error)) => return Err(error),
            Some(Fault::Lost) => {
                inner.poisoned = true;
                return Err(AppendError::Ambiguous);
            }
            Some(Fault::Kept) => Err(AppendError::Ambiguous),
            None => Ok(head(expected + 1)),
        };
        inner.poisoned = kept.is_err();
        inner.appends.push((records.to_vec(), origins.to_vec()));
        kept
    }

    fn watch(&mut self, since: u64, each: &mut Deliver<'_>) -> Result<Head, StoreError> {
        let appends = self.inner().appends.clone();
        let news = appends.iter().skip(usize::try_from(since).unwrap());
        for record in news.flat_map(|(records, _)| records) {
            each(record.clone())?;
        }
        Ok(head(appends.len() as u64))
    }

    fn maintain(&mut self) -> Result<Option<Compacted>, MaintainError> {
        Ok(None)
    }

    fn standing(&self) -> Standing {
        let condition = if self.inner().poisoned { Condition::Poisoned } else { Condition::Good };
        Standing {
            condition,
            bytes: 0,
            live_records: 0,
            live_bytes: 0,
            last_sync_micros: 0,
            compacts_in_use: false,
        }
    }

    fn leave(&mut self) {
        self.inner().poisoned = true;
    }
}
