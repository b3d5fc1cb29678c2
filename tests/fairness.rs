//! One connection that asks without end, beside one that asks once: counted in turns of the loop, not in time.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by a panic, its functions too"
)]

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;

use quantonium::clock::{Moment, WallTime};
use quantonium::http::connection::{Idle, serve};
use quantonium::http::env::{Bounds, Env};
use quantonium::http::peer::{Peer, Way};
use quantonium::http::responder::Responder;
use quantonium::http::service::{Arrival, Exchange, Gathered, Opening, Piece, Request, Service, Taking};
use quantonium::http::status::Status;
use quantonium::limits::{PIPELINE_MAX_COUNT, REQUESTS_PER_TURN_COUNT};
use quantonium::reactor::mailbox::Mailbox;
use quantonium::reactor::turn::Commit;
use quantonium::reactor::{Budget, Channel, Executor, Pool, Received, Transport, Turn};

const TURNS: usize = 50;
const STREAM_PIECE_BYTES: usize = 16 * 1024;

/// A client whose next request, or whose next piece of a body, is always there already, and that takes everything.
struct Endless {
    head: Vec<u8>,
    again: Vec<u8>,
    /// How far it is in what it says again and again.
    at: usize,
    sent: Rc<Cell<usize>>,
}

impl Transport for Endless {
    fn receive(&mut self, target: &mut [u8]) -> io::Result<Received> {
        let mut count = 0;
        while count < target.len() {
            let source = if self.head.is_empty() { &self.again[self.at..] } else { &self.head[..] };
            let length = source.len().min(target.len() - count);
            target[count..count + length].copy_from_slice(&source[..length]);
            count += length;
            if self.head.is_empty() {
                self.at = (self.at + length) % self.again.len();
            } else {
                self.head.drain(..length);
            }
        }
        Ok(Received { count, drained: false })
    }

    fn send(&mut self, source: &[u8]) -> io::Result<usize> {
        self.sent.set(self.sent.get() + source.len());
        Ok(source.len())
    }

    fn finish(&mut self) {}

    fn abort_on_close(&mut self, _: bool) {}
}

/// Counts what it serves, for each path.
#[derive(Default)]
struct Counting {
    served: RefCell<Vec<(String, usize)>>,
    round: Cell<u64>,
    /// Whether what it answers is told in the audit log.
    audited: bool,
}

impl Counting {
    fn count(&self, arrival: &Arrival<'_>) {
        let path = String::from_utf8(arrival.head.path(arrival.bytes).to_vec()).unwrap();
        let mut served = self.served.borrow_mut();
        match served.iter_mut().find(|(other, _)| *other == path) {
            Some((_, count)) => *count += 1,
            None => served.push((path, 1)),
        }
    }

    fn of(&self, path: &str) -> usize {
        self.served.borrow().iter().find(|(other, _)| other == path).map_or(0, |(_, count)| *count)
    }
}

/// It, as the connections see it.
struct Served(Rc<Counting>);

impl Service for Served {
    type Admission = ();

    fn has_room(&self) -> bool {
        true
    }

    fn admit(&self, arrival: &Arrival<'_>, _: &mut Responder<'_>) -> Option<((), Taking)> {
        let streamed = arrival.head.path(arrival.bytes) == b"/stream";
        Some(((), if streamed { Taking::Streamed } else { Taking::Whole(0) }))
    }

