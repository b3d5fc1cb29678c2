//! The whole state as it stands in etcd at one revision, read and proved.
//!
//! Owns [`Image`] and its reading. Invariants: all of it is of one revision of etcd; what is delivered follows from the head, with
//! nothing missing, nothing added and nothing old; the reading ends, whatever is answered: keys come in their order, no more of them than
//! the head names and a store may have beside them, and before a deadline.

use std::collections::{BTreeMap, HashMap};

use super::super::record::{Origin, Path, Record};
use super::head::{Digest, Fault, FleetKeys, Stand, decode_record, fold};
use super::layout::{Layout, Place, ServerId};
use super::link::{Link, LinkError, Page, Pair, Span};
use crate::clock::{BootTime, Moment};
use crate::limits::{ETCD_LOADS_MAX_COUNT, ETCD_STRANGERS_MAX_COUNT, STORE_ORIGINS_MAX_COUNT};

/// Why the state could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ReadFault {
    /// etcd did not give it.
    Link(LinkError),
    /// There is no store below this prefix.
    Nothing,
    /// It is not what was written; what is wrong.
    Damaged(&'static str),
    /// A newer version wrote it.
    Newer,
}

impl From<LinkError> for ReadFault {
    fn from(error: LinkError) -> Self {
        Self::Link(error)
    }
}

impl ReadFault {
    pub(super) const fn of(fault: Fault, what: &'static str) -> Self {
        match fault {
            Fault::Forged => Self::Damaged(what),
            Fault::Newer => Self::Newer,
        }
    }
}

/// A record that is alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Live {
    pub(super) element: Digest,
    pub(super) weight: u64,
}

/// Everything that there is.
#[derive(Debug)]
pub(super) struct Image {
    pub(super) stand: Stand,
    /// The head as it stands in etcd, and the revision that wrote it.
    pub(super) sealed: Vec<u8>,
    pub(super) revision: u64,
    /// The clock before it was asked for.
    pub(super) asked_nanos: u64,
    /// The revision at which all of it was read.
    pub(super) at: u64,
    pub(super) cluster: u64,
    /// Those that were wanted.
    pub(super) records: Vec<Record>,
    pub(super) live: HashMap<Path, Live>,
    /// The last origins, the oldest first.
    pub(super) recent: Vec<Origin>,
    pub(super) members: Vec<ServerId>,
    /// How many keys were neither records nor origins.
    strangers: usize,
}

/// Whether a record is wanted: its path, and what stands there.
pub(super) type Wanted<'a> = &'a dyn Fn(Path, &Live) -> bool;

/// Reads everything before `end`; begins again if it is compacted meanwhile. Of the records those are kept that are `wanted`, so that a server which knows
/// nearly all of them holds little.
pub(super) fn read(
    link: &mut dyn Link,
    layout: &Layout,
    keys: &FleetKeys,
    wanted: Wanted<'_>,
    end: Moment,
) -> Result<Image, ReadFault> {
    for _ in 1..ETCD_LOADS_MAX_COUNT {
        match read_once(link, layout, keys, wanted, end) {
            Err(ReadFault::Link(LinkError::Compacted)) => {}
            read => return read,
        }
    }
    read_once(link, layout, keys, wanted, end)
}

fn read_once(
    link: &mut dyn Link,
    layout: &Layout,
    keys: &FleetKeys,
    wanted: Wanted<'_>,
    end: Moment,
) -> Result<Image, ReadFault> {
    let key = layout.head();
    let asked_nanos = BootTime::now().as_nanos();
    // Asked of a majority: what others have been told is in it.
    let page = link.read(&Span { from: key.clone(), to: Vec::new(), at: 0 })?;
    let (at, cluster) = (page.at, page.cluster);
    let head = only(page, &key).ok_or(ReadFault::Nothing)?;
    let stand =
        keys.open_head(&head.value).map_err(|fault| ReadFault::of(fault, "the head is not authentic"))?;
    let mut image = Image {
        stand,
        sealed: head.value,
        revision: head.revision,
        asked_nanos,
        at,
        cluster,
        records: Vec::new(),
        live: HashMap::new(),
        recent: Vec::new(),
        members: Vec::new(),
        strangers: 0,
    };
    let mut origins: BTreeMap<u64, Vec<Origin>> = BTreeMap::new();
    let mut pages = Pages::new(layout, at, end);
    while let Some(pairs) = pages.next(link)? {
        for pair in pairs {
            image.take(layout, (keys, wanted), &pair, &mut origins)?;
        }
    }
    image.prove(&origins)?;
    let excess = |recent: &Vec<Origin>| recent.len().saturating_sub(STORE_ORIGINS_MAX_COUNT);
    image.recent = origins.into_values().flatten().collect();
    image.recent.drain(..excess(&image.recent));
    Ok(image)
}

