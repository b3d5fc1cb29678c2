//! What the service manager is told: readiness, reloads, the end, and that everything still moves (`sd_notify(3)`).
//!
//! Owns [`Notifier`] and [`Watchdog`]. Invariants: the socket is connected before the lock-down and only written to after
//! it; a manager that does not read never holds up the server; a sign of life is given only if every worker and the
//! keeper have moved since the last one.

use core::time::Duration;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use nix::sys::time::TimeValLike as _;
use nix::time::{ClockId, clock_gettime};
use rustix::io::{Errno, ioctl_fionbio};

use crate::build_info;
use crate::clock::Moment;
use crate::limits::FD_NOTIFY_NUMBER;
use crate::sandbox::descriptors;
use crate::server::error::ServerError;
use crate::server::parent::Manager;

/// Says to the supervisor that this process waits until another one has left the store.
pub(crate) const WAITING: &str = "X_QUANTONIUM_WAITING=1";

/// Says nothing to the supervisor: whoever can send it has one.
const NOTHING: &str = "X_QUANTONIUM_ALIVE=1";

/// Says to the supervisor which program this is.
pub(crate) const VERSION_IS: &str = "X_QUANTONIUM_VERSION=";

/// The way to the service manager, if there is one.
#[derive(Debug, Default)]
pub(super) struct Notifier {
    socket: Option<OwnedFd>,
    /// Our number, asked for before the filters forbid it; nothing for the first of its process numbers, whom the manager knows by another.
    own: Option<u32>,
    /// Whether it is our own supervisor, whose end the socket tells.
    is_supervised: bool,
}

impl Notifier {
    /// Connects to whom `manager` names.
    pub(super) fn open(manager: &Manager) -> Result<Self, ServerError> {
        let failed = |error: io::Error| ServerError::io("connecting to NOTIFY_SOCKET", &error);
        let socket = if manager.supervisor().is_some() {
            Some(io::stdin().as_fd().try_clone_to_owned().map_err(failed)?)
        } else {
            manager.notify().map(connect).transpose().map_err(failed)?
        };
        let Some(socket) = socket else { return Ok(Self::default()) };
        let placed = descriptors::place(socket, FD_NOTIFY_NUMBER, FD_NOTIFY_NUMBER).map_err(failed)?;
        // Whoever does not read loses what is said; the server waits for nobody.
        ioctl_fionbio(&placed, true).map_err(|errno| failed(errno.into()))?;
        let is_supervised = manager.supervisor().is_some();
        let own = Some(std::process::id()).filter(|own| *own != 1);
        let notifier = Self { socket: Some(placed), own, is_supervised };
        if is_supervised {
            notifier.tell(&format!("{VERSION_IS}{} ({})", build_info::VERSION, build_info::COMMIT));
        }
        Ok(notifier)
    }

    /// The number of the socket, for a poll.
    pub(super) fn socket(&self) -> Option<i32> {
        self.socket.as_ref().map(OwnedFd::as_raw_fd)
    }

    /// Sends one message. One that cannot be sent is lost: the manager is gone, or does not read.
    pub(super) fn tell(&self, message: &str) {
        let _ = self.send(message);
    }

    fn send(&self, message: &str) -> Result<usize, Errno> {
        self.socket.as_ref().map_or(Ok(0), |socket| rustix::io::write(socket, message.as_bytes()))
    }

    /// Whether our own supervisor is gone. It asks by a message that says nothing, for a write is all that the filters leave of the socket.
    pub(super) fn has_lost_supervisor(&self) -> bool {
        // One that is full has an owner who does not read.
        self.is_supervised && !matches!(self.send(NOTHING), Ok(_) | Err(Errno::AGAIN))
    }

    /// The server answers.
    pub(super) fn ready(&self, status: &str) {
        let own = self.own.map(|own| format!("\nMAINPID={own}")).unwrap_or_default();
        self.tell(&format!("READY=1\nSTATUS={status}{own}"));
    }

    /// It reads its files anew, and says [`ready`](Self::ready) when that is done.
    pub(super) fn reloading(&self) {
        // The manager compares it with its own reading of this clock: a moment, counted from our start, would be too early.
        let micros = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |now| now.num_microseconds());
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    /// It is about to end.
    pub(super) fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=finishing requests in flight");
    }
}

/// A connected socket of the address that is a path, or an abstract name behind an `@`.
fn connect(address: &OsStr) -> io::Result<OwnedFd> {
    let socket = UnixDatagram::unbound()?;
    match address.as_bytes().split_first() {
        Some((b'@', name)) => socket.connect_addr(&SocketAddr::from_abstract_name(name)?)?,
        Some((b'/', _)) => socket.connect(address)?,
        _ => return Err(io::Error::new(io::ErrorKind::InvalidInput, "neither a path nor an abstract name")),
    }
    Ok(socket.into())
}

/// Decides when to give a sign of life.
#[derive(Debug)]
pub(super) struct Watchdog {
    /// How long after the last sign the next one is due: half of what the manager bears.
    period: Duration,
    last: Moment,
    /// How far each of the others had come at the last sign.
    seen: Vec<u64>,
}

/// The progress of one that has nothing more to do.
pub(super) const DONE: u64 = u64::MAX;

impl Watchdog {
    /// Signs of life for a manager that ends a process after `patience` without one.
    pub(super) fn new(patience: Duration, now: Moment) -> Self {
        Self { period: patience.checked_div(2).unwrap_or_default(), last: now, seen: Vec::new() }
    }

    /// Whether a sign is due at `now` and all of `progress` has moved.
    pub(super) fn is_due(&mut self, now: Moment, progress: Vec<u64>) -> bool {
        if self.last.until(now) < self.period {
            return false;
        }
        let moved = |(found, seen): (&u64, &u64)| found != seen || *found == DONE;
        if self.seen.len() == progress.len() && !progress.iter().zip(&self.seen).all(moved) {
            return false;
        }
        self.seen = progress;
        self.last = now;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::default().plus_millis(seconds * 1_000)
    }

    #[test]
    fn a_sign_of_life_is_given_only_if_everybody_has_moved() {
        let mut watchdog = Watchdog::new(Duration::from_secs(10), at(0));
        assert!(!watchdog.is_due(at(4), vec![1, 1]), "not yet");
        assert!(watchdog.is_due(at(5), vec![1, 1]));
        assert!(!watchdog.is_due(at(10), vec![2, 1]), "the second one stands still");
        assert!(!watchdog.is_due(at(11), vec![9, 1]));
        assert!(watchdog.is_due(at(12), vec![9, 2]), "and is told of as soon as it moves");
        assert!(!watchdog.is_due(at(16), vec![10, 3]));
        assert!(!watchdog.is_due(at(17), vec![9, 3]));
        assert!(watchdog.is_due(at(18), vec![DONE, 3]));
        assert!(watchdog.is_due(at(23), vec![DONE, 4]), "one that has left needs not move");
    }
}
