//! Every command once, for people and with `--json`.

use std::fs;

use crate::caller::{Caller, Ran};
use crate::server::client::Request;

#[test]
fn the_life_of_a_key() {
    let Some(caller) = Caller::new() else { return };
    let made =
        caller.run("key create invoices --type hmac-sha256 --exportable --auto-rotate 90d --keep-versions 5");
    assert!(made.must_be(0).out().starts_with("name: invoices\n"), "{}", made.out());
    assert!(made.out().contains("\nauto_rotate_seconds: 7776000\n"), "{}", made.out());
    let json = caller.run("key show invoices --json").json();
    assert_eq!((&json["type"], &json["exportable"]), (&"hmac-sha256".into(), &true.into()));
    assert_eq!(caller.run("key list").out(), "invoices hmac-sha256 v1\norders xchacha20-poly1305 v1\n");
    assert_eq!(caller.run("key list --json").json()["keys"][1]["name"], "orders");

    assert_eq!(caller.run("key rotate orders --json").json()["latest_version"], 2);
    let shown = caller.run("key config orders --version-state 1=disabled --deletion-allowed true");
    assert!(shown.must_be(0).out().contains("state disabled"), "{}", shown.out());
    let destroyed = caller.run("key destroy orders --version 1 --json").json();
    assert_eq!(destroyed["versions"][0]["state"], "destroyed");
    caller.run("key config invoices --min-decryption-version 7").must_refuse(1, &["400 Bad Request: "]);
    caller.run("key delete invoices").must_refuse(1, &["409 Conflict: ", "(deletion_not_allowed)"]);
    assert!(caller.run("key delete orders --json").json()["deleted_at"].is_string());
    assert!(caller.run("key list --deleted").out().starts_with("orders xchacha20-poly1305 v2 until 20"));
    caller.run("key undelete orders").must_be(0);
    caller
        .run("key show missing")
        .must_refuse(1, &["404 Not Found: ", "(unknown_key)", "`quantonium key list`"]);
}

#[test]
fn keys_go_out_and_come_in() {
    let Some(caller) = Caller::new() else { return };
    let sealed = caller.run_with("encrypt --key orders", b"hello").bytes().to_vec();
    caller.run("key export orders --out orders.json").must_be(0);
    let exported: serde_json::Value = serde_json::from_slice(&caller.read("orders.json")).unwrap();
    assert!(exported["versions"]["1"]["encryption_key"].is_string());
    assert!(caller.run("key export orders --version latest").json()["versions"]["1"].is_object());
    assert!(caller.run("key export orders --version 1 --json").json()["versions"]["1"].is_object());

    caller.run("key backup orders --out orders.backup").must_be(0);
    assert!(caller.read("orders.backup").starts_with(b"quantonium-backup:v1:"));
    assert_eq!(caller.run("key backup orders --json").json()["name"], "orders");
    caller.run("key restore orders.backup --name again").must_be(0);
    let opened = caller.run_with("decrypt --key again", &sealed);
    assert_eq!(opened.must_be(0).out(), "hello");
    caller.run("key restore orders.backup").must_refuse(1, &["409 Conflict: "]);
    caller.run("key restore orders.json").must_refuse(1, &["(backup_rejected)"]);

    caller.write("material", [7; 32]);
    let imported = caller.run("key import taken material --json").json();
    assert_eq!(imported["versions"][0]["imported"], true);
    let of_hmac = caller.run_with("key import mac - --type hmac-sha512 --exportable", &[9; 64]);
    assert!(of_hmac.must_be(0).out().contains("\nexportable: true\n"), "{}", of_hmac.out());
    caller.run_with("key import mac -", &[9; 600]).must_refuse(1, &["more than 512 bytes"]);
}

