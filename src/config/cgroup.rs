//! What the control groups of this process allow (cgroups(7), version 2).
//!
//! Owns [`ControlGroups`]. Invariants: a limit is the least of those of the process's own group and of all above it, up to
//! where the tree is mounted; what cannot be read is no limit; version 1 is not looked at.

use std::fs;
use std::path::{Path, PathBuf};

/// The limits that hold for this process; none where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ControlGroups {
    /// Memory, in bytes (`memory.max`).
    pub memory_bytes: Option<u64>,
    /// How many processors its time is worth, rounded up, at least one (`cpu.max`).
    pub processors: Option<u64>,
    /// How many more threads and processes there may be (`pids.max` less `pids.current`).
    pub tasks_left: Option<u64>,
}

impl ControlGroups {
    /// Asks the system.
    #[must_use]
    pub fn here() -> Self {
        let read = |path: &Path| fs::read_to_string(path).ok();
        let own = read(Path::new("/proc/self/cgroup")).unwrap_or_default();
        let mounts = read(Path::new("/proc/self/mountinfo")).unwrap_or_default();
        Self::of(&own, &mounts, read)
    }

    /// The limits of the group of which `own` tells, in the tree of which `mounts` tells.
    fn of(own: &str, mounts: &str, read: impl Fn(&Path) -> Option<String>) -> Self {
        let mut found = Self::default();
        let Some((root, group)) = place(own, mounts) else { return found };
        for group in group.ancestors().take_while(|group| group.starts_with(&root)) {
            let of = |name: &str| read(&group.join(name));
            let number = |name: &str| of(name).and_then(|text| text.trim().parse::<u64>().ok());
            found.memory_bytes = least(found.memory_bytes, number("memory.max"));
            found.processors = least(found.processors, of("cpu.max").and_then(|text| processors(&text)));
            let left = number("pids.max")
                .zip(number("pids.current"))
                .map(|(most, current)| most.saturating_sub(current));
            found.tasks_left = least(found.tasks_left, left);
        }
        found
    }
}

/// Where the tree is mounted, and the folder of the group in it.
fn place(own: &str, mounts: &str) -> Option<(PathBuf, PathBuf)> {
    let path = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    let (top, root) = mounts.lines().find_map(mounted)?;
    // What a container sees of the tree may begin with its own group; a group outside of it has its limits at the top.
    let below = Path::new(path).strip_prefix(top).ok();
    let below = below.filter(|below| !below.components().any(|part| part.as_os_str() == ".."));
    Some((root.to_owned(), root.join(below.unwrap_or(Path::new("")))))
}

/// Which part of the tree this line of mountinfo (proc_pid_mountinfo(5)) shows, and where, if it shows one.
fn mounted(line: &str) -> Option<(&Path, &Path)> {
    let (front, kind) = line.split_once(" - ")?;
    let mut front = front.split(' ').skip(3);
    let (top, at) = (front.next()?, front.next()?);
    (kind.split(' ').next() == Some("cgroup2")).then(|| (Path::new(top), Path::new(at)))
}

/// `QUOTA PERIOD` or `max PERIOD`, both in microseconds.
fn processors(text: &str) -> Option<u64> {
    let (quota, period) = text.trim().split_once(' ')?;
    let (quota, period): (u64, u64) = (quota.parse().ok()?, period.parse().ok()?);
    (period > 0).then(|| quota.div_ceil(period).max(1))
}

fn least(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNT: &str = "24 22 0:21 / /proc rw shared:9 - proc proc rw\n\
         30 22 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";

    fn limits(own: &str, mounts: &str, files: &[(&str, &str)]) -> ControlGroups {
        ControlGroups::of(own, mounts, |path| {
            let hit = files.iter().find(|(name, _)| Path::new(name) == path);
            hit.map(|(_, text)| (*text).to_owned())
        })
    }

    #[test]
    fn the_least_limit_of_the_group_and_of_those_above_it_holds() {
        let files = [
            ("/sys/fs/cgroup/a/b/memory.max", "max\n"),
            ("/sys/fs/cgroup/a/memory.max", "268435456\n"),
            ("/sys/fs/cgroup/memory.max", "1073741824\n"),
            ("/sys/fs/cgroup/a/b/cpu.max", "250000 100000\n"),
            ("/sys/fs/cgroup/a/cpu.max", "max 100000\n"),
            ("/sys/fs/cgroup/a/b/pids.max", "100\n"),
            ("/sys/fs/cgroup/a/b/pids.current", "1\n"),
            ("/sys/fs/cgroup/a/pids.max", "20\n"),
            ("/sys/fs/cgroup/a/pids.current", "15\n"),
            ("/memory.max", "1\n"),
            ("/sys/memory.max", "1\n"),
        ];
        let found = limits("0::/a/b\n", MOUNT, &files);
        let expected =
            ControlGroups { memory_bytes: Some(268_435_456), processors: Some(3), tasks_left: Some(5) };
        assert_eq!(found, expected);
        assert_eq!(limits("0::/a/b\n", MOUNT, &[]), ControlGroups::default());
    }

    #[test]
    fn a_processors_share_is_rounded_up_and_at_least_one() {
        for (text, count) in [
            ("max 100000\n", None),
            ("100000 100000\n", Some(1)),
            ("100001 100000\n", Some(2)),
            ("1000 100000\n", Some(1)),
            ("0 100000\n", Some(1)),
            ("100000 0\n", None),
            ("100000", None),
            ("-1 100000", None),
            ("", None),
        ] {
            assert_eq!(processors(text), count, "{text:?}");
        }
    }

    #[test]
    fn a_group_is_found_where_a_part_of_the_tree_is_mounted() {
        let part = "30 22 0:26 /pod/box /sys/fs/cgroup ro - cgroup2 cgroup rw\n";
        let files = [
            ("/sys/fs/cgroup/memory.max", "300\n"),
            ("/sys/fs/cgroup/own/memory.max", "200\n"),
            ("/sys/fs/cgroup/pod/box/memory.max", "100\n"),
        ];
        let memory = |own: &str, mounts: &str| limits(own, mounts, &files).memory_bytes;
        assert_eq!(memory("0::/pod/box/own\n", part), Some(200));
        assert_eq!(memory("0::/pod/box\n", part), Some(300));
        assert_eq!(memory("0::/elsewhere\n", part), Some(300));
        assert_eq!(memory("0::/../../etc\n", MOUNT), Some(300));
        assert_eq!(memory("4:memory:/own\n0::/\n", MOUNT), Some(300), "version 1 beside it");
        assert_eq!(memory("4:memory:/own\n", MOUNT), None);
        assert_eq!(memory("0::/own\n", "30 22 0:26 / /sys/fs/cgroup rw - cgroup none rw,memory\n"), None);
        assert_eq!(memory("", ""), None);
    }

    #[test]
    fn the_tasks_left_are_none_where_the_limit_was_lowered_below_what_is_there() {
        let files = [("/sys/fs/cgroup/pids.max", "3"), ("/sys/fs/cgroup/pids.current", "7")];
        assert_eq!(limits("0::/", MOUNT, &files).tasks_left, Some(0));
    }
}
