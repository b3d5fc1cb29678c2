//! Every test can fail, and none is left out.
//!
//! Owns the meaning of "can fail": the body asserts, unwraps or expects, uses `?`, or calls a function that does and
//! that stands in the same file or, for integration tests, anywhere under `tests/`. That is a rule of thumb, not a
//! proof; it catches the test that was never finished.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use super::shape::function_at;
use super::source::{Finding, Source, group_at, ident_at, is_punct, line_of};
use super::words::each_token;

/// Beginnings of names that fail a test themselves.
const FAILING: [&str; 9] =
    ["assert", "prop_assert", "expect", "unwrap", "panic", "unreachable", "check", "must", "refuse"];

/// A function of a test file.
struct Function {
    path: String,
    line: usize,
    name: String,
    is_test: bool,
    /// Whether its own body fails when something is wrong.
    fails: bool,
    /// Every name in its body.
    names: BTreeSet<String>,
}

/// `#[ignore]`, also under `cfg_attr`.
pub(crate) fn ignored(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    each_token(&source.all, &mut |all, at| {
        let Some(attribute) = group_at(all, at + 1, Delimiter::Bracket) else { return };
        if !is_punct(all.get(at), '#') {
            return;
        }
        let words = names_in(&attribute.stream());
        let first = attribute.stream().into_iter().next().map(|tree| tree.to_string()).unwrap_or_default();
        if first == "ignore" || (first == "cfg_attr" && words.contains("ignore")) {
            let advice = "`#[ignore]`: run it, or print `skipped: reason` where it cannot run";
            findings.push(Finding::new(&source.path, all.get(at).map_or(0, line_of), advice));
        }
    });
    findings
}

/// Tests whose body cannot fail.
pub(crate) fn without_assertion(sources: &[Source]) -> Vec<Finding> {
    let functions: Vec<Function> = sources.iter().flat_map(functions).collect();
    // Where a name may be called from: the file itself, or all of tests/.
    let reach = |path: &str| if path.starts_with("tests/") { "tests/".to_owned() } else { path.to_owned() };
    let mut failing: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    loop {
        let before = failing.values().map(BTreeSet::len).sum::<usize>();
        for function in &functions {
            let known = failing.entry(reach(&function.path)).or_default();
            if function.fails || !known.is_disjoint(&function.names) {
                known.insert(function.name.clone());
            }
        }
        if failing.values().map(BTreeSet::len).sum::<usize>() == before {
            break;
        }
    }
    let tests = functions.iter().filter(|function| function.is_test);
    let idle = tests.filter(|test| {
        let known = failing.get(&reach(&test.path));
        !test.fails && known.is_none_or(|known| known.is_disjoint(&test.names))
    });
    let told = idle.map(|test| {
        let advice = format!("`{}` cannot fail: assert what it shows", test.name);
        Finding::new(&test.path, test.line, advice)
    });
    told.collect()
}

/// The names of every test of the tree, for those who refer to them.
pub(crate) fn test_names(sources: &[Source]) -> BTreeSet<(String, String)> {
    let functions = sources.iter().flat_map(functions).filter(|function| function.is_test);
    functions.map(|function| (function.path, function.name)).collect()
}

fn functions(source: &Source) -> Vec<Function> {
    let mut found = Vec::new();
    each_token(&source.all, &mut |all, at| {
        let Some((name, body)) = function_at(all, at) else { return };
        let body = body.stream();
        let names = names_in(&body);
        let named = names.iter().any(|name| FAILING.iter().any(|word| name.starts_with(word)));
        found.push(Function {
            path: source.path.clone(),
            line: all.get(at).map_or(0, line_of),
            is_test: is_marked(all, at),
            fails: named || asks(&body),
            names,
            name,
        });
    });
    found
}

/// Whether `#[test]` stands before the function whose `fn` stands at `at`.
fn is_marked(trees: &[TokenTree], at: usize) -> bool {
    let mut place = at;
    while let Some(before) = place.checked_sub(1) {
        let belongs = match trees.get(before) {
            Some(TokenTree::Group(group)) => group.delimiter() != Delimiter::Brace,
            Some(TokenTree::Punct(punct)) => matches!(punct.as_char(), '#'),
            Some(TokenTree::Ident(ident)) => ident == "pub" || ident == "const" || ident == "async",
            _ => false,
        };
        if !belongs {
            return false;
        }
        let attribute = group_at(trees, before, Delimiter::Bracket);
        if attribute.is_some_and(|group| group.stream().to_string() == "test") {
            return true;
        }
        place = before;
    }
    false
}

fn names_in(stream: &TokenStream) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    each_token(stream, &mut |all, at| {
        names.extend(ident_at(all, at).map(ToString::to_string));
    });
    names
}

/// Whether `?` hands an error on.
fn asks(stream: &TokenStream) -> bool {
    let mut asked = false;
    each_token(stream, &mut |all, at| asked |= is_punct(all.get(at), '?'));
    asked
}

#[cfg(test)]
mod proofs {
    use super::*;

    fn source(path: &str, text: &str) -> Source {
        Source::parse(path, text).unwrap()
    }

    #[test]
    fn ignored_tests_are_found() {
        for attribute in ["#[ignore]", "#[ignore = \"slow\"]", "#[cfg_attr(unix, ignore)]"] {
            let text = format!("#[test]\n{attribute}\nfn f() {{ assert!(g()); }}");
            assert_eq!(ignored(&source("tests/a.rs", &text)).len(), 1, "{attribute}");
        }
        assert!(ignored(&source("tests/a.rs", "#[test] fn ignore() { ignore(); }")).is_empty());
    }

    #[test]
    fn tests_that_cannot_fail_are_found() {
        for text in [
            "#[test] fn f() { g(); }",
            "#[test] #[cfg(unix)] fn f() { let _ = g(); } fn g() -> bool { true }",
            "proptest! { #[test] fn f(x in 0..9u8) { let _ = x; } }",
            "mod tests { #[test] fn f() { println!(\"assert\"); } }",
        ] {
            assert_eq!(without_assertion(&[source("tests/a.rs", text)]).len(), 1, "{text}");
        }
    }

    #[test]
    fn tests_that_can_fail_are_borne() {
        for text in [
            "#[test] fn f() { assert_eq!(1, 1); }",
            "#[test] fn f() -> io::Result<()> { g()?; Ok(()) }",
            "#[test] fn f() { g(); } fn g() { h() } fn h() { x.unwrap(); }",
            "proptest! { #[test] fn f(x in 0..9u8) { prop_assert!(x < 9); } }",
            "fn f() { g(); }",
        ] {
            assert!(without_assertion(&[source("tests/a.rs", text)]).is_empty(), "{text}");
        }
        let across = [
            source("tests/a.rs", "#[test] fn f() { g(); }"),
            source("tests/b/c.rs", "fn g() { h().unwrap() }"),
        ];
        assert!(without_assertion(&across).is_empty());
        assert_eq!(test_names(&across).len(), 1);
    }
}
