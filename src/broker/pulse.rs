//! How new the state is, asked again and again.
//!
//! Owns [`run`]. Invariants: the clock is looked at before the question is sent; a majority answers; what the watch was told of before the
//! question, a majority has reached when it answers, or the watch was lied to, or the store was set back.

use std::sync::Arc;

use super::board::Board;
use super::client::Client;
use crate::clock::{BootTime, Moment};
use crate::limits::ETCD_PULSE_MILLIS;
use crate::store::etcd::link::{Pulse, Span};

/// How many pulses in a row may find the watch behind before it is begun anew.
const LAGS_COUNT: u32 = 2;

/// Asks until the board ends.
pub(super) fn run(board: &Arc<Board>, mut client: Client) {
    let mut behind_count = 0;
    loop {
        let begun = Moment::now();
        if board.facts().ended {
            return;
        }
        beat(board, &mut client, &mut behind_count);
        let number = board.facts().number;
        board.wait(begun.plus_millis(ETCD_PULSE_MILLIS), |facts| facts.ended || facts.number != number);
    }
}

fn beat(board: &Board, client: &mut Client, behind_count: &mut u32) {
    let (number, head, next) = {
        let facts = board.facts();
        let Some(wish) = &facts.wish else { return };
        (facts.number, wish.head.clone(), facts.next)
    };
    let asked_nanos = BootTime::now().as_nanos();
    match client.read(&Span { from: head.clone(), to: Vec::new(), at: 0 }) {
        Ok(page) => {
            let revision = page.pairs.iter().find(|pair| pair.key == head).map_or(0, |pair| pair.revision);
            board.tell_pulse(number, Pulse { asked_nanos, head: revision, cluster: page.cluster });
            if next > page.at.saturating_add(1) {
                // It would wait for what others write to get there, and never hear of it.
                board.tell_gap(number);
            }
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
