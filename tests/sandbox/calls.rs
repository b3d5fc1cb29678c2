//! The system calls that are tried, as rows.
//!
//! Arguments are chosen so that an unfiltered call fails or does nothing: bad pointers, closed descriptors,
//! impossible flags. The filters decide before the kernel looks at any of that.

#![allow(
    unsafe_code,
    reason = "system calls by number: the point of this test; the only unsafe block of the tests here"
)]

#[path = "archivist.rs"]
mod archivist;
#[path = "broker.rs"]
mod broker;

pub(crate) use broker::{break_out_of_broker, connect_as_broker, forbidden_to_broker};

use archivist::{allowed_to_archivist, never_but_by_archivist, never_by_archivist};
use nix::libc;
use quantonium::limits;
use quantonium::sandbox::seccomp::Role;

/// A system call, its arguments, and a name for it that is unique within its role.
pub(crate) struct Call {
    pub(crate) name: String,
    number: libc::c_long,
    arguments: [libc::c_long; 6],
}

impl Call {
    /// Makes the call; returns what the kernel returned, or its negative error.
    pub(crate) fn make(&self) -> libc::c_long {
        let [a, b, c, d, e, f] = self.arguments;
        // SAFETY: every row passes null or the address of a static or leaked buffer that is large enough for
        // what the call writes, and no row maps, unmaps or protects memory that Rust knows of.
        let result = unsafe { libc::syscall(self.number, a, b, c, d, e, f) };
        if result == -1 { -libc::c_long::from(nix::errno::Errno::last_raw()) } else { result }
    }
}

fn call(name: &str, number: libc::c_long, arguments: &[i64]) -> Call {
    let mut all = [0; 6];
    all[..arguments.len()].copy_from_slice(arguments);
    Call { name: name.replace(' ', "_"), number, arguments: all }
}

/// On descriptor `fd`, further arguments after it.
fn on(name: &str, number: libc::c_long, fd: i32, rest: &[i64]) -> Call {
    let mut all = vec![i64::from(fd)];
    all.extend_from_slice(rest);
    call(&format!("{name} on {fd}"), number, &all)
}

/// The address of a scratch buffer that lives as long as the process.
fn buffer() -> i64 {
    let leaked: &'static mut [u64; 64] = Box::leak(Box::new([0; 64]));
    leaked.as_mut_ptr() as i64
}

/// The address of a path that may be opened.
fn path() -> i64 {
    c"/dev/null".as_ptr() as i64
}

const CLOSED_CONNECTION: i32 = 100_000;
const ACCEPT: i64 = (libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK) as i64;
const ADD: i64 = libc::EPOLL_CTL_ADD as i64;
const NOSIGNAL: i64 = libc::MSG_NOSIGNAL as i64;
const LINGER: i64 = libc::SO_LINGER as i64;
const PEERCRED: i64 = libc::SO_PEERCRED as i64;
const READ_WRITE: i64 = (libc::PROT_READ | libc::PROT_WRITE) as i64;
const ANONYMOUS: i64 = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as i64;
const KEEP_SIZE: i64 = libc::FALLOC_FL_KEEP_SIZE as i64;
const EXCHANGE: i64 = libc::RENAME_EXCHANGE as i64;
const PRIVATE_WAIT: i64 = (libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG) as i64;
const PRIVATE_WAKE: i64 = (libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG) as i64;
const PRIVATE_WAIT_BITSET: i64 = (libc::FUTEX_WAIT_BITSET | libc::FUTEX_PRIVATE_FLAG) as i64;

/// What no role may do, and what `role` may not.
pub(crate) fn forbidden(role: Role) -> Vec<Call> {
    let mut all = never();
    all.extend(never_on_memory());
    all.extend(match role {
        Role::Worker => never_by_worker(),
        Role::Keeper => never_by_keeper(),
        Role::Archivist => never_by_archivist(),
        Role::Main => never_by_main(),
    });
    all
}

