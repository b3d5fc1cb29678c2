//! The answer to `OPTIONS`.
//!
//! Owns what a page of a listed origin is told. Invariant: what is named is what is read.

use crate::api::payload::Digits;
use crate::api::route;
use crate::http::responder::Responder;
use crate::http::service::Arrival;
use crate::http::status::Status;
use crate::http::target::Method;
use crate::limits::PREFLIGHT_CACHE_SECONDS;

/// What a body of `PATCH` may be.
const PATCH_TYPES: &[u8] = b"application/json, application/merge-patch+json";
/// The fields that pages of a listed origin may send: those that are read.
const PAGE_FIELDS: &[u8] =
    b"Accept, Authorization, Content-Type, Last-Event-ID, X-API-Key, X-Request-Id, traceparent";

/// Answers `OPTIONS`: which methods the path takes, and, to a browser that asks for a page of a listed origin, what that
/// page may send.
pub(super) fn tell_methods(arrival: &Arrival<'_>, responder: &mut Responder<'_>) {
    let allow = route::allowed(arrival.head.path(arrival.bytes));
    let max_age = Digits::of(PREFLIGHT_CACHE_SECONDS);
    let fields: [(&str, &[u8]); 5] = [
        ("Access-Control-Allow-Methods", allow.as_bytes()),
        ("Access-Control-Allow-Headers", PAGE_FIELDS),
        ("Access-Control-Max-Age", max_age.as_bytes()),
        ("Allow", allow.as_bytes()),
        ("Accept-Patch", PATCH_TYPES),
    ];
    let mut wanted = arrival.head.values_from_last(arrival.bytes, "Access-Control-Request-Method");
    let first = if responder.asked().is_some() && wanted.next().is_some() { 0 } else { 3 };
    // RFC 5789, section 3.1: only what takes PATCH says how.
    let end = if allow.contains(Method::Patch.name()) { 5 } else { 4 };
    let fields = fields.get(first..end).unwrap_or_default();
    if responder.begin(Status::NoContent, None, 0, fields).is_err() {
        responder.overloaded();
    }
}
