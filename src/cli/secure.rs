//! How commands reach a server through TLS, and whom they take for it.
//!
//! Owns [`Trusting`], [`Connection`] and its [`Halves`]. Invariant: without being told whom to trust, a command trusts the configured certificate of
//! this machine alone; no authority of the system is asked.

use core::time::Duration;
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

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
    Plain(TcpStream),
    /// A socket of this machine.
    Local(UnixStream),
    #[cfg(feature = "tls")]
    Secure(Box<crate::tls::client::Tunnel<TcpStream>>),
}

/// A connection that is read and written by two threads.
pub(super) struct Halves {
    pub(super) reader: Box<dyn Read>,
    pub(super) writer: Box<dyn Write + Send>,
    /// The same socket, to end it.
    pub(super) socket: OwnedFd,
}

impl Connection {
    /// Takes it apart; the limits of time stay as they are.
    pub(super) fn split(self) -> io::Result<Halves> {
        Ok(match self {
            Self::Plain(socket) => {
                let (other, end) = (socket.try_clone()?, socket.try_clone()?);
                Halves { reader: Box::new(socket), writer: Box::new(other), socket: end.into() }
            }
            Self::Local(socket) => {
                let (other, end) = (socket.try_clone()?, socket.try_clone()?);
                Halves { reader: Box::new(socket), writer: Box::new(other), socket: end.into() }
            }
            #[cfg(feature = "tls")]
            Self::Secure(tunnel) => {
                let (other, end) = (tunnel.sock.try_clone()?, tunnel.sock.try_clone()?);
                let (reader, writer) = crate::tls::client::split(*tunnel, other);
                Halves { reader: Box::new(reader), writer: Box::new(writer), socket: end.into() }
            }
        })
    }

    /// Whether what is sent leaves this machine unencrypted.
    pub(super) fn is_in_the_clear(&self) -> bool {
        let Self::Plain(socket) = self else { return false };
        !socket.peer_addr().is_ok_and(|peer| peer.ip().to_canonical().is_loopback())
    }

    /// Bounds the next read.
    pub(super) fn set_read_timeout(&self, most: Option<Duration>) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.set_read_timeout(most),
            Self::Local(socket) => socket.set_read_timeout(most),
            #[cfg(feature = "tls")]
            Self::Secure(tunnel) => tunnel.sock.set_read_timeout(most),
        }
    }

    /// Bounds the next write.
    pub(super) fn set_write_timeout(&self, most: Option<Duration>) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.set_write_timeout(most),
            Self::Local(socket) => socket.set_write_timeout(most),
            #[cfg(feature = "tls")]
            Self::Secure(tunnel) => tunnel.sock.set_write_timeout(most),
        }
    }
}

impl Read for Connection {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(target),
            Self::Local(socket) => socket.read(target),
            #[cfg(feature = "tls")]
            Self::Secure(tunnel) => tunnel.read(target),
        }
    }
}

impl Write for Connection {
    fn write(&mut self, source: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(source),
            Self::Local(socket) => socket.write(source),
            #[cfg(feature = "tls")]
            Self::Secure(tunnel) => tunnel.write(source),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.flush(),
            Self::Local(socket) => socket.flush(),
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
    use super::{Connection, OsString, PathBuf, TcpStream, Trusting, io};
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
    pub(in crate::cli) fn secure(socket: TcpStream, host: &str, trust: &Trust) -> io::Result<Connection> {
        connect(socket, host, &trust.server, trust.own.as_ref())
            .map(|tunnel| Connection::Secure(Box::new(tunnel)))
    }
}

#[cfg(not(feature = "tls"))]
mod without_tls {
    use super::{Connection, OsString, TcpStream, Trusting, io};

    /// There is nobody.
    #[derive(Clone, Debug)]
    pub(in crate::cli) enum Trust {}

    pub(in crate::cli) fn trust(
        _told: &Trusting,
        _environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Trust, String> {
        Err("this build has no TLS; ask over http on the loopback address".to_owned())
    }

    pub(in crate::cli) fn secure(_socket: TcpStream, _host: &str, trust: &Trust) -> io::Result<Connection> {
        match *trust {}
    }
}
