//! The shape of files: sizes, names, and the head that says what a file is for.
//!
//! Owns the three sizes. A *code line* carries at least one token that is no comment: blank lines and
//! comments, documentation included, cost nothing, so that nobody saves on them. A function is measured between
//! its braces, a file without the items that are compiled for tests only.

use std::collections::BTreeSet;

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

use super::source::{Finding, Source, group_at, ident_at, is_punct, line_of, trees};

const FUNCTION_MAX_LINES: usize = 70;
const FILE_MAX_LINES: usize = 500;

/// Names that say nothing about what they hold.
const EMPTY_NAMES: [&str; 8] =
    ["utils", "util", "helpers", "helper", "manager", "managers", "common", "misc"];

/// Functions and files beyond their size.
pub(crate) fn too_long(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    // A file under tests/ is compiled for tests as a whole, so there nothing is taken out.
    let counted = if source.is_test() { &source.all } else { &source.live };
    let mut lines = BTreeSet::new();
    code_lines(counted, &source.text, &mut lines);
    if lines.len() > FILE_MAX_LINES {
        let advice =
            format!("{} code lines, at most {FILE_MAX_LINES}: split the file by subject", lines.len());
        findings.push(Finding::new(&source.path, 1, advice));
    }
    long_functions(&source.all, source, &mut findings);
    findings
}

/// Collects the lines on which code stands.
fn code_lines(stream: &TokenStream, text: &str, lines: &mut BTreeSet<usize>) {
    let all = trees(stream);
    let mut at = 0;
    while let Some(tree) = all.get(at) {
        if is_punct(Some(tree), '#') && is_comment(tree, text) {
            at += if is_punct(all.get(at + 1), '!') { 3 } else { 2 };
            continue;
        }
        match tree {
            TokenTree::Group(group) => {
                lines.insert(group.span_open().start().line);
                lines.insert(group.span_close().end().line);
                code_lines(&group.stream(), text, lines);
            }
            leaf => lines.extend(leaf.span().start().line..=leaf.span().end().line),
        }
        at += 1;
    }
}

/// Whether an attribute is written as a comment: `/// …` becomes `#[doc = "…"]` with the comment's own place.
fn is_comment(hash: &TokenTree, text: &str) -> bool {
    let start = hash.span().start();
    let line = text.lines().nth(start.line.saturating_sub(1)).unwrap_or_default();
    line.chars().nth(start.column) == Some('/')
}

fn long_functions(stream: &TokenStream, source: &Source, findings: &mut Vec<Finding>) {
    let all = trees(stream);
    for (at, tree) in all.iter().enumerate() {
        if let TokenTree::Group(group) = tree {
            long_functions(&group.stream(), source, findings);
        }
        let Some((name, body)) = function_at(&all, at) else { continue };
        let mut lines = BTreeSet::new();
        code_lines(&body.stream(), &source.text, &mut lines);
        if lines.len() > FUNCTION_MAX_LINES {
            let advice = format!(
                "`{name}` has {} code lines, at most {FUNCTION_MAX_LINES}: name its steps and make them functions",
                lines.len()
            );
            findings.push(Finding::new(&source.path, line_of(tree), advice));
        }
    }
}

/// The function whose `fn` stands at `at`: its name and its body.
pub(crate) fn function_at(trees: &[TokenTree], at: usize) -> Option<(String, &Group)> {
    ident_at(trees, at).filter(|word| *word == "fn")?;
    let name = ident_at(trees, at + 1)?;
    for place in at + 2..trees.len() {
        if is_punct(trees.get(place), ';') {
            return None;
        }
        if let Some(body) = group_at(trees, place, Delimiter::Brace) {
            return Some((name.to_string(), body));
        }
    }
    None
}

/// Files, folders and inline modules with a name that says nothing.
pub(crate) fn empty_names(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    let stem = source.path.strip_suffix(".rs").unwrap_or(&source.path);
    for part in stem.split('/').filter(|part| EMPTY_NAMES.contains(part)) {
        findings.push(Finding::new(&source.path, 1, format!("`{part}` says nothing: name the subject")));
    }
    inline_names(&source.all, source, &mut findings);
    findings
}

fn inline_names(stream: &TokenStream, source: &Source, findings: &mut Vec<Finding>) {
    let all = trees(stream);
    for (at, tree) in all.iter().enumerate() {
        if let TokenTree::Group(group) = tree {
            inline_names(&group.stream(), source, findings);
        }
        let name = ident_at(&all, at + 1).map(ToString::to_string).unwrap_or_default();
        if ident_at(&all, at).is_some_and(|word| word == "mod") && EMPTY_NAMES.contains(&name.as_str()) {
            let advice = format!("`mod {name}` says nothing: name the subject");
            findings.push(Finding::new(&source.path, line_of(tree), advice));
        }
    }
}

/// Files that do not begin with `//!`.
pub(crate) fn without_head(source: &Source) -> Vec<Finding> {
    let first = source.text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let said = first.strip_prefix("//!").is_some_and(|head| head.trim().len() >= 10);
    if said {
        return Vec::new();
    }
    vec![Finding::new(&source.path, 1, "begin with `//!`: the purpose, what it owns, its invariants")]
}

#[cfg(test)]
mod proofs {
    use super::*;

    fn source(path: &str, text: &str) -> Source {
        Source::parse(path, text).unwrap()
    }

    #[test]
    fn a_function_of_71_lines_is_found() {
        let body = |count: usize| "    // a comment\n\n    f();\n".repeat(count);
        for (count, findings) in [(70, 0), (71, 1)] {
            let text = format!("impl A {{\n/// Says.\nfn f() {{\n{}}}\n}}\n", body(count));
            assert_eq!(too_long(&source("src/a.rs", &text)).len(), findings, "{count} lines");
        }
        let macro_text = format!("proptest! {{ fn f() {{\n{}}} }}", body(71));
        assert_eq!(too_long(&source("tests/a.rs", &macro_text)).len(), 1);
    }

    #[test]
    fn a_file_of_501_lines_is_found_and_its_tests_are_free() {
        let code = |count: usize| "/// Says.\nconst A: u8 = 1;\n".repeat(count);
        assert!(too_long(&source("src/a.rs", &code(500))).is_empty());
        assert_eq!(too_long(&source("src/a.rs", &code(501))).len(), 1);
        let tested = format!("{}#[cfg(test)]\nmod tests {{\n{}}}\n", code(500), code(500));
        assert!(too_long(&source("src/a.rs", &tested)).is_empty());
        assert_eq!(too_long(&source("tests/a.rs", &tested)).len(), 1);
    }

    #[test]
    fn empty_names_are_found() {
        assert_eq!(empty_names(&source("src/http/utils.rs", "")).len(), 1);
        assert_eq!(empty_names(&source("tests/common/mod.rs", "")).len(), 1);
        assert_eq!(empty_names(&source("src/a.rs", "mod b { mod helpers {} }")).len(), 1);
        assert!(empty_names(&source("src/commonplace.rs", "mod b {}")).is_empty());
    }

    #[test]
    fn missing_heads_are_found() {
        assert_eq!(without_head(&source("src/a.rs", "// A comment.\n")).len(), 1);
        assert_eq!(without_head(&source("src/a.rs", "//!\nfn f() {}\n")).len(), 1);
        assert!(without_head(&source("src/a.rs", "\n//! What it is for.\n")).is_empty());
    }
}
