//! How many connections there are, and from where.
//!
//! Owns [`Census`] and [`Ticket`]. Invariants: a ticket is one connection, given back when it ends; the counts of all
//! workers are one count, never above its bound; a connection that begins with a handshake counts as being in it until
//! it is established or ends; the table holds no more addresses than there may be connections.

use core::sync::atomic::{AtomicUsize, Ordering};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::http::connection::Place;
use crate::network::client_of;

/// How many there may be at a time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) connections: usize,
    /// Nothing: as many as there may be at all.
    pub(super) connections_per_address: Option<usize>,
    pub(super) handshakes: usize,
    /// Nothing: as many as there may be at all.
    pub(super) handshakes_per_address: Option<usize>,
}

/// Why a connection gets no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// All are taken.
    Full,
    /// Its address has as many connections as it may have.
    Address,
    /// There are as many handshakes as there may be.
    Handshakes,
    /// Its address has as many handshakes as it may have.
    AddressHandshakes,
}

/// The connections of the whole process.
#[derive(Debug)]
pub(super) struct Census {
    bounds: Bounds,
    all: AtomicUsize,
    handshakes: AtomicUsize,
    by_address: Mutex<HashMap<IpAddr, Counts>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    connections: usize,
    handshakes: usize,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Ticket {
    census: Arc<Census>,
    /// Under which it is counted; nothing if it comes from a proxy, behind which many may stand.
    address: Option<IpAddr>,
    /// Whether it is in its handshake.
    in_handshake: bool,
}

impl Census {
    pub(super) fn new(bounds: Bounds) -> Arc<Self> {
        let by_address = Mutex::new(HashMap::with_capacity(bounds.connections));
        Arc::new(Self { bounds, all: AtomicUsize::new(0), handshakes: AtomicUsize::new(0), by_address })
    }

    /// How many connections there may be.
    pub(super) fn places(&self) -> usize {
        self.bounds.connections
    }

    /// How many connections there are.
    pub(super) fn connections(&self) -> usize {
        self.all.load(Ordering::Relaxed)
    }

    /// How many of them are in their handshake.
    pub(super) fn handshakes(&self) -> usize {
        self.handshakes.load(Ordering::Relaxed)
    }

    /// Whether one more connection may be accepted.
    pub(super) fn has_place(&self) -> bool {
        self.all.load(Ordering::Relaxed) < self.bounds.connections
    }

    /// Counts a connection of `peer`, which perhaps begins with a handshake. A trusted proxy may have any number.
    pub(super) fn admit(
        self: &Arc<Self>,
        peer: IpAddr,
        is_proxy: bool,
        handshake: bool,
    ) -> Result<Ticket, Refused> {
        if !take(&self.all, self.bounds.connections) {
            return Err(Refused::Full);
        }
        if handshake && !take(&self.handshakes, self.bounds.handshakes) {
            self.all.fetch_sub(1, Ordering::Relaxed);
            return Err(Refused::Handshakes);
        }
        let mut ticket = Ticket { census: Arc::clone(self), address: None, in_handshake: handshake };
        if !is_proxy {
            let address = client_of(peer);
            // What was counted of the whole is given back by the ticket.
            self.admit_address(address, handshake)?;
            ticket.address = Some(address);
        }
        Ok(ticket)
    }

    /// Whether a handshake of `peer` would get a place if another one gave way, and not without.
    pub(super) fn lacks_handshake(&self, peer: IpAddr, is_proxy: bool) -> bool {
        if self.handshakes.load(Ordering::Relaxed) < self.bounds.handshakes {
            return false;
        }
        let by_address = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        let own = by_address.get(&client_of(peer)).copied().unwrap_or_default();
        let below = |count: usize, most: Option<usize>| most.is_none_or(|most| count < most);
        is_proxy
            || below(own.handshakes, self.bounds.handshakes_per_address)
                && below(own.connections, self.bounds.connections_per_address)
    }

    fn admit_address(&self, address: IpAddr, handshake: bool) -> Result<(), Refused> {
        let mut by_address = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = by_address.get(&address).copied().unwrap_or_default();
        let reached = |count: usize, most: Option<usize>| most.is_some_and(|most| count >= most);
        if reached(counts.connections, self.bounds.connections_per_address) {
            return Err(Refused::Address);
        }
        if handshake && reached(counts.handshakes, self.bounds.handshakes_per_address) {
            return Err(Refused::AddressHandshakes);
        }
        let handshakes = counts.handshakes + usize::from(handshake);
        by_address.insert(address, Counts { connections: counts.connections + 1, handshakes });
        Ok(())
    }

