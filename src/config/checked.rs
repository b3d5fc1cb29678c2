//! The second stage: checked, typed, immutable.
//!
//! Owns [`Config`]. Invariant: a `Config` in hand is one that the server can start with, as far as that can be
//! told without touching the machine; nobody looks at a setting's text after it.

use core::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use super::cgroup::ControlGroups;
use super::endpoint::{Endpoint, Scheme};
use super::error::ConfigError;
use super::master_key;
use super::raw::Raw;
use super::reader::Reader;
use super::settings::Id;
use super::value;
use crate::broker::StorePlace;
use crate::http::forwarded::Field;
use crate::limits;
use crate::log::{Filter, Form};
use crate::model::{Mode, Step};
use crate::network::Network;
use crate::quota::Rate;

/// What a default may depend on.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// Processors that this process may use, by its affinity and by its control groups; at least one.
    pub processors: usize,
    /// Sockets that it was given.
    pub handed_over: HandedOver,
}

/// Listening sockets that another process has opened for this one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HandedOver {
    /// None.
    #[default]
    Nothing,
    /// So many; where settings name addresses, these are served too, and the default is not.
    Some(usize),
    /// So many, which are all that the settings name.
    Everything(usize),
}

impl Machine {
    /// What commands assume that serve nothing.
    const ALONE: Self = Self { processors: 1, handed_over: HandedOver::Nothing };

    /// Asks the system.
    #[must_use]
    pub fn here() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let allowed = ControlGroups::here().processors.and_then(|count| usize::try_from(count).ok());
        let processors = allowed.map_or(processors, |allowed| processors.min(allowed));
        Self { processors, handed_over: HandedOver::Nothing }
    }
}

/// The settings of a server. Durations are in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Started to try it out.
    pub dev: bool,
    /// Directory of everything that outlives a run.
    pub data_dir: PathBuf,
    /// The file of the master key; none only with `dev`, which keeps one of its own in the data directory.
    pub master_key_file: Option<PathBuf>,
    /// etcd, if it keeps the store.
    pub store: Option<Remote>,
    /// How old what is known of a shared store may be, in seconds.
    pub max_staleness_seconds: u64,
    /// Make the store if the data directory holds none.
    pub init: bool,
    /// The file of the key that seals backups; none: a key of this store's own.
    pub backup_key_file: Option<PathBuf>,
    /// How long a start waits until another process has left the data directory, in seconds.
    pub store_wait_seconds: u64,
    /// How long a deleted key can be brought back, in seconds.
    pub restore_window_seconds: u64,
    /// A revision that the store must have reached.
    pub min_store_revision: Option<u64>,
    /// Start on a store that is known to have been rolled back.
    pub accept_store_rollback: bool,
    /// Length at which an audit file is left for the next one.
    pub audit_rotate_bytes: u64,
    /// Days after which an audit file is removed; 0: never.
    pub audit_retention_days: u64,
    /// Length of all audit files together beyond which the oldest are removed; 0: no limit.
    pub audit_max_bytes: u64,
    /// Whether audit files are compressed.
    pub audit_compress: bool,
    /// Where to listen: none twice apart from addresses with port 0, and at least one place unless sockets were handed over.
    pub listen: Vec<Endpoint>,
    /// Access mode of the Unix sockets among them.
    pub unix_mode: u32,
    /// After how many seconds the kernel hands a silent TCP connection over; 0: at once.
    pub defer_accept_seconds: u32,
    /// Certificates and how TLS is spoken; none without certificates.
    pub tls: Option<Tls>,
    /// Names under which the server is asked; empty: under any.
    pub allowed_hosts: Vec<String>,
    /// Origins whose pages may read replies.
    pub cors_origins: Vec<String>,
    /// The page for people is left out.
    pub no_console: bool,
    /// TLS handshakes at a time, all workers together.
    pub max_handshakes: usize,
    /// TLS handshakes at a time of one client address; none: no such limit.
    pub max_handshakes_per_address: Option<NonZeroUsize>,
    /// From the accept of a connection to the end of its handshake.
    pub handshake_timeout_ms: u64,
    /// Plain HTTP may leave this machine.
    pub insecure_http: bool,
    /// Where proxies stand that are believed whom they serve.
    pub trusted_proxies: Vec<Network>,
    /// Whether proxies are believed that come by a Unix socket.
    pub local_proxies: bool,
    /// The field in which they say so.
    pub forwarded_field: Field,
    /// Threads that serve; with `listen`, no more sockets than `limits::LISTENERS_MAX_COUNT`.
    pub workers: usize,
    /// Connections at a time, all workers together.
    pub max_connections: usize,
    /// Connections at a time of one client address; none: no such limit.
    pub max_connections_per_address: Option<NonZeroUsize>,
    /// Requests on one connection.
    pub max_requests_per_connection: u64,
    /// How often an API key may ask that has no limit of its own; none: no such limit.
    pub rate_limit: Option<Rate>,
    /// How often a client address may ask without a valid credential; none: no such limit.
    pub address_rate_limit: Option<Rate>,
    /// Budget of all leases of all workers, in bytes.
    pub max_memory_bytes: usize,
    /// From the first byte of a request to the end of its head.
    pub head_timeout_ms: u64,
    /// From the end of the head to the end of the body.
    pub body_timeout_ms: u64,
    /// Longest silence inside a body; never longer than `body_timeout_ms`.
    pub body_gap_timeout_ms: u64,
    /// Longest silence between two requests.
    pub idle_timeout_ms: u64,
    /// How long a reply may find no room.
    pub write_timeout_ms: u64,
    /// From the first signal to the end of the requests in flight.
    pub drain_timeout_ms: u64,
    /// User to become when started as root; never root.
    pub user_id: u32,
    /// Group to become when started as root; never root's.
    pub group_id: u32,
    /// Where audit lines go.
    pub audit_sink: AuditSink,
    /// Whether nothing is answered before its audit lines are on the disk; only with a file.
    pub audit_synced: bool,
    /// Whether audit lines hold a keyed hash of bodies.
    pub audit_body: bool,
    /// The form of the log.
    pub log_format: LogFormat,
    /// What of the log is told.
    pub log_filter: Filter,
    /// Who makes the tokens.
    pub token_issuer: String,
    /// For whom they are.
    pub token_audience: String,
    /// The segment behind `/v1/` below which clients of Vault are served; none: they are not.
    pub vault_mount: Option<String>,
    /// How much of the lock-down must be there.
    pub sandbox_mode: Mode,
    /// Steps of it that may be missing nonetheless; none of them mandatory, none twice.
    pub sandbox_allow_missing: Vec<Step>,
    /// How the process watches itself.
    pub integrity: IntegrityPolicy,
    /// How far other processes go first on the processors, 0 to 19; 0: as the process was started.
    pub niceness: u8,
}

