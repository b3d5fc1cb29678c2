//! Requests to etcd, over any of its endpoints.
//!
//! Owns [`Client`]. Invariants: an endpoint that fails gives way to the next; what must not be done twice says so itself (a transaction
//! that compares), so that everything may be sent again; once a transaction has been sent, only an answer of etcd says that it failed.

use zeroize::Zeroizing;

use super::exchange::{Asked, Fault, Wire};
use super::message::{self, Body};
use super::place::{Access, Endpoint};
use super::reply::Reply;
use crate::clock::Moment;
use crate::limits::{
    ETCD_CHANGE_MILLIS, ETCD_PAGE_COUNT, ETCD_REPLY_MAX_BYTES, ETCD_REQUEST_MILLIS, ETCD_RETRY_MILLIS,
};
use crate::store::etcd::link::{LinkError, Page, Span, Swap, Swapped};

/// The codes of gRPC that are told apart.
mod code {
    pub(super) const INVALID: u32 = 3;
    pub(super) const DENIED: u32 = 7;
    pub(super) const EXHAUSTED: u32 = 8;
    pub(super) const PRECONDITION: u32 = 9;
    pub(super) const OUT_OF_RANGE: u32 = 11;
    pub(super) const UNAUTHENTICATED: u32 = 16;
}

/// A way to etcd. One request at a time.
pub(super) struct Client {
    access: Access,
    /// Which endpoint is asked.
    turn: usize,
    wire: Option<Wire>,
    token: Option<Zeroizing<String>>,
    page_count: u32,
}

/// An answer.
struct Called {
    /// Nothing: it is too long.
    reply: Option<Vec<u8>>,
    /// Whether an earlier try, of which nobody said what came of it, may have been carried out.
    may_have: bool,
}

/// What came of one try.
enum Tried {
    Answered(Vec<u8>),
    /// Final.
    Refused(LinkError),
    /// The next endpoint may do better; whether it may have been applied.
    Again {
        may_have: bool,
        why: String,
    },
    /// The token is not good any more.
    Anew,
    TooLong,
}

impl Client {
    pub(super) const fn new(access: Access) -> Self {
        Self { access, turn: 0, wire: None, token: None, page_count: ETCD_PAGE_COUNT }
    }

    /// The endpoint that is asked now.
    pub(super) fn endpoint(&self) -> Option<&Endpoint> {
        self.access.endpoints.get(self.turn % self.access.endpoints.len().max(1))
    }

    /// Goes on to the next endpoint.
    pub(super) fn turn_away(&mut self) {
        self.wire = None;
        self.turn = (self.turn + 1) % self.access.endpoints.len().max(1);
    }

    /// Reads a page, of fewer pairs if they are long, and of more again once they are short. One deadline holds for all of that.
    pub(super) fn read(&mut self, span: &Span) -> Result<Page, LinkError> {
        let end = Moment::now().plus_millis(ETCD_CHANGE_MILLIS);
        loop {
            let asked_count = self.page_count;
            let body = message::range(span, asked_count);
            match self.call("/v3/kv/range", &body, end)?.reply {
                Some(reply) => {
                    let Some(page) = message::read_range(&reply) else {
                        self.turn_away();
                        return Err(unreadable());
                    };
                    self.judge_page(&page, asked_count)?;
                    // Of twice as many the reply would be about twice as long.
                    if page.more && reply.len() < ETCD_REPLY_MAX_BYTES / 4 {
                        self.page_count = asked_count.saturating_mul(2).min(ETCD_PAGE_COUNT);
                    }
                    return Ok(page);
                }
                None if asked_count > 1 => self.page_count = (asked_count / 8).max(1),
                None => {
                    return Err(LinkError::Refused(
                        "a record is longer than any that was written".to_owned(),
                    ));
                }
            }
        }
    }

    /// Refuses a page of more pairs than were asked for, or of fewer although there are more: with those it would never end.
    fn judge_page(&mut self, page: &Page, asked_count: u32) -> Result<(), LinkError> {
        let count = page.pairs.len();
        let asked = usize::try_from(asked_count).unwrap_or(usize::MAX);
        if count > asked || page.more && count < asked {
            // Another endpoint may be an etcd.
            self.turn_away();
            return Err(LinkError::Refused(format!("a page of {count} keys where {asked} were asked for")));
        }
        Ok(())
    }