fn never() -> Vec<Call> {
    let here = i64::from(libc::AT_FDCWD);
    let parent = i64::from(std::os::unix::process::parent_id());
    let mut all = vec![
        call("execve", libc::SYS_execve, &[0, 0, 0]),
        call("execveat", libc::SYS_execveat, &[-1, 0, 0, 0, 0]),
        call("clone", libc::SYS_clone, &[i64::from(libc::CLONE_THREAD)]),
        call("clone3", libc::SYS_clone3, &[0, 0]),
        call("ptrace", libc::SYS_ptrace, &[16, 0]),
        call("process_vm_readv", libc::SYS_process_vm_readv, &[0, 0, 0, 0, 0, 0]),
        call("process_vm_writev", libc::SYS_process_vm_writev, &[0, 0, 0, 0, 0, 0]),
        call("kill", libc::SYS_kill, &[parent, 0]),
        call("tgkill", libc::SYS_tgkill, &[parent, parent, 0]),
        call("pidfd_open", libc::SYS_pidfd_open, &[parent, 0]),
        call("socket", libc::SYS_socket, &[2, 1, 0]),
        call("socketpair", libc::SYS_socketpair, &[1, 1, 0, 0]),
        on("connect", libc::SYS_connect, CLOSED_CONNECTION, &[0, 0]),
        on("bind", libc::SYS_bind, CLOSED_CONNECTION, &[0, 0]),
        on("listen", libc::SYS_listen, CLOSED_CONNECTION, &[1]),
        on("sendmsg", libc::SYS_sendmsg, CLOSED_CONNECTION, &[0, 0]),
        on("recvmsg", libc::SYS_recvmsg, CLOSED_CONNECTION, &[0, 0]),
        on("setsockopt", libc::SYS_setsockopt, CLOSED_CONNECTION, &[1, 1, 0, 0]),
        on("getsockopt", libc::SYS_getsockopt, CLOSED_CONNECTION, &[1, 1, 0, 0]),
        call("openat for reading", libc::SYS_openat, &[here, path(), i64::from(libc::O_RDONLY)]),
        call("openat for writing", libc::SYS_openat, &[here, path(), i64::from(libc::O_WRONLY)]),
        call("openat2", libc::SYS_openat2, &[here, 0, 0, 0]),
        call("unlinkat", libc::SYS_unlinkat, &[here, 0, 0]),
        call("renameat2", libc::SYS_renameat2, &[here, 0, here, 0, 0]),
        call("mkdirat", libc::SYS_mkdirat, &[here, 0, 0]),
        call("fchmodat", libc::SYS_fchmodat, &[here, 0, 0]),
        call("fchownat", libc::SYS_fchownat, &[here, 0, 0, 0, 0]),
        call("linkat", libc::SYS_linkat, &[here, 0, here, 0, 0]),
        call("symlinkat", libc::SYS_symlinkat, &[0, here, 0]),
        call("statx", libc::SYS_statx, &[here, 0, 0, 0, 0]),
        on("getdents64", libc::SYS_getdents64, 3, &[0, 0]),
        on("fallocate", libc::SYS_fallocate, -1, &[1, 0, 1]),
        on("lseek", libc::SYS_lseek, -1, &[0, 0]),
        on("pwrite64", libc::SYS_pwrite64, -1, &[0, 0, 0]),
        on("writev", libc::SYS_writev, -1, &[0, 0]),
        on("readv", libc::SYS_readv, -1, &[0, 0]),
        call("sendfile", libc::SYS_sendfile, &[-1, -1, 0, 0]),
        call("splice", libc::SYS_splice, &[-1, 0, -1, 0, 0, 0]),
    ];
    all.extend(never_on_privileges());
    #[cfg(target_arch = "x86_64")]
    all.extend([
        call("open", libc::SYS_open, &[0, 0]),
        call("write of the x32 interface", libc::SYS_write | 0x4000_0000, &[2, 0, 0]),
        call("modify_ldt", libc::SYS_modify_ldt, &[-1, 0, 0]),
    ]);
    all
}

