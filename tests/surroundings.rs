//! What a start makes of where it stands: in a container, on a bare host, under a policy against mounts, where threads are few.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic, its helping functions too")]

#[path = "support/server.rs"]
mod server;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use nix::sys::signal::Signal;
use server::client::Request;
use server::{Scratch, Server, skip};

/// What a start leaves that has CAP_SYS_ADMIN.
const OF_ROOT: [&str; 5] = ["mnt", "ipc", "uts", "net", "cgroup"];
/// The host's own namespaces that have the same number everywhere (`include/linux/proc_ns.h`).
const OF_HOST: [(&str, u64); 3] = [("ipc", 0xEFFF_FFFF), ("uts", 0xEFFF_FFFE), ("cgroup", 0xEFFF_FFFB)];

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Whether this test itself runs outside of every container.
fn is_bare_host() -> bool {
    OF_HOST
        .into_iter()
        .all(|(kind, number)| fs::metadata(format!("/proc/self/ns/{kind}")).unwrap().ino() == number)
}

/// Where a process is, of a kind of namespace.
fn namespace(process: &Path, kind: &str) -> std::path::PathBuf {
    fs::read_link(process.join("ns").join(kind)).unwrap()
}

/// Has every part of the server take part.
fn assert_serves(server: &Server) {
    assert_eq!(server.ask(Request::post("/api/keys", "{\"name\":\"orders\"}")).status, 201);
}

#[test]
fn in_a_container_the_namespaces_are_left_alone() {
    if !is_root() {
        return skip("it needs root, to make what a container has");
    }
    let (Some(binary), scratch) = (server::binary(), Scratch::new()) else { return };
    let server = Server::spawn(within(&["--ipc", "--uts"], &binary, &scratch, "container"), &scratch, 1);
    for name in ["mnt", "net", "cgroup"] {
        assert_eq!(namespace(&server.proc(), name), namespace(Path::new("/proc/self"), name), "{name}");
    }
    assert_serves(&server);
    let ended = server.stop();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for said in [
        "sandbox: ipc-namespace: done",
        "sandbox: network-namespace: not-needed (left to the container runtime)",
        "sandbox: empty-root: not-needed (left to the container runtime)",
    ] {
        assert!(ended.stderr.contains(said), "no {said:?} in {}", ended.stderr);
    }
}

/// A start in this mode by `unshare` with these flags.
fn within(flags: &[&str], binary: &Path, scratch: &Scratch, mode: &str) -> Command {
    let mut command = Command::new("unshare");
    command.args(flags).arg(binary).args(["serve", "--dev", "--listen", "127.0.0.1:0", "--sandbox", mode]);
    command.arg("--data-dir").arg(scratch.data_dir()).env_clear();
    command
}

#[test]
fn the_mode_for_containers_does_not_serve_on_a_bare_host() {
    if !is_bare_host() {
        return skip("this is a container");
    }
    let scratch = Scratch::new();
    let flags = ["--sandbox", "container"];
    let Some(refused) = Server::try_start_in(&scratch, &flags) else { return };
    let refused = refused.unwrap_err();
    assert_eq!(refused.code, Some(78), "{refused:?}");
    assert!(refused.stderr.contains("missing (this is no container: "), "{refused:?}");
}

/// What the only child of a process is.
fn child_of(pid: u32) -> u32 {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    children.split_whitespace().next().unwrap().parse().unwrap()
}

fn end(pid: u32) {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap());
    nix::sys::signal::kill(pid, Signal::SIGTERM).unwrap();
}

#[test]
fn process_numbers_of_its_own_make_no_start_leave_the_rest_out() {
    if !is_root() {
        return skip("it needs root, to make process numbers");
    }
    if !is_bare_host() {
        return skip("this is a container");
    }
    let (Some(binary), scratch) = (server::binary(), Scratch::new()) else { return };
    let flags = ["--pid", "--fork", "--mount-proc"];
    let server = Server::spawn(within(&flags, &binary, &scratch, "auto"), &scratch, 1);
    let first = child_of(server.pid());
    let process = Path::new("/proc").join(first.to_string());
    for name in OF_ROOT {
        assert_ne!(namespace(&process, name), namespace(Path::new("/proc/self"), name), "{name}");
    }
    assert_serves(&server);
    end(first);
    let ended = server.wait();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for step in ["pid", "mount", "ipc", "uts", "network", "cgroup"] {
        let said = format!("sandbox: {step}-namespace: done");
        assert!(ended.stderr.contains(&said), "no {said:?} in {}", ended.stderr);
    }
    assert!(ended.stderr.contains("sandbox: empty-root: done"), "{}", ended.stderr);
}

