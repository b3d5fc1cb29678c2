//! The store at the start: its master key, what the audit log witnesses of it, its making, and its records.
//!
//! Owns [`Vault`]. Invariants: a store is made only where that was asked for, and never where the audit log knows of
//! one that is gone; a store that has fallen behind its witness is refused before anything of it is changed; an admin
//! key that is made here is shown or kept before anything else can fail.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use zeroize::Zeroizing;

use crate::audit::chain::Root;
use crate::audit::replay::Unfinished;
use crate::audit::{self, Replay, Stream, StreamName, Who};
use crate::auth::{Authenticator, api_key};
use crate::clock::Moment;
use crate::config::{Config, Remote};
use crate::console::{self, Output};
use crate::crypto::random::Generator;
use crate::keeper::{self, Opening, Telling};
use crate::limits::{
    AUDIT_REPLAY_KEEPER_FILE_MAX_BYTES, AUDIT_REPLAY_KEEPER_MAX_BYTES, AUDIT_REPLAY_WORKER_FILE_MAX_BYTES,
    AUDIT_REPLAY_WORKER_MAX_BYTES, KEY_BYTES,
};
use crate::log::{self, Module};
use crate::secret::Secret;
use crate::server::error::ServerError;
use crate::server::fleet_vault;
use crate::store::etcd::layout::ServerId;
use crate::store::journal::Opened;
use crate::store::{
    AdminKey, DataDir, Etcd, Head, Journal, MasterKey, RootKey, Sealer, Store as _, StoreError, Witness,
    admin_key, audit_file_name, list_audit_files, open_audit_part, quoted, root,
};

/// The open store and what it held.
#[derive(Debug)]
pub(super) struct Vault {
    pub(super) store: Kept,
    pub(super) sealer: Sealer,
    pub(super) opening: Opening,
    pub(super) authenticator: Authenticator,
    pub(super) backup_key: Secret<KEY_BYTES>,
    /// From which the keys of the audit streams are derived; dropped once they are.
    pub(super) audit_root: Root,
    /// Changes that an earlier start began and told no end of.
    pub(super) unfinished: Vec<Unfinished>,
    /// The admin key that is kept in a file, if this start made the store.
    pub(super) admin: Option<AdminKey>,
}

/// What keeps the store.
#[derive(Debug)]
pub(super) enum Kept {
    Journal(Box<Journal>),
    /// etcd, for several servers; this one's id.
    Etcd(Box<Etcd>, ServerId),
}

/// Opens the store that etcd keeps, through `socket`, or makes it.
pub(super) fn open_shared(
    config: &Config,
    remote: &Remote,
    data_dir: &DataDir,
    socket: OwnedFd,
    random: &mut Generator,
) -> Result<Vault, ServerError> {
    let (replay, witness) = witness(config, data_dir)?;
    let master = master_key(config, data_dir, random)?;
    let opened = fleet_vault::open(config, remote, data_dir, socket, (&master, witness), random)?;
    let fleet_vault::Opened { store, root, sealer, opening, id } = opened;
    complete(config, Kept::Etcd(Box::new(store), id), &root, (sealer, opening), replay, None)
}

/// How far the store was, by what earlier starts of this server wrote.
fn witness(config: &Config, data_dir: &DataDir) -> Result<(Replay, Witness), ServerError> {
    let replay = read_audit(data_dir)?;
    let witness = Witness {
        head: replay.head().map(|mark| Head { revision: mark.revision, tag: mark.tag }),
        min_revision: config.min_store_revision.unwrap_or(0),
        accept_rollback: config.accept_store_rollback,
    };
    Ok((replay, witness))
}

/// Opens the store, or makes it.
pub(super) fn open(
    config: &Config,
    data_dir: &DataDir,
    random: &mut Generator,
) -> Result<Vault, ServerError> {
    let (replay, witness) = witness(config, data_dir)?;
    let may_make = config.dev || config.init;
    let exists = Journal::exists(data_dir)?;
    if !exists {
        if !may_make {
            return Err(StoreError::NoStore { path: data_dir.path().to_owned() }.into());
        }
        // What the audit log knows of must not be replaced by nothing.
        witness.check(Head::default())?;
    }
    let master = master_key(config, data_dir, random)?;
    let mut rolled_back = !exists && witness.is_ahead(Head::default());
    let mut admin = None;
    if !exists {
        admin = make(config, data_dir, &master, random, witness)?;
    }
    let (mut opened, mut sealer, mut opening) = load(data_dir, &master, witness)?;
    rolled_back |= opening.loaded.rolled_back;
    if opening.state.callers.is_empty() {
        // A start that did not get through left it so: without an API key nobody could ever use it.
        if !may_make {
            return Err(ServerError::config(
                "the store has no API key, its making was cut off: start once with --init, which makes an admin key and \
                 shows it",
            ));
        }
        drop(opened);
        admin = make(config, data_dir, &master, random, witness)?;
        (opened, sealer, opening) = load(data_dir, &master, witness)?;
    }
    opening.loaded.rolled_back |= rolled_back;
    compact(&mut opened.journal, data_dir);
    let kept = Kept::Journal(Box::new(opened.journal));
    complete(config, kept, &opened.root, (sealer, opening), replay, admin)
}

