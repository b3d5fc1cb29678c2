//! System calls of the server that are made to fail, or to kill it, by strace.
//!
//! What works, and is relied on here: `--seccomp-bpf` stops for strace before our own filters judge, so that a call
//! which is injected is not taken for a forbidden one; `-P` of the journal, its successor and the data directory leaves
//! the calls on other files alone, the audit log's above all, and `when=` counts what is left, for each thread apart:
//! the keeper's thread makes them all once the server serves. The first call of a thread that strace meets must be left
//! alone: there it stops behind our filter, which takes the injected call for a forbidden one. `signal=` works without
//! `--seccomp-bpf` only, and needs none, because the call stays what it is. `retval=` suppresses a call; it does not
//! make a short write, because nothing is written then.

#![allow(dead_code, reason = "included by several test files, none of which uses all of it")]

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::sync::Arc;

use super::server::{Scratch, Server, binary, skip};

/// The calls that are traced.
const CALLS: &str = "trace=write,fdatasync,fsync,ftruncate,fallocate,openat,renameat2,renameat,rename,pread64,unlinkat,lseek,read";

/// Whether the server can be traced here; says aloud why not.
pub(crate) fn possible() -> bool {
    let reason = if !nix::unistd::geteuid().is_root() {
        "it needs root, to trace a process that is not dumpable"
    } else if !Command::new("strace").arg("--version").output().is_ok_and(|output| output.status.success()) {
        "it needs strace"
    } else {
        return true;
    };
    skip(reason);
    false
}

/// `quantonium` under strace, which watches the journal's files of `scratch` with these injections; its words are
/// still to come.
pub(crate) fn command(scratch: &Scratch, injections: &[&str]) -> Option<Command> {
    let binary = binary()?;
    let mut command = Command::new("strace");
    // -D: the server stays our child, and the tracer is its grandchild.
    command.args(["-D", "-f", "-y", "-q", "-e", CALLS]);
    if !injections.iter().any(|injection| injection.contains("signal=")) {
        command.arg("--seccomp-bpf");
    }
    let data_dir = scratch.data_dir();
    // The directory that the keeper holds is the top of a mount of its own.
    for path in [data_dir.join("journal"), data_dir.join("journal.next"), data_dir, "/".into()] {
        command.arg("-P").arg(path);
    }
    for injection in injections {
        command.args(["-e", &format!("inject={injection}")]);
    }
    command.arg("-o").arg(scratch.path("trace")).arg(binary);
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    Some(command)
}

/// A server under strace, on a data directory that an earlier start made.
pub(crate) fn start(scratch: &Arc<Scratch>, flags: &[&str], injections: &[&str]) -> Option<Server> {
    let mut command = command(scratch, injections)?;
    command.args(["serve", "--dev", "--listen", "127.0.0.1:0", "--data-dir"]).arg(scratch.data_dir());
    // One look at itself, at the start: later ones would make calls between those that are counted.
    command.args(["--integrity-interval-seconds", "86400"]);
    command.args(["--max-requests-per-connection", "1000000000"]).args(flags);
    Some(Server::spawn(command, scratch, 1))
}

/// A call that was seen.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// The thread that made it.
    pub(crate) thread: String,
    /// Its name.
    pub(crate) name: String,
    /// Which one of this name it is of this thread, from 1.
    pub(crate) ordinal: usize,
    /// The whole line, with the paths of descriptors.
    pub(crate) line: String,
}

impl Call {
    /// An injection that meets this call alone.
    pub(crate) fn inject(&self, what: &str) -> String {
        format!("{}:{what}:when={}", self.name, self.ordinal)
    }
}

/// The calls that were seen, counted as `when=` counts them.
pub(crate) fn counted(scratch: &Scratch) -> Vec<Call> {
    let mut counts: BTreeMap<(String, String), usize> = BTreeMap::new();
    let count = |line: String| {
        let (thread, rest) = line.split_once(' ')?;
        let (name, _) = rest.trim_start().split_once('(')?;
        if !name.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return None;
        }
        let (thread, name) = (thread.to_owned(), name.to_owned());
        let ordinal = counts.entry((thread.clone(), name.clone())).or_default();
        *ordinal += 1;
        Some(Call { thread, name, ordinal: *ordinal, line })
    };
    calls(scratch).into_iter().filter_map(count).collect()
}

/// The calls that were seen, in their order, as strace writes them.
pub(crate) fn calls(scratch: &Scratch) -> Vec<String> {
    let text = fs::read_to_string(scratch.path("trace")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}
