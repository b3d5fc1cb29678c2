//! The end of the server, and starts that are refused: what is in flight is finished, what is not is let go, and the
//! next start finds everything free.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic, its helping functions too")]

#[path = "support/server.rs"]
mod server;

use std::fs;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::signal::Signal;
use server::client::{Client, Request, comes_true};
use server::{Scratch, Server, free_address, skip};

const ORDERS: &str = "{\"name\":\"orders\"}";
const SEAL: &str = "{\"key\":\"orders\",\"plaintext\":\"aGVsbG8=\"}";

/// A connection with an encrypt request in flight, and the rest of its body. The server has taken its head.
fn half_sent(server: &Server) -> (Client, &'static [u8]) {
    let created = server.ask(Request::post("/api/keys", ORDERS));
    assert!([201, 409].contains(&created.status), "{created:?}");
    let mut client = server.connect();
    let head = format!(
        "POST /api/encrypt HTTP/1.1\r\nHost: test\r\nX-API-Key: {}\r\nContent-Length: {}\r\nExpect: 100-continue\r\n\r\n",
        server.key(),
        SEAL.len()
    );
    client.send(head.as_bytes());
    assert_eq!(client.reply().status, 100, "the head was taken");
    let (first, rest) = SEAL.as_bytes().split_at(SEAL.len() / 2);
    client.send(first);
    (client, rest)
}

/// An idle connection that has made a request.
fn idle(server: &Server) -> Client {
    let mut client = server.connect();
    assert_eq!(client.call(&Request::get("/api/health")).status, 200);
    client
}

/// Tries to connect until it is refused: each worker leaves its own socket.
fn assert_refused(address: SocketAddr) {
    let refused = comes_true(|| {
        let attempt = TcpStream::connect(address);
        attempt.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
    });
    assert!(refused, "{address} still takes connections");
}

#[test]
fn a_drain_finishes_what_is_in_flight_and_closes_what_is_idle() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let flags = ["--workers", "2", "--drain-timeout-ms", "600000"];
        let Some(server) = Server::start(&flags) else { return };
        let mut idles: Vec<Client> = (0..4).map(|_| idle(&server)).collect();
        let mut silent = server.connect();
        let (mut busy, rest) = half_sent(&server);
        server.signal(signal);
        for client in &mut idles {
            assert!(client.ends(), "an idle connection is closed without a word");
        }
        assert!(silent.ends(), "one that never sent anything too");
        assert_refused(server.address());
        busy.send(rest);
        let reply = busy.reply();
        assert_eq!(reply.status, 200, "{reply:?}");
        assert!(reply.closes(), "{reply:?}");
        assert!(!reply.member("ciphertext").is_empty());
        assert!(busy.ends());
        let ended = server.wait();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(ended.stderr.contains("INFO server: draining: no new connections"), "{ended:?}");
        assert!(ended.stderr.contains("INFO server: drained: every request was answered"), "{ended:?}");
    }
}

#[test]
fn the_end_of_the_drains_time_cuts_off_what_is_left() {
    for millis in ["0", "300"] {
        let Some(server) = Server::start(&["--drain-timeout-ms", millis]) else { return };
        let (mut busy, _) = half_sent(&server);
        server.signal(Signal::SIGTERM);
        let ended = server.wait();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(ended.stderr.contains("WARN server: the drain's time is over"), "{ended:?}");
        assert!(!ended.stderr.contains("every request was answered"), "{ended:?}");
        assert!(busy.try_reply().is_none(), "nothing was answered");
    }
}

#[test]
fn a_second_signal_leaves_at_once() {
    for (first, second) in [(Signal::SIGTERM, Signal::SIGTERM), (Signal::SIGINT, Signal::SIGTERM)] {
        let Some(server) = Server::start(&["--drain-timeout-ms", "600000"]) else { return };
        let mut witness = idle(&server);
        let (mut busy, _) = half_sent(&server);
        server.signal(first);
        assert!(witness.ends(), "the drain has begun");
        server.signal(second);
        let ended = server.wait();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(ended.stderr.contains("WARN server: second signal: leaving at once"), "{ended:?}");
        assert!(busy.try_reply().is_none());
    }
}

