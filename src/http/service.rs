//! What the connection asks of the application behind it.
//!
//! Owns the [`Service`] trait and the types that cross it. Invariants: a service sees a request only after its head
//! was accepted, and its body only after it was admitted; it writes exactly one reply for each, or, for a streamed
//! one ([`Exchange`]), begins one that is either finished or seen to be cut short.

use core::future::Future;
use std::net::IpAddr;

use crate::clock::Moment;
use crate::http::complaint::Complaint;
use crate::http::head::Head;
use crate::http::peer::Peer;
use crate::http::responder::{Fault, Responder};
use crate::http::status::Status;
use crate::model::{RequestId, TraceId};
use crate::reactor::Account;

/// A request whose head has arrived.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// The parsed head.
    pub head: &'a Head,
    /// The bytes of the head, into which it points.
    pub bytes: &'a [u8],
    /// The other end of the connection.
    pub peer: &'a Peer,
    /// The client: the peer, or, if that is a trusted proxy, whom it names. Everything that depends on where a request
    /// comes from goes by it.
    pub client: IpAddr,
    /// The identifier of the request.
    pub id: &'a RequestId,
    /// When its first byte was seen.
    pub started: Moment,
}

/// A request whose body has arrived too.
#[derive(Debug)]
pub struct Request<'a> {
    /// Its head and what is known about it.
    pub arrival: Arrival<'a>,
    /// Its body, to be worked on in place.
    pub body: &'a mut [u8],
}

/// How the body of an admitted request is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taking {
    /// It is waited for as a whole, and may have at most so many bytes.
    Whole(usize),
    /// It is taken piece by piece, whatever its length: [`Service::stream`] serves the request.
    Streamed,
    /// There must be none: [`Service::stream`] serves the request with a reply that is [pushed](Exchange::push), and
    /// with which the connection ends.
    Pushed,
}

/// What there is of a streamed body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gathered {
    /// As much as was wanted, or more.
    Enough,
    /// All that is left: the body has ended, with less than was wanted.
    Last,
    /// Less than was wanted, and the time is up until which it was to be waited for.
    Waiting,
}

/// A request that was answered.
#[derive(Clone, Copy, Debug)]
pub struct Told<'a> {
    /// The number that the service has named for it ([`Responder::count_at`]); nothing if it never came so far.
    pub place: Option<u16>,
    /// The status of the reply.
    pub status: Status,
    /// From the first byte of the request until the reply was made, or, if it was streamed, had left.
    pub elapsed_nanos: u64,
    /// The identifier of the request.
    pub id: &'a RequestId,
    /// The trace that it belongs to, if the log tells of requests.
    pub trace: Option<TraceId>,
}

/// Why a streamed exchange cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The body is malformed, too slow or cut short, or there is no memory for it.
    Fault(Fault<'static>),
    /// The peer does not take its reply.
    Stalled,
    /// The peer is gone.
    Lost,
}

/// The head of a streamed reply.
#[derive(Clone, Copy, Debug)]
pub struct Opening<'a> {
    /// The media type of the body.
    pub content_type: &'static str,
    /// The length of the body; nothing if it is sent in chunks, or, pushed to an HTTP/1.0 client, ends with the connection.
    pub length: Option<u64>,
    /// Further fields.
    pub fields: &'a [(&'a str, &'a [u8])],
    /// The first bytes of the body, at most `limits::STREAM_PREFIX_MAX_BYTES`.
    pub prefix: &'a [u8],
}

/// A piece of a streamed reply: bytes that were gathered and perhaps worked on in place, and what follows them.
#[derive(Clone, Copy, Debug)]
pub struct Piece<'a> {
    /// So many of the gathered bytes are done with.
    pub taken: usize,
    /// So many of those, from the front, are sent.
    pub sent: usize,
    /// What is sent behind them, at most `limits::STREAM_SUFFIX_MAX_BYTES`.
    pub suffix: &'a [u8],
}

/// A request whose body is taken, and whose reply is sent, piece by piece.
///
/// Until a piece was sent the request can be answered as any other ([`refuse`](Self::refuse)). A reply of which a piece
/// has left and that is not brought to its [`finish`](Self::finish) ends short of its announced length, or without its
/// last chunk, and its connection by a reset: a client that looks at neither still meets an error.
pub trait Exchange {
    /// The request without its body.
    fn arrival(&self) -> Arrival<'_>;

