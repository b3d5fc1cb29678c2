//! Seeded schedules of everything that can happen to connections, on the real executor and the real `http` floor.
//!
//! Each schedule proves, for several pipelined connections over a simulated transport ([`wire`]) with a simulated
//! application ([`service`]):
//!
//! - nobody is parked while there is something to do that no event will tell of, and nobody but for the four reasons
//!   ([`world`], after every turn);
//! - the peer gets exactly the replies it is owed, in order, none lost, none doubled ([`judge`]);
//! - no reply of an audited request leaves when its audit line was not written, be that known at once or some turns
//!   later, after what became of later ones;
//! - a streamed reply is a prefix of what it should be, and complete only after its end was told; one that is cut ends by
//!   a reset, and no other does ([`streamed`]);
//! - every lease comes back, and nothing outlives its deadline.
//!
//! That this can fail is shown by worlds with one broken rule ([`wire::Defect`]). A failure names its seed;
//! `QUANTONIUM_SEED=n` runs that schedule alone, `QUANTONIUM_SCHEDULES=n` runs another number of them.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and says where"
)]

#[path = "simulation/judge.rs"]
mod judge;
#[path = "simulation/random.rs"]
mod random;
#[path = "simulation/script.rs"]
mod script;
#[path = "simulation/service.rs"]
mod service;
#[path = "simulation/streamed.rs"]
mod streamed;
#[path = "simulation/wire.rs"]
mod wire;
#[path = "simulation/world.rs"]
mod world;

use std::panic::catch_unwind;

use judge::Violation;
use wire::Defect;
use world::Tally;

const SCHEDULES: u64 = 24_000;

/// Runs one schedule; what is wrong with it, a panic included, comes with the way to replay it.
fn run_seed(seed: u64) -> Result<Tally, String> {
    let outcome = catch_unwind(|| world::run(seed, Defect::None));
    let wrong = match outcome {
        Ok(Ok(tally)) => return Ok(tally),
        Ok(Err(violation)) => format!("{violation:?}"),
        Err(_) => "it panicked".to_owned(),
    };
    Err(format!("seed {seed}: {wrong}\nreplay it with QUANTONIUM_SEED={seed}"))
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

#[test]
fn no_schedule_sticks_or_loses_or_doubles_anything() {
    if let Some(seed) = number("QUANTONIUM_SEED") {
        let tally = run_seed(seed).unwrap_or_else(|wrong| panic!("{wrong}"));
        println!("seed {seed}: {tally:?}");
        return;
    }
    let schedules = number("QUANTONIUM_SCHEDULES").unwrap_or(SCHEDULES);
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let outcomes: Vec<Result<Tally, String>> = std::thread::scope(|scope| {
        let run_lane = |lane| (lane..schedules).step_by(threads).map(run_seed).collect::<Vec<_>>();
        let lanes: Vec<_> = (0u64..).take(threads).map(|lane| scope.spawn(move || run_lane(lane))).collect();
        lanes.into_iter().flat_map(|lane| lane.join().expect("a lane catches panics")).collect()
    });
    let (tallies, wrong): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
    let wrong: Vec<String> = wrong.into_iter().filter_map(Result::err).collect();
    assert!(
        wrong.is_empty(),
        "{} of {schedules} schedules, the first:\n{}",
        wrong.len(),
        wrong[..wrong.len().min(5)].join("\n")
    );
    let tallies: Vec<Tally> = tallies.into_iter().flatten().collect();
    let sum = |of: fn(&Tally) -> usize| tallies.iter().map(of).sum::<usize>();
    let (requests, bytes, turns) =
        (sum(|tally| tally.requests), sum(|tally| tally.replies_bytes), sum(|tally| tally.turns));
    println!("{schedules} schedules, {requests} requests, {turns} turns, {bytes} bytes of replies");
    assert_eq!(tallies.len() as u64, schedules);
    assert!(requests as u64 > 10 * schedules && bytes > requests * 200, "the schedules serve something");
}

/// How many of the first 1,000 schedules in a world with `defect` are found out by a violation that `fits`.
fn count_found(defect: Defect, fits: fn(&Violation) -> bool) -> usize {
    (0..1_000).filter(|seed| world::run(*seed, defect).is_err_and(|violation| fits(&violation))).count()
}

#[test]
fn an_edge_that_is_swallowed_is_reported_as_a_stuck_session() {
    let stuck = |violation: &Violation| matches!(violation, Violation::Stuck(_));
    for defect in
        [Defect::SwallowedReadEdge, Defect::SwallowedWriteEdge, Defect::FalseDrained, Defect::LostWake]
    {
        let found = count_found(defect, stuck);
        assert!(found > 8, "{defect:?}: {found} of 1000");
        println!("{defect:?}: {found} of 1000 schedules");
    }
}

#[test]
fn lost_and_doubled_bytes_are_reported() {
    let bytes = |violation: &Violation| matches!(violation, Violation::Bytes(_) | Violation::Stuck(_));
    for defect in [Defect::DoubledByte, Defect::LostByte] {
        let found = count_found(defect, bytes);
        assert!(found > 170, "{defect:?}: {found} of 1000");
        println!("{defect:?}: {found} of 1000 schedules");
    }
}

#[test]
fn replies_that_leave_after_a_failed_commit_are_reported() {
    let audit = |violation: &Violation| matches!(violation, Violation::Audit(_));
    for defect in [Defect::FalseCommit, Defect::EarlyCommit] {
        let found = count_found(defect, audit);
        assert!(found > 17, "{defect:?}: {found} of 1000");
        println!("{defect:?}: {found} of 1000 schedules");
    }
}
