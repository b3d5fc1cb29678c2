//! The exit codes of the program, and the way out.
//!
//! Owns [`Exit`], and what signals do to a start that has no default actions. The numbers from 64 up are those of BSD's `sysexits.h`, so that a supervisor can tell a
//! mistake in the configuration, which a restart does not cure, from a failure that it may.

use std::process::ExitCode;

use nix::errno::Errno;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// What a shell adds to the number of the signal that ended a process.
pub const SIGNALLED: i32 = 128;

/// What a process says that ends because the kernel's random bytes are none.
pub const NO_ENTROPY: &str = "the kernel's random bytes (getrandom) cannot be had, or fail their health tests (NIST SP 800-90B): no key that \
    is made of them would be secret. Nothing was made. See that this machine has a source (RDRAND or RNDR, virtio-rng), that its kernel \
    says \"random: crng init done\", and that nothing answers the call in the kernel's place; then start again";

/// How the program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Success = 0,
    /// The health check found the server unhealthy or did not find it; what was asked for was refused; a signature is wrong;
    /// the audit log is not all there; a start would not serve here.
    Failure = 1,
    /// The command line was wrong (`EX_USAGE`).
    Usage = 64,
    /// The store or the audit log is damaged; a ciphertext does not open (`EX_DATAERR`).
    Damaged = 65,
    /// The server was not reached, or went away (`EX_UNAVAILABLE`).
    Unavailable = 69,
    /// A defect of the program itself: a panic (`EX_SOFTWARE`).
    Software = 70,
    /// The system gave no more memory, or what was reserved is spent; its random bytes cannot be had, or fail their health tests
    /// (`EX_OSERR`).
    System = 71,
    /// A file or a socket failed (`EX_IOERR`).
    Io = 74,
    /// The server is busy or limits its client: the same again may work later (`EX_TEMPFAIL`).
    TryLater = 75,
    /// What the server answered is not of this API (`EX_PROTOCOL`).
    Protocol = 76,
    /// The server does not take the credential, or does not allow it this (`EX_NOPERM`).
    Denied = 77,
    /// The configuration, the data directory, the store or the lock-down was refused (`EX_CONFIG`).
    Config = 78,
}

impl Exit {
    /// Every code with its meaning, in the words of `quantonium help`.
    pub const MEANINGS: [(Self, &'static str); 12] = [
        (Self::Success, "done; healthcheck: healthy"),
        (
            Self::Failure,
            "refused; healthcheck: unhealthy; verify: wrong; audit verify: cut off; sandbox check: no start",
        ),
        (Self::Usage, "wrong command line"),
        (Self::Damaged, "store or audit log damaged or changed; decrypt: the ciphertext does not open"),
        (Self::Unavailable, "the server was not reached, or went away"),
        (Self::Software, "a defect of the program (please report the line it printed)"),
        (Self::System, "memory is spent; the system's random bytes fail their tests"),
        (Self::Io, "a file or a socket failed"),
        (Self::TryLater, "the server is busy or limits its client: try again later"),
        (Self::Protocol, "what the server answered is not of this API"),
        (Self::Denied, "the server does not take the credential, or does not allow it this"),
        (Self::Config, "configuration, data directory, store or lock-down refused"),
    ];

    /// The number that the parent process sees.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// Ends the process at once: without unwinding, without waiting for other threads, and without what a library has asked to
    /// be called at the end. Nothing is written then that was not before: the program buffers no output.
    ///
    /// One system call, `exit_group`. The standard library's way would first give back the alternative signal stack
    /// (`sigaltstack`, `munmap`), and the TLS library overwrite its generator (`getrandom`), whose memory is gone anyway: three calls
    /// more that every filter would have to allow.
    #[expect(unsafe_code, reason = "rustix and nix have no safe call for it")]
    pub fn leave(self) -> ! {
        // SAFETY: it takes no pointer and does not return; whatever threads still read is there until the process is not.
        unsafe { nix::libc::_exit(i32::from(self.code())) }
    }
}

/// Has the signals that ask a process to end do so, as their default actions would if it were not the first of its process numbers,
/// which has none. SIGTERM and SIGINT for a start: a server blocks these and reads them; the others, with which a service manager ends what
/// hangs, for as long as it lives.
///
/// # Errors
/// What the system refuses.
#[expect(unsafe_code, reason = "nix has no safe call for it")]
pub fn leave_on_signals() -> Result<(), Errno> {
    let action = SigAction::new(SigHandler::Handler(end), SaFlags::empty(), SigSet::empty());
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGABRT, Signal::SIGQUIT] {
        // SAFETY: the handler makes one call, which is safe in a handler, and does not return.
        unsafe { sigaction(signal, &action) }?;
    }
    Ok(())
}

/// Ends the process as a shell tells of one that a signal ended.
#[expect(unsafe_code, reason = "as in `Exit::leave`")]
extern "C" fn end(signal: i32) {
    // SAFETY: as in `Exit::leave`; it is among the calls that a handler may make (signal-safety(7)).
    unsafe { nix::libc::_exit(SIGNALLED + signal) }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_sysexits() {
        let codes: Vec<u8> = Exit::MEANINGS.iter().map(|(exit, _)| exit.code()).collect();
        assert_eq!(codes, [0, 1, 64, 65, 69, 70, 71, 74, 75, 76, 77, 78]);
    }
}
