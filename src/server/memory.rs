//! How much memory requests may take.
//!
//! Owns the look at what the system allows this process. Invariant: the budget is never more than its share of that,
//! unless that were too little for one largest request.

use rustix::process::{Resource, getrlimit};

use crate::console::{self, Level};
use crate::limits::{LEASE_BUDGET_FLOOR_BYTES, LEASE_SYSTEM_SHARE_COUNT};

/// The budget: `wanted`, or what `of_group`, the control group's limit, or the limit of the address space leaves of it. Says so if
/// it is less.
pub(super) fn budget(wanted: usize, of_group: Option<u64>) -> usize {
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
}
