//! The table of settings: one row each, from which everything else derives.
//!
//! Owns what a row is; the rows are [`SETTINGS`]. A row's name gives the flag (`--data-dir`), the environment variable
//! (`QUANTONIUM_DATA_DIR`) and the key of the TOML file (`data_dir`); its kind, bounds, default and help give
//! the parser and the help text. Invariant, held at compile time: row `i` belongs to the `Id` of number `i`.

pub use super::table::SETTINGS;

/// What every environment variable of the program begins with.
pub(super) const ENVIRONMENT_PREFIX: &str = "QUANTONIUM_";

/// Names a setting in the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each variant is described by its row below")]
pub enum Id {
    Dev,
    ConfigFile,
    DataDir,
    Workers,
    UserId,
    GroupId,
    MasterKeyFile,
    Store,
    StoreCa,
    StoreCert,
    StoreKey,
    StoreUser,
    StorePasswordFile,
    MaxStaleness,
    Init,
    BackupKeyFile,
    WaitForStore,
    RestoreWindow,
    MinStoreRevision,
    AcceptStoreRollback,
    AuditRotateBytes,
    AuditRetentionDays,
    AuditMaxBytes,
    AuditCompress,
    AuditSink,
    AuditDurability,
    AuditBody,
    LogFormat,
    LogLevel,
    Listen,
    UnixMode,
    DeferAccept,
    RedirectListen,
    InsecureHttp,
    TlsCert,
    TlsKey,
    TlsOcsp,
    TlsClientCa,
    TlsClientCrl,
    TlsClientAuth,
    TlsMinVersion,
    AllowedHost,
    CorsOrigin,
    NoConsole,
    TrustedProxy,
    ForwardedHeader,
    MaxConnections,
    MaxConnectionsPerAddress,
    MaxHandshakes,
    MaxHandshakesPerAddress,
    MaxRequestsPerConnection,
    RateLimit,
    AddressRateLimit,
    MaxMemory,
    HandshakeTimeout,
    HeadTimeout,
    BodyTimeout,
    BodyGapTimeout,
    IdleTimeout,
    WriteTimeout,
    DrainTimeout,
    TokenIssuer,
    TokenAudience,
    VaultApi,
    VaultMount,
    Sandbox,
    SandboxAllowMissing,
    IntegrityAction,
    IntegrityInterval,
    Niceness,
}

impl Id {
    /// The setting's row.
    #[must_use]
    #[expect(clippy::indexing_slicing, reason = "the assertion below shows that every Id has its row")]
    pub const fn setting(self) -> &'static Setting {
        &SETTINGS[self as usize]
    }
}

/// The form of a setting's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// On or off.
    Switch,
    /// A path.
    Path,
    /// Addresses with ports; may be repeated.
    Addresses,
    /// Networks in CIDR notation; may be repeated.
    Networks,
    /// Paths; may be repeated.
    Paths,
    /// Names of hosts, with or without a port; may be repeated.
    Hosts,
    /// Origins: a scheme, a host and perhaps a port; may be repeated.
    Origins,
    /// Steps of the lock-down; may be repeated.
    Steps,
    /// Who may use a file: three octal digits.
    Mode,
    /// Requests in a second and at once; zero: no limit.
    Rate,
    /// Letters, digits and other characters that can be seen.
    Text,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A whole number within bounds.
    Number(Unit),
}

/// What a number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Things.
    Count,
    /// Bytes; the text may end in `KiB`, `MiB` or `GiB`.
    Bytes,
    /// Milliseconds.
    Millis,
    /// Seconds.
    Seconds,
    /// A user or group of the system.
    Identity,
}

/// The value of a setting that is given nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fallback {
    /// A switch is off.
    Off,
    /// A switch is on.
    On,
    /// There is none.
    Nothing,
    /// This text, as if it had been given.
    Text(&'static str),
    /// This number.
    Number(u64),
    /// The number of processors that the process may use.
    Processors,
    /// Required, except with `--dev`: then this text.
    RequiredUnlessDev(&'static str),
    /// The credential that systemd hands over; required without it, except with `--dev`, which makes its own.
    CredentialUnlessDev,
}

/// The heading under which the help shows a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// How the server starts.
    Start,
    /// What the process is kept from, and how it watches itself.
    Sandbox,
    /// What keeps the keys.
    Store,
    /// What is told, and how long it is kept.
    Audit,
    /// What the process tells of itself.
    Log,
    /// Where it listens.
    Network,
    /// How it is spoken to in secret.
    Tls,
    /// How much it takes on.
    Capacity,
    /// How long it waits.
    Time,
}

