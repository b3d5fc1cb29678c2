//! `/api/integrity` says of the live process what the kernel says of it; `--sandbox` and what goes with it hold what they
//! promise.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by a panic, its helping functions too"
)]

#[path = "support/server.rs"]
mod server;

use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use quantonium::crypto::hash;
use quantonium::integrity::Check;
use quantonium::limits::IDENTITY_DEFAULT_NUMBER as ORDINARY;
use quantonium::model::Step;
use serde_json::{Value, json};
use server::client::Request;
use server::{Ended, NO_CONTROL_GROUP, Scratch, Server, skip};

/// Until this uptime a first look at the process is waited for.
const FIRST_LOOK_SECONDS: u64 = 120;

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// A command that serves as an ordinary user in `scratch`: another one than the test's if that is root.
fn as_ordinary_user(scratch: &Arc<Scratch>) -> Option<Command> {
    let binary = server::binary()?;
    let mut command = if is_root() {
        // The binary may lie where others cannot go.
        let copy = scratch.path("quantonium");
        server::copy_program(&binary, &copy);
        chown(scratch.path(""), Some(ORDINARY), Some(ORDINARY)).unwrap();
        let mut command = Command::new(copy);
        command.uid(ORDINARY).gid(ORDINARY);
        command
    } else {
        Command::new(binary)
    };
    command.args(["serve", "--dev", "--listen", "127.0.0.1:0", "--data-dir"]).arg(scratch.data_dir());
    command.env_clear().current_dir("/");
    Some(command)
}

fn report(server: &Server) -> Value {
    let reply = server.ask(Request::get("/api/integrity"));
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()
}

/// The first report that holds what `found` looks for; each is asked for when the one before has come.
fn report_with<T>(server: &Server, found: impl Fn(&Value) -> Option<T>) -> (Value, T) {
    loop {
        let report = report(server);
        if let Some(found) = found(&report) {
            return (report, found);
        }
        let health = server.call(&Request::get("/api/health")).json();
        assert!(health["uptime_seconds"].as_u64().unwrap() < FIRST_LOOK_SECONDS, "{report}");
    }
}

/// The words of a line of the main thread's status file.
fn line(status: &str, name: &str) -> Vec<String> {
    let found = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    found.unwrap_or_else(|| panic!("no {name}")).split_whitespace().map(str::to_owned).collect()
}

/// Fails unless the report's view of the kernel is the status file.
fn assert_agrees(server: &Server) {
    let (_, kernel) = report_with(server, |report| report.get("kernel").cloned());
    let status = fs::read_to_string(server.proc().join("status")).unwrap();
    let numbers =
        |name: &str| -> Vec<u64> { line(&status, name).iter().map(|word| word.parse().unwrap()).collect() };
    assert_eq!(kernel["uid"], json!(numbers("Uid")));
    assert_eq!(kernel["gid"], json!(numbers("Gid")));
    assert_eq!(kernel["groups"], json!(numbers("Groups")));
    for (member, name) in [("seccomp", "Seccomp"), ("threads", "Threads"), ("tracer", "TracerPid")] {
        assert_eq!(json!([kernel[member]]), json!(numbers(name)), "{member}");
    }
    assert_eq!((kernel["no_new_privs"].as_bool(), numbers("NoNewPrivs")), (Some(true), vec![1]));
    let sets = [
        ("inheritable", "CapInh"),
        ("permitted", "CapPrm"),
        ("effective", "CapEff"),
        ("bounding", "CapBnd"),
        ("ambient", "CapAmb"),
    ];
    for (member, name) in sets {
        assert_eq!(json!([kernel["capabilities"][member]]), json!(line(&status, name)), "{member}");
    }
}

/// The outcome of a step as the report tells it.
fn outcome<'a>(report: &'a Value, step: &str) -> &'a Value {
    let steps = report["sandbox"]["steps"].as_array().unwrap();
    let of: Vec<&Value> = steps.iter().filter(|taken| taken["step"] == step).collect();
    assert_eq!(of.len(), 1, "{step}: {report}");
    of[0]
}

