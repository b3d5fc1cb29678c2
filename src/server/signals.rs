//! The main thread after the start: signals, the ticks of keeper and archivist, the drain and the end.
//!
//! Owns the signal descriptor, the ticks and the decision to leave. Invariants: signals are blocked in every thread
//! and read here alone; the first SIGTERM or SIGINT drains, the second one leaves at once (of a supervised server: its supervisor's second one); after the drain, or at the
//! end of its time, the keeper writes down what is only in memory, for which it has a bounded time; the process ends by
//! its exit call alone, so that no descriptor is closed that a filter keeps.

use core::mem;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd};
use std::sync::Arc;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::time::{TimeSpec, TimeValLike as _};
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use crate::audit::Office;
use crate::clock::Moment;
use crate::exit::Exit;
use crate::keeper::{Keeper, Last};
use crate::limits::{
    FD_OWN_LAST_NUMBER, FD_SIGNAL_NUMBER, KEEPER_FLUSH_MILLIS, KEEPER_TICK_MILLIS, LOG_RETRY_MILLIS,
    WATCHDOG_FLOOR_MILLIS,
};
use crate::log::{self, Module, Written};
use crate::reactor::mailbox::Mailbox;
use crate::reactor::run::Phase;
use crate::sandbox::descriptors;
use crate::server::monitor::Monitor;
use crate::server::notify::{Notifier, Watchdog};
use crate::server::parent::Manager;
use crate::server::shared::Shared;

/// Has the server leave at once, whatever it has in hand: from a supervisor that was told to end a second time.
pub(super) const AT_ONCE: Signal = Signal::SIGUSR1;
const SIGNAL: Token = Token(0);
const TICK: Token = Token(2);
const SUPERVISOR: Token = Token(3);
const NEWS: Token = Token(4);
const BROKER: Token = Token(5);

/// What the main thread waits on.
#[derive(Debug)]
pub(super) struct MainLoop {
    poll: Poll,
    signals: SignalFd,
    /// The end of the drain, and then of the keeper's last writing: how long the poll waits at most.
    deadline: Option<Moment>,
    ticks: TimerFd,
    mailbox: Arc<Mailbox>,
    office: Arc<Office>,
    /// Tells whether standard error has room, until that is the log's.
    gauge: Option<OwnedFd>,
    notifier: Notifier,
    watchdog: Option<Watchdog>,
    hurry: Hurry,
    /// Raised when others have written to the store. Never read: each time is an edge.
    news: Option<OwnedFd>,
    /// Whether the process that speaks to etcd has ended before this one, or was given up.
    is_cut_off: bool,
    /// Whether a second signal had it leave at once.
    is_hurried: bool,
    /// How many reloads were asked for, and whether the last of them is not over yet.
    reloads: u64,
    is_reloading: bool,
}

/// How the main thread's wait goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Course {
    /// It waits on.
    On,
    /// The time is over.
    Over,
    /// A second signal: at once.
    Leave,
}

/// Whose second signal ends the drain.
///
/// A service manager that ends a whole control group signals the server and its supervisor, and the supervisor hands its
/// own on: that is one wish, told twice. In process numbers of its own a server cannot tell the two apart, which are both 0 there: its
/// supervisor then says it by another signal, SIGUSR1.
#[derive(Debug, Default)]
struct Hurry {
    /// The only one who is heard, if there is one.
    supervisor: Option<u32>,
    /// Whether a first one was seen.
    first: bool,
}

impl Hurry {
    /// Whether a signal to end, sent by the process `sender`, is the second one.
    fn is_second(&mut self, sender: u32) -> bool {
        let is_heard = self.supervisor.is_none_or(|supervisor| supervisor == sender && sender != 0);
        is_heard && mem::replace(&mut self.first, true)
    }
}

