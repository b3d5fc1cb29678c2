//! Every bound of the program, with its unit as the last word of its name.
//!
//! Nothing else in the tree may invent a number that limits a length, a count or a duration. Bounds that
//! depend on one another are tied together by the compile-time assertions at the end of the file. Values
//! that an operator may change are the *defaults* of `config`, which checks them against the `_FLOOR_` and
//! `_CEILING_` constants next to them.

mod descriptors;
mod fleet;
mod log;
mod store;

pub use descriptors::*;
pub use fleet::*;
pub use log::*;
pub use store::*;

// ---------------------------------------------------------------------------------------------------------
// HTTP heads
// ---------------------------------------------------------------------------------------------------------

/// Largest request head: request line, fields and the empty line. Beyond it: 431.
pub const HEAD_MAX_BYTES: usize = 8 * 1024;
/// Most fields in a request head. Beyond it: 431.
pub const HEAD_FIELDS_MAX_COUNT: usize = 48;
/// Longest request target. Beyond it: 414.
pub const TARGET_MAX_BYTES: usize = 2 * 1024;
/// Longest request method that is looked at; a longer one is 501 like any unknown method.
pub const METHOD_MAX_BYTES: usize = 24;
/// Longest chunk-size line of a chunked body, extensions included. Beyond it: 400.
pub const CHUNK_LINE_MAX_BYTES: usize = 256;
/// Largest trailer section of a chunked body; its fields are read and dropped. Beyond it: 431.
pub const TRAILERS_MAX_BYTES: usize = 4 * 1024;
/// Most digits of a chunk size: enough for any `u64`. More: 400.
pub const CHUNK_SIZE_MAX_DIGITS: u8 = 16;
/// Most empty lines that are skipped before a request line (RFC 9112, section 2.2). More: 400.
pub const EMPTY_LINES_MAX_COUNT: u8 = 4;
/// Longest `X-Request-Id` of a client that is looked at; a longer one is ignored.
pub const CLIENT_REQUEST_ID_MAX_BYTES: usize = 64;
/// Most media ranges of an `Accept` field that are looked at; the rest is ignored.
pub const ACCEPT_RANGES_MAX_COUNT: usize = 32;
/// Most parameters of a media type; one with more is taken for an unknown type.
pub const MEDIA_PARAMETERS_MAX_COUNT: usize = 8;
/// Largest reply head that is written: what callers set aside in front of a body.
pub const REPLY_HEAD_MAX_BYTES: usize = 2 * 1024;
/// Replies gathered from pipelined requests are flushed before another request once they are as long as this.
pub const OUTPUT_FLUSH_BYTES: usize = 8 * 1024;
/// Room kept in the output for a reply that needs none of its own: a problem with its head.
pub const REPLY_PROBLEM_MAX_BYTES: usize = 4 * 1024;
/// Requests that a worker answers in one turn before a connection that pipelines them has only one in each turn.
pub const REQUESTS_PER_TURN_COUNT: usize = 2_048;
/// Most pipelined requests answered from one lease before their replies are flushed.
pub const PIPELINE_MAX_COUNT: usize = 32;
/// For so many of them a connection has room from the first: who pipelines more takes it, and holds the usual lease for the replies.
pub const MARKS_KEPT_COUNT: usize = 4;
/// Longest client-supplied credential that is compared at all.
pub const CREDENTIAL_MAX_BYTES: usize = 4 * 1024;

// ---------------------------------------------------------------------------------------------------------
// Credentials
// ---------------------------------------------------------------------------------------------------------

/// Most identities of one peer that are looked at: names of a certificate, or user and group of a process.
pub const PEER_IDENTITIES_MAX_COUNT: usize = 16;
/// Longest text of one scope.
pub const SCOPE_MAX_BYTES: usize = 256;
/// Most scopes of an API key or a token.
pub const SCOPES_MAX_COUNT: usize = 64;
/// Most API keys, those that are revoked included.
pub const API_KEYS_MAX_COUNT: usize = 10_000;
/// Longest name of an API key.
pub const API_KEY_NAME_MAX_BYTES: usize = 64;
/// Longest description of an API key.
pub const API_KEY_DESCRIPTION_MAX_BYTES: usize = 256;
/// Most networks from which an API key may be used.
pub const API_KEY_NETWORKS_MAX_COUNT: usize = 16;
/// Most identities by which an API key is recognised.
pub const API_KEY_IDENTITIES_MAX_COUNT: usize = 8;
/// Longest name in an identity, without the word that says what kind of name it is.
pub const IDENTITY_VALUE_MAX_BYTES: usize = 256;
/// Longest host name in an identity (RFC 1035, section 2.3.4, as text).
pub const IDENTITY_DNS_MAX_BYTES: usize = 253;
/// Longest label of a host name in an identity (RFC 1035, section 2.3.4).
pub const IDENTITY_LABEL_MAX_BYTES: usize = 63;
/// Longest identity with its kind: numbers of users and groups, whose kinds have longer words, are short.
pub const IDENTITY_TEXT_MAX_BYTES: usize = "email:".len() + IDENTITY_VALUE_MAX_BYTES;
/// How long the old secret of an API key works beside the new one, unless the rotation says otherwise.
pub const API_KEY_OVERLAP_SECONDS: u64 = 86_400;
/// How long it may at most.
pub const API_KEY_OVERLAP_MAX_SECONDS: u64 = 30 * 86_400;

// ---------------------------------------------------------------------------------------------------------
// Bodies
// ---------------------------------------------------------------------------------------------------------

/// Largest plaintext of one encrypt, decrypt or sign request.
pub const PLAINTEXT_MAX_BYTES: usize = 1024 * 1024;
/// What a ciphertext adds to its plaintext at most, in any form: prefix, version, nonce and tag.
pub const ENVELOPE_OVERHEAD_MAX_BYTES: usize = 64;
/// Room for the other members of a JSON request: names, associated data, context.
pub const BODY_MEMBERS_MAX_BYTES: usize = 8 * 1024;
/// Body limit of the routes that carry a payload: its largest legal encoding. Beyond it: 413.
pub const BODY_PAYLOAD_MAX_BYTES: usize =
    (PLAINTEXT_MAX_BYTES + ENVELOPE_OVERHEAD_MAX_BYTES).div_ceil(3) * 4 + BODY_MEMBERS_MAX_BYTES;
/// Longest body of a reply that is made in memory: what the largest lease holds behind replies that wait in it and
/// the reply's own head. Beyond it: 413.
pub const REPLY_BODY_MAX_BYTES: usize =
    LEASE_LARGEST_BYTES - OUTPUT_FLUSH_BYTES - REPLY_PROBLEM_MAX_BYTES - REPLY_HEAD_MAX_BYTES;
/// The page for people, compressed as it is served.
pub const CONSOLE_MAX_BYTES: usize = 60 * 1024;
/// A document that everybody may ask for is opened for who does not read gzip up to this length, so that its reply fits a lease of 128 KiB.
pub const DOCUMENT_OPENED_MAX_BYTES: usize = 60 * 1024;
/// Body limit of every other route. Beyond it: 413.
pub const BODY_SMALL_MAX_BYTES: usize = 64 * 1024;
/// Longest associated data, decoded.
pub const ASSOCIATED_DATA_MAX_BYTES: usize = 4 * 1024;
/// Longest beginning of a streamed reply that is sent with its head: the header of a sealed stream fits.
pub const STREAM_PREFIX_MAX_BYTES: usize = 64;
/// Most bytes that are sent behind a streamed piece: its tag.
pub const STREAM_SUFFIX_MAX_BYTES: usize = 16;
/// How often a stream that waits for its client looks whether it is still allowed.
pub const STREAM_RECHECK_MILLIS: u64 = 1_000;
/// Most bytes read and dropped after a refusal whose request body is still on its way.
pub const DISCARD_MAX_BYTES: usize = 256 * 1024;

// ---------------------------------------------------------------------------------------------------------
// Leases
// ---------------------------------------------------------------------------------------------------------

/// The buffer with which a request begins: a head, and most requests whole.
pub const LEASE_USUAL_BYTES: usize = 16 * 1024;
/// The largest buffer through which a stream passes.
pub const LEASE_WINDOW_BYTES: usize = 256 * 1024;
/// The largest buffer.
pub const LEASE_LARGEST_BYTES: usize = 2 * 1024 * 1024;
/// Sizes of the leased buffers, smallest first. Those below the usual one are for an account that is short of room. Payloads of 16 and of
/// 64 KiB, as base64 in JSON, fit the two that follow it.
pub const LEASE_CLASSES_BYTES: [usize; 7] =
    [2 * 1024, 4 * 1024, LEASE_USUAL_BYTES, 32 * 1024, 128 * 1024, LEASE_WINDOW_BYTES, LEASE_LARGEST_BYTES];
