//! The table of the seven phases in `SECURITY.md` promises nothing that is not there, and `scripts/signoff` tells what
//! passed from what failed and from what did not run.
//!
//! Owns no table but those of its own tests. Invariant: no command of a phase is run here.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

#[path = "support/server.rs"]
mod server;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use server::{Scratch, skip};

const SECURITY: &str = include_str!("../SECURITY.md");
const MAKEFILE: &str = include_str!("../Makefile");
const BEGIN: &str = "<!-- signoff: begin -->\n";
const END: &str = "<!-- signoff: end -->\n";

/// The cells of each row of a phase: phase, promise, where, command, result.
fn rows(page: &str) -> Vec<Vec<String>> {
    let table = page.split(BEGIN).nth(1).unwrap().split(END).next().unwrap();
    let lines = table.lines().filter(|line| line[2..].starts_with(|first: char| first.is_ascii_digit()));
    lines.map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()).collect()
}

/// What stands in single backticks.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_seven_phases_name_what_is_there() {
    let rows = rows(SECURITY);
    let phases: Vec<&str> = rows.iter().map(|row| row[0].split(' ').next().unwrap()).collect();
    assert_eq!(phases, ["1", "2", "3", "4", "5", "6", "7"]);
    for row in &rows {
        assert_eq!(row.len(), 5, "{row:?}");
        assert!(quoted(&row[2]).count() > 1, "{row:?}");
        for path in quoted(&row[2]) {
            assert!(root().join(path).exists(), "{}: {path}", row[0]);
        }
        let target = row[3].trim_matches('`').strip_prefix("make ").unwrap();
        assert!(MAKEFILE.contains(&format!("\n{target}: build")), "{target}");
    }
}

#[test]
fn every_test_file_that_a_phase_runs_is_there() {
    let proofs = MAKEFILE.lines().filter_map(|line| line.split_once("PROOFS = $(addprefix --test ,"));
    let mut counted = 0;
    for (phase, names) in proofs {
        for name in names.trim_end_matches(')').split(' ') {
            assert!(root().join(format!("tests/{name}.rs")).exists(), "{phase}{name}");
            counted += 1;
        }
    }
    assert!(counted > 40, "{counted} test files");
}

#[test]
fn a_result_names_the_commit_that_it_is_of() {
    for row in rows(SECURITY) {
        let result = &row[4];
        let named =
            quoted(result).any(|word| word.len() == 12 && word.bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert!(named || result == "not run", "{result}");
    }
}

/// A table with a row for each of these, of place and command.
fn table(rows: &[(&str, &str)]) -> String {
    let rows: String = rows
        .iter()
        .zip(1..)
        .map(|((place, command), number)| {
            format!("| {number} phase | a promise | `{place}` | `{command}` | passed on some day, `000000000000`: 9 tests |\n")
        })
        .collect();
    format!(
        "before\n{BEGIN}| phase | promise | where | command | result |\n|---|---|---|---|---|\n{rows}{END}behind\n"
    )
}

/// Runs the script over the table in this tree; returns whether it ended well, and the table with its results.
fn sign_off(folder: &Scratch, page: &str, more: &[&str]) -> (bool, String) {
    let path = folder.path("table.md");
    fs::write(&path, page).unwrap();
    let mut command = Command::new("bash");
    command.arg(root().join("scripts/signoff")).args(["--here", "--write", "--table"]).arg(&path).args(more);
    let output = command.env_remove("MAKEFLAGS").output().unwrap();
    (output.status.success(), fs::read_to_string(path).unwrap())
}

#[test]
fn a_command_that_fails_skips_or_did_not_run_is_never_told_to_have_passed() {
    if !Command::new("git").arg("--version").output().is_ok_and(|output| output.status.success()) {
        skip("git is not installed");
        return;
    }
    let scratch = Scratch::new();
    let ran = "echo test result: ok. 5 passed; echo test result: ok. 2 passed";
    let part = "echo cosign reads them; printf '%-36s \\x7c %-8s \\x7c why\\\\n' cosign 'not run'";
    let cases = [
        ("src", ran, "passed on "),
        ("src", "echo too bad; false", "**failed** on "),
        ("src", "no-such-command-of-anybody", "**failed** on "),
        ("src", "echo skipped: no such tool", "not run on "),
        ("src", "echo skipped: no such tool; false", "not run on "),
        ("src/no-such-file", "true", "**failed** on "),
        ("src", part, "passed in part on "),
    ];
    let pairs: Vec<(&str, &str)> = cases.iter().map(|(place, command, _)| (*place, *command)).collect();
    let (is_good, written) = sign_off(&scratch, &table(&pairs), &[]);
    assert!(!is_good, "{written}");
    assert!(written.starts_with("before\n") && written.ends_with("behind\n"), "{written}");
    let found = rows(&written);
    assert_eq!(found.len(), cases.len(), "{written}");
    for (row, (_, command, begin)) in found.iter().zip(&cases) {
        assert!(row[4].starts_with(begin), "{command}: {}", row[4]);
        assert!(row[4].contains("in a built tree"), "{}", row[4]);
    }
    assert!(found[0][4].ends_with(": 7 tests"), "{}", found[0][4]);
    assert!(found[1][4].contains("too bad"), "{}", found[1][4]);
    assert!(found[5][4].contains("src/no-such-file"), "{}", found[5][4]);
    assert!(found[6][4].ends_with("not run here: cosign"), "{}", found[6][4]);
}

#[test]
fn what_was_not_asked_for_keeps_no_result_of_another_commit() {
    let scratch = Scratch::new();
    let (is_good, written) =
        sign_off(&scratch, &table(&[("src", "true"), ("src", "false")]), &["--only", "1"]);
    assert!(is_good, "{written}");
    let results: BTreeSet<String> = rows(&written).into_iter().map(|row| row[4].clone()).collect();
    assert!(results.iter().any(|result| result.starts_with("passed on ")), "{results:?}");
    assert!(results.iter().any(|result| result.starts_with("not run on ")), "{results:?}");
    assert!(results.iter().all(|result| !result.contains("000000000000")), "{results:?}");
}
