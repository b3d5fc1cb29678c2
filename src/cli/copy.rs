//! `quantonium store copy`: a store moved from a journal to etcd, or back.
//!
//! Owns the two ways. Invariants: nothing that exists is overwritten; the old store is left as it is; what was written is read back and
//! compared record by record before success is said; no server runs on the directory meanwhile.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::PathBuf;

use super::failure::Failure;
use super::offline;
use crate::broker::{Access, Direct, StorePlace};
use crate::clock::Moment;
use crate::config::{self, Id, Offline, Raw, Remote};
use crate::console;
use crate::crypto::random::{Generator, Kernel};
use crate::exit::Exit;
use crate::server;
use crate::store::etcd::moved::{Cargo, are_same};
use crate::store::{
    DataDir, Etcd, Journal, Loaded, MasterKey, Owner, Path, Record, Store, StoreError, Witness, quoted,
};

/// Copies the store at `from` to `to`.
pub(super) fn run(
    mut raw: Raw,
    from: &str,
    to: &str,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Exit {
    let into_etcd = StorePlace::is_meant(to);
    if StorePlace::is_meant(from) == into_etcd {
        return Failure::config("one of --from and --to is etcd://..., the other one a data directory")
            .tell("store copy");
    }
    let (etcd, directory) = if into_etcd { (to, from) } else { (from, to) };
    // Given once: what the command line takes here has no such flags.
    let _ = raw.add_flag(Id::Store, etcd.into());
    let _ = raw.add_flag(Id::DataDir, directory.into());
    let done = config::load_offline(raw, environment).map_err(Failure::from).and_then(|settings| {
        offline::prepare()?;
        let remote = settings.store.clone().ok_or_else(|| Failure::config("no etcd is named"))?;
        if into_etcd { to_etcd(settings, &remote) } else { to_journal(&settings, &remote) }
    });
    match done {
        Ok(text) => {
            console::out(&text);
            Exit::Success
        }
        Err(failure) => failure.tell("store copy"),
    }
}

/// A way to etcd from this process.
pub(super) fn connect(remote: &Remote) -> Result<Direct, Failure> {
    let endpoints = remote.place.resolve();
    let endpoints = endpoints.map_err(|error| Failure::config(format!("--store: {error}")))?;
    let credentials = server::read_credentials(remote).map_err(|error| Failure::config(error.to_string()))?;
    let access = Access::new(endpoints, &credentials).map_err(Failure::config)?;
    Ok(Direct::new(access, Box::new(|| {})))
}

/// Reads the master key.
pub(super) fn master(file: Option<PathBuf>) -> Result<MasterKey, Failure> {
    let file = file.ok_or_else(|| {
        Failure::config("no master key: give --master-key-file FILE or set QUANTONIUM_MASTER_KEY_FILE")
    })?;
    Ok(MasterKey::read_file(&file)?)
}

/// Everything that `store` holds.
fn gather(store: &mut dyn Store) -> Result<(Loaded, Vec<Record>), StoreError> {
    let mut latest: HashMap<Path, Record> = HashMap::new();
    let loaded = store.load(&mut |record| {
        if record.sealed.is_some() {
            latest.insert(record.path, record);
        } else {
            latest.remove(&record.path);
        }
        Ok(())
    })?;
    Ok((loaded, latest.into_values().collect()))
}

fn to_etcd(settings: Offline, remote: &Remote) -> Result<String, Failure> {
    let data_dir = offline::open_existing(&settings.data_dir)?;
    let witness = offline::witness(&settings, &data_dir)?;
    let master = master(offline::master_key_file(settings.master_key_file, &data_dir))?;
    let mut opened = Journal::open(&data_dir, &master, witness)?;
    let (loaded, records) = gather(&mut opened.journal)?;
    let Loaded { head, recent, .. } = loaded;
    let cargo = Cargo { root: opened.root, ring: opened.ring, head, recent, records };
    let mut random = Generator::new(Kernel, Moment::now())?;
    let place = PathBuf::from(remote.place.text());
    let mut link = connect(remote)?;
    let stands = Etcd::receive(&mut link, &remote.place.layout, &place, &master, &cargo, &mut random)?;
    Ok(format!(
        "{} records copied to {} and compared; it stands at revision {}\n\
         the journal in {} is as it was: start no server on it any more\n",
        cargo.records.len(),
        quoted(&place),
        stands.revision,
        quoted(data_dir.path())
    ))
}

fn to_journal(settings: &Offline, remote: &Remote) -> Result<String, Failure> {
    let master = master(settings.master_key_file.clone())?;
    let place = PathBuf::from(remote.place.text());
    let link = Box::new(connect(remote)?);
    let layout = remote.place.layout.clone();
    let opened = Etcd::open(link, layout, place.clone(), &master, Witness::default())?;
    let (mut store, root, ring) = (opened.store, opened.root, opened.ring);
    let (loaded, records) = gather(&mut store)?;
    drop(store);
    let Loaded { head, recent, .. } = loaded;
    let cargo = Cargo { root, ring, head, recent, records };
    let owner = Owner { uid: settings.user_id, gid: settings.group_id };
    let data_dir = DataDir::open(&settings.data_dir, offline::is_root().then_some(owner))?;
    let mut random = Generator::new(Kernel, Moment::now())?;
    Journal::receive(&data_dir, &master, &cargo, &mut random)?;
    let mut written = Journal::open(&data_dir, &master, Witness::default())?;
    let (read, found) = gather(&mut written.journal)?;
    if !are_same(&cargo.records, &found) || read.head != head {
        return Err(Failure::damaged(format!(
            "the journal in {} reads back as something else than was written: look at the disk",
            quoted(data_dir.path())
        )));
    }
    Ok(format!(
        "{} records copied to {} and compared; it stands at revision {}\n\
         {} is as it was: start no server on it any more\n",
        found.len(),
        quoted(data_dir.path()),
        head.revision,
        quoted(&place)
    ))
}
