//! `quantonium init`: data directory, store, master key and first admin key, before the first start.
//!
//! Owns the order and the two files outside of the data directory. Invariants: nothing that exists is overwritten;
//! a store is made only once its master key is safe on the disk; the admin key is shown once, on standard output
//! alone or in a file for its owner only; everything else goes to standard error.

use std::ffi::OsString;
use std::path::PathBuf;

use zeroize::Zeroizing;

use super::arguments::Init;
use super::copy;
use super::failure::Failure;
use super::new_file::NewFile;
use super::offline;
use crate::auth::api_key;
use crate::clock::Moment;
use crate::config::{self, Offline, Remote};
use crate::console;
use crate::crypto::random::{Generator, Kernel};
use crate::encoding::hex_encode;
use crate::exit::Exit;
use crate::keeper::{Making, Telling, initialise_in, initialise_with};
use crate::limits::KEY_BYTES;
use crate::store::{
    DataDir, Etcd, Head, Journal, MasterKey, OpenedFleet, Owner, Store as _, StoreError, Witness, quoted,
};

/// Makes what `init` asks for and says what to do next.
pub(super) fn run(init: Init, environment: impl IntoIterator<Item = (OsString, OsString)>) -> Exit {
    let Init { raw, generate_master_key, admin_key_file } = init;
    let made = config::load_offline(raw, environment).map_err(Failure::from).and_then(|settings| {
        let plan = Plan::new(settings, generate_master_key, admin_key_file)?;
        plan.carry_out()
    });
    match made {
        Ok(()) => Exit::Success,
        Err(failure) => failure.tell("init"),
    }
}

/// What was asked for, complete.
struct Plan {
    settings: Offline,
    master_key_file: PathBuf,
    generate_master_key: bool,
    admin_key_file: Option<PathBuf>,
}

impl Plan {
    fn new(
        settings: Offline,
        generate_master_key: bool,
        admin_key_file: Option<PathBuf>,
    ) -> Result<Self, Failure> {
        let Some(master_key_file) = settings.master_key_file.clone() else {
            return Err(Failure::config(
                "no master key: give --master-key-file FILE, and --generate-master-key if it is to be made, or set \
                 QUANTONIUM_MASTER_KEY_FILE",
            ));
        };
        Ok(Self { settings, master_key_file, generate_master_key, admin_key_file })
    }

    fn carry_out(&self) -> Result<(), Failure> {
        offline::prepare()?;
        if let Some(remote) = &self.settings.store {
            return self.carry_out_shared(remote);
        }
        let mut random = Generator::new(Kernel, Moment::now())?;
        let path = &self.settings.data_dir;
        let data_dir = self.open()?;
        // A store that is there is never touched. One whose making was cut off is made complete, but no new master key
        // would open it.
        let exists = Journal::exists(&data_dir)?;
        if self.generate_master_key && exists {
            return Err(StoreError::StoreExists { path: path.join("journal") }.into());
        }
        // What the audit files know of must not be replaced by nothing.
        let witness = offline::witness(&self.settings, &data_dir)?;
        if !exists {
            witness.check(Head::default())?;
        }
        let admin_file = self.admin_key_file.as_deref().map(|path| NewFile::create(path, "admin key"));
        let admin_file = admin_file.transpose()?;
        if self.generate_master_key {
            self.make_master_key(&mut random)?;
        }
        let master = MasterKey::read_file(&self.master_key_file)?;
        if exists {
            let mut found = Journal::open(&data_dir, &master, Witness::default())?.journal;
            if found.load(&mut |_| Ok(()))?.head.revision > 0 {
                return Err(StoreError::StoreExists { path: path.join("journal") }.into());
            }
        }
        let now = Moment::now();
        let admin = api_key::generate(|bytes| random.fill(now, bytes))?;
        NewFile::hand_over(admin_file, &admin).inspect_err(|_| self.take_back_master_key())?;
        // After an accepted loss the new store begins behind what was lost, or no server would start on it.
        initialise_with(&data_dir, &master, &mut random, &admin, witness, Telling::Here).map_err(
            |error| {
                Failure::from(error).and(
                "; the admin key was handed over and is of no use unless `quantonium store inspect` shows it",
            )
            },
        )?;
        self.tell();
        Ok(())
    }

