//! `quantonium supervise`: owns the listening sockets and runs `serve`, so that one server can follow another without a
//! connection refused.
//!
//! Owns the sockets and the children. Invariants: the sockets outlive every child, and what the kernel has queued is served
//! by the next one; the old child is told to end only after its successor has come to where it waits for the store; a
//! child that ends by itself is started again, each time after a longer pause, and one that never served ends
//! the supervisor with its own exit code. A child sees the end of its supervisor by the end of the socket between them.

use core::time::Duration;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;
use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use crate::clock::Moment;
use crate::config::{Config, Endpoint, Scheme};
use crate::exit::{Exit, SIGNALLED};
use crate::limits::{
    FD_LISTENER_FIRST_NUMBER, NOTIFY_MESSAGE_MAX_BYTES, RESTART_PAUSE_FIRST_MILLIS, RESTART_PAUSE_MAX_MILLIS,
    SUPERVISED_WAIT_SECONDS,
};
use crate::log::{self, Module};
use crate::model::{Outcome, Step};
use crate::reactor::socket;
use crate::sandbox::{self, descriptors, processes};
use crate::server::error::ServerError;
use crate::server::listeners::{bind_unix, refused};
use crate::server::notify::{Notifier, VERSION_IS, WAITING};
use crate::server::parent::{FIRST_NUMBER, Manager, PARENT_VARIABLE};
use crate::server::signals::AT_ONCE;
use crate::store::{Owner, quoted};

const SIGNALS: Token = Token(0);
/// The file that this process executes, whatever has become of its name.
const OWN_PROGRAM: &str = "/proc/self/exe";

/// How far a child has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Starting,
    /// Everything that can be judged without the store is in order.
    Waiting,
    Serving,
}

/// A running `serve`.
#[derive(Debug)]
struct Running {
    child: Child,
    /// Where it says how far it has come.
    told: UnixDatagram,
    state: State,
    token: Token,
    /// What cuts off what it has in hand, once it was told to end.
    at_once: Signal,
    /// Whether it was told to end.
    told_to_end: bool,
}

impl Running {
    fn signal(&self, signal: Signal) {
        if let Ok(number) = i32::try_from(self.child.id()) {
            // It is ours and was not waited for: the number is its own.
            let _ = kill(Pid::from_raw(number), signal);
        }
    }

    /// Tells it to end; a second time only if that is to cut off what it has in hand.
    fn end(&mut self, at_once: bool) {
        if !core::mem::replace(&mut self.told_to_end, true) {
            self.signal(Signal::SIGTERM);
        } else if at_once {
            self.signal(self.at_once);
        }
    }

    /// How it ended, if it has.
    fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }
}

/// The supervisor.
#[derive(Debug)]
struct Supervisor {
    poll: Poll,
    signals: SignalFd,
    program: PathBuf,
    arguments: Vec<OsString>,
    names: Vec<&'static str>,
    /// Whether each server is the first of process numbers of its own.
    own_numbers: bool,
    notifier: Notifier,
    current: Option<Running>,
    next: Option<Running>,
    tokens: usize,
    /// Whether a child has ever served.
    has_served: bool,
    /// How often in a row a child has ended before it served.
    failures: u32,
    restart_at: Option<Moment>,
    ending: bool,
    /// How the last server ended.
    last: Option<ExitStatus>,
}

