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

#[path = "fleet/world.rs"]
mod world;

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use etcd::Etcd;
use nix::sys::signal::{Signal, kill};
use server::client::{Reply, Request};
use server::{Scratch, Server};
use world::{
    Fleet, MASTER_KEY, STALENESS, certificates, change, create, decrypt, encrypt, owner_only, started,
    wait_for,
};

#[test]
fn what_one_server_acknowledges_every_other_one_serves_soon() {
    let Some(fleet) = Fleet::start(3, &[]) else { return };
    let mut lags = Vec::new();
    for number in 0..30 {
        let (maker, name) = (number % 3, format!("k{number}"));
        fleet.create(maker, &name);
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
    // The longest says how long this machine stood still.
    assert!(lags[lags.len() / 2] < Duration::from_secs(1), "{lags:?}");
}

#[test]
fn changes_on_all_servers_at_once_are_all_kept_and_none_is_made_twice() {
    let Some(fleet) = Fleet::start(3, &[]) else { return };
    fleet.create(0, "shared");
    for server in 1..3 {
        fleet.until(server, || encrypt("shared"), |reply| reply.status == 200);
    }
    // How many were acknowledged, and of how many nobody knows.
    let rotated: Vec<(u64, u64)> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..3)
            .map(|server| {
                let fleet = &fleet;
                scope.spawn(move || {
                    let rotate = || Request::post("/api/keys/shared/rotate", "{}");
                    let replies: Vec<u16> = (0..20).map(|_| fleet.ask(server, rotate()).status).collect();
                    let count = |of: u16| replies.iter().filter(|status| **status == of).count() as u64;
                    assert_eq!(count(200) + count(503), 20, "{replies:?}");
                    (count(200), count(503))
                })
            })
            .collect();
        all.into_iter().map(|one| one.join().expect("a thread")).collect()
    });
    let (rotated, unknown) = rotated.iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    println!("{rotated} rotations, {unknown} of which nobody knows");
    assert!(rotated > 0);
    let latest = |reply: &Reply| reply.json()["latest_version"].as_u64();
    // What the first one has after a change of its own is the newest.
    fleet.create(0, "after");
    let reached = latest(&fleet.ask(0, Request::get("/api/keys/shared"))).expect("a version");
    assert!(reached > rotated && reached <= rotated + unknown + 1, "{reached}: {rotated} + {unknown}");
    for server in 1..3 {
        fleet.until(server, || Request::get("/api/keys/shared"), |reply| latest(reply) == Some(reached));
    }
    // Of one name that is made on all at once there is one key.
    let made: Vec<(Reply, u64)> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..3)
            .map(|server| {
                scope.spawn({
                    let fleet = &fleet;
                    move || fleet.change(server, || create("race"))
                })
            })
            .collect();
        all.into_iter().map(|one| one.join().expect("a thread")).collect()
    });
    let winners = made.iter().filter(|(reply, _)| reply.status == 201).count();
    let unknown: u64 = made.iter().map(|(_, unknown)| unknown).sum();
    assert!(winners == 1 || winners == 0 && unknown > 0, "{made:?}");
    fleet.until(0, || encrypt("race"), |reply| reply.status == 200);
    let ciphertext = fleet.ask(0, encrypt("race")).member("ciphertext");
    for server in 0..3 {
        fleet.until(server, || decrypt("race", &ciphertext), |reply| reply.status == 200);
    }
}

