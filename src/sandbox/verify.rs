//! The self-check: what the kernel says about this process, not what the calls returned.
//!
//! Owns [`Witness`], descriptors of the kernel's own files that were opened before anything was given up.
//! Invariant: nothing is taken as confirmed that the files do not say.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Dir, Mode, OFlags, open, openat};
use rustix::io::pread;

use super::{Failure, descriptors, dumpable, left_out, rlimits};
use crate::limits::{
    FD_OWN_FIRST_NUMBER, FD_OWN_LAST_NUMBER, PROC_STAT_MAX_BYTES, PROC_STATUS_MAX_BYTES,
    PROC_STATUS_USUAL_BYTES,
};
use crate::model::{Outcome, Step};

const STEP: &str = "self-check";
/// The value of the line `Seccomp:` of a filtered thread: `SECCOMP_MODE_FILTER`.
pub(super) const FILTERED: u64 = 2;

/// `/proc/self/status` and `/proc/self/task`, kept open. To be made by the main thread.
#[derive(Debug)]
pub struct Witness {
    status: File,
    /// The directory of threads; afterwards the line that tells what the process uses.
    tasks: OwnedFd,
    /// The number of the main thread as `/proc` has it, which in a process that is the first of its namespace is not its own.
    main: String,
    /// How many filters a thread has that has entered that of its role, once it was asked about, where the kernel tells.
    filters_wanted: Option<u64>,
}

/// What the lock-down reached, for the comparison with what the kernel reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Expected {
    /// All four user ids.
    pub(super) uid: u32,
    /// All four group ids.
    pub(super) gid: u32,
    /// Whether there must be no further group.
    pub(super) groups_empty: bool,
    /// Whether the bounding set must be empty.
    pub(super) bounding_empty: bool,
}

/// The lines of a status file that matter (proc_pid_status(5)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Real, effective, saved and file system user.
    pub uid: [u32; 4],
    /// Real, effective, saved and file system group.
    pub gid: [u32; 4],
    /// Further groups.
    pub groups: Vec<u32>,
    /// Number of threads of the process.
    pub threads: u64,
    /// Inheritable, permitted, effective and ambient capabilities.
    pub capabilities: [u64; 4],
    /// The capability bounding set.
    pub bounding: u64,
    /// Whether no new privileges can be had.
    pub no_new_privs: bool,
    /// Seccomp mode: 0 none, 1 strict, 2 filter.
    pub seccomp: u64,
    /// How many filters a call goes through, where the kernel tells (Linux 5.9).
    pub filters: Option<u64>,
    /// The process that traces this thread; 0 for none.
    pub tracer: u64,
    /// How many descriptors the table has room for that the process has now: none has this number or a higher one.
    pub descriptors: u64,
}

