//! What tells the servers apart that share a store.
//!
//! Owns the file `server.id` of the data directory: 8 hexadecimal digits and a line feed. Invariant: a server has the same one for the life
//! of its data directory, and no other server has it, unless that directory was copied.

use super::data_dir::DataDir;
use super::error::StoreError;
use super::etcd::layout::ServerId;
use super::small_file::SmallFile;
use crate::clock::Moment;
use crate::crypto::random::{Generator, SeedSource};
use crate::encoding::{hex_decode, hex_encode};

const FILE: SmallFile = SmallFile { name: "server.id", new_name: "server.id.new" };

/// Reads the id, or makes it.
///
/// # Errors
/// What is wrong with the file, or the directory.
pub fn load_or_create<S: SeedSource>(
    data_dir: &DataDir,
    random: &mut Generator<S>,
) -> Result<ServerId, StoreError> {
    if let Some(text) = FILE.load(data_dir)? {
        let digits = text.strip_suffix(b"\n").unwrap_or(&text);
        let mut id = ServerId::default();
        if hex_decode(digits, &mut id) == Some(id.len()) {
            return Ok(id);
        }
        return Err(StoreError::NotAServerId { path: FILE.path(data_dir) });
    }
    let id: ServerId = random.array(Moment::now())?;
    let mut text = [b'\n'; 9];
    let _ = hex_encode(&id, &mut text);
    FILE.create(data_dir, &[&text])?;
    Ok(id)
}

/// Whether the records of the server of this directory are, or were, somewhere else.
///
/// # Errors
/// What is wrong with the file.
pub fn is_there(data_dir: &DataDir) -> Result<bool, StoreError> {
    Ok(FILE.load(data_dir)?.is_some())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::scratch::Scratch;
    use super::*;
    use crate::crypto::random::Kernel;

    #[test]
    fn a_server_keeps_its_id_and_one_that_is_none_is_refused() {
        let scratch = Scratch::new();
        let mut random = Generator::new(Kernel, Moment::now()).unwrap();
        let path = scratch.path().join("q");
        let data_dir = DataDir::open(&path, None).unwrap();
        let id = load_or_create(&data_dir, &mut random).unwrap();
        assert_eq!(load_or_create(&data_dir, &mut random).unwrap(), id);
        assert_eq!(fs::read(path.join("server.id")).unwrap().len(), 9);
        fs::write(path.join("server.id"), "0123456\n").unwrap();
        let refused = load_or_create(&data_dir, &mut random);
        assert!(matches!(refused, Err(StoreError::NotAServerId { .. })), "{refused:?}");
    }
}
