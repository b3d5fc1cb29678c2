//! How new the state is, asked again and again; and the lease by which the others know that this server lives.
//!
//! Owns [`run`]. Invariants: the clock is looked at before the question is sent; a majority answers; a lease that has ended is followed
//! by another one.

use std::sync::Arc;

use super::board::Board;
use super::client::Client;
use crate::clock::{BootTime, Moment};
use crate::limits::{ETCD_LEASE_RENEWAL_MILLIS, ETCD_LEASE_SECONDS, ETCD_PULSE_MILLIS, ETCD_REQUEST_MILLIS};
use crate::store::etcd::link::{LinkError, Member, Pulse, Span, Swap};

/// How many pulses in a row may find the watch behind before it is begun anew.
const LAGS_COUNT: u32 = 2;

/// Asks until the board ends.
pub(super) fn run(board: &Arc<Board>, mut client: Client) {
    let mut lease = Lease::default();
    let mut behind_count = 0;
    loop {
        let begun = Moment::now();
        if board.facts().ended {
            lease.end(&mut client);
            return;
        }
        beat(board, &mut client, &mut behind_count);
        let member = board.facts().member.clone();
        if let Some(member) = member {
            lease.keep(&mut client, &member);
        }
        let number = board.facts().number;
        board.wait(begun.plus_millis(ETCD_PULSE_MILLIS), |facts| facts.ended || facts.number != number);
    }
}

fn beat(board: &Board, client: &mut Client, behind_count: &mut u32) {
    let (number, head, known) = {
        let facts = board.facts();
        let Some(wish) = &facts.wish else { return };
        (facts.number, wish.head.clone(), facts.known)
    };
    let asked_nanos = BootTime::now().as_nanos();
    match client.read(&Span { from: head.clone(), to: Vec::new(), at: 0 }) {
        Ok(page) => {
            let revision = page.pairs.iter().find(|pair| pair.key == head).map_or(0, |pair| pair.revision);
            let pulse = Pulse { asked_nanos, head: revision, known, cluster: page.cluster };
            board.tell_pulse(number, pulse);
            let mut facts = board.facts();
            let behind = facts.number == number && facts.next <= revision;
            *behind_count = if behind { *behind_count + 1 } else { 0 };
            if *behind_count >= LAGS_COUNT {
                facts.lags = true;
                *behind_count = 0;
            }
        }
        Err(_) => board.facts().away = true,
    }
}

#[derive(Debug, Default)]
struct Lease {
    id: u64,
    renewed: Moment,
}

impl Lease {
    fn keep(&mut self, client: &mut Client, member: &Member) {
        let due = self.renewed.plus_millis(ETCD_LEASE_RENEWAL_MILLIS);
        if self.id > 0 && Moment::now() < due {
            return;
        }
        if self.id > 0 && client.keep_alive(self.id).is_ok_and(|seconds| seconds > 0) {
            self.renewed = Moment::now();
            return;
        }
        self.id = 0;
        if let Ok(id) = self.begin(client, member) {
            (self.id, self.renewed) = (id, Moment::now());
        }
    }

    fn begin(&self, client: &mut Client, member: &Member) -> Result<u64, LinkError> {
        let id = client.grant(ETCD_LEASE_SECONDS)?;
        let puts = vec![(member.key.clone(), member.value.clone())];
        client.swap(&Swap { puts, ..Swap::default() }, id).map(|_| id)
    }

    /// The others need not wait until it ends by itself.
    fn end(&mut self, client: &mut Client) {
        if self.id > 0 && Moment::now().nanos_since(self.renewed) / 1_000_000 > ETCD_REQUEST_MILLIS {
            let _ = client.keep_alive(self.id);
        }
        if self.id > 0 {
            let _ = client.revoke(self.id);
        }
    }
}