impl Witness {
    /// Opens the kernel's files about this process, in the band of the main thread's own files.
    ///
    /// # Errors
    /// If `/proc` is not there, or the band is full.
    pub fn open() -> Result<Self, Failure> {
        let cause = |error: &dyn core::fmt::Display| Failure::refused("opening /proc/self", error);
        let own = |fd| descriptors::place(fd, FD_OWN_FIRST_NUMBER, FD_OWN_LAST_NUMBER);
        let status = File::open("/proc/self/status").map_err(|error| cause(&error))?;
        let status = own(status.into()).map_err(|error| cause(&error))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let tasks = open("/proc/self/task", flags, Mode::empty()).map_err(|error| cause(&error))?;
        let tasks = own(tasks).map_err(|error| cause(&error))?;
        let link = std::fs::read_link("/proc/thread-self").map_err(|error| cause(&error))?;
        let main = link.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { status: status.into(), tasks, main, filters_wanted: None })
    }

    /// Reads the status of the main thread.
    ///
    /// # Errors
    /// If it cannot be read or lacks a line.
    pub fn status(&self) -> Result<Status, Failure> {
        Status::read(&self.status)
    }

    /// Compares the kernel's report with `expected`.
    pub(super) fn confirm(&self, expected: &Expected) -> Result<Outcome, Failure> {
        let found = self.status()?;
        Failure::unless_equal("user ids", &[expected.uid; 4], &found.uid)?;
        Failure::unless_equal("group ids", &[expected.gid; 4], &found.gid)?;
        if expected.groups_empty {
            Failure::unless_equal("number of further groups", &0, &found.groups.len())?;
        }
        let capabilities = Failure::unless_equal("capability sets", &[0; 4], &found.capabilities);
        left_out::tolerate(Step::CapabilitySets, capabilities)?;
        if expected.bounding_empty {
            Failure::unless_equal("capability bounding set", &0, &found.bounding)?;
        }
        let privileges = Failure::unless_equal("no_new_privs", &true, &found.no_new_privs);
        left_out::tolerate(Step::NoNewPrivs, privileges)?;
        left_out::tolerate(Step::Dumpable, dumpable::confirm())?;
        left_out::tolerate(Step::ResourceLimits, rlimits::confirm())?;
        Ok(Outcome::Done)
    }

    /// Fails unless there are `others` threads beside the calling one, whose status files these are, each of them filtered and without
    /// capabilities. For the main thread, before it enters its own filter.
    ///
    /// # Errors
    /// The property that does not hold.
    pub fn confirm_threads(&mut self, statuses: &[OwnedFd], others: usize) -> Result<(), Failure> {
        Failure::unless_equal("number of other threads", &others, &statuses.len())?;
        let main = self.status()?;
        // Nor was one started since these were opened.
        Failure::unless_equal("number of threads", &(others as u64).saturating_add(1), &main.threads)?;
        // The main thread has those of the whole process alone, so that the mode says nothing of the filter of a role.
        self.filters_wanted = main.filters.map(|count| count.saturating_add(1));
        for status in statuses {
            let found = Status::read(status)?;
            found.is_locked_in()?;
            let filters = Failure::unless_equal("filters of a thread", &self.filters_wanted, &found.filters);
            left_out::tolerate(Step::Seccomp, filters)?;
        }
        Ok(())
    }

    /// Gives up the directory of threads, after the last [`Self::other_threads`]. Its number stays taken, by
    /// the file of what the process uses: were it free, the next connection would get it.
    ///
    /// # Errors
    /// If that file cannot be opened.
    pub fn close_threads(&mut self) -> Result<(), Failure> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let usage = openat(&self.tasks, "../stat", flags, Mode::empty());
        let usage = usage.map_err(|error| Failure::refused("opening /proc/self/stat", error))?;
        descriptors::replace(usage.as_fd(), &mut self.tasks).map_err(|error| Failure::refused(STEP, error))
    }

    /// What the process uses; nothing if it cannot be read, or before [`Self::close_threads`].
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        let mut bytes = [0; PROC_STAT_MAX_BYTES];
        let count = pread(&self.tasks, &mut bytes, 0).ok()?;
        Usage::parse(str::from_utf8(bytes.get(..count)?).ok()?)
    }

    /// The status files of other threads, at most `count`, those of the oldest first: opened while it is possible.
    ///
    /// # Errors
    /// What the system refuses.
    pub fn other_threads(&self, count: usize) -> Result<Vec<OwnedFd>, Failure> {
        let refused = |error| Failure::refused(STEP, error);
        let entries = Dir::read_from(&self.tasks).map_err(refused)?;
        let names = entries.map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()));
        let names: Result<Vec<String>, _> = names.collect();
        let mut ids: Vec<u32> = names.map_err(refused)?.iter().filter_map(|name| name.parse().ok()).collect();
        ids.sort_unstable();
        let others = ids.into_iter().filter(|id| id.to_string() != self.main).take(count);
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let open = |id: u32| openat(&self.tasks, format!("{id}/status"), flags, Mode::empty());
        others.map(|id| open(id).map_err(refused)).collect()
    }

    /// Fails unless the main thread, too, is filtered. The one call of this type that its filter allows.
    ///
    /// # Errors
    /// If the kernel reports no filter.
    pub fn confirm_main(&self) -> Result<(), Failure> {
        let found = self.status()?;
        let filtered = Failure::unless_equal("seccomp mode of the main thread", &FILTERED, &found.seccomp);
        let filtered = filtered.and_then(|()| {
            let wanted = self.filters_wanted.or(found.filters);
            Failure::unless_equal("filters of the main thread", &wanted, &found.filters)
        });
        left_out::tolerate(Step::Seccomp, filtered)
    }
}

