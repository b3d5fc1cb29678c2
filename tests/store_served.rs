//! A store between `init`, `serve` and `quantonium store`, on the real binary: what one leaves, the next finds.

#[path = "support/place.rs"]
mod place;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use place::server::client::Request;
use place::{Place, is_api_key};

/// One with a store whose admin key lies where a server's tests look for it.
fn served() -> Option<Place> {
    let place = Place::new()?;
    place.run("init", &["--admin-key-file", "data/admin.key"]).must_be(0);
    Some(place)
}

fn post(path: &str, body: &str) -> Request {
    Request::post(path, body)
}

#[test]
fn a_store_is_served_again_after_rekey_with_the_new_master_key_only() {
    let Some(place) = served() else { return };
    let server = place.serve("master.key", &[]);
    assert_eq!(server.ask(post("/api/keys", "{\"name\":\"orders\"}")).status, 201);
    let sealed = server.ask(post("/api/encrypt", "{\"key\":\"orders\",\"plaintext\":\"aGVsbG8=\"}")).json();
    place.run("store verify", &[]).must_refuse(78, &["data is in use by another quantonium"]);
    assert_eq!(server.stop().code, Some(0));
    let inspected = place.run("store inspect", &[]);
    assert!(
        inspected.must_be(0).out().ends_with("\n  orders xchacha20-poly1305 v1 enabled\n"),
        "{}",
        inspected.out()
    );

    place.secret("new.key", b"another-master-key-with-32-bytes");
    place.run("store rekey --new-master-key-file new.key", &[]).must_be(0);
    let refused = place.serve_refused("master.key", &[]);
    assert!(refused.must_be(78).err().contains("was made under another master key"), "{}", refused.err());
    let server = place.serve("new.key", &[]);
    let body = format!("{{\"key\":\"orders\",\"ciphertext\":{}}}", sealed["ciphertext"]);
    assert_eq!(server.ask(post("/api/decrypt", &body)).json()["plaintext"], "aGVsbG8=");
    assert_eq!(server.stop().code, Some(0));
}

#[test]
fn after_rotate_root_what_was_sealed_opens_and_old_api_keys_do_not() {
    let Some(place) = served() else { return };
    let server = place.serve("master.key", &[]);
    assert_eq!(server.ask(post("/api/keys", "{\"name\":\"orders\"}")).status, 201);
    assert_eq!(
        server.ask(post("/api/keys", "{\"name\":\"narrow\",\"type\":\"chacha20-poly1305\"}")).status,
        201
    );
    let sealed = server.ask(post("/api/encrypt", "{\"key\":\"narrow\",\"plaintext\":\"aGVsbG8=\"}")).json();
    let old = server.key().to_owned();
    assert_eq!(server.stop().code, Some(0));
    fs::remove_file(place.path("data/admin.key")).unwrap();
    let rotated = place.run("store rotate-root", &["--admin-key-file", "data/admin.key"]);
    assert!(rotated.must_be(0).err().starts_with("2 keys sealed anew"), "{}", rotated.err());
    assert!(rotated.err().contains(&format!("ended: API key {}", &old[..11])), "{}", rotated.err());
    place.run("store verify", &[]).must_be(0);
    let server = place.serve("master.key", &[]);
    let body = format!("{{\"key\":\"narrow\",\"ciphertext\":{}}}", sealed["ciphertext"]);
    assert_eq!(server.call(&post("/api/decrypt", &body).key(&old)).status, 401);
    assert_eq!(server.ask(post("/api/decrypt", &body)).json()["plaintext"], "aGVsbG8=");
    assert_eq!(server.ask(post("/api/keys/narrow/rotate", "")).status, 200);
    assert_eq!(server.stop().code, Some(0));
}

#[test]
fn serve_makes_a_store_only_when_it_is_told_to_and_shows_the_admin_key_once() {
    let Some(place) = Place::new() else { return };
    place.serve_refused("master.key", &[]).must_be(78);
    assert!(!place.journal().exists());
    let shown = |flags: &[&str]| {
        let mut child = place
            .serve_command("master.key", flags)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let said: Vec<String> = lines.by_ref().take_while(|line| !line.starts_with("listening on")).collect();
        child.kill().unwrap();
        child.wait().unwrap();
        said.into_iter().chain(lines).collect::<Vec<_>>().join("\n")
    };
    let first = shown(&["--init"]);
    let key = first.split_whitespace().find(|word| word.starts_with("qk_")).unwrap();
    assert!(is_api_key(key), "{first}");
    assert!(!shown(&["--init"]).contains("qk_"), "it is shown once");
    assert!(!shown(&[]).contains("qk_"), "the store is there");
    assert_eq!(place.run("store verify", &[]).must_be(0).value("result"), "sound");
}

#[test]
fn a_store_that_was_rolled_back_is_refused_until_that_is_accepted() {
    let Some(place) = served() else { return };
    let server = place.serve("master.key", &[]);
    assert_eq!(server.ask(post("/api/keys", "{\"name\":\"orders\"}")).status, 201);
    assert_eq!(server.stop().code, Some(0));
    let backup = fs::read(place.journal()).unwrap();
    let server = place.serve("master.key", &[]);
    assert_eq!(server.ask(post("/api/keys/orders/rotate", "")).status, 200);
    assert_eq!(server.stop().code, Some(0));
    fs::write(place.journal(), &backup).unwrap();
    let words = ["it was rolled back", "--accept-store-rollback"];
    let verified = place.run("store verify", &[]);
    verified.must_be(78);
    assert!(words.iter().all(|word| verified.err().contains(word)), "{}", verified.err());
    place.run("store compact", &[]).must_refuse(78, &words);
    let refused = place.serve_refused("master.key", &[]);
    refused.must_be(78);
    assert!(words.iter().all(|word| refused.err().contains(word)), "{}", refused.err());
    let server = place.serve("master.key", &["--accept-store-rollback"]);
    assert_eq!(server.stop().code, Some(0));
    let server = place.serve("master.key", &[]);
    assert_eq!(server.stop().code, Some(0));
    place.run("store verify", &[]).must_be(0);
}

#[test]
fn an_acknowledged_change_at_the_end_is_not_taken_for_an_unfinished_one() {
    let Some(place) = served() else { return };
    let server = place.serve("master.key", &[]);
    assert_eq!(server.ask(post("/api/keys", "{\"name\":\"orders\"}")).status, 201);
    assert_eq!(server.stop().code, Some(0));
    let mut bytes = fs::read(place.journal()).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(place.journal(), &bytes).unwrap();
    let verified = place.run("store verify", &[]);
    verified.must_be(65);
    assert_eq!(verified.value("result"), "damaged");
    let json = place.run("store verify", &["--json"]).must_be(65).json();
    let offset = json["damaged"][0]["offset"].as_u64().unwrap();
    let named = format!("data/journal is damaged at offset {offset}");
    place.run("store compact", &[]).must_refuse(65, &[&named]);
    let refused = place.serve_refused("master.key", &[]);
    refused.must_be(65);
    assert!(refused.err().contains(&named), "{}", refused.err());
}
