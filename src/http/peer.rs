//! The other end of a connection.
//!
//! Owns [`Peer`] and [`Way`]. Invariant: what stands here the transport has proven; nothing comes from a request.

use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;

use crate::model::Identities;

/// How the bytes of a connection come here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Way {
    /// In the clear.
    #[default]
    Plain,
    /// Through TLS.
    Secure,
    /// From a process of this machine, by a name in the file system.
    Local,
    /// In the clear, to be told where TLS is spoken.
    Redirect,
}

/// The other end of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its address; that of a local process is the loopback address.
    pub address: IpAddr,
    /// How its bytes come.
    pub way: Way,
    /// Whom the transport proves it to be.
    pub identities: Option<Rc<Identities>>,
}

impl Peer {
    /// Somebody at this address, or of this machine, of whom nothing else is known.
    #[must_use]
    pub fn new(address: Option<IpAddr>, way: Way) -> Self {
        Self { address: address.unwrap_or(Ipv4Addr::LOCALHOST.into()), way, identities: None }
    }
}
