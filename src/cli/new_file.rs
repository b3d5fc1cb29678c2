//! Files that commands make for keys, outside of the data directory.
//!
//! Owns [`NewFile`]. Invariants: what exists is never overwritten; a file with a secret is for its owner only from the moment it is
//! there; one that was not filled goes away again.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use zeroize::Zeroizing;

use super::failure::Failure;
use crate::console::{self, Output};
use crate::store::quoted;

/// A file that did not exist, for its owner only unless it is to be shown; removed again unless it was filled.
pub(super) struct NewFile<'a> {
    path: &'a Path,
    file: File,
    filled: bool,
}

impl<'a> NewFile<'a> {
    /// Makes an empty one for the `what`.
    pub(super) fn create(path: &'a Path, what: &str) -> Result<Self, Failure> {
        Self::create_with(path, what, 0o600)
    }

    /// Makes an empty one that others may read.
    #[cfg(feature = "tls")]
    pub(super) fn create_shown(path: &'a Path, what: &str) -> Result<Self, Failure> {
        Self::create_with(path, what, 0o644)
    }

    fn create_with(path: &'a Path, what: &str, mode: u32) -> Result<Self, Failure> {
        let opened = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
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
    pub(super) fn fill(mut self, text: &[u8]) -> Result<(), Failure> {
        let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let written = self
            .file
            .write_all(text)
            .and_then(|()| self.file.sync_all())
            .and_then(|()| File::open(parent.unwrap_or(Path::new(".")))?.sync_all());
        self.filled = written.is_ok();
        written.map_err(|error| Failure::io(format!("cannot write {}: {error}", quoted(self.path))))
    }

    /// Puts the admin key into its file, else to standard output: before the store that knows it takes effect, so that
    /// no store is left whose key nobody has.
    pub(super) fn hand_over(file: Option<Self>, admin: &str) -> Result<(), Failure> {
        let line = Zeroizing::new(format!("{admin}\n"));
        let handed = match file {
            Some(file) => file.fill(line.as_bytes()),
            None => console::deliver(Output::Out, &line).map_err(|error| {
                Failure::io(format!("cannot write the admin key to standard output: {error}"))
            }),
        };
        handed.map_err(|failure| {
            failure.and("; nothing was changed: make room or give --admin-key-file, and run it again")
        })
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
