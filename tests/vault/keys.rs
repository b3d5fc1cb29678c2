//! The life of keys as these clients know it, and what differs from Vault on purpose.

use std::fs;

use base64_simd::STANDARD;
use quantonium::crypto::aead::{self, Algorithm};
use quantonium::crypto::kdf;
use serde_json::{Value, json};

use super::{ask, create, data, error, post, seal};
use crate::server::Server;
use crate::server::client::{Reply, Request};

fn read(server: &Server, name: &str) -> Reply {
    ask(server, Request::get(&format!("/v1/transit/keys/{name}")))
}

fn names(reply: &Reply) -> Value {
    data(reply)["keys"].clone()
}

#[test]
fn a_missing_type_is_the_one_that_all_clients_read_and_types_of_others_are_refused() {
    let Some(server) = Server::start(&[]) else { return };
    let made = data(&post(&server, "keys/k", &json!({})));
    assert_eq!(made["type"], "chacha20-poly1305");
    assert!(made["keys"]["1"].as_u64().unwrap() > 1_700_000_000, "{made}");
    for kind in ["aes256-gcm96", "rsa-2048", "ecdsa-p256", "ed25519", "chacha20"] {
        let refused = post(&server, "keys/other", &json!({"type": kind}));
        assert_eq!((refused.status, error(&refused)), (400, format!("unknown key type {kind}")));
    }
    for (size, status) in [(json!(null), 200), (json!(32), 200), (json!("64"), 200), (json!(33), 400)] {
        let made = post(
            &server,
            &format!("keys/h{size}").replace('"', ""),
            &json!({"type": "hmac", "key_size": size}),
        );
        assert_eq!(made.status, status, "{size}: {}", made.text());
        if status == 200 {
            let key = data(&made);
            assert!(key["type"] == "hmac" && key.get("keys").is_none() && key["key_size"].is_u64(), "{key}");
        }
    }
}

#[test]
fn a_key_that_exists_is_made_sure_of_but_never_quietly_another_one() {
    let Some(server) = Server::start(&[]) else { return };
    create(&server, "k", "xchacha20-poly1305");
    post(&server, "keys/k/rotate", &json!({}));
    let again = data(&post(&server, "keys/k", &json!({})));
    assert_eq!((&again["type"], &again["latest_version"]), (&json!("xchacha20-poly1305"), &json!(2)));
    for other in [json!({"type": "chacha20-poly1305"}), json!({"derived": true}), json!({"exportable": true})]
    {
        assert_eq!(post(&server, "keys/k", &other).status, 400, "{other}");
    }
    assert_eq!(post(&server, "encrypt/new", &json!({"plaintext": "aGk="})).status, 400, "no key by using it");
    assert_eq!(data(&ask(&server, Request::get("/v1/transit/config/keys"))), json!({"disable_upsert": true}));
    assert_eq!(post(&server, "config/keys", &json!({"disable_upsert": false})).status, 400);
}

#[test]
fn keys_are_listed_in_both_forms_and_an_empty_list_is_not_found() {
    let Some(server) = Server::start(&[]) else { return };
    let list = || ask(&server, Request::new("LIST", "/v1/transit/keys"));
    assert_eq!((list().status, error(&list()).as_str()), (404, ""));
    for name in ["b", "a", "c"] {
        create(&server, name, "hmac");
    }
    assert_eq!(names(&list()), json!(["a", "b", "c"]));
    let query = |query: &str| ask(&server, Request::get(&format!("/v1/transit/keys?{query}")));
    assert_eq!(names(&query("list=true")), json!(["a", "b", "c"]));
    assert_eq!(names(&query("list=true&after=a&limit=1")), json!(["b"]));
}

#[test]
fn bounds_and_trimming_are_those_of_the_engine() {
    let Some(server) = Server::start(&[]) else { return };
    create(&server, "k", "chacha20-poly1305");
    let old = seal(&server, "k", "aGk=");
    post(&server, "keys/k/rotate", &json!({}));
    let set = |body: Value| post(&server, "keys/k/config", &body);
    let bounded = data(&set(json!({"min_decryption_version": "2", "auto_rotate_period": "24h"})));
    assert_eq!(
        (&bounded["keys"].as_object().unwrap().len(), &bounded["auto_rotate_period"]),
        (&1, &json!(86_400))
    );
    assert_eq!(post(&server, "decrypt/k", &json!({"ciphertext": old})).status, 400);
    for bad in [
        json!({"min_decryption_version": 5}),
        json!({"min_encryption_version": 1}),
        json!({"auto_rotate_period": "1m"}),
        json!({"exportable": true}),
        json!({"allow_plaintext_backup": true}),
    ] {
        assert_eq!(set(bad.clone()).status, 400, "{bad}");
    }
    assert_eq!(set(json!({"exportable": false})).status, 200, "nothing is asked for");
    let trim = |oldest: u32| post(&server, "keys/k/trim", &json!({"min_available_version": oldest}));
    assert_eq!(trim(2).status, 400, "the bound for encryption is not set");
    set(json!({"min_encryption_version": 2}));
    assert_eq!(trim(3).status, 400);
    assert_eq!(data(&trim(2))["min_available_version"], 2);
    assert_eq!(trim(1).status, 400);
    assert_eq!(post(&server, "keys/k/trim", &json!({})).status, 400);
}

