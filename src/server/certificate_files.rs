//! The files of certificates: found by name at the start, and read by name again.
//!
//! Owns the directories in which the names stand, kept open in their band, and the one number through which a file is read. Invariants: what
//! was opened gets that number at once and is let go of when it was read; a file is read to a bound; what was read is wiped, and
//! no text shows any of it; a name is looked up each time, so that renames and exchanged links (as Kubernetes makes them) are seen.

use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::{DupFlags, dup3};
use zeroize::Zeroizing;

use crate::clock::WallTime;
use crate::config::{Config, Tls};
use crate::crypto::hash;
use crate::limits::{
    FD_TLS_DIRECTORY_FIRST_NUMBER, FD_TLS_DIRECTORY_LAST_NUMBER, FD_TLS_FILE_NUMBER, FD_TLS_SILENCE_NUMBER,
    TLS_DIRECTORIES_MAX_COUNT, TLS_FILE_MAX_BYTES, TLS_FILE_PIECE_BYTES,
};
use crate::log::{self, Module};
use crate::sandbox::descriptors;
use crate::server::error::ServerError;
use crate::store::quoted;
use crate::tls::material::Authorities;
use crate::tls::revocation::Revocations;
use crate::tls::{Material, Materials, TlsError, material};

/// The content of a file.
type Bytes = Zeroizing<Vec<u8>>;

/// Where the files are.
#[derive(Debug)]
pub(super) struct Files {
    directories: Vec<Directory>,
    pairs: Vec<Pair<Place>>,
    authorities: Option<Place>,
    revocations: Vec<Place>,
    /// The number that every file is read through.
    slot: OwnedFd,
    /// The end of a pipe without a writer.
    silence: OwnedFd,
}

#[derive(Debug)]
struct Directory {
    fd: OwnedFd,
    /// Without links.
    path: PathBuf,
}

/// A name in a directory.
#[derive(Debug)]
struct Place {
    directory: usize,
    name: OsString,
    /// As it was configured.
    path: PathBuf,
}

/// What belongs to one certificate.
#[derive(Debug)]
struct Pair<T> {
    chain: T,
    key: T,
    ocsp: Option<T>,
}

/// What the files held when they were read.
#[derive(Debug)]
pub(super) struct Contents {
    pairs: Vec<Pair<Bytes>>,
    authorities: Option<Bytes>,
    revocations: Vec<Bytes>,
}

impl Files {
    /// Finds the files of `tls` and keeps their directories. To be called before the lock-down.
    pub(super) fn find(config: &Config, tls: &Tls) -> Result<Self, ServerError> {
        let hold = |number| {
            descriptors::hold(number).map_err(|error| ServerError::io("reserving descriptor numbers", &error))
        };
        let (slot, silence) = (hold(FD_TLS_FILE_NUMBER)?, hold(FD_TLS_SILENCE_NUMBER)?);
        let mut files = Self {
            directories: Vec::new(),
            pairs: Vec::new(),
            authorities: None,
            revocations: Vec::new(),
            slot,
            silence,
        };
        for of in &tls.certificates {
            let chain = files.place(&of.cert)?;
            let key = files.place(&of.key)?;
            warn_if_exposed(&of.key, config.group_id);
            let ocsp = of.ocsp.as_deref().map(|path| files.place(path)).transpose()?;
            files.pairs.push(Pair { chain, key, ocsp });
        }
        files.authorities = tls.client_ca.as_deref().map(|path| files.place(path)).transpose()?;
        for path in &tls.client_crls {
            let place = files.place(path)?;
            files.revocations.push(place);
        }
        Ok(files)
    }

