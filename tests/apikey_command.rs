//! `quantonium apikey` on the real binary: of a running server, and in the store of a stopped one.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic, its helping functions too")]

#[path = "support/place.rs"]
mod place;

use std::fs::{self, Permissions};
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::thread::JoinHandle;

use place::server::client::Request;
use place::server::{Closed, Server};
use place::{Place, Ran, is_api_key, mode};
use serde_json::Value;

/// A store whose admin key lies where the tests of servers look for it.
fn stored() -> Option<Place> {
    let place = Place::new()?;
    place.run("init", &["--admin-key-file", "data/admin.key"]).must_be(0);
    Some(place)
}

/// A place with a server that is asked.
struct Asked {
    place: Place,
    server: Server,
}

impl Asked {
    fn new() -> Option<Self> {
        let place = stored()?;
        let server = place.serve("master.key", &[]);
        for name in ["orders-1", "other"] {
            let made = server.ask(Request::post("/api/keys", format!("{{\"name\":\"{name}\"}}")));
            assert_eq!(made.status, 201);
        }
        Some(Self { place, server })
    }

    fn url(&self) -> String {
        format!("http://{}", self.server.address())
    }

    /// Asks with the admin key.
    fn run(&self, words: &str) -> Ran {
        self.run_with("data/admin.key", words)
    }

    /// Asks with the API key in `file`.
    fn run_with(&self, file: &str, words: &str) -> Ran {
        let words = format!("apikey {words} --server {} --api-key-file {file}", self.url());
        self.place.run_with(&words, &[], &[])
    }

    /// The status with which this secret is answered.
    fn status(&self, secret: &str) -> u16 {
        self.server.call(&Request::get("/api/auth/profile").key(secret)).status
    }

    fn encrypts(&self, secret: &str, key: &str) -> u16 {
        let body = format!("{{\"key\":\"{key}\",\"plaintext\":\"\"}}");
        self.server.call(&Request::post("/api/encrypt", &body).key(secret)).status
    }
}

/// The secret that was shown, alone on its line.
#[track_caller]
fn secret(ran: &Ran) -> String {
    let secret = ran.must_be(0).out().strip_suffix('\n').unwrap().to_owned();
    assert!(is_api_key(&secret), "{secret}");
    assert!(!ran.err().contains(&secret[12..]), "{}", ran.err());
    secret
}

fn id(secret: &str) -> &str {
    &secret[3..11]
}

/// Everything that audit files say.
fn audit(place: &Place) -> String {
    let files = fs::read_dir(place.path("data/audit")).unwrap();
    files.map(|file| fs::read_to_string(file.unwrap().path()).unwrap()).collect()
}

/// The audit lines of `event` about the API key `id`, in the order of their streams.
fn told(place: &Place, event: &str, id: &str) -> Vec<Value> {
    let lines = audit(place);
    let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line["event"] == event && line["api_key"] == id).collect()
}

