//! `sys`, and what of the engine's own settings can be asked for: how the server is, in the words of Vault's clients.
//!
//! Owns the forms of these replies. Invariants: they tell nothing of the host and nothing secret; a server that cannot serve
//! is told as a sealed one, whose end is what clients and load balancers wait for.

use serde::{Deserialize, Serialize};

use crate::api::form::{self, Form, Json, Sink};
use crate::api::payload::canonical_number;
use crate::api::vault::envelope::{CLOSING, Opening, reply_data};
use crate::api::vault::errors::fault;
use crate::api::vault::members::{Lenient, read, require_object};
use crate::api::{Answer, Call, FORBIDDEN, Rejection, Verdict, reply_json};
use crate::build_info;
use crate::http::media::ReplyForm;
use crate::http::responder::{Fault, Responder};
use crate::http::status::Status;
use crate::model::RequestId;

const NAME: &str = "quantonium";
/// There are no clusters: one identifier for all servers.
const NO_CLUSTER: &str = "00000000-0000-0000-0000-000000000000";
const BAD_CODE: Fault<'static> =
    fault("malformed_parameter", "a status code is none of those that this server sends");
const NO_UPSERT: Fault<'static> = fault(
    "upsert_not_allowed",
    "encrypting under a key that does not exist makes none here, and cannot be made to",
);

#[derive(Serialize)]
struct HealthForm {
    initialized: bool,
    sealed: bool,
    standby: bool,
    performance_standby: bool,
    replication_performance_mode: &'static str,
    replication_dr_mode: &'static str,
    server_time_utc: u64,
    version: &'static str,
    cluster_name: &'static str,
    cluster_id: &'static str,
}

#[derive(Serialize)]
struct SealForm {
    #[serde(rename = "type")]
    kind: &'static str,
    initialized: bool,
    sealed: bool,
    t: u32,
    n: u32,
    progress: u32,
    nonce: &'static str,
    version: &'static str,
    build_date: &'static str,
    migration: bool,
    cluster_name: &'static str,
    cluster_id: &'static str,
    recovery_seal: bool,
    storage_type: &'static str,
}

#[derive(Serialize)]
struct InitForm {
    initialized: bool,
}

#[derive(Serialize)]
struct LeaderForm {
    ha_enabled: bool,
    is_self: bool,
    active_time: &'static str,
    leader_address: &'static str,
    leader_cluster_address: &'static str,
    performance_standby: bool,
    performance_standby_last_remote_wal: u32,
}

/// `GET sys/health`, with the parameters that name other statuses.
///
/// # Errors
/// [`Rejection`]
pub fn health(call: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    let query = call.anything_asked()?;
    let good = call.health.is_good();
    let (name, usual) =
        if good { ("activecode", Status::Ok) } else { ("sealedcode", Status::ServiceUnavailable) };
    let status = match query.find_unique(name)? {
        None => usual,
        Some(text) => {
            let code = canonical_number(&text.to_cow()).and_then(|code| u16::try_from(code).ok());
            code.and_then(Status::of_code).filter(|status| *status != Status::Continue).ok_or(BAD_CODE)?
        }
    };
    let report = HealthForm {
        initialized: true,
        sealed: !good,
        standby: false,
        performance_standby: false,
        replication_performance_mode: "disabled",
        replication_dr_mode: "disabled",
        server_time_utc: call.wall.as_secs(),
        version: build_info::VERSION,
        cluster_name: NAME,
        cluster_id: NO_CLUSTER,
    };
    if status.is_bodiless() {
        responder.begin(status, None, 0, &[])?;
        return Ok(Verdict::Done);
    }
    reply_json(responder, status, &report)
}

/// `GET sys/seal-status`
///
/// # Errors
/// [`Rejection`]
pub fn seal_status(call: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    let status = SealForm {
        kind: "shamir",
        initialized: true,
        sealed: !call.health.is_good(),
        t: 1,
        n: 1,
        progress: 0,
        nonce: "",
        version: build_info::VERSION,
        build_date: "",
        migration: false,
        cluster_name: NAME,
        cluster_id: NO_CLUSTER,
        recovery_seal: false,
        storage_type: NAME,
    };
    reply_json(responder, Status::Ok, &status)
}

/// `GET sys/init`
///
/// # Errors
/// [`Rejection`]
pub fn init(_: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    reply_json(responder, Status::Ok, &InitForm { initialized: true })
}

