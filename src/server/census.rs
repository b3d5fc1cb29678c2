//! How many connections there are, and from where.
//!
//! Owns [`Census`] and [`Ticket`]. Invariants: a ticket is one connection, given back when it ends; the counts of all
//! workers are one count; the table holds no more addresses than there may be connections.

use core::sync::atomic::{AtomicUsize, Ordering};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

/// The connections of the whole process.
#[derive(Debug)]
pub(super) struct Census {
    most: usize,
    most_per_address: usize,
    all: AtomicUsize,
    by_address: Mutex<HashMap<IpAddr, usize>>,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Ticket {
    census: Arc<Census>,
    address: IpAddr,
}

impl Census {
    pub(super) fn new(most: usize, most_per_address: Option<usize>) -> Arc<Self> {
        let by_address = Mutex::new(HashMap::with_capacity(most));
        let most_per_address = most_per_address.unwrap_or(usize::MAX);
        Arc::new(Self { most, most_per_address, all: AtomicUsize::new(0), by_address })
    }

    /// Whether one more connection may be accepted.
    pub(super) fn has_place(&self) -> bool {
        self.all.load(Ordering::Relaxed) < self.most
    }

    /// Counts a connection of `peer`, unless its address has too many.
    pub(super) fn admit(self: &Arc<Self>, peer: IpAddr) -> Option<Ticket> {
        let address = network_of(peer);
        let mut by_address = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        let count = by_address.entry(address).or_insert(0);
        if *count >= self.most_per_address {
            return None;
        }
        *count += 1;
        drop(by_address);
        self.all.fetch_add(1, Ordering::Relaxed);
        Some(Ticket { census: Arc::clone(self), address })
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut by_address = self.census.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                by_address.remove(&self.address);
            }
        }
        drop(by_address);
        self.census.all.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What counts as one client: an IPv4 address, or the /64 that an IPv6 host may choose its addresses from.
fn network_of(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_address_cannot_take_every_place() {
        let census = Census::new(10, Some(2));
        let first = census.admit(address("192.0.2.1"));
        let second = census.admit(address("::ffff:192.0.2.1"));
        assert!(first.is_some() && second.is_some());
        assert!(census.admit(address("192.0.2.1")).is_none(), "mapped and plain form are one client");
        assert!(census.admit(address("192.0.2.2")).is_some());
        drop(first);
        assert!(census.admit(address("192.0.2.1")).is_some());
    }

    #[test]
    fn an_ipv6_client_is_its_network() {
        let census = Census::new(10, Some(1));
        let _held = census.admit(address("2001:db8:0:1::1")).unwrap();
        assert!(census.admit(address("2001:db8:0:1:ffff::9")).is_none());
        assert!(census.admit(address("2001:db8:0:2::1")).is_some());
    }

    #[test]
    fn places_come_back_and_leave_no_entry() {
        let census = Census::new(1, None);
        let ticket = census.admit(address("192.0.2.1")).unwrap();
        assert!(!census.has_place());
        drop(ticket);
        assert!(census.has_place());
        assert!(census.by_address.lock().unwrap().is_empty());
    }
}