impl MainLoop {
    /// Blocks the signals and opens the descriptors, before any thread is started.
    pub(super) fn new(
        poll: Poll,
        mailbox: Arc<Mailbox>,
        office: Arc<Office>,
        gauge: Option<OwnedFd>,
    ) -> io::Result<Self> {
        let mut wanted = SigSet::empty();
        // SIGXFSZ is blocked so that a file at its limit is an error of the write, and never read.
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, AT_ONCE, Signal::SIGXFSZ] {
            wanted.add(signal);
        }
        wanted.thread_block()?;
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        let signals = descriptors::create_at(FD_SIGNAL_NUMBER, || {
            SignalFd::with_flags(&wanted, flags).map_err(Into::into)
        })?;
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let ticks = descriptors::create_at(FD_OWN_LAST_NUMBER, || {
            TimerFd::new(ClockId::CLOCK_MONOTONIC, flags).map_err(Into::into)
        })?;
        ticks.set(
            Expiration::Interval(TimeSpec::milliseconds(KEEPER_TICK_MILLIS.cast_signed())),
            TimerSetTimeFlags::empty(),
        )?;
        let registry = poll.registry();
        for (fd, token) in [(signals.as_fd(), SIGNAL), (ticks.as_fd(), TICK)] {
            registry.register(&mut SourceFd(&fd.as_raw_fd()), token, Interest::READABLE)?;
        }
        let notifier = Notifier::default();
        Ok(Self {
            poll,
            signals,
            deadline: None,
            ticks,
            mailbox,
            office,
            gauge,
            notifier,
            watchdog: None,
            hurry: Hurry::default(),
            news: None,
            is_cut_off: false,
            is_hurried: false,
            reloads: 0,
            is_reloading: false,
        })
    }

    /// Has the keeper take in what others write, each time `news` is raised; the end of who raises it, at the other end of the keeper's
    /// `socket`, is ours.
    pub(super) fn listen_for_news(&mut self, news: OwnedFd, socket: RawFd) -> io::Result<()> {
        for (fd, token) in [(news.as_fd().as_raw_fd(), NEWS), (socket, BROKER)] {
            self.poll.registry().register(&mut SourceFd(&fd), token, Interest::READABLE)?;
        }
        self.news = Some(news);
        Ok(())
    }

    /// Reports to `manager`, through `notifier`; if it is our supervisor, its end is ours.
    pub(super) fn report_to(&mut self, notifier: Notifier, manager: &Manager) -> io::Result<()> {
        if let Some(supervisor) = notifier.socket().filter(|_| manager.supervisor().is_some()) {
            self.poll.registry().register(&mut SourceFd(&supervisor), SUPERVISOR, Interest::READABLE)?;
        }
        let patience = manager.watchdog();
        self.notifier = notifier;
        self.hurry.supervisor = manager.supervisor();
        self.watchdog = patience.map(|patience| Watchdog::new(patience, Moment::now()));
        if patience.is_some_and(|patience| patience < Duration::from_millis(WATCHDOG_FLOOR_MILLIS)) {
            log::warn(
                Module::Server,
                format_args!(
                    "WatchdogSec is shorter than the {WATCHDOG_FLOOR_MILLIS} ms that signs of life need"
                ),
            );
        }
        Ok(())
    }

    /// Has this thread write the log from now on, whoever tells a line.
    pub(super) fn take_log(&mut self) {
        let mailbox = Arc::clone(&self.mailbox);
        log::hand_over(Box::new(move || mailbox.nudge()), self.gauge.take());
    }

    /// How a process ends that nothing forced to: without the broker whoever supervises it is to start it again.
    const fn exit(&self) -> Exit {
        if self.is_cut_off { Exit::Io } else { Exit::Success }
    }

    /// Whether a second signal had it leave at once.
    pub(super) const fn is_hurried(&self) -> bool {
        self.is_hurried
    }

    /// Whether the supervisor that is to end this server is gone.
    pub(super) fn is_abandoned(&self) -> bool {
        self.notifier.has_lost_supervisor()
    }

    /// Reports that the server answers.
    pub(super) fn tell_ready(&self) {
        self.notifier.ready("serving");
    }

    /// Gives a sign of life if one is due, and has idle workers move before the next one.
    fn feed_watchdog(&mut self, shared: &Shared, keeper: &Keeper) {
        let Some(watchdog) = &mut self.watchdog else { return };
        let mut progress = shared.progress();
        progress.push(keeper.rounds());
        if watchdog.is_due(Moment::now(), progress) {
            self.notifier.tell("WATCHDOG=1");
        }
        shared.nudge_workers();
    }

    /// Serves signals and ticks until the workers have drained and the keeper has written down what was left, or until
    /// they are to be cut off.
    ///
    /// # Errors
    /// A poll that fails for any other reason than an interruption.
    pub(super) fn run(
        &mut self,
        shared: &Shared,
        keeper: &Arc<Keeper>,
        drain: Duration,
        monitor: &mut Monitor<'_>,
    ) -> io::Result<Exit> {
        let mut events = Events::with_capacity(8);
        loop {
            if monitor.must_end() {
                return self.distrust(shared, keeper, monitor);
            }
            let course = self.wait(&mut events, shared, keeper, drain, monitor)?;
            if course != Course::On {
                shared.enter(Phase::Stopping);
            }
            match course {
                Course::Leave => return Ok(self.exit()),
                Course::Over => log::warn(
                    Module::Server,
                    format_args!("the drain's time is over: cutting off what is left"),
                ),
                Course::On if shared.all_ended() => {
                    log::info(Module::Server, format_args!("drained: every request was answered"));
                }
                Course::On => continue,
            }
            self.flush(Last::Everything, &mut events, shared, keeper, monitor)?;
            return Ok(self.exit());
        }
    }

    /// Has the keeper tell what `monitor` found, for which the process is to end.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub(super) fn distrust(
        &mut self,
        shared: &Shared,
        keeper: &Arc<Keeper>,
        monitor: &mut Monitor<'_>,
    ) -> io::Result<Exit> {
        // Nothing that is in flight is worth the word of a process that is not what was started.
        shared.enter(Phase::Stopping);
        log::error(Module::Integrity, format_args!("this process is not to be trusted: leaving"));
        self.flush(Last::Findings, &mut Events::with_capacity(8), shared, keeper, monitor)?;
        Ok(Exit::Software)
    }

    /// Has the keeper write down `last`, and waits for it for a while.
    fn flush(
        &mut self,
        last: Last,
        events: &mut Events,
        shared: &Shared,
        keeper: &Arc<Keeper>,
        monitor: &mut Monitor<'_>,
    ) -> io::Result<()> {
        let flushed = Arc::new(AtomicBool::new(false));
        let (done, mailbox) = (Arc::clone(&flushed), Arc::clone(&self.mailbox));
        self.deadline = Some(Moment::now().plus_millis(KEEPER_FLUSH_MILLIS));
        let done = Box::new(move || {
            done.store(true, Ordering::Release);
            mailbox.nudge();
        });
        keeper.flush(last, done);
        while !flushed.load(Ordering::Acquire) {
            match self.wait(events, shared, keeper, Duration::ZERO, monitor)? {
                Course::On => {}
                Course::Leave => return Ok(()),
                Course::Over => {
                    log::warn(
                        Module::Server,
                        format_args!("the last use figures or audit lines were not written in time"),
                    );
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Waits for something to happen and acts on it.
    fn wait(
        &mut self,
        events: &mut Events,
        shared: &Shared,
        keeper: &Keeper,
        drain: Duration,
        monitor: &mut Monitor<'_>,
    ) -> io::Result<Course> {
        // Whichever comes first: the end of the drain, what the monitor has to do, or the next try to write the log.
        let now = Moment::now();
        let patience = match log::write_out() {
            Written::Everything => monitor.patience(now),
            Written::Part => Duration::ZERO,
            Written::Stuck => monitor.patience(now).min(Duration::from_millis(LOG_RETRY_MILLIS)),
        };
        let timeout = self.deadline.map_or(patience, |at| now.until(at).min(patience));
        match self.poll.poll(events, Some(timeout)) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(Course::On),
            Err(error) => return Err(error),
        }
        self.mailbox.take(&mut Vec::new());
        #[cfg(feature = "pentest")]
        if crate::pentest::serve(crate::sandbox::seccomp::Role::Main) {
            self.office.tick();
        }
        let mut course = Course::On;
        for event in &*events {
            match event.token() {
                SIGNAL if self.take_signals(shared, drain) => course = Course::Leave,
                SUPERVISOR if event.is_read_closed() => {
                    self.drain(shared, drain, "its supervisor has ended");
                }
                NEWS => keeper.tell_news(),
                BROKER if event.is_read_closed() && shared.phase() == Phase::Serving => {
                    self.is_cut_off = true;
                    self.drain(shared, drain, "the process that speaks to etcd has ended");
                }
                TICK if take_expirations(&self.ticks) => {
                    self.feed_watchdog(shared, keeper);
                    keeper.tick();
                    self.office.tick();
                    if keeper.is_cut() && shared.phase() == Phase::Serving {
                        self.is_cut_off = true;
                        self.drain(shared, drain, "the process that speaks to etcd does not answer");
                    }
                }
                _ => {}
            }
        }
        self.tell_reloaded(shared);
        if course == Course::On && self.deadline.is_some_and(|at| at <= Moment::now()) {
            self.deadline = None;
            course = Course::Over;
        }
        monitor.tick();
        Ok(course)
    }

    /// Reports that the reload is over, once the archivist has said so; a server that ends does not say that it is ready.
    fn tell_reloaded(&mut self, shared: &Shared) {
        if self.is_reloading && shared.phase() == Phase::Serving && shared.reloaded() >= self.reloads {
            self.is_reloading = false;
            self.tell_ready();
        }
    }

    /// Reads the signals that have come; returns whether to leave at once.
    fn take_signals(&mut self, shared: &Shared, drain: Duration) -> bool {
        while let Ok(Some(info)) = self.signals.read_signal() {
            let signal = i32::try_from(info.ssi_signo).ok().and_then(|number| Signal::try_from(number).ok());
            let is_end = matches!(signal, Some(Signal::SIGTERM | Signal::SIGINT));
            let hurries = signal == Some(AT_ONCE) || is_end && self.hurry.is_second(info.ssi_pid);
            match signal {
                Some(Signal::SIGTERM | Signal::SIGINT) if shared.phase() == Phase::Serving => {
                    self.drain(shared, drain, "no new connections, finishing requests in flight");
                }
                Some(Signal::SIGTERM | Signal::SIGINT | AT_ONCE) if hurries => {
                    log::warn(Module::Server, format_args!("second signal: leaving at once"));
                    self.is_hurried = true;
                    return true;
                }
                // A server that ends accepts nothing that new certificates could be for.
                Some(Signal::SIGHUP) if shared.phase() == Phase::Serving => {
                    self.notifier.reloading();
                    self.reloads = self.reloads.saturating_add(1);
                    self.is_reloading = true;
                    self.office.reload(self.reloads);
                }
                _ => {}
            }
        }
        false
    }

    /// Begins the end, unless it has begun.
    fn drain(&mut self, shared: &Shared, drain: Duration, told: &str) {
        if shared.phase() != Phase::Serving {
            return;
        }
        // Acted on before it is told: a log that nobody reads must not hold it up.
        let nanos = u64::try_from(drain.as_nanos()).unwrap_or(u64::MAX);
        self.deadline = Some(Moment::now().plus_nanos(nanos));
        shared.enter(Phase::Draining);
        self.notifier.stopping();
        log::info(Module::Server, format_args!("draining: {told}"));
    }
}

/// Acknowledges a timer; tells whether it had expired.
fn take_expirations(timer: &TimerFd) -> bool {
    let mut count = [0; 8];
    rustix::io::read(timer.as_fd(), &mut count).is_ok_and(|read| read == count.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anybodys_second_signal_hurries_a_server_of_its_own() {
        let mut hurry = Hurry::default();
        assert!(!hurry.is_second(7));
        assert!(hurry.is_second(8) && hurry.is_second(7));
    }

    #[test]
    fn a_supervised_server_is_hurried_by_its_supervisor_alone() {
        let mut hurry = Hurry { supervisor: Some(0), first: false };
        assert!(
            !hurry.is_second(0) && !hurry.is_second(0),
            "in process numbers of its own everybody outside is 0"
        );
        hurry.supervisor = Some(7);
        assert!(!hurry.is_second(1) && !hurry.is_second(1) && !hurry.is_second(0));
        assert!(!hurry.is_second(7));
        assert!(!hurry.is_second(1));
        assert!(hurry.is_second(7));
    }
}