/// The form of the log, as it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// By where standard error leads.
    Auto,
    /// An object on each line.
    Json,
    /// For people.
    Human,
}

impl LogFormat {
    fn from_name(name: &str) -> Self {
        match name {
            "json" => Self::Json,
            "human" => Self::Human,
            _ => Self::Auto,
        }
    }

    /// The form of lines on a standard error that is a terminal, or a stream of the journal.
    #[must_use]
    pub const fn form(self, is_terminal: bool, is_journal: bool) -> Form {
        match self {
            Self::Json => Form::Json,
            Self::Auto | Self::Human if is_journal => Form::Journal,
            Self::Auto if !is_terminal => Form::Json,
            Self::Auto | Self::Human => Form::Human,
        }
    }
}

/// How the process watches itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IntegrityPolicy {
    /// What it does about what it finds.
    pub action: IntegrityAction,
    /// How often it looks.
    pub interval_seconds: u64,
}

/// What the process does when it finds itself altered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntegrityAction {
    /// It says so and goes on.
    Report,
    /// It says so and ends at once.
    Stop,
}

/// How TLS is spoken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The certificates, the one for names that none of them has first.
    pub certificates: Vec<CertificateFiles>,
    /// The authorities whose client certificates are taken.
    pub client_ca: Option<PathBuf>,
    /// What these have revoked.
    pub client_crls: Vec<PathBuf>,
    /// Whether a client must have one.
    pub client_required: bool,
    /// Whether TLS 1.2 is spoken beside 1.3.
    pub tls12: bool,
}

/// A store in etcd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// Where.
    pub place: StorePlace,
    /// The authorities of etcd's certificate, in PEM; there if and only if TLS is spoken.
    pub authorities: Option<PathBuf>,
    /// Certificate and key that etcd is shown, in PEM.
    pub own: Option<(PathBuf, PathBuf)>,
    /// The user of etcd, and the file of its password.
    pub user: Option<(String, PathBuf)>,
}

/// The files of one certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The chain, in PEM.
    pub cert: PathBuf,
    /// The private key, in PEM.
    pub key: PathBuf,
    /// What its authority says of it, in DER.
    pub ocsp: Option<PathBuf>,
}

