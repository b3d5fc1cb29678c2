//! No secret is found where none may be: files of the data directory, what the process says, refusals, core files.
//!
//! Every secret is known here: exported, imported, chosen or read from its own file. It is searched for as it is, in
//! hexadecimal and in base64, however it happens to be aligned; that the search finds what is there is shown first.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by a panic, its functions too")]
#![expect(clippy::indexing_slicing, reason = "a member that is missing fails the test")]

#[path = "support/needles.rs"]
mod needles;
#[path = "support/server.rs"]
mod server;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use needles::{Needle, base64, find, needles};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use server::client::{Reply, Request};
use server::{Scratch, Server, binary, command};

const IMPORTED: &[u8; 32] = b"\x01imported-material-of-the-tests.";
const PLAINTEXT: &[u8] = b"a plaintext that nobody else shall read";
const CONTEXT: &[u8] = b"a context from which a key is derived";
const ASSOCIATED: &[u8] = b"associated data that nobody shall keep";

fn assert_free(needles: &[Needle], hay: &[u8], place: &str) {
    if let Some(found) = find(needles, hay) {
        panic!("{} is in {place}: {:?}", found.name, String::from_utf8_lossy(&found.bytes));
    }
}

/// Every file below a directory.
fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// The first file of a data directory that holds a secret, the two left out in which `--dev` keeps one.
fn find_in_files(needles: &[Needle], data_dir: &Path) -> Option<(PathBuf, Needle)> {
    let own = ["master.key", "admin.key"].map(|name| data_dir.join(name));
    let searched: Vec<PathBuf> = files(data_dir).into_iter().filter(|path| !own.contains(path)).collect();
    assert!(searched.len() >= 4, "{searched:?}");
    let mut found =
        searched.into_iter().map(|path| (find(needles, &fs::read(&path).unwrap()).cloned(), path));
    found.find_map(|(needle, path)| Some((path, needle?)))
}

fn assert_files_free(needles: &[Needle], data_dir: &Path) {
    if let Some((path, found)) = find_in_files(needles, data_dir) {
        panic!("{} is in {}: {:?}", found.name, path.display(), String::from_utf8_lossy(&found.bytes));
    }
}

fn text(bytes: &[u8]) -> String {
    let mut digits = vec![0; quantonium::encoding::base64_len(bytes.len())];
    assert!(quantonium::encoding::base64_encode(bytes, &mut digits).is_some());
    String::from_utf8(digits).unwrap()
}

fn post(server: &Server, target: &str, body: &Value) -> Reply {
    server.ask(Request::post(target, body.to_string()))
}

/// Has a server make, take, use and give out keys; returns what is secret of it.
fn use_keys(server: &Server) -> Vec<Needle> {
    let mut secrets = needles("the plaintext", PLAINTEXT);
    secrets.extend(needles("the context", CONTEXT));
    secrets.extend(needles("the associated data", ASSOCIATED));
    secrets.extend(needles("the imported key", IMPORTED));
    let kinds = ["xchacha20-poly1305", "chacha20-poly1305", "hmac-sha256", "hmac-sha512"];
    for kind in kinds {
        let made = json!({ "name": kind, "type": kind, "exportable": true, "plaintext_backup": true });
        assert_eq!(post(server, "/api/keys", &made).status, 201);
        let taken = json!({ "material": text(IMPORTED), "type": kind, "exportable": true });
        let name = format!("imported-{kind}");
        assert_eq!(post(server, &format!("/api/keys/{name}/import"), &taken).status, 201);
        for name in [kind, &name] {
            assert_eq!(server.ask(Request::post(&format!("/api/keys/{name}/rotate"), "")).status, 200);
            let signed = post(server, "/api/sign", &json!({ "key": name, "input": text(PLAINTEXT) }));
            assert_eq!(signed.status, 200);
            let exported =
                server.ask(Request::post(&format!("/api/keys/{name}/export"), "{\"format\":\"hex\"}"));
            secrets.extend(exported_secrets(name, &exported.json()));
        }
        let backup = server.ask(Request::post(&format!("/api/keys/{kind}/backup"), "{\"plaintext\":true}"));
        assert_eq!(backup.status, 200);
        let sealed = server.ask(Request::post(&format!("/api/keys/{kind}/backup"), ""));
        assert_free(&secrets, &sealed.body, "a sealed backup");
    }
    let derived = json!({ "name": "derived", "derived": true });
    assert_eq!(post(server, "/api/keys", &derived).status, 201);
    for (key, context) in
        [("xchacha20-poly1305", None), ("chacha20-poly1305", None), ("derived", Some(CONTEXT))]
    {
        let mut body =
            json!({ "key": key, "plaintext": text(PLAINTEXT), "associated_data": text(ASSOCIATED) });
        if let Some(context) = context {
            body["context"] = json!(text(context));
        }
        let sealed = post(server, "/api/encrypt", &body);
        assert_eq!(sealed.status, 200, "{sealed:?}");
        assert_free(&secrets, &sealed.body, "a ciphertext");
        body["ciphertext"] = json!(sealed.member("ciphertext"));
        body.as_object_mut().unwrap().remove("plaintext");
        assert_eq!(post(server, "/api/decrypt", &body).member("plaintext"), text(PLAINTEXT));
    }
    secrets
}

