//! The data directory: created or checked, locked, with its `audit` subdirectory.
//!
//! Owns [`DataDir`]. Layout: `lock` (held while a process uses the directory), `admin.key`, `audit/*.jsonl`.
//! Invariants: one process at a time; mode 0700; owned by the user that will serve; only the last component of
//! the path is created, because a missing parent is more often a volume that is not mounted than a wish.

use core::time::Duration;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::entry::{Entry, Owner};
use super::error::StoreError;
use crate::clock::Moment;
use crate::limits::STORE_WAIT_STEP_MILLIS;

const LOCK_NAME: &str = "lock";
const AUDIT_NAME: &str = "audit";

/// The open, locked data directory. The lock ends with this value, or with what [`DataDir::into_lock`] returns.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    owner: Owner,
    created: bool,
    directory: OwnedFd,
    audit: OwnedFd,
    lock: OwnedFd,
}

impl DataDir {
    /// Opens the directory at `path`, creating it if needed, and locks it.
    ///
    /// `switch_to` is the user and group that a start as root will become; without it, this process's own.
    ///
    /// # Errors
    /// What has to be changed before the directory can be used.
    pub fn open(path: &Path, switch_to: Option<Owner>) -> Result<Self, StoreError> {
        Self::open_patiently(path, switch_to, Duration::ZERO, || false)
    }

    /// As [`open`](Self::open), but waits for at most `patience` until another process has left the directory: each time that it finds it in
    /// use it asks `waits` whether to go on.
    ///
    /// # Errors
    /// What has to be changed before the directory can be used.
    pub fn open_patiently(
        path: &Path,
        switch_to: Option<Owner>,
        patience: Duration,
        waits: impl FnMut() -> bool,
    ) -> Result<Self, StoreError> {
        let owner = switch_to.unwrap_or_else(Owner::this_process);
        let (parent, name) = around(path);
        let within = open_parent(path, parent)?;
        let entry = Entry { within: within.as_fd(), name, path };
        let (directory, created) = entry.open_or_create_directory(owner)?;
        // The lock comes before anything else is looked at: another process may still be making it.
        let lock = lock(directory.as_fd(), path, owner, patience, waits)?;
        let audit_path = path.join(AUDIT_NAME);
        let entry = Entry { within: directory.as_fd(), name: Path::new(AUDIT_NAME), path: &audit_path };
        let (audit, audit_created) = entry.open_or_create_directory(owner)?;
        if audit_created {
            rustix::fs::fsync(&directory).map_err(|errno| entry.failed("sync the directory of", errno))?;
        }
        if created {
            sync_parent(within.as_fd());
        }
        Ok(Self { path: path.to_owned(), owner, created, directory, audit, lock })
    }

    /// The directory in it in which another root key's store is made, until that takes the place of the old one.
    pub const ROOT_NEXT_NAME: &'static str = "root.next";

    /// Removes what is left of the making of another root key's store that was cut off: every key, under a root key that
    /// the same master key opens.
    pub(super) fn remove_unfinished_root(&self) -> Result<(), StoreError> {
        let path = self.path.join(Self::ROOT_NEXT_NAME);
        match std::fs::remove_dir_all(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
                Err(StoreError::Io { action: "remove", path, errno })
            }
            _ => Ok(()),
        }
    }

    /// The path, as it was given.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Who owns everything in it.
    #[must_use]
    pub const fn owner(&self) -> Owner {
        self.owner
    }

    /// Whether this start created it.
    #[must_use]
    pub const fn created(&self) -> bool {
        self.created
    }

    /// The directory itself.
    #[must_use]
    pub fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// Its `audit` subdirectory.
    #[must_use]
    pub fn audit_directory(&self) -> BorrowedFd<'_> {
        self.audit.as_fd()
    }

    /// Closes the directory descriptors and keeps the lock, until the returned descriptor is closed.
    ///
    /// For lock-down, after which no thread may hold a directory.
    #[must_use]
    pub fn into_lock(self) -> OwnedFd {
        self.lock
    }
}

