//! Three servers on three members of etcd, under load while things fail, and what was acknowledged looked at afterwards.
//!
//! Owns the schedules and the check. Each is made from a seed, `QUANTONIUM_FLEET_SEEDS` names them (`1,2,3`); one is run without it. Invariants: what
//! was acknowledged is there, and once; what every server gave out every server takes; a credential that was revoked is refused by all
//! when the bound for that has passed.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, and says where"
)]
#![allow(clippy::print_stdout, reason = "what was done is told")]

#[path = "support/etcd.rs"]
#[allow(dead_code, reason = "shared with another test, which uses the rest")]
mod etcd;
#[path = "support/proxy.rs"]
mod proxy;
#[path = "support/server.rs"]
mod server;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use etcd::{Etcd, PATIENT};
use nix::sys::signal::Signal;
use proxy::Proxy;
use server::client::{Client, Reply, Request};
use server::{Scratch, Server};

const MASTER_KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n";
const STALENESS: Duration = Duration::from_secs(10);
/// How long anything may take that has to come once everything was mended.
const PATIENCE: Duration = Duration::from_secs(300);
/// Most ciphertexts that are kept, of each server's: each is opened again on every one.
const SEALED_MAX: usize = 400;
/// A lease is shorter than this.
const LONG: Duration = Duration::from_secs(12);
const SHORT: Duration = Duration::from_secs(3);
const STEPS: usize = 5;

/// What was acknowledged, and what may have been done.
#[derive(Default)]
struct History {
    created: Vec<String>,
    /// Of each key: rotations that were acknowledged, and those of which nobody knows.
    rotated: BTreeMap<String, (u64, u64)>,
    /// Of each server that sealed, by its number: of all that it gave out a choice that is spread over the whole time.
    sealed: BTreeMap<String, Vec<(String, String)>>,
    asked: u64,
    refused: u64,
}

struct World {
    members: Vec<Etcd>,
    /// Of each server, its ways to the members.
    ways: Vec<Vec<Proxy>>,
    servers: Vec<Server>,
    flags: Vec<Vec<String>>,
    admin: String,
}

impl World {
    fn start() -> Option<Self> {
        server::binary()?;
        let first = Scratch::new();
        let members = Etcd::start_three(&first.path("."))?;
        let file = first.path("master.key");
        fs::write(&file, MASTER_KEY).expect("a file");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("its mode");
        let ways: Vec<Vec<Proxy>> =
            (0..3).map(|_| members.iter().map(|member| Proxy::to(member.port())).collect()).collect();
        let flags: Vec<Vec<String>> = ways
            .iter()
            .map(|ways| {
                let ways: Vec<String> = ways.iter().map(|way| way.address().to_string()).collect();
                vec![
                    format!("--store=etcd://{}/faults", ways.join(",")),
                    format!("--master-key-file={}", file.display()),
                    format!("--max-staleness={}", STALENESS.as_secs()),
                    "--workers=1".to_owned(),
                ]
            })
            .collect();
        let mut world = Self { members, ways, servers: Vec::new(), flags, admin: String::new() };
        for number in 0..3 {
            let scratch = if number == 0 { Arc::clone(&first) } else { Scratch::new() };
            let server = world.run(number, &scratch, if number == 0 { &["--init"] } else { &[] });
            if number == 0 {
                world.admin = server.key().to_owned();
            }
            world.servers.push(server);
        }
        Some(world)
    }

    fn run(&self, number: usize, scratch: &Arc<Scratch>, more: &[&str]) -> Server {
        let mut flags: Vec<&str> = self.flags[number].iter().map(String::as_str).collect();
        flags.extend(more);
        let begun = Instant::now();
        loop {
            match Server::try_start_in(scratch, &flags).expect("the binary") {
                Ok(server) => return server,
                // An etcd that does not answer in time ends a start, which is begun again then.
                Err(ended) => assert!(ended.code == Some(74) && begun.elapsed() < PATIENCE, "{ended:?}"),
            }
        }
    }

    fn ask(&self, server: usize, request: Request) -> Reply {
        self.servers[server].call(&request.key(&self.admin))
    }

    fn mend(&mut self) {
        self.ways.iter().flatten().for_each(|way| way.cut(false));
        for member in &mut self.members {
            if member.runs() {
                member.signal(Signal::SIGCONT);
            } else {
                member.spawn(PATIENT);
            }
        }
        self.servers.iter().for_each(|server| server.signal(Signal::SIGCONT));
    }
}

