//! The documents of a newcomer are true: their examples run against the real binary, one document after the other on
//! one server, and the table of settings is the program's.
//!
//! `support/document.rs` knows the form of an example. In the README and in the guide only `make` commands stand in a
//! block that is not run.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by a panic, its helping functions too")]

#[path = "support/document.rs"]
mod document;
#[path = "support/server.rs"]
mod server;

use std::path::Path;
use std::process::Command;

use document::{RUN, blocks, fits, is_there};
use quantonium::config::SETTINGS;
use server::{Scratch, Server, binary, free_address, skip};

const README: &str = include_str!("../README.md");
const GUIDE: &str = include_str!("../docs/GUIDE.md");
const OPERATIONS: &str = include_str!("../docs/OPERATIONS.md");
const TABLE: &str = include_str!("../docs/SETTINGS.md");
const BINARY: &str = "target/x86_64-unknown-linux-musl/release/quantonium";
/// Programs of the examples that a machine may lack.
const PROGRAMS: [&str; 2] = ["curl", "busybox"];

/// An example: what to run, and what it prints.
struct Example {
    place: String,
    script: String,
    printed: String,
}

/// The examples of the document of this name. A `strict` one has no block that is neither run nor `make` alone.
fn examples(name: &str, document: &str, strict: bool) -> Vec<Example> {
    let mut examples: Vec<Example> = Vec::new();
    // Whether the next `text` block is what an example prints.
    let mut prints = false;
    for block in blocks(document) {
        let place = format!("{name}:{}", block.line);
        match (block.language, block.is_run()) {
            ("sh", true) => {
                examples.push(Example { place, script: block.text, printed: String::new() });
                prints = true;
                continue;
            }
            ("text", false) if prints => examples.last_mut().unwrap().printed.push_str(&block.text),
            _ if !strict => {}
            ("sh", false) => {
                let other = block.text.lines().find(|line| !line.starts_with("make "));
                assert_eq!(other, None, "{place}: mark the block with {RUN}");
            }
            other => panic!("{place}: what is a block of {other:?}?"),
        }
        prints = false;
    }
    examples
}

/// Runs an example in `folder`; returns what it printed, errors included.
fn run(example: &Example, folder: &Path, server: &Server) -> String {
    // For the server that an example starts.
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
    assert!(output.status.success(), "{}: {}\n{text}", example.place, output.status);
    text
}

#[test]
fn the_examples_print_what_the_documents_say() {
    let scratch = Scratch::new();
    let Some(server) = Server::start_in(&scratch, &[]) else { return };
    let folder = scratch.path("reader");
    std::fs::create_dir(&folder).unwrap();
    // Where `make run` keeps it.
    std::os::unix::fs::symlink(server.data_dir(), folder.join("quantonium-dev")).unwrap();
    let examples = [
        examples("README.md", README, true),
        examples("docs/GUIDE.md", GUIDE, true),
        examples("docs/OPERATIONS.md", OPERATIONS, false),
    ];
    let counts = examples.each_ref().map(Vec::len);
    assert!(counts.iter().all(|count| *count > 5), "{counts:?} examples");
    for example in examples.iter().flatten() {
        let missing = PROGRAMS.iter().find(|program| example.script.contains(*program) && !is_there(program));
        if let Some(program) = missing {
            skip(&format!("{} needs {program}", example.place));
            continue;
        }
        let printed = run(example, &folder, &server);
        assert!(
            fits(&example.printed, &printed),
            "{}:\n{}\nprints\n{printed}\nand not\n{}",
            example.place,
            example.script,
            example.printed
        );
    }
    assert_eq!(server.stop().code, Some(0));
}

#[test]
fn the_table_of_settings_is_the_programs() {
    let rows: Vec<&str> = TABLE.lines().filter(|line| line.starts_with("| `--")).collect();
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
    for row in TABLE.lines().filter(|line| line.starts_with("| `--")) {
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
    let all = examples("a", "```sh\nmake run\n```\n", true);
    assert!(all.is_empty());
    examples("a", "```sh\nmake run\ncurl localhost:8080\n```\n", true);
}
