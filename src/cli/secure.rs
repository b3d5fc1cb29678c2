//! How commands reach a server through TLS, and whom they take for it.
//!
//! Owns [`Trusting`], [`Connection`], its [`Bounded`] socket and its [`Halves`]. Invariants: without being told whom to trust, a command
//! trusts the configured certificate of this machine alone; no authority of the system is asked; while a deadline is set, every
//! single read and write of the socket is bounded by what is left of it.

use core::time::Duration;
use std::ffi::OsString;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use socket2::Socket;

use crate::clock::Moment;

/// What a command was told of whom to trust.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Trusting {
    /// The file of `--tls-ca` or `--ca-cert`.
    pub(super) authorities: Option<PathBuf>,
    /// The files of the caller's own certificate and of its key.
    pub(super) own: Option<(PathBuf, PathBuf)>,
    /// Anybody will do (`--insecure-tls`).
    pub(super) anybody: bool,
}

/// A connection to a server.
pub(super) enum Connection {
    /// In the clear, also to a socket of this machine.
    Plain(Bounded),
    #[cfg(feature = "tls")]
    Secure(Box<crate::tls::client::Tunnel<Bounded>>),
}

/// A socket that knows until when it may be waited for.
///
/// TLS reads and writes many times within one call, so that a limit for each of them would bound nothing.
pub(super) struct Bounded {
    socket: Socket,
    deadline: Option<Moment>,
}

impl Bounded {
    /// One that may be waited for until `deadline`.
    pub(super) fn new(socket: Socket, deadline: Moment) -> Self {
        Self { socket, deadline: Some(deadline) }
    }

    /// The same socket once more, and without a deadline.
    fn again(&self) -> io::Result<Self> {
        Ok(Self { socket: self.socket.try_clone()?, deadline: None })
    }

    fn leaves_machine(&self) -> bool {
        let Ok(peer) = self.socket.peer_addr() else { return true };
        !peer.is_unix() && !peer.as_socket().is_some_and(|peer| peer.ip().to_canonical().is_loopback())
    }
}

impl Read for Bounded {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        if let Some(deadline) = self.deadline {
            self.socket.set_read_timeout(Some(left(deadline)?))?;
        }
        self.socket.read(target)
    }
}

impl Write for Bounded {
    fn write(&mut self, source: &[u8]) -> io::Result<usize> {
        if let Some(deadline) = self.deadline {
            self.socket.set_write_timeout(Some(left(deadline)?))?;
        }
        self.socket.write(source)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What is left until the deadline; never zero, which would mean "for ever".
pub(super) fn left(deadline: Moment) -> io::Result<Duration> {
    let left = Moment::now().until(deadline);
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// A connection that is read and written by two threads.
pub(super) struct Halves {
    pub(super) reader: Box<dyn Read>,
    pub(super) writer: Box<dyn Write + Send>,
    /// The same socket, to end it.
    pub(super) socket: OwnedFd,
}

impl Connection {
    fn bounded(&mut self) -> &mut Bounded {
        match self {
            Self::Plain(socket) => socket,
            #[cfg(feature = "tls")]
            Self::Secure(tunnel) => &mut tunnel.sock,
        }
    }

    /// Bounds all that is read and written from now on.
    pub(super) fn set_deadline(&mut self, deadline: Moment) {
        self.bounded().deadline = Some(deadline);
    }

    /// Takes it apart. No deadline is left: a read waits for `look` at a time, a write for as long as it takes.
    pub(super) fn split(mut self, look: Duration) -> io::Result<Halves> {
        let bounded = self.bounded();
        bounded.deadline = None;
        bounded.socket.set_read_timeout(Some(look))?;
        bounded.socket.set_write_timeout(None)?;
        let (other, end) = (bounded.again()?, bounded.socket.try_clone()?);
        Ok(match self {
            Self::Plain(socket) => {
                Halves { reader: Box::new(socket), writer: Box::new(other), socket: end.into() }
            }
            #[cfg(feature = "tls")]
            Self::Secure(tunnel) => {
                let (reader, writer) = crate::tls::client::split(*tunnel, other);
                Halves { reader: Box::new(reader), writer: Box::new(writer), socket: end.into() }
            }
        })
    }

    /// Whether what is sent leaves this machine unencrypted.
    pub(super) fn is_in_the_clear(&self) -> bool {
        match self {
            Self::Plain(bounded) => bounded.leaves_machine(),
            #[cfg(feature = "tls")]
            Self::Secure(_) => false,
        }
    }
}

impl Read for Connection {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(target),
            #[cfg(feature = "tls")]
            Self::Secure(tunnel) => tunnel.read(target),
        }
    }
}

impl Write for Connection {
    fn write(&mut self, source: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(source),
            #[cfg(feature = "tls")]
            Self::Secure(tunnel) => tunnel.write(source),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.flush(),
            #[cfg(feature = "tls")]
            Self::Secure(tunnel) => tunnel.flush(),
        }
    }
}

