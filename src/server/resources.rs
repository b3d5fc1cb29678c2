//! What the system gives this process beside memory: processors and threads.
//!
//! Owns the niceness, and the check that every thread can be started. Invariants: both come before the first thread, which
//! all others take after; a limit that holds is told in the log.

use rustix::process::{getpriority_process, setpriority_process};

use crate::config::{Config, ControlGroups};
use crate::limits::THREADS_BESIDE_WORKERS_COUNT;
use crate::log::{self, Module};
use crate::server::error::ServerError;

/// Steps back as far as the settings say, and fails if not every thread can be started.
pub(super) fn prepare(config: &Config, groups: &ControlGroups) -> Result<(), ServerError> {
    let limits = [
        ("bytes of memory", groups.memory_bytes),
        ("processors", groups.processors),
        ("more tasks", groups.tasks_left),
    ];
    for (what, limit) in limits.into_iter().filter_map(|(what, limit)| Some((what, limit?))) {
        log::info(Module::Server, format_args!("the control group allows {limit} {what}"));
    }
    check_tasks(config.workers, groups.tasks_left)?;
    step_back(i32::from(config.niceness))
}

/// Fails unless so many workers and the other threads can be started; the main thread is there.
fn check_tasks(workers: usize, left: Option<u64>) -> Result<(), ServerError> {
    let needed = workers + THREADS_BESIDE_WORKERS_COUNT - 1;
    match left {
        Some(left) if left < needed as u64 => Err(ServerError::config(format!(
            "the control group allows {left} more tasks (pids.max), and {needed} are needed for {workers} workers: \
             raise it or give a lower --workers"
        ))),
        _ => Ok(()),
    }
}

/// Sets the niceness of the calling thread, which those that it starts take over. One that is nicer already stays so: to go
/// back needs a privilege.
fn step_back(niceness: i32) -> Result<(), ServerError> {
    let failed = |error: rustix::io::Errno| ServerError::config(format!("--niceness {niceness}: {error}"));
    if niceness == 0 || getpriority_process(None).map_err(failed)? >= niceness {
        return Ok(());
    }
    setpriority_process(None, niceness).map_err(failed)?;
    let found = getpriority_process(None).map_err(failed)?;
    if found == niceness {
        return Ok(());
    }
    Err(ServerError::config(format!("--niceness {niceness}: the kernel reports {found}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_thread_has_its_task_or_the_start_says_what_to_do() {
        assert!(check_tasks(4, None).is_ok());
        assert!(check_tasks(4, Some(6)).is_ok(), "four workers, the keeper and the archivist");
        let told = check_tasks(4, Some(5)).unwrap_err().to_string();
        assert!(told.contains("allows 5 more tasks (pids.max), and 6 are needed for 4 workers"), "{told}");
    }

    #[test]
    fn a_thread_steps_back_and_never_forward() {
        // The kernel keeps the niceness of each thread: this one ends with the test.
        std::thread::spawn(|| {
            let before = getpriority_process(None).unwrap();
            step_back(0).unwrap();
            assert_eq!(getpriority_process(None).unwrap(), before);
            step_back(19).unwrap();
            assert_eq!(getpriority_process(None).unwrap(), 19);
            step_back(1).unwrap();
            assert_eq!(getpriority_process(None).unwrap(), 19);
        })
        .join()
        .unwrap();
    }
}
