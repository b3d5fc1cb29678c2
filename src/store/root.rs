//! The two keys above all others: the master key, which comes from outside, and the root key, which it wraps.
//!
//! Owns both, the labels of everything that is derived from them, and the reading of master key files. Invariants:
//! the master key wraps the root key and does nothing else, so that it can be exchanged without touching a record;
//! every key has a label of its own; neither key is ever part of an error or shown.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};
use zeroize::Zeroizing;

use super::data_dir::DataDir;
use super::error::StoreError;
use super::etcd::FleetKeys;
use super::journal::Journal;
use super::seal::Sealer;
use super::small_file::{self, SmallFile};
use crate::audit;
use crate::clock::Moment;
use crate::crypto::aead::{self, Algorithm, TAG_BYTES};
use crate::crypto::hash;
use crate::crypto::mac::MacKey;
use crate::crypto::random::{Generator, SeedSource};
use crate::crypto::{Error, kdf};
use crate::encoding::{base64_decode, base64_len, hex_encode};
use crate::limits::KEY_BYTES;
use crate::secret::Secret;

/// Where `--dev` keeps its master key.
const FILE: SmallFile = SmallFile { name: "master.key", new_name: "master.key.new" };

const WRAP_LABEL: &[u8] = b"quantonium/root-wrap/v1";
const MASTER_ID_LABEL: &[u8] = b"quantonium/master-key-id/v1";
const RECORD_LABEL: &[u8] = b"quantonium/record/v1";
const PATH_LABEL: &[u8] = b"quantonium/path/v1";
const FRAME_LABEL: &[u8] = b"quantonium/frame/v1";
const FRAME_HEADER_LABEL: &[u8] = b"quantonium/frame-header/v1";
const PEPPER_LABEL: &[u8] = b"quantonium/api-key-pepper/v1";
const AUDIT_LABEL: &[u8] = b"quantonium/audit/v1";
const BACKUP_LABEL: &[u8] = b"quantonium/backup/v1";
const FLEET_HEAD_LABEL: &[u8] = b"quantonium/fleet-head/v1";
const FLEET_DIGEST_LABEL: &[u8] = b"quantonium/fleet-digest/v1";
const FLEET_MEMBER_LABEL: &[u8] = b"quantonium/fleet-member/v1";

/// The key that comes from outside and wraps the root key.
#[derive(Debug)]
pub struct MasterKey(Secret<KEY_BYTES>);

/// Tells master keys apart without giving anything of them away.
pub type MasterKeyId = [u8; 16];

/// A root key under a master key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wrapped {
    /// Random, of this wrapping alone.
    pub nonce: [u8; 24],
    /// The root key, encrypted.
    pub root: [u8; KEY_BYTES],
    /// The tag.
    pub tag: [u8; TAG_BYTES],
}

impl MasterKey {
    /// Takes the key and wipes `bytes`.
    #[must_use]
    pub fn take(bytes: &mut [u8; KEY_BYTES]) -> Self {
        Self(Secret::take(bytes))
    }

    /// The bytes of a file that has the form of a master key and is used for something else: a shared backup key.
    #[must_use]
    pub fn into_secret(self) -> Secret<KEY_BYTES> {
        self.0
    }

