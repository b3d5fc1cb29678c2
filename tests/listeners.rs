//! Where the server is asked beside addresses of its own: Unix sockets, sockets that another process has opened; what it
//! tells a service manager; and how one server follows another without a failed request.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic, its helping functions too")]

#[path = "listeners/inherited.rs"]
mod inherited;
#[path = "support/server.rs"]
mod server;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::time::TimeValLike as _;
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;
use quantonium::limits::FIRST_REQUEST_GRACE_MILLIS;
use server::client::{Client, Request, comes_true};
use server::{Ended, Scratch, Server, binary, copy_program, program};

/// Far longer than anything takes: only silence reaches it.
const SILENCE: Duration = Duration::from_secs(120);

/// Sends a request that ends its connection, and reads the reply.
fn ask(mut stream: impl std::io::Read + std::io::Write, fields: &str) -> String {
    write!(stream, "GET /api/keys HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{fields}\r\n").unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    reply
}

fn ask_unix(path: &Path, fields: &str) -> String {
    let stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(SILENCE)).unwrap();
    ask(stream, fields)
}

fn with_key(server: &Server) -> String {
    format!("X-API-Key: {}\r\n", server.key())
}

fn refused(scratch: &Arc<Scratch>, listen: &str) -> Option<String> {
    let ended: Ended = Server::try_start_in(scratch, &["--listen", listen])?.unwrap_err();
    assert_eq!(ended.code, Some(78), "{ended:?}");
    Some(ended.stderr)
}

#[test]
fn a_unix_socket_serves_whom_its_mode_lets_in() {
    let scratch = Scratch::new();
    let path = scratch.path("q.sock");
    let listen = format!("127.0.0.1:0,unix:{}", path.display());
    let flags = ["--listen", &listen, "--unix-mode", "620", "--workers", "3"];
    let Some(server) = Server::start_in(&scratch, &flags) else { return };
    let found = fs::metadata(&path).unwrap();
    assert!(found.file_type().is_socket());
    assert_eq!(found.permissions().mode() & 0o777, 0o620);
    assert_eq!(
        found.uid(),
        fs::metadata(server.data_dir()).unwrap().uid(),
        "it belongs to the server's user"
    );
    for _ in 0..20 {
        assert!(ask_unix(&path, &with_key(&server)).starts_with("HTTP/1.1 200 "));
    }
    assert!(ask_unix(&path, "").starts_with("HTTP/1.1 401 "));
    assert_eq!(server.stop().code, Some(0));
}

#[test]
fn a_silent_connection_takes_no_place_while_the_kernel_holds_it_back() {
    let flags = ["--max-connections-per-address", "1", "--workers", "1", "--defer-accept-seconds"];
    let beside_a_silent_one = |seconds: &str| {
        let server = Server::start(&[&flags[..], &[seconds]].concat())?;
        let silent = TcpStream::connect(server.address()).unwrap();
        let second = TcpStream::connect(server.address()).unwrap();
        second.set_read_timeout(Some(SILENCE)).unwrap();
        Some((server, silent, second))
    };
    let Some((server, silent, speaking)) = beside_a_silent_one("60") else { return };
    assert!(ask(speaking, &with_key(&server)).starts_with("HTTP/1.1 200 "));
    drop(silent);
    assert_eq!(server.stop().code, Some(0));
    // Taken at once, the silent one holds the only place, and the next is refused before it has said anything.
    let Some((server, silent, mut second)) = beside_a_silent_one("0") else { return };
    let mut told = String::new();
    second.read_to_string(&mut told).unwrap();
    assert!(told.starts_with("HTTP/1.1 503 "), "{told}");
    drop(silent);
    assert_eq!(server.stop().code, Some(0));
}

#[test]
fn commands_ask_at_a_unix_socket_as_they_do_at_an_address() {
    let scratch = Scratch::new();
    let path = scratch.path("q.sock");
    let listen = format!("127.0.0.1:0,unix:{}", path.display());
    let Some(server) = Server::start_in(&scratch, &["--listen", &listen, "--unix-mode", "666"]) else {
        return;
    };
    let url = format!("unix:{}", path.display());
    let run = |words: &[&str]| {
        let output = Command::new(binary().unwrap()).args(words).env_clear().output().unwrap();
        (output.status.code(), [output.stdout, output.stderr].concat())
    };
    // It gives a server three seconds, in which a machine may have something else to do.
    assert!(comes_true(|| run(&["healthcheck", "--url", &url]) == (Some(0), Vec::new())));
    let key = server.data_dir().join("admin.key");
    let (code, said) = run(&["apikey", "list", "--server", &url, "--api-key-file", key.to_str().unwrap()]);
    let said = String::from_utf8(said).unwrap();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("admin") && !said.contains("warning"), "{said}");
    let (code, said) = run(&["healthcheck", "--url", &format!("{url}.none")]);
    assert!(code == Some(1) && String::from_utf8(said).unwrap().contains("q.sock.none"), "nobody is there");
    assert_eq!(server.stop().code, Some(0));
}

