//! `TCP_DEFER_ACCEPT`: a connection is handed over with its first bytes, and not before.
//!
//! Owns the option. Invariant: a client that says nothing is handed over all the same when the time is over, so that it meets
//! the deadlines of every other; until then it costs this process neither a descriptor nor memory.

use core::ffi::c_int;
use std::io;
use std::os::fd::AsFd;

use nix::libc;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::SetStruct;

/// A socket option of tcp(7) that `nix` does not list, by the macro that it offers for such.
#[derive(Clone, Copy, Debug)]
struct DeferAccept;

nix::setsockopt_impl!(DeferAccept, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, c_int, SetStruct<'_, c_int>);

/// Has `listener` hand connections over with their first bytes, or after about `seconds`; 0: at once.
///
/// # Errors
/// What the system says.
pub fn defer_accept(listener: &impl AsFd, seconds: u32) -> io::Result<()> {
    let seconds = c_int::try_from(seconds).unwrap_or(c_int::MAX);
    Ok(setsockopt(listener, DeferAccept, &seconds)?)
}
