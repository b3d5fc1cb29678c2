//! The power fails: what was acknowledged is there when it is back, whatever the disk did with what was not synced.
//!
//! The server runs on a file system of our own (FUSE) that keeps in memory what was not synced, and loses it, or any
//! sectors and names of it, when it is told to. That the test can fail is shown beside it: with `fdatasync` suppressed,
//! acknowledged changes are lost.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by a panic, its functions too")]
#![expect(clippy::indexing_slicing, reason = "a request that is too short fails the test")]
#![allow(clippy::print_stdout, reason = "the seed is what it takes to run it again")]

#[path = "power_loss/disk.rs"]
mod disk;
#[path = "support/lines.rs"]
mod lines;
#[path = "power_loss/mount.rs"]
mod mount;
#[path = "support/promises.rs"]
mod promises;
#[path = "simulation/random.rs"]
mod random;
#[path = "support/server.rs"]
mod server;
#[path = "support/trace.rs"]
mod trace;

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use disk::Survives;
use mount::Mount;
use nix::sys::signal::Signal;
use promises::{Promises, assert_kept, kill_at_work};
use random::Random;
use server::client::Request;
use server::{Scratch, Server, binary};

/// A disk at the place of the data directory's parent; nothing where there is none.
fn disk(exchanges: bool) -> Option<(Arc<Scratch>, Mount)> {
    binary()?;
    let outer = Scratch::in_memory();
    let mount = Mount::new(&outer.path("disk"), exchanges)?;
    Some((outer, mount))
}

/// What is left of the power's failures, from a store's making on.
fn live(seed: u64, exchanges: bool, failures: usize) {
    let Some((outer, mut mount)) = disk(exchanges) else { return };
    mount.write_short(seed);
    let scratch = Scratch::at(outer.path("disk"));
    let mut random = Random::new(seed);
    let mut clients: Vec<Promises> =
        (0..3).map(|number| Promises::new(&format!("c{number}"), random.next())).collect();
    let mut open = 0;
    for failure in 0..failures {
        let Some(server) = Server::start_in(&scratch, &["--workers", "2"]) else { return };
        assert_kept(&server, &mut clients, failure % 8 == 7);
        let ended = kill_at_work(server, &mut clients, &mut random);
        assert_eq!(ended.code, None, "it ended by itself: {ended:?}");
        let told =
            ended.stderr.contains("cannot exchange two names; the journal is compacted at starts alone");
        assert_eq!(told, !exchanges, "{ended:?}");
        open += clients.iter().filter(|promises| promises.is_open()).count();
        let survives = *random.pick(&[Survives::Nothing, Survives::Some, Survives::Some]);
        mount.lose_power(survives, &mut random);
    }
    let Some(server) = Server::start_in(&scratch, &["--workers", "2"]) else { return };
    assert_kept(&server, &mut clients, true);
    let data_dir = server.data_dir();
    assert_eq!(server.stop().code, Some(0));
    server::assert_sound(&data_dir);
    assert!(open > failures / 2, "hardly a failure met a change: {open}");
}

#[test]
fn what_was_acknowledged_outlives_a_failure_of_the_power() {
    let seed = 0x70_3e + u64::from(std::process::id());
    println!("seed {seed}");
    live(seed, true, 60);
    live(seed + 1, false, 20);
}

#[test]
fn without_its_syncs_the_server_would_lose_what_it_acknowledged() {
    if !trace::possible() {
        return;
    }
    let Some((outer, mut mount)) = disk(true) else { return };
    let scratch = Scratch::at(outer.path("disk"));
    let Some(server) = Server::start_in(&scratch, &[]) else { return };
    assert_eq!(server.stop().code, Some(0));
    let Some(server) = trace::start(&scratch, &[], &["fdatasync:retval=0"]) else { return };
    for number in 0..20 {
        let made = server.ask(Request::post("/api/keys", format!("{{\"name\":\"k{number}\"}}")));
        assert_eq!(made.status, 201, "{made:?}");
    }
    server.signal(Signal::SIGKILL);
    let _ = server.wait();
    mount.lose_power(Survives::Nothing, &mut Random::new(7));
    let Some(server) = Server::start_in(&scratch, &[]) else { return };
    let left = server.ask(Request::get("/api/keys"));
    assert_eq!(left.text(), "{\"keys\":[]}", "a disk that loses nothing proves nothing");
}