#[test]
fn a_key_goes_for_good_only_if_that_is_allowed_and_its_name_is_free_then() {
    let Some(server) = Server::start(&[]) else { return };
    create(&server, "k", "chacha20-poly1305");
    let old = seal(&server, "k", "aGk=");
    let delete = |path: &str| ask(&server, Request::new("DELETE", &format!("/v1/transit/keys/{path}")));
    assert_eq!((delete("k").status, delete("k/soft-delete").status, delete("none").status), (400, 400, 400));
    post(&server, "keys/k/config", &json!({"deletion_allowed": true}));
    assert_eq!(data(&delete("k/soft-delete"))["soft_deleted"], true);
    assert_eq!(data(&read(&server, "k"))["soft_deleted"], true);
    assert_eq!(names(&ask(&server, Request::new("LIST", "/v1/transit/keys"))), json!(["k"]));
    assert_eq!(post(&server, "decrypt/k", &json!({"ciphertext": old})).status, 400);
    assert_eq!(data(&post(&server, "keys/k/soft-delete-restore", &json!(null)))["soft_deleted"], false);
    assert_eq!(data(&post(&server, "decrypt/k", &json!({"ciphertext": old})))["plaintext"], "aGk=");
    assert_eq!((delete("k").status, read(&server, "k").status), (204, 404));
    create(&server, "k", "chacha20-poly1305");
    assert_eq!(post(&server, "decrypt/k", &json!({"ciphertext": old})).status, 400, "another key");
}

#[test]
fn derived_and_convergent_keys_bind_to_their_context() {
    let Some(server) = Server::start(&[]) else { return };
    for kind in ["chacha20-poly1305", "xchacha20-poly1305"] {
        let name = &kind[..1];
        let body = json!({"type": kind, "derived": true, "convergent_encryption": true});
        let key = data(&post(&server, &format!("keys/{name}"), &body));
        assert_eq!((&key["kdf"], &key["convergent_encryption_version"]), (&json!("hkdf_sha256"), &json!(-1)));
        let sealed = |context: &str| {
            let body = json!({"plaintext": "aGk=", "context": context});
            data(&post(&server, &format!("encrypt/{name}"), &body))["ciphertext"].clone()
        };
        assert_eq!(sealed("Yw=="), sealed("Yw=="));
        assert_ne!(sealed("Yw=="), sealed("ZA=="));
        assert_eq!(post(&server, &format!("encrypt/{name}"), &json!({"plaintext": "aGk="})).status, 400);
    }
    let alone = json!({"type": "chacha20-poly1305", "convergent_encryption": true});
    assert_eq!(post(&server, "keys/alone", &alone).status, 400);
    create(&server, "plain", "chacha20-poly1305");
    // Vault passes the context over, and the caller believes that it binds.
    let bound = json!({"plaintext": "aGk=", "context": "Yw=="});
    assert_eq!(post(&server, "encrypt/plain", &bound).status, 400);
    assert_eq!(post(&server, "encrypt/plain", &json!({"plaintext": "aGk=", "context": ""})).status, 200);
}

#[test]
fn a_convergent_key_opens_nothing_under_a_nonce_that_is_not_of_the_plaintext() {
    const KIND: &str = "xchacha20-poly1305";
    let Some(server) = Server::start(&[]) else { return };
    let body = json!({"type": KIND, "derived": true, "convergent_encryption": true, "exportable": true});
    data(&post(&server, "keys/k", &body));
    let seal_with = |bound: &[u8]| {
        let body = json!({"plaintext": "aGk=", "context": "Yw==", "associated_data": STANDARD.encode_to_string(bound)});
        let text = data(&post(&server, "encrypt/k", &body))["ciphertext"].as_str().unwrap().to_owned();
        STANDARD.decode_to_vec(&text["vault:v1:".len()..]).unwrap()
    };
    // One key of a tag for two messages would betray it.
    let sealed = [seal_with(b""), seal_with(b"a"), seal_with(b"b")];
    assert!(sealed[0][..24] != sealed[1][..24] && sealed[1][..24] != sealed[2][..24]);
    assert_eq!(sealed[1], seal_with(b"a"), "equal seals converge");
    let exported = data(&ask(&server, Request::get("/v1/transit/export/encryption-key/k")));
    let key = STANDARD.decode_to_vec(exported["keys"]["1"].as_str().unwrap()).unwrap();
    let mut derived = [0; 32];
    kdf::derive(&[], &key, &[b"c"], &mut derived).unwrap();
    // With the derived key itself: `hi` as it was sealed, and another text under the same nonce.
    for (text, bound, nonce, status) in [
        (b"hi", &b""[..], &sealed[0][..24], 200),
        (b"ho", b"", &sealed[0][..24], 400),
        (b"hi", b"a", &sealed[1][..24], 200),
        (b"hi", b"b", &sealed[1][..24], 400),
        // As Vault seals it, whose nonces leave the associated data out.
        (b"hi", b"a", &sealed[0][..24], 200),
        (b"ho", b"a", &sealed[0][..24], 400),
        (b"hi", b"", &[7; 24], 400),
    ] {
        let mut sealed = *text;
        let tag = aead::seal(Algorithm::XChaCha20Poly1305, &derived, nonce, bound, &mut sealed).unwrap();
        let whole = [nonce, &sealed, &tag].concat();
        let body = json!({"ciphertext": format!("vault:v1:{}", STANDARD.encode_to_string(whole)), "context": "Yw==",
            "associated_data": STANDARD.encode_to_string(bound)});
        let reply = post(&server, "decrypt/k", &body);
        assert_eq!(reply.status, status, "{text:?} {bound:?} {}", reply.text());
    }
}

