//! What must be written down: dependencies, lints, the callers of system calls, and what shows each promise.
//!
//! Owns the readings of `Cargo.toml`, `docs/DEPENDENCIES.md`, `seccomp/*.json` and `docs/SPECIFICATION.md`.

use std::collections::BTreeSet;

use serde_json::Value;
use toml::Table;

use super::source::{Finding, Source, rooted};
use super::tests_of::test_names;
use super::words::each_token;

/// Lints that are errors; nobody turns one down to get a change through.
const DENIED: &[(&str, &[&str])] = &[
    ("rust", &["unsafe_code"]),
    (
        "clippy",
        &[
            "unwrap_used",
            "expect_used",
            "panic",
            "indexing_slicing",
            "unimplemented",
            "todo",
            "dbg_macro",
            "print_stdout",
            "print_stderr",
            "allow_attributes_without_reason",
            "large_futures",
            "await_holding_refcell_ref",
            "undocumented_unsafe_blocks",
        ],
    ),
];

/// Lints that at least warn; `make check` turns warnings into errors.
const WARNED: &[(&str, &[&str])] = &[
    ("rust", &["missing_docs", "unreachable_pub", "unused_qualifications", "missing_debug_implementations"]),
    ("clippy", &["cast_possible_truncation", "cast_sign_loss", "cast_lossless"]),
];

/// Lints of the table that are missing or weaker than the rules say.
pub(crate) fn weakened_lints(manifest: &str) -> Vec<Finding> {
    let table: Table = toml::from_str(manifest).unwrap_or_default();
    let level = |group: &str, lint: &str| {
        let value = table.get("lints")?.get(group)?.get(lint)?;
        value.as_str().or_else(|| value.get("level")?.as_str()).map(str::to_owned)
    };
    let mut findings = Vec::new();
    let mut demand = |rows: &[(&str, &[&str])], levels: &[&str]| {
        for (group, lints) in rows {
            for lint in *lints {
                let set = level(group, lint);
                if !set.as_deref().is_some_and(|set| levels.contains(&set)) {
                    let advice = format!("[lints.{group}] {lint} must be {}", levels.join(" or "));
                    findings.push(Finding::new("Cargo.toml", 1, advice));
                }
            }
        }
    };
    demand(DENIED, &["deny", "forbid"]);
    demand(WARNED, &["warn", "deny", "forbid"]);
    findings
}

/// Every dependency of a manifest that comes from a registry: its name and what is demanded of it.
fn dependencies(manifest: &str) -> Vec<(String, toml::Value)> {
    const SECTIONS: [&str; 3] = ["dependencies", "build-dependencies", "dev-dependencies"];
    let table: Table = toml::from_str(manifest).unwrap_or_default();
    let targets = table.get("target").and_then(toml::Value::as_table).cloned().unwrap_or_default();
    let mut holders: Vec<Table> = targets.values().filter_map(|target| target.as_table().cloned()).collect();
    holders.push(table);
    let sections =
        holders.iter().flat_map(|holder| SECTIONS.iter().filter_map(|name| holder.get(*name)?.as_table()));
    let rows =
        sections.flat_map(|section| section.iter().map(|(name, demand)| (name.clone(), demand.clone())));
    rows.filter(|(_, demand)| demand.get("path").is_none()).collect()
}

/// Dependencies that are not pinned exactly, or that take default features unasked.
pub(crate) fn unpinned(path: &str, manifest: &str) -> Vec<Finding> {
    let rows = dependencies(manifest);
    let mut findings = Vec::new();
    if rows.is_empty() {
        findings.push(Finding::new(path, 1, "no dependency could be read: the check looked at nothing"));
    }
    for (name, demand) in rows {
        let version = demand.get("version").and_then(toml::Value::as_str).unwrap_or_default();
        let numbers = version.strip_prefix('=').unwrap_or_default();
        let exact = numbers.split('.').count() == 3
            && numbers
                .split('.')
                .all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()));
        let line = manifest.lines().position(|line| line.starts_with(&name)).map_or(1, |index| index + 1);
        if !exact {
            findings.push(Finding::new(
                path,
                line,
                format!("`{name}`: pin it exactly, version = \"=x.y.z\""),
            ));
        }
        if demand.get("default-features").and_then(toml::Value::as_bool) != Some(false) {
            let advice = format!("`{name}`: default-features = false, and name the features that are needed");
            findings.push(Finding::new(path, line, advice));
        }
    }
    findings
}

/// The cells of a row of a Markdown table.
fn cells(line: &str) -> Option<Vec<&str>> {
    let inner = line.trim().strip_prefix('|')?.strip_suffix('|')?;
    Some(inner.split('|').map(str::trim).collect())
}