    /// Reads a key: exactly 32 bytes as they are, or 64 hexadecimal digits or 44 characters of padded base64,
    /// followed by at most one line end.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        if let Ok(raw) = <&[u8; KEY_BYTES]>::try_from(text) {
            return Some(Self(Secret::copy_of(raw)));
        }
        let mut key = Zeroizing::new([0u8; KEY_BYTES]);
        let line = text.strip_suffix(b"\n").map_or(text, |line| line.strip_suffix(b"\r").unwrap_or(line));
        let read = if line.len() == 2 * KEY_BYTES {
            hex_decode(line, &mut key)
        } else {
            (line.len() == base64_len(KEY_BYTES)
                && base64_decode(line, key.as_mut_slice()) == Some(KEY_BYTES))
            .then_some(())
        };
        read.map(|()| Self::take(&mut key))
    }

    /// Reads the key from a file, through symbolic links, because mounted secrets are some.
    ///
    /// # Errors
    /// A file that others may write or everybody may read, that is larger than
    /// [`crate::limits::CREDENTIAL_FILE_MAX_BYTES`], no regular file, or holds no key.
    pub fn read_file(path: &Path) -> Result<Self, StoreError> {
        let failed = |action, errno| StoreError::Io { action, path: path.to_owned(), errno };
        // Without NONBLOCK the open of a FIFO would wait for its other end.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file: OwnedFd =
            rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| failed("open", errno))?;
        let stat = rustix::fs::fstat(&file).map_err(|errno| failed("look at", errno))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(StoreError::WrongKind { path: path.to_owned(), expected: "a regular file" });
        }
        if stat.st_mode & 0o026 != 0 {
            return Err(StoreError::MasterKeyMode { path: path.to_owned(), found: stat.st_mode & 0o7777 });
        }
        let text = small_file::read(&file).map_err(|errno| failed("read", errno))?;
        Self::parse(&text).ok_or_else(|| not_a_master_key(path))
    }

    /// Reads `master.key` in the data directory, or makes it: for development, because whoever takes the directory
    /// then has the key as well. Tells whether it was made.
    ///
    /// # Errors
    /// What is wrong with the file or the directory; [`StoreError::NoMasterKey`] if there is a journal already,
    /// which no new key would open.
    pub fn load_or_create<S: SeedSource>(
        data_dir: &DataDir,
        random: &mut Generator<S>,
    ) -> Result<(Self, bool), StoreError> {
        let path = path(data_dir);
        if let Some(text) = FILE.load(data_dir)? {
            let key = Self::parse(&text).ok_or_else(|| not_a_master_key(&path))?;
            return Ok((key, false));
        }
        if Journal::exists(data_dir)? {
            return Err(StoreError::NoMasterKey { path });
        }
        let mut key = Zeroizing::new([0u8; KEY_BYTES]);
        random.fill(Moment::now(), key.as_mut_slice()).map_err(StoreError::Crypto)?;
        let mut text = Zeroizing::new([b'\n'; 2 * KEY_BYTES + 1]);
        hex_encode(key.as_slice(), text.as_mut_slice());
        FILE.create(data_dir, &[text.as_slice()])?;
        Ok((Self::take(&mut key), true))
    }

    /// What tells it from other master keys.
    ///
    /// # Errors
    /// None in practice; what the derivation returns.
    pub fn id(&self) -> Result<MasterKeyId, Error> {
        let mut id = [0; 16];
        self.0.with(|key| kdf::derive(&[], key, &[MASTER_ID_LABEL], &mut id))?;
        Ok(id)
    }

    /// Wraps `root`, bound to `aad`.
    ///
    /// # Errors
    /// None in practice; what derivation and cipher return.
    pub fn wrap(&self, root: &RootKey, nonce: [u8; 24], aad: &[u8]) -> Result<Wrapped, Error> {
        let mut wrapped = Wrapped { nonce, root: [0; KEY_BYTES], tag: [0; TAG_BYTES] };
        let key = self.wrap_key()?;
        root.0.with(|bytes| wrapped.root = *bytes);
        let sealed =
            key.with(|key| aead::seal(Algorithm::XChaCha20Poly1305, key, &nonce, aad, &mut wrapped.root));
        match sealed {
            Ok(tag) => wrapped.tag = tag,
            Err(error) => {
                zeroize::Zeroize::zeroize(&mut wrapped.root);
                return Err(error);
            }
        }
        Ok(wrapped)
    }

    /// Unwraps a root key.
    ///
    /// # Errors
    /// [`Error::Rejected`] if it was not wrapped by this key with this `aad`.
    pub fn unwrap(&self, wrapped: &Wrapped, aad: &[u8]) -> Result<RootKey, Error> {
        let key = self.wrap_key()?;
        let mut root = Zeroizing::new(wrapped.root);
        key.with(|key| {
            let data = root.as_mut_slice();
            aead::open(Algorithm::XChaCha20Poly1305, key, &wrapped.nonce, aad, data, &wrapped.tag)
        })?;
        Ok(RootKey::take(&mut root))
    }

    fn wrap_key(&self) -> Result<Secret<KEY_BYTES>, Error> {
        self.0.with(|key| kdf::derive_secret(&[], key, &[WRAP_LABEL]))
    }
}

