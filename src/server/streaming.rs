//! Streams: sealing and opening while the body passes.
//!
//! Owns the order in which a stream is told, released and ended. Invariants: a chunk is sealed or opened in place, where it
//! was received; its first byte leaves after the line of the beginning is with the kernel, its last after that of the
//! end; before each chunk, and every second in between, key version and principal are looked up again in the newest
//! snapshot, which is not held while the stream waits; an opened chunk leaves only after its tag was verified, and
//! nothing is begun before the first one was.

use crate::api::payload::{DECRYPTION_FAILED, Digits};
use crate::api::route::Route;
use crate::api::stream::{self, Direction, InUse, KEY_REVOKED, Sealing};
use crate::api::{Call, FORBIDDEN, Rejection, Subject};
use crate::audit::Outcome;
use crate::audit::line::{Bytes, Request as AuditedRequest};
use crate::clock::Moment;
use crate::crypto::aead::TAG_BYTES;
use crate::crypto::stream::{
    CHUNK_BYTES, HEADER_BYTES, Opener, SEALED_CHUNK_BYTES, Sealer, opened_len, sealed_len,
};
use crate::http::media::ReplyForm;
use crate::http::responder::Fault;
use crate::http::service::{Cut, Exchange, Gathered, Opening, Piece, Service as _};
use crate::http::status::Status;
use crate::keeper::State;
use crate::limits::{
    HEAD_MAX_BYTES, LEASE_WINDOW_BYTES, RATE_UNIT_BYTES, STREAM_PREFIX_MAX_BYTES, STREAM_RECHECK_MILLIS,
    STREAM_SUFFIX_MAX_BYTES,
};
use crate::model::Principal;
use crate::publication::Entered;
use crate::reactor::turn::CommitFailed;
use crate::server::service::{App, CONNECTION_LOST, SoFar, about};

pub(super) const AUDIT_FAILED: Fault<'static> = Fault::new(
    Status::ServiceUnavailable,
    "audit_unavailable",
    "The audit log cannot be written, so the stream is not answered. Try again shortly.",
);

const TOO_LONG: Fault<'static> =
    Fault::new(Status::ContentTooLarge, "body_too_large", "The stream would be longer than streams can be.");

const _: () = {
    assert!(HEADER_BYTES <= STREAM_PREFIX_MAX_BYTES && TAG_BYTES <= STREAM_SUFFIX_MAX_BYTES);
    // Beside a chunk that is held back: the byte that tells that it is not the last, and what frames it.
    assert!(HEAD_MAX_BYTES + SEALED_CHUNK_BYTES + 64 <= LEASE_WINDOW_BYTES, "a window is of this class");
};

/// Why a stream is not brought to its end.
enum Stop {
    /// It can be answered with a refusal, if nothing was begun.
    Rejected(Rejection),
    /// The peer does not take its reply, or is gone.
    Gone(&'static str),
    /// The end could not be told, so that nothing can be told of that either.
    Untold,
}

impl From<Cut> for Stop {
    fn from(cut: Cut) -> Self {
        match cut {
            Cut::Fault(fault) => Self::Rejected(fault.into()),
            Cut::Stalled => Self::Gone("write_timeout"),
            Cut::Lost => Self::Gone(CONNECTION_LOST),
        }
    }
}

impl From<Rejection> for Stop {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }
}

/// What seals or opens.
enum Cipher {
    Seal(Sealer),
    Open(Opener),
}

impl Cipher {
    /// Length of every chunk but the last, as it comes in.
    const fn step(&self) -> usize {
        match self {
            Self::Seal(_) => CHUNK_BYTES,
            Self::Open(_) => SEALED_CHUNK_BYTES,
        }
    }

    /// Seals or opens a chunk in place; returns how much of it is sent, and the tag behind it.
    fn turn(&mut self, chunk: &mut [u8], last: bool) -> Result<(usize, Option<[u8; TAG_BYTES]>), Rejection> {
        match self {
            Self::Seal(sealer) => {
                let tag = sealer.seal(chunk, last).map_err(|_| TOO_LONG)?;
                Ok((chunk.len(), Some(tag)))
            }
            Self::Open(opener) => {
                let opened = opener.open(chunk, last).map_err(|_| DECRYPTION_FAILED)?;
                Ok((opened.len(), None))
            }
        }
    }
}

/// A stream on its way.
struct Run<'a> {
    app: &'a App,
    route: &'static Route,
    direction: Direction,
    principal: Principal,
    subject: Subject,
    in_use: Option<InUse>,
    /// What was taken, and what was handed to the kernel.
    bytes: Bytes,
    begun: bool,
    /// Whether some of the reply has left, so that it cannot be another one any more.
    left: bool,
    /// Whether it is given up before anything was answered.
    unanswered: bool,
    /// When its right to go on was looked at last.
    checked: Moment,
}

