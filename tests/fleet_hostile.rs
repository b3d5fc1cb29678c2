//! Servers on an etcd that lies, floods, drips or says nothing.
//!
//! Owns the cases. Invariants: the binary and its broker are the real ones, and both outlive whatever is said; nothing that is said is taken for a
//! change; once the truth is said again, a server goes on without being started anew.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, and says where"
)]

#[path = "fleet_hostile/forged.rs"]
mod forged;
#[path = "support/server.rs"]
mod server;

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use forged::{Forged, Said, header, pair};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use server::client::{Reply, Request};
use server::{Scratch, Server, comes};

const MASTER_KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n";

/// An etcd and servers on it.
struct World {
    etcd: Forged,
    servers: Vec<Server>,
    admin: String,
    brokers: Vec<i32>,
}

impl World {
    fn start(count: usize) -> Option<Self> {
        server::binary()?;
        let etcd = Forged::start();
        let first = Scratch::new();
        let file = first.path("master.key");
        fs::write(&file, MASTER_KEY).expect("a file");
        fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("its mode");
        let (store, master) = (etcd.store(), format!("--master-key-file={}", file.display()));
        let flags = [store.as_str(), master.as_str(), "--workers=1", "--no-console"];
        let made = Server::start_in(&first, &[&flags[..], &["--init"]].concat()).expect("the binary");
        let admin = made.key().to_owned();
        let mut servers = vec![made];
        servers.extend((1..count).map(|_| Server::start_in(&Scratch::new(), &flags).expect("the binary")));
        let brokers = servers.iter().map(broker).collect();
        let world = Self { etcd, servers, admin, brokers };
        assert!(comes(|| world.etcd.watches() == count));
        Some(world)
    }

    fn ask(&self, server: usize, request: Request) -> Reply {
        self.servers[server].call(&request.key(&self.admin))
    }

