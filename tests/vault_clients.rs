//! Clients of Vault, unmodified, against the real binary: hvac, vaultrs, node-vault and the `bao` command line; the same requests to
//! an `OpenBao`, with the replies compared; and keys moved from it and back.
//!
//! Owns what each must have done. Invariant: what was not done is a failure, not a silence.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic, its helping functions too")]

#[path = "support/packages.rs"]
mod packages;
#[path = "support/server.rs"]
mod server;

use std::process::Command;

use packages::{root, vault_node_folder, vault_python, vaultrs_client};
use server::{Server, binary};

/// Runs a script against a fresh server and returns what it printed.
fn said(mut program: Command, script: &str, more: &[&str]) -> Option<String> {
    program.arg(root().join("tests/vault").join(script));
    done(program, script, more)
}

/// Runs a program against a fresh server and returns what it printed.
fn done(mut program: Command, script: &str, more: &[&str]) -> Option<String> {
    binary()?;
    let server = Server::start(&[])?;
    program.arg(format!("http://{}", server.address())).arg(server.data_dir().join("admin.key")).args(more);
    let output = program.output().unwrap();
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{script}: {}\n{out}\n{err}", output.status);
    Some(out)
}

fn with_python(script: &str, more: &[&str]) -> Option<String> {
    let mut command = Command::new(vault_python()?);
    // Nothing is written beside the sources.
    command.arg("-B");
    said(command, script, more)
}

/// Asserts that each of these was done.
fn assert_covered(said: &str, wanted: &[&str]) {
    for name in wanted {
        let line = format!("covered: {name}");
        assert!(said.lines().any(|found| found == line), "not done: {name}\n{said}");
    }
}

#[test]
fn hvac_finds_everything_that_it_asks_for() {
    let Some(said) = with_python("hvac_client.py", &[]) else { return };
    assert_covered(
        &said,
        &[
            "create",
            "read",
            "list",
            "encrypt",
            "decrypt",
            "rotate and rewrap",
            "batch",
            "datakey 512",
            "hmac and verify sha2-512",
            "random",
            "hash",
            "export",
            "backup and restore",
            "convergent",
            "config",
            "trim",
            "delete",
            "approle",
            "revoke-self",
        ],
    );
}

#[test]
fn the_bao_command_line_finds_everything_that_it_asks_for() {
    let Some(said) = with_python("bao_client.py", &[]) else { return };
    assert_covered(
        &said,
        &[
            "status",
            "token lookup",
            "secrets list",
            "create",
            "read",
            "list",
            "decrypt",
            "rotate",
            "rewrap",
            "datakey",
            "verify",
            "random",
            "hash",
            "batch",
            "export",
            "config",
            "delete",
            "approle",
            "revoke-self",
        ],
    );
}

#[test]
fn node_vault_finds_everything_that_it_asks_for() {
    let Some(folder) = vault_node_folder() else { return };
    let mut command = Command::new("node");
    command.current_dir(folder);
    let Some(said) = said(command, "node_client.mjs", &[]) else { return };
    assert_covered(
        &said,
        &[
            "create and read",
            "list",
            "encrypt and decrypt",
            "rotate and rewrap",
            "datakey",
            "hmac and verify",
            "random",
            "hash",
            "batch",
            "delete",
            "approle",
            "revoke-self",
        ],
    );
}

#[test]
fn vaultrs_finds_everything_that_it_asks_for() {
    let Some(program) = vaultrs_client() else { return };
    let Some(said) = done(Command::new(program), "vaultrs", &[]) else { return };
    assert_covered(
        &said,
        &[
            "health",
            "status",
            "mounts",
            "create and read",
            "list",
            "encrypt and decrypt",
            "rotate and rewrap",
            "datakey",
            "hmac and verify",
            "random",
            "hash",
            "export",
            "config and delete",
            "approle",
            "revoke-self",
        ],
    );
}

#[test]
fn openbao_answers_the_same_requests_alike() {
    for seed in ["1", "2"] {
        let Some(said) = with_python("differential.py", &[seed, "300"]) else { return };
        let line = said.lines().find_map(|line| line.strip_prefix("compared: "));
        let compared: u32 = line.unwrap_or_else(|| panic!("{said}")).parse().unwrap();
        assert!(compared > 300, "{compared}");
    }
}

#[test]
fn keys_move_from_openbao_with_what_they_have_sealed_and_back() {
    let Some(said) = with_python("migration.py", &[]) else { return };
    for name in ["plain", "long", "derived", "convergent", "mac"] {
        assert_covered(&said, &[&format!("backup {name}"), &format!("export {name}")]);
    }
    assert_covered(&said, &["convergent bytes", "HMAC bytes", "back"]);
}
