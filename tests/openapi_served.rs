//! The description of the API and the running server say the same.
//!
//! Owns what is served at `/openapi.json` and `/docs`, and the runs of the programs that read such descriptions.
//! `tests/openapi.rs` holds the description to the code.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic, its helping functions too")]

#[path = "support/packages.rs"]
mod packages;
#[path = "support/server.rs"]
mod server;

use std::io::Read as _;
use std::process::Command;

use flate2::read::GzDecoder;
use packages::{browser_folder, openapi_python, root};
use quantonium::limits::DOCUMENT_OPENED_MAX_BYTES;
use server::Server;
use server::client::{Reply, Request};

const DOCUMENTS: [&str; 2] = ["/openapi.json", "/docs"];

fn start(flags: &[&str]) -> Option<Server> {
    Server::start(&[&["--workers", "1", "--rate-limit", "0", "--address-rate-limit", "0"], flags].concat())
}

/// Asks for a document; neither caches nor pages of others play a part.
fn get(server: &Server, target: &str, name: &str, value: &str) -> Reply {
    server.call(&Request::get(target).with(name, value))
}

/// The description as it is sent, opened.
fn description(server: &Server) -> Vec<u8> {
    let reply = get(server, "/openapi.json", "Accept-Encoding", "gzip");
    assert_eq!(reply.status, 200);
    let mut opened = Vec::new();
    GzDecoder::new(reply.body.as_slice()).read_to_end(&mut opened).unwrap();
    opened
}

/// What a command printed, if it ended well.
fn printed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success(), "{command:?}: {}\n{}\n{}", output.status, said[0], said[1]);
    said.concat()
}

#[test]
fn documents_come_as_they_are_or_compressed_and_only_when_they_are_new() {
    let Some(server) = start(&[]) else { return };
    for target in DOCUMENTS {
        let short = get(&server, target, "Accept-Encoding", "br, gzip;q=0.8");
        short.assert_guarded();
        assert_eq!((short.status, short.field("Content-Encoding")), (200, Some("gzip")), "{target}");
        assert_eq!(short.field("Vary"), Some("Accept-Encoding"));
        let mut opened = Vec::new();
        GzDecoder::new(short.body.as_slice()).read_to_end(&mut opened).unwrap();
        assert!(short.body.len() < opened.len() / 2, "{target}");
        let tag = short.field("ETag").unwrap();
        let plain = server.call(&Request::get(target));
        if opened.len() > DOCUMENT_OPENED_MAX_BYTES {
            // Whoever takes it slowly would hold one of few buffers.
            plain.assert_problem(406, "not_acceptable");
        } else {
            assert_eq!((plain.status, plain.field("Content-Encoding")), (200, None), "{target}");
            assert_eq!((plain.field("ETag"), plain.field("Vary")), (Some(tag), Some("Accept-Encoding")));
            assert!(plain.body == opened, "{target}");
        }
        let same = get(&server, target, "If-None-Match", &format!("\"other\", {tag}"));
        assert_eq!((same.status, same.body.len(), same.field("ETag")), (304, 0, Some(tag)));
        let other = Request::get(target).with("If-None-Match", "\"other\"").with("Accept-Encoding", "gzip");
        assert_eq!(server.call(&other).status, 200);
        server.call(&Request::get(&format!("{target}?a"))).assert_problem(400, "unknown_parameter");
    }
    assert_eq!(server.stop().code, Some(0));
}

#[test]
fn the_page_alone_may_run_a_script_and_can_be_left_out() {
    let Some(server) = start(&[]) else { return };
    const STRICT: &str = "default-src 'none'; frame-ancestors 'none'";
    let policy = |target: &str| {
        let reply = server.call(&Request::get(target));
        reply.field("Content-Security-Policy").unwrap_or_default().to_owned()
    };
    assert!(policy("/docs").contains("script-src 'sha256-") && !policy("/docs").contains("unsafe"));
    for target in ["/openapi.json", "/api/health", "/docs?a", "/nothing"] {
        assert_eq!(policy(target), STRICT, "{target}");
    }
    assert_eq!(server.stop().code, Some(0));
    let Some(server) = start(&["--no-console"]) else { return };
    server.call(&Request::get("/docs")).assert_problem(404, "not_found");
    assert!(!description(&server).is_empty());
    assert_eq!(server.stop().code, Some(0));
}

