//! The file of the admin API key: read, or made at the first start.
//!
//! Owns `admin.key`. Invariants: the file holds a whole key or does not exist, whenever the power fails; a file that
//! is not for its owner only is not used; the text is wiped when dropped and never part of an error.

use core::fmt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::data_dir::DataDir;
use super::error::StoreError;
use super::small_file::SmallFile;
use crate::encoding::base64url_decode;
use crate::limits::KEY_BYTES;

const FILE: SmallFile = SmallFile { name: "admin.key", new_name: "admin.key.new" };
const PREFIX: &[u8] = b"qk_";
const ID_LEN: usize = 8;

/// The admin API key.
pub struct AdminKey {
    /// `qk_<id>.<secret>`, without a newline.
    pub text: Zeroizing<String>,
    /// Whether this start made it.
    pub created: bool,
}

impl fmt::Debug for AdminKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminKey").field("created", &self.created).finish_non_exhaustive()
    }
}

/// The path of the key's file, to tell people where it is.
#[must_use]
pub fn path(data_dir: &DataDir) -> PathBuf {
    FILE.path(data_dir)
}

/// Reads the key, or makes one with `make` and writes it.
///
/// # Errors
/// What is wrong with the file or with the directory; what `make` returned; a text from `make` that is no key.
pub fn load_or_create<E>(
    data_dir: &DataDir,
    make: impl FnOnce() -> Result<Zeroizing<String>, E>,
) -> Result<AdminKey, StoreError>
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let path = path(data_dir);
    if let Some(bytes) = FILE.load(data_dir)? {
        return Ok(AdminKey { text: parse(&path, &bytes)?, created: false });
    }
    let text = make().map_err(|error| StoreError::KeyNotMade(error.into()))?;
    if !is_key(text.as_bytes()) {
        return Err(StoreError::NotAKey { path });
    }
    FILE.create(data_dir, &[text.as_bytes(), b"\n"])?;
    Ok(AdminKey { text, created: true })
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Zeroizing<String>, StoreError> {
    let not_a_key = || StoreError::NotAKey { path: path.to_owned() };
    let text = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    if !is_key(text) {
        return Err(not_a_key());
    }
    let text = core::str::from_utf8(text).map_err(|_| not_a_key())?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// Whether `text` is `qk_`, eight of a-z and 0-9, a dot, and the base64url of 32 bytes.
fn is_key(text: &[u8]) -> bool {
    let Some((id, rest)) = text.strip_prefix(PREFIX).and_then(|text| text.split_at_checked(ID_LEN)) else {
        return false;
    };
    let mut secret = Zeroizing::new([0u8; KEY_BYTES]);
    id.iter().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        && rest
            .strip_prefix(b".")
            .is_some_and(|rest| base64url_decode(rest, secret.as_mut_slice()) == Some(KEY_BYTES))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

    use super::super::entry::Owner;
    use super::super::scratch::{Scratch, as_ordinary_user, as_root};
    use super::*;
    use crate::limits::CREDENTIAL_FILE_MAX_BYTES;

    const KEY: &str = "qk_abcd2345.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    const OTHER: &str = "qk_zyxw7654.__________________________________________8";

    fn key(text: &str) -> Result<Zeroizing<String>, &'static str> {
        Ok(Zeroizing::new(text.to_owned()))
    }

    fn never() -> Result<Zeroizing<String>, &'static str> {
        panic!("a key that exists is not made again")
    }

    fn opened(scratch: &Scratch) -> (DataDir, PathBuf) {
        let data_dir = DataDir::open(&scratch.path().join("q"), None).unwrap();
        let path = path(&data_dir);
        (data_dir, path)
    }

    #[test]
    fn the_first_start_makes_the_key_and_later_ones_read_it() {
        let scratch = Scratch::new();
        let (data_dir, path) = opened(&scratch);
        let first = load_or_create(&data_dir, || key(KEY)).unwrap();
        assert!(first.created && *first.text == KEY);
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{KEY}\n"));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        let second = load_or_create(&data_dir, never).unwrap();
        assert!(!second.created && *second.text == KEY);
        fs::write(&path, OTHER).unwrap();
        assert!(*load_or_create(&data_dir, never).unwrap().text == OTHER, "the newline is optional");
    }

    #[test]
    fn what_a_crash_left_behind_is_not_taken_for_the_key() {
        let scratch = Scratch::new();
        let (data_dir, path) = opened(&scratch);
        let left = data_dir.path().join(FILE.new_name);
        fs::write(&left, &OTHER[..20]).unwrap();
        assert!(load_or_create(&data_dir, || key(KEY)).unwrap().created);
        assert!(!left.exists());
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{KEY}\n"));
        // A link of that name must not lead the new key elsewhere.
        fs::remove_file(&path).unwrap();
        let victim = scratch.path().join("victim");
        fs::write(&victim, "untouched").unwrap();
        symlink(&victim, &left).unwrap();
        assert!(load_or_create(&data_dir, || key(KEY)).unwrap().created);
        assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched");
        assert!(fs::symlink_metadata(&path).unwrap().is_file());
    }

    #[test]
    fn a_key_that_cannot_be_made_leaves_no_file() {
        let scratch = Scratch::new();
        let (data_dir, path) = opened(&scratch);
        let refused = load_or_create(&data_dir, || Err::<Zeroizing<String>, _>("no entropy")).unwrap_err();
        assert_eq!(refused.to_string(), "no admin key could be made: no entropy");
        assert!(matches!(load_or_create(&data_dir, || key("x")), Err(StoreError::NotAKey { .. })));
        assert!(!path.exists() && !data_dir.path().join(FILE.new_name).exists());
    }

    #[test]
    fn files_that_hold_no_key_are_refused_without_showing_them() {
        let scratch = Scratch::new();
        let (data_dir, path) = opened(&scratch);
        load_or_create(&data_dir, || key(KEY)).unwrap();
        let limit = usize::try_from(CREDENTIAL_FILE_MAX_BYTES).unwrap();
        for text in [
            String::new(),
            "\n".to_owned(),
            KEY[1..].to_owned(),
            KEY[..KEY.len() - 1].to_owned(),
            format!("{KEY}A"),
            format!("{KEY}\n\n"),
            format!("{KEY}\r\n"),
            format!(" {KEY}"),
            KEY.replace("abcd", "ABCD"),
            KEY.replace('.', ":"),
            // Stray bits in the last character: another text for the same bytes.
            format!("{}B", &KEY[..KEY.len() - 1]),
            format!("{KEY}\n{}", "#".repeat(limit)),
            "\u{e9}".repeat(100),
        ] {
            fs::write(&path, &text).unwrap();
            let refusal = load_or_create(&data_dir, never).unwrap_err();
            assert!(matches!(refusal, StoreError::NotAKey { .. }), "{text:?}");
            let said = format!("{refusal} {refusal:?}");
            assert!(!said.contains("AAAA") && !said.contains("abcd"), "{said}");
        }
    }

    #[test]
    fn a_file_that_others_may_read_is_refused_with_the_line_to_run() {
        let scratch = Scratch::new();
        let (data_dir, path) = opened(&scratch);
        load_or_create(&data_dir, || key(KEY)).unwrap();
        for mode in [0o640, 0o604, 0o620] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let refusal = load_or_create(&data_dir, never).unwrap_err().to_string();
            assert!(refusal.ends_with(&format!("chmod 600 {}", path.display())), "{refusal}");
        }
    }

    #[test]
    fn links_and_other_kinds_are_refused() {
        let scratch = Scratch::new();
        let (data_dir, path) = opened(&scratch);
        let elsewhere = scratch.path().join("elsewhere");
        fs::write(&elsewhere, KEY).unwrap();
        symlink(&elsewhere, &path).unwrap();
        assert!(matches!(load_or_create(&data_dir, never), Err(StoreError::SymbolicLink { .. })));
        fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(matches!(load_or_create(&data_dir, never), Err(StoreError::WrongKind { .. })));
    }

    #[test]
    fn debug_shows_no_byte_of_the_key() {
        let admin = AdminKey { text: Zeroizing::new(KEY.to_owned()), created: true };
        assert_eq!(format!("{admin:?}"), "AdminKey { created: true, .. }");
    }

    #[test]
    fn a_start_as_root_gives_the_key_away() {
        as_root(|| {
            let scratch = Scratch::new();
            let owner = Owner { uid: 1001, gid: 1001 };
            let data_dir = DataDir::open(&scratch.path().join("q"), Some(owner)).unwrap();
            load_or_create(&data_dir, || key(KEY)).unwrap();
            let path = path(&data_dir);
            let found = fs::metadata(&path).unwrap();
            assert_eq!((found.uid(), found.gid(), found.mode() & 0o7777), (1001, 1001, 0o600));
            std::os::unix::fs::chown(&path, Some(0), Some(0)).unwrap();
            let refusal = load_or_create(&data_dir, never).unwrap_err().to_string();
            assert!(refusal.ends_with(&format!("chown -R 1001:1001 {}", path.display())), "{refusal}");
        });
    }

    #[test]
    fn an_ordinary_user_makes_and_reads_the_key() {
        as_ordinary_user("store::admin_key::tests::an_ordinary_user_makes_and_reads_the_key", || {
            let scratch = Scratch::new();
            let (data_dir, path) = opened(&scratch);
            assert!(load_or_create(&data_dir, || key(KEY)).unwrap().created);
            assert!(!load_or_create(&data_dir, never).unwrap().created);
            fs::set_permissions(&path, fs::Permissions::from_mode(0o200)).unwrap();
            let refusal = load_or_create(&data_dir, never).unwrap_err().to_string();
            assert!(refusal.ends_with(&format!("chmod 600 {}", path.display())), "{refusal}");
        });
    }
}