/// What follows from the root key and what was read.
fn complete(
    config: &Config,
    store: Kept,
    root: &RootKey,
    (sealer, opening): (Sealer, Opening),
    replay: Replay,
    admin: Option<AdminKey>,
) -> Result<Vault, ServerError> {
    let pepper = root.pepper().map_err(StoreError::from)?;
    let authenticator =
        pepper.with(|pepper| Authenticator::new(pepper, &config.token_issuer, &config.token_audience));
    let backup_key = match &config.backup_key_file {
        Some(path) => MasterKey::read_file(path)?.into_secret(),
        None => root.backup_key().map_err(StoreError::from)?,
    };
    let audit_root = root.audit_root().map_err(StoreError::from)?;
    tell(&opening);
    let unfinished = replay.into_unfinished();
    Ok(Vault { store, sealer, opening, authenticator, backup_key, audit_root, unfinished, admin })
}

/// Reads what earlier starts wrote, the newest first: how far the store was, and what has no outcome. The keepers'
/// streams come first and have bounds of their own, so that traffic hides nothing of them.
///
/// # Errors
/// What the system says.
pub fn read_audit(data_dir: &DataDir) -> Result<Replay, ServerError> {
    let failed = |error: io::Error| ServerError::io("listing the audit log", &error);
    let mut files = list_audit_files(data_dir).map_err(failed)?;
    // A part that has both files is read from the plain one: the other was not finished.
    files.sort_unstable_by_key(|(name, compressed)| (core::cmp::Reverse(*name), *compressed));
    files.dedup_by_key(|(name, _)| *name);
    let (keepers, workers): (Vec<_>, Vec<_>) =
        files.into_iter().partition(|(name, _)| name.who == Who::Keeper);
    let mut replay = Replay::new();
    let mut left = AUDIT_REPLAY_KEEPER_MAX_BYTES;
    let mut in_stream = (None, 0);
    for (name, compressed) in keepers {
        let budget = begin(&mut in_stream, name, AUDIT_REPLAY_KEEPER_FILE_MAX_BYTES).min(left);
        let read = read_part(&mut replay, data_dir, name, compressed, budget)?;
        in_stream.1 = in_stream.1.saturating_sub(read);
        left = left.saturating_sub(read);
    }
    let mut left = AUDIT_REPLAY_WORKER_MAX_BYTES;
    let mut start = None;
    let mut in_stream = (None, 0);
    for (name, compressed) in workers {
        // A start that is begun is read to its end: no worker's lines are hidden by those of another.
        let same = start.replace(name.start.seconds) == Some(name.start.seconds);
        if left == 0 && !same {
            break;
        }
        let budget = begin(&mut in_stream, name, AUDIT_REPLAY_WORKER_FILE_MAX_BYTES);
        let read = read_part(&mut replay, data_dir, name, compressed, budget)?;
        in_stream.1 = in_stream.1.saturating_sub(read);
        left = left.saturating_sub(read);
    }
    if replay.impossible() > 0 {
        log::warn(
            Module::Audit,
            format_args!(
                "{} lines tell a revision that no store can have, and are no witness: the server did not \
                 write them",
                replay.impossible()
            ),
        );
    }
    Ok(replay)
}

/// How much of the stream of this part is still to be read: `budget` with its first part, less with each further one.
fn begin(in_stream: &mut (Option<Stream>, u64), part: StreamName, budget: u64) -> u64 {
    if in_stream.0.replace(part.stream()) != Some(part.stream()) {
        in_stream.1 = budget;
    }
    in_stream.1
}

/// Reads the end of a part; returns how many bytes that were.
fn read_part(
    replay: &mut Replay,
    data_dir: &DataDir,
    part: StreamName,
    compressed: bool,
    budget: u64,
) -> Result<u64, ServerError> {
    let mut read = || match open_audit_part(data_dir, part, compressed)? {
        Some(file) if budget > 0 && compressed => {
            replay.read(&mut io::Cursor::new(audit::part::tail(file, budget)?), budget)
        }
        Some(mut file) if budget > 0 => replay.read(&mut file, budget),
        _ => Ok(0),
    };
    let path = || data_dir.path().join("audit").join(audit_file_name(part, compressed));
    read().map_err(|error| unreadable(&path(), &error))
}

