//! Several servers on one store in a real etcd.
//!
//! Owns the cases. Invariant: what one server has acknowledged every other one knows, or refuses.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, and says where"
)]
#![allow(clippy::print_stdout, reason = "what was measured is told")]

#[path = "support/etcd.rs"]
#[allow(dead_code, reason = "shared with another test, which uses the rest")]
mod etcd;
#[path = "support/server.rs"]
mod server;

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use etcd::Etcd;
use nix::sys::signal::Signal;
use server::client::{Reply, Request};
use server::{Ended, Scratch, Server};

const MASTER_KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n";

struct Fleet {
    etcd: Etcd,
    servers: Vec<Server>,
    admin: String,
    master: String,
    flags: Vec<String>,
}

impl Fleet {
    /// An etcd and so many servers, which are asked with further `flags`.
    fn start(count: usize, flags: &[&str]) -> Option<Self> {
        server::binary()?;
        let first = Scratch::new();
        let etcd = Etcd::start(&first.path("."))?;
        let file = first.path("master.key");
        fs::write(&file, MASTER_KEY).expect("a file");
        owner_only(&file);
        let master = format!("--master-key-file={}", file.display());
        let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let mut fleet = Self { etcd, servers: Vec::new(), admin: String::new(), master, flags };
        let made = fleet.add_in(&first, &["--init"]);
        fleet.admin = made.key().to_owned();
        assert!(fleet.admin.starts_with("qk_"), "{made:?}");
        fleet.servers.push(made);
        for _ in 1..count {
            let server = fleet.add_in(&Scratch::new(), &[]);
            fleet.servers.push(server);
        }
        Some(fleet)
    }

    fn try_add_in(&self, scratch: &Arc<Scratch>, more: &[&str]) -> Result<Server, Ended> {
        let store = self.etcd.store("fleet/test");
        let mut flags = vec![store.as_str(), self.master.as_str(), "--workers=2", "--no-console"];
        flags.extend(self.flags.iter().map(String::as_str));
        flags.extend(more);
        Server::try_start_in(scratch, &flags).expect("the binary")
    }

    fn add_in(&self, scratch: &Arc<Scratch>, more: &[&str]) -> Server {
        self.try_add_in(scratch, more).unwrap_or_else(|ended| panic!("it ended: {ended:?}"))
    }

    fn ask(&self, server: usize, request: Request) -> Reply {
        self.servers[server].call(&request.key(&self.admin))
    }

    /// Asks again until the answer is as `good` says; how long that took.
    fn until(&self, server: usize, what: impl Fn() -> Request, good: impl Fn(&Reply) -> bool) -> Duration {
        let begun = Instant::now();
        loop {
            let reply = self.ask(server, what());
            if good(&reply) {
                return begun.elapsed();
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "{reply:?}");
        }
    }

    fn health(&self, server: usize) -> serde_json::Value {
        self.servers[server].call(&Request::get("/api/health")).json()
    }
}

