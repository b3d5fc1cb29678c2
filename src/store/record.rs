//! The state that outlives a run: sealed records, and the seam to what keeps them.
//!
//! Owns [`Record`], [`Head`], [`Witness`] and the trait [`Store`] with the errors of a change. Invariants: below the
//! trait a record is opaque, and nothing in it says how or where it is kept; a change is in the store as a whole or
//! not at all; the revision grows with each change and never repeats.

use core::fmt;
use std::os::fd::OwnedFd;

use super::error::StoreError;
use crate::limits::{
    STORE_APPEND_MAX_BYTES, STORE_RECORD_MAX_BYTES, STORE_RECORD_OVERHEAD_BYTES,
    STORE_REVISION_BELIEVED_MAX_NUMBER,
};

/// Where a record stands: what is left of an HMAC over its kind and name, so that the store knows neither.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Path([u8; Self::BYTES]);

impl Path {
    /// Length of a path.
    pub const BYTES: usize = 16;

    /// A path of these bytes; [`super::Sealer::path`] makes them of a name.
    #[must_use]
    pub const fn new(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Path({self})")
    }
}

/// One sealed value, or the news that there is none any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Where it stands.
    pub path: Path,
    /// The revision with which the store took it: one more than the one that stood before.
    pub revision: u64,
    /// What [`super::Sealer::seal`] made; nothing if the record was removed.
    pub sealed: Option<Vec<u8>>,
}

impl Record {
    /// What it adds to an append, whose records together may weigh
    /// [`crate::limits::STORE_APPEND_MAX_BYTES`].
    #[must_use]
    pub fn weight(&self) -> usize {
        STORE_RECORD_OVERHEAD_BYTES + self.sealed.as_ref().map_or(0, Vec::len)
    }

    /// Whether the store takes a value of this length.
    #[must_use]
    pub fn fits(&self) -> bool {
        self.sealed.as_ref().is_none_or(|sealed| sealed.len() <= STORE_RECORD_MAX_BYTES)
    }
}

/// Where the state stands. The default is a store in which nothing was ever written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// How many changes led here; it never repeats.
    pub revision: u64,
    /// Authenticates all that led here: another history has another tag.
    pub tag: [u8; 16],
}

/// The request that caused a change: its `X-Request-Id` as bytes.
pub type Origin = [u8; 16];

/// What is known from outside about how far the store has been.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Witness {
    /// The latest head that was seen, in the audit log for instance.
    pub head: Option<Head>,
    /// A revision that the store must have reached.
    pub min_revision: u64,
    /// The operator's word that a store which falls behind may be used.
    pub accept_rollback: bool,
}

impl Witness {
    /// Whether a store that stands at `head` has all that the witness saw.
    ///
    /// # Errors
    /// [`StoreError::RolledBack`] if it is behind, or at the same revision by another history, and the operator did
    /// not accept that; [`StoreError::RevisionTooHigh`], accepted or not, if it names what no store reaches.
    pub fn check(&self, head: Head) -> Result<(), StoreError> {
        let revision = self.reached();
        if revision > STORE_REVISION_BELIEVED_MAX_NUMBER {
            return Err(StoreError::RevisionTooHigh { revision });
        }
        if self.accept_rollback || !self.is_ahead(head) {
            return Ok(());
        }
        Err(StoreError::RolledBack { found: head.revision, expected: revision })
    }

    /// Whether the witness saw more than what led to `head`, or something else.
    #[must_use]
    pub fn is_ahead(&self, head: Head) -> bool {
        let other = self.head.is_some_and(|seen| seen.revision == head.revision && seen.tag != head.tag);
        other || self.reached() > head.revision
    }

    /// The greatest revision that was seen.
    #[must_use]
    pub fn reached(&self) -> u64 {
        self.head.map_or(0, |head| head.revision).max(self.min_revision)
    }
}

