//! Waiting for what the peer sends: heads and bodies.
//!
//! Owns the deadlines of receiving. Invariants: everything owed to the peer is flushed before a wait for it; the
//! input grows class by class with what has come, once that was admitted, and never with what is announced; a body that is too long, too slow or cut short is
//! answered and ends the connection.

use crate::clock::Moment;
use crate::http::chunked::ChunkedDecoder;
use crate::http::connection::{Busy, End, buffered_length};
use crate::http::framing::Framing;
use crate::http::head::Head;
use crate::http::reply::CONTINUE;
use crate::http::responder::{Fault, OVERLOADED};
use crate::http::service::Service;
use crate::http::status::Status;
use crate::limits::BODY_RATE_MIN_BYTES_PER_SECOND;
use crate::reactor::{Exhausted, Failure, Transport};

const HEAD_TOO_SLOW: Fault<'static> =
    Fault::new(Status::RequestTimeout, "head_timeout", "The request head did not arrive in time.");
pub(super) const BODY_TOO_SLOW: Fault<'static> =
    Fault::new(Status::RequestTimeout, "body_timeout", "The request body did not arrive in time.");
pub(super) const BODY_CUT_SHORT: Fault<'static> =
    Fault::new(Status::BadRequest, "incomplete_body", "The request body ended before its announced length.");
pub(super) const BODY_TOO_LARGE: Fault<'static> = Fault::new(
    Status::ContentTooLarge,
    "body_too_large",
    "The request body is larger than this route takes.",
);