    /// The same of a store that etcd keeps for several servers; the data directory is that of the first one.
    fn carry_out_shared(&self, remote: &Remote) -> Result<(), Failure> {
        let mut random = Generator::new(Kernel, Moment::now())?;
        let place = PathBuf::from(remote.place.text());
        let layout = &remote.place.layout;
        let data_dir = self.open()?;
        let mut link = copy::connect(remote)?;
        let exists = Etcd::exists(&mut link, layout)?;
        if self.generate_master_key && exists {
            return Err(StoreError::FleetExists { place }.into());
        }
        let witness = offline::witness(&self.settings, &data_dir)?;
        if !exists {
            witness.check(Head::default())?;
        }
        let admin_file = self.admin_key_file.as_deref().map(|path| NewFile::create(path, "admin key"));
        let admin_file = admin_file.transpose()?;
        if self.generate_master_key {
            self.make_master_key(&mut random)?;
        }
        let master = MasterKey::read_file(&self.master_key_file)?;
        if !exists {
            Etcd::create(&mut link, layout, &place, &master, &mut random)?;
        }
        let mut opened = Etcd::open(Box::new(link), layout.clone(), place.clone(), &master, witness)?;
        if exists && opened.store.load(&mut |_| Ok(()))?.head.revision > 0 {
            return Err(StoreError::FleetExists { place }.into());
        }
        let now = Moment::now();
        let admin = api_key::generate(|bytes| random.fill(now, bytes))?;
        NewFile::hand_over(admin_file, &admin).inspect_err(|_| self.take_back_master_key())?;
        let OpenedFleet { store, root, ring } = opened;
        let making = Making { data_dir: &data_dir, store: Box::new(store), root, ring };
        initialise_in(making, &mut random, &admin, Telling::Here)?;
        self.tell();
        Ok(())
    }

    fn open(&self) -> Result<DataDir, Failure> {
        let Offline { data_dir, user_id: uid, group_id: gid, .. } = &self.settings;
        let owner = offline::is_root().then_some(Owner { uid: *uid, gid: *gid });
        Ok(DataDir::open(data_dir, owner)?)
    }

    /// Removes a master key that was made for a store which is not made.
    fn take_back_master_key(&self) {
        if self.generate_master_key {
            let _ = std::fs::remove_file(&self.master_key_file);
        }
    }

    /// Makes the master key's file: 64 hexadecimal digits and a newline.
    fn make_master_key(&self, random: &mut Generator) -> Result<(), Failure> {
        let file = NewFile::create(&self.master_key_file, "master key")?;
        let mut key = Zeroizing::new([0u8; KEY_BYTES]);
        random.fill(Moment::now(), key.as_mut_slice())?;
        let mut text = Zeroizing::new([b'\n'; 2 * KEY_BYTES + 1]);
        hex_encode(key.as_slice(), text.as_mut_slice());
        file.fill(text.as_slice())
    }

    fn tell(&self) {
        let (data_dir, master) = (quoted(&self.settings.data_dir), quoted(&self.master_key_file));
        let made = if self.generate_master_key { "made" } else { "used" };
        let admin = match &self.admin_key_file {
            Some(path) => format!("in {}", quoted(path)),
            None => "on standard output, shown once".to_owned(),
        };
        let (place, flag) = match &self.settings.store {
            None => (data_dir.clone(), String::new()),
            Some(remote) => {
                let place = remote.place.text().to_owned();
                (place.clone(), format!(" --store {place}"))
            }
        };
        console::err(&format!(
            "store made in {place}\n\
             master key {made}: {master}; keep a copy apart from this machine and from backups of the data directory\n\
             admin API key: {admin}; nothing else keeps it\n\
             next:\n  quantonium serve --data-dir {data_dir}{flag} --master-key-file {master}\n"
        ));
    }
}