#[test]
fn the_life_of_an_api_key_of_a_running_server() {
    let Some(asked) = Asked::new() else { return };
    let made = asked.run(
        "create --name billing --scope encrypt:orders-*,hash --expires-in 90d --rate 100:500 --network 127.0.0.0/8 \
         --network ::1 --description invoices",
    );
    let first = secret(&made);
    let id = id(&first);
    let said = format!("API key {id} (billing) is made\nits secret: on standard output, shown once;");
    assert!(made.err().starts_with(&said), "{}", made.err());
    assert_eq!((asked.encrypts(&first, "orders-1"), asked.encrypts(&first, "other")), (200, 403));

    let shown = asked.run(&format!("show qk_{id}"));
    shown.must_be(0);
    for (name, value) in [
        ("name", "billing"),
        ("description", "invoices"),
        ("state", "active"),
        ("scopes", "encrypt:orders-* hash"),
        ("rate", "100 in a second, 500 at once"),
        ("networks", "127.0.0.0/8 ::1/128"),
        ("secret", "number 1"),
    ] {
        assert_eq!(shown.value(name), value);
    }
    let listed = asked.run("list");
    let line = listed.must_be(0).out().lines().find(|line| line.starts_with(id)).unwrap();
    assert!(line.contains(" active ") && line.ends_with("billing  encrypt:orders-* hash"), "{line}");

    let rotated = asked.run(&format!("rotate {id} --overlap 1h --out new.key"));
    assert_eq!(rotated.must_be(0).out(), "");
    assert!(rotated.err().contains("the secret before works until 20"), "{}", rotated.err());
    let second = fs::read_to_string(asked.place.path("new.key")).unwrap().trim_end().to_owned();
    assert_eq!(mode(&asked.place.path("new.key")), 0o600);
    assert_eq!((asked.status(&first), asked.status(&second)), (200, 200));
    let third = secret(&asked.run(&format!("rotate {id} --overlap 0")));
    assert_eq!((asked.status(&first), asked.status(&second), asked.status(&third)), (401, 401, 200));

    let configured = asked.run(&format!(
        "configure {id} --name bills --scope hash --expires-in never --rate default --network any --json"
    ));
    let configured = configured.must_be(0).json();
    assert_eq!((&configured["name"], &configured["scopes"][0]), (&"bills".into(), &"hash".into()));
    assert_eq!(configured["description"], "invoices", "what is not named stays");
    assert!(configured.get("expires_at").is_none() && configured.get("rate_limit").is_none());
    assert_eq!(configured["allowed_networks"], Value::Array(Vec::new()));

    let delete = format!("delete {id}");
    asked.run(&delete).must_refuse(1, &["409 api_key_active", "Run `quantonium apikey revoke` first."]);
    let revoked = asked.run(&format!("revoke {id}"));
    assert_eq!((revoked.must_be(0).out(), asked.status(&third)), ("", 401));
    assert!(revoked.err().contains("is revoked: no secret and no token of it works any more"));
    asked.run(&delete).must_be(0);
    asked.run(&format!("show {id}")).must_refuse(1, &["404 unknown_api_key", "`quantonium apikey list`"]);
}

#[test]
fn the_life_of_an_api_key_in_the_store_of_a_stopped_server() {
    let Some(place) = stored() else { return };
    let made = place.run("apikey create --name billing --scope encrypt:orders-* --expires-in 1d", &[]);
    let first = secret(&made);
    let id = id(&first);
    assert!(made.err().starts_with(&format!("API key {id} (billing) is made\n")), "{}", made.err());
    assert_eq!(place.run(&format!("apikey show {id}"), &[]).value("scopes"), "encrypt:orders-*");
    assert!(place.run("apikey list", &[]).must_be(0).out().contains("  billing  encrypt:orders-*\n"));
    let rotated = place.run(&format!("apikey rotate {id} --overlap 1h --out new.key"), &[]);
    assert_eq!(rotated.must_be(0).out(), "");
    let second = fs::read_to_string(place.path("new.key")).unwrap().trim_end().to_owned();
    place.run(&format!("apikey configure {id} --scope hash,encrypt:other"), &[]).must_be(0);
    place.run(&format!("apikey delete {id}"), &[]).must_refuse(1, &["the API key is valid: revoke it first"]);

    let server = place.serve("master.key", &[]);
    let status = |secret: &str| server.call(&Request::get("/api/auth/profile").key(secret)).status;
    assert_eq!((status(&first), status(&second)), (200, 200), "the server knows what was done without it");
    let profile = server.call(&Request::get("/api/auth/profile").key(&second)).json();
    assert_eq!(profile["scopes"], serde_json::json!(["hash", "encrypt:other"]));
    assert_eq!(server.stop().code, Some(0));

    assert_eq!(place.run(&format!("apikey show {id}"), &[]).value("uses").split(',').next(), Some("3"));
    place.run(&format!("apikey revoke {id}"), &[]).must_be(0);
    assert_eq!(place.run(&format!("apikey show {id}"), &[]).value("state"), "revoked");
    place.run(&format!("apikey rotate {id}"), &[]).must_refuse(1, &["the API key is revoked"]);
    place.run(&format!("apikey delete {id} --json"), &[]).must_be(0);
    place.run(&format!("apikey show {id}"), &[]).must_refuse(1, &["no API key of this identifier"]);
    place.run("store verify", &[]).must_be(0);
}

