//! Where to listen.
//!
//! Owns [`Endpoint`] and its text form. Invariant: a path of a Unix socket is one that the system can bind.

use core::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::limits::UNIX_PATH_MAX_BYTES;

/// What is spoken at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// HTTP in the clear.
    Http,
    /// HTTP through TLS.
    Https,
    /// HTTP in the clear, answered with where it is spoken through TLS.
    Redirect,
}

/// A place to listen at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// An address and port.
    Tcp(SocketAddr, Scheme),
    /// A name in the file system, where HTTP is spoken in the clear.
    Unix(PathBuf),
}

impl Endpoint {
    /// The endpoint of this text: `ADDR:PORT`, of which `usual` says what is spoken there, `http://ADDR:PORT`,
    /// `https://ADDR:PORT` or `unix:/PATH`.
    #[must_use]
    pub fn parse(text: &str, usual: Scheme) -> Option<Self> {
        if let Some(path) = text.strip_prefix("unix:") {
            let fits = path.len() <= UNIX_PATH_MAX_BYTES && !path.contains('\0');
            return (fits && Path::new(path).is_absolute()).then(|| Self::Unix(path.into()));
        }
        let (rest, scheme) = match text.split_once("://") {
            Some(("http", rest)) => (rest, Scheme::Http),
            Some(("https", rest)) => (rest, Scheme::Https),
            Some(_) => return None,
            None => (text, usual),
        };
        Some(Self::Tcp(rest.parse().ok()?, scheme))
    }

    /// Its address, if it has one.
    #[must_use]
    pub const fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address, _) => Some(*address),
            Self::Unix(_) => None,
        }
    }

    /// Whether two of them cannot be listened at. Port 0 is another one each time.
    pub(super) fn clashes(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Tcp(one, _), Self::Tcp(two, _)) => one.port() != 0 && one == two,
            _ => self == other,
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address, Scheme::Http | Scheme::Redirect) => write!(f, "http://{address}"),
            Self::Tcp(address, Scheme::Https) => write!(f, "https://{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_an_address_with_or_without_a_scheme_or_a_path() {
        let shown = |text| Endpoint::parse(text, Scheme::Https).map(|endpoint| endpoint.to_string());
        assert_eq!(shown("127.0.0.1:8443").as_deref(), Some("https://127.0.0.1:8443"));
        assert_eq!(shown("http://[::1]:80").as_deref(), Some("http://[::1]:80"));
        assert_eq!(shown("https://[::]:443").as_deref(), Some("https://[::]:443"));
        assert_eq!(shown("unix:/run/q.sock").as_deref(), Some("unix:/run/q.sock"));
        let long = format!("unix:/{}", "x".repeat(UNIX_PATH_MAX_BYTES));
        for text in
            ["", "unix:", "unix:q.sock", &long, "ftp://127.0.0.1:1", "127.0.0.1", "localhost:80", "http://"]
        {
            assert_eq!(shown(text), None, "{text}");
        }
    }

    #[test]
    fn the_same_address_twice_clashes_whatever_is_spoken_there() {
        let endpoint = |text| Endpoint::parse(text, Scheme::Http).unwrap();
        assert!(endpoint("127.0.0.1:1").clashes(&endpoint("https://127.0.0.1:1")));
        assert!(!endpoint("127.0.0.1:0").clashes(&endpoint("127.0.0.1:0")));
        assert!(endpoint("unix:/a").clashes(&endpoint("unix:/a")));
    }
}
