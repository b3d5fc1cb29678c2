//! The lock-down against the real kernel: this program runs itself again as a child that enters a role's
//! embedded filter, or the whole lock-down, and looks at how the child ends.
//!
//! It brings its own small harness, because a lock-down must begin on the only thread of a process.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the whole program is a test, which clippy sees only under the standard harness"
)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, ExitCode, Output, Stdio};

use quantonium::memory::ProcessHeap;
use quantonium::sandbox::seccomp::Role;

#[path = "sandbox/calls.rs"]
mod calls;
#[path = "sandbox/child.rs"]
mod child;

/// As in the program itself: the filters allow no other.
#[global_allocator]
static ALLOCATOR: ProcessHeap = ProcessHeap;

/// Names what a child is to do.
const TASK: &str = "QUANTONIUM_SANDBOX_TASK";
/// How a child ends that came to the end of its task.
const SURVIVED: i32 = 42;
/// The signal of a forbidden call.
const SIGSYS: i32 = 31;

const TESTS: [(&str, fn()); 16] = [
    ("a_forbidden_call_kills_the_process", a_forbidden_call_kills_the_process),
    ("a_call_that_the_broker_may_not_make_kills_it", a_call_that_the_broker_may_not_make_kills_it),
    ("the_broker_connects_to_its_ports_alone", the_broker_connects_to_its_ports_alone),
    ("without_a_filter_no_probe_kills", without_a_filter_no_probe_kills),
    ("an_allowed_call_passes", an_allowed_call_passes),
    ("a_locked_down_process_serves_and_ends_clean", a_locked_down_process_serves_and_ends_clean),
    ("root_gives_up_everything", root_gives_up_everything),
    ("an_ordinary_user_is_locked_down_too", an_ordinary_user_is_locked_down_too),
    ("a_confined_thread_reaches_one_directory_alone", a_confined_thread_reaches_one_directory_alone),
    (
        "an_ordinary_user_in_its_own_namespace_leaves_the_host",
        an_ordinary_user_in_its_own_namespace_leaves_the_host,
    ),
    ("a_mode_serves_without_what_it_may_do_without", a_mode_serves_without_what_it_may_do_without),
    (
        "the_filter_keeps_capabilities_from_coming_back_and_so_does_a_root_with_a_lid",
        the_filter_keeps_capabilities_from_coming_back_and_so_does_a_root_with_a_lid,
    ),
    ("a_directory_that_is_open_leads_nowhere", a_directory_that_is_open_leads_nowhere),
    ("descriptors_get_their_numbers", descriptors_get_their_numbers),
    ("inherited_descriptors_are_closed", inherited_descriptors_are_closed),
    ("no_number_is_given_back_by_what_cannot_be_kept", no_number_is_given_back_by_what_cannot_be_kept),
];

fn main() -> ExitCode {
    if let Ok(task) = std::env::var(TASK) {
        child::run(&task);
    }
    let wanted: Vec<String> = std::env::args().skip(1).filter(|one| !one.starts_with('-')).collect();
    let listing = std::env::args().any(|one| one == "--list");
    let (mut passed, mut failed) = (0, 0);
    for (name, test) in TESTS {
        if !wanted.is_empty() && !wanted.iter().any(|part| name.contains(part)) {
            continue;
        }
        if listing {
            println!("{name}: test");
            continue;
        }
        let outcome = std::panic::catch_unwind(test);
        println!("test {name} ... {}", if outcome.is_ok() { "ok" } else { "FAILED" });
        *(if outcome.is_ok() { &mut passed } else { &mut failed }) += 1;
    }
    // As the standard harness ends, for whoever reads it.
    let word = if failed == 0 { "ok" } else { "FAILED" };
    println!("\ntest result: {word}. {passed} passed; {failed} failed");
    ExitCode::from(if failed == 0 { 0 } else { 101 })
}

/// This program again, as a child with the given task.
fn command(task: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.env(TASK, task).stdin(Stdio::null());
    command
}

fn run(task: &str) -> Output {
    command(task).output().unwrap()
}

/// Fails with what the child wrote.
fn assert_survived(task: &str, output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(SURVIVED), "{task}: {}\n{stdout}{stderr}", output.status);
    stdout
}

/// Says that a test cannot run here; fails where that is not accepted.
fn skip(test: &str, reason: &str) {
    println!("skipped: {test}: {reason}");
    assert!(std::env::var("QUANTONIUM_REQUIRE").as_deref() != Ok("1"), "{test} is required");
}

fn a_forbidden_call_kills_the_process() {
    let mut count = 0;
    for role in Role::ALL {
        for call in calls::forbidden(role) {
            let task = format!("forbidden {} {}", role.name(), call.name);
            let output = run(&task);
            assert_eq!(output.status.signal(), Some(SIGSYS), "{task}: {}", output.status);
            count += 1;
        }
    }
    println!("{count} forbidden calls, each killed its process");
}