    /// The length of the body, if it was announced.
    fn length(&self) -> Option<u64>;

    /// Waits until `wanted` bytes of the body are gathered, the body has ended, or it is `until`.
    fn gather(&mut self, wanted: usize, until: Moment) -> impl Future<Output = Result<Gathered, Cut>>;

    /// The bytes of the body that were gathered and not yet taken, to be worked on in place.
    fn gathered(&mut self) -> &mut [u8];

    /// Takes `count` of the gathered bytes and sends none.
    fn skip(&mut self, count: usize);

    /// Begins the reply, with status 200. It leaves with the first piece.
    ///
    /// # Errors
    /// [`Cut`] if it finds no room; it can still be refused.
    fn begin(&mut self, opening: &Opening<'_>) -> Result<(), Cut>;

    /// Sends a piece of the reply, and lets others have their turn. The last byte of an announced length leaves only with
    /// [`finish`](Self::finish).
    fn send(&mut self, piece: Piece<'_>) -> impl Future<Output = Result<(), Cut>>;

    /// Sends the last piece and completes the reply.
    fn finish(&mut self, piece: Piece<'_>) -> impl Future<Output = Result<(), Cut>>;

    /// Has `write` fill room of its own with the next piece of a reply without a length, and sends what it says it wrote,
    /// at most `limits::PUSH_WINDOW_BYTES` with what frames it. Nothing written is nothing sent, unless the piece is
    /// the `last`, which completes the reply. To a `HEAD` the head is sent, and no piece.
    fn push(
        &mut self,
        last: bool,
        write: &mut dyn FnMut(&mut [u8]) -> usize,
    ) -> impl Future<Output = Result<(), Cut>>;

    /// Waits until it is `until`; `false` at once if the client has ended its direction. For requests without a body.
    fn pause(&mut self, until: Moment) -> impl Future<Output = Result<bool, Cut>>;

    /// Answers with a reply as any other, if nothing of another one has left. It leaves with its audit line.
    fn refuse(&mut self, write: impl FnOnce(&Arrival<'_>, &mut Responder<'_>));
}

/// The application.
pub trait Service {
    /// What the service remembers between the head and the body of a request.
    type Admission;

    /// In which shape a request for `path` is told what went wrong.
    fn complaint(&self, _path: &[u8]) -> Complaint {
        Complaint::Problem
    }

    /// Whether the service can take one more request in this turn.
    fn has_room(&self) -> bool;

    /// Judges a request by its head: route, credential, permission.
    ///
    /// Returns what to remember and how the body is taken, or nothing after writing a refusal.
    fn admit(
        &self,
        arrival: &Arrival<'_>,
        responder: &mut Responder<'_>,
    ) -> Option<(Self::Admission, Taking)>;

    /// On whose account the memory of an admitted request is; nothing: on that of all whom nobody has recognised.
    fn account<'a>(&self, _: &'a Self::Admission) -> Option<&'a Account> {
        None
    }

    /// Takes note of an admitted request that is refused by the connection: too long, too slow or malformed. The reply
    /// is written.
    fn refused(
        &self,
        admission: &Self::Admission,
        arrival: &Arrival<'_>,
        code: &'static str,
        responder: &mut Responder<'_>,
    );

    /// Takes note of an admitted request whose client is gone before all of it came: nobody is there to be answered.
    fn lost(&self, admission: &Self::Admission, arrival: &Arrival<'_>);

    /// Takes note of a request that was answered, once it is known with what.
    fn replied(&self, _: &Told<'_>) {}

    /// Carries out an admitted request and writes its reply.
    fn serve(
        &self,
        admission: Self::Admission,
        request: Request<'_>,
        responder: &mut Responder<'_>,
    ) -> impl Future<Output = ()>;

    /// Carries out an admitted request whose body is streamed. The audit line that tells of the beginning is with the
    /// kernel before the reply is begun, that of the end before it is finished.
    fn stream(&self, admission: Self::Admission, exchange: &mut impl Exchange) -> impl Future<Output = ()>;
}