#[test]
fn a_drain_under_load_tears_no_reply() {
    let flags = ["--workers", "2", "--max-requests-per-connection", "1000000000"];
    let Some(server) = Server::start(&[&flags[..], &["--drain-timeout-ms", "600000"]].concat()) else {
        return;
    };
    assert_eq!(server.ask(Request::post("/api/keys", ORDERS)).status, 201);
    let replies = Arc::new(AtomicU64::new(0));
    let load: Vec<_> = (0..8)
        .map(|_| {
            let (replies, mut client) = (Arc::clone(&replies), server.connect());
            let request = Request::post("/api/encrypt", SEAL).key(server.key()).bytes();
            std::thread::spawn(move || {
                // `try_reply` fails inside a reply, and tells of an end between two.
                while client.try_send(&request).is_ok() {
                    let Some(reply) = client.try_reply() else { return };
                    assert_eq!(reply.status, 200, "{reply:?}");
                    replies.fetch_add(1, Ordering::Relaxed);
                    if reply.closes() {
                        assert!(client.ends(), "nothing comes after the last reply");
                        return;
                    }
                }
            })
        })
        .collect();
    while replies.load(Ordering::Relaxed) < 500 {
        assert!(load.iter().all(|client| !client.is_finished()), "a client failed");
        std::thread::yield_now();
    }
    let ended = server.stop();
    for client in load {
        client.join().unwrap();
    }
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stderr.contains("drained"), "{ended:?}");
}

#[test]
fn the_address_and_the_directory_are_free_for_the_next_start() {
    let scratch = Scratch::new();
    let address = free_address().to_string();
    let Some(server) = Server::start_in(&scratch, &["--listen", &address]) else { return };
    let key = server.key().to_owned();
    // The server closes first, so that its side is the one that waits out the connection.
    let mut clients: Vec<Client> = (0..8).map(|_| idle(&server)).collect();
    assert_eq!(server.stop().code, Some(0));
    assert!(clients.iter_mut().all(Client::ends));
    let Some(next) = Server::start_in(&scratch, &["--listen", &address]) else { return };
    assert_eq!(next.address().to_string(), address);
    assert_eq!(next.key(), key, "the admin key outlives the process");
    assert_eq!(next.ask(Request::post("/api/keys", ORDERS)).status, 201);
    let ended = next.stop();
    assert_eq!(ended.code, Some(0));
    assert!(!ended.stdout.contains(&key), "it is shown on the first start only");
}

/// Fails unless a start on `data_dir` is refused with 78, one line that ends in an answer, and no word on standard output.
fn refuse(data_dir: &Path, flags: &[&str], answer: &str) {
    let Some(binary) = server::binary() else { return };
    let mut command = Command::new(binary);
    command.args(["serve", "--dev", "--listen", "127.0.0.1:0", "--data-dir"]).arg(data_dir).args(flags);
    let output = command.env_clear().stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(78), "{answer}: {said}");
    assert!(said.contains(answer), "{answer}: {said}");
    assert_eq!(output.stdout, b"", "nothing is announced");
}

#[test]
fn a_second_server_on_a_data_directory_is_refused() {
    let Some(server) = Server::start(&[]) else { return };
    refuse(
        &server.data_dir(),
        &[],
        "is in use by another quantonium; stop that one or give another --data-dir",
    );
    assert_eq!(server.call(&Request::get("/api/health")).status, 200, "the first one does not care");
    assert_eq!(server.stop().code, Some(0));
}

#[test]
fn a_port_in_use_is_refused_with_its_address() {
    let Some(binary) = server::binary() else { return };
    let others = TcpListener::bind("127.0.0.1:0").unwrap();
    let strangers = others.local_addr().unwrap();
    let Some(server) = Server::start(&[]) else { return };
    for address in [strangers, server.address()] {
        let scratch = Scratch::new();
        let mut command = Command::new(&binary);
        command
            .args(["serve", "--dev", "--listen", &address.to_string(), "--data-dir"])
            .arg(scratch.data_dir());
        let output = command.env_clear().output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(78), "{said}");
        assert!(said.contains(&format!("cannot listen on {address}: ")), "{said}");
        assert!(said.contains("another program listens there"), "{said}");
        assert_eq!(output.stdout, b"");
    }
}

