//! The house rules, read from the sources and enforced as tests.
//!
//! A rule that only a reviewer knows is a rule that is broken, so each one stands here as a function that takes
//! sources and returns findings. A finding says file, line and what to do. Beside each rule stands a test
//! that shows it a bad source: a check that cannot fail proves nothing.
//!
//! - `floors`: imports go downward only, and each outside crate has its place.
//! - `shape`: sizes, names and heads of files.
//! - `words`: what may not be written, or only in named files.
//! - `tests_of`: every test can fail, and none is skipped by attribute.
//! - `records`: dependencies, filters and promises are written down.
//!
//! `source` reads the tree and takes test code out of it; it knows no rule.

#[path = "tidy/floors.rs"]
mod floors;
#[path = "tidy/records.rs"]
mod records;
#[path = "tidy/shape.rs"]
mod shape;
#[path = "tidy/source.rs"]
mod source;
#[path = "tidy/tests_of.rs"]
mod tests_of;
#[path = "tidy/words.rs"]
mod words;

use source::{Finding, Source, Tree};

/// The packages: the project, what it is measured against, what fuzzes it, and a client that drives it.
const MANIFESTS: [&str; 5] = [
    "Cargo.toml",
    "benches/peers/Cargo.toml",
    "benches/peers/http/Cargo.toml",
    "fuzz/Cargo.toml",
    "tests/vaultrs/Cargo.toml",
];

/// Fails with every finding on a line of its own.
fn assert_none(findings: &[Finding]) {
    let lines: Vec<String> = findings.iter().map(Finding::to_string).collect();
    assert!(findings.is_empty(), "{} finding(s)\n{}\n", findings.len(), lines.join("\n"));
}

/// Runs `rule` over every file of the tree for which `of` holds.
fn assert_each(of: impl Fn(&Source) -> bool, rule: impl Fn(&Source) -> Vec<Finding>) {
    let tree = Tree::load().unwrap_or_else(|error| Tree::unreadable(&error));
    assert_none(tree.unread());
    let chosen: Vec<&Source> = tree.sources().iter().filter(|source| of(source)).collect();
    assert!(!chosen.is_empty(), "the rule found no file to look at");
    assert_none(&chosen.into_iter().flat_map(rule).collect::<Vec<_>>());
}

fn every(_: &Source) -> bool {
    true
}

#[test]
fn every_file_is_rust() {
    assert_each(every, Source::broken_syntax);
}

#[test]
fn what_is_not_rust_is_found() {
    for (text, count) in [("fn f() {}", 0), ("fn f( {}", 1), ("struct; fn", 1)] {
        let found = Source::parse("src/a.rs", text).map_or(1, |source| source.broken_syntax().len());
        assert_eq!(found, count, "{text}");
    }
}

#[test]
fn imports_go_downward_only() {
    assert_each(Source::is_program, floors::upward_imports);
}

#[test]
fn the_modules_of_the_tree_form_no_cycle() {
    let tree = Tree::load().unwrap();
    assert_none(&floors::cycles(tree.sources()));
}

#[test]
fn every_top_level_module_has_a_floor() {
    assert_each(Source::is_program, floors::without_floor);
}

#[test]
fn outside_crates_stay_in_their_place() {
    assert_each(Source::is_program, floors::misplaced_crates);
}

#[test]
fn the_table_of_outside_crates_matches_the_manifest() {
    assert_none(&floors::crates_without_place(&source::read("Cargo.toml").unwrap()));
}

#[test]
fn functions_and_files_are_short() {
    assert_each(every, shape::too_long);
}

#[test]
fn no_module_is_named_after_nothing() {
    assert_each(every, shape::empty_names);
}

#[test]
fn every_file_says_what_it_is_for() {
    assert_each(every, shape::without_head);
}

#[test]
fn unsafe_code_stays_in_named_files() {
    assert_each(every, words::unsafe_code);
}

#[test]
fn the_lint_table_stands() {
    assert_none(&records::weakened_lints(&source::read("Cargo.toml").unwrap()));
}

#[test]
fn durations_and_bounds_stand_in_limits() {
    assert_each(Source::is_program, words::invented_numbers);
}

#[test]
fn time_the_environment_and_exit_enter_in_named_files() {
    assert_each(Source::is_program, words::misplaced_calls);
}

#[test]
fn nothing_prints_or_is_left_undone() {
    assert_each(every, words::forbidden_macros);
}

#[test]
fn nothing_sleeps() {
    assert_each(every, words::sleeps);
}

#[test]
fn no_std_channel_is_used() {
    assert_each(every, words::channels);
}

#[test]
fn no_test_is_ignored() {
    assert_each(every, tests_of::ignored);
}

#[test]
fn every_test_can_fail() {
    let tree = Tree::load().unwrap();
    assert_none(&tests_of::without_assertion(tree.sources()));
}

#[test]
fn dependencies_are_pinned() {
    for manifest in MANIFESTS {
        assert_none(&records::unpinned(manifest, &source::read(manifest).unwrap()));
    }
}

#[test]
fn dependencies_are_documented() {
    let manifests = MANIFESTS.map(|manifest| source::read(manifest).unwrap());
    assert_none(&records::undocumented(&manifests, &source::read("docs/DEPENDENCIES.md").unwrap()));
}

#[test]
fn every_filter_rule_names_its_caller() {
    for filter in ["seccomp/x86_64.json", "seccomp/aarch64.json"] {
        let text = source::read(filter).unwrap_or_else(|error| format!("unreadable: {error}"));
        assert_none(&records::silent_filter_rules(filter, &text));
    }
}

#[test]
fn every_promise_names_what_shows_it() {
    let tree = Tree::load().unwrap();
    let text = source::read("docs/SPECIFICATION.md").unwrap_or_default();
    assert_none(&records::unproven_promises(&text, tree.sources()));
}