fn never_on_privileges() -> Vec<Call> {
    vec![
        call("mount", libc::SYS_mount, &[0, 0, 0, 0, 0]),
        call("umount2", libc::SYS_umount2, &[0, 0]),
        call("pivot_root", libc::SYS_pivot_root, &[0, 0]),
        call("chroot", libc::SYS_chroot, &[0]),
        call("unshare", libc::SYS_unshare, &[i64::from(libc::CLONE_NEWUSER)]),
        call("setns", libc::SYS_setns, &[-1, 0]),
        call("bpf", libc::SYS_bpf, &[-1, 0, 0]),
        call("io_uring_setup", libc::SYS_io_uring_setup, &[0, 0]),
        call("io_uring_enter", libc::SYS_io_uring_enter, &[-1, 0, 0, 0, 0, 0]),
        call("userfaultfd", libc::SYS_userfaultfd, &[-1]),
        call("perf_event_open", libc::SYS_perf_event_open, &[0, 0, -1, -1, 0]),
        call("memfd_create", libc::SYS_memfd_create, &[0, 0]),
        call("keyctl", libc::SYS_keyctl, &[-1]),
        call("add_key", libc::SYS_add_key, &[0, 0, 0, 0, 0]),
        call("init_module", libc::SYS_init_module, &[0, 0, 0]),
        call("kexec_load", libc::SYS_kexec_load, &[0, 0, 0, -1]),
        call("setresuid", libc::SYS_setresuid, &[-1, -1, -1]),
        call("setuid", libc::SYS_setuid, &[-1]),
        call("setresgid", libc::SYS_setresgid, &[-1, -1, -1]),
        call("setgroups", libc::SYS_setgroups, &[-1, 0]),
        call("capset", libc::SYS_capset, &[0, 0]),
        call("prctl", libc::SYS_prctl, &[i64::from(libc::PR_GET_DUMPABLE)]),
        call("seccomp", libc::SYS_seccomp, &[-1, 0, 0]),
        call("prlimit64", libc::SYS_prlimit64, &[0, -1, 0, 0]),
        call("dup", libc::SYS_dup, &[-1]),
        call("dup3", libc::SYS_dup3, &[-1, -1, 0]),
        on("fcntl", libc::SYS_fcntl, 2, &[i64::from(libc::F_GETFL)]),
        on("ioctl", libc::SYS_ioctl, 2, &[-1, 0]),
        call("pipe2", libc::SYS_pipe2, &[0, 0]),
        call("eventfd2", libc::SYS_eventfd2, &[0, -1]),
        call("epoll_create1", libc::SYS_epoll_create1, &[-1]),
        call("rt_sigaction", libc::SYS_rt_sigaction, &[-1, 0, 0, 8]),
        call("rt_sigprocmask", libc::SYS_rt_sigprocmask, &[0, 0, 0, 8]),
        call("nanosleep", libc::SYS_nanosleep, &[0, 0]),
        call("restart_syscall", libc::SYS_restart_syscall, &[]),
        call("clock_settime", libc::SYS_clock_settime, &[-1, 0]),
        call("clock_gettime of the processor", libc::SYS_clock_gettime, &[2, buffer()]),
        call("sigaltstack", libc::SYS_sigaltstack, &[0, 0]),
        call("sigaltstack that asks for the old one", libc::SYS_sigaltstack, &[0, buffer()]),
        call("reboot", libc::SYS_reboot, &[0, 0, 0, 0]),
        call("a number that is no call", 4_095, &[]),
    ]
}

fn never_on_memory() -> Vec<Call> {
    let page = 4_096;
    let (executable, fixed) = (i64::from(libc::PROT_EXEC), i64::from(libc::MAP_FIXED));
    let shared = i64::from(libc::MAP_SHARED | libc::MAP_ANONYMOUS);
    vec![
        call("mmap", libc::SYS_mmap, &[0, page, READ_WRITE, ANONYMOUS, -1, 0]),
        call("mmap unreadable", libc::SYS_mmap, &[0, page, 0, ANONYMOUS, -1, 0]),
        call("mremap", libc::SYS_mremap, &[0, 0, 0, 0, 0]),
        call("mremap that may move", libc::SYS_mremap, &[0, 0, 0, i64::from(libc::MREMAP_MAYMOVE), 0]),
        call("munmap", libc::SYS_munmap, &[0, 0]),
        call("brk", libc::SYS_brk, &[0]),
        call("mprotect", libc::SYS_mprotect, &[0, 0, READ_WRITE]),
        call("mprotect to executable", libc::SYS_mprotect, &[0, 0, READ_WRITE | executable]),
        call("mprotect to nothing", libc::SYS_mprotect, &[0, 0, 0]),
        call("mmap executable alone", libc::SYS_mmap, &[0, page, executable, ANONYMOUS, -1, 0]),
        call("mmap executable", libc::SYS_mmap, &[0, page, READ_WRITE | executable, ANONYMOUS, -1, 0]),
        call("mmap shared", libc::SYS_mmap, &[0, page, READ_WRITE, shared, -1, 0]),
        call("mmap of a file", libc::SYS_mmap, &[0, page, READ_WRITE, i64::from(libc::MAP_PRIVATE), -1, 0]),
        call("mmap at an address", libc::SYS_mmap, &[page, 0, READ_WRITE, ANONYMOUS | fixed, -1, 0]),
        call("mmap with a wish", libc::SYS_mmap, &[page, 0, READ_WRITE, ANONYMOUS, -1, 0]),
        call("mremap to an address", libc::SYS_mremap, &[0, 0, 0, i64::from(libc::MREMAP_FIXED), page]),
        call("madvise", libc::SYS_madvise, &[0, 0, 0]),
        call("madvise that drops", libc::SYS_madvise, &[0, 0, i64::from(libc::MADV_DONTNEED)]),
        call("madvise of free pages", libc::SYS_madvise, &[0, 0, i64::from(libc::MADV_FREE)]),
        call("mlock", libc::SYS_mlock, &[0, 0]),
        call("futex timed", libc::SYS_futex, &[buffer(), PRIVATE_WAIT, 1, buffer()]),
        call("futex timed bitset", libc::SYS_futex, &[buffer(), PRIVATE_WAIT_BITSET, 1, buffer(), 0, -1]),
        call("futex shared", libc::SYS_futex, &[buffer(), i64::from(libc::FUTEX_WAKE), 1]),
        call("futex requeue", libc::SYS_futex, &[buffer(), i64::from(libc::FUTEX_REQUEUE), 0, 0, 0]),
        call("getrandom insecure", libc::SYS_getrandom, &[buffer(), 1, 4]),
        call("getrandom without waiting", libc::SYS_getrandom, &[buffer(), 1, 1]),
    ]
}