/// Binds what `config` names and runs `serve` with `arguments` until a signal ends it. `called` are the paths under which
/// this program may have been started.
///
/// # Errors
/// What stopped the start.
pub fn supervise(
    config: &Config,
    called: &[PathBuf],
    arguments: Vec<OsString>,
    manager: &Manager,
) -> Result<Exit, ServerError> {
    let failed = |error: io::Error| ServerError::io("starting the supervisor", &error);
    let program = program(called);
    sandbox::shield()?;
    descriptors::close_inherited(&[]).map_err(failed)?;
    let owner = sandbox::identity::will_switch(config.user_id, config.group_id);
    let owner = owner.then_some(Owner { uid: config.user_id, gid: config.group_id });
    let names = open_sockets(config, owner)?;
    let notifier = Notifier::open(manager)?;
    let mut wanted = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR2, Signal::SIGCHLD] {
        wanted.add(signal);
    }
    wanted.thread_block().map_err(|errno| failed(errno.into()))?;
    let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
    let signals = SignalFd::with_flags(&wanted, flags).map_err(|errno| failed(errno.into()))?;
    let poll = Poll::new().map_err(failed)?;
    let registered =
        poll.registry().register(&mut SourceFd(&signals.as_fd().as_raw_fd()), SIGNALS, Interest::READABLE);
    registered.map_err(failed)?;
    let names_peers = config.listen.iter().any(|endpoint| matches!(endpoint, Endpoint::Unix(_)));
    let numbers = processes::prepare(config.sandbox_mode, names_peers)?;
    log::info(Module::Supervise, format_args!("{} of servers: {numbers}", Step::PidNamespace));
    sandbox::restrict_supervisor()?;
    let mut supervisor = Supervisor {
        poll,
        signals,
        program,
        arguments,
        names,
        own_numbers: numbers == Outcome::Done,
        notifier,
        current: None,
        next: None,
        tokens: 1,
        has_served: false,
        failures: 0,
        restart_at: None,
        ending: false,
        last: None,
    };
    supervisor.current = Some(supervisor.start().map_err(failed)?);
    supervisor.run().map_err(failed)
}

/// The program that runs now, as a path, in which of its links stay: what stands there later is the newer one.
fn program(called: &[PathBuf]) -> PathBuf {
    let is_own = |path: &PathBuf| {
        let found = fs::metadata(path).and_then(|found| Ok((found, fs::metadata(OWN_PROGRAM)?)));
        path.is_absolute()
            && found.is_ok_and(|(found, own)| (found.dev(), found.ino()) == (own.dev(), own.ino()))
    };
    // A name without a folder was looked for in `PATH`, and not here.
    let named = called.iter().filter(|name| name.components().nth(1).is_some());
    let mut found = named.filter_map(|name| std::path::absolute(name).ok()).filter(is_own);
    found.next().unwrap_or_else(|| OWN_PROGRAM.into())
}

/// Binds every address and leaves the sockets where a child expects them; returns what each is called.
fn open_sockets(config: &Config, owner: Option<Owner>) -> Result<Vec<&'static str>, ServerError> {
    let mut names = Vec::new();
    let mut sockets: Vec<OwnedFd> = Vec::new();
    for endpoint in &config.listen {
        let (name, socket) = match endpoint {
            Endpoint::Tcp(address, scheme) => {
                let name = match scheme {
                    Scheme::Http => "http",
                    Scheme::Https => "https",
                    Scheme::Redirect => "redirect",
                };
                (name, socket::bind_alone(*address).map_err(|error| refused(*address, &error))?)
            }
            Endpoint::Unix(path) => ("unix", bind_unix(path, config.unix_mode, owner)?),
        };
        let placed = fcntl_dupfd_cloexec(&socket, FD_LISTENER_FIRST_NUMBER);
        sockets.push(placed.map_err(|errno| ServerError::io("placing a listener", &errno.into()))?);
        names.push(name);
    }
    for (number, socket) in (FIRST_NUMBER..).zip(sockets) {
        let placed = descriptors::place(socket, number, number).and_then(|placed| {
            fcntl_setfd(&placed, FdFlags::empty())?;
            Ok(placed)
        });
        let placed = placed.map_err(|error| ServerError::io("placing a listener", &error))?;
        // It stays open as long as this process: its number is all that is needed of it.
        core::mem::forget(placed);
    }
    Ok(names)
}

