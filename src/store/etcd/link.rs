//! What a store in etcd asks of whoever speaks to etcd: the seam to the network.
//!
//! Owns [`Link`] and the words that pass over it. Invariants: nothing here knows a key or what a value means; what came of a
//! swap is said as far as it is known, and unknown is not taken for failed.

use core::fmt;

use super::layout::ServerId;

/// A key with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The key.
    pub key: Vec<u8>,
    /// The value.
    pub value: Vec<u8>,
    /// The revision of etcd that wrote it.
    pub revision: u64,
}

/// What is asked for: all keys from `from` to, but not including, `to`; nothing in `to`: `from` alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first key.
    pub from: Vec<u8>,
    /// The first one that is not wanted.
    pub to: Vec<u8>,
    /// At which revision of etcd; 0: the newest, of which a majority is asked.
    pub at: u64,
}

/// Keys and values, in the order of the keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The cluster that answered.
    pub cluster: u64,
    /// The revision that it stands at.
    pub at: u64,
    /// What there is.
    pub pairs: Vec<Pair>,
    /// Whether there are more behind the last one.
    pub more: bool,
}

/// What must stand at a key: these bytes, written by this revision, or nothing at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demand {
    /// The key.
    pub key: Vec<u8>,
    /// Its value and its revision; nothing: there is no such key.
    pub is: Option<(Vec<u8>, u64)>,
}

/// One transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swap {
    /// What must be so. If it is not, the values of these keys are read instead.
    pub demands: Vec<Demand>,
    /// What is removed.
    pub removals: Vec<Vec<u8>>,
    /// What is written, in this order.
    pub puts: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What came of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Swapped {
    /// It is durable, at this revision.
    Done {
        /// The cluster.
        cluster: u64,
        /// The revision.
        revision: u64,
    },
    /// Something else stood there.
    Lost(Page),
    /// Something else stands there, and an earlier try of the same transaction may have been applied before that.
    Doubtful(Page),
}

/// Something that was written or removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The key.
    pub key: Vec<u8>,
    /// Its value; nothing if it was removed.
    pub value: Option<Vec<u8>>,
    /// The revision of etcd that did it.
    pub revision: u64,
}

/// An answer to the question how new the state is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pulse {
    /// Nanoseconds of the clock that counts from the boot, before the question was sent.
    pub asked_nanos: u64,
    /// The revision of etcd that wrote the head.
    pub head: u64,
    /// The cluster that answered.
    pub cluster: u64,
}

/// What has come since it was asked last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// What was written, in the order in which it was.
    pub events: Vec<Event>,
    /// Whether there are more: it has to be asked again.
    pub more: bool,
    /// Whether something may be missing: the state has to be read anew.
    pub gap: bool,
    /// The last pulse, if one came.
    pub pulse: Option<Pulse>,
    /// Whether etcd cannot be reached now.
    pub away: bool,
}

/// Why something could not be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkError {
    /// Nobody could be reached, or nobody leads; nothing was done.
    Away(String),
    /// It was sent, and nobody said what came of it.
    Unknown(String),
    /// etcd has no room left; nothing was done.
    Full,
    /// The revision that was asked for is gone.
    Compacted,
    /// etcd refuses it: a wrong password, a right that is missing, a request that is too large; nothing was done.
    Refused(String),
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Away(why) => write!(f, "etcd cannot be reached: {why}"),
            Self::Unknown(why) => write!(f, "etcd did not say what came of it: {why}"),
            Self::Full => {
                f.write_str("etcd has no room left (its quota is used up): compact and defragment it")
            }
            Self::Compacted => f.write_str("etcd has compacted what was asked for"),
            Self::Refused(why) => write!(f, "etcd refuses: {why}"),
        }
    }
}

impl std::error::Error for LinkError {}

/// Who this server is, for the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The key.
    pub key: Vec<u8>,
    /// What stands there while the server lives.
    pub value: Vec<u8>,
    /// Its id.
    pub id: ServerId,
}

/// The way to etcd. Each call ends within a bounded time.
pub trait Link: Send {
    /// Reads a page.
    ///
    /// # Errors
    /// [`LinkError`]
    fn read(&mut self, span: &Span) -> Result<Page, LinkError>;

    /// Makes a transaction; tries again what may be tried again.
    ///
    /// # Errors
    /// [`LinkError`]
    fn swap(&mut self, swap: &Swap) -> Result<Swapped, LinkError>;

    /// Has everything told that is written in `from..to` from revision `at` on. What was to be told before is dropped.
    /// `head` is the key whose newness is asked for.
    ///
    /// # Errors
    /// [`LinkError`]
    fn follow(&mut self, from: &[u8], to: &[u8], head: &[u8], at: u64) -> Result<(), LinkError>;

    /// What has come. Waits, but not long, until something of revision `until` has.
    ///
    /// # Errors
    /// [`LinkError`]
    fn news(&mut self, until: u64) -> Result<News, LinkError>;

    /// Has the others see that this server lives, from now on.
    ///
    /// # Errors
    /// [`LinkError`]
    fn join(&mut self, member: &Member) -> Result<(), LinkError>;

    /// Whether nothing will ever come over it again.
    fn is_cut(&self) -> bool {
        false
    }
}
