//! For the tests of this floor: directories that vanish, and changes of user.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use super::entry::Owner;

/// A directory of its own, removed at the end.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    pub(super) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("quantonium-store-{}-{count}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs `test` if this process is root's.
pub(super) fn as_root(test: impl FnOnce()) {
    if Owner::this_process().uid == 0 { test() } else { skip("it needs root, to give files away") }
}

/// Runs `test` as an ordinary user: here, or, if this is root, in another process of the test program.
pub(super) fn as_ordinary_user(name: &str, test: impl FnOnce()) {
    if Owner::this_process().uid != 0 {
        return test();
    }
    let program = std::env::current_exe().unwrap();
    let child = Command::new(program).args(["--exact", name]).current_dir("/").uid(1001).gid(1001).output();
    let output = match child {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            return skip("the test program lies where an ordinary user may not run it");
        }
        child => child.unwrap(),
    };
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

fn skip(reason: &str) {
    assert!(std::env::var_os("QUANTONIUM_REQUIRE").is_none_or(|value| value != "1"), "{reason}");
    println!("skipped: {reason}");
}
