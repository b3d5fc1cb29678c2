//! The store that etcd keeps for a fleet of servers.
//!
//! Owns [`Etcd`]; what stands where is in [`layout`], what proves it in `head`, the reading of everything in `image`, the news in
//! `news` and `reload`, another master key in `rekey`, and the seam to the network in [`link`]. docs/FLEET.md gives the reasons. Invariants: a change is one transaction that
//! demands the head which was applied; what others wrote is applied as a whole and only if it follows; a state that was set back is
//! never taken for the newest; nothing here opens a connection.

mod head;
mod image;
pub mod layout;
pub mod link;
pub mod moved;
mod news;
mod rekey;
mod reload;
#[cfg(test)]
mod shelf;
#[cfg(test)]
mod tests;

use core::fmt;
use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;

pub use head::FleetKeys;
use head::{Digest, Stand, encode_record, fold};
use image::{Image, Live, ReadFault, only};
use layout::{Layout, ServerId};
use link::{Demand, Event, Link, LinkError, Member, News, Page, Pulse, Span, Swap, Swapped};
use rekey::open_header;
use reload::Reload;

use super::error::StoreError;
use super::journal::format::Header;
use super::record::{
    AppendError, Bounds, Compacted, Condition, Deliver, Head, Loaded, MaintainError, Origin, Path, Record,
    Standing, Store, Witness,
};
use super::root::{MasterKey, RootKey};
use super::seal::SEAL_NONCE_BYTES;
use crate::clock::{BootTime, Moment, WallTime};
use crate::crypto::random::{Generator, Kernel};
use crate::limits::{
    ETCD_APPEND_MAX_BYTES, ETCD_LOAD_MILLIS, ETCD_NEWS_MAX_BYTES, ETCD_NEWS_ROUNDS_MAX_COUNT,
    ETCD_RECORD_MAX_BYTES, ETCD_RECORDS_PER_APPEND_MAX_COUNT, FLEET_MEMBERS_MAX_COUNT,
    STORE_ORIGINS_MAX_COUNT, STORE_REVISION_CEILING_NUMBER,
};
use crate::metrics::process::STORE;

/// A store in etcd.
pub struct Etcd {
    link: Box<dyn Link>,
    layout: Layout,
    keys: FleetKeys,
    random: Generator,
    /// For messages.
    place: PathBuf,
    witness: Witness,
    /// Nothing until it was loaded.
    state: Option<State>,
    condition: Condition,
    /// Whether the state has to be read anew before anything is believed.
    reload: Reload,
    /// Whether all of it has to be delivered then, since what is published may be something else.
    everything: bool,
    /// What has to be delivered then in any case: changed by a transaction of which nobody said what came of it.
    doubtful: Vec<Path>,
    /// What the next news have to reach: another server was seen to be there.
    until: u64,
    /// News that were looked at, and not taken in yet.
    held: VecDeque<News>,
    /// Events of a transaction whose head has not come yet.
    pending: Vec<Event>,
    /// The newest answer to how new the state is, as long as the state has not got there.
    ahead: Option<Pulse>,
    /// The oldest such answer.
    behind: Option<Pulse>,
    /// When what was delivered was known to be the newest, in nanoseconds since the boot.
    fresh_nanos: u64,
    members: Vec<ServerId>,
    /// This server, and what it has put there of itself.
    own: Option<(ServerId, Vec<u8>)>,
    last_micros: u64,
}

/// The state that was delivered.
#[derive(Debug)]
struct State {
    stand: Stand,
    /// The head as it stands in etcd, and the revision of etcd that wrote it.
    sealed: Vec<u8>,
    revision: u64,
    /// When that revision was known, in nanoseconds since the boot: what is asked of a majority after it is no older.
    known_nanos: u64,
    cluster: u64,
    live: HashMap<Path, Live>,
    bytes: u64,
}

/// What there is to know of a change beside its records.
#[derive(Clone, Copy, Debug)]
struct Made {
    /// Where it leads.
    revision: u64,
    has_origins: bool,
    at_millis: u64,
}

/// A store in etcd and what it is opened with.
#[derive(Debug)]
pub struct OpenedFleet {
    /// The store; nothing was read of it yet but its header.
    pub store: Etcd,
    /// Its root key.
    pub root: RootKey,
    /// The ring whose records it holds.
    pub ring: [u8; 16],
}

