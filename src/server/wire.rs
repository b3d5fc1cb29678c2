//! How the bytes of a connection pass, whichever way it came.
//!
//! Owns [`Wire`], the one transport of a worker's connections. Invariants: it adds nothing to what the transport does but to count
//! it; a local peer is who the kernel says it is, asked once.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use crate::limits::OVERFLOW_ID_NUMBER;
use crate::metrics::{HandshakeFailure, Transport as Kind, Worker as Counters};
use crate::model::{Identities, Identity};
use crate::quota::Tally;
use crate::reactor::socket::SocketTransport;
use crate::reactor::{Established, Exhausted, Received, Transport};
use crate::server::certificates::{Tunnel, failure_of};

/// A connection's transport, and what is counted of it.
#[derive(Debug)]
pub(super) struct Wire {
    line: Line,
    counters: Arc<Counters>,
}

/// How the bytes pass.
#[derive(Debug)]
pub(super) enum Line {
    /// A socket.
    Plain(SocketTransport),
    /// TLS over a socket, and whether it is in its handshake.
    Secure(Tunnel, bool),
    /// A socket of this machine, and whose process is at its other end.
    Local(SocketTransport, Option<Rc<Identities>>),
}

impl Line {
    /// A Unix socket, whose other end is asked for here: the kernel keeps what it was when it connected.
    pub(super) fn local(transport: SocketTransport) -> Self {
        let identities = transport.credentials().map(identities_of).map(Rc::new);
        Self::Local(transport, identities)
    }

    /// Its place among [`Kind::ALL`].
    const fn kind(&self) -> usize {
        match self {
            Self::Plain(_) => Kind::Tcp as usize,
            Self::Secure(..) => Kind::Tls as usize,
            Self::Local(..) => Kind::Unix as usize,
        }
    }
}

/// The same call of whichever it is.
macro_rules! each {
    ($wire:expr, $transport:ident => $call:expr) => {
        match &$wire.line {
            Line::Plain($transport) | Line::Local($transport, _) => $call,
            Line::Secure($transport, _) => $call,
        }
    };
    (mut $wire:expr, $transport:ident => $call:expr) => {
        match &mut $wire.line {
            Line::Plain($transport) | Line::Local($transport, _) => $call,
            Line::Secure($transport, _) => $call,
        }
    };
}

impl Wire {
    /// A connection that has got a place.
    pub(super) fn new(line: Line, counters: Arc<Counters>) -> Self {
        Counters::count(&counters.accepted, line.kind(), 1);
        Self { line, counters }
    }

    /// Counts what a handshake came to that has ended.
    fn count_handshake(&mut self, ended: &io::Result<Established>) {
        let Line::Secure(tunnel, is_shaking @ true) = &mut self.line else { return };
        let failure = match ended {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(error) => failure_of(error),
            Ok(Established::Clear) => HandshakeFailure::Clear,
            Ok(Established::Ready) => {
                *is_shaking = false;
                if let Some(agreed) = tunnel.agreed() {
                    self.counters.count_handshake(agreed.version, agreed.group, agreed.resumed);
                }
                return;
            }
        };
        *is_shaking = false;
        Counters::count(&self.counters.handshake_failures, failure as usize, 1);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if let Line::Secure(_, true) = &self.line {
            Counters::count(&self.counters.handshake_failures, HandshakeFailure::Abandoned as usize, 1);
        }
    }
}

/// The identities of a process with this user and group. What another user namespace does not show has none.
fn identities_of((user, group): (u32, u32)) -> Identities {
    let named = |kind: &str, id: u32| {
        (id != OVERFLOW_ID_NUMBER).then(|| Identity::parse(&format!("{kind}:{id}"))).flatten()
    };
    Identities::new([named("unix-user", user), named("unix-group", group)].into_iter().flatten())
}

impl Transport for Wire {
    fn receive(&mut self, target: &mut [u8]) -> io::Result<Received> {
        let received = each!(mut self, transport => transport.receive(target))?;
        Counters::count(&self.counters.received, self.line.kind(), received.count as u64);
        Ok(received)
    }

    fn send(&mut self, source: &[u8]) -> io::Result<usize> {
        let sent = each!(mut self, transport => transport.send(source))?;
        Counters::count(&self.counters.sent, self.line.kind(), sent as u64);
        Ok(sent)
    }

    fn finish(&mut self) {
        each!(mut self, transport => transport.finish());
    }

    fn abort_on_close(&mut self, on: bool) {
        each!(mut self, transport => transport.abort_on_close(on));
    }

    fn establish(&mut self) -> io::Result<Established> {
        let ended = each!(mut self, transport => transport.establish());
        self.count_handshake(&ended);
        ended
    }

    fn is_established(&self) -> bool {
        each!(self, transport => transport.is_established())
    }

    fn has_begun(&self) -> bool {
        each!(self, transport => transport.has_begun())
    }

    fn is_amid(&self) -> bool {
        each!(self, transport => transport.is_amid())
    }

    fn flush(&mut self) -> io::Result<()> {
        each!(mut self, transport => transport.flush())
    }

    fn conclude(&mut self) {
        each!(mut self, transport => transport.conclude());
    }

    fn charge(&mut self, account: &Arc<Tally>) -> Result<(), Exhausted> {
        each!(mut self, transport => transport.charge(account))
    }

    fn identities(&self) -> Option<Rc<Identities>> {
        match &self.line {
            Line::Plain(_) => None,
            Line::Local(_, identities) => identities.clone(),
            Line::Secure(tunnel, _) => tunnel.identities(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_its_user_and_its_group_unless_they_are_those_of_nobody_known() {
        let shown = |user, group| {
            let found = identities_of((user, group));
            found.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(shown(1001, 0), ["unix-user:1001", "unix-group:0"]);
        assert_eq!(shown(OVERFLOW_ID_NUMBER, 5), ["unix-group:5"]);
        assert!(shown(OVERFLOW_ID_NUMBER, OVERFLOW_ID_NUMBER).is_empty());
    }
}
