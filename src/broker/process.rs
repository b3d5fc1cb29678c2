//! The broker: the child process that alone speaks to etcd.
//!
//! Owns [`start`], the parent's side, and [`serve`], the child's. The child finds its end of the socket pair as standard input and the
//! descriptor that wakes the parent as standard output; standard error is the parent's. Invariants: it has no key that opens a record; what
//! reaches etcd with comes over the socket and never stands on a command line; it ends when the parent does; it gives up every
//! privilege before it opens a connection.

use core::time::Duration;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::Arc;

use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::{SigSet, Signal};
use zeroize::Zeroizing;

use super::direct::Direct;
use super::place::{Access, Credentials, Endpoint};
use super::remote::Remote;
use super::wire::{self, Answer, Reader, Request, Writer};
use crate::exit::Exit;
use crate::limits::{BROKER_REPLY_MILLIS, ETCD_ENDPOINTS_MAX_COUNT};
use crate::log::{self, Module};
use crate::sandbox;
use crate::store::etcd::link::Link as _;

/// How the child knows what it is: its only argument.
pub const ARGUMENT: &str = "--store-broker";

/// A broker that runs.
#[derive(Debug)]
pub struct Started {
    /// The way to it.
    pub socket: OwnedFd,
    /// Becomes readable when there is news. It is never read: each write is an edge.
    pub news: OwnedFd,
}

impl Started {
    /// The link through it.
    #[must_use]
    pub fn into_link(self) -> (Remote, OwnedFd) {
        (Remote::new(self.socket), self.news)
    }
}

/// What the child is told.
#[derive(Debug)]
pub struct Orders {
    /// Where etcd is.
    pub endpoints: Vec<Endpoint>,
    /// What it takes to be let in.
    pub credentials: Credentials,
    /// The user and group that it becomes, if it is root.
    pub identity: (u32, u32),
}

/// Starts a broker with `orders`. To be called while this process may still start others.
///
/// # Errors
/// What the system refuses.
pub fn start(orders: &Orders) -> io::Result<Started> {
    let (ours, theirs) = UnixStream::pair()?;
    let news = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?;
    let ring = news.as_fd().try_clone_to_owned()?;
    let mut command = Command::new("/proc/self/exe");
    command.arg(ARGUMENT).env_clear();
    command.stdin(Stdio::from(OwnedFd::from(theirs))).stdout(Stdio::from(ring));
    // A signal for our group (a key pressed at a terminal) is not for it: it ends with us.
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command.spawn()?;
    let patience = Duration::from_millis(BROKER_REPLY_MILLIS);
    ours.set_read_timeout(Some(patience))?;
    ours.set_write_timeout(Some(patience))?;
    let mut socket = ours;
    wire::send(&mut socket, &orders.encode())?;
    Ok(Started { socket: socket.into(), news: news.into() })
}

/// The child's life, from its only argument to its end.
#[must_use]
pub fn serve() -> Exit {
    match run() {
        Ok(()) => Exit::Success,
        Err(error) => {
            log::error(Module::Store, format_args!("etcd: {error}"));
            Exit::Io
        }
    }
}

fn run() -> Result<(), String> {
    sandbox::shield().map_err(|error| error.to_string())?;
    // Whoever ends a whole group of processes asks the server to finish, which needs this one for it.
    let ours = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP]);
    ours.thread_block().map_err(|error| error.to_string())?;
    let shown = |error: io::Error| error.to_string();
    let socket = io::stdin().as_fd().try_clone_to_owned().map_err(shown)?;
    let ring = io::stdout().as_fd().try_clone_to_owned().map_err(shown)?;
    let mut socket = UnixStream::from(socket);
    let orders = wire::receive(&mut socket).map_err(shown)?.ok_or("no orders came")?;
    let Orders { endpoints, credentials, identity } =
        Orders::decode(&orders).ok_or("the orders cannot be read")?;
    drop(orders);
    let ports: Vec<u16> = endpoints.iter().map(|endpoint| endpoint.address.port()).collect();
    let access = Access::new(endpoints, &credentials)?;
    drop(credentials);
    #[cfg(feature = "tls")]
    if access.tls.is_some() {
        crate::tls::provider::warm_up().map_err(|error| error.to_string())?;
    }
    // As those who trace it know it.
    rustix::thread::set_name(c"broker").map_err(|error| error.to_string())?;
    sandbox::lock_broker(identity, &ports).map_err(|error| error.to_string())?;
    let ring = Arc::new(ring);
    let mut link = Direct::new(
        access,
        Box::new(move || {
            // A counter that is full was not read since, and it is never read: each write is an edge.
            let _ = rustix::io::write(&*ring, &1u64.to_ne_bytes());
        }),
    );
    loop {
        let frame = match wire::receive(&mut socket) {
            Ok(Some(frame)) => frame,
            // The server has ended, perhaps in the middle of a request.
            Ok(None) => break,
            Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => {
                break;
            }
            Err(error) => return Err(error.to_string()),
        };
        let request = Request::decode(&frame).ok_or("a request that cannot be read")?;
        let answer = carry_out(&mut link, request);
        match wire::send(&mut socket, &answer.into_frame()) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::BrokenPipe => break,
            Err(error) => return Err(error.to_string()),
        }
    }
    // The others need not wait until they find out that the server has ended.
    link.end();
    Ok(())
}

