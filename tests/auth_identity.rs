//! Who is recognised by what his connection proves, asked of the real application in this process.
//!
//! The transports that prove identities have tests of their own; here the peer of the one connection is given.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helping functions too"
)]

#[path = "support/in_process.rs"]
mod in_process;

use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::rc::Rc;
use std::sync::Arc;

use in_process::InProcess;
use quantonium::auth::entry::Generation;
use quantonium::auth::{Change, Terms, TermsChange};
use quantonium::clock::WallTime;
use quantonium::http::forwarded::{Field, Forwarding};
use quantonium::http::peer::{Peer, Way};
use quantonium::model::{ApiKeyId, Grants, Identities, Identity, KeyOptions, KeyType};
use quantonium::network::Network;
use quantonium::secret::Secret;
use serde_json::Value;

const OWN: &str = "00000001";
const OTHER: &str = "00000002";

fn id(text: &str) -> ApiKeyId {
    ApiKeyId::parse(text.as_bytes()).unwrap()
}

fn identities(texts: &[&str]) -> Box<[Identity]> {
    texts.iter().map(|text| Identity::parse(text).unwrap()).collect()
}

/// A worker with one connection, whose peer has the identities.
struct Asked {
    worker: InProcess,
    audit: File,
}

impl Asked {
    fn by(proven: &[&str]) -> Self {
        Self::believed_or_not(proven, false)
    }

    fn believed_or_not(proven: &[&str], local: bool) -> Self {
        let audit = tempfile();
        let proven: Identities = identities(proven).iter().cloned().collect();
        let peer = Peer { identities: Some(Rc::new(proven)), ..Peer::new(None, Way::Local) };
        let trusted =
            Forwarding::new(vec![Network::parse("127.0.0.1").unwrap()], local, Field::XForwardedFor);
        let options = KeyOptions::of(KeyType::XChaCha20Poly1305);
        let worker = InProcess::of_peer(audit.try_clone().unwrap(), 64 * 1024, options, peer, trusted);
        Self { worker, audit }
    }

    /// Makes an API key that may hash, whose secret nobody has.
    fn with(self, id_text: &str, own: &[&str]) -> Self {
        let terms =
            Terms { grants: Grants::parse(["hash"]).unwrap(), identities: identities(own), ..Terms::first() };
        let (terms, generation) = (Arc::new(terms), generation(1));
        let change = Change::Create { by: None, id: id(id_text), salt: [1; 16], terms, generation };
        self.worker.change_callers(&change);
        self
    }

    /// The status, and the body, of a request for who asks, with these lines in its head.
    fn profile(&mut self, lines: &str) -> (u16, Value) {
        self.ask(&format!("GET /api/auth/profile HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n"))
    }

    fn ask(&mut self, request: &str) -> (u16, Value) {
        self.worker.exchange(request.as_bytes(), |reply| {
            let text = str::from_utf8(reply).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            (head[9..12].parse().unwrap(), serde_json::from_str(body).unwrap())
        })
    }

    fn refused(&mut self, lines: &str) -> String {
        let (status, body) = self.profile(lines);
        assert!(status >= 400, "{body}");
        body["code"].as_str().unwrap().to_owned()
    }

    /// The last audit line.
    fn told(&mut self) -> Value {
        let mut text = String::new();
        self.audit.rewind().unwrap();
        self.audit.read_to_string(&mut text).unwrap();
        serde_json::from_str(text.lines().last().unwrap()).unwrap()
    }
}

