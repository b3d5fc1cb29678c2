//! The packages of other languages against which formats are held: Python's in a venv, Node's in a folder.
//!
//! Owns `target/interop`, `target/openapi` and `target/vault`, with the packages of `requirements.txt` in the folders of tests
//! of these names, and `target/interop-node`, `target/console-node` and `target/vault-node`, with those of
//! `package-lock.json`. Invariants: packages are installed by hash and nothing of theirs runs while
//! they are, Python's only from wheels; where that cannot be done, a test says why and is skipped.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic, its helping functions too")]
#![allow(dead_code, reason = "included by several test files, none of which uses all of it")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::server::skip;

/// What the tree's own files are found below.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The interpreter of the venv; if there is none, says aloud why.
pub(crate) fn python() -> Option<&'static Path> {
    static MADE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    made(MADE.get_or_init(|| make_venv("interop")))
}

/// The interpreter of the venv of what reads descriptions of an API.
pub(crate) fn openapi_python() -> Option<&'static Path> {
    static MADE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    made(MADE.get_or_init(|| make_venv("openapi")))
}

/// The interpreter of the venv with clients of Vault, beside which stands `bao`; if there is none, says aloud why.
pub(crate) fn vault_python() -> Option<&'static Path> {
    static MADE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    made(MADE.get_or_init(|| make_venv("vault")))
}

/// The program that drives a server with the Rust client of Vault; if it cannot be built, says aloud why.
pub(crate) fn vaultrs_client() -> Option<&'static Path> {
    static MADE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    made(MADE.get_or_init(|| {
        let target = root().join("target/vaultrs");
        let mut build = Command::new("cargo");
        // Its own settings count, not those of the build that this test may be run by.
        build.args(["build", "--locked", "--quiet"]).current_dir(root().join("tests/vaultrs"));
        build.env("CARGO_TARGET_DIR", &target).env_remove("CARGO_ENCODED_RUSTFLAGS").env_remove("RUSTFLAGS");
        fetch(&mut build)?;
        let host = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
        Ok(target.join(host).join("debug/vaultrs-client"))
    }))
}

/// What was made; if nothing was, says aloud why.
fn made(outcome: &'static Result<PathBuf, String>) -> Option<&'static Path> {
    match outcome {
        Ok(path) => Some(path),
        Err(reason) => {
            skip(reason);
            None
        }
    }
}

/// Makes the venv of this name, unless one with these requirements is there.
fn make_venv(name: &str) -> Result<PathBuf, String> {
    let folder = root().join("target").join(name);
    let requirements = root().join("tests").join(name).join("requirements.txt");
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
    fetch(install.args(["--require-hashes", "--requirement"]).arg(&requirements))?;
    fs::write(&ready, wanted).unwrap();
    Ok(python)
}

/// The folder of Node's packages, for programs to run in; if there is none, says aloud why.
pub(crate) fn node_folder() -> Option<&'static Path> {
    static MADE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    made(MADE.get_or_init(|| make_node_folder("interop")))
}

/// The same with clients of Vault.
pub(crate) fn vault_node_folder() -> Option<&'static Path> {
    static MADE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    made(MADE.get_or_init(|| make_node_folder("vault")))
}

/// The folder of what drives a browser and looks at what it shows.
pub(crate) fn browser_folder() -> Option<&'static Path> {
    static MADE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    made(MADE.get_or_init(|| make_node_folder("console")))
}

/// Fills the folder of this name, unless it is filled from its lock file.
fn make_node_folder(name: &str) -> Result<PathBuf, String> {
    run(Command::new("node").arg("--version"))?;
    let folder = root().join(format!("target/{name}-node"));
    let [manifest, lock] =
        ["package.json", "package-lock.json"].map(|file| root().join("tests").join(name).join(file));
    let wanted = fs::read(&lock).unwrap();
    let ready = folder.join("installed.json");
    if fs::read(&ready).is_ok_and(|installed| installed == wanted) {
        return Ok(folder);
    }
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    fs::copy(manifest, folder.join("package.json")).unwrap();
    fs::copy(lock, folder.join("package-lock.json")).unwrap();
    let mut install = Command::new("npm");
    install.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]);
    fetch(install.current_dir(&folder))?;
    fs::write(&ready, wanted).unwrap();
    Ok(folder)
}

/// Runs a command that asks an index of packages: where nothing may be skipped, one that fails is asked again.
fn fetch(command: &mut Command) -> Result<(), String> {
    let rounds = if std::env::var_os("QUANTONIUM_REQUIRE").is_some_and(|value| value == "1") { 3 } else { 1 };
    let mut last = Ok(());
    for _ in 0..rounds {
        last = run(command);
        if last.is_ok() {
            break;
        }
    }
    // That is no lack of the machine's: a package is not the one that was looked at. Once it may be half of that, of which
    // the other half was lost on the way.
    let is_another = |said: &String| said.contains("DO NOT MATCH THE HASHES") || said.contains("EINTEGRITY");
    assert!(!last.as_ref().is_err_and(is_another), "{last:?}");
    last
}

/// Runs a command that the machine may not be able to do.
fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{:?}: {error}", command.get_program()))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(()) } else { Err(format!("{command:?}: {}: {said}", output.status)) }
}