#[test]
fn a_revocation_and_a_token_reach_all_servers() {
    let Some(fleet) = Fleet::start(2, &[]) else { return };
    let (id, key) = fleet.caller(0);
    let hash = || Request::post("/api/hash", r#"{"input":"aGVsbG8="}"#);
    wait_for(|| fleet.servers[1].call(&hash().key(&key)).status == 200);
    let token =
        fleet.servers[0].call(&Request::post("/api/auth/token", "{}").key(&key)).member("access_token");
    let bearer = || hash().with("Authorization", &format!("Bearer {token}"));
    assert_eq!(fleet.servers[1].call(&bearer()).status, 200, "made by another server");
    fleet.revoke(1, &id);
    assert_eq!(fleet.servers[1].call(&hash().key(&key)).status, 401, "where it was revoked, at once");
    let took = wait_for(|| fleet.servers[0].call(&hash().key(&key)).status == 401);
    println!("a revocation took {took:?} to the other server");
    assert_eq!(fleet.servers[0].call(&bearer()).status, 401);
}

#[test]
fn a_change_that_may_have_been_made_is_not_refused_because_the_server_became_stale_meanwhile() {
    let Some(fleet) = Fleet::start(1, &[STALENESS]) else { return };
    let age = || {
        let page = fleet.ask(0, Request::get("/api/metrics"));
        let line = page.text().lines().find(|line| line.starts_with("quantonium_store_age_seconds "));
        line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
    };
    fleet.etcd.signal(Signal::SIGSTOP);
    // Young enough to be let in, and too old when it is known that nothing is known.
    wait_for(|| age().is_none_or(|age| age > 11.5));
    let reply = fleet.ask(0, create("late"));
    assert_eq!(reply.status, 503, "{reply:?}");
    fleet.etcd.signal(Signal::SIGCONT);
    fleet.until(0, || create("after"), |reply| matches!(reply.status, 200 | 201));
    fleet.until(0, || Request::get("/api/keys/late"), |reply| reply.status != 503);
    // Where etcd found it in what it had not read yet.
    if fleet.ask(0, Request::get("/api/keys/late")).status == 200 {
        reply.assert_problem(503, "store_ambiguous");
    }
}

#[test]
fn without_etcd_keys_are_used_until_what_is_known_is_too_old() {
    let Some(mut fleet) = Fleet::start(2, &[STALENESS]) else { return };
    fleet.create(0, "k");
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
        fleet.create(server, &format!("after{server}"));
    }
    fleet.etcd.kill();
    assert_eq!(fleet.ask(0, encrypt("k")).status, 200);
    let refused = fleet.ask(0, create("late"));
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(fleet.etcd.run(&[]));
    fleet.create(0, "again");
    fleet.until(1, || encrypt("again"), |reply| reply.status == 200);
}

