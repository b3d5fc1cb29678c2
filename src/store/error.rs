//! Why the data directory was refused, with what to do about it.
//!
//! Owns [`StoreError`]. Invariants: each message names the path and ends in the line to run or the thing to
//! change; none holds a byte of a key.

use core::fmt;
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::entry::Owner;
use crate::limits::CREDENTIAL_FILE_MAX_BYTES;

/// Why the data directory, or something in it, was refused.
#[derive(Debug)]
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
    /// No admin key could be made.
    KeyNotMade(Box<dyn std::error::Error + Send + Sync>),
    /// An audit stream's name is not one.
    StreamName,
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
            Self::KeyNotMade(error) => write!(f, "no admin key could be made: {error}"),
            Self::StreamName => f.write_str("an audit stream's name is of a-z, 0-9 and hyphens"),
            Self::Io { action, path, errno } => {
                write!(f, "cannot {action} {}: {}", quoted(path), io::Error::from(*errno))?;
                f.write_str(advice(*errno))
            }
        }
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::KeyNotMade(error) => Some(&**error),
            Self::Io { errno, .. } => Some(errno),
            _ => None,
        }
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
