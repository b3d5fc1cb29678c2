//! Audit lines on standard output: what a reader who stops, or is gone, does to the server, and that nobody is told of a
//! success whose line that reader does not get.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic, its helping functions too")]

#[path = "support/lines.rs"]
mod lines;
#[path = "support/server.rs"]
mod server;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;

use lines::{assert_told, files, named, streams};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::io::ioctl_fionread;
use serde_json::Value;
use server::client::{Client, Reply, Request, comes_true};
use server::{Scratch, binary, program};

const ORDERS: &str = "{\"name\":\"orders\"}";
const SEAL: &str = "{\"key\":\"orders\",\"plaintext\":\"aGVsbG8=\"}";

/// A server whose standard output is read when the test likes.
struct Told {
    child: Child,
    address: SocketAddr,
    key: String,
    scratch: Arc<Scratch>,
    stderr: JoinHandle<String>,
}

impl Told {
    fn start(sink: &str, flags: &[&str], stdout: Stdio) -> Option<Self> {
        let scratch = Scratch::new();
        let mut command = program()?;
        command.args(["serve", "--dev", "--listen", "127.0.0.1:0", "--audit-sink", sink, "--data-dir"]);
        command.arg(scratch.data_dir()).args(flags).env_clear();
        command.stdin(Stdio::null()).stdout(stdout).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut read = String::new();
        let address = loop {
            let mut line = String::new();
            assert!(stderr.read_line(&mut line).unwrap() > 0, "it ended: {read}");
            read.push_str(&line);
            if let Some(address) = line.strip_prefix("listening on http://") {
                break address.trim_end().parse().unwrap();
            }
        };
        let stderr = std::thread::spawn(move || {
            stderr.read_to_string(&mut read).unwrap();
            read
        });
        let key = fs::read_to_string(scratch.data_dir().join("admin.key")).unwrap().trim_end().to_owned();
        Some(Self { child, address, key, scratch, stderr })
    }

    fn connect(&self) -> Client {
        Client::connect(self.address)
    }

    fn create(&self) -> Reply {
        let created = self.connect().call(&Request::post("/api/keys", ORDERS).key(&self.key));
        assert_eq!(created.status, 201, "{created:?}");
        created
    }

    fn seal(&self, client: &mut Client) -> Reply {
        let reply = client.call(&Request::post("/api/encrypt", SEAL).key(&self.key));
        if reply.closes() {
            *client = self.connect();
        }
        reply
    }

    /// Seals until it is refused; returns the good replies.
    fn seal_until_refused(&self) -> Vec<Reply> {
        let mut client = self.connect();
        let mut good = Vec::new();
        loop {
            let reply = self.seal(&mut client);
            if reply.status != 200 {
                reply.assert_problem(503, "audit_unavailable");
                return good;
            }
            good.push(reply);
            assert!(good.len() < 100_000, "the pipe never became full");
        }
    }

    /// Opens connections until 24 in a row are refused at once: those come to every worker, and each has a backlog of
    /// its own. Returns the good replies.
    fn fill_every_worker(&self) -> Vec<Reply> {
        let mut good = Vec::new();
        let mut refused = 0;
        while refused < 24 {
            let more = self.seal_until_refused();
            refused = if more.is_empty() { refused + 1 } else { 0 };
            good.extend(more);
        }
        good
    }

    /// Asks for health until it is this.
    fn await_health(&self, status: u16) {
        let mut client = self.connect();
        let mut last = 0;
        let is_so = comes_true(|| {
            let reply = client.call(&Request::get("/api/health"));
            last = reply.status;
            if reply.closes() {
                client = self.connect();
            }
            last == status
        });
        assert!(is_so, "health is {last}, not {status}");
    }

    fn assert_refused_at_once(&self) {
        let mut client = self.connect();
        for _ in 0..3 {
            self.seal(&mut client).assert_problem(503, "audit_unavailable");
        }
        let change = Request::post("/api/keys", "{\"name\":\"more\"}").key(&self.key);
        self.connect().call(&change).assert_problem(503, "audit_unavailable");
    }

    /// Ends it; returns what it said on standard error.
    fn stop(mut self) -> (String, Arc<Scratch>) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), Signal::SIGTERM).unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
        (self.stderr.join().unwrap(), self.scratch)
    }
}

/// Reads all that comes; with the end of the pipe that tells what has not been read yet.
fn drain(child: &mut Child) -> (JoinHandle<String>, OwnedFd) {
    let mut stdout = child.stdout.take().unwrap();
    let pipe = stdout.as_fd().try_clone_to_owned().unwrap();
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        stdout.read_to_string(&mut text).unwrap();
        text
    });
    (reader, pipe)
}