fn a_call_that_the_broker_may_not_make_kills_it() {
    let calls = calls::forbidden_to_broker();
    for call in &calls {
        let task = format!("broken broker {}", call.name);
        let output = run(&task);
        assert_eq!(output.status.signal(), Some(SIGSYS), "{task}: {}", output.status);
    }
    println!("{} calls that the broker may not make, each killed its process", calls.len());
}

fn the_broker_connects_to_its_ports_alone() {
    let told = assert_survived("broker", &run("broker"));
    let line = |begin: &str| told.lines().find_map(|line| line.strip_prefix(begin)).map(str::trim);
    assert_eq!(line("its own port:"), Some("done"), "{told}");
    let abi: i32 = line("landlock").unwrap().parse().unwrap();
    // Older kernels hold no ports, which the document says.
    if abi >= 4 {
        assert_eq!(line("another port:"), Some("PermissionDenied"), "{told}");
    }
}

fn without_a_filter_no_probe_kills() {
    for role in Role::ALL {
        for call in calls::forbidden(role) {
            let task = format!("unfiltered {} {}", role.name(), call.name);
            assert_survived(&task, &run(&task));
        }
    }
}

fn an_allowed_call_passes() {
    for role in Role::ALL {
        let task = format!("allowed {}", role.name());
        print!("{}", assert_survived(&task, &run(&task)));
    }
}

fn a_locked_down_process_serves_and_ends_clean() {
    let mut server = command("serve").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap());
    let mut port = String::new();
    lines.read_line(&mut port).unwrap();
    if let Ok(port) = port.trim().parse::<u16>() {
        let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        // The server may be killed at any point; its status below tells, not this connection.
        let _ = client.write_all(b"over the wall");
        let _ = client.shutdown(Shutdown::Write);
        let mut reply = String::new();
        let _ = client.read_to_string(&mut reply);
        let output = server.wait_with_output().unwrap();
        assert_survived("serve", &output);
        assert_eq!(reply, "over the wall");
    } else {
        assert_survived("serve", &server.wait_with_output().unwrap());
        panic!("no port in {port:?}");
    }
}

fn root_gives_up_everything() {
    if !nix::unistd::geteuid().is_root() {
        return skip("root_gives_up_everything", "not root");
    }
    let stdout = assert_survived("root", &run("root"));
    print!("{stdout}");
    for line in [
        "sandbox: user-namespace: skipped (not tried)",
        "sandbox: mount-namespace: done",
        "sandbox: ipc-namespace: done",
        "sandbox: uts-namespace: done",
        "sandbox: network-namespace: done",
        "sandbox: cgroup-namespace: done",
        "sandbox: empty-root: done",
        "sandbox: bounding-set: done",
        "sandbox: securebits: done",
        "sandbox: identity: done",
        "sandbox: no-way-back: done",
        "sandbox: self-check: done",
        "CapBnd:\t0000000000000000",
        "Uid:\t1001\t1001\t1001\t1001",
        "Gid:\t1001\t1001\t1001\t1001",
        "Groups:\t",
    ] {
        assert!(stdout.lines().any(|found| found.trim_end() == line.trim_end()), "no {line:?} in\n{stdout}");
    }
    assert_nothing_left(&stdout);
}

fn an_ordinary_user_is_locked_down_too() {
    let stdout = assert_survived("ordinary", &run("ordinary"));
    print!("{stdout}");
    for line in [
        "sandbox: bounding-set: skipped (CAP_SETPCAP is absent)",
        "sandbox: securebits: skipped (CAP_SETPCAP is absent)",
        "sandbox: identity: not-needed (not started as root, stays uid ",
        "sandbox: self-check: done",
    ] {
        assert!(stdout.lines().any(|found| found.starts_with(line)), "no {line:?} in\n{stdout}");
    }
    assert_nothing_left(&stdout);
}

/// What holds in every mode, from the lines that the child copied from the kernel's status file.
fn assert_nothing_left(stdout: &str) {
    for line in [
        "CapInh:\t0000000000000000",
        "CapPrm:\t0000000000000000",
        "CapEff:\t0000000000000000",
        "CapAmb:\t0000000000000000",
        "NoNewPrivs:\t1",
        "dumpable 0",
        "core 0",
        "root regained false",
    ] {
        assert!(stdout.lines().any(|found| found == line), "no {line:?} in\n{stdout}");
    }
}

