//! What passes through an established session.

use std::io::{self, Write as _};
use std::sync::Arc;

use proptest::prelude::*;
use rustls::{ClientConfig, ServerConfig};

use crate::limits::{
    LEASE_BESIDE_SHARE_COUNT, LEASE_BUDGET_FLOOR_BYTES, LEASE_SHARE_FLOOR_BYTES, TLS_RECORD_KEPT_BYTES,
    TLS_SCRATCH_BYTES, TLS_SEND_BUFFER_BYTES,
};
use crate::quota::Tally;
use crate::reactor::{Budget, Charge, Established, TaskId, Transport as _};
use crate::tls::tests::certificates::{Issued, authority};
use crate::tls::tests::wire::{Client, Pair, strangers};
use crate::tls::{Current, Materials, MinVersion, Options};

fn configs(min_version: MinVersion) -> (Arc<ServerConfig>, Arc<ClientConfig>) {
    let ca = authority();
    let pairs = vec![Issued::server(&ca, &["a.example"]).material()];
    let options = Options { min_version, ..Options::default() };
    let current = Current::new(&Materials { pairs, authorities: None }, options).unwrap();
    let old: &[_] = &[&rustls::version::TLS12];
    let versions = if min_version == MinVersion::Tls12 { old } else { &[] };
    (Arc::clone(&current.get().config), Client { versions, ..Client::default() }.config(&ca))
}

fn pair(seed: u64) -> Pair {
    let (server, client) = configs(MinVersion::Tls13);
    let mut pair = Pair::new(&server, &client, "a.example", seed);
    assert_eq!(pair.shake(), Ok(Established::Ready));
    pair
}

fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251).to_le_bytes()[0]).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_goes_in_comes_out_however_the_wire_behaves(
        seed in 1_u64..,
        lengths in proptest::collection::vec((0_usize..60_000, 0_usize..90_000), 1..4),
        old in any::<bool>(),
    ) {
        let (server, client) = configs(if old { MinVersion::Tls12 } else { MinVersion::Tls13 });
        let mut pair = Pair::new(&server, &client, "a.example", seed);
        prop_assert_eq!(pair.shake(), Ok(Established::Ready));
        for (question, answer) in lengths {
            prop_assert!(pair.hear(&bytes(question)) == bytes(question), "the question of {}", question);
            pair.got.clear();
            pair.say(&bytes(answer));
            prop_assert!(pair.got == bytes(answer), "the answer of {}", answer);
        }
        pair.say(b"");
        prop_assert!(!pair.ended);
        while !pair.ended {
            pair.server.conclude();
            pair.client_turn().unwrap();
        }
        pair.client.send_close_notify();
        let mut end = None;
        for _ in 0..1_000 {
            pair.client_turn().unwrap();
            match pair.server.receive(&mut [0; 10]) {
                Ok(received) => end = Some(received.count),
                Err(error) => prop_assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
        }
        prop_assert_eq!(end, Some(0));
    }
}

#[test]
fn several_records_leave_in_one_send() {
    let mut pair = pair(0);
    pair.line.borrow_mut().sends.clear();
    let answer = bytes(3 * TLS_SEND_BUFFER_BYTES);
    pair.say(&answer);
    assert_eq!(pair.got, answer);
    let sends = pair.line.borrow().sends.clone();
    assert_eq!(sends.len(), 3, "{sends:?}");
    assert!(sends.iter().all(|length| (TLS_SEND_BUFFER_BYTES..=TLS_SCRATCH_BYTES).contains(length)));
}

#[test]
fn a_peer_that_does_not_read_costs_a_bounded_buffer() {
    let mut pair = pair(0);
    let room = pair.line.borrow().to_client.len();
    pair.line.borrow_mut().room = room;
    let mut taken = 0;
    let blocked = loop {
        match pair.server.send(&[7; 10_000]) {
            Ok(count) => taken += count,
            Err(error) => break error.kind(),
        }
    };
    assert_eq!(blocked, io::ErrorKind::WouldBlock);
    assert!(taken > 0 && taken <= TLS_SEND_BUFFER_BYTES, "{taken}");
    assert_eq!(pair.server.flush().map_err(|error| error.kind()), Err(io::ErrorKind::WouldBlock));
    pair.line.borrow_mut().room = usize::MAX;
    pair.server.flush().unwrap();
    pair.settle();
    assert_eq!(pair.got, vec![7; taken], "what was counted arrives");
}

