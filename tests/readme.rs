//! The README is true: its examples run against the real binary, and its table of settings is the program's.
//!
//! Owns the form of an example: a `sh` block behind the comment `<!-- run -->`, and behind it a `text` block with
//! what it prints, in which `...` stands for anything within the line. Only `make` commands stand in a block
//! without the comment.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by a panic, its helping functions too")]

#[path = "support/server.rs"]
mod server;

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;

use quantonium::config::SETTINGS;
use server::{Scratch, Server, binary, skip};

const README: &str = include_str!("../README.md");
const BINARY: &str = "target/x86_64-unknown-linux-musl/release/quantonium";
const RUN: &str = "<!-- run -->";
/// Programs of the examples that a machine may lack.
const PROGRAMS: [&str; 2] = ["curl", "busybox"];

/// A fenced block.
struct Block<'a> {
    language: &'a str,
    line: usize,
    marked: bool,
    text: String,
}

/// An example: what to run, and what it prints.
struct Example {
    line: usize,
    script: String,
    printed: String,
}

fn blocks(document: &str) -> Vec<Block<'_>> {
    let mut blocks = Vec::new();
    let mut open: Option<Block<'_>> = None;
    let mut before = "";
    for (index, line) in document.lines().enumerate() {
        match (&mut open, line.strip_prefix("```")) {
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(block), None) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
            (None, Some(language)) => {
                let marked = before == RUN;
                open = Some(Block { language, line: index + 1, marked, text: String::new() });
            }
            (None, None) => {}
        }
        before = line;
    }
    assert!(open.is_none(), "a block is not closed");
    blocks
}

fn examples(document: &str) -> Vec<Example> {
    let mut examples: Vec<Example> = Vec::new();
    for block in blocks(document) {
        match (block.language, block.marked) {
            ("sh", true) => {
                examples.push(Example { line: block.line, script: block.text, printed: String::new() });
            }
            ("text", false) => examples.last_mut().unwrap().printed.push_str(&block.text),
            ("sh", false) => {
                let other = block.text.lines().find(|line| !line.starts_with("make "));
                assert_eq!(other, None, "line {}: mark the block with {RUN}", block.line);
            }
            other => panic!("line {}: what is a block of {other:?}?", block.line),
        }
    }
    examples
}

/// Whether `printed` is `pattern`, line by line, each `...` standing for anything.
fn fits(pattern: &str, printed: &str) -> bool {
    let line_fits = |pattern: &str, line: &str| {
        let mut parts = pattern.split("...");
        let Some(mut rest) = line.strip_prefix(parts.next().unwrap_or_default()) else { return false };
        let mut parts = parts.peekable();
        while let Some(part) = parts.next() {
            if parts.peek().is_none() {
                return rest.ends_with(part);
            }
            let Some(at) = rest.find(part) else { return false };
            rest = rest.get(at + part.len()..).unwrap_or_default();
        }
        rest.is_empty()
    };
    let (wanted, got): (Vec<&str>, Vec<&str>) = (pattern.lines().collect(), printed.lines().collect());
    wanted.len() == got.len() && wanted.iter().zip(&got).all(|(wanted, got)| line_fits(wanted, got))
}

fn is_there(program: &str) -> bool {
    std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
        .any(|folder| folder.join(program).exists())
}

/// An address for the server that an example starts: free now, and nobody else is likely to take it meanwhile.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Runs an example in `folder`; returns what it printed, errors included.
fn run(example: &Example, folder: &Path, server: &Server) -> String {
    let free = free_address();
    let address = server.address().to_string();
    // The examples leave the path unquoted, as it has no blanks; where this tree lies it may have some.
    let program = folder.join("quantonium");
    if !program.exists() {
        std::os::unix::fs::symlink(binary().unwrap(), &program).unwrap();
    }
    let script = example
        .script
        .replace("localhost:8080", &address)
        .replace("127.0.0.1:8081", &free.to_string())
        .replace("127.0.0.1:8080", &address)
        .replace(BINARY, program.to_str().unwrap());
    let output = Command::new("sh")
        .args(["-eu", "-c", &script])
        .env("K", server.key())
        .current_dir(folder)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    assert!(output.status.success(), "README.md:{}: {}\n{text}", example.line, output.status);
    text
}