/// Where audit lines go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditSink {
    /// Into files of the data directory.
    File,
    /// To standard output.
    Stdout,
    /// To both.
    Both,
}

impl AuditSink {
    fn from_name(name: &str) -> Self {
        match name {
            "stdout" => Self::Stdout,
            "both" => Self::Both,
            _ => Self::File,
        }
    }

    /// Whether there are files.
    #[must_use]
    pub const fn has_file(self) -> bool {
        matches!(self, Self::File | Self::Both)
    }

    /// Whether standard output holds audit lines and nothing else.
    #[must_use]
    pub const fn has_stdout(self) -> bool {
        matches!(self, Self::Stdout | Self::Both)
    }
}

/// Checks everything that was given.
///
/// # Errors
/// The first setting that cannot be served with.
pub(super) fn check(raw: &Raw, machine: Machine, credentials: Option<&Path>) -> Result<Config, ConfigError> {
    let read = Reader { raw, machine };
    let dev = read.switch(Id::Dev)?;
    let data_dir = read.data_dir(dev)?;
    let master_key_file = read.master_key_file(dev, credentials)?;
    let body_timeout_ms = read.number(Id::BodyTimeout)?;
    let (trusted_proxies, local_proxies) = read.networks(Id::TrustedProxy)?;
    let config = Config {
        dev,
        data_dir,
        master_key_file,
        store: read.remote()?,
        max_staleness_seconds: read.number(Id::MaxStaleness)?,
        init: read.switch(Id::Init)?,
        backup_key_file: read.path(Id::BackupKeyFile)?,
        store_wait_seconds: read.number(Id::WaitForStore)?,
        restore_window_seconds: read.number(Id::RestoreWindow)?,
        min_store_revision: read.optional_number(Id::MinStoreRevision)?,
        accept_store_rollback: read.switch(Id::AcceptStoreRollback)?,
        audit_rotate_bytes: read.number(Id::AuditRotateBytes)?,
        audit_retention_days: read.number(Id::AuditRetentionDays)?,
        audit_max_bytes: read.number(Id::AuditMaxBytes)?,
        audit_compress: read.switch(Id::AuditCompress)?,
        listen: read.endpoints()?,
        unix_mode: read.mode()?,
        defer_accept_seconds: u32::try_from(read.number(Id::DeferAccept)?).unwrap_or(u32::MAX),
        tls: read.tls()?,
        allowed_hosts: read.list(Id::AllowedHost, "the name of a host", value::host)?,
        cors_origins: read.list(Id::CorsOrigin, "an origin like https://app.example.net", value::origin)?,
        no_console: read.switch(Id::NoConsole)?,
        max_handshakes: read.count(Id::MaxHandshakes)?,
        max_handshakes_per_address: NonZeroUsize::new(read.count(Id::MaxHandshakesPerAddress)?),
        handshake_timeout_ms: read.number(Id::HandshakeTimeout)?,
        insecure_http: read.switch(Id::InsecureHttp)?,
        trusted_proxies,
        local_proxies,
        forwarded_field: read.forwarded_field()?,
        workers: read.count(Id::Workers)?,
        max_connections: read.count(Id::MaxConnections)?,
        max_connections_per_address: NonZeroUsize::new(read.count(Id::MaxConnectionsPerAddress)?),
        max_requests_per_connection: read.number(Id::MaxRequestsPerConnection)?,
        rate_limit: read.rate(Id::RateLimit)?,
        address_rate_limit: read.rate(Id::AddressRateLimit)?,
        max_memory_bytes: read.count(Id::MaxMemory)?,
        head_timeout_ms: read.number(Id::HeadTimeout)?,
        body_timeout_ms,
        body_gap_timeout_ms: read.body_gap(body_timeout_ms)?,
        idle_timeout_ms: read.number(Id::IdleTimeout)?,
        write_timeout_ms: read.number(Id::WriteTimeout)?,
        drain_timeout_ms: read.number(Id::DrainTimeout)?,
        user_id: read.identity(Id::UserId)?,
        group_id: read.identity(Id::GroupId)?,
        audit_sink: AuditSink::from_name(read.word(Id::AuditSink)?),
        audit_synced: read.word(Id::AuditDurability)? == "synced",
        audit_body: read.word(Id::AuditBody)? == "hmac",
        log_format: LogFormat::from_name(read.word(Id::LogFormat)?),
        log_filter: read.log_filter()?,
        token_issuer: read.text(Id::TokenIssuer)?,
        token_audience: read.text(Id::TokenAudience)?,
        vault_mount: read.vault_mount()?,
        sandbox_mode: Mode::from_name(read.word(Id::Sandbox)?).unwrap_or_default(),
        sandbox_allow_missing: read.steps(Id::SandboxAllowMissing)?,
        integrity: read.integrity()?,
        niceness: u8::try_from(read.number(Id::Niceness)?).unwrap_or_default(),
    };
    judge(config, machine.handed_over)
}

