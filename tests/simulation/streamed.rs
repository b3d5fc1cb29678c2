//! Streamed requests: what the simulated service does with them, and what their peers may see.
//!
//! The service skips the first bytes, then works on pieces in place: it sends nine tenths of each, changed by their
//! place, and sixteen bytes behind it that depend on everything before. So a byte that is lost, doubled or moved shows.

use std::collections::BTreeSet;

use quantonium::http::chunked::ChunkedDecoder;
use quantonium::http::responder::Fault;
use quantonium::http::service::{Cut, Exchange, Gathered, Opening, Piece};
use quantonium::http::status::Status;

use crate::judge::{Excuses, Violation};
use crate::script::{Answer, Kind, Planned, read_path};
use crate::service::Stage;
use crate::wire::Wire;

const SKIPPED: usize = 5;
const TAG: usize = 16;
const UNTOLD: Fault<'static> =
    Fault::new(Status::ServiceUnavailable, "not_begun", "Its beginning could not be told.");

/// Changes pieces, one after the other.
struct Mill {
    hash: u64,
    count: u64,
}

impl Mill {
    fn new(path: &str) -> (Self, Vec<u8>) {
        let mut mill = Self { hash: 0xcbf2_9ce4_8422_2325, count: 0 };
        path.bytes().for_each(|byte| mill.take(byte));
        let prefix = format!("stream {:016x}\n", mill.hash).into_bytes();
        (mill, prefix)
    }

    fn take(&mut self, byte: u8) {
        self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }

    /// Changes a piece; returns how much of it is sent, and what follows it.
    fn turn(&mut self, piece: &mut [u8], last: bool) -> (usize, [u8; TAG]) {
        piece.iter().for_each(|byte| self.take(*byte));
        self.take(u8::from(last));
        for byte in piece.iter_mut() {
            *byte ^= self.count.to_le_bytes()[0];
            self.count += 1;
        }
        let mut tag = [0; TAG];
        tag.copy_from_slice(format!("{:016x}", self.hash).as_bytes());
        (sent_of(piece.len()), tag)
    }
}

fn sent_of(len: usize) -> usize {
    len - len / 10
}

/// Length of every piece but the last.
fn step_of(path: &str) -> usize {
    200 + read_path(path).map_or(0, |(_, _, size)| size)
}

/// Pieces of a body of `len` bytes: their lengths.
fn pieces(len: usize, step: usize) -> impl Iterator<Item = usize> {
    let rest = len - len.min(SKIPPED);
    let count = rest.div_ceil(step).max(1);
    (0..count).map(move |index| step.min(rest - index * step))
}

/// What the reply to `body` must be.
pub(crate) fn reply_body(path: &str, body: &[u8]) -> Vec<u8> {
    let (mut mill, mut reply) = Mill::new(path);
    let mut at = body.len().min(SKIPPED);
    for len in pieces(body.len(), step_of(path)) {
        let mut piece = body[at..at + len].to_vec();
        at += len;
        let (sent, tag) = mill.turn(&mut piece, at == body.len());
        reply.extend_from_slice(&piece[..sent]);
        reply.extend_from_slice(&tag);
    }
    reply
}

fn reply_len(path: &str, len: u64) -> u64 {
    let pieces = pieces(usize::try_from(len).unwrap(), step_of(path));
    (Mill::new(path).1.len() + pieces.map(|len| sent_of(len) + TAG).sum::<usize>()) as u64
}

/// Waits as a service does that has something else to look after now and then.
async fn gather(stage: &Stage, exchange: &mut impl Exchange, wanted: usize) -> Result<Gathered, Cut> {
    loop {
        let until = stage.turn.now().plus_millis(1_000);
        let gathered = exchange.gather(wanted, until).await?;
        if gathered != Gathered::Waiting {
            return Ok(gathered);
        }
    }
}

/// The service.
pub(crate) async fn serve(stage: &Stage, kind: Kind, exchange: &mut impl Exchange) -> Result<(), Cut> {
    let served = run(stage, kind, exchange).await;
    if let Err(Cut::Fault(fault)) = served {
        // It says nothing if a part of a reply has left.
        exchange.refuse(|_, responder| responder.fault(&fault, &[("Retry-After", b"1")]));
    }
    served
}