    fn refused(&self, (): &(), _: &Arrival<'_>, _: &'static str, _: &mut Responder<'_>) {}

    fn lost(&self, (): &(), _: &Arrival<'_>) {}

    async fn serve(&self, (): (), request: Request<'_>, responder: &mut Responder<'_>) {
        self.0.count(&request.arrival);
        responder.whole(Status::Ok, "text/plain", b"served");
        if self.0.audited {
            responder.audited(self.0.round.get());
        }
    }

    async fn stream(&self, (): (), exchange: &mut impl Exchange) {
        let opening =
            Opening { content_type: "application/octet-stream", length: None, fields: &[], prefix: b"" };
        if exchange.begin(&opening).is_err() {
            return;
        }
        while let Ok(Gathered::Enough) = exchange.gather(STREAM_PIECE_BYTES, Moment::NEVER).await {
            self.0.count(&exchange.arrival());
            let piece = Piece { taken: STREAM_PIECE_BYTES, sent: STREAM_PIECE_BYTES, suffix: b"" };
            if exchange.send(piece).await.is_err() {
                return;
            }
        }
    }
}

/// How much of `count` connections like `greedy` is served in each turn, while `modest` asks once in each turn and must be served in it.
fn beside(count: usize, greedy: &(Vec<u8>, Vec<u8>), path: &str, audited: bool) -> Vec<usize> {
    let turn = Turn::new(Moment::default());
    let service = Rc::new(Counting { audited, ..Counting::default() });
    let pool = Pool::new(Budget::new(64 << 20));
    let bounds = Bounds { requests: u64::MAX, ..Bounds::default() };
    let env = Env::new(
        Served(Rc::clone(&service)),
        pool,
        bounds,
        std::sync::Arc::default(),
        std::sync::Arc::default(),
        7,
    );
    let mut executor = Executor::new(Rc::clone(&turn), Mailbox::new(Box::new(|| {})), serve);
    let mut spawn = |head: &[u8], again: &[u8]| {
        let sent = Rc::new(Cell::new(0));
        let transport = Endless { head: head.to_vec(), again: again.to_vec(), at: 0, sent: Rc::clone(&sent) };
        let env = Rc::clone(&env);
        let task = executor.spawn(|task| {
            let channel = Channel::new(transport, Rc::clone(&turn), task);
            Ok::<_, ()>(Idle::new(channel, Peer::new(None, Way::Plain), env, ()))
        });
        (task.unwrap(), sent)
    };
    let greedy: Vec<_> = (0..count).map(|_| spawn(&greedy.0, &greedy.1).0).collect();
    // It is one of the same kind, but heard once in a turn only.
    let (modest, sent) = spawn(b"", b"GET /modest HTTP/1.1\r\nHost: a\r\nX-Fill: \
        aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n\r\n");
    greedy.iter().for_each(|task| turn.mark_ready(*task, true, true, false));
    turn.mark_ready(modest, true, true, false);
    let mut shares = Vec::new();
    for number in 0..TURNS {
        service.round.set(turn.round());
        executor.begin(Moment::default().plus_millis(number as u64), WallTime::default());
        let (before, heard) = (service.of(path), sent.get());
        greedy.iter().for_each(|task| executor.poll(*task));
        executor.poll(modest);
        executor.commit(|| Commit::Done);
        shares.push(service.of(path) - before);
        assert!(sent.get() > heard, "turn {number}: the other one is answered in each turn");
    }
    assert_eq!(executor.alive(), count + 1);
    shares
}

#[test]
fn a_pipelining_flood_has_a_bounded_part_of_each_turn() {
    let flood = (Vec::new(), b"GET /flood HTTP/1.1\r\nHost: a\r\n\r\n".to_vec());
    for audited in [false, true] {
        let shares = beside(1, &flood, "/flood", audited);
        let most = shares.iter().copied().max().unwrap();
        assert!(most <= 2 * PIPELINE_MAX_COUNT, "{shares:?}");
        assert!(shares.iter().all(|share| *share > 0), "it is served too: {shares:?}");
    }
}

#[test]
fn of_many_floods_together_each_turn_has_a_bounded_part() {
    const COUNT: usize = 200;
    let flood = (Vec::new(), b"GET /flood HTTP/1.1\r\nHost: a\r\n\r\n".to_vec());
    let shares = beside(COUNT, &flood, "/flood", true);
    let most = shares.iter().copied().max().unwrap();
    // Before the commit and after it; once it is crowded each of them has the one that it has begun.
    assert!(most <= 2 * (REQUESTS_PER_TURN_COUNT + COUNT), "{shares:?}");
    const {
        assert!(
            COUNT * PIPELINE_MAX_COUNT > REQUESTS_PER_TURN_COUNT + COUNT,
            "the bound would be met without it"
        );
    };
    assert!(shares.iter().all(|share| *share >= COUNT), "each is served: {shares:?}");
}

#[test]
fn a_stream_without_end_has_a_bounded_part_of_each_turn() {
    let head = b"POST /stream HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for size in [1, 100, 10_000] {
        let chunk = [format!("{size:x}\r\n").as_bytes(), &vec![b'x'; size], b"\r\n"].concat();
        let shares = beside(1, &(head.clone(), chunk), "/stream", false);
        let most = shares.iter().copied().max().unwrap();
        assert!(most <= 2, "chunks of {size}: {shares:?}");
        assert!(shares.iter().sum::<usize>() >= TURNS / 2, "it is served too: {shares:?}");
    }
}