fn never_by_worker() -> Vec<Call> {
    let (listener, connection) = (limits::FD_LISTENER_FIRST_NUMBER, limits::FD_CONNECTION_FIRST_NUMBER);
    let epoll = limits::FD_EPOLL_FIRST_NUMBER;
    let to = i64::from(connection);
    let mut all = vec![
        on("accept4", libc::SYS_accept4, listener - 1, &[0, 0, ACCEPT]),
        on("accept4", libc::SYS_accept4, connection, &[0, 0, ACCEPT]),
        on("accept4 blocking", libc::SYS_accept4, listener, &[0, 0, i64::from(libc::SOCK_CLOEXEC)]),
        on("recvfrom", libc::SYS_recvfrom, connection - 1, &[0, 0, 0, 0, 0]),
        on("recvfrom peeking", libc::SYS_recvfrom, connection, &[0, 0, i64::from(libc::MSG_PEEK), 0, 0]),
        on("recvfrom with address", libc::SYS_recvfrom, connection, &[0, 0, 0, buffer(), 0]),
        on("sendto", libc::SYS_sendto, connection - 1, &[0, 0, NOSIGNAL, 0, 0]),
        on("sendto with signal", libc::SYS_sendto, connection, &[0, 0, 0, 0, 0]),
        on("sendto with address", libc::SYS_sendto, connection, &[0, 0, NOSIGNAL, buffer(), 0]),
        on("shutdown for reading", libc::SYS_shutdown, connection, &[0]),
        on("shutdown of both", libc::SYS_shutdown, connection, &[2]),
        on("shutdown for writing", libc::SYS_shutdown, listener, &[1]),
        on("shutdown", libc::SYS_shutdown, listener - 1, &[0]),
        on("setsockopt", libc::SYS_setsockopt, connection - 1, &[1, LINGER, 0, 0]),
        on("setsockopt of another level", libc::SYS_setsockopt, connection, &[6, LINGER, 0, 0]),
        on("setsockopt of the option before", libc::SYS_setsockopt, connection, &[1, LINGER - 1, 0, 0]),
        on("setsockopt of the option after", libc::SYS_setsockopt, connection, &[1, LINGER + 1, 0, 0]),
        on("getsockopt", libc::SYS_getsockopt, connection - 1, &[1, PEERCRED, 0, 0]),
        on("getsockopt of another level", libc::SYS_getsockopt, connection, &[6, PEERCRED, 0, 0]),
        on("getsockopt of the option before", libc::SYS_getsockopt, connection, &[1, PEERCRED - 1, 0, 0]),
        on("getsockopt of the option after", libc::SYS_getsockopt, connection, &[1, PEERCRED + 1, 0, 0]),
        on("write to the service manager", libc::SYS_write, limits::FD_NOTIFY_NUMBER, &[0, 0]),
        on("epoll_ctl again", libc::SYS_epoll_ctl, epoll, &[i64::from(libc::EPOLL_CTL_MOD), to, 0]),
        on("epoll_ctl taking out", libc::SYS_epoll_ctl, epoll, &[i64::from(libc::EPOLL_CTL_DEL), to, 0]),
        on("epoll_ctl of a file", libc::SYS_epoll_ctl, epoll, &[ADD, 16, 0]),
        on("epoll_ctl", libc::SYS_epoll_ctl, epoll - 1, &[ADD, to, 0]),
        on("epoll_ctl", libc::SYS_epoll_ctl, limits::FD_EPOLL_LAST_NUMBER + 1, &[ADD, to, 0]),
        on("epoll_pwait", libc::SYS_epoll_pwait, epoll - 1, &[0, 1, 0, 0, 8]),
        on("epoll_pwait", libc::SYS_epoll_pwait, limits::FD_EPOLL_LAST_NUMBER + 1, &[0, 1, 0, 0, 8]),
        on("epoll_pwait with mask", libc::SYS_epoll_pwait, epoll, &[0, 1, 0, buffer(), 8]),
        on("pread64", libc::SYS_pread64, limits::FD_OWN_FIRST_NUMBER, &[0, 0, 0]),
        on("timerfd_settime", libc::SYS_timerfd_settime, limits::FD_OWN_FIRST_NUMBER, &[0, 0, 0]),
    ];
    all.extend(never_but_by_keeper());
    all.extend(never_but_by_archivist());
    all.extend(outside("close", libc::SYS_close, &[(connection, i32::MAX)]));
    all.extend(outside("read", libc::SYS_read, &[]));
    all.extend(outside("write", libc::SYS_write, &[(1, 2), AUDITS, EVENTS]));
    all
}