impl Supervisor {
    /// Starts a child.
    fn start(&mut self) -> io::Result<Running> {
        let program = self.program.clone();
        match self.start_program(&program) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                log::warn(
                    Module::Supervise,
                    format_args!("{} is gone: starting the program that was there before", quoted(&program)),
                );
                self.start_program(Path::new(OWN_PROGRAM))
            }
            started => started,
        }
    }

    fn start_program(&mut self, program: &Path) -> io::Result<Running> {
        // Of a kind that tells each of them of the other's end.
        let flags = SocketFlags::CLOEXEC;
        let (told, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        let told = UnixDatagram::from(told);
        told.set_nonblocking(true)?;
        // Who is the first of its process numbers has a parent without one.
        let own = if self.own_numbers { 0 } else { std::process::id() }.to_string();
        let mut command = Command::new(program);
        command.arg("serve").args(&self.arguments).stdin(theirs);
        command.env(PARENT_VARIABLE, own).env("LISTEN_FDS", self.names.len().to_string());
        command.env("LISTEN_FDNAMES", self.names.join(":"));
        command.env("QUANTONIUM_WAIT_FOR_STORE", SUPERVISED_WAIT_SECONDS.to_string());
        for name in ["LISTEN_PID", "NOTIFY_SOCKET", "WATCHDOG_PID"] {
            command.env_remove(name);
        }
        // A signal for our group (a key pressed at a terminal) comes to it once, through us.
        command.process_group(0);
        let child = if self.own_numbers { processes::start(&mut command)? } else { command.spawn()? };
        let token = Token(self.tokens);
        self.tokens += 1;
        self.poll.registry().register(&mut SourceFd(&told.as_raw_fd()), token, Interest::READABLE)?;
        log::info(Module::Supervise, format_args!("started server {} ({})", child.id(), quoted(program)));
        let at_once = if self.own_numbers { AT_ONCE } else { Signal::SIGTERM };
        Ok(Running { child, told, state: State::Starting, token, at_once, told_to_end: false })
    }

    fn run(&mut self) -> io::Result<Exit> {
        let mut events = Events::with_capacity(8);
        loop {
            let timeout = self.restart_at.map(|at| Moment::now().until(at));
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            for event in &events {
                match event.token() {
                    SIGNALS => self.take_signals(),
                    token => self.listen_to(token),
                }
            }
            self.reap();
            if self.current.is_none() && self.next.is_none() && (self.ending || !self.has_served) {
                return Ok(self.last.map_or(Exit::Software, |last| exit_of(last, self.ending)));
            }
            if self.restart_at.is_some_and(|at| at <= Moment::now()) {
                self.restart_at = None;
                match self.start() {
                    Ok(running) => self.current = Some(running),
                    Err(error) => self.start_later(&error.to_string()),
                }
            }
        }
    }

    fn take_signals(&mut self) {
        while let Ok(Some(info)) = self.signals.read_signal() {
            let signal = i32::try_from(info.ssi_signo).ok().and_then(|number| Signal::try_from(number).ok());
            match signal {
                Some(Signal::SIGTERM | Signal::SIGINT) => {
                    // One that a successor had follow it was told before: this is our first signal, not its second.
                    let at_once = core::mem::replace(&mut self.ending, true);
                    self.restart_at = None;
                    self.notifier.stopping();
                    self.current.iter_mut().chain(&mut self.next).for_each(|one| one.end(at_once));
                }
                Some(Signal::SIGHUP) if self.has_served && !self.ending => {
                    // Over when a server says so: this one, or the next one if this one ends meanwhile.
                    self.notifier.reloading();
                    let serving = self.current.iter().filter(|one| one.state == State::Serving);
                    serving.for_each(|one| one.signal(Signal::SIGHUP));
                }
                Some(Signal::SIGUSR2) => self.replace(),
                _ => {}
            }
        }
    }

    /// Starts a successor of the child that serves.
    fn replace(&mut self) {
        let serves = self.current.as_ref().is_some_and(|one| one.state == State::Serving);
        if self.ending || self.next.is_some() || !serves {
            log::warn(
                Module::Supervise,
                format_args!("SIGUSR2: no server is ready to be followed by another"),
            );
            return;
        }
        match self.start() {
            Ok(running) => self.next = Some(running),
            Err(error) => {
                log::error(Module::Supervise, format_args!("no successor could be started: {error}"));
            }
        }
    }

    /// Reads what a child says.
    fn listen_to(&mut self, token: Token) {
        let is_next = self.next.as_ref().is_some_and(|one| one.token == token);
        let one = if is_next { &mut self.next } else { &mut self.current };
        let Some(one) = one.as_mut().filter(|one| one.token == token) else { return };
        let before = one.state;
        let mut message = [0; NOTIFY_MESSAGE_MAX_BYTES];
        let (mut is_alive, mut is_ready) = (false, false);
        while let Ok(length @ 1..) = one.told.recv(&mut message) {
            let text = message.get(..length).and_then(|bytes| str::from_utf8(bytes).ok());
            for line in text.unwrap_or_default().lines() {
                match line {
                    WAITING => one.state = one.state.max(State::Waiting),
                    "READY=1" => (one.state, is_ready) = (State::Serving, true),
                    "WATCHDOG=1" => is_alive = true,
                    _ => {
                        if let Some(version) = line.strip_prefix(VERSION_IS) {
                            log::info(
                                Module::Supervise,
                                format_args!("server {} is quantonium {version}", one.child.id()),
                            );
                        }
                    }
                }
            }
        }
        let (state, number) = (one.state, one.child.id());
        if is_alive && !is_next {
            self.notifier.tell("WATCHDOG=1");
        }
        if is_ready {
            (self.has_served, self.failures) = (true, 0);
            // Also when it says so again: then it has read its files anew.
            if !self.ending {
                self.notifier.ready(&format!("server {number} serves"));
            }
        } else if state > before && is_next {
            log::info(
                Module::Supervise,
                format_args!("server {number} waits for the store, the old one ends"),
            );
            self.current.iter_mut().for_each(|old| old.end(false));
        }
    }

    /// Looks which children have ended.
    fn reap(&mut self) {
        if let Some(status) = self.next.as_mut().and_then(Running::ended) {
            self.next = None;
            log::error(Module::Supervise, format_args!("the successor ended before it served ({status})"));
            self.notifier.tell("STATUS=the successor ended before it served");
        }
        let Some(status) = self.current.as_mut().and_then(Running::ended) else { return };
        let served = self.current.take().is_some_and(|one| one.state == State::Serving);
        self.last = Some(status);
        self.current = self.next.take();
        if self.current.is_none() && self.has_served && !self.ending {
            if served {
                self.failures = 0;
            }
            self.start_later(&status.to_string());
        }
    }

    fn start_later(&mut self, reason: &str) {
        let factor = 1u64 << self.failures.min(16);
        let pause =
            Duration::from_millis((RESTART_PAUSE_FIRST_MILLIS * factor).min(RESTART_PAUSE_MAX_MILLIS));
        log::error(
            Module::Supervise,
            format_args!("the server ended by itself ({reason}), the next one starts in {pause:?}"),
        );
        self.failures = self.failures.saturating_add(1);
        self.restart_at = Some(Moment::now().plus_nanos(u64::try_from(pause.as_nanos()).unwrap_or(u64::MAX)));
    }
}

