//! Bounds of a store in etcd and of the servers that share it.
//!
//! Owns them. Invariant, held at compile time: what one transaction may carry fits what etcd takes with its own defaults.

use super::{STORE_APPEND_MAX_BYTES, STORE_ORIGINS_MAX_COUNT, STORE_RECORD_MAX_BYTES};

/// Most bytes of a request that etcd takes, unless it is told otherwise (`--max-request-bytes`).
const ETCD_REQUEST_MAX_BYTES: usize = 1_536 * 1024;
/// Most operations of a transaction that etcd takes, unless it is told otherwise (`--max-txn-ops`): so many events it has at most.
pub const ETCD_OPERATIONS_MAX_COUNT: usize = 128;

/// Most that the records of one transaction may weigh together.
pub const ETCD_APPEND_MAX_BYTES: usize = 1024 * 1024;
/// Largest sealed value of a record in etcd.
pub const ETCD_RECORD_MAX_BYTES: usize = ETCD_APPEND_MAX_BYTES - 1024;
/// Most records of one transaction.
pub const ETCD_RECORDS_PER_APPEND_MAX_COUNT: usize = 100;
/// Longest prefix of all keys.
pub const ETCD_PREFIX_MAX_BYTES: usize = 128;
/// Most addresses of etcd.
pub const ETCD_ENDPOINTS_MAX_COUNT: usize = 9;
/// Records that are asked for at a time; fewer if the reply is too long.
pub const ETCD_PAGE_COUNT: u32 = 512;
/// Longest reply of etcd that is read. A page of one record fits.
pub const ETCD_REPLY_MAX_BYTES: usize = 8 * 1024 * 1024;
/// Most entries of a list in a reply of etcd: pairs, parts, or events of one message of a watch, which etcd cuts by their length.
pub const ETCD_LIST_MAX_COUNT: usize = 65_536;
/// Longest token that etcd may give for a password.
pub const ETCD_TOKEN_MAX_BYTES: usize = 8 * 1024;
/// Longest frame between keeper and broker: a page of etcd, or as much news as are told at a time and one transaction.
pub const BROKER_FRAME_MAX_BYTES: usize = ETCD_REPLY_MAX_BYTES;
/// What a pair or an event weighs in a frame beside its key and its value, at most.
pub const BROKER_PAIR_OVERHEAD_BYTES: usize = 64;
/// Most that the events of one transaction may weigh. This program writes none that comes near it; beyond it the state is read anew.
pub const ETCD_TRANSACTION_MAX_BYTES: usize = 2 * 1024 * 1024;
/// News that are told at a time, but for the last transaction among them.
pub const BROKER_NEWS_BYTES: usize = 1024 * 1024;
/// How often news are taken before something else is done.
pub const ETCD_NEWS_ROUNDS_MAX_COUNT: usize = 64;
/// How long the keeper waits for the broker, which answers within [`BROKER_WORK_MILLIS`].
pub const BROKER_REPLY_MILLIS: u64 = 20_000;
/// The longest that the broker works on one request of the keeper: what it asks of etcd for it, over all endpoints and with every further
/// try, and as much again for what a busy machine adds.
pub const BROKER_WORK_MILLIS: u64 = 2 * ETCD_CHANGE_MILLIS;
/// Longest head of a reply of etcd.
pub const ETCD_HEAD_MAX_BYTES: usize = 16 * 1024;
/// Most that news may hold in memory before they are dropped and the state is read anew.
pub const ETCD_NEWS_MAX_BYTES: usize = 16 * 1024 * 1024;
/// How often a state is read whose revision is compacted meanwhile.
pub const ETCD_LOADS_MAX_COUNT: usize = 4;
/// How long the reading of a whole state may take, with every further try.
pub const ETCD_LOAD_MILLIS: u64 = 300_000;
/// Most keys below the prefix that are neither records nor origins: header, head, members, and what others have put there.
pub const ETCD_STRANGERS_MAX_COUNT: usize = 16_384;
/// For how long a majority may say that the head is newer than what the watch has brought, before the state is read anew.
pub const ETCD_BEHIND_MILLIS: u64 = 5_000;
/// Pause before the state is read anew a second time because what etcd told does not fit; it doubles each time.
pub const ETCD_RELOAD_PAUSE_MILLIS: u64 = 1_000;
/// The longest such pause.
pub const ETCD_RELOAD_PAUSE_MAX_MILLIS: u64 = 32_000;
/// After so long without such a reading the next one is at once again.
pub const ETCD_RELOAD_CALM_MILLIS: u64 = 120_000;
/// How long one request may take on one endpoint, from the connection to the last byte of the reply.
pub const ETCD_REQUEST_MILLIS: u64 = 2_000;
/// How long a connection to etcd may take to be made.
pub const ETCD_CONNECT_MILLIS: u64 = 1_000;
/// How long a request of the keeper is tried, over all endpoints: a change, or a page.
pub const ETCD_CHANGE_MILLIS: u64 = 5_000;
/// Pause after all endpoints have failed.
pub const ETCD_RETRY_MILLIS: u64 = 200;
/// How often it is asked how new the state is.
pub const ETCD_PULSE_MILLIS: u64 = 1_000;
/// How long a watch may be silent: the server asks for signs of life, which etcd gives every ten minutes.
pub const ETCD_WATCH_SILENCE_MILLIS: u64 = 15 * 60 * 1_000;
/// For how long a server counts as living that was not heard of.
pub const ETCD_LEASE_SECONDS: u64 = 10;
/// How often it is heard of.
pub const ETCD_LEASE_RENEWAL_MILLIS: u64 = 3_000;
/// Most servers that are counted.
pub const FLEET_MEMBERS_MAX_COUNT: usize = 1_024;
/// How old the state may be, unless told otherwise.
pub const STALENESS_DEFAULT_SECONDS: u64 = 60;
/// The least that may be asked for: while a change waits for etcd nobody takes in how new the state is.
pub const STALENESS_FLOOR_SECONDS: u64 = 10;
/// The most.
pub const STALENESS_CEILING_SECONDS: u64 = 3_600;

