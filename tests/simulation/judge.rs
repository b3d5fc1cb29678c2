//! What the peer received, held against what it was owed.
//!
//! Owns the list of excuses: a reply may be missing or another than planned only if the schedule did something that
//! explains it (a jump of the clock, a drain, a failed commit, a break, a lack of memory, a request cut off).

use std::collections::BTreeSet;

use crate::script::{Answer, Kind, Planned, Script};
use crate::service::quota_of;
use crate::streamed::{self, Seen};
use crate::wire::Wire;

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    /// A task is parked although there is something for it to do and nothing will tell it.
    Stuck(String),
    /// A task is parked for none of the four reasons.
    Parked(String),
    /// The peer got other bytes than it was owed.
    Bytes(String),
    /// A reply left without its audit line.
    Audit(String),
    /// Memory was not given back.
    Leases(String),
    /// A connection was closed over unread bytes, which destroys the reply.
    Abrupt(String),
}

/// What the schedule did that excuses something.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Excuses {
    pub(crate) jumped: bool,
    pub(crate) drained: bool,
    pub(crate) commit_failed: bool,
    pub(crate) scarce: bool,
    /// Every deadline has passed by now.
    pub(crate) over: bool,
}

struct Reply<'a> {
    status: u16,
    head: &'a str,
    body: &'a [u8],
    close: bool,
}

impl Reply<'_> {
    fn is_fault(&self, status: u16, code: &str) -> bool {
        self.status == status && contains(self.body, &format!("\"code\":\"{code}\""))
    }
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// Takes one reply from the front of `bytes`; nothing if it is not there as a whole.
fn take_reply<'a>(bytes: &mut &'a [u8], head_only: bool) -> Result<Option<Reply<'a>>, Violation> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let (head, rest) = bytes.split_at(end + 4);
    let bad = |what: &str| Violation::Bytes(format!("{what}: {}", String::from_utf8_lossy(head)));
    let head = str::from_utf8(head).map_err(|_| bad("no text"))?;
    let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3));
    let status: u16 = status.and_then(|text| text.parse().ok()).ok_or_else(|| bad("no status"))?;
    let field = |name: &str| head.split("\r\n").find_map(|line| line.strip_prefix(name));
    let length: usize = match field("Content-Length: ") {
        _ if status == 100 => 0,
        Some(length) => length.parse().map_err(|_| bad("no length"))?,
        None => return Err(bad("a reply without length")),
    };
    // What is refused before its method is known, by a deadline or for want of memory, has its body in any case.
    let carried = if head_only && !rest.starts_with(b"{\"type\"") { 0 } else { length };
    let Some((body, tail)) = rest.split_at_checked(carried) else { return Ok(None) };
    *bytes = tail;
    let close = field("Connection: ") == Some("close");
    Ok(Some(Reply { status, head, body, close }))
}

/// Takes a streamed reply of `length` bytes from the front of `bytes`; its body was judged.
fn take_stream<'a>(bytes: &mut &'a [u8], length: usize) -> Reply<'a> {
    let (reply, tail) = bytes.split_at(length);
    *bytes = tail;
    let end = reply.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    let head = str::from_utf8(&reply[..end + 4]).unwrap();
    Reply { status: 200, head, body: &[], close: head.contains("\r\nConnection: close\r\n") }
}

