//! `quantonium sandbox` of the real binary: the filters as it shows them, what it says of this host, and the files of `deploy/`.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic, its helping functions too")]

#[path = "support/server.rs"]
mod server;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use server::{Scratch, Server, skip};

/// Each profile and its file, as in `scripts/sandbox-generated`.
const FILES: [(&str, &str); 7] = [
    ("docker", "docker-seccomp.json"),
    ("oci", "oci-config.json"),
    ("apparmor", "apparmor-quantonium"),
    ("selinux", "quantonium.cil"),
    ("systemd", "quantonium.service"),
    ("systemd-socket", "quantonium.socket"),
    ("kubernetes", "kubernetes.yaml"),
];
/// What is written by hand; `scripts/check-deploy` reads it.
const BY_HAND: [&str; 5] =
    ["compose-fleet.yaml", "compose.yaml", "grafana", "kubernetes-fleet.yaml", "prometheus"];
/// Ten times the exposure that `systemd-analyze security` may find: 1.0.
const EXPOSURE_TENTHS: &str = "--threshold=10";

fn run(words: &[&str]) -> Option<Output> {
    let mut command = Command::new(server::binary()?);
    Some(command.args(words).env_clear().stdin(Stdio::null()).output().unwrap())
}

fn said(words: &[&str]) -> Option<String> {
    let output = run(words)?;
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{words:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    Some(text)
}

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy")
}

#[test]
fn the_files_for_deployment_are_what_the_binary_prints() {
    for (profile, file) in FILES {
        let Some(printed) = said(&["sandbox", "profile", profile]) else { return };
        let kept = fs::read_to_string(deploy().join(file)).unwrap_or_default();
        assert!(
            printed == kept,
            "deploy/{file} differs from `quantonium sandbox profile {profile}`: make deploy-profiles"
        );
    }
    let mut kept: Vec<String> = fs::read_dir(deploy())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let mut made: Vec<String> =
        FILES.iter().map(|(_, file)| *file).chain(BY_HAND).map(str::to_owned).collect();
    kept.sort();
    made.sort();
    assert_eq!(kept, made, "a file that nothing makes");
}

#[test]
fn every_rule_of_the_source_is_shown() {
    let Some(shown) = said(&["sandbox", "show", "--format", "json"]) else { return };
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let architecture = shown["architecture"].as_str().unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("seccomp/{architecture}.json"));
    let source: Value = serde_json::from_str(&fs::read_to_string(source).unwrap()).unwrap();
    for (role, filter) in source.as_object().unwrap() {
        let rules = filter["filter"].as_array().unwrap();
        let of_role = shown["roles"][role]["rules"].as_array().unwrap();
        assert_eq!(of_role.len(), rules.len(), "{role}");
        for (shown, rule) in of_role.iter().zip(rules) {
            assert_eq!((&shown["call"], &shown["needed_by"]), (&rule["syscall"], &rule["comment"]), "{role}");
        }
    }
}

#[test]
fn a_check_tells_each_step_and_ends_as_a_start_here_would() {
    let Some(output) = run(&["sandbox", "check"]) else { return };
    let report = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{report}");
    assert!(report.contains("\n  auto                 starts\n"), "{report}");
    for step in ["resource-limits", "capability-sets", "no-new-privs", "seccomp", "self-check"] {
        assert!(report.contains(&format!("\n  {step:<20} done\n")), "{step}: {report}");
    }
    // What a start in fact reaches, from its own log: the same steps are skipped.
    let scratch = Scratch::new();
    let server = Server::start_in(&scratch, &[]).unwrap();
    let ended = server.stop();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for line in report.lines().filter(|line| line.contains(" skipped (")) {
        let (step, reason) = line.trim().split_once(' ').unwrap();
        let reason = reason.trim().trim_start_matches("skipped (").trim_end_matches(')');
        // The log has the words of the reason, whoever is named in it.
        assert!(ended.stderr.contains(reason), "{step}: {reason}: {}", ended.stderr);
    }
}

#[test]
fn a_check_of_a_mode_that_would_not_start_is_1_and_names_the_step() {
    let Some(output) = run(&["sandbox", "check", "--sandbox", "strict"]) else { return };
    let report = String::from_utf8(output.stdout).unwrap();
    let verdict = report.lines().find(|line| line.starts_with("  strict ")).unwrap();
    // Which of the two it is depends on the machine; that they agree does not.
    let starts = verdict.trim_end().ends_with(" starts");
    assert_eq!(output.status.code(), Some(i32::from(!starts)), "{report}");
    assert!(starts || verdict.contains("does not start: sandbox: "), "{verdict}");
}

#[test]
fn mistakes_are_64_and_say_what_there_is() {
    for (words, answer) in [
        (&["sandbox", "shw"][..], "unknown sandbox command shw; did you mean `quantonium sandbox show`?"),
        (
            &["sandbox", "profile", "dokcer"],
            "unknown profile dokcer; did you mean `quantonium sandbox profile docker`?",
        ),
        (&["sandbox", "profile"], "sandbox profile needs one of docker, oci, "),
        (&["sandbox", "show", "--role", "nobody"], "--role: nobody is none of worker, keeper, "),
        (&["sandbox", "check", "--sandbox", "none"], "--sandbox: none is none of auto, strict, container"),
        (&["sandbox", "check", "--sandbox-allow-missing=x"], "--sandbox-allow-missing: x is none of "),
        (
            &["sandbox", "--role"],
            "--role stands before what to do; did you mean `quantonium sandbox show --role`?",
        ),
    ] {
        let Some(output) = run(words) else { return };
        assert_eq!(output.status.code(), Some(64), "{words:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.starts_with(&format!("quantonium: {answer}")), "{said}");
    }
}

#[test]
fn the_unit_exposes_next_to_nothing() {
    let probe = Command::new("systemd-analyze").arg("--version").output();
    if !probe.is_ok_and(|output| output.status.success()) {
        return skip("it needs systemd-analyze");
    }
    // The program need not be installed for its unit to be judged.
    let scratch = Scratch::new();
    let unit = fs::read_to_string(deploy().join("quantonium.service")).unwrap();
    let path = scratch.path("quantonium.service");
    fs::write(&path, unit.replace("ExecStart=/usr/local/bin/quantonium", "ExecStart=/bin/true")).unwrap();
    let mut command = Command::new("systemd-analyze");
    let output = command
        .args(["security", "--offline=yes", EXPOSURE_TENTHS, "--no-pager"])
        .arg(path)
        .output()
        .unwrap();
    let report = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{report}{}", String::from_utf8_lossy(&output.stderr));
    assert!(report.contains("Overall exposure level for quantonium.service"), "{report}");
}
