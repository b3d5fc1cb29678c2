//! The server as an operator meets it: the first lines that somebody runs, with the tools that they run them with.

#![allow(clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking, and says where")]

#[path = "support/server.rs"]
mod server;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::{Command, Output};

use server::client::{Request, comes_true};
use server::{Scratch, Server, binary, free_address, skip};

/// Runs `script` in `folder` with the system's shell, and nothing of ours in its environment but the path.
fn shell(script: &str, folder: &Path) -> Output {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut command = Command::new("sh");
    command.args(["-euc", script]).current_dir(folder).env_clear().env("PATH", path);
    command.output().unwrap_or_else(|error| panic!("sh: {error}"))
}

/// Runs `script` in the server's folder, with its key in `$K` and its address in `$A`; returns what it printed.
fn must_run(server: &Server, script: &str) -> String {
    let folder = server.scratch().path("");
    let script = format!("K=$(cat data/admin.key)\nA={}\n{script}", server.address());
    let output = shell(&script, &folder);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{script}\n{out}{err}");
    out.into_owned()
}

/// Whether `tool` is there; says aloud if it is not.
fn has(tool: &str) -> bool {
    let found = shell(&format!("command -v {tool} >/dev/null"), Path::new("/")).status.success();
    if !found {
        skip(&format!("there is no {tool}"));
    }
    found
}

const CREATE: &str = r#"curl -sX POST $A/api/keys -H "X-API-Key: $K" -d '{"name":"orders"}'"#;