/// Judges one connection.
pub(crate) fn judge(
    script: &Script,
    wire: &Wire,
    excuses: Excuses,
    durable: &BTreeSet<String>,
) -> Result<(), Violation> {
    let mut bytes = &wire.replies[..];
    let mut ended = None;
    let mut index = 0;
    let mut continued = None;
    while !bytes.is_empty() {
        if ended.is_some() {
            return Err(Violation::Bytes(format!("bytes after the last reply: {}", bytes.escape_ascii())));
        }
        let planned = script.requests.get(index);
        let cut = script.cut && index + 1 == script.requests.len();
        let streamed = planned.filter(|planned| planned.kind.is_some_and(Kind::is_streamed));
        if let Some(planned) = streamed.filter(|_| bytes.starts_with(b"HTTP/1.1 200 ")) {
            let Seen::Whole(length) = streamed::judge(planned, bytes, cut, wire, excuses, durable)? else {
                return Ok(());
            };
            let head = take_stream(&mut bytes, length);
            check_limit(planned, &head, excuses)?;
            check_end(planned, &head, false, excuses)?;
            if head.close {
                ended = Some(planned);
            }
            index += 1;
            continue;
        }
        let Some(reply) = take_reply(&mut bytes, planned.is_some_and(|planned| planned.head_only))? else {
            break;
        };
        // Without memory for a buffer nobody knows whether a request has come.
        if planned.is_none() && excuses.scarce && reply.status == 503 && reply.close {
            break;
        }
        let planned = planned
            .ok_or_else(|| Violation::Bytes(format!("a reply that nobody asked for: {}", reply.head)))?;
        if reply.status == 100 {
            if !planned.expects || continued.replace(index) == Some(index) {
                return Err(Violation::Bytes(format!("an unwanted 100 for {}", planned.path)));
            }
            continue;
        }
        check_limit(planned, &reply, excuses)?;
        let forced = check_reply(planned, &reply, cut, wire, excuses)?;
        check_audit(planned, &reply, forced, durable)?;
        check_end(planned, &reply, forced, excuses)?;
        if reply.close {
            ended = Some(planned);
        }
        index += 1;
    }
    let may_be_torn = wire.reset || excuses.jumped || excuses.over;
    if !bytes.is_empty() && !may_be_torn {
        return Err(Violation::Bytes(format!("a torn reply: {}", bytes.escape_ascii())));
    }
    if wire.aborted && !may_be_torn && !excuses.scarce {
        return Err(Violation::Abrupt(format!("although no reply was cut, after {index} of them")));
    }
    let excused = wire.reset || excuses.jumped || excuses.scarce || excuses.drained;
    if wire.abrupt && !excused && ended.is_none_or(|planned| !planned.asks_end) {
        return Err(Violation::Abrupt(format!("after {index} replies")));
    }
    if excuses.drained && wire.abrupt && ended.is_some_and(|planned| !planned.asks_end) && !excuses.jumped {
        return Err(Violation::Abrupt(format!("by a drain, after {index} replies")));
    }
    check_rest(script, wire, excuses, index, ended.is_some())
}

/// Whether the reply is what was planned or an excused one; returns whether it must be the last.
fn check_reply(
    planned: &Planned,
    reply: &Reply<'_>,
    cut: bool,
    wire: &Wire,
    excuses: Excuses,
) -> Result<bool, Violation> {
    if planned.head_only {
        // The body is not there to be looked at; its length was announced.
        let right = match &planned.answer {
            Answer::Body(body) => {
                reply.status == 200 && reply.head.contains(&format!("\r\nContent-Length: {}\r\n", body.len()))
            }
            Answer::Fault(status, _) => reply.status == *status,
        };
        let excused = (reply.status == 503 && (excuses.commit_failed || excuses.scarce))
            || (reply.status == 408 && (excuses.jumped || excuses.over));
        return if (right && !cut) || excused {
            Ok(reply.close && !right)
        } else {
            Err(Violation::Bytes(format!("for HEAD {}: {}", planned.path, reply.head)))
        };
    }
    let right = match &planned.answer {
        Answer::Body(body) => reply.status == 200 && reply.body == body,
        Answer::Fault(status, code) => reply.is_fault(*status, code),
    };
    if right && !cut {
        return Ok(false);
    }
    let head_arrived = wire.script.len() >= planned.head_end;
    let timed_out = reply.is_fault(408, "head_timeout") || reply.is_fault(408, "body_timeout");
    if timed_out && (excuses.jumped || (excuses.over && cut)) {
        return Ok(true);
    }
    if reply.is_fault(400, "incomplete_body") && cut && wire.ended && head_arrived {
        return Ok(true);
    }
    if reply.is_fault(503, "audit_unavailable") && excuses.commit_failed && planned.audited {
        return Ok(true);
    }
    if planned.kind.is_some_and(Kind::is_streamed)
        && reply.is_fault(503, "not_begun")
        && excuses.commit_failed
    {
        return Ok(reply.close);
    }
    if planned.kind == Some(Kind::Broken) && reply.is_fault(500, "internal_error") {
        return Ok(true);
    }
    let commits = matches!(planned.kind, Some(Kind::Commit | Kind::Change));
    if !cut && reply.is_fault(503, "not_committed") && excuses.commit_failed && commits {
        return Ok(false);
    }
    if reply.status == 503 && excuses.scarce {
        return Ok(reply.close);
    }
    let (head, body) = (reply.head, reply.body.get(..300).unwrap_or(reply.body).escape_ascii());
    Err(Violation::Bytes(format!("for {}: {head}{body}", planned.path)))
}