#[test]
fn the_report_agrees_with_the_kernel_on_a_start_as_root() {
    if !is_root() {
        return skip("it needs root, to see it given up");
    }
    let Some(server) = Server::start(&["--integrity-interval-seconds", "1"]) else { return };
    assert_agrees(&server);
    let report = report(&server);
    assert_eq!(outcome(&report, "identity"), &json!({ "step": "identity", "outcome": "done" }));
    assert_eq!(report["kernel"]["uid"], json!([ORDINARY, ORDINARY, ORDINARY, ORDINARY]));
    assert_eq!(report["sandbox"]["mode"], "auto");
    assert_eq!(server.stop().code, Some(0));
}

#[test]
fn the_report_agrees_with_the_kernel_on_a_start_as_an_ordinary_user() {
    let scratch = Scratch::new();
    let Some(mut command) = as_ordinary_user(&scratch) else { return };
    command.args(["--integrity-interval-seconds", "1"]);
    let server = Server::spawn(command, &scratch, 1);
    assert_agrees(&server);
    let report = report(&server);
    let identity = outcome(&report, "identity");
    assert_eq!(identity["outcome"], "not-needed", "an ordinary user has no other to become: {report}");
    assert!(!identity["reason"].as_str().unwrap().is_empty());
    // What an ordinary user cannot have is no failure in this mode.
    assert_eq!(report["status"], "ok");
    assert_eq!(server.call(&Request::get("/api/health")).json()["status"], "ok");
}

#[test]
fn every_check_is_looked_at_and_finds_nothing_in_a_server_that_nobody_touched() {
    let Some(server) = Server::start(&["--integrity-interval-seconds", "1"]) else { return };
    let sum = |report: &Value| Some(report["binary"].get("sha256")?.as_str()?.to_owned());
    let looked = |report: &Value| {
        let checks = report["checks"].as_array().unwrap();
        checks.iter().all(|check| check["looks"].as_u64() > Some(0)).then_some(())
    };
    let (report, ()) = report_with(&server, looked);
    let (_, sum) = report_with(&server, sum);
    let program =
        fs::read(server.proc().join("exe")).or_else(|_| fs::read(server::binary().unwrap())).unwrap();
    let expected = hash::sha256(&[&program]);
    let expected: String = expected.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(sum, expected);
    let names: Vec<&str> =
        report["checks"].as_array().unwrap().iter().map(|check| check["check"].as_str().unwrap()).collect();
    assert_eq!(names, Check::ALL.map(Check::name));
    for check in report["checks"].as_array().unwrap() {
        assert_eq!((&check["state"], &check["findings"]), (&json!("ok"), &json!(0)), "{check}");
        assert!(check["last_at"].as_str().unwrap().ends_with('Z'), "{check}");
    }
    assert_eq!(report["status"], "ok");
}

