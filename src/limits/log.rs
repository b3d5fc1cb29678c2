//! Bounds of the log: its lines, its queue, its patience.
//!
//! Owns the numbers. Invariant, held at compile time: what is always told fits in a line.

/// Longest line of the log, its end included: what a pipe takes whole or not at all (PIPE_BUF of pipe(7)).
pub const LOG_LINE_MAX_BYTES: usize = 4096;
/// Where the message of a log line is cut off, so that fields find room behind it.
pub const LOG_TEXT_MAX_BYTES: usize = 3072;
/// Lines of the log that wait until they can be written. Beyond it: dropped, and counted.
pub const LOG_QUEUE_BYTES: usize = 256 * 1024;
/// After how long the log is tried again that found no room.
pub const LOG_RETRY_MILLIS: u64 = 50;
/// How long a start, or the end of the process, waits for somebody to read the log.
pub const LOG_PATIENCE_MILLIS: u64 = 1_000;

const _: () = {
    assert!(LOG_TEXT_MAX_BYTES + 512 <= LOG_LINE_MAX_BYTES, "every line has room for what is not text");
    assert!(LOG_QUEUE_BYTES >= 8 * LOG_LINE_MAX_BYTES);
    assert!(LOG_RETRY_MILLIS < LOG_PATIENCE_MILLIS);
};
