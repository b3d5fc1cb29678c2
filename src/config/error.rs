//! Why a configuration was refused, in words that say what to do.
//!
//! Owns [`ConfigError`]. Invariants: every message is one line; text from outside is shortened and its control
//! characters are escaped; the value of a variable that may hold a secret is never part of a message.

use core::fmt;
use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::master_key::MASTER_KEY_CREDENTIAL;
use super::raw::Source;
use super::settings::Id;
use crate::limits;

/// A place in the configuration file; line and column count from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub path: PathBuf,
    /// Line.
    pub line: usize,
    /// Column, in characters.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, line, column } = self;
        write!(f, "{}, line {line}, column {column}", shown(path.as_os_str()))
    }
}

/// Why a configuration was refused.
#[derive(Debug, PartialEq, Eq)]
pub enum ConfigError {
    /// A value is not one of its setting.
    Value {
        /// The setting.
        id: Id,
        /// Who gave the value.
        source: Source,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no data directory and no `--dev`.
    DataDirMissing,
    /// There is no master key and no `--dev`.
    MasterKeyMissing,
    /// A secret stands in the environment by value.
    SecretInEnvironment {
        /// The variable's name.
        name: String,
    },
    /// The configuration file could not be read.
    FileUnreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The configuration file is not TOML.
    FileSyntax {
        /// Where.
        place: Place,
        /// What the parser says.
        reason: String,
    },
    /// The configuration file has a key that is no setting.
    UnknownKey {
        /// Where.
        place: Place,
        /// The key.
        key: String,
        /// The key that was probably meant.
        nearest: Option<String>,
    },
    /// A key of the configuration file has a value of another type.
    WrongType {
        /// Where.
        place: Place,
        /// The setting.
        id: Id,
        /// What it takes.
        expected: &'static str,
        /// What it got.
        found: &'static str,
    },
    /// Plain HTTP would leave this machine.
    PlainHttp {
        /// The address that is not loopback.
        address: SocketAddr,
    },
    /// TLS is to be spoken without a certificate.
    CertificateMissing,
    /// There are lists of revoked client certificates, and nobody whose clients these are.
    AuthorityMissing,
    /// There are not as many keys as certificates, or more OCSP responses.
    UnpairedCertificates {
        /// Certificates.
        certs: usize,
        /// Keys.
        keys: usize,
    },
    /// Each worker has a socket of its own for each address, and there is no room for so many.
    TooManyListeners {
        /// Addresses asked for.
        addresses: usize,
        /// Workers asked for.
        workers: usize,
    },
    /// A silence is allowed that is longer than the whole body may take.
    GapBeyondTotal {
        /// The silence, in milliseconds.
        gap: u64,
        /// The time for the whole body, in milliseconds.
        total: u64,
    },
    /// Audit lines are to be on a disk, and go to none.
    SyncedWithoutFile,
}

impl ConfigError {
    /// What settings make of one another.
    fn fmt_conflict(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PlainHttp { address } => write!(
                f,
                "--listen: {address} is not a loopback address, and plain HTTP there would show keys and data to \
                 the network: give --tls-cert and --tls-key, listen on 127.0.0.1, or give --insecure-http if a proxy in front speaks TLS"
            ),
            Self::CertificateMissing => f.write_str(
                "TLS needs a certificate: give --tls-cert FILE and --tls-key FILE; for a trial `quantonium tls \
                 self-signed` makes both",
            ),
            Self::AuthorityMissing => f.write_str(
                "--tls-client-crl names what the authorities of clients have revoked: give --tls-client-ca FILE too",
            ),
            Self::UnpairedCertificates { certs, keys } => write!(
                f,
                "--tls-cert names {certs} files and --tls-key {keys}: each certificate has its key, in the same \
                 order, and --tls-ocsp at most one response for each"
            ),
            Self::TooManyListeners { addresses, workers } => write!(
                f,
                "--listen: {addresses} addresses for {workers} workers need {} sockets, more than {}: give fewer \
                 addresses or a smaller --workers",
                addresses.saturating_mul(*workers),
                limits::LISTENERS_MAX_COUNT
            ),
            Self::GapBeyondTotal { gap, total } => write!(
                f,
                "--body-gap-timeout-ms: {gap} is longer than --body-timeout-ms ({total}): lower the one or raise \
                 the other"
            ),
            Self::SyncedWithoutFile => f.write_str(
                "--audit-durability: nothing is synced with --audit-sink stdout: give --audit-sink both or file, or \
                 leave it at written",
            ),
            // The others are about one setting.
            _ => Ok(()),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value { id, source, reason } => {
                let setting = id.setting();
                write!(f, "{}: {reason} ({})", setting.flag(), source.named(setting))
            }
            Self::DataDirMissing => {
                let setting = Id::DataDir.setting();
                write!(
                    f,
                    "no data directory: give {} DIR or set {}, or try it out with --dev",
                    setting.flag(),
                    setting.variable()
                )
            }
            Self::MasterKeyMissing => {
                let setting = Id::MasterKeyFile.setting();
                write!(
                    f,
                    "no master key: give {} FILE, set {}, or let systemd hand it over \
                     (LoadCredential={MASTER_KEY_CREDENTIAL}:FILE); for a new store `quantonium init \
                     --generate-master-key` makes one; try it out with --dev",
                    setting.flag(),
                    setting.variable()
                )
            }
            Self::SecretInEnvironment { name } => write!(
                f,
                "{name}: a secret is not taken by value from the environment, where other processes and crash \
                 reports can see it; put it in a file of mode 0600, set {name}_FILE to its path and unset {name}"
            ),
            Self::FileUnreadable { path, reason } => {
                write!(f, "cannot read the configuration file {}: {reason}", shown(path.as_os_str()))
            }
            Self::FileSyntax { place, reason } => write!(f, "{place}: {reason}"),
            Self::UnknownKey { place, key, nearest } => {
                write!(f, "{place}: unknown key {}", shown(OsStr::new(key)))?;
                match nearest {
                    Some(nearest) => write!(f, "; did you mean {nearest}?"),
                    None => f.write_str("; `quantonium help` lists the settings"),
                }
            }
            Self::WrongType { place, id, expected, found } => {
                let key = id.setting().key().unwrap_or_default();
                write!(f, "{place}: {key} takes {expected}, not {found}")
            }
            _ => self.fmt_conflict(f),
        }
    }
}

impl std::error::Error for ConfigError {}

/// Text from outside as a message may repeat it: shortened, on one line, without control characters.
#[must_use]
pub fn shown(text: &OsStr) -> String {
    let text = text.to_string_lossy();
    let mut out: String = text.chars().take(limits::SHOWN_VALUE_MAX_CHARS).collect();
    if out.len() < text.len() {
        out.push('…');
    }
    out.chars()
        .flat_map(|char| {
            let escaped = char.is_control();
            char.escape_default().filter(move |_| escaped).chain((!escaped).then_some(char))
        })
        .collect()
}

/// A path as a message may repeat it.
#[must_use]
pub fn shown_path(path: &Path) -> String {
    shown(path.as_os_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_outside_is_shortened_and_escaped() {
        assert_eq!(shown(OsStr::new("a\nb\x1b[0m é")), "a\\nb\\u{1b}[0m é");
        let long = shown(OsStr::new(&"x".repeat(10_000)));
        assert_eq!(long.chars().count(), limits::SHOWN_VALUE_MAX_CHARS + 1);
    }
}
