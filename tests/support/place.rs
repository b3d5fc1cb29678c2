//! A folder with a master key, in which the real binary is run: `init`, `store` and `serve`.
//!
//! Owns the folder and what a command left. Invariant: nothing of the caller's environment reaches a command.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking, and says where")]
#![allow(dead_code, reason = "included by several test files, none of which uses all of it")]

#[path = "server.rs"]
pub(crate) mod server;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use serde_json::Value;
use server::{Scratch, Server, binary};

/// Thirty-two bytes that are easily found again wherever they should not be.
pub(crate) const KEY: &[u8; 32] = b"master-key-of-the-tests-32-bytes";

/// A folder with a master key, and what is run in it.
pub(crate) struct Place {
    binary: PathBuf,
    scratch: Arc<Scratch>,
}

impl Place {
    /// Nothing where there is no binary to test.
    pub(crate) fn new() -> Option<Self> {
        let place = Self { binary: binary()?, scratch: Scratch::new() };
        place.secret("master.key", KEY);
        Some(place)
    }

    /// One with a store in it.
    pub(crate) fn with_store() -> Option<Self> {
        let place = Self::new()?;
        place.run("init", &[]).must_be(0);
        Some(place)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.scratch.path(name)
    }

    pub(crate) fn journal(&self) -> PathBuf {
        self.path("data/journal")
    }

    pub(crate) fn secret(&self, name: &str, content: &[u8]) {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    }

    /// One whose store is a snapshot alone: any change of it is damage, for no byte of it is a last, unfinished change.
    pub(crate) fn with_compacted_store() -> Option<Self> {
        let place = Self::with_store()?;
        place.run("store compact", &[]).must_be(0);
        Some(place)
    }

    /// Starts a server on the store that `init` left, whose admin key lies in the data directory.
    pub(crate) fn serve(&self, master_key: &str, flags: &[&str]) -> Server {
        Server::spawn(self.serve_command(master_key, flags), &self.scratch, 1)
    }

    pub(crate) fn serve_command(&self, master_key: &str, flags: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.args([
            "serve",
            "--data-dir",
            "data",
            "--listen",
            "127.0.0.1:0",
            "--master-key-file",
            master_key,
        ]);
        command.args(flags).env_clear().current_dir(self.path(""));
        server::read_by_people(&mut command);
        command
    }

    /// Runs a server that is to be refused.
    pub(crate) fn serve_refused(&self, master_key: &str, flags: &[&str]) -> Ran {
        Ran(self.serve_command(master_key, flags).stdin(Stdio::null()).output().unwrap())
    }

    /// Runs `words` with data directory and master key of the folder.
    pub(crate) fn run(&self, words: &str, flags: &[&str]) -> Ran {
        self.run_with(
            words,
            &[&["--data-dir", "data", "--master-key-file", "master.key"], flags].concat(),
            &[],
        )
    }

    /// Runs `words` with these flags and variables only.
    pub(crate) fn run_with(&self, words: &str, flags: &[&str], variables: &[(&str, &str)]) -> Ran {
        let mut command = Command::new(&self.binary);
        command.args(words.split(' ')).args(flags).env_clear().envs(variables.iter().copied());
        Ran(command.current_dir(self.path("")).stdin(Stdio::null()).output().unwrap())
    }
}

/// What a command left.
pub(crate) struct Ran(Output);

impl Ran {
    pub(crate) fn code(&self) -> i32 {
        self.0.status.code().unwrap()
    }

    pub(crate) fn out(&self) -> &str {
        std::str::from_utf8(&self.0.stdout).unwrap()
    }

    pub(crate) fn err(&self) -> &str {
        std::str::from_utf8(&self.0.stderr).unwrap()
    }

    #[track_caller]
    pub(crate) fn must_be(&self, code: i32) -> &Self {
        assert_eq!(self.code(), code, "{}{}", self.out(), self.err());
        self
    }

    /// A refusal: this code, one line, and these words in it.
    #[track_caller]
    pub(crate) fn must_refuse(&self, code: i32, words: &[&str]) {
        self.must_be(code);
        assert_eq!(self.err().lines().count(), 1, "{}", self.err());
        assert_eq!(self.out(), "");
        for word in words {
            assert!(self.err().contains(word), "{word:?} is missing: {}", self.err());
        }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(self.out()).unwrap()
    }

    /// The value behind `name:` of a text report.
    pub(crate) fn value(&self, name: &str) -> &str {
        let line = self.out().lines().find(|line| line.starts_with(name)).unwrap();
        line[name.len()..].trim_start_matches(':').trim()
    }
}

pub(crate) fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

pub(crate) fn is_api_key(text: &str) -> bool {
    text.len() == 55 && text.starts_with("qk_") && text.as_bytes()[11] == b'.'
}
