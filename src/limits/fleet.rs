//! Bounds of a store in etcd and of the servers that share it.
//!
//! Owns them. Invariant, held at compile time: what one transaction may carry fits what etcd takes with its own defaults.

use super::{STORE_APPEND_MAX_BYTES, STORE_ORIGINS_MAX_COUNT, STORE_RECORD_MAX_BYTES};

/// Most bytes of a request that etcd takes, unless it is told otherwise (`--max-request-bytes`).
const ETCD_REQUEST_MAX_BYTES: usize = 1_536 * 1024;
/// Most operations of a transaction that etcd takes, unless it is told otherwise (`--max-txn-ops`).
const ETCD_OPERATIONS_MAX_COUNT: usize = 128;

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
/// Longest frame between keeper and broker: a reply of etcd, or as much news as are told at a time and one transaction.
pub const BROKER_FRAME_MAX_BYTES: usize = ETCD_REPLY_MAX_BYTES;
/// News that are told at a time, but for the last transaction among them.
pub const BROKER_NEWS_BYTES: usize = 1024 * 1024;
/// How often news are taken before something else is done.
pub const ETCD_NEWS_ROUNDS_MAX_COUNT: usize = 64;
/// How long the keeper waits for the broker, which answers within less.
pub const BROKER_REPLY_MILLIS: u64 = 20_000;
/// Longest head of a reply of etcd.
pub const ETCD_HEAD_MAX_BYTES: usize = 16 * 1024;
/// Most that news may hold in memory before they are dropped and the state is read anew.
pub const ETCD_NEWS_MAX_BYTES: usize = 16 * 1024 * 1024;
/// How often a state is read whose revision is compacted meanwhile.
pub const ETCD_LOADS_MAX_COUNT: usize = 4;
/// How long one request may take on one endpoint.
pub const ETCD_REQUEST_MILLIS: u64 = 2_000;
/// How long a connection to etcd may take to be made.
pub const ETCD_CONNECT_MILLIS: u64 = 1_000;
/// How long a change is tried, over all endpoints.
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
    assert!(ETCD_LEASE_RENEWAL_MILLIS * 2 < ETCD_LEASE_SECONDS * 1_000);
    assert!(ETCD_CHANGE_MILLIS + 2 * ETCD_PULSE_MILLIS < STALENESS_FLOOR_SECONDS * 1_000);
    assert!(STALENESS_FLOOR_SECONDS <= STALENESS_DEFAULT_SECONDS);
    assert!(STALENESS_DEFAULT_SECONDS <= STALENESS_CEILING_SECONDS);
};
