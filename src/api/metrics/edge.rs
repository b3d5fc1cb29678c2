//! What comes and goes: requests, connections, memory, TLS, and who was turned away.
//!
//! Owns nothing. Invariant: of requests and handshakes only what has happened makes a line; every other set of labels is
//! written whole, so that a rate begins at zero.

use core::fmt;

use crate::api::route::TABLE;
use crate::http::status::Status;
use crate::metrics::families as family;
use crate::metrics::{
    AuthFailure, Exposition, HandshakeFailure, Limited, Observed, Refusal, Registry, TlsGroup, TlsVersion,
    Transport, UNMATCHED,
};

/// The rows of the route table with the place of each, and what matches none.
fn rows() -> impl Iterator<Item = (Option<u16>, [&'static str; 2])> {
    let rows = TABLE.iter().map(|route| (Some(route.place()), [route.method.name(), route.pattern]));
    rows.chain([(None, ["", UNMATCHED])])
}

pub(super) fn requests(page: &mut Exposition<'_>, registry: &Registry) -> fmt::Result {
    page.head(&family::HTTP_REQUESTS)?;
    for (place, [method, route]) in rows() {
        for (number, status) in Status::ALL.iter().enumerate() {
            let count = registry.requests(place, number);
            if count > 0 {
                let code = status.code().to_string();
                page.sample(&family::HTTP_REQUESTS, &[method, route, &code], count)?;
            }
        }
    }
    page.head(&family::HTTP_DURATION)?;
    for (place, labels) in rows() {
        let sum = registry.durations(place);
        if sum.count() > 0 {
            page.histogram(&family::HTTP_DURATION, &labels, &sum)?;
        }
    }
    page.one(&family::HTTP_LOST, registry.workers(|worker| worker.lost.get()))
}

pub(super) fn connections(
    page: &mut Exposition<'_>,
    registry: &Registry,
    observed: &Observed,
) -> fmt::Result {
    let (open, most) = observed.connections;
    page.one(&family::CONNECTIONS, open)?;
    page.one(&family::CONNECTIONS_LIMIT, most)?;
    page.head(&family::ACCEPTED)?;
    for (place, transport) in Transport::ALL.iter().enumerate() {
        let count = registry.counted(|worker| &worker.accepted, place);
        page.sample(&family::ACCEPTED, &[transport.name()], count)?;
    }
    page.head(&family::REFUSED)?;
    for (place, reason) in Refusal::ALL.iter().enumerate() {
        let count = registry.counted(|worker| &worker.refused, place);
        page.sample(&family::REFUSED, &[reason.name()], count)?;
    }
    page.head(&family::RECEIVED)?;
    for (place, transport) in Transport::ALL.iter().enumerate() {
        let count = registry.counted(|worker| &worker.received, place);
        page.sample(&family::RECEIVED, &[transport.name()], count)?;
    }
    page.head(&family::SENT)?;
    for (place, transport) in Transport::ALL.iter().enumerate() {
        let count = registry.counted(|worker| &worker.sent, place);
        page.sample(&family::SENT, &[transport.name()], count)?;
    }
    Ok(())
}

pub(super) fn memory(page: &mut Exposition<'_>, observed: &Observed) -> fmt::Result {
    page.one(&family::MEMORY_LIMIT, observed.memory_limit_bytes)?;
    page.one(&family::MEMORY_HELD, observed.memory_held_bytes)?;
    page.one(&family::MEMORY_LEASED, observed.memory_leased_bytes)?;
    page.one(&family::MEMORY_STRANGERS, observed.memory_strangers_bytes)
}

pub(super) fn tls(page: &mut Exposition<'_>, registry: &Registry, observed: &Observed) -> fmt::Result {
    page.one(&family::HANDSHAKING, observed.handshaking)?;
    page.head(&family::HANDSHAKES)?;
    for version in TlsVersion::ALL {
        for group in TlsGroup::ALL {
            for resumed in [false, true] {
                let count = registry.handshakes(*version, *group, resumed);
                if count > 0 {
                    let labels = [version.name(), group.name(), if resumed { "true" } else { "false" }];
                    page.sample(&family::HANDSHAKES, &labels, count)?;
                }
            }
        }
    }
    page.head(&family::HANDSHAKE_FAILURES)?;
    for (place, reason) in HandshakeFailure::ALL.iter().enumerate() {
        let count = registry.counted(|worker| &worker.handshake_failures, place);
        page.sample(&family::HANDSHAKE_FAILURES, &[reason.name()], count)?;
    }
    page.head(&family::CERTIFICATE_EXPIRY)?;
    for (number, (name, until)) in observed.certificates.iter().enumerate() {
        page.sample(&family::CERTIFICATE_EXPIRY, &[&(number + 1).to_string(), name], *until)?;
    }
    Ok(())
}

pub(super) fn refusals(page: &mut Exposition<'_>, registry: &Registry) -> fmt::Result {
    page.head(&family::LIMITED)?;
    for (place, by) in Limited::ALL.iter().enumerate() {
        page.sample(&family::LIMITED, &[by.name()], registry.counted(|worker| &worker.limited, place))?;
    }
    page.head(&family::AUTH_FAILURES)?;
    for (place, reason) in AuthFailure::ALL.iter().enumerate() {
        let count = registry.counted(|worker| &worker.auth_failures, place);
        page.sample(&family::AUTH_FAILURES, &[reason.name()], count)?;
    }
    Ok(())
}
