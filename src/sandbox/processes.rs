//! Process numbers of its own for each server that `quantonium supervise` starts: it is the first process there, sees no other one
//! and can signal none.
//!
//! Owns the decision whether servers get them, and the start in them. Invariants: they are never those of another server, since they
//! end with their first process; the supervisor keeps its own; whether they can be had is found out before the first server.

use std::io;
use std::process::{Child, Command};

use nix::sched::unshare;

use super::namespaces::{self, PROCESSES, Starter};
use super::{Failure, left_out};
use crate::model::{Mode, Outcome, Step};

/// Finds out whether servers of this process get process numbers of their own. An ordinary user enters a user namespace for it, as a server
/// does for the rest of its namespaces: to be called while there is one thread, and when every socket is bound.
///
/// # Errors
/// If the system begins that and does not end it.
pub fn prepare(mode: Mode, names_peers: bool) -> Result<Outcome, Failure> {
    if left_out::is(Step::PidNamespace) {
        return Ok(left_out::outcome());
    }
    if mode == Mode::Container {
        return Ok(Outcome::NotNeeded("left to the container runtime".to_owned()));
    }
    // Whoever executes something in the container enters what the supervisor is in: this is for servers.
    if let Outcome::Skipped(reason) = namespaces::enter_user(mode, Starter::Supervisor, names_peers)? {
        return Ok(Outcome::Skipped(reason));
    }
    let hindrance = namespaces::hindrance(PROCESSES)?;
    Ok(hindrance.map_or(Outcome::Done, Outcome::Skipped))
}

/// Starts `command` as the first process of new process numbers.
///
/// A thread of its own leaves those of this process for those of its children, and ends when it has one: its number is of no other
/// thread's concern, so that the next server gets new ones, and no right is needed to come back.
///
/// # Errors
/// What the system refuses.
pub fn start(command: &mut Command) -> io::Result<Child> {
    std::thread::scope(|scope| {
        let starter = std::thread::Builder::new().name("starter".to_owned());
        let starter = starter.spawn_scoped(scope, || {
            unshare(PROCESSES.flag)?;
            command.spawn()
        })?;
        starter.join().unwrap_or_else(|_| Err(io::Error::other("the thread that starts it has ended")))
    })
}