/// How many times what has come of a body may be leased for the rest of it that was announced; never before what is leased is full.
pub const LEASE_GROWTH_TIMES: usize = 8;
/// How many returned buffers of each class a worker keeps for the next lease. A buffer that is not kept is made anew, all of it
/// zeros: of those that hold a request of 16 KiB, 64 busy connections have two each, and of those for 64 KiB most one.
pub const LEASE_KEPT_COUNT: [usize; 7] = [256, 256, 256, 128, 72, 8, 2];
/// An account that holds more than one in so many parts of its share is short of room: what it leases from then on is as
/// small as will do.
pub const LEASE_SHORT_SHARE_COUNT: usize = 4;
/// Largest body that is held as a whole, and the limit of the route that takes backups: what the largest lease holds
/// behind a head. Beyond it: 413.
pub const BODY_BUFFERED_MAX_BYTES: usize = LEASE_LARGEST_BYTES - HEAD_MAX_BYTES;
/// Longest backup of a key that is given out: it can be taken again.
pub const BACKUP_IN_BODY_MAX_BYTES: usize = BODY_BUFFERED_MAX_BYTES - BODY_MEMBERS_MAX_BYTES;
/// Default for the budget of all leases of all workers together.
pub const LEASE_BUDGET_DEFAULT_BYTES: usize = 64 * 1024 * 1024;
/// Smallest budget that still serves one largest request beside small ones.
pub const LEASE_BUDGET_FLOOR_BYTES: usize = 8 * 1024 * 1024;
/// One in so many parts of the budget is as much as returned buffers may take while they wait for the next lease.
pub const LEASE_KEPT_SHARE_COUNT: usize = 4;
/// One in so many parts of the budget is as much as one API key may hold, and so is what all requests together may hold
/// whose sender nobody has recognised.
pub const LEASE_SHARE_COUNT: usize = 2;
/// Of the share of those whom nobody has recognised, one in so many parts of the budget is for requests that are heard and answered at
/// once when they hold the rest.
pub const LEASE_GUESTS_SHARE_COUNT: usize = 16;
/// A share is at least this: one largest request, with its reply, and both while they grow.
pub const LEASE_SHARE_FLOOR_BYTES: usize = 5 * 1024 * 1024;
/// One in so many parts of the budget is as much as those TLS sessions may hold of it, for what they keep now and then, of whose
/// clients none is known.
pub const LEASE_BESIDE_SHARE_COUNT: usize = 8;
/// A loop takes of an account in pieces of one in so many parts of what the account may hold, and of no more than that.
pub const ACCOUNT_PIECE_SHARE_COUNT: usize = 64;
/// The largest such piece.
pub const ACCOUNT_PIECE_MAX_BYTES: usize = 256 * 1024;
/// What a loop keeps in hand of an account, until the end of the turn, at most.
pub const ACCOUNT_HAND_MAX_BYTES: usize = 1024 * 1024;
/// Beyond so many accounts a loop forgets those that none of its connections has.
pub const ACCOUNTS_KEPT_COUNT: usize = 256;
/// One in so many parts of the memory that the system allows is as much as the budget may be.
pub const LEASE_SYSTEM_SHARE_COUNT: u64 = 2;
/// Largest budget that a configuration may ask for.
pub const LEASE_BUDGET_CEILING_BYTES: usize = 16 * 1024 * 1024 * 1024;

// ---------------------------------------------------------------------------------------------------------
// The heap once it is closed
// ---------------------------------------------------------------------------------------------------------

/// What address space is reserved in, and the untouchable piece at each end: a multiple of every size of a page.
pub const ARENA_GRAIN_BYTES: usize = 64 * 1024;
/// What is reserved beside the leases and the connections if the system allows it: keys, versions, audit, tables. It is address space,
/// and becomes memory as it is used.
pub const ARENA_REST_WANTED_BYTES: usize = 4 * 1024 * 1024 * 1024;
/// What of it must be there at least.
pub const ARENA_REST_LEAST_BYTES: usize = 4 * 1024 * 1024;
/// What must be there at least for each connection, beside what it leases: its task at work, of which a test knows how much that is.
pub const ARENA_CONNECTION_BYTES: usize = 5 * 1024;
/// The same for one that speaks TLS: what its session keeps for a time is charged to the leases.
pub const ARENA_CONNECTION_TLS_BYTES: usize = ARENA_CONNECTION_BYTES + TLS_SESSION_BYTES;
/// One in so many parts of the leases is reserved beside them at least, for what lies unusable between them.
pub const ARENA_LEASES_SPARE_COUNT: usize = 8;
/// What stays free of the address space beside the heap and the stacks of the threads: the main thread's stack, tables of the kernel's.
pub const ARENA_BESIDE_BYTES: usize = 1024 * 1024;
/// What a thread maps beside its stack: an untouchable page, its signal stack.
pub const THREAD_BESIDE_BYTES: usize = 64 * 1024;

// ---------------------------------------------------------------------------------------------------------
// Time
// ---------------------------------------------------------------------------------------------------------

/// From the accept of a connection to the end of its TLS handshake. Beyond it: closed.
pub const HANDSHAKE_MAX_MILLIS: u64 = 5_000;
/// From the first byte of a request to the end of its head, absolute. Beyond it: 408.
pub const HEAD_READ_MAX_MILLIS: u64 = 5_000;
/// Longest silence inside a request body. Beyond it: 408.
pub const BODY_GAP_MAX_MILLIS: u64 = 10_000;
/// From the end of the head to the end of the body, absolute. Beyond it: 408.
pub const BODY_READ_MAX_MILLIS: u64 = 30_000;
/// Slowest body that is borne after its first `BODY_GAP_MAX_MILLIS`. Below it: 408.
pub const BODY_RATE_MIN_BYTES_PER_SECOND: u64 = 4 * 1024;
/// How long a kept-alive connection may be silent between requests; then it is closed.
pub const IDLE_MAX_MILLIS: u64 = 30_000;
/// How long a reply may find no room in the peer's window; then the connection is closed.
pub const WRITE_STALL_MAX_MILLIS: u64 = 10_000;
/// Slowest taking of a reply that is borne after its first stall time; below it the connection is closed.
pub const SEND_RATE_MIN_BYTES_PER_SECOND: u64 = 4 * 1024;
/// How long a refused request's remaining body is read and dropped before the connection is closed.
pub const DISCARD_MAX_MILLIS: u64 = 2_000;
/// Longest life of a connection; the reply after it says `Connection: close`.
pub const CONNECTION_LIFE_MAX_MILLIS: u64 = 3_600_000;
/// Default for the time between SIGTERM and the end of the requests in flight.
pub const DRAIN_DEFAULT_MILLIS: u64 = 10_000;
/// Longest drain that a configuration may ask for.
pub const DRAIN_CEILING_MILLIS: u64 = 600_000;
/// Shortest drain that a configuration may ask for: none, requests in flight are cut off.
pub const DRAIN_FLOOR_MILLIS: u64 = 0;
/// Shortest time limit of a connection that a configuration may ask for.
pub const TIME_LIMIT_FLOOR_MILLIS: u64 = 100;
/// Longest time limit of a connection that a configuration may ask for.
pub const TIME_LIMIT_CEILING_MILLIS: u64 = 3_600_000;
/// From the start of `quantonium healthcheck` to its verdict.
pub const HEALTHCHECK_MAX_MILLIS: u64 = 3_000;
/// From the start of a request of `quantonium apikey` to the end of its reply.
pub const CLIENT_REQUEST_MAX_MILLIS: u64 = 30_000;
/// How long a command that streams waits while neither side moves, apart from waiting for its own input.
pub const CLIENT_STALL_MAX_MILLIS: u64 = 30_000;
/// How often such a command looks whether its own input moves.
pub const CLIENT_STALL_LOOK_MILLIS: u64 = 500;
/// How often a command tells a terminal how far it is.
pub const CLIENT_PROGRESS_MILLIS: u64 = 200;
/// Width of one slot of the timer wheel: no deadline is kept more exactly than this.
pub const TIMER_SLOT_MILLIS: u64 = 64;
/// Slots of the timer wheel (a power of two); later deadlines go round more than once.
pub const TIMER_SLOTS_COUNT: usize = 1024;

// ---------------------------------------------------------------------------------------------------------
// Connections and workers
// ---------------------------------------------------------------------------------------------------------

