//! The rows of the archivist: the one thread that opens files.

use nix::libc;
use quantonium::limits;

use super::*;

pub(super) fn never_by_archivist() -> Vec<Call> {
    let connection = limits::FD_CONNECTION_FIRST_NUMBER;
    let (directory, here) = (i64::from(AUDIT_DIRECTORY.0), i64::from(libc::AT_FDCWD));
    let (opened, audit) = (i64::from(CLOSED_CONNECTION), i64::from(AUDITS.0));
    let (source, silence) = (i64::from(SLOTS.0), i64::from(SILENCE));
    let open = |name, fd: i64, flags: i64, mode: i64| call(name, libc::SYS_openat, &[fd, 0, flags, mode]);
    let dup = |name, from: i64, to: i64, flags: i64| call(name, libc::SYS_dup3, &[from, to, flags]);
    let mut all = vec![
        on("accept4", libc::SYS_accept4, limits::FD_LISTENER_FIRST_NUMBER, &[0, 0, ACCEPT]),
        on("recvfrom", libc::SYS_recvfrom, connection, &[0, 0, 0, 0, 0]),
        on("sendto", libc::SYS_sendto, connection, &[0, 0, NOSIGNAL, 0, 0]),
        on("shutdown", libc::SYS_shutdown, connection, &[1]),
        on("setsockopt", libc::SYS_setsockopt, connection, &[1, LINGER, 0, 0]),
        on("ftruncate", libc::SYS_ftruncate, AUDITS.0, &[-1]),
        on("fallocate that lengthens", libc::SYS_fallocate, AUDITS.0, &[0, 0, 1]),
        on("fallocate that punches a hole", libc::SYS_fallocate, AUDITS.0, &[3, 0, 1]),
        on("fallocate before the band", libc::SYS_fallocate, AUDITS.0 - 1, &[KEEP_SIZE, 0, 0]),
        on("fallocate after the band", libc::SYS_fallocate, AUDITS.1 + 1, &[KEEP_SIZE, 0, 0]),
        open("openat of a certificate before the band", i64::from(TLS_DIRECTORIES.0) - 1, FOLLOW, 0),
        open("openat of a certificate after the band", i64::from(TLS_DIRECTORIES.1) + 1, FOLLOW, 0),
        open(
            "openat of a certificate to write",
            i64::from(TLS_DIRECTORIES.0),
            FOLLOW | i64::from(libc::O_WRONLY),
            0,
        ),
        open("openat that creates a certificate", i64::from(TLS_DIRECTORIES.0), CREATE, PRIVATE_MODE),
        dup("dup3 of a certificate elsewhere", opened, i64::from(TLS_FILE.0) + 1, CLOEXEC),
        dup("dup3 of silence over an audit file of it", i64::from(TLS_FILE.0) + 1, audit, CLOEXEC),
        open("openat that creates elsewhere", here, CREATE, PRIVATE_MODE),
        open("openat that creates beside", directory + 1, CREATE, PRIVATE_MODE),
        open("openat that creates in the data directory", i64::from(DIRECTORY.0), CREATE, PRIVATE_MODE),
        open("openat that takes what is there", directory, CREATE & !i64::from(libc::O_EXCL), PRIVATE_MODE),
        open("openat that empties", directory, CREATE | i64::from(libc::O_TRUNC), PRIVATE_MODE),
        open("openat that follows", directory, CREATE & !i64::from(libc::O_NOFOLLOW), PRIVATE_MODE),
        open("openat that overwrites", directory, CREATE & !i64::from(libc::O_APPEND), PRIVATE_MODE),
        open("openat for others", directory, CREATE, 0o644),
        open("openat that reads elsewhere", here, READ, 0),
        open("openat that reads and follows", directory, READ & !i64::from(libc::O_NOFOLLOW), 0),
        open("openat that reads and writes", directory, READ | i64::from(libc::O_RDWR), 0),
        call("unlinkat elsewhere", libc::SYS_unlinkat, &[here, 0, 0]),
        call("unlinkat of a directory", libc::SYS_unlinkat, &[directory, 0, i64::from(libc::AT_REMOVEDIR)]),
        dup("dup3 over the journal", opened, i64::from(JOURNALS.0), CLOEXEC),
        dup("dup3 over the directory", opened, directory, CLOEXEC),
        dup("dup3 before the band", opened, audit - 1, CLOEXEC),
        dup("dup3 after the band", opened, i64::from(AUDITS.1) + 1, CLOEXEC),
        dup("dup3 after the slots", opened, silence, CLOEXEC),
        dup("dup3 over a connection", opened, opened, CLOEXEC),
        dup("dup3 of the journal", i64::from(JOURNALS.0), audit, CLOEXEC),
        dup("dup3 of the directory", directory, source, CLOEXEC),
        dup("dup3 of silence over an audit file", silence, audit, CLOEXEC),
        dup("dup3 that is inherited", opened, audit, 0),
    ];
    all.extend(outside("fdatasync", libc::SYS_fdatasync, &[AUDITS]));
    all.extend(outside("fsync", libc::SYS_fsync, &[AUDIT_DIRECTORY, TARGET]));
    all.extend(outside("fstatfs", libc::SYS_fstatfs, &[AUDIT_DIRECTORY]));
    all.extend(outside("close", libc::SYS_close, &[(connection, i32::MAX)]));
    all.extend(outside("read", libc::SYS_read, &[SOURCE, TLS_FILE]));
    all.extend(outside("write", libc::SYS_write, &[(2, 2), TARGET, EVENTS]));
    all
}