#[test]
fn data_directories_that_are_not_for_the_server_alone_are_refused_with_what_to_do() {
    let scratch = Scratch::new();
    let Some(server) = Server::start_in(&scratch, &[]) else { return };
    assert_eq!(server.stop().code, Some(0));
    let data_dir = scratch.data_dir();
    let set_mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    for (name, wrong, right) in
        [("", 0o750, 0o700), ("audit", 0o701, 0o700), ("master.key", 0o644, 0o600), ("journal", 0o640, 0o600)]
    {
        let path = if name.is_empty() { data_dir.clone() } else { data_dir.join(name) };
        set_mode(&path, wrong);
        refuse(
            &data_dir,
            &[],
            &format!("it has to be for its owner only; run: chmod {right:o} {}", path.display()),
        );
        set_mode(&path, right);
    }
    let key = fs::read(data_dir.join("master.key")).unwrap();
    fs::write(data_dir.join("master.key"), "short\n").unwrap();
    refuse(&data_dir, &[], "does not hold a master key");
    fs::write(data_dir.join("master.key"), key).unwrap();
    fs::write(scratch.path("file"), "").unwrap();
    refuse(&scratch.path("file"), &[], "is not a directory; move it away");
    refuse(&scratch.path("missing/data"), &[], "the directory around it is missing; create it: mkdir -p");
    symlink(&data_dir, scratch.path("link")).unwrap();
    refuse(&scratch.path("link"), &[], "is a symbolic link");
    let Some(server) = Server::start_in(&scratch, &[]) else { return };
    assert_eq!(server.stop().code, Some(0), "nothing of that was left behind");
}

#[test]
fn a_data_directory_of_someone_else_is_refused_with_the_line_to_run() {
    if !nix::unistd::geteuid().is_root() {
        return skip("it needs root, to give a directory away");
    }
    let scratch = Scratch::new();
    let Some(server) = Server::start_in(&scratch, &[]) else { return };
    assert_eq!(server.stop().code, Some(0));
    chown(scratch.data_dir(), Some(4321), None).unwrap();
    let line = format!("hand it over: chown -R 1001:1001 {}", scratch.data_dir().display());
    refuse(&scratch.data_dir(), &[], &line);
}

#[test]
fn plain_http_leaves_this_machine_only_when_told_to() {
    let scratch = Scratch::new();
    refuse(&scratch.data_dir(), &["--listen", "0.0.0.0:0"], "0.0.0.0:0 is not a loopback address");
    assert!(!scratch.data_dir().exists(), "a refused configuration creates nothing");
    let flags = ["--listen", "0.0.0.0:0", "--insecure-http"];
    let Some(server) = Server::start_in(&scratch, &flags) else { return };
    let ended = server.stop();
    assert_eq!(ended.code, Some(0));
    assert!(
        ended.stderr.contains("WARN network: 0.0.0.0:0: credentials and plaintexts cross the network"),
        "{ended:?}"
    );
}

#[test]
fn a_secret_in_the_environment_is_refused_unprinted() {
    let Some(binary) = server::binary() else { return };
    let scratch = Scratch::new();
    for name in ["QUANTONIUM_ADMIN_KEY", "QUANTONIUM_MASTER_KEY"] {
        let mut command = Command::new(&binary);
        command.args(["serve", "--data-dir"]).arg(scratch.data_dir()).env_clear().env(name, "hunter2");
        let output = command.output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(78), "{said}");
        assert!(
            said.contains(&format!("set {name}_FILE to its path")) && !said.contains("hunter2"),
            "{said}"
        );
        assert!(!scratch.data_dir().exists(), "{name}");
    }
}
