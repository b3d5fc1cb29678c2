//! The server: start-up order, worker loops, shutdown. A placeholder until it is built.

use core::fmt;

use crate::config::Config;
use crate::exit::Exit;

/// Why the server did not start or did not end well.
#[derive(Debug)]
pub struct ServerError {
    exit: Exit,
}

impl ServerError {
    /// The exit code that tells it to the parent process.
    #[must_use]
    pub const fn exit(&self) -> Exit {
        self.exit
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("this build has no server yet")
    }
}

impl std::error::Error for ServerError {}

/// Serves until a signal ends it.
///
/// # Errors
/// What stopped the start or the service.
pub fn run(_config: &Config) -> Result<(), ServerError> {
    Err(ServerError { exit: Exit::Software })
}