/// A server for which a call fails with EPERM, as `strace` says it.
fn start_without(call: &str, when: &str, scratch: &Arc<Scratch>) -> Option<Server> {
    let mut command = Command::new("strace");
    command.args(["-f", "-o", "/dev/null", "-e", &format!("trace={call}")]);
    command.args(["-e", &format!("inject={call}:error=EPERM{when}")]).arg(server::binary()?);
    command.args(["serve", "--dev", "--listen", "127.0.0.1:0", "--data-dir"]).arg(scratch.data_dir());
    command.env_clear().current_dir("/");
    Some(Server::spawn(command, scratch, 1))
}

/// Starts a server for which a call fails, and fails unless it serves from the host's root.
fn assert_serves_without(call: &str, when: &str) {
    let scratch = Scratch::new();
    let Some(server) = start_without(call, when, &scratch) else { return };
    let served = child_of(server.pid());
    let identity = |path: &str| fs::metadata(path).map(|found| (found.dev(), found.ino())).unwrap();
    assert_eq!(identity(&format!("/proc/{served}/root/")), identity("/"), "{call}{when}");
    let mounts = fs::read_to_string(format!("/proc/{served}/mountinfo")).unwrap();
    assert!(!mounts.contains("nr_inodes=1,"), "nothing lies over the root: {call}{when}: {mounts}");
    assert_serves(&server);
    end(served);
    let ended = server.wait();
    assert_eq!(ended.code, Some(0), "{call}{when}: {ended:?}");
    let said = format!("sandbox: empty-root: skipped (a policy of the system refuses {call} (");
    for said in [said.as_str(), "sandbox: mount-namespace: done", "sandbox: every thread is locked in"] {
        assert!(ended.stderr.contains(said), "no {said:?} in {}", ended.stderr);
    }
}

#[test]
fn a_policy_against_mounts_costs_the_empty_root_and_no_start() {
    if !is_root() || Command::new("strace").arg("-V").output().is_err() {
        return skip("it needs strace, and root for what is refused");
    }
    for call in ["fsopen", "fsconfig", "fsmount", "mount", "move_mount", "pivot_root", "umount2"] {
        assert_serves_without(call, "");
    }
    // As a policy of paths, which lets the question pass and refuses the call itself.
    for call in ["mount", "move_mount", "pivot_root"] {
        assert_serves_without(call, ":when=2");
    }
}

#[test]
fn a_policy_against_mounts_for_single_directories_costs_that_step_alone() {
    if !is_root() || Command::new("strace").arg("-V").output().is_err() {
        return skip("it needs strace, and root for what is refused");
    }
    let scratch = Scratch::new();
    let Some(server) = start_without("open_tree", "", &scratch) else { return };
    let served = child_of(server.pid());
    // It leads up, and Landlock alone is in the way of the thread that may use it.
    let directory = format!("/proc/{served}/fd/{}", quantonium::limits::FD_AUDIT_DIRECTORY_NUMBER);
    let number = |path: &str| fs::metadata(path).unwrap().ino();
    assert_eq!(number(&format!("{directory}/..")), fs::metadata(scratch.data_dir()).unwrap().ino());
    assert_ne!(number(&directory), number(&format!("{directory}/..")));
    assert_serves(&server);
    end(served);
    let ended = server.wait();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for said in ["sandbox: held-directories: skipped (open_tree /", "sandbox: empty-root: done"] {
        assert!(ended.stderr.contains(said), "no {said:?} in {}", ended.stderr);
    }
}

#[test]
fn a_start_that_gets_too_few_threads_says_so_and_is_not_killed() {
    // Nobody else's, so that no other process counts.
    const USER: u32 = 12_345;
    if !is_root() {
        return skip("it needs root, to become a user of whom nothing else runs");
    }
    let Some(binary) = server::binary() else { return };
    let scratch = Scratch::new();
    let copy = scratch.path("quantonium");
    server::copy_program(&binary, &copy);
    chown(scratch.path(""), Some(USER), Some(USER)).unwrap();
    let mut command = Command::new("prlimit");
    command.arg("--nproc=3:3").arg(copy).args([
        "serve",
        "--dev",
        "--workers",
        "4",
        "--listen",
        "127.0.0.1:0",
        "--data-dir",
    ]);
    command.arg(scratch.data_dir()).current_dir("/").uid(USER).gid(USER);
    server::read_by_people(&mut command);
    let output = command.output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(78), "{:?}: {told}", output.status);
    assert!(told.contains("quantonium: a thread could not be started or locked in: "), "{told}");
}
