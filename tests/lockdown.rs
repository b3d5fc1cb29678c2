//! The live process as the kernel shows it: privileges, filters, limits, descriptors; and that it lives on through
//! starts, stops and signals.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by a panic, its helping functions too"
)]

#[path = "lockdown/others.rs"]
mod others;
#[path = "support/server.rs"]
mod server;

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use quantonium::limits;
use server::client::{Client, Request};
use server::{Scratch, Server, skip};

/// The user that a start as root becomes, and that stands for an ordinary user here.
const ORDINARY: u32 = limits::IDENTITY_DEFAULT_NUMBER;

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// The value of a line of a status file, its words one space apart.
fn line(status: &str, name: &str) -> String {
    let found = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let words: Vec<&str> =
        found.unwrap_or_else(|| panic!("no {name} in {status}")).split_whitespace().collect();
    words.join(" ")
}

/// The status of every thread.
fn threads(server: &Server) -> Vec<String> {
    let tasks = fs::read_dir(server.proc().join("task")).unwrap();
    tasks.map(|task| fs::read_to_string(task.unwrap().path().join("status")).unwrap()).collect()
}

/// Fails unless every thread has the ids, no capability, no way to get one, and a filter.
fn assert_locked_in(server: &Server, user: u32, group: u32, bounding_empty: bool) {
    for status in threads(server) {
        let four = |id: u32| format!("{id} {id} {id} {id}");
        assert_eq!(line(&status, "Uid"), four(user));
        assert_eq!(line(&status, "Gid"), four(group));
        for (name, value) in [("Seccomp", "2"), ("NoNewPrivs", "1")] {
            assert_eq!(line(&status, name), value, "{name}: {status}");
        }
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert_eq!(line(&status, set), "0000000000000000", "{set}");
        }
        if bounding_empty {
            assert_eq!(line(&status, "CapBnd"), "0000000000000000");
        }
    }
    let found = fs::read_to_string(server.proc().join("limits")).unwrap();
    for (limit, value) in
        [("Max core file size", ["0", "0", "bytes"]), ("Max processes", ["0", "0", "processes"])]
    {
        let line = found.lines().find_map(|line| line.strip_prefix(limit)).unwrap();
        assert_eq!(line.split_whitespace().collect::<Vec<_>>(), value, "{limit}");
    }
}

/// Encrypts and decrypts something: every part of the server takes part.
fn assert_serves(server: &Server) {
    let mut client = server.connect();
    let ask = |client: &mut Client, target: &str, body: &str| {
        client.call(&Request::post(target, body).key(server.key()))
    };
    let created = ask(&mut client, "/api/keys", "{\"name\":\"orders\"}");
    assert!([200, 201].contains(&created.status), "{created:?}");
    let sealed = ask(&mut client, "/api/encrypt", "{\"key\":\"orders\",\"plaintext\":\"aGVsbG8=\"}");
    assert_eq!(sealed.status, 200, "{sealed:?}");
    let body = format!("{{\"key\":\"orders\",\"ciphertext\":\"{}\"}}", sealed.member("ciphertext"));
    let opened = ask(&mut client, "/api/decrypt", &body);
    assert_eq!(opened.member("plaintext"), "aGVsbG8=");
}

/// A start as an ordinary user, who may be another than the test's.
fn start_as_ordinary_user() -> Option<Server> {
    if !is_root() {
        return Server::start(&[]);
    }
    let binary = server::binary()?;
    let scratch = Scratch::new();
    // The binary may lie where others cannot go.
    let copy = scratch.path("quantonium");
    server::copy_program(&binary, &copy);
    chown(scratch.path(""), Some(ORDINARY), Some(ORDINARY)).unwrap();
    let mut command = Command::new(copy);
    command.args(["serve", "--dev", "--listen", "127.0.0.1:0", "--data-dir"]).arg(scratch.data_dir());
    // Changing the user as root also drops every further group.
    command.env_clear().current_dir("/").uid(ORDINARY).gid(ORDINARY);
    Some(Server::spawn(command, &scratch, 1))
}