impl App {
    /// Serves a stream route.
    pub(super) async fn run_stream(
        &self,
        route: &'static Route,
        direction: Direction,
        principal: Principal,
        exchange: &mut impl Exchange,
    ) {
        let mut run = Run {
            app: self,
            route,
            direction,
            principal,
            subject: self.subjects.borrow_mut().pop().unwrap_or_default(),
            in_use: None,
            bytes: Bytes { read: 0, written: 0 },
            begun: false,
            left: false,
            unanswered: false,
            checked: self.turn.now(),
        };
        if let Err(stop) = run.serve(exchange).await {
            run.stop(stop, exchange).await;
        }
        run.subject.clear();
        self.subjects.borrow_mut().push(run.subject);
    }
}

impl<'a> Run<'a> {
    async fn serve(&mut self, exchange: &mut impl Exchange) -> Result<(), Stop> {
        match self.direction {
            Direction::Encrypt => {
                if exchange.length().is_some_and(|length| sealed_len(length).is_none()) {
                    return Err(Stop::Rejected(TOO_LONG.into()));
                }
                let Sealing { sealer, header, in_use } = self.call(exchange, stream::seal)?;
                self.in_use = Some(in_use);
                self.pass(exchange, Cipher::Seal(sealer), &header).await
            }
            Direction::Decrypt => {
                self.call(exchange, stream::check_open)?;
                let length = exchange.length();
                if length.is_some_and(|length| opened_len(length).is_none())
                    || self.gather(exchange, HEADER_BYTES).await? != Gathered::Enough
                {
                    return Err(Stop::Rejected(DECRYPTION_FAILED.into()));
                }
                let header = exchange.gathered().first_chunk::<HEADER_BYTES>().copied();
                let header = header.ok_or_else(|| Rejection::from(DECRYPTION_FAILED))?;
                let (opener, in_use) = self.call(exchange, |call| stream::open(call, &header))?;
                self.in_use = Some(in_use);
                exchange.skip(HEADER_BYTES);
                self.bytes.read += HEADER_BYTES as u64;
                self.pass(exchange, Cipher::Open(opener), &[]).await
            }
        }
    }

    /// Passes chunk after chunk. A full one is held back until it is known whether it is the last.
    async fn pass(
        &mut self,
        exchange: &mut impl Exchange,
        mut cipher: Cipher,
        prefix: &[u8],
    ) -> Result<(), Stop> {
        let step = cipher.step();
        loop {
            let last = self.gather(exchange, step + 1).await? == Gathered::Last;
            // The look lasts until the chunk is done: whoever takes the right away is not answered in between.
            let taken = if last { exchange.gathered().len() } else { step };
            let look = self.recheck(exchange, taken)?;
            let gathered = exchange.gathered();
            let (sent, tag) = cipher.turn(gathered.get_mut(..taken).unwrap_or_default(), last)?;
            drop(look);
            let piece = Piece { taken, sent, suffix: tag.as_ref().map_or(&[], <[u8; TAG_BYTES]>::as_slice) };
            if !self.begun {
                self.begin(exchange, prefix).await?;
            }
            let before = self.bytes;
            self.bytes.read += taken as u64;
            let leaving = (sent + piece.suffix.len()) as u64;
            if last {
                self.bytes.written += leaving;
                self.tell(exchange, Outcome::Success, None).await.map_err(|_| Stop::Untold)?;
                // It may have gone out of use while its end was told.
                self.recheck(exchange, 0).inspect_err(|_| self.bytes = before)?;
                self.left = true;
                return Ok(exchange.finish(piece).await?);
            }
            self.left = true;
            exchange.send(piece).await?;
            self.bytes.written += leaving;
        }
    }

    /// Tells of the beginning, and begins the reply.
    async fn begin(&mut self, exchange: &mut impl Exchange, prefix: &[u8]) -> Result<(), Stop> {
        let told = self.tell(exchange, Outcome::Begin, None).await;
        told.map_err(|_| Rejection::from(AUDIT_FAILED))?;
        self.recheck(exchange, 0)?;
        let length = exchange.length().and_then(match self.direction {
            Direction::Encrypt => sealed_len,
            Direction::Decrypt => opened_len,
        });
        let version = Digits::of(self.in_use.map_or(0, |in_use| in_use.version));
        exchange.begin(&Opening {
            content_type: ReplyForm::Octets.content_type(),
            length,
            fields: &[("X-Key-Version", version.as_bytes())],
            prefix,
        })?;
        self.bytes.written += prefix.len() as u64;
        self.begun = true;
        Ok(())
    }