/// Every word between back quotes.
fn quoted(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// Dependencies without a row in the document, and rows without a dependency.
pub(crate) fn undocumented(manifests: &[String], document: &str) -> Vec<Finding> {
    const PATH: &str = "docs/DEPENDENCIES.md";
    let declared: BTreeSet<String> =
        manifests.iter().flat_map(|manifest| dependencies(manifest)).map(|(name, _)| name).collect();
    let mut findings = Vec::new();
    let mut told = BTreeSet::new();
    for (index, line) in document.lines().enumerate() {
        let Some(row) = cells(line) else { continue };
        let Some(name) = row.first().and_then(|first| quoted(first).first().copied()) else { continue };
        told.insert(name.to_owned());
        if !declared.contains(name) {
            findings.push(Finding::new(
                PATH,
                index + 1,
                format!("`{name}` is no dependency: take the row out"),
            ));
        }
        if row.len() < 4 || row.iter().any(|cell| cell.is_empty()) {
            let advice = format!("`{name}`: say why it is there, what else was weighed, and its size");
            findings.push(Finding::new(PATH, index + 1, advice));
        }
    }
    let missing = declared.difference(&told).map(|name| {
        Finding::new(PATH, 1, format!("`{name}` has no row: say why it is there and what else was weighed"))
    });
    findings.extend(missing);
    findings
}

/// Rules of a filter without a comment that names the caller.
pub(crate) fn silent_filter_rules(path: &str, text: &str) -> Vec<Finding> {
    let Ok(filter) = serde_json::from_str::<Value>(text) else {
        return vec![Finding::new(
            path,
            1,
            format!("no filter could be read: {}", text.lines().next().unwrap_or("")),
        )];
    };
    let mut rules = 0;
    let mut silent = Vec::new();
    filter_rules(&filter, &mut rules, &mut silent);
    let mut findings: Vec<Finding> = silent
        .into_iter()
        .map(|call| {
            let shown = format!("\"{call}\"");
            let line = text.lines().position(|line| line.contains(&shown)).map_or(1, |index| index + 1);
            Finding::new(path, line, format!("`{call}`: \"comment\" must name the caller that needs it"))
        })
        .collect();
    if rules == 0 {
        findings.push(Finding::new(path, 1, "the filter has no rule: the check looked at nothing"));
    }
    findings
}

fn filter_rules(value: &Value, rules: &mut usize, silent: &mut Vec<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| filter_rules(item, rules, silent)),
        Value::Object(members) => {
            if let Some(call) = members.get("syscall") {
                *rules += 1;
                let comment = members.get("comment").and_then(Value::as_str).unwrap_or_default();
                if comment.trim().len() < 8 {
                    silent.push(call.as_str().unwrap_or("?").to_owned());
                }
            }
            members.values().for_each(|member| filter_rules(member, rules, silent));
        }
        _ => {}
    }
}

/// Rows of the table `| promise | figure | shown by |` whose last cell names nothing that is there.
///
/// Each name between back quotes must be a test (`name`, `module::name` or `tests/file.rs::name`), a file of the tree
/// (`benches/crypto.rs`, `scripts/bench-http`), or a bench by its name in `Cargo.toml`. `pending` stands for itself.
pub(crate) fn unproven_promises(document: &str, sources: &[Source]) -> Vec<Finding> {
    const PATH: &str = "docs/SPECIFICATION.md";
    let tests = test_names(sources);
    let benches = bench_names(sources);
    let mut findings = Vec::new();
    let mut in_table = false;
    let mut rows = 0;
    for (index, line) in document.lines().enumerate() {
        let Some(row) = cells(line) else {
            in_table = false;
            continue;
        };
        let heads: Vec<String> = row.iter().map(|cell| cell.to_lowercase()).collect();
        if heads == ["promise", "figure", "shown by"] {
            in_table = true;
            continue;
        }
        let rule = row.iter().all(|cell| cell.chars().all(|letter| matches!(letter, '-' | ':')));
        if !in_table || rule {
            continue;
        }
        rows += 1;
        let [_, figure, shown] = row.as_slice() else {
            findings.push(Finding::new(PATH, index + 1, "a row has three cells: promise, figure, shown by"));
            continue;
        };
        let names = quoted(shown);
        if figure.is_empty() || (names.is_empty() && !shown.starts_with("pending")) {
            findings.push(Finding::new(
                PATH,
                index + 1,
                "name a figure, and a test or bench, or write pending",
            ));
        }
        for name in names.into_iter().filter(|name| *name != "pending") {
            if !is_shown(name, &tests, &benches) {
                findings.push(Finding::new(
                    PATH,
                    index + 1,
                    format!("`{name}` is no test, bench or file of the tree"),
                ));
            }
        }
    }
    if rows == 0 {
        findings.push(Finding::new(PATH, 1, "needs a table | promise | figure | shown by | with its rows"));
    }
    findings
}

fn is_shown(name: &str, tests: &BTreeSet<(String, String)>, benches: &BTreeSet<String>) -> bool {
    let (place, last) = name.rsplit_once("::").unwrap_or(("", name));
    let file = place.ends_with(".rs");
    let test = tests.iter().any(|(path, test)| test == last && (!file || path == place));
    test || benches.contains(name) || (name.contains('/') && place.is_empty() && rooted(name).exists())
}