/// The exit code of a server as our own; that of a defect if a signal ended it, unless that was ours: then a stop was `ordered` of a server
/// that did not serve yet.
fn exit_of(status: ExitStatus, ordered: bool) -> Exit {
    let code = status.code();
    let known = Exit::MEANINGS.into_iter().map(|(exit, _)| exit);
    if let Some(exit) = known.into_iter().find(|exit| Some(i32::from(exit.code())) == code) {
        return exit;
    }
    // A first process has no default actions: it ends itself, and says by which signal.
    let by_handler = code.map(|code| code - SIGNALLED).filter(|signal| *signal > 0);
    let signal = status.signal().or(by_handler).and_then(|number| Signal::try_from(number).ok());
    if ordered && signal == Some(Signal::SIGTERM) {
        log::info(Module::Supervise, format_args!("the server was told to end before it served"));
        return Exit::Success;
    }
    log::error(Module::Supervise, format_args!("something else ended the server: {status}"));
    Exit::Software
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_s_end_is_a_defect_unless_it_has_a_code_or_was_ordered() {
        let exited = |code: i32| ExitStatus::from_raw(code << 8);
        for ordered in [false, true] {
            assert_eq!(exit_of(exited(0), ordered), Exit::Success);
            assert_eq!(exit_of(exited(78), ordered), Exit::Config);
            let by_order = if ordered { Exit::Success } else { Exit::Software };
            for by_sigterm in [ExitStatus::from_raw(15), exited(SIGNALLED + 15)] {
                assert_eq!(exit_of(by_sigterm, ordered), by_order, "{by_sigterm}");
            }
            for other in [
                ExitStatus::from_raw(9),
                ExitStatus::from_raw(31),
                exited(SIGNALLED + 6),
                exited(3),
                exited(128),
                exited(255),
            ] {
                assert_eq!(exit_of(other, ordered), Exit::Software, "{other}");
            }
        }
    }
}
