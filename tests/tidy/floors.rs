//! The floors of the house: which module may import which, and where each outside crate may be used.
//!
//! Owns the two tables. Both are whitelists: a module or a crate that stands in neither is a finding. Seen are
//! imports and paths written in full, in macros too; code for tests may import what it likes.

use std::collections::{BTreeMap, BTreeSet};

use super::source::{Finding, Source, Written};

/// A floor: its modules, and the floors whose modules these may import. Modules of one floor do not import
/// one another unless the floor names itself.
struct Floor {
    name: &'static str,
    modules: &'static [&'static str],
    may_import: &'static [&'static str],
}

const ALL: &[&str] =
    &["ground", "crypto", "second", "store", "reactor", "tls", "http", "api", "sandbox", "attic"];

/// The house, lowest floor first.
const HOUSE: &[Floor] = &[
    Floor {
        name: "ground",
        modules: &[
            "integrity",
            "limits",
            "log",
            "memory",
            "metrics",
            "secret",
            "clock",
            "encoding",
            "cursor",
            "model",
            "network",
            "publication",
            "quota",
            "console",
            "build_info",
            "exit",
            "fleet",
        ],
        may_import: &["ground"],
    },
    Floor { name: "crypto", modules: &["crypto"], may_import: &["ground"] },
    Floor {
        name: "second",
        modules: &["keyring", "auth", "audit", "limiter"],
        may_import: &["ground", "crypto"],
    },
    Floor { name: "store", modules: &["store"], may_import: &["ground", "crypto", "second"] },
    Floor { name: "reactor", modules: &["reactor"], may_import: &["ground"] },
    Floor { name: "tls", modules: &["tls"], may_import: &["ground", "reactor"] },
    Floor { name: "http", modules: &["http"], may_import: &["ground", "reactor"] },
    Floor { name: "api", modules: &["api"], may_import: &["ground", "crypto", "second", "http"] },
    Floor { name: "sandbox", modules: &["sandbox"], may_import: &["ground"] },
    Floor {
        name: "attic",
        modules: &["broker", "config", "keeper", "pentest", "server", "cli", "c_heap", LIB, MAIN],
        may_import: ALL,
    },
];

const LIB: &str = "lib";
const MAIN: &str = "main";

/// Outside crates and the modules that may use them; `*` is every module.
const CRATES: &[(&str, &[&str])] = &[
    ("base64_simd", &["encoding"]),
    ("caps", &["sandbox"]),
    // `secret` masks what its region has no room for; it lies below `crypto`.
    ("chacha20", &["crypto", "secret"]),
    ("dlmalloc", &["memory"]),
    ("flate2", &["api", "audit", "cli"]),
    ("getrandom", &["crypto"]),
    ("hkdf", &["crypto"]),
    ("hmac", &["crypto"]),
    ("httparse", &["http"]),
    ("landlock", &["sandbox"]),
    ("lexopt", &["cli", "config"]),
    ("memchr", &["*"]),
    ("mio", &["reactor", "server"]),
    ("nix", &["broker", "clock", "exit", "pentest", "reactor", "sandbox", "secret", "server"]),
    ("poly1305", &["crypto"]),
    ("rustls", &["tls"]),
    (
        "rustix",
        &["broker", "console", "log", "memory", "audit", "store", "sandbox", "keeper", "server", "cli"],
    ),
    ("seccompiler", &["sandbox"]),
    ("serde", &["api", "auth", "broker", "config", "cli"]),
    ("serde_json", &["api", "auth", "broker", "cli"]),
    ("sha2", &["crypto"]),
    ("socket2", &["cli", "reactor", "server"]),
    ("subtle", &["*"]),
    ("toml", &["config"]),
    ("zeroize", &["*"]),
];

fn floor_of(module: &str) -> Option<&'static Floor> {
    HOUSE.iter().find(|floor| floor.modules.contains(&module))
}

/// The top-level module to which a file belongs; the two roots are modules of the attic.
fn owner(source: &Source) -> String {
    match source.path.as_str() {
        "src/lib.rs" => LIB.to_owned(),
        "src/main.rs" => MAIN.to_owned(),
        _ => source.module().first().cloned().unwrap_or_default(),
    }
}