/// The secrets in an export in hexadecimal.
fn exported_secrets(name: &str, export: &Value) -> Vec<Needle> {
    let mut secrets = Vec::new();
    for (version, material) in export["versions"].as_object().unwrap() {
        for (part, hex) in material.as_object().unwrap() {
            let hex = hex.as_str().unwrap();
            let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
            let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect();
            secrets.extend(needles(&format!("{part} of version {version} of {name}"), &bytes));
        }
    }
    assert!(!secrets.is_empty(), "{export}");
    secrets
}

/// Requests that hold secrets and are refused; the refusals hold none.
fn assert_refusals_free(server: &Server, secrets: &[Needle]) {
    let material = text(IMPORTED);
    let short = text(&IMPORTED[..31]);
    let plain = text(PLAINTEXT);
    let bodies = [
        ("/api/keys/x/import", format!("{{\"material\":\"{material}\",\"type\":\"no\"}}")),
        ("/api/keys/x/import", format!("{{\"material\":\"{short}\"}}")),
        ("/api/keys/x/import", format!("{{\"material\":\"{material}!\"}}")),
        ("/api/keys/x/import", format!("{{\"material\":\"{material}\"")),
        ("/api/keys/x/import", format!("{{\"{material}\":1}}")),
        ("/api/encrypt", format!("{{\"key\":\"no\",\"plaintext\":\"{plain}\"}}")),
        ("/api/encrypt", format!("{{\"key\":\"derived\",\"plaintext\":\"{plain}\"}}")),
        ("/api/encrypt", format!("{{\"key\":\"derived\",\"plaintext\":{plain}}}")),
        (
            "/api/decrypt",
            format!("{{\"key\":\"derived\",\"ciphertext\":\"{plain}\",\"context\":\"{plain}\"}}"),
        ),
        ("/api/keys/restore", format!("{{\"backup\":\"quantonium-backup:v1:{material}\"}}")),
        ("/api/keys/derived/export", format!("{{\"version\":\"{material}\"}}")),
    ];
    for (target, body) in bodies {
        let reply = server.ask(Request::post(target, &body));
        assert!((400..500).contains(&reply.status), "{target} {body}: {reply:?}");
        let fields = format!("{:?}", reply.fields);
        assert_free(secrets, &[&reply.body, fields.as_bytes()].concat(), &format!("the refusal of {body}"));
    }
    let guess = Request::get("/api/keys").key(&format!("{}x", server.key()));
    let refused = server.call(&guess);
    assert_eq!(refused.status, 401);
    assert_free(secrets, &refused.body, "the refusal of a wrong API key");
}

#[test]
fn the_search_finds_a_secret_in_every_form_and_place() {
    let secrets = needles("the imported key", IMPORTED);
    let hex: String = IMPORTED.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut planted = vec![IMPORTED.to_vec(), hex.to_uppercase().into_bytes(), hex.into_bytes()];
    for before in 0..6 {
        for after in 0..3 {
            let around = [&vec![0xfb; before][..], IMPORTED, &vec![0xff; after][..]].concat();
            planted.extend([base64(&around, false), base64(&around, true)]);
        }
    }
    let scratch = Scratch::new();
    let folder = scratch.path("data/audit");
    fs::create_dir_all(&folder).unwrap();
    for name in ["a", "b", "c", "d"] {
        fs::write(folder.join(name), "nothing").unwrap();
    }
    assert_files_free(&secrets, &scratch.data_dir());
    for form in planted {
        let hay = [b"before".as_slice(), &form, b"after"].concat();
        assert!(find(&secrets, &hay).is_some(), "{:?}", String::from_utf8_lossy(&form));
        fs::write(folder.join("d"), &hay).unwrap();
        let found = find_in_files(&secrets, &scratch.data_dir());
        assert!(
            found.is_some_and(|(path, _)| path == folder.join("d")),
            "{:?}",
            String::from_utf8_lossy(&form)
        );
    }
}