#[test]
fn an_end_without_notice_is_an_error_and_one_with_notice_is_not() {
    for (noticed, expected) in [(true, Ok(0)), (false, Err(io::ErrorKind::UnexpectedEof))] {
        let mut pair = pair(0);
        assert_eq!(pair.hear(b"question"), b"question");
        if noticed {
            pair.client.send_close_notify();
            pair.client_turn().unwrap();
        }
        pair.line.borrow_mut().client_gone = true;
        let end = pair.server.receive(&mut [0; 10]).map(|received| received.count);
        assert_eq!(end.map_err(|error| error.kind()), expected);
        if noticed {
            pair.say(b"answer");
            assert_eq!(pair.got, b"answer", "the other direction is open");
        }
    }
}

#[test]
fn bytes_and_an_end_that_come_at_once_are_both_seen() {
    use std::io::Write as _;
    let mut pair = pair(0);
    pair.client.writer().write_all(b"last words").unwrap();
    pair.client.send_close_notify();
    pair.client_turn().unwrap();
    let mut target = [0; 100];
    let first = pair.server.receive(&mut target).unwrap();
    assert_eq!((first.count, first.drained), (10, false));
    assert_eq!(pair.server.receive(&mut target).unwrap().count, 0);
}

#[test]
fn an_aborted_stream_ends_without_notice() {
    let mut pair = pair(0);
    pair.say(b"half of");
    pair.server.abort_on_close(true);
    pair.server.conclude();
    pair.server.finish();
    pair.settle();
    assert!(!pair.ended);
    assert!(pair.line.borrow().aborted && pair.line.borrow().finished);

    let mut pair = self::pair(0);
    pair.server.abort_on_close(true);
    pair.server.abort_on_close(false);
    pair.server.finish();
    pair.settle();
    assert!(pair.ended, "what is not aborted in the end is ended");
}

#[test]
fn a_changed_byte_is_refused_and_nothing_of_it_is_seen() {
    use std::io::Write as _;
    let mut pair = pair(0);
    pair.client.writer().write_all(b"question").unwrap();
    pair.client_turn().unwrap();
    if let Some(byte) = pair.line.borrow_mut().to_server.back_mut() {
        *byte ^= 1;
    }
    let mut target = [0; 100];
    assert_eq!(
        pair.server.receive(&mut target).map_err(|error| error.kind()),
        Err(io::ErrorKind::InvalidData)
    );
    assert_eq!(target, [0; 100]);
    assert!(format!("{:?}", pair.client_turn()).contains("BadRecordMac"), "the client is told");
}

#[test]
fn a_drained_receive_leaves_nothing_behind() {
    let mut pair = pair(0);
    let mut target = [0; 30_000];
    use std::io::Write as _;
    pair.client.writer().write_all(&bytes(20_000)).unwrap();
    pair.client_turn().unwrap();
    let received = pair.server.receive(&mut target).unwrap();
    assert_eq!((received.count, received.drained), (20_000, true));
    assert_eq!(
        pair.server.receive(&mut target).map_err(|error| error.kind()),
        Err(io::ErrorKind::WouldBlock)
    );
}

