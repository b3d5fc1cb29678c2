//! Where etcd is, and how it is reached.
//!
//! Owns [`StorePlace`], the reading of `--store`, and [`Access`]. Invariants: nothing of a URL can end a request line or a field; a
//! password is never part of a URL, an error or a debug text; names are looked up once.

use core::fmt;
use std::net::{Ipv6Addr, SocketAddr, ToSocketAddrs as _};

use zeroize::Zeroizing;

use crate::limits::ETCD_ENDPOINTS_MAX_COUNT;
use crate::store::etcd::layout::Layout;

/// The port of etcd for its clients.
const USUAL_PORT: u16 = 2379;

/// A store in etcd, as `--store` names it: `etcd://HOST:PORT[,HOST:PORT...]/PREFIX`, or `etcds://` with TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorePlace {
    text: String,
    /// Whether TLS is spoken.
    pub secure: bool,
    /// Names or addresses, without brackets, and ports.
    pub hosts: Vec<(String, u16)>,
    /// The keys.
    pub layout: Layout,
}

impl StorePlace {
    /// Reads a URL; nothing if it is not of that form.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (secure, rest) = match text.strip_prefix("etcds://") {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix("etcd://")?),
        };
        let (hosts, prefix) = rest.split_once('/')?;
        let hosts: Vec<(String, u16)> = hosts.split(',').map(host_and_port).collect::<Option<_>>()?;
        if hosts.len() > ETCD_ENDPOINTS_MAX_COUNT {
            return None;
        }
        Some(Self { text: text.to_owned(), secure, hosts, layout: Layout::new(prefix)? })
    }

    /// Whether `text` is meant to name etcd.
    #[must_use]
    pub fn is_meant(text: &str) -> bool {
        text.starts_with("etcd://") || text.starts_with("etcds://")
    }

    /// The URL.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Looks all names up.
    ///
    /// # Errors
    /// Which name has no address.
    pub fn resolve(&self) -> Result<Vec<Endpoint>, String> {
        let mut endpoints = Vec::with_capacity(self.hosts.len());
        for (host, port) in &self.hosts {
            let found = (host.as_str(), *port).to_socket_addrs();
            let found = found.map_err(|error| format!("{host}: {error}"))?;
            let before = endpoints.len();
            // Each of a name is another way to try.
            let of = found.map(|address| Endpoint { host: host.clone(), address });
            endpoints.extend(of.take(ETCD_ENDPOINTS_MAX_COUNT));
            if endpoints.len() == before {
                return Err(format!("{host} has no address"));
            }
        }
        Ok(endpoints)
    }
}

/// One address of etcd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The name that its certificate has to have.
    pub host: String,
    /// Where it is.
    pub address: SocketAddr,
}

/// How etcd is reached.
#[derive(Clone)]
pub struct Access {
    /// Where; at least one.
    pub endpoints: Vec<Endpoint>,
    /// Who is trusted and what this side shows; none: no TLS.
    #[cfg(feature = "tls")]
    pub tls: Option<std::sync::Arc<crate::tls::client::Outgoing>>,
    /// Name and password; none: none is asked for.
    pub user: Option<(String, Zeroizing<String>)>,
}

/// What it takes to be let in, as it stands in files.
#[derive(Default)]
pub struct Credentials {
    /// The authorities of etcd's certificate, in PEM; none: no TLS.
    pub authorities: Option<Vec<u8>>,
    /// What this side shows: certificate and key, in PEM.
    pub own: Option<(Vec<u8>, Zeroizing<Vec<u8>>)>,
    /// Name and password.
    pub user: Option<(String, Zeroizing<String>)>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(redacted)")
    }
}

impl Access {
    /// Access to `endpoints` with `credentials`.
    ///
    /// # Errors
    /// What is wrong with a certificate or a key; TLS, in a build without it.
    pub fn new(endpoints: Vec<Endpoint>, credentials: &Credentials) -> Result<Self, String> {
        let user = credentials.user.clone();
        #[cfg(feature = "tls")]
        {
            let shown = |error: crate::tls::TlsError| error.to_string();
            let mut tls = None;
            if let Some(authorities) = &credentials.authorities {
                let authorities = crate::tls::material::Authorities::read(authorities).map_err(shown)?;
                let trust = crate::tls::client::Trust::Authorities(authorities);
                let read = |(chain, key): &(Vec<u8>, Zeroizing<Vec<u8>>)| {
                    crate::tls::Material::read(chain, key, None)
                };
                let own = credentials.own.as_ref().map(read).transpose().map_err(shown)?;
                let outgoing = crate::tls::client::Outgoing::new(&trust, own.as_ref()).map_err(shown)?;
                tls = Some(std::sync::Arc::new(outgoing));
            }
            Ok(Self { endpoints, tls, user })
        }
        #[cfg(not(feature = "tls"))]
        {
            if credentials.authorities.is_some() {
                return Err("this build has no TLS: use etcd:// on a network that is trusted".to_owned());
            }
            Ok(Self { endpoints, user })
        }
    }

    /// Plain access without a password.
    #[must_use]
    pub const fn plain(endpoints: Vec<Endpoint>) -> Self {
        Self {
            endpoints,
            #[cfg(feature = "tls")]
            tls: None,
            user: None,
        }
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").field("endpoints", &self.endpoints).finish_non_exhaustive()
    }
}

fn host_and_port(text: &str) -> Option<(String, u16)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            host.parse::<Ipv6Addr>().ok()?;
            (host, port)
        }
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-:".contains(&byte);
    let port = match port.strip_prefix(':') {
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().ok()?,
        None if port.is_empty() => USUAL_PORT,
        _ => return None,
    };
    (!host.is_empty() && host.bytes().all(plain) && port != 0).then(|| (host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_endpoints_and_a_prefix() {
        let place = StorePlace::parse("etcds://a.example,10.0.0.1:2390,[::1]:2391/quantonium/prod").unwrap();
        assert!(place.secure);
        let hosts = [("a.example", 2379), ("10.0.0.1", 2390), ("::1", 2391)];
        assert_eq!(place.hosts, hosts.map(|(host, port)| (host.to_owned(), port)));
        assert_eq!(place.layout, Layout::new("quantonium/prod").unwrap());
        assert!(!StorePlace::parse("etcd://a/q").unwrap().secure);
    }

    #[test]
    fn what_is_no_such_url_is_refused() {
        for text in [
            "etcd://",
            "etcd:///q",
            "etcd://a",
            "etcd://a/",
            "etcd://a:0/q",
            "etcd://a:70000/q",
            "etcd://a:b/q",
            "etcd://u:p@a/q",
            "etcd://a b/q",
            "etcd://a,/q",
            "etcd://[a]/q",
            "http://a/q",
            "etcd://a/q?x",
            "etcd://a/q\r\n",
        ] {
            assert!(StorePlace::parse(text).is_none(), "{text}");
        }
    }
}