/// What a process uses (proc_pid_stat(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Time on all processors, in ticks of the clock.
    pub ticks: u64,
    /// Threads.
    pub threads: u64,
    /// Addresses in use, in bytes.
    pub virtual_bytes: u64,
    /// Memory in use, in pages.
    pub resident_pages: u64,
}

impl Usage {
    /// Takes the fields out of the line; nothing if one is missing.
    fn parse(line: &str) -> Option<Self> {
        // The name of the program stands in parentheses, and may hold some.
        let (_, fields) = line.rsplit_once(')')?;
        // The first of what follows is field 3.
        let field = |number: usize| fields.split_whitespace().nth(number - 3)?.parse::<u64>().ok();
        Some(Self {
            ticks: field(14)?.saturating_add(field(15)?),
            threads: field(20)?,
            virtual_bytes: field(23)?,
            resident_pages: field(24)?,
        })
    }
}

impl Status {
    /// Fails unless it is that of a thread that is filtered, without capabilities and without a way to get them.
    fn is_locked_in(&self) -> Result<(), Failure> {
        let filtered = Failure::unless_equal("seccomp mode of a thread", &FILTERED, &self.seccomp);
        left_out::tolerate(Step::Seccomp, filtered)?;
        let capabilities = Failure::unless_equal("capability sets of a thread", &[0; 4], &self.capabilities);
        left_out::tolerate(Step::CapabilitySets, capabilities)?;
        let privileges = Failure::unless_equal("no_new_privs of a thread", &true, &self.no_new_privs);
        left_out::tolerate(Step::NoNewPrivs, privileges)
    }