/// What a store holds, told once all records were delivered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Where the state stands.
    pub head: Head,
    /// The origins of the last changes ([`crate::limits::STORE_ORIGINS_MAX_COUNT`] at most), the oldest first.
    pub recent: Vec<Origin>,
    /// What a crash had left unfinished, and was cut off; nothing of it had been acknowledged.
    pub torn: Option<TornTail>,
    /// Whether the operator accepted a store that fell behind its witness. Its revision was raised beyond what the
    /// witness saw, so that the next start does not ask again.
    pub rolled_back: bool,
}

/// The end of a change that was never finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// Where it began.
    pub offset: u64,
    /// How many bytes it had.
    pub bytes: u64,
}

/// Keeps the sealed records: the seam between the keeper and a journal on a disk, or an engine elsewhere.
pub trait Store: Send {
    /// Delivers the records of the state and says where the state stands. Superseded records may come before their
    /// successors, and removals may be delivered; the last word on a path is the valid one.
    ///
    /// # Errors
    /// Why the store cannot be used, with what to do; what `each` refused.
    fn load(&mut self, each: &mut Deliver<'_>) -> Result<Loaded, StoreError>;

    /// Appends all of `records` or none, durably, if the state still stands at `expected`. Each record has the
    /// revision `expected + 1`; of several with one path the last counts.
    ///
    /// # Errors
    /// An [`AppendError`], which says whether anything may have remained.
    fn append(&mut self, expected: u64, records: &[Record], origins: &[Origin]) -> Result<Head, AppendError>;

    /// Delivers what others have written since revision `since`: what is there at once, it never waits. A store
    /// with a single writer gives nothing.
    ///
    /// # Errors
    /// Why the store cannot be used; what `each` refused.
    fn watch(&mut self, since: u64, each: &mut Deliver<'_>) -> Result<Head, StoreError>;

    /// Housekeeping between changes, when it is worth it. Returns what was done, for the log.
    ///
    /// # Errors
    /// Why it was not done. The state is as before; whether changes are still taken is in [`Store::standing`].
    fn maintain(&mut self) -> Result<Option<Compacted>, MaintainError>;

    /// How the store is.
    fn standing(&self) -> Standing;

    /// Looks again at the end of what was written, as far as the store has one of its own. Before anything further is
    /// appended, what stands behind a sound end is cut off; on a damaged one nothing is appended any more.
    fn verify_tail(&mut self) -> Tail {
        Tail::Sound { bytes: 0 }
    }

    /// What was found at the end of what was written since this was asked last, by looks that nobody asked for: those that
    /// come before each append.
    fn take_found(&mut self) -> Option<Tail> {
        None
    }

    /// The directory that stays open, if the store needs one.
    fn directory(&mut self) -> Option<&mut OwnedFd> {
        None
    }

    /// How much one append takes.
    fn bounds(&self) -> Bounds {
        Bounds::default()
    }

    /// When what was delivered was known to be the newest, in nanoseconds of the clock that counts from the boot
    /// ([`crate::clock::BootTime`]). Nothing: nobody else writes, so that it always is.
    fn fresh_nanos(&self) -> Option<u64> {
        None
    }

    /// How many servers share the store and live, this one among them.
    fn members(&self) -> usize {
        1
    }

    /// Whether the way to the store is gone for good, so that only another start mends it.
    fn is_cut(&self) -> bool {
        false
    }

    /// Takes no changes any more, and does no housekeeping: what is written stays as it is.
    fn leave(&mut self);
}

/// How much one append takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// What its records may weigh together.
    pub append_bytes: usize,
    /// The longest sealed value.
    pub record_bytes: usize,
    /// How many records.
    pub records_count: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            append_bytes: STORE_APPEND_MAX_BYTES,
            record_bytes: STORE_RECORD_MAX_BYTES,
            records_count: usize::MAX,
        }
    }
}

