//! Networks of addresses in CIDR notation (RFC 4632, RFC 4291 section 2.3), and what counts as one client.
//!
//! Owns [`Network`]. Invariants: a network has no bits set behind its prefix, so that one network has one text; IPv4
//! addresses written inside IPv6 (`::ffff:192.0.2.1`) are taken for what they stand for, on both sides of a comparison.

use core::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// Bits in front of an IPv4 address that is written inside IPv6.
const MAPPED_BITS: u8 = 96;
/// Bits of an IPv6 address that a client may not choose: hosts get a /64.
const CLIENT_BITS: u8 = 64;

/// A network of one address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// Canonical, and zero behind the prefix.
    base: IpAddr,
    prefix: u8,
}

/// Why a text is no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkError {
    /// It does not begin with an address.
    Address,
    /// Behind the `/` stands no length that the address family has.
    Prefix,
    /// The address has bits set behind the prefix: another network may have been meant, or one host.
    HostBits,
}

impl Network {
    /// The network of this text: `192.0.2.0/24`, `2001:db8::/32`, or a bare address, which is a network of its own.
    ///
    /// # Errors
    /// [`NetworkError`].
    pub fn parse(text: &str) -> Result<Self, NetworkError> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(front, end)| (front, Some(end)));
        let written: IpAddr = address.parse().map_err(|_| NetworkError::Address)?;
        let base = written.to_canonical();
        let prefix = match prefix {
            Some(digits) => length(digits).ok_or(NetworkError::Prefix)?,
            None => bits_of(&written),
        };
        let inside = if base == written { 0 } else { MAPPED_BITS };
        let prefix = prefix.checked_sub(inside).filter(|prefix| *prefix <= bits_of(&base));
        let network = Self { base, prefix: prefix.ok_or(NetworkError::Prefix)? };
        if network.cut(base) == Some(base) { Ok(network) } else { Err(NetworkError::HostBits) }
    }

    /// Whether `address` lies inside.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.cut(address.to_canonical()) == Some(self.base)
    }

    /// Whether every address of this network lies inside `other`.
    #[must_use]
    pub fn within(&self, other: &Self) -> bool {
        other.prefix <= self.prefix && other.contains(self.base)
    }

    /// The address without its bits behind the prefix; nothing if it is of the other family.
    fn cut(&self, address: IpAddr) -> Option<IpAddr> {
        match (self.base, address) {
            (IpAddr::V4(_), IpAddr::V4(address)) => {
                let mask = u32::MAX.checked_shl(u32::from(32 - self.prefix)).unwrap_or(0);
                Some(IpAddr::V4((address.to_bits() & mask).into()))
            }
            (IpAddr::V6(_), IpAddr::V6(address)) => {
                let mask = u128::MAX.checked_shl(u32::from(128 - self.prefix)).unwrap_or(0);
                Some(IpAddr::V6((address.to_bits() & mask).into()))
            }
            _ => None,
        }
    }
}

impl fmt::Display for Network {
    /// Always with its prefix: `192.0.2.1/32`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

impl fmt::Display for NetworkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Address => "is not a network, like 192.0.2.0/24 or 2001:db8::/32",
            Self::Prefix => "has no prefix length of its address family behind the /",
            Self::HostBits => {
                "has bits set behind its prefix: give the network's first address, or no prefix"
            }
        })
    }
}

impl core::error::Error for NetworkError {}

/// What counts as one client: an IPv4 address, or the /64 that an IPv6 host may choose its addresses from.
#[must_use]
pub fn client_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            Ipv6Addr::from_bits(address.to_bits() & u128::MAX << (128 - CLIENT_BITS)).into()
        }
    }
}

/// A length in decimal, in its one form.
fn length(digits: &str) -> Option<u8> {
    let plain =
        digits.bytes().all(|byte| byte.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
    plain.then(|| digits.parse().ok()).flatten()
}

const fn bits_of(address: &IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        Network::parse(text).unwrap()
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_network_has_one_text() {
        for (text, shown) in [
            ("192.0.2.0/24", "192.0.2.0/24"),
            ("192.0.2.7", "192.0.2.7/32"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("2001:DB8::/32", "2001:db8::/32"),
            ("::1", "::1/128"),
            ("::/0", "::/0"),
            ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
            ("::ffff:192.0.2.7", "192.0.2.7/32"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
        ] {
            assert_eq!(network(text).to_string(), shown);
            assert_eq!(network(shown), network(text), "{shown}");
        }
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in
            ["", "/", "/8", "10", "10.0.0/8", "a.example/8", "10.0.0.0 /8", "fe80::1%1/64", "[::1]/128"]
        {
            assert_eq!(Network::parse(text), Err(NetworkError::Address), "{text:?}");
        }
        for text in [
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.0/+8",
            "10.0.0.0/08",
            "10.0.0.0/8/8",
            "::/129",
            "::/256",
            "::/-1",
        ] {
            assert_eq!(Network::parse(text), Err(NetworkError::Prefix), "{text:?}");
        }
        assert_eq!(Network::parse("::ffff:10.0.0.0/95"), Err(NetworkError::Prefix), "more than all of IPv4");
        for text in ["10.0.0.1/8", "10.0.0.1/31", "128.0.0.0/0", "2001:db8::1/64", "8000::/0", "::1/127"] {
            assert_eq!(Network::parse(text), Err(NetworkError::HostBits), "{text:?}");
        }
    }

    #[test]
    fn addresses_are_inside_or_not() {
        for (text, inside, outside) in [
            ("192.0.2.0/24", "192.0.2.255", "192.0.3.0"),
            ("192.0.2.0/31", "::ffff:192.0.2.1", "::ffff:192.0.2.2"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.6"),
            ("0.0.0.0/0", "255.255.255.255", "2001:db8::1"),
            ("::/0", "ffff::1", "0.0.0.0"),
            ("::/0", "2001:db8::1", "::ffff:192.0.2.1"),
            ("2001:db8::/33", "2001:db8:7fff::1", "2001:db8:8000::"),
            ("::1", "::1", "::2"),
        ] {
            assert!(network(text).contains(address(inside)), "{inside} in {text}");
            assert!(!network(text).contains(address(outside)), "{outside} in {text}");
        }
    }

    #[test]
    fn a_network_lies_within_another() {
        for (inner, outer, is) in [
            ("10.1.0.0/16", "10.0.0.0/8", true),
            ("10.0.0.0/8", "10.0.0.0/8", true),
            ("10.0.0.0/8", "10.1.0.0/16", false),
            ("10.0.0.0/8", "0.0.0.0/0", true),
            ("11.0.0.0/16", "10.0.0.0/8", false),
            ("10.0.0.0/8", "::/0", false),
            ("::ffff:10.0.0.1", "10.0.0.0/8", true),
            ("2001:db8:1::/48", "2001:db8::/32", true),
        ] {
            assert_eq!(network(inner).within(&network(outer)), is, "{inner} within {outer}");
        }
    }

    #[test]
    fn a_client_is_an_ipv4_address_or_an_ipv6_network() {
        for (one, client) in [
            ("192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ] {
            assert_eq!(client_of(address(one)), address(client));
        }
    }
}