    /// Makes a transaction; `lease` for all that is put, unless it is 0.
    pub(super) fn swap(&mut self, swap: &Swap, lease: u64) -> Result<Swapped, LinkError> {
        let body = message::txn(swap, lease);
        let end = Moment::now().plus_millis(ETCD_CHANGE_MILLIS);
        let Called { reply, may_have } = self.call("/v3/kv/txn", &body, end)?;
        match reply.as_deref().and_then(message::read_txn) {
            Some(Swapped::Lost(page)) if page.pairs.len() > swap.demands.len() => {
                Err(LinkError::Unknown("its reply names keys that were not asked for".to_owned()))
            }
            // What stands there may have come after what an earlier try has done.
            Some(Swapped::Lost(page)) if may_have => Ok(Swapped::Doubtful(page)),
            Some(swapped) => Ok(swapped),
            None => Err(LinkError::Unknown("its reply cannot be read".to_owned())),
        }
    }

    /// A new lease.
    pub(super) fn grant(&mut self, seconds: u64) -> Result<u64, LinkError> {
        let reply = self.call("/v3/lease/grant", &message::grant(seconds), soon())?.reply;
        let lease = reply.as_deref().and_then(message::read_lease).map(|(id, _)| id);
        lease.filter(|id| *id > 0).ok_or_else(unreadable)
    }

    /// Keeps a lease alive; for how many seconds, 0: it has ended.
    pub(super) fn keep_alive(&mut self, id: u64) -> Result<u64, LinkError> {
        let reply = self.call("/v3/lease/keepalive", &message::lease(id), soon())?.reply;
        reply.as_deref().and_then(message::read_lease).map(|(_, seconds)| seconds).ok_or_else(unreadable)
    }

    /// Ends a lease, and with it what hangs on it.
    pub(super) fn revoke(&mut self, id: u64) -> Result<(), LinkError> {
        self.call("/v3/lease/revoke", &message::lease(id), soon()).map(drop)
    }

    /// A connection of its own for a reply that does not end, to the endpoint that is asked now.
    pub(super) fn begin(&mut self, path: &str, body: &Body) -> Result<Wire, LinkError> {
        let deadline = soon();
        for _ in 0..2 {
            self.log_in(deadline)?;
            let endpoint = self.endpoint().ok_or_else(nowhere)?;
            let opened = Wire::open(&self.access, endpoint, deadline);
            let mut wire = opened.map_err(|error| LinkError::Away(error.to_string()))?;
            let token = self.token.as_ref().map(|token| token.as_str());
            let asked = Asked { path, token, body: body.as_bytes() };
            match wire.begin(&asked, deadline).map(|reply| reply.map(|reply| judge(&reply))) {
                Ok(None) => return Ok(wire),
                Ok(Some(Tried::Anew)) => self.token = None,
                Ok(Some(Tried::Refused(error))) => return Err(error),
                Ok(Some(_)) => return Err(LinkError::Away("it would not begin".to_owned())),
                Err(fault) => return Err(LinkError::Away(told(fault))),
            }
        }
        Err(LinkError::Refused("the token of etcd is not taken".to_owned()))
    }

    /// Sends a request until it is answered or it is `end`.
    fn call(&mut self, path: &str, body: &Body, end: Moment) -> Result<Called, LinkError> {
        let (mut may_have, mut why) = (false, String::new());
        let mut failed_count = 0;
        let mut anew_count = 0;
        while Moment::now() < end {
            let deadline = soon().min(end);
            match self.log_in(deadline).map(|()| self.attempt(path, body, deadline)) {
                Ok(Tried::Answered(reply)) => return Ok(Called { reply: Some(reply), may_have }),
                Ok(Tried::TooLong) => {
                    self.wire = None;
                    return Ok(Called { reply: None, may_have });
                }
                // What an earlier try may have done is not undone by this one's refusal.
                Ok(Tried::Refused(error)) | Err(error @ (LinkError::Refused(_) | LinkError::Full)) => {
                    // Final for this request; the next one may be asked of a member that is better.
                    self.turn_away();
                    return Err(if may_have { LinkError::Unknown(error.to_string()) } else { error });
                }
                Ok(Tried::Anew) => {
                    self.token = None;
                    anew_count += 1;
                    if anew_count > 2 {
                        let why = "the token of etcd is not taken".to_owned();
                        return Err(if may_have { LinkError::Unknown(why) } else { LinkError::Refused(why) });
                    }
                }
                Ok(Tried::Again { may_have: may, why: because }) => {
                    may_have |= may;
                    why = because;
                    failed_count += 1;
                    self.next(failed_count, end);
                }
                Err(error) => {
                    why = error.to_string();
                    failed_count += 1;
                    self.next(failed_count, end);
                }
            }
        }
        Err(if may_have { LinkError::Unknown(why) } else { LinkError::Away(why) })
    }

