//! How much memory requests and TLS sessions may take.
//!
//! Owns the look at what the system allows this process. Invariants: the budget is never more than its share of that,
//! unless that were too little for one largest request; sessions that rest never take more than theirs.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::{Resource, getrlimit};

use crate::console::{self, Level};
use crate::limits::{
    CONNECTIONS_FLOOR_COUNT, LEASE_BUDGET_FLOOR_BYTES, LEASE_SYSTEM_SHARE_COUNT, TLS_SESSION_BYTES,
    TLS_SESSIONS_SHARE_COUNT,
};

const CGROUPS: &str = "/sys/fs/cgroup";

/// The budget: `wanted`, or what the control group or the limit of the address space leaves of it. Says so if it is less.
pub(super) fn budget(wanted: usize) -> usize {
    let Some((limit, name)) = allowed() else { return wanted };
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
pub(super) fn sessions() -> Option<usize> {
    allowed().map(|(limit, _)| sessions_within(limit))
}

fn sessions_within(limit: u64) -> usize {
    let room = usize::try_from(limit).unwrap_or(usize::MAX) / TLS_SESSIONS_SHARE_COUNT;
    (room / TLS_SESSION_BYTES).max(CONNECTIONS_FLOOR_COUNT)
}

/// What the system allows this process at most, and by what.
fn allowed() -> Option<(u64, &'static str)> {
    let of_group = fs::read_to_string("/proc/self/cgroup").ok().and_then(|own| least_of_groups(&own));
    let of_space = getrlimit(Resource::As).current;
    let all = [(of_group, "its control group"), (of_space, "its address space")];
    all.into_iter().filter_map(|(limit, name)| Some((limit?, name))).min()
}

fn within(wanted: usize, limit: u64) -> usize {
    let share = usize::try_from(limit / LEASE_SYSTEM_SHARE_COUNT).unwrap_or(usize::MAX);
    wanted.min(share.max(LEASE_BUDGET_FLOOR_BYTES))
}

/// The least `memory.max` of the group of which `own` tells (cgroups(7)), and of those above it.
fn least_of_groups(own: &str) -> Option<u64> {
    let path = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let root = Path::new(CGROUPS);
    // What a container sees of the tree begins with its own group.
    let mut group: PathBuf = root.join(path);
    let mut least = None;
    while group.starts_with(root) {
        let limit =
            fs::read_to_string(group.join("memory.max")).ok().and_then(|text| text.trim().parse().ok());
        least = match (least, limit) {
            (Some(one), Some(other)) => Some(u64::min(one, other)),
            (one, other) => one.or(other),
        };
        if !group.pop() {
            break;
        }
    }
    least
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
    fn only_the_one_tree_of_groups_is_looked_at() {
        assert_eq!(least_of_groups("4:memory:/x\n"), None);
        assert_eq!(least_of_groups(""), None);
    }
}