fn never_by_keeper() -> Vec<Call> {
    let connection = limits::FD_CONNECTION_FIRST_NUMBER;
    let mut all = vec![
        on("accept4", libc::SYS_accept4, limits::FD_LISTENER_FIRST_NUMBER, &[0, 0, ACCEPT]),
        on("recvfrom", libc::SYS_recvfrom, connection, &[0, 0, 0, 0, 0]),
        on("sendto", libc::SYS_sendto, connection, &[0, 0, NOSIGNAL, 0, 0]),
        on("close", libc::SYS_close, connection, &[]),
        on("shutdown", libc::SYS_shutdown, connection, &[1]),
        on("setsockopt", libc::SYS_setsockopt, connection, &[1, LINGER, 0, 0]),
        on("epoll_pwait", libc::SYS_epoll_pwait, limits::FD_EPOLL_FIRST_NUMBER, &[0, 1, 0, 0, 8]),
        on("fallocate that lengthens", libc::SYS_fallocate, JOURNALS.0, &[0, 0, 1]),
        on("fallocate that punches a hole", libc::SYS_fallocate, JOURNALS.0, &[3, 0, 1]),
        on("fallocate before the band", libc::SYS_fallocate, JOURNALS.0 - 1, &[KEEP_SIZE, 0, 0]),
        on("fallocate after the band", libc::SYS_fallocate, JOURNALS.1 + 1, &[KEEP_SIZE, 0, 0]),
    ];
    let (directory, here) = (i64::from(DIRECTORY.0), i64::from(libc::AT_FDCWD));
    for (name, from, to, flags) in [
        ("renameat2 that replaces", directory, directory, 0),
        ("renameat2 that does not replace", directory, directory, 1),
        ("renameat2 with a whiteout", directory, directory, 6),
        ("renameat2 out of the directory", directory, here, EXCHANGE),
        ("renameat2 into the directory", here, directory, EXCHANGE),
        ("renameat2 beside the directory", directory + 1, directory + 1, EXCHANGE),
    ] {
        all.push(call(name, libc::SYS_renameat2, &[from, 0, to, 0, flags]));
    }
    all.extend(never_but_by_archivist());
    all.extend(outside("fdatasync", libc::SYS_fdatasync, &[JOURNALS, AUDITS]));
    all.extend(outside("fsync", libc::SYS_fsync, &[JOURNALS, DIRECTORY]));
    all.extend(outside("ftruncate", libc::SYS_ftruncate, &[JOURNALS]));
    all.extend(outside("pread64", libc::SYS_pread64, &[JOURNALS]));
    all.extend(outside("read", libc::SYS_read, &[(JOURNALS.0, JOURNALS.0)]));
    all.extend(outside("write", libc::SYS_write, &[(1, 2), JOURNALS, AUDITS, EVENTS]));
    all
}