/// A file that has no name any more.
fn tempfile() -> File {
    use std::sync::atomic::{AtomicU32, Ordering};
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("identity-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let path = std::env::temp_dir().join(name);
    let file = File::options().read(true).append(true).create_new(true).open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    file
}

fn generation(number: u32) -> Arc<Generation> {
    let token_secret = Secret::take(&mut [3; 32]);
    Arc::new(Generation { number, digest: [9; 32], token_secret, created: WallTime::now() })
}

#[test]
fn a_peer_without_a_credential_is_the_api_key_that_has_his_identity() {
    let mut asked = Asked::by(&["unix-group:5", "unix-user:7"]).with(OWN, &["unix-user:7", "dns:a.example"]);
    let (status, profile) = asked.profile("");
    assert_eq!((status, &profile["id"], &profile["scopes"][0]), (200, &OWN.into(), &"hash".into()));
    assert_eq!(
        (&profile["recognised_by"], &profile["identity"]),
        (&"identity".into(), &"unix-user:7".into())
    );
    let told = asked.told();
    assert_eq!((&told["principal"], &told["identity"]), (&OWN.into(), &"unix-user:7".into()), "{told}");
    assert_eq!(asked.worker.callers().get(id(OWN)).unwrap().usage.count(), 1);
    let (status, body) = asked.ask("GET /api/keys HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!((status, &body["code"]), (403, &"insufficient_scope".into()), "he may what the key may");
    let request = "POST /api/auth/token HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n";
    let (status, body) = asked.ask(request);
    assert_eq!(
        (status, &body["code"]),
        (403, &"api_key_required".into()),
        "a token would outlive the identity"
    );
}

#[test]
fn a_credential_counts_alone_right_or_wrong() {
    let mut asked = Asked::by(&["unix-user:7"]).with(OWN, &["unix-user:7"]);
    let lines = format!("X-API-Key: {}\r\n", asked.worker.credential);
    let (status, profile) = asked.profile(&lines);
    assert_eq!(
        (status, &profile["recognised_by"], &profile["name"]),
        (200, &"api_key".into(), &"admin".into())
    );
    let wrong = format!("X-API-Key: qk_{OWN}.{}\r\n", "A".repeat(43));
    for lines in [&*wrong, "X-API-Key: x\r\n", "Authorization: Basic YTpi\r\n", "Authorization: Bearer x\r\n"]
    {
        assert_eq!(asked.refused(lines), "credential_invalid", "{lines}");
        assert_eq!(asked.told().get("identity"), None);
    }
    assert_eq!(asked.refused(&format!("{wrong}Authorization: Bearer x\r\n")), "credential_repeated");
}

#[test]
fn who_is_nobody_or_several_is_not_recognised() {
    let mut asked = Asked::by(&["unix-user:7", "unix-group:8"]).with(OWN, &["unix-user:70"]);
    assert_eq!(asked.refused(""), "credential_missing");
    let mut asked = Asked::by(&[]).with(OWN, &["unix-user:7"]);
    assert_eq!(asked.refused(""), "credential_missing");
    let mut asked = Asked::by(&["unix-user:7", "unix-group:8"])
        .with(OWN, &["unix-user:7"])
        .with(OTHER, &["unix-group:8"]);
    assert_eq!(asked.refused(""), "credential_invalid");
    assert_eq!(asked.told()["code"], "identity_ambiguous");
    asked.worker.change_callers(&Change::Revoke { by: None, id: id(OTHER) });
    assert_eq!(asked.profile("").1["id"], OWN, "a key that is revoked has no identity");
}

#[test]
fn an_identity_is_not_the_clients_for_whom_a_proxy_asks_nor_that_of_a_web_page() {
    let mut asked = Asked::by(&["dns:proxy.example"]).with(OWN, &["dns:proxy.example"]);
    assert_eq!(asked.profile("").0, 200);
    // It may name itself for one who claims to be it, name nobody, or speak of it in another way.
    for line in [
        "X-Forwarded-For: 192.0.2.1",
        "X-Forwarded-For: 127.0.0.1",
        "X-Forwarded-For: 127.0.0.1, 127.0.0.1",
        "x-forwarded-for:",
        "Forwarded: for=127.0.0.1",
        "Via: 1.1 proxy.example",
    ] {
        assert_eq!(asked.refused(&format!("{line}\r\n")), "credential_missing", "{line}");
    }
    for origin in ["https://evil.example", "null"] {
        assert_eq!(asked.refused(&format!("Origin: {origin}\r\n")), "credential_missing");
    }
    for site in ["cross-site", "same-site", "CROSS-SITE", "", "none\r\nSec-Fetch-Site: cross-site"] {
        assert_eq!(asked.refused(&format!("Sec-Fetch-Site: {site}\r\n")), "credential_missing", "{site}");
    }
    for site in ["none", "same-origin"] {
        assert_eq!(asked.profile(&format!("Sec-Fetch-Site: {site}\r\n")).0, 200, "{site}");
    }
}

#[test]
fn a_proxy_that_is_believed_is_nobody_even_if_it_names_nobody() {
    let mut asked = Asked::believed_or_not(&["unix-user:7"], true).with(OWN, &["unix-user:7"]);
    assert_eq!(asked.refused(""), "credential_missing");
}

#[test]
fn taking_an_identity_away_ends_what_its_peer_may_and_a_rotation_does_not() {
    let mut asked = Asked::by(&["unix-user:7"]).with(OWN, &["unix-user:7"]);
    assert_eq!(asked.profile("").0, 200);
    let rotate = Change::Rotate { by: None, id: id(OWN), generation: generation(2), overlap_seconds: 0 };
    asked.worker.change_callers(&rotate);
    assert_eq!(asked.profile("").0, 200);
    // The head has come, and with it the right; then the body.
    let body = r#"{"input":""}"#;
    let head = format!(
        "POST /api/hash HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    asked.worker.exchange(head.as_bytes(), |reply| assert!(reply.is_empty()));
    let terms = TermsChange { identities: Some(Box::new([])), ..TermsChange::default() };
    asked.worker.change_callers(&Change::Configure { by: None, id: id(OWN), terms: Box::new(terms) });
    let (status, reply) = asked.ask(body);
    assert_eq!((status, &reply["code"]), (401, &"credential_invalid".into()));
    assert_eq!(asked.refused(""), "credential_missing");
}
