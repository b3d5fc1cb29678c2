//! What is told of where the program comes from, held against what it comes from.
//!
//! - the list of crates in the binary, against `Cargo.lock`;
//! - `/.well-known/security.txt`, against `SECURITY.md`;
//! - `docs/REVIEWS.md`, against `Cargo.lock`: another version, or another file of the same, is not what was read;
//! - the workflows: each action by a commit, nothing allowed that is not named.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic, its helping functions too")]
#![allow(clippy::panic, clippy::indexing_slicing, reason = "the whole file is a test")]

#[path = "support/server.rs"]
mod server;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read as _;
use std::path::Path;

use flate2::read::ZlibDecoder;
use serde_json::Value;
use server::Server;
use server::client::Request;

/// The list of crates must cost nothing worth speaking of.
const LIST_MAX_BYTES: usize = 8 * 1024;

/// Crates whose code sees keys, credentials or plaintext: each has its row in `docs/REVIEWS.md`.
const SEE_SECRETS: [&str; 32] = [
    "aws-lc-rs",
    "aws-lc-sys",
    "base64-simd",
    "block-buffer",
    "chacha20",
    "cipher",
    "cmov",
    "cpufeatures",
    "crypto-common",
    "ctutils",
    "digest",
    "dlmalloc",
    "getrandom",
    "hkdf",
    "hmac",
    "httparse",
    "hybrid-array",
    "inout",
    "memchr",
    "outref",
    "poly1305",
    "rustls",
    "rustls-pki-types",
    "rustls-webpki",
    "serde_json",
    "sha2",
    "subtle",
    "typenum",
    "universal-hash",
    "untrusted",
    "vsimd",
    "zeroize",
];

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A crate of `Cargo.lock`: its checksum, and the names of what it needs.
struct Locked {
    checksum: Option<String>,
    needs: Vec<String>,
}

/// `Cargo.lock`, by name and version.
fn lock() -> BTreeMap<(String, String), Locked> {
    let table: toml::Table = toml::from_str(&read("Cargo.lock")).unwrap();
    let packages = table["package"].as_array().unwrap().iter().map(|package| {
        let text = |member: &str| package.get(member).and_then(toml::Value::as_str).map(str::to_owned);
        let needs = package.get("dependencies").and_then(toml::Value::as_array).cloned().unwrap_or_default();
        let needs = needs.iter().map(|name| name.as_str().unwrap().split(' ').next().unwrap().to_owned());
        let locked = Locked { checksum: text("checksum"), needs: needs.collect() };
        ((text("name").unwrap(), text("version").unwrap()), locked)
    });
    packages.collect()
}

/// The section of that name of a 64-bit little-endian ELF file.
fn section<'a>(file: &'a [u8], wanted: &str) -> Option<&'a [u8]> {
    let number = |at: usize, bytes: usize| {
        let mut value = [0; 8];
        value[..bytes].copy_from_slice(&file[at..at + bytes]);
        usize::try_from(u64::from_le_bytes(value)).unwrap()
    };
    let (table, count, names) = (number(0x28, 8), number(0x3c, 2), number(0x3e, 2));
    let header = |index: usize| table + index * 64;
    let content = |index: usize| {
        let (start, size) = (number(header(index) + 0x18, 8), number(header(index) + 0x20, 8));
        &file[start..start + size]
    };
    let names = content(names);
    (0..count).map(|index| (index, &names[number(header(index), 4)..])).find_map(|(index, name)| {
        let name = name.split(|byte| *byte == 0).next()?;
        (name == wanted.as_bytes()).then(|| content(index))
    })
}

/// The packages of the list in the binary.
fn listed(binary: &Path) -> Vec<Value> {
    let file = fs::read(binary).unwrap();
    let compressed = section(&file, ".dep-v0").unwrap_or_else(|| panic!("{}: no list", binary.display()));
    assert!(compressed.len() <= LIST_MAX_BYTES, "{} bytes", compressed.len());
    assert!(section(&file, ".symtab").is_none(), "it is looked for in a stripped file");
    let mut json = String::new();
    ZlibDecoder::new(compressed).read_to_string(&mut json).unwrap();
    serde_json::from_str::<Value>(&json).unwrap()["packages"].as_array().unwrap().clone()
}

/// What `Cargo.lock` says that these need, and what those need, and so on.
fn needed_by(roots: &[String], lock: &BTreeMap<(String, String), Locked>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = roots.to_vec();
    while let Some(name) = open.pop() {
        if found.insert(name.clone()) {
            let same = lock.iter().filter(|((other, _), _)| *other == name);
            open.extend(same.flat_map(|(_, locked)| locked.needs.clone()));
        }
    }
    found
}

fn names_of(manifest: &toml::Table, sections: &[&str]) -> Vec<String> {
    let tables = sections.iter().filter_map(|name| manifest.get(*name)?.as_table());
    tables.flat_map(|table| table.keys().cloned()).collect()
}

