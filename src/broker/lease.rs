//! The lease by which the others know that this server lives.
//!
//! Owns [`run`]. Invariant: a lease that has ended is followed by another one.

use std::sync::Arc;

use super::board::Board;
use super::client::Client;
use crate::clock::Moment;
use crate::limits::{ETCD_LEASE_RENEWAL_MILLIS, ETCD_LEASE_SECONDS};
use crate::store::etcd::link::{LinkError, Member, Swap};

/// Keeps it until the board ends.
pub(super) fn run(board: &Arc<Board>, mut client: Client) {
    let mut lease = Lease::default();
    loop {
        board.wait(Moment::NEVER, |facts| facts.ended || facts.member.is_some());
        let (ended, member) = {
            let facts = board.facts();
            (facts.ended, facts.member.clone())
        };
        if ended {
            // The others need not wait until it ends by itself.
            lease.end(&mut client);
            return;
        }
        if let Some(member) = member {
            lease.keep(&mut client, &member);
        }
        board.wait(Moment::now().plus_millis(ETCD_LEASE_RENEWAL_MILLIS), |facts| facts.ended);
    }
}

#[derive(Debug, Default)]
struct Lease(u64);

impl Lease {
    fn keep(&mut self, client: &mut Client, member: &Member) {
        if self.0 > 0 && client.keep_alive(self.0).is_ok_and(|seconds| seconds > 0) {
            return;
        }
        self.0 = Self::begin(client, member).unwrap_or_default();
    }

    fn begin(client: &mut Client, member: &Member) -> Result<u64, LinkError> {
        let id = client.grant(ETCD_LEASE_SECONDS)?;
        let puts = vec![(member.key.clone(), member.value.clone())];
        client.swap(&Swap { puts, ..Swap::default() }, id).map(|_| id)
    }

    fn end(&mut self, client: &mut Client) {
        if self.0 > 0 {
            let _ = client.revoke(self.0);
        }
    }
}