impl Etcd {
    /// Whether there is a store.
    ///
    /// # Errors
    /// [`StoreError::Remote`]
    pub fn exists(link: &mut dyn Link, layout: &Layout) -> Result<bool, StoreError> {
        let key = layout.ring();
        let page = link.read(&Span { from: key.clone(), to: Vec::new(), at: 0 })?;
        Ok(only(page, &key).is_some())
    }

    /// Makes an empty store with a new root key and a new ring.
    ///
    /// # Errors
    /// [`StoreError::FleetExists`] if there is one; what etcd refuses.
    pub fn create(
        link: &mut dyn Link,
        layout: &Layout,
        place: &std::path::Path,
        master: &MasterKey,
        random: &mut Generator,
    ) -> Result<(), StoreError> {
        let now = Moment::now();
        let root = RootKey::generate(random)?;
        let header = Header::wrap(master, &root, random.array(now)?, random.array(now)?, random.array(now)?)?;
        let stand = Stand::default();
        Self::lay(link, layout, place, &header, &root, stand, random)
    }

    /// Writes header and head where nothing stands yet.
    fn lay(
        link: &mut dyn Link,
        layout: &Layout,
        place: &std::path::Path,
        header: &Header,
        root: &RootKey,
        stand: Stand,
        random: &mut Generator,
    ) -> Result<(), StoreError> {
        let keys = root.fleet_keys(header.ring)?;
        let mut stand = stand;
        stand.head.tag = keys.tag(&stand);
        let head = keys.seal_head(&stand, random.array(Moment::now())?)?;
        let (ring, at) = (header.encode().to_vec(), layout.head());
        let demands = [layout.ring(), layout.head()].map(|key| Demand { key, is: None }).to_vec();
        let puts = vec![(layout.ring(), ring.clone()), (at, head)];
        match link.swap(&Swap { demands, removals: Vec::new(), puts })? {
            Swapped::Done { .. } => Ok(()),
            // Made by this very transaction, whose first answer was lost.
            Swapped::Lost(page) | Swapped::Doubtful(page)
                if only(page.clone(), &layout.ring()).is_some_and(|pair| pair.value == ring) =>
            {
                Ok(())
            }
            Swapped::Lost(_) | Swapped::Doubtful(_) => {
                Err(StoreError::FleetExists { place: place.to_owned() })
            }
        }
    }

    /// Opens the store for a server. What the witness saw is asked for when it is loaded.
    ///
    /// # Errors
    /// Why it cannot be used, with what to do.
    pub fn open(
        mut link: Box<dyn Link>,
        layout: Layout,
        place: PathBuf,
        master: &MasterKey,
        witness: Witness,
    ) -> Result<OpenedFleet, StoreError> {
        let key = layout.ring();
        let page = link.read(&Span { from: key.clone(), to: Vec::new(), at: 0 })?;
        let Some(pair) = only(page, &key) else { return Err(StoreError::NoFleet { place }) };
        let (header, root) = open_header(&pair.value, &place, master)?;
        let keys = root.fleet_keys(header.ring)?;
        let random = Generator::new(Kernel, Moment::now())?;
        let store = Self {
            link,
            layout,
            keys,
            random,
            place,
            witness,
            state: None,
            condition: Condition::Good,
            reload: Reload::default(),
            everything: false,
            doubtful: Vec::new(),
            until: 0,
            held: VecDeque::new(),
            pending: Vec::new(),
            ahead: None,
            behind: None,
            fresh_nanos: 0,
            members: Vec::new(),
            own: None,
            last_micros: 0,
        };
        Ok(OpenedFleet { store, root, ring: header.ring })
    }

    /// Has the other servers see that this one, `id`, lives; `words` is what it says of itself.
    ///
    /// # Errors
    /// What etcd refuses.
    pub fn join(&mut self, id: ServerId, words: &[u8]) -> Result<(), StoreError> {
        let nonce = self.random.array::<SEAL_NONCE_BYTES>(Moment::now())?;
        let value = self.keys.seal_member(id, nonce, words)?;
        self.own = Some((id, value.clone()));
        Ok(self.link.join(&Member { key: self.layout.member(id), value, id })?)
    }

