//! What stands in the place of certificates in a build without TLS.
//!
//! Owns nothing: its types have no values, so that nothing of TLS is left in such a build.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::rc::Rc;

use crate::clock::Moment;
use crate::config::Config;
use crate::metrics::{HandshakeFailure, TlsGroup, TlsVersion};
use crate::reactor::socket::SocketTransport;
use crate::reactor::{Received, Strangers, TaskId, Transport};
use crate::server::error::ServerError;

/// There is no configuration.
#[derive(Clone, Debug)]
pub(super) enum InForce {}

/// There is no tunnel.
#[derive(Debug)]
pub(super) enum Tunnel {}

/// There are no certificates.
#[derive(Debug)]
pub(super) enum Certificates {}

/// There are no sessions.
pub(super) enum Securing {}

/// Refuses what this build cannot do.
pub(super) fn open(config: &Config) -> Result<Option<Certificates>, ServerError> {
    match config.tls {
        None => Ok(None),
        Some(_) => Err(ServerError::config(
            "--tls-cert: this build has no TLS: build it with the feature `tls`, or let a proxy in front of it speak TLS",
        )),
    }
}

/// There is nothing in force.
pub(super) fn ends(in_force: &InForce) -> Vec<(String, u64)> {
    match *in_force {}
}

/// There is nothing that could fail.
pub(super) fn failure_of(_: &io::Error) -> HandshakeFailure {
    HandshakeFailure::Other
}

/// There is nothing to prepare.
pub(super) fn prepare_thread() -> Result<(), String> {
    Ok(())
}

impl Certificates {
    pub(super) fn in_force(&self) -> InForce {
        match *self {}
    }

    pub(super) fn directories(&self) -> Vec<BorrowedFd<'_>> {
        match *self {}
    }

    pub(super) fn directories_mut(&mut self) -> Vec<&mut OwnedFd> {
        match *self {}
    }

    pub(super) fn begin(&mut self, _confined: bool) {
        match *self {}
    }

    pub(super) fn look(&mut self, _now: Moment, _asked: bool) -> Option<bool> {
        match *self {}
    }
}

impl Securing {
    #[expect(clippy::needless_pass_by_value, reason = "as where there is something to pass")]
    pub(super) fn new(in_force: InForce, _strangers: Rc<Strangers>) -> Self {
        match in_force {}
    }

    pub(super) fn secure(&self, _transport: SocketTransport, _task: TaskId) -> Option<Tunnel> {
        match *self {}
    }
}

/// There is nothing to agree on.
pub(super) struct Agreed {
    pub(super) version: TlsVersion,
    pub(super) group: TlsGroup,
    pub(super) resumed: bool,
}

impl Tunnel {
    pub(super) fn agreed(&self) -> Option<Agreed> {
        match *self {}
    }
}

impl Transport for Tunnel {
    fn receive(&mut self, _target: &mut [u8]) -> io::Result<Received> {
        match *self {}
    }

    fn send(&mut self, _source: &[u8]) -> io::Result<usize> {
        match *self {}
    }

    fn finish(&mut self) {
        match *self {}
    }

    fn abort_on_close(&mut self, _on: bool) {
        match *self {}
    }
}
