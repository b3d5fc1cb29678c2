//! Payloads of every size through files and pipes, and what is left when they do not come through.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;

use crate::caller::{Caller, Ran};

const MIB: usize = 1024 * 1024;
/// Passed through pipes; more than a client may hold.
const LONG_BYTES: usize = 64 * MIB;

/// Bytes of which no two pieces are alike.
fn noise(len: usize) -> Vec<u8> {
    (0u64..).flat_map(|count| count.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()).take(len).collect()
}

#[test]
fn what_is_encrypted_is_decrypted_whatever_its_size() {
    let Some(caller) = Caller::new() else { return };
    for len in [0, 1, 65_536, MIB, MIB + 1, 3 * MIB] {
        let plaintext = noise(len);
        caller.write("in", &plaintext);
        let sealed = caller.run("encrypt --key orders in");
        let is_stream = len > MIB;
        assert_eq!(sealed.must_be(0).bytes().starts_with(b"QNS\x01"), is_stream, "{len}");
        assert_eq!(sealed.bytes().starts_with(b"quantonium:v1:"), !is_stream, "{len}");
        // The same from a pipe, whose length nobody knows.
        let piped = caller.run_with("encrypt --key orders", &plaintext);
        assert_eq!(piped.must_be(0).bytes().len(), sealed.bytes().len(), "{len}");
        assert!(
            caller.run_with("decrypt --key orders", piped.bytes()).must_be(0).bytes() == plaintext,
            "{len}"
        );
        caller.write("sealed", sealed.bytes());
        caller.run("decrypt --key orders --force --out out sealed").must_be(0);
        assert!(caller.read("out") == plaintext, "{len}");
        assert_eq!(fs::metadata(caller.path("out")).unwrap().permissions().mode() & 0o777, 0o600);
    }
    assert_eq!(caller.listed(), ["admin.key", "in", "out", "sealed"]);
}

#[test]
fn forms_and_what_a_ciphertext_is_bound_to() {
    let Some(caller) = Caller::new() else { return };
    caller.write("bound", "order 47");
    for (form, start) in [("text", &b"quantonium:v1:"[..]), ("binary", b"QN\x01"), ("stream", b"QNS\x01")] {
        let words =
            format!("encrypt --key orders --form {form} --associated-data-file bound --key-version 1");
        let sealed = caller.run_with(&words, b"hello");
        assert!(sealed.must_be(0).bytes().starts_with(start), "{form}");
        let mut bound = caller.command(&["decrypt", "--key", "orders", "--associated-data", "order 47"]);
        bound.arg("-");
        assert_eq!(Ran::with(bound, sealed.bytes()).must_be(0).out(), "hello");
        caller
            .run_with("decrypt --key orders", sealed.bytes())
            .must_refuse(65, &["400 Bad Request: ", "(decryption_failed)"]);
    }
    let refused = caller.run_with("encrypt --key orders --form text", &noise(MIB + 1));
    refused.must_refuse(64, &["more than 1 MiB", "leave --form out"]);
    caller.run("key create tenants --derived").must_be(0);
    for form in ["text", "stream"] {
        let words = format!("encrypt --key tenants --context t7 --form {form}");
        let sealed = caller.run_with(&words, b"hello");
        let opened = caller.run_with("decrypt --key tenants --context t7", sealed.must_be(0).bytes());
        assert_eq!(opened.must_be(0).out(), "hello");
        caller.run_with("decrypt --key tenants --context t8", sealed.bytes()).must_be(65);
    }
}

/// Limits the address space: what needs more memory than this fails.
fn limited(command: &Command) -> Command {
    let mut limited = Command::new("prlimit");
    limited.arg(format!("--as={}", LONG_BYTES / 2)).arg(command.get_program()).args(command.get_args());
    limited.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    limited.current_dir(command.get_current_dir().unwrap());
    limited
}

#[test]
fn a_long_pipe_passes_in_bounded_memory() {
    let Some(caller) = Caller::new() else { return };
    if !Command::new("prlimit").arg("--version").output().is_ok_and(|output| output.status.success()) {
        return crate::server::skip("prlimit (util-linux) is not installed");
    }
    let mut encrypt = limited(&caller.command(&["encrypt", "--key", "orders"]));
    let mut encrypt = encrypt.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut decrypt = limited(&caller.command(&["decrypt", "--key", "orders"]));
    let sealed = encrypt.stdout.take().unwrap();
    let mut decrypt = decrypt.stdin(sealed).stdout(Stdio::piped()).spawn().unwrap();
    let mut pipe = encrypt.stdin.take().unwrap();
    let piece = noise(MIB);
    let writer = std::thread::spawn(move || {
        for _ in 0..LONG_BYTES / MIB {
            pipe.write_all(&piece).unwrap();
        }
    });
    let (mut opened, expected) = (decrypt.stdout.take().unwrap(), noise(MIB));
    let mut piece = vec![0; MIB];
    for _ in 0..LONG_BYTES / MIB {
        opened.read_exact(&mut piece).unwrap();
        assert!(piece == expected, "what comes out is what went in");
    }
    assert_eq!(opened.read(&mut piece).unwrap(), 0);
    writer.join().unwrap();
    assert_eq!((encrypt.wait().unwrap().code(), decrypt.wait().unwrap().code()), (Some(0), Some(0)));
}