#[test]
fn what_is_kept_now_and_then_is_charged_and_given_back() {
    let (server, client) = configs(MinVersion::Tls13);
    let budget = Budget::new(LEASE_BUDGET_FLOOR_BYTES);
    let mut pair =
        Pair::charged(&server, &client, "a.example", 0, Charge::of(&strangers(&budget), TaskId::default()));
    assert_eq!(pair.shake(), Ok(Established::Ready));
    assert_eq!(budget.made_bytes(), 0, "a session that rests keeps nothing of it");
    let mut target = vec![0; 10_000];
    for (taken, left) in [(10_000, 0), (4_000, TLS_RECORD_KEPT_BYTES)] {
        pair.client.writer().write_all(&[7; 10_000]).unwrap();
        pair.client_turn().unwrap();
        let rest = pair.line.borrow_mut().to_server.split_off(5_000);
        let receive = |pair: &mut Pair, target: &mut [u8]| {
            pair.server.receive(target).map(|received| received.count).map_err(|error| error.kind())
        };
        assert_eq!(receive(&mut pair, &mut target), Err(io::ErrorKind::WouldBlock));
        assert_eq!(budget.made_bytes(), TLS_RECORD_KEPT_BYTES, "a part of a record");
        pair.line.borrow_mut().to_server.extend(rest);
        let got = receive(&mut pair, &mut target[..taken]).unwrap();
        assert!(got <= taken);
        if got == taken {
            assert_eq!(budget.made_bytes(), left, "what waits to be taken");
        }
        while receive(&mut pair, &mut target).is_ok() {}
        assert_eq!(budget.made_bytes(), 0);
    }
    pair.line.borrow_mut().room = 1_000;
    while pair.server.send(&[7; 16_000]).is_ok() {}
    assert_eq!(budget.made_bytes(), TLS_SEND_BUFFER_BYTES, "what the peer does not take");
    drop(pair);
    assert_eq!(budget.made_bytes(), 0);
}

#[test]
fn a_session_without_room_for_what_it_must_keep_ends() {
    let (server, client) = configs(MinVersion::Tls13);
    let budget = Budget::new(LEASE_BUDGET_FLOOR_BYTES);
    let strangers = strangers(&budget);
    let charge = || Charge::of(&strangers, TaskId::default());
    let mut pair = Pair::charged(&server, &client, "a.example", 0, charge());
    assert_eq!(pair.shake(), Ok(Established::Ready));
    // What those have who are known gives way to nobody.
    let mut others = charge();
    others.charge(&Arc::new(Tally::default())).unwrap();
    others.hold(LEASE_SHARE_FLOOR_BYTES).unwrap();
    let mut more = charge();
    more.charge(&Arc::new(Tally::default())).unwrap();
    more.hold(LEASE_BUDGET_FLOOR_BYTES - LEASE_SHARE_FLOOR_BYTES).unwrap();
    pair.client.writer().write_all(b"a whole record").unwrap();
    pair.client_turn().unwrap();
    let mut target = [0; 100];
    assert_eq!(pair.server.receive(&mut target).unwrap().count, 14, "it keeps nothing");
    pair.client.writer().write_all(&[7; 10_000]).unwrap();
    pair.client_turn().unwrap();
    pair.line.borrow_mut().to_server.truncate(5_000);
    let refused = pair.server.receive(&mut [0; 10_000]).map_err(|error| error.kind());
    assert_eq!(refused, Err(io::ErrorKind::OutOfMemory));
}

#[test]
fn a_session_in_the_middle_of_a_record_gives_way_to_the_next_unless_its_client_is_known() {
    let (server, client) = configs(MinVersion::Tls13);
    for is_known in [false, true] {
        let budget = Budget::new(LEASE_BUDGET_FLOOR_BYTES);
        let strangers = strangers(&budget);
        let charge = || Charge::of(&strangers, TaskId::default());
        let mut pair = Pair::charged(&server, &client, "a.example", 0, charge());
        assert_eq!(pair.shake(), Ok(Established::Ready));
        let account = Arc::new(Tally::default());
        if is_known {
            pair.server.charge(&account).unwrap();
        }
        pair.client.writer().write_all(&[7; 10_000]).unwrap();
        pair.client_turn().unwrap();
        let rest = pair.line.borrow_mut().to_server.split_off(5_000);
        let mut target = vec![0; 10_000];
        let waits = pair.server.receive(&mut target).map_err(|error| error.kind());
        assert_eq!(waits, Err(io::ErrorKind::WouldBlock));
        assert_eq!(account.held_bytes(), if is_known { TLS_RECORD_KEPT_BYTES } else { 0 });
        let mut others = charge();
        others.hold(LEASE_BUDGET_FLOOR_BYTES / LEASE_BESIDE_SHARE_COUNT).unwrap();
        pair.line.borrow_mut().to_server.extend(rest);
        let received = pair.server.receive(&mut target).map(|received| received.count);
        let expected = if is_known { Ok(10_000) } else { Err(io::ErrorKind::OutOfMemory) };
        assert_eq!(received.map_err(|error| error.kind()), expected);
        assert_eq!(account.held_bytes(), 0);
    }
}