async fn run(stage: &Stage, kind: Kind, exchange: &mut impl Exchange) -> Result<(), Cut> {
    let arrival = exchange.arrival();
    let path = String::from_utf8(arrival.head.path(arrival.bytes).to_vec()).unwrap();
    let (mut mill, prefix) = Mill::new(&path);
    let step = step_of(&path);
    let skipped = match gather(stage, exchange, SKIPPED).await? {
        Gathered::Enough => SKIPPED,
        _ => exchange.gathered().len(),
    };
    exchange.skip(skipped);
    let mut begun = false;
    loop {
        let last = gather(stage, exchange, step + 1).await? == Gathered::Last;
        let gathered = exchange.gathered();
        let taken = if last { gathered.len() } else { step };
        let (sent, suffix) = mill.turn(&mut gathered[..taken], last);
        let piece = Piece { taken, sent, suffix: &suffix };
        if !begun {
            stage.tell(&path, "begin");
            stage.turn.committed().await.map_err(|_| Cut::Fault(UNTOLD))?;
            let length = exchange.length().map(|length| reply_len(&path, length));
            let content_type = "application/octet-stream";
            exchange.begin(&Opening { content_type, length, fields: &[], prefix: &prefix })?;
            begun = true;
        } else if kind == Kind::Broken {
            return Ok(());
        }
        // The head stays where it is, whatever is written around the pieces.
        let arrival = exchange.arrival();
        assert_eq!(arrival.head.path(arrival.bytes), path.as_bytes());
        if last && kind == Kind::Stream {
            stage.tell(&path, "end");
            stage.turn.committed().await.map_err(|_| Cut::Fault(UNTOLD))?;
            return exchange.finish(piece).await;
        }
        exchange.send(piece).await?;
        if last {
            return Ok(());
        }
    }
}

/// What is seen of a streamed reply.
pub(crate) enum Seen {
    /// All of it, and so many bytes of the connection.
    Whole(usize),
    /// It is cut short.
    Torn,
}

/// Judges a reply that has begun with status 200. `bytes` begin with its head.
pub(crate) fn judge(
    planned: &Planned,
    bytes: &[u8],
    cut: bool,
    wire: &Wire,
    excuses: Excuses,
    durable: &BTreeSet<String>,
) -> Result<Seen, Violation> {
    let has = |what: &str| durable.contains(&format!("{} {what}", planned.path));
    let bad = |what: &str| Violation::Bytes(format!("{what} of {}", planned.path));
    if !has("begin") {
        return Err(Violation::Audit(format!("the beginning of {}", planned.path)));
    }
    let Answer::Body(expected) = &planned.answer else { return Err(bad("a stream instead")) };
    let may_be_torn = cut
        || wire.reset
        || excuses.jumped
        || excuses.over
        || excuses.scarce
        || excuses.commit_failed
        || planned.kind == Some(Kind::Broken);
    let torn = || match wire.dropped || wire.finished {
        // A peer that reads to the end and does not count must meet an error.
        true if !wire.aborted && !wire.reset => Err(bad("a clean end of a part")),
        _ if may_be_torn => Ok(Seen::Torn),
        true => Err(bad("a cut")),
        false => Err(Violation::Stuck(format!("{} is under way", planned.path))),
    };
    let Some(head) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return torn() };
    let (head, rest) = bytes.split_at(head + 4);
    let head = str::from_utf8(head).map_err(|_| bad("no text"))?;
    let mut body = rest.to_vec();
    let (there, consumed, done) = match head
        .split("\r\n")
        .find_map(|line| line.strip_prefix("Content-Length: "))
    {
        Some(length) => {
            // With a body that is cut off, nobody knows what would have followed.
            let right = cut || length.parse() == Ok(expected.len());
            let length: usize = length.parse().ok().filter(|_| right).ok_or_else(|| bad("a wrong length"))?;
            let there = length.min(body.len());
            (there, there, there == length)
        }
        None if head.contains("\r\nTransfer-Encoding: chunked\r\n") => {
            let decoded = ChunkedDecoder::default().decode(&mut body).map_err(|_| bad("broken chunks"))?;
            (decoded.produced, decoded.consumed, decoded.done)
        }
        None => return Err(bad("no framing")),
    };
    // A last piece that was cut off was never sent, so that what is there is right in any case.
    if !expected.starts_with(&body[..there]) {
        return Err(bad("wrong bytes"));
    }
    if !done {
        return torn();
    }
    if planned.kind == Some(Kind::Broken) || cut || there != expected.len() {
        return Err(bad("a false end"));
    }
    if !has("end") {
        return Err(Violation::Audit(format!("the end of {}", planned.path)));
    }
    Ok(Seen::Whole(head.len() + consumed))
}