/// Default for all connections of all workers together, if the descriptor limit allows them.
pub const CONNECTIONS_DEFAULT_COUNT: usize = 1024;
/// Most connections that a configuration may ask for.
pub const CONNECTIONS_CEILING_COUNT: usize = 16_384;
/// Fewest connections that a configuration may ask for.
pub const CONNECTIONS_FLOOR_COUNT: usize = 1;
/// Default for connections of one client address (IPv6: one /64).
pub const CONNECTIONS_PER_ADDRESS_DEFAULT_COUNT: usize = 64;
/// Fewest connections of one client address that a configuration may ask for; zero means no such limit.
pub const CONNECTIONS_PER_ADDRESS_FLOOR_COUNT: usize = 0;
/// Default for requests on one connection; the last reply says `Connection: close`.
pub const REQUESTS_PER_CONNECTION_DEFAULT_COUNT: u64 = 10_000;
/// Most requests on one connection that a configuration may ask for.
pub const REQUESTS_PER_CONNECTION_CEILING_COUNT: u64 = 1_000_000_000;
/// Fewest requests on one connection that a configuration may ask for: every reply closes.
pub const REQUESTS_PER_CONNECTION_FLOOR_COUNT: u64 = 1;
/// Most networks of proxies that a configuration may trust.
pub const TRUSTED_PROXIES_MAX_COUNT: usize = 64;
/// Most addresses of a forwarding field that are looked at, from its end: proxies in a row, and the client.
pub const FORWARDED_HOPS_MAX_COUNT: usize = 16;
/// Longest node of `Forwarded` that can name an address: one of IPv6 in brackets, and a port.
pub const FORWARDED_NODE_MAX_BYTES: usize = 2 + 45 + 6;
/// Descriptors kept free beside those of connections.
pub const DESCRIPTORS_SPARE_COUNT: usize = 16;
/// Fewest descriptors with which the program starts: the bands, the spare ones, and the fewest connections.
pub const DESCRIPTORS_FLOOR_COUNT: u64 = 528 + (DESCRIPTORS_SPARE_COUNT + CONNECTIONS_FLOOR_COUNT) as u64;
/// Most descriptors that the program takes, however many it is offered: the bands, the spare ones, every connection.
pub const DESCRIPTORS_CEILING_COUNT: u64 = 528 + (DESCRIPTORS_SPARE_COUNT + CONNECTIONS_CEILING_COUNT) as u64;
/// Largest file that the process may write; a longer one is an error of that write.
pub const FILE_MAX_BYTES: u64 = 64 * 1024 * 1024 * 1024;
/// Longest status file of the kernel that is read: that of a user with as many groups as the kernel allows, 65,536 of at most 11 bytes each.
pub const PROC_STATUS_MAX_BYTES: usize = 65_536 * 11 + PROC_STATUS_USUAL_BYTES;
/// Room that it is read into first.
pub const PROC_STATUS_USUAL_BYTES: usize = 8 * 1024;
/// How much of the kernel's list of mappings is read at once: more than its longest line, a path included.
pub const PROC_MAPS_BUFFER_BYTES: usize = 8 * 1024;
/// Executable mappings of a process that is one file: its own, and those that the kernel adds.
pub const EXECUTABLE_MAPPINGS_MAX_COUNT: usize = 16;
/// How long the main thread looks at the process at a time, before it looks after signals again.
pub const MONITOR_SLICE_MAX_MILLIS: u64 = 5;
/// How long it looks after nothing but signals then, before it goes on with a round.
pub const MONITOR_PAUSE_MILLIS: u64 = 50;
/// How long a descriptor may be on its way to another number before it is a finding.
pub const MONITOR_SUSPECT_MILLIS: u64 = 250;
/// How long the keeper may take to look at the end of the journal before that is a finding: longer than a disk that lives.
pub const MONITOR_TAIL_MAX_MILLIS: u64 = 30_000;
/// How much of the program's file is hashed before it looks at the time.
pub const MONITOR_PIECE_BYTES: usize = 16 * 1024;
/// How many descriptors are looked at before it looks at the time.
pub const MONITOR_DESCRIPTORS_COUNT: i32 = 512;
/// Descriptors that are looked at twice before they are a finding; of more of them, the first ones.
pub const MONITOR_SUSPECTS_MAX_COUNT: usize = 64;
/// Connections accepted in one turn of a worker's loop before others are served.
pub const ACCEPTS_PER_TURN_COUNT: usize = 64;
/// How long a loop waits before it tries again to accept when descriptors or places had run out.
pub const ACCEPT_RETRY_MILLIS: u64 = 50;
/// Connections refused in one turn of a worker's loop because every place is taken, on each listener.
pub const REFUSED_PER_TURN_COUNT: usize = 16;
/// Tasks that are looked at to find one that rests, when every place is taken.
pub const SHED_LOOK_COUNT: usize = 256;
/// How long a kept-alive connection is silent at least before it gives way to another.
pub const SHED_SILENCE_MIN_MILLIS: u64 = 1_000;
/// How long a handshake that has begun takes at least before it gives way to another.
pub const SHED_HANDSHAKE_MIN_MILLIS: u64 = 150;
/// Refused connections are told in the log once in this time, with their number.
pub const REFUSALS_TOLD_MILLIS: u64 = 5_000;
/// Readiness events taken in one turn of a worker's loop.
pub const EVENTS_PER_TURN_COUNT: usize = 256;
/// What the kernel may hold of replies that a peer has not taken, for each connection (it doubles the figure).
pub const SEND_BUFFER_BYTES: usize = 128 * 1024;
/// How long the kernel waits for a peer to acknowledge what was sent before it ends the connection.
pub const UNACKNOWLEDGED_MAX_MILLIS: u64 = 30_000;
/// Length of the kernel's queue of connections that were not yet accepted.
pub const LISTEN_BACKLOG_COUNT: i32 = 1024;
/// Where the kernel says how long it lets such a queue be.
pub const SOMAXCONN_FILE_TEXT: &str = "/proc/sys/net/core/somaxconn";
/// Seconds after which the kernel hands over a connection that has sent nothing: at once.
pub const DEFER_ACCEPT_DEFAULT_SECONDS: u64 = 0;
/// The same, at most: what is longer holds a place in the kernel's queue that others need.
pub const DEFER_ACCEPT_CEILING_SECONDS: u64 = 60;
/// Shortest patience of a service manager: two ticks for a sign of life, and as much again until it is read.
pub const WATCHDOG_FLOOR_MILLIS: u64 = 4 * KEEPER_TICK_MILLIS;
/// Longest message of a server to its supervisor that is read.
pub const NOTIFY_MESSAGE_MAX_BYTES: usize = 1024;
/// Pause of a supervisor before it starts a server again that had served.
pub const RESTART_PAUSE_FIRST_MILLIS: u64 = 100;
/// Longest such pause; each failure in a row doubles it.
pub const RESTART_PAUSE_MAX_MILLIS: u64 = 30_000;
/// How long a server under a supervisor waits until the one before it has left the store.
pub const SUPERVISED_WAIT_SECONDS: u64 = 600;
/// Longest wait for the store that can be configured.
pub const STORE_WAIT_CEILING_SECONDS: u64 = 3_600;
/// How often a start that waits for the store looks whether it is free.
pub const STORE_WAIT_STEP_MILLIS: u64 = 20;
/// How long after its accept a connection may send its first request although the server drains.
pub const FIRST_REQUEST_GRACE_MILLIS: u64 = 1_000;
/// Most sockets that another process may hand over.
pub const INHERITED_SOCKETS_MAX_COUNT: usize = 64;
/// Longest name of such a socket.
pub const INHERITED_NAME_MAX_BYTES: usize = 255;
/// Most worker threads: with the main thread's own, and the one that it asks before it writes the log, the descriptor bands have room for
/// no more.
pub const WORKERS_MAX_COUNT: usize = 62;
/// Fewest worker threads.
pub const WORKERS_MIN_COUNT: usize = 1;
/// Longest path of a Unix socket: what the system's address of one holds, with its zero.
pub const UNIX_PATH_MAX_BYTES: usize = 107;
/// User or group of a process that this user namespace does not know (the kernel's default of `overflowuid`).
pub const OVERFLOW_ID_NUMBER: u32 = 65_534;
/// Default for the access mode of Unix sockets: user and group.
pub const UNIX_MODE_DEFAULT_NUMBER: u32 = 0o660;
/// Most certificates, names of hosts or origins that a configuration may list.
pub const SETTING_LIST_MAX_COUNT: usize = 64;
/// Longest name of a host, with its port.
pub const HOST_MAX_BYTES: usize = 253 + 6;
/// Longest `Location` of a redirect: a scheme, a host and a target. Beyond it: 414.
pub const REDIRECT_LOCATION_MAX_BYTES: usize = 768;
/// How often a worker warns of credentials that came in the clear.
pub const EXPOSED_WARNING_MILLIS: u64 = 60 * 1000;
/// How long browsers may remember what a page of another origin may send.
pub const PREFLIGHT_CACHE_SECONDS: u32 = 600;
/// Longest origin: a scheme and a host.
pub const ORIGIN_MAX_BYTES: usize = 8 + HOST_MAX_BYTES;
/// How many handshakes a worker remembers in their order before it forgets those that are over.
pub const BEGINNINGS_SWEEP_COUNT: usize = 1024;
/// Default for the TLS handshakes at a time, all workers together.
pub const HANDSHAKES_DEFAULT_COUNT: usize = 256;
/// Default for the TLS handshakes at a time of one client address (IPv6: one /64).
pub const HANDSHAKES_PER_ADDRESS_DEFAULT_COUNT: usize = 8;
/// Most listening sockets, all addresses and workers together.
pub const LISTENERS_MAX_COUNT: usize = 240;
/// Stack of each worker and of the keeper.
pub const THREAD_STACK_BYTES: usize = 256 * 1024;

