//! TCP as a transport, and listeners made so that every worker has its own.
//!
//! Owns [`TcpTransport`] and [`bind`]. Invariants: one receive is one `recvfrom`, one send is one `sendto`; a socket
//! is registered once, both directions, edge-triggered, and leaves the poll by being closed.

use core::time::Duration;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener};

use mio::net::TcpStream;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::limits::{LISTEN_BACKLOG_COUNT, SEND_BUFFER_BYTES, UNACKNOWLEDGED_MAX_MILLIS};
use crate::reactor::transport::{Received, Transport};

/// A connected TCP socket.
#[derive(Debug)]
pub struct TcpTransport(TcpStream);

impl TcpTransport {
    /// Takes over a socket that is registered with the loop's poll.
    #[must_use]
    pub fn new(stream: TcpStream) -> Self {
        Self(stream)
    }
}

impl Transport for TcpTransport {
    fn receive(&mut self, target: &mut [u8]) -> io::Result<Received> {
        let count = self.0.read(target)?;
        // A stream that gave less than was asked for is exhausted: the next byte raises a new edge (epoll(7)).
        Ok(Received { count, drained: count < target.len() })
    }

    fn send(&mut self, source: &[u8]) -> io::Result<usize> {
        self.0.write(source)
    }

    fn finish(&mut self) {
        // A peer that is gone already needs no end.
        let _ = self.0.shutdown(Shutdown::Write);
    }

    fn abort_on_close(&mut self, on: bool) {
        // With a linger time of zero a close, also that at the end of the process, sends a reset (RFC 9293, section
        // 3.10.4, ABORT). It fails only for a socket that is broken already.
        let _ = SockRef::from(&self.0).set_linger(on.then_some(Duration::ZERO));
    }
}

/// Binds `count` listeners that never block on one address, the first with the kernel's choice of port if the port is zero.
///
/// Each worker gets its own, and the kernel spreads connections over them. The address is first bound alone, since
/// `SO_REUSEPORT` would let this process share a port with a stranger of the same user without anyone noticing. (A port chosen by the kernel is
/// free of that: the choice passes over every port that is bound at all.)
///
/// # Errors
/// What the system says, for instance `AddrInUse`.
pub fn bind(address: SocketAddr, count: usize) -> io::Result<(SocketAddr, Vec<TcpListener>)> {
    if address.port() != 0 {
        prepare(address, false)?;
    }
    let mut bound = address;
    let mut listeners = Vec::with_capacity(count);
    for _ in 0..count.max(1) {
        let socket = prepare(bound, true)?;
        socket.listen(LISTEN_BACKLOG_COUNT)?;
        bound = local_address(&socket)?;
        listeners.push(socket.into());
    }
    Ok((bound, listeners))
}

fn prepare(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Accepted sockets inherit it, which saves a system call for each connection.
    socket.set_tcp_nodelay(true)?;
    // A peer that does not read is to be noticed here, where deadlines and budgets are, and not to fill the kernel.
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    // And one that is gone does not keep what it did not take.
    socket.set_tcp_user_timeout(Some(Duration::from_millis(UNACKNOWLEDGED_MAX_MILLIS)))?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn local_address(socket: &Socket) -> io::Result<SocketAddr> {
    socket.local_addr()?.as_socket().ok_or_else(|| io::Error::other("the socket has no internet address"))
}
