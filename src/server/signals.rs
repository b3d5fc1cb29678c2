//! The main thread after the start: signals, the drain and the end.
//!
//! Owns the signal descriptor, the drain's timer and the decision to leave. Invariants: signals are blocked in every
//! thread and read here alone; the first SIGTERM or SIGINT drains, the second one, or the end of the drain's time,
//! leaves at once; the process ends by its exit call alone, so that no descriptor is closed that a filter keeps.

use core::time::Duration;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::sync::Arc;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::time::{TimeSpec, TimeValLike as _};
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use crate::console::{self, Level};
use crate::limits::{FD_OWN_LAST_NUMBER, FD_SIGNAL_NUMBER};
use crate::reactor::mailbox::Mailbox;
use crate::reactor::run::Phase;
use crate::sandbox::descriptors;
use crate::server::shared::Shared;

const SIGNAL: Token = Token(0);
const TIMER: Token = Token(1);

/// What the main thread waits on.
#[derive(Debug)]
pub(super) struct MainLoop {
    poll: Poll,
    signals: SignalFd,
    timer: TimerFd,
    mailbox: Arc<Mailbox>,
}

impl MainLoop {
    /// Blocks the signals and opens the descriptors, before any thread is started.
    pub(super) fn new(poll: Poll, mailbox: Arc<Mailbox>) -> io::Result<Self> {
        let mut wanted = SigSet::empty();
        // SIGXFSZ is blocked so that a file at its limit is an error of the write, and never read.
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGXFSZ] {
            wanted.add(signal);
        }
        wanted.thread_block()?;
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        let signals = descriptors::create_at(FD_SIGNAL_NUMBER, || {
            SignalFd::with_flags(&wanted, flags).map_err(Into::into)
        })?;
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = descriptors::create_at(FD_OWN_LAST_NUMBER, || {
            TimerFd::new(ClockId::CLOCK_MONOTONIC, flags).map_err(Into::into)
        })?;
        let registry = poll.registry();
        registry.register(&mut SourceFd(&signals.as_fd().as_raw_fd()), SIGNAL, Interest::READABLE)?;
        registry.register(&mut SourceFd(&timer.as_fd().as_raw_fd()), TIMER, Interest::READABLE)?;
        Ok(Self { poll, signals, timer, mailbox })
    }

    /// Serves signals until the workers have drained, or until they are to be cut off.
    ///
    /// # Errors
    /// A poll that fails for any other reason than an interruption.
    pub(super) fn run(&mut self, shared: &Shared, drain: Duration) -> io::Result<()> {
        let mut events = Events::with_capacity(8);
        loop {
            match self.poll.poll(&mut events, None) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            self.mailbox.take(&mut Vec::new());
            for event in &events {
                let cut_off = match event.token() {
                    SIGNAL => self.take_signals(shared, drain),
                    TIMER => {
                        console::log(
                            Level::Warn,
                            format_args!("the drain's time is over: cutting off what is left"),
                        );
                        true
                    }
                    _ => false,
                };
                if cut_off {
                    shared.enter(Phase::Stopping);
                    return Ok(());
                }
            }
            if shared.all_ended() {
                console::log(Level::Info, format_args!("drained: every request was answered"));
                return Ok(());
            }
        }
    }

    /// Reads the signals that have come; returns whether to leave at once.
    fn take_signals(&self, shared: &Shared, drain: Duration) -> bool {
        while let Ok(Some(info)) = self.signals.read_signal() {
            let signal = i32::try_from(info.ssi_signo).ok().and_then(|number| Signal::try_from(number).ok());
            match signal {
                Some(Signal::SIGTERM | Signal::SIGINT) if shared.phase() == Phase::Serving => {
                    // Acted on before it is told: a log that nobody reads must not hold it up.
                    self.start_timer(drain);
                    shared.enter(Phase::Draining);
                    console::log(
                        Level::Info,
                        format_args!("draining: no new connections, finishing requests in flight"),
                    );
                }
                Some(Signal::SIGTERM | Signal::SIGINT) => {
                    console::log(Level::Warn, format_args!("second signal: leaving at once"));
                    return true;
                }
                Some(Signal::SIGHUP) => {
                    console::log(Level::Info, format_args!("SIGHUP: there is nothing to reload"));
                }
                _ => {}
            }
        }
        false
    }

    fn start_timer(&self, drain: Duration) {
        let millis = i64::try_from(drain.as_millis()).unwrap_or(i64::MAX).max(1);
        let expiration = Expiration::OneShot(TimeSpec::milliseconds(millis));
        if let Err(error) = self.timer.set(expiration, TimerSetTimeFlags::empty()) {
            // Without a timer the drain ends with its last request, or with a second signal.
            console::log(Level::Warn, format_args!("the drain has no deadline: {error}"));
        }
    }
}