/// What is said of an audit file that cannot be read.
fn unreadable(path: &Path, error: &io::Error) -> ServerError {
    let advice = match error.kind() {
        io::ErrorKind::PermissionDenied => " (chown it to the user that runs the server)",
        _ => "",
    };
    ServerError::io(&format!("reading {}{advice}", quoted(path)), error)
}

fn master_key(config: &Config, data_dir: &DataDir, random: &mut Generator) -> Result<MasterKey, ServerError> {
    if let Some(path) = &config.master_key_file {
        return Ok(MasterKey::read_file(path)?);
    }
    if !config.dev {
        return Err(ServerError::config(
            "no master key: give --master-key-file FILE, set QUANTONIUM_MASTER_KEY_FILE, or hand over the systemd \
             credential quantonium-master-key",
        ));
    }
    let (key, _) = MasterKey::load_or_create(data_dir, random)?;
    log::warn(
        Module::Store,
        format_args!(
            "the master key lies beside the data, in {}: for development only",
            quoted(&root::path(data_dir))
        ),
    );
    Ok(key)
}

/// Makes the store with its first admin key. For development the key is kept in a file and returned; otherwise it is
/// shown here and now, since what follows may fail.
fn make(
    config: &Config,
    data_dir: &DataDir,
    master: &MasterKey,
    random: &mut Generator,
    witness: Witness,
) -> Result<Option<AdminKey>, ServerError> {
    let admin = if config.dev {
        let now = Moment::now();
        let admin = admin_key::load_or_create(data_dir, || {
            api_key::generate(|bytes| random.fill(now, bytes)).map_err(|error| error.to_string())
        })?;
        keeper::initialise_with(data_dir, master, random, &admin.text, witness, Telling::AtTheStart)?;
        Some(admin)
    } else {
        let now = Moment::now();
        let admin = api_key::generate(|bytes| random.fill(now, bytes)).map_err(StoreError::from)?;
        // Handed over first: a store whose only key nobody has seen would be of no use to anybody.
        let shown = format!("admin API key (shown once, nothing else keeps it): {}\n", &*admin);
        // What reads audit lines is not to find a key among them.
        let stream = if config.audit_sink.has_stdout() { Output::Err } else { Output::Out };
        console::hand(stream, &Zeroizing::new(shown)).map_err(|error| {
            ServerError::config(format!(
                "the admin key could not be shown on {} ({error}): give it one, or run `quantonium init` with \
                 --admin-key-file",
                stream.name()
            ))
        })?;
        keeper::initialise_with(data_dir, master, random, &admin, witness, Telling::AtTheStart)?;
        None
    };
    log::info(Module::Store, format_args!("the store was made in {}", quoted(data_dir.path())));
    Ok(admin)
}

fn load(
    data_dir: &DataDir,
    master: &MasterKey,
    witness: Witness,
) -> Result<(Opened, Sealer, Opening), StoreError> {
    let mut opened = Journal::open(data_dir, master, witness)?;
    let sealer = opened.root.sealer(opened.ring)?;
    let opening = keeper::load(&mut opened.journal, &sealer)?;
    Ok((opened, sealer, opening))
}

fn compact(journal: &mut Journal, data_dir: &DataDir) {
    match journal.compact_at_start(data_dir) {
        Ok(None) => {}
        Ok(Some(done)) => log::info(
            Module::Store,
            format_args!("compacted from {} to {} bytes", done.before_bytes, done.after_bytes),
        ),
        Err(error) => log::warn(Module::Store, format_args!("{error}")),
    }
    if !journal.standing().compacts_in_use {
        log::warn(
            Module::Store,
            format_args!(
                "this file system cannot exchange two names; the journal is compacted at starts alone"
            ),
        );
    }
}

/// Tells the operator what was found.
fn tell(opening: &Opening) {
    let Opening { state, loaded, .. } = opening;
    log::info(Module::Store, format_args!("revision {}, {} keys", loaded.head.revision, state.ring.len()));
    if let Some(torn) = loaded.torn {
        log::warn(
            Module::Store,
            format_args!(
                "{} bytes at offset {} were never finished by an earlier run, and cut off; nothing of them had \
                 been acknowledged",
                torn.bytes, torn.offset
            ),
        );
    }
    if loaded.rolled_back {
        log::warn(
            Module::Store,
            format_args!("it has fallen behind what is known of it, which was accepted"),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_audit_file_that_cannot_be_read_is_named_with_what_to_do() {
        let path = Path::new("/q/audit/1-2-w0.jsonl");
        let told = unreadable(path, &io::ErrorKind::PermissionDenied.into()).to_string();
        assert!(told.contains("/q/audit/1-2-w0.jsonl") && told.contains("chown"), "{told}");
        let told = unreadable(path, &io::ErrorKind::InvalidData.into()).to_string();
        assert!(told.contains("/q/audit/1-2-w0.jsonl") && !told.contains("chown"), "{told}");
    }
}
