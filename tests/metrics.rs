//! `/api/metrics` of the real server: what was sent is what was counted, in both forms, and the documents, the alerts and the
//! dashboard speak of what is there.
//!
//! Owns the load. What parses the pages is not this program: Prometheus' own parsers in Python, and promtool.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by a panic, its helping functions too")]

#[path = "support/packages.rs"]
mod packages;
#[path = "support/server.rs"]
mod server;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use packages::{python, root};
use quantonium::metrics::{Kind, families};
use serde_json::Value;
use server::client::{Reply, Request, comes_true};
use server::{Scratch, Server, skip};

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0";

/// A sample by its name and its labels.
type Samples = BTreeMap<(String, BTreeMap<String, String>), f64>;

fn scrape(server: &Server, accept: &str) -> Reply {
    let reply = server.ask(Request::get("/api/metrics").with("Accept", accept));
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply
}

/// What the lines of a page of Prometheus text say.
fn samples(page: &str) -> Samples {
    let mut found = Samples::new();
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let labels = labels.trim_end_matches('}').split("\",").filter(|label| !label.is_empty());
        let labels = labels.map(|label| {
            let (name, value) = label.split_once("=\"").unwrap();
            (name.to_owned(), value.trim_end_matches('"').to_owned())
        });
        let before = found.insert((name.to_owned(), labels.collect()), value.parse().unwrap());
        assert!(before.is_none(), "{line}: the series stands twice");
    }
    found
}

fn value(samples: &Samples, name: &str, labels: &[(&str, &str)]) -> f64 {
    let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    samples.get(&(name.to_owned(), labels)).copied().unwrap_or(0.0)
}

/// Sends `request` on a connection that ends with it; returns how many bytes went and came, and the reply.
fn send(server: &Server, request: Request) -> (usize, usize, String) {
    let bytes = request.with("Connection", "close").bytes();
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.write_all(&bytes).unwrap();
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).unwrap();
    (bytes.len(), reply.len(), String::from_utf8_lossy(&reply).into_owned())
}