    /// Goes on to the next endpoint, after a pause if all have failed.
    fn next(&mut self, failed_count: usize, end: Moment) {
        self.turn_away();
        if failed_count.is_multiple_of(self.access.endpoints.len().max(1)) {
            let pause = Moment::now().plus_millis(ETCD_RETRY_MILLIS).min(end);
            // Nobody wakes it, and if somebody did nothing would be lost.
            std::thread::park_timeout(Moment::now().until(pause));
        }
    }

    fn attempt(&mut self, path: &str, body: &Body, deadline: Moment) -> Tried {
        let Some(endpoint) = self.endpoint().cloned() else {
            return Tried::Refused(nowhere());
        };
        let mut wire = match self.wire.take() {
            Some(wire) => wire,
            None => match Wire::open(&self.access, &endpoint, deadline) {
                Ok(wire) => wire,
                Err(error) => {
                    return Tried::Again { may_have: false, why: format!("{}: {error}", endpoint.address) };
                }
            },
        };
        let token = self.token.as_ref().map(|token| token.as_str());
        match wire.exchange(&Asked { path, token, body: body.as_bytes() }, deadline) {
            Ok(reply) => {
                self.wire = Some(wire);
                judge(&reply)
            }
            Err(Fault::TooLong) => Tried::TooLong,
            Err(fault) => {
                Tried::Again { may_have: true, why: format!("{}: {}", endpoint.address, told(fault)) }
            }
        }
    }

    /// Gets a token if a password is given and there is none.
    fn log_in(&mut self, deadline: Moment) -> Result<(), LinkError> {
        let Some((name, password)) = self.access.user.clone().filter(|_| self.token.is_none()) else {
            return Ok(());
        };
        let body = message::authenticate(&name, &password);
        let body = body.ok_or_else(|| LinkError::Refused("no such name".to_owned()))?;
        match self.attempt("/v3/auth/authenticate", &body, deadline) {
            Tried::Answered(reply) => {
                self.token = Some(Zeroizing::new(message::read_token(&reply).ok_or_else(unreadable)?));
                Ok(())
            }
            Tried::Refused(error) => Err(error),
            Tried::Again { why, .. } => Err(LinkError::Away(why)),
            Tried::Anew | Tried::TooLong => Err(unreadable()),
        }
    }
}

/// When one request to one endpoint has to be over that is sent now.
fn soon() -> Moment {
    Moment::now().plus_millis(ETCD_REQUEST_MILLIS)
}

/// What a reply means.
fn judge(reply: &Reply) -> Tried {
    if reply.status == 200 {
        return Tried::Answered(reply.body.clone());
    }
    let refusal = message::read_refusal(&reply.body);
    let text = refusal.message.as_ref();
    let refused = || {
        let shown: String = text.chars().filter(|char| !char.is_control()).take(200).collect();
        Tried::Refused(LinkError::Refused(format!("{shown} (HTTP {}, code {})", reply.status, refusal.code)))
    };
    match refusal.code {
        code::EXHAUSTED if text.contains("space exceeded") => Tried::Refused(LinkError::Full),
        code::OUT_OF_RANGE if text.contains("compacted") => Tried::Refused(LinkError::Compacted),
        code::UNAUTHENTICATED => Tried::Anew,
        code::INVALID if text.contains("user name is empty") => Tried::Anew,
        code::INVALID | code::DENIED | code::PRECONDITION => refused(),
        code::EXHAUSTED if !text.contains("too many requests") => refused(),
        0 if reply.status == 404 => Tried::Refused(LinkError::Refused(
            "there is no /v3 there: etcd 3.4 or later is needed, at the address for its clients".to_owned(),
        )),
        // No leader, a time-out, a change of leaders: of all these a transaction may have been applied.
        _ => Tried::Again {
            may_have: true,
            why: text.chars().filter(|char| !char.is_control()).take(200).collect(),
        },
    }
}

fn told(fault: Fault) -> String {
    match fault {
        Fault::Unanswered(why) => why,
        Fault::TooLong => "its reply is too long".to_owned(),
    }
}

fn unreadable() -> LinkError {
    LinkError::Away("a reply that cannot be read".to_owned())
}

fn nowhere() -> LinkError {
    LinkError::Refused("no endpoint is known".to_owned())
}
