//! What the connection asks of the application behind it.
//!
//! Owns the [`Service`] trait and the types that cross it. Invariants: a service sees a request only after its head
//! was accepted, and its body only after it was admitted; it writes exactly one reply for each.

use core::future::Future;
use std::net::IpAddr;

use crate::clock::Moment;
use crate::http::head::Head;
use crate::http::responder::Responder;
use crate::model::RequestId;

/// A request whose head has arrived.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// The parsed head.
    pub head: &'a Head,
    /// The bytes of the head, into which it points.
    pub bytes: &'a [u8],
    /// The client.
    pub peer: IpAddr,
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

/// The application.
pub trait Service {
    /// What the service remembers between the head and the body of a request.
    type Admission;

    /// Whether the service can take one more request in this turn.
    fn has_room(&self) -> bool;

    /// Judges a request by its head: route, credential, permission.
    ///
    /// Returns what to remember and how large the body may be, or nothing after writing a refusal.
    fn admit(&self, arrival: &Arrival<'_>, responder: &mut Responder<'_>)
    -> Option<(Self::Admission, usize)>;

    /// Takes note of an admitted request that is refused by the connection: too long, too slow or malformed. The reply
    /// is written.
    fn refused(
        &self,
        admission: &Self::Admission,
        arrival: &Arrival<'_>,
        code: &'static str,
        responder: &mut Responder<'_>,
    );

    /// Carries out an admitted request and writes its reply.
    fn serve(
        &self,
        admission: Self::Admission,
        request: Request<'_>,
        responder: &mut Responder<'_>,
    ) -> impl Future<Output = ()>;
}
