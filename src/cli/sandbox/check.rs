//! `quantonium sandbox check`: what this host offers, and what a start here would reach.
//!
//! Owns the report. Invariants: this process changes nothing and only reads; whether a step takes is found out by a child that
//! takes it (`probe`); the exit code is that of the mode that was asked for.

use core::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use super::{ALLOW_MISSING, MODE, PROBE, Wanted, probe};
use crate::console;
use crate::exit::Exit;
use crate::model::Mode;

/// The file that runs, whatever stands at its path by now.
const ITSELF: &str = "/proc/self/exe";

/// What a probe told.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    /// Name, outcome and reason of each step.
    steps: Vec<[String; 3]>,
    landlock_abi: Option<String>,
    /// Why there would be no start.
    failure: Option<String>,
}

/// Prints the report.
pub(super) fn run(wanted: &Wanted) -> Exit {
    let modes = [Mode::Auto, Mode::Strict, Mode::Container];
    let found = modes.map(|mode| {
        let found = probe(&Wanted { mode, allow_missing: wanted.allow_missing.clone() });
        (mode, found)
    });
    let Some((_, asked)) = found.iter().find(|(mode, _)| *mode == wanted.mode) else { return Exit::Software };
    let mut out = host(asked);
    let _ = writeln!(out, "\nA start with --sandbox {} reaches:", wanted.mode.name());
    for [step, outcome, reason] in &asked.steps {
        let why = if reason.is_empty() { String::new() } else { format!(" ({reason})") };
        let _ = writeln!(out, "  {step:<20} {outcome}{why}");
    }
    if asked.steps.is_empty() {
        out.push_str("  nothing: it would not start\n");
    }
    out.push_str("\nModes:\n");
    for (mode, found) in &found {
        let verdict =
            found.failure.as_ref().map_or("starts".to_owned(), |why| format!("does not start: {why}"));
        let _ = writeln!(out, "  {:<20} {verdict}", mode.name());
    }
    console::out(&out);
    if asked.failure.is_none() { Exit::Success } else { Exit::Failure }
}

/// Has a child lock itself down.
fn probe(wanted: &Wanted) -> Found {
    let mut command = Command::new(ITSELF);
    command.args(["sandbox", PROBE, &format!("--{MODE}={}", wanted.mode.name())]);
    command.args(wanted.allow_missing.iter().map(|step| format!("--{ALLOW_MISSING}={step}")));
    match command.env_clear().stdin(Stdio::null()).output() {
        Ok(output) => {
            let mut found = parse(&String::from_utf8_lossy(&output.stdout));
            if found.failure.is_none() && !output.status.success() {
                found.failure = Some(format!("the process that tried it ended with {}", output.status));
            }
            found
        }
        Err(error) => Found { failure: Some(format!("it cannot be tried: {error}")), ..Found::default() },
    }
}

/// Reads the lines of a probe.
fn parse(told: &str) -> Found {
    let mut found = Found::default();
    for line in told.lines() {
        let mut fields = line.splitn(3, '\t').map(str::to_owned);
        let name = fields.next().unwrap_or_default();
        let (value, reason) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
        match name.as_str() {
            probe::LANDLOCK => found.landlock_abi = Some(value),
            probe::FAILURE => found.failure = Some(value),
            _ => found.steps.push([name, value, reason]),
        }
    }
    if found.steps.is_empty() && found.failure.is_none() {
        found.failure = Some("the process that tried it told nothing".to_owned());
    }
    found
}