/// The parent and the last component. A path that ends in none (`/`, `..`) is opened as it stands.
fn around(path: &Path) -> (&Path, &Path) {
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) if parent.as_os_str().is_empty() => (Path::new("."), Path::new(name)),
        (Some(parent), Some(name)) => (parent, Path::new(name)),
        _ => (path, Path::new(".")),
    }
}

fn open_parent(path: &Path, parent: &Path) -> Result<OwnedFd, StoreError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(parent, flags, Mode::empty()).map_err(|errno| match errno {
        Errno::NOENT => StoreError::NoParent { path: path.to_owned(), parent: parent.to_owned() },
        errno => StoreError::Io { action: "open", path: parent.to_owned(), errno },
    })
}

/// Makes the new directory's name durable, where the parent may be read; where not, the file system has to.
fn sync_parent(parent: BorrowedFd<'_>) {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    if let Ok(parent) = rustix::fs::openat(parent, ".", flags, Mode::empty()) {
        let _ = rustix::fs::fsync(parent);
    }
}

fn lock(
    directory: BorrowedFd<'_>,
    path: &Path,
    owner: Owner,
    patience: Duration,
    mut waits: impl FnMut() -> bool,
) -> Result<OwnedFd, StoreError> {
    let lock_path = path.join(LOCK_NAME);
    let entry = Entry { within: directory, name: Path::new(LOCK_NAME), path: &lock_path };
    let (lock, _) = entry.open_or_create_file(OFlags::RDWR, owner)?;
    let end = Moment::now().plus_nanos(u64::try_from(patience.as_nanos()).unwrap_or(u64::MAX));
    loop {
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(lock),
            Err(Errno::WOULDBLOCK) if Moment::now() < end && waits() => {
                // The kernel knows no lock with a deadline, and a start has nothing else to do.
                std::thread::sleep(Duration::from_millis(STORE_WAIT_STEP_MILLIS));
            }
            Err(Errno::WOULDBLOCK) => return Err(StoreError::InUse { path: path.to_owned() }),
            Err(errno) => return Err(entry.failed("lock", errno)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, chown, symlink};

    use super::super::scratch::{Scratch, as_ordinary_user, as_root};
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Opens as [`DataDir::open`] does, but waits out a lock that no longer has an owner: a child that another test
    /// has just forked holds every descriptor until it executes its program.
    fn open(path: &Path, switch_to: Option<Owner>) -> Result<DataDir, StoreError> {
        for _ in 0..1_000_000 {
            match DataDir::open(path, switch_to) {
                Err(StoreError::InUse { .. }) => std::thread::yield_now(),
                opened => return opened,
            }
        }
        DataDir::open(path, switch_to)
    }

    fn refusal(path: &Path) -> String {
        DataDir::open(path, None).unwrap_err().to_string()
    }

    #[test]
    fn a_new_directory_is_for_its_owner_only() {
        let scratch = Scratch::new();
        let path = scratch.path().join("q");
        let opened = open(&path, None).unwrap();
        assert!(opened.created());
        assert_eq!(opened.path(), path);
        assert_eq!(opened.owner(), Owner::this_process());
        assert_eq!((mode(&path), mode(&path.join("audit")), mode(&path.join("lock"))), (0o700, 0o700, 0o600));
        drop(opened);
        assert!(!open(&path, None).unwrap().created());
    }

    #[test]
    fn a_trailing_slash_and_a_dot_change_nothing() {
        let scratch = Scratch::new();
        let path = scratch.path().join("q");
        drop(open(&path.join(""), None).unwrap());
        drop(open(&path.join("."), None).unwrap());
        drop(open(&path.join("audit/.."), None).unwrap());
        assert_eq!(around(Path::new("q")), (Path::new("."), Path::new("q")));
        assert_eq!(around(Path::new("/")), (Path::new("/"), Path::new(".")));
    }

    #[test]
    fn a_second_process_is_refused_until_the_first_lets_go() {
        let scratch = Scratch::new();
        let path = scratch.path().join("q");
        let first = open(&path, None).unwrap();
        assert!(matches!(DataDir::open(&path, None), Err(StoreError::InUse { .. })));
        assert!(refusal(&path).ends_with("stop that one or give another --data-dir"));
        let lock = first.into_lock();
        assert!(matches!(DataDir::open(&path, None), Err(StoreError::InUse { .. })));
        drop(lock);
        assert!(open(&path, None).is_ok());
    }

    #[test]
    fn who_waits_is_asked_each_time_whether_to_go_on() {
        let scratch = Scratch::new();
        let path = scratch.path().join("q");
        let mut first = Some(open(&path, None).unwrap());
        let mut asked = 0;
        let patience = Duration::from_secs(u64::from(u32::MAX));
        let given_up = DataDir::open_patiently(&path, None, patience, || {
            asked += 1;
            asked < 3
        });
        assert!(matches!(given_up, Err(StoreError::InUse { .. })) && asked == 3);
        let got = DataDir::open_patiently(&path, None, patience, || {
            first = None;
            true
        });
        assert!(got.is_ok() && first.is_none());
    }

    #[test]
    fn only_the_last_component_is_created() {
        let scratch = Scratch::new();
        let parent = scratch.path().join("a/b");
        let refusal = refusal(&parent.join("q"));
        assert!(refusal.ends_with(&format!("create it: mkdir -p {}", parent.display())), "{refusal}");
        assert!(!scratch.path().join("a").exists());
    }

    #[test]
    fn symbolic_links_are_refused() {
        let scratch = Scratch::new();
        let (path, link) = (scratch.path().join("q"), scratch.path().join("link"));
        drop(open(&path, None).unwrap());
        symlink(&path, &link).unwrap();
        assert!(matches!(open(&link, None), Err(StoreError::SymbolicLink { .. })));
        for name in ["lock", "audit"] {
            fs::rename(path.join(name), path.join("elsewhere")).unwrap();
            symlink("elsewhere", path.join(name)).unwrap();
            assert!(matches!(open(&path, None), Err(StoreError::SymbolicLink { .. })), "{name}");
            fs::remove_file(path.join(name)).unwrap();
            fs::rename(path.join("elsewhere"), path.join(name)).unwrap();
        }
        symlink("/nonexistent", scratch.path().join("dangling")).unwrap();
        let dangling = DataDir::open(&scratch.path().join("dangling"), None);
        assert!(matches!(dangling, Err(StoreError::SymbolicLink { .. })));
    }

    #[test]
    fn what_others_may_read_is_refused_with_the_line_to_run() {
        let scratch = Scratch::new();
        let path = scratch.path().join("q");
        drop(open(&path, None).unwrap());
        for (entry, right, wrong) in [
            (path.clone(), 0o700, [0o750, 0o701, 0o777]),
            (path.join("audit"), 0o700, [0o750, 0o702, 0o777]),
            (path.join("lock"), 0o600, [0o640, 0o604, 0o666]),
        ] {
            for wrong in wrong {
                set_mode(&entry, wrong);
                let line = format!("chmod {right:o} {}", entry.display());
                assert!(refusal(&path).ends_with(&line), "{}", refusal(&path));
            }
            set_mode(&entry, right);
        }
        assert!(open(&path, None).is_ok());
    }

    #[test]
    fn a_file_is_not_a_directory_and_a_fifo_is_not_a_file() {
        let scratch = Scratch::new();
        let path = scratch.path().join("q");
        fs::write(&path, "").unwrap();
        assert!(matches!(open(&path, None), Err(StoreError::WrongKind { .. })));
        fs::remove_file(&path).unwrap();
        fs::DirBuilder::new().mode(0o700).create(&path).unwrap();
        nix::unistd::mkfifo(&path.join("lock"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(matches!(open(&path, None), Err(StoreError::WrongKind { .. })));
    }

    #[test]
    fn a_start_as_root_gives_away_what_it_created() {
        as_root(|| {
            let scratch = Scratch::new();
            let path = scratch.path().join("q");
            let owner = Owner { uid: 1001, gid: 1002 };
            let opened = open(&path, Some(owner)).unwrap();
            assert!(opened.created());
            for entry in [path.clone(), path.join("audit"), path.join("lock")] {
                let found = fs::symlink_metadata(&entry).unwrap();
                assert_eq!((found.uid(), found.gid()), (1001, 1002), "{}", entry.display());
            }
            assert_eq!((mode(&path), mode(&path.join("lock"))), (0o700, 0o600));
            drop(opened);
            assert!(!open(&path, Some(owner)).unwrap().created());
        });
    }

    #[test]
    fn a_start_as_root_refuses_what_someone_else_owns_and_leaves_it_alone() {
        as_root(|| {
            let scratch = Scratch::new();
            let path = scratch.path().join("q");
            let owner = Owner { uid: 1001, gid: 1001 };
            drop(open(&path, Some(owner)).unwrap());
            for entry in [path.clone(), path.join("audit"), path.join("lock")] {
                fs::write(path.join("lock"), "not as it was made").unwrap();
                fs::write(path.join("audit/a.jsonl"), "").unwrap();
                for stranger in [0, 1002] {
                    chown(&entry, Some(stranger), None).unwrap();
                    let refusal = open(&path, Some(owner)).unwrap_err().to_string();
                    let line = format!("chown -R 1001:1001 {}", entry.display());
                    assert!(refusal.ends_with(&line), "{refusal}");
                    assert_eq!(fs::symlink_metadata(&entry).unwrap().uid(), stranger);
                }
                chown(&entry, Some(1001), None).unwrap();
            }
            assert!(open(&path, Some(owner)).is_ok());
        });
    }

    #[test]
    fn a_start_as_root_finishes_what_one_that_was_killed_had_created() {
        as_root(|| {
            let scratch = Scratch::new();
            let path = scratch.path().join("q");
            let owner = Owner { uid: 1001, gid: 1001 };
            fs::DirBuilder::new().mode(0o700).create(&path).unwrap();
            drop(open(&path, Some(owner)).unwrap());
            for entry in [path.join("audit"), path.join("lock")] {
                chown(&entry, Some(0), Some(0)).unwrap();
                drop(open(&path, Some(owner)).unwrap());
                let found = fs::symlink_metadata(&entry).unwrap();
                assert_eq!((found.uid(), found.gid()), (1001, 1001), "{}", entry.display());
            }
            // Not a file that has another name too.
            fs::hard_link(path.join("lock"), scratch.path().join("elsewhere")).unwrap();
            chown(path.join("lock"), Some(0), Some(0)).unwrap();
            assert!(matches!(open(&path, Some(owner)), Err(StoreError::ForeignOwner { .. })));
        });
    }

    #[test]
    fn an_ordinary_user_creates_and_reopens_its_own() {
        as_ordinary_user("store::data_dir::tests::an_ordinary_user_creates_and_reopens_its_own", || {
            let scratch = Scratch::new();
            let path = scratch.path().join("q");
            drop(open(&path, None).unwrap());
            assert_eq!(mode(&path), 0o700);
            assert!(!open(&path, None).unwrap().created());
            // Neither bits that keep the owner out nor a read-only parent may look like anything else.
            set_mode(&path, 0o500);
            assert!(refusal(&path).ends_with(&format!("chmod 700 {}", path.display())));
            set_mode(&path, 0o000);
            assert!(refusal(&path).ends_with(&format!("chmod 700 {}", path.display())));
            set_mode(&path, 0o700);
            set_mode(scratch.path(), 0o500);
            let refused = DataDir::open(&scratch.path().join("new"), None);
            set_mode(scratch.path(), 0o700);
            assert!(matches!(refused, Err(StoreError::Io { errno: Errno::ACCESS, .. })));
        });
    }

    #[test]
    fn an_ordinary_user_refuses_what_root_owns() {
        as_ordinary_user("store::data_dir::tests::an_ordinary_user_refuses_what_root_owns", || {
            let owner = Owner::this_process();
            let line = format!("chown -R {}:{} /root", owner.uid, owner.gid);
            let refusal = refusal(Path::new("/root"));
            assert!(refusal.ends_with(&line), "{refusal}");
        });
    }
}
