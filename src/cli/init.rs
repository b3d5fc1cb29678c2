//! `quantonium init`: data directory, store, master key and first admin key, before the first start.
//!
//! Owns the order and the two files outside of the data directory. Invariants: nothing that exists is overwritten;
//! a store is made only once its master key is safe on the disk; the admin key is shown once, on standard output
//! alone or in a file for its owner only; everything else goes to standard error.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::arguments::Init;
use super::failure::Failure;
use super::offline;
use crate::clock::Moment;
use crate::config::{self, Offline};
use crate::console;
use crate::crypto::random::{Generator, Kernel};
use crate::encoding::hex_encode;
use crate::exit::Exit;
use crate::keeper;
use crate::limits::KEY_BYTES;
use crate::store::{DataDir, Journal, MasterKey, Owner, StoreError, quoted};

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
        let mut random = Generator::new(Kernel, Moment::now())?;
        let Offline { data_dir: path, user_id: uid, group_id: gid, .. } = &self.settings;
        let owner = offline::is_root().then_some(Owner { uid: *uid, gid: *gid });
        let data_dir = DataDir::open(path, owner)?;
        // A store that is there is never touched. One whose making was cut off is made complete, but no new master key
        // would open it.
        if self.generate_master_key && Journal::exists(&data_dir)? {
            return Err(StoreError::StoreExists { path: path.join("journal") }.into());
        }
        let admin_file = self.admin_key_file.as_deref().map(|path| NewFile::create(path, "admin key"));
        let admin_file = admin_file.transpose()?;
        if self.generate_master_key {
            self.make_master_key(&mut random)?;
        }
        let master = MasterKey::read_file(&self.master_key_file)?;
        let admin = keeper::initialise(&data_dir, &master, &mut random)?;
        match admin_file {
            Some(file) => file.keep_or_show(&admin),
            None => console::out(&Zeroizing::new(format!("{}\n", &*admin))),
        }
        self.tell();
        Ok(())
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
        console::err(&format!(
            "store made in {data_dir}\n\
             master key {made}: {master}; keep a copy apart from this machine and from backups of the data directory\n\
             admin API key: {admin}; nothing else keeps it\n\
             next:\n  quantonium serve --data-dir {data_dir} --master-key-file {master}\n"
        ));
    }
}

/// A file for its owner only that did not exist; removed again unless it was filled.
struct NewFile<'a> {
    path: &'a Path,
    file: File,
    filled: bool,
}

impl<'a> NewFile<'a> {
    fn create(path: &'a Path, what: &str) -> Result<Self, Failure> {
        let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let shown = quoted(path);
        opened.map(|file| Self { path, file, filled: false }).map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists if what == "master key" => Failure::config(format!(
                "{shown} exists and is not overwritten: leave out --generate-master-key to use it, or name another \
                 file"
            )),
            ErrorKind::AlreadyExists => {
                Failure::config(format!("{shown} exists and is not overwritten: name another file"))
            }
            ErrorKind::NotFound => Failure::config(format!(
                "cannot make the file of the {what}, {shown}: the directory around it is missing; create it first"
            )),
            _ => Failure::config(format!("cannot make the file of the {what}, {shown}: {error}")),
        })
    }

    /// Writes `text` and makes it durable, the name too.
    fn fill(mut self, text: &[u8]) -> Result<(), Failure> {
        let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let written = self
            .file
            .write_all(text)
            .and_then(|()| self.file.sync_all())
            .and_then(|()| File::open(parent.unwrap_or(Path::new(".")))?.sync_all());
        self.filled = written.is_ok();
        written.map_err(|error| Failure::io(format!("cannot write {}: {error}", quoted(self.path))))
    }

    /// Keeps the admin key here. Where that fails it is shown, because the store that knows it is made already.
    fn keep_or_show(self, admin: &str) {
        let line = Zeroizing::new(format!("{admin}\n"));
        if let Err(failure) = self.fill(line.as_bytes()) {
            console::err(&format!(
                "quantonium: init: {failure}; the admin key is on standard output instead\n"
            ));
            console::out(&line);
        }
    }
}

impl Drop for NewFile<'_> {
    fn drop(&mut self) {
        if !self.filled {
            // It is ours: it did not exist before. Should it stay, it is empty or refused when it is read.
            let _ = std::fs::remove_file(self.path);
        }
    }
}