/// `GET sys/leader`
///
/// # Errors
/// [`Rejection`]
pub fn leader(_: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    let leader = LeaderForm {
        ha_enabled: false,
        is_self: false,
        active_time: "0001-01-01T00:00:00Z",
        leader_address: "",
        leader_cluster_address: "",
        performance_standby: false,
        performance_standby_last_remote_wal: 0,
    };
    reply_json(responder, Status::Ok, &leader)
}

#[derive(Serialize)]
struct Mount {
    #[serde(rename = "type")]
    kind: &'static str,
    description: &'static str,
    accessor: &'static str,
    config: MountConfig,
    options: Options,
    local: bool,
    seal_wrap: bool,
    external_entropy_access: bool,
    plugin_version: &'static str,
    running_plugin_version: &'static str,
    running_sha256: &'static str,
    uuid: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
}

#[derive(Serialize)]
struct MountConfig {
    default_lease_ttl: u32,
    max_lease_ttl: u32,
    force_no_cache: bool,
}

#[derive(Serialize)]
struct Options {}

impl Mount {
    const fn transit(path: Option<String>) -> Self {
        Self {
            kind: "transit",
            description: "",
            accessor: "transit_quantonium",
            config: MountConfig { default_lease_ttl: 0, max_lease_ttl: 0, force_no_cache: false },
            options: Options {},
            local: false,
            seal_wrap: false,
            external_entropy_access: false,
            plugin_version: "",
            running_plugin_version: build_info::VERSION,
            running_sha256: "",
            uuid: NO_CLUSTER,
            path,
        }
    }
}

/// The mounts, which stand both in `data` and beside it.
struct Mounts<'a> {
    id: &'a RequestId,
    name: &'a str,
}

impl Mounts<'_> {
    fn write_entry(&self, sink: &mut impl Sink) {
        sink.put(b"\"");
        sink.put(self.name.as_bytes());
        sink.put(b"/\":");
        sink.put_json(&Mount::transit(None));
    }
}

impl Form for Mounts<'_> {
    fn write(&self, sink: &mut impl Sink) {
        Opening(self.id).write(sink);
        sink.put(b"{");
        self.write_entry(sink);
        sink.put(b"},");
        self.write_entry(sink);
        sink.put(CLOSING);
    }
}

/// `GET sys/mounts`
///
/// # Errors
/// [`Rejection`]
pub fn mounts(call: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    let mounts = Mounts { id: call.arrival.id, name: call.mount };
    form::reply(responder, Status::Ok, ReplyForm::Json, &[], &mounts)
}

/// `GET sys/internal/ui/mounts/{name}`
///
/// # Errors
/// [`Rejection`]
pub fn ui_mount(call: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    // What is mounted elsewhere is not told, nor that nothing is.
    if call.param != Some(call.mount) {
        return Err(FORBIDDEN.into());
    }
    let mount = Mount::transit(Some(format!("{}/", call.mount)));
    reply_data(call.arrival.id, responder, Json(&mount))
}

#[derive(Serialize)]
struct CacheForm {
    size: u32,
}

/// `GET` and `POST cache-config`: every key is in memory, whatever is asked for.
///
/// # Errors
/// [`Rejection`]
pub fn cache_config(call: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    require_object(call.body)?;
    reply_data(call.arrival.id, responder, Json(&CacheForm { size: 0 }))
}

#[derive(Serialize)]
struct KeysConfigForm {
    disable_upsert: bool,
}

#[derive(Deserialize)]
struct KeysConfigBody {
    #[serde(default)]
    disable_upsert: Option<Lenient<bool>>,
}

/// `GET` and `POST config/keys`
///
/// # Errors
/// [`Rejection`]
pub fn keys_config(call: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    let body: KeysConfigBody = read(call.body)?;
    if body.disable_upsert == Some(Lenient(false)) {
        return Err(NO_UPSERT.into());
    }
    reply_data(call.arrival.id, responder, Json(&KeysConfigForm { disable_upsert: true }))
}

/// `POST sign/{name}`: no key of this server has a public half.
///
/// # Errors
/// [`Rejection`]
pub fn sign(call: &mut Call<'_>, _: &mut Responder<'_>) -> Answer {
    const NO_SIGNATURES: Fault<'static> =
        fault("key_type_not_allowed", "keys of this server do not support signing");
    call.key(call.param.unwrap_or_default())?;
    Err::<Verdict, Rejection>(NO_SIGNATURES.into())
}