/// How a new audit file is opened, and how one that is to be read; both flags that differ between the processors are in it.
const CREATE: i64 = (libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_APPEND) as i64 | COMMON;
const FOLLOW: i64 = (libc::O_RDONLY | libc::O_NONBLOCK | libc::O_CLOEXEC) as i64 | LARGE;
const READ: i64 = (libc::O_RDONLY | libc::O_NONBLOCK) as i64 | COMMON;
const COMMON: i64 = (libc::O_NOFOLLOW | libc::O_CLOEXEC) as i64 | LARGE;
/// `O_LARGEFILE`, which the C library does not tell on these processors, and the kernel counts.
#[cfg(target_arch = "x86_64")]
const LARGE: i64 = 0o100_000;
#[cfg(not(target_arch = "x86_64"))]
const LARGE: i64 = 0o400_000;
const CLOEXEC: i64 = libc::O_CLOEXEC as i64;
const PRIVATE_MODE: i64 = 0o600;

/// What the keeper alone may do, on the descriptors on which it may.
fn never_but_by_keeper() -> Vec<Call> {
    let directory = i64::from(DIRECTORY.0);
    let mut all = vec![
        call("renameat2 that exchanges", libc::SYS_renameat2, &[directory, 0, directory, 0, EXCHANGE]),
        on("fsync of the directory", libc::SYS_fsync, DIRECTORY.0, &[]),
    ];
    all.extend(within("fdatasync", libc::SYS_fdatasync, AUDITS, &[]));
    for journal in [JOURNALS.0, JOURNALS.1] {
        all.extend([
            on("fdatasync", libc::SYS_fdatasync, journal, &[]),
            on("fsync", libc::SYS_fsync, journal, &[]),
            on("ftruncate", libc::SYS_ftruncate, journal, &[-1]),
            on("fallocate", libc::SYS_fallocate, journal, &[KEEP_SIZE, 0, 0]),
            on("pread64", libc::SYS_pread64, journal, &[0, 1, 0]),
        ]);
    }
    all
}

fn never_by_main() -> Vec<Call> {
    let connection = limits::FD_CONNECTION_FIRST_NUMBER;
    let epoll = limits::FD_EPOLL_FIRST_NUMBER;
    let mut all = vec![
        on("accept4", libc::SYS_accept4, limits::FD_LISTENER_FIRST_NUMBER, &[0, 0, ACCEPT]),
        on("recvfrom", libc::SYS_recvfrom, connection, &[0, 0, 0, 0, 0]),
        on("sendto", libc::SYS_sendto, connection, &[0, 0, NOSIGNAL, 0, 0]),
        on("close", libc::SYS_close, connection, &[]),
        on("epoll_ctl", libc::SYS_epoll_ctl, epoll, &[ADD, i64::from(connection), 0]),
        on("epoll_pwait", libc::SYS_epoll_pwait, epoll - 1, &[0, 1, 0, 0, 8]),
        call("getrandom", libc::SYS_getrandom, &[buffer(), 1, 0]),
    ];
    all.extend(never_but_by_keeper());
    all.extend(never_but_by_archivist());
    let signal = (limits::FD_SIGNAL_NUMBER, limits::FD_SIGNAL_NUMBER);
    // Reading nothing is allowed on every number but those of the three streams, and reading anything on few.
    all.extend(outside_with("pread64", libc::SYS_pread64, &[OWN, WATCH], &[0, 1, 0]));
    all.extend([0, 2].map(|fd| on("pread64 of nothing", libc::SYS_pread64, fd, &[0, 0, 0])));
    all.extend(outside("timerfd_settime", libc::SYS_timerfd_settime, &[]));
    all.extend(outside("read", libc::SYS_read, &[signal, OWN]));
    all.extend(outside("write", libc::SYS_write, &[(1, 2), EVENTS]));
    all
}

