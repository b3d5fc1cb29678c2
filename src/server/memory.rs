//! How much memory requests and TLS sessions may take, and how much the heap is given before it is closed.
//!
//! Owns the look at what the system allows this process. Invariants: the budget is never more than its share of that,
//! unless that were too little for one largest request; connections at work never take more than theirs; the heap has room
//! for the whole budget and for every connection beside it, so that requests are refused long before it is spent.

use std::fs;

use rustix::process::{Resource, getrlimit};

use crate::limits::{
    ARCHIVIST_STACK_BYTES, ARENA_BESIDE_BYTES, ARENA_CONNECTION_BYTES, ARENA_CONNECTION_TLS_BYTES,
    ARENA_LEASES_SPARE_COUNT, ARENA_REST_LEAST_BYTES, ARENA_REST_WANTED_BYTES, CONNECTIONS_FLOOR_COUNT,
    FLEET_HEAP_BYTES, GROUP_KERNEL_SHARE_COUNT, LEASE_BUDGET_FLOOR_BYTES, LEASE_SYSTEM_SHARE_COUNT,
    SPACE_SPARE_SHARE_COUNT, THREAD_BESIDE_BYTES, THREAD_STACK_BYTES,
};
use crate::log::{self, Module};
use crate::memory;
use crate::server::error::ServerError;
use crate::server::worker::Common;

/// What bounds the memory of this process.
#[derive(Clone, Copy, Debug)]
struct Bound {
    limit: u64,
    name: &'static str,
    /// What of it leases and connections may take.
    left: usize,
}

impl Bound {
    /// The limit of a control group: the kernel's share for sockets and pages of files counts too.
    fn of_group(limit: u64) -> Self {
        let left = size(limit - limit / GROUP_KERNEL_SHARE_COUNT).saturating_sub(ARENA_REST_LEAST_BYTES);
        Self { limit, name: "its control group", left }
    }

    /// The limit of the address space of a process that has `mapped` bytes and is to have so many workers.
    fn of_space(limit: u64, mapped: u64, workers: usize) -> Self {
        let beside = beside_bytes(workers).saturating_add(ARENA_REST_LEAST_BYTES);
        let left = size(limit.saturating_sub(mapped)).saturating_sub(beside);
        // What is mapped before the heap is closed is not known to the byte.
        Self { limit, name: "its address space", left: left - left / SPACE_SPARE_SHARE_COUNT }
    }

    /// How many connections have room when all are at work at once: no more than leave the leases as much, and the least that
    /// these need.
    fn connections(&self, speaks_tls: bool) -> usize {
        let room = (self.left / 2).min(self.left.saturating_sub(with_spare(LEASE_BUDGET_FLOOR_BYTES)));
        (room / each_bytes(speaks_tls)).max(CONNECTIONS_FLOOR_COUNT)
    }

    /// The budget beside so many connections.
    fn budget(&self, wanted: usize, connections: usize, speaks_tls: bool) -> usize {
        let rest = self.left.saturating_sub(connections.saturating_mul(each_bytes(speaks_tls)));
        let share =
            size(self.limit / LEASE_SYSTEM_SHARE_COUNT).min(rest - rest / (ARENA_LEASES_SPARE_COUNT + 1));
        wanted.min(share.max(LEASE_BUDGET_FLOOR_BYTES))
    }
}

/// How much memory there is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// The narrowest bound; nothing: any amount.
    bound: Option<Bound>,
    speaks_tls: bool,
}

impl Room {
    /// What the control group allows, `of_group`, or the limit of the address space leaves to so many `workers`.
    pub(super) fn look(of_group: Option<u64>, workers: usize, speaks_tls: bool) -> Self {
        let of_space = getrlimit(Resource::As).current;
        let of_space = of_space.map(|limit| Bound::of_space(limit, mapped(), workers));
        let all = [of_group.map(Bound::of_group), of_space];
        Self { bound: all.into_iter().flatten().min_by_key(|bound| bound.left), speaks_tls }
    }

    /// For how many connections there is room; nothing: any number.
    pub(super) fn connections(self) -> Option<usize> {
        self.bound.map(|bound| bound.connections(self.speaks_tls))
    }

    /// The budget beside so many connections: `wanted`, or what the system allows. Says so if it is less.
    pub(super) fn budget(self, wanted: usize, connections: usize) -> usize {
        let Some(bound) = self.bound else { return wanted };
        let budget = bound.budget(wanted, connections, self.speaks_tls);
        if budget < wanted {
            let Bound { limit, name, .. } = bound;
            log::warn(
                Module::Server,
                format_args!(
                    "memory for requests is {budget} bytes instead of {wanted} (--max-memory): \
                     the limit of {name} is {limit} bytes, and {connections} connections have their part of it"
                ),
            );
        }
        budget
    }
}

fn size(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

const fn each_bytes(speaks_tls: bool) -> usize {
    if speaks_tls { ARENA_CONNECTION_TLS_BYTES } else { ARENA_CONNECTION_BYTES }
}

/// So many bytes of leases, and what lies unusable between them.
const fn with_spare(leases_bytes: usize) -> usize {
    leases_bytes.saturating_add(leases_bytes / ARENA_LEASES_SPARE_COUNT)
}

/// The address space that this process has taken (proc_pid_status(5), `VmSize`).
fn mapped() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    size_of_space(&status).unwrap_or(0)
}

fn size_of_space(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmSize:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1_024)
}

