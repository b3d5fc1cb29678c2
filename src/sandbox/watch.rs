//! What of the kernel's files about this process stays open, so that it can be asked again after the lock-down.
//!
//! Owns [`Watch`] and [`Baseline`], what was true at the start. Invariants: the files are opened before anything is given
//! up, have numbers of their own, which the main thread's filter knows, and are read by `pread64` alone; what is compared
//! was confirmed by the lock-down, so that nothing becomes right by having been wrong for long.

use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::FileExt as _;

use super::mappings::Executables;
use super::verify::{FILTERED, Status};
use super::{Failure, descriptors, left_out};
use crate::limits::{
    FD_WATCH_FIRST_NUMBER, FD_WATCH_LAST_NUMBER, FD_WATCH_MAPS_NUMBER, FD_WATCH_THREAD_NUMBER,
};
use crate::model::Step;

const STEP: &str = "files to watch";

/// The kernel's files, held open. To be made by the main thread.
#[derive(Debug)]
pub struct Watch {
    /// Nothing if the program may be executed and not read.
    program: Option<File>,
    maps: File,
    /// What holds the numbers of other threads' status files until they are kept.
    held: Vec<OwnedFd>,
    threads: Vec<File>,
    /// What keeps the number of a program that is not open.
    _silence: Option<OwnedFd>,
}

/// What was confirmed at the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Baseline {
    /// The main thread's status.
    pub main: Status,
    /// What is executable.
    pub executables: Executables,
}

impl Watch {
    /// Opens the files, and holds the numbers of those that are opened later.
    ///
    /// # Errors
    /// If `/proc` is not there, or a number is taken.
    pub fn open() -> Result<Self, Failure> {
        let refused = |error: &dyn core::fmt::Display| Failure::refused(STEP, error);
        let place = |file: File, number: i32| {
            descriptors::place(file.into(), number, number).map(File::from).map_err(|error| refused(&error))
        };
        let hold = |number: i32| descriptors::hold(number).map_err(|error| refused(&error));
        let program = File::open("/proc/self/exe").ok();
        let program = program.map(|file| place(file, FD_WATCH_FIRST_NUMBER)).transpose()?;
        let silence = program.is_none().then(|| hold(FD_WATCH_FIRST_NUMBER)).transpose()?;
        let maps = File::open("/proc/self/maps").map_err(|error| refused(&error))?;
        let maps = place(maps, FD_WATCH_MAPS_NUMBER)?;
        let held: Result<Vec<OwnedFd>, Failure> =
            (FD_WATCH_THREAD_NUMBER..=FD_WATCH_LAST_NUMBER).map(hold).collect();
        Ok(Self { program, maps, held: held?, threads: Vec::new(), _silence: silence })
    }

    /// How many status files of other threads can be kept.
    #[must_use]
    pub fn places(&self) -> usize {
        self.held.len()
    }

    /// Keeps the status files of other threads, as many as there are places. Before the main thread enters its filter.
    ///
    /// # Errors
    /// If the system's limit is reached.
    pub fn keep_threads(&mut self, statuses: Vec<OwnedFd>) -> Result<(), Failure> {
        for status in statuses {
            let Some(place) = self.held.first_mut() else { break };
            // Held until it is another's: to drop it would close the number, which the filter of the process forbids.
            descriptors::replace(status.as_fd(), place).map_err(|error| Failure::refused(STEP, error))?;
            self.threads.push(self.held.remove(0).into());
        }
        Ok(())
    }

    /// Whether the program can be read.
    #[must_use]
    pub const fn has_program(&self) -> bool {
        self.program.is_some()
    }

    /// Reads from the program's file; 0 at its end, and if there is none.
    ///
    /// # Errors
    /// What the system refuses.
    pub fn read_program(&self, offset: u64, into: &mut [u8]) -> Result<usize, Failure> {
        let Some(program) = &self.program else { return Ok(0) };
        program.read_at(into, offset).map_err(|error| Failure::refused("the program's file", error))
    }