/// What a look at the end of a store found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tail {
    /// So many bytes are as they were written, and nothing stands behind them.
    Sound {
        /// How many.
        bytes: u64,
    },
    /// All that was written is as it was; what others had written behind it was cut off.
    Foreign {
        /// Where it began.
        offset: u64,
    },
    /// Something else stands there. The store takes no changes any more.
    Damaged {
        /// Where it begins.
        offset: u64,
    },
    /// It could not be looked at: the disk would not be read.
    Unread,
    /// It is not looked at, since the store takes no changes any more for another reason.
    GivenUp,
}

impl Tail {
    /// What is wrong with it, or why that is not known, for people; nothing if nothing is wrong.
    #[must_use]
    pub fn finding(&self) -> Option<String> {
        match self {
            Self::Sound { .. } => None,
            Self::Unread => Some("the end of the journal could not be read".to_owned()),
            Self::GivenUp => {
                Some("the store takes no changes any more, and its end is not looked at".to_owned())
            }
            Self::Foreign { offset } => Some(format!(
                "the journal had bytes behind its end, from byte {offset} on, that this server did not write: they \
                 were cut off"
            )),
            Self::Damaged { offset } => Some(format!(
                "the end of the journal is not what was written, from byte {offset} on: no changes are taken until \
                 the server is restarted"
            )),
        }
    }
}

/// Takes a record, or says why it cannot.
pub type Deliver<'a> = dyn FnMut(Record) -> Result<(), Unreadable> + 'a;

/// A record that was kept faithfully and still cannot be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Where it stands.
    pub path: Path,
    /// Its revision.
    pub revision: u64,
    /// What is wrong with it.
    pub why: &'static str,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the record {} of revision {} cannot be read: {}", self.path, self.revision, self.why)
    }
}

impl std::error::Error for Unreadable {}

/// Why a change was not appended, or not certainly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendError {
    /// The state moved on. Nothing was written.
    Conflict {
        /// Where it stands.
        at: u64,
    },
    /// There is no room. Nothing remains; it may be tried again.
    Full,
    /// Writing failed. Nothing remains; it may be tried again.
    Failed,
    /// The store cannot be reached. Nothing was written; it may be tried again.
    Away,
    /// It was written, and whether it is durable is unknown. The store takes no change until it is opened anew.
    Ambiguous,
    /// An earlier failure left the store in a state that is unknown. It takes no change until it is opened anew.
    Refused,
    /// The records are too large, alone or together. Nothing was written.
    TooLarge,
    /// A record is not of the revision after the expected one: a defect of the caller. Nothing was written.
    Malformed,
}

impl fmt::Display for AppendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Conflict { at } => write!(f, "the store stands at revision {at} already"),
            Self::Full => f.write_str("the store has no room left: free some space"),
            Self::Failed => f.write_str("writing to the store failed; nothing of the change remains"),
            Self::Away => f.write_str("the store cannot be reached; nothing was changed"),
            Self::Ambiguous => f.write_str(
                "the disk did not confirm the change, which may be kept or not; changes are refused until a restart",
            ),
            Self::Refused => f.write_str("the disk failed earlier; changes are refused until a restart"),
            Self::TooLarge => f.write_str("the change is larger than the store takes"),
            Self::Malformed => f.write_str("the change is not of the next revision"),
        }
    }
}

impl std::error::Error for AppendError {}

/// What housekeeping did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compacted {
    /// Length before.
    pub before_bytes: u64,
    /// Length now.
    pub after_bytes: u64,
    /// Records that are kept.
    pub records: u64,
}

/// Why housekeeping was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaintainError {
    /// There is no room for it.
    Full,
    /// Reading or writing failed.
    Failed {
        /// What was tried.
        action: &'static str,
        /// The system's number for the error.
        errno: i32,
    },
    /// What was written earlier cannot be read back any more, from this place on, and the next start would refuse it. The
    /// store takes no change any more: take a backup of the keys while the server runs.
    Damaged {
        /// Where.
        offset: u64,
    },
    /// It was done, and whether that is durable is unknown. The store takes no change until it is opened anew.
    Ambiguous,
}

