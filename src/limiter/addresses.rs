//! A bucket for each client address, in memory of one size.
//!
//! Owns [`Addresses`]: a table of sets, each with room for a few addresses. An address belongs to one set; where that has
//! no room, the address with the fullest bucket gives way, which loses least: a full bucket and an unknown address are the
//! same. Invariants: the table never grows, whoever asks; an IPv6 client is its /64 and an IPv4 address is itself, however
//! it is written ([`client_of`]); which set an address belongs to, and by which mark it is known in it, is a keyed hash
//! (SipHash-2-4) under a key that is random for each start: without it nobody can pick addresses that push another out of
//! its set, or that are taken for one another. All workers share one table; a set is changed under the lock of its shard.

use core::fmt;
use core::hash::Hasher;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use super::bucket::{Decision, decision, taken};
use crate::clock::Moment;
use crate::limits::{ADDRESSES_LIMITED_MAX_COUNT, ADDRESSES_PER_SET_COUNT, ADDRESSES_SHARDS_COUNT};
use crate::network::client_of;
use crate::quota::Rate;

/// The name of this limit in replies.
const POLICY: &str = "address";
const SETS_PER_SHARD: usize = ADDRESSES_LIMITED_MAX_COUNT / ADDRESSES_PER_SET_COUNT / ADDRESSES_SHARDS_COUNT;

/// An address's mark, which is never zero, and the level of its bucket. What is zero is free, and gives way first.
type Entry = [u64; 2];
type Set = [Entry; ADDRESSES_PER_SET_COUNT];

/// The buckets of all addresses.
pub struct Addresses {
    rate: Rate,
    key: [u64; 2],
    shards: Vec<Mutex<&'static mut [Set]>>,
}

impl Addresses {
    /// A table of full buckets; `key` is random and told to nobody.
    ///
    /// Its memory is asked for at once, as pages of zeros that cost nothing until they are used, and kept to the end of the
    /// process.
    #[must_use]
    pub fn new(rate: Rate, key: [u64; 2]) -> Self {
        let sets = vec![[[0; 2]; ADDRESSES_PER_SET_COUNT]; SETS_PER_SHARD * ADDRESSES_SHARDS_COUNT];
        let shards = sets.leak().chunks_mut(SETS_PER_SHARD).map(Mutex::new).collect();
        Self { rate, key, shards }
    }

    /// Takes `cost` tokens of the bucket of the client at `address`, if so many are there.
    #[must_use]
    pub fn take(&self, address: IpAddr, now: Moment, cost: u32) -> Decision {
        let mark = self.mark(address);
        let (shard, set) = place(mark);
        let shard = self.shards.get(shard);
        let mut sets = shard.map(|sets| sets.lock().unwrap_or_else(PoisonError::into_inner));
        let set = sets.as_mut().and_then(|sets| sets.get_mut(set));
        // The places are remainders of the lengths: there is always a set, and in it an entry.
        let mut unknown = [mark, 0];
        let [known, level] = set.and_then(|set| find(set, mark)).unwrap_or(&mut unknown);
        if *known != mark {
            [*known, *level] = [mark, 0];
        }
        let wait = match taken(self.rate, *level, now, cost) {
            Ok(next) => {
                *level = next;
                0
            }
            Err(wait) => wait,
        };
        decision(self.rate, POLICY, *level, now, wait)
    }

    #[expect(
        deprecated,
        reason = "the one keyed hash that the library offers; it is stable, and never to be removed"
    )]
    fn mark(&self, address: IpAddr) -> u64 {
        let [first, second] = self.key;
        let mut hasher = core::hash::SipHasher::new_with_keys(first, second);
        // Inputs of the two families differ in length, which is part of what is hashed.
        match client_of(address) {
            IpAddr::V4(address) => hasher.write(&address.octets()),
            IpAddr::V6(address) => hasher.write(&address.octets()),
        }
        hasher.finish().max(1)
    }
}

impl fmt::Debug for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Addresses").field("rate", &self.rate).finish_non_exhaustive()
    }
}

/// Shard and set of a mark.
fn place(mark: u64) -> (usize, usize) {
    let shards = ADDRESSES_SHARDS_COUNT as u64;
    let narrow = |number: u64| usize::try_from(number).unwrap_or(0);
    (narrow(mark % shards), narrow(mark / shards % SETS_PER_SHARD as u64))
}

