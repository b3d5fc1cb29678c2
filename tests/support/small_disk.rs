//! A file system with little room, at the place of a data directory.
//!
//! Owns [`SmallDisk`]. Invariant: whatever happens to the test, it is unmounted.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use super::server::{NO_MOUNT, Scratch, skip};

/// A small file system in memory in the place of a server's data directory, unmounted at the end.
pub(crate) struct SmallDisk {
    /// The folder whose data directory it is.
    pub(crate) scratch: Arc<Scratch>,
}

impl SmallDisk {
    /// Mounts one; says aloud why not.
    pub(crate) fn mount(size: &str) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            skip(&format!("{NO_MOUNT}: it needs root"));
            return None;
        }
        let scratch = Scratch::new();
        fs::create_dir(scratch.data_dir()).unwrap();
        let options = format!("size={size},mode=0700,uid=1001,gid=1001");
        let mut mount = Command::new("mount");
        let output =
            mount.args(["-t", "tmpfs", "-o", &options, "quantonium-test"]).arg(scratch.data_dir()).output();
        let output = output.unwrap();
        if !output.status.success() {
            skip(&format!("{NO_MOUNT}: {}", String::from_utf8_lossy(&output.stderr)));
            return None;
        }
        Some(Self { scratch })
    }

    fn ballast(&self) -> PathBuf {
        self.scratch.data_dir().join("ballast")
    }

    /// Takes all the room that is left.
    pub(crate) fn fill(&self) {
        let full = fs::write(self.ballast(), vec![0; 16 << 20]);
        assert!(full.is_err(), "the disk holds 16 MiB");
    }

    /// Gives it back.
    pub(crate) fn make_room(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // A server that is still alive keeps it busy until it ends.
        let _ = Command::new("umount").arg("-l").arg(self.scratch.data_dir()).status();
    }
}
