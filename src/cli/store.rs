//! `quantonium store`: verify, inspect, compact, rekey and rotate the root of the store of a server that does not run.
//!
//! Owns what each does and says of a journal; [`SharedStore`] does what there is to do on one that etcd keeps. Invariants: the directory is locked, so that no server runs meanwhile; `verify` and
//! `inspect` change nothing in the journal; a rewritten journal has been verified when success is said.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::arguments::{Action, StoreCommand};
use super::contents::{Contents, Gathered};
use super::copy;
use super::failure::Failure;
use super::new_file::NewFile;
use super::offline;
use super::report::{self, Header, Inspection, Verification};
use super::rotate_root::{self, Rotated};
use super::shared_store::SharedStore;
use crate::config::{self, Offline};
use crate::console;
use crate::exit::Exit;
use crate::store::journal::Report;
use crate::store::{Compacted, DataDir, Journal, MasterKey, StoreError, Witness, quoted};

/// Does what `command` says.
pub(super) fn run(
    command: StoreCommand,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Exit {
    let StoreCommand { raw, action, json, new_master_key_file, admin_key_file, ends } = command;
    if let Some((from, to)) = ends {
        return copy::run(raw, &from, &to, environment);
    }
    let done = config::load_store(raw, environment).map_err(Failure::from).and_then(|settings| {
        let new_file = new_master_key_file.unwrap_or_default();
        if let Some(remote) = settings.store.clone() {
            let shared = |settings| SharedStore::new(settings, remote, json);
            match action {
                Action::Verify => return shared(settings)?.verify(),
                Action::Inspect => return shared(settings)?.inspect(),
                Action::Rekey => return shared(settings)?.rekey(&new_file),
                Action::Compact | Action::RotateRoot | Action::Copy => {}
            }
        }
        let desk = Desk::open(settings, json)?;
        match action {
            Action::Verify => desk.verify(),
            Action::Inspect => desk.inspect(),
            Action::Compact => desk.compact(),
            Action::Rekey => desk.rekey(&new_file),
            Action::RotateRoot => desk.rotate_root(admin_key_file.as_deref()),
            // Its two ends were demanded.
            Action::Copy => Ok(Exit::Usage),
        }
    });
    match done {
        Ok(exit) => exit,
        Err(failure) => failure.tell(&format!("store {}", action.name())),
    }
}

/// The directory, locked, and what is known about its master key.
struct Desk {
    data_dir: DataDir,
    master_key_file: Option<PathBuf>,
    witness: Witness,
    json: bool,
}

impl Desk {
    fn open(settings: Offline, json: bool) -> Result<Self, Failure> {
        offline::prepare()?;
        let data_dir = offline::open_with_journal(&settings)?;
        let witness = offline::witness(&settings, &data_dir)?;
        let master_key_file = offline::master_key_file(settings.master_key_file, &data_dir);
        Ok(Self { data_dir, master_key_file, witness, json })
    }

    fn verify(&self) -> Result<Exit, Failure> {
        let (report, contents) = self.examine(&self.master()?)?;
        let verification = self.judge(&report, &contents);
        self.say(&verification);
        if verification.is_damaged() {
            return Ok(Exit::Damaged);
        }
        self.witness.check(report.head)?;
        Ok(Exit::Success)
    }

    fn inspect(&self) -> Result<Exit, Failure> {
        let header = Header::new(&self.journal(), &Journal::inspect(&self.data_dir)?);
        if self.master_key_file.is_none() {
            self.say(&Inspection::of_header(header));
            return Ok(Exit::Success);
        }
        let (report, contents) = self.examine(&self.master()?)?;
        self.say(&Inspection::of_contents(header, report.head.revision, &contents));
        match report.damages.first() {
            Some(damage) => {
                let path = self.journal();
                Err(StoreError::Damaged { path, offset: damage.offset }.into())
            }
            None => Ok(Exit::Success),
        }
    }

    fn compact(&self) -> Result<Exit, Failure> {
        let master = self.master()?;
        let compacted = Journal::compact_offline(&self.data_dir, &master, self.witness)?;
        self.must_be_sound(&master)?;
        let Compacted { before_bytes, after_bytes, records } = compacted;
        console::out(&format!(
            "compacted: {before_bytes} bytes to {after_bytes}, {records} records; verified\n"
        ));
        Ok(Exit::Success)
    }

    fn rekey(&self, new_file: &Path) -> Result<Exit, Failure> {
        let new = MasterKey::read_file(new_file)?;
        let shown = quoted(new_file);
        let (is, wanted) = (Journal::inspect(&self.data_dir)?.master_key, new.id()?);
        if is != wanted {
            let old = self.master()?;
            Journal::rekey(&self.data_dir, &old, &new, self.witness)?;
        }
        self.must_be_sound(&new)?;
        if is == wanted {
            console::out(&format!("the store is under the master key of {shown} already; verified\n"));
            return Ok(Exit::Success);
        }
        let old = self.master_key_file.as_deref().map(quoted).unwrap_or_default();
        console::out(&format!(
            "the store is under the master key of {shown} now; verified\n\
             {old} is no longer needed for it, but older copies of the journal still open with that key\n\
             next:\n  quantonium serve --data-dir {} --master-key-file {shown}\n",
            quoted(self.data_dir.path())
        ));
        Ok(Exit::Success)
    }

    fn rotate_root(&self, admin_key_file: Option<&Path>) -> Result<Exit, Failure> {
        let admin_file = admin_key_file.map(|path| NewFile::create(path, "admin key")).transpose()?;
        let hand_over = |admin: &str| NewFile::hand_over(admin_file, admin);
        let Rotated { ended, keys_count } =
            rotate_root::rotate(&self.data_dir, &self.master()?, self.witness, hand_over)?;
        let mut said = format!("{keys_count} keys sealed anew under a new root key; verified\n");
        for key in ended {
            said.push_str(&format!("ended: API key qk_{}, made {}\n", key.id, key.created.civil()));
        }
        let admin = admin_key_file
            .map_or("on standard output, shown once".to_owned(), |path| format!("in {}", quoted(path)));
        said.push_str(&format!("new admin API key: {admin}; nothing else keeps it\n"));
        console::err(&said);
        Ok(Exit::Success)
    }

    fn journal(&self) -> PathBuf {
        self.data_dir.path().join("journal")
    }

    fn master(&self) -> Result<MasterKey, Failure> {
        let path = self.master_key_file.as_deref().ok_or_else(|| {
            Failure::config(
                "no master key, without which only `quantonium store inspect` can say anything: give \
                 --master-key-file FILE or set QUANTONIUM_MASTER_KEY_FILE",
            )
        })?;
        MasterKey::read_file(path).map_err(Failure::from)
    }

    /// Reads everything and changes nothing.
    fn examine(&self, master: &MasterKey) -> Result<(Report, Contents), Failure> {
        let mut gathered = Gathered::default();
        let (report, sealer) = Journal::examine(&self.data_dir, master, &mut |record| gathered.take(record))?;
        Ok((report, gathered.read(&sealer)))
    }

    fn judge(&self, report: &Report, contents: &Contents) -> Verification {
        let header = Header::new(&self.journal(), &report.inspected);
        Verification::new(header, report, contents, &self.witness)
    }

    fn must_be_sound(&self, master: &MasterKey) -> Result<(), Failure> {
        let (report, contents) = self.examine(master)?;
        let verification = self.judge(&report, &contents);
        if verification.is_sound() {
            return Ok(());
        }
        Err(Failure::damaged(format!(
            "{} was rewritten and is not sound; do not start on it, put back a copy:\n{verification}",
            quoted(&self.journal())
        )))
    }

    fn say(&self, report: &(impl serde::Serialize + core::fmt::Display)) {
        console::out(&if self.json { report::json(report) } else { report.to_string() });
    }
}