/// What the host offers, as far as its files say.
fn host(asked: &Found) -> String {
    let status = read("/proc/self/status").unwrap_or_default();
    let limits = read("/proc/self/limits").unwrap_or_default();
    let of_status = |name: &str| labelled(&status, name).unwrap_or_else(|| "not known".to_owned());
    let of_limits = |name: &str| limit(&limits, name).unwrap_or_else(|| "not known".to_owned());
    let setting = |path| read(path).unwrap_or_else(|| "not known".to_owned());
    let abi = asked.landlock_abi.as_deref().unwrap_or("not known");
    let lines = [
        ("kernel", setting("/proc/sys/kernel/osrelease")),
        ("machine", std::env::consts::ARCH.to_owned()),
        ("container", container(&read("/proc/self/cgroup").unwrap_or_default())),
        ("user, group", format!("{}, {}", of_status("Uid"), of_status("Gid"))),
        ("capabilities", of_status("CapEff")),
        ("bounding set", of_status("CapBnd")),
        ("no_new_privs", of_status("NoNewPrivs")),
        ("seccomp actions", setting("/proc/sys/kernel/seccomp/actions_avail")),
        ("filters already", of_status("Seccomp_filters")),
        ("Landlock revision", if abi == "0" { "none".to_owned() } else { abi.to_owned() }),
        ("user namespaces", user_namespaces()),
        ("memfd_secret", setting("/sys/module/secretmem/parameters/enable")),
        ("locked memory", of_limits("Max locked memory")),
        ("descriptors", of_limits("Max open files")),
        ("memory of group", group_limit("memory.max")),
        ("processes of group", group_limit("pids.max")),
    ];
    let mut out = String::from("This host:\n");
    for (name, value) in lines {
        let _ = writeln!(out, "  {name:<20} {value}");
    }
    out
}

/// A small file of the kernel, without the white space at its ends.
fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// The value behind `name:` in a status file, its parts one blank apart.
fn labelled(text: &str, name: &str) -> Option<String> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(line.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// Soft and hard value of a limit, as `/proc/self/limits` has them.
fn limit(text: &str, name: &str) -> Option<String> {
    let mut parts = text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace();
    Some(format!("{}, at most {}", parts.next()?, parts.next()?))
}

/// By what a container is recognised, if this is one.
fn container(groups: &str) -> String {
    for (path, name) in [("/.dockerenv", "Docker"), ("/run/.containerenv", "Podman")] {
        if Path::new(path).exists() {
            return format!("yes ({name})");
        }
    }
    let named =
        ["docker", "kubepods", "libpod", "containerd", "crio"].into_iter().find(|name| groups.contains(name));
    named.map_or_else(|| "none recognised".to_owned(), |name| format!("yes (control group of {name})"))
}

/// Whether an ordinary user may make user namespaces.
fn user_namespaces() -> String {
    let is = |path, value: &str| read(path).is_some_and(|found| found == value);
    if is("/proc/sys/user/max_user_namespaces", "0") {
        "none (user.max_user_namespaces)".to_owned()
    } else if is("/proc/sys/kernel/unprivileged_userns_clone", "0") {
        "for root alone (kernel.unprivileged_userns_clone)".to_owned()
    } else if is("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1") {
        "for root alone, or with a profile (kernel.apparmor_restrict_unprivileged_userns)".to_owned()
    } else if read("/proc/sys/user/max_user_namespaces").is_none() {
        "not known".to_owned()
    } else {
        "not forbidden by a setting".to_owned()
    }
}

/// A limit of the control group that is the root of what is seen here, or of the own one.
fn group_limit(name: &str) -> String {
    let own = read("/proc/self/cgroup").unwrap_or_default();
    let group = own.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or_default().to_owned();
    let found = [format!("/sys/fs/cgroup{group}/{name}"), format!("/sys/fs/cgroup/{name}")];
    found.iter().find_map(|path| read(path)).unwrap_or_else(|| "not known".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_probe_told_is_read() {
        let found = parse("landlock_abi\t7\nidentity\tskipped\tnot root\nseccomp\tdone\t\n");
        assert_eq!(found.landlock_abi.as_deref(), Some("7"));
        assert_eq!(found.steps.len(), 2);
        assert_eq!(found.steps[0], ["identity", "skipped", "not root"].map(str::to_owned));
        assert_eq!(found.failure, None);
        assert_eq!(parse("failure\tsandbox: no\n").failure.as_deref(), Some("sandbox: no"));
    }

    #[test]
    fn a_probe_that_died_without_a_word_is_no_start() {
        assert!(parse("").failure.is_some());
    }

    #[test]
    fn the_kernels_tables_are_read() {
        let status = "Uid:\t1\t2\t3\t4\nCapEff:\t0000\n";
        assert_eq!(labelled(status, "Uid").as_deref(), Some("1 2 3 4"));
        assert_eq!(labelled(status, "Cap"), None);
        let limits = "Limit  Soft Limit  Hard Limit  Units\nMax open files   1024   20000   files\n";
        assert_eq!(limit(limits, "Max open files").as_deref(), Some("1024, at most 20000"));
        assert!(container("0::/kubepods/x").starts_with("yes"));
    }
}
