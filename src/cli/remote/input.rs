//! What commands read: files, pipes, standard input.
//!
//! Owns [`Reading`]. Invariant: what was read is wiped, and a bounded part of it is held.

use std::fs::File;
use std::io::{self, Cursor, ErrorKind, Read};
use std::path::Path;

use zeroize::Zeroizing;

use super::arguments::Given;
use crate::cli::client::transfer::Source;
use crate::cli::failure::Failure;
use crate::store::quoted;

/// An input that is open.
pub(in crate::cli) struct Reading {
    file: File,
    name: String,
    /// How long it is, if that is known.
    pub(in crate::cli) len: Option<u64>,
}

impl Reading {
    /// Opens the file at `path`; without one, or for `-`, takes standard input.
    pub(in crate::cli) fn open(path: Option<&Path>) -> Result<Self, Failure> {
        let (file, name) = match path.filter(|path| *path != "-") {
            Some(path) => (File::open(path), quoted(path)),
            None => {
                (rustix::stdio::stdin().try_clone_to_owned().map(File::from), "standard input".to_owned())
            }
        };
        let failed = |error: io::Error| Failure::io(format!("cannot read {name}: {error}"));
        let file = file.map_err(failed)?;
        let found = file.metadata().map_err(failed)?;
        let len = found.is_file().then_some(found.len());
        Ok(Self { file, name, len })
    }

    /// As much as there is, at most `most_bytes`.
    pub(in crate::cli) fn read(&mut self, most_bytes: usize) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let mut bytes = Zeroizing::new(vec![0; most_bytes]);
        let mut filled = 0;
        while let Some(room) = bytes.get_mut(filled..).filter(|room| !room.is_empty()) {
            match self.file.read(room) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(Failure::io(format!("cannot read {}: {error}", self.name))),
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }

    /// All of it, if that is at most `most_bytes`; `advice` is for an input that is longer.
    pub(in crate::cli) fn read_whole(
        mut self,
        most_bytes: usize,
        advice: &str,
    ) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let bytes = self.read(most_bytes + 1)?;
        if bytes.len() > most_bytes {
            return Err(Failure::refused(format!(
                "{} has more than {most_bytes} bytes: {advice}",
                self.name
            )));
        }
        Ok(bytes)
    }

    /// The rest of it behind `first`, for another thread.
    pub(in crate::cli) fn behind(self, first: Zeroizing<Vec<u8>>) -> Source {
        Box::new(Cursor::new(first).chain(self.file))
    }
}

/// The bytes of a flag, or of the file that it names.
pub(in crate::cli) fn bytes_of(given: &Given, most_bytes: usize) -> Result<Zeroizing<Vec<u8>>, Failure> {
    match given {
        Given::Text(text) => Ok(Zeroizing::new(text.as_encoded_bytes().to_vec())),
        Given::File(path) => Reading::open(Some(path))?.read_whole(most_bytes, "name a shorter one"),
    }
}