fn carry_out(link: &mut Direct, request: Request) -> Answer {
    let done = match request {
        Request::Read(span) => link.read(&span).map(Answer::Page),
        Request::Swap(swap) => link.swap(&swap).map(Answer::Swapped),
        Request::Follow { from, to, head, at } => link.follow(&from, &to, &head, at).map(|()| Answer::Done),
        Request::News { until } => link.news(until).map(Answer::News),
        Request::Join(member) => link.join(&member).map(|()| Answer::Done),
    };
    done.unwrap_or_else(Answer::Failed)
}

impl Orders {
    fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut to = Writer::default();
        let Credentials { authorities, own, user } = &self.credentials;
        to.number(u64::from(self.identity.0)).number(u64::from(self.identity.1));
        to.number(self.endpoints.len() as u64);
        for Endpoint { host, address } in &self.endpoints {
            to.bytes(host.as_bytes()).bytes(address.to_string().as_bytes());
        }
        let pairs = [
            authorities.as_ref().map(|text| (text.as_slice(), &[][..])),
            own.as_ref().map(|(chain, key)| (chain.as_slice(), key.as_slice())),
            user.as_ref().map(|(name, password)| (name.as_bytes(), password.as_bytes())),
        ];
        for pair in pairs {
            match pair {
                None => to.byte(0),
                Some((one, two)) => to.byte(1).bytes(one).bytes(two),
            };
        }
        to.0
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut from = Reader(bytes);
        let identity = (u32::try_from(from.number()?).ok()?, u32::try_from(from.number()?).ok()?);
        let endpoints = from.list(|from| {
            let host = from.text()?;
            let address: SocketAddr = from.text()?.parse().ok()?;
            Some(Endpoint { host, address })
        })?;
        let mut pair = || match from.byte()? {
            0 => Some(None),
            1 => Some(Some((from.bytes()?, from.bytes()?))),
            _ => None,
        };
        let (authorities, own, user) = (pair()?, pair()?, pair()?);
        let secret = |bytes: &[u8]| Zeroizing::new(bytes.to_vec());
        let text = |bytes: &[u8]| core::str::from_utf8(bytes).ok().map(str::to_owned);
        let credentials = Credentials {
            authorities: authorities.map(|(text, _)| text.to_vec()),
            own: own.map(|(chain, key)| (chain.to_vec(), secret(key))),
            user: match user {
                None => None,
                Some((name, password)) => Some((text(name)?, Zeroizing::new(text(password)?))),
            },
        };
        let bounded = endpoints.len() <= ETCD_ENDPOINTS_MAX_COUNT * ETCD_ENDPOINTS_MAX_COUNT;
        (from.is_done() && bounded).then_some(Self { endpoints, credentials, identity })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_understood_and_say_nothing_of_secrets_when_shown() {
        let endpoint = Endpoint { host: "a".to_owned(), address: "127.0.0.1:2379".parse().unwrap() };
        let credentials = Credentials {
            authorities: Some(b"ca".to_vec()),
            own: Some((b"chain".to_vec(), Zeroizing::new(b"private".to_vec()))),
            user: Some(("me".to_owned(), Zeroizing::new("hidden".to_owned()))),
        };
        let orders = Orders { endpoints: vec![endpoint.clone()], credentials, identity: (1001, 1002) };
        let bytes = orders.encode();
        let read = Orders::decode(&bytes).unwrap();
        assert_eq!((read.endpoints, read.identity), (vec![endpoint], (1001, 1002)));
        assert_eq!(read.credentials.own.unwrap().1.as_slice(), b"private");
        assert_eq!(read.credentials.user.unwrap().1.as_str(), "hidden");
        let shown = format!("{orders:?}");
        assert!(!shown.contains("hidden") && !shown.contains("112, 114, 105"), "{shown}");
        for end in 0..bytes.len() {
            assert!(Orders::decode(&bytes[..end]).is_none());
        }
    }
}