/// All keys of a store, page after page.
pub(super) struct Pages {
    span: Span,
    end: Moment,
    is_over: bool,
}

impl Pages {
    /// Those of revision `at`, or the newest ones if it is 0; to be read before `end`.
    pub(super) fn new(layout: &Layout, at: u64, end: Moment) -> Self {
        let (from, to) = layout.span();
        Self { span: Span { from, to, at }, end, is_over: false }
    }

    /// The next of them; nothing behind the last.
    ///
    /// # Errors
    /// [`ReadFault`]: keys that are not behind those that came before, which may have no end.
    pub(super) fn next(&mut self, link: &mut dyn Link) -> Result<Option<Vec<Pair>>, ReadFault> {
        if self.is_over {
            return Ok(None);
        }
        if Moment::now() >= self.end {
            return Err(LinkError::Away("the reading of everything took too long".to_owned()).into());
        }
        let page = link.read(&self.span)?;
        self.is_over = !page.more || page.pairs.is_empty();
        for pair in &page.pairs {
            if pair.key < self.span.from || pair.key >= self.span.to {
                return Err(ReadFault::Damaged("keys come out of order"));
            }
            self.span.from = Layout::behind(&pair.key);
        }
        Ok(Some(page.pairs))
    }
}

/// The only pair of a page that was asked for one key.
pub(super) fn only(page: Page, key: &[u8]) -> Option<Pair> {
    page.pairs.into_iter().find(|pair| pair.key == key)
}

impl Image {
    fn take(
        &mut self,
        layout: &Layout,
        (keys, wanted): (&FleetKeys, Wanted<'_>),
        pair: &Pair,
        origins: &mut BTreeMap<u64, Vec<Origin>>,
    ) -> Result<(), ReadFault> {
        match layout.place(&pair.key) {
            Some(Place::Record(path)) => {
                let record = decode_record(path, &pair.value)
                    .ok_or(ReadFault::Damaged("a record is too short to be one"))?;
                let sealed = record.sealed.as_deref().unwrap_or_default();
                let element = keys.element(path, record.revision, sealed);
                let live = Live { element, weight: record.weight() as u64 };
                if self.live.insert(path, live).is_some() {
                    return Err(ReadFault::Damaged("a record stands there twice"));
                }
                if self.live.len() as u64 > self.stand.records {
                    return Err(ReadFault::Damaged("there are more records than were written"));
                }
                if wanted(path, &live) {
                    self.records.push(record);
                }
            }
            Some(Place::Origins(_)) => {
                let (change, of) = keys
                    .open_origins(&pair.value)
                    .map_err(|fault| ReadFault::of(fault, "origins are not authentic"))?;
                if layout.origins(change) != pair.key {
                    return Err(ReadFault::Damaged("origins stand at the place of others"));
                }
                origins.insert(change, of);
            }
            place @ (Some(Place::Member(_) | Place::Ring | Place::Head) | None) => {
                self.strangers += 1;
                if self.strangers > ETCD_STRANGERS_MAX_COUNT {
                    return Err(ReadFault::Damaged("there are too many keys that are not of this store"));
                }
                // What is not sealed by who has the key of this ring is nobody's.
                if let Some(Place::Member(id)) = place
                    && keys.open_member(id, &pair.value).is_ok()
                {
                    self.members.push(id);
                }
            }
        }
        Ok(())
    }

    fn prove(&self, origins: &BTreeMap<u64, Vec<Origin>>) -> Result<(), ReadFault> {
        let mut digest = Digest::default();
        self.live.values().for_each(|live| fold(&mut digest, &live.element));
        if digest != self.stand.digest || self.live.len() as u64 != self.stand.records {
            return Err(ReadFault::Damaged("records are missing, old or altered"));
        }
        let changes = self.stand.changes;
        let first = changes.saturating_sub(STORE_ORIGINS_MAX_COUNT as u64) + 1;
        if !origins.keys().copied().eq(first..=changes) {
            return Err(ReadFault::Damaged("origins are missing or old"));
        }
        Ok(())
    }
}