type Band = (i32, i32);
const JOURNALS: Band = (limits::FD_JOURNAL_NUMBER, limits::FD_JOURNAL_NEXT_NUMBER);
const DIRECTORY: Band = (limits::FD_DATA_DIRECTORY_NUMBER, limits::FD_DATA_DIRECTORY_NUMBER);
const OWN: Band = (limits::FD_OWN_FIRST_NUMBER, limits::FD_OWN_LAST_NUMBER);
/// Audit files and their successors, which stand side by side.
const AUDITS: Band = (limits::FD_AUDIT_FIRST_NUMBER, limits::FD_AUDIT_NEXT_LAST_NUMBER);
const AUDIT_DIRECTORY: Band = (limits::FD_AUDIT_DIRECTORY_NUMBER, limits::FD_AUDIT_DIRECTORY_NUMBER);
const SLOTS: Band = (limits::FD_ARCHIVE_SOURCE_NUMBER, limits::FD_ARCHIVE_TARGET_NUMBER);
const SOURCE: Band = (limits::FD_ARCHIVE_SOURCE_NUMBER, limits::FD_ARCHIVE_SOURCE_NUMBER);
const TARGET: Band = (limits::FD_ARCHIVE_TARGET_NUMBER, limits::FD_ARCHIVE_TARGET_NUMBER);
const TLS_DIRECTORIES: Band = (limits::FD_TLS_DIRECTORY_FIRST_NUMBER, limits::FD_TLS_DIRECTORY_LAST_NUMBER);
const TLS_FILE: Band = (limits::FD_TLS_FILE_NUMBER, limits::FD_TLS_FILE_NUMBER);
const WATCH: Band = (limits::FD_WATCH_FIRST_NUMBER, limits::FD_WATCH_LAST_NUMBER);
const SILENCE: i32 = limits::FD_ARCHIVE_SILENCE_NUMBER;
const EPOLLS: Band = (limits::FD_EPOLL_FIRST_NUMBER, limits::FD_EPOLL_LAST_NUMBER);
const EVENTS: Band = (limits::FD_EVENT_FIRST_NUMBER, limits::FD_EVENT_LAST_NUMBER);
const LISTENERS: Band = (limits::FD_LISTENER_FIRST_NUMBER, limits::FD_LISTENER_LAST_NUMBER);
const CONNECTIONS: Band = (limits::FD_CONNECTION_FIRST_NUMBER, CLOSED_CONNECTION);

/// The call, with null for all other arguments, on the first and last number of every band and next to each,
/// as far as none of the `allowed` bands holds that number.
fn outside(name: &str, number: libc::c_long, allowed: &[Band]) -> Vec<Call> {
    outside_with(name, number, allowed, &[])
}

/// The same with these arguments behind the number.
fn outside_with(name: &str, number: libc::c_long, allowed: &[Band], rest: &[i64]) -> Vec<Call> {
    let next = (limits::FD_AUDIT_LAST_NUMBER, limits::FD_AUDIT_NEXT_FIRST_NUMBER);
    let bands = [
        (0, 2),
        JOURNALS,
        (5, 5),
        OWN,
        AUDIT_DIRECTORY,
        SLOTS,
        AUDITS,
        next,
        EPOLLS,
        EVENTS,
        LISTENERS,
        TLS_DIRECTORIES,
        TLS_FILE,
        WATCH,
        CONNECTIONS,
    ];
    let mut tried: Vec<i32> = bands.iter().flat_map(|(first, last)| [*first, *last]).collect();
    tried.push(1);
    tried.sort_unstable();
    tried.dedup();
    tried.retain(|fd| !allowed.iter().any(|(first, last)| (*first..=*last).contains(fd)));
    // A read of nothing at address null: harmless on whatever the number is without a filter.
    tried
        .into_iter()
        .filter(|fd| number != libc::SYS_close || *fd > 2)
        .map(|fd| on(name, number, fd, rest))
        .collect()
}

/// The call on both ends of a band.
fn within(name: &str, number: libc::c_long, (first, last): Band, rest: &[i64]) -> [Call; 2] {
    [on(name, number, first, rest), on(name, number, last, rest)]
}

