//! How the bytes of a connection pass, whichever way it came.
//!
//! Owns [`Wire`], the one transport of a worker's connections. Invariant: it adds nothing to what the transport does.

use std::io;

use crate::reactor::socket::SocketTransport;
use crate::reactor::{Received, Transport};

/// A connection's transport.
#[derive(Debug)]
pub(super) enum Wire {
    /// A socket.
    Plain(SocketTransport),
}

impl Transport for Wire {
    fn receive(&mut self, target: &mut [u8]) -> io::Result<Received> {
        match self {
            Self::Plain(transport) => transport.receive(target),
        }
    }

    fn send(&mut self, source: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(transport) => transport.send(source),
        }
    }

    fn finish(&mut self) {
        match self {
            Self::Plain(transport) => transport.finish(),
        }
    }

    fn abort_on_close(&mut self, on: bool) {
        match self {
            Self::Plain(transport) => transport.abort_on_close(on),
        }
    }
}