/// The path of the master key of `--dev`, to tell people where it is.
#[must_use]
pub fn path(data_dir: &DataDir) -> PathBuf {
    FILE.path(data_dir)
}

/// The random key from which every other key of the store is derived.
#[derive(Debug)]
pub struct RootKey(Secret<KEY_BYTES>);

impl RootKey {
    /// Takes the key and wipes `bytes`.
    #[must_use]
    pub fn take(bytes: &mut [u8; KEY_BYTES]) -> Self {
        Self(Secret::take(bytes))
    }

    /// A new key.
    ///
    /// # Errors
    /// [`Error::Entropy`]
    pub fn generate<S: SeedSource>(random: &mut Generator<S>) -> Result<Self, Error> {
        Secret::try_fill(|bytes| random.fill(Moment::now(), bytes)).map(Self)
    }

    /// Seals and opens the records of `ring`.
    ///
    /// # Errors
    /// None in practice; what the derivation returns. So with all below.
    pub fn sealer(&self, ring: [u8; 16]) -> Result<Sealer, Error> {
        Ok(Sealer::new(ring, self.derive(RECORD_LABEL)?, self.derive_mac(PATH_LABEL)?))
    }

    /// Under which API keys are hashed.
    ///
    /// # Errors
    /// As for [`RootKey::sealer`].
    pub fn pepper(&self) -> Result<Secret<KEY_BYTES>, Error> {
        self.derive(PEPPER_LABEL)
    }

    /// Seals backups of keys.
    ///
    /// # Errors
    /// As for [`RootKey::sealer`].
    pub fn backup_key(&self) -> Result<Secret<KEY_BYTES>, Error> {
        self.derive(BACKUP_LABEL)
    }

    /// From which the keys of all audit streams are derived.
    ///
    /// # Errors
    /// As for [`RootKey::sealer`].
    pub fn audit_root(&self) -> Result<audit::chain::Root, Error> {
        self.derive(AUDIT_LABEL).map(audit::chain::Root::new)
    }

    /// Seals the frames of the journal.
    ///
    /// # Errors
    /// As for [`RootKey::sealer`].
    pub fn frame_key(&self) -> Result<Secret<KEY_BYTES>, Error> {
        self.derive(FRAME_LABEL)
    }

    /// Authenticates the headers of frames, so that they are recognised behind damage.
    ///
    /// # Errors
    /// As for [`RootKey::sealer`].
    pub fn frame_header_key(&self) -> Result<MacKey, Error> {
        self.derive_mac(FRAME_HEADER_LABEL)
    }

    /// Seals and proves what stands beside the records of `ring` in etcd.
    ///
    /// # Errors
    /// As for [`RootKey::sealer`].
    pub fn fleet_keys(&self, ring: [u8; 16]) -> Result<FleetKeys, Error> {
        let (head, member) = (self.derive(FLEET_HEAD_LABEL)?, self.derive(FLEET_MEMBER_LABEL)?);
        Ok(FleetKeys::new(ring, head, member, self.derive_mac(FLEET_DIGEST_LABEL)?))
    }

    fn derive(&self, label: &[u8]) -> Result<Secret<KEY_BYTES>, Error> {
        self.0.with(|root| kdf::derive_secret(&[], root, &[label]))
    }