#[test]
fn a_local_process_is_known_by_its_user_and_a_proxy_by_what_it_says() {
    let scratch = Scratch::new();
    let path = scratch.path("q.sock");
    let listen = format!("127.0.0.1:0,unix:{}", path.display());
    let Some(server) = Server::start_in(&scratch, &["--listen", &listen]) else { return };
    let user = nix::unistd::geteuid();
    let body = format!(r#"{{"name":"me","scopes":["keys.read:*"],"identities":["unix-user:{user}"]}}"#);
    assert_eq!(server.ask(Request::post("/api/auth/keys", body)).status, 201);
    assert!(ask_unix(&path, "").starts_with("HTTP/1.1 200 "));
    assert_eq!(server.call(&Request::get("/api/keys")).status, 401, "an address proves nobody");
    assert_eq!(server.stop().code, Some(0));

    let Some(server) = Server::start_in(&scratch, &["--listen", &listen, "--trusted-proxy", "unix"]) else {
        return;
    };
    assert!(ask_unix(&path, "").starts_with("HTTP/1.1 401 "), "a proxy is nobody");
    let said = format!("{}X-Forwarded-For: 192.0.2.7\r\n", with_key(&server));
    assert!(ask_unix(&path, &said).starts_with("HTTP/1.1 200 "));
    assert_eq!(server.stop().code, Some(0));
    let files = fs::read_dir(scratch.data_dir().join("audit")).unwrap();
    let lines: String = files.map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap()).collect();
    assert_eq!(lines.matches("\"remote\":\"192.0.2.7\"").count(), 1, "{lines}");
}

#[test]
fn local_connections_are_not_bounded_by_their_common_address() {
    let scratch = Scratch::new();
    let path = scratch.path("q.sock");
    let listen = format!("127.0.0.1:0,unix:{}", path.display());
    let flags = ["--listen", &listen, "--max-connections-per-address", "1"];
    let Some(server) = Server::start_in(&scratch, &flags) else { return };
    let held: Vec<UnixStream> = (0..5).map(|_| UnixStream::connect(&path).unwrap()).collect();
    assert!(ask_unix(&path, &with_key(&server)).starts_with("HTTP/1.1 200 "));
    drop(held);
    assert_eq!(server.stop().code, Some(0));
}