/// The entry of this mark, or the one that gives way to it.
fn find(set: &mut Set, mark: u64) -> Option<&mut Entry> {
    if let Some(at) = set.iter().position(|[known, _]| *known == mark) {
        return set.get_mut(at);
    }
    set.iter_mut().min_by_key(|[_, level]| *level)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const KEY: [u64; 2] = [0x0706_0504_0302_0100, 0x0F0E_0D0C_0B0A_0908];

    fn table(per_second: u32, burst: u32) -> Addresses {
        Addresses::new(Rate::new(per_second, burst).unwrap(), KEY)
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn v4(bits: u32) -> IpAddr {
        Ipv4Addr::from_bits(bits).into()
    }

    fn at(millis: u64) -> Moment {
        Moment::from_nanos(millis * 1_000_000)
    }

    /// How many addresses the table knows, and how many bytes it has.
    fn size(table: &Addresses) -> (usize, usize) {
        let mut size = (0, 0);
        for shard in &table.shards {
            let sets = shard.lock().unwrap();
            size.0 += sets.iter().flatten().filter(|[mark, _]| *mark != 0).count();
            size.1 += size_of_val::<[Set]>(&sets);
        }
        size
    }

    #[test]
    #[expect(deprecated, reason = "as above")]
    fn the_hash_is_siphash_2_4_under_the_key() {
        // The example of the algorithm's authors (Aumasson and Bernstein, appendix A): bytes 0 to 14, key 0 to 15.
        let mut hasher = core::hash::SipHasher::new_with_keys(KEY[0], KEY[1]);
        hasher.write(&core::array::from_fn::<u8, 15, _>(|byte| u8::try_from(byte).unwrap()));
        assert_eq!(hasher.finish(), 0xA129_CA61_49BE_45E5);
        let rate = Rate::new(1, 1).unwrap();
        assert_ne!(Addresses::new(rate, KEY).mark(v4(1)), Addresses::new(rate, [KEY[0], 0]).mark(v4(1)));
        assert_ne!(Addresses::new(rate, KEY).mark(v4(1)), Addresses::new(rate, [0, KEY[1]]).mark(v4(1)));
    }

    #[test]
    fn an_address_gets_its_burst_and_no_other_pays_for_it() {
        let table = table(1, 3);
        for left in (0..3).rev() {
            let decision = table.take(v4(1), at(0), 1);
            assert!(decision.allowed);
            assert_eq!((decision.quota.policy, decision.quota.remaining), ("address", left));
        }
        assert_eq!(table.take(v4(1), at(0), 1).retry_after_seconds, 1);
        assert!(table.take(v4(2), at(0), 3).allowed);
        assert!(table.take(v4(1), at(1_000), 1).allowed);
    }

    #[test]
    fn addresses_of_one_client_share_its_bucket() {
        let table = table(1, 2);
        assert!(table.take(address("2001:db8:0:1::1"), at(0), 1).allowed);
        assert!(table.take(address("2001:db8:0:1:ffff::9"), at(0), 1).allowed);
        assert!(!table.take(address("2001:db8:0:1::2"), at(0), 1).allowed);
        assert!(table.take(address("2001:db8:0:2::1"), at(0), 1).allowed);
        assert!(table.take(address("192.0.2.1"), at(0), 2).allowed);
        assert!(!table.take(address("::ffff:192.0.2.1"), at(0), 1).allowed);
    }

    #[test]
    fn ten_million_addresses_take_no_more_memory_than_one() {
        let table = table(100, 1_000);
        let before = size(&table);
        assert_eq!(before, (0, ADDRESSES_LIMITED_MAX_COUNT * 16));
        let exhausted: Vec<IpAddr> = (0..1_000).map(|number| v4(0xC000_0000 + number)).collect();
        for one in &exhausted {
            assert!(table.take(*one, at(0), 1_000).allowed);
        }
        // An odd factor goes round all addresses without meeting one twice.
        for number in 0..10_000_000u32 {
            let one = v4(number.wrapping_mul(0x9E37_79B1) & 0x7FFF_FFFF);
            assert!(table.take(one, at(0), 1).allowed);
        }
        let after = size(&table);
        assert_eq!(after.1, before.1);
        assert_eq!(after.0, ADDRESSES_LIMITED_MAX_COUNT, "it is full, and no fuller");
        let still = exhausted.iter().filter(|one| !table.take(**one, at(0), 1).allowed).count();
        // All of a set's entries could be exhausted ones, though a thousand in four thousand sets rarely are.
        assert!(still >= 999, "{still} of 1000 are still exhausted after the crowd");
    }

    #[test]
    fn the_fullest_bucket_of_a_set_gives_way() {
        let table = table(1, 100);
        let in_set = |table: &Addresses| {
            let set = place(table.mark(v4(0)));
            let ours = (0..).map(v4).filter(move |one| place(table.mark(*one)) == set);
            ours.take(ADDRESSES_PER_SET_COUNT + 2).collect::<Vec<_>>()
        };
        let crowd = in_set(&table);
        let (residents, strangers) = crowd.split_at(ADDRESSES_PER_SET_COUNT);
        for (number, one) in (1..).zip(residents) {
            assert!(table.take(*one, at(0), 10 * number).allowed);
        }
        assert_eq!(table.take(strangers[0], at(0), 50).quota.remaining, 50);
        assert_eq!(table.take(residents[0], at(0), 0).quota.remaining, 100, "the fullest was forgotten");
        for (number, one) in (1..).zip(residents).skip(2) {
            assert_eq!(table.take(*one, at(0), 0).quota.remaining, 100 - 10 * number, "{number}");
        }
    }

    #[test]
    fn many_threads_together_get_exactly_one_allowance() {
        let table = table(1, 500);
        let given = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        given.fetch_add(usize::from(table.take(v4(7), at(0), 1).allowed), Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(given.load(Ordering::Relaxed), 500);
    }
}
