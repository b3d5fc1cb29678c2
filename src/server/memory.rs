//! How much memory requests may take.
//!
//! Owns the look at what the system allows this process. Invariant: the budget is never more than its share of that,
//! unless that were too little for one largest request.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::{Resource, getrlimit};

use crate::console::{self, Level};
use crate::limits::{LEASE_BUDGET_FLOOR_BYTES, LEASE_SYSTEM_SHARE_COUNT};

const CGROUPS: &str = "/sys/fs/cgroup";

/// The budget: `wanted`, or what the control group or the limit of the address space leaves of it. Says so if it is less.
pub(super) fn budget(wanted: usize) -> usize {
    let of_group = fs::read_to_string("/proc/self/cgroup").ok().and_then(|own| least_of_groups(&own));
    let of_space = getrlimit(Resource::As).current;
    let least = [(of_group, "its control group"), (of_space, "its address space")];
    let least = least.into_iter().filter_map(|(limit, name)| Some((limit?, name))).min();
    let Some((limit, name)) = least else { return wanted };
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
    fn only_the_one_tree_of_groups_is_looked_at() {
        assert_eq!(least_of_groups("4:memory:/x\n"), None);
        assert_eq!(least_of_groups(""), None);
    }
}
