//! The table of disasters in `docs/OPERATIONS.md` is true: each of its starts fails with the words that stand there, and
//! the command beside them does what stands behind it.
//!
//! Owns how each disaster is made. Invariants: the commands are those of the document; every row has a disaster here.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic, its helping functions too")]

#[path = "support/server.rs"]
mod server;

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use server::{Scratch, Server, binary, program};

const OPERATIONS: &str = include_str!("../docs/OPERATIONS.md");
const HEAD: &str = "\n| a start says | because | command | then |\n|---|---|---|---|\n";
const START: &str = "serve --data-dir store --master-key-file master.key --listen 127.0.0.1:0";

/// What is there before each disaster: a store with two keys, a backup of before the second one, an older name for it.
const BEFORE: &str = "quantonium init --data-dir store --master-key-file master.key --generate-master-key \
    --admin-key-file admin.key && cp -p store/journal journal.backup && quantonium apikey create --name second \
    --scope hash --data-dir store --master-key-file master.key --out second.key";

/// What a command of the table must do.
#[derive(Clone, Copy, Debug)]
enum Then {
    /// It is a server that serves.
    Serves,
    /// It ends well, and then a start serves.
    Cures,
    /// It puts back what is older than the audit files know, which a row of its own is about.
    Restores,
    /// It ends well and prints this.
    Shows(&'static str),
}

/// The words of the start, how the disaster is made, and what the command does.
const DISASTERS: [(&str, &str, Then); 8] = [
    ("no master key: give", "true", Then::Serves),
    ("holds no store", "mv store lost && mkdir -m 700 store", Then::Cures),
    ("has mode", "chmod 644 master.key", Then::Cures),
    ("does not hold a master key", "printf 'too short' > master.key", Then::Shows("9 master.key")),
    (
        "was made under another master key",
        "head -c 32 /dev/urandom > other && mv other master.key && chmod 600 master.key",
        Then::Shows("master key id: "),
    ),
    ("is damaged at offset", DAMAGED_FRAME, Then::Restores),
    ("the only way to the keys", DAMAGED_HEADER, Then::Restores),
    ("the store stands at revision", "cp -p journal.backup store/journal", Then::Serves),
];
/// The check of the first frame is another one.
const DAMAGED_FRAME: &str =
    "head -c 16 /dev/zero | dd of=store/journal bs=1 seek=189 conv=notrunc status=none";
/// The identifier of the master key in the file's header is another one, and its check does not fit.
const DAMAGED_HEADER: &str =
    "head -c 64 /dev/zero | dd of=store/journal bs=1 seek=12 conv=notrunc status=none";
/// The one disaster that another server is.
const HELD: &str = "is in use by another quantonium";

/// A row: what a start says, and the commands.
struct Row<'a> {
    says: &'a str,
    commands: Vec<&'a str>,
}

/// What stands between single backticks.
fn quoted(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

fn rows() -> Vec<Row<'static>> {
    let table = OPERATIONS.split(HEAD).nth(1).unwrap();
    let lines = table.lines().take_while(|line| line.starts_with("| "));
    lines
        .map(|line| {
            let cells: Vec<&str> = line.split(" | ").collect();
            let says = quoted(cells.first().unwrap()).first().copied().unwrap();
            Row { says, commands: quoted(cells.get(2).unwrap()) }
        })
        .collect()
}

/// Runs a line of a shell in the folder, where `quantonium` is the binary.
fn shell(folder: &Path, line: &str) -> Output {
    let path = format!("{}:{}", folder.join("bin").display(), std::env::var("PATH").unwrap());
    Command::new("sh")
        .args(["-euc", line])
        .current_dir(folder)
        .env_clear()
        .env("PATH", path)
        .output()
        .unwrap()
}

fn told(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A start with these words behind the program's name, in the folder.
fn start(scratch: &Arc<Scratch>, words: &str) -> Result<Server, String> {
    let mut command = program().unwrap();
    command.args(words.split(' ')).current_dir(scratch.path("")).env_clear();
    Server::try_spawn(command, scratch, 1).map_err(|ended| ended.stderr)
}

/// A folder as it is before a disaster.
fn before() -> Option<Arc<Scratch>> {
    let binary = binary()?;
    let scratch = Scratch::new();
    std::fs::create_dir(scratch.path("bin")).unwrap();
    std::os::unix::fs::symlink(binary, scratch.path("bin/quantonium")).unwrap();
    let made = shell(&scratch.path(""), BEFORE);
    assert!(made.status.success(), "{}", told(&made));
    // A start writes down in the audit files how far the store has come.
    let ended = start(&scratch, START).unwrap().stop();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    Some(scratch)
}

/// The words of a `quantonium serve` of the document, on a free port.
fn served(command: &str) -> String {
    let words = command.strip_prefix("quantonium ").unwrap();
    assert!(words.starts_with("serve "), "{command}");
    format!("{words} --listen 127.0.0.1:0")
}

#[test]
fn every_disaster_of_the_table_says_what_it_is_and_its_command_helps() {
    for row in rows().iter().filter(|row| row.says != HELD) {
        let (_, make, then) = DISASTERS.iter().find(|(says, ..)| *says == row.says).unwrap();
        let Some(scratch) = before() else { return };
        let folder = scratch.path("");
        let made = shell(&folder, make);
        assert!(made.status.success(), "{}: {}", row.says, told(&made));
        let words = if row.says.starts_with("no master key") {
            START.replace(" --master-key-file master.key", "")
        } else {
            START.to_owned()
        };
        let refused = start(&scratch, &words).map(|_| "it serves").unwrap_err();
        assert!(refused.contains(row.says), "{}: {refused}", row.says);
        if let Then::Serves = then {
            start(&scratch, &served(row.commands.first().unwrap())).unwrap();
            continue;
        }
        let done: Vec<Output> = row.commands.iter().map(|command| shell(&folder, command)).collect();
        let text: String = done.iter().map(told).collect();
        assert!(done.iter().all(|output| output.status.success()), "{}: {text}", row.says);
        match then {
            Then::Shows(what) => assert!(text.contains(what), "{}: {text}", row.says),
            Then::Restores => drop(start(&scratch, &format!("{START} --accept-store-rollback")).unwrap()),
            Then::Cures | Then::Serves => drop(start(&scratch, START).unwrap()),
        }
    }
}

#[test]
fn a_start_that_waits_for_the_store_serves_when_the_other_server_has_gone() {
    let rows = rows();
    let row = rows.iter().find(|row| row.says == HELD).unwrap();
    let Some(scratch) = before() else { return };
    let holder = start(&scratch, START).unwrap();
    let refused = start(&scratch, START).map(|_| "it serves").unwrap_err();
    assert!(refused.contains(HELD), "{refused}");
    let words = served(row.commands.first().unwrap());
    let waiting = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| start(&scratch, &words).unwrap());
        assert_eq!(holder.stop().code, Some(0));
        waiting.join().unwrap()
    });
    assert_eq!(waiting.stop().code, Some(0));
}

#[test]
fn every_disaster_that_is_made_here_stands_in_the_table() {
    let told: Vec<&str> = rows().iter().map(|row| row.says).collect();
    let mut made: Vec<&str> = DISASTERS.iter().map(|(says, ..)| *says).collect();
    made.insert(4, HELD);
    assert_eq!(told, made);
}
