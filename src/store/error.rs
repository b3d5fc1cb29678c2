//! Why the data directory or the store in it was refused, with what to do about it.
//!
//! Owns [`StoreError`]. Invariants: each message names the path and ends in the line to run or the thing to
//! change; none holds a byte of a key.

use core::fmt;
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::entry::Owner;
use super::etcd::link::LinkError;
use super::record::{AppendError, MaintainError, Unreadable};
use crate::crypto;
use crate::exit::Exit;
use crate::limits::CREDENTIAL_FILE_MAX_BYTES;

/// Why the data directory, or something in it, was refused.
pub enum StoreError {
    /// The directory that should hold the data directory does not exist.
    NoParent {
        /// The data directory.
        path: PathBuf,
        /// The directory that is missing.
        parent: PathBuf,
    },
    /// Something is a symbolic link.
    SymbolicLink {
        /// The link.
        path: PathBuf,
    },
    /// Something is not of the kind that it has to be.
    WrongKind {
        /// What it is about.
        path: PathBuf,
        /// `a directory` or `a regular file`.
        expected: &'static str,
    },
    /// Something belongs to another user than the one that will serve.
    ForeignOwner {
        /// What it is about.
        path: PathBuf,
        /// Its owner.
        found: u32,
        /// Who has to own it.
        expected: Owner,
    },
    /// Others may get at it, or its owner may not.
    Mode {
        /// What it is about.
        path: PathBuf,
        /// Its permission bits.
        found: u32,
        /// The right ones.
        expected: u32,
    },
    /// Another process uses the directory.
    InUse {
        /// The data directory.
        path: PathBuf,
    },
    /// The file of the admin key does not hold one.
    NotAKey {
        /// The file.
        path: PathBuf,
    },
    /// The file of a server's id does not hold one.
    NotAServerId {
        /// The file.
        path: PathBuf,
    },
    /// A file does not hold a master key.
    NotAMasterKey {
        /// The file.
        path: PathBuf,
    },
    /// Others may write a file that holds a master key, or everybody may read it.
    MasterKeyMode {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        found: u32,
    },
    /// There is a journal, but not the master key that was made with it.
    NoMasterKey {
        /// The file that is missing.
        path: PathBuf,
    },
    /// There is no journal.
    NoStore {
        /// The data directory.
        path: PathBuf,
    },
    /// There is a journal already.
    StoreExists {
        /// The journal.
        path: PathBuf,
    },
    /// The file is no journal.
    NotAJournal {
        /// The file.
        path: PathBuf,
    },
    /// The journal is of a format that this version does not know.
    UnknownFormat {
        /// The journal.
        path: PathBuf,
        /// The number of its format.
        found: u32,
    },
    /// The journal was made under another master key.
    WrongMasterKey {
        /// The journal.
        path: PathBuf,
        /// The id of the key that is needed.
        needed: [u8; 16],
        /// The id of the key that was given.
        given: [u8; 16],
    },
    /// The header of the journal is damaged.
    DamagedHeader {
        /// The journal.
        path: PathBuf,
    },
    /// The journal is damaged.
    Damaged {
        /// The journal.
        path: PathBuf,
        /// Where the first damaged frame begins.
        offset: u64,
    },
    /// The end of the journal is damaged or cut, and what stood there is known to have been acknowledged.
    DamagedEnd {
        /// The journal.
        path: PathBuf,
        /// Where the damage begins.
        offset: u64,
        /// The revision that stands before it.
        found: u64,
        /// The revision that it had reached.
        expected: u64,
    },
    /// The store has fallen behind what is known of it.
    RolledBack {
        /// The revision at which it stands.
        found: u64,
        /// The revision that it had reached.
        expected: u64,
    },
    /// A revision is named that no store reaches.
    RevisionTooHigh {
        /// Which.
        revision: u64,
    },
    /// etcd, which keeps the store, did not do what was asked.
    Remote(LinkError),
    /// There is no store below this prefix of etcd.
    NoFleet {
        /// Where.
        place: PathBuf,
    },
    /// There is a store below this prefix of etcd already.
    FleetExists {
        /// Where.
        place: PathBuf,
    },
    /// What stands in etcd is not what was written.
    FleetDamaged {
        /// Where.
        place: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A record was kept faithfully and still cannot be understood.
    Unreadable(Unreadable),
    /// A primitive failed: for want of random bytes, in practice.
    Crypto(crypto::Error),
    /// The store had no room for, or could not write, what a start has to add to it.
    NotAppended(AppendError),
    /// The new file of a journal could not be made. The old one, if there was one, is as it was.
    NotCompacted(MaintainError),
    /// No admin key could be made.
    KeyNotMade(Box<dyn std::error::Error + Send + Sync>),
    /// A system call failed.
    Io {
        /// What was tried, as a verb: `open`, `lock`.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system says.
        errno: Errno,
    },
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoParent { path, parent } => {
                let (path, parent) = (quoted(path), quoted(parent));
                write!(f, "{path}: the directory around it is missing; create it: mkdir -p {parent}")
            }
            Self::SymbolicLink { path } => write!(
                f,
                "{} is a symbolic link, which could lead elsewhere; give the path that it leads to",
                quoted(path)
            ),
            Self::WrongKind { path, expected } => {
                write!(f, "{0} is not {expected}; move it away: mv {0} {0}.old", quoted(path))
            }
            Self::ForeignOwner { path, found, expected: Owner { uid, gid } } => write!(
                f,
                "{0} belongs to user {found}, the server runs as user {uid}; hand it over: chown -R {uid}:{gid} {0}",
                quoted(path)
            ),
            Self::Mode { path, found, expected } => write!(
                f,
                "{0} has mode {found:04o}, it has to be for its owner only; run: chmod {expected:o} {0}",
                quoted(path)
            ),
            Self::InUse { path } => write!(
                f,
                "{} is in use by another quantonium; stop that one or give another --data-dir",
                quoted(path)
            ),
            Self::NotAKey { path } => write!(
                f,
                "{0} does not hold an admin key (qk_..., one line, at most {CREDENTIAL_FILE_MAX_BYTES} bytes); put \
                 the right one there, or let the next start make a new one: mv {0} {0}.old",
                quoted(path)
            ),
            Self::NotAServerId { path } => write!(
                f,
                "{0} does not hold the id of a server (8 hexadecimal digits); let the next start make a new one: mv {0} {0}.old",
                quoted(path)
            ),
            Self::KeyNotMade(error) => write!(f, "no admin key could be made: {error}"),
            Self::NotAMasterKey { .. } | Self::MasterKeyMode { .. } | Self::NoMasterKey { .. } => {
                self.about_master_key(f)
            }
            Self::NoStore { .. }
            | Self::StoreExists { .. }
            | Self::NotAJournal { .. }
            | Self::UnknownFormat { .. }
            | Self::WrongMasterKey { .. }
            | Self::DamagedHeader { .. }
            | Self::Damaged { .. }
            | Self::DamagedEnd { .. }
            | Self::RolledBack { .. }
            | Self::RevisionTooHigh { .. } => self.about_journal(f),
            Self::Remote(_) | Self::NoFleet { .. } | Self::FleetExists { .. } | Self::FleetDamaged { .. } => {
                self.about_fleet(f)
            }
            Self::Unreadable(record) => {
                write!(
                    f,
                    "{record}; the store is sound, so a newer version may have written it: start that one"
                )
            }
            Self::Crypto(error) => write!(f, "{error}; does the system give random bytes (getrandom)?"),
            Self::NotCompacted(error) => write!(f, "the journal cannot be written anew: {error}"),
            Self::NotAppended(error) => write!(f, "the journal cannot be continued: {error}"),
            Self::Io { action, path, errno } => {
                write!(f, "cannot {action} {}: {}", quoted(path), io::Error::from(*errno))?;
                f.write_str(advice(*errno))
            }
        }
    }
}