impl<T: Transport, S: Service> Busy<'_, T, S> {
    /// Waits for a complete head and takes it into hand. Returns whether its body is there too.
    pub(super) async fn read_head(&mut self) -> Result<bool, End> {
        loop {
            if !self.ws.input.filled().is_empty() {
                if self.ws.current.started == Moment::NEVER {
                    self.ws.current.started = self.channel.turn().now();
                    self.number();
                }
                match Head::parse_with(&mut self.ws.scan, self.ws.input.filled()) {
                    Ok(Some(head)) => return Ok(self.begin(head)),
                    Ok(None) => {}
                    Err(refusal) => return Err(self.refuse(&refusal.into(), &[])),
                }
            }
            if !self.ws.marks.is_empty() {
                self.flush().await?;
            }
            self.receive_head().await?;
        }
    }

    /// Receives some bytes of a head. With nothing in hand and nothing there, the connection is idle.
    async fn receive_head(&mut self) -> Result<(), End> {
        let begun = !self.ws.input.filled().is_empty();
        if self.ws.input.reserve_head().is_err() {
            return Err(if begun {
                self.refuse(&OVERLOADED, &[("Retry-After", b"1")])
            } else {
                self.send_no_memory().await
            });
        }
        let received = match self.channel.try_receive(self.ws.input.room_mut()) {
            Ok(Some(count)) => Ok(count),
            Ok(None) if !begun => return Err(End::Idle),
            Ok(None) => {
                self.stay()?;
                let deadline = self.ws.current.started.plus_millis(self.env.bounds.head_millis);
                self.channel.receive(self.ws.input.room_mut(), deadline).await
            }
            Err(failure) => Err(failure),
        };
        match received {
            Ok(0) => Err(End::Close),
            Ok(count) => {
                self.ws.input.advance(count);
                Ok(())
            }
            Err(Failure::TimedOut) => Err(self.refuse(&HEAD_TOO_SLOW, &[])),
            Err(Failure::Lost) => Err(End::Lost),
        }
    }

    /// Whoever was let in to be heard at once waits for more of what he says only if there is room for that by now.
    fn stay(&mut self) -> Result<(), End> {
        let stays = self.ws.input.stay();
        self.check_room(stays)
    }

    /// Waits for the body of the request in hand; it then follows the head in the input. Returns its length.
    pub(super) async fn read_body(&mut self, body_max: usize, whole: bool) -> Result<usize, End> {
        let Some(head) = &self.ws.current.head else { return Err(End::Lost) };
        let length = buffered_length(head);
        if length.is_some_and(|length| length > body_max)
            || matches!(head.framing, Framing::Length(_) if length.is_none())
        {
            return Err(self.refuse(&BODY_TOO_LARGE, &[]));
        }
        if let Some(length) = length.filter(|_| whole) {
            return Ok(length);
        }
        let (head_len, expects_continue) = (head.len, head.expects_continue);
        self.flush().await?;
        // Whoever is slow to send holds no room for his reply meanwhile.
        self.ws.output.put_down();
        self.ws.input.shrink();
        // Memory comes before the invitation to send what would need it.
        let missing =
            length.map_or(1, |length| (head_len + length).saturating_sub(self.ws.input.filled().len()));
        let reserved = self.ws.input.reserve_some(missing);
        self.check_room(reserved)?;
        if expects_continue && self.ws.input.filled().len() == head_len {
            let sent = self.channel.send_all(CONTINUE, self.env.bounds.write_millis).await;
            sent.map_err(|_| End::Lost)?;
        }
        match length {
            Some(length) => self.read_counted(head_len, length).await,
            None => self.read_chunked(head_len, body_max).await,
        }
    }

    async fn read_counted(&mut self, head_len: usize, length: usize) -> Result<usize, End> {
        let began = self.channel.turn().now();
        loop {
            let got = self.ws.input.filled().len();
            if got >= head_len + length {
                return Ok(length);
            }
            let reserved = self.ws.input.grow(head_len + length - got);
            self.check_room(reserved)?;
            self.receive_body(began, got.saturating_sub(head_len)).await?;
        }
    }

    /// Decodes in place: the input holds the head, what was decoded, and then what is still raw.
    async fn read_chunked(&mut self, head_len: usize, body_max: usize) -> Result<usize, End> {
        let began = self.channel.turn().now();
        let mut decoder = ChunkedDecoder::default();
        let mut decoded = 0;
        loop {
            let end = head_len + decoded;
            let raw = self.ws.input.filled_mut().get_mut(end..).unwrap_or_default();
            let progress = match decoder.decode(raw) {
                Ok(progress) => progress,
                Err(refusal) => return Err(self.refuse(&refusal.into(), &[])),
            };
            decoded += progress.produced;
            self.ws.input.remove(end + progress.produced, end + progress.consumed);
            if decoded > body_max {
                return Err(self.refuse(&BODY_TOO_LARGE, &[]));
            }
            if progress.done {
                return Ok(decoded);
            }
            if self.ws.input.room() == 0 {
                // One byte more than there is: the next class.
                let reserved = self.ws.input.reserve(1);
                self.check_room(reserved)?;
            }
            self.receive_body(began, decoded).await?;
        }
    }

    async fn receive_body(&mut self, began: Moment, got: usize) -> Result<(), End> {
        let bounds = &self.env.bounds;
        // After the first gap's time, what has come must have come at the lowest rate.
        let rate_millis = (got as u64).saturating_mul(1_000) / BODY_RATE_MIN_BYTES_PER_SECOND;
        let deadline = self
            .channel
            .turn()
            .now()
            .plus_millis(bounds.body_gap_millis)
            .min(began.plus_millis(bounds.body_millis))
            .min(began.plus_millis(bounds.body_gap_millis.saturating_add(rate_millis)));
        self.stay()?;
        match self.channel.receive(self.ws.input.room_mut(), deadline).await {
            Ok(0) => Err(self.refuse(&BODY_CUT_SHORT, &[])),
            Ok(count) => {
                self.ws.input.advance(count);
                Ok(())
            }
            Err(Failure::TimedOut) => Err(self.refuse(&BODY_TOO_SLOW, &[])),
            Err(Failure::Lost) => Err(End::Lost),
        }
    }

    fn check_room(&mut self, reserved: Result<(), Exhausted>) -> Result<(), End> {
        reserved.map_err(|Exhausted| self.refuse(&OVERLOADED, &[("Retry-After", b"1")]))
    }
}