/// The secrets of a data directory of `--dev`.
fn own_secrets(server: &Server) -> Vec<Needle> {
    let master = fs::read_to_string(server.data_dir().join("master.key")).unwrap();
    let master = master.trim_end();
    let byte = |at: usize| u8::from_str_radix(&master[at..at + 2], 16).unwrap();
    let bytes: Vec<u8> = (0..master.len()).step_by(2).map(byte).collect();
    let (_, secret) = server.key().split_once('.').unwrap();
    [needles("the master key", &bytes), needles("the secret of the admin key", secret.as_bytes())].concat()
}

#[test]
fn no_secret_is_found_in_files_in_what_is_said_or_in_refusals() {
    if binary().is_none() {
        return;
    }
    let scratch = Scratch::in_memory();
    let Some(server) = Server::start_in(&scratch, &["--workers", "2", "--log-level", "debug"]) else {
        return;
    };
    let own = own_secrets(&server);
    let mut secrets = use_keys(&server);
    assert_refusals_free(&server, &[&secrets[..], &own].concat());
    let ended = server.stop();
    assert_free(&secrets, format!("{ended:?}").as_bytes(), "what the first start said");
    // It shows the admin key once, on standard output, and nothing else of its own.
    assert_free(&own, ended.stderr.as_bytes(), "what the first start logged");
    secrets.extend(own);
    assert_files_free(&secrets, &scratch.data_dir());
    let new = scratch.path("new.key");
    fs::write(&new, *b"another master key of 32 bytes..").unwrap();
    fs::set_permissions(&new, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    secrets.extend(needles("the new master key", b"another master key of 32 bytes.."));
    let (new, of_new) = (new.to_str().unwrap(), ["--master-key-file", new.to_str().unwrap()]);
    for words in [
        vec!["store", "verify"],
        vec!["store", "inspect", "--json"],
        vec!["store", "compact"],
        vec!["store", "rekey", "--new-master-key-file", new],
    ] {
        let ended = command(&words, &scratch.data_dir()).unwrap();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert_free(&secrets, format!("{ended:?}").as_bytes(), &format!("what {words:?} said"));
        assert_files_free(&secrets, &scratch.data_dir());
    }
    let Some(server) = Server::start_in(&scratch, &of_new) else { return };
    assert_refusals_free(&server, &secrets);
    server.signal(Signal::SIGKILL);
    let ended = server.wait();
    assert_free(&secrets, format!("{ended:?}").as_bytes(), "what a later start said");
    assert_files_free(&secrets, &scratch.data_dir());
}

#[test]
fn a_process_that_ends_in_a_crash_leaves_no_core_file() {
    let Some(binary) = binary() else { return };
    let scratch = Scratch::new();
    let own = Arc::clone(&scratch);
    for signal in [Signal::SIGABRT, Signal::SIGSEGV, Signal::SIGQUIT] {
        let mut start = Command::new("sh");
        start.arg("-c").arg("ulimit -c unlimited 2>/dev/null; exec \"$0\" \"$@\"").arg(&binary);
        start.args(["serve", "--dev", "--listen", "127.0.0.1:0", "--data-dir"]).arg(scratch.data_dir());
        start.current_dir(scratch.path("")).env_clear().env("PATH", "/usr/bin:/bin");
        let server = Server::spawn(start, &own, 1);
        let limits = fs::read_to_string(server.proc().join("limits")).unwrap();
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        let words: Vec<&str> = core.split_whitespace().collect();
        assert_eq!(words[4..6], ["0", "0"], "{core}");
        server.signal(signal);
        let ended = server.wait();
        assert_eq!(ended.code, None, "{signal}: {ended:?}");
        let left: Vec<PathBuf> =
            fs::read_dir(scratch.path("")).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(left, [scratch.data_dir()], "{signal}");
        assert!(files(&scratch.data_dir()).iter().all(|path| !path.to_string_lossy().contains("core")));
    }
}