fn a_confined_thread_reaches_one_directory_alone() {
    let mut child = command("landlock").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let folder = std::env::temp_dir().join(format!("quantonium-landlock-{}", child.id()));
    let mut stdout = String::new();
    child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
    let output = child.wait_with_output().unwrap();
    let secret = std::fs::read_to_string(folder.join("secret"));
    let _ = std::fs::remove_dir_all(&folder);
    assert_survived("landlock", &output);
    print!("{stdout}");
    if stdout.starts_with("landlock 0: skipped") {
        return skip("a_confined_thread_reaches_one_directory_alone", &stdout);
    }
    let mut lines = stdout.lines();
    let abi: i32 = lines.next().unwrap().split([' ', ':']).nth(1).unwrap().parse().unwrap();
    for (what, done) in lines.map(|line| line.split_once(": ").unwrap()) {
        let may = ["make inside", "read inside", "remove inside"].contains(&what);
        // Sockets are confined from revision 4 on.
        let expected = if may || (what == "connect" && abi < 4) { "done" } else { "permission denied" };
        let found = if what == "move outside" && done != "done" { "permission denied" } else { done };
        assert_eq!(found, expected, "{what}\n{stdout}");
    }
    assert_eq!(secret.unwrap(), "not yours");
}

fn an_ordinary_user_in_its_own_namespace_leaves_the_host() {
    let stdout = assert_survived("namespace", &run("namespace"));
    print!("{stdout}");
    if let Some(reason) = stdout.lines().find(|line| line.starts_with("sandbox: entered: skipped")) {
        return skip("an_ordinary_user_in_its_own_namespace_leaves_the_host", reason);
    }
    for step in [
        "user-namespace",
        "mount-namespace",
        "network-namespace",
        "empty-root",
        "bounding-set",
        "no-way-back",
    ] {
        let line = format!("sandbox: {step}: done");
        assert!(stdout.lines().any(|found| found == line), "no {line:?} in\n{stdout}");
    }
    assert_nothing_left(&stdout);
}

fn a_mode_serves_without_what_it_may_do_without() {
    let refused = run("mode strict");
    let said = String::from_utf8_lossy(&refused.stdout).into_owned();
    assert_eq!(refused.status.code(), Some(78), "{said}");
    assert!(said.contains("--sandbox-allow-missing user-namespace"), "{said}");
    if !nix::unistd::geteuid().is_root() {
        return skip(
            "a_mode_serves_without_what_it_may_do_without",
            "not root, to make what a container has",
        );
    }
    let stdout = assert_survived("container", &run("container"));
    for line in [
        "sandbox: mount-namespace: not-needed (left to the container runtime)",
        "sandbox: empty-root: not-needed (left to the container runtime)",
        "sandbox: bounding-set: not-needed (CAP_SETPCAP is absent, and the runtime has ",
        "sandbox: self-check: done",
    ] {
        assert!(stdout.lines().any(|found| found.starts_with(line)), "no {line:?} in\n{stdout}");
    }
    assert_nothing_left(&stdout);
}

fn the_filter_keeps_capabilities_from_coming_back_and_so_does_a_root_with_a_lid() {
    const TEST: &str = "the_filter_keeps_capabilities_from_coming_back_and_so_does_a_root_with_a_lid";
    for task in ["regain filtered", "regain as-user filtered"] {
        let filtered = run(task);
        assert_eq!(filtered.status.signal(), Some(SIGSYS), "{task}: {}", filtered.status);
    }
    // Without a filter, of a process that keeps the host's root.
    let open = assert_survived("regain as-user open", &run("regain as-user open"));
    if !open.contains("entered Ok") {
        return skip(TEST, &open);
    }
    assert_eq!(open.trim_end(), "entered Ok(()), holds true", "without a filter the hole is there");
    if !nix::unistd::geteuid().is_root() {
        return skip(TEST, "not root, to have another root directory");
    }
    let lid = assert_survived("regain open", &run("regain open"));
    assert_eq!(lid.trim_end(), "entered Err(EPERM), holds false");
}

/// What the layers make of `../secret` under the number of the audit directory.
fn a_directory_that_is_open_leads_nowhere() {
    for (layers, expected) in [
        ("nothing", Some("opened")),
        // A mount of its own takes root; it finds no such file below itself.
        ("held", Some(if nix::unistd::geteuid().is_root() { "failed" } else { "opened" })),
        ("landlock", Some("refused")),
        ("worker", None),
        ("keeper", None),
        ("main", None),
        // The archivist opens files there: of its two layers Landlock alone sees where a name leads.
        ("archivist", Some("opened")),
    ] {
        let task = format!("lead {layers}");
        let child = command(&task).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let folder = std::env::temp_dir().join(format!("quantonium-landlock-{}", child.id()));
        let output = child.wait_with_output().unwrap();
        let _ = std::fs::remove_dir_all(&folder);
        match expected {
            Some(expected) => {
                assert_survived(&task, &output);
                assert_eq!(String::from_utf8_lossy(&output.stderr), expected, "{task}");
            }
            None => assert_eq!(output.status.signal(), Some(SIGSYS), "{task}: {}", output.status),
        }
    }
}

fn descriptors_get_their_numbers() {
    assert_survived("descriptors", &run("descriptors"));
}

fn inherited_descriptors_are_closed() {
    assert_survived("inherited", &run("inherited"));
}

fn no_number_is_given_back_by_what_cannot_be_kept() {
    assert_survived("unkept", &run("unkept"));
}
