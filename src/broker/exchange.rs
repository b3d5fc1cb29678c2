//! One connection to etcd: requests and their replies.
//!
//! Owns [`Wire`]. Invariants: one deadline holds for the whole of what is asked, from the connection over the handshake to the last byte of
//! the reply, however the peer spreads its bytes; a reply is read whole or it is none.

use core::time::Duration;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;

use zeroize::Zeroizing;

use super::place::{Access, Endpoint};
use super::reply::{Broken, Incoming, Reply};
use crate::clock::Moment;
use crate::limits::ETCD_CONNECT_MILLIS;

/// A socket each of whose calls ends when the time for all of them is over.
struct Timed {
    socket: TcpStream,
    end: Moment,
}

impl Read for Timed {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        self.socket.set_read_timeout(Some(left(self.end)?))?;
        self.socket.read(target)
    }
}

impl Write for Timed {
    fn write(&mut self, source: &[u8]) -> io::Result<usize> {
        self.socket.set_write_timeout(Some(left(self.end)?))?;
        self.socket.write(source)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What carries the bytes.
enum Carrier {
    Plain(Timed),
    #[cfg(feature = "tls")]
    Secure(Box<crate::tls::client::Tunnel<Timed>>),
}

impl Carrier {
    /// Has all that follows end at `end`.
    const fn limit(&mut self, end: Moment) {
        match self {
            Self::Plain(timed) => timed.end = end,
            #[cfg(feature = "tls")]
            Self::Secure(tunnel) => tunnel.sock.end = end,
        }
    }

    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(timed) => timed.read(target),
            #[cfg(feature = "tls")]
            Self::Secure(tunnel) => tunnel.read(target),
        }
    }

    fn write_all(&mut self, source: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(timed) => timed.write_all(source),
            #[cfg(feature = "tls")]
            Self::Secure(tunnel) => tunnel.write_all(source).and_then(|()| tunnel.flush()),
        }
    }
}

/// Why there is no reply.
#[derive(Debug)]
pub(super) enum Fault {
    /// It was sent, or a part of it.
    Unanswered(String),
    /// The reply is longer than what is read of one.
    TooLong,
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Unanswered(error.to_string())
    }
}

impl From<Broken> for Fault {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::TooLong => Self::TooLong,
            Broken::NotHttp | Broken::Cut => Self::Unanswered(broken.why().to_owned()),
        }
    }
}

/// What is asked.
pub(super) struct Asked<'a> {
    /// The path.
    pub(super) path: &'a str,
    /// What proves who asks, if that is asked for.
    pub(super) token: Option<&'a str>,
    /// JSON.
    pub(super) body: &'a [u8],
}

/// A connection.
pub(super) struct Wire {
    carrier: Carrier,
    host: String,
    incoming: Incoming,
}

impl Wire {
    /// Connects, and shakes hands.
    pub(super) fn open(access: &Access, endpoint: &Endpoint, deadline: Moment) -> io::Result<Self> {
        let end = Moment::now().plus_millis(ETCD_CONNECT_MILLIS).min(deadline);
        let socket = TcpStream::connect_timeout(&endpoint.address, left(end)?)?;
        socket.set_nodelay(true)?;
        let timed = Timed { socket, end };
        #[cfg(feature = "tls")]
        let carrier = match &access.tls {
            None => Carrier::Plain(timed),
            Some(outgoing) => Carrier::Secure(Box::new(outgoing.connect(timed, &endpoint.host)?)),
        };
        #[cfg(not(feature = "tls"))]
        let carrier = {
            let _ = access;
            Carrier::Plain(timed)
        };
        Ok(Self { carrier, host: endpoint.address.to_string(), incoming: Incoming::default() })
    }

    /// Sends a request and reads the whole reply.
    pub(super) fn exchange(&mut self, asked: &Asked<'_>, deadline: Moment) -> Result<Reply, Fault> {
        self.send(asked, deadline)?;
        self.reply()
    }

    /// Sends a request whose reply may have no end; [`Wire::line`] reads that. What is not such a reply is read whole.
    pub(super) fn begin(&mut self, asked: &Asked<'_>, deadline: Moment) -> Result<Option<Reply>, Fault> {
        self.send(asked, deadline)?;
        loop {
            match self.incoming.is_endless()? {
                Some(true) => return Ok(None),
                Some(false) => return self.reply().map(Some),
                None => self.fill()?,
            }
        }
    }

    /// The next line of a reply that does not end; nothing if none came before `deadline`.
    ///
    /// # Errors
    /// The connection, a reply that has ended, or a line that is too long.
    pub(super) fn line(&mut self, deadline: Moment) -> Result<Option<Vec<u8>>, Fault> {
        self.carrier.limit(deadline);
        loop {
            if let Some(line) = self.incoming.line()? {
                return Ok(Some(line));
            }
            match self.fill() {
                Ok(()) => {}
                Err(error) if is_time(&error) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn reply(&mut self) -> Result<Reply, Fault> {
        loop {
            if let Some(reply) = self.incoming.reply()? {
                return Ok(reply);
            }
            self.fill()?;
        }
    }

    fn send(&mut self, asked: &Asked<'_>, deadline: Moment) -> io::Result<()> {
        self.carrier.limit(deadline);
        let Asked { path, token, body } = asked;
        let mut request = Zeroizing::new(Vec::with_capacity(512 + body.len()));
        let host = &self.host;
        write!(request, "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n")?;
        // A member without a leader is to say so instead of answering from what it has.
        write!(request, "Grpc-Metadata-hasleader: true\r\nContent-Length: {}\r\n", body.len())?;
        if let Some(token) = token {
            write!(request, "Authorization: {token}\r\n")?;
        }
        request.extend_from_slice(b"\r\n");
        request.extend_from_slice(body);
        self.carrier.write_all(&request)
    }

    /// Reads what there is, or that nothing comes any more.
    fn fill(&mut self) -> io::Result<()> {
        let mut piece = [0; 16 * 1024];
        loop {
            match self.carrier.read(&mut piece) {
                Ok(0) => {
                    self.incoming.close();
                    return Ok(());
                }
                Ok(read) => {
                    self.incoming.feed(piece.get(..read).unwrap_or_default());
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

fn is_time(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// What is left until the deadline; never zero, which would mean "for ever".
fn left(deadline: Moment) -> io::Result<Duration> {
    let left = Moment::now().until(deadline);
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
}