#[cfg(feature = "tls")]
pub(super) use with_tls::{Trust, secure, trust};

#[cfg(not(feature = "tls"))]
pub(super) use without_tls::{Trust, secure, trust};

#[cfg(feature = "tls")]
mod with_tls {
    use super::{Bounded, Connection, OsString, PathBuf, Trusting, io};
    use zeroize::Zeroizing;

    use crate::config;
    use crate::store::quoted;
    use crate::tls::client::connect;
    use crate::tls::material::Authorities;
    use crate::tls::{Material, client};

    /// Whom a command trusts, and what it shows of itself.
    pub(in crate::cli) struct Trust {
        server: client::Trust,
        own: Option<Material>,
    }

    /// Whom a command trusts that was told so, with what `environment` configures.
    pub(in crate::cli) fn trust(
        told: &Trusting,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Trust, String> {
        let own = told.own.as_ref().map(|(chain, key)| own(chain, key)).transpose()?;
        server(told, environment).map(|server| Trust { server, own })
    }

    fn own(chain: &PathBuf, key: &PathBuf) -> Result<Material, String> {
        let (chain_text, key_text) = (read(chain)?, read(key)?);
        let read = Material::read(&chain_text, &key_text, None);
        read.map_err(|error| format!("{} and {}: {error}", quoted(chain), quoted(key)))
    }

    fn read(path: &PathBuf) -> Result<Zeroizing<Vec<u8>>, String> {
        std::fs::read(path).map(Zeroizing::new).map_err(|error| format!("{}: {error}", quoted(path)))
    }

    fn server(
        told: &Trusting,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<client::Trust, String> {
        let authorities = |path: &PathBuf| {
            Authorities::read(&read(path)?).map_err(|error| format!("{}: {error}", quoted(path)))
        };
        if told.anybody {
            return Ok(client::Trust::Anybody);
        }
        if let Some(path) = &told.authorities {
            return authorities(path).map(client::Trust::Authorities);
        }
        let configured = config::certificates(environment).map_err(|error| error.to_string())?;
        if configured.is_empty() {
            return Err("whom to trust is not known: name the file of whoever signed the server's certificate (--ca-cert; healthcheck and \
                        apikey: --tls-ca); the authorities of this system are not asked"
                .to_owned());
        }
        configured.iter().map(authorities).collect::<Result<_, _>>().map(client::Trust::Pinned)
    }

    /// Shakes hands.
    pub(in crate::cli) fn secure(socket: Bounded, host: &str, trust: &Trust) -> io::Result<Connection> {
        connect(socket, host, &trust.server, trust.own.as_ref())
            .map(|tunnel| Connection::Secure(Box::new(tunnel)))
    }
}

#[cfg(not(feature = "tls"))]
mod without_tls {
    use super::{Bounded, Connection, OsString, Trusting, io};

    /// There is nobody.
    #[derive(Clone, Debug)]
    pub(in crate::cli) enum Trust {}

    pub(in crate::cli) fn trust(
        _told: &Trusting,
        _environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Trust, String> {
        Err("this build has no TLS; ask over http on the loopback address".to_owned())
    }

    pub(in crate::cli) fn secure(_socket: Bounded, _host: &str, trust: &Trust) -> io::Result<Connection> {
        match *trust {}
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn once_the_deadline_has_passed_nothing_more_is_read_or_written() {
        let (mut here, there) = UnixStream::pair().unwrap();
        here.write_all(b"ab").unwrap();
        let far = Moment::now().plus_millis(60_000);
        let mut bounded = Bounded::new(Socket::from(OwnedFd::from(there)), far);
        let mut byte = [0];
        assert_eq!(bounded.read(&mut byte).unwrap(), 1);
        assert_eq!(bounded.write(b"c").unwrap(), 1);
        // What is there already does not count either: it may be one byte of many that come slowly.
        bounded.deadline = Some(Moment::default());
        assert_eq!(bounded.read(&mut byte).unwrap_err().kind(), ErrorKind::TimedOut);
        assert_eq!(bounded.write(b"c").unwrap_err().kind(), ErrorKind::TimedOut);
    }
}
