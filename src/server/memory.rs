//! How much memory requests and TLS sessions may take, and how much the heap is given before it is closed.
//!
//! Owns the look at what the system allows this process. Invariants: the budget is never more than its share of that,
//! unless that were too little for one largest request; sessions that rest never take more than theirs; the heap has room
//! for the whole budget and for every connection beside it, so that requests are refused long before it is spent.

use rustix::process::{Resource, getrlimit};

use crate::console::{self, Level};
use crate::limits::{
    ARCHIVIST_STACK_BYTES, ARENA_BESIDE_BYTES, ARENA_CONNECTION_BYTES, ARENA_CONNECTION_TLS_BYTES,
    ARENA_LEASES_SPARE_COUNT, ARENA_REST_LEAST_BYTES, ARENA_REST_WANTED_BYTES, CONNECTIONS_FLOOR_COUNT,
    LEASE_BUDGET_FLOOR_BYTES, LEASE_SYSTEM_SHARE_COUNT, THREAD_BESIDE_BYTES, THREAD_STACK_BYTES,
    TLS_SESSION_BYTES, TLS_SESSIONS_SHARE_COUNT,
};
use crate::memory;
use crate::server::error::ServerError;
use crate::server::worker::Common;

/// The budget: `wanted`, or what `of_group`, the control group's limit, or the limit of the address space leaves of it. Says so if
/// it is less.
pub(super) fn budget(wanted: usize, of_group: Option<u64>) -> usize {
    let Some((limit, name)) = allowed(of_group) else { return wanted };
    let budget = within(wanted, limit);
    if budget < wanted {
        console::log(
            Level::Warn,
            format_args!(
                "memory for requests is {budget} bytes instead of {wanted} (--max-memory): \
                 the limit of {name} is {limit} bytes"
            ),
        );
    }
    budget
}

/// How many TLS sessions have room; nothing: any number.
pub(super) fn sessions(of_group: Option<u64>) -> Option<usize> {
    allowed(of_group).map(|(limit, _)| sessions_within(limit))
}

fn sessions_within(limit: u64) -> usize {
    let room = usize::try_from(limit).unwrap_or(usize::MAX) / TLS_SESSIONS_SHARE_COUNT;
    (room / TLS_SESSION_BYTES).max(CONNECTIONS_FLOOR_COUNT)
}

/// What the system allows this process at most, and by what.
fn allowed(of_group: Option<u64>) -> Option<(u64, &'static str)> {
    let of_space = getrlimit(Resource::As).current;
    let all = [(of_group, "its control group"), (of_space, "its address space")];
    all.into_iter().filter_map(|(limit, name)| Some((limit?, name))).min()
}

fn within(wanted: usize, limit: u64) -> usize {
    let share = usize::try_from(limit / LEASE_SYSTEM_SHARE_COUNT).unwrap_or(usize::MAX);
    wanted.min(share.max(LEASE_BUDGET_FLOOR_BYTES))
}

/// What the heap must hold, and what else will be mapped.
#[derive(Clone, Copy, Debug)]
pub(super) struct Needs {
    leases_bytes: usize,
    connections: usize,
    speaks_tls: bool,
    workers: usize,
}

impl Needs {
    /// What so many workers with this in common need.
    pub(super) fn of(common: &Common, workers: usize) -> Self {
        Self {
            leases_bytes: common.budget.total_bytes(),
            connections: common.census.places(),
            speaks_tls: common.tls.is_some(),
            workers,
        }
    }

    /// With less than this nothing is served.
    fn least_bytes(&self) -> usize {
        let each = if self.speaks_tls { ARENA_CONNECTION_TLS_BYTES } else { ARENA_CONNECTION_BYTES };
        let leases = self.leases_bytes + self.leases_bytes / ARENA_LEASES_SPARE_COUNT;
        leases.saturating_add(self.connections.saturating_mul(each)).saturating_add(ARENA_REST_LEAST_BYTES)
    }

    /// What is reserved where nothing is in the way.
    fn wanted_bytes(&self) -> usize {
        self.least_bytes().saturating_mul(2).saturating_add(ARENA_REST_WANTED_BYTES)
    }

    /// What the threads map that are started afterwards.
    fn beside_bytes(&self) -> usize {
        let workers_and_keeper = (self.workers + 1) * (THREAD_STACK_BYTES + THREAD_BESIDE_BYTES);
        workers_and_keeper + ARCHIVIST_STACK_BYTES + THREAD_BESIDE_BYTES + ARENA_BESIDE_BYTES
    }
}

/// Closes the heap: from here on the process takes no memory from the kernel but for the stacks of its threads.
pub(super) fn close_heap(needs: &Needs) -> Result<(), ServerError> {
    let closed = memory::close(needs.least_bytes(), needs.wanted_bytes(), needs.beside_bytes());
    let bytes = closed.map_err(|refused| {
        ServerError::config(format!(
            "{refused}: lower --max-memory or --max-connections, or raise the limit (ulimit -v, vm.overcommit_memory)"
        ))
    })?;
    console::log(
        Level::Info,
        format_args!("memory: the heap is closed; {bytes} bytes of address space are its own"),
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_is_at_most_half_of_what_there_is() {
        const MEBIBYTE: u64 = 1 << 20;
        assert_eq!(within(64 << 20, 256 * MEBIBYTE), 64 << 20);
        assert_eq!(within(64 << 20, 64 * MEBIBYTE), 32 << 20);
        assert_eq!(within(64 << 20, 9 * MEBIBYTE), LEASE_BUDGET_FLOOR_BYTES);
        assert_eq!(within(64 << 20, u64::MAX), 64 << 20);
    }

    #[test]
    fn sessions_that_rest_take_a_quarter_of_what_there_is_at_most() {
        assert_eq!(sessions_within(64 << 20), 1_820);
        assert_eq!(sessions_within(1), CONNECTIONS_FLOOR_COUNT);
    }

    #[test]
    fn the_heap_has_room_for_all_leases_and_all_connections() {
        for (leases_bytes, connections) in [(8 << 20, 1), (64 << 20, 1_024), (16 << 30, 16_384)] {
            for speaks_tls in [false, true] {
                let needs = Needs { leases_bytes, connections, speaks_tls, workers: 2 };
                let beside_leases = needs.least_bytes() - leases_bytes;
                assert!(beside_leases >= connections * ARENA_CONNECTION_BYTES + ARENA_REST_LEAST_BYTES);
                assert!(!speaks_tls || beside_leases >= connections * ARENA_CONNECTION_TLS_BYTES);
                assert!(needs.wanted_bytes() >= 2 * needs.least_bytes());
                assert!(needs.beside_bytes() > 3 * THREAD_STACK_BYTES + ARCHIVIST_STACK_BYTES);
            }
        }
    }
}
