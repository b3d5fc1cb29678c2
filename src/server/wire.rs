//! How the bytes of a connection pass, whichever way it came.
//!
//! Owns [`Wire`], the one transport of a worker's connections. Invariants: it adds nothing to what the transport does; a
//! local peer is who the kernel says it is, asked once.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use crate::limits::OVERFLOW_ID_NUMBER;
use crate::model::{Identities, Identity};
use crate::quota::Tally;
use crate::reactor::socket::SocketTransport;
use crate::reactor::{Established, Exhausted, Received, Transport};
use crate::server::certificates::Tunnel;

/// A connection's transport.
#[derive(Debug)]
pub(super) enum Wire {
    /// A socket.
    Plain(SocketTransport),
    /// TLS over a socket.
    Secure(Tunnel),
    /// A socket of this machine, and whose process is at its other end.
    Local(SocketTransport, Option<Rc<Identities>>),
}

impl Wire {
    /// A Unix socket, whose other end is asked for here: the kernel keeps what it was when it connected.
    pub(super) fn local(transport: SocketTransport) -> Self {
        let identities = transport.credentials().map(identities_of).map(Rc::new);
        Self::Local(transport, identities)
    }
}

/// The same call of whichever it is.
macro_rules! each {
    ($wire:expr, $transport:ident => $call:expr) => {
        match $wire {
            Wire::Plain($transport) | Wire::Local($transport, _) => $call,
            Wire::Secure($transport) => $call,
        }
    };
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

    fn has_begun(&self) -> bool {
        each!(self, transport => transport.has_begun())
    }

    fn is_amid(&self) -> bool {
        each!(self, transport => transport.is_amid())
    }

    fn flush(&mut self) -> io::Result<()> {
        each!(self, transport => transport.flush())
    }

    fn conclude(&mut self) {
        each!(self, transport => transport.conclude());
    }

    fn charge(&mut self, account: &Arc<Tally>) -> Result<(), Exhausted> {
        each!(self, transport => transport.charge(account))
    }

    fn identities(&self) -> Option<Rc<Identities>> {
        match self {
            Self::Plain(_) => None,
            Self::Local(_, identities) => identities.clone(),
            Self::Secure(tunnel) => tunnel.identities(),
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