/// What the threads of so many workers map, which are started last.
fn beside_bytes(workers: usize) -> usize {
    let workers_and_keeper = (workers + 1) * (THREAD_STACK_BYTES + THREAD_BESIDE_BYTES);
    workers_and_keeper + ARCHIVIST_STACK_BYTES + THREAD_BESIDE_BYTES + ARENA_BESIDE_BYTES
}

/// What the heap must hold, and what else will be mapped.
#[derive(Clone, Copy, Debug)]
pub(super) struct Needs {
    leases_bytes: usize,
    connections: usize,
    speaks_tls: bool,
    workers: usize,
    /// Whether the store is shared.
    of_fleet: bool,
}

impl Needs {
    /// What so many workers with this in common need.
    pub(super) fn of(common: &Common, workers: usize) -> Self {
        Self {
            leases_bytes: common.budget.total_bytes(),
            connections: common.census.places(),
            speaks_tls: common.tls.is_some(),
            workers,
            of_fleet: common.fleet.is_shared(),
        }
    }

    /// With less than this nothing is served.
    fn least_bytes(&self) -> usize {
        let each = each_bytes(self.speaks_tls);
        with_spare(self.leases_bytes)
            .saturating_add(self.connections.saturating_mul(each))
            .saturating_add(ARENA_REST_LEAST_BYTES)
            .saturating_add(if self.of_fleet { FLEET_HEAP_BYTES } else { 0 })
    }

    /// What is reserved where nothing is in the way.
    fn wanted_bytes(&self) -> usize {
        self.least_bytes().saturating_mul(2).saturating_add(ARENA_REST_WANTED_BYTES)
    }
}

/// Closes the heap: from here on the process takes no memory from the kernel but for the stacks of its threads.
pub(super) fn close_heap(needs: &Needs) -> Result<(), ServerError> {
    let closed = memory::close(needs.least_bytes(), needs.wanted_bytes(), beside_bytes(needs.workers));
    let bytes = closed.map_err(|refused| {
        ServerError::config(format!(
            "{refused}: lower --max-memory or --max-connections, or raise the limit (ulimit -v, vm.overcommit_memory)"
        ))
    })?;
    log::info(
        Module::Server,
        format_args!("memory: the heap is closed; {bytes} bytes of address space are its own"),
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEBIBYTE: u64 = 1 << 20;

    #[test]
    fn the_budget_is_at_most_half_of_what_there_is_and_at_least_what_one_request_needs() {
        let budget = |wanted, limit| Bound::of_group(limit).budget(wanted, 1_024, false);
        assert_eq!(budget(64 << 20, 256 * MEBIBYTE), 64 << 20);
        assert_eq!(budget(64 << 20, 64 * MEBIBYTE), 32 << 20);
        assert_eq!(budget(64 << 20, 9 * MEBIBYTE), LEASE_BUDGET_FLOOR_BYTES);
        assert_eq!(budget(64 << 20, u64::MAX), 64 << 20);
        assert!(
            Bound::of_group(64 * MEBIBYTE).budget(64 << 20, 4_000, false) < 32 << 20,
            "they have their part"
        );
    }

    #[test]
    fn connections_that_all_work_at_once_and_all_leases_stay_within_what_there_is() {
        let mapped = 12 * MEBIBYTE;
        // Of what is mapped beside the heap hardly anything is memory of the group's.
        let beside = mapped + u64::try_from(beside_bytes(2)).unwrap();
        for limit in [64 * MEBIBYTE, 256 * MEBIBYTE, 4 << 30] {
            for (bound, beside) in [(Bound::of_group(limit), 0), (Bound::of_space(limit, mapped, 2), beside)]
            {
                for speaks_tls in [false, true] {
                    let connections = bound.connections(speaks_tls);
                    let leases_bytes = bound.budget(usize::MAX, connections, speaks_tls);
                    let needs = Needs { leases_bytes, connections, speaks_tls, workers: 2, of_fleet: false };
                    let all = u64::try_from(needs.least_bytes()).unwrap() + beside;
                    assert!(all <= limit, "{bound:?} {speaks_tls} {needs:?}");
                    assert!(connections >= 1_024 && leases_bytes >= 2 * LEASE_BUDGET_FLOOR_BYTES);
                }
            }
        }
        assert_eq!(Bound::of_space(1, mapped, 1).connections(true), CONNECTIONS_FLOOR_COUNT);
    }

    #[test]
    fn the_address_space_that_is_taken_is_read_from_the_status() {
        assert_eq!(size_of_space("Name:\tq\nVmPeak:\t  9 kB\nVmSize:\t   4100 kB\n"), Some(4_100 << 10));
        for status in ["", "VmSize:\t4100\n", "VmSize:\tmany kB\n"] {
            assert_eq!(size_of_space(status), None, "{status}");
        }
        assert!(mapped() > 1 << 20);
    }

    #[test]
    fn the_heap_has_room_for_all_leases_and_all_connections() {
        for (leases_bytes, connections) in [(8 << 20, 1), (64 << 20, 1_024), (16 << 30, 16_384)] {
            for speaks_tls in [false, true] {
                let needs = Needs { leases_bytes, connections, speaks_tls, workers: 2, of_fleet: false };
                let beside_leases = needs.least_bytes() - leases_bytes;
                assert!(beside_leases >= connections * ARENA_CONNECTION_BYTES + ARENA_REST_LEAST_BYTES);
                assert!(!speaks_tls || beside_leases >= connections * ARENA_CONNECTION_TLS_BYTES);
                assert!(needs.wanted_bytes() >= 2 * needs.least_bytes());
            }
        }
    }
}
