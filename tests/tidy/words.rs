//! What may not be written at all, or only in named files.
//!
//! Owns the lists of exceptions. Each is a list of files or folders (with `/` at the end), short on purpose: adding
//! to it is a decision that a reviewer sees.

use proc_macro2::{TokenStream, TokenTree};

use super::source::{Finding, Source, Written, ident_at, is_punct, line_of, trees};

/// Files that may hold `unsafe`, each block with its reason.
const UNSAFE: &[&str] = &[
    "src/build_info.rs",
    "src/c_heap.rs",
    "src/crypto/chacha20_x86.rs",
    "src/crypto/poly1305_x86.rs",
    "src/exit.rs",
    "src/memory/arena.rs",
    "src/memory/mod.rs",
    "src/memory/pages.rs",
    "src/pentest/raw.rs",
    "src/sandbox/executable.rs",
    "src/sandbox/probe.rs",
    "src/secret/locked.rs",
    "src/secret/pages.rs",
    "src/secret/region.rs",
    "tests/sandbox/calls.rs",
    "tests/allocations.rs",
];
/// Files that may read the clock.
const CLOCK: &[&str] = &["src/clock.rs"];
/// Files that may read the environment and the arguments: they hand on values.
const ENVIRONMENT: &[&str] = &["src/main.rs", "src/cli/", "src/config/"];
/// Files that may end the process.
const EXIT: &[&str] = &["src/main.rs", "src/exit.rs"];
/// Files that may sleep: a start that waits for a lock, of which the kernel has none with a deadline. A test waits for what
/// it can observe.
const SLEEP: &[&str] = &["src/store/data_dir.rs"];
/// The files that hold every bound.
const LIMITS: &[&str] = &[
    "src/limits.rs",
    "src/limits/descriptors.rs",
    "src/limits/fleet.rs",
    "src/limits/log.rs",
    "src/limits/store.rs",
];

/// Last words of a constant's name that make it a bound, together with `MAX` or `MIN`.
const UNITS: [&str; 6] = ["BYTES", "COUNT", "MILLIS", "SECONDS", "NANOS", "NUMBER"];

fn named(files: &[&str], source: &Source) -> bool {
    files.iter().any(|file| source.path == *file || (file.ends_with('/') && source.path.starts_with(file)))
}

fn found(source: &Source, path: &Written, advice: &str) -> Finding {
    Finding::new(&source.path, path.line, format!("`{}`: {advice}", path.shown()))
}

/// `unsafe` outside the named files, in macros and tests too.
pub(crate) fn unsafe_code(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !named(UNSAFE, source) {
        each_token(&source.all, &mut |all, at| {
            if let Some(word) = ident_at(all, at).filter(|word| *word == "unsafe") {
                let advice = "`unsafe`: use a safe call of rustix or nix; if none exists, name the file in tests/tidy/words.rs";
                findings.push(Finding::new(&source.path, word.span().start().line, advice));
            }
        });
    }
    findings
}

