//! `quantonium store` on a store that etcd keeps: verify, inspect, and another master key, whether its servers run or not.
//!
//! Owns the three. Invariants: `verify` and `inspect` write nothing; another master key is one transaction, so that there is no store
//! under half of it; the store has been read under the new one when success is said.

use std::path::{Path, PathBuf};

use super::contents::{Contents, Gathered};
use super::copy;
use super::failure::Failure;
use super::offline;
use super::report::{self, Header, Inspection, Verification};
use crate::broker::Direct;
use crate::config::{Offline, Remote};
use crate::console;
use crate::exit::Exit;
use crate::store::etcd::link::LinkError;
use crate::store::{Etcd, Head, MasterKey, Store as _, StoreError, Witness, quoted};

/// The store and what is known about its master key.
pub(super) struct SharedStore {
    remote: Remote,
    place: PathBuf,
    master_key_file: Option<PathBuf>,
    witness: Witness,
    json: bool,
}

/// All of a store, read and proved.
struct Read {
    head: Head,
    bytes: u64,
    records: u64,
    contents: Contents,
}

impl SharedStore {
    pub(super) fn new(settings: Offline, remote: Remote, json: bool) -> Result<Self, Failure> {
        offline::prepare()?;
        let place = PathBuf::from(remote.place.text());
        // The audit files of a server that runs are its own to read: its next start looks at them.
        let min_revision = settings.min_store_revision.unwrap_or_default();
        let witness = Witness { min_revision, ..Witness::default() };
        Ok(Self { remote, place, master_key_file: settings.master_key_file, witness, json })
    }

    pub(super) fn verify(&self) -> Result<Exit, Failure> {
        let read = self.read(&self.master()?)?;
        let verification = self.judge(&read)?;
        self.say(&verification);
        if verification.is_damaged() {
            return Ok(Exit::Damaged);
        }
        self.witness.check(read.head)?;
        Ok(Exit::Success)
    }

    pub(super) fn inspect(&self) -> Result<Exit, Failure> {
        let inspection = if self.master_key_file.is_none() {
            Inspection::of_header(self.header(None)?)
        } else {
            let read = self.read(&self.master()?)?;
            Inspection::of_contents(self.header(Some(read.bytes))?, read.head.revision, &read.contents)
        };
        self.say(&inspection);
        Ok(Exit::Success)
    }

    pub(super) fn rekey(&self, new_file: &Path) -> Result<Exit, Failure> {
        let new = MasterKey::read_file(new_file)?;
        let shown = quoted(new_file);
        let mut link = self.connect()?;
        let layout = &self.remote.place.layout;
        let is = Etcd::inspect(&mut link, layout, &self.place)?.master_key;
        let is_done = is == new.id()?;
        if !is_done {
            let old = self.master()?;
            // Nothing is put under a key that does not open it.
            self.must_be_sound(&old)?;
            let done = Etcd::rekey(&mut link, layout, &self.place, &old, &new);
            done.map_err(|error| {
                let is_unknown = matches!(error, StoreError::Remote(LinkError::Unknown(_)));
                let failure = Failure::from(error);
                if is_unknown {
                    failure.and("; run the same command again, which finds out")
                } else {
                    failure
                }
            })?;
        }
        self.must_be_sound(&new)?;
        let already = if is_done { " already" } else { "" };
        let mut said = format!("the store is under the master key of {shown}{already}; verified\n");
        if !is_done {
            said.push_str(
                "servers that run go on; give each of them the new master key before its next start\n\
                 backups of etcd, and its history until it is compacted, still open with the old key\n",
            );
        }
        console::out(&said);
        Ok(Exit::Success)
    }

    fn must_be_sound(&self, master: &MasterKey) -> Result<(), Failure> {
        let verification = self.judge(&self.read(master)?)?;
        if verification.is_sound() {
            return Ok(());
        }
        Err(Failure::damaged(format!("{} is not sound:\n{verification}", quoted(&self.place))))
    }

    /// Reads everything, and proves it.
    fn read(&self, master: &MasterKey) -> Result<Read, Failure> {
        let (link, layout) = (Box::new(self.connect()?), self.remote.place.layout.clone());
        // What is known of how far it was is judged with what was read in hand.
        let mut opened = Etcd::open(link, layout, self.place.clone(), master, Witness::default())?;
        let sealer = opened.root.sealer(opened.ring)?;
        let mut gathered = Gathered::default();
        let loaded = opened.store.load(&mut |record| {
            gathered.take(record);
            Ok(())
        })?;
        let standing = opened.store.standing();
        let (bytes, records) = (standing.bytes, standing.live_records);
        Ok(Read { head: loaded.head, bytes, records, contents: gathered.read(&sealer) })
    }

    fn judge(&self, read: &Read) -> Result<Verification, Failure> {
        let header = self.header(Some(read.bytes))?;
        Ok(Verification::of_shared(header, read.head, read.records, &read.contents, &self.witness))
    }

    fn header(&self, bytes: Option<u64>) -> Result<Header, Failure> {
        let header = Etcd::inspect(&mut self.connect()?, &self.remote.place.layout, &self.place)?;
        Ok(Header::of_shared(&self.place, &header, bytes))
    }

    fn connect(&self) -> Result<Direct, Failure> {
        copy::connect(&self.remote)
    }

    fn master(&self) -> Result<MasterKey, Failure> {
        copy::master(self.master_key_file.clone())
    }

    fn say(&self, report: &(impl serde::Serialize + core::fmt::Display)) {
        console::out(&if self.json { report::json(report) } else { report.to_string() });
    }
}