#[test]
fn the_first_lines_work_with_curl() {
    if !has("curl") {
        return;
    }
    let Some(server) = Server::start(&[]) else { return };
    let created = must_run(&server, CREATE);
    assert!(created.starts_with(r#"{"name":"orders","type":"xchacha20-poly1305","#), "{created}");
    let script =
        r#"curl -sX POST $A/api/encrypt -H "X-API-Key: $K" -d '{"key":"orders","plaintext":"aGVsbG8="}'"#;
    let sealed = must_run(&server, script);
    assert!(sealed.starts_with(r#"{"ciphertext":"quantonium:v1:"#), "{sealed}");
    assert!(sealed.ends_with(r#"","key_version":1}"#), "{sealed}");
    let sealed: serde_json::Value = serde_json::from_str(&sealed).expect("JSON");
    let body = serde_json::json!({ "key": "orders", "ciphertext": sealed["ciphertext"] });
    let opened = must_run(&server, &format!("curl -sX POST $A/api/decrypt -H \"X-API-Key: $K\" -d '{body}'"));
    assert_eq!(opened, r#"{"plaintext":"aGVsbG8=","key_version":1}"#);
}

#[test]
fn a_real_program_survives_the_round_trip() {
    if !(has("curl") && has("cmp")) {
        return;
    }
    let Some(server) = Server::start(&[]) else { return };
    must_run(&server, CREATE);
    let octets = "-H \"X-API-Key: $K\" -H 'Content-Type: application/octet-stream'";
    let ls = "$(readlink -f \"$(command -v ls)\")";
    let script = format!(
        "curl -s --data-binary @{ls} \"$A/api/encrypt?key=orders\" {octets} > ls.qn\n\
         test \"$(head -c 2 ls.qn)\" = QN\n\
         curl -s --data-binary @ls.qn \"$A/api/decrypt?key=orders\" {octets} | cmp - {ls} && echo same"
    );
    assert_eq!(must_run(&server, &script), "same\n");
    // Plain text, and what curl sends when nothing is said: a form.
    for kind in ["-H 'Content-Type: text/plain'", ""] {
        let script = format!(
            "C=$(curl -s --data-binary hello \"$A/api/encrypt?key=orders\" -H \"X-API-Key: $K\" {kind})\n\
             case $C in quantonium:v1:*) ;; *) echo \"$C\"; exit 1;; esac\n\
             curl -s --data-binary \"$C\" \"$A/api/decrypt?key=orders\" -H \"Authorization: Bearer $K\""
        );
        assert_eq!(must_run(&server, &script), "hello");
    }
}

#[test]
fn busybox_wget_needs_no_json() {
    if !(has("busybox") && has("curl")) {
        return;
    }
    let Some(server) = Server::start(&[]) else { return };
    must_run(&server, CREATE);
    let script = "busybox wget -qO- --header \"X-API-Key: $K\" --post-data hello \"http://$A/api/encrypt?key=orders\" > c\n\
        cat c\n\
        busybox wget -qO- --header \"X-API-Key: $K\" --post-data \"$(cat c)\" \"http://$A/api/decrypt?key=orders\"";
    let printed = must_run(&server, script);
    let (ciphertext, plaintext) = printed.split_once('\n').unwrap_or_default();
    assert!(ciphertext.starts_with("quantonium:v1:"), "{printed}");
    assert_eq!(plaintext, "hello");
}

#[test]
fn the_printed_lines_work_when_pasted() {
    if !has("curl") {
        return;
    }
    let Some(server) = Server::start(&[]) else { return };
    let folder = server.scratch().path("");
    let mut server = server;
    server.line_with("try:");
    let mut lines = Vec::new();
    while lines.len() < 4 {
        lines.push(server.line_with("  ").trim().to_owned());
    }
    assert!(lines[0].starts_with("K=$(cat "), "{lines:?}");
    assert_eq!(lines.iter().filter(|line| line.starts_with("curl ")).count(), 3);
    let output = shell(&lines.join("\necho\n"), &folder);
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{printed}");
    let replies: Vec<serde_json::Value> = printed
        .lines()
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(replies.len(), 3, "{printed}");
    assert_eq!(replies[0]["name"], "orders");
    assert!(replies[1]["ciphertext"].as_str().is_some_and(|text| text.starts_with("quantonium:v1:")));
    // A tracer is a finding of the integrity monitor, whose first look may come before or after.
    let traced = std::env::var_os("QUANTONIUM_TRACER").is_some();
    let status = replies[2]["status"].as_str();
    assert!(status == Some("ok") || traced && status == Some("degraded"), "{printed}");
}

#[test]
fn the_admin_key_is_shown_on_the_first_start_only() {
    let scratch = Scratch::new();
    let Some(server) = Server::start_in(&scratch, &[]) else { return };
    let key = server.key().to_owned();
    let (id, secret) = key.split_once('.').unwrap_or_default();
    assert!(id.len() == 11 && id.starts_with("qk_") && secret.len() == 43, "the form of an API key");
    let file = fs::metadata(scratch.data_dir().join("admin.key")).expect("the key's file");
    let folder = fs::metadata(scratch.data_dir()).expect("the data directory");
    assert_eq!((file.permissions().mode() & 0o7777, folder.permissions().mode() & 0o7777), (0o600, 0o700));
    assert_eq!(file.uid(), folder.uid(), "both belong to whom the server runs as");
    assert!(server.ask(Request::post("/api/keys", r#"{"name":"orders"}"#)).status == 201);
    let first = server.stop();
    assert_eq!(first.code, Some(0), "{first:?}");
    assert_eq!(first.stdout.matches(&key).count(), 1, "{}", first.stdout);
    assert!(!first.stderr.contains(&key));

    let server = Server::start_in(&scratch, &[]).expect("a second start");
    assert_eq!(server.key(), key, "the second start reads what the first one made");
    assert!(server.ask(Request::get("/api/keys")).text().contains("\"orders\""), "keys outlive the process");
    let second = server.stop();
    assert!(!second.stdout.contains(&key) && !second.stderr.contains(&key), "{}", second.stdout);
    for ended in [&first, &second] {
        assert!(ended.stderr.contains("for development only"), "{}", ended.stderr);
        assert!(ended.stderr.contains("drained: every request was answered"), "{}", ended.stderr);
    }
}

#[test]
fn a_second_server_leaves_the_data_directory_alone() {
    let Some(server) = Server::start(&[]) else { return };
    let mut command = Command::new(binary().expect("the binary"));
    command
        .args(["serve", "--dev", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(server.data_dir())
        .env_clear();
    let output = command.output().expect("a second server that ends");
    assert_eq!(output.status.code(), Some(78), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    assert_eq!(server.ask(Request::get("/api/keys")).status, 200, "the first one still serves");
}

#[test]
fn every_address_is_announced_and_served() {
    let flags = ["--listen", "127.0.0.1:0", "--listen", "[::1]:0", "--listen=127.0.0.2:0", "--workers", "3"];
    let Some(server) = Server::start(&flags) else { return };
    let addresses = server.addresses().to_vec();
    let hosts: Vec<String> = addresses.iter().map(|address| address.ip().to_string()).collect();
    assert_eq!(hosts, ["127.0.0.1", "::1", "127.0.0.2"], "in the order of the flags");
    for address in &addresses {
        assert_ne!(address.port(), 0, "the port that was taken, not the one that was asked for");
        for _ in 0..10 {
            let reply = server::client::Client::connect(*address).call(&Request::get("/api/health"));
            assert_eq!(reply.status, 200, "{address}");
        }
    }
    let stdout = server.stop().stdout;
    let announced: Vec<&str> = stdout.lines().filter(|line| line.starts_with("listening")).collect();
    let expected: Vec<String> =
        addresses.iter().map(|address| format!("listening on http://{address}")).collect();
    assert_eq!(announced, expected);
    assert!(announced[1].starts_with("listening on http://[::1]:"), "{stdout}");
}

#[test]
fn there_are_as_many_workers_as_asked_for() {
    for workers in ["1", "4"] {
        let Some(server) = Server::start(&["--workers", workers]) else { return };
        let tasks = fs::read_dir(server.proc().join("task")).expect("the threads").flatten();
        let names = tasks.filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
        let count = names.filter(|name| name.starts_with("worker-")).count();
        assert_eq!(count.to_string(), workers);
        // Requests of many connections are spread over all of them: the first half of an identifier is the worker's.
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..200 {
            let reply = server.call(&Request::get("/api/health"));
            seen.extend(reply.field("X-Request-Id").and_then(|id| id.get(..16)).map(str::to_owned));
        }
        assert_eq!(seen.len().to_string(), workers);
        assert_eq!(server.stop().code, Some(0));
    }
}

#[test]
fn the_health_check_finds_it_and_notices_its_end() {
    // On a port that nobody gets by chance once the server has ended.
    let listen = format!("[::1]:{}", free_address().port());
    let Some(server) = Server::start(&["--listen", &listen]) else { return };
    let binary = binary().expect("the binary");
    let check = |url: String| {
        let output = Command::new(&binary).args(["healthcheck", "--url", &url]).env_clear().output();
        let output = output.expect("a health check");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let address = server.address();
    for path in ["/api/health", "/api/health/live", "/api/health/ready"] {
        // It gives a server three seconds, in which a machine may have something else to do.
        let is_good = || check(format!("http://{address}{path}")) == (Some(0), String::new());
        assert!(comes_true(is_good), "{path}: {:?}", check(format!("http://{address}{path}")));
    }
    let is_missed = || {
        let (code, reason) = check(format!("http://{address}/api/nothing"));
        assert_eq!(code, Some(1), "{reason}");
        reason.contains("answered 404")
    };
    assert!(comes_true(is_missed), "it does not say what was answered");
    let by_configuration = || {
        let mut command = Command::new(&binary);
        command.arg("healthcheck").env_clear().env("QUANTONIUM_LISTEN", address.to_string());
        command.output().expect("a health check").status.code() == Some(0)
    };
    assert!(comes_true(by_configuration), "by configuration");
    assert_eq!(server.stop().code, Some(0));
    assert_eq!(check(format!("http://{address}/api/health")).0, Some(1), "once it has ended");
}

#[test]
fn a_port_that_is_taken_is_named() {
    let Some(server) = Server::start(&[]) else { return };
    let scratch = Scratch::new();
    let address = server.address().to_string();
    let mut command = Command::new(binary().expect("the binary"));
    command.args(["serve", "--dev", "--listen", &address, "--data-dir"]).arg(scratch.data_dir()).env_clear();
    let output = command.output().expect("a second server that ends");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(78), "{said}");
    assert!(
        said.contains(&format!("cannot listen on {address}")) && said.contains("another program"),
        "{said}"
    );
}