#[test]
fn only_the_name_of_an_ended_server_is_taken_over() {
    let scratch = Scratch::new();
    let path = scratch.path("q.sock");
    let listen = format!("127.0.0.1:0,unix:{}", path.display());
    let Some(server) = Server::start_in(&scratch, &["--listen", &listen]) else { return };
    assert_eq!(server.stop().code, Some(0));
    assert!(path.exists(), "a server that is locked in removes no name");
    let server = Server::start_in(&scratch, &["--listen", &listen]).unwrap();
    assert!(ask_unix(&path, &with_key(&server)).starts_with("HTTP/1.1 200 "));
    let ended = server.stop();
    assert!(ended.stderr.contains("removed the name that an earlier server left"), "{ended:?}");

    fs::remove_file(&path).unwrap();
    let other = UnixListener::bind(&path).unwrap();
    let said = refused(&scratch, &listen).unwrap();
    assert!(said.contains("another program listens there") && said.contains("q.sock"), "{said}");
    drop(other);

    fs::remove_file(&path).unwrap();
    fs::write(&path, "not yours").unwrap();
    let said = refused(&scratch, &listen).unwrap();
    assert!(said.contains("there is a file that is no socket"), "{said}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "not yours");

    let said = refused(&scratch, &format!("unix:{}", scratch.path("none/q.sock").display())).unwrap();
    assert!(said.contains("its directory does not exist"), "{said}");
}

/// A service manager's end of `NOTIFY_SOCKET`.
struct Told(UnixDatagram);

impl Told {
    fn bind(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
        socket.set_read_timeout(Some(SILENCE)).unwrap();
        Self(socket)
    }

    fn next(&self) -> String {
        let mut message = [0; 1024];
        let length = self.0.recv(&mut message).unwrap();
        String::from_utf8(message.get(..length).unwrap().to_vec()).unwrap()
    }
}

#[test]
fn a_service_manager_is_told_of_readiness_reload_life_and_end() {
    let scratch = Scratch::new();
    let Some(mut command) = program() else { return };
    let path = scratch.path("notify");
    let told = Told::bind(&path);
    command.args(["serve", "--dev", "--listen", "127.0.0.1:0", "--data-dir"]).arg(scratch.data_dir());
    command.env_clear().env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "4000000");
    let server = Server::spawn(command, &scratch, 1);
    let ready = format!("READY=1\nSTATUS=serving\nMAINPID={}", server.pid());
    assert_eq!(told.next(), ready);
    // An idle server moves too: nobody asks anything of it here.
    for _ in 0..2 {
        assert_eq!(told.next(), "WATCHDOG=1");
    }
    server.signal(Signal::SIGHUP);
    let mut said = told.next();
    while said == "WATCHDOG=1" {
        said = told.next();
    }
    assert!(said.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{said}");
    assert_eq!(told.next(), ready);
    assert_eq!(server.stop().code, Some(0));
    let mut said = told.next();
    while said == "WATCHDOG=1" {
        said = told.next();
    }
    assert!(said.starts_with("STOPPING=1\n"), "{said}");
}

#[test]
fn a_start_waits_for_the_store_if_it_is_told_to() {
    let scratch = Scratch::new();
    let Some(first) = Server::start_in(&scratch, &[]) else { return };
    let second = std::thread::spawn({
        let scratch = Arc::clone(&scratch);
        move || Server::start_in(&scratch, &["--wait-for-store", "60"]).unwrap()
    });
    assert_eq!(first.ask(Request::get("/api/keys")).status, 200);
    assert_eq!(first.stop().code, Some(0));
    let second = second.join().unwrap();
    assert_eq!(second.ask(Request::get("/api/keys")).status, 200);
    assert_eq!(second.stop().code, Some(0));
}

/// `supervise` on a free port, which tells `told`.
fn supervised(scratch: &Arc<Scratch>, flags: &[&str]) -> Option<(Server, Told)> {
    let (server, told, _) = supervised_by(&binary()?, scratch, flags);
    Some((server, told))
}

/// The same with `program` as supervisor, in a process group of its own; with the process that serves.
fn supervised_by(program: &Path, scratch: &Arc<Scratch>, flags: &[&str]) -> (Server, Told, Pid) {
    let path = scratch.path("notify");
    let mut command = Command::new(program);
    command
        .args(["supervise", "--", "--dev", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(scratch.data_dir());
    command.args(flags).env_clear().env("NOTIFY_SOCKET", &path).process_group(0);
    let told = Told::bind(&path);
    let server = Server::spawn(command, scratch, 1);
    let said = told.next();
    let number = said.strip_prefix("READY=1\nSTATUS=server ").and_then(|rest| rest.split(' ').next());
    let serving = Pid::from_raw(number.unwrap().parse().unwrap());
    (server, told, serving)
}

/// A connection with a request in flight whose head the server has taken, and the rest of its body.
fn half_sent(server: &Server) -> (Client, &'static [u8]) {
    let body = br#"{"name":"orders"}"#;
    let mut client = server.connect();
    let head = format!(
        "POST /api/keys HTTP/1.1\r\nHost: a\r\n{}Content-Length: {}\r\nExpect: 100-continue\r\n\r\n",
        with_key(server),
        body.len()
    );
    client.send(head.as_bytes());
    assert_eq!(client.reply().status, 100);
    let (first, rest) = body.split_at(body.len() / 2);
    client.send(first);
    (client, rest)
}

#[test]
fn a_signal_for_every_process_of_a_unit_lets_a_request_in_flight_end() {
    let scratch = Scratch::new();
    let Some(binary) = binary() else { return };
    let flags = ["--workers", "1", "--drain-timeout-ms", "600000"];
    let (server, told, serving) = supervised_by(&binary, &scratch, &flags);
    let mut witness = server.connect();
    assert_eq!(witness.call(&Request::get("/api/health")).status, 200);
    let (mut busy, rest) = half_sent(&server);
    // A service manager signals every process that it finds, in any order; a terminal signals the group.
    kill(serving, Signal::SIGTERM).unwrap();
    assert!(witness.ends(), "the drain has begun");
    killpg(Pid::from_raw(server.pid().cast_signed()), Signal::SIGTERM).unwrap();
    assert!(told.next().starts_with("STOPPING=1\n"));
    kill(serving, Signal::SIGINT).unwrap();
    busy.send(rest);
    assert_eq!(busy.reply().status, 201);
    let ended = server.wait();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stderr.contains("drained: every request was answered"), "{ended:?}");
    assert!(!ended.stderr.contains("second signal"), "{ended:?}");
}

#[test]
fn a_supervisors_second_signal_leaves_at_once() {
    let scratch = Scratch::new();
    let Some(binary) = binary() else { return };
    let flags = ["--workers", "1", "--drain-timeout-ms", "600000"];
    let (server, told, _) = supervised_by(&binary, &scratch, &flags);
    let mut witness = server.connect();
    assert_eq!(witness.call(&Request::get("/api/health")).status, 200);
    let (mut busy, _) = half_sent(&server);
    server.signal(Signal::SIGTERM);
    assert!(told.next().starts_with("STOPPING=1\n"));
    assert!(witness.ends(), "the drain has begun");
    server.signal(Signal::SIGINT);
    let ended = server.wait();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stderr.contains("second signal: leaving at once"), "{ended:?}");
    assert!(busy.try_reply().is_none(), "nothing was answered");
}

#[test]
fn a_reload_is_told_through_the_supervisor_and_not_while_it_ends() {
    let scratch = Scratch::new();
    let Some((server, told)) = supervised(&scratch, &["--drain-timeout-ms", "600000"]) else { return };
    let micros = || clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap().num_microseconds();
    let before = micros();
    server.signal(Signal::SIGHUP);
    let said = told.next();
    let at = said.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
    assert!((before..=micros()).contains(&at.parse().unwrap()), "{said}: on the clock of the system");
    let ready = told.next();
    assert!(ready.starts_with("READY=1\n") && ready.ends_with(&server.pid().to_string()), "{ready}");
    let (mut busy, rest) = half_sent(&server);
    server.signal(Signal::SIGTERM);
    assert!(told.next().starts_with("STOPPING=1\n"));
    server.signal(Signal::SIGHUP);
    busy.send(rest);
    assert_eq!(busy.reply().status, 201);
    assert_eq!(server.wait().code, Some(0));
    told.0.set_nonblocking(true).unwrap();
    assert!(told.0.recv(&mut [0; 1024]).is_err(), "nothing more was said");
}

#[test]
fn a_successor_is_the_program_that_stands_there_now() {
    let scratch = Scratch::new();
    let Some(binary) = binary() else { return };
    let (program, newer) = (scratch.path("quantonium"), scratch.path("newer"));
    copy_program(&binary, &program);
    let (server, told, _) = supervised_by(&program, &scratch, &["--workers", "1"]);

    let (script, mark) = (scratch.path("script"), scratch.path("mark"));
    let text = format!("#!/bin/sh\n: > '{}'\nexec '{}' \"$@\"\n", mark.display(), binary.display());
    fs::write(&script, text).unwrap();
    copy_program(&script, &newer);
    fs::rename(&newer, &program).unwrap();
    server.signal(Signal::SIGUSR2);
    assert!(told.next().starts_with("READY=1\n"));
    assert!(mark.exists(), "the old program was started");
    assert_eq!(server.ask(Request::get("/api/keys")).status, 200);

    // Without any, the one that runs follows itself.
    fs::remove_file(&program).unwrap();
    server.signal(Signal::SIGUSR2);
    assert!(told.next().starts_with("READY=1\n"));
    assert_eq!(server.ask(Request::get("/api/keys")).status, 200);
    let ended = server.stop();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.stderr.matches(" is gone: ").count(), 1, "{ended:?}");
    let named = format!(" is quantonium {} (", env!("CARGO_PKG_VERSION"));
    assert_eq!(ended.stderr.matches(&named).count(), 3, "{ended:?}");
}