/// The text that people read: it says all, and the derived form is long in the binary.
impl fmt::Debug for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl StoreError {
    /// The exit code of a command or a start that ends with it: damage, a disk that fails, or something to change.
    #[must_use]
    pub const fn exit(&self) -> Exit {
        match self {
            Self::Damaged { .. }
            | Self::DamagedEnd { .. }
            | Self::DamagedHeader { .. }
            | Self::NotAJournal { .. }
            | Self::FleetDamaged { .. }
            | Self::Unreadable(_) => Exit::Damaged,
            Self::Remote(LinkError::Away(_) | LinkError::Unknown(_)) => Exit::Io,
            Self::NotCompacted(_)
            | Self::NotAppended(AppendError::Full | AppendError::Failed | AppendError::Ambiguous)
            | Self::Io { errno: Errno::IO | Errno::NOSPC | Errno::DQUOT, .. } => Exit::Io,
            _ => Exit::Config,
        }
    }

    fn about_fleet(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Remote(error) => write!(f, "{error}"),
            Self::NoFleet { place } => {
                let place = quoted(place);
                write!(f, "{place} holds no store; make one: quantonium init --store {place}")
            }
            Self::FleetExists { place } => {
                write!(f, "{} holds a store already; use it, or give another prefix", quoted(place))
            }
            Self::FleetDamaged { place, what } => write!(
                f,
                "{}: {what}; restore etcd from a backup, or copy a journal there under another prefix (quantonium \
                 store copy)",
                quoted(place)
            ),
            _ => Ok(()),
        }
    }

    fn about_master_key(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAMasterKey { path } => write!(
                f,
                "{0} does not hold a master key (32 bytes, 64 hexadecimal digits or 44 characters of base64); put \
                 the right one there, or, for a new store only, make one: head -c 32 /dev/urandom > {0}",
                quoted(path)
            ),
            Self::MasterKeyMode { path, found } => write!(
                f,
                "{0} has mode {found:04o}: a master key must not be readable by everybody, nor writable by anybody \
                 but its owner; run: chmod 400 {0}",
                quoted(path)
            ),
            Self::NoMasterKey { path } => write!(
                f,
                "{} is missing, without which the journal beside it cannot be opened; put it back, or give the \
                 journal's own key with --master-key-file",
                quoted(path)
            ),
            _ => Ok(()),
        }
    }

    fn about_journal(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoStore { path } => {
                let path = quoted(path);
                write!(f, "{path} holds no store; make one: quantonium init --data-dir {path}")
            }
            Self::StoreExists { path } => write!(
                f,
                "{0} exists already; use it, or, if all its keys may be lost, move it away: mv {0} {0}.old",
                quoted(path)
            ),
            Self::NotAJournal { path } => write!(
                f,
                "{0} is not a journal of quantonium; move it away (mv {0} {0}.old) and put the journal from a \
                 backup there",
                quoted(path)
            ),
            Self::UnknownFormat { path, found } => write!(
                f,
                "{} is of format {found}, which this version does not know; start the version that wrote it, or a \
                 newer one",
                quoted(path)
            ),
            Self::WrongMasterKey { path, needed, given } => {
                let id = |id: &[u8; 16]| u128::from_be_bytes(*id);
                write!(
                    f,
                    "{} was made under another master key: it needs the one with the id {:032x}, given was \
                     {:032x}; give the right --master-key-file",
                    quoted(path),
                    id(needed),
                    id(given)
                )
            }
            Self::DamagedHeader { path } => write!(
                f,
                "the header of {} is damaged, and with it the only way to the keys; put the journal from a backup \
                 there",
                quoted(path)
            ),
            Self::Damaged { path, offset } => write!(
                f,
                "{} is damaged at offset {offset}; `quantonium store verify` shows more; put the journal from a \
                 backup there",
                quoted(path)
            ),
            Self::DamagedEnd { path, offset, found, expected } => write!(
                f,
                "{} is damaged at offset {offset}, behind revision {found}, and had reached revision {expected}; put \
                 the journal from a backup there, or accept the loss of its end with --accept-store-rollback",
                quoted(path)
            ),
            Self::RolledBack { found, expected } => write!(
                f,
                "the store stands at revision {found} and was at {expected} before, or went another way since: it \
                 was rolled back, by a restored backup or by somebody; put the latest one there, or accept the loss \
                 with --accept-store-rollback",
            ),
            Self::RevisionTooHigh { revision } => write!(
                f,
                "revision {revision} is named by an audit file or by --min-store-revision, and no store gets so far: \
                 somebody altered that file; find it (grep -l {revision} audit/*.jsonl in the data directory), move \
                 it away, and look for who did it",
            ),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::KeyNotMade(error) => Some(&**error),
            Self::Io { errno, .. } => Some(errno),
            Self::Unreadable(record) => Some(record),
            Self::Remote(error) => Some(error),
            Self::Crypto(error) => Some(error),
            Self::NotAppended(error) => Some(error),
            Self::NotCompacted(error) => Some(error),
            _ => None,
        }
    }
}

