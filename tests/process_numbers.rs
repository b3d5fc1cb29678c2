//! Servers of `quantonium supervise` in process numbers of their own: what they are, whom they see, and how they end.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by a panic, its helping functions too"
)]

#[path = "support/server.rs"]
mod server;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use quantonium::limits::IDENTITY_DEFAULT_NUMBER;
use server::client::{Request, comes_true};
use server::{Scratch, Server, skip};

/// The user that stands for an ordinary one.
const ORDINARY: u32 = IDENTITY_DEFAULT_NUMBER;

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// A supervisor with these flags, as root or as an ordinary user.
fn command(binary: &Path, scratch: &Arc<Scratch>, user: u32, flags: &[&str]) -> Command {
    // The binary may lie where others cannot go.
    let copy = scratch.path("quantonium");
    server::copy_program(binary, &copy);
    if user != 0 {
        chown(scratch.path(""), Some(user), Some(user)).unwrap();
    }
    let mut command = Command::new(copy);
    command.args(["supervise", "--dev", "--data-dir"]).arg(scratch.data_dir()).args(flags);
    if !flags.contains(&"--listen") {
        command.args(["--listen", "127.0.0.1:0"]);
    }
    server::read_by_people(command.env_clear());
    command.current_dir("/").uid(user).gid(user);
    command
}

fn supervised(user: u32, flags: &[&str]) -> Option<Server> {
    if !is_root() {
        skip("it needs root, to look at processes that are not dumpable");
        return None;
    }
    let scratch = Scratch::new();
    let mut command = command(&server::binary()?, &scratch, user, flags);
    let told = UnixDatagram::bind(scratch.path("notify")).unwrap();
    fs::set_permissions(scratch.path("notify"), fs::Permissions::from_mode(0o777)).unwrap();
    command.env("NOTIFY_SOCKET", scratch.path("notify"));
    let server = Server::spawn(command, &scratch, 1);
    // The server says that it serves before its supervisor knows.
    let mut message = [0; 256];
    let length = told.recv(&mut message).unwrap();
    assert!(message[..length].starts_with(b"READY=1\n"));
    Some(server)
}

/// The servers that a supervisor has now.
fn servers(supervisor: u32) -> Vec<u32> {
    let children = fs::read_to_string(format!("/proc/{supervisor}/task/{supervisor}/children")).unwrap();
    children.split_whitespace().map(|number| number.parse().unwrap()).collect()
}

fn namespace(process: u32) -> PathBuf {
    fs::read_link(format!("/proc/{process}/ns/pid")).unwrap()
}

/// The process's numbers, the host's first.
fn numbers(process: u32) -> Vec<String> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap();
    line.split_whitespace().map(str::to_owned).collect()
}

/// Waits until a process is gone; a test that waits in vain is ended from outside.
fn until_gone(process: u32) {
    while fs::read_to_string(format!("/proc/{process}/stat")).is_ok_and(|stat| !stat.contains(") Z ")) {
        std::thread::yield_now();
    }
}

fn assert_serves(server: &Server) {
    assert_eq!(server.ask(Request::get("/api/keys")).status, 200);
}

#[test]
fn a_supervised_server_is_strict_without_exceptions_and_the_first_of_its_numbers() {
    let Some(supervisor) = supervised(0, &["--sandbox", "strict"]) else { return };
    let [server] = servers(supervisor.pid())[..] else { panic!("one server") };
    assert_ne!(namespace(server), namespace(supervisor.pid()));
    assert_eq!(numbers(server), [server.to_string(), "1".to_owned()]);
    assert_serves(&supervisor);
    // What is in there sees nobody outside, not even to signal it.
    let inside = |words: &str| {
        let mut command = Command::new("nsenter");
        command.args([&format!("--target={server}"), "--pid", "sh", "-c", words]);
        command.output().unwrap()
    };
    assert!(inside("kill -0 1").status.success(), "the server is there");
    for other in [supervisor.pid(), std::process::id()] {
        let refused = inside(&format!("kill -0 {other}"));
        assert!(String::from_utf8_lossy(&refused.stderr).contains("No such process"), "{refused:?}");
    }
    supervisor.signal(Signal::SIGHUP);
    assert_serves(&supervisor);
    let ended = supervisor.stop();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for said in ["sandbox: pid-namespace: done", "SIGHUP: there is nothing to reload", "drained: "] {
        assert!(ended.stderr.contains(said), "no {said:?} in {}", ended.stderr);
    }
}

#[test]
fn a_successor_gets_process_numbers_that_no_server_had() {
    let Some(supervisor) = supervised(0, &[]) else { return };
    let first = servers(supervisor.pid())[0];
    let (of_first, own) = (namespace(first), namespace(supervisor.pid()));
    supervisor.signal(Signal::SIGUSR2);
    until_gone(first);
    assert_serves(&supervisor);
    // One that has ended stays a child until its supervisor has asked how.
    assert!(comes_true(|| !servers(supervisor.pid()).contains(&first)), "the first one is never forgotten");
    let [second] = servers(supervisor.pid())[..] else { panic!("one server") };
    assert!(namespace(second) != of_first && namespace(second) != own);
    assert_eq!(numbers(second)[1], "1");
    assert_eq!(namespace(supervisor.pid()), own);
    let ended = supervisor.stop();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.stderr.matches("sandbox: pid-namespace: done").count(), 2, "{ended:?}");
}