    fn change(&self, address: IpAddr, change: impl FnOnce(&mut Counts)) {
        let mut by_address = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(counts) = by_address.get_mut(&address) {
            change(counts);
            if counts.connections == 0 {
                by_address.remove(&address);
            }
        }
    }
}

fn take(count: &AtomicUsize, most: usize) -> bool {
    count
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| (count < most).then_some(count + 1))
        .is_ok()
}

impl Place for Ticket {
    fn established(&mut self) {
        if !core::mem::take(&mut self.in_handshake) {
            return;
        }
        self.census.handshakes.fetch_sub(1, Ordering::Relaxed);
        if let Some(address) = self.address {
            self.census.change(address, |counts| counts.handshakes -= 1);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.established();
        if let Some(address) = self.address {
            self.census.change(address, |counts| counts.connections -= 1);
        }
        self.census.all.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn census(connections: usize, connections_per_address: Option<usize>) -> Arc<Census> {
        Census::new(Bounds {
            connections,
            connections_per_address,
            handshakes: 3,
            handshakes_per_address: Some(2),
        })
    }

    #[test]
    fn one_address_cannot_take_every_place() {
        let census = census(10, Some(2));
        let first = census.admit(address("192.0.2.1"), false, false);
        let second = census.admit(address("::ffff:192.0.2.1"), false, false);
        assert!(first.is_ok() && second.is_ok());
        let third = census.admit(address("192.0.2.1"), false, false);
        assert_eq!(third.err(), Some(Refused::Address), "mapped and plain form are one client");
        assert!(census.admit(address("192.0.2.2"), false, false).is_ok());
        drop(first);
        assert!(census.admit(address("192.0.2.1"), false, false).is_ok());
    }

    #[test]
    fn an_ipv6_client_is_its_network() {
        let census = census(10, Some(1));
        let _held = census.admit(address("2001:db8:0:1::1"), false, false).unwrap();
        assert!(census.admit(address("2001:db8:0:1:ffff::9"), false, false).is_err());
        assert!(census.admit(address("2001:db8:0:2::1"), false, false).is_ok());
    }

    #[test]
    fn a_proxy_is_bounded_by_all_places_alone() {
        let census = census(3, Some(1));
        let held: Vec<_> = (0..3).map(|_| census.admit(address("10.0.0.1"), true, true)).collect();
        assert!(held.iter().all(Result::is_ok) && !census.has_place());
        assert_eq!(census.admit(address("10.0.0.1"), true, true).err(), Some(Refused::Full));
        assert!(census.by_address.lock().unwrap().is_empty());
        drop(held);
        assert!(census.has_place());
        assert!(census.admit(address("10.0.0.1"), false, false).is_ok());
    }

    #[test]
    fn places_come_back_and_leave_no_entry() {
        let census = census(1, None);
        let ticket = census.admit(address("192.0.2.1"), false, true).unwrap();
        assert!(!census.has_place());
        assert_eq!(census.admit(address("192.0.2.1"), false, true).err(), Some(Refused::Full));
        drop(ticket);
        assert!(census.has_place());
        assert!(census.by_address.lock().unwrap().is_empty());
        assert_eq!(census.handshakes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn handshakes_are_bounded_apart_until_they_are_over() {
        let census = census(10, Some(5));
        let admit = |text: &str| census.admit(address(text), false, true);
        let (mut first, second) = (admit("192.0.2.1").unwrap(), admit("192.0.2.1").unwrap());
        assert_eq!(admit("192.0.2.1").err(), Some(Refused::AddressHandshakes));
        let third = admit("192.0.2.2").unwrap();
        assert_eq!(admit("192.0.2.3").err(), Some(Refused::Handshakes), "whoever it is");
        assert!(
            census.admit(address("192.0.2.3"), false, false).is_ok(),
            "nothing stands in the way of others"
        );
        assert!(census.lacks_handshake(address("192.0.2.3"), false), "it would have one if another gave way");
        assert!(!census.lacks_handshake(address("192.0.2.1"), false), "it has as many as it may have");
        assert!(census.lacks_handshake(address("192.0.2.1"), true), "which does not bind a proxy");
        first.established();
        first.established();
        assert!(!census.lacks_handshake(address("192.0.2.3"), false), "there is one");
        let fourth = admit("192.0.2.1").unwrap();
        assert_eq!(admit("192.0.2.3").err(), Some(Refused::Handshakes));
        drop((second, third));
        assert!(admit("192.0.2.3").is_ok(), "a handshake that was broken off is over too");
        drop((first, fourth));
        assert_eq!(census.handshakes.load(Ordering::Relaxed), 0);
        assert_eq!(census.all.load(Ordering::Relaxed), 0);
        assert!(census.by_address.lock().unwrap().is_empty(), "what was refused left nothing");
    }
}