    fn create(&self, server: usize, name: &str) -> Reply {
        self.ask(server, Request::post("/api/keys", format!(r#"{{"name":"{name}"}}"#)))
    }

    fn encrypt(&self, server: usize, name: &str) -> u16 {
        let body = format!(r#"{{"key":"{name}","plaintext":"aGVsbG8="}}"#);
        self.ask(server, Request::post("/api/encrypt", body)).status
    }

    /// Waits until a change is made, and everybody knows of it.
    fn recovers(&self, name: &str) {
        for server in 0..self.servers.len() {
            let name = format!("{name}-{server}");
            let mut last = None;
            let made = comes(|| {
                let reply = self.create(server, &name);
                // One that nobody knew the outcome of may have been made.
                let is_made = matches!(reply.status, 200 | 201 | 409);
                last = Some(reply);
                is_made
            });
            assert!(made, "server {server}: {last:?}: {}", self.servers[server].told());
            for other in 0..self.servers.len() {
                assert!(
                    comes(|| self.encrypt(other, &name) == 200),
                    "{other}: {}",
                    self.servers[other].told()
                );
            }
        }
        let brokers: Vec<i32> = self.servers.iter().map(broker).collect();
        assert_eq!(brokers, self.brokers, "nothing of it was started anew");
    }

    /// Has server 0 read everything anew.
    fn compact(&self) {
        self.etcd.tell(&json!({"result": {"header": header(9), "canceled": true, "compact_revision": "9"}}));
    }
}

/// The process that speaks to etcd for a server.
fn broker(server: &Server) -> i32 {
    let pid = server.pid();
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("its children");
    children
        .split_whitespace()
        .next()
        .unwrap_or_else(|| panic!("{}", server.told()))
        .parse()
        .expect("a number")
}

/// A list of so many empty entries.
fn empty(count: usize) -> String {
    vec!["{}"; count].join(",")
}

#[test]
fn a_flood_of_empty_pairs_ends_neither_a_broker_nor_a_server() {
    let Some(world) = World::start(1) else { return };
    let flood = format!(
        r#"{{"header":{{"cluster_id":"5","revision":"9"}},"responses":[{{"response_range":{{"kvs":[{}]}}}}],"kvs":[{}]}}"#,
        empty(1_000_000),
        empty(1_000_000)
    );
    world.etcd.lie(move |path, _| match path {
        "/v3/kv/range" | "/v3/kv/txn" => Said::Body(flood.clone().into_bytes()),
        _ => Said::Truth,
    });
    let refused = world.create(0, "flooded");
    assert_eq!(refused.status, 503, "{refused:?}");
    world.etcd.repent();
    world.recovers("a");
}

#[test]
fn a_transaction_on_the_watch_that_is_longer_than_a_frame_ends_nothing() {
    let Some(world) = World::start(1) else { return };
    // The one that nobody has made.
    let revision = world.etcd.revision() + 1_000;
    for number in 0..4 {
        let kv = pair(format!("hostile/test/x/{number}").as_bytes(), &vec![0; 4 << 20], revision);
        world.etcd.tell(&json!({"result": {"header": header(revision), "events": [{"kv": kv}]}}));
    }
    world.recovers("a");
}

#[test]
fn an_etcd_that_drips_is_away_until_it_does_not() {
    let Some(world) = World::start(1) else { return };
    world.etcd.lie(|path, _| if path.starts_with("/v3/kv/") { Said::Drips } else { Said::Truth });
    let refused = world.create(0, "dripped");
    assert_eq!(refused.status, 503, "{refused:?}");
    world.etcd.repent();
    world.recovers("a");
}

#[test]
fn a_revision_that_nobody_has_reached_does_not_end_the_watch() {
    let Some(world) = World::start(2) else { return };
    let huge = 9_000_000_000_000_000_000;
    // A sign of life of a time that has not come, and then the watch begins behind it.
    world.etcd.tell(&json!({"result": {"header": header(huge)}}));
    world.etcd.cut();
    world.recovers("a");
    // A head of such a time, and a record.
    for key in ["head", "r/00000000000000000000000000000000"] {
        let kv = pair(format!("hostile/test/{key}").as_bytes(), b"made up", huge);
        world.etcd.tell(&json!({"result": {"header": header(huge), "events": [{"kv": kv}]}}));
    }
    world.etcd.cut();
    world.recovers("b");
    // It is not read again and again because of that: each of them asks for the head once a second, and for more than that if it reads.
    let (heads, pages) = world.etcd.asked();
    assert!(comes(|| world.etcd.asked().0 >= heads + 20));
    let read = world.etcd.asked().1 - pages;
    assert!(read <= 4, "{read} pages");
}

#[test]
fn records_whose_head_never_comes_are_dropped() {
    let Some(world) = World::start(2) else { return };
    let revision = world.etcd.revision();
    for number in 0..1_000 {
        let key = format!("hostile/test/r/{number:032x}");
        let kv = pair(key.as_bytes(), &[0; 2_000], revision + 1 + number);
        world.etcd.tell(&json!({"result": {"header": header(revision), "events": [{"kv": kv}]}}));
    }
    world.recovers("a");
}

#[test]
fn pages_without_an_end_are_refused_and_said_to_be() {
    let Some(world) = World::start(1) else { return };
    let pages = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&pages);
    world.etcd.lie(move |path, asked| {
        if path != "/v3/kv/range" || asked["range_end"].is_null() {
            return Said::Truth;
        }
        let number = count.fetch_add(1, Ordering::Relaxed);
        let limit: usize = asked["limit"].as_str().expect("a limit").parse().expect("a number");
        let key = |at: usize| format!("hostile/test/x/{number:016}{at:016}").into_bytes();
        let pairs: Vec<_> = (0..limit).map(|at| pair(&key(at), b"", 1)).collect();
        Said::Body(json!({"header": header(9), "kvs": pairs, "more": true}).to_string().into_bytes())
    });
    world.compact();
    assert!(comes(|| world.servers[0].told().contains("too many keys")), "{}", world.servers[0].told());
    assert_eq!(world.create(0, "unread").status, 503);
    world.etcd.repent();
    world.recovers("a");
    assert!(pages.load(Ordering::Relaxed) < 1_000, "{pages:?}");
}

#[test]
fn a_broker_that_stands_still_is_given_up_and_the_server_ends_to_be_started_again() {
    let Some(mut world) = World::start(1) else { return };
    let broker = Pid::from_raw(world.brokers[0]);
    kill(broker, Signal::SIGSTOP).expect("a signal");
    let ended = world.servers.remove(0).wait();
    assert_eq!(ended.code, Some(74), "{ended:?}");
    assert!(ended.stderr.contains("the process that speaks to etcd does not answer"), "{ended:?}");
    // It finds that the server has ended, and ends.
    kill(broker, Signal::SIGCONT).expect("a signal");
}