    fn derive_mac(&self, label: &[u8]) -> Result<MacKey, Error> {
        Ok(self.derive(label)?.with(|key| MacKey::new(hash::Algorithm::Sha256, key)))
    }
}

fn not_a_master_key(path: &Path) -> StoreError {
    StoreError::NotAMasterKey { path: path.to_owned() }
}

/// Reads hexadecimal digits of either case into `target`, which they fill.
fn hex_decode(text: &[u8], target: &mut [u8; KEY_BYTES]) -> Option<()> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, odd) = text.as_chunks::<2>();
    if pairs.len() != target.len() || !odd.is_empty() {
        return None;
    }
    for (place, [high, low]) in target.iter_mut().zip(pairs) {
        *place = digit(*high)? << 4 | digit(*low)?;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::super::scratch::Scratch;
    use super::*;
    use crate::crypto::random::Kernel;

    const KEY: [u8; 32] = [0xA5; 32];
    const HEX: &str = "a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5";
    const BASE64: &str = "paWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaU=";

    fn random() -> Generator {
        Generator::new(Kernel, Moment::now()).unwrap()
    }

    fn opened(scratch: &Scratch) -> DataDir {
        DataDir::open(&scratch.path().join("q"), None).unwrap()
    }

    #[test]
    fn a_master_key_is_read_in_three_forms() {
        let upper = HEX.to_uppercase();
        let texts =
            [HEX, upper.as_str(), BASE64].map(|text| ["", "\n", "\r\n"].map(|end| format!("{text}{end}")));
        for text in texts.iter().flatten() {
            assert!(MasterKey::parse(text.as_bytes()).unwrap().0.matches(&KEY), "{text:?}");
        }
        assert!(MasterKey::parse(&KEY).unwrap().0.matches(&KEY));
        // Bytes are bytes, even where they look like a line.
        let line = *b"0123456789abcdef0123456789abcde\n";
        assert!(MasterKey::parse(&line).unwrap().0.matches(&line));
    }

    #[test]
    fn what_is_no_master_key_is_refused() {
        for text in [
            String::new(),
            HEX[1..].to_owned(),
            format!("{HEX}0"),
            format!("{HEX}\n\n"),
            format!("{HEX}\r"),
            format!(" {HEX}"),
            HEX.replacen('a', "g", 1),
            HEX.replacen("a5", "+5", 1),
            BASE64.replace('=', ""),
            BASE64.replace("U=", "V="),
            BASE64.replace('p', "-"),
            format!("{BASE64}\n\n"),
            "a".repeat(33),
        ] {
            assert!(MasterKey::parse(text.as_bytes()).is_none(), "{text:?}");
        }
    }

    #[test]
    fn a_mounted_secret_is_read_through_its_links() {
        let scratch = Scratch::new();
        let (file, link) = (scratch.path().join("file"), scratch.path().join("link"));
        fs::write(&file, HEX).unwrap();
        symlink("file", &link).unwrap();
        for mode in [0o600, 0o400, 0o440, 0o640] {
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            assert!(MasterKey::read_file(&link).unwrap().0.matches(&KEY), "{mode:o}");
        }
    }

    #[test]
    fn a_master_key_that_is_not_kept_is_refused_with_the_line_to_run() {
        let scratch = Scratch::new();
        let file = scratch.path().join("file");
        fs::write(&file, HEX).unwrap();
        for mode in [0o604, 0o602, 0o620, 0o666] {
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            let refusal = MasterKey::read_file(&file).unwrap_err();
            assert!(matches!(refusal, StoreError::MasterKeyMode { .. }), "{mode:o}: {refusal}");
            assert!(refusal.to_string().ends_with(&format!("chmod 400 {}", file.display())), "{refusal}");
        }
    }

    #[test]
    fn files_that_hold_no_master_key_are_refused_without_showing_them() {
        let scratch = Scratch::new();
        let file = scratch.path().join("file");
        for text in [&HEX[1..], "", &HEX.repeat(65)] {
            fs::write(&file, text).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
            let refusal = MasterKey::read_file(&file).unwrap_err();
            assert!(matches!(refusal, StoreError::NotAMasterKey { .. }), "{refusal}");
            assert!(!format!("{refusal} {refusal:?}").contains("a5a5"));
        }
        assert!(matches!(MasterKey::read_file(scratch.path()), Err(StoreError::WrongKind { .. })));
        assert!(matches!(
            MasterKey::read_file(&scratch.path().join("none")),
            Err(StoreError::Io { action: "open", .. })
        ));
        let fifo = scratch.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert!(matches!(MasterKey::read_file(&fifo), Err(StoreError::WrongKind { .. })));
    }

    #[test]
    fn the_master_key_of_development_is_made_once_and_never_beside_a_journal() {
        let scratch = Scratch::new();
        let data_dir = opened(&scratch);
        let (first, created) = MasterKey::load_or_create(&data_dir, &mut random()).unwrap();
        assert!(created);
        let (second, created) = MasterKey::load_or_create(&data_dir, &mut random()).unwrap();
        assert!(!created);
        assert_eq!(first.id(), second.id());
        let file = path(&data_dir);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(fs::read(&file).unwrap().len(), 65);
        fs::write(&file, HEX).unwrap();
        assert!(MasterKey::load_or_create(&data_dir, &mut random()).unwrap().0.0.matches(&KEY));
        fs::write(&file, "x").unwrap();
        let refused = MasterKey::load_or_create(&data_dir, &mut random());
        assert!(matches!(refused, Err(StoreError::NotAMasterKey { .. })));
        fs::remove_file(&file).unwrap();
        Journal::create(&data_dir, &first, &mut random()).unwrap();
        let refused = MasterKey::load_or_create(&data_dir, &mut random());
        assert!(matches!(refused, Err(StoreError::NoMasterKey { .. })));
        assert!(!file.exists());
    }

    #[test]
    fn a_root_key_unwraps_under_its_master_key_and_context_only() {
        let (master, other) = (MasterKey::take(&mut [1; 32]), MasterKey::take(&mut [2; 32]));
        let wrapped = master.wrap(&RootKey::take(&mut KEY.clone()), [3; 24], b"context").unwrap();
        assert!(master.unwrap(&wrapped, b"context").unwrap().0.matches(&KEY));
        assert!(other.unwrap(&wrapped, b"context").is_err());
        assert!(master.unwrap(&wrapped, b"another").is_err());
        assert_ne!(master.id(), other.id());
        assert_ne!(wrapped.root, KEY);
    }

    #[test]
    fn every_derived_key_is_another_one() {
        let root = RootKey::take(&mut KEY.clone());
        let mut keys = vec![root.pepper().unwrap(), root.backup_key().unwrap(), root.frame_key().unwrap()];
        keys.extend(
            [RECORD_LABEL, PATH_LABEL, FRAME_HEADER_LABEL, AUDIT_LABEL]
                .map(|label| root.derive(label).unwrap()),
        );
        let master = MasterKey::take(&mut KEY.clone());
        keys.push(master.wrap_key().unwrap());
        let shown: std::collections::BTreeSet<[u8; 32]> =
            keys.iter().map(|key| key.with(|bytes| *bytes)).collect();
        assert_eq!(shown.len(), keys.len());
        assert!(!shown.contains(&KEY));
    }

    #[test]
    fn debug_shows_no_byte_of_either_key() {
        let shown = format!("{:?} {:?}", MasterKey::take(&mut KEY.clone()), RootKey::take(&mut KEY.clone()));
        assert!(!shown.contains("165") && !shown.contains("a5") && shown.contains("redacted"), "{shown}");
    }
}
