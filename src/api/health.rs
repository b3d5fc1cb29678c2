//! `/api/health`: how the server is.
//!
//! Owns the form of the report. Invariants: it tells nothing of the host and nothing secret; 200 means that requests
//! will be served, 503 that they will not, and the report says which part is the reason.

use serde::Serialize;

use crate::api::{Answer, Call, reply_json};
use crate::build_info;
use crate::http::responder::Responder;
use crate::http::status::Status;

#[derive(Serialize)]
struct Report {
    status: &'static str,
    version: &'static str,
    uptime_seconds: u64,
    components: Components,
}

#[derive(Serialize)]
struct Components {
    store: Component,
    audit: Component,
    entropy: Component,
    sandbox: Component,
}

#[derive(Serialize)]
struct Component {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'static str>,
}

#[derive(Serialize)]
struct Short {
    status: &'static str,
}

/// `GET /api/health`
///
/// # Errors
/// [`crate::api::Rejection`] for a query.
pub fn health(call: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    call.query(&[])?;
    let health = call.health;
    let report = Report {
        status: word(health.is_good()),
        version: build_info::VERSION,
        uptime_seconds: health.uptime_seconds,
        components: Components {
            store: Component { status: "ok", detail: Some("Keys live in memory and end with the process.") },
            audit: component(health.audit, "The audit log cannot be written: audited requests are refused."),
            entropy: component(health.entropy, "The system gives no random bytes: nothing can be encrypted."),
            sandbox: component(health.sandbox, "The lock-down is not complete."),
        },
    };
    reply_json(responder, status(health.is_good()), &report)
}

/// `GET /api/health/live`: whether the process answers at all.
///
/// # Errors
/// [`crate::api::Rejection`] for a query.
pub fn live(call: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    call.query(&[])?;
    reply_json(responder, Status::Ok, &Short { status: "ok" })
}

/// `GET /api/health/ready`: whether to send it requests.
///
/// # Errors
/// [`crate::api::Rejection`] for a query.
pub fn ready(call: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    call.query(&[])?;
    let ready = call.health.is_good() && !call.health.draining;
    let word = if call.health.draining { "draining" } else { word(ready) };
    reply_json(responder, status(ready), &Short { status: word })
}

const fn status(good: bool) -> Status {
    if good { Status::Ok } else { Status::ServiceUnavailable }
}

const fn word(good: bool) -> &'static str {
    if good { "ok" } else { "failing" }
}

fn component(good: bool, reason: &'static str) -> Component {
    Component { status: word(good), detail: (!good).then_some(reason) }
}
