//! Key material taken in and given out.

use serde_json::{Value, json};

use crate::server::client::{Reply, Request};
use crate::server::{Scratch, Server};
use crate::{
    base64, decrypt, must_configure, must_create, must_encrypt, must_rotate, octets, post, with_orders,
};

/// What was sealed elsewhere, under a key whose bytes count from 0: type, ciphertext, associated data. Both open to
/// `hello`. `docs/FORMATS.md` says what made them.
const FOREIGN: [(&str, &str, &str); 2] = [
    ("xchacha20-poly1305", "QEFCQ0RFRkdISUpLTE1OT1BRUlNUVVZXvFxpHL8L3qRpJcRDM3Ky1XWHzJ3Y", "order 47"),
    ("chacha20-poly1305", "QEFCQ0RFRkdISUpLkDEQ7R38KqlkdvjaL/AA94BhP9Ud", "order 47"),
];

/// The key of [`FOREIGN`].
fn counting() -> Vec<u8> {
    (0..32).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn import(server: &Server, name: &str, body: &Value) -> Reply {
    post(server, &format!("/api/keys/{name}/import"), &body.to_string())
}

fn export(server: &Server, name: &str, body: &str) -> Reply {
    server.ask(Request::post(&format!("/api/keys/{name}/export"), body))
}

/// Opens what was sealed elsewhere.
fn must_open_foreign(server: &Server, key: &str, body: &str, associated_data: &str) {
    let request = json!({
        "key": key, "ciphertext": format!("quantonium:v1:{body}"),
        "associated_data": base64(associated_data.as_bytes()),
    });
    let opened = post(server, "/api/decrypt", &request.to_string());
    assert_eq!(opened.json(), json!({ "plaintext": "aGVsbG8=", "key_version": 1 }), "{key}");
}

#[test]
fn an_imported_key_opens_what_others_sealed() {
    let Some(server) = Server::start(&["--workers", "1"]) else { return };
    for (kind, sealed, associated_data) in FOREIGN {
        let versions = if kind == "chacha20-poly1305" { 2 } else { 1 };
        let names = ["json", "hex", "raw", "curl"].map(|form| format!("{form}-{kind}"));
        let target = |at: usize| format!("/api/keys/{}/import?type={kind}", names[at]);
        let octets = Request::post(&target(2), counting()).with("Content-Type", "application/octet-stream");
        let by_curl =
            Request::post(&target(3), counting()).with("Content-Type", "application/x-www-form-urlencoded");
        let replies = [
            import(&server, &names[0], &json!({ "material": base64(&counting()), "type": kind })),
            import(
                &server,
                &names[1],
                &json!({ "material": hex(&counting()), "type": kind, "format": "hex" }),
            ),
            server.ask(octets),
            server.ask(by_curl),
        ];
        for (name, reply) in names.iter().zip(replies) {
            assert_eq!(reply.status, 201, "{name}: {}", reply.text());
            let key = reply.json();
            assert_eq!((&key["name"], &key["latest_version"]), (&json!(name), &json!(versions)));
            assert_eq!(key["versions"][0]["imported"], true);
            assert_eq!(key["exportable"], false);
            must_open_foreign(&server, name, sealed, associated_data);
        }
    }
}

#[test]
fn an_import_with_short_nonces_only_decrypts_and_has_a_fresh_version_behind_it() {
    let Some(server) = Server::start(&["--workers", "1"]) else { return };
    let body = json!({ "material": base64(&counting()), "type": "chacha20-poly1305" });
    let key = import(&server, "orders", &body).json();
    let state = |at: usize| (&key["versions"][at]["state"], &key["versions"][at]["imported"]);
    assert_eq!(state(0), (&json!("decrypt-only"), &json!(true)));
    assert_eq!(state(1), (&json!("enabled"), &json!(false)));
    let sealed = must_encrypt(&server, r#""plaintext":"aGVsbG8=""#);
    assert!(sealed.starts_with("quantonium:v2:"), "{sealed}");
    let by_first = json!({ "key": "orders", "plaintext": "aGVsbG8=", "key_version": 1 }).to_string();
    assert!((400..500).contains(&post(&server, "/api/encrypt", &by_first).status));
    let enable = json!({ "versions": [{ "version": 1, "state": "enabled" }] }).to_string();
    server.ask(Request::patch("/api/keys/orders", enable)).assert_problem(409, "version_state_not_allowed");
    // Off and on again is no way around it either.
    must_configure(&server, &json!({ "versions": [{ "version": 1, "state": "disabled" }] }));
    let enable = json!({ "versions": [{ "version": 1, "state": "enabled" }] }).to_string();
    server.ask(Request::patch("/api/keys/orders", enable)).assert_problem(409, "version_state_not_allowed");
    must_configure(&server, &json!({ "versions": [{ "version": 1, "state": "decrypt-only" }] }));
    let again = import(&server, "orders", &body);
    assert_eq!((again.status, &again.json()["latest_version"]), (200, &json!(4)));
}

#[test]
fn an_import_into_a_key_is_its_next_version() {
    let Some(server) = with_orders() else { return };
    let old = must_encrypt(&server, r#""plaintext":"aGVsbG8=""#);
    let second = import(&server, "orders", &json!({ "material": base64(&counting()) }));
    assert_eq!(second.status, 200, "{}", second.text());
    let key = second.json();
    assert_eq!((&key["latest_version"], &key["versions"][1]["imported"]), (&json!(2), &json!(true)));
    assert!(must_encrypt(&server, r#""plaintext":"aGVsbG8=""#).starts_with("quantonium:v2:"));
    assert_eq!(decrypt(&server, "orders", &old).member("plaintext"), "aGVsbG8=");
    for other in [
        json!({ "material": base64(&counting()), "exportable": true }),
        json!({ "material": base64(&counting()), "type": "chacha20-poly1305" }),
        json!({ "material": base64(&counting()), "keep_versions": 5 }),
    ] {
        import(&server, "orders", &other).assert_problem(409, "key_exists");
    }
}

#[test]
fn options_and_policy_may_come_with_the_octets() {
    let Some(server) = Server::start(&["--workers", "1"]) else { return };
    let query = "type=hmac-sha512&exportable=true&plaintext_backup=true&deletion_allowed=true&keep_versions=3\
                 &min_decryption_version=1&min_encryption_version=1&auto_rotate_seconds=60";
    let target = format!("/api/keys/signer/import?{query}");
    let reply = server.ask(Request::post(&target, octets(512)));
    assert_eq!(reply.status, 201, "{}", reply.text());
    let key = reply.json();
    for pair in query.split('&').filter(|pair| !pair.starts_with("type")) {
        let (name, value) = pair.split_once('=').unwrap_or_default();
        assert_eq!(key[name].to_string(), value, "{name}");
    }
    assert_eq!(key["type"], "hmac-sha512");
    let exported = export(&server, "signer", "").json();
    assert_eq!(exported["versions"]["1"], json!({ "hmac_key": base64(&octets(512)) }));
    for query in [
        "type=hmac-sha256&exportable=yes",
        "type=hmac-sha256&keep_versions=01",
        "type=hmac-sha256&keep_versions=4294967296",
        "type=hmac-sha256&auto_rotate_seconds=-1",
        "exportable=true",
    ] {
        let request = Request::post(&format!("/api/keys/a/import?{query}"), octets(32));
        server.ask(request).assert_problem(400, "malformed_parameter");
    }
    for (query, code) in [
        ("type=rot13", "unknown_key_type"),
        ("type=", "unknown_key_type"),
        ("type=hmac-sha256&type=hmac-sha256", "repeated_parameter"),
        ("type=hmac-sha256&material=AAAA", "unknown_parameter"),
    ] {
        let request = Request::post(&format!("/api/keys/a/import?{query}"), octets(32));
        server.ask(request).assert_problem(400, code);
    }
}

#[test]
fn material_that_cannot_be_a_key_is_refused() {
    let Some(server) = Server::start(&["--workers", "1"]) else { return };
    for (kind, lengths) in [
        ("xchacha20-poly1305", &[0, 1, 31, 33, 64][..]),
        ("chacha20-poly1305", &[0, 31, 33]),
        ("hmac-sha256", &[0, 15, 513]),
    ] {
        for length in lengths {
            let body = json!({ "material": base64(&octets(*length)), "type": kind });
            import(&server, "a", &body).assert_problem(400, "material_not_allowed");
            let raw = Request::post(&format!("/api/keys/a/import?type={kind}"), octets(*length));
            server.ask(raw).assert_problem(400, "material_not_allowed");
        }
    }
    for length in [16, 512] {
        let body = json!({ "material": base64(&octets(length)), "type": "hmac-sha384" });
        assert_eq!(import(&server, &format!("signer-{length}"), &body).status, 201);
    }
    let derived = json!({ "material": base64(&octets(32)), "type": "hmac-sha256", "derived": true });
    import(&server, "a", &derived).assert_problem(400, "material_not_allowed");
    let text = base64(&counting());
    for (material, format) in [
        (text.trim_end_matches('=').to_owned(), "base64"),
        (format!("{text}\n"), "base64"),
        (hex(&counting()), "base64x"),
        (hex(&counting()).to_uppercase(), "hex"),
        (format!("{}0", hex(&counting())), "hex"),
        (text.clone(), "hex"),
    ] {
        let reply = import(&server, "a", &json!({ "material": material, "format": format }));
        reply.assert_problem(400, if format == "base64x" { "unknown_format" } else { "malformed_material" });
        assert!(!reply.text().contains(&material), "the refusal does not repeat it");
    }
    for body in ["", "{}", "{\"material\":null}", "{\"material\":\"AA==\",\"name\":\"a\"}"] {
        post(&server, "/api/keys/a/import", body).assert_problem(400, "malformed_json");
    }
    assert_eq!(server.ask(Request::get("/api/keys/a")).status, 404);
}

#[test]
fn an_import_is_json_or_octets_and_has_a_name() {
    let Some(server) = Server::start(&["--workers", "1"]) else { return };
    let body = json!({ "material": base64(&counting()) }).to_string();
    post(&server, "/api/keys/a/import?type=hmac-sha256", &body).assert_problem(400, "json_with_query_type");
    for (target, kind) in [
        ("/api/keys/a/import", "application/octet-stream"),
        ("/api/keys/a/import", "text/plain"),
        ("/api/keys/a/import?type=hmac-sha256", "text/plain"),
        ("/api/keys/a/import?type=hmac-sha256", "application/merge-patch+json"),
    ] {
        let request = Request::post(target, counting()).with("Content-Type", kind);
        server.ask(request).assert_problem(415, "unsupported_media_type");
    }
    let coded =
        Request::post("/api/keys/a/import?type=hmac-sha256", counting()).with("Content-Encoding", "gzip");
    server.ask(coded).assert_problem(415, "unsupported_media_type");
    for name in [".a", "a%41", "%00", &"a".repeat(129)] {
        post(&server, &format!("/api/keys/{name}/import"), &body).assert_problem(400, "malformed_key_name");
    }
}

#[test]
fn an_export_gives_out_what_is_left_of_an_exportable_key() {
    let Some(server) = Server::start(&["--workers", "1"]) else { return };
    must_create(&server, r#"{"name":"orders","exportable":true,"deletion_allowed":true}"#);
    must_rotate(&server);
    assert_eq!(
        import(&server, "orders", &json!({ "material": base64(&counting()), "exportable": true })).status,
        200
    );
    must_configure(
        &server,
        &json!({ "versions": [
        { "version": 1, "state": "destroyed" }, { "version": 2, "state": "disabled" },
    ] }),
    );
    let all = export(&server, "orders", "");
    assert_eq!((all.status, all.field("Content-Type")), (200, Some("application/json")), "{}", all.text());
    let exported = all.json();
    assert_eq!((&exported["name"], &exported["type"]), (&json!("orders"), &json!("xchacha20-poly1305")));
    let versions = exported["versions"].as_object().cloned().unwrap_or_default();
    assert_eq!(versions.keys().collect::<Vec<_>>(), ["2", "3"], "destroyed is destroyed");
    assert_eq!(versions["3"]["encryption_key"], base64(&counting()));
    let secrets: std::collections::HashSet<&str> = versions
        .values()
        .filter_map(Value::as_object)
        .flatten()
        .filter_map(|(_, secret)| secret.as_str())
        .collect();
    assert_eq!(secrets.len(), 6, "three independent secrets of each version");
    assert!(secrets.iter().all(|secret| secret.len() == 44));
    assert_eq!(export(&server, "orders", r#"{"version":"all"}"#).json(), exported);
    for (body, number) in [(r#"{"version":"latest"}"#, "3"), (r#"{"version":2}"#, "2")] {
        let one = export(&server, "orders", body).json();
        assert_eq!(one["versions"], json!({ number: versions[number] }));
    }
    let in_hex = export(&server, "orders", r#"{"version":3,"format":"hex"}"#).json();
    assert_eq!(in_hex["versions"]["3"]["encryption_key"], hex(&counting()));
    for body in [r#"{"version":1}"#, r#"{"version":4}"#, r#"{"version":0}"#] {
        export(&server, "orders", body).assert_problem(400, "unknown_key_version");
    }
    for body in ["[]", r#"{"version":"newest"}"#, r#"{"version":-1}"#, r#"{"version":null}"#, r#"{"all":1}"#]
    {
        export(&server, "orders", body).assert_problem(400, "malformed_json");
    }
    export(&server, "orders", r#"{"format":"pem"}"#).assert_problem(400, "unknown_format");
    export(&server, "nope", "").assert_problem(404, "unknown_key");
}

#[test]
fn a_key_that_was_not_made_for_export_never_is() {
    let Some(server) = with_orders() else { return };
    must_create(&server, r#"{"name":"backed","plaintext_backup":true}"#);
    for name in ["orders", "backed"] {
        for body in ["", r#"{"version":1}"#, r#"{"version":9}"#] {
            export(&server, name, body).assert_problem(403, "key_not_exportable");
        }
    }
    let patch = Request::patch("/api/keys/orders", r#"{"exportable":true}"#);
    server.ask(patch).assert_problem(400, "malformed_json");
    post(&server, "/api/keys", r#"{"name":"orders","exportable":true}"#).assert_problem(409, "key_exists");
    export(&server, "orders", "").assert_problem(403, "key_not_exportable");
}

#[test]
fn an_exported_key_is_the_same_elsewhere() {
    let Some(server) = Server::start(&["--workers", "1"]) else { return };
    must_create(&server, r#"{"name":"orders","exportable":true}"#);
    let sealed = must_encrypt(&server, r#""plaintext":"aGVsbG8=""#);
    let material = export(&server, "orders", "").json()["versions"]["1"]["encryption_key"].clone();
    let Some(other) = Server::start(&["--workers", "1"]) else { return };
    assert_eq!(import(&other, "orders", &json!({ "material": material })).status, 201);
    assert_eq!(decrypt(&other, "orders", &sealed).member("plaintext"), "aGVsbG8=");
}

#[test]
fn material_stands_in_no_file_and_no_log() {
    let scratch = Scratch::new();
    let Some(server) = Server::start_in(&scratch, &["--workers", "1"]) else { return };
    let material: Vec<u8> = octets(600).split_off(90).into_iter().take(32).collect();
    let raw = "/api/keys/raw/import?type=hmac-sha256";
    assert_eq!(server.ask(Request::post(raw, &material)).status, 201);
    assert_eq!(
        import(&server, "a", &json!({ "material": base64(&material), "exportable": true })).status,
        201
    );
    assert_eq!(import(&server, "b", &json!({ "material": hex(&material), "format": "hex" })).status, 201);
    import(&server, "c", &json!({ "material": format!("{}=", base64(&material)) }))
        .assert_problem(400, "malformed_material");
    let exported = export(&server, "a", "").json();
    let members = exported["versions"]["1"].as_object().cloned().unwrap_or_default();
    let mut secrets: Vec<Vec<u8>> = members
        .values()
        .map(|secret| {
            let text = secret.as_str().unwrap_or_default();
            base64_simd::STANDARD.decode_to_vec(text).expect("base64")
        })
        .collect();
    secrets.push(material);
    assert_eq!(secrets.len(), 4);
    let folder = server.data_dir().join("audit");
    let ended = server.stop();
    let mut kept = vec![ended.stdout, ended.stderr];
    let files =
        std::fs::read_dir(folder).expect("the audit folder").map(|entry| entry.expect("a file").path());
    kept.extend(files.map(|path| std::fs::read_to_string(path).expect("text")));
    let audited = kept.concat();
    for event in ["key.import", "key.export"] {
        assert!(audited.contains(&format!("\"event\":\"{event}\"")), "{audited}");
    }
    for secret in &secrets {
        // Base64 of a part that begins anywhere is found by its own three alignments.
        let parts = (0..3).map(|skipped| base64(secret.get(skipped..skipped + 24).unwrap_or_default()));
        for form in parts.chain([hex(secret), hex(secret).to_uppercase()]) {
            assert!(!audited.contains(&form), "{form}");
        }
    }
}