impl From<Unreadable> for StoreError {
    fn from(record: Unreadable) -> Self {
        Self::Unreadable(record)
    }
}

impl From<LinkError> for StoreError {
    fn from(error: LinkError) -> Self {
        Self::Remote(error)
    }
}

impl From<crypto::Error> for StoreError {
    fn from(error: crypto::Error) -> Self {
        Self::Crypto(error)
    }
}

/// What to do about the failures that an operator meets.
fn advice(errno: Errno) -> &'static str {
    match errno {
        Errno::ACCESS | Errno::PERM => {
            "; start as the user that owns it (as root without CAP_DAC_OVERRIDE or CAP_CHOWN this fails too)"
        }
        Errno::ROFS => "; mount a writable volume there",
        Errno::NOSPC | Errno::DQUOT => "; free some space",
        Errno::MFILE | Errno::NFILE => "; raise the limit on open files",
        Errno::NOTDIR => "; a part of the path is not a directory",
        _ => "; look at the file system under it",
    }
}

/// A path as a shell takes it, on one line: quoted when it holds more than plain characters.
#[must_use]
pub fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    let plain = |char: char| char.is_ascii_alphanumeric() || "/._-+,:@%".contains(char);
    if !text.is_empty() && !text.starts_with('-') && text.chars().all(plain) {
        return text.into_owned();
    }
    let mut out = String::from("'");
    for char in text.chars() {
        match char {
            '\'' => out.push_str("'\\''"),
            char if char.is_control() => out.extend(char.escape_default()),
            char => out.push(char),
        }
    }
    out.push('\'');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_quoted_for_a_shell() {
        for (path, shown) in [
            ("/srv/q-1_2.d", "/srv/q-1_2.d"),
            ("/srv/my data", "'/srv/my data'"),
            ("/srv/it's", "'/srv/it'\\''s'"),
            ("/srv/$(reboot)", "'/srv/$(reboot)'"),
            ("a\nb", "'a\\nb'"),
            ("-rf", "'-rf'"),
        ] {
            assert_eq!(quoted(Path::new(path)), shown);
        }
    }
}