#[test]
fn a_reader_who_stops_has_requests_refused_at_once_and_goes_on_where_it_stopped() {
    for sink in ["stdout", "both"] {
        let Some(mut server) = Told::start(sink, &["--workers", "2"], Stdio::piped()) else { return };
        let mut good = vec![server.create()];
        // Nobody reads; each of several connections finds out by itself.
        std::thread::scope(|scope| {
            let clients: Vec<_> = (0..4).map(|_| scope.spawn(|| server.seal_until_refused())).collect();
            good.extend(clients.into_iter().flat_map(|client| client.join().unwrap()));
        });
        good.extend(server.fill_every_worker());
        assert!(good.len() > 100, "{sink}: there is room in a pipe");
        server.assert_refused_at_once();
        server.await_health(503);
        let (reader, pipe) = drain(&mut server.child);
        // Nobody restarts it.
        server.await_health(200);
        // What was held back may fill the pipe once more, before the reader has its turn.
        assert!(comes_true(|| ioctl_fionread(&pipe).unwrap() == 0), "it is never read");
        let mut client = server.connect();
        for _ in 0..100 {
            let reply = server.seal(&mut client);
            assert_eq!(reply.status, 200, "{sink}: {reply:?}");
            good.push(reply);
        }
        drop(client);
        let (stderr, scratch) = server.stop();
        let out = reader.join().unwrap();
        assert_told(&out, &good);
        assert!(streams(&out).values().any(|lines| !named(lines).is_empty()), "what was refused is named");
        let files = files(&scratch.data_dir());
        if sink == "both" {
            assert_told(&files.concat(), &good);
            assert!(stderr.contains("the audit log is written again"), "{stderr}");
        } else {
            assert_eq!(files.concat(), "");
        }
    }
}

#[test]
fn standard_output_holds_audit_lines_and_nothing_else_and_both_sinks_hold_the_same() {
    let Some(mut server) = Told::start("both", &["--workers", "2"], Stdio::piped()) else { return };
    let (reader, _) = drain(&mut server.child);
    let mut good = vec![server.create()];
    for _ in 0..10 {
        let mut client = server.connect();
        good.extend((0..10).map(|_| server.seal(&mut client)));
    }
    let key = server.key.clone();
    let (stderr, scratch) = server.stop();
    let out = reader.join().unwrap();
    assert!(stderr.contains("admin API key (shown once") && !out.contains(&key));
    assert_told(&out, &good);
    let by_stream = |text: &str| {
        let mut lines: BTreeMap<String, Vec<Value>> = streams(text);
        lines.retain(|_, lines| !lines.is_empty());
        lines
    };
    assert_eq!(by_stream(&out), by_stream(&files(&scratch.data_dir()).concat()));
}

#[test]
fn a_reader_who_is_gone_has_requests_refused() {
    let Some(mut server) = Told::start("stdout", &["--workers", "1"], Stdio::piped()) else { return };
    server.create();
    drop(server.child.stdout.take());
    // Another test may have forked a moment ago: its child has the end, too, until it is another program.
    let mut client = server.connect();
    assert!(comes_true(|| server.seal(&mut client).status == 503), "somebody still reads");
    server.assert_refused_at_once();
    server.await_health(503);
    server.stop();
}

#[test]
fn standard_output_may_be_a_file() {
    let path = std::env::temp_dir().join(format!("quantonium-sinks-{}", std::process::id()));
    let file = File::create(&path).unwrap();
    let Some(server) = Told::start("stdout", &["--workers", "2"], Stdio::from(file)) else { return };
    let created = server.create();
    let mut client = server.connect();
    let mut good: Vec<Reply> = (0..50).map(|_| server.seal(&mut client)).collect();
    good.push(created);
    drop(client);
    server.stop();
    let text = fs::read_to_string(&path).unwrap();
    fs::remove_file(&path).unwrap();
    assert_told(&text, &good);
}

#[test]
fn what_leads_nowhere_is_refused_at_the_start() {
    let Some(binary) = binary() else { return };
    let scratch = Scratch::new();
    let mut command = Command::new(binary);
    command.args(["serve", "--dev", "--listen", "127.0.0.1:0", "--audit-sink", "both", "--data-dir"]);
    command.arg(scratch.data_dir()).env_clear().stdin(Stdio::null()).stdout(Stdio::null());
    let ended = command.output().unwrap();
    let stderr = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(78), "{stderr}");
    assert!(
        stderr.contains(
            "--audit-sink: standard output cannot take audit lines (it is closed, or leads to /dev/null)"
        ),
        "{stderr}"
    );
}