    /// Reads everything and has what follows told. Of the records those are kept that differ from what was delivered.
    fn read(&mut self) -> Result<Image, StoreError> {
        let before = self.state.as_ref().filter(|_| !self.everything).map(|state| &state.live);
        let doubtful = &self.doubtful;
        let wanted = |path: Path, live: &Live| match before {
            None => true,
            Some(before) => doubtful.contains(&path) || before.get(&path) != Some(live),
        };
        let end = Moment::now().plus_millis(ETCD_LOAD_MILLIS);
        let image = image::read(&mut *self.link, &self.layout, &self.keys, &wanted, end);
        let image = image.map_err(|fault| self.explain(fault))?;
        let (from, to) = self.layout.span();
        self.link.follow(&from, &to, &self.layout.head(), image.at.saturating_add(1))?;
        Ok(image)
    }

    /// Takes `image` for the state.
    fn stand_on(&mut self, image: Image) -> (Vec<Record>, Vec<Origin>) {
        let Image { stand, sealed, revision, asked_nanos, cluster, records, live, recent, members, .. } =
            image;
        self.fresh_nanos = self.fresh_nanos.max(asked_nanos);
        let bytes = live.values().map(|live| live.weight).sum();
        let known_nanos = BootTime::now().as_nanos();
        self.state = Some(State { stand, sealed, revision, known_nanos, cluster, live, bytes });
        self.members = members;
        self.members.truncate(FLEET_MEMBERS_MAX_COUNT);
        self.pending.clear();
        self.held.clear();
        (self.ahead, self.behind) = (None, None);
        self.until = 0;
        self.everything = false;
        self.reload.succeed(Moment::now());
        self.doubtful.clear();
        self.condition = Condition::Good;
        (records, recent)
    }

    /// Makes the revision greater than all that the witness saw, so that the next start does not ask again.
    fn raise(&mut self) -> Result<(), StoreError> {
        let reached = self.witness.reached();
        let expected = self.state.as_ref().map_or(0, |state| state.stand.head.revision);
        let to = reached.checked_add(1).filter(|to| *to <= STORE_REVISION_CEILING_NUMBER);
        let to = to.ok_or(StoreError::RevisionTooHigh { revision: reached })?;
        self.write(expected, to, &[], &[]).map(drop).map_err(StoreError::NotAppended)
    }

    /// Makes one transaction of a change that leads to `revision`.
    fn write(
        &mut self,
        expected: u64,
        revision: u64,
        records: &[Record],
        origins: &[Origin],
    ) -> Result<Head, AppendError> {
        let Some(state) = &self.state else { return Err(AppendError::Away) };
        if state.stand.head.revision != expected {
            return Err(AppendError::Conflict { at: state.stand.head.revision });
        }
        // Of several with one path the last counts.
        let mut last: Vec<&Record> = Vec::with_capacity(records.len());
        for record in records.iter().rev() {
            if last.iter().all(|later| later.path != record.path) {
                last.push(record);
            }
        }
        let made =
            Made { revision, has_origins: !origins.is_empty(), at_millis: WallTime::now().as_millis() };
        let (stand, changes) = state.after(&self.keys, &last, made);
        let nonce = self.random.array::<SEAL_NONCE_BYTES>(Moment::now()).map_err(|_| AppendError::Failed)?;
        let sealed = self.keys.seal_head(&stand, nonce).map_err(|_| AppendError::Failed)?;
        let head = self.layout.head();
        let mut swap = Swap {
            demands: vec![Demand { key: head.clone(), is: Some((state.sealed.clone(), state.revision)) }],
            ..Swap::default()
        };
        for record in &last {
            let key = self.layout.record(record.path);
            match &record.sealed {
                Some(sealed) => swap.puts.push((key, encode_record(record.revision, sealed))),
                None => swap.removals.push(key),
            }
        }
        if !origins.is_empty() {
            let value = self.keys.seal_origins(revision, stand.changes, origins);
            swap.puts.push((self.layout.origins(stand.changes), value));
        }
        // Last: who watches knows with it that it has all of the transaction.
        swap.puts.push((head.clone(), sealed.clone()));
        let (begun, asked_nanos) = (Moment::now(), BootTime::now().as_nanos());
        let swapped = self.link.swap(&swap);
        self.last_micros = Moment::now().nanos_since(begun) / 1_000;
        let done = match swapped {
            Ok(Swapped::Done { revision, .. }) => Ok(revision),
            Ok(Swapped::Lost(page)) => self.lost(page, &sealed, false),
            Ok(Swapped::Doubtful(page)) => self.lost(page, &sealed, true),
            Err(error) => Err(self.failed(&error)),
        };
        if done == Err(AppendError::Ambiguous) {
            self.doubtful.extend(last.iter().map(|record| record.path));
        }
        let done = done?;
        // A majority has compared the head: until then nobody else had written.
        self.fresh_nanos = self.fresh_nanos.max(asked_nanos);
        self.condition = Condition::Good;
        STORE.commits.add(1);
        STORE.syncs.count(self.last_micros);
        if let Some(state) = &mut self.state {
            state.apply(stand, changes);
            (state.sealed, state.revision) = (sealed, done);
            state.known_nanos = BootTime::now().as_nanos();
        }
        Ok(stand.head)
    }

