//! The binary as a client of a server, run in the folder of a test.
//!
//! Owns what a command left. Invariant: nothing of the caller's environment reaches a command.

use std::fs;
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::server::client::Request;
use crate::server::{Scratch, Server, binary};

/// A server, and a folder with its admin key in which commands are run.
pub(crate) struct Caller {
    pub(crate) server: Server,
    /// Where the server is asked.
    pub(crate) url: String,
    pub(crate) folder: PathBuf,
}

impl Caller {
    /// One with the key `orders`; nothing where no binary is given.
    pub(crate) fn new() -> Option<Self> {
        let server = Server::start_in(&Scratch::new(), &[])?;
        let url = format!("http://{}", server.address());
        let made = server.ask(Request::post("/api/keys", r#"{"name":"orders","exportable":true}"#));
        assert_eq!(made.status, 201);
        Some(Self::of(server, url))
    }

    /// One that asks this server.
    pub(crate) fn of(server: Server, url: String) -> Self {
        let folder = server.scratch().path("folder");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("admin.key"), format!("{}\n", server.key())).unwrap();
        Self { server, url, folder }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    /// What stands in the folder, hidden files too.
    pub(crate) fn listed(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.folder).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// A command that asks with the admin key.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = self.stranger(words);
        command.env("QUANTONIUM_API_KEY_FILE", "admin.key");
        command
    }

    /// A command that asks without any credential.
    pub(crate) fn stranger(&self, words: &[&str]) -> Command {
        let mut command = Command::new(binary().unwrap());
        command.args(words).env_clear().env("QUANTONIUM_URL", &self.url).current_dir(&self.folder);
        command.stdin(Stdio::null());
        command
    }

    /// Runs `words`, with the admin key.
    pub(crate) fn run(&self, words: &str) -> Ran {
        Ran::of(self.command(&words.split(' ').collect::<Vec<_>>()))
    }

    /// The same with this standard input.
    pub(crate) fn run_with(&self, words: &str, input: &[u8]) -> Ran {
        Ran::with(self.command(&words.split(' ').collect::<Vec<_>>()), input)
    }
}

/// What a command left.
pub(crate) struct Ran(Output);

impl Ran {
    pub(crate) fn of(mut command: Command) -> Self {
        Self(command.output().unwrap())
    }

    pub(crate) fn with(mut command: Command, input: &[u8]) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (mut pipe, input) = (child.stdin.take().unwrap(), input.to_vec());
        // A command that refuses does not read all.
        let writer = std::thread::spawn(move || drop(pipe.write_all(&input)));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        Self(output)
    }

    pub(crate) fn code(&self) -> Option<i32> {
        self.0.status.code()
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0.stdout
    }

    pub(crate) fn out(&self) -> &str {
        std::str::from_utf8(&self.0.stdout).unwrap()
    }

    pub(crate) fn err(&self) -> &str {
        std::str::from_utf8(&self.0.stderr).unwrap()
    }

    #[track_caller]
    pub(crate) fn must_be(&self, code: i32) -> &Self {
        let (found, signal) = (self.0.status.code(), self.0.status.signal());
        assert_eq!((found, signal), (Some(code), None), "{:?}", self.err());
        self
    }

    /// A refusal: this code, one line, and these words in it.
    #[track_caller]
    pub(crate) fn must_refuse(&self, code: i32, words: &[&str]) {
        self.must_be(code);
        assert_eq!(self.err().lines().count(), 1, "{}", self.err());
        for word in words {
            assert!(self.err().contains(word), "{word:?} is missing: {}", self.err());
        }
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        self.must_be(0);
        serde_json::from_str(self.out()).unwrap_or_else(|error| panic!("{error}: {}", self.out()))
    }
}