/// Where a written path leads: the segments from the root of this package, or nothing if it leaves it.
fn target(path: &Written) -> Option<Vec<String>> {
    if path.absolute {
        return None;
    }
    let (first, rest) = path.segments.split_first()?;
    match first.as_str() {
        "crate" | "quantonium" => (path.imported || !rest.is_empty()).then(|| rest.to_vec()),
        "self" | "super" if path.segments.len() > 1 || path.imported => {
            let ups = path.segments.iter().take_while(|segment| *segment == "super").count();
            let named =
                path.segments.iter().skip_while(|segment| matches!(segment.as_str(), "self" | "super"));
            let kept = path.module.len().saturating_sub(ups);
            Some(path.module.iter().take(kept).chain(named).cloned().collect())
        }
        _ => None,
    }
}

/// The imports of one file: (module imported, line, path as written).
fn imports(source: &Source) -> Vec<(String, usize, String)> {
    let led = source.live_paths().into_iter().filter_map(|path| {
        let inside = target(&path)?;
        let module = inside.first().cloned().unwrap_or_else(|| "*".to_owned());
        Some((module, path.line, path.shown()))
    });
    let own = owner(source);
    led.filter(|(module, ..)| *module != own).collect()
}

/// Imports that do not go downward.
pub(crate) fn upward_imports(source: &Source) -> Vec<Finding> {
    let own = owner(source);
    let Some(floor) = floor_of(&own) else { return Vec::new() };
    let unlawful = imports(source).into_iter().filter(|(module, ..)| {
        // The attic may take the whole root: everything lies below it.
        let below = match floor_of(module) {
            Some(found) => floor.may_import.contains(&found.name),
            None => floor.name == "attic",
        };
        !below
    });
    let told = unlawful.map(|(module, line, path)| {
        let advice = match floor_of(&module) {
            Some(found) => format!(
                "`{path}`: `{own}` (floor {}) may not import `{module}` (floor {}); \
                 pass it in from above, or move what both need down",
                floor.name, found.name
            ),
            None => format!("`{path}`: name the module that is meant, not the root of the crate"),
        };
        Finding::new(&source.path, line, advice)
    });
    told.collect()
}

/// Top-level modules that stand on no floor.
pub(crate) fn without_floor(source: &Source) -> Vec<Finding> {
    let own = owner(source);
    if floor_of(&own).is_some() {
        return Vec::new();
    }
    vec![Finding::new(
        &source.path,
        1,
        format!("`{own}` stands on no floor: add it to HOUSE in tests/tidy/floors.rs"),
    )]
}

/// Modules that import one another in a circle, floors that import themselves included.
pub(crate) fn cycles(sources: &[Source]) -> Vec<Finding> {
    let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in sources.iter().filter(|source| source.is_program()) {
        let own = owner(source);
        if own != LIB && own != MAIN {
            edges.entry(own).or_default().extend(imports(source).into_iter().map(|(module, ..)| module));
        }
    }
    // What imports nothing that is left cannot be part of a circle; take it away until nothing more goes.
    loop {
        let left: BTreeSet<String> = edges.keys().cloned().collect();
        edges.retain(|_, imported| imported.iter().any(|module| left.contains(module)));
        if edges.len() == left.len() {
            break;
        }
    }
    let told = edges.iter().map(|(module, imported)| {
        let circle: Vec<&str> =
            imported.iter().filter(|other| edges.contains_key(*other)).map(String::as_str).collect();
        let path = format!("src/{module}");
        Finding::new(&path, 1, format!("part of a circle of imports through {}", circle.join(", ")))
    });
    told.collect()
}

/// Uses of outside crates outside their place.
pub(crate) fn misplaced_crates(source: &Source) -> Vec<Finding> {
    let own = owner(source);
    let mut findings = Vec::new();
    for path in source.live_paths() {
        let outward = path.imported || path.absolute || path.segments.len() > 1;
        let Some((name, places)) = CRATES
            .iter()
            .find(|(name, _)| outward && path.segments.first().is_some_and(|first| first == name))
        else {
            continue;
        };
        if !places.contains(&"*") && !places.contains(&own.as_str()) {
            let advice = format!(
                "`{}`: the crate `{name}` is used only in {}; put what is needed there behind its own name",
                path.shown(),
                places.join(", ")
            );
            findings.push(Finding::new(&source.path, path.line, advice));
        }
    }
    findings
}