/// What was sent: by route, method and status how often.
#[derive(Default)]
struct Load {
    requests: BTreeMap<(&'static str, &'static str, &'static str), u32>,
    received: usize,
    sent: usize,
    connections: u32,
    ids: BTreeSet<String>,
}

impl Load {
    /// Returns the whole reply.
    fn send(
        &mut self,
        server: &Server,
        told: (&'static str, &'static str, &'static str),
        request: Request,
    ) -> String {
        let (out, back, reply) = send(server, request);
        assert!(reply.starts_with(&format!("HTTP/1.1 {} ", told.2)), "{told:?}: {reply}");
        let id = reply.split_once("X-Request-Id: ").unwrap().1.lines().next().unwrap();
        self.ids.insert(id.to_owned());
        *self.requests.entry(told).or_default() += 1;
        (self.received, self.sent, self.connections) =
            (self.received + out, self.sent + back, self.connections + 1);
        reply
    }

    /// Asks until the server has looked at itself once: what is taken down now and then (the store's figures, the process's) is
    /// taken down by then.
    fn await_first_look(&mut self, server: &Server) {
        let looked = comes_true(|| {
            let told = ("GET", "/api/integrity", "200");
            let reply = self.send(server, told, Request::get("/api/integrity").key(server.key()));
            let body: Value = serde_json::from_str(reply.split_once("\r\n\r\n").unwrap().1).unwrap();
            let checks = body.get("checks").and_then(Value::as_array).unwrap();
            checks.iter().all(|check| check.get("looks").and_then(Value::as_u64) >= Some(1))
        });
        assert!(looked, "it never looks at itself");
    }

    /// Requests of most kinds, some of which are refused.
    fn run(&mut self, server: &Server) {
        let key = server.key().to_owned();
        let encrypt = || Request::post("/api/encrypt", r#"{"key":"orders","plaintext":"aGVsbG8="}"#);
        self.send(
            server,
            ("POST", "/api/keys", "201"),
            Request::post("/api/keys", r#"{"name":"orders","type":"chacha20-poly1305"}"#).key(&key),
        );
        for _ in 0..7 {
            self.send(server, ("POST", "/api/encrypt", "200"), encrypt().key(&key));
        }
        let bad = Request::post("/api/decrypt", r#"{"key":"orders","ciphertext":"AAAA"}"#);
        self.send(server, ("POST", "/api/decrypt", "400"), bad.key(&key));
        for _ in 0..3 {
            self.send(server, ("POST", "/api/encrypt", "401"), encrypt());
        }
        self.send(server, ("POST", "/api/encrypt", "401"), encrypt().key("nonsense"));
        for _ in 0..2 {
            self.send(server, ("", "unmatched", "404"), Request::get("/api/nothing"));
        }
        self.send(server, ("", "unmatched", "405"), Request::get("/api/encrypt"));
        for method in ["GET", "HEAD"] {
            self.send(server, ("GET", "/api/health", "200"), Request::new(method, "/api/health"));
        }
        for name in ["a", "b"] {
            let read = Request::get(&format!("/api/keys/{name}")).key(&key);
            self.send(server, ("GET", "/api/keys/{name}", "404"), read);
        }
        self.send(server, ("", "unmatched", "400"), Request::get("/").with("Host", "twice"));
    }
}

fn assert_counted(load: &Load, found: &Samples, scrapes: &[Request]) {
    let total = "quantonium_http_requests_total";
    let counted: f64 = found.iter().filter(|((name, _), _)| name == total).map(|(_, value)| value).sum();
    let sent: u32 = load.requests.values().sum();
    // The scrape that is answered is not counted yet.
    assert_eq!(counted, f64::from(sent) + scrapes.len() as f64 - 1.0);
    for ((method, route, status), count) in &load.requests {
        let labels = [("method", *method), ("route", *route), ("status", *status)];
        assert_eq!(value(found, total, &labels), f64::from(*count), "{method} {route} {status}");
        let of_route = load.requests.iter().filter(|((_, other, _), _)| other == route);
        let of_route: u32 = of_route.map(|(_, count)| count).sum();
        let labels = [("method", *method), ("route", *route)];
        let timed = value(found, "quantonium_http_request_duration_seconds_count", &labels);
        assert_eq!(timed, f64::from(of_route), "{route}");
        let last = [("method", *method), ("route", *route), ("le", "+Inf")];
        assert_eq!(value(found, "quantonium_http_request_duration_seconds_bucket", &last), timed);
        assert!(value(found, "quantonium_http_request_duration_seconds_sum", &labels) > 0.0, "{route}");
    }
    let accepted = value(found, "quantonium_connections_accepted_total", &[("transport", "tcp")]);
    assert_eq!(accepted, f64::from(load.connections) + scrapes.len() as f64);
    let asked: usize = scrapes.iter().map(|scrape| scrape.bytes().len()).sum();
    let received = value(found, "quantonium_received_bytes_total", &[("transport", "tcp")]);
    assert_eq!(received, (load.received + asked) as f64);
    assert_eq!(value(found, "quantonium_auth_failures_total", &[("reason", "credential_missing")]), 3.0);
    assert_eq!(value(found, "quantonium_auth_failures_total", &[("reason", "credential_malformed")]), 1.0);
    assert_eq!(value(found, "quantonium_keys", &[("type", "chacha20-poly1305"), ("state", "active")]), 1.0);
    let versions = [("type", "chacha20-poly1305"), ("state", "enabled")];
    assert_eq!(value(found, "quantonium_key_versions", &versions), 1.0);
    assert!(value(found, "quantonium_key_nonce_use_ratio", &[]) < 0.001);
    assert_eq!(value(found, "quantonium_store_state", &[("state", "good")]), 1.0);
    assert!(value(found, "quantonium_store_commits_total", &[]) >= 1.0);
    assert!(value(found, "quantonium_store_journal_bytes", &[]) > 100.0);
    assert!(value(found, "quantonium_entropy_reseeds_total", &[]) >= 3.0);
    assert_eq!(value(found, "quantonium_api_keys", &[("state", "active")]), 1.0);
    assert_eq!(value(found, "quantonium_workers", &[]), 2.0);
    // Others may not have ended yet.
    assert!(value(found, "quantonium_connections", &[]) >= 1.0);
    assert_eq!(value(found, "process_threads", &[]), 5.0, "main, keeper, archivist and two workers");
    for name in ["process_resident_memory_bytes", "process_virtual_memory_bytes", "process_open_fds"] {
        assert!(value(found, name, &[]) > 100.0, "{name}");
    }
    assert!(value(found, "process_max_fds", &[]) >= value(found, "process_open_fds", &[]));
}

#[test]
fn what_was_sent_is_what_is_counted() {
    let Some(server) = Server::start(&["--workers", "2"]) else { return };
    let mut load = Load::default();
    load.await_first_look(&server);
    load.run(&server);
    let scrapes = ["text/plain", OPENMETRICS, "*/*"]
        .map(|accept| Request::get("/api/metrics").with("Accept", accept).key(server.key()));
    let pages: Vec<Reply> =
        ["text/plain", OPENMETRICS, "*/*"].iter().map(|accept| scrape(&server, accept)).collect();
    let first = samples(pages[0].text());
    assert_counted(&load, &first, &scrapes[..1]);
    let sent = value(&first, "quantonium_sent_bytes_total", &[("transport", "tcp")]);
    assert_eq!(sent, load.sent as f64);
    // Each request with a line in the audit log, and the start.
    let lines = value(&first, "quantonium_audit_lines_total", &[("sink", "file")]);
    assert!(lines >= f64::from(load.connections) - 6.0, "{lines}");
    assert_eq!(pages[0].field("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert_eq!(pages[2].field("content-type"), pages[0].field("content-type"));
    let openmetrics = Some("application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert_eq!(pages[1].field("content-type"), openmetrics);
    assert!(pages[1].text().ends_with("\n# EOF\n") && !pages[0].text().contains("EOF"));
    assert!(!pages[0].text().contains("orders"), "no key is named");
    let Some(parsed) = parsed("openmetrics", pages[1].text()) else { return };
    let counted: Samples =
        parsed.iter().map(|(name, labels, value, _)| ((name.clone(), labels.clone()), *value)).collect();
    assert_counted(&load, &counted, &scrapes[..2]);
    let mut exemplars = 0;
    for (name, _, _, exemplar) in &parsed {
        if let Some(exemplar) = exemplar {
            assert!(name.ends_with("_bucket"), "{name}");
            let id = &exemplar["request_id"];
            assert!(load.ids.contains(id) || pages[0].field("x-request-id") == Some(id), "{id}");
            exemplars += 1;
        }
    }
    assert!(exemplars >= 6, "{exemplars}");
    let parsed = self::parsed("prometheus", pages[2].text()).unwrap_or_default();
    let counted: Samples =
        parsed.iter().map(|(name, labels, value, _)| ((name.clone(), labels.clone()), *value)).collect();
    assert_counted(&load, &counted, &scrapes);
    assert!(parsed.iter().all(|(_, _, _, exemplar)| exemplar.is_none()));
}

/// Name, labels, value and the labels of the exemplar.
type Parsed = (String, BTreeMap<String, String>, f64, Option<BTreeMap<String, String>>);

/// What the reference parser finds in a page.
fn parsed(form: &str, page: &str) -> Option<Vec<Parsed>> {
    let mut program = Command::new(python()?);
    program.arg("-B").arg(root().join("tests/interop/metrics.py")).arg(form);
    let found = fed(program, page);
    Some(serde_json::from_str(&found).unwrap_or_else(|error| panic!("{error}: {found}")))
}

/// What `program` says to `input`.
fn fed(mut program: Command, input: &str) -> String {
    let mut child = program.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{program:?}: {said}");
    said
}

#[test]
fn promtool_finds_nothing_in_the_page() {
    let Some(server) = Server::start(&[]) else { return };
    Load::default().run(&server);
    if Command::new("promtool").arg("--version").output().is_err() {
        return skip("promtool is not installed (Debian: prometheus)");
    }
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]);
    assert_eq!(fed(promtool, scrape(&server, "text/plain").text()), "");
}

#[test]
fn the_page_is_for_those_who_may_read_metrics() {
    let Some(server) = Server::start(&[]) else { return };
    server.call(&Request::get("/api/metrics")).assert_problem(401, "credential_missing");
    let made = |scope: &str| {
        let terms = format!(r#"{{"name":"n","scopes":["{scope}"]}}"#);
        server.ask(Request::post("/api/auth/keys", terms)).member("api_key")
    };
    let (other, own) = (made("hash"), made("metrics.read"));
    server.call(&Request::get("/api/metrics").key(&other)).assert_problem(403, "insufficient_scope");
    let page = server.call(&Request::get("/api/metrics").key(&own));
    assert_eq!(page.status, 200);
    page.assert_guarded();
    let bearer = Request::get("/api/metrics").with("Authorization", &format!("Bearer {own}"));
    assert_eq!(server.call(&bearer).status, 200, "as Prometheus sends it");
    let head = server.call(&Request::new("HEAD", "/api/metrics").key(&own));
    let length: usize = head.field("content-length").unwrap().trim().parse().unwrap();
    assert!(head.body.is_empty() && length > 5_000, "{length}");
    server.call(&Request::get("/api/metrics?name=x").key(&own)).assert_problem(400, "unknown_parameter");
}

#[test]
fn a_traceparent_stands_in_the_audit_line_of_its_request() {
    const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let scratch = Scratch::new();
    let Some(server) = Server::start_in(&scratch, &[]) else { return };
    let audit = |of: &Request| {
        let reply = server.ask(of.clone());
        let id = reply.field("x-request-id").unwrap();
        let found = server.ask(Request::get(&format!("/api/audit?request_id={id}"))).json();
        found["events"].as_array().unwrap_or_else(|| panic!("{found}"))[0].clone()
    };
    let line = audit(&Request::get("/api/keys").with("traceparent", TRACE));
    assert_eq!(line["traceparent"], TRACE, "{line}");
    for bad in ["00-0-0-01", &TRACE.to_uppercase(), "\"}"] {
        let line = audit(&Request::get("/api/keys").with("traceparent", bad));
        assert!(line.get("traceparent").is_none(), "{line}");
    }
    let twice = Request::get("/api/keys").with("traceparent", TRACE).with("traceparent", TRACE);
    assert!(audit(&twice).get("traceparent").is_none());
    assert_eq!(server.stop().code, Some(0));
    let verified = server::command(&["audit", "verify"], &scratch.data_dir());
    assert!(verified.is_some_and(|verified| verified.code == Some(0)), "the chain covers it");
}

/// Every name that a sample can have.
fn sample_names() -> BTreeSet<String> {
    let of = |family: &quantonium::metrics::Family| {
        let name = family.sample_name();
        let suffixes: &[&str] =
            if family.kind == Kind::Histogram { &["_bucket", "_sum", "_count"] } else { &[""] };
        suffixes.iter().map(|suffix| format!("{name}{suffix}")).collect::<Vec<_>>()
    };
    families::ALL.iter().flat_map(of).collect()
}

/// The metrics that a text speaks of.
fn named(text: &str) -> BTreeSet<&str> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    let own = ["quantonium_", "process_"];
    words.filter(|word| own.iter().any(|prefix| word.starts_with(prefix))).collect()
}

#[test]
fn alerts_and_dashboard_ask_for_what_is_there() {
    let names = sample_names();
    for file in [
        "deploy/prometheus/alerts.yaml",
        "deploy/prometheus/alerts-test.yaml",
        "deploy/grafana/quantonium.json",
    ] {
        let text = fs::read_to_string(root().join(file)).unwrap();
        let asked = named(&text);
        assert!(asked.len() > 10, "{file}: {asked:?}");
        for name in asked {
            assert!(names.contains(name), "{file}: nothing is called {name}");
        }
    }
}

#[test]
fn every_runbook_is_there() {
    let alerts = fs::read_to_string(root().join("deploy/prometheus/alerts.yaml")).unwrap();
    let manual = fs::read_to_string(root().join("docs/OPERATIONS.md")).unwrap();
    let headings = manual.lines().filter_map(|line| line.strip_prefix("##"));
    let anchors: BTreeSet<String> = headings
        .map(|heading| {
            heading.trim_start_matches('#').trim().to_lowercase().replace(' ', "-").replace([',', '`'], "")
        })
        .collect();
    let links: Vec<&str> = alerts
        .lines()
        .filter_map(|line| line.split_once("docs/OPERATIONS.md#"))
        .map(|(_, at)| at.trim_end_matches('"'))
        .collect();
    assert!(links.len() >= 15, "{links:?}");
    for link in links {
        assert!(anchors.contains(link), "{link}");
    }
}

#[test]
fn the_manual_names_every_metric() {
    let manual = fs::read_to_string(root().join("docs/OPERATIONS.md")).unwrap();
    let section = manual.split("\n## ").find(|section| section.starts_with("Metrics and alerts")).unwrap();
    let told: Vec<Vec<&str>> = section
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.split('|').map(str::trim).filter(|cell| !cell.is_empty()).collect())
        .collect();
    let rows: Vec<[String; 4]> = families::ALL
        .iter()
        .map(|family| {
            let labels: Vec<String> = family.labels.iter().map(|label| format!("`{label}`")).collect();
            let labels = if labels.is_empty() { "-".to_owned() } else { labels.join(", ") };
            [
                format!("`{}`", family.sample_name()),
                family.kind.name().to_owned(),
                labels,
                family.help.to_owned(),
            ]
        })
        .collect();
    for (told, row) in told.iter().zip(&rows) {
        assert_eq!(told, row);
    }
    assert_eq!(told.len(), rows.len());
}

#[test]
fn every_metric_is_exported() {
    let Some(server) = Server::start(&[]) else { return };
    let page = scrape(&server, "text/plain");
    let types: Vec<(&str, &str)> =
        page.text().lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    let wanted: Vec<(String, &str)> = families::ALL
        .iter()
        .map(|family| {
            (family.sample_name(), if family.kind == Kind::Info { "gauge" } else { family.kind.name() })
        })
        .collect();
    let types: Vec<(String, &str)> = types.into_iter().map(|(name, kind)| (name.to_owned(), kind)).collect();
    assert_eq!(types, wanted);
}