/// What a server must have room for beside what it keeps: a reply, what is made of it, and news that wait to be taken in.
pub const FLEET_HEAP_BYTES: usize = 2 * BROKER_FRAME_MAX_BYTES + ETCD_NEWS_MAX_BYTES;

const _: () = {
    // Base64 does not count: the bound is on what the gateway makes of it. A head, origins and keys come on top.
    assert!(ETCD_APPEND_MAX_BYTES + 16 * STORE_ORIGINS_MAX_COUNT + 128 * 1024 <= ETCD_REQUEST_MAX_BYTES);
    assert!(ETCD_RECORDS_PER_APPEND_MAX_COUNT + 4 <= ETCD_OPERATIONS_MAX_COUNT);
    assert!(
        ETCD_APPEND_MAX_BYTES <= STORE_APPEND_MAX_BYTES && ETCD_RECORD_MAX_BYTES <= STORE_RECORD_MAX_BYTES
    );
    assert!(ETCD_RECORD_MAX_BYTES / 3 * 4 + 64 * 1024 <= ETCD_REPLY_MAX_BYTES, "one record fits a reply");
    // A page has so many pairs at most, and what they hold is three quarters of what it says in base64.
    assert!(
        ETCD_PAGE_COUNT as usize * BROKER_PAIR_OVERHEAD_BYTES + ETCD_REPLY_MAX_BYTES / 4 * 3 + 1024
            <= BROKER_FRAME_MAX_BYTES,
        "a page fits a frame"
    );
    assert!(
        BROKER_NEWS_BYTES + ETCD_TRANSACTION_MAX_BYTES + 1024 <= BROKER_FRAME_MAX_BYTES,
        "news fit a frame"
    );
    assert!(
        ETCD_OPERATIONS_MAX_COUNT * BROKER_PAIR_OVERHEAD_BYTES + ETCD_REQUEST_MAX_BYTES
            <= ETCD_TRANSACTION_MAX_BYTES,
        "the events of one transaction are told together"
    );
    assert!(ETCD_CONNECT_MILLIS <= ETCD_REQUEST_MILLIS && ETCD_REQUEST_MILLIS < ETCD_CHANGE_MILLIS);
    assert!(ETCD_CHANGE_MILLIS < BROKER_WORK_MILLIS, "one deadline for all tries of a request");
    assert!(BROKER_WORK_MILLIS < BROKER_REPLY_MILLIS, "the keeper gives no broker up that lives");
    assert!(ETCD_RELOAD_PAUSE_MILLIS <= ETCD_RELOAD_PAUSE_MAX_MILLIS);
    assert!(ETCD_RELOAD_PAUSE_MAX_MILLIS < ETCD_RELOAD_CALM_MILLIS);
    assert!(ETCD_PULSE_MILLIS < ETCD_BEHIND_MILLIS);
    assert!(ETCD_LEASE_RENEWAL_MILLIS * 2 < ETCD_LEASE_SECONDS * 1_000);
    assert!(ETCD_CHANGE_MILLIS + 2 * ETCD_PULSE_MILLIS < STALENESS_FLOOR_SECONDS * 1_000);
    assert!(STALENESS_FLOOR_SECONDS <= STALENESS_DEFAULT_SECONDS);
    assert!(STALENESS_DEFAULT_SECONDS <= STALENESS_CEILING_SECONDS);
};