/// Dependencies of the program without a row in `CRATES`, and rows without a dependency.
pub(crate) fn crates_without_place(manifest: &str) -> Vec<Finding> {
    let table: toml::Table = toml::from_str(manifest).unwrap_or_default();
    let declared: BTreeSet<String> = table
        .get("dependencies")
        .and_then(toml::Value::as_table)
        .map(|dependencies| dependencies.keys().map(|name| name.replace('-', "_")).collect())
        .unwrap_or_default();
    let placed: BTreeSet<String> = CRATES.iter().map(|(name, _)| (*name).to_owned()).collect();
    let missing = declared.difference(&placed).map(|name| {
        Finding::new(
            "Cargo.toml",
            1,
            format!("`{name}` has no place: add it to CRATES in tests/tidy/floors.rs"),
        )
    });
    let stale = placed.difference(&declared).map(|name| {
        Finding::new("tests/tidy/floors.rs", 1, format!("`{name}` is no dependency: take it out of CRATES"))
    });
    missing.chain(stale).collect()
}

#[cfg(test)]
mod proofs {
    use super::*;

    fn source(path: &str, text: &str) -> Source {
        Source::parse(path, text).unwrap()
    }

    #[test]
    fn upward_and_sideways_imports_are_found() {
        for (path, text) in [
            ("src/crypto/aead.rs", "use crate::keyring::Key;"),
            ("src/keyring/mod.rs", "use crate::{limits, auth};"),
            ("src/audit/chain.rs", "fn f() { crate::store::append() }"),
            ("src/http/head.rs", "use super::super::api::Route;"),
            ("src/http/mod.rs", "fn f(x: super::api::Route) {}"),
            ("src/http/mod.rs", "mod inner { use super::super::tls; }"),
            ("src/reactor/mod.rs", "fn f() { log!(crate::http::Head) }"),
            ("src/sandbox/mod.rs", "use quantonium::crypto;"),
            ("src/limits.rs", "use crate::*;"),
            ("src/clock.rs", "use super::server;"),
            ("src/api/keys.rs", "use crate::store::Journal;"),
        ] {
            assert_eq!(upward_imports(&source(path, text)).len(), 1, "{path}: {text}");
        }
    }

    #[test]
    fn downward_imports_and_those_of_tests_are_borne() {
        for (path, text) in [
            ("src/keyring/mod.rs", "use crate::crypto::aead; use self::policy::Policy; mod policy;"),
            ("src/api/keys.rs", "use super::reply; use crate::{auth, http::Head}; fn f() { keyring::x() }"),
            ("src/crypto/aead.rs", "#[cfg(test)] mod tests { use crate::api; }"),
            ("src/main.rs", "use quantonium::cli; fn main() { quantonium::server::run() }"),
            ("src/http/mod.rs", "pub(crate) fn f() { $crate::limits::X; }"),
        ] {
            let text = text.replace("$crate", "crate");
            assert!(upward_imports(&source(path, &text)).is_empty(), "{path}: {text}");
        }
    }

    #[test]
    fn circles_and_modules_without_floor_are_found() {
        let circle = [
            source("src/model.rs", "use crate::encoding;"),
            source("src/encoding.rs", "use crate::secret;"),
            source("src/secret/mod.rs", "use crate::model;"),
            source("src/clock.rs", "use crate::model;"),
            source("src/limits.rs", ""),
        ];
        assert!(cycles(&circle).len() >= 3);
        assert!(cycles(circle.get(1..).unwrap()).is_empty());
        assert_eq!(without_floor(&source("src/misplaced/mod.rs", "")).len(), 1);
    }

    #[test]
    fn misplaced_crates_are_found() {
        assert_eq!(misplaced_crates(&source("src/http/mod.rs", "use mio::Poll;")).len(), 1);
        assert_eq!(misplaced_crates(&source("src/api/mod.rs", "fn f() { ::sha2::Sha256::new() }")).len(), 1);
        assert_eq!(misplaced_crates(&source("src/server/mod.rs", "type A = caps::CapSet;")).len(), 1);
        assert!(misplaced_crates(&source("src/reactor/mod.rs", "use mio::Poll;")).is_empty());
        assert_eq!(crates_without_place("[dependencies]\nleft-pad = \"1\"\n").len(), CRATES.len() + 1);
    }
}
