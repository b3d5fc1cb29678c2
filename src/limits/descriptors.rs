//! Descriptor bands: after lock-down a descriptor's number says what it is, and the filters compare numbers.
//!
//! Owns the numbers. Invariant, held at compile time: no band reaches into another.

use super::{LISTENERS_MAX_COUNT, TLS_DIRECTORIES_MAX_COUNT, WORKERS_MAX_COUNT};

/// The journal of the key ring.
pub const FD_JOURNAL_NUMBER: i32 = 3;
/// The journal's preallocated successor.
pub const FD_JOURNAL_NEXT_NUMBER: i32 = 4;
/// The signal descriptor, read by the main thread only.
pub const FD_SIGNAL_NUMBER: i32 = 5;
/// The data directory, held by the keeper to exchange the journal with its successor.
pub const FD_DATA_DIRECTORY_NUMBER: i32 = 6;
/// The directory of audit files, held by the archivist.
pub const FD_AUDIT_DIRECTORY_NUMBER: i32 = 10;
/// The part that the archivist compresses, while it does.
pub const FD_ARCHIVE_SOURCE_NUMBER: i32 = 11;
/// What it compresses it to.
pub const FD_ARCHIVE_TARGET_NUMBER: i32 = 12;
/// The end of a pipe without a writer, which takes the place of both when they are done.
pub const FD_ARCHIVE_SILENCE_NUMBER: i32 = 13;
/// First of the keeper's and the main thread's own files.
pub const FD_OWN_FIRST_NUMBER: i32 = 6;
/// Last of the keeper's and the main thread's own files.
pub const FD_OWN_LAST_NUMBER: i32 = 15;
/// First audit file, one for each worker.
pub const FD_AUDIT_FIRST_NUMBER: i32 = 16;
/// Last audit file.
pub const FD_AUDIT_LAST_NUMBER: i32 = 79;
/// First preallocated successor of an audit file.
pub const FD_AUDIT_NEXT_FIRST_NUMBER: i32 = 80;
/// Last preallocated successor of an audit file.
pub const FD_AUDIT_NEXT_LAST_NUMBER: i32 = 143;
/// First epoll descriptor, one for each worker and, last, two for the main thread: its own, and what tells of room for the log.
pub const FD_EPOLL_FIRST_NUMBER: i32 = 144;
/// Last epoll descriptor.
pub const FD_EPOLL_LAST_NUMBER: i32 = 207;
/// First event descriptor that wakes a worker.
pub const FD_EVENT_FIRST_NUMBER: i32 = 208;
/// Last event descriptor.
pub const FD_EVENT_LAST_NUMBER: i32 = 271;
/// First listening socket.
pub const FD_LISTENER_FIRST_NUMBER: i32 = 272;
/// Last listening socket.
pub const FD_LISTENER_LAST_NUMBER: i32 = 511;
/// First directory of certificates and keys of TLS, held by the thread that reads them again.
pub const FD_TLS_DIRECTORY_FIRST_NUMBER: i32 = 512;
/// Last such directory.
pub const FD_TLS_DIRECTORY_LAST_NUMBER: i32 = 519;
/// The socket on which the service manager is told how the server is.
pub const FD_NOTIFY_NUMBER: i32 = 520;
/// The file of a certificate or a key, while the archivist reads it.
pub const FD_TLS_FILE_NUMBER: i32 = 521;
/// The end of a pipe without a writer, which takes its place when it was read.
pub const FD_TLS_SILENCE_NUMBER: i32 = 522;
/// First of the kernel's files about this process that the main thread reads again and again: its program.
pub const FD_WATCH_FIRST_NUMBER: i32 = 523;
/// The list of its mappings.
pub const FD_WATCH_MAPS_NUMBER: i32 = 524;
/// The first of the status files of other threads.
pub const FD_WATCH_THREAD_NUMBER: i32 = 525;
/// The last of them.
pub const FD_WATCH_LAST_NUMBER: i32 = 527;
/// First connection; every number below is taken before the first one is accepted.
pub const FD_CONNECTION_FIRST_NUMBER: i32 = 528;

#[expect(
    clippy::cast_possible_wrap,
    clippy::cast_possible_truncation,
    reason = "the counts are small constants"
)]
const _: () = {
    assert!(FD_AUDIT_LAST_NUMBER - FD_AUDIT_FIRST_NUMBER + 1 > WORKERS_MAX_COUNT as i32);
    assert!(FD_AUDIT_NEXT_LAST_NUMBER - FD_AUDIT_NEXT_FIRST_NUMBER + 1 > WORKERS_MAX_COUNT as i32);
    assert!(FD_EPOLL_LAST_NUMBER - FD_EPOLL_FIRST_NUMBER > WORKERS_MAX_COUNT as i32);
    assert!(FD_EVENT_LAST_NUMBER - FD_EVENT_FIRST_NUMBER + 1 > WORKERS_MAX_COUNT as i32);
    assert!(FD_LISTENER_LAST_NUMBER - FD_LISTENER_FIRST_NUMBER + 1 == LISTENERS_MAX_COUNT as i32);
    assert!(FD_JOURNAL_NUMBER > 2 && FD_OWN_LAST_NUMBER < FD_AUDIT_FIRST_NUMBER);
    assert!(FD_AUDIT_LAST_NUMBER + 1 == FD_AUDIT_NEXT_FIRST_NUMBER, "one rule of a filter covers both bands");
    assert!(FD_AUDIT_DIRECTORY_NUMBER > FD_DATA_DIRECTORY_NUMBER);
    assert!(FD_ARCHIVE_SILENCE_NUMBER < FD_OWN_LAST_NUMBER, "the last one is a timer");
    assert!(FD_AUDIT_NEXT_LAST_NUMBER < FD_EPOLL_FIRST_NUMBER);
    assert!(FD_EPOLL_LAST_NUMBER < FD_EVENT_FIRST_NUMBER);
    assert!(FD_EVENT_LAST_NUMBER < FD_LISTENER_FIRST_NUMBER);
    assert!(FD_LISTENER_LAST_NUMBER < FD_TLS_DIRECTORY_FIRST_NUMBER);
    assert!(FD_TLS_DIRECTORY_LAST_NUMBER < FD_NOTIFY_NUMBER);
    assert!(FD_NOTIFY_NUMBER < FD_TLS_FILE_NUMBER && FD_TLS_FILE_NUMBER < FD_TLS_SILENCE_NUMBER);
    assert!(FD_TLS_SILENCE_NUMBER < FD_WATCH_FIRST_NUMBER);
    assert!(FD_WATCH_LAST_NUMBER < FD_CONNECTION_FIRST_NUMBER);
    assert!(
        FD_TLS_DIRECTORY_LAST_NUMBER - FD_TLS_DIRECTORY_FIRST_NUMBER + 1 == TLS_DIRECTORIES_MAX_COUNT as i32
    );
    assert!(
        FD_DATA_DIRECTORY_NUMBER >= FD_OWN_FIRST_NUMBER && FD_DATA_DIRECTORY_NUMBER <= FD_OWN_LAST_NUMBER
    );
};