// ---------------------------------------------------------------------------------------------------------
// TLS
// ---------------------------------------------------------------------------------------------------------

/// Bytes that a worker's TLS sessions share for what passes between them and their sockets.
pub const TLS_SCRATCH_BYTES: usize = 64 * 1024;
/// Bytes read at once while a handshake goes on: what comes behind it must find room in the session.
pub const TLS_HANDSHAKE_READ_BYTES: usize = 4 * 1024;
/// Longest handshake of a client, its certificates included: the session keeps of it what is not yet whole.
pub const TLS_HANDSHAKE_MAX_BYTES: usize = 32 * 1024;
/// Of a handshake so much is free, so that whoever says what a client has to say is let in however much others hold: their
/// number is bounded.
pub const TLS_HANDSHAKE_USUAL_BYTES: usize = 8 * 1024;
/// Bytes that one TLS session keeps for a peer that does not take them: three of the largest records.
pub const TLS_SEND_BUFFER_BYTES: usize = 48 * 1024;
/// What one TLS session keeps of a record of which more must come, or that was not wholly taken: the library's buffer,
/// which it takes and gives back as a whole.
pub const TLS_RECORD_KEPT_BYTES: usize = 20 * 1024;
/// What one TLS session keeps all the time (8.4 KiB measured), and its socket's task.
pub const TLS_SESSION_BYTES: usize = 9 * 1024;
/// One in so many parts of a control group's memory is left to the kernel: sockets, pages of files.
pub const GROUP_KERNEL_SHARE_COUNT: u64 = 8;
/// One in so many parts of what an address space leaves is kept for what is mapped before the heap is closed.
pub const SPACE_SPARE_SHARE_COUNT: usize = 16;
/// What a TLS 1.3 record adds to its plaintext: header, content type and tag. Those of TLS 1.2 add one byte less, or seven more.
pub const TLS_RECORD_OVERHEAD_BYTES: usize = 5 + 1 + 16;
/// Records that bring no byte, empty ones and those of TLS's own, that one session takes in a row. Beyond it: closed.
pub const TLS_HOLLOW_MAX_BYTES: usize = 4 * 1024;
/// Session tickets sent after a handshake. Each connection that resumes gets a new one, so that one is enough.
pub const TLS_TICKETS_COUNT: usize = 1;
/// Most certificate and key pairs of one server.
pub const TLS_PAIRS_MAX_COUNT: usize = 64;
/// Largest file of certificates, a key or an OCSP reply.
pub const TLS_FILE_MAX_BYTES: usize = 1024 * 1024;
/// Largest OCSP reply (its length is 24 bits on the wire, and every full handshake carries it).
pub const TLS_OCSP_MAX_BYTES: usize = 16 * 1024;
/// Largest certificate that is looked into.
pub const TLS_CERTIFICATE_MAX_BYTES: usize = 64 * 1024;
/// Most certificates of one chain.
pub const TLS_CHAIN_MAX_COUNT: usize = 10;
/// Most lists of client certificates that these have revoked.
pub const TLS_CLIENT_REVOCATIONS_MAX_COUNT: usize = 32;
/// Most certificates of the authorities that may sign client certificates.
pub const TLS_CLIENT_AUTHORITIES_MAX_COUNT: usize = 256;
/// Most names of a certificate that are looked at.
pub const TLS_CERTIFICATE_NAMES_MAX_COUNT: usize = 1024;
/// Default for the validity of a development certificate.
pub const DEVELOPMENT_CERTIFICATE_DEFAULT_DAYS: u32 = 90;
/// Shortest validity of a development certificate.
pub const DEVELOPMENT_CERTIFICATE_FLOOR_DAYS: u32 = 30;
/// Longest validity of a development certificate: what clients take at most.
pub const DEVELOPMENT_CERTIFICATE_CEILING_DAYS: u32 = 825;
/// Most directories in which certificates and keys stand, and to which links in them lead.
pub const TLS_DIRECTORIES_MAX_COUNT: usize = 8;
/// How much of such a file is read at once.
pub const TLS_FILE_PIECE_BYTES: usize = 16 * 1024;
/// How often the archivist looks whether the files of certificates have changed.
pub const TLS_RELOAD_MILLIS: u64 = 10_000;
/// A certificate that ends sooner is warned of.
pub const TLS_EXPIRY_WARNING_DAYS: u64 = 30;
/// How often that is done while the server runs.
pub const TLS_EXPIRY_ROUND_MILLIS: u64 = 24 * 3_600_000;
/// Reloads that the audit log could not take and that are kept for it; older ones are dropped.
pub const TLS_RELOADS_UNTOLD_MAX_COUNT: usize = 64;

// ---------------------------------------------------------------------------------------------------------
// Rate limits
// ---------------------------------------------------------------------------------------------------------

/// Highest rate of requests in a second.
pub const RATE_CEILING_COUNT: u32 = 1_000_000;
/// Most requests at once.
pub const RATE_BURST_CEILING_COUNT: u32 = 10_000_000;
/// Where no burst is named it is what comes together in this time.
pub const RATE_BURST_DEFAULT_SECONDS: u32 = 10;
/// So many bytes of a body take one more of a rate.
pub const RATE_UNIT_BYTES: usize = 64 * 1024;
/// Client addresses (IPv6: one /64) of which the limiter knows how often they asked.
pub const ADDRESSES_LIMITED_MAX_COUNT: usize = 32 * 1024;
/// Addresses among which the one with the fullest bucket gives way to another.
pub const ADDRESSES_PER_SET_COUNT: usize = 8;
/// Parts of the table of addresses that are locked on their own.
pub const ADDRESSES_SHARDS_COUNT: usize = 64;

// ---------------------------------------------------------------------------------------------------------
// Keys, batches, randomness
// ---------------------------------------------------------------------------------------------------------