/// A linear congruential generator (Knuth, MMIX).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((self.0 >> 33) % sides as u64).expect("few sides")
    }
}

/// Asks one server for one thing after the other, until it is told to stop.
fn load(address: std::net::SocketAddr, admin: &str, name: &str, history: &Mutex<History>, stop: &AtomicBool) {
    let mut client: Option<Client> = None;
    let mut number = 0u64;
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        if client.is_none() {
            client = Client::try_connect(address).ok();
        }
        let Some(connected) = client.as_mut() else { continue };
        let key = format!("{name}-{}", number / 8);
        let request = match number % 8 {
            0 => Request::post("/api/keys", format!(r#"{{"name":"{key}"}}"#)),
            3 => Request::post(&format!("/api/keys/{key}/rotate"), "{}"),
            _ => Request::post("/api/encrypt", format!(r#"{{"key":"{key}","plaintext":"aGVsbG8="}}"#)),
        };
        let reply = connected.attempt(&request.key(admin));
        let mut history = history.lock().expect("a lock");
        history.asked += 1;
        let status = reply.as_ref().map(|reply| reply.status);
        history.refused += u64::from(!matches!(status, Some(200 | 201)));
        match (number % 8, &reply) {
            (0, Some(reply)) if reply.status == 201 => history.created.push(key),
            (3, Some(reply)) if reply.status == 200 => history.rotated.entry(key).or_default().0 += 1,
            // Whether it was done is known only where nothing was sent; 404: the key was not made.
            (3, other) if other.as_ref().is_none_or(|reply| reply.status != 404) => {
                history.rotated.entry(key).or_default().1 += 1;
            }
            (1 | 2 | 4..=7, Some(reply)) if reply.status == 200 => {
                // Where there is no more room a later one takes the place of any.
                let kept = history.sealed.entry(name.to_owned()).or_default();
                let place = usize::try_from(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33).expect("few");
                let sealed = (key, reply.member("ciphertext"));
                if kept.len() < SEALED_MAX {
                    kept.push(sealed);
                } else if place % usize::try_from(number).expect("few") < SEALED_MAX {
                    kept[place % SEALED_MAX] = sealed;
                }
            }
            _ => {}
        }
        drop(history);
        if reply.is_none_or(|reply| reply.closes()) {
            client = None;
        }
    }
}

/// Waits for time to pass, of which nothing else tells: a fault lasts so long.
fn last(time: Duration) {
    let begun = Instant::now();
    while begun.elapsed() < time {
        std::thread::park_timeout(time.saturating_sub(begun.elapsed()));
    }
}

fn fail(world: &mut World, dice: &mut Dice) {
    let (server, member) = (dice.roll(3), dice.roll(3));
    let time = if dice.roll(3) == 0 { LONG } else { SHORT };
    match dice.roll(7) {
        0 => {
            let leader = world.members.iter().position(Etcd::leads).unwrap_or(member);
            println!("  kill the leader, member {leader}");
            world.members[leader].kill();
            last(SHORT);
            world.members[leader].spawn(PATIENT);
        }
        1 => {
            println!("  stop member {member} for {time:?}");
            world.members[member].signal(Signal::SIGSTOP);
            last(time);
        }
        2 => {
            println!("  cut server {server} from etcd for {time:?}");
            world.ways[server].iter().for_each(|way| way.cut(true));
            last(time);
        }
        3 => {
            println!("  cut server {server} from member {member} for {time:?}");
            world.ways[server][member].cut(true);
            last(time);
        }
        4 => {
            println!("  stop server {server} for {LONG:?}");
            world.servers[server].signal(Signal::SIGSTOP);
            last(LONG);
        }
        5 => {
            println!("  stop a majority of etcd for {SHORT:?}");
            world.members[member].signal(Signal::SIGSTOP);
            world.members[(member + 1) % 3].signal(Signal::SIGSTOP);
            last(SHORT);
        }
        _ => {
            println!("  cut every server from the leader for {time:?}");
            let leader = world.members.iter().position(Etcd::leads).unwrap_or(member);
            world.ways.iter().for_each(|ways| ways[leader].cut(true));
            last(time);
        }
    }
    world.mend();
    last(Duration::from_secs(1));
}

/// Asks until the answer is good: after everything was mended that must come.
fn eventually(
    world: &World,
    server: usize,
    request: impl Fn() -> Request,
    good: impl Fn(&Reply) -> bool,
) -> Reply {
    let begun = Instant::now();
    loop {
        let reply = world.ask(server, request());
        if good(&reply) {
            return reply;
        }
        assert!(begun.elapsed() < PATIENCE, "server {server}: {reply:?}");
    }
}

fn check(world: &World, history: &History) {
    for server in 0..3 {
        eventually(world, server, || Request::get("/api/keys?limit=1"), |reply| reply.status == 200);
        let key = format!("healed-{server}");
        let body = format!(r#"{{"name":"{key}"}}"#);
        eventually(
            world,
            server,
            || Request::post("/api/keys", &body),
            |reply| matches!(reply.status, 200 | 201 | 409),
        );
    }
    for server in 0..3 {
        for of in 0..3 {
            let path = format!("/api/keys/healed-{of}");
            eventually(world, server, || Request::get(&path), |reply| reply.status == 200);
        }
        for name in &history.created {
            let asked = || Request::get(&format!("/api/keys/{name}"));
            let reply = eventually(world, server, asked, |reply| reply.status != 503);
            assert_eq!(reply.status, 200, "server {server} lost {name}: {reply:?}");
        }
        for (name, (made, unknown)) in &history.rotated {
            let asked = || Request::get(&format!("/api/keys/{name}"));
            let reply = eventually(world, server, asked, |reply| reply.status != 503);
            if reply.status == 404 && *made == 0 {
                continue;
            }
            let latest = reply.json()["latest_version"].as_u64().expect("a version");
            assert!(latest > *made && latest <= 1 + made + unknown, "{name}: {latest}, {made} + {unknown}");
        }
        for (name, ciphertext) in history.sealed.values().flatten() {
            let body = format!(r#"{{"key":"{name}","ciphertext":"{ciphertext}"}}"#);
            let asked = || Request::post("/api/decrypt", &body);
            // What is known may be too old for a moment, which loses nothing.
            let reply = eventually(world, server, asked, |reply| reply.status != 503);
            assert_eq!(reply.status, 200, "server {server}, {name}: {reply:?}");
        }
    }
}

/// Revokes an API key in the middle of it, and watches how long any server takes it.
fn revoke(world: &World) -> (String, Option<Instant>) {
    for server in 0..3 {
        let made = world.ask(server, Request::post("/api/auth/keys", r#"{"name":"app","scopes":["hash"]}"#));
        if made.status != 201 {
            continue;
        }
        let path = format!("/api/auth/keys/{}/revoke", made.member("id"));
        let revoked = world.ask(server, Request::post(&path, "{}"));
        return (made.member("api_key"), (revoked.status == 200).then(Instant::now));
    }
    (String::new(), None)
}

fn schedule(seed: u64) {
    let Some(mut world) = World::start() else { return };
    println!("schedule {seed}");
    let mut dice = Dice(seed);
    let (history, stop) = (Mutex::new(History::default()), AtomicBool::new(false));
    let targets: Vec<(std::net::SocketAddr, String)> = world
        .servers
        .iter()
        .enumerate()
        .map(|(number, server)| (server.address(), format!("s{seed}-{number}")))
        .collect();
    let admin = world.admin.clone();
    std::thread::scope(|scope| {
        for (address, name) in &targets {
            let (history, stop, admin) = (&history, &stop, admin.as_str());
            scope.spawn(move || load(*address, admin, name, history, stop));
        }
        for _ in 0..STEPS {
            let (revoked, at) = revoke(&world);
            fail(&mut world, &mut dice);
            if let Some(at) = at {
                last((at + STALENESS).saturating_duration_since(Instant::now()));
                for server in &world.servers {
                    let hash = Request::post("/api/hash", r#"{"input":"aGVsbG8="}"#).key(&revoked);
                    let status = server.call(&hash).status;
                    assert!(status != 200, "accepted {:?} after its revocation", at.elapsed());
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    let history = history.into_inner().expect("a lock");
    println!(
        "  {} requests, {} refused or unanswered; {} keys, {} ciphertexts",
        history.asked,
        history.refused,
        history.created.len(),
        history.sealed.values().map(Vec::len).sum::<usize>()
    );
    assert!(!history.created.is_empty() && !history.sealed.is_empty(), "there was load");
    check(&world, &history);
}

#[test]
fn whatever_fails_nothing_acknowledged_is_lost_or_done_twice() {
    let seeds = std::env::var("QUANTONIUM_FLEET_SEEDS").unwrap_or_else(|_| "1".to_owned());
    for seed in seeds.split(',') {
        schedule(seed.parse().expect("a number"));
    }
}
