//! A whole store moved into etcd, from wherever it was.
//!
//! Owns [`Cargo`] and its unloading. Invariants: records are moved as they were sealed; nothing counts before the last transaction, which
//! writes header and head; what a move that was cut off left behind is cleared away first.

use std::collections::HashMap;
use std::path::Path as FilePath;

use super::head::{Stand, encode_record, fold};
use super::image::ReadFault;
use super::layout::{Layout, Place};
use super::link::{Demand, Link, Swap, Swapped};
use super::{Etcd, StoreError, image};
use crate::clock::Moment;
use crate::crypto::random::{Generator, SeedSource};
use crate::limits::{
    ETCD_APPEND_MAX_BYTES, ETCD_LOAD_MILLIS, ETCD_RECORD_MAX_BYTES, ETCD_RECORDS_PER_APPEND_MAX_COUNT,
};
use crate::store::journal::format::Header;
use crate::store::record::{AppendError, Head, Origin, Path, Record};
use crate::store::root::{MasterKey, RootKey};

/// Everything that a store holds.
#[derive(Debug)]
pub struct Cargo {
    /// Its root key.
    pub root: RootKey,
    /// Its ring.
    pub ring: [u8; 16],
    /// Where it stands.
    pub head: Head,
    /// The origins of its last changes, the oldest first.
    pub recent: Vec<Origin>,
    /// What is alive, each path once.
    pub records: Vec<Record>,
}

impl Etcd {
    /// Writes `cargo` where no store stands, and reads it back. It stands one revision further there, since what led to it has another tag.
    ///
    /// # Errors
    /// [`StoreError::FleetExists`]; a record that is too long for etcd; what etcd refuses.
    pub fn receive<S: SeedSource>(
        link: &mut dyn Link,
        layout: &Layout,
        place: &FilePath,
        master: &MasterKey,
        cargo: &Cargo,
        random: &mut Generator<S>,
    ) -> Result<Head, StoreError> {
        let exists = || StoreError::FleetExists { place: place.to_owned() };
        if Self::exists(link, layout)? {
            return Err(exists());
        }
        let fits = |record: &Record| {
            record.sealed.as_ref().is_none_or(|sealed| sealed.len() <= ETCD_RECORD_MAX_BYTES)
        };
        if !cargo.records.iter().all(fits) {
            return Err(StoreError::NotAppended(AppendError::TooLarge));
        }
        clear(link, layout, place)?;
        let keys = cargo.root.fleet_keys(cargo.ring)?;
        let revision = cargo.head.revision.saturating_add(1);
        let mut stand =
            Stand { head: Head { revision, tag: [0; 16] }, before: cargo.head.tag, ..Stand::default() };
        let mut puts = Vec::with_capacity(cargo.records.len() + 1);
        for record in &cargo.records {
            let Some(sealed) = &record.sealed else { continue };
            fold(&mut stand.digest, &keys.element(record.path, record.revision, sealed));
            stand.records += 1;
            puts.push((layout.record(record.path), encode_record(record.revision, sealed)));
        }
        if !cargo.recent.is_empty() {
            // As if one change had had all of them.
            stand.changes = 1;
            puts.push((layout.origins(1), keys.seal_origins(revision, 1, &cargo.recent)));
        }
        stand.head.tag = keys.tag(&stand);
        write(link, layout, place, puts)?;
        let now = Moment::now();
        let header = Header::wrap(master, &cargo.root, cargo.ring, random.array(now)?, random.array(now)?)?;
        let head = keys.seal_head(&stand, random.array(now)?)?;
        let puts = vec![(layout.ring(), header.encode().to_vec()), (layout.head(), head)];
        let demands = [layout.ring(), layout.head()].map(|key| Demand { key, is: None }).to_vec();
        let swapped = link.swap(&Swap { demands, removals: Vec::new(), puts: puts.clone() })?;
        if let Swapped::Lost(page) | Swapped::Doubtful(page) = swapped
            && !page.pairs.iter().any(|pair| puts.iter().any(|(_, value)| *value == pair.value))
        {
            return Err(exists());
        }
        verify(link, layout, place, &keys, cargo)?;
        Ok(stand.head)
    }
}