    /// Reads a status file from its beginning, by `pread64`.
    pub(super) fn read(file: impl AsFd) -> Result<Self, Failure> {
        let mut bytes = vec![0; PROC_STATUS_USUAL_BYTES];
        let mut filled = 0;
        loop {
            if filled == bytes.len() && filled < PROC_STATUS_MAX_BYTES {
                bytes.resize(filled.saturating_mul(2).min(PROC_STATUS_MAX_BYTES), 0);
            }
            let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) else { break };
            let offset = u64::try_from(filled).unwrap_or(u64::MAX);
            match pread(&file, rest, offset).map_err(|error| Failure::refused(STEP, error))? {
                0 => break,
                count => filled += count,
            }
        }
        let text = bytes.get(..filled).unwrap_or_default();
        Self::parse(&String::from_utf8_lossy(text))
            .ok_or_else(|| Failure::refused(STEP, "the status file lacks a line"))
    }

    /// Takes the lines out of a status file; nothing if one is missing or malformed.
    fn parse(text: &str) -> Option<Self> {
        let line = |name: &str| {
            let mut lines = text.lines();
            lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
        };
        let ids = |name| -> Option<[u32; 4]> {
            let parts: Option<Vec<u32>> =
                line(name)?.split_whitespace().map(|part| part.parse().ok()).collect();
            parts?.try_into().ok()
        };
        let set = |name| u64::from_str_radix(line(name)?, 16).ok();
        Some(Self {
            uid: ids("Uid")?,
            gid: ids("Gid")?,
            groups: line("Groups")?
                .split_whitespace()
                .map(|group| group.parse().ok())
                .collect::<Option<_>>()?,
            threads: line("Threads")?.parse().ok()?,
            capabilities: [set("CapInh")?, set("CapPrm")?, set("CapEff")?, set("CapAmb")?],
            bounding: set("CapBnd")?,
            no_new_privs: line("NoNewPrivs")? == "1",
            seccomp: line("Seccomp")?.parse().ok()?,
            filters: line("Seccomp_filters").and_then(|count| count.parse().ok()),
            tracer: line("TracerPid")?.parse().ok()?,
            descriptors: line("FDSize")?.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "Name:\tx\nTracerPid:\t9\nFDSize:\t64\nUid:\t1001\t1001\t1001\t1001\nGid:\t7\t7\t7\t8\nGroups:\t4 5 \nThreads:\t3\n\
        CapInh:\t0000000000000000\nCapPrm:\t0000000000000001\nCapEff:\t0000000000000002\n\
        CapBnd:\t000001ffffffffff\nCapAmb:\t0000000000000004\nNoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t9\n";

    #[test]
    fn what_a_process_uses_is_read_behind_its_name_whatever_that_is() {
        let line =
            "7 (a) R 1 (b) S 1 7 7 0 -1 4194560 90 0 1 0 250 31 0 0 20 0 5 0 8814 12345678 321 184467 0 0";
        let usage = Usage { ticks: 281, threads: 5, virtual_bytes: 12_345_678, resident_pages: 321 };
        assert_eq!(Usage::parse(line), Some(usage));
        for bad in ["", "7 (a) S 1", "7 a S 1 7", &line.replace("12345678", "-1")] {
            assert_eq!(Usage::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_lines_of_a_status_file_are_read() {
        let found = Status::parse(TEXT).unwrap();
        let expected = Status {
            uid: [1001; 4],
            gid: [7, 7, 7, 8],
            groups: vec![4, 5],
            threads: 3,
            capabilities: [0, 1, 2, 4],
            bounding: 0x1ff_ffff_ffff,
            no_new_privs: true,
            seccomp: 2,
            filters: Some(9),
            tracer: 9,
            descriptors: 64,
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn a_status_file_of_a_user_with_every_group_is_read_to_its_end() {
        let groups: String =
            (4_294_900_000..4_294_900_000_u32 + 65_536).map(|group| format!("{group} ")).collect();
        let text = TEXT.replace("4 5 \n", &format!("{groups}\n"));
        assert!(text.len() < PROC_STATUS_MAX_BYTES && text.len() > 64 * PROC_STATUS_USUAL_BYTES);
        let path = std::env::temp_dir().join(format!("quantonium-status-{}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        let found = Status::read(File::open(&path).unwrap()).unwrap();
        std::fs::remove_file(path).unwrap();
        assert_eq!((found.groups.len(), found.seccomp), (65_536, 2));
    }

    #[test]
    fn a_status_file_without_one_of_the_lines_confirms_nothing() {
        for name in [
            "Uid",
            "Gid",
            "Groups",
            "Threads",
            "CapInh",
            "CapPrm",
            "CapEff",
            "CapBnd",
            "CapAmb",
            "NoNew",
            "Seccomp:",
            "TracerPid",
            "FDSize",
        ] {
            let text: String =
                TEXT.lines().filter(|line| !line.starts_with(name)).map(|line| format!("{line}\n")).collect();
            assert_eq!(Status::parse(&text), None, "{name}");
        }
        assert_eq!(Status::parse(""), None);
        assert_eq!(Status::parse(&TEXT.replace("\t1001\t1001\n", "\t1001\n")), None);
    }

    #[test]
    fn the_kernel_reports_this_process() {
        let witness = Witness::open().unwrap();
        let status = witness.status().unwrap();
        assert_eq!(status.uid[1], nix::unistd::geteuid().as_raw());
        assert!(status.threads > 1, "test threads are never alone");
    }

    #[test]
    fn threads_without_a_filter_are_found() {
        let mut witness = Witness::open().unwrap();
        let failure = witness.confirm_threads(&[], 1).unwrap_err();
        assert!(matches!(failure, Failure::Unconfirmed { what: "number of other threads", .. }), "{failure}");
        // Other tests' threads come and go.
        let others = witness.other_threads(1).unwrap();
        let failure = witness.confirm_threads(&others, others.len()).unwrap_err();
        assert!(matches!(failure, Failure::Unconfirmed { .. }), "{failure}");
        assert!(witness.confirm_main().is_err());
    }
}