    /// Waits for so much of the body, and looks every second whether the stream may go on.
    async fn gather(&mut self, exchange: &mut impl Exchange, wanted: usize) -> Result<Gathered, Stop> {
        loop {
            let until = self.checked.plus_millis(STREAM_RECHECK_MILLIS);
            match exchange.gather(wanted, until).await? {
                Gathered::Waiting => drop(self.recheck(exchange, 0)?),
                there => return Ok(there),
            }
        }
    }

    /// Whether principal and key version may still do what the stream does; the look at the snapshot that says so.
    /// So many bytes of the body are counted as what they cost.
    fn recheck(&mut self, exchange: &impl Exchange, taken: usize) -> Result<Entered<'a, State>, Stop> {
        self.checked = self.app.turn.now();
        let look = self.app.view.enter();
        let arrival = exchange.arrival();
        let judged = self.app.authorise(self.route, &look.callers, &arrival, Some(&self.principal))?;
        let named = self.route.permission().filter(|_| !self.subject.key.is_empty());
        if let (Some(authority), Some(permission)) = (judged, named)
            && !authority.may_key(permission, &self.subject.key)
        {
            return Err(Stop::Rejected(FORBIDDEN.into()));
        }
        if let (Some(authority), 1..) = (&judged, taken / RATE_UNIT_BYTES) {
            self.app.debit(authority, taken / RATE_UNIT_BYTES);
        }
        let revoked = |in_use: &InUse| !in_use.is_allowed(&look.ring, &self.subject.key, self.direction);
        if self.in_use.as_ref().is_some_and(revoked) {
            return Err(Stop::Rejected(KEY_REVOKED.into()));
        }
        Ok(look)
    }

    /// Runs what handlers do, with the head of the request.
    fn call<R>(
        &mut self,
        exchange: &impl Exchange,
        work: impl FnOnce(&mut Call<'_>) -> Result<R, Rejection>,
    ) -> Result<R, Rejection> {
        let so_far = SoFar { committed: None, made: false, kept: &mut None };
        let asked = (self.route, Some(&self.principal));
        self.app.with_call(asked, &exchange.arrival(), &mut [], so_far, &mut self.subject, work)
    }

    /// Appends a line of the stream and waits until it is with the kernel.
    async fn tell(
        &self,
        exchange: &impl Exchange,
        outcome: Outcome,
        code: Option<&'static str>,
    ) -> Result<(), CommitFailed> {
        self.find_room().await;
        let request = AuditedRequest {
            status: if self.unanswered { 0 } else { Status::Ok.code() },
            key: Some(self.subject.key.as_str()),
            key_version: self.in_use.map(|in_use| in_use.version),
            bytes: (outcome != Outcome::Begin).then_some(self.bytes),
            ..about(self.route, &exchange.arrival(), Some(&self.principal))
        };
        self.app.append(self.route.event.unwrap_or(self.route.pattern), outcome, code, request);
        self.app.turn.committed().await
    }

    /// Waits until the turn has room for the lines of one more request.
    async fn find_room(&self) {
        while !self.app.has_room() {
            self.app.turn.ended().await;
        }
    }

    /// Answers with a refusal if nothing was begun; else tells how far it came and leaves it cut short.
    async fn stop(&mut self, stop: Stop, exchange: &mut impl Exchange) {
        let code = match &stop {
            Stop::Rejected(rejection) => rejection.code(),
            Stop::Gone(code) => code,
            Stop::Untold => AUDIT_FAILED.code,
        };
        self.unanswered = !self.left && matches!(stop, Stop::Gone(_));
        if self.left || self.unanswered {
            if !matches!(stop, Stop::Untold) {
                // Whether it can be told or not: there is no more to say to the peer.
                let _ = self.tell(exchange, Outcome::Failure, Some(code)).await;
            }
            return;
        }
        self.find_room().await;
        self.subject.code = Some(code);
        let (app, route, principal, subject) = (self.app, self.route, &self.principal, &self.subject);
        exchange.refuse(|arrival, responder| {
            match &stop {
                Stop::Rejected(rejection) => rejection.write(responder),
                Stop::Untold => responder.fault(&AUDIT_FAILED, &[("Retry-After", b"1")]),
                Stop::Gone(_) => return,
            }
            app.tell(route, arrival, Some(principal), responder, subject);
        });
    }
}
