//! Completions and manual pages, read and tried by the programs that they are for.

use std::fs;
use std::process::{Command, Output, Stdio};

use crate::server::{Scratch, binary, skip};

fn printed(words: &[&str]) -> Option<String> {
    let output = Command::new(binary()?).args(words).env_clear().output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{words:?}: {output:?}");
    Some(String::from_utf8(output.stdout).unwrap())
}

/// Runs a program of this system; nothing if it has none.
fn run(program: &str, arguments: &[&str]) -> Option<Output> {
    Command::new(program).args(arguments).stdin(Stdio::null()).output().ok()
}

/// Every command, as the manual page of the program lists them.
fn commands() -> Option<Vec<String>> {
    let page = printed(&["man"])?;
    let (_, list) = page.split_once(".SH COMMANDS\n").unwrap();
    let names = list.split(".SH").next().unwrap().lines().filter_map(|line| line.strip_prefix("\\fB"));
    Some(names.map(|line| line.strip_suffix("\\fR").unwrap().replace("\\-", "-")).collect())
}

#[test]
fn scripts_are_read_by_their_shells() {
    let scratch = Scratch::new();
    for shell in ["bash", "zsh", "fish"] {
        let Some(script) = printed(&["completions", shell]) else { return };
        let path = scratch.path(shell);
        fs::write(&path, script).unwrap();
        match run(shell, &["-n", path.to_str().unwrap()]) {
            Some(output) => assert!(output.status.success(), "{shell}: {output:?}"),
            None => skip(&format!("{shell} is not installed")),
        }
    }
}

#[test]
fn bash_offers_what_can_stand_there() {
    let Some(script) = printed(&["completions", "bash"]) else { return };
    let scratch = Scratch::new();
    let path = scratch.path("script");
    fs::write(&path, script).unwrap();
    fs::write(scratch.path("a file"), "").unwrap();
    let offered = |line: &str| -> Vec<String> {
        let try_it = r#"cd "$2" && source "$1" && shift 2 && COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) && _quantonium; printf '%s\n' "${COMPREPLY[@]}""#;
        let mut arguments =
            vec!["-c", try_it, "bash", path.to_str().unwrap(), path.parent().unwrap().to_str().unwrap()];
        arguments.extend(line.split(' '));
        let Some(output) = run("bash", &arguments) else {
            skip("bash is not installed");
            return Vec::new();
        };
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{line}");
        String::from_utf8(output.stdout)
            .unwrap()
            .lines()
            .filter(|line| !line.is_empty())
            .map(str::to_owned)
            .collect()
    };
    if run("bash", &["-c", "true"]).is_none() {
        return skip("bash is not installed");
    }
    for (line, words) in [
        ("quantonium enc", &["encrypt"][..]),
        ("quantonium re", &["rewrap"]),
        ("quantonium key ro", &["rotate"]),
        ("quantonium store re", &["rekey"]),
        ("quantonium encrypt --f", &["--form", "--force"]),
        ("quantonium encrypt --key orders --form st", &["stream"]),
        ("quantonium key create orders --type hmac-sha2", &["hmac-sha256"]),
        ("quantonium encrypt --key ", &[]),
        ("quantonium encrypt a", &["a file"]),
        ("quantonium encrypt --out a", &["a file"]),
        ("quantonium key rotate a", &[]),
        ("quantonium serve --master-key", &["--master-key-file"]),
        ("quantonium completions ", &["bash", "zsh", "fish"]),
        ("quantonium nothing --x", &[]),
    ] {
        assert_eq!(offered(line), words, "{line}");
    }
    // What it offers the program takes.
    let flags = offered("quantonium key config orders --");
    assert!(
        flags.contains(&"--keep-versions".to_owned()) && flags.contains(&"--ca-cert".to_owned()),
        "{flags:?}"
    );
}

#[test]
fn every_command_has_a_manual_page_that_is_well_formed() {
    let Some(commands) = commands() else { return };
    assert!(
        commands.contains(&"key rotate".to_owned()) && commands.contains(&"serve".to_owned()),
        "{commands:?}"
    );
    let scratch = Scratch::new();
    let mut pages = vec![scratch.path("quantonium.1")];
    fs::write(&pages[0], printed(&["man"]).unwrap()).unwrap();
    for command in &commands {
        let words: Vec<&str> = ["man"].into_iter().chain(command.split(' ')).collect();
        let path = scratch.path(&format!("quantonium-{}.1", command.replace(' ', "-")));
        fs::write(&path, printed(&words).unwrap()).unwrap();
        pages.push(path);
    }
    if run("groff", &["--version"]).is_none() {
        return skip("groff is not installed");
    }
    let paths: Vec<&str> = pages.iter().map(|path| path.to_str().unwrap()).collect();
    // Each warning is a line on standard error; nothing is printed.
    let checked = run("groff", &[&["-man", "-ww", "-z", "-Tutf8"][..], &paths].concat()).unwrap();
    assert!(checked.status.success(), "{checked:?}");
    assert_eq!(String::from_utf8_lossy(&checked.stderr), "");
    let shown = run("groff", &["-man", "-Tascii", "-P-cbou", paths[0]]).unwrap();
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("quantonium - cryptography as a service"), "{shown}");
}