fn create(name: &str) -> Request {
    Request::post("/api/keys", format!(r#"{{"name":"{name}"}}"#))
}

fn encrypt(name: &str) -> Request {
    Request::post("/api/encrypt", format!(r#"{{"key":"{name}","plaintext":"aGVsbG8="}}"#))
}

fn decrypt(name: &str, ciphertext: &str) -> Request {
    Request::post("/api/decrypt", format!(r#"{{"key":"{name}","ciphertext":"{ciphertext}"}}"#))
}

#[test]
fn what_one_server_acknowledges_every_other_one_serves_within_a_second() {
    let Some(fleet) = Fleet::start(3, &[]) else { return };
    let mut lags = Vec::new();
    for number in 0..30 {
        let (maker, name) = (number % 3, format!("k{number}"));
        assert_eq!(fleet.ask(maker, create(&name)).status, 201);
        for other in (0..3).filter(|other| *other != maker) {
            lags.push(fleet.until(other, || encrypt(&name), |reply| reply.status == 200));
        }
        let ciphertext = fleet.ask(maker, encrypt(&name)).member("ciphertext");
        for other in 0..3 {
            assert_eq!(fleet.ask(other, decrypt(&name, &ciphertext)).member("plaintext"), "aGVsbG8=");
        }
    }
    lags.sort();
    println!(
        "lag of the watch: median {:?}, longest of {} {:?}",
        lags[lags.len() / 2],
        lags.len(),
        lags.last()
    );
    assert!(lags[lags.len() * 99 / 100] < Duration::from_secs(1), "{lags:?}");
}

#[test]
fn changes_on_all_servers_at_once_are_all_kept_and_none_is_made_twice() {
    let Some(fleet) = Fleet::start(3, &[]) else { return };
    assert_eq!(fleet.ask(0, create("shared")).status, 201);
    for server in 1..3 {
        fleet.until(server, || encrypt("shared"), |reply| reply.status == 200);
    }
    let rotated: usize = std::thread::scope(|scope| {
        let all: Vec<_> = (0..3)
            .map(|server| {
                let fleet = &fleet;
                scope.spawn(move || {
                    let rotate = || Request::post("/api/keys/shared/rotate", "{}");
                    (0..20).filter(|_| fleet.ask(server, rotate()).status == 200).count()
                })
            })
            .collect();
        all.into_iter().map(|one| one.join().expect("a thread")).sum()
    });
    assert!(rotated > 20, "{rotated}");
    let latest = |reply: &Reply| reply.json()["latest_version"].as_u64();
    let expected = Some(rotated as u64 + 1);
    for server in 0..3 {
        fleet.until(server, || Request::get("/api/keys/shared"), |reply| latest(reply) == expected);
    }
    // Of one name that is made on all at once there is one key.
    let made: Vec<Reply> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..3)
            .map(|server| {
                scope.spawn({
                    let fleet = &fleet;
                    move || fleet.ask(server, create("race"))
                })
            })
            .collect();
        all.into_iter().map(|one| one.join().expect("a thread")).collect()
    });
    assert_eq!(made.iter().filter(|reply| reply.status == 201).count(), 1, "{made:?}");
    let ciphertext = fleet.ask(0, encrypt("race")).member("ciphertext");
    for server in 0..3 {
        fleet.until(server, || decrypt("race", &ciphertext), |reply| reply.status == 200);
    }
}

#[test]
fn a_revocation_and_a_token_reach_all_servers() {
    let Some(fleet) = Fleet::start(2, &[]) else { return };
    let made = fleet.ask(0, Request::post("/api/auth/keys", r#"{"name":"app","scopes":["hash"]}"#));
    let (id, key) = (made.member("id"), made.member("api_key"));
    let hash = || Request::post("/api/hash", r#"{"input":"aGVsbG8="}"#);
    let begun = Instant::now();
    while fleet.servers[1].call(&hash().key(&key)).status != 200 {
        assert!(begun.elapsed() < Duration::from_secs(10));
    }
    let token =
        fleet.servers[0].call(&Request::post("/api/auth/token", "{}").key(&key)).member("access_token");
    let bearer = || hash().with("Authorization", &format!("Bearer {token}"));
    assert_eq!(fleet.servers[1].call(&bearer()).status, 200, "made by another server");
    assert_eq!(fleet.ask(1, Request::post(&format!("/api/auth/keys/{id}/revoke"), "{}")).status, 200);
    assert_eq!(fleet.servers[1].call(&hash().key(&key)).status, 401, "where it was revoked, at once");
    let begun = Instant::now();
    while fleet.servers[0].call(&hash().key(&key)).status != 401 {
        assert!(begun.elapsed() < Duration::from_secs(10));
    }
    println!("a revocation took {:?} to the other server", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(1));
    assert_eq!(fleet.servers[0].call(&bearer()).status, 401);
}

#[test]
fn without_etcd_keys_are_used_until_what_is_known_is_too_old() {
    let Some(mut fleet) = Fleet::start(2, &["--max-staleness=5"]) else { return };
    assert_eq!(fleet.ask(0, create("k")).status, 201);
    fleet.until(1, || encrypt("k"), |reply| reply.status == 200);
    fleet.etcd.signal(Signal::SIGSTOP);
    for server in 0..2 {
        assert_eq!(fleet.ask(server, encrypt("k")).status, 200);
    }
    // Nobody says what came of it.
    let change = fleet.ask(0, create("other"));
    assert_eq!(change.status, 503, "{change:?}");
    fleet.until(1, || encrypt("k"), |reply| reply.status == 503);
    let refused = fleet.ask(1, encrypt("k"));
    refused.assert_problem(503, "store_stale");
    assert!(refused.field("retry-after").is_some());
    let health = fleet.servers[1].call(&Request::get("/api/health"));
    assert_eq!(health.status, 503);
    assert_eq!(fleet.servers[1].call(&Request::get("/api/health/live")).status, 200);
    fleet.etcd.signal(Signal::SIGCONT);
    for server in 0..2 {
        fleet.until(server, || encrypt("k"), |reply| reply.status == 200);
        fleet.until(server, || create(&format!("after{server}")), |reply| reply.status == 201);
    }
    fleet.etcd.kill();
    assert_eq!(fleet.ask(0, encrypt("k")).status, 200);
    let refused = fleet.ask(0, create("late"));
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(fleet.etcd.run(&[]));
    fleet.until(0, || create("again"), |reply| reply.status == 201);
    fleet.until(1, || encrypt("again"), |reply| reply.status == 200);
}

#[test]
fn a_server_that_slept_knows_that_it_did() {
    let Some(fleet) = Fleet::start(2, &["--max-staleness=5"]) else { return };
    let made = fleet.ask(0, Request::post("/api/auth/keys", r#"{"name":"app","scopes":["hash"]}"#));
    let (id, key) = (made.member("id"), made.member("api_key"));
    let hash = || Request::post("/api/hash", r#"{"input":"aGVsbG8="}"#).key(&key);
    let begun = Instant::now();
    while fleet.servers[1].call(&hash()).status != 200 {
        assert!(begun.elapsed() < Duration::from_secs(10));
    }
    let mut client = fleet.servers[1].connect();
    fleet.servers[1].signal(Signal::SIGSTOP);
    assert_eq!(fleet.ask(0, Request::post(&format!("/api/auth/keys/{id}/revoke"), "{}")).status, 200);
    let revoked = Instant::now();
    while revoked.elapsed() < Duration::from_secs(6) {
        // What is waited for is that time passes, of which nothing else tells.
        assert_eq!(fleet.ask(0, Request::get("/api/auth/profile")).status, 200);
    }
    client.send(&hash().bytes());
    fleet.servers[1].signal(Signal::SIGCONT);
    let status = client.reply().status;
    assert!(status == 503 || status == 401, "{status}");
    let begun = Instant::now();
    while fleet.servers[1].call(&hash()).status != 401 {
        assert!(begun.elapsed() < Duration::from_secs(10));
    }
}

#[test]
fn a_compacted_etcd_is_read_anew() {
    let Some(fleet) = Fleet::start(2, &[]) else { return };
    fleet.servers[1].signal(Signal::SIGSTOP);
    for number in 0..5 {
        assert_eq!(fleet.ask(0, create(&format!("k{number}"))).status, 201);
    }
    let status = fleet.etcd.ctl(&["endpoint", "status", "-w", "json"]).expect("etcdctl");
    let revision =
        status.split("\"revision\":").nth(1).and_then(|rest| rest.split(',').next()).expect("a revision");
    assert!(fleet.etcd.ctl(&["compact", revision]).is_some());
    fleet.servers[1].signal(Signal::SIGCONT);
    fleet.until(1, || encrypt("k4"), |reply| reply.status == 200);
    assert_eq!(fleet.ask(1, create("k5")).status, 201);
    fleet.until(0, || encrypt("k5"), |reply| reply.status == 200);
}

#[test]
fn a_restored_backup_is_found_by_servers_that_run_and_by_those_that_start() {
    let Some(mut fleet) = Fleet::start(2, &["--max-staleness=5"]) else { return };
    assert_eq!(fleet.ask(0, create("before")).status, 201);
    fleet.until(1, || encrypt("before"), |reply| reply.status == 200);
    let backup = fleet.servers[0].scratch().path("backup");
    assert!(fleet.etcd.ctl(&["snapshot", "save", &backup.display().to_string()]).is_some());
    assert_eq!(fleet.ask(0, create("after")).status, 201);
    fleet.until(1, || encrypt("after"), |reply| reply.status == 200);
    fleet.etcd.restore(&backup);
    for server in 0..2 {
        let begun = Instant::now();
        while fleet.health(server)["components"]["store"]["status"] == "ok" {
            assert!(begun.elapsed() < Duration::from_secs(20));
        }
        fleet.until(server, || create("lost"), |reply| reply.status == 503);
        fleet.until(server, || encrypt("before"), |reply| reply.status == 503);
    }
    let stopped = fleet.servers.remove(1);
    let scratch = Arc::clone(stopped.scratch());
    let told = stopped.stop().stderr;
    assert!(told.contains("rolled back"), "{told}");
    let refused = fleet.try_add_in(&scratch, &[]).expect_err("it must not start");
    assert_eq!(refused.code, Some(78), "{refused:?}");
    assert!(refused.stderr.contains("rolled back"), "{refused:?}");
    let server = fleet.add_in(&scratch, &["--accept-store-rollback"]);
    assert_eq!(server.call(&encrypt("before").key(&fleet.admin)).status, 200);
    assert_eq!(server.call(&encrypt("after").key(&fleet.admin)).status, 404);
}

#[test]
fn blocks_of_seals_are_never_shared() {
    let Some(fleet) = Fleet::start(3, &[]) else { return };
    let narrow = Request::post("/api/keys", r#"{"name":"narrow","type":"chacha20-poly1305"}"#);
    assert_eq!(fleet.ask(0, narrow).status, 201);
    for server in 0..3 {
        fleet.until(server, || encrypt("narrow"), |reply| reply.status == 200);
    }
    // Each of them had to set one aside, and they are three.
    let reserved = |reply: &Reply| reply.json()["versions"][0]["seals_reserved"].as_u64();
    let expected = Some(3 * quantonium::limits::SEALS_BLOCK_COUNT);
    for server in 0..3 {
        fleet.until(server, || Request::get("/api/keys/narrow"), |reply| reserved(reply) == expected);
    }
}

#[test]
fn a_server_that_ends_is_no_member_any_more_and_limits_are_divided() {
    let Some(mut fleet) = Fleet::start(2, &["--rate-limit=100:100"]) else { return };
    let limit = |fleet: &Fleet| {
        let reply = fleet.ask(0, Request::post("/api/hash", r#"{"input":"aGVsbG8="}"#));
        reply.field("x-ratelimit-limit").map(str::to_owned)
    };
    let begun = Instant::now();
    while limit(&fleet).as_deref() != Some("50") {
        assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", limit(&fleet));
    }
    let ended = fleet.servers.remove(1).stop();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let begun = Instant::now();
    while limit(&fleet).as_deref() != Some("100") {
        assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", limit(&fleet));
    }
}

#[test]
fn a_store_is_copied_to_etcd_and_back_with_everything_in_it() {
    let Some(binary) = server::binary() else { return };
    let scratch = Scratch::new();
    let Some(etcd) = Etcd::start(&scratch.path(".")) else { return };
    let file = scratch.path("master.key");
    fs::write(&file, MASTER_KEY).expect("a file");
    owner_only(&file);
    let master = format!("--master-key-file={}", file.display());
    let alone = Server::start_in(&scratch, &[&master, "--init"]).expect("the binary");
    let admin = alone.key().to_owned();
    for number in 0..150 {
        assert_eq!(alone.ask(create(&format!("k{number}"))).status, 201);
    }
    let ciphertext = alone.ask(encrypt("k7")).member("ciphertext");
    assert_eq!(alone.stop().code, Some(0));
    let place = etcd.store("copied").replace("--store=", "");
    let copy = |from: &str, to: &str| {
        let mut command = std::process::Command::new(&binary);
        command.args(["store", "copy", "--from", from, "--to", to, &master]).env_clear();
        let output = command.output().expect("the binary");
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let directory = scratch.data_dir().display().to_string();
    let (code, told) = copy(&directory, &place);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("copied") && told.contains("compared"), "{told}");
    let (code, told) = copy(&directory, &place);
    assert_eq!(code, Some(78), "there is one already: {told}");
    // The same server goes on, whose audit log knows how far the store was.
    let store = etcd.store("copied");
    let shared = Server::start_in(&scratch, &[&store, &master]).expect("the binary");
    let ask = |server: &Server, request: Request| server.call(&request.key(&admin));
    assert_eq!(ask(&shared, decrypt("k7", &ciphertext)).member("plaintext"), "aGVsbG8=");
    assert_eq!(ask(&shared, create("later")).status, 201);
    let later = ask(&shared, encrypt("later")).member("ciphertext");
    assert_eq!(shared.stop().code, Some(0));
    let back = Scratch::new();
    let (code, told) = copy(&place, &back.data_dir().display().to_string());
    assert_eq!(code, Some(0), "{told}");
    let alone = Server::start_in(&back, &[&master]).expect("the binary");
    assert_eq!(ask(&alone, decrypt("later", &later)).member("plaintext"), "aGVsbG8=");
    assert_eq!(ask(&alone, decrypt("k7", &ciphertext)).status, 200);
}

#[test]
fn a_store_is_made_by_init_in_an_etcd_that_asks_for_a_password() {
    let Some(binary) = server::binary() else { return };
    let scratch = Scratch::new();
    let Some(etcd) = Etcd::start(&scratch.path(".")) else { return };
    for words in [&["user", "add", "root:top secret"][..], &["auth", "enable"]] {
        assert!(etcd.ctl(words).is_some(), "{words:?}");
    }
    let password = scratch.path("password");
    fs::write(&password, "top secret\n").expect("a file");
    let file = scratch.path("master.key");
    let store = etcd.store("guarded");
    let run = |more: &[&str]| {
        let mut command = std::process::Command::new(&binary);
        command.arg("init").arg("--data-dir").arg(scratch.data_dir()).arg(&store);
        command.arg(format!("--master-key-file={}", file.display())).args(more).env_clear();
        let output = command.output().expect("the binary");
        (
            output.status.code(),
            [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()),
        )
    };
    let (code, told) = run(&["--generate-master-key"]);
    assert!(code != Some(0) && told[1].contains("etcd refuses"), "{told:?}");
    let user = ["--store-user=root".to_owned(), format!("--store-password-file={}", password.display())];
    let (code, told) = run(&["--generate-master-key", &user[0], &user[1]]);
    assert_eq!(code, Some(0), "{told:?}");
    let admin = told[0].trim().to_owned();
    let (code, told) = run(&[&user[0], &user[1]]);
    assert_eq!(code, Some(78), "there is one already: {told:?}");
    let master = format!("--master-key-file={}", file.display());
    let server = Server::start_in(&scratch, &[&store, &master, &user[0], &user[1]]).expect("the binary");
    assert_eq!(server.call(&create("k").key(&admin)).status, 201);
    let (code, seen) =
        (server.pid(), fs::read(format!("/proc/{}/cmdline", server.pid())).expect("its words"));
    assert!(!String::from_utf8_lossy(&seen).contains("top secret"), "{code}");
    let status = server.call(&Request::get("/api/health")).json();
    assert_eq!(status["status"], "ok", "{status}");
}

#[test]
fn the_audit_files_of_all_servers_are_verified_together() {
    let Some(fleet) = Fleet::start(2, &[]) else { return };
    for server in 0..2 {
        let name = format!("k{server}");
        assert_eq!(fleet.ask(server, create(&name)).status, 201);
        assert_eq!(fleet.ask(server, encrypt(&name)).status, 200);
    }
    let Fleet { etcd, servers, master, .. } = fleet;
    let scratches: Vec<Arc<Scratch>> = servers.iter().map(|server| Arc::clone(server.scratch())).collect();
    servers.into_iter().for_each(|server| assert_eq!(server.stop().code, Some(0)));
    let files = |scratch: &Scratch| -> Vec<std::path::PathBuf> {
        let listed = fs::read_dir(scratch.data_dir().join("audit")).expect("the audit files");
        listed.map(|entry| entry.expect("a file").path()).collect()
    };
    let verify = |files: &[std::path::PathBuf]| {
        let mut command = std::process::Command::new(server::binary().expect("the binary"));
        command.args(["audit", "verify", &etcd.store("fleet/test"), &master, "--data-dir"]);
        command.arg(scratches[0].data_dir()).args(files).env_clear();
        let output = command.output().expect("the binary");
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let ids: Vec<String> = scratches
        .iter()
        .map(|scratch| {
            fs::read_to_string(scratch.data_dir().join("server.id")).expect("an id").trim().to_owned()
        })
        .collect();
    for (scratch, id) in scratches.iter().zip(&ids) {
        let of = files(scratch)
            .iter()
            .filter(|file| file.display().to_string().contains(&format!("-{id}-")))
            .count();
        assert!(of >= 3, "the streams of two workers and a keeper carry the id {id}");
    }
    let all: Vec<std::path::PathBuf> = scratches.iter().flat_map(|scratch| files(scratch)).collect();
    let (code, told) = verify(&all);
    assert_eq!(code, Some(0), "{told}");
    let (code, told) = verify(&[]);
    assert_eq!(code, Some(1), "what the other server wrote is not there: {told}");
    let together = scratches[0].data_dir().join("audit");
    for file in files(&scratches[1]) {
        fs::copy(&file, together.join(file.file_name().expect("a name"))).expect("a copy");
    }
    let (code, told) = verify(&[]);
    assert_eq!(code, Some(0), "{told}");
}

fn owner_only(file: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).expect("its mode");
}

#[test]
fn etcd_is_reached_through_tls_and_shown_a_certificate() {
    if server::binary().is_none() {
        return;
    }
    let scratch = Scratch::new();
    let (authority, files) = certificates(&scratch);
    let Some(etcd) =
        Etcd::start_secure(&scratch.path("."), [files[0].clone(), files[1].clone(), authority.clone()])
    else {
        return;
    };
    let key = scratch.path("master.key");
    fs::write(&key, MASTER_KEY).expect("a file");
    owner_only(&key);
    let flag = |name: &str, path: &std::path::Path| format!("--{name}={}", path.display());
    let store = etcd.store("secure").replace("etcd://127.0.0.1", "etcds://localhost");
    let trusted = [store, flag("master-key-file", &key), flag("store-ca", &authority)];
    let own = [flag("store-cert", &files[2]), flag("store-key", &files[3])];
    let start = |flags: &[&[String]]| {
        let flags: Vec<&str> = flags.iter().flat_map(|flags| flags.iter()).map(String::as_str).collect();
        Server::try_start_in(&scratch, &[&flags[..], &["--init"]].concat()).expect("the binary")
    };
    let refused = start(&[&trusted]).expect_err("it shows no certificate");
    assert_eq!(refused.code, Some(74), "{refused:?}");
    let (other, _) = certificates(&Scratch::new_in(&scratch.path(".")));
    let mistaken = [trusted[0].clone(), trusted[1].clone(), flag("store-ca", &other)];
    let refused = start(&[&mistaken, &own]).expect_err("it trusts another authority");
    assert_eq!(refused.code, Some(74), "{refused:?}");
    let server = start(&[&trusted, &own]).unwrap_or_else(|ended| panic!("{ended:?}"));
    let admin = server.key().to_owned();
    assert_eq!(server.call(&create("k").key(&admin)).status, 201);
    assert_eq!(server.call(&encrypt("k").key(&admin)).status, 200);
}

/// An authority, and certificate and key of etcd and of a client of it.
fn certificates(scratch: &Arc<Scratch>) -> (std::path::PathBuf, [std::path::PathBuf; 4]) {
    use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
    let mut params = CertificateParams::new(Vec::new()).expect("an authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let authority = params.self_signed(&key).expect("a certificate").pem();
    let issuer = Issuer::new(params, key);
    let issue = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("a certificate");
        // The gateway of etcd is a client of etcd, too.
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().expect("a key");
        (params.signed_by(&key, &issuer).expect("a certificate").pem(), key.serialize_pem())
    };
    let (etcd, client) = (issue(&["localhost", "127.0.0.1"]), issue(&["quantonium"]));
    let write = |name: &str, text: &str| {
        let path = scratch.path(name);
        fs::write(&path, text).expect("a file");
        path
    };
    let files =
        [("etcd.pem", &etcd.0), ("etcd.key", &etcd.1), ("client.pem", &client.0), ("client.key", &client.1)];
    (write("ca.pem", &authority), files.map(|(name, text)| write(name, text)))
}
