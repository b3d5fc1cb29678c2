//! The command line: from arguments to a command, and from its outcome to an exit code.
//!
//! Owns the commands and their texts. Invariants: arguments and environment come in as parameters; text goes
//! through `console`, which never panics; a mistake on the command line is answered with what to run next and
//! exit code 64; a configuration that is refused, wherever the value came from, with 78.

mod apikey;
mod arguments;
mod audit_arguments;
mod audit_read;
mod audit_verify;
mod client;
mod completions;
mod contents;
mod copy;
mod failure;
mod healthcheck;
mod help;
mod init;
mod local;
mod man;
mod new_file;
mod offline;
mod panic_hook;
mod remote;
mod report;
mod rotate_root;
mod sandbox;
mod secure;
mod shared_store;
mod store;
mod table;
mod tls;
mod version;

use std::ffi::OsString;
use std::path::PathBuf;

pub use panic_hook::install as install_panic_hook;

use crate::broker::process;
use crate::config::{self, Config, Machine, Raw};
use crate::console;
use crate::exit::Exit;
use crate::log::{self, Module};
use crate::server::{self, Manager, ServerError};
use arguments::Command;

/// Runs the program with `arguments` (without the program's name) and `environment`.
#[must_use]
pub fn run(
    arguments: impl IntoIterator<Item = OsString>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Exit {
    #[cfg(feature = "pentest")]
    let arguments = match crate::pentest::take_switches(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            console::err(&error);
            return Exit::Usage;
        }
    };
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    if arguments.first().is_some_and(|first| first == process::ARGUMENT) {
        return process::serve();
    }
    match arguments::parse(arguments) {
        Ok(Command::Serve(raw)) => {
            serve(raw, environment, |config, manager| server::run(config, manager).map(|()| Exit::Success))
        }
        Ok(Command::Supervise { raw, arguments }) => {
            let called = [std::env::args_os().next().map(PathBuf::from), std::env::current_exe().ok()];
            let called: Vec<PathBuf> = called.into_iter().flatten().collect();
            serve(raw, environment, |config, manager| server::supervise(config, &called, arguments, manager))
        }
        Ok(Command::Init(command)) => init::run(command, environment),
        Ok(Command::Store(command)) => store::run(command, environment),
        Ok(Command::ApiKey(command)) => apikey::run(command, environment),
        Ok(Command::Audit(command)) => audit_arguments::run(command, environment),
        Ok(Command::Tls(command)) => tls::run(command),
        Ok(Command::Sandbox(command)) => sandbox::run(command),
        Ok(Command::HealthCheck { url, trusting }) => {
            healthcheck::run(url.as_deref(), &trusting, environment)
        }
        Ok(Command::Remote(command)) => remote::run(command, environment),
        Ok(Command::Completions(shell)) => show(&shell.script()),
        Ok(Command::Man(spec)) => show(&man::page(spec)),
        Ok(Command::Version) => show(&version::text()),
        Ok(Command::Crates) => version::crates().map_or(Exit::Software, |text| show(&text)),
        Ok(Command::Help(topic)) => show(&help::text(topic)),
        Err(error) => {
            console::err(&error.to_string());
            Exit::Usage
        }
    }
}

/// Shows a text that is all there is to the command: half of a script or of a page must not pass for the whole. Who has read
/// enough closes the pipe, and that is none of it.
fn show(text: &str) -> Exit {
    match console::print(text) {
        Ok(()) => Exit::Success,
        Err(error) => {
            console::err(&format!("quantonium: standard output: {error}\n"));
            Exit::Io
        }
    }
}

/// Where systemd names the stream of its journal that standard error leads to, if it does.
const JOURNAL_STREAM: &str = "JOURNAL_STREAM";

/// Reads the settings and hands them to `run`.
fn serve(
    raw: Raw,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    run: impl FnOnce(&Config, &Manager) -> Result<Exit, ServerError>,
) -> Exit {
    let environment: Vec<_> = environment.into_iter().collect();
    let manager = match Manager::read(&environment, std::process::id(), std::os::unix::process::parent_id()) {
        Ok(manager) => manager,
        Err(error) => {
            console::err(&format!("quantonium: {error}\n"));
            return error.exit();
        }
    };
    let machine = Machine { handed_over: manager.handed_over(), ..Machine::here() };
    let loaded = match config::load(raw, environment.clone(), machine) {
        Ok(loaded) => loaded,
        Err(error) => {
            console::err(&format!("quantonium: {error}\n"));
            return Exit::Config;
        }
    };
    let journal = environment.iter().find(|(name, _)| name == JOURNAL_STREAM);
    let is_journal = journal.and_then(|(_, named)| named.to_str()).is_some_and(log::is_journal);
    log::configure(loaded.config.log_format.form(log::is_terminal(), is_journal), &loaded.config.log_filter);
    log::own();
    for warning in &loaded.warnings {
        log::warn(Module::Server, format_args!("{warning}"));
    }
    match run(&loaded.config, &manager) {
        Ok(exit) => exit,
        Err(error) => {
            log::fatal(Module::Server, format_args!("{error}"));
            error.exit()
        }
    }
}
