//! `/api/integrity`: how the process is locked in, and what it finds when it looks at itself.
//!
//! Owns the form of the report. Invariants: it holds nothing secret and no path of the host; what it says of the kernel is
//! what the kernel said, at the time that stands beside it, and not what the server believes; a step that was not
//! taken is told with its reason.

use serde::Serialize;

use crate::api::keys::form::Timestamp;
use crate::api::{Answer, Call, reply_json};
use crate::build_info;
use crate::encoding::hex_encode;
use crate::http::responder::Responder;
use crate::http::status::Status;
use crate::integrity::{Board, CapabilityView, KernelView, Standing, State};
use crate::model::{Outcome, Posture, Step};

#[derive(Serialize)]
struct Report<'a> {
    status: &'static str,
    sandbox: Sandbox<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kernel: Option<Kernel<'a>>,
    checks: Vec<Checked<'a>>,
    binary: Binary,
}

#[derive(Serialize)]
struct Sandbox<'a> {
    mode: &'static str,
    steps: Vec<Taken<'a>>,
    landlock_abi: i32,
    allowed_missing: Vec<&'static str>,
}

#[derive(Serialize)]
struct Taken<'a> {
    step: &'static str,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

#[derive(Serialize)]
struct Kernel<'a> {
    at: Timestamp,
    uid: [u32; 4],
    gid: [u32; 4],
    groups: &'a [u32],
    capabilities: Capabilities,
    no_new_privs: bool,
    seccomp: u64,
    threads: u64,
    tracer: u64,
}

#[derive(Serialize)]
struct Capabilities {
    inheritable: String,
    permitted: String,
    effective: String,
    bounding: String,
    ambient: String,
}

#[derive(Serialize)]
struct Checked<'a> {
    check: &'static str,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_at: Option<Timestamp>,
    looks: u64,
    findings: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    finding: Option<&'a str>,
}

#[derive(Serialize)]
struct Binary {
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
    version: &'static str,
    commit: &'static str,
}

/// `GET /api/integrity`
///
/// # Errors
/// [`crate::api::Rejection`] for a query.
pub fn integrity(call: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    call.query(&[])?;
    let (standings, kernel) = (call.board.standings(), call.board.kernel());
    let report = Report {
        status: if call.board.is_good() { "ok" } else { "degraded" },
        sandbox: sandbox(call.posture),
        kernel: kernel.as_deref().map(of_kernel),
        checks: standings.iter().map(checked).collect(),
        binary: binary(call.board),
    };
    reply_json(responder, Status::Ok, &report)
}

fn sandbox(posture: &Posture) -> Sandbox<'_> {
    Sandbox {
        mode: posture.mode.name(),
        steps: posture.steps.iter().map(taken).collect(),
        landlock_abi: posture.landlock_abi,
        allowed_missing: posture.allowed_missing.iter().map(|step| step.name()).collect(),
    }
}

fn taken((step, outcome): &(Step, Outcome)) -> Taken<'_> {
    Taken { step: step.name(), outcome: outcome.name(), reason: outcome.reason() }
}

fn of_kernel(view: &KernelView) -> Kernel<'_> {
    let CapabilityView { inheritable, permitted, effective, bounding, ambient } = view.capabilities;
    // As proc_pid_status(5) writes a set.
    let set = |bits: u64| format!("{bits:016x}");
    Kernel {
        at: Timestamp(view.at),
        uid: view.uid,
        gid: view.gid,
        groups: &view.groups,
        capabilities: Capabilities {
            inheritable: set(inheritable),
            permitted: set(permitted),
            effective: set(effective),
            bounding: set(bounding),
            ambient: set(ambient),
        },
        no_new_privs: view.no_new_privs,
        seccomp: view.seccomp,
        threads: view.threads,
        tracer: view.tracer,
    }
}

fn checked(standing: &Standing) -> Checked<'_> {
    Checked {
        check: standing.check.name(),
        state: standing.state.name(),
        last_at: (standing.state != State::Pending).then_some(Timestamp(standing.last)),
        looks: standing.looks,
        findings: standing.findings,
        finding: standing.finding.as_deref(),
    }
}

fn binary(board: &Board) -> Binary {
    let sum = board.binary().and_then(|sum| {
        let mut digits = [0; 64];
        hex_encode(&sum, &mut digits)?;
        str::from_utf8(&digits).ok().map(str::to_owned)
    });
    Binary { sha256: sum, version: build_info::VERSION, commit: build_info::COMMIT }
}
