//! The rows of the table of settings.
//!
//! Owns [`SETTINGS`], in the order of [`Id`]: `settings` holds that at compile time.

use super::row::{capacity, choice, identity, max_staleness, millis, of_store, path, row, switch};
use super::settings::{Fallback, Group, Id, Kind, Setting, Unit};
use crate::http::forwarded::Field;
use crate::limits;
use crate::model::Mode;

/// What `--audit-sink` may be.
pub(super) const AUDIT_SINKS: [&str; 3] = ["file", "stdout", "both"];
/// What `--audit-body` may be.
pub(super) const AUDIT_BODIES: [&str; 2] = ["hmac", "none"];
/// What `--log-format` may be.
pub(super) const LOG_FORMATS: [&str; 3] = ["auto", "json", "human"];
/// What `--tls-client-auth` may be.
pub(super) const TLS_CLIENT_AUTHS: [&str; 2] = ["required", "optional"];
/// What `--tls-min-version` may be.
pub(super) const TLS_MIN_VERSIONS: [&str; 2] = ["1.3", "1.2"];
/// What `--vault-api` may be.
pub(super) const VAULT_APIS: [&str; 2] = ["on", "off"];
/// What `--audit-durability` may be.
pub(super) const AUDIT_DURABILITIES: [&str; 2] = ["written", "synced"];

/// What `--integrity-action` may be.
pub(super) const INTEGRITY_ACTIONS: [&str; 2] = ["report", "stop"];

