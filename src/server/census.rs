//! How many connections there are, and from where.
//!
//! Owns [`Census`] and [`Ticket`]. Invariants: a ticket is one connection, given back when it ends; the counts of all
//! workers are one count; the table holds no more addresses than there may be connections.

use core::sync::atomic::{AtomicUsize, Ordering};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::http::connection::Place;
use crate::network::client_of;

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
    /// Under which it is counted; nothing if it comes from a proxy, behind which many may stand.
    address: Option<IpAddr>,
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

    /// Counts a connection of `peer`, unless its address has too many. A trusted proxy may have any number.
    pub(super) fn admit(self: &Arc<Self>, peer: IpAddr, is_proxy: bool) -> Option<Ticket> {
        let address = (!is_proxy).then(|| client_of(peer));
        if let Some(address) = address {
            let mut by_address = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
            let count = by_address.entry(address).or_insert(0);
            if *count >= self.most_per_address {
                return None;
            }
            *count += 1;
        }
        self.all.fetch_add(1, Ordering::Relaxed);
        Some(Ticket { census: Arc::clone(self), address })
    }
}

impl Place for Ticket {}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(address) = &self.address {
            let mut by_address = self.census.by_address.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(count) = by_address.get_mut(address) {
                *count -= 1;
                if *count == 0 {
                    by_address.remove(address);
                }
            }
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

    #[test]
    fn one_address_cannot_take_every_place() {
        let census = Census::new(10, Some(2));
        let first = census.admit(address("192.0.2.1"), false);
        let second = census.admit(address("::ffff:192.0.2.1"), false);
        assert!(first.is_some() && second.is_some());
        assert!(census.admit(address("192.0.2.1"), false).is_none(), "mapped and plain form are one client");
        assert!(census.admit(address("192.0.2.2"), false).is_some());
        drop(first);
        assert!(census.admit(address("192.0.2.1"), false).is_some());
    }

    #[test]
    fn an_ipv6_client_is_its_network() {
        let census = Census::new(10, Some(1));
        let _held = census.admit(address("2001:db8:0:1::1"), false).unwrap();
        assert!(census.admit(address("2001:db8:0:1:ffff::9"), false).is_none());
        assert!(census.admit(address("2001:db8:0:2::1"), false).is_some());
    }

    #[test]
    fn a_proxy_is_bounded_by_all_places_alone() {
        let census = Census::new(3, Some(1));
        let held: Vec<_> = (0..3).map(|_| census.admit(address("10.0.0.1"), true)).collect();
        assert!(held.iter().all(Option::is_some) && !census.has_place());
        assert!(census.by_address.lock().unwrap().is_empty());
        drop(held);
        assert!(census.has_place());
        assert!(census.admit(address("10.0.0.1"), false).is_some());
    }

    #[test]
    fn places_come_back_and_leave_no_entry() {
        let census = Census::new(1, None);
        let ticket = census.admit(address("192.0.2.1"), false).unwrap();
        assert!(!census.has_place());
        drop(ticket);
        assert!(census.has_place());
        assert!(census.by_address.lock().unwrap().is_empty());
    }
}