    /// The directories below which the files are.
    pub(super) fn directories(&self) -> Vec<BorrowedFd<'_>> {
        self.directories.iter().map(|directory| directory.fd.as_fd()).collect()
    }

    /// The same, for descriptors that are to take their places.
    pub(super) fn directories_mut(&mut self) -> impl Iterator<Item = &mut OwnedFd> {
        self.directories.iter_mut().map(|directory| &mut directory.fd)
    }

    /// Reads all of them.
    pub(super) fn read(&mut self) -> Result<Contents, String> {
        let Self { directories, pairs, authorities, revocations, slot, silence } = self;
        let mut read = |place: &Place| {
            let content = directories
                .get(place.directory)
                .ok_or_else(|| ErrorKind::NotFound.into())
                .and_then(|directory| read(&directory.fd, place, slot));
            // What stays open keeps a file system from being unmounted. It can only fail for reasons that the numbers exclude.
            let _ = dup3(&*silence, slot, DupFlags::CLOEXEC);
            content.map_err(|error| format!("{}: {}", quoted(&place.path), advice(&error)))
        };
        let mut contents =
            Contents { pairs: Vec::with_capacity(pairs.len()), authorities: None, revocations: Vec::new() };
        for Pair { chain, key, ocsp } in pairs {
            let ocsp = ocsp.as_ref().map(&mut read).transpose()?;
            contents.pairs.push(Pair { chain: read(chain)?, key: read(key)?, ocsp });
        }
        contents.authorities = authorities.as_ref().map(&mut read).transpose()?;
        contents.revocations = revocations.iter().map(read).collect::<Result<_, _>>()?;
        Ok(contents)
    }

    /// What a server can use of `contents` in the place of what is `in_force`.
    pub(super) fn materials(
        &self,
        contents: &Contents,
        in_force: &[Revocations],
    ) -> Result<Materials, String> {
        let mut materials = Materials::default();
        for (places, of) in self.pairs.iter().zip(&contents.pairs) {
            // What is wrong with the chain is found before the key is looked at, so that the right file is named.
            let chain = material::read_facts(&of.chain);
            chain.map_err(|error| format!("{}: {error}", quoted(&places.chain.path)))?;
            let ocsp = of.ocsp.as_ref().map(|bytes| bytes.as_slice());
            let material = Material::read(&of.chain, &of.key, ocsp);
            materials.pairs.push(material.map_err(|error| places.wrong(&error))?);
        }
        if let Some((place, bytes)) = self.authorities.as_ref().zip(contents.authorities.as_ref()) {
            let read = Authorities::read(bytes);
            let read = read.map_err(|error| format!("{}: {error}", quoted(&place.path)))?;
            let revoking = read.revoking(self.lists(contents, in_force)?);
            materials.authorities = Some(revoking.map_err(|error| error.to_string())?);
        }
        Ok(materials)
    }

    /// What the authorities of clients have revoked.
    fn lists(&self, contents: &Contents, in_force: &[Revocations]) -> Result<Vec<Revocations>, String> {
        let mut lists = Vec::new();
        for (place, bytes) in self.revocations.iter().zip(&contents.revocations) {
            let read = Revocations::read(bytes, WallTime::now(), in_force);
            lists.extend(read.map_err(|error| format!("{}: {error}", quoted(&place.path)))?);
        }
        Ok(lists)
    }

    /// The paths of the certificates, in order.
    pub(super) fn chains(&self) -> impl Iterator<Item = &Path> {
        self.pairs.iter().map(|pair| &*pair.chain.path)
    }

    fn place(&mut self, path: &Path) -> Result<Place, ServerError> {
        let failed = |error: &io::Error| ServerError::config(format!("{}: {}", quoted(path), advice(error)));
        let name = path.file_name().ok_or_else(|| failed(&ErrorKind::IsADirectory.into()))?;
        let end = fs::canonicalize(path).map_err(|error| failed(&error))?;
        if !fs::metadata(&end).is_ok_and(|about| about.is_file()) {
            return Err(ServerError::config(format!("{} is no regular file", quoted(path))));
        }
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = fs::canonicalize(parent.unwrap_or(Path::new("."))).map_err(|error| failed(&error))?;
        let directory = self.directory(parent)?;
        // A link may lead out of the directory in which it stands, as those of Let's Encrypt do: the thread that reads it again must
        // be let there too.
        if let Some(target) = end.parent()
            && !self.directories.iter().any(|known| target.starts_with(&known.path))
        {
            self.directory(target.to_owned())?;
        }
        Ok(Place { directory, name: name.to_owned(), path: path.to_owned() })
    }

    fn directory(&mut self, path: PathBuf) -> Result<usize, ServerError> {
        if let Some(known) = self.directories.iter().position(|directory| directory.path == path) {
            return Ok(known);
        }
        if self.directories.len() == TLS_DIRECTORIES_MAX_COUNT {
            return Err(ServerError::config(format!(
                "certificates and keys stand in more than {TLS_DIRECTORIES_MAX_COUNT} directories: put some of them together"
            )));
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(&path, flags, Mode::empty()).map_err(io::Error::from);
        let (first, last) = (FD_TLS_DIRECTORY_FIRST_NUMBER, FD_TLS_DIRECTORY_LAST_NUMBER);
        let placed = opened.and_then(|fd| descriptors::place(fd, first, last));
        let fd = placed.map_err(|error| ServerError::config(format!("{}: {error}", quoted(&path))))?;
        self.directories.push(Directory { fd, path });
        Ok(self.directories.len() - 1)
    }
}