/// Length of every secret key of an encryption key version.
pub const KEY_BYTES: usize = 32;
/// Longest hash value: SHA-512.
pub const DIGEST_MAX_BYTES: usize = 64;
/// Longest nonce: XChaCha20.
pub const NONCE_MAX_BYTES: usize = 24;
/// Longest name of a key.
pub const KEY_NAME_MAX_BYTES: usize = 128;
/// Most keys that the ring holds.
pub const KEYS_MAX_COUNT: usize = 100_000;
/// Most versions of one key.
pub const KEY_VERSIONS_MAX_COUNT: u32 = 4_096;
/// Most seals with one version whose nonce has 96 random bits (NIST SP 800-38D section 8.3).
pub const NONCE_96_SEALS_MAX_COUNT: u64 = 1 << 32;
/// Seals that are set aside, durably, before the first of them: at most so many are lost by a crash.
pub const SEALS_BLOCK_COUNT: u64 = 1 << 20;
/// Shortest imported HMAC key.
pub const MAC_KEY_MIN_BYTES: usize = 16;
/// Longest imported HMAC key.
pub const MAC_KEY_MAX_BYTES: usize = 512;
/// Longest record of a key with all its versions.
pub const KEY_RECORD_MAX_BYTES: usize = 4 * 1024 * 1024;
/// Longest backup of a key, as text.
pub const BACKUP_MAX_BYTES: usize = 6 * 1024 * 1024;
/// Longest context of a derived key, decoded.
pub const CONTEXT_MAX_BYTES: usize = 1024;
/// Shortest age at which the server rotates a key by itself.
pub const AUTO_ROTATE_FLOOR_SECONDS: u64 = 1;
/// Longest such age: a hundred years.
pub const AUTO_ROTATE_CEILING_SECONDS: u64 = 100 * 366 * 86_400;
/// Default for the time in which a deleted key can be brought back.
pub const RESTORE_WINDOW_DEFAULT_SECONDS: u64 = 7 * 86_400;
/// Shortest such time: none, the next look at the schedule destroys it.
pub const RESTORE_WINDOW_FLOOR_SECONDS: u64 = 0;
/// Longest such time: ten years.
pub const RESTORE_WINDOW_CEILING_SECONDS: u64 = 10 * 366 * 86_400;
/// Smallest revision that a configuration may demand of the store: the first one.
pub const STORE_REVISION_FLOOR_NUMBER: u64 = 1;
/// Largest such revision: the largest number that a TOML file can hold.
pub const STORE_REVISION_CEILING_NUMBER: u64 = i64::MAX as u64;
/// Largest revision that is believed of a store: a line that names a later one was never written by a server, and
/// raising a store so far would leave it no revisions to go on with.
pub const STORE_REVISION_BELIEVED_MAX_NUMBER: u64 = STORE_REVISION_CEILING_NUMBER - (1 << 32);
/// Latest moment that a record may name: the end of the year 9999.
pub const TIME_MAX_MILLIS: u64 = 253_402_300_799_999;
/// Keys returned by one page of a listing.
pub const LIST_PAGE_MAX_COUNT: usize = 1_000;
/// Longest message of one seal: ChaCha20 counts 2^32 blocks of 64 bytes (RFC 8439 section 2.8), and the last
/// group of 16 blocks is left free, so that drawing ahead never wraps the counter.
pub const AEAD_MESSAGE_MAX_BYTES: u64 = ((1 << 32) - 16) * 64;
/// Bytes that are enciphered and then authenticated before the next ones are touched: they stay in the L1 cache.
pub const AEAD_PIECE_BYTES: usize = 8 * 1024;
/// Longest output of one HKDF-SHA256 derivation (RFC 5869 section 2.3).
pub const KDF_OUTPUT_MAX_BYTES: usize = 255 * 32;
/// Longest keystream of one request.
pub const KEYSTREAM_MAX_BYTES: usize = 1024 * 1024;
/// Longest data key.
pub const DATA_KEY_MAX_BYTES: usize = 64;
/// Most random bytes of one request.
pub const RANDOM_SAMPLE_MAX_BYTES: usize = 1024 * 1024;
/// Bytes that are encoded at a time where they stand: they pass through the stack.
pub const ENCODE_PIECE_BYTES: usize = 3 * 1024;
/// Largest key region. It is locked memory, of which half of what the system allows is taken if that is less.
pub const KEY_REGION_MAX_BYTES: usize = 1024 * 1024;
/// The region of a process that may lock nothing: states of the process alone, of which little is ever touched.
pub const KEY_REGION_UNLOCKED_BYTES: usize = 256 * 1024;
/// What the key region is counted in, and what its slots are aligned to.
pub const KEY_REGION_GRANULE_BYTES: usize = 32;
/// Largest slot of the key region: what is longer lies on the heap.
pub const KEY_SLOT_MAX_BYTES: usize = 2 * 1024;
/// How deep the frames of the crate's cipher reach when it works on its widest group: AVX-512 keeps a copy of its state, key
/// included, in one that takes more than 1.5 KiB.
pub const CIPHER_FRAMES_BYTES: usize = 4 * 1024;
/// The same of our own cipher, which keeps the words of the key there, each as often as there are lanes: 1.2 KiB.
pub const CIPHER_LANES_FRAMES_BYTES: usize = 2 * 1024;
/// The same of the MAC where it has vectors of 256 bits: powers of its key in a frame of 1 KiB.
pub const MAC_FRAMES_BYTES: usize = 2 * 1024;
/// Keystream that the generator draws at a time: its next key, and output for small requests.
pub const RANDOM_POOL_BYTES: usize = 1024;
/// A request of at least this size gets a keystream of its own instead of passing through the pool.
pub const RANDOM_DIRECT_MIN_BYTES: usize = 1024;
/// The generator draws a fresh seed after this many bytes.
pub const RESEED_AFTER_BYTES: usize = 1024 * 1024;
/// The generator draws a fresh seed after this time.
pub const RESEED_AFTER_MILLIS: u64 = 1_000;
/// Equal bytes in a row for which a seed is refused: SP 800-90B 4.4.1 with H = 8 and alpha = 2^-64.
pub const ENTROPY_REPETITION_MAX_COUNT: usize = 9;
/// Samples of a window of the adaptive proportion test: SP 800-90B 4.4.2, samples that are not binary.
pub const ENTROPY_PROPORTION_WINDOW_COUNT: usize = 512;
/// Bytes like the first one of a window for which a seed is refused: the same H and alpha.
pub const ENTROPY_PROPORTION_MAX_COUNT: usize = 26;
/// Samples that are tested before the first one is used: SP 800-90B 4.3.
pub const ENTROPY_START_COUNT: usize = 1_024;

// ---------------------------------------------------------------------------------------------------------
// Tokens
// ---------------------------------------------------------------------------------------------------------

/// Longest token (JWT), as it is sent.
pub const TOKEN_MAX_BYTES: usize = 4 * 1024;
/// What a token decodes to at most: its header, its claims and its signature.
pub const TOKEN_DECODED_MAX_BYTES: usize = TOKEN_MAX_BYTES / 4 * 3;
/// How far the clocks of this server and of whoever made a token may be apart.
pub const TOKEN_LEEWAY_MILLIS: u64 = 30_000;
/// Longest text of a setting that is one.
pub const SETTING_TEXT_MAX_BYTES: usize = 128;
/// Who makes the tokens, as they say.
pub const TOKEN_ISSUER_DEFAULT_TEXT: &str = "quantonium";
/// Most tokens that are remembered as given back before their end.
pub const TOKENS_WITHDRAWN_MAX_COUNT: usize = 4_096;
/// Most of them that are of one API key.
pub const TOKENS_WITHDRAWN_PER_KEY_MAX_COUNT: usize = 256;
/// For whom they are, as they say.
pub const TOKEN_AUDIENCE_DEFAULT_TEXT: &str = "quantonium";
/// The segment of the path below which clients of Vault are served.
pub const VAULT_MOUNT_DEFAULT_TEXT: &str = "transit";
/// Most random bytes of one request of such a client, as the engine has it.
pub const VAULT_RANDOM_MAX_BYTES: usize = 128 * 1024;
/// Shortest age at which such a client may have keys rotated, as the engine has it.
pub const VAULT_AUTO_ROTATE_FLOOR_SECONDS: u64 = 3_600;
/// Default for the time from a token's making to its end.
pub const TOKEN_LIFETIME_DEFAULT_SECONDS: u64 = 900;
/// Longest such time; a token that claims more is refused.
pub const TOKEN_LIFETIME_MAX_SECONDS: u64 = 86_400;
/// Shortest such time.
pub const TOKEN_LIFETIME_MIN_SECONDS: u64 = 1;
/// Longest identifier of a token (`jti`).
pub const TOKEN_IDENTIFIER_MAX_BYTES: usize = 64;
/// Most audiences that a token may name.
pub const TOKEN_AUDIENCES_MAX_COUNT: usize = 8;
/// Most members of any one JSON object in a token: each is compared with those before it.
pub const TOKEN_MEMBERS_MAX_COUNT: usize = 32;
/// How deep arrays and objects may stand in the value of one claim.
pub const TOKEN_DEPTH_MAX_COUNT: usize = 4;

// ---------------------------------------------------------------------------------------------------------
// Audit, changes, configuration
// ---------------------------------------------------------------------------------------------------------

