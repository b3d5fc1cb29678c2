//! Backups of keys, and keys from backups.

#![expect(clippy::expect_used, reason = "a test fails by panicking, its helping functions too")]

use quantonium::clock::{Moment, WallTime};
use quantonium::crypto::random::{Generator, Kernel};
use quantonium::keyring::backup::write_plain_backup;
use quantonium::keyring::change::apply;
use quantonium::keyring::{Change, Circumstances, Ring};
use quantonium::limits::BACKUP_IN_BODY_MAX_BYTES;
use quantonium::model::{KeyName, KeyOptions, KeyType, PolicyChange};
use quantonium::secret::SecretBytes;
use serde_json::{Value, json};

use crate::server::Server;
use crate::server::client::{Reply, Request};
use crate::{base64, decrypt, must_configure, must_create, must_encrypt, must_rotate, post, with_orders};

const HELLO: &str = r#""plaintext":"aGVsbG8=""#;
const SEALED: &str = "quantonium-backup:v1:";

fn backup(server: &Server, name: &str, body: &str) -> Reply {
    server.ask(Request::post(&format!("/api/keys/{name}/backup"), body))
}

/// A sealed backup of `orders`.
fn must_back_up(server: &Server) -> String {
    let reply = backup(server, "orders", "");
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(reply.member("name"), "orders");
    let text = reply.member("backup");
    assert!(text.starts_with(SEALED), "{text}");
    text
}

fn restore(server: &Server, body: &Value) -> Reply {
    post(server, "/api/keys/restore", &body.to_string())
}

