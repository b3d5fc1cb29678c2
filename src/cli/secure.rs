//! How commands reach a server through TLS, and whom they take for it.
//!
//! Owns [`Trusting`] and [`Connection`]. Invariant: without being told whom to trust, a command trusts the configured certificate of
//! this machine alone; no authority of the system is asked.

use core::time::Duration;
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

/// What a command was told of whom to trust.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Trusting {
    /// The file of `--tls-ca`.
    pub(super) authorities: Option<PathBuf>,
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

impl Connection {
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
    use crate::config;
    use crate::store::quoted;
    pub(in crate::cli) use crate::tls::client::Trust;
    use crate::tls::client::connect;
    use crate::tls::material::Authorities;

    /// Whom a command trusts that was told so, with what `environment` configures.
    pub(in crate::cli) fn trust(
        told: &Trusting,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Trust, String> {
        let read = |path: &PathBuf| {
            let text = std::fs::read(path).map_err(|error| format!("{}: {error}", quoted(path)))?;
            Authorities::read(&text).map_err(|error| format!("{}: {error}", quoted(path)))
        };
        if told.anybody {
            return Ok(Trust::Anybody);
        }
        if let Some(path) = &told.authorities {
            return read(path).map(Trust::Authorities);
        }
        let configured = config::certificates(environment).map_err(|error| error.to_string())?;
        if configured.is_empty() {
            return Err("whom to trust is not known: give --tls-ca FILE (the authorities of this system are not asked)".to_owned());
        }
        configured.iter().map(read).collect::<Result<_, _>>().map(Trust::Pinned)
    }

    /// Shakes hands.
    pub(in crate::cli) fn secure(socket: TcpStream, host: &str, trust: &Trust) -> io::Result<Connection> {
        connect(socket, host, trust).map(|tunnel| Connection::Secure(Box::new(tunnel)))
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
