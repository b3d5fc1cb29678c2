//! The server is killed at random instants: what it acknowledged is there when it is back, and of what it did not
//! acknowledge there is all or nothing.
//!
//! SIGKILL goes to the process that was started here, after so many answers and a random number of turns. It ends the
//! process, not the machine: what was written is there afterwards, synced or not. What the machine may lose is in
//! `tests/power_loss.rs`.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by a panic, its functions too")]
#![expect(clippy::indexing_slicing, reason = "a member that is missing fails the test")]

#[path = "crash/audit.rs"]
mod audit;
#[path = "support/promises.rs"]
mod promises;
#[path = "simulation/random.rs"]
mod random;
#[path = "crash/rewrite.rs"]
mod rewrite;
#[path = "support/server.rs"]
mod server;
#[path = "support/trace.rs"]
mod trace;

use std::sync::Arc;
use std::thread;

use promises::{Promises, assert_kept, kill_at_work};
use random::Random;
use server::{Scratch, Server, binary};

/// Lives of a store, each in a directory of its own.
const LIVES: usize = 10;
/// Kills in the life of a store.
const KILLS: usize = 64;
/// Clients at a time.
const CLIENTS: usize = 3;

/// What kills have led to.
#[derive(Debug, Default)]
struct Tally {
    open: usize,
    compacted: usize,
    torn: usize,
}

/// A store from its making on, killed again and again.
fn live(scratch: &Arc<Scratch>, seed: u64, tally: &mut Tally) -> Option<()> {
    let mut random = Random::new(seed);
    let name = |number| format!("c{number}");
    let mut clients: Vec<Promises> =
        (0..CLIENTS).map(|number| Promises::new(&name(number), random.next())).collect();
    for round in 0..KILLS {
        let server = Server::start_in(scratch, &["--workers", "2"])?;
        assert_kept(&server, &mut clients, round % 16 == 15);
        let ended = kill_at_work(server, &mut clients, &mut random);
        assert_eq!(ended.code, None, "it ended by itself: {ended:?}");
        tally.open += clients.iter().filter(|promises| promises.is_open()).count();
        tally.compacted += ended.stderr.matches("store: compacted").count();
        tally.torn += ended.stderr.matches("torn").count();
    }
    let server = Server::start_in(scratch, &["--workers", "2"])?;
    assert_kept(&server, &mut clients, true);
    let data_dir = server.data_dir();
    let ended = server.stop();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    server::assert_sound(&data_dir);
    audit::assert_paired(&data_dir);
    Some(())
}

#[test]
fn what_was_acknowledged_outlives_a_kill_and_nothing_else_is_found_by_half() {
    if binary().is_none() {
        return;
    }
    let seed = 0x51_6b11 + u64::from(std::process::id());
    println!("seed {seed}");
    let halves = thread::scope(|scope| {
        let spawned: Vec<_> = (0..2u64)
            .map(|half| {
                scope.spawn(move || {
                    let mut tally = Tally::default();
                    for number in 0..LIVES as u64 / 2 {
                        // Each half has one life on a disk.
                        let scratch = if number == 0 { Scratch::new() } else { Scratch::in_memory() };
                        live(&scratch, seed + 1_000 * half + number, &mut tally).unwrap();
                    }
                    tally
                })
            })
            .collect();
        spawned.into_iter().map(|half| half.join().unwrap()).collect::<Vec<_>>()
    });
    println!("{} kills: {halves:?}", LIVES * KILLS);
    assert!(halves.iter().all(|tally| tally.open > KILLS), "hardly a kill met a change: {halves:?}");
    assert!(halves.iter().any(|tally| tally.compacted > 0), "no journal was compacted in use: {halves:?}");
}
