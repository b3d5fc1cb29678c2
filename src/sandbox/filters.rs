//! The seccomp filters as BPF, compiled by `build.rs` from `seccomp/<arch>.json` and `seccomp/process.json`.
//!
//! Owns the instructions. Invariant: the descriptor numbers in the JSON are those of `limits`, the filters of
//! all architectures hold the same rules, and every rule names its caller; the tests here hold all three.

use seccompiler::sock_filter;

use super::seccomp::Role;

include!(concat!(env!("OUT_DIR"), "/filters.rs"));

/// The filter of a role.
pub(super) const fn program(role: Role) -> &'static [sock_filter] {
    match role {
        Role::Worker => &WORKER,
        Role::Keeper => &KEEPER,
        Role::Archivist => &ARCHIVIST,
        Role::Main => &MAIN,
    }
}

/// The filter that every thread has beside that of its role.
pub(super) const fn of_process() -> &'static [sock_filter] {
    &PROCESS
}

/// The only filter of the process that speaks to etcd.
pub(super) const fn of_broker() -> &'static [sock_filter] {
    &BROKER
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use serde_json::Value;

    use super::*;
    use crate::limits;

    const X86_64: &str = include_str!("../../seccomp/x86_64.json");
    const AARCH64: &str = include_str!("../../seccomp/aarch64.json");
    const PROCESS: &str = include_str!("../../seccomp/process.json");

    /// The rules for one call in a list of them.
    fn rules_for<'a>(rules: &'a Value, call: &str) -> Vec<&'a Value> {
        rules.as_array().unwrap().iter().filter(|rule| rule["syscall"] == call).collect()
    }

    /// The conditions of a rule, without their words.
    fn compared(rule: &Value) -> BTreeSet<String> {
        let all = rule.get("args").and_then(Value::as_array).into_iter().flatten();
        all.map(|one| format!("{} {} {} {}", one["index"], one["type"], one["op"], one["val"])).collect()
    }

    #[test]
    fn the_filter_of_the_process_lets_through_what_a_role_may_call() {
        let process: Value = serde_json::from_str(PROCESS).unwrap();
        let roles: Value = serde_json::from_str(X86_64).unwrap();
        for role in Role::ALL {
            for rule in roles[role.name()]["filter"].as_array().unwrap() {
                let call = rule["syscall"].as_str().unwrap();
                let wider = rules_for(&process["everywhere"], call);
                assert!(
                    wider.iter().any(|wider| compared(wider).is_subset(&compared(rule))),
                    "{}: {call}",
                    role.name()
                );
            }
        }
    }

    /// The calls whose first argument is a descriptor.
    const ON_DESCRIPTORS: [&str; 22] = [
        "accept4",
        "close",
        "dup3",
        "epoll_ctl",
        "epoll_pwait",
        "fallocate",
        "fdatasync",
        "fstatfs",
        "fsync",
        "ftruncate",
        "getsockopt",
        "openat",
        "pread64",
        "read",
        "recvfrom",
        "renameat2",
        "sendto",
        "setsockopt",
        "shutdown",
        "unlinkat",
        "write",
        "writev",
    ];

    fn rules(json: &str, role: Role) -> Vec<Value> {
        let filters: Value = serde_json::from_str(json).unwrap();
        assert_eq!(filters.as_object().unwrap().len(), Role::ALL.len());
        filters[role.name()]["filter"].as_array().unwrap().clone()
    }

    fn text<'a>(value: &'a Value, member: &str) -> &'a str {
        value[member].as_str().unwrap_or_else(|| panic!("no {member} in {value}"))
    }

    fn conditions(rule: &Value) -> &[Value] {
        rule["args"].as_array().map_or(&[], Vec::as_slice)
    }

    fn descriptor(name: &str) -> Option<i32> {
        Some(match name {
            "STDOUT_FILENO" => 1,
            "STDERR_FILENO" => 2,
            "FD_JOURNAL_NUMBER" => limits::FD_JOURNAL_NUMBER,
            "FD_JOURNAL_NEXT_NUMBER" => limits::FD_JOURNAL_NEXT_NUMBER,
            "FD_DATA_DIRECTORY_NUMBER" => limits::FD_DATA_DIRECTORY_NUMBER,
            "FD_AUDIT_DIRECTORY_NUMBER" => limits::FD_AUDIT_DIRECTORY_NUMBER,
            "FD_ARCHIVE_SOURCE_NUMBER" => limits::FD_ARCHIVE_SOURCE_NUMBER,
            "FD_ARCHIVE_TARGET_NUMBER" => limits::FD_ARCHIVE_TARGET_NUMBER,
            "FD_ARCHIVE_SILENCE_NUMBER" => limits::FD_ARCHIVE_SILENCE_NUMBER,
            "FD_SIGNAL_NUMBER" => limits::FD_SIGNAL_NUMBER,
            "FD_OWN_FIRST_NUMBER" => limits::FD_OWN_FIRST_NUMBER,
            "FD_OWN_LAST_NUMBER" => limits::FD_OWN_LAST_NUMBER,
            "FD_AUDIT_FIRST_NUMBER" => limits::FD_AUDIT_FIRST_NUMBER,
            "FD_AUDIT_NEXT_LAST_NUMBER" => limits::FD_AUDIT_NEXT_LAST_NUMBER,
            "FD_EPOLL_FIRST_NUMBER" => limits::FD_EPOLL_FIRST_NUMBER,
            "FD_EPOLL_LAST_NUMBER" => limits::FD_EPOLL_LAST_NUMBER,
            "FD_EVENT_FIRST_NUMBER" => limits::FD_EVENT_FIRST_NUMBER,
            "FD_EVENT_LAST_NUMBER" => limits::FD_EVENT_LAST_NUMBER,
            "FD_LISTENER_FIRST_NUMBER" => limits::FD_LISTENER_FIRST_NUMBER,
            "FD_LISTENER_LAST_NUMBER" => limits::FD_LISTENER_LAST_NUMBER,
            "FD_NOTIFY_NUMBER" => limits::FD_NOTIFY_NUMBER,
            "FD_TLS_DIRECTORY_FIRST_NUMBER" => limits::FD_TLS_DIRECTORY_FIRST_NUMBER,
            "FD_TLS_DIRECTORY_LAST_NUMBER" => limits::FD_TLS_DIRECTORY_LAST_NUMBER,
            "FD_TLS_FILE_NUMBER" => limits::FD_TLS_FILE_NUMBER,
            "FD_TLS_SILENCE_NUMBER" => limits::FD_TLS_SILENCE_NUMBER,
            "FD_WATCH_FIRST_NUMBER" => limits::FD_WATCH_FIRST_NUMBER,
            "FD_WATCH_LAST_NUMBER" => limits::FD_WATCH_LAST_NUMBER,
            "FD_CONNECTION_FIRST_NUMBER" => limits::FD_CONNECTION_FIRST_NUMBER,
            _ => return None,
        })
    }

    #[test]
    fn every_filter_kills_by_default_and_every_rule_names_its_caller() {
        for json in [X86_64, AARCH64] {
            let filters: Value = serde_json::from_str(json).unwrap();
            for role in Role::ALL {
                assert_eq!(text(&filters[role.name()], "mismatch_action"), "kill_process");
                assert_eq!(text(&filters[role.name()], "match_action"), "allow");
                for rule in rules(json, role) {
                    assert!(text(&rule, "comment").len() > 10, "{rule}");
                    assert!(conditions(&rule).iter().all(|one| !text(one, "comment").is_empty()), "{rule}");
                }
            }
        }
    }

    #[test]
    fn descriptor_numbers_in_the_filters_are_those_of_limits() {
        for (json, role) in [X86_64, AARCH64].into_iter().flat_map(|json| Role::ALL.map(|role| (json, role)))
        {
            for rule in rules(json, role) {
                let call = text(&rule, "syscall");
                let mut on_first_argument = 0;
                for condition in conditions(&rule) {
                    let name = text(condition, "comment");
                    let first = condition["index"] == 0 && ON_DESCRIPTORS.contains(&call);
                    let second = condition["index"] == 2 && ["epoll_ctl", "renameat2"].contains(&call);
                    let replaced = condition["index"] == 1 && call == "dup3";
                    if first || second || replaced {
                        assert_eq!(condition["val"].as_i64(), descriptor(name).map(i64::from), "{rule}");
                        let last = ["_LAST_", "_NEXT_", "_TARGET_"].iter().any(|word| name.contains(word));
                        let end = if last { "le" } else { "ge" };
                        assert!(["eq", end].contains(&text(condition, "op")), "{rule}");
                        on_first_argument += usize::from(first);
                    } else {
                        assert_eq!(descriptor(name), None, "{rule}");
                    }
                }
                assert!(!ON_DESCRIPTORS.contains(&call) || on_first_argument > 0, "any descriptor: {rule}");
            }
        }
    }

    #[test]
    fn both_architectures_allow_the_same() {
        for role in Role::ALL {
            let set = |json, large: u64| -> BTreeSet<String> {
                let mut rules = rules(json, role);
                for condition in
                    rules.iter_mut().filter_map(|rule| rule.get_mut("args")?.as_array_mut()).flatten()
                {
                    // The one flag that has another number on each, where the other one's does not stand beside it.
                    let flags = text(condition, "comment");
                    if flags.contains("O_LARGEFILE") && !flags.contains("O_NOFOLLOW") {
                        let others = condition["val"].as_u64().unwrap() ^ large;
                        condition["val"] = others.into();
                    }
                }
                rules.iter().map(Value::to_string).collect()
            };
            assert_eq!(set(X86_64, 0o100_000), set(AARCH64, 0o400_000), "{}", role.name());
        }
    }

    #[test]
    fn the_number_of_allowed_calls_stays_as_promised() {
        let (mut union, mut without_files) = (BTreeMap::new(), BTreeSet::new());
        for role in Role::ALL {
            let mut calls = BTreeMap::new();
            for rule in rules(X86_64, role) {
                let checked = !conditions(&rule).is_empty();
                calls.insert(text(&rule, "syscall").to_owned(), checked);
            }
            let checked = calls.values().filter(|checked| **checked).count();
            println!("{}: {} calls, {checked} with checked arguments", role.name(), calls.len());
            // One alone, the end of the process, has nothing to check.
            assert!(calls.len() <= 14 && checked + 1 == calls.len());
            if role != Role::Archivist {
                without_files.extend(calls.keys().cloned());
            }
            union.append(&mut calls);
        }
        println!("all threads: {} calls; without the archivist: {}", union.len(), without_files.len());
        assert!(union.len() <= 25 && without_files.len() <= 21);
        for on_memory in ["mmap", "mremap", "munmap", "brk", "mprotect", "madvise", "mlock", "memfd_create"] {
            assert!(!union.contains_key(on_memory), "{on_memory}: the heap is closed");
        }
    }

    #[test]
    fn the_embedded_programs_are_within_the_bounds_of_the_kernel_and_end_in_a_kill() {
        for role in Role::ALL {
            let program = program(role);
            println!("{}: {} instructions", role.name(), program.len());
            assert!(program.len() <= 4096);
            // BPF_RET | BPF_K with SECCOMP_RET_KILL_PROCESS.
            let last = program.last().unwrap();
            assert_eq!((last.code, last.k), (0x06, 0x8000_0000));
        }
    }
}