    /// Something else stood where the head was demanded: the revision of etcd that wrote `sealed` all the same, if one did.
    fn lost(&mut self, page: Page, sealed: &[u8], doubtful: bool) -> Result<u64, AppendError> {
        let Some(pair) = only(page, &self.layout.head()) else {
            self.reload.distrust("a head that is not there");
            return Err(AppendError::Away);
        };
        if pair.value == sealed {
            // Written by an earlier try whose answer was lost.
            return Ok(pair.revision);
        }
        if doubtful {
            // Another server may have built on it since.
            match self.find_on_watch(sealed, pair.revision) {
                Some(Some(revision)) => return Ok(revision),
                Some(None) => {}
                None => return Err(self.failed(&LinkError::Unknown("the watch does not tell".to_owned()))),
            }
        }
        self.until = pair.revision;
        // What is not on the watch has to be read.
        if pair.revision <= self.state.as_ref().map_or(0, |state| state.revision) {
            self.reload.distrust("another head of an earlier revision");
        }
        Err(AppendError::Conflict { at: self.state.as_ref().map_or(0, |state| state.stand.head.revision) })
    }

    /// Which revision of etcd wrote this head, among all up to `until`; nothing if that cannot be known. What was told on the way is kept.
    fn find_on_watch(&mut self, sealed: &[u8], until: u64) -> Option<Option<u64>> {
        let head = self.layout.head();
        let mut bytes = 0;
        for round in 0..ETCD_NEWS_ROUNDS_MAX_COUNT {
            // The first time it waits; what is there then is all that has come in time.
            let news = self.link.news(if round == 0 { until } else { 0 }).ok()?;
            bytes += news.events.iter().map(news::weight).sum::<usize>();
            let heads = news.events.iter().filter(|event| event.key == head);
            let (mut found, mut reached) = (None, false);
            for event in heads {
                reached |= event.revision >= until;
                if event.value.as_deref() == Some(sealed) {
                    found = Some(event.revision);
                }
            }
            let ends = news.gap || !news.more || bytes > ETCD_NEWS_MAX_BYTES;
            self.held.push_back(news);
            if found.is_some() || reached {
                return Some(found);
            }
            if ends {
                return None;
            }
        }
        None
    }

    fn failed(&mut self, error: &LinkError) -> AppendError {
        match error {
            LinkError::Full => {
                self.condition = Condition::Full;
                AppendError::Full
            }
            LinkError::Unknown(_) => {
                self.condition = Condition::Away;
                self.reload.want();
                AppendError::Ambiguous
            }
            LinkError::Away(_) | LinkError::Compacted => {
                self.condition = Condition::Away;
                AppendError::Away
            }
            LinkError::Refused(_) => {
                self.condition = Condition::Failing;
                AppendError::Failed
            }
        }
    }

    fn explain(&self, fault: ReadFault) -> StoreError {
        let place = self.place.clone();
        match fault {
            ReadFault::Link(error) => StoreError::Remote(error),
            ReadFault::Nothing => StoreError::NoFleet { place },
            ReadFault::Damaged(what) => StoreError::FleetDamaged { place, what },
            ReadFault::Newer => StoreError::UnknownFormat { path: place, found: 0 },
        }
    }
}