/// Whether a client was held up between its connection and its request for longer than a server waits that drains: then
/// it is not the server that failed it.
fn is_late(begin: Instant) -> bool {
    begin.elapsed() >= Duration::from_millis(FIRST_REQUEST_GRACE_MILLIS)
}

/// One request on a connection of its own, with the request sent as soon as it is open. Nothing if it was sent late.
fn fresh(address: SocketAddr) -> Result<bool, String> {
    let begin = Instant::now();
    let mut stream = TcpStream::connect(address).map_err(|error| error.to_string())?;
    stream.set_read_timeout(Some(SILENCE)).unwrap();
    let request = b"GET /api/health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let sent = stream.write_all(request);
    let late = is_late(begin);
    let mut reply = String::new();
    let served = sent.and_then(|()| stream.read_to_string(&mut reply));
    match served.map_err(|error| error.to_string()) {
        Ok(_) if reply.starts_with("HTTP/1.1 200 ") => Ok(true),
        _ if late => Ok(false),
        Ok(_) => Err(reply),
        Err(error) => Err(error),
    }
}

#[test]
fn five_restarts_under_load_fail_no_request() {
    let scratch = Scratch::new();
    let flags = ["--workers", "2", "--max-connections-per-address", "0"];
    let Some((server, told)) = supervised(&scratch, &flags) else { return };
    let (done, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let address = server.address();
    let mut load = Vec::new();
    for kept in [false, false, true, true] {
        let (done, count) = (Arc::clone(&done), Arc::clone(&count));
        load.push(std::thread::spawn(move || {
            let request = Request::get("/api/health");
            let mut client = None;
            while !done.load(Ordering::Relaxed) {
                if kept {
                    // A connection that served before may end between two requests (RFC 9112, section 9.3.1).
                    let (used, begin) = (client.is_some(), Instant::now());
                    let mut one = client.take().unwrap_or_else(|| Client::connect(address));
                    let sent = one.try_send(&request.bytes());
                    let late = is_late(begin);
                    match sent.ok().and_then(|()| one.try_reply()) {
                        Some(reply) => {
                            assert_eq!(reply.status, 200);
                            client = Some(one).filter(|_| !reply.closes());
                        }
                        None => {
                            assert!(used || late, "a fresh connection was not served");
                            continue;
                        }
                    }
                } else if !fresh(address).unwrap_or_else(|error| panic!("a new connection failed: {error}")) {
                    continue;
                }
                count.fetch_add(1, Ordering::Relaxed);
            }
        }));
    }
    let wait_for_more = || {
        let before = count.load(Ordering::Relaxed);
        while count.load(Ordering::Relaxed) < before + 50 && load.iter().all(|one| !one.is_finished()) {
            std::thread::yield_now();
        }
    };
    for _ in 0..5 {
        wait_for_more();
        server.signal(Signal::SIGUSR2);
        assert!(told.next().starts_with("READY=1\n"));
    }
    wait_for_more();
    done.store(true, Ordering::Relaxed);
    for one in load {
        one.join().unwrap();
    }
    let ended = server.stop();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.stderr.matches("supervise: started server").count(), 6, "{}", ended.stderr);
}