/// Durations from a literal, and constants that are bounds, outside `limits`.
pub(crate) fn invented_numbers(source: &Source) -> Vec<Finding> {
    if named(LIMITS, source) {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for path in source.live_paths() {
        let builds = path.segments.last().is_some_and(|last| last.starts_with("from_") || last == "new")
            && path.segments.iter().rev().nth(1).is_some_and(|kind| kind == "Duration");
        if builds && path.arguments.as_ref().is_some_and(is_literal) {
            findings.push(found(
                source,
                &path,
                "a duration is a constant of src/limits.rs, with its unit in its name",
            ));
        }
    }
    each_token(&source.live, &mut |all, at| {
        let constant = ident_at(all, at).is_some_and(|word| word == "const" || word == "static");
        let Some(name) = ident_at(all, at + 1).filter(|_| constant).map(ToString::to_string) else { return };
        if is_bound(&name) && is_literal(&value_of(all, at)) {
            let advice = format!("`{name}` is a bound: it stands in src/limits.rs");
            findings.push(Finding::new(&source.path, all.get(at).map_or(0, line_of), advice));
        }
    });
    findings
}

/// What stands between `=` and `;` of the constant whose first word stands at `at`.
fn value_of(trees: &[TokenTree], at: usize) -> TokenStream {
    let after = trees.iter().skip(at).skip_while(|tree| !is_punct(Some(tree), '=')).skip(1);
    after.take_while(|tree| !is_punct(Some(tree), ';')).cloned().collect()
}

/// Whether a constant's name says that it bounds something.
fn is_bound(name: &str) -> bool {
    let words: Vec<&str> = name.split('_').collect();
    words.iter().any(|word| *word == "MAX" || *word == "MIN")
        && words.last().is_some_and(|last| UNITS.contains(last))
}

/// Whether an expression is made of literals alone: it names nothing.
fn is_literal(expression: &TokenStream) -> bool {
    let mut literals = 0;
    let mut names = 0;
    each_token(expression, &mut |all, at| match all.get(at) {
        Some(TokenTree::Literal(_)) => literals += 1,
        Some(TokenTree::Ident(_)) => names += 1,
        _ => {}
    });
    literals > 0 && names == 0
}

/// Time, environment and exit outside the files that are named for them.
pub(crate) fn misplaced_calls(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for path in source.live_paths() {
        let has = |word: &str| path.segments.iter().any(|segment| segment == word);
        let ends_with =
            |words: &[&str]| path.segments.last().is_some_and(|last| words.contains(&last.as_str()));
        if path.segments.len() < 2 && !path.imported {
            continue;
        }
        if (has("Instant") || has("SystemTime") || has("UNIX_EPOCH")) && !named(CLOCK, source) {
            findings.push(found(source, &path, "time enters through `clock::Moment` and `clock::WallTime`"));
        }
        let environment = path.has_pair("std", "env")
            || (path.segments.first().is_none_or(|first| first != "crate")
                && path.segments.iter().rev().nth(1).is_some_and(|module| module == "env"));
        if environment && !named(ENVIRONMENT, source) {
            findings.push(found(
                source,
                &path,
                "the environment is read in `cli` and `config`: take a value",
            ));
        }
        let ends = path.has_pair("process", "exit")
            || path.has_pair("process", "abort")
            || ends_with(&["_exit", "exit_group"]);
        if ends && !named(EXIT, source) {
            findings.push(found(source, &path, "return an error: only the attic ends the process"));
        }
    }
    findings
}

/// Macros that print from the program, and those that mark unfinished work anywhere.
pub(crate) fn forbidden_macros(source: &Source) -> Vec<Finding> {
    const PRINTS: [&str; 4] = ["print", "println", "eprint", "eprintln"];
    const UNDONE: [&str; 3] = ["dbg", "todo", "unimplemented"];
    let calls = |path: &Written, names: &[&str]| {
        path.called_as_macro && path.segments.last().is_some_and(|last| names.contains(&last.as_str()))
    };
    let mut findings = Vec::new();
    for path in source.all_paths().iter().filter(|path| calls(path, &UNDONE)) {
        findings.push(found(source, path, "finish it, or leave it out"));
    }
    for path in source.live_paths().iter().filter(|path| source.is_program() && calls(path, &PRINTS)) {
        findings.push(found(source, path, "it panics when the stream is closed: write through `console`"));
    }
    findings
}

/// Sleeping, in tests too.
pub(crate) fn sleeps(source: &Source) -> Vec<Finding> {
    const CALLS: [&str; 5] = ["sleep", "sleep_ms", "sleep_until", "nanosleep", "clock_nanosleep"];
    if named(SLEEP, source) {
        return Vec::new();
    }
    let written = source.all_paths();
    let sleeping = written.iter().filter(|path| {
        path.segments.len() > 1 && path.segments.last().is_some_and(|last| CALLS.contains(&last.as_str()))
    });
    sleeping
        .map(|path| found(source, path, "wait for what can be observed: output, a socket, an exit"))
        .collect()
}

/// The channels of `std`, whose contended path yields the processor by a call that the filters forbid.
pub(crate) fn channels(source: &Source) -> Vec<Finding> {
    let written = source.all_paths();
    let used = written.iter().filter(|path| path.segments.iter().any(|segment| segment == "mpsc"));
    used.map(|path| found(source, path, "use a mutex with a condition variable: it stays within the filters"))
        .collect()
}

/// Calls `look` at every place of every nested stream.
pub(crate) fn each_token(stream: &TokenStream, look: &mut impl FnMut(&[TokenTree], usize)) {
    let all = trees(stream);
    for (at, tree) in all.iter().enumerate() {
        look(&all, at);
        if let TokenTree::Group(group) = tree {
            each_token(&group.stream(), look);
        }
    }
}

#[cfg(test)]
mod proofs {
    use super::*;

    /// Checks that `rule` finds exactly one thing in each of `bad`, and nothing in any of `good`.
    fn check_rule(rule: impl Fn(&Source) -> Vec<Finding>, bad: &[(&str, &str)], good: &[(&str, &str)]) {
        for (path, text) in bad {
            assert_eq!(rule(&Source::parse(path, text).unwrap()).len(), 1, "{path}: {text}");
        }
        for (path, text) in good {
            assert!(rule(&Source::parse(path, text).unwrap()).is_empty(), "{path}: {text}");
        }
    }

    #[test]
    fn unsafe_code_is_found() {
        check_rule(
            unsafe_code,
            &[
                ("src/a.rs", "fn f() { unsafe { g() } }"),
                ("tests/a.rs", "fn f() { vec![unsafe { g() }]; }"),
                ("src/a.rs", "#[cfg(test)] mod tests { unsafe impl Send for A {} }"),
            ],
            &[
                ("src/a.rs", "//! unsafe\nfn f() { g(\"unsafe\"); }"),
                ("tests/sandbox/calls.rs", "fn f() { unsafe { g() } }"),
            ],
        );
    }

    #[test]
    fn invented_numbers_are_found() {
        check_rule(
            invented_numbers,
            &[
                ("src/a.rs", "fn f() { Duration::from_secs(5); }"),
                ("src/a.rs", "fn f() { core::time::Duration::new(5, 0); }"),
                ("src/a.rs", "const D: Duration = Duration::from_millis(2 * 1_000);"),
                ("src/a/b.rs", "const LINE_MAX_BYTES: usize = 4 * 1024;"),
            ],
            &[
                ("src/limits.rs", "const LINE_MAX_BYTES: usize = 4;"),
                (
                    "src/a.rs",
                    "fn f() { Duration::from_millis(limits::IDLE_MAX_MILLIS); Duration::from_nanos(x.0); }",
                ),
                ("src/a.rs", "const TAG_BYTES: usize = 16; const A_MAX_BYTES: usize = TAG_BYTES * 2;"),
                ("src/a.rs", "#[cfg(test)] mod tests { fn f() { Duration::from_secs(5); } }"),
            ],
        );
    }

    #[test]
    fn misplaced_calls_are_found() {
        check_rule(
            misplaced_calls,
            &[
                ("src/a.rs", "use std::time::{Duration, Instant};"),
                ("src/a.rs", "fn f() { std::time::SystemTime::now(); }"),
                ("src/http/a.rs", "fn f() { std::env::var(\"A\"); }"),
                ("src/http/a.rs", "fn f() { env::args_os(); }"),
                ("src/http/a.rs", "fn f() { std::process::exit(1); }"),
                ("src/http/a.rs", "use std::process::abort;"),
            ],
            &[
                ("src/clock.rs", "use std::time::Instant;"),
                ("src/a.rs", "const V: &str = env!(\"CARGO_PKG_VERSION\"); use std::time::Duration;"),
                ("src/config/env.rs", "fn f() { std::env::var(\"A\"); }"),
                ("src/main.rs", "fn f() { std::process::exit(1); }"),
                ("src/a.rs", "#[cfg(test)] mod tests { use std::time::Instant; }"),
            ],
        );
    }

    #[test]
    fn forbidden_macros_are_found() {
        check_rule(
            forbidden_macros,
            &[
                ("src/a.rs", "fn f() { println!(\"a\"); }"),
                ("src/a.rs", "fn f() { std::eprint!(\"a\"); }"),
                ("tests/a.rs", "fn f() { todo!(); }"),
                ("src/a.rs", "#[cfg(test)] mod tests { fn f() { dbg!(1); } }"),
            ],
            &[
                ("tests/a.rs", "fn f() { println!(\"a\"); }"),
                ("src/a.rs", "fn print() {} fn f(todo: u8) -> bool { todo != 1 && writeln!(g, \"a\") }"),
            ],
        );
    }

    #[test]
    fn sleeps_and_channels_are_found() {
        check_rule(
            sleeps,
            &[
                ("tests/a.rs", "fn f() { std::thread::sleep(d); }"),
                ("src/a.rs", "use std::thread::{self, sleep};"),
                ("src/a.rs", "#[cfg(test)] mod tests { fn f() { thread::sleep(d); } }"),
            ],
            &[("tests/a.rs", "fn f() { sleep(); thread::spawn(f); }")],
        );
        check_rule(
            channels,
            &[
                ("src/a.rs", "use std::sync::{Arc, mpsc};"),
                ("src/a.rs", "fn f() { std::sync::mpsc::channel(); }"),
            ],
            &[("src/a.rs", "use std::sync::{Arc, Mutex};")],
        );
    }
}
