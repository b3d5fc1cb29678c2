//! What was asked and what was answered, one line of JSON for each, in a file.
//!
//! Owns the form of a line and the file. Invariants: `begun` is looked at before the request is sent, `ended` when the reply was read, on one
//! monotonic clock; a request of which nothing was sent has no line; lines of one client stand in their order.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::sync::Mutex;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::server::client::{Client, Reply, Request};

/// A line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Line {
    /// Nanoseconds since the history began.
    pub(crate) begun: u64,
    pub(crate) ended: u64,
    pub(crate) server: usize,
    /// The how manieth start of that server it was.
    pub(crate) life: u64,
    #[serde(flatten)]
    pub(crate) what: What,
    /// Nothing: no reply came.
    pub(crate) status: Option<u16>,
    /// Of a refusal, its code.
    #[serde(default)]
    pub(crate) code: String,
}

/// What was asked, with what the reply said of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub(crate) enum What {
    Create {
        key: String,
    },
    Rotate {
        key: String,
        version: u64,
    },
    Delete {
        key: String,
    },
    Seal {
        key: String,
        version: u64,
        ciphertext: String,
        counted: bool,
    },
    Open {
        key: String,
        ciphertext: String,
        same: bool,
    },
    /// An API key is made.
    Admit {
        name: String,
        id: String,
    },
    Revoke {
        id: String,
    },
    /// An API key is used.
    Knock {
        id: String,
    },
    /// The server stands still: until `Continued` it answers nothing.
    Stopped,
    Continued,
    /// The server's process has ended, with this code; whether it was to.
    Gone {
        exit: Option<i32>,
        meant: bool,
    },
    /// What is done to the network and to processes.
    Fault {
        text: String,
    },
    /// At the end, a key as this server shows it.
    Key {
        key: String,
        latest: u64,
        deleted: bool,
        versions: Vec<(u64, String, u64)>,
    },
    /// At the end, an API key as this server shows it.
    Caller {
        id: String,
        name: String,
        revoked: bool,
    },
    /// At the end: what this server shows was written down whole.
    Shown,
}

/// The file, and the clock of what stands in it.
pub(crate) struct History {
    begun: Instant,
    file: Mutex<fs::File>,
}

impl History {
    pub(crate) fn in_file(path: &Path) -> Self {
        let file = fs::File::create(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self { begun: Instant::now(), file: Mutex::new(file) }
    }

    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_nanos()).expect("less than centuries")
    }

    pub(crate) fn write(&self, line: &Line) {
        let mut text = serde_json::to_string(line).expect("a line");
        text.push('\n');
        // One write, and no buffer: what was written is there if this process is killed.
        self.file.lock().expect("a lock").write_all(text.as_bytes()).expect("the history");
    }

    /// Writes down what happened at once and was not asked for.
    pub(crate) fn note(&self, server: usize, life: u64, what: What) {
        let now = self.now();
        self.write(&Line { begun: now, ended: now, server, life, what, status: None, code: String::new() });
    }

    /// Asks, and writes down what came of it: `said` puts what the reply says into `what` if it is good.
    pub(crate) fn ask(
        &self,
        client: &mut Client,
        (server, life): (usize, u64),
        request: &Request,
        mut what: What,
        said: impl FnOnce(&Reply, &mut What),
    ) -> Option<Reply> {
        let begun = self.now();
        let reply = client.attempt(request);
        let ended = self.now();
        let status = reply.as_ref().map(|reply| reply.status);
        let mut code = String::new();
        if let Some(reply) = &reply {
            if matches!(reply.status, 200..=299) {
                said(reply, &mut what);
            } else {
                code = reply.json()["code"].as_str().unwrap_or_default().to_owned();
            }
        }
        self.write(&Line { begun, ended, server, life, what, status, code });
        reply
    }
}