impl fmt::Display for MaintainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("no room to compact the store: free some space"),
            Self::Failed { action, errno } => {
                let cause = std::io::Error::from_raw_os_error(*errno);
                write!(f, "cannot {action} while compacting the store: {cause}")
            }
            Self::Damaged { offset } => write!(
                f,
                "the store cannot be read back at offset {offset}, and no start would take it: changes are refused; back \
                 up the keys while this server runs, then look at the disk"
            ),
            Self::Ambiguous => f.write_str(
                "the disk did not confirm the compaction of the store; changes are refused until a restart",
            ),
        }
    }
}

impl std::error::Error for MaintainError {}

/// How a store is, for health and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Whether it takes changes.
    pub condition: Condition,
    /// Its length.
    pub bytes: u64,
    /// Records that are not superseded or removed.
    pub live_records: u64,
    /// What these weigh.
    pub live_bytes: u64,
    /// How long the disk took to confirm the last change.
    pub last_sync_micros: u64,
    /// Whether it can be compacted while it is in use.
    pub compacts_in_use: bool,
}

/// Whether a store takes changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    /// It does.
    #[default]
    Good,
    /// The last change found no room; the next one tries again.
    Full,
    /// The last change could not be written; the next one tries again.
    Failing,
    /// It cannot be reached; the next change tries again.
    Away,
    /// It is behind what was seen of it: somebody put back an earlier state. It takes no change until it is opened anew.
    SetBack,
    /// It does not until it is opened anew: after a failure, what is durable is unknown; or what is there was found
    /// damaged.
    Poisoned,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_witness_refuses_a_store_that_is_behind_or_has_another_history() {
        let head = |revision, tag| Head { revision, tag: [tag; 16] };
        let seen = Witness { head: Some(head(7, 1)), ..Witness::default() };
        assert!(seen.check(head(7, 1)).is_ok());
        assert!(seen.check(head(8, 9)).is_ok());
        for found in [head(6, 1), head(7, 2), Head::default()] {
            assert!(
                matches!(seen.check(found), Err(StoreError::RolledBack { expected: 7, .. })),
                "{found:?}"
            );
            assert!(Witness { accept_rollback: true, ..seen }.check(found).is_ok());
        }
        let floor = Witness { min_revision: 9, ..seen };
        assert!(matches!(floor.check(head(8, 9)), Err(StoreError::RolledBack { found: 8, expected: 9 })));
        assert!(floor.check(head(9, 9)).is_ok());
        assert!(Witness::default().check(Head::default()).is_ok());
    }

    #[test]
    fn a_revision_that_no_store_reaches_is_not_believed_whatever_was_accepted() {
        let most = STORE_REVISION_BELIEVED_MAX_NUMBER;
        for revision in [most + 1, i64::MAX.unsigned_abs(), u64::MAX] {
            for accept_rollback in [false, true] {
                let seen =
                    Witness { head: Some(Head { revision, tag: [1; 16] }), min_revision: 0, accept_rollback };
                let floor = Witness { head: None, min_revision: revision, accept_rollback };
                for witness in [seen, floor] {
                    let refused = witness.check(Head::default());
                    assert!(
                        matches!(refused, Err(StoreError::RevisionTooHigh { revision: named }) if named == revision),
                        "{revision}"
                    );
                }
            }
        }
        let floor = Witness { min_revision: most, accept_rollback: true, ..Witness::default() };
        assert!(floor.check(Head::default()).is_ok());
    }

    #[test]
    fn paths_are_shown_in_hexadecimal() {
        assert_eq!(Path::new([0xA0; 16]).to_string(), "a0".repeat(16));
        assert_eq!(format!("{:?}", Path::new([1; 16])), format!("Path({})", "01".repeat(16)));
    }
}