impl State {
    /// Where the state stands with `records`, and what becomes of what is alive.
    #[inline(never)]
    fn after(&self, keys: &FleetKeys, records: &[&Record], made: Made) -> (Stand, Vec<(Path, Option<Live>)>) {
        let mut stand = self.stand;
        let mut changes = Vec::new();
        for record in records {
            if let Some(before) = self.live.get(&record.path) {
                fold(&mut stand.digest, &before.element);
                stand.records = stand.records.saturating_sub(1);
            }
            let live = record.sealed.as_deref().map(|sealed| {
                let element: Digest = keys.element(record.path, record.revision, sealed);
                Live { element, weight: record.weight() as u64 }
            });
            if let Some(live) = &live {
                fold(&mut stand.digest, &live.element);
                stand.records += 1;
            }
            changes.push((record.path, live));
        }
        stand.before = self.stand.head.tag;
        stand.head.revision = made.revision;
        stand.changes += u64::from(made.has_origins);
        stand.at_millis = made.at_millis;
        stand.head.tag = keys.tag(&stand);
        (stand, changes)
    }

    fn apply(&mut self, stand: Stand, changes: Vec<(Path, Option<Live>)>) {
        self.stand = stand;
        for (path, live) in changes {
            let before = match live {
                Some(live) => self.live.insert(path, live),
                None => self.live.remove(&path),
            };
            let (gone, come) = (before.map_or(0, |of| of.weight), live.map_or(0, |of| of.weight));
            self.bytes = self.bytes.saturating_sub(gone).saturating_add(come);
        }
    }
}

impl Store for Etcd {
    fn load(&mut self, each: &mut Deliver<'_>) -> Result<Loaded, StoreError> {
        let image = self.read()?;
        let head = image.stand.head;
        self.witness.check(head)?;
        let (records, recent) = self.stand_on(image);
        for record in records {
            each(record)?;
        }
        let rolled_back = self.witness.is_ahead(head);
        if rolled_back {
            self.raise()?;
        }
        let head = self.state.as_ref().map_or(head, |state| state.stand.head);
        Ok(Loaded { head, recent, torn: None, rolled_back })
    }

    fn append(&mut self, expected: u64, records: &[Record], origins: &[Origin]) -> Result<Head, AppendError> {
        match self.condition {
            Condition::Poisoned | Condition::SetBack => return Err(AppendError::Refused),
            _ if self.reload.is_wanted() => return Err(AppendError::Away),
            _ => {}
        }
        let revision = expected.checked_add(1).ok_or(AppendError::Refused)?;
        if records.iter().any(|record| record.revision != revision) || origins.len() > STORE_ORIGINS_MAX_COUNT
        {
            return Err(AppendError::Malformed);
        }
        let bounds = self.bounds();
        let too_long =
            |record: &Record| record.sealed.as_ref().is_some_and(|sealed| sealed.len() > bounds.record_bytes);
        let weight: usize = records.iter().map(Record::weight).sum();
        if records.iter().any(too_long)
            || weight > bounds.append_bytes
            || records.len() > bounds.records_count
        {
            return Err(AppendError::TooLarge);
        }
        self.write(expected, revision, records, origins)
    }

    fn watch(&mut self, since: u64, each: &mut Deliver<'_>) -> Result<Head, StoreError> {
        self.take_news(since, each)
    }

    fn maintain(&mut self) -> Result<Option<Compacted>, MaintainError> {
        // What was superseded is etcd's to compact.
        Ok(None)
    }

    fn standing(&self) -> Standing {
        let state = self.state.as_ref();
        Standing {
            condition: self.condition,
            bytes: state.map_or(0, |state| state.bytes),
            live_records: state.map_or(0, |state| state.live.len() as u64),
            live_bytes: state.map_or(0, |state| state.bytes),
            last_sync_micros: self.last_micros,
            compacts_in_use: true,
        }
    }

    fn bounds(&self) -> Bounds {
        Bounds {
            append_bytes: ETCD_APPEND_MAX_BYTES,
            record_bytes: ETCD_RECORD_MAX_BYTES,
            records_count: ETCD_RECORDS_PER_APPEND_MAX_COUNT,
        }
    }

    fn fresh_nanos(&self) -> Option<u64> {
        Some(self.fresh_nanos)
    }

    fn members(&self) -> usize {
        self.members.len().max(1)
    }

    fn is_cut(&self) -> bool {
        self.link.is_cut()
    }

    fn leave(&mut self) {
        self.condition = Condition::Poisoned;
    }
}

impl fmt::Debug for Etcd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Etcd").field("place", &self.place).finish_non_exhaustive()
    }
}
