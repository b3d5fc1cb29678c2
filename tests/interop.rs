//! The formats, written a second time in Python, against this code's documents and against the real binary.
//!
//! Owns the list of what must have been compared. Invariant: a combination that was not compared is a failure, not a
//! silence.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic, its helping functions too")]

#[path = "support/packages.rs"]
mod packages;
#[path = "support/server.rs"]
mod server;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use packages::{python, root};
use server::{Server, binary};

const AEAD_TYPES: [&str; 2] = ["xchacha20-poly1305", "chacha20-poly1305"];
const HMAC_TYPES: [&str; 3] = ["hmac-sha256", "hmac-sha384", "hmac-sha512"];

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
