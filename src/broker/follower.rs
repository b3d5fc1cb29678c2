//! The watch: what others write, as it is written.
//!
//! Owns [`run`]. Invariants: it goes on behind what was told, whatever breaks; what was compacted meanwhile is told as a gap; a watch that
//! is silent while there is news is begun anew at the next endpoint.

use std::sync::Arc;

use super::board::Board;
use super::client::Client;
use super::message;
use crate::clock::Moment;
use crate::limits::{ETCD_RETRY_MILLIS, ETCD_WATCH_SILENCE_MILLIS};
use crate::store::etcd::link::LinkError;

/// How often it is asked whether there is another wish.
const LOOK_MILLIS: u64 = 100;

/// Watches until the board ends.
pub(super) fn run(board: &Arc<Board>, mut client: Client) {
    loop {
        board.wait(Moment::NEVER, |facts| facts.ended || facts.watches);
        let (number, wish, next) = {
            let facts = board.facts();
            if facts.ended {
                return;
            }
            let Some(wish) = facts.wish.clone() else { continue };
            (facts.number, wish, facts.next)
        };
        let body = message::watch(&wish.from, &wish.to, next);
        let ended = match client.begin("/v3/watch", &body) {
            Ok(wire) => watch(board, number, wire),
            Err(LinkError::Compacted) => {
                board.tell_gap(number);
                continue;
            }
            Err(_) => Ended::Broken,
        };
        if ended == Ended::Broken {
            client.turn_away();
            board.wait(Moment::now().plus_millis(ETCD_RETRY_MILLIS), |facts| {
                facts.ended || facts.number != number
            });
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// There is another wish, or none.
    Replaced,
    Broken,
}

fn watch(board: &Board, number: u64, mut wire: super::exchange::Wire) -> Ended {
    let mut heard = Moment::now();
    loop {
        let Ok(line) = wire.line(Moment::now().plus_millis(LOOK_MILLIS)) else { return Ended::Broken };
        {
            let mut facts = board.facts();
            if facts.ended || facts.number != number || !facts.watches {
                return Ended::Replaced;
            }
            if core::mem::take(&mut facts.lags) {
                return Ended::Broken;
            }
        }
        let Some(line) = line else {
            if Moment::now().nanos_since(heard) / 1_000_000 > ETCD_WATCH_SILENCE_MILLIS {
                return Ended::Broken;
            }
            continue;
        };
        heard = Moment::now();
        let Some(watched) = message::read_watch(&line) else { return Ended::Broken };
        if watched.compacted > 0 {
            board.tell_gap(number);
            return Ended::Replaced;
        }
        if !board.tell(number, watched.events, watched.progress) {
            return Ended::Replaced;
        }
        if watched.ended {
            return Ended::Broken;
        }
    }
}
