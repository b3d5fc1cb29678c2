//! `/api/health`: how the server is.
//!
//! Owns the form of the report. Invariants: it tells nothing of the host and nothing secret; 200 means that requests
//! will be served, 503 that they will not, and the report says which part is the reason. A store that takes no changes
//! is told as `degraded` with 200: what exists can be used, and a probe that takes the server out of service for it
//! would make a full disk an outage. So is a process that found itself altered: whoever can alter it must not be able to
//! take it out of service thereby. `--integrity-action stop` is for those who want it to end.

use serde::Serialize;

use crate::api::payload::Digits;
use crate::api::{Answer, Call, Verdict, reply_json};
use crate::build_info;
use crate::http::media::ReplyForm;
use crate::http::responder::Responder;
use crate::http::status::Status;
use crate::integrity::Check;
use crate::model::{Health, StoreHealth};

const WELL_BEFORE: &str =
    concat!("{\"status\":\"ok\",\"version\":\"", env!("CARGO_PKG_VERSION"), "\",\"uptime_seconds\":");
const WELL_AFTER: &str = ",\"components\":{\
    \"store\":{\"status\":\"ok\"},\"audit\":{\"status\":\"ok\"},\
    \"entropy\":{\"status\":\"ok\"},\"sandbox\":{\"status\":\"ok\"}}}";

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
    let all_good = health.is_good() && health.store == StoreHealth::Good;
    if all_good && !health.audit_low && health.integrity.is_empty() {
        return all_is_well(health.uptime_seconds, responder);
    }
    let report = report(health);
    reply_json(responder, status(health.is_good()), &report)
}

fn report(health: &Health) -> Report {
    Report {
        status: match health.is_good() {
            true if health.store != StoreHealth::Good || !health.integrity.is_empty() => "degraded",
            good => word(good),
        },
        version: build_info::VERSION,
        uptime_seconds: health.uptime_seconds,
        components: Components {
            store: store(health),
            audit: audit(health),
            entropy: entropy(health),
            sandbox: sandbox(health),
        },
    }
}

fn store(health: &Health) -> Component {
    const ALTERED: &str = "The end of the journal is not what was written: see /api/integrity.";
    match health.store {
        StoreHealth::Good => component(!health.integrity.has(Check::Journal), ALTERED),
        worse => component(false, worse.detail()),
    }
}

fn entropy(health: &Health) -> Component {
    const NONE: &str = "The system gives no random bytes: nothing can be encrypted.";
    const SUSPECT: &str = "The system's random bytes failed a health test: see /api/integrity.";
    if health.entropy {
        component(!health.integrity.has(Check::Entropy), SUSPECT)
    } else {
        component(false, NONE)
    }
}

/// What is found in the process itself is told of what locks it in.
fn sandbox(health: &Health) -> Component {
    const INCOMPLETE: &str = "The lock-down is not complete.";
    const ALTERED: &str = "The process is not as it was when it was locked in: see /api/integrity.";
    let elsewhere = |check: &Check| matches!(check, Check::Entropy | Check::Journal);
    let found = Check::ALL.iter().any(|check| !elsewhere(check) && health.integrity.has(*check));
    if health.sandbox { component(!found, ALTERED) } else { component(false, INCOMPLETE) }
}

/// An audit log that is low on space takes lines: the detail is a warning.
fn audit(health: &Health) -> Component {
    const FAILING: &str = "The audit log cannot be written: audited requests are refused.";
    match component(health.audit, FAILING) {
        Component { status, detail: None } if health.audit_low => {
            Component { status, detail: Some("The file system of the audit log is low on space.") }
        }
        other => other,
    }
}

/// The usual report, from two constant pieces: probes come often, and some of them in pipelines.
fn all_is_well(uptime_seconds: u64, responder: &mut Responder<'_>) -> Answer {
    let uptime = Digits::of(u32::try_from(uptime_seconds).unwrap_or(u32::MAX));
    let len = WELL_BEFORE.len() + uptime.as_bytes().len() + WELL_AFTER.len();
    responder.begin(Status::Ok, Some(ReplyForm::Json.content_type()), len, &[])?;
    for piece in [WELL_BEFORE.as_bytes(), uptime.as_bytes(), WELL_AFTER.as_bytes()] {
        responder.append(piece);
    }
    Ok(Verdict::Done)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::integrity::Failed;

    #[test]
    fn the_usual_report_is_the_one_that_is_made_from_its_members() {
        let health = Health {
            uptime_seconds: 42,
            store: StoreHealth::Good,
            audit: true,
            audit_low: false,
            entropy: true,
            sandbox: true,
            integrity: Failed::default(),
            draining: false,
        };
        let made = serde_json::to_string(&report(&health)).unwrap();
        assert_eq!(made, format!("{WELL_BEFORE}42{WELL_AFTER}"));
        let told = serde_json::to_string(&report(&Health { audit_low: true, ..health })).unwrap();
        assert!(told.starts_with(r#"{"status":"ok","version""#), "a warning is no failure: {told}");
        assert!(told.contains(r#""audit":{"status":"ok","detail":"The file system of"#), "{told}");
        let told =
            serde_json::to_string(&report(&Health { audit: false, audit_low: true, ..health })).unwrap();
        assert!(told.contains(r#""audit":{"status":"failing","detail":"The audit log cannot"#), "{told}");
        for store in [StoreHealth::Full, StoreHealth::Failing, StoreHealth::Poisoned] {
            let told = serde_json::to_string(&report(&Health { store, ..health })).unwrap();
            assert!(told.starts_with(r#"{"status":"degraded","version""#), "{told}");
            assert!(
                told.contains(&format!(r#""store":{{"status":"failing","detail":"{}"}}"#, store.detail()))
            );
            assert!(Health { store, ..health }.is_good(), "what exists can be used");
        }
        for check in Check::ALL {
            let found = Health { integrity: Failed::from_iter([check]), ..health };
            assert!(found.is_good(), "a probe does not end a server that found itself altered");
            let told = serde_json::to_string(&report(&found)).unwrap();
            assert!(told.starts_with(r#"{"status":"degraded","version""#), "{told}");
            let component = match check {
                Check::Entropy => "entropy",
                Check::Journal => "store",
                _ => "sandbox",
            };
            assert!(told.contains(&format!(r#""{component}":{{"status":"failing","detail":""#)), "{told}");
            assert_eq!(told.matches("failing").count(), 1, "{told}");
            assert!(told.contains("see /api/integrity"), "{told}");
            let worse = report(&Health { entropy: false, ..found });
            assert_eq!(worse.status, "failing", "what is not served at all is worse");
        }
        let bad = serde_json::to_string(&report(&Health { audit: false, ..health })).unwrap();
        assert!(
            bad.contains(r#""status":"failing","version""#) && bad.contains("audited requests are refused")
        );
    }
}
