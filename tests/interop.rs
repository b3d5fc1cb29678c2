//! The formats, written a second time in Python, against this code's documents and against the real binary.
//!
//! Owns the environment of that program, a venv under `target/interop` with the packages of
//! `tests/interop/requirements.txt`, and the list of what must have been compared. Invariants: packages are
//! installed by hash and only from wheels; a combination that was not compared is a failure, not a silence.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic, its helping functions too")]

#[path = "support/server.rs"]
mod server;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use server::{Server, binary, skip};

const AEAD_TYPES: [&str; 2] = ["xchacha20-poly1305", "chacha20-poly1305"];
const HMAC_TYPES: [&str; 3] = ["hmac-sha256", "hmac-sha384", "hmac-sha512"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The interpreter of the venv; if there is none, says aloud why.
fn python() -> Option<&'static Path> {
    static MADE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match MADE.get_or_init(make_venv) {
        Ok(python) => Some(python),
        Err(reason) => {
            skip(reason);
            None
        }
    }
}

/// Makes the venv, unless one with these requirements is there.
fn make_venv() -> Result<PathBuf, String> {
    let folder = root().join("target/interop");
    let requirements = root().join("tests/interop/requirements.txt");
    let wanted = fs::read(&requirements).unwrap();
    let (python, ready) = (folder.join("bin/python"), folder.join("installed.txt"));
    if python.exists() && fs::read(&ready).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    // What stands there is another one, or half of one.
    let _ = fs::remove_dir_all(&folder);
    run(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
    let mut install = Command::new(&python);
    install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary=:all:"]);
    run(install.args(["--require-hashes", "--requirement"]).arg(&requirements))?;
    fs::write(&ready, wanted).unwrap();
    Ok(python)
}

/// Runs a command that the machine may not be able to do.
fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{:?}: {error}", command.get_program()))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    // That is no lack of the machine's: a package is not the one that was looked at.
    assert!(!said.contains("DO NOT MATCH THE HASHES"), "{said}");
    if output.status.success() { Ok(()) } else { Err(format!("{command:?}: {}: {said}", output.status)) }
}

/// Runs one of the two programs and returns what it printed.
fn printed(python: &Path, program: &str, arguments: &[&Path]) -> String {
    // Nothing is written beside the sources.
    let mut command = Command::new(python);
    command.arg("-B").arg(root().join("tests/interop").join(program)).args(arguments);
    let output = command.output().unwrap();
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{program}: {}\n{out}\n{err}", output.status);
    out
}

#[test]
fn the_other_implementation_gives_the_examples_of_the_documents() {
    let Some(python) = python() else { return };
    let said = printed(python, "quantonium_formats.py", &[&root().join("docs/FORMATS.md")]);
    assert!(said.contains("known answers with checkpoint: 1\n"), "{said}");
    for kind in ["text", "file_key", "keystream", "signature"] {
        let line = said.lines().find_map(|line| line.strip_prefix(&format!("known answers with {kind}: ")));
        let count: usize = line.unwrap_or_else(|| panic!("nothing of {kind}: {said}")).parse().unwrap();
        assert!(count >= 2, "{kind}: {count}");
    }
}

#[test]
fn the_server_and_the_other_implementation_read_one_another() {
    let (Some(_), Some(python)) = (binary(), python()) else { return };
    let Some(server) = Server::start(&[]) else { return };
    let url = format!("http://{}", server.address());
    let said = printed(python, "interop.py", &[Path::new(&url), &server.data_dir().join("admin.key")]);
    let lines = said.lines().map(|line| line.strip_prefix("covered: ").unwrap().to_owned());
    let covered: BTreeSet<String> = lines.collect();
    let wanted = combinations();
    let missing: Vec<_> = wanted.difference(&covered).collect();
    let unknown: Vec<_> = covered.difference(&wanted).collect();
    assert!(missing.is_empty() && unknown.is_empty(), "not compared: {missing:?}\nnot listed: {unknown:?}");
}

/// Everything that must have been compared.
fn combinations() -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for kind in AEAD_TYPES {
        for derived in ["plain", "derived"] {
            for data in ["with data", "without data"] {
                for form in ["text", "binary", "stream"] {
                    for direction in ["from the server", "to the server"] {
                        all.insert(format!("{form} {kind} {derived} {data} {direction}"));
                    }
                }
                for bits in [128, 256, 512] {
                    all.insert(format!("datakey {kind} {derived} {data} {bits}"));
                }
                all.insert(format!("hex {kind} {derived} {data}"));
            }
            for nonce in ["nonce of the server", "nonce of the client"] {
                all.insert(format!("keystream {kind} {derived} {nonce}"));
            }
            all.extend(["sign", "verify"].map(|operation| format!("{operation} {kind} {derived}")));
        }
    }
    for kind in HMAC_TYPES {
        all.extend(["sign", "verify"].map(|operation| format!("{operation} {kind} plain")));
    }
    all.extend(AEAD_TYPES.iter().chain(&HMAC_TYPES).map(|kind| format!("import {kind}")));
    all
}