/// What the archivist alone may do, on the descriptors on which it may.
pub(super) fn never_but_by_archivist() -> Vec<Call> {
    let directory = i64::from(AUDIT_DIRECTORY.0);
    let (opened, audit) = (i64::from(CLOSED_CONNECTION), i64::from(AUDITS.0));
    vec![
        call("openat of a new audit file", libc::SYS_openat, &[directory, 0, CREATE, PRIVATE_MODE]),
        call("openat of an audit file", libc::SYS_openat, &[directory, 0, READ, 0]),
        call("openat of a certificate", libc::SYS_openat, &[i64::from(TLS_DIRECTORIES.0), 0, FOLLOW, 0]),
        call("dup3 over a certificate", libc::SYS_dup3, &[opened, i64::from(TLS_FILE.0), CLOEXEC]),
        call("unlinkat of an audit file", libc::SYS_unlinkat, &[directory, 0, 0]),
        call("dup3 over an audit file", libc::SYS_dup3, &[opened, audit, CLOEXEC]),
        on("fsync of the audit directory", libc::SYS_fsync, AUDIT_DIRECTORY.0, &[]),
        on("fstatfs of the audit directory", libc::SYS_fstatfs, AUDIT_DIRECTORY.0, &[0]),
        on("fallocate of an audit file", libc::SYS_fallocate, AUDITS.0, &[KEEP_SIZE, 0, 0]),
    ]
}

pub(super) fn allowed_to_archivist() -> Vec<Call> {
    let directory = i64::from(AUDIT_DIRECTORY.0);
    let (connection, opened) = (limits::FD_CONNECTION_FIRST_NUMBER, i64::from(CLOSED_CONNECTION));
    let mut all = vec![
        call("openat that creates", libc::SYS_openat, &[directory, 0, CREATE, PRIVATE_MODE]),
        call("openat that reads", libc::SYS_openat, &[directory, 0, READ, 0]),
        call("unlinkat", libc::SYS_unlinkat, &[directory, 0, 0]),
        on("fsync", libc::SYS_fsync, AUDIT_DIRECTORY.0, &[]),
        on("fstatfs", libc::SYS_fstatfs, AUDIT_DIRECTORY.0, &[0]),
        on("read", libc::SYS_read, SOURCE.0, &[0, 0]),
        on("write", libc::SYS_write, TARGET.0, &[0, 0]),
        on("fsync", libc::SYS_fsync, TARGET.0, &[]),
        on("read", libc::SYS_read, TLS_FILE.0, &[0, 0]),
        call("getrandom", libc::SYS_getrandom, &[buffer(), 8, 0]),
    ];
    all.extend(within("openat of a certificate", libc::SYS_openat, TLS_DIRECTORIES, &[0, FOLLOW, 0]));
    for from in [connection, CLOSED_CONNECTION, limits::FD_TLS_SILENCE_NUMBER] {
        let rest = [i64::from(TLS_FILE.0), CLOEXEC];
        all.push(on("dup3 of a certificate", libc::SYS_dup3, from, &rest));
    }
    all.extend(within("close", libc::SYS_close, (connection, CLOSED_CONNECTION), &[]));
    all.extend(within("fdatasync", libc::SYS_fdatasync, AUDITS, &[]));
    all.extend(within("fallocate", libc::SYS_fallocate, AUDITS, &[KEEP_SIZE, 0, 0]));
    for to in [AUDITS.0, AUDITS.1, SLOTS.0, SLOTS.1] {
        let from = [i64::from(connection), opened];
        let over = |from| call("dup3", libc::SYS_dup3, &[from, i64::from(to), CLOEXEC]);
        all.extend(from.map(over));
    }
    for to in [SLOTS.0, SLOTS.1] {
        let from = i64::from(SILENCE);
        all.push(call("dup3 of silence", libc::SYS_dup3, &[from, i64::from(to), CLOEXEC]));
    }
    all
}
