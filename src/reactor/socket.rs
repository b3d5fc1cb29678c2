//! Sockets as transports, and listeners made so that every worker has its own.
//!
//! Owns [`SocketTransport`], [`Listener`], [`Leaving`], [`Stream`] and [`bind`]. Invariants: one receive is one `recvfrom`, one send is one `sendto`; a socket
//! is registered once, both directions, edge-triggered, and leaves the poll by being closed.

use core::time::Duration;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener};
use std::os::fd::AsRawFd as _;

use mio::event::Source;
use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};
use nix::sys::socket::sockopt::PeerCredentials;
use nix::sys::socket::{MsgFlags, getsockopt, recv, send};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::limits::{LISTEN_BACKLOG_COUNT, SEND_BUFFER_BYTES, UNACKNOWLEDGED_MAX_MILLIS};
use crate::reactor::transport::{Received, Transport};

/// A listening socket that never blocks.
#[derive(Debug)]
pub enum Listener {
    /// Of TCP.
    Tcp(mio::net::TcpListener),
    /// With a name in the file system.
    Unix(mio::net::UnixListener),
}

/// What becomes of a listener when its loop leaves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaving {
    /// What the kernel has queued is still served, and whoever comes later is refused.
    Refuse,
    /// It belongs to another process too, which serves what is queued from here on.
    HandOver,
}

impl Listener {
    /// Accepts a connection, and tells the address of its other end, if it has one.
    ///
    /// # Errors
    /// What `accept` says, for instance `WouldBlock`.
    pub fn accept(&self) -> io::Result<(Stream, Option<IpAddr>)> {
        match self {
            Self::Tcp(listener) => {
                listener.accept().map(|(stream, peer)| (Stream::Tcp(stream), Some(peer.ip())))
            }
            Self::Unix(listener) => listener.accept().map(|(stream, _)| (Stream::Unix(stream), None)),
        }
    }

    /// Has the kernel refuse whoever comes from here on.
    pub(super) fn refuse(&self) {
        let shut = match self {
            Self::Tcp(listener) => SockRef::from(listener).shutdown(Shutdown::Read),
            Self::Unix(listener) => SockRef::from(listener).shutdown(Shutdown::Read),
        };
        // One that cannot be shut is not looked at any more.
        drop(shut);
    }

    fn source(&mut self) -> &mut dyn Source {
        match self {
            Self::Tcp(listener) => listener,
            Self::Unix(listener) => listener,
        }
    }
}

/// A connected socket that never blocks.
#[derive(Debug)]
pub enum Stream {
    /// Of TCP.
    Tcp(TcpStream),
    /// Of a name in the file system.
    Unix(UnixStream),
}

impl Stream {
    /// A socket that is connected to nobody: it holds its descriptor for another.
    ///
    /// # Errors
    /// What the system says, for instance that there is no descriptor.
    pub fn unconnected() -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        Ok(Self::Tcp(TcpStream::from_std(socket.into())))
    }

    /// Sends as much of `last` as takes no waiting, and ends what is sent.
    pub fn end_with(&mut self, last: &[u8]) {
        // A peer that is gone already needs neither.
        let _ = match self {
            Self::Tcp(stream) => stream.write(last).and_then(|_| stream.shutdown(Shutdown::Write)),
            Self::Unix(stream) => stream.write(last).and_then(|_| stream.shutdown(Shutdown::Write)),
        };
    }

    fn source(&mut self) -> &mut dyn Source {
        match self {
            Self::Tcp(stream) => stream,
            Self::Unix(stream) => stream,
        }
    }
}

macro_rules! forward_source {
    ($name:ty) => {
        impl Source for $name {
            fn register(&mut self, registry: &Registry, token: Token, interest: Interest) -> io::Result<()> {
                self.source().register(registry, token, interest)
            }

            fn reregister(
                &mut self,
                registry: &Registry,
                token: Token,
                interest: Interest,
            ) -> io::Result<()> {
                self.source().reregister(registry, token, interest)
            }

            fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
                self.source().deregister(registry)
            }
        }
    };
}

forward_source!(Listener);
forward_source!(Stream);

/// A connected socket as a transport.
#[derive(Debug)]
pub struct SocketTransport(Stream);

impl SocketTransport {
    /// Takes over a socket that is registered with the loop's poll.
    #[must_use]
    pub fn new(stream: Stream) -> Self {
        Self(stream)
    }

    /// User and group of the process that connected a Unix socket; nothing of another one.
    #[must_use]
    pub fn credentials(&self) -> Option<(u32, u32)> {
        let Stream::Unix(stream) = &self.0 else { return None };
        let found = getsockopt(stream, PeerCredentials).ok()?;
        Some((found.uid(), found.gid()))
    }
}

impl Transport for SocketTransport {
    fn receive(&mut self, target: &mut [u8]) -> io::Result<Received> {
        let count = match &mut self.0 {
            Stream::Tcp(stream) => stream.read(target),
            Stream::Unix(stream) => Ok(recv(stream.as_raw_fd(), target, MsgFlags::empty())?),
        }?;
        // A stream that gave less than was asked for is exhausted: the next byte raises a new edge (epoll(7)).
        Ok(Received { count, drained: count < target.len() })
    }

    fn send(&mut self, source: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Stream::Tcp(stream) => stream.write(source),
            // The standard library may choose another call, which the filters do not know.
            Stream::Unix(stream) => Ok(send(stream.as_raw_fd(), source, MsgFlags::MSG_NOSIGNAL)?),
        }
    }

    fn finish(&mut self) {
        // A peer that is gone already needs no end.
        let _ = match &self.0 {
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Stream::Unix(stream) => stream.shutdown(Shutdown::Write),
        };
    }

    fn abort_on_close(&mut self, on: bool) {
        // With a linger time of zero a close, also that at the end of the process, sends a reset (RFC 9293, section
        // 3.10.4, ABORT). It fails only for a socket that is broken already.
        if let Stream::Tcp(stream) = &self.0 {
            let _ = SockRef::from(stream).set_linger(on.then_some(Duration::ZERO));
        }
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

/// Binds one listener that never blocks, and that shares its address with no other.
///
/// # Errors
/// What the system says, for instance `AddrInUse`.
pub fn bind_alone(address: SocketAddr) -> io::Result<Socket> {
    let socket = prepare(address, false)?;
    socket.listen(LISTEN_BACKLOG_COUNT)?;
    Ok(socket)
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
    set_options(&SockRef::from(&socket))?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Gives a listener of TCP the options that its connections inherit, which saves system calls for each of them.
///
/// # Errors
/// What the system says.
pub fn set_options(socket: &SockRef<'_>) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    // A peer that does not read is to be noticed here, where deadlines and budgets are, and not to fill the kernel.
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    // And one that is gone does not keep what it did not take.
    socket.set_tcp_user_timeout(Some(Duration::from_millis(UNACKNOWLEDGED_MAX_MILLIS)))
}

fn local_address(socket: &Socket) -> io::Result<SocketAddr> {
    socket.local_addr()?.as_socket().ok_or_else(|| io::Error::other("the socket has no internet address"))
}