#[test]
fn nothing_is_left_of_what_was_tampered_with() {
    let Some(caller) = Caller::new() else { return };
    let sealed = caller.run_with("encrypt --key orders", &noise(2 * MIB)).bytes().to_vec();
    let text = caller.run_with("encrypt --key orders", b"hello").bytes().to_vec();
    let flipped = |sealed: &[u8], at: usize| {
        let mut changed = sealed.to_vec();
        changed[at] ^= 2;
        changed
    };
    let before = caller.listed();
    for (sealed, code) in [
        (flipped(&text, 40), 65),
        (flipped(&sealed, 100), 65),
        (flipped(&sealed, sealed.len() - 1), 69),
        (flipped(&sealed, MIB), 69),
        (sealed[..sealed.len() - 1].to_vec(), 69),
        (sealed[..sealed.len() / 2].to_vec(), 69),
        ([&sealed[..], b"x"].concat(), 69),
        (Vec::new(), 65),
    ] {
        let opened = caller.run_with("decrypt --key orders --out opened", &sealed);
        opened.must_refuse(code, &["quantonium: decrypt: "]);
        assert_eq!(caller.listed(), before, "{}", opened.err());
        // What goes to standard output before the end is true as far as it goes.
        let opened = caller.run_with("decrypt --key orders", &sealed);
        assert!(noise(2 * MIB).starts_with(opened.must_be(code).bytes()));
    }
}

#[test]
fn what_exists_is_replaced_only_if_that_is_asked_for() {
    let Some(caller) = Caller::new() else { return };
    let sealed = caller.run_with("encrypt --key orders", b"hello").bytes().to_vec();
    caller.write("out", "before");
    let refused = caller.run_with("decrypt --key orders --out out", &sealed);
    refused.must_refuse(78, &["out exists and is not overwritten", "--force"]);
    let mut broken = sealed.clone();
    broken[30] ^= 1;
    caller.run_with("decrypt --key orders --force --out out", &broken).must_be(65);
    assert_eq!(caller.read("out"), b"before");
    caller.run_with("decrypt --key orders --force --out out", &sealed).must_be(0);
    assert_eq!(caller.read("out"), b"hello");
    caller
        .run_with("decrypt --key orders --out missing/out", &sealed)
        .must_refuse(78, &["cannot make missing/out"]);
    caller.run("encrypt --key orders missing").must_refuse(74, &["cannot read missing"]);
    caller.run("encrypt --key orders .").must_refuse(74, &["cannot read ."]);
    caller.run("encrypt --key orders --form stream .").must_refuse(74, &["the input cannot be read"]);
    assert_eq!(caller.listed(), ["admin.key", "out"]);
}

#[test]
fn a_server_that_dies_midway_is_told() {
    let Some(caller) = Caller::new() else { return };
    let mut command = caller.command(&["encrypt", "--key", "orders", "--form", "stream", "--out", "sealed"]);
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    // More than sockets and the server's window hold: some of it has been sealed and read by then.
    let piece = noise(MIB);
    for _ in 0..16 {
        pipe.write_all(&piece).unwrap();
    }
    caller.server.signal(Signal::SIGKILL);
    // Whether this still finds a reader is a matter of time.
    let _ = pipe.write_all(&piece);
    drop(pipe);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(69), "{said}");
    assert!(said.contains("cut the answer off"), "{said}");
    assert_eq!(caller.listed(), ["admin.key"]);
    caller.run("key list").must_refuse(69, &["refused the connection; is the server running?"]);
}

#[test]
fn who_stops_listening_ends_the_command_in_order() {
    let Some(caller) = Caller::new() else { return };
    let sealed = caller.run_with("encrypt --key orders", &noise(4 * MIB)).bytes().to_vec();
    caller.write("sealed", sealed);
    for words in [&["random", "--form", "raw", "50000000"][..], &["decrypt", "--key", "orders", "sealed"]] {
        let mut command = caller.command(words);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let mut some = [0; 100];
        stdout.read_exact(&mut some).unwrap();
        drop(stdout);
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(74), "{said}");
        assert!(said.contains("standard output: ") && said.lines().count() == 1, "{said}");
    }
}
