//! Why a command failed: one line for people and an exit code for programs.
//!
//! Owns the map from the errors of the floors below to exit codes. Invariant: each text says what to do next,
//! because those of the errors do.

use core::fmt;

use crate::config::ConfigError;
use crate::console;
use crate::crypto;
use crate::exit::{Exit, NO_ENTROPY};
use crate::sandbox;
use crate::store::StoreError;

/// Why a command failed.
#[derive(Debug)]
pub(super) struct Failure {
    exit: Exit,
    text: String,
    is_in_use: bool,
}

impl Failure {
    /// A setting or a file that has to be changed.
    pub(super) fn config(text: impl Into<String>) -> Self {
        Self { exit: Exit::Config, text: text.into(), is_in_use: false }
    }

    /// The kernel's random bytes cannot be had, or are not random.
    pub(super) fn entropy() -> Self {
        Self { exit: Exit::System, ..Self::config(NO_ENTROPY) }
    }

    /// A file that failed.
    pub(super) fn io(text: impl Into<String>) -> Self {
        Self { exit: Exit::Io, ..Self::config(text) }
    }

    /// The store is damaged.
    pub(super) fn damaged(text: impl Into<String>) -> Self {
        Self { exit: Exit::Damaged, ..Self::config(text) }
    }

    /// What was asked for is not allowed, or not in this state.
    pub(super) fn refused(text: impl Into<String>) -> Self {
        Self { exit: Exit::Failure, ..Self::config(text) }
    }

    /// What the server answered is not of this API.
    pub(super) fn protocol(text: impl Into<String>) -> Self {
        Self { exit: Exit::Protocol, ..Self::config(text) }
    }

    /// The server was not reached, or went away.
    pub(super) fn unavailable(text: impl Into<String>) -> Self {
        Self { exit: Exit::Unavailable, ..Self::config(text) }
    }

    /// The same with another exit code.
    pub(super) fn with_exit(self, exit: Exit) -> Self {
        Self { exit, ..self }
    }

    /// Whether another process uses the data directory.
    pub(super) const fn is_in_use(&self) -> bool {
        self.is_in_use
    }

    /// The same with more to know.
    pub(super) fn and(mut self, more: &str) -> Self {
        self.text.push_str(more);
        self
    }

    /// Says why `command` failed and returns the exit code.
    pub(super) fn tell(&self, command: &str) -> Exit {
        console::err(&format!("quantonium: {command}: {self}\n"));
        self.exit
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Failure {}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::config(error.to_string())
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let is_in_use = matches!(error, StoreError::InUse { .. });
        Self { exit: error.exit(), text: error.to_string(), is_in_use }
    }
}

impl From<sandbox::Failure> for Failure {
    fn from(failure: sandbox::Failure) -> Self {
        Self::config(failure.to_string())
    }
}

impl From<crypto::Error> for Failure {
    fn from(error: crypto::Error) -> Self {
        Self::config(format!("{error}; does the system give random bytes (getrandom)?"))
    }
}