#[test]
fn a_backup_brings_the_whole_key_back_under_any_name() {
    let Some(server) = Server::start(&["--workers", "1"]) else { return };
    must_create(&server, r#"{"name":"orders","exportable":true,"keep_versions":5,"deletion_allowed":true}"#);
    let mut sealed = vec![must_encrypt(&server, HELLO)];
    must_rotate(&server);
    sealed.push(must_encrypt(&server, HELLO));
    must_rotate(&server);
    must_configure(&server, &json!({ "versions": [{ "version": 3, "state": "disabled" }] }));
    let text = must_back_up(&server);
    assert_ne!(text, must_back_up(&server), "each is sealed with a nonce of its own");
    let before = server.ask(Request::get("/api/keys/orders")).json();

    let restored = restore(&server, &json!({ "backup": text, "name": "copy" }));
    assert_eq!(restored.status, 201, "{}", restored.text());
    let copy = restored.json();
    assert_eq!((&copy["name"], &copy["latest_version"]), (&json!("copy"), &json!(3)));
    for member in ["type", "exportable", "keep_versions", "deletion_allowed", "created_at"] {
        assert_eq!(copy[member], before[member], "{member}");
    }
    assert_eq!(copy["versions"][2]["state"], "disabled");
    for sealed in &sealed {
        assert_eq!(decrypt(&server, "copy", sealed).member("plaintext"), "aGVsbG8=");
    }

    must_rotate(&server);
    restore(&server, &json!({ "backup": text })).assert_problem(409, "key_exists");
    let replaced = restore(&server, &json!({ "backup": text, "replace": true }));
    assert_eq!((replaced.status, &replaced.json()["latest_version"]), (201, &json!(3)));
    assert_eq!(server.ask(Request::new("DELETE", "/api/keys/orders")).status, 200);
    restore(&server, &json!({ "backup": text })).assert_problem(409, "key_deleted");
    must_create(&server, r#"{"name":"guarded"}"#);
    let over_guarded = json!({ "backup": text, "name": "guarded", "replace": true });
    restore(&server, &over_guarded).assert_problem(409, "deletion_not_allowed");
}

#[test]
fn what_had_short_nonces_only_decrypts_after_a_restore() {
    let Some(server) = Server::start(&["--workers", "1"]) else { return };
    must_create(&server, r#"{"name":"orders","type":"chacha20-poly1305"}"#);
    let sealed = must_encrypt(&server, HELLO);
    let text = must_back_up(&server);
    let copy = restore(&server, &json!({ "backup": text, "name": "copy" })).json();
    assert_eq!(
        (&copy["versions"][0]["state"], &copy["versions"][0]["imported"]),
        (&json!("decrypt-only"), &json!(true))
    );
    assert_eq!((&copy["versions"][1]["state"], &copy["latest_version"]), (&json!("enabled"), &json!(2)));
    assert_eq!(decrypt(&server, "copy", &sealed).member("plaintext"), "aGVsbG8=");
}

#[test]
fn an_open_backup_is_for_keys_that_were_made_so() {
    let Some(server) = with_orders() else { return };
    must_create(&server, r#"{"name":"open","plaintext_backup":true}"#);
    for refused in ["orders", "exportable"] {
        if refused != "orders" {
            must_create(&server, &json!({ "name": refused, "exportable": true }).to_string());
        }
        backup(&server, refused, r#"{"plaintext":true}"#).assert_problem(403, "plaintext_backup_not_allowed");
        assert_eq!(backup(&server, refused, r#"{"plaintext":false}"#).status, 200);
    }
    let plain = backup(&server, "open", r#"{"plaintext":true}"#).member("backup");
    assert!(plain.starts_with("quantonium-backup-plain:v1:"), "{plain}");
    assert!(backup(&server, "open", "").member("backup").starts_with(SEALED));
    let Some(other) = Server::start(&["--workers", "1"]) else { return };
    let sealed = {
        let body = json!({ "key": "open", "plaintext": "aGVsbG8=" }).to_string();
        post(&server, "/api/encrypt", &body).member("ciphertext")
    };
    assert_eq!(restore(&other, &json!({ "backup": plain })).status, 201);
    assert_eq!(decrypt(&other, "open", &sealed).member("plaintext"), "aGVsbG8=");
    for body in ["[]", r#"{"plaintext":1}"#, r#"{"plaintext":null}"#, r#"{"plain":true}"#] {
        backup(&server, "open", body).assert_problem(400, "malformed_json");
    }
    backup(&server, "nope", "").assert_problem(404, "unknown_key");
}

#[test]
fn a_backup_of_another_server_is_told_from_an_altered_one() {
    let Some(server) = with_orders() else { return };
    let text = must_back_up(&server);
    let Some(other) = Server::start(&["--workers", "1"]) else { return };
    restore(&other, &json!({ "backup": text })).assert_problem(400, "backup_other_key");
    let bytes = base64_simd::STANDARD.decode_to_vec(text.trim_start_matches(SEALED)).expect("base64");
    for at in (0..bytes.len()).filter(|at| !(4..12).contains(at)) {
        let mut altered = bytes.clone();
        altered[at] ^= 0x10;
        let body = json!({ "backup": format!("{SEALED}{}", base64(&altered)), "name": "copy" });
        restore(&server, &body).assert_problem(400, "backup_rejected");
    }
    for length in [0, 3, 4, 12, 36, 51, 52, bytes.len() - 1] {
        let cut = bytes.get(..length).unwrap_or_default();
        let body = json!({ "backup": format!("{SEALED}{}", base64(cut)), "name": "copy" });
        restore(&server, &body).assert_problem(400, "backup_rejected");
    }
    let longer = [&bytes[..], &[0]].concat();
    for text in [
        String::new(),
        SEALED.to_owned(),
        text.trim_end_matches('=').to_owned() + "====",
        format!("{text}\n"),
        text.replace(":v1:", ":v2:"),
        text.replace("quantonium-backup", "quantonium-backup-plain"),
        format!("{SEALED}{}", base64(&longer)),
    ] {
        restore(&server, &json!({ "backup": text, "name": "copy" })).assert_problem(400, "backup_rejected");
    }
    assert_eq!(server.ask(Request::get("/api/keys/copy")).status, 404, "nothing of them is left");
}

#[test]
fn a_restore_takes_its_own_members_only() {
    let Some(server) = with_orders() else { return };
    let text = must_back_up(&server);
    for body in [
        json!({}),
        json!({ "backup": null }),
        json!({ "backup": text, "name": null }),
        json!({ "backup": text, "replace": "yes" }),
        json!({ "backup": text, "exportable": true }),
    ] {
        restore(&server, &body).assert_problem(400, "malformed_json");
    }
    restore(&server, &json!({ "backup": text, "name": ".a" })).assert_problem(400, "malformed_key_name");
    let raw = Request::post("/api/keys/restore", &text).with("Content-Type", "text/plain");
    server.ask(raw).assert_problem(415, "unsupported_media_type");
    post(&server, "/api/keys/restore?name=a", &json!({ "backup": text }).to_string())
        .assert_problem(400, "unknown_parameter");
    let escaped = format!(r#"{{"backup":"{}","name":"copy"}}"#, text.replace('/', "\\/"));
    assert_eq!(post(&server, "/api/keys/restore", &escaped).status, 201, "an escaped solidus is a solidus");
}

/// An open backup of a key `orders` that `step` is carried out on until `enough` is content with the backup: what would
/// take thousands of requests.
fn grown(first: &Change, step: &Change, enough: impl Fn(u32, &str) -> bool) -> String {
    let mut generator = Generator::new(Kernel, Moment::now()).expect("random bytes");
    let mut draw = |bytes: &mut [u8]| generator.fill(Moment::now(), bytes);
    let mut at = Circumstances { now: WallTime::now(), restore_window_seconds: 0, draw: &mut draw };
    let mut ring = Ring::default();
    let mut key = apply(&mut ring, first, &mut at).expect("a key").key;
    loop {
        let number = key.latest_number();
        // To write it each time would take longer than all the rest.
        if number.is_multiple_of(65) || number > 4_000 {
            let text = write_plain_backup(&key).expect("a backup");
            if enough(number, &text) {
                return text.to_string();
            }
        }
        key = apply(&mut ring, step, &mut at).expect("a version").key;
    }
}

fn orders() -> KeyName {
    KeyName::new("orders").expect("a name")
}

#[test]
fn a_key_with_as_many_versions_as_may_be_is_still_answered_and_backed_up() {
    let Some(server) = Server::start(&["--workers", "1"]) else { return };
    let options = KeyOptions { plaintext_backup: true, ..KeyOptions::of(KeyType::XChaCha20Poly1305) };
    let first = Change::Create { name: orders(), options, policy: PolicyChange::default() };
    let step = Change::Rotate { name: orders(), only_if_latest: None };
    let most = grown(&first, &step, |number, _| number == 4_095);
    assert_eq!(restore(&server, &json!({ "backup": most })).status, 201);
    must_rotate(&server);
    let key = server.ask(Request::get("/api/keys/orders")).json();
    assert_eq!(
        (&key["latest_version"], key["versions"].as_array().map(Vec::len)),
        (&json!(4_096), Some(4_096))
    );
    let full = server.ask(Request::post("/api/keys/orders/rotate", ""));
    full.assert_problem(409, "key_versions_full");
    let copy = restore(&server, &json!({ "backup": must_back_up(&server), "name": "copy" }));
    assert_eq!((copy.status, &copy.json()["latest_version"]), (201, &json!(4_096)));
    must_configure(&server, &json!({ "keep_versions": 1 }));
    must_rotate(&server);
    let key = server.ask(Request::get("/api/keys/orders")).json();
    assert_eq!((&key["latest_version"], key["versions"].as_array().map(Vec::len)), (&json!(4_097), Some(1)));
}

#[test]
fn a_key_that_no_request_could_bring_back_is_not_backed_up() {
    let Some(server) = Server::start(&["--workers", "1"]) else { return };
    let options =
        KeyOptions { plaintext_backup: true, exportable: true, ..KeyOptions::of(KeyType::HmacSha512) };
    let material = || SecretBytes::take(&mut [0x5a; 512]);
    let import =
        || Change::Import { name: orders(), options, policy: PolicyChange::default(), material: material() };
    // What one more round would make too long is as long as can be.
    let long = grown(&import(), &import(), |_, text| text.len() + 65 * 720 > BACKUP_IN_BODY_MAX_BYTES);
    let restored = restore(&server, &json!({ "backup": long }));
    assert_eq!(restored.status, 201, "{} bytes: {}", long.len(), restored.text());
    assert_eq!(backup(&server, "orders", "").status, 200);
    assert_eq!(server.ask(Request::post("/api/keys/orders/export", "")).status, 200);
    let target = "/api/keys/orders/import?type=hmac-sha512&exportable=true&plaintext_backup=true";
    for _ in 0..150 {
        assert_eq!(server.ask(Request::post(target, vec![0x5a; 512])).status, 200);
    }
    for body in ["", r#"{"plaintext":true}"#] {
        backup(&server, "orders", body).assert_problem(409, "backup_too_large");
    }
    let all = server.ask(Request::post("/api/keys/orders/export", ""));
    all.assert_problem(413, "reply_too_large");
    let one = server.ask(Request::post("/api/keys/orders/export", r#"{"version":"latest"}"#)).json();
    let secrets: Vec<&Value> =
        one["versions"].as_object().into_iter().flat_map(|versions| versions.values()).collect();
    assert_eq!(secrets, [&json!({ "hmac_key": base64(&[0x5a; 512]) })]);
}