#[test]
fn what_is_exported_comes_back_under_its_versions_and_seals_no_more() {
    let Some(server) = Server::start(&[]) else { return };
    let made = json!({"type": "chacha20-poly1305", "exportable": true, "allow_plaintext_backup": true});
    data(&post(&server, "keys/k", &made));
    let first = seal(&server, "k", "aGk=");
    post(&server, "keys/k/rotate", &json!({}));
    let second = seal(&server, "k", "aGo=");
    let get = |path: &str| ask(&server, Request::get(&format!("/v1/transit/{path}")));
    let (keys, macs) = (data(&get("export/encryption-key/k")), data(&get("export/hmac-key/k")));
    assert_eq!(data(&get("export/encryption-key/k/latest"))["keys"]["2"], keys["keys"]["2"]);
    let mac = data(&post(&server, "hmac/k", &json!({"input": "aGk=", "key_version": 1})));
    let body = json!({"type": keys["type"], "keys": keys["keys"], "hmac_keys": macs["keys"]});
    let imported = data(&post(&server, "keys/copy/import", &body));
    assert_eq!((&imported["latest_version"], &imported["imported_key"]), (&json!(3), &json!(true)));
    for (sealed, plaintext) in [(&first, "aGk="), (&second, "aGo=")] {
        let opened = data(&post(&server, "decrypt/copy", &json!({"ciphertext": sealed})));
        assert_eq!(opened["plaintext"], plaintext);
    }
    assert_eq!(post(&server, "encrypt/copy", &json!({"plaintext": "", "key_version": 1})).status, 400);
    assert!(seal(&server, "copy", "aGk=").starts_with("vault:v3:"));
    let checked = data(&post(&server, "verify/copy", &json!({"input": "aGk=", "hmac": mac["hmac"]})));
    assert_eq!(checked, json!({"valid": true}));
    assert_eq!(post(&server, "keys/w/import", &json!({"ciphertext": "AAAA"})).status, 400);
    let key = &keys["keys"]["1"];
    for refused in [
        json!({"keys": {"1": key, "01": key}}),
        json!({"keys": {"+1": key}}),
        json!({"keys": {"1": key}, "auto_rotate_period": 1}),
    ] {
        assert_eq!(post(&server, "keys/w/import", &refused).status, 400, "{refused}");
    }
    let backup = data(&get("backup/k"));
    assert_eq!(post(&server, "restore/again", &backup).status, 204);
    assert_eq!(data(&post(&server, "decrypt/again", &json!({"ciphertext": first})))["plaintext"], "aGk=");
    assert_eq!(post(&server, "restore/again", &backup).status, 400, "and not 500");
    create(&server, "kept", "chacha20-poly1305");
    for path in ["export/encryption-key/kept", "backup/kept", "export/signing-key/k"] {
        assert_eq!(get(path).status, 400, "{path}");
    }
    assert_eq!((get("export/hmac-key/none").status, get("backup/none").status), (404, 404));
}

#[test]
fn audit_lines_name_the_native_event_and_the_key() {
    let Some(server) = Server::start(&[]) else { return };
    create(&server, "orders", "chacha20-poly1305");
    seal(&server, "orders", "aGk=");
    let folder = fs::read_dir(server.data_dir().join("audit")).unwrap();
    let text: String =
        folder.map(|file| fs::read_to_string(file.unwrap().path()).unwrap_or_default()).collect();
    let told = |event: &str| {
        let named = format!("\"event\":\"{event}\"");
        text.lines().any(|line| line.contains(&named) && line.contains("\"key\":\"orders\""))
    };
    assert!(told("key.create") && told("encrypt"), "{text}");
    assert!(text.contains("/v1/{mount}/encrypt/{name}"), "{text}");
}
