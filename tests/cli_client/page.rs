//! The page on the command line: its examples are run, and its table of exit codes is that of the program.

use std::process::Command;

use quantonium::exit::Exit;

use crate::caller::{Caller, Ran};
use crate::server::{Scratch, Server, binary};

const PAGE: &str = include_str!("../../docs/CLI.md");

/// The blocks of this language.
fn blocks(language: &str) -> Vec<&'static str> {
    let fence = format!("```{language}\n");
    PAGE.split(fence.as_str()).skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

#[test]
fn its_examples_work_one_after_the_other() {
    let Some(server) = Server::start_in(&Scratch::new(), &[]) else { return };
    let url = format!("http://{}", server.address());
    let caller = Caller::of(server, url);
    let examples = blocks("sh");
    assert!(examples.len() >= 6, "{}", examples.len());
    caller.write("backup.tar", vec![5; 3_000_000]);
    let script = examples.join("\n");
    let mut command = Command::new("sh");
    // Whatever the binary is called here.
    let script = format!("quantonium() {{ \"$BINARY\" \"$@\"; }}\n{script}");
    command.args(["-euc", &script]).env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin");
    command.env("BINARY", binary().unwrap()).current_dir(&caller.folder);
    command.env("QUANTONIUM_URL", &caller.url).env("QUANTONIUM_API_KEY_FILE", "admin.key");
    let ran = Ran::of(command);
    assert_eq!(ran.must_be(0).err(), "", "{}", ran.out());
}

#[test]
fn it_has_every_exit_code() {
    let codes: Vec<u8> =
        PAGE.lines().filter_map(|line| line.strip_prefix("| ")?.split(" |").next()?.parse().ok()).collect();
    assert_eq!(codes, Exit::MEANINGS.map(|(exit, _)| exit.code()));
}