#[test]
fn a_server_ends_with_its_supervisor() {
    let Some(supervisor) = supervised(0, &[]) else { return };
    let scratch = Arc::clone(supervisor.scratch());
    let server = servers(supervisor.pid())[0];
    supervisor.signal(Signal::SIGKILL);
    let ended = supervisor.wait();
    assert_eq!(ended.signal, Some(Signal::SIGKILL as i32), "{ended:?}");
    // Its standard error was open until the server had ended, too.
    assert!(ended.stderr.contains("draining: its supervisor has ended"), "{ended:?}");
    assert!(ended.stderr.contains("drained: every request was answered"), "{ended:?}");
    until_gone(server);
    let next = Server::start_in(&scratch, &[]).unwrap();
    assert_serves(&next);
    assert_eq!(next.stop().code, Some(0));
}

/// A server whose store another one holds, with its supervisor, which gets `signal` while it waits; returns how the supervisor ended, and
/// what both said from then on.
fn end_while_it_waits(signal: Signal) -> Option<(ExitStatus, Vec<String>)> {
    let binary = server::binary()?;
    if !is_root() {
        skip("it needs root, for process numbers of its own");
        return None;
    }
    let scratch = Scratch::new();
    let holder = Server::start_in(&scratch, &[]).unwrap();
    let mut command = command(&binary, &scratch, 0, &[]);
    let mut supervisor = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(supervisor.stderr.take().unwrap()).lines().map(Result::unwrap);
    let waits = lines.any(|line| line.contains("waiting until another process has left"));
    assert!(waits, "it waits for the store");
    let server = servers(supervisor.id())[0];
    assert_eq!(numbers(server)[1], "1");
    kill(Pid::from_raw(supervisor.id().cast_signed()), signal).unwrap();
    let ended = supervisor.wait().unwrap();
    // Until the server, too, has closed the stream.
    let said = lines.collect();
    until_gone(server);
    assert_serves(&holder);
    assert_eq!(holder.stop().code, Some(0));
    Some((ended, said))
}

#[test]
fn a_stop_during_the_start_ends_a_first_process_too_and_is_no_failure() {
    let Some((ended, said)) = end_while_it_waits(Signal::SIGTERM) else { return };
    assert_eq!(ended.code(), Some(0), "{said:?}");
    let told =
        said.iter().any(|line| line.contains("supervise: the server was told to end before it served"));
    assert!(told, "{said:?}");
}

#[test]
fn a_server_that_waits_for_the_store_ends_with_its_supervisor() {
    let Some((ended, said)) = end_while_it_waits(Signal::SIGKILL) else { return };
    assert_eq!(ended.signal(), Some(Signal::SIGKILL as i32));
    let told = said.iter().any(|line| line.contains("its supervisor has ended: this server does not start"));
    assert!(told, "{said:?}");
}

#[test]
fn what_a_service_manager_ends_a_hung_server_with_ends_a_first_process_too() {
    for signal in [Signal::SIGABRT, Signal::SIGQUIT] {
        let Some(supervisor) = supervised(0, &[]) else { return };
        let [server] = servers(supervisor.pid())[..] else { panic!("one server") };
        kill(Pid::from_raw(server.cast_signed()), signal).unwrap();
        until_gone(server);
    }
}

#[test]
fn an_ordinary_supervisor_takes_them_in_a_user_namespace() {
    let Some(supervisor) = supervised(ORDINARY, &[]) else { return };
    let server = servers(supervisor.pid())[0];
    assert_serves(&supervisor);
    let own = namespace(server) != namespace(supervisor.pid());
    let first = numbers(server).last().unwrap() == "1";
    let ended = supervisor.stop();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let may = ended.stderr.contains("supervise: pid-namespace of servers: done");
    assert_eq!((own, first), (may, may), "{ended:?}");
    if may {
        assert!(ended.stderr.contains("sandbox: user-namespace: done"), "{ended:?}");
        assert!(ended.stderr.contains("sandbox: pid-namespace: done"), "{ended:?}");
    } else {
        skip(&format!("ordinary users have no user namespaces here: {}", ended.stderr));
    }
}

#[test]
fn users_at_a_unix_socket_keep_their_names() {
    let path = std::env::temp_dir().join(format!("quantonium-numbers-{}", std::process::id()));
    let socket = format!("127.0.0.1:0,unix:{}", path.display());
    let Some(supervisor) = supervised(ORDINARY, &["--listen", &socket]) else { return };
    assert_serves(&supervisor);
    let ended = supervisor.stop();
    let _ = fs::remove_file(path);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for said in [
        "supervise: pid-namespace of servers: skipped (users who ask at a Unix socket would have no names in it)",
        "sandbox: pid-namespace: skipped (its supervisor could take none: its log says why)",
    ] {
        assert!(ended.stderr.contains(said), "no {said:?} in {}", ended.stderr);
    }
}