impl Group {
    /// All groups, in the order of the help.
    pub const ALL: [Self; 9] = [
        Self::Start,
        Self::Sandbox,
        Self::Store,
        Self::Audit,
        Self::Log,
        Self::Network,
        Self::Tls,
        Self::Capacity,
        Self::Time,
    ];

    /// The heading's text.
    #[must_use]
    pub const fn heading(self) -> &'static str {
        match self {
            Self::Start => "Start",
            Self::Sandbox => "Sandbox",
            Self::Store => "Store",
            Self::Audit => "Audit",
            Self::Log => "Log",
            Self::Network => "Network",
            Self::Tls => "TLS",
            Self::Capacity => "Capacity",
            Self::Time => "Time",
        }
    }
}

/// One row of the table.
#[derive(Debug)]
pub struct Setting {
    /// Its name in the code.
    pub id: Id,
    /// Its name to people, in lower case with hyphens.
    pub name: &'static str,
    /// The form of its value.
    pub kind: Kind,
    /// Its value when it is given nowhere.
    pub fallback: Fallback,
    /// Smallest number that is taken; zero for other kinds.
    pub floor: u64,
    /// Largest number that is taken; zero for other kinds.
    pub ceiling: u64,
    /// Its heading in the help.
    pub group: Group,
    /// One or two lines of help.
    pub help: &'static str,
}

impl Setting {
    /// The flag: `--data-dir`.
    #[must_use]
    pub fn flag(&self) -> String {
        format!("--{}", self.name)
    }

    /// The environment variable: `QUANTONIUM_DATA_DIR`.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("{ENVIRONMENT_PREFIX}{}", self.name.replace('-', "_").to_ascii_uppercase())
    }

    /// The key in the TOML file: `data_dir`. The path of that file itself has none.
    #[must_use]
    pub fn key(&self) -> Option<String> {
        (self.id != Id::ConfigFile).then(|| self.name.replace('-', "_"))
    }

    /// Whether the flag may stand more than once.
    #[must_use]
    pub fn repeats(&self) -> bool {
        matches!(
            self.kind,
            Kind::Addresses | Kind::Networks | Kind::Paths | Kind::Hosts | Kind::Origins | Kind::Steps
        )
    }

    pub(super) const fn bounded(mut self, floor: u64, ceiling: u64) -> Self {
        self.floor = floor;
        self.ceiling = ceiling;
        self
    }
}

#[expect(clippy::indexing_slicing, reason = "the loop stays below the length; compile time only")]
const _: () = {
    let mut number = 0;
    while number < SETTINGS.len() {
        assert!(SETTINGS[number].id as usize == number, "rows stand in the order of Id");
        number += 1;
    }
    assert!(Id::Niceness as usize + 1 == SETTINGS.len(), "every Id has a row");
};

/// The setting of this name (`data-dir`), if there is one.
#[must_use]
pub fn by_name(name: &str) -> Option<Id> {
    SETTINGS.iter().find(|setting| setting.name == name).map(|setting| setting.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flag_variable_and_key_derive_from_the_name() {
        let setting = Id::DataDir.setting();
        assert_eq!(setting.flag(), "--data-dir");
        assert_eq!(setting.variable(), "QUANTONIUM_DATA_DIR");
        assert_eq!(setting.key().as_deref(), Some("data_dir"));
        assert_eq!(Id::ConfigFile.setting().key(), None);
    }

    #[test]
    fn names_are_unique_and_plain() {
        for setting in &SETTINGS {
            assert_eq!(by_name(setting.name), Some(setting.id));
            assert!(setting.name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'));
        }
        assert_eq!(by_name("data_dir"), None);
    }

    #[test]
    fn defaults_of_numbers_lie_within_their_bounds() {
        for setting in &SETTINGS {
            match setting.fallback {
                Fallback::Number(default) => {
                    assert!((setting.floor..=setting.ceiling).contains(&default), "{}", setting.name);
                }
                Fallback::Processors | Fallback::Nothing => {}
                _ => assert!(
                    !matches!(setting.kind, Kind::Number(_)),
                    "{} needs a number as default",
                    setting.name
                ),
            }
        }
    }
}