#[test]
fn every_thread_of_a_start_as_root_is_locked_in() {
    if !is_root() {
        return skip("it needs root, to see it given up");
    }
    let Some(server) = Server::start(&["--workers", "3"]) else { return };
    assert_eq!(threads(&server).len(), 3 + 3, "workers, keeper, archivist and main");
    assert_locked_in(&server, ORDINARY, ORDINARY, true);
    for status in threads(&server) {
        assert_eq!(line(&status, "Groups"), "");
    }
    assert_serves(&server);
    // Not only after the start: serving gives nothing back.
    assert_locked_in(&server, ORDINARY, ORDINARY, true);
    assert_eq!(server.stop().code, Some(0));
}

#[test]
fn a_configured_user_and_group_are_taken() {
    if !is_root() {
        return skip("it needs root, to become another user");
    }
    let Some(server) = Server::start(&["--user-id", "1234", "--group-id", "1235"]) else { return };
    assert_locked_in(&server, 1234, 1235, true);
    let found = fs::metadata(server.data_dir()).unwrap();
    assert_eq!((found.uid(), found.gid()), (1234, 1235));
    assert_serves(&server);
    assert_eq!(server.stop().code, Some(0));
}

#[test]
fn an_ordinary_user_is_locked_in_too_and_the_log_says_what_was_skipped() {
    let Some(server) = start_as_ordinary_user() else { return };
    let found = fs::metadata(server.data_dir()).unwrap();
    if is_root() {
        assert_eq!((found.uid(), found.gid()), (ORDINARY, ORDINARY));
    }
    assert_locked_in(&server, found.uid(), found.gid(), false);
    assert_serves(&server);
    let ended = server.stop();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    // Where the system lets it have a user namespace, it may do in there what root may.
    let set = if ended.stderr.contains("sandbox: user-namespace: done") {
        ["sandbox: bounding-set: done", "sandbox: securebits: done"]
    } else {
        [
            "sandbox: bounding-set: skipped (CAP_SETPCAP is absent)",
            "sandbox: securebits: skipped (CAP_SETPCAP is absent)",
        ]
    };
    for said in set.into_iter().chain([
        "sandbox: identity: not-needed (not started as root",
        "sandbox: self-check: done",
        "sandbox: every thread is locked in",
    ]) {
        assert!(ended.stderr.contains(said), "no {said:?} in {}", ended.stderr);
    }
}

/// Fails unless the server is in other namespaces than this process, and has an empty root that it cannot write.
fn assert_apart(server: &Server, namespaces: &[&str]) {
    for name in namespaces {
        let of = |proc: &Path| fs::read_link(proc.join("ns").join(name)).unwrap();
        assert_ne!(of(&server.proc()), of(Path::new("/proc/self")), "{name}");
    }
    let root: Vec<_> = fs::read_dir(server.proc().join("root")).unwrap().collect();
    assert!(root.is_empty(), "{root:?}");
    let above: Vec<_> = fs::read_dir(server.proc().join("root/..")).unwrap().collect();
    assert!(above.is_empty(), "{above:?}");
    let mounts = fs::read_to_string(server.proc().join("mountinfo")).unwrap();
    let mounts: Vec<&str> = mounts.lines().collect();
    // The root, and what lies over it so that it is not that of its mount namespace.
    assert_eq!(mounts.len(), 2, "{mounts:?}");
    for mount in mounts {
        let words: Vec<&str> = mount.split(' ').collect();
        assert_eq!(words[4], "/", "{mount}");
        assert_eq!(words[5], "ro,nosuid,nodev,noexec,relatime", "{mount}");
        assert!(mount.contains(" - tmpfs ") && mount.contains(" ro,size=4k,nr_inodes=1,mode=555"), "{mount}");
    }
    assert_ends(server, &[limits::FD_DATA_DIRECTORY_NUMBER, limits::FD_AUDIT_DIRECTORY_NUMBER]);
    let made = fs::write(server.proc().join("root/made"), "").unwrap_err();
    assert_eq!(made.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
}

/// Fails unless these directories, which the server holds open, lead nowhere by `..`.
fn assert_ends(server: &Server, numbers: &[i32]) {
    for number in numbers {
        let identity = |tail: &str| {
            let found = fs::metadata(server.proc().join(format!("fd/{number}{tail}"))).unwrap();
            assert!(found.is_dir());
            (found.dev(), found.ino())
        };
        assert_eq!(identity(""), identity("/.."), "{number}");
        assert_eq!(identity(""), identity("/../../.."), "{number}");
    }
}

/// What a start leaves that has CAP_SYS_ADMIN.
const OF_ROOT: [&str; 5] = ["mnt", "ipc", "uts", "net", "cgroup"];

#[test]
fn a_start_as_root_leaves_the_host() {
    if !is_root() {
        return skip("it needs root, to look at the root directory of another process");
    }
    let Some(server) = Server::start(&["--workers", "2"]) else { return };
    assert_apart(&server, &OF_ROOT);
    assert_serves(&server);
    let ended = server.stop();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stderr.contains("drained: every request was answered"), "{ended:?}");
    for said in
        ["sandbox: user-namespace: not-needed (CAP_SYS_ADMIN is there without it)", "sandbox: landlock: "]
    {
        assert!(ended.stderr.contains(said), "no {said:?} in {}", ended.stderr);
    }
}