#[test]
fn both_ways_answer_with_the_members_of_the_api() {
    let Some(asked) = Asked::new() else { return };
    let made = asked.run("create --name n --scope sign --expires-in 1h --rate 7 --network 10.0.0.0/8 --json");
    let made = made.must_be(0).json();
    assert!(is_api_key(made["api_key"].as_str().unwrap()));
    let id = made["id"].as_str().unwrap();
    let path = format!("/api/auth/keys/{id}");
    let of_api = asked.server.ask(Request::get(&path)).json();
    let online = asked.run(&format!("show {id} --json")).must_be(0).json();
    assert_eq!(online, of_api);
    let listed = asked.run("list --json").must_be(0).json();
    assert!(listed["keys"].as_array().unwrap().contains(&of_api), "{listed}");
    let Asked { place, server } = asked;
    assert_eq!(server.stop().code, Some(0));
    assert_eq!(place.run(&format!("apikey show {id} --json"), &[]).must_be(0).json(), of_api);
    let listed = place.run("apikey list --json", &[]).must_be(0).json();
    assert!(listed["keys"].as_array().unwrap().contains(&of_api), "{listed}");
    let made = place.run("apikey create --name m --scope sign --json", &[]).must_be(0).json();
    assert!(is_api_key(made["api_key"].as_str().unwrap()));
    let kept = place.run("apikey create --name m --scope sign --json --out m.key", &[]).must_be(0).json();
    assert_eq!((kept.get("api_key"), &kept["name"]), (None, &"m".into()), "it is in the file alone");
    assert!(is_api_key(fs::read_to_string(place.path("m.key")).unwrap().trim_end()));
}

#[test]
fn identities_are_given_and_taken_away_on_both_ways() {
    let Some(asked) = Asked::new() else { return };
    let made = asked.run("create --name a --scope hash --identity dns:A.example --identity uri:x:y,z --json");
    let made = made.must_be(0).json();
    assert_eq!(made["identities"], serde_json::json!(["dns:a.example", "uri:x:y,z"]));
    let id = made["id"].as_str().unwrap();
    assert_eq!(asked.run(&format!("show {id}")).value("identities"), "dns:a.example uri:x:y,z");
    let listed = asked.run("list");
    assert!(
        listed.must_be(0).out().contains("  a      hash    dns:a.example uri:x:y,z\n"),
        "{}",
        listed.out()
    );
    let taken = "create --name b --scope hash --identity dns:a.example";
    asked.run(taken).must_refuse(1, &["409 identity_taken", "Take it away from that one first"]);
    asked.run(&format!("configure {id} --identity unix-user:7")).must_be(0);
    assert_eq!(asked.run(&format!("show {id}")).value("identities"), "unix-user:7");
    let Asked { place, server } = asked;
    assert_eq!(server.stop().code, Some(0));
    place.run(&format!("apikey {taken}"), &[]).must_be(0);
    let refused = place.run(&format!("apikey configure {id} --identity dns:a.example"), &[]);
    refused.must_refuse(1, &["another API key has one of the identities"]);
    place.run(&format!("apikey configure {id} --identity none"), &[]).must_be(0);
    let shown = place.run(&format!("apikey show {id} --json"), &[]).must_be(0).json();
    assert_eq!(shown["identities"], serde_json::json!([]));
}

#[test]
fn a_list_goes_over_its_pages() {
    let Some(asked) = Asked::new() else { return };
    let mut client = asked.server.connect();
    for number in 0..130 {
        let body = format!("{{\"name\":\"n{number}\",\"scopes\":[\"hash\"]}}");
        let made = client.call(&Request::post("/api/auth/keys", &body).key(asked.server.key()));
        assert_eq!(made.status, 201);
    }
    let listed = asked.run("list");
    assert_eq!(listed.must_be(0).out().lines().count(), 1 + 131);
    let mut ids: Vec<&str> = listed.out().lines().skip(1).map(|line| &line[..8]).collect();
    ids.dedup();
    assert!(ids.len() == 131 && ids.is_sorted());
}