/// The bench targets, and every string in a bench: criterion's groups and functions are named by strings.
fn bench_names(sources: &[Source]) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for source in sources.iter().filter(|source| source.path.starts_with("benches/")) {
        names.extend(
            source.path.strip_prefix("benches/").and_then(|path| path.strip_suffix(".rs")).map(str::to_owned),
        );
        each_token(&source.all, &mut |all, at| {
            let text = all.get(at).map(ToString::to_string).unwrap_or_default();
            names.extend(text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).map(str::to_owned));
        });
    }
    names
}

#[cfg(test)]
mod proofs {
    use super::*;

    #[test]
    fn a_weakened_lint_is_found() {
        let manifest = super::super::source::read("Cargo.toml").unwrap();
        assert!(weakened_lints(&manifest).is_empty());
        for (from, to) in [
            ("unsafe_code = \"deny\"", "unsafe_code = \"allow\""),
            ("unwrap_used = \"deny\"", "unwrap_used = \"warn\""),
            ("missing_docs = \"warn\"", ""),
        ] {
            let weaker = manifest.replace(from, to);
            assert_eq!(weakened_lints(&weaker).len(), 1, "{from}");
        }
    }

    #[test]
    fn loose_dependencies_are_found() {
        for demand in [
            "\"=1.2.3\"",
            "{ version = \"1.2.3\", default-features = false }",
            "{ version = \"=1.2\", default-features = false }",
            "{ version = \"=1.2.3\" }",
            "{ version = \"=1.2.3\", default-features = true }",
        ] {
            for section in ["dependencies", "dev-dependencies", "target.'cfg(unix)'.dependencies"] {
                let manifest = format!("[{section}]\nsome = {demand}\n");
                assert!(!unpinned("Cargo.toml", &manifest).is_empty(), "{manifest}");
            }
        }
        let good = "[dependencies]\nsome = { version = \"=1.2.3\", default-features = false }\nown = { path = \"..\" }\n";
        assert!(unpinned("Cargo.toml", good).is_empty());
        assert_eq!(unpinned("Cargo.toml", "").len(), 1);
    }

    #[test]
    fn undocumented_and_stale_dependencies_are_found() {
        let manifest = ["[dependencies]\na = \"=1.0.0\"\nb = \"=1.0.0\"\n".to_owned()];
        let row = |name: &str| format!("| `{name}` | why | `x`, `y` | pending |\n");
        assert!(undocumented(&manifest, &(row("a") + &row("b"))).is_empty());
        assert_eq!(undocumented(&manifest, &row("a")).len(), 1);
        assert_eq!(undocumented(&manifest, &(row("a") + &row("b") + &row("c"))).len(), 1);
        assert_eq!(undocumented(&manifest, &(row("a") + "| `b` | why |  | pending |\n")).len(), 1);
    }

    #[test]
    fn filter_rules_without_caller_are_found() {
        let filter =
            |comment: &str| format!("{{\"worker\": {{\"filter\": [{{\"syscall\": \"read\"{comment}}}]}}}}");
        assert!(
            silent_filter_rules("a.json", &filter(", \"comment\": \"reactor: reads a socket\"")).is_empty()
        );
        for comment in ["", ", \"comment\": \"\"", ", \"comment\": \"  \""] {
            assert_eq!(silent_filter_rules("a.json", &filter(comment)).len(), 1, "{comment}");
        }
        assert_eq!(silent_filter_rules("a.json", "{}").len(), 1);
        assert_eq!(silent_filter_rules("a.json", "not JSON").len(), 1);
    }

    #[test]
    fn promises_that_nothing_shows_are_found() {
        let sources = [
            Source::parse("tests/a.rs", "#[test] fn shows() {} fn other() {}").unwrap(),
            Source::parse("benches/crypto.rs", "fn f() { group(\"seal\"); }").unwrap(),
        ];
        let table =
            |shown: &str| format!("| Promise | Figure | Shown by |\n|---|--:|---|\n| p | 1 | {shown} |\n");
        for shown in [
            "`shows`",
            "`tests/a.rs::shows`",
            "`a::shows`, `seal`",
            "pending: later",
            "`pending`",
            "`Cargo.toml`, `crypto`",
        ] {
            let wanted = usize::from(shown.contains("Cargo.toml"));
            assert_eq!(unproven_promises(&table(shown), &sources).len(), wanted, "{shown}");
        }
        for shown in ["`other`", "", "words", "`tests/b.rs::shows`", "`tests/none.rs`", "`shows` | more"] {
            assert_eq!(unproven_promises(&table(shown), &sources).len(), 1, "{shown}");
        }
        assert_eq!(unproven_promises("nothing", &sources).len(), 1);
    }
}