/// Longest identifier of a token or an API key in an audit line.
pub const AUDIT_IDENTIFIER_MAX_BYTES: usize = 64;
/// Longest audit line.
pub const AUDIT_LINE_MAX_BYTES: usize = 1_536;
/// Lines of an audit stream under one key: it is then exchanged for one from which it does not follow.
pub const AUDIT_RATCHET_LINES_COUNT: u64 = 256;
/// How often the store notes how far the audit streams have come.
pub const AUDIT_CHECKPOINT_SECONDS: u64 = 10;
/// Starts of which the store keeps how far their audit streams had come; of older ones it forgets it.
pub const AUDIT_CHECKPOINTS_MAX_COUNT: usize = 4_096;
/// Audit streams of one start.
pub const AUDIT_STREAMS_MAX_COUNT: usize = 64;
/// Roots of audit keys that are kept after `quantonium store rotate-root`, to verify what was written under them.
pub const AUDIT_ROOTS_MAX_COUNT: usize = 16;
/// Numbers that a gap in an audit stream is believed to stand for: each 256 of them cost a step of the key.
pub const AUDIT_GAP_MAX_COUNT: u64 = 1 << 30;
/// Flaws of an audit stream after which its verification is given up.
pub const AUDIT_FLAWS_MAX_COUNT: usize = 100;
/// Lines that `quantonium audit tail` shows.
pub const AUDIT_TAIL_DEFAULT_LINES_COUNT: usize = 20;
/// Most lines that it shows.
pub const AUDIT_TAIL_MAX_LINES_COUNT: usize = 10_000;
/// How often `quantonium audit verify` looks at a journal that a server may be compacting.
pub const AUDIT_STORE_LOOKS_MAX_COUNT: usize = 5;
/// How often it looks at files that a server goes on removing and compressing, before it says what is wrong with them.
pub const AUDIT_VERIFY_LOOKS_MAX_COUNT: usize = 10;
/// Audit lines of one turn of a worker's loop; a fuller buffer makes further requests wait for the next turn.
pub const AUDIT_BUFFER_BYTES: usize = 256 * 1024;
/// Audit lines of requests without a valid credential that a worker writes in a second; the others are counted, and
/// the count is a line. Nobody who is not recognised can fill the disk.
pub const REFUSAL_LINES_PER_SECOND_COUNT: u64 = 20;
/// Removed audit files that are told in one write.
pub const REMOVALS_PER_COMMIT_COUNT: usize = 100;
/// Longest name of a change of the key ring in an audit line.
pub const AUDIT_CHANGE_NAME_MAX_BYTES: usize = 24;
/// How much is read at the start of each stream that a keeper wrote, from its end: far more than one start can leave
/// unfinished, and what ordinary requests cannot fill.
pub const AUDIT_REPLAY_KEEPER_FILE_MAX_BYTES: u64 = 1024 * 1024;
/// How much is read of all such streams together, the newest starts first.
pub const AUDIT_REPLAY_KEEPER_MAX_BYTES: u64 = 64 * 1024 * 1024;
/// How much is read at the start of each stream that a worker wrote, from its end: what it writes in a second or two,
/// which is longer than a change is on its way.
pub const AUDIT_REPLAY_WORKER_FILE_MAX_BYTES: u64 = 8 * 1024 * 1024;
/// Once so much of such streams was read, the newest starts first, no further start is begun.
pub const AUDIT_REPLAY_WORKER_MAX_BYTES: u64 = 64 * 1024 * 1024;
/// Largest revision of the store that an audit line is believed: beyond it there would be no room for changes.
pub const AUDIT_REVISION_MAX_NUMBER: u64 = STORE_REVISION_CEILING_NUMBER - (1 << 32);
/// Such a file is read in pieces of this size, from its end.
pub const AUDIT_REPLAY_PIECE_BYTES: usize = 256 * 1024;
/// The last audit lines of the running server that are kept in memory.
pub const AUDIT_RECENT_BYTES: usize = 4 * 1024 * 1024;
/// They are kept in blocks of this size: when all are full, the lines of the oldest are dropped together.
pub const AUDIT_RECENT_BLOCK_BYTES: usize = 64 * 1024;
/// Lines that are looked at while others who want to read or write them wait.
pub const AUDIT_RECENT_LOOK_COUNT: usize = 256;
/// Lines that one page looks at: a page on which fewer were found than it may hold says where to go on.
pub const AUDIT_PAGE_LOOK_MAX_COUNT: usize = 4_096;
/// Default for the lines of one page.
pub const AUDIT_PAGE_DEFAULT_COUNT: usize = 100;
/// Longest value that a filter of audit lines takes: as long as any text in a line.
pub const AUDIT_FILTER_VALUE_MAX_BYTES: usize = KEY_NAME_MAX_BYTES;
/// Streams of audit lines that are served at a time, all workers together. Beyond them: 503.
pub const AUDIT_FOLLOWERS_MAX_COUNT: usize = 16;
/// How often such a stream looks for new lines.
pub const AUDIT_STREAM_LOOK_MILLIS: u64 = 250;
/// How long such a stream is silent before it shows that it is alive.
pub const AUDIT_STREAM_HEARTBEAT_MILLIS: u64 = 15_000;
/// When a client of such a stream is to try again.
pub const AUDIT_STREAM_RETRY_MILLIS: u64 = 2_000;
/// What an event adds to its line at most: its identifier and the names of its fields.
pub const AUDIT_EVENT_FRAME_MAX_BYTES: usize = 256;
/// Room in which the pieces of a reply that a service makes by itself are made, with what frames them.
pub const PUSH_WINDOW_BYTES: usize = 8 * 1024;
/// Changes of the key ring that one request may cause before it is refused.
pub const CHANGES_PER_REQUEST_MAX_COUNT: usize = 4;
/// How long a worker whose audit file failed waits at most before it tries the file again.
pub const AUDIT_RETRY_MILLIS: u64 = 1_000;
/// Changes of the key ring that wait for the keeper; beyond them: 503.
pub const CHANGES_WAITING_MAX_COUNT: usize = 4_096;
/// How long a change that takes a right away waits for workers that still act on what was; beyond it: 503.
pub const COMMIT_SETTLE_MILLIS: u64 = 1_000;
/// How often a group of changes is judged anew because somebody else wrote to the store first.
pub const COMMIT_CONFLICTS_MAX_COUNT: usize = 16;
/// After how long it is not judged anew any more.
pub const COMMIT_CONFLICTS_MILLIS: u64 = 15_000;
/// How often the keeper looks at the time.
pub const KEEPER_TICK_MILLIS: u64 = 1_000;
/// How long the keeper waits before it tries again what it does by itself and what failed.
pub const KEEPER_RETRY_MILLIS: u64 = 10_000;
/// How long the end of the server waits for the keeper to write down what it has in memory alone.
pub const KEEPER_FLUSH_MILLIS: u64 = 10_000;
/// Changes that are due and made at one tick; the others wait for the next.
pub const SCHEDULED_CHANGES_MAX_COUNT: usize = 100;
/// How often use figures are written down: so much of them is lost by a crash.
pub const USES_PERSIST_SECONDS: u64 = 60;
/// Keys whose figures are written down at one tick; the others wait for the next.
pub const FIGURES_PER_APPEND_MAX_COUNT: usize = 4_096;
/// Largest configuration file.
pub const CONFIG_FILE_MAX_BYTES: u64 = 256 * 1024;
/// How much of a wrong value an error message repeats.
pub const SHOWN_VALUE_MAX_CHARS: usize = 80;
/// Longest word for which a similar known one is looked up.
pub const SUGGESTION_WORD_MAX_CHARS: usize = 64;
/// Default for the user and the group that a start as root switches to.
pub const IDENTITY_DEFAULT_NUMBER: u32 = 1001;
/// Smallest such user or group: never root.
pub const IDENTITY_FLOOR_NUMBER: u32 = 1;
/// Largest such user or group; the number after it means "unchanged" to the kernel.
pub const IDENTITY_CEILING_NUMBER: u32 = u32::MAX - 1;
/// Longest text of a finding in an audit line.
pub const AUDIT_FINDING_MAX_BYTES: usize = 256;
/// Most findings that are kept while the audit log takes no line.
pub const INTEGRITY_FINDINGS_UNTOLD_MAX_COUNT: usize = 64;
/// Default for how often the process looks at itself.
pub const INTEGRITY_INTERVAL_DEFAULT_SECONDS: u64 = 60;
/// Most often that it may.
pub const INTEGRITY_INTERVAL_FLOOR_SECONDS: u64 = 1;
/// Least often that it may.
pub const INTEGRITY_INTERVAL_CEILING_SECONDS: u64 = 86_400;
/// Threads beside the workers: main, keeper and archivist.
pub const THREADS_BESIDE_WORKERS_COUNT: usize = 3;
/// Niceness that leaves the process as it was started.
pub const NICENESS_FLOOR_NUMBER: u64 = 0;
/// Most that a process can step back (setpriority(2)).
pub const NICENESS_CEILING_NUMBER: u64 = 19;
/// Largest file that holds a credential.
pub const CREDENTIAL_FILE_MAX_BYTES: u64 = 4 * 1024;
/// Room reserved on disk at the end of each audit file when it is opened.
pub const AUDIT_PREALLOCATED_BYTES: u64 = 256 * 1024;
/// How far a reader of audit lines on standard output may fall behind, if the system allows so much.
pub const AUDIT_PIPE_BYTES: usize = 1024 * 1024;
/// Default for the length at which a part of an audit stream is left for the next one.
pub const AUDIT_ROTATE_DEFAULT_BYTES: u64 = 64 * 1024 * 1024;
/// Shortest such length.
pub const AUDIT_ROTATE_FLOOR_BYTES: u64 = 1024 * 1024;
/// Longest such length.
pub const AUDIT_ROTATE_CEILING_BYTES: u64 = 1024 * 1024 * 1024;
/// Default for how long audit files are kept.
pub const AUDIT_RETENTION_DEFAULT_DAYS: u64 = 14;
/// Shortest such time; zero means for ever.
pub const AUDIT_RETENTION_FLOOR_DAYS: u64 = 0;
/// Longest such time: a hundred years.
pub const AUDIT_RETENTION_CEILING_DAYS: u64 = 100 * 366;
/// Default for the length of all audit files together.
pub const AUDIT_TOTAL_DEFAULT_BYTES: u64 = 10 * 1024 * 1024 * 1024;
/// Shortest such length; zero means that there is no such limit.
pub const AUDIT_TOTAL_FLOOR_BYTES: u64 = 0;
/// Longest such length.
pub const AUDIT_TOTAL_CEILING_BYTES: u64 = 1 << 50;
/// What was written in this time is neither compressed nor removed: the next start reads it.
pub const AUDIT_SETTLED_SECONDS: u64 = 600;
/// An audit file is compressed in pieces of this size, between which syncs are served.
pub const AUDIT_COMPRESS_PIECE_BYTES: usize = 256 * 1024;
/// How often the archivist looks at old parts and at the room that is left.
pub const AUDIT_ROUND_MILLIS: u64 = 10_000;
/// Below so much room the audit log is low on space.
pub const AUDIT_LOW_ROOM_BYTES: u64 = 64 * 1024 * 1024;
/// The same as a share of the file system.
pub const AUDIT_LOW_ROOM_PERCENT: u64 = 10;
/// Stack of the archivist: the compressor is made on it.
pub const ARCHIVIST_STACK_BYTES: usize = 1024 * 1024;
/// Most of a reply that `quantonium healthcheck` reads.
pub const HEALTHCHECK_REPLY_MAX_BYTES: usize = 64 * 1024;
/// Longest URL that a command takes.
pub const CLIENT_URL_MAX_BYTES: usize = 2 * 1024;
/// Largest reply, head included, that a command takes.
pub const CLIENT_REPLY_MAX_BYTES: usize = 4 * 1024 * 1024;
/// Largest head of a reply that a command takes.
pub const CLIENT_REPLY_HEAD_MAX_BYTES: usize = 16 * 1024;
/// Largest piece of input that a command sends at a time, and of a reply that it takes at a time.
pub const CLIENT_PIECE_MAX_BYTES: usize = 64 * 1024;
/// Largest file of certificates, of a key for a certificate, or of an exported key that a command reads.
pub const CLIENT_FILE_MAX_BYTES: u64 = 4 * 1024 * 1024;
/// Longest signature that a command reads.
pub const CLIENT_SIGNATURE_MAX_BYTES: usize = 1024;
/// API keys that `quantonium apikey list` asks for at a time.
pub const CLIENT_PAGE_MAX_COUNT: usize = 64;
/// Of each text of a refusal, how many bytes a command tells.
pub const CLIENT_REFUSAL_MAX_BYTES: usize = 1024;