/// One call for each rule of the role's filter, at the edges of what it allows.
pub(crate) fn allowed(role: Role) -> Vec<Call> {
    let mut all = vec![
        call("futex wait", libc::SYS_futex, &[buffer(), PRIVATE_WAIT, 1, 0]),
        call("futex wake", libc::SYS_futex, &[buffer(), PRIVATE_WAKE, 1, -1]),
        call("futex wait bitset", libc::SYS_futex, &[buffer(), PRIVATE_WAIT_BITSET, 1, 0, 0, -1]),
        call("clock_gettime real", libc::SYS_clock_gettime, &[0, buffer()]),
        call("clock_gettime monotonic", libc::SYS_clock_gettime, &[1, buffer()]),
    ];
    let first = if role == Role::Archivist { 2 } else { 1 };
    all.extend(within("write", libc::SYS_write, (first, 2), &[0, 0]));
    all.extend(within("write", libc::SYS_write, EVENTS, &[0, 0]));
    match role {
        Role::Worker => {
            let (first, last) = (i64::from(LISTENERS.0), i64::from(CONNECTIONS.1));
            all.extend(within("accept4", libc::SYS_accept4, LISTENERS, &[0, 0, ACCEPT]));
            all.extend(within("epoll_ctl", libc::SYS_epoll_ctl, EPOLLS, &[ADD, first, 0]));
            all.extend(within("epoll_ctl", libc::SYS_epoll_ctl, EPOLLS, &[ADD, last, 0]));
            all.extend(within("epoll_pwait", libc::SYS_epoll_pwait, EPOLLS, &[0, 1, 0, 0, 8]));
            all.extend(within("recvfrom", libc::SYS_recvfrom, CONNECTIONS, &[0, 0, 0, 0, 0]));
            all.extend(within("sendto", libc::SYS_sendto, CONNECTIONS, &[0, 0, NOSIGNAL, 0, 0]));
            all.extend(within("shutdown", libc::SYS_shutdown, CONNECTIONS, &[1]));
            all.extend(within("shutdown", libc::SYS_shutdown, LISTENERS, &[0]));
            all.extend(within("setsockopt", libc::SYS_setsockopt, CONNECTIONS, &[1, LINGER, 0, 0]));
            all.extend(within("getsockopt", libc::SYS_getsockopt, CONNECTIONS, &[1, PEERCRED, 0, 0]));
            all.extend(within("close", libc::SYS_close, CONNECTIONS, &[]));
            all.extend(within("write", libc::SYS_write, AUDITS, &[0, 0]));
            all.push(call("getrandom", libc::SYS_getrandom, &[buffer(), 8, 0]));
            all.push(call("clock_gettime since the boot", libc::SYS_clock_gettime, &[7, buffer()]));
        }
        Role::Keeper => {
            all.push(on("read", libc::SYS_read, JOURNALS.0, &[0, 0]));
            all.extend(within("write", libc::SYS_write, JOURNALS, &[0, 0]));
            all.extend(within("write", libc::SYS_write, AUDITS, &[0, 0]));
            all.extend(within("fdatasync", libc::SYS_fdatasync, JOURNALS, &[]));
            all.extend(within("fdatasync", libc::SYS_fdatasync, AUDITS, &[]));
            all.extend(within("fsync", libc::SYS_fsync, JOURNALS, &[]));
            all.extend(within("ftruncate", libc::SYS_ftruncate, JOURNALS, &[-1]));
            all.extend(within("fallocate", libc::SYS_fallocate, JOURNALS, &[KEEP_SIZE, 0, 0]));
            all.extend(within("pread64", libc::SYS_pread64, JOURNALS, &[0, 0, 0]));
            all.push(on("fsync", libc::SYS_fsync, DIRECTORY.0, &[]));
            let directory = i64::from(DIRECTORY.0);
            all.push(call("renameat2", libc::SYS_renameat2, &[directory, 0, directory, 0, EXCHANGE]));
            all.push(call("getrandom", libc::SYS_getrandom, &[buffer(), 8, 0]));
        }
        Role::Archivist => all.extend(allowed_to_archivist()),
        Role::Main => {
            all.extend(within("epoll_pwait", libc::SYS_epoll_pwait, EPOLLS, &[0, 1, 0, 0, 8]));
            all.extend(within("pread64", libc::SYS_pread64, OWN, &[0, 0, 0]));
            all.extend(within("read", libc::SYS_read, OWN, &[0, 0]));
            all.extend(within("pread64", libc::SYS_pread64, WATCH, &[buffer(), 8, 0]));
            for fd in [limits::FD_JOURNAL_NUMBER, CLOSED_CONNECTION] {
                all.push(on("pread64 of nothing", libc::SYS_pread64, fd, &[0, 0, 0]));
            }
            all.push(on("read", libc::SYS_read, limits::FD_SIGNAL_NUMBER, &[0, 0]));
            all.push(on("write", libc::SYS_write, limits::FD_NOTIFY_NUMBER, &[0, 0]));
        }
    }
    all
}

/// Ends the process as the first thing it does, without any clean-up of the standard library.
pub(crate) fn exit_at_once(code: i32) -> ! {
    loop {
        call("exit_group", libc::SYS_exit_group, &[i64::from(code)]).make();
    }
}