#[test]
fn a_successor_that_fails_leaves_the_old_server_serving() {
    let scratch = Scratch::new();
    let config = scratch.path("settings.toml");
    fs::write(&config, "workers = 1\n").unwrap();
    let Some((server, told)) = supervised(&scratch, &["--config", config.to_str().unwrap()]) else { return };
    fs::write(&config, "workers = \"many\"\n").unwrap();
    server.signal(Signal::SIGUSR2);
    assert_eq!(told.next(), "STATUS=the successor ended before it served");
    assert_eq!(server.ask(Request::get("/api/keys")).status, 200);
    // Once the settings are right again another one may follow.
    fs::write(&config, "workers = 2\n").unwrap();
    server.signal(Signal::SIGUSR2);
    assert!(told.next().starts_with("READY=1\n"));
    assert_eq!(server.ask(Request::get("/api/keys")).status, 200);
    assert_eq!(server.stop().code, Some(0));
}

#[test]
fn a_server_that_cannot_start_ends_its_supervisor_with_its_code() {
    let scratch = Scratch::new();
    let Some(binary) = binary() else { return };
    let holder = Server::start_in(&scratch, &[]).unwrap();
    assert_eq!(holder.stop().code, Some(0));
    // The store is there, and its master key is not.
    fs::write(scratch.data_dir().join("master.key"), [7; 32]).unwrap();
    let mut command = Command::new(binary);
    command.args(["supervise", "--dev", "--listen", "127.0.0.1:0", "--data-dir"]).arg(scratch.data_dir());
    command.env_clear();
    let ended = Server::try_spawn(command, &scratch, 1).unwrap_err();
    assert_eq!(ended.code, Some(78), "{ended:?}");
}
