//! Why a start was stopped.

use core::fmt;

use crate::exit::{self, Exit};
use crate::sandbox;
use crate::store::StoreError;

/// Why the server did not start. Its text says what to do.
#[derive(Debug)]
pub struct ServerError {
    exit: Exit,
    text: String,
}

impl ServerError {
    /// The exit code that tells it to the parent process.
    #[must_use]
    pub const fn exit(&self) -> Exit {
        self.exit
    }

    pub(super) fn config(text: impl Into<String>) -> Self {
        Self { exit: Exit::Config, text: text.into() }
    }

    pub(super) fn defect(text: impl Into<String>) -> Self {
        Self { exit: Exit::Software, text: text.into() }
    }

    /// The kernel's random bytes cannot be had, or are not random.
    pub(super) fn entropy() -> Self {
        Self { exit: Exit::System, text: exit::NO_ENTROPY.to_owned() }
    }

    /// A server has lost its supervisor before it served.
    pub(super) fn abandoned() -> Self {
        Self { exit: Exit::Failure, text: "its supervisor has ended: this server does not start".to_owned() }
    }

    pub(super) fn io(what: &str, error: &std::io::Error) -> Self {
        Self { exit: Exit::Io, text: format!("{what}: {error}") }
    }

    pub(super) fn thread(reason: impl fmt::Display) -> Self {
        Self { exit: Exit::Config, text: format!("a thread could not be started or locked in: {reason}") }
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for ServerError {}

impl From<sandbox::Failure> for ServerError {
    fn from(failure: sandbox::Failure) -> Self {
        Self::config(failure.to_string())
    }
}

impl From<StoreError> for ServerError {
    fn from(error: StoreError) -> Self {
        Self { exit: error.exit(), text: error.to_string() }
    }
}