#[test]
fn what_a_key_does_besides() {
    let Some(caller) = Caller::new() else { return };
    caller.write("in", "order 47");
    let signature = caller.run("sign --key orders in").must_be(0).out().to_owned();
    assert!(signature.starts_with("quantonium:v1:") && signature.ends_with('\n'));
    caller.write("sig", &signature);
    assert_eq!(caller.run("verify --key orders --signature-file sig in").must_be(0).out(), "valid\n");
    assert_eq!(caller.run("verify --key orders --signature-file sig --json in").json()["valid"], true);
    let wrong =
        caller.run_with(&format!("verify --key orders --signature {}", signature.trim_end()), b"order 48");
    assert_eq!(wrong.must_be(1).out(), "invalid\n");
    let malformed = caller.run("verify --key orders --signature x in");
    malformed.must_refuse(1, &["(malformed_signature)"]);
    assert_eq!(caller.run("sign --key orders --json in").json()["key_version"], 1);

    let sealed = caller.run_with("encrypt --key orders --json", b"hello").json();
    assert_eq!(sealed["key_version"], 1);
    caller.write("old", sealed["ciphertext"].as_str().unwrap());
    assert_eq!(caller.run("decrypt --key orders --json old").json()["plaintext"], "aGVsbG8=");
    caller.run("key rotate orders").must_be(0);
    let rewrapped = caller.run("rewrap --key orders old");
    assert!(rewrapped.must_be(0).out().starts_with("quantonium:v2:"));
    assert_eq!(caller.run_with("decrypt --key orders", rewrapped.bytes()).must_be(0).out(), "hello");
    assert_eq!(caller.run("rewrap --key orders --json old").json()["key_version"], 2);
    let binary = caller.run_with("encrypt --key orders --form binary", b"hello");
    let again = caller.run_with("rewrap --key orders --key-version 1", binary.must_be(0).bytes());
    assert!(again.must_be(0).bytes().starts_with(b"QN\x01\0\0\0\x01"));
    let stream = caller.run_with("encrypt --key orders --form stream", b"hello");
    caller.run_with("rewrap --key orders", stream.bytes()).must_refuse(1, &["this is a stream"]);
    let told = caller.run_with("encrypt --key orders --form stream --json --out stream", b"hello").json();
    assert_eq!((&told["bytes_in"], &told["bytes_out"]), (&5.into(), &(56 + 5 + 16).into()));
    caller
        .run_with("encrypt --key orders --form stream --json", b"hello")
        .must_refuse(64, &["need --out FILE"]);

    let data_key = caller.run("datakey --key orders --bits 512 --associated-data a --plaintext-out data.key");
    let opened = caller.run_with("decrypt --key orders --associated-data a", data_key.must_be(0).bytes());
    assert!(opened.must_be(0).bytes() == caller.read("data.key") && opened.bytes().len() == 64);
    caller
        .run("datakey --key orders --plaintext-out data.key")
        .must_refuse(78, &["exists and is not overwritten"]);
    assert!(caller.run("datakey --key orders").must_be(0).out().starts_with("quantonium:v2:"));
    assert!(caller.run("datakey --key orders --json").json()["plaintext"].is_string());
}

#[test]
fn what_needs_no_key() {
    let Some(caller) = Caller::new() else { return };
    caller.write("in", "abc");
    let sum = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(caller.run("hash in").must_be(0).out(), format!("{sum}\n"));
    let json = caller.run_with("hash --algorithm sha512 --json", b"abc").json();
    assert_eq!(json["algorithm"], "sha512");
    caller.run_with("hash", &[0; (1 << 20) + 1]).must_refuse(1, &["more than 1048576 bytes"]);

    let hex = caller.run("random 16").must_be(0).out().to_owned();
    assert!(hex.len() == 33 && hex.trim_end().bytes().all(|byte| byte.is_ascii_hexdigit()), "{hex}");
    assert_eq!(caller.run("random --form base64 4").must_be(0).out().len(), 9);
    // More than one request gives, and the joints do not show.
    let raw = caller.run("random --form raw 2500000");
    assert_eq!(raw.must_be(0).bytes().len(), 2_500_000);
    let text = caller.run("random --form base64 1048577");
    assert_eq!(text.must_be(0).out().find('='), Some(1_398_103));
    assert!(caller.run("random --json 5").json()["entropy"].is_string());

    let token = caller.run("token --scope hash --expires-in 60s --json").json();
    assert_eq!((&token["scope"], &token["token_type"]), (&"hash".into(), &"Bearer".into()));
    assert_eq!(caller.run("whoami --json").json()["scopes"][0], "admin");
    let health = Ran::of(caller.stranger(&["health"]));
    assert!(health.must_be(0).out().starts_with("status: ok\n"), "{}", health.out());
    assert_eq!(Ran::of(caller.stranger(&["health", "--json"])).json()["components"]["store"]["status"], "ok");
}

