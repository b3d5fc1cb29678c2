//! The crates that the program is made of, in the form that scanners read from a binary.
//!
//! `cargo tree` says which they are for this target and these features; what is written is the list of `cargo auditable`:
//! JSON, compressed by zlib, which `src/build_info.rs` puts into the section `.dep-v0`. Invariants: the list depends on
//! `Cargo.lock`, target and features alone, and making it needs no network.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use serde_json::{Map, Value, json};

use super::Outcome;

/// What cargo says of a crate, without the mark of what was shown before: its identity.
type Name = String;

/// The crates, and which of them each one needs.
#[derive(Default)]
struct Graph {
    root: Name,
    needs: BTreeMap<Name, BTreeSet<Name>>,
}

/// Writes the list into `OUT_DIR`.
///
/// # Errors
/// Cargo could not say which crates they are. Only a release build is refused for it; any other one has an empty list, and so
/// has the library in the benches of peers and the fuzzers, for which our own crates need not have been fetched.
pub(crate) fn write(root: &Path) -> Outcome<()> {
    let folder = PathBuf::from(env::var("OUT_DIR")?);
    let elsewhere = ["benches", "fuzz"].iter().any(|part| folder.starts_with(root.join(part)));
    let list = match listed(root) {
        Ok(list) => list,
        Err(error) if env::var("PROFILE")? == "release" && !elsewhere => {
            return Err(format!("the list of crates could not be made: {error}").into());
        }
        Err(error) => {
            super::say(&format!("cargo::warning=no list of crates: {error}"))?;
            json!({ "packages": [] })
        }
    };
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(list.to_string().as_bytes())?;
    Ok(fs::write(folder.join("crates.zlib"), encoder.finish()?)?)
}

/// The list: sorted, each crate with the places of those it needs.
fn listed(root: &Path) -> Outcome<Value> {
    let all = tree(root, "normal,build")?;
    // What a procedural macro needs runs in the compiler, as a build script does.
    let inside = tree(root, "normal,no-proc-macro")?;
    let places: BTreeMap<&Name, usize> = all.needs.keys().zip(0..).collect();
    let mut packages = Vec::new();
    for (name, needs) in &all.needs {
        let mut words = name.split(' ');
        let (Some(crate_name), Some(version)) = (words.next(), words.next()) else {
            return Err(format!("cargo tree: {name:?} is no crate").into());
        };
        let source = match words.find(|word| *word != "(proc-macro)") {
            None => "crates.io",
            Some(path) if path.starts_with("(/") => "local",
            Some(_) => "registry",
        };
        let mut package = Map::new();
        package.insert("name".into(), crate_name.into());
        package.insert("version".into(), version.trim_start_matches('v').into());
        package.insert("source".into(), source.into());
        if !inside.needs.contains_key(name) {
            package.insert("kind".into(), "build".into());
        }
        let needed: Vec<usize> = needs.iter().filter_map(|needed| places.get(needed).copied()).collect();
        if !needed.is_empty() {
            package.insert("dependencies".into(), needed.into());
        }
        if *name == all.root {
            package.insert("root".into(), true.into());
        }
        packages.push(Value::Object(package));
    }
    Ok(json!({ "packages": packages }))
}

/// Asks cargo, without the network: whoever builds has fetched these crates already.
fn tree(root: &Path, edges: &str) -> Outcome<Graph> {
    let mut asked = Command::new(env::var("CARGO")?);
    asked.current_dir(root).args(["tree", "--quiet", "--locked", "--offline", "--no-default-features"]);
    asked.args(["--target", &env::var("TARGET")?, "--edges", edges, "--prefix", "depth", "--format", " {p}"]);
    asked.args(["--features", &super::features().replace("none", "")]);
    let answer = asked.output()?;
    if !answer.status.success() {
        return Err(String::from_utf8_lossy(&answer.stderr).trim().to_owned().into());
    }
    let mut graph = Graph::default();
    // The crates from the root down to the line before.
    let mut above: Vec<Name> = Vec::new();
    for line in String::from_utf8(answer.stdout)?.lines() {
        let (depth, name) = line.split_once(' ').ok_or_else(|| format!("cargo tree: {line:?}"))?;
        let name = name.trim_end_matches(" (*)").trim();
        above.truncate(depth.parse()?);
        match above.last() {
            None => graph.root = name.to_owned(),
            Some(parent) => {
                graph.needs.entry(parent.clone()).or_default().insert(name.to_owned());
            }
        }
        graph.needs.entry(name.to_owned()).or_default();
        above.push(name.to_owned());
    }
    Ok(graph)
}
