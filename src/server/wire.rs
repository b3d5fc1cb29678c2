//! How the bytes of a connection pass, whichever way it came.
//!
//! Owns [`Wire`], the one transport of a worker's connections. Invariant: it adds nothing to what the transport does.

use std::io;
use std::rc::Rc;

use crate::model::Identities;
use crate::reactor::socket::SocketTransport;
use crate::reactor::{Established, Received, Transport};
use crate::server::certificates::Tunnel;

/// A connection's transport.
#[derive(Debug)]
pub(super) enum Wire {
    /// A socket.
    Plain(SocketTransport),
    /// TLS over a socket.
    Secure(Tunnel),
}

/// The same call of whichever it is.
macro_rules! each {
    ($wire:expr, $transport:ident => $call:expr) => {
        match $wire {
            Wire::Plain($transport) => $call,
            Wire::Secure($transport) => $call,
        }
    };
}

impl Transport for Wire {
    fn receive(&mut self, target: &mut [u8]) -> io::Result<Received> {
        each!(self, transport => transport.receive(target))
    }

    fn send(&mut self, source: &[u8]) -> io::Result<usize> {
        each!(self, transport => transport.send(source))
    }

    fn finish(&mut self) {
        each!(self, transport => transport.finish());
    }

    fn abort_on_close(&mut self, on: bool) {
        each!(self, transport => transport.abort_on_close(on));
    }

    fn establish(&mut self) -> io::Result<Established> {
        each!(self, transport => transport.establish())
    }

    fn is_established(&self) -> bool {
        each!(self, transport => transport.is_established())
    }

    fn flush(&mut self) -> io::Result<()> {
        each!(self, transport => transport.flush())
    }

    fn conclude(&mut self) {
        each!(self, transport => transport.conclude());
    }

    fn identities(&self) -> Option<Rc<Identities>> {
        each!(self, transport => transport.identities())
    }
}