#[test]
fn the_examples_print_what_the_readme_says() {
    let scratch = Scratch::new();
    let Some(server) = Server::start_in(&scratch, &[]) else { return };
    let folder = scratch.path("reader");
    std::fs::create_dir(&folder).unwrap();
    // Where `make run` keeps it.
    std::os::unix::fs::symlink(server.data_dir(), folder.join("quantonium-dev")).unwrap();
    let examples = examples(README);
    assert!(examples.len() >= 10, "{} examples", examples.len());
    for example in &examples {
        let missing = PROGRAMS.iter().find(|program| example.script.contains(*program) && !is_there(program));
        if let Some(program) = missing {
            skip(&format!("README.md:{} needs {program}", example.line));
            continue;
        }
        let printed = run(example, &folder, &server);
        assert!(
            fits(&example.printed, &printed),
            "README.md:{}:\n{}\nprints\n{printed}\nand not\n{}",
            example.line,
            example.script,
            example.printed
        );
    }
    assert_eq!(server.stop().code, Some(0));
}

#[test]
fn the_table_of_settings_is_the_programs() {
    let rows: Vec<&str> = README.lines().filter(|line| line.starts_with("| `--")).collect();
    assert_eq!(rows.len(), SETTINGS.len());
    for (row, setting) in rows.iter().zip(&SETTINGS) {
        let flag = row.trim_start_matches("| `").split(['`', ' ']).next();
        assert_eq!(flag, Some(setting.flag().as_str()));
        assert!(row.ends_with(&format!("| {} |", setting.help)), "{row}");
    }
}

#[test]
fn the_defaults_of_the_table_are_those_of_the_help() {
    let Some(path) = binary() else { return };
    let help = Command::new(path).arg("help").env_clear().output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    for row in README.lines().filter(|line| line.starts_with("| `--")) {
        let cells: Vec<&str> = row.split(" | ").collect();
        let (flag, default) = (cells[0].trim_start_matches("| "), cells[1].replace('`', ""));
        let told =
            help.lines().skip_while(|line| line.trim() != flag.replace('`', "")).nth(2).unwrap_or_default();
        let value = told.split("; ").nth(1).unwrap_or_default().trim_end_matches(']');
        let value = value.trim_start_matches("default ").split(", ").next().unwrap_or_default();
        // Of those that are required the whole is told, behind the variable.
        let required =
            told.split_once("; required").map(|(_, rest)| format!("required{}", rest.trim_end_matches(']')));
        assert_eq!(default, required.as_deref().unwrap_or(value), "{flag}");
    }
}

#[test]
fn every_document_that_is_named_is_there() {
    let links = README.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let files: Vec<&str> = links.filter(|link| !link.starts_with('#') && !link.contains("://")).collect();
    assert!(files.len() > 8, "{files:?}");
    for file in files {
        let file = file.split('#').next().unwrap();
        assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join(file).is_file(), "{file}");
    }
}

#[test]
fn a_pattern_fits_its_own_text_only() {
    for (pattern, printed, fit) in [
        ("a\n", "a", true),
        ("a", "b", false),
        ("{\"x\":\"...\",\"y\":...}", "{\"x\":\"1\",\"y\":2}", true),
        ("a...b...c", "a1b2d", false),
        ("a...b", "a1b2", false),
        ("a...a", "aa", true),
        ("a...a", "a", false),
        ("", "a", false),
        ("a\nb", "a", false),
    ] {
        assert_eq!(fits(pattern, printed), fit, "{pattern:?} {printed:?}");
    }
}

#[test]
#[should_panic(expected = "mark the block")]
fn a_command_that_is_not_run_is_found() {
    let all = examples("```sh\nmake run\n```\n");
    assert!(all.is_empty());
    examples("```sh\nmake run\ncurl localhost:8080\n```\n");
}