#[test]
fn a_secret_is_shown_once_and_nowhere_else() {
    let Some(asked) = Asked::new() else { return };
    let online = secret(&asked.run("create --name online --scope hash"));
    let rotated = secret(&asked.run(&format!("rotate {}", id(&online))));
    let mut said = String::new();
    for words in
        ["list", "list --json", &format!("show {}", id(&online)), &format!("show {} --json", id(&online))]
    {
        said.push_str(asked.run(words).must_be(0).out());
    }
    let Asked { place, server } = asked;
    let ended = server.stop();
    let offline = secret(&place.run("apikey create --name offline --scope hash", &[]));
    for words in ["apikey list", "apikey list --json", "store inspect"] {
        said.push_str(place.run(words, &[]).must_be(0).out());
    }
    assert!(said.contains("online") && said.contains("offline"), "{said}");
    said.push_str(&ended.stdout);
    said.push_str(&ended.stderr);
    said.push_str(&audit(&place));
    let journal = fs::read(place.journal()).unwrap();
    for secret in [&online, &rotated, &offline] {
        assert!(!said.contains(&secret[12..]), "{said}");
        assert!(!journal.windows(43).any(|bytes| bytes == &secret.as_bytes()[12..]));
    }
}

#[test]
fn what_is_done_without_a_server_stands_in_the_audit_log() {
    let Some(place) = stored() else { return };
    let admin = fs::read_to_string(place.path("data/admin.key")).unwrap();
    let outcomes = |event: &str, id: &str| -> Vec<String> {
        let lines = told(&place, event, id);
        lines.iter().map(|line| line["outcome"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(outcomes("auth.key.create", id(&admin)), ["attempt", "success"], "of the first admin key too");
    let made = secret(&place.run("apikey create --name n --scope hash", &[]));
    let id = id(&made);
    let lines = told(&place, "auth.key.create", id);
    assert_eq!(lines.len(), 2);
    let (attempt, success) = (&lines[0], &lines[1]);
    assert_eq!((&attempt["outcome"], &success["outcome"]), (&"attempt".into(), &"success".into()));
    assert_eq!(attempt["request_id"], success["request_id"]);
    assert!(success.get("principal").is_none() && success.get("remote").is_none(), "{success}");
    let revision = place.run("store inspect", &["--json"]).json()["revision"].as_u64().unwrap();
    assert_eq!(success["store_revision"], revision - 1, "behind it stands where the stream ended");
    let verified = place.run("audit verify", &[]);
    assert!(!verified.must_be(0).out().contains("cannot be proved"), "{}", verified.out());
    place.run(&format!("apikey delete {id}"), &[]).must_be(1);
    let refused = told(&place, "auth.key.delete", id);
    assert_eq!((&refused[1]["outcome"], &refused[1]["code"]), (&"failure".into(), &"api_key_active".into()));
    // A start finds nothing that has no outcome, and no store that was rolled back.
    let ended = place.serve("master.key", &[]).stop();
    assert_eq!(ended.code, Some(0));
    assert!(!audit(&place).contains("reconciled"));
    // What it witnesses holds for the next change, too.
    place.run("apikey list", &["--min-store-revision", "1000"]).must_refuse(78, &["was at 1000 before"]);
}

#[test]
fn the_last_admin_key_stays_and_a_lost_one_is_replaced_without_a_server() {
    let Some(asked) = Asked::new() else { return };
    let admin = asked.server.key().to_owned();
    let admin = id(&admin);
    for words in [format!("revoke {admin}"), format!("configure {admin} --scope hash")] {
        asked.run(&words).must_refuse(1, &["409 last_admin_key", "quantonium apikey create --name admin"]);
    }
    let Asked { place, server } = asked;
    assert_eq!(server.stop().code, Some(0));
    place
        .run(&format!("apikey revoke {admin}"), &[])
        .must_refuse(1, &["the last API key with the scope admin"]);
    // The only admin key is lost: the master key makes another one.
    fs::remove_file(place.path("data/admin.key")).unwrap();
    place.run("apikey create --name admin --scope admin", &["--out", "data/admin.key"]).must_be(0);
    let asked = Asked { server: place.serve("master.key", &[]), place };
    asked.run(&format!("revoke {admin}")).must_be(0);
    assert_eq!(asked.run(&format!("show {admin}")).value("state"), "revoked");
}

#[test]
fn nobody_gives_out_more_than_he_has() {
    let Some(asked) = Asked::new() else { return };
    asked.run("create --name manager --scope auth.manage,encrypt:orders-* --out manager.key").must_be(0);
    let by_manager = |words: &str| asked.run_with("manager.key", words);
    by_manager("create --name wide --scope encrypt").must_refuse(1, &["403 insufficient_scope"]);
    let narrow = secret(&by_manager("create --name narrow --scope encrypt:orders-1"));
    assert_eq!(asked.encrypts(&narrow, "orders-1"), 200);
    let shown = by_manager(&format!("show {}", id(&narrow)));
    assert!(shown.value("created").contains(" by "), "{}", shown.out());
    fs::write(asked.place.path("narrow.key"), &narrow).unwrap();
    fs::set_permissions(asked.place.path("narrow.key"), Permissions::from_mode(0o600)).unwrap();
    asked.run_with("narrow.key", "list").must_refuse(1, &["403 insufficient_scope"]);
}

#[test]
fn credentials_come_from_files_that_hold_one() {
    let Some(asked) = Asked::new() else { return };
    let (place, url) = (&asked.place, asked.url());
    let list = |flags: &[&str], variables: &[(&str, &str)]| {
        place.run_with(&format!("apikey list --server {url}"), flags, variables)
    };
    list(&[], &[("QUANTONIUM_API_KEY_FILE", "data/admin.key")]).must_be(0);
    list(&["--api-key-file", "data/admin.key"], &[("QUANTONIUM_API_KEY_FILE", "missing")]).must_be(0);
    let listen = [("QUANTONIUM_LISTEN", &url[7..]), ("QUANTONIUM_API_KEY_FILE", "data/admin.key")];
    place.run_with("apikey list", &[], &listen).must_be(0);
    list(&[], &[]).must_refuse(78, &["--api-key-file FILE", "QUANTONIUM_API_KEY_FILE", "--data-dir DIR"]);
    let by_value = list(&["--api-key-file", "data/admin.key"], &[("QUANTONIUM_API_KEY", asked.server.key())]);
    by_value.must_refuse(78, &["set QUANTONIUM_API_KEY_FILE to its path"]);
    assert!(!by_value.err().contains(&asked.server.key()[12..]));
    list(&["--api-key-file", "missing"], &[]).must_refuse(78, &["cannot read the API key in missing"]);
    for content in ["", "hunter2", &format!("{} ", asked.server.key()), "eyJhbGciOiJIUzI1NiJ9.e30.AAAA"] {
        place.secret("bad.key", content.as_bytes());
        let refused = list(&["--api-key-file", "bad.key"], &[]);
        refused.must_refuse(78, &["bad.key does not hold an API key"]);
        assert!(content.is_empty() || !refused.err().contains(content), "{}", refused.err());
    }
    let mut wrong = asked.server.key().to_owned();
    wrong.replace_range(20..21, if &wrong[20..21] == "A" { "B" } else { "A" });
    place.secret("wrong.key", wrong.as_bytes());
    list(&["--api-key-file", "wrong.key"], &[]).must_refuse(
        1,
        &["401 credential_invalid", "--api-key-file", "quantonium apikey create --data-dir DIR"],
    );
    place.secret("open.key", format!("{}\r\n", asked.server.key()).as_bytes());
    fs::set_permissions(place.path("open.key"), Permissions::from_mode(0o644)).unwrap();
    let warned = list(&["--api-key-file", "open.key"], &[]);
    assert!(warned.must_be(0).err().contains("every user can read the API key in open.key: chmod 600"));
}

#[test]
fn where_the_directory_is_in_use_the_server_is_to_be_asked() {
    let Some(asked) = Asked::new() else { return };
    for words in ["apikey list", "apikey create --name n --scope hash --out n.key"] {
        asked.place.run(words, &[]).must_refuse(
            78,
            &["data is in use by another quantonium", "ask the running server", "--api-key-file FILE"],
        );
    }
    assert!(!asked.place.path("n.key").exists(), "a refusal leaves no empty file behind");
}

#[test]
fn a_file_that_is_there_is_not_overwritten_and_nothing_is_made() {
    let Some(asked) = Asked::new() else { return };
    fs::write(asked.place.path("mine"), "mine").unwrap();
    let create = "create --name n --scope hash --out mine";
    asked.run(create).must_refuse(78, &["mine exists and is not overwritten: name another file"]);
    assert_eq!(asked.run("list").out().lines().count(), 2, "the heading and the admin key");
    let Asked { place, server } = asked;
    assert_eq!(server.stop().code, Some(0));
    place.run(&format!("apikey {create}"), &[]).must_refuse(78, &["mine exists"]);
    assert_eq!(fs::read_to_string(place.path("mine")).unwrap(), "mine");
    assert_eq!(place.run("apikey list", &[]).out().lines().count(), 2);
}

#[test]
fn without_a_master_key_or_with_another_one_nothing_is_done() {
    let Some(place) = stored() else { return };
    let before = fs::read(place.journal()).unwrap();
    let create = "apikey create --name n --scope admin";
    place
        .run_with(create, &["--data-dir", "data"], &[])
        .must_refuse(78, &["no master key", "--master-key-file"]);
    place.secret("other.key", b"another-master-key-with-32-bytes");
    place
        .run_with(create, &["--data-dir", "data", "--master-key-file", "other.key"], &[])
        .must_refuse(78, &["was made under another master key"]);
    place.run_with("apikey list", &["--data-dir", "none"], &[]).must_refuse(78, &["none holds no store"]);
    assert!(!place.path("none").exists());
    assert_eq!(fs::read(place.journal()).unwrap(), before);
}

/// Answers one connection with `reply` once it has read a head; returns its address.
fn answering(reply: &'static str) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let served = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
            head.push(byte[0]);
        }
        stream.write_all(reply.as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        // What is not read would reset the connection, and the reply with it.
        let _ = std::io::copy(&mut stream, &mut std::io::sink());
    });
    (url, served)
}

#[test]
fn what_answers_otherwise_is_told_apart() {
    let Some(place) = stored() else { return };
    let run = |words: &str, url: &str| {
        place.run_with(&format!("apikey {words} --server {url} --api-key-file data/admin.key"), &[], &[])
    };
    for (reply, words, code, told) in [
        (
            "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 4\r\n\r\nhtml",
            "list",
            1,
            "answered 502 without saying why",
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhtml", "list", 1, "not of this API: is it quantonium?"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", "show 1a2b3c4d", 1, "is it quantonium?"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n{", "list", 74, "the reply is cut off"),
        ("SSH-2.0-x\r\n", "list", 74, "is no HTTP/1.1"),
        (
            "HTTP/1.1 201 Created\r\nContent-Length: 9",
            "create --name n --scope hash",
            74,
            "not known: `quantonium apikey list`",
        ),
        (
            "HTTP/1.1 403 Forbidden\r\n\r\n{\"code\":\"x\\u001b[2J\",\"detail\":\"a\\nb\\u0007.\"}",
            "list",
            1,
            "refused (403 x?[2J): a?b?.",
        ),
    ] {
        let (url, served) = answering(reply);
        run(words, &url).must_refuse(code, &[told]);
        served.join().unwrap();
    }
    let closed = Closed::new();
    run("list", &format!("http://{}", closed.address()))
        .must_refuse(74, &["refused the connection; is the server running?"]);
    run("list", "https://127.0.0.1:1").must_refuse(74, &["https://127.0.0.1:1", "refused the connection"]);
    run("list", "127.0.0.1:8080").must_refuse(78, &["not a URL like http://127.0.0.1:8080"]);
    run("list", "http://127.0.0.1:1/?x=y").must_refuse(78, &["leave the query out"]);
}