#[test]
fn a_server_that_slept_knows_that_it_did() {
    let Some(fleet) = Fleet::start(2, &["--max-staleness=10"]) else { return };
    let (id, key) = fleet.caller(0);
    let hash = || Request::post("/api/hash", r#"{"input":"aGVsbG8="}"#).key(&key);
    wait_for(|| fleet.servers[1].call(&hash()).status == 200);
    let mut client = fleet.servers[1].connect();
    fleet.servers[1].signal(Signal::SIGSTOP);
    fleet.revoke(0, &id);
    let revoked = Instant::now();
    // What is waited for is that time passes, of which nothing else tells.
    while let Some(left) = Duration::from_secs(11).checked_sub(revoked.elapsed()) {
        std::thread::park_timeout(left);
    }
    client.send(&hash().bytes());
    fleet.servers[1].signal(Signal::SIGCONT);
    let status = client.reply().status;
    assert!(status == 503 || status == 401, "{status}");
    wait_for(|| fleet.servers[1].call(&hash()).status == 401);
}

#[test]
fn a_compacted_etcd_is_read_anew() {
    let Some(mut fleet) = Fleet::start(2, &[]) else { return };
    let broker = fleet.broker(1);
    kill(broker, Signal::SIGSTOP).expect("a signal");
    // Its watch is gone, so that nothing of what follows lies in a socket of its.
    fleet.etcd.kill();
    assert!(fleet.etcd.run(&[]));
    for number in 0..5 {
        fleet.create(0, &format!("k{number}"));
    }
    let status = fleet.etcd.ctl(&["endpoint", "status", "-w", "json"]).expect("etcdctl");
    let revision =
        status.split("\"revision\":").nth(1).and_then(|rest| rest.split(',').next()).expect("a revision");
    assert!(fleet.etcd.ctl(&["compact", revision]).is_some());
    kill(broker, Signal::SIGCONT).expect("a signal");
    fleet.until(1, || encrypt("k4"), |reply| reply.status == 200);
    assert_eq!(fleet.broker(1), broker, "it was stopped, and goes on");
    fleet.create(1, "k5");
    fleet.until(0, || encrypt("k5"), |reply| reply.status == 200);
}

#[test]
fn a_restored_backup_is_found_by_servers_that_run_and_by_those_that_start() {
    let Some(mut fleet) = Fleet::start(2, &[STALENESS]) else { return };
    fleet.create(0, "before");
    fleet.until(1, || encrypt("before"), |reply| reply.status == 200);
    let backup = fleet.servers[0].scratch().path("backup");
    assert!(fleet.etcd.ctl(&["snapshot", "save", &backup.display().to_string()]).is_some());
    fleet.create(0, "after");
    fleet.until(1, || encrypt("after"), |reply| reply.status == 200);
    fleet.etcd.restore(&backup);
    for server in 0..2 {
        wait_for(|| fleet.health(server)["components"]["store"]["status"] != "ok");
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
fn a_server_whose_broker_has_ended_ends_with_a_code_that_has_it_started_again() {
    let Some(mut fleet) = Fleet::start(2, &[]) else { return };
    let broker = fleet.broker(1);
    // What ends a whole group of processes is no reason for it to leave the server alone.
    kill(broker, Signal::SIGTERM).expect("a signal");
    fleet.create(1, "k");
    assert_eq!(fleet.broker(1), broker);
    kill(broker, Signal::SIGKILL).expect("a signal");
    let ended = fleet.servers.remove(1).wait();
    assert_eq!(ended.code, Some(74), "{ended:?}");
    assert!(ended.stderr.contains("the process that speaks to etcd has ended"), "{ended:?}");
    // It has an id of its own and left a lease behind, which is nobody else's.
    fleet.until(0, || encrypt("k"), |reply| reply.status == 200);
}

#[test]
fn two_servers_with_one_id_are_told_of_and_commands_for_a_journal_say_where_the_records_are() {
    let Some(mut fleet) = Fleet::start(1, &[]) else { return };
    let copied = Scratch::new();
    assert_eq!(fleet.add_in(&copied, &[]).stop().code, Some(0));
    let (from, to) = (fleet.servers[0].data_dir().join("server.id"), copied.data_dir().join("server.id"));
    fs::write(&to, fs::read(&from).expect("an id")).expect("its copy");
    let twin = fleet.add_in(&copied, &[]);
    fleet.servers.push(twin);
    // News come in their order: what the other one makes comes after what it said of itself.
    fleet.create(1, "k");
    fleet.until(0, || encrypt("k"), |reply| reply.status == 200);
    let first = fleet.servers.remove(0);
    let scratch = Arc::clone(first.scratch());
    let ended = first.stop();
    assert!(ended.stderr.contains("another server goes by the id of this one"), "{ended:?}");
    for words in [&["store", "verify"][..], &["store", "compact"], &["apikey", "list"]] {
        let mut command = std::process::Command::new(server::binary().expect("the binary"));
        command.args(words).arg("--data-dir").arg(scratch.data_dir()).arg(&fleet.master).env_clear();
        let output = command.output().expect("the binary");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(78), "{words:?}: {told}");
        assert!(told.contains("in etcd") && told.contains("store copy"), "{words:?}: {told}");
    }
}

#[test]
fn a_store_in_etcd_is_looked_at_and_put_under_another_master_key_while_its_servers_run() {
    let Some(mut fleet) = Fleet::start(2, &[]) else { return };
    fleet.create(0, "k");
    let scratch = Arc::clone(fleet.servers[1].scratch());
    let new = scratch.path("new.key");
    fs::write(&new, MASTER_KEY.replacen("00", "ff", 1)).expect("a file");
    owner_only(&new);
    let run = |words: &[&str], master: &str| {
        let mut command = std::process::Command::new(server::binary().expect("the binary"));
        command.arg("store").args(words).args([&fleet.etcd.store("fleet/test"), master]).env_clear();
        let output = command.output().expect("the binary");
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let (old, wanted) = (fleet.master.clone(), format!("--new-master-key-file={}", new.display()));
    let (code, told) = run(&["verify"], &old);
    assert!(code == Some(0) && told.contains("result:        sound"), "{told}");
    let (code, told) = run(&["verify", "--min-store-revision=1000000"], &old);
    assert!(code == Some(78) && told.contains("rolled back"), "{told}");
    let (code, told) = run(&["inspect", "--json"], &old);
    assert!(code == Some(0) && told.contains(r#""name":"k""#), "{told}");
    // A key that does not open it changes nothing.
    let (code, told) = run(&["rekey", &wanted], &wanted.replace("--new-", "--"));
    assert_eq!(code, Some(78), "{told}");
    let (code, told) = run(&["rekey", &wanted], &old);
    assert!(code == Some(0) && told.contains("verified"), "{told}");
    let (code, told) = run(&["rekey", &wanted], &old);
    assert!(code == Some(0) && told.contains("already"), "it may be given again: {told}");
    let (code, told) = run(&["verify"], &old);
    assert_eq!(code, Some(78), "the old key opens it no more: {told}");
    // Those that run go on, and the next start needs the new one.
    fleet.create(0, "later");
    fleet.until(1, || encrypt("later"), |reply| reply.status == 200);
    assert_eq!(fleet.servers.remove(1).stop().code, Some(0));
    let refused = fleet.try_add_in(&scratch, &[]).expect_err("it has the old key");
    assert_eq!(refused.code, Some(78), "{refused:?}");
    fleet.master = wanted.replace("--new-", "--");
    let again = fleet.add_in(&scratch, &[]);
    assert_eq!(again.call(&encrypt("later").key(&fleet.admin)).status, 200);
}

#[test]
fn blocks_of_seals_are_never_shared() {
    let Some(fleet) = Fleet::start(3, &[]) else { return };
    let narrow = || Request::post("/api/keys", r#"{"name":"narrow","type":"chacha20-poly1305"}"#);
    let (made, unknown) = fleet.change(0, narrow);
    assert!(made.status == 201 || unknown > 0, "{made:?}");
    for server in 0..3 {
        fleet.until(server, || encrypt("narrow"), |reply| reply.status == 200);
    }
    // Each of them had to set one aside, and they are three.
    let reserved = |reply: &Reply| reply.json()["versions"][0]["seals_reserved"].as_u64();
    let block = quantonium::limits::SEALS_BLOCK_COUNT;
    // More than three, if etcd left the outcome of one unknown: that one is nobody's.
    let good =
        |reply: &Reply| reserved(reply).is_some_and(|all| all >= 3 * block && all.is_multiple_of(block));
    for server in 0..3 {
        fleet.until(server, || Request::get("/api/keys/narrow"), good);
    }
}

#[test]
fn a_server_that_ends_is_no_member_any_more_and_limits_are_divided() {
    let Some(mut fleet) = Fleet::start(2, &["--rate-limit=100:100"]) else { return };
    let limit = |fleet: &Fleet| {
        let reply = fleet.ask(0, Request::post("/api/hash", r#"{"input":"aGVsbG8="}"#));
        reply.field("x-ratelimit-limit").map(str::to_owned)
    };
    wait_for(|| limit(&fleet).as_deref() == Some("50"));
    let ended = fleet.servers.remove(1).stop();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    wait_for(|| limit(&fleet).as_deref() == Some("100"));
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
    let shared = started(|| Server::try_start_in(&scratch, &[&store, &master]).expect("the binary"));
    let ask = |server: &Server, request: Request| server.call(&request.key(&admin));
    assert_eq!(ask(&shared, decrypt("k7", &ciphertext)).member("plaintext"), "aGVsbG8=");
    assert!(matches!(change(&shared, &admin, || create("later")).0.status, 200 | 201 | 409));
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
    let flags = [&store, &master, &user[0], &user[1]].map(String::as_str);
    let server = started(|| Server::try_start_in(&scratch, &flags).expect("the binary"));
    assert!(matches!(change(&server, &admin, || create("k")).0.status, 200 | 201 | 409));
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
        fleet.create(server, &name);
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
    let server = started(|| start(&[&trusted, &own]));
    let admin = server.key().to_owned();
    assert!(matches!(change(&server, &admin, || create("k")).0.status, 200 | 201 | 409));
    assert_eq!(server.call(&encrypt("k").key(&admin)).status, 200);
}
