//! The seccomp profile of container engines, and what else a runtime is told, in the forms of Docker and of the OCI.
//!
//! Owns the calls that a runtime makes between its filter and our first instruction. Invariants: the profile is for a start
//! with `--sandbox container`: no call that makes or enters a namespace, mounts, or changes the root is in it; what it
//! does not name is answered with ENOSYS, as by a kernel that does not know it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::startup;
use crate::sandbox::{UNPRIVILEGED_ID, rules};

/// What `runc` and `crun` call after they have entered the profile and before they execute the program: less with
/// `no-new-privileges`, since they enter it later then. Seen under a tracer, with what the runtime of Go may add.
const OF_RUNTIMES: [&str; 27] = [
    "capget",
    "capset",
    "chdir",
    "clone3",
    "close_range",
    "faccessat2",
    "fchdir",
    "fstatfs",
    "getgid",
    "getuid",
    "madvise",
    "mkdir",
    "nanosleep",
    "newfstatat",
    "rt_sigreturn",
    "sched_yield",
    "set_robust_list",
    "setgid",
    "setgroups",
    "setresgid",
    "setresuid",
    "setuid",
    "statx",
    "tgkill",
    "uname",
    "readlinkat",
    "getpid",
];
/// Calls that are not simply allowed: see [`limited`].
const LIMITED: [&str; 3] = ["clone", "clone3", "socket"];
/// Every flag of `clone` that makes a namespace (`linux/sched.h`).
const NAMESPACE_FLAGS: u32 = 0x7e02_0000;
/// `ENOSYS`.
const NOT_IMPLEMENTED: u32 = 38;
/// `AF_UNIX`, `AF_INET` and `AF_INET6`.
const FAMILIES: [u32; 3] = [1, 2, 10];
const USAGE: &str = "Made by `quantonium sandbox profile docker`. Use it beside the program's own filters, which are narrower: \
    docker run --security-opt seccomp=docker-seccomp.json --security-opt no-new-privileges --cap-drop ALL --read-only --user \
    1001:1001 ... quantonium serve --sandbox container. podman takes the same; for Kubernetes put it below \
    /var/lib/kubelet/seccomp/profiles and name it as localhostProfile";
const BUNDLE_USAGE: &str = "Made by `quantonium sandbox profile oci`: merge it into the config.json of a bundle whose rootfs holds \
    /quantonium and empty directories /proc, /data and /run/secrets; runc run -b BUNDLE quantonium";
/// Which kernel gives what, for those who read either file.
const KERNELS: &str = "Linux 6.12 or newer gives every step of the lock-down whole; an older one gives less of Landlock, or of key \
    memory, which is told as partial and served; without any Landlock (before 5.13), or where no memory may be locked, add \
    --sandbox-allow-missing landlock or --sandbox-allow-missing key-memory";

/// Everything that the program calls, in a start, in a command, or as a thread that serves.
pub(super) fn calls() -> BTreeSet<&'static str> {
    let listed = startup::CALLS.iter().chain(&startup::ELSEWHERE).map(|(call, _)| *call);
    listed.chain(rules::union().into_keys()).collect()
}

/// The rules of the profile, in the members that both forms share.
fn syscalls() -> Vec<Value> {
    let mut names = calls();
    names.extend(OF_RUNTIMES);
    names.retain(|call| !LIMITED.contains(call));
    let mut rules = vec![json!({"names": names, "action": "SCMP_ACT_ALLOW"})];
    rules.extend(limited());
    rules
}