/// Whether what was `found` is all that was `written`, and nothing else; what was removed is not there.
#[must_use]
pub fn are_same(written: &[Record], found: &[Record]) -> bool {
    let found_by_path: HashMap<Path, &Record> = found.iter().map(|record| (record.path, record)).collect();
    let mut alive = written.iter().filter(|record| record.sealed.is_some());
    let alive_count = alive.clone().count();
    alive_count == found.len() && alive.all(|record| found_by_path.get(&record.path) == Some(&record))
}

/// Reads what was written, and compares it record by record.
fn verify(
    link: &mut dyn Link,
    layout: &Layout,
    place: &FilePath,
    keys: &super::FleetKeys,
    cargo: &Cargo,
) -> Result<(), StoreError> {
    let damaged = |what| StoreError::FleetDamaged { place: place.to_owned(), what };
    let end = Moment::now().plus_millis(ETCD_LOAD_MILLIS);
    let read = image::read(link, layout, keys, &|_, _| true, end);
    let read = read.map_err(|_| damaged("what was written cannot be read back"))?;
    let same = are_same(&cargo.records, &read.records) && read.recent == cargo.recent;
    if same { Ok(()) } else { Err(damaged("what was written reads back as something else")) }
}

fn write(
    link: &mut dyn Link,
    layout: &Layout,
    place: &FilePath,
    puts: Vec<(Vec<u8>, Vec<u8>)>,
) -> Result<(), StoreError> {
    let mut batch = Swap { demands: vec![Demand { key: layout.head(), is: None }], ..Swap::default() };
    let mut weight = 0;
    let mut puts = puts.into_iter().peekable();
    while let Some((key, value)) = puts.next() {
        weight += key.len() + value.len();
        batch.puts.push((key, value));
        let next = puts.peek().map_or(0, |(key, value)| key.len() + value.len());
        let is_full =
            weight + next > ETCD_APPEND_MAX_BYTES || batch.puts.len() >= ETCD_RECORDS_PER_APPEND_MAX_COUNT;
        if is_full || puts.peek().is_none() {
            if let Swapped::Lost(_) | Swapped::Doubtful(_) = link.swap(&batch)? {
                return Err(StoreError::FleetExists { place: place.to_owned() });
            }
            batch.puts.clear();
            weight = 0;
        }
    }
    Ok(())
}

/// Removes what a move that was cut off has left: records and origins without a head.
pub(super) fn clear(link: &mut dyn Link, layout: &Layout, place: &FilePath) -> Result<(), StoreError> {
    let mut pages = image::Pages::new(layout, 0, Moment::now().plus_millis(ETCD_LOAD_MILLIS));
    let unread = |fault| match fault {
        ReadFault::Link(error) => StoreError::Remote(error),
        _ => StoreError::FleetDamaged { place: place.to_owned(), what: "keys come out of order" },
    };
    while let Some(pairs) = pages.next(link).map_err(unread)? {
        let ours = |key: &[u8]| matches!(layout.place(key), Some(Place::Record(_) | Place::Origins(_)));
        let left: Vec<Vec<u8>> = pairs.into_iter().map(|pair| pair.key).filter(|key| ours(key)).collect();
        for some in left.chunks(ETCD_RECORDS_PER_APPEND_MAX_COUNT) {
            let demands = vec![Demand { key: layout.head(), is: None }];
            let swap = Swap { demands, removals: some.to_vec(), puts: Vec::new() };
            if let Swapped::Lost(_) | Swapped::Doubtful(_) = link.swap(&swap)? {
                return Err(StoreError::FleetExists { place: place.to_owned() });
            }
        }
    }
    Ok(())
}
