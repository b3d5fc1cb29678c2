//! Every metric: its name, what it is, what it says, its labels.
//!
//! Owns the table. Invariant: a metric that is exported stands here, and what stands here is exported and in the table of
//! `docs/OPERATIONS.md`, which a test compares.

use crate::metrics::text::{Family, Kind};

/// Declares the families once, and the list of all of them.
macro_rules! families {
    ($($name:ident = $kind:ident $text:literal [$($label:literal),*] $help:literal;)*) => {
        $(
            #[doc = $help]
            pub const $name: Family =
                Family { name: $text, kind: Kind::$kind, help: $help, labels: &[$($label),*] };
        )*

        /// Every family, in the order in which they are written.
        pub const ALL: &[Family] = &[$($name,)*];
    };
}

families! {
    HTTP_REQUESTS = Counter "quantonium_http_requests" ["method", "route", "status"]
        "Requests that were answered, by route and status; a HEAD counts as a GET.";
    HTTP_DURATION = Histogram "quantonium_http_request_duration_seconds" ["method", "route"]
        "Time from the first byte of a request until its reply was made, or, of a stream, had left.";
    HTTP_LOST = Counter "quantonium_http_requests_lost" []
        "Requests whose client was gone before they could be answered.";
    CONNECTIONS = Gauge "quantonium_connections" []
        "Connections that are open.";
    CONNECTIONS_LIMIT = Gauge "quantonium_connections_limit" []
        "Connections that may be open at a time.";
    ACCEPTED = Counter "quantonium_connections_accepted" ["transport"]
        "Connections that were accepted and got a place.";
    REFUSED = Counter "quantonium_connections_refused" ["reason"]
        "Connections that got no place, by what there was too much of.";
    RECEIVED = Counter "quantonium_received_bytes" ["transport"]
        "Bytes that came from clients, without what TLS adds.";
    SENT = Counter "quantonium_sent_bytes" ["transport"]
        "Bytes that went to clients, without what TLS adds.";
    MEMORY_LIMIT = Gauge "quantonium_memory_limit_bytes" []
        "What all buffers together may take.";
    MEMORY_HELD = Gauge "quantonium_memory_held_bytes" []
        "What all buffers take: those in use, and those kept for the next use.";
    MEMORY_LEASED = Gauge "quantonium_memory_leased_bytes" []
        "What the buffers in use take.";
    MEMORY_STRANGERS = Gauge "quantonium_memory_strangers_bytes" []
        "What the buffers take of those who are not recognised.";
    HANDSHAKING = Gauge "quantonium_tls_handshaking" []
        "TLS handshakes that are under way.";
    HANDSHAKES = Counter "quantonium_tls_handshakes" ["version", "group", "resumed"]
        "TLS handshakes that were finished.";
    HANDSHAKE_FAILURES = Counter "quantonium_tls_handshake_failures" ["reason"]
        "TLS handshakes that came to nothing.";
    CERTIFICATE_EXPIRY = Gauge "quantonium_tls_certificate_expiry_seconds" ["certificate", "name"]
        "When a certificate in force ceases to hold, in seconds since 1970.";
    LIMITED = Counter "quantonium_rate_limited" ["by"]
        "Requests that were refused for coming too often.";
    AUTH_FAILURES = Counter "quantonium_auth_failures" ["reason"]
        "Requests that were not let in, by the code that stands in the audit log.";
    AUDIT_LINES = Counter "quantonium_audit_lines" ["sink"]
        "Audit lines that were written.";
    AUDIT_FAILURES = Counter "quantonium_audit_failures" []
        "Turns of the loop whose audit lines could not be written: their requests were refused.";
    AUDIT_GAPS = Counter "quantonium_audit_gaps" []
        "Audit lines that name numbers for which there is no line.";
    AUDIT_UNSYNCED = Gauge "quantonium_audit_unsynced_turns" []
        "Turns of the loop whose audit lines are on their way to the disk (--audit-durability synced).";
    AUDIT_FAILING = Gauge "quantonium_audit_failing" []
        "1 while a worker cannot write audit lines.";
    AUDIT_SPACE_LOW = Gauge "quantonium_audit_space_low" []
        "1 while the file system of the audit files has little room left.";
    AUDIT_FREE = Gauge "quantonium_audit_free_bytes" []
        "Room on the file system of the audit files, looked at every ten seconds; 0 before the first look.";
    AUDIT_FILE = Gauge "quantonium_audit_file_bytes" []
        "Length of the audit files that are being written.";
    STORE_COMMITS = Counter "quantonium_store_commits" []
        "Writes to the store that are durable; one may hold the changes of several requests.";
    STORE_SYNC = Histogram "quantonium_store_sync_duration_seconds" []
        "Time that the disk took to make a write to the store durable.";
    STORE_JOURNAL = Gauge "quantonium_store_journal_bytes" []
        "Length of the journal.";
    STORE_LIVE = Gauge "quantonium_store_live_bytes" []
        "What of the journal is neither superseded nor removed.";
    STORE_COMPACTIONS = Counter "quantonium_store_compactions" []
        "Compactions of the journal.";
    STORE_STATE = Gauge "quantonium_store_state" ["state"]
        "1 for the state that the store is in: only in good it takes changes.";
    STORE_LAG = Histogram "quantonium_store_lag_seconds" []
        "Time from a change on another server until it held here, by the clocks of both.";
    STORE_AGE = Gauge "quantonium_store_age_seconds" []
        "How long ago the state was known to be the newest; 0 where nobody else writes.";
    STORE_MEMBERS = Gauge "quantonium_store_members" []
        "Servers that share the store and live, this one among them.";
    KEYS = Gauge "quantonium_keys" ["type", "state"]
        "Keys, by type.";
    KEY_VERSIONS = Gauge "quantonium_key_versions" ["type", "state"]
        "Versions of keys that are not deleted.";
    NONCE_NEAR = Gauge "quantonium_key_versions_near_limit" []
        "Versions that can still seal and have used four fifths of what 96-bit nonces allow.";
    NONCE_RATIO = Gauge "quantonium_key_nonce_use_ratio" []
        "Of the version with 96-bit nonces that is nearest to its limit, how much of it is used.";
    API_KEYS = Gauge "quantonium_api_keys" ["state"]
        "API keys.";
    ENTROPY_RESEEDS = Counter "quantonium_entropy_reseeds" []
        "Seeds of the kernel that were mixed into a generator.";
    ENTROPY_FAILURES = Counter "quantonium_entropy_failures" []
        "Seeds that were due and could not be had, or failed their health tests.";
    ENTROPY_REFUSED = Counter "quantonium_entropy_refused_seeds" []
        "Seeds of the kernel that failed their health tests.";
    ENTROPY_FAILING = Gauge "quantonium_entropy_failing" []
        "1 while a worker has no fresh seed, and refuses what needs random bytes.";
    INTEGRITY_STATE = Gauge "quantonium_integrity_state" ["check", "state"]
        "1 for the state that a check of the process is in.";
    INTEGRITY_FINDINGS = Counter "quantonium_integrity_findings" ["check"]
        "How often a check of the process has found something.";
    INTEGRITY_LOOKS = Counter "quantonium_integrity_looks" ["check"]
        "How often a check of the process was made.";
    INTEGRITY_LAST = Gauge "quantonium_integrity_last_look_timestamp_seconds" ["check"]
        "When a check of the process was made last, in seconds since 1970.";
    SANDBOX = Gauge "quantonium_sandbox_step" ["step", "outcome"]
        "1 for what became of a step of the lock-down.";
    LOG_LINES = Counter "quantonium_log_lines" ["level"]
        "Lines of the log that were told.";
    LOG_DROPPED = Counter "quantonium_log_lines_dropped" []
        "Lines of the log that were dropped, since nobody read it fast enough.";
    DRAINING = Gauge "quantonium_draining" []
        "1 while the server is ending.";
    WORKERS = Gauge "quantonium_workers" []
        "Worker threads.";
    TURNS = Counter "quantonium_worker_turns" []
        "Turns of the workers' loops.";
    BUILD = Info "quantonium_build" ["version", "commit", "target", "features"]
        "What the binary was built from.";
    PROCESS_CPU = Counter "process_cpu_seconds" []
        "Processor time of the process.";
    PROCESS_RESIDENT = Gauge "process_resident_memory_bytes" []
        "Memory that the process has.";
    PROCESS_VIRTUAL = Gauge "process_virtual_memory_bytes" []
        "Addresses that the process has.";
    PROCESS_FDS = Gauge "process_open_fds" []
        "Descriptors that are open, counted once in a round of the integrity checks.";
    PROCESS_MAX_FDS = Gauge "process_max_fds" []
        "Descriptors that may be open.";
    PROCESS_THREADS = Gauge "process_threads" []
        "Threads of the process.";
    PROCESS_START = Gauge "process_start_time_seconds" []
        "When the process was started, in seconds since 1970.";
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_what_prometheus_wants() {
        let mut names = BTreeSet::new();
        for family in ALL {
            assert!(names.insert(family.name), "{} stands twice", family.name);
            let plain = |byte: u8| byte.is_ascii_lowercase() || byte == b'_' || byte.is_ascii_digit();
            assert!(family.name.bytes().all(plain) && family.help.ends_with('.'), "{}", family.name);
            for suffix in ["_total", "_info", "_bucket", "_count", "_sum", "_created"] {
                assert!(!family.name.ends_with(suffix), "{}: {suffix} is added to the samples", family.name);
            }
            let own = ["quantonium_", "process_"].iter().any(|prefix| family.name.starts_with(prefix));
            assert!(own, "{}", family.name);
        }
    }
}