#[test]
fn the_stripped_binary_lists_the_crates_that_the_lock_names() {
    let Some(binary) = server::binary() else { return };
    let (lock, packages) = (lock(), listed(&binary));
    let manifest: toml::Table = toml::from_str(&read("Cargo.toml")).unwrap();
    let text = |package: &Value, member: &str| package[member].as_str().unwrap_or_default().to_owned();
    for package in &packages {
        let identity = (text(package, "name"), text(package, "version"));
        let locked = lock.get(&identity).unwrap_or_else(|| panic!("{identity:?} is not in Cargo.lock"));
        let source = if locked.checksum.is_some() { "crates.io" } else { "local" };
        assert_eq!(text(package, "source"), source, "{identity:?}");
        for place in package["dependencies"].as_array().into_iter().flatten() {
            let needed = text(&packages[usize::try_from(place.as_u64().unwrap()).unwrap()], "name");
            assert!(locked.needs.contains(&needed), "{identity:?} does not need {needed}");
        }
    }
    let kind = |package: &Value| package["kind"].as_str().unwrap_or("runtime").to_owned();
    let of = |wanted: &str| -> BTreeSet<String> {
        packages
            .iter()
            .filter(|package| kind(package) == wanted)
            .map(|package| text(package, "name"))
            .collect()
    };
    let (runtime, build) = (of("runtime"), of("build"));
    assert_eq!(packages.iter().filter(|package| package["root"] == true).count(), 1);
    // Nothing is missing that the program names, and nothing is there that only tests need.
    let direct = names_of(&manifest, &["dependencies"]);
    for name in direct.iter().filter(|name| cfg!(feature = "tls") || *name != "rustls") {
        assert!(runtime.contains(name), "{name} is missing");
    }
    let all = needed_by(&[direct, names_of(&manifest, &["build-dependencies"])].concat(), &lock);
    for name in runtime.union(&build).filter(|name| *name != "quantonium") {
        assert!(all.contains(name), "{name} is needed by tests at most");
    }
    for name in ["proptest", "criterion", "windows-sys"] {
        assert!(!runtime.contains(name) && !build.contains(name), "{name} is no part of it");
    }
}

/// The block of `SECURITY.md` that is served.
fn security_txt() -> String {
    let page = read("SECURITY.md");
    let (_, section) = page.split_once("\n## security.txt\n").unwrap();
    let (_, block) = section.split_once("\n```text\n").unwrap();
    block.split_once("```").unwrap().0.to_owned()
}

#[test]
fn security_txt_is_served_to_everybody_as_the_page_has_it() {
    let Some(server) = Server::start(&[]) else { return };
    let wanted = security_txt();
    let reply = server.call(&Request::new("GET", "/.well-known/security.txt"));
    assert_eq!((reply.status, reply.field("Content-Type")), (200, Some("text/plain; charset=utf-8")));
    assert_eq!(String::from_utf8(reply.body).unwrap(), wanted);
    let head = server.call(&Request::new("HEAD", "/.well-known/security.txt"));
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.field("Content-Length"), Some(wanted.len().to_string().as_str()));
    let post = server.call(&Request::new("POST", "/.well-known/security.txt"));
    assert_eq!((post.status, post.field("Allow")), (405, Some("GET, HEAD, OPTIONS")));
    assert!(wanted.lines().any(|line| line.starts_with("Contact: ")), "{wanted}");
    assert_eq!(wanted.lines().filter(|line| line.starts_with("Expires: ")).count(), 1, "{wanted}");
}

/// The rows of a page's tables, as cells without their back quotes.
fn rows(page: &str) -> Vec<Vec<String>> {
    let lines = page.lines().filter_map(|line| line.strip_prefix('|')?.strip_suffix('|'));
    lines.map(|line| line.split('|').map(|cell| cell.trim().replace('`', "")).collect()).collect()
}

#[test]
fn what_was_reviewed_is_what_is_used() {
    let (lock, rows) = (lock(), rows(&read("docs/REVIEWS.md")));
    let mut reviewed = BTreeSet::new();
    for row in rows.iter().filter(|row| row.len() == 4 && row[2].len() == 64) {
        let identity = (row[0].clone(), row[1].clone());
        let locked =
            lock.get(&identity).unwrap_or_else(|| panic!("{identity:?}: Cargo.lock has another one"));
        assert_eq!(locked.checksum.as_ref(), Some(&row[2]), "{identity:?}: what was read is another file");
        assert!(row[3].len() > 20, "{identity:?}: say what was read and found");
        reviewed.insert(identity.0);
    }
    for name in SEE_SECRETS {
        assert!(reviewed.contains(name), "{name} sees secrets and has no row");
    }
}

/// The workflows, by path.
fn workflows() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(".github/workflows");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.map(|path| (path.display().to_string(), fs::read_to_string(&path).unwrap())).collect()
}

#[test]
fn each_action_of_the_workflows_is_pinned_by_its_commit_and_nothing_is_allowed_unasked() {
    let workflows = workflows();
    assert_eq!(workflows.len(), 3, "secure, release, smoke");
    let mut pinned = 0;
    for (path, text) in &workflows {
        for line in
            text.lines().filter_map(|line| line.trim().trim_start_matches("- ").strip_prefix("uses: "))
        {
            let (commit, version) = line.split_once('@').unwrap().1.split_once(" # v").unwrap_or((line, ""));
            let whole = commit.len() == 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
            assert!(whole && version.split('.').count() == 3, "{path}: {line}");
            pinned += 1;
        }
        assert!(text.lines().any(|line| line == "permissions: {}"), "{path}: nothing by default");
        assert!(text.contains("\nconcurrency:\n"), "{path}");
        assert!(!text.contains("pull_request_target"), "{path}: secrets for strangers");
        let jobs = text.matches("runs-on: ").count();
        assert_eq!(text.matches("timeout-minutes: ").count(), jobs, "{path}: a job without an end");
    }
    assert!(pinned > 0);
}
