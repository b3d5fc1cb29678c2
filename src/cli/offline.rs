//! What the commands share that work without a server: the process made safe, the directory opened, the witness.
//!
//! Owns nothing. Invariants: no secret is read before core files and debuggers are forbidden; a directory that does
//! not exist is not made by a command that only looks at it.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::Mode;

use super::failure::Failure;
use crate::build_info;
use crate::config::Offline;
use crate::crypto::random;
use crate::sandbox;
use crate::secret;
use crate::server;
use crate::store::{DataDir, Head, Journal, Owner, StoreError, Witness, quoted, server_id};

/// Makes the process fit to hold secrets.
pub(super) fn prepare() -> Result<(), Failure> {
    build_info::cpu_supported().map_err(|feature| {
        Failure::config(format!(
            "this binary was built for processors with {feature}: use the portable build"
        ))
    })?;
    sandbox::shield()?;
    // Without a region they lie on the heap, for the short time that a command runs.
    random::start_up().map_err(|_| Failure::entropy())?;
    let _ = secret::open_region(|key| random::draw_key(key).is_ok());
    rustix::process::umask(Mode::from_raw_mode(0o077));
    Ok(())
}

/// Whether this process may give files away.
pub(super) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Opens a data directory that is there, as the one who owns it if this is root.
pub(super) fn open_existing(path: &Path) -> Result<DataDir, Failure> {
    let found = match std::fs::metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(StoreError::NoStore { path: path.to_owned() }.into());
        }
        Err(error) => return Err(Failure::config(format!("cannot look at {}: {error}", quoted(path)))),
    };
    let owner = Owner { uid: found.uid(), gid: found.gid() };
    DataDir::open(path, is_root().then_some(owner)).map_err(Failure::from)
}

/// Opens the data directory of a command that works on a journal alone.
pub(super) fn open_with_journal(settings: &Offline) -> Result<DataDir, Failure> {
    if settings.data_dir.as_os_str().is_empty() {
        return Err(in_etcd());
    }
    let data_dir = open_existing(&settings.data_dir)?;
    let is_elsewhere = settings.store.is_some() || server_id::is_there(&data_dir)?;
    if is_elsewhere && !Journal::exists(&data_dir)? {
        return Err(in_etcd());
    }
    Ok(data_dir)
}

fn in_etcd() -> Failure {
    Failure::config(
        "the records of this server are in etcd: `quantonium store verify`, `inspect` and `rekey` work there with --store etcd://..., and \
         the others on a data directory; for these stop every server of the fleet and use `quantonium store copy --from etcd://... --to \
         NEW_DIRECTORY`",
    )
}

/// How far the store has been: what its audit files tell, and what the settings say.
pub(super) fn witness(settings: &Offline, data_dir: &DataDir) -> Result<Witness, Failure> {
    let replay = server::read_audit(data_dir)
        .map_err(|error| Failure::io(format!("cannot read the audit files: {error}")))?;
    Ok(Witness {
        head: replay.head().map(|mark| Head { revision: mark.revision, tag: mark.tag }),
        min_revision: settings.min_store_revision.unwrap_or_default(),
        accept_rollback: settings.accept_store_rollback,
    })
}

/// The file of the master key: the one that the settings name, else the one that `--dev` keeps in the directory.
pub(super) fn master_key_file(named: Option<PathBuf>, data_dir: &DataDir) -> Option<PathBuf> {
    named.or_else(|| Some(crate::store::root::path(data_dir)).filter(|path| path.exists()))
}
