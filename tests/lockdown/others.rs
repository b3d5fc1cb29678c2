//! What others could do to the process: open its files, trace it, take its core file.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{MetadataExt as _, chown};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::server::client::Request;
use crate::server::{self, Scratch, Server, skip};
use crate::{ORDINARY, is_root};

/// What a shell says that opens a file, run by the user that the server runs as.
fn open_as_ordinary_user(path: &Path) -> Output {
    let mut shell = Command::new("sh");
    shell.args(["-c", ": <\"$0\""]).arg(path).current_dir("/").uid(ORDINARY).gid(ORDINARY).output().unwrap()
}

/// The first line of a debugger of that user, which attaches to the process; nothing if there is none.
fn traced(process: u32) -> Option<String> {
    let mut command = Command::new("strace");
    command
        .args(["-p", &process.to_string(), "-o", "/dev/null"])
        .current_dir("/")
        .uid(ORDINARY)
        .gid(ORDINARY);
    let Ok(mut tracer) = command.stderr(Stdio::piped()).spawn() else {
        skip("strace is not there");
        return None;
    };
    let line = BufReader::new(tracer.stderr.take().unwrap()).lines().next().unwrap().unwrap();
    // It leaves the process as it was.
    let _ = kill(Pid::from_raw(tracer.id().cast_signed()), Signal::SIGTERM);
    tracer.wait().unwrap();
    Some(line)
}

#[test]
fn a_crash_leaves_no_core_file_whoever_would_take_one() {
    if !is_root() {
        return skip("it needs root, to lift the limit and to keep the host's root directory");
    }
    let Some(binary) = server::binary() else { return };
    for signal in [Signal::SIGABRT, Signal::SIGSEGV] {
        let scratch = Scratch::new();
        chown(scratch.path(""), Some(ORDINARY), Some(ORDINARY)).unwrap();
        // Without the capability there is no root of its own: the folder stays that of the start, and may be written.
        let start = |words: &[&OsStr]| {
            let mut command = Command::new("prlimit");
            command.args(["--core=unlimited:unlimited", "setpriv", "--bounding-set=-sys_admin"]).args(words);
            command.env_clear().env("PATH", "/usr/bin:/bin").current_dir(scratch.path(""));
            command
        };
        let own = ["serve", "--dev", "--listen", "127.0.0.1:0", "--data-dir"].map(OsStr::new);
        let data_dir = scratch.data_dir();
        let words = [&[binary.as_os_str()], &own[..], &[data_dir.as_os_str()]].concat();
        let server = Server::spawn(start(&words), &scratch, 1);
        assert_eq!(
            fs::read_link(server.proc().join("cwd")).unwrap(),
            scratch.path("").canonicalize().unwrap()
        );
        // Whoever answers is locked in.
        assert_eq!(server.call(&Request::get("/api/health")).status, 200);
        server.signal(signal);
        let ended = server.wait();
        assert!(ended.signal.is_some(), "{ended:?}");
        let left = || {
            let names = fs::read_dir(scratch.path("")).unwrap().map(|entry| entry.unwrap().file_name());
            names.filter(|name| name != "data").collect::<Vec<_>>()
        };
        assert_eq!(left(), Vec::<OsString>::new(), "{signal}");
        // What any other program of that user leaves there.
        let words = ["--reuid=1001", "--regid=1001", "--clear-groups", "cat"].map(OsStr::new);
        let mut other = start(&words).stdin(Stdio::piped()).spawn().unwrap();
        while fs::read_to_string(format!("/proc/{}/comm", other.id())).unwrap() != "cat\n" {
            std::thread::yield_now();
        }
        kill(Pid::from_raw(other.id().cast_signed()), signal).unwrap();
        let ended = other.wait().unwrap();
        if !ended.core_dumped() {
            println!("not shown: no program leaves a core file here");
        } else if fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap().starts_with("core") {
            assert_eq!(left().len(), 1, "{signal}");
        }
    }
}

#[test]
fn a_process_of_the_same_user_cannot_look_inside() {
    if !is_root() {
        return skip("it needs root, to become the server's user");
    }
    let Some(server) = Server::start(&[]) else { return };
    // A process that is dumpable shows what is asked below: the refusals are not those of a user without rights.
    let mut open = Command::new("cat").stdin(Stdio::piped()).uid(ORDINARY).gid(ORDINARY).spawn().unwrap();
    let of_open = Path::new("/proc").join(open.id().to_string());
    for name in ["environ", "maps", "mem", "syscall"] {
        let refused = open_as_ordinary_user(&server.proc().join(name));
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(!refused.status.success() && said.contains("ermission denied"), "{name}: {refused:?}");
        let found = fs::metadata(server.proc().join(name)).unwrap();
        assert_eq!(found.uid(), 0, "{name} of a process that is not dumpable is root's");
        assert!(open_as_ordinary_user(&of_open.join(name)).status.success(), "{name} of a dumpable process");
    }
    if let (Some(of_server), Some(of_other)) = (traced(server.pid()), traced(open.id())) {
        assert!(of_server.contains("Operation not permitted"), "{of_server}");
        assert!(of_other.contains("attached") && !of_other.contains("not permitted"), "{of_other}");
    }
    drop(open.stdin.take());
    assert!(open.wait().unwrap().success());
    assert_eq!(server.stop().code, Some(0));
}
