//! `quantonium tls`, and what a start refuses.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use crate::secured::Authority;
use crate::server::client::comes_true;
use crate::server::{Scratch, Server, binary};

fn run(words: &[&str]) -> Option<(Option<i32>, String)> {
    let output = Command::new(binary()?).args(words).env_clear().output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    Some((output.status.code(), String::from_utf8(text).unwrap()))
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[test]
fn a_development_certificate_is_made_once_and_serves() {
    let scratch = Scratch::new();
    let folder = scratch.path("made");
    fs::create_dir(&folder).unwrap();
    crate::secured::make_readable(&folder);
    let dir = shown(&folder);
    let make = ["tls", "self-signed", "--out-dir", &dir, "--name", "db.example.net", "--days", "40"];
    let Some((code, text)) = run(&make) else { return };
    assert_eq!(code, Some(0), "{text}");
    let (chain, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&chain), mode(&key)), (0o644, 0o600));
    assert!(!text.contains("PRIVATE"), "{text}");

    let before = fs::read(&key).unwrap();
    let (code, text) = run(&make).unwrap();
    assert_eq!(code, Some(78), "{text}");
    assert!(text.contains("exists and is not overwritten"), "{text}");
    assert_eq!(fs::read(&key).unwrap(), before);

    let (chain, key) = (shown(&chain), shown(&key));
    let (code, text) = run(&["tls", "show", &chain, &key]).unwrap();
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains("name: db.example.net\n") && text.contains("holds now: yes\nkey: fits\n"),
        "{text}"
    );

    let server = Server::start_in(&scratch, &["--tls-cert", &chain, "--tls-key", &key]).unwrap();
    let url = format!("https://localhost:{}/api/health", server.address().port());
    let check = |words: &[&str], environment: &[(&str, &str)]| {
        let mut command = Command::new(binary().unwrap());
        command.arg("healthcheck").args(["--url", &url]).args(words).env_clear();
        let output = command.envs(environment.iter().copied()).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    // It gives a server three seconds, in which a machine may have something else to do.
    let is_good = |words: &[&str], environment: &[(&str, &str)]| {
        comes_true(|| check(words, environment) == (Some(0), String::new()))
    };
    let stranger = folder.join("stranger.pem");
    fs::write(&stranger, Authority::new().pem).unwrap();
    assert!(is_good(&["--tls-ca", &chain], &[]));
    assert!(is_good(&["--insecure-tls"], &[]));
    // Exactly the certificate that is configured on this machine.
    assert!(is_good(&[], &[("QUANTONIUM_TLS_CERT", &chain)]));
    for (words, variable, reason) in [
        (&[][..], None, "--tls-ca"),
        (&["--tls-ca", &shown(&stranger)], None, "invalid peer certificate"),
        (&[], Some(("QUANTONIUM_TLS_CERT", &*shown(&stranger))), "invalid peer certificate"),
    ] {
        let is_refused = || {
            let (code, text) = check(words, variable.as_slice());
            assert_eq!(code, Some(1), "{text}");
            text.contains(reason)
        };
        assert!(comes_true(is_refused), "{reason}: {:?}", check(words, variable.as_slice()));
    }
    let curl = Command::new("curl").args(["-sS", "--cacert", &chain, &url]).output();
    let Ok(curl) = curl else { return crate::server::skip("there is no curl") };
    assert!(curl.status.success(), "{curl:?}");
    assert!(String::from_utf8_lossy(&curl.stdout).contains("\"status\""), "{curl:?}");
}

#[test]
fn what_is_wrong_with_the_files_stops_the_start_and_is_named_without_their_content() {
    let scratch = Scratch::new();
    let folder = scratch.path("wrong");
    fs::create_dir(&folder).unwrap();
    let authority = Authority::new();
    let (one, other) = (authority.server(&["a.example"]), authority.server(&["b.example"]));
    let ((chain, key), (_, stranger)) = (one.write(&folder, "one"), other.write(&folder, "other"));
    let (empty, missing) = (folder.join("empty"), folder.join("missing.pem"));
    fs::write(&empty, "").unwrap();
    for (chain, key, named, reason) in [
        (&chain, &stranger, &stranger, "belongs to another certificate"),
        (&chain, &empty, &empty, "is not PEM"),
        (&chain, &chain, &chain, "holds no private key"),
        (&empty, &key, &empty, "is not PEM"),
        (&missing, &key, &missing, "no such file"),
        (&folder, &key, &folder, "no regular file"),
        (&key, &key, &key, "holds no `CERTIFICATE` block"),
    ] {
        let flags = ["--tls-cert", &shown(chain), "--tls-key", &shown(key)];
        let Some(started) = Server::try_start_in(&scratch, &flags) else { return };
        let ended = started.expect_err("a start that is refused");
        assert_eq!(ended.code, Some(78), "{}", ended.stderr);
        assert!(ended.stderr.contains(&shown(named)), "{}", ended.stderr);
        assert!(ended.stderr.contains(reason), "{reason}: {}", ended.stderr);
        for line in one.key.lines().chain(other.key.lines()).filter(|line| !line.starts_with('-')) {
            assert!(!ended.stderr.contains(line));
        }
    }
}
