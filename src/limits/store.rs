//! Bounds of the store and of its journal.
//!
//! Owns them. Invariant: what depends on bounds of keys is held by the assertions at the end of `limits`.

/// Largest sealed value of a record: room for any key with all the versions that it may have.
pub const STORE_RECORD_MAX_BYTES: usize = 3 * 1024 * 1024;
/// What a record carries beside its sealed value: path, revision, a flag and the length.
pub const STORE_RECORD_OVERHEAD_BYTES: usize = 16 + 8 + 1 + 4;
/// Most that the records of one append may weigh together.
pub const STORE_APPEND_MAX_BYTES: usize = 4 * 1024 * 1024;
/// Most origins of one append, and how many of the last ones outlive a compaction.
pub const STORE_ORIGINS_MAX_COUNT: usize = 4_096;
/// Largest payload of a frame of the journal: an append with its origins and their counts.
pub const JOURNAL_PAYLOAD_MAX_BYTES: usize = STORE_APPEND_MAX_BYTES + 16 * STORE_ORIGINS_MAX_COUNT + 64;
/// A frame of a snapshot ends with the first record that makes its payload as long as this.
pub const JOURNAL_SNAPSHOT_PAYLOAD_BYTES: usize = 64 * 1024;
/// Largest journal. Beyond it changes are refused as on a full disk.
pub const JOURNAL_MAX_BYTES: u64 = 16 * 1024 * 1024 * 1024;
/// Room reserved on disk at a time at the end of the journal.
pub const JOURNAL_RESERVED_BYTES: u64 = 256 * 1024;
/// The journal is read in pieces of at least this size.
pub const JOURNAL_PIECE_BYTES: usize = 1024 * 1024;
/// How much of its end is looked at again while the server runs, at least, and at most twice as much and a frame.
pub const JOURNAL_TAIL_BYTES: u64 = 64 * 1024;
/// A journal up to this length is not compacted while it is in use.
pub const JOURNAL_COMPACTION_FLOOR_BYTES: u64 = 1024 * 1024;
/// At a start, or where the last change found no room, this much is enough.
pub const JOURNAL_COMPACTION_LOW_FLOOR_BYTES: u64 = 64 * 1024;
/// Room that is kept for the next compaction, which a full disk needs most: a small store fits into it.
pub const JOURNAL_NEXT_RESERVED_BYTES: u64 = 128 * 1024;
/// How long what was removed or superseded stays in the journal of a running server, whatever its length.
pub const JOURNAL_SUPERSEDED_MAX_SECONDS: u64 = 3_600;
/// A journal is compacted when it is this many times as long as what is alive in it.
pub const JOURNAL_COMPACTION_FACTOR_COUNT: u64 = 2;
/// Damaged places that `quantonium store verify` lists before it only counts them.
pub const JOURNAL_DAMAGES_SHOWN_MAX_COUNT: usize = 100;