    /// What holds now: to be compared with from now on. After the last lock-down of the main thread.
    ///
    /// # Errors
    /// What is not as the lock-down should have left it.
    pub fn baseline(&self, main: Status) -> Result<Baseline, Failure> {
        let baseline = Baseline { executables: Executables::read(&self.maps)?, main };
        self.confirm_privileges(&baseline, &baseline.main)?;
        Ok(baseline)
    }

    /// Fails unless memory is executable exactly where it was, and nowhere writable and executable.
    ///
    /// # Errors
    /// What is otherwise.
    pub fn confirm_mappings(&self, baseline: &Baseline) -> Result<(), Failure> {
        baseline.executables.confirm(&self.maps)
    }

    /// Fails unless `main` and the other threads that are kept have the rights that they had.
    ///
    /// # Errors
    /// What is otherwise.
    pub fn confirm_privileges(&self, baseline: &Baseline, main: &Status) -> Result<(), Failure> {
        Failure::unless_equal("number of threads", &baseline.main.threads, &main.threads)?;
        confirm(&baseline.main, main)?;
        self.threads.iter().try_for_each(|thread| confirm(&baseline.main, &Status::read(thread)?))
    }

    /// The process that traces the main thread, or another one that is kept; 0 for none.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn tracer(&self, main: &Status) -> Result<u64, Failure> {
        for thread in &self.threads {
            let tracer = Status::read(thread)?.tracer;
            if main.tracer == 0 && tracer != 0 {
                return Ok(tracer);
            }
        }
        Ok(main.tracer)
    }
}

/// Fails unless a thread has no rights, and the same identity as at the start.
fn confirm(start: &Status, found: &Status) -> Result<(), Failure> {
    let filtered = Failure::unless_equal("seccomp mode", &FILTERED, &found.seccomp);
    left_out::tolerate(Step::Seccomp, filtered)?;
    let counted = Failure::unless_equal("number of filters", &start.filters, &found.filters);
    left_out::tolerate(Step::Seccomp, counted)?;
    let confined = Failure::unless_equal("no_new_privs", &true, &found.no_new_privs);
    left_out::tolerate(Step::NoNewPrivs, confined)?;
    let empty = Failure::unless_equal("capability sets", &[0; 4], &found.capabilities);
    left_out::tolerate(Step::CapabilitySets, empty)?;
    Failure::unless_equal("capability bounding set", &start.bounding, &found.bounding)?;
    Failure::unless_equal("user ids", &start.uid, &found.uid)?;
    Failure::unless_equal("group ids", &start.gid, &found.gid)?;
    Failure::unless_equal("further groups", &start.groups, &found.groups)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> Status {
        Status {
            uid: [1001; 4],
            gid: [1001; 4],
            groups: vec![7],
            threads: 5,
            capabilities: [0; 4],
            bounding: 0,
            no_new_privs: true,
            seccomp: FILTERED,
            filters: Some(2),
            tracer: 0,
            descriptors: 1024,
        }
    }

    #[test]
    fn each_right_that_a_thread_has_not_had_is_found() {
        let start = status();
        confirm(&start, &Status { threads: 9, descriptors: 2048, tracer: 4, ..status() }).unwrap();
        type Change = (&'static str, fn(&mut Status));
        let changes: [Change; 11] = [
            ("seccomp mode", |status| status.seccomp = 0),
            ("number of filters", |status| status.filters = Some(1)),
            ("no_new_privs", |status| status.no_new_privs = false),
            ("capability sets", |status| status.capabilities[0] = 1),
            ("capability sets", |status| status.capabilities[2] = 1 << 21),
            ("capability sets", |status| status.capabilities[3] = 1),
            ("capability bounding set", |status| status.bounding = 1),
            ("user ids", |status| status.uid[1] = 0),
            ("user ids", |status| status.uid[2] = 0),
            ("group ids", |status| status.gid[3] = 0),
            ("further groups", |status| status.groups.clear()),
        ];
        for (what, change) in changes {
            let mut found = status();
            change(&mut found);
            let told = confirm(&start, &found).unwrap_err().to_string();
            assert!(told.contains(what), "{what}: {told}");
        }
    }
}