impl Pair<Place> {
    /// Says which of the files is wrong, as far as that can be told.
    fn wrong(&self, error: &TlsError) -> String {
        let (chain, key) = (quoted(&self.chain.path), quoted(&self.key.path));
        match error {
            TlsError::NoKey
            | TlsError::ManyKeys
            | TlsError::EncryptedKey
            | TlsError::BadKey
            | TlsError::NotPem
            | TlsError::TooLarge => format!("{key}: {error}"),
            TlsError::BadOcsp => {
                format!("{}: {error}", self.ocsp.as_ref().map(|ocsp| quoted(&ocsp.path)).unwrap_or_default())
            }
            TlsError::KeyMismatch => format!("{chain} with {key}: {error}"),
            _ => format!("{chain}: {error}"),
        }
    }
}

impl Contents {
    /// Differs if they differ.
    pub(super) fn digest(&self) -> [u8; 32] {
        let all = self.pairs.iter().flat_map(|pair| [Some(&pair.chain), Some(&pair.key), pair.ocsp.as_ref()]);
        let all = all.chain([self.authorities.as_ref()]).chain(self.revocations.iter().map(Some));
        // The digest of each is of one length, so that no byte can change sides.
        let each: Vec<[u8; 32]> =
            all.map(|bytes| bytes.map_or([0; 32], |bytes| hash::sha256(&[bytes]))).collect();
        hash::sha256(&each.iter().map(<[u8; 32]>::as_slice).collect::<Vec<_>>())
    }
}

/// Opens a file by its name, which may be a link, and reads it through `slot`. What is no regular file cannot hold up the
/// thread, since nothing here waits.
fn read(directory: &OwnedFd, place: &Place, slot: &mut OwnedFd) -> io::Result<Bytes> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(directory, &place.name, flags, Mode::empty())?;
    dup3(&opened, slot, DupFlags::CLOEXEC)?;
    drop(opened);
    let mut bytes: Bytes = Zeroizing::new(Vec::new());
    let mut piece = Zeroizing::new([0; TLS_FILE_PIECE_BYTES]);
    loop {
        let count = match rustix::io::read(&*slot, &mut *piece) {
            Err(rustix::io::Errno::INTR) => continue,
            count => count?,
        };
        let read = piece.get(..count).unwrap_or_default();
        if read.is_empty() {
            return Ok(bytes);
        }
        if bytes.len() + read.len() > TLS_FILE_MAX_BYTES {
            return Err(ErrorKind::FileTooLarge.into());
        }
        if bytes.capacity() - bytes.len() < read.len() {
            // Grown by hand: what a vector leaves behind when it moves would not be wiped.
            let mut more: Bytes = Zeroizing::new(Vec::with_capacity(2 * (bytes.len() + read.len())));
            more.extend_from_slice(&bytes);
            bytes = more;
        }
        bytes.extend_from_slice(read);
    }
}

fn warn_if_exposed(key: &Path, group: u32) {
    let exposed =
        |about: &Metadata| about.mode() & 0o004 != 0 || about.mode() & 0o040 != 0 && about.gid() != group;
    if fs::metadata(key).is_ok_and(|about| exposed(&about)) {
        log::warn(
            Module::Tls,
            format_args!("other users can read the private key {0}: chmod 600 {0}", quoted(key)),
        );
    }
}

fn advice(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "no such file: give the path of a PEM file".to_owned(),
        ErrorKind::PermissionDenied => {
            "permission denied: the user of the server must be able to read it, and to enter its directory"
                .to_owned()
        }
        ErrorKind::FileTooLarge => TlsError::TooLarge.to_string(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(pairs: &[(&str, &str, Option<&str>)], authorities: Option<&str>) -> Contents {
        let bytes = |text: &str| Zeroizing::new(text.as_bytes().to_vec());
        let pairs = pairs.iter().map(|(chain, key, ocsp)| Pair {
            chain: bytes(chain),
            key: bytes(key),
            ocsp: ocsp.map(bytes),
        });
        Contents { pairs: pairs.collect(), authorities: authorities.map(bytes), revocations: Vec::new() }
    }

    #[test]
    fn what_differs_has_another_digest_wherever_it_differs() {
        let all = [
            contents(&[("a", "b", None)], None),
            contents(&[("ab", "", None)], None),
            contents(&[("a", "b", Some(""))], None),
            contents(&[("a", "b", None)], Some("")),
            contents(&[("a", "b", None), ("", "", None)], None),
        ];
        let with_list = |text: &str| {
            let revocations = vec![Zeroizing::new(text.as_bytes().to_vec())];
            Contents { revocations, ..contents(&[("a", "b", None)], Some("")) }
        };
        let all: Vec<Contents> = all.into_iter().chain([with_list("a"), with_list("b")]).collect();
        for (at, one) in all.iter().enumerate() {
            for (other_at, other) in all.iter().enumerate() {
                assert_eq!(at == other_at, one.digest() == other.digest());
            }
        }
    }
}
