//! Settings: from flags, environment, file and defaults to one immutable [`Config`].
//!
//! Owns the table of settings and the two stages: [`Raw`] is what was given, as text, each value with its
//! source; [`Config`] is what the server runs with. Invariants: priority is flag, environment, file, default;
//! arguments and environment come in as parameters, so that nothing here reads the process; a message names
//! the source of the value it refuses; no secret is taken from the environment by value.

mod cgroup;
mod checked;
mod endpoint;
mod environment;
mod error;
mod file;
mod master_key;
mod raw;
mod reader;
mod row;
mod settings;
mod suggest;
mod table;
mod value;

use std::ffi::OsString;
use std::path::PathBuf;

use environment::Surroundings;

pub use cgroup::ControlGroups;
pub use checked::{
    AuditSink, CertificateFiles, Config, HandedOver, IntegrityAction, IntegrityPolicy, LogFormat, Machine,
    Offline, Remote, Tls,
};
pub use endpoint::{Endpoint, Scheme};
pub use error::{ConfigError, Place, shown, shown_path};
pub use master_key::MASTER_KEY_CREDENTIAL;
pub use raw::{Given, Raw, Source};
pub use settings::{Fallback, Group, Id, Kind, SETTINGS, Setting, Unit, by_name};
pub use suggest::nearest;

/// A configuration and what to tell about it.
#[derive(Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The settings to run with.
    pub config: Config,
    /// Lines for the log: variables that look like settings and are none.
    pub warnings: Vec<String>,
}

/// Completes the flags in `raw` by environment, file and defaults, and checks the whole.
///
/// # Errors
/// The first thing that cannot be served with.
pub fn load(
    mut raw: Raw,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    machine: Machine,
) -> Result<Loaded, ConfigError> {
    let Surroundings { warnings, credentials, .. } = gather(&mut raw, environment)?;
    Ok(Loaded { config: checked::check(&raw, machine, credentials.as_deref())?, warnings })
}

/// What a command needs that works on the store of a stopped server; other settings are not judged.
///
/// # Errors
/// What is wrong with the environment, the file or these settings.
pub fn load_offline(
    mut raw: Raw,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Offline, ConfigError> {
    let credentials = gather(&mut raw, environment)?.credentials;
    checked::offline(&raw, credentials.as_deref(), false)
}

/// The same for a command to which a store in etcd is enough: without a data directory its path is empty.
///
/// # Errors
/// As for [`load_offline`].
pub fn load_store(
    mut raw: Raw,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Offline, ConfigError> {
    let credentials = gather(&mut raw, environment)?.credentials;
    checked::offline(&raw, credentials.as_deref(), true)
}

/// Where environment, file and defaults say to listen; other settings are not judged.
///
/// # Errors
/// What is wrong with the environment, the file or the addresses.
pub fn listen_endpoints(
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Vec<Endpoint>, ConfigError> {
    let mut raw = Raw::default();
    gather(&mut raw, environment)?;
    checked::listen_endpoints(&raw)
}

/// The files of certificates that environment and file configure; other settings are not judged.
///
/// # Errors
/// What is wrong with the environment, the file or the paths.
#[cfg(feature = "tls")]
pub fn certificates(
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Vec<PathBuf>, ConfigError> {
    let mut raw = Raw::default();
    gather(&mut raw, environment)?;
    checked::certificates(&raw)
}

/// The file with the API key of a command that asks a server, if `environment` names one.
///
/// # Errors
/// A secret that is given by value.
pub fn api_key_file(
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Option<PathBuf>, ConfigError> {
    Ok(environment::read(environment, &mut Raw::default())?.api_key_file)
}

fn gather(
    raw: &mut Raw,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Surroundings, ConfigError> {
    let surroundings = environment::read(environment, raw)?;
    if let Some(path) = checked::config_file(raw)? {
        file::read(&path, raw)?;
    }
    Ok(surroundings)
}

#[cfg(test)]
mod tests;