#[test]
fn names_and_texts_are_sent_as_they_are() {
    let Some(caller) = Caller::new() else { return };
    // None of these is a name, and none of them reaches another route or member.
    for name in ["../auth/keys", "a/rotate", "a?b", "a\"b", "a b", "%2e", "\u{e9}"] {
        let shown = Ran::of(caller.command(&["key", "show", name]));
        assert!(matches!(shown.code(), Some(1 | 77)), "{name}: {}", shown.err());
        let made = Ran::of(caller.command(&["key", "create", name]));
        made.must_refuse(1, &["400 Bad Request: "]);
        let used = Ran::with(caller.command(&["encrypt", "--key", name]), b"x");
        assert!(matches!(used.code(), Some(1 | 77)), "{name}: {}", used.err());
    }
    let listed = caller.server.ask(Request::get("/api/keys"));
    assert_eq!(listed.json()["keys"].as_array().unwrap().len(), 1);
}

#[test]
fn mistakes_are_answered_before_anything_is_asked() {
    let Some(caller) = Caller::new() else { return };
    for (words, said) in [
        ("encrypt", "encrypt needs --key NAME"),
        ("encrypt --key", "--key needs a value"),
        ("encrypt --kee a", "unknown flag --kee; did you mean --key?"),
        ("encrypt --key a b c", "unexpected argument c"),
        ("encrypt --key a --form txt", "--form: txt is not known; did you mean text?"),
        ("encrypt --key a --key-version x", "--key-version: x is not a number"),
        ("encrypt --key a --force", "--force goes with --out FILE"),
        ("encrypt --key a --context b --context-file c", "--context or --context-file, not both"),
        ("encrypt --key a --api-key qk_1", "unknown flag --api-key\n"),
        ("random", "random needs how many bytes"),
        ("random 0", "random needs how many bytes"),
        ("verify --key a", "verify needs --signature-file FILE"),
        ("key", "key needs what to do: list, create"),
        ("key rotat a", "unknown command key rotat; did you mean `quantonium key rotate`?"),
        ("key show", "key show needs NAME"),
        ("key config a", "key config needs what is to be another"),
        ("key config a --version-state 1=gone", "--version-state: 1=gone is not like 2=disabled"),
        ("key destroy a", "key destroy needs --version N"),
        ("key create a --type aes", "--type: aes is not known; there are xchacha20-poly1305"),
        ("token --expires-in soon", "--expires-in: soon is not a time like"),
    ] {
        let ran = caller.run(words);
        assert!(ran.must_be(64).err().starts_with(&format!("quantonium: {said}")), "{words}: {}", ran.err());
    }
    let audit = fs::read_dir(caller.server.data_dir().join("audit")).unwrap();
    let lines: String = audit.map(|file| fs::read_to_string(file.unwrap().path()).unwrap()).collect();
    assert_eq!(lines.matches("\"event\":\"encrypt").count(), 0, "{lines}");
}

#[test]
fn a_result_that_nobody_gets_is_no_success() {
    let Some(caller) = Caller::new() else { return };
    let redirected = |words: &str, to: &str| {
        let binary = crate::server::binary().unwrap();
        let mut command = std::process::Command::new("/bin/sh");
        command.args(["-c", &format!("exec \"$0\" {words} {to}")]).arg(binary);
        command.env_clear().env("QUANTONIUM_URL", &caller.url).env("QUANTONIUM_API_KEY_FILE", "admin.key");
        command.current_dir(&caller.folder).stdin(std::process::Stdio::null());
        Ran::of(command)
    };
    for words in ["encrypt --key orders", "key export orders", "token --scope hash", "random 5"] {
        redirected(words, ">&-").must_refuse(74, &["standard output is closed"]);
        redirected(words, ">/dev/full").must_refuse(74, &["standard output"]);
        redirected(words, ">/dev/null").must_be(0);
    }
    redirected("health", ">&-").must_be(0);
    let before = caller.listed();
    redirected("datakey --key orders --plaintext-out bare", ">/dev/full").must_be(74);
    assert_eq!(caller.listed(), before);
}

#[test]
fn a_secret_in_the_wrong_place_is_not_told() {
    let Some(caller) = Caller::new() else { return };
    for words in [
        "whoami --url http://me:secret-7@127.0.0.1:1",
        "whoami --api-key-file qk_1a2b3c4d.secret-7",
        "apikey list --api-key-file qk_1a2b3c4d.secret-7",
    ] {
        let ran = caller.run(words);
        assert!(ran.code() != Some(0) && !ran.err().contains("secret-7"), "{words}: {}", ran.err());
    }
}