/// Checks what one setting alone does not say.
fn judge(config: Config, handed_over: HandedOver) -> Result<Config, ConfigError> {
    if config.audit_synced && !config.audit_sink.has_file() {
        return Err(ConfigError::SyncedWithoutFile);
    }
    check_listeners(&config, handed_over)?;
    Ok(config)
}

fn check_listeners(config: &Config, handed_over: HandedOver) -> Result<(), ConfigError> {
    for endpoint in &config.listen {
        match endpoint {
            // An IPv4 address inside IPv6 is judged as what it stands for.
            Endpoint::Tcp(address, Scheme::Http)
                if !address.ip().to_canonical().is_loopback() && !config.insecure_http =>
            {
                return Err(ConfigError::PlainHttp { address: *address });
            }
            Endpoint::Tcp(_, Scheme::Https | Scheme::Redirect) if config.tls.is_none() => {
                return Err(ConfigError::CertificateMissing);
            }
            _ => {}
        }
    }
    let inherited = match handed_over {
        HandedOver::Nothing => 0,
        HandedOver::Some(count) | HandedOver::Everything(count) => count,
    };
    let addresses = config.listen.len().saturating_add(inherited);
    if addresses.saturating_mul(config.workers).saturating_add(inherited) > limits::LISTENERS_MAX_COUNT {
        let workers = config.workers;
        return Err(ConfigError::TooManyListeners { addresses, workers });
    }
    Ok(())
}

/// The settings of a command that works on the store of a stopped server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offline {
    /// Directory of everything that outlives a run.
    pub data_dir: PathBuf,
    /// The file of the master key, if one is named or handed over by systemd.
    pub master_key_file: Option<PathBuf>,
    /// etcd, if it keeps the store.
    pub store: Option<Remote>,
    /// A revision that the store must have reached.
    pub min_store_revision: Option<u64>,
    /// Take a store that is known to have been rolled back.
    pub accept_store_rollback: bool,
    /// User to which a new data directory is given by root; never root.
    pub user_id: u32,
    /// Group to which it is given; never root's.
    pub group_id: u32,
}

/// Checks what a command needs that works on the store of a stopped server.
///
/// # Errors
/// The first of these settings that is wrong.
pub(super) fn offline(
    raw: &Raw,
    credentials: Option<&Path>,
    may_be_elsewhere: bool,
) -> Result<Offline, ConfigError> {
    let read = Reader { raw, machine: Machine::ALONE };
    let dev = read.switch(Id::Dev)?;
    let store = read.remote()?;
    let data_dir = match raw.get(Id::DataDir) {
        None if may_be_elsewhere && store.is_some() => PathBuf::new(),
        _ => read.data_dir(dev)?,
    };
    Ok(Offline {
        data_dir,
        master_key_file: master_key::resolve(read.path(Id::MasterKeyFile)?, credentials),
        store,
        min_store_revision: read.optional_number(Id::MinStoreRevision)?,
        accept_store_rollback: read.switch(Id::AcceptStoreRollback)?,
        user_id: read.identity(Id::UserId)?,
        group_id: read.identity(Id::GroupId)?,
    })
}

/// Where the settings say to listen, without judging any other setting.
///
/// # Errors
/// [`ConfigError::Value`].
pub(super) fn listen_endpoints(raw: &Raw) -> Result<Vec<Endpoint>, ConfigError> {
    Reader { raw, machine: Machine::ALONE }.endpoints()
}

/// The files of certificates, without judging any other setting.
///
/// # Errors
/// [`ConfigError::Value`].
#[cfg(feature = "tls")]
pub(super) fn certificates(raw: &Raw) -> Result<Vec<PathBuf>, ConfigError> {
    Reader { raw, machine: Machine::ALONE }.paths(Id::TlsCert)
}

/// Where the settings say the configuration file is.
///
/// # Errors
/// [`ConfigError::Value`].
pub(super) fn config_file(raw: &Raw) -> Result<Option<PathBuf>, ConfigError> {
    Reader { raw, machine: Machine::ALONE }.path(Id::ConfigFile)
}