#[test]
fn what_is_served_is_what_is_kept_in_the_tree() {
    let Some(server) = start(&[]) else { return };
    let served: serde_json::Value = serde_json::from_slice(&description(&server)).unwrap();
    let kept: serde_json::Value = serde_json::from_str(include_str!("../docs/openapi.json")).unwrap();
    assert_eq!(served, kept);
}

#[test]
fn the_description_is_what_its_sources_give_and_valid() {
    let Some(python) = openapi_python() else { return };
    printed(Command::new(python).arg("-B").arg(root().join("scripts/openapi")).arg("--check"));
    let document = root().join("docs/openapi.json");
    let said = printed(Command::new(python.with_file_name("openapi-spec-validator")).arg(&document));
    assert!(said.contains("OK"), "{said}");
    let Some(folder) = browser_folder() else { return };
    let mut lint = Command::new("node");
    lint.arg("node_modules/@redocly/cli/bin/cli.js").arg("lint").arg(&document).current_dir(folder);
    // It would ask its maker for news.
    let said = printed(lint.env("REDOCLY_TELEMETRY", "off").env("REDOCLY_SUPPRESS_UPDATE_NOTICE", "true"));
    // It counts what it only warns of.
    assert!(said.contains("is valid") && !said.contains("You have "), "{said}");
}

/// The manual for people is made of both, so neither may have a route that the other lacks.
#[test]
fn a_route_without_a_chapter_and_a_chapter_without_a_route_are_found() {
    let Some(python) = openapi_python() else { return };
    let said = printed(Command::new(python).arg("-B").arg(root().join("tests/openapi/chapters.py")));
    assert_eq!(said, "found\nfound\nfound\n");
}

#[test]
fn every_example_of_the_description_runs() {
    let Some(python) = openapi_python() else { return };
    let Some(server) = start(&[]) else { return };
    let said = printed(
        Command::new(python)
            .arg("-B")
            .arg(root().join("tests/openapi/examples.py"))
            .arg(root().join("docs/openapi.json"))
            .arg(format!("http://{}", server.address()))
            .arg(server.data_dir().join("admin.key")),
    );
    assert!(said.matches("ran: ").count() >= 45, "{said}");
    assert_eq!(server.stop().code, Some(0));
}

#[test]
fn schemathesis_finds_no_difference() {
    let Some(python) = openapi_python() else { return };
    let Some(server) = start(&[]) else { return };
    assert_eq!(server.ask(Request::post("/api/keys", r#"{"name":"orders"}"#)).status, 201);
    let folder = root().join("tests/openapi");
    let mut run = Command::new(python.with_file_name("schemathesis"));
    run.current_dir(server.scratch().path("")).env("PYTHONPATH", &folder).env("PYTHONDONTWRITEBYTECODE", "1");
    run.env("SCHEMATHESIS_HOOKS", "hooks");
    run.arg("--config-file").arg(folder.join("schemathesis.toml")).arg("run");
    run.arg(root().join("docs/openapi.json")).args(["--url", &format!("http://{}", server.address())]);
    run.args([
        "-H",
        &format!("X-API-Key: {}", server.key()),
        "--checks",
        "all",
        "--seed",
        "1",
        "--no-shrink",
    ]);
    run.args(["--max-examples", "20", "--suppress-health-check", "all", "--warnings", "off"]);
    // It does not end.
    run.args(["--exclude-path", "/api/audit/stream"]);
    let said = printed(&mut run);
    assert!(said.contains("No issues found"), "{said}");
    assert_eq!(server.stop().code, Some(0));
}