#[test]
fn an_ordinary_user_leaves_the_host_by_a_namespace_of_its_own() {
    if !is_root() {
        return skip("it needs root, to look at the root directory of another process");
    }
    let Some(server) = start_as_ordinary_user() else { return };
    let map = fs::read_to_string(server.proc().join("uid_map")).unwrap();
    if map.split_whitespace().eq(["0", "0", "4294967295"]) {
        return skip(&format!("ordinary users have no user namespaces here: {}", server.stop().stderr));
    }
    assert_eq!(map.split_whitespace().collect::<Vec<_>>(), ["1001", "1001", "1"]);
    assert_eq!(fs::read_to_string(server.proc().join("setgroups")).unwrap(), "deny\n");
    assert_apart(&server, &OF_ROOT);
    assert_apart(&server, &["user"]);
    assert_locked_in(&server, ORDINARY, ORDINARY, true);
    assert_serves(&server);
    let ended = server.stop();
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

#[test]
fn a_start_as_root_of_a_namespace_without_privileges_leaves_it_too() {
    if !is_root() {
        return skip("it needs root, to become an ordinary user first");
    }
    let (Some(binary), scratch) = (server::binary(), Scratch::new()) else { return };
    let copy = scratch.path("quantonium");
    server::copy_program(&binary, &copy);
    chown(scratch.path(""), Some(ORDINARY), Some(ORDINARY)).unwrap();
    let mut unshare = Command::new("unshare");
    unshare.args(["--user", "--map-root-user"]).uid(ORDINARY).gid(ORDINARY).current_dir("/");
    if !unshare.arg("true").status().is_ok_and(|status| status.success()) {
        return skip("ordinary users have no user namespaces here");
    }
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user"]).arg(copy);
    command.args(["serve", "--dev", "--listen", "127.0.0.1:0", "--data-dir"]).arg(scratch.data_dir());
    command.current_dir("/").uid(ORDINARY).gid(ORDINARY);
    let server = Server::spawn(command, &scratch, 1);
    assert_apart(&server, &OF_ROOT);
    assert_apart(&server, &["user"]);
    // Only user 0 is there, which is the ordinary one outside.
    assert_locked_in(&server, ORDINARY, ORDINARY, true);
    assert_serves(&server);
    let ended = server.stop();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let said = "sandbox: identity: skipped (this user namespace has no id 1001, stays uid 0)";
    assert!(ended.stderr.contains(said), "no {said:?} in {}", ended.stderr);
}

#[test]
fn a_unix_socket_keeps_the_host_s_users_and_accepts_on() {
    if !is_root() {
        return skip("it needs root, to look at the root directory of another process");
    }
    let scratch = Scratch::new();
    let socket = scratch.path("socket");
    let listen = format!("127.0.0.1:0,unix:{}", socket.display());
    let Some(server) = Server::start_in(&scratch, &["--workers", "2", "--listen", &listen]) else { return };
    assert_apart(&server, &OF_ROOT);
    let mut stream = std::os::unix::net::UnixStream::connect(&socket).unwrap();
    stream.write_all(b"GET /api/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    assert!(reply.starts_with("HTTP/1.1 200 "), "{reply}");
    assert_serves(&server);
    assert_eq!(server.stop().code, Some(0));
}

#[test]
fn a_strict_start_serves_once_what_is_missing_is_accepted() {
    if !is_root() {
        return skip("it needs root, for the steps that a strict start misses else");
    }
    let scratch = Scratch::new();
    let Some(refused) = Server::try_start_in(&scratch, &["--sandbox", "strict"]) else { return };
    let refused = refused.unwrap_err();
    assert_eq!(refused.code, Some(78), "{refused:?}");
    let said = "sandbox: pid-namespace: missing (quantonium supervise or a container takes one)";
    assert!(refused.stderr.contains(said), "{refused:?}");
    assert!(refused.stderr.contains("--sandbox-allow-missing pid-namespace"), "{refused:?}");
    let flags = ["--sandbox", "strict", "--sandbox-allow-missing", "pid-namespace"];
    let Some(server) = Server::start_in(&scratch, &flags) else { return };
    assert_apart(&server, &OF_ROOT);
    assert_serves(&server);
    assert_eq!(server.stop().code, Some(0));
}

#[test]
fn nothing_is_opened_by_its_path_after_the_lock_down() {
    let Some(binary) = server::binary() else { return };
    let scratch = Scratch::new();
    let log = scratch.path("calls");
    let mut command = Command::new("strace");
    command.args(["-f", "-y", "-e", "trace=file,pivot_root", "-o"]).arg(&log).arg(binary);
    command
        .args(["serve", "--dev", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(scratch.data_dir())
        .env_clear();
    if !is_root() || Command::new("strace").arg("-V").output().is_err() {
        return skip("it needs strace, and root for what is given up");
    }
    let server = Server::spawn(command, &scratch, 1);
    assert_serves(&server);
    let served = Pid::from_raw(i32::try_from(server.pid()).unwrap());
    // The tracer passes the end on to what it traces when its own comes from outside: the child is asked instead.
    let children = fs::read_to_string(format!("/proc/{served}/task/{served}/children")).unwrap();
    let child = children.split_whitespace().next().unwrap().parse().unwrap();
    kill(Pid::from_raw(child), Signal::SIGTERM).unwrap();
    let ended = server.wait();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let calls = fs::read_to_string(log).unwrap();
    let (_, after) = calls.split_once("umount2(\".\", MNT_DETACH)").unwrap();
    // The self-check looks at the root itself, and Landlock is proved by being refused it.
    let may = |line: &str| ["\".\"", "\"/\"", "\"/..\"", "\"/probe\""].iter().any(|path| line.contains(path));
    for line in after.lines().filter(|line| line.contains("(AT_FDCWD") || line.contains("(\"/")) {
        assert!(may(line) || line.contains(" ENOENT "), "{line}");
    }
}

/// The timer that has the keeper look at the time.
const TICKS: i32 = limits::FD_OWN_LAST_NUMBER;

/// What a descriptor of this number may be, as `/proc` names it.
fn belongs(number: i32, target: &str, sockets: usize) -> bool {
    let within = |first: i32, last: i32| (first..=last).contains(&number);
    match number {
        0..=2 => true,
        limits::FD_SIGNAL_NUMBER => target == "anon_inode:[signalfd]",
        TICKS => target == "anon_inode:[timerfd]",
        // Which of the two is which changes with each compaction.
        limits::FD_JOURNAL_NUMBER | limits::FD_JOURNAL_NEXT_NUMBER => {
            target.ends_with("/data/journal") || target.ends_with("/data/journal.next")
        }
        // Of a mount of its own it is the top, where there can be one.
        limits::FD_DATA_DIRECTORY_NUMBER => target == "/" || target.ends_with("/data"),
        limits::FD_AUDIT_DIRECTORY_NUMBER => target == "/" || target.ends_with("/data/audit"),
        // Main's own: the status of the process, what it has used, and the lock.
        _ if within(limits::FD_OWN_FIRST_NUMBER, limits::FD_OWN_LAST_NUMBER) => {
            ["/status", "/stat", "/data/lock"].iter().any(|end| target.ends_with(end))
                || target.starts_with("pipe:")
        }
        // What it looks at of itself: its file, its mappings, the status of some threads.
        _ if within(limits::FD_WATCH_FIRST_NUMBER, limits::FD_WATCH_LAST_NUMBER) => {
            ["/quantonium", "/maps", "/status"].iter().any(|end| target.ends_with(end))
                || target.starts_with("pipe:")
        }
        // Every band below may hold what fills its numbers: the reading end of a pipe without a writer.
        _ if number < limits::FD_CONNECTION_FIRST_NUMBER && target.starts_with("pipe:") => true,
        _ if within(limits::FD_AUDIT_FIRST_NUMBER, limits::FD_AUDIT_NEXT_LAST_NUMBER) => {
            target.ends_with(".jsonl")
        }
        _ if within(limits::FD_EPOLL_FIRST_NUMBER, limits::FD_EPOLL_LAST_NUMBER) => {
            target == "anon_inode:[eventpoll]"
        }
        _ if within(limits::FD_EVENT_FIRST_NUMBER, limits::FD_EVENT_LAST_NUMBER) => {
            target == "anon_inode:[eventfd]"
        }
        _ if within(limits::FD_LISTENER_FIRST_NUMBER, limits::FD_LISTENER_LAST_NUMBER) => {
            target.starts_with("socket:")
        }
        _ => {
            let last = limits::FD_CONNECTION_FIRST_NUMBER + i32::try_from(sockets).unwrap();
            number < last && target.starts_with("socket:")
        }
    }
}

#[test]
fn every_descriptor_lies_in_its_band_and_two_of_them_are_directories() {
    const WORKERS: usize = 3;
    const CONNECTIONS: usize = 5;
    let flags = ["--workers", "3", "--listen", "127.0.0.1:0,[::1]:0"];
    let Some(server) = Server::start(&flags) else { return };
    let mut clients: Vec<Client> = (0..CONNECTIONS).map(|_| server.connect()).collect();
    for client in &mut clients {
        assert_eq!(client.call(&Request::get("/api/health")).status, 200);
    }
    let mut counts = [("pipe:", 0), ("socket:", 0), (".jsonl", 0), ("[eventpoll]", 0), ("[eventfd]", 0)];
    let mut numbers = 0;
    for entry in fs::read_dir(server.proc().join("fd")).unwrap() {
        let path = entry.unwrap().path();
        let number = path.file_name().unwrap().to_str().unwrap().parse().unwrap();
        let target = fs::read_link(&path).unwrap();
        let target = target.to_str().unwrap();
        // Each worker keeps a socket that it can give up when the system has no other descriptor.
        assert!(belongs(number, target, CONNECTIONS + WORKERS), "{number} is {target}");
        let directories = [limits::FD_DATA_DIRECTORY_NUMBER, limits::FD_AUDIT_DIRECTORY_NUMBER];
        let may_be_directory = number <= 2 || directories.contains(&number);
        assert!(
            may_be_directory || !fs::metadata(&path).is_ok_and(|found| found.is_dir()),
            "{number} is {target}"
        );
        for (kind, count) in &mut counts {
            *count += usize::from(number > 2 && target.contains(*kind));
        }
        numbers += 1;
    }
    let taken = usize::try_from(limits::FD_CONNECTION_FIRST_NUMBER).unwrap();
    assert_eq!(numbers, taken + CONNECTIONS + WORKERS, "no number below the connections' is free");
    let found = counts.map(|(_, count)| count);
    let pipes = found.first().copied().unwrap();
    // The log may have one loop more, which says when there is room in a standard error that is shared.
    let loops = found[3].clamp(WORKERS + 1, WORKERS + 2);
    assert_eq!(found, [pipes, 3 * WORKERS + CONNECTIONS, 2 * (WORKERS + 1), loops, WORKERS + 1]);
    assert!(pipes > taken / 2);
}

#[test]
fn a_hundred_starts_and_stops_end_clean() {
    let scratch = Scratch::new();
    for cycle in 0..100 {
        let Some(server) = Server::start_in(&scratch, &["--workers", "2"]) else { return };
        assert_serves(&server);
        let ended = server.stop();
        assert_eq!(ended.code, Some(0), "start {cycle}: {ended:?}");
        assert!(ended.stderr.contains("drained: every request was answered"), "{ended:?}");
    }
}

/// Whether every thread is stopped, as the kernel shows it.
fn is_stopped(server: &Server) -> bool {
    threads(server).iter().all(|status| line(status, "State").starts_with('T'))
}

#[test]
fn stopping_and_continuing_under_load_kills_nothing() {
    const CLIENTS: usize = 4;
    let flags = ["--workers", "2", "--max-requests-per-connection", "1000000000"];
    let Some(server) = Server::start(&flags) else { return };
    assert_eq!(server.ask(Request::post("/api/keys", "{\"name\":\"orders\"}")).status, 201);
    let done = Arc::new(AtomicBool::new(false));
    let replies = Arc::new(AtomicU64::new(0));
    let load: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (done, replies, mut client) = (Arc::clone(&done), Arc::clone(&replies), server.connect());
            let request = Request::post("/api/encrypt", "{\"key\":\"orders\",\"plaintext\":\"aGVsbG8=\"}")
                .key(server.key());
            std::thread::spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    assert_eq!(client.call(&request).status, 200);
                    replies.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for cycle in 0..20 {
        let before = replies.load(Ordering::Relaxed);
        while replies.load(Ordering::Relaxed) < before + 50 {
            assert!(load.iter().all(|client| !client.is_finished()), "a client failed in cycle {cycle}");
            std::thread::yield_now();
        }
        server.signal(Signal::SIGSTOP);
        while !is_stopped(&server) {
            std::thread::yield_now();
        }
        server.signal(Signal::SIGCONT);
    }
    done.store(true, Ordering::Relaxed);
    for client in load {
        client.join().unwrap();
    }
    let ended = server.stop();
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

#[test]
fn an_idle_server_outlives_a_stop_and_a_hangup() {
    let Some(server) = Server::start(&["--workers", "2"]) else { return };
    let mut client = server.connect();
    assert_eq!(client.call(&Request::get("/api/health")).status, 200);
    server.signal(Signal::SIGSTOP);
    while !is_stopped(&server) {
        std::thread::yield_now();
    }
    server.signal(Signal::SIGCONT);
    server.signal(Signal::SIGHUP);
    assert_eq!(client.call(&Request::get("/api/health")).status, 200);
    assert_serves(&server);
    let ended = server.stop();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stderr.contains("SIGHUP: there is nothing to reload"), "{ended:?}");
}

#[test]
fn the_admin_key_does_not_stay_in_memory() {
    let Some(server) = Server::start(&["--workers", "2"]) else { return };
    let Ok(memory) = fs::File::open(format!("/proc/{}/mem", server.pid())) else {
        return skip("the memory of a process that is not dumpable is for root only");
    };
    // Whoever is answered is answered after the key was shown and wiped.
    assert_eq!(server.call(&Request::get("/api/health")).status, 200);
    let maps = fs::read_to_string(format!("/proc/{}/maps", server.pid())).unwrap();
    let secret = server.key().split_once('.').unwrap().1.as_bytes();
    let mut seen = 0;
    for line in maps.lines().filter(|line| line.contains(" rw-p ")) {
        let (from, to) = line.split_once(' ').unwrap().0.split_once('-').unwrap();
        let (from, to) = (u64::from_str_radix(from, 16).unwrap(), u64::from_str_radix(to, 16).unwrap());
        let mut bytes = vec![0; usize::try_from(to - from).unwrap()];
        if std::os::unix::fs::FileExt::read_exact_at(&memory, &mut bytes, from).is_ok() {
            seen += bytes.len();
            assert_eq!(memchr::memmem::find(&bytes, secret), None, "in {line}");
        }
    }
    assert!(seen > 100_000, "the memory was looked at");
}