/// Bounds of the times that metrics count, in microseconds: from what a request takes that touches nothing to what nobody
/// waits for.
pub const METRICS_BOUNDS_MICROS: [u64; METRICS_BUCKETS_COUNT - 1] = [
    25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 10_000_000,
];
/// So many counts of times there are: one for each bound, and one for what is above all of them.
pub const METRICS_BUCKETS_COUNT: usize = 18;
/// How old the counts of a key ring may be that is so large that counting it takes long.
pub const METRICS_KEYS_KEPT_MILLIS: u64 = 10_000;
/// Counting a key ring takes long if it takes more than this.
pub const METRICS_KEYS_LONG_MICROS: u64 = 1_000;
/// Of how many of its seals a version with 96-bit nonces has used so many, in percent, it is near its end.
pub const METRICS_NONCE_NEAR_PERCENT: u64 = 80;
/// How often the main thread looks at what the process uses.
pub const METRICS_PROCESS_MILLIS: u64 = 5_000;
/// Ticks of the clock in which the kernel tells processor time: `USER_HZ`, on all processors of this program.
pub const CLOCK_TICKS_PER_SECOND_COUNT: u64 = 100;
/// Most of the line with which the kernel tells what a process uses (proc_pid_stat(5)).
pub const PROC_STAT_MAX_BYTES: usize = 1024;