/// Every setting, in the order of [`Id`].
pub const SETTINGS: [Setting; 70] = [
    switch(
        Id::Dev,
        "dev",
        Group::Start,
        "Try it out: makes data directory (./quantonium-dev), store, master key and admin key by itself",
    ),
    path(
        Id::ConfigFile,
        "config",
        Group::Start,
        "TOML file with settings; its keys are the flags' names with underscores",
    ),
    row(
        Id::DataDir,
        "data-dir",
        Kind::Path,
        Fallback::RequiredUnlessDev("./quantonium-dev"),
        Group::Start,
        "Directory for the store and the audit files; `quantonium init` makes it, mode 0700",
    ),
    row(
        Id::Workers,
        "workers",
        Kind::Number(Unit::Count),
        Fallback::Processors,
        Group::Start,
        "Threads that serve requests",
    )
    .bounded(limits::WORKERS_MIN_COUNT as u64, limits::WORKERS_MAX_COUNT as u64),
    identity(Id::UserId, "user-id", "User to become when started as root"),
    identity(Id::GroupId, "group-id", "Group to become when started as root"),
    row(
        Id::MasterKeyFile,
        "master-key-file",
        Kind::Path,
        Fallback::CredentialUnlessDev,
        Group::Store,
        "File with the master key: 32 bytes raw, in hexadecimal or in base64",
    ),
    of_store(
        Id::Store,
        "store",
        Kind::Text,
        "etcd that keeps the store for several servers: etcd[s]://HOST:PORT[,HOST:PORT...]/PREFIX",
    ),
    of_store(
        Id::StoreCa,
        "store-ca",
        Kind::Path,
        "File with the authorities of etcd's certificate, in PEM: for etcds://",
    ),
    of_store(Id::StoreCert, "store-cert", Kind::Path, "File with the certificate that etcd is shown, in PEM"),
    of_store(Id::StoreKey, "store-key", Kind::Path, "File with the key of --store-cert, in PEM"),
    of_store(Id::StoreUser, "store-user", Kind::Text, "User of etcd"),
    of_store(
        Id::StorePasswordFile,
        "store-password-file",
        Kind::Path,
        "File with the password of --store-user",
    ),
    max_staleness(),
    switch(
        Id::Init,
        "init",
        Group::Store,
        "Make the store, and show the admin key, if the data directory holds none: for containers",
    ),
    path(
        Id::BackupKeyFile,
        "backup-key-file",
        Group::Store,
        "File with a key, in the forms of a master key, that seals backups for all servers with it",
    ),
    row(
        Id::WaitForStore,
        "wait-for-store",
        Kind::Number(Unit::Seconds),
        Fallback::Number(0),
        Group::Store,
        "How long a start waits until another process has left the data directory; 0: it fails at once",
    )
    .bounded(0, limits::STORE_WAIT_CEILING_SECONDS),
    row(
        Id::RestoreWindow,
        "restore-window",
        Kind::Number(Unit::Seconds),
        Fallback::Number(limits::RESTORE_WINDOW_DEFAULT_SECONDS),
        Group::Store,
        "How long a deleted key can be brought back before it is destroyed",
    )
    .bounded(limits::RESTORE_WINDOW_FLOOR_SECONDS, limits::RESTORE_WINDOW_CEILING_SECONDS),
    row(
        Id::MinStoreRevision,
        "min-store-revision",
        Kind::Number(Unit::Count),
        Fallback::Nothing,
        Group::Store,
        "Refuse a store that has not reached this revision: it was rolled back",
    )
    .bounded(limits::STORE_REVISION_FLOOR_NUMBER, limits::STORE_REVISION_CEILING_NUMBER),
    switch(
        Id::AcceptStoreRollback,
        "accept-store-rollback",
        Group::Store,
        "Start on a store that is known to have been rolled back, for this once: what it lost is gone",
    ),
    row(
        Id::AuditRotateBytes,
        "audit-rotate-bytes",
        Kind::Number(Unit::Bytes),
        Fallback::Number(limits::AUDIT_ROTATE_DEFAULT_BYTES),
        Group::Audit,
        "Length at which an audit file is left for the next one, as it is at midnight UTC",
    )
    .bounded(limits::AUDIT_ROTATE_FLOOR_BYTES, limits::AUDIT_ROTATE_CEILING_BYTES),
    row(
        Id::AuditRetentionDays,
        "audit-retention-days",
        Kind::Number(Unit::Count),
        Fallback::Number(limits::AUDIT_RETENTION_DEFAULT_DAYS),
        Group::Audit,
        "Days after which an audit file is removed; 0: never",
    )
    .bounded(limits::AUDIT_RETENTION_FLOOR_DAYS, limits::AUDIT_RETENTION_CEILING_DAYS),
    row(
        Id::AuditMaxBytes,
        "audit-max-bytes",
        Kind::Number(Unit::Bytes),
        Fallback::Number(limits::AUDIT_TOTAL_DEFAULT_BYTES),
        Group::Audit,
        "Length of all audit files together beyond which the oldest are removed; 0: no limit",
    )
    .bounded(limits::AUDIT_TOTAL_FLOOR_BYTES, limits::AUDIT_TOTAL_CEILING_BYTES),
    row(
        Id::AuditCompress,
        "audit-compress",
        Kind::Switch,
        Fallback::On,
        Group::Audit,
        "Compress audit files (gzip) ten minutes after they were left; --audit-compress=off does not",
    ),
    choice(
        Id::AuditSink,
        "audit-sink",
        (&AUDIT_SINKS, "file"),
        Group::Audit,
        "Where audit lines go: file, stdout (what is said otherwise goes to standard error) or both",
    ),
    choice(
        Id::AuditDurability,
        "audit-durability",
        (&AUDIT_DURABILITIES, "written"),
        Group::Audit,
        "What replies wait for: audit lines with the kernel (written) or on the disk (synced)",
    ),
    choice(
        Id::AuditBody,
        "audit-body",
        (&AUDIT_BODIES, "hmac"),
        Group::Audit,
        "What audit lines tell of bodies: a keyed hash (hmac) or nothing (none); of streams nothing",
    ),
    row(
        Id::LogFormat,
        "log-format",
        Kind::Choice(&LOG_FORMATS),
        Fallback::Text("auto"),
        Group::Log,
        "Form of the log: json, human, or auto: human on a terminal and in the journal, else json",
    ),
    row(
        Id::LogLevel,
        "log-level",
        Kind::Text,
        Fallback::Text("info"),
        Group::Log,
        "What of it is told: error, warn, info, debug, and by module, as info,store=debug,tls=warn",
    ),
    row(
        Id::Listen,
        "listen",
        Kind::Addresses,
        Fallback::Text("127.0.0.1:8080"),
        Group::Network,
        "Where to serve: ADDR:PORT, http://ADDR:PORT, https://ADDR:PORT or unix:/PATH; repeatable",
    ),
    row(
        Id::UnixMode,
        "unix-mode",
        Kind::Mode,
        Fallback::Text("660"),
        Group::Network,
        "Who may connect to Unix sockets, as octal digits of a file mode",
    ),
    row(
        Id::DeferAccept,
        "defer-accept-seconds",
        Kind::Number(Unit::Seconds),
        Fallback::Number(limits::DEFER_ACCEPT_DEFAULT_SECONDS),
        Group::Network,
        "Take a TCP connection with its first bytes, a silent one after about so long; 0: at once",
    )
    .bounded(limits::DEFER_ACCEPT_DEFAULT_SECONDS, limits::DEFER_ACCEPT_CEILING_SECONDS),
    row(
        Id::RedirectListen,
        "redirect-listen",
        Kind::Addresses,
        Fallback::Nothing,
        Group::Network,
        "ADDR:PORT where plain HTTP is answered with the https:// address of the same path",
    ),
    switch(
        Id::InsecureHttp,
        "insecure-http",
        Group::Network,
        "Allow plain HTTP on an address that is not loopback: for use behind a proxy that speaks TLS",
    ),
    row(
        Id::TlsCert,
        "tls-cert",
        Kind::Paths,
        Fallback::Nothing,
        Group::Tls,
        "PEM file of a certificate and its chain; repeatable, the first for names of none",
    ),
    row(
        Id::TlsKey,
        "tls-key",
        Kind::Paths,
        Fallback::Nothing,
        Group::Tls,
        "PEM file of its private key (PKCS#8, SEC1 or PKCS#1), in the order of --tls-cert",
    ),
    row(
        Id::TlsOcsp,
        "tls-ocsp",
        Kind::Paths,
        Fallback::Nothing,
        Group::Tls,
        "DER file of an OCSP response to staple, in the order of --tls-cert",
    ),
    path(
        Id::TlsClientCa,
        "tls-client-ca",
        Group::Tls,
        "PEM file of the authorities whose client certificates are taken, as `identities` of API keys",
    ),
    row(
        Id::TlsClientCrl,
        "tls-client-crl",
        Kind::Paths,
        Fallback::Nothing,
        Group::Tls,
        "What such an authority has revoked (CRL, PEM or DER); repeatable, one for each authority",
    ),
    choice(
        Id::TlsClientAuth,
        "tls-client-auth",
        (&TLS_CLIENT_AUTHS, "required"),
        Group::Tls,
        "With --tls-client-ca, whether a client must have a certificate (required) or may (optional)",
    ),
    choice(
        Id::TlsMinVersion,
        "tls-min-version",
        (&TLS_MIN_VERSIONS, "1.3"),
        Group::Tls,
        "Oldest version of TLS that is spoken: 1.3, or 1.2 with forward secrecy and AEAD only",
    ),
    row(
        Id::AllowedHost,
        "allowed-host",
        Kind::Hosts,
        Fallback::Nothing,
        Group::Network,
        "Names under which the server is asked (Host), with or without a port; others get 421",
    ),
    row(
        Id::CorsOrigin,
        "cors-origin",
        Kind::Origins,
        Fallback::Nothing,
        Group::Network,
        "Origins whose pages may read replies, like https://app.example.net; no wildcards",
    ),
    switch(
        Id::NoConsole,
        "no-console",
        Group::Network,
        "Leave out the page for people at /docs; the description at /openapi.json stays",
    ),
    row(
        Id::TrustedProxy,
        "trusted-proxy",
        Kind::Networks,
        Fallback::Nothing,
        Group::Network,
        "Believe proxies in this network, or at Unix sockets (unix), whom they serve; repeatable",
    ),
    choice(
        Id::ForwardedHeader,
        "forwarded-header",
        (&Field::NAMES, "x-forwarded-for"),
        Group::Network,
        "Field in which trusted proxies say so: x-forwarded-for or forwarded (RFC 7239)",
    ),
    capacity(
        Id::MaxConnections,
        "max-connections",
        Unit::Count,
        limits::CONNECTIONS_DEFAULT_COUNT as u64,
        "Connections at a time, all workers together",
    )
    .bounded(limits::CONNECTIONS_FLOOR_COUNT as u64, limits::CONNECTIONS_CEILING_COUNT as u64),
    capacity(
        Id::MaxConnectionsPerAddress,
        "max-connections-per-address",
        Unit::Count,
        limits::CONNECTIONS_PER_ADDRESS_DEFAULT_COUNT as u64,
        "Connections at a time of one client address (IPv6: one /64); 0: no limit",
    )
    .bounded(limits::CONNECTIONS_PER_ADDRESS_FLOOR_COUNT as u64, limits::CONNECTIONS_CEILING_COUNT as u64),
    capacity(
        Id::MaxHandshakes,
        "max-handshakes",
        Unit::Count,
        limits::HANDSHAKES_DEFAULT_COUNT as u64,
        "TLS handshakes at a time, all workers together",
    )
    .bounded(limits::CONNECTIONS_FLOOR_COUNT as u64, limits::CONNECTIONS_CEILING_COUNT as u64),
    capacity(
        Id::MaxHandshakesPerAddress,
        "max-handshakes-per-address",
        Unit::Count,
        limits::HANDSHAKES_PER_ADDRESS_DEFAULT_COUNT as u64,
        "TLS handshakes at a time of one client address (IPv6: one /64); 0: no limit",
    )
    .bounded(limits::CONNECTIONS_PER_ADDRESS_FLOOR_COUNT as u64, limits::CONNECTIONS_CEILING_COUNT as u64),
    capacity(
        Id::MaxRequestsPerConnection,
        "max-requests-per-connection",
        Unit::Count,
        limits::REQUESTS_PER_CONNECTION_DEFAULT_COUNT,
        "Requests on one connection before it is closed",
    )
    .bounded(limits::REQUESTS_PER_CONNECTION_FLOOR_COUNT, limits::REQUESTS_PER_CONNECTION_CEILING_COUNT),
    row(
        Id::RateLimit,
        "rate-limit",
        Kind::Rate,
        Fallback::Text("0"),
        Group::Capacity,
        "Requests of an API key that has no limit of its own; beyond it 429; 0: no limit",
    ),
    row(
        Id::AddressRateLimit,
        "address-rate-limit",
        Kind::Rate,
        Fallback::Text("100:1000"),
        Group::Capacity,
        "Requests of a client address (IPv6: one /64) without a valid credential; 0: no limit",
    ),
    capacity(
        Id::MaxMemory,
        "max-memory",
        Unit::Bytes,
        limits::LEASE_BUDGET_DEFAULT_BYTES as u64,
        "Memory for requests in progress; beyond it new ones get 503",
    )
    .bounded(limits::LEASE_BUDGET_FLOOR_BYTES as u64, limits::LEASE_BUDGET_CEILING_BYTES as u64),
    millis(
        Id::HandshakeTimeout,
        "handshake-timeout-ms",
        limits::HANDSHAKE_MAX_MILLIS,
        "From the accept of a connection to the end of its TLS handshake",
    ),
    millis(
        Id::HeadTimeout,
        "head-timeout-ms",
        limits::HEAD_READ_MAX_MILLIS,
        "From the first byte of a request to the end of its head",
    ),
    millis(
        Id::BodyTimeout,
        "body-timeout-ms",
        limits::BODY_READ_MAX_MILLIS,
        "From the end of the head to the end of the body",
    ),
    millis(
        Id::BodyGapTimeout,
        "body-gap-timeout-ms",
        limits::BODY_GAP_MAX_MILLIS,
        "Longest silence inside a body; a shorter body-timeout-ms lowers it",
    ),
    millis(
        Id::IdleTimeout,
        "idle-timeout-ms",
        limits::IDLE_MAX_MILLIS,
        "Longest silence between the requests of a connection",
    ),
    millis(
        Id::WriteTimeout,
        "write-timeout-ms",
        limits::WRITE_STALL_MAX_MILLIS,
        "How long a client may leave a reply unread",
    ),
    millis(
        Id::DrainTimeout,
        "drain-timeout-ms",
        limits::DRAIN_DEFAULT_MILLIS,
        "From SIGTERM to the end of the requests in flight",
    )
    .bounded(limits::DRAIN_FLOOR_MILLIS, limits::DRAIN_CEILING_MILLIS),
    row(
        Id::TokenIssuer,
        "token-issuer",
        Kind::Text,
        Fallback::Text(limits::TOKEN_ISSUER_DEFAULT_TEXT),
        Group::Start,
        "Who makes the tokens, as their claim iss says; tokens of others are refused",
    ),
    row(
        Id::TokenAudience,
        "token-audience",
        Kind::Text,
        Fallback::Text(limits::TOKEN_AUDIENCE_DEFAULT_TEXT),
        Group::Start,
        "For whom the tokens are, as their claim aud says: tells servers apart that share an issuer",
    ),
    choice(
        Id::VaultApi,
        "vault-api",
        (&VAULT_APIS, "on"),
        Group::Network,
        "Whether clients of the transit engine of Vault and OpenBao are served too, below /v1/",
    ),
    row(
        Id::VaultMount,
        "vault-mount",
        Kind::Text,
        Fallback::Text(limits::VAULT_MOUNT_DEFAULT_TEXT),
        Group::Network,
        "Where these clients find the engine: the segment behind /v1/ in their paths",
    ),
    choice(
        Id::Sandbox,
        "sandbox",
        (&Mode::NAMES, "auto"),
        Group::Sandbox,
        "auto: all that can be had here; strict: all, or no start; container: see `serve --help`",
    ),
    row(
        Id::SandboxAllowMissing,
        "sandbox-allow-missing",
        Kind::Steps,
        Fallback::Nothing,
        Group::Sandbox,
        "Steps of the lock-down that strict and container may do without, like landlock",
    ),
    choice(
        Id::IntegrityAction,
        "integrity-action",
        (&INTEGRITY_ACTIONS, "report"),
        Group::Sandbox,
        "When the process finds itself altered: report it, or stop at once with exit code 70",
    ),
    row(
        Id::IntegrityInterval,
        "integrity-interval-seconds",
        Kind::Number(Unit::Seconds),
        Fallback::Number(limits::INTEGRITY_INTERVAL_DEFAULT_SECONDS),
        Group::Sandbox,
        "How often the process looks at itself, give or take a quarter",
    )
    .bounded(limits::INTEGRITY_INTERVAL_FLOOR_SECONDS, limits::INTEGRITY_INTERVAL_CEILING_SECONDS),
    capacity(
        Id::Niceness,
        "niceness",
        Unit::Count,
        limits::NICENESS_FLOOR_NUMBER,
        "How far other processes go first on the processors; 0: as it was started",
    )
    .bounded(limits::NICENESS_FLOOR_NUMBER, limits::NICENESS_CEILING_NUMBER),
];