/// Starts on what a first start left that was cut off. Only a directory or file that was made and not handed over yet
/// may stand in the way: then the line that is said helps.
fn start_again(scratch: &Arc<Scratch>, helped: &mut usize) -> Option<Server> {
    let ended = match Server::try_start_in(scratch, &["--workers", "1"])? {
        Ok(server) => return Some(server),
        Err(ended) => ended,
    };
    let line = ended.stderr.split_once("hand it over: ").map(|(_, line)| line.trim_end());
    let line = line.unwrap_or_else(|| panic!("{ended:?}"));
    assert_eq!(ended.code, Some(78));
    assert!(Command::new("sh").args(["-c", line]).status().unwrap().success(), "{line}");
    *helped += 1;
    Server::start_in(scratch, &["--workers", "1"])
}

#[test]
fn a_first_start_that_the_power_cut_off_is_made_good_by_the_next_one() {
    let seed = 0x57a7 + u64::from(std::process::id());
    let mut random = Random::new(seed);
    for survives in [Survives::Nothing, Survives::Some, Survives::Everything] {
        let mut helped = 0;
        for changes in 0.. {
            let Some((outer, mut mount)) = disk(true) else { return };
            let scratch = Scratch::at(outer.path("disk"));
            mount.fail_before(changes);
            let Some(server) = Server::start_in(&scratch, &["--workers", "1"]) else { return };
            server.signal(Signal::SIGKILL);
            let _ = server.wait();
            if !mount.lose_power(survives, &mut random) {
                assert!(changes > 20, "a start changes little: {changes}");
                println!("seed {seed}: {changes} moments, {survives:?}; {helped} had to be handed over");
                break;
            }
            let Some(server) = start_again(&scratch, &mut helped) else { return };
            let made = server.ask(Request::post("/api/keys", "{\"name\":\"first\"}"));
            assert_eq!(made.status, 201, "{survives:?} before change {changes}: {made:?}");
            assert_eq!(server.stop().code, Some(0));
        }
    }
}

/// Seals under this durability until the power fails; returns how many of the replies have no line afterwards.
fn count_untold(durability: &str) -> Option<usize> {
    let (outer, mut mount) = disk(true)?;
    let scratch = Scratch::at(outer.path("disk"));
    let server = Server::start_in(&scratch, &["--workers", "2", "--audit-durability", durability])?;
    assert_eq!(server.ask(Request::post("/api/keys", "{\"name\":\"orders\"}")).status, 201);
    let seal = "{\"key\":\"orders\",\"plaintext\":\"aGVsbG8=\"}";
    let count = Arc::new(AtomicUsize::new(0));
    // They seal to the very end: what was synced on its own long after the last reply would outlive anything.
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (mut client, count) = (server.connect(), Arc::clone(&count));
            let request = Request::post("/api/encrypt", seal).key(server.key());
            std::thread::spawn(move || -> Vec<String> {
                let mut ids = Vec::new();
                while let Some(reply) = client.attempt(&request) {
                    assert_eq!(reply.status, 200, "{reply:?}");
                    ids.push(reply.field("X-Request-Id").unwrap().to_owned());
                    count.fetch_add(1, Ordering::Relaxed);
                }
                ids
            })
        })
        .collect();
    let is_busy =
        || count.load(Ordering::Relaxed) < 200 && !clients.iter().any(std::thread::JoinHandle::is_finished);
    while is_busy() {
        std::thread::yield_now();
    }
    server.signal(Signal::SIGKILL);
    let _ = server.wait();
    let ids: Vec<String> = clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
    assert!(ids.len() >= 200, "{} replies", ids.len());
    mount.lose_power(Survives::Nothing, &mut Random::new(11));
    let text = lines::files(&scratch.data_dir()).concat();
    Some(ids.iter().filter(|id| !text.contains(id.as_str())).count())
}

#[test]
fn synced_audit_lines_of_acknowledged_replies_outlive_a_failure_of_the_power() {
    let Some(untold) = count_untold("synced") else { return };
    assert_eq!(untold, 0);
    assert!(count_untold("written").unwrap() > 0, "a disk that loses nothing proves nothing");
}