/// Every reply tells of the limit of its own request, whoever wrote it, and of no other's.
fn check_limit(planned: &Planned, reply: &Reply<'_>, excuses: Excuses) -> Result<(), Violation> {
    let told = reply.head.split("\r\n").find_map(|line| line.strip_prefix("RateLimit: "));
    let own = planned.kind.and_then(|_| quota_of(&planned.path));
    let expected = own.map(|quota| format!("\"key\";r={};t=9", quota.remaining));
    // What is written before the service saw the request cannot tell of its limit.
    let early = reply.is_fault(408, "head_timeout")
        || (reply.status == 408 && planned.head_only)
        || (reply.status == 503 && excuses.scarce);
    if told == expected.as_deref() || (told.is_none() && early) {
        return Ok(());
    }
    Err(Violation::Bytes(format!("not the limit of {}: {}", planned.path, reply.head)))
}

/// A reply of an audited request leaves only with its lines.
fn check_audit(
    planned: &Planned,
    reply: &Reply<'_>,
    forced: bool,
    durable: &BTreeSet<String>,
) -> Result<(), Violation> {
    let has = |what: &str| durable.contains(&format!("{} {what}", planned.path));
    let answered = matches!(planned.answer, Answer::Body(_)) || planned.kind == Some(Kind::Refused);
    if !planned.audited || forced || !answered || (reply.status == 503 && planned.head_only) {
        return Ok(());
    }
    let overloaded = reply.status == 503 && !reply.is_fault(503, "not_committed");
    if !overloaded && !has("outcome") {
        return Err(Violation::Audit(planned.path.clone()));
    }
    let changed = reply.status == 200 && matches!(planned.kind, Some(Kind::Commit | Kind::Change));
    if changed && !has("attempt") {
        return Err(Violation::Audit(format!("the attempt of {}", planned.path)));
    }
    Ok(())
}

fn check_end(planned: &Planned, reply: &Reply<'_>, forced: bool, excuses: Excuses) -> Result<(), Violation> {
    let refused = matches!(planned.answer, Answer::Fault(..));
    let must = planned.ends || forced;
    let may = must || (refused && planned.has_body) || excuses.drained || excuses.scarce || excuses.jumped;
    if (must && !reply.close && !excuses.scarce) || (reply.close && !may) {
        return Err(Violation::Bytes(format!("wrong Connection for {}: {}", planned.path, reply.head)));
    }
    Ok(())
}

/// Whether the requests without a reply may be without one.
fn check_rest(
    script: &Script,
    wire: &Wire,
    excuses: Excuses,
    answered: usize,
    ended: bool,
) -> Result<(), Violation> {
    let owed = script.requests.len() - usize::from(script.cut);
    if ended || wire.reset || answered >= owed {
        return Ok(());
    }
    if !wire.dropped {
        // Without memory for a refusal the end is announced without one.
        if wire.finished && excuses.scarce {
            return Ok(());
        }
        return Err(Violation::Stuck(format!("{answered} of {owed} requests were answered")));
    }
    if excuses.jumped || excuses.drained || excuses.scarce {
        return Ok(());
    }
    Err(Violation::Bytes(format!("closed after {answered} of {owed} replies")))
}
