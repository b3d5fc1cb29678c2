//! Without a server: what it made is opened, and the other way round.

use crate::caller::{Caller, Ran};
use crate::server::client::Request;

fn noise(len: usize) -> Vec<u8> {
    (0u32..).flat_map(|count| count.wrapping_mul(0x9e37_79b1).to_be_bytes()).take(len).collect()
}

#[test]
fn server_and_command_open_what_the_other_has_sealed() {
    let Some(caller) = Caller::new() else { return };
    caller.run("key rotate orders").must_be(0);
    caller.run("key export orders --out orders.json").must_be(0);
    for len in [0, 5, 65_536, 131_072, (1 << 20) + 1] {
        let plaintext = noise(len);
        for form in ["auto", "text", "binary", "stream"] {
            if len > 1 << 20 && matches!(form, "text" | "binary") {
                continue;
            }
            for (seal, open) in [
                ("encrypt --key orders", "local decrypt --key-file orders.json"),
                ("local encrypt --key-file orders.json", "decrypt --key orders"),
                (
                    "local encrypt --key-version 1 --key-file orders.json",
                    "local decrypt --key-file orders.json",
                ),
            ] {
                let bound = "--associated-data o47";
                let sealed = caller.run_with(&format!("{seal} --form {form} {bound}"), &plaintext);
                let opened = caller.run_with(&format!("{open} {bound}"), sealed.must_be(0).bytes());
                assert!(opened.must_be(0).bytes() == plaintext, "{seal} {form} {len}");
                caller.run_with(open, sealed.bytes()).must_be(65);
            }
        }
    }
}

#[test]
fn contexts_and_unsealed_backups() {
    let Some(caller) = Caller::new() else { return };
    caller.run("key create t --derived --exportable --plaintext-backup").must_be(0);
    caller.run("key export t --out t.json").must_be(0);
    caller.run("key backup t --plaintext --out t.backup").must_be(0);
    caller.run("key backup t --out sealed.backup").must_be(0);
    for file in ["t.json", "t.backup"] {
        for form in ["text", "stream"] {
            let sealed = caller.run_with(&format!("encrypt --key t --context c7 --form {form}"), b"hello");
            let open = |context: &str| {
                caller
                    .run_with(&format!("local decrypt --key-file {file} --context {context}"), sealed.bytes())
            };
            assert_eq!(open("c7").must_be(0).out(), "hello");
            open("c8").must_refuse(65, &["does not open"]);
            let again = caller
                .run_with(&format!("local encrypt --key-file {file} --context c7 --form {form}"), b"hello");
            assert_eq!(
                caller.run_with("decrypt --key t --context c7", again.must_be(0).bytes()).must_be(0).out(),
                "hello"
            );
        }
    }
    for file in ["t.json", "t.backup"] {
        let ran = caller.run_with(&format!("local encrypt --key-file {file}"), b"x");
        ran.must_refuse(78, &["give --context"]);
    }
    // What does not say of which kind the key is may seal what opens nowhere.
    let export = String::from_utf8(caller.read("t.json")).unwrap();
    let (silent, convergent) = (
        export.replace("\"derived\":true,", ""),
        export.replace("\"convergent\":false", "\"convergent\":true"),
    );
    caller.write("silent.json", &silent);
    caller.write("convergent.json", &convergent);
    assert!(silent != export && convergent != export);
    let seal = |file: &str| caller.run_with(&format!("local encrypt --context c7 --key-file {file}"), b"x");
    seal("silent.json").must_refuse(78, &["export it again"]);
    seal("convergent.json").must_refuse(78, &["convergent"]);
    caller.run_with("local encrypt --key-file sealed.backup", b"x").must_refuse(78, &["sealed backup"]);
    caller
        .run_with("local encrypt --key-file admin.key", b"x")
        .must_refuse(78, &["holds no key that encrypts"]);
    caller.run_with("local encrypt --key-file missing", b"x").must_refuse(74, &["cannot read missing"]);
    caller.run_with("local encrypt", b"x").must_be(64);
}

#[test]
fn what_was_changed_does_not_open_and_leaves_no_file() {
    let Some(caller) = Caller::new() else { return };
    caller.run("key export orders --out orders.json").must_be(0);
    let plaintext = noise(200_000);
    let stream = caller.run_with("encrypt --key orders --form stream", &plaintext).bytes().to_vec();
    let text = caller.run_with("encrypt --key orders", b"hello").bytes().to_vec();
    let binary = caller.run_with("encrypt --key orders --form binary", b"hello").bytes().to_vec();
    let before = caller.listed();
    let flipped = |sealed: &[u8], at: usize| {
        let mut changed = sealed.to_vec();
        changed[at] ^= 1;
        changed
    };
    let cases = [
        Vec::new(),
        b"QNS\x01".to_vec(),
        stream[..56].to_vec(),
        stream[..stream.len() - 1].to_vec(),
        stream[..56 + 65_552].to_vec(),
        [&stream[..], b"x"].concat(),
        flipped(&stream, 20),
        flipped(&stream, 100),
        flipped(&stream, stream.len() - 1),
        flipped(&text, 40),
        flipped(&binary, binary.len() - 1),
        binary[..20].to_vec(),
    ];
    for (at, sealed) in cases.iter().enumerate() {
        let opened = caller.run_with("local decrypt --key-file orders.json --out opened", sealed);
        assert_eq!(opened.code(), Some(65), "{at}: {}", opened.err());
        assert_eq!(caller.listed(), before, "{at}");
    }
    let mut other = binary.clone();
    other[6] = 9;
    let opened = caller.run_with("local decrypt --key-file orders.json", &other);
    opened.must_refuse(78, &["no version 9"]);
}

#[test]
fn a_key_whose_seals_are_counted_seals_streams_only() {
    let Some(caller) = Caller::new() else { return };
    let made = caller
        .server
        .ask(Request::post("/api/keys", r#"{"name":"c","type":"chacha20-poly1305","exportable":true}"#));
    assert_eq!(made.status, 201);
    caller.run("key export c --out c.json").must_be(0);
    let sealed = caller.run_with("local encrypt --key-file c.json", b"hello");
    assert!(sealed.must_be(0).bytes().starts_with(b"QNS\x01"));
    assert_eq!(caller.run_with("decrypt --key c", sealed.bytes()).must_be(0).out(), "hello");
    let text = caller.run_with("encrypt --key c", b"hello");
    let opened = caller.run_with("local decrypt --key-file c.json", text.must_be(0).bytes());
    assert_eq!(opened.must_be(0).out(), "hello");
    caller.run_with("local encrypt --key-file c.json --form text", b"x").must_refuse(64, &["--form stream"]);
    let stranger = Ran::of(caller.stranger(&["local", "decrypt", "--key-file", "c.json", "admin.key"]));
    stranger.must_refuse(65, &["does not open"]);
}