#[test]
fn the_report_tells_every_step_and_no_path() {
    let Some(server) = Server::start(&[]) else { return };
    let report = report(&server);
    let mandatory = Step::ALL.into_iter().filter(|step| step.is_mandatory());
    for step in mandatory.filter(|step| *step != Step::Seccomp) {
        assert_eq!(outcome(&report, step.name())["outcome"], "done", "{step}");
    }
    for taken in report["sandbox"]["steps"].as_array().unwrap() {
        assert!(Step::from_name(taken["step"].as_str().unwrap()).is_some(), "{taken}");
        assert_eq!(taken["outcome"] == "done", taken.get("reason").is_none(), "{taken}");
    }
    let text = report.to_string();
    let folder = server.data_dir();
    assert!(!text.contains(folder.to_str().unwrap()) && !text.contains("/proc/"), "{text}");
    assert_eq!(report["binary"]["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
#[cfg(feature = "tls")]
fn what_a_server_of_every_kind_keeps_open_is_found_in_order() {
    let scratch = Scratch::new();
    let Some(binary) = server::binary() else { return };
    let mut made = Command::new(binary);
    made.args(["tls", "self-signed", "--out-dir"]).arg(scratch.path(""));
    assert!(made.status().unwrap().success());
    let (certificate, key) = (scratch.path("cert.pem"), scratch.path("key.pem"));
    let listen = format!("http://127.0.0.1:0,https://127.0.0.1:0,unix:{}", scratch.path("q.sock").display());
    let (certificate, key) = (certificate.to_str().unwrap(), key.to_str().unwrap());
    let flags = ["--listen", &listen, "--tls-cert", certificate, "--tls-key", key];
    let Some(server) =
        Server::start_in(&scratch, &[&flags[..], &["--integrity-interval-seconds", "1"]].concat())
    else {
        return;
    };
    // The second round looks at connections too.
    let looked = loop {
        let report = report(&server);
        let checks = report["checks"].as_array().unwrap().clone();
        if checks.iter().all(|check| check["looks"].as_u64() >= Some(2)) {
            break checks;
        }
        let uptime = server.ask(Request::get("/api/health")).json()["uptime_seconds"].as_u64().unwrap();
        assert!(uptime < FIRST_LOOK_SECONDS, "{report}");
    };
    for check in looked {
        assert_eq!((&check["state"], &check["findings"]), (&json!("ok"), &json!(0)), "{check}");
    }
}

/// The step that a refused start names as missing, which must come with the flag that does without it.
fn missing(ended: &Ended) -> Step {
    assert_eq!(ended.code, Some(78), "{ended:?}");
    let told =
        ended.stderr.lines().find(|line| line.contains(": missing (")).unwrap_or_else(|| panic!("{ended:?}"));
    let name = told.split("sandbox: ").nth(1).unwrap().split(':').next().unwrap();
    let step = Step::from_name(name).unwrap_or_else(|| panic!("{told}"));
    assert!(told.ends_with(&format!("--sandbox-allow-missing {step}")), "{told}");
    step
}

#[test]
fn a_strict_start_stops_for_each_missing_step_until_it_is_accepted_by_name() {
    let scratch = Scratch::new();
    let mut accepted = Vec::new();
    let server = loop {
        let Some(mut command) = as_ordinary_user(&scratch) else { return };
        command.args(["--sandbox", "strict"]);
        for step in &accepted {
            command.args(["--sandbox-allow-missing", Step::name(*step)]);
        }
        match Server::try_spawn(command, &scratch, 1) {
            Ok(server) => break server,
            Err(ended) => {
                let step = missing(&ended);
                assert!(!accepted.contains(&step), "{step} was accepted: {ended:?}");
                accepted.push(step);
            }
        }
    };
    assert!(
        accepted.contains(&Step::PidNamespace),
        "nothing gives it process numbers of its own: {accepted:?}"
    );
    let report = report(&server);
    assert_eq!(report["sandbox"]["mode"], "strict");
    assert_eq!(
        report["sandbox"]["allowed_missing"],
        json!(accepted.iter().map(|step| step.name()).collect::<Vec<_>>())
    );
    for step in &accepted {
        assert_ne!(outcome(&report, step.name())["outcome"], "done", "{step}");
    }
    let in_order = fs::read_dir(scratch.data_dir().join("audit")).unwrap();
    let starts: String = in_order.map(|file| fs::read_to_string(file.unwrap().path()).unwrap()).collect();
    assert!(starts.contains(r#""event":"server.start","outcome":"success","mode":"strict""#), "{starts}");
}

#[test]
fn a_step_that_nothing_is_served_without_cannot_be_accepted_as_missing() {
    let scratch = Scratch::new();
    for step in Step::ALL.into_iter().filter(|step| step.is_mandatory()) {
        let flags = ["serve", "--dev", "--sandbox-allow-missing", step.name()];
        let Some(ended) = server::command(&flags, &scratch.data_dir()) else { return };
        assert_eq!(ended.code, Some(78), "{ended:?}");
        let told = format!("--sandbox-allow-missing: {step} cannot be missing: nothing is served without it");
        assert!(ended.stderr.contains(&told), "{ended:?}");
    }
    let unknown = ["serve", "--dev", "--sandbox-allow-missing", "chroot"];
    let ended = server::command(&unknown, &scratch.data_dir()).unwrap();
    assert_eq!(ended.code, Some(78), "{ended:?}");
    assert!(ended.stderr.contains("\"chroot\" is none of key-memory, user-namespace, "), "{ended:?}");
    assert!(!scratch.data_dir().exists(), "nothing was made");
}

#[test]
fn every_thread_steps_back_as_far_as_it_is_told() {
    let Some(server) = Server::start(&["--niceness", "19", "--workers", "2"]) else { return };
    let tasks = fs::read_dir(server.proc().join("task")).unwrap();
    let mut count = 0;
    for task in tasks {
        let stat = fs::read_to_string(task.unwrap().path().join("stat")).unwrap();
        // Behind the name, which may hold anything: field 19 of proc_pid_stat(5), counted from 3.
        let niceness = stat.rsplit_once(") ").unwrap().1.split(' ').nth(19 - 3).unwrap().to_owned();
        assert_eq!(niceness, "19", "{stat}");
        count += 1;
    }
    assert!(count >= 4, "workers, keeper and main: {count}");
}

/// A control group of this test's own.
struct Group(PathBuf);

impl Group {
    /// Makes one that can limit processors, tasks and memory; nothing where that cannot be had.
    fn new() -> Option<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mount = mounts.lines().find(|line| line.contains(" - cgroup2 "))?.split(' ').nth(4)?;
        let group = Self(Path::new(mount).join(format!("quantonium-test-{}", std::process::id())));
        fs::create_dir(&group.0).ok()?;
        let has = fs::read_to_string(group.0.join("cgroup.controllers")).ok()?;
        ["cpu", "pids", "memory"]
            .iter()
            .all(|name| has.split_whitespace().any(|had| had == *name))
            .then_some(group)
    }

    fn set(&self, name: &str, value: &str) {
        fs::write(self.0.join(name), value).unwrap();
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
fn a_start_heeds_the_limits_of_its_control_group() {
    let Some(group) = Group::new() else {
        return skip(&format!(
            "{NO_CONTROL_GROUP}: it needs root and a tree of version 2 with cpu, pids and memory"
        ));
    };
    let Some(binary) = server::binary() else { return };
    group.set("cpu.max", "150000 100000");
    group.set("memory.max", "268435456");
    group.set("pids.max", "200");
    let start = |scratch: &Arc<Scratch>| {
        let mut command = Command::new("/bin/sh");
        let join = format!("echo $$ > {}/cgroup.procs && exec \"$@\"", group.0.display());
        command.args(["-c", &join, "sh"]).arg(&binary).args(["serve", "--dev", "--listen", "127.0.0.1:0"]);
        command.arg("--data-dir").arg(scratch.data_dir());
        Server::try_spawn(command, scratch, 1)
    };
    let server = start(&Scratch::new()).unwrap();
    let workers = fs::read_dir(server.proc().join("task")).unwrap().filter(|task| {
        let name = fs::read_to_string(task.as_ref().unwrap().path().join("comm")).unwrap();
        name.starts_with("worker-")
    });
    assert!(workers.count() <= 2, "one and a half processors are two workers at most");
    let told = server.stop().stderr;
    assert!(told.contains("the control group allows 268435456 bytes of memory"), "{told}");
    group.set("pids.max", "3");
    let ended = start(&Scratch::new()).unwrap_err();
    assert_eq!(ended.code, Some(78), "{ended:?}");
    assert!(ended.stderr.contains("more tasks (pids.max)"), "{ended:?}");
}