const _: () = {
    assert!(HEAD_MAX_BYTES < LEASE_USUAL_BYTES);
    assert!(REPLY_PROBLEM_MAX_BYTES <= LEASE_CLASSES_BYTES[1], "a refusal has room where room is short");
    assert!(REPLY_HEAD_MAX_BYTES < REPLY_PROBLEM_MAX_BYTES);
    assert!(OUTPUT_FLUSH_BYTES + REPLY_PROBLEM_MAX_BYTES <= LEASE_USUAL_BYTES);
    assert!(TARGET_MAX_BYTES < HEAD_MAX_BYTES);
    assert!(HEAD_MAX_BYTES <= u16::MAX as usize, "a head's spans are kept as u16");
    assert!(METHOD_MAX_BYTES + TARGET_MAX_BYTES + 64 < HEAD_MAX_BYTES, "414 comes before 431");
    assert!(HEAD_FIELDS_MAX_COUNT < u8::MAX as usize, "fields are counted in a u8");
    assert!(CHUNK_SIZE_MAX_DIGITS as u32 * 4 <= u64::BITS, "a chunk size fits its u64");
    assert!(CHUNK_LINE_MAX_BYTES < u16::MAX as usize, "chunk lines are counted in a u16");
    assert!(TRAILERS_MAX_BYTES < u16::MAX as usize, "trailers are counted in a u16");
    assert!(HEAD_MAX_BYTES + BODY_PAYLOAD_MAX_BYTES <= LEASE_LARGEST_BYTES);
    assert!(HEAD_MAX_BYTES + BODY_SMALL_MAX_BYTES <= LEASE_WINDOW_BYTES);
    assert!(BODY_PAYLOAD_MAX_BYTES <= REPLY_BODY_MAX_BYTES, "the largest plaintext has room as a ciphertext");
    assert!(RANDOM_SAMPLE_MAX_BYTES.div_ceil(3) * 4 + BODY_MEMBERS_MAX_BYTES <= REPLY_BODY_MAX_BYTES);
    assert!(KEYSTREAM_MAX_BYTES.div_ceil(3) * 4 + BODY_MEMBERS_MAX_BYTES <= REPLY_BODY_MAX_BYTES);
    assert!(
        (ASSOCIATED_DATA_MAX_BYTES + CONTEXT_MAX_BYTES).div_ceil(3) * 4 + KEY_NAME_MAX_BYTES
            < BODY_MEMBERS_MAX_BYTES
    );
    assert!(
        LEASE_LARGEST_BYTES as u64 / 4 <= SEALS_BLOCK_COUNT / 2,
        "half a block is enough for the seals of any one request"
    );
    assert!(ENCODE_PIECE_BYTES.is_multiple_of(3), "pieces of base64 join without padding");
    assert!(LEASE_BUDGET_FLOOR_BYTES >= 2 * LEASE_LARGEST_BYTES);
    assert!(LEASE_BUDGET_FLOOR_BYTES <= LEASE_BUDGET_DEFAULT_BYTES);
    assert!(LEASE_SHARE_FLOOR_BYTES >= 2 * (LEASE_LARGEST_BYTES + LEASE_WINDOW_BYTES));
    assert!(
        LEASE_SHARE_FLOOR_BYTES + LEASE_BUDGET_FLOOR_BYTES / LEASE_KEPT_SHARE_COUNT
            < LEASE_BUDGET_FLOOR_BYTES
    );
    assert!(LEASE_BUDGET_DEFAULT_BYTES <= LEASE_BUDGET_CEILING_BYTES);
    assert!(TIMER_SLOTS_COUNT.is_power_of_two());
    assert!(HEAD_READ_MAX_MILLIS < BODY_READ_MAX_MILLIS);
    assert!(BODY_GAP_MAX_MILLIS < BODY_READ_MAX_MILLIS);
    assert!(AUDIT_BUFFER_BYTES as u64 <= AUDIT_ROTATE_FLOOR_BYTES);
    assert!(PROC_MAPS_BUFFER_BYTES > 4096 + 128, "a line with the longest path fits");
    assert!(DESCRIPTORS_FLOOR_COUNT > FD_CONNECTION_FIRST_NUMBER as u64 + DESCRIPTORS_SPARE_COUNT as u64);
    assert!(
        DESCRIPTORS_CEILING_COUNT - CONNECTIONS_CEILING_COUNT as u64
            == DESCRIPTORS_FLOOR_COUNT - CONNECTIONS_FLOOR_COUNT as u64
    );
    assert!(DESCRIPTORS_CEILING_COUNT <= i32::MAX as u64);
    assert!(AUDIT_LINE_MAX_BYTES * 2 <= AUDIT_BUFFER_BYTES);
    assert!((REMOVALS_PER_COMMIT_COUNT + 3) * AUDIT_LINE_MAX_BYTES <= AUDIT_BUFFER_BYTES);
    assert!(SCHEDULED_CHANGES_MAX_COUNT * AUDIT_LINE_MAX_BYTES <= AUDIT_BUFFER_BYTES);
    assert!(AUDIT_LINE_MAX_BYTES <= AUDIT_REPLAY_PIECE_BYTES);
    assert!(AUDIT_LINE_MAX_BYTES <= AUDIT_RECENT_BLOCK_BYTES);
    assert!(AUDIT_RECENT_BYTES.is_multiple_of(AUDIT_RECENT_BLOCK_BYTES));
    assert!(AUDIT_RECENT_BYTES >= 2 * AUDIT_RECENT_BLOCK_BYTES, "the newest lines outlive the oldest");
    assert!((AUDIT_LINE_MAX_BYTES + 1) * LIST_PAGE_MAX_COUNT + 1024 <= REPLY_BODY_MAX_BYTES, "any page fits");
    assert!(2 * (AUDIT_LINE_MAX_BYTES + AUDIT_EVENT_FRAME_MAX_BYTES) <= PUSH_WINDOW_BYTES);
    assert!(REPLY_PROBLEM_MAX_BYTES + PUSH_WINDOW_BYTES <= LEASE_USUAL_BYTES);
    assert!(AUDIT_STREAM_LOOK_MILLIS <= STREAM_RECHECK_MILLIS);
    assert!(PLAINTEXT_MAX_BYTES as u64 <= AEAD_MESSAGE_MAX_BYTES);
    assert!(AEAD_PIECE_BYTES.is_multiple_of(1024), "a piece is whole groups of 16 blocks");
    assert!(KEY_REGION_MAX_BYTES.is_multiple_of(64 * 1024), "the largest page of any kernel");
    assert!(KEY_REGION_UNLOCKED_BYTES.is_multiple_of(64 * 1024));
    assert!(RANDOM_POOL_BYTES + 64 <= KEY_SLOT_MAX_BYTES && MAC_KEY_MAX_BYTES <= KEY_SLOT_MAX_BYTES);
    assert!(RANDOM_POOL_BYTES.is_multiple_of(256), "the pool is drawn in groups of 4 blocks");
    assert!(RANDOM_DIRECT_MIN_BYTES >= 256 && RANDOM_POOL_BYTES <= RESEED_AFTER_BYTES);
    assert!(DISCARD_MAX_MILLIS <= WRITE_STALL_MAX_MILLIS);
    assert!(DRAIN_DEFAULT_MILLIS <= DRAIN_CEILING_MILLIS);
    assert!(DRAIN_FLOOR_MILLIS < DRAIN_DEFAULT_MILLIS);
    assert!(TIME_LIMIT_FLOOR_MILLIS >= TIMER_SLOT_MILLIS);
    assert!(TIME_LIMIT_FLOOR_MILLIS <= HEAD_READ_MAX_MILLIS);
    assert!(TIME_LIMIT_FLOOR_MILLIS <= IDLE_MAX_MILLIS && IDLE_MAX_MILLIS <= TIME_LIMIT_CEILING_MILLIS);
    assert!(TIME_LIMIT_FLOOR_MILLIS <= BODY_GAP_MAX_MILLIS);
    assert!(TIME_LIMIT_FLOOR_MILLIS <= WRITE_STALL_MAX_MILLIS);
    assert!(BODY_READ_MAX_MILLIS <= TIME_LIMIT_CEILING_MILLIS);
    assert!(WRITE_STALL_MAX_MILLIS <= TIME_LIMIT_CEILING_MILLIS);
    assert!(CONNECTIONS_FLOOR_COUNT >= 1 && CONNECTIONS_FLOOR_COUNT <= CONNECTIONS_DEFAULT_COUNT);
    assert!(CONNECTIONS_DEFAULT_COUNT <= CONNECTIONS_CEILING_COUNT);
    assert!(CONNECTIONS_PER_ADDRESS_FLOOR_COUNT < CONNECTIONS_PER_ADDRESS_DEFAULT_COUNT);
    assert!(CONNECTIONS_PER_ADDRESS_DEFAULT_COUNT <= CONNECTIONS_CEILING_COUNT);
    assert!(REQUESTS_PER_CONNECTION_FLOOR_COUNT <= REQUESTS_PER_CONNECTION_DEFAULT_COUNT);
    assert!(REQUESTS_PER_CONNECTION_DEFAULT_COUNT <= REQUESTS_PER_CONNECTION_CEILING_COUNT);
    assert!(RATE_CEILING_COUNT as u64 * RATE_BURST_DEFAULT_SECONDS as u64 <= RATE_BURST_CEILING_COUNT as u64);
    assert!(
        RATE_BURST_CEILING_COUNT as u64 <= u64::MAX / 4 / 1_000_000_000,
        "a debt of a burst fits into nanoseconds"
    );
    assert!(ADDRESSES_LIMITED_MAX_COUNT.is_multiple_of(ADDRESSES_PER_SET_COUNT * ADDRESSES_SHARDS_COUNT));
    assert!(WORKERS_MIN_COUNT >= 1 && WORKERS_MAX_COUNT <= LISTENERS_MAX_COUNT);
    assert!(IDENTITY_FLOOR_NUMBER <= IDENTITY_DEFAULT_NUMBER);
    assert!(IDENTITY_DEFAULT_NUMBER <= IDENTITY_CEILING_NUMBER && IDENTITY_CEILING_NUMBER < u32::MAX);
    assert!(AUDIT_BUFFER_BYTES as u64 <= AUDIT_PREALLOCATED_BYTES);
    assert!(HEALTHCHECK_REPLY_MAX_BYTES >= HEAD_MAX_BYTES);
    assert!(CLIENT_URL_MAX_BYTES <= TARGET_MAX_BYTES);
    assert!(
        CLIENT_PAGE_MAX_COUNT * 2 * (SCOPES_MAX_COUNT * SCOPE_MAX_BYTES) + HEAD_MAX_BYTES
            <= CLIENT_REPLY_MAX_BYTES,
        "a page of API keys fits a reply, even if scopes were only half of it"
    );
    assert!(CREDENTIAL_MAX_BYTES as u64 <= CREDENTIAL_FILE_MAX_BYTES);
    assert!(TOKEN_MAX_BYTES <= CREDENTIAL_MAX_BYTES && TOKEN_MAX_BYTES.is_multiple_of(4));
    assert!(TOKEN_LIFETIME_MIN_SECONDS <= TOKEN_LIFETIME_DEFAULT_SECONDS);
    assert!(TOKEN_LIFETIME_DEFAULT_SECONDS <= TOKEN_LIFETIME_MAX_SECONDS);
    assert!(STORE_RECORD_MAX_BYTES + STORE_RECORD_OVERHEAD_BYTES <= STORE_APPEND_MAX_BYTES);
    assert!(
        KEY_VERSIONS_MAX_COUNT as usize * (MAC_KEY_MAX_BYTES + 64) + 1024 <= STORE_RECORD_MAX_BYTES,
        "any key fits a record"
    );
    assert!(
        JOURNAL_SNAPSHOT_PAYLOAD_BYTES + STORE_RECORD_MAX_BYTES + STORE_RECORD_OVERHEAD_BYTES
            <= STORE_APPEND_MAX_BYTES
    );
    assert!(JOURNAL_PAYLOAD_MAX_BYTES <= u32::MAX as usize / 2, "lengths of frames are kept as u32");
    assert!(JOURNAL_RESERVED_BYTES < JOURNAL_COMPACTION_FLOOR_BYTES);
    assert!(JOURNAL_MAX_BYTES < FILE_MAX_BYTES);
    assert!(CHANGES_WAITING_MAX_COUNT <= STORE_ORIGINS_MAX_COUNT, "any group of changes fits one append");
    assert!(
        TLS_SEND_BUFFER_BYTES / (16 * 1024) * (16 * 1024 + TLS_RECORD_OVERHEAD_BYTES + 7)
            <= TLS_SCRATCH_BYTES,
        "what a session keeps leaves in one send"
    );
    assert!(TLS_HANDSHAKE_READ_BYTES <= TLS_SCRATCH_BYTES);
    assert!(TLS_HANDSHAKE_USUAL_BYTES < TLS_HANDSHAKE_MAX_BYTES);
    assert!(DEVELOPMENT_CERTIFICATE_FLOOR_DAYS <= DEVELOPMENT_CERTIFICATE_CEILING_DAYS);
};