/// Threads, but no namespaces; sockets of three families alone. What `clone3` is asked for lies in memory, where no filter can
/// look: without it, libraries use `clone`.
fn limited() -> Vec<Value> {
    let condition = |value: u32, operator: &str, second: u32| json!({"index": 0, "value": value, "valueTwo": second, "op": operator});
    let mut rules = vec![json!({
        "names": ["clone"],
        "action": "SCMP_ACT_ALLOW",
        "args": [condition(NAMESPACE_FLAGS, "SCMP_CMP_MASKED_EQ", 0)],
    })];
    rules.extend(FAMILIES.map(|family| {
        json!({"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [condition(family, "SCMP_CMP_EQ", 0)]})
    }));
    rules
}

/// The file for `--security-opt seccomp=`.
pub(super) fn docker() -> String {
    let mut rules = syscalls();
    if let Some(members) = rules.first_mut().and_then(Value::as_object_mut) {
        members.insert("comment".to_owned(), format!("{USAGE}. {KERNELS}").into());
    }
    let architecture = |name: &str| json!({"architecture": name, "subArchitectures": []});
    let profile = json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": NOT_IMPLEMENTED,
        "archMap": [architecture("SCMP_ARCH_X86_64"), architecture("SCMP_ARCH_AARCH64")],
        "syscalls": rules,
    });
    format!("{profile:#}\n")
}

/// What a `config.json` of the OCI runtime specification should hold; to be merged into one that names root and mounts.
pub(super) fn runtime() -> String {
    let mut mounts = vec![
        json!({"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]}),
    ];
    mounts.push(json!({
        "destination": "/data", "type": "bind", "source": "/var/lib/quantonium", "options": ["bind", "nosuid", "noexec", "nodev"],
    }));
    mounts.push(json!({
        "destination": "/run/secrets", "type": "bind", "source": "/etc/quantonium",
        "options": ["bind", "ro", "nosuid", "noexec", "nodev"],
    }));
    let namespaces: Vec<Value> =
        ["pid", "network", "ipc", "uts", "mount", "cgroup"].map(|kind| json!({"type": kind})).to_vec();
    let nothing = json!([]);
    let usage = format!("{BUNDLE_USAGE}. {KERNELS}");
    let config = json!({
        "ociVersion": "1.0.2",
        "annotations": {
            "org.quantonium.usage": usage,
        },
        "process": {
            "terminal": false,
            "user": {"uid": UNPRIVILEGED_ID, "gid": UNPRIVILEGED_ID},
            "args": ["/quantonium", "serve", "--init", "--sandbox", "container"],
            "env": [
                "QUANTONIUM_DATA_DIR=/data",
                "QUANTONIUM_MASTER_KEY_FILE=/run/secrets/master.key",
                "QUANTONIUM_LISTEN=0.0.0.0:8080",
                "QUANTONIUM_INSECURE_HTTP=true",
            ],
            "cwd": "/",
            "noNewPrivileges": true,
            "capabilities": {
                "bounding": nothing, "effective": nothing, "inheritable": nothing, "permitted": nothing, "ambient": nothing,
            },
            "rlimits": [{"type": "RLIMIT_CORE", "hard": 0, "soft": 0}],
        },
        "root": {"path": "rootfs", "readonly": true},
        "mounts": mounts,
        "linux": {
            "namespaces": namespaces,
            "resources": {"devices": [{"allow": false, "access": "rwm"}], "pids": {"limit": 64}},
            "maskedPaths": ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/sched_debug", "/proc/scsi", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
            "seccomp": {
                "defaultAction": "SCMP_ACT_ERRNO",
                "defaultErrnoRet": NOT_IMPLEMENTED,
                "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"],
                "syscalls": syscalls(),
            },
        },
    });
    format!("{config:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_thread_may_call_is_in_the_profile_and_no_way_out_is() {
        let rules = syscalls();
        let named = |call: &str| {
            rules.iter().any(|rule| rule["names"].as_array().unwrap().iter().any(|name| name == call))
        };
        for call in rules::union().into_keys() {
            assert!(named(call), "{call}");
        }
        // A container runtime goes to the working directory itself.
        let own = startup::NAMESPACES.iter().map(|(call, _)| *call).filter(|call| !call.ends_with("chdir"));
        for call in own.chain(["setns", "chroot", "ptrace", "bpf", "keyctl", "io_uring_setup"]) {
            assert!(!named(call), "{call}");
        }
        assert!(!named("clone3"), "what it is asked for lies in memory");
    }
}
