//! `keys`: the life of keys as Vault's clients know it.
//!
//! Owns the form of a key there, and what each request asks of the key ring. Invariants: whether a change may be made is
//! judged by `keyring::change` alone; what a request does not name stays as it is; what this server never changes is
//! refused, and never passed over.

use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::api::body::Text;
use crate::api::form::Json;
use crate::api::vault::envelope::{reply_data, reply_done};
use crate::api::vault::errors::{NOTHING_THERE, bad, fault};
use crate::api::vault::members::{Duration, Lenient, read, require_object};
use crate::api::{Answer, Call, Rejection, UNKNOWN_KEY};
use crate::http::responder::{Fault, Responder};
use crate::keyring::{Change, Key, KeyVersion, Material};
use crate::limits::VAULT_AUTO_ROTATE_FLOOR_SECONDS;
use crate::model::{KeyName, KeyOptions, KeyType, PolicyChange, VersionState};

const BAD_NAME: Fault<'static> = fault(
    "malformed_key_name",
    "a key name has 1 to 128 letters, digits, dots, underscores and hyphens, and begins with a letter or digit",
);
const NEEDS_DERIVATION: Fault<'static> =
    fault("options_not_allowed", "convergent encryption requires derivation to be enabled");
const NO_DERIVATION: Fault<'static> =
    fault("options_not_allowed", "key derivation and convergent encryption are not for keys of type hmac");
const BAD_SIZE: Fault<'static> = fault(
    "key_size_not_allowed",
    "invalid key_size: HMAC keys have 32, 48 or 64 bytes here, others none of their own",
);
const BAD_PERIOD: Fault<'static> =
    fault("period_not_allowed", "auto rotate period must be 0 to disable or at least an hour");
const FOR_GOOD: Fault<'static> = fault(
    "options_not_allowed",
    "exportable and allow_plaintext_backup are settled when a key is made: what is not allowed then never is",
);
const NO_BOUND: Fault<'static> = fault("malformed_json", "missing min_available_version");

#[derive(serde::Deserialize)]
struct CreateBody<'a> {
    #[serde(rename = "type", borrow, default)]
    kind: Option<Text<'a>>,
    #[serde(default)]
    derived: Option<Lenient<bool>>,
    #[serde(default)]
    convergent_encryption: Option<Lenient<bool>>,
    #[serde(default)]
    exportable: Option<Lenient<bool>>,
    #[serde(default)]
    allow_plaintext_backup: Option<Lenient<bool>>,
    #[serde(default)]
    auto_rotate_period: Option<Lenient<Duration>>,
    #[serde(default)]
    key_size: Option<Lenient<u32>>,
}

#[derive(serde::Deserialize)]
struct ConfigBody {
    #[serde(default)]
    min_decryption_version: Option<Lenient<u32>>,
    #[serde(default)]
    min_encryption_version: Option<Lenient<u32>>,
    #[serde(default)]
    deletion_allowed: Option<Lenient<bool>>,
    #[serde(default)]
    exportable: Option<Lenient<bool>>,
    #[serde(default)]
    allow_plaintext_backup: Option<Lenient<bool>>,
    #[serde(default)]
    auto_rotate_period: Option<Lenient<Duration>>,
}

#[derive(serde::Deserialize)]
struct TrimBody {
    #[serde(default)]
    min_available_version: Option<Lenient<u32>>,
}

/// A key as these clients read it.
pub(super) struct KeyForm<'a>(pub(super) &'a Key);

impl Serialize for KeyForm<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let key = self.0;
        let (options, policy, encrypts) = (key.options(), key.policy(), key.kind().encrypts());
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("name", key.name().as_str())?;
        map.serialize_entry("type", kind_name(key.kind()))?;
        map.serialize_entry("derived", &options.derived)?;
        if options.derived {
            map.serialize_entry("kdf", "hkdf_sha256")?;
            map.serialize_entry("convergent_encryption", &options.convergent)?;
        }
        if options.convergent {
            map.serialize_entry("convergent_encryption_version", &-1)?;
        }
        if encrypts {
            map.serialize_entry("keys", &Versions(key))?;
        } else {
            map.serialize_entry("key_size", &size_of(key))?;
        }
        map.serialize_entry("latest_version", &key.latest_number())?;
        map.serialize_entry("min_available_version", &min_available(key))?;
        map.serialize_entry("min_decryption_version", &policy.min_decryption_version)?;
        map.serialize_entry("min_encryption_version", &policy.min_encryption_version)?;
        map.serialize_entry("deletion_allowed", &policy.deletion_allowed)?;
        map.serialize_entry("exportable", &options.exportable)?;
        map.serialize_entry("allow_plaintext_backup", &options.plaintext_backup)?;
        map.serialize_entry("auto_rotate_period", &policy.auto_rotate_seconds)?;
        map.serialize_entry("imported_key", &key.versions().any(KeyVersion::is_imported))?;
        map.serialize_entry("soft_deleted", &key.deletion().is_some())?;
        map.serialize_entry("supports_encryption", &encrypts)?;
        map.serialize_entry("supports_decryption", &encrypts)?;
        map.serialize_entry("supports_derivation", &encrypts)?;
        map.serialize_entry("supports_signing", &false)?;
        map.end()
    }
}

/// When each version was made that may still be used.
struct Versions<'a>(&'a Key);

impl Serialize for Versions<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let open = self.0.policy().min_decryption_version;
        let usable =
            |version: &&KeyVersion| version.number() >= open && version.state() != VersionState::Destroyed;
        serializer.collect_map(
            self.0
                .versions()
                .filter(usable)
                .map(|version| (version.number().to_string(), version.created().as_secs())),
        )
    }
}

/// The name of a type there: one for all HMAC keys.
pub(super) const fn kind_name(kind: KeyType) -> &'static str {
    match kind {
        KeyType::HmacSha256 | KeyType::HmacSha384 | KeyType::HmacSha512 => "hmac",
        other => other.name(),
    }
}

/// The type of this name and, of an HMAC key, of this size.
///
/// # Errors
/// 400 for a type that this server does not have.
pub(super) fn kind_of(name: &str, size: u32) -> Result<KeyType, Rejection> {
    match (name, size) {
        ("chacha20-poly1305", 0) => Ok(KeyType::ChaCha20Poly1305),
        ("xchacha20-poly1305", 0) => Ok(KeyType::XChaCha20Poly1305),
        ("hmac", 0 | 32) => Ok(KeyType::HmacSha256),
        ("hmac", 48) => Ok(KeyType::HmacSha384),
        ("hmac", 64) => Ok(KeyType::HmacSha512),
        ("chacha20-poly1305" | "xchacha20-poly1305" | "hmac", _) => Err(BAD_SIZE.into()),
        _ => {
            let shown: String = name.chars().filter(char::is_ascii_graphic).take(40).collect();
            Err(bad("unknown_key_type", format!("unknown key type {shown}")))
        }
    }
}

fn size_of(key: &Key) -> usize {
    match key.versions().last().and_then(KeyVersion::material) {
        Some(Material::Mac(bytes)) => bytes.len(),
        _ => Material::mac_algorithm(key.kind()).digest_len(),
    }
}

/// The oldest version that was not dropped, if one was.
fn min_available(key: &Key) -> u32 {
    match key.oldest_number() {
        1 => 0,
        oldest => oldest,
    }
}

/// How often a key is to be rotated.
///
/// # Errors
/// 400 for a period that is too short.
pub(super) fn period(given: Option<Lenient<Duration>>) -> Result<Option<u64>, Rejection> {
    let seconds = given.map(|Lenient(Duration(seconds))| seconds);
    match seconds {
        Some(seconds) if (1..VAULT_AUTO_ROTATE_FLOOR_SECONDS).contains(&seconds) => Err(BAD_PERIOD.into()),
        seconds => Ok(seconds),
    }
}

/// `POST keys/{name}`
///
/// # Errors
/// [`Rejection`]
pub fn create(call: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    if let Some(outcome) = call.changed_key()? {
        return reply_data(call.arrival.id, responder, Json(&KeyForm(&outcome.key)));
    }
    let body: CreateBody<'_> = read(call.body)?;
    let name = call.param.unwrap_or_default();
    call.sight().allow(call.subject, name)?;
    let name = KeyName::new(name).ok_or(BAD_NAME)?;
    let size = body.key_size.map_or(0, |Lenient(size)| size);
    // What is not said contradicts nothing: clients make sure of their keys whenever they start.
    let existing = call.ring.get(name.as_str()).map(|key| *key.options());
    let kind = match body.kind.as_ref().map(Text::as_str) {
        Some(kind) if !kind.is_empty() => kind_of(kind, size)?,
        _ => existing.map_or(KeyType::ChaCha20Poly1305, |options| options.kind),
    };
    let usual = existing.unwrap_or(KeyOptions::of(kind));
    let or = |given: Option<Lenient<bool>>, usual: bool| given.map_or(usual, |Lenient(given)| given);
    let options = KeyOptions {
        kind,
        derived: or(body.derived, usual.derived),
        convergent: or(body.convergent_encryption, usual.convergent),
        exportable: or(body.exportable, usual.exportable),
        plaintext_backup: or(body.allow_plaintext_backup, usual.plaintext_backup),
    };
    if (options.derived || options.convergent) && !kind.encrypts() {
        return Err(NO_DERIVATION.into());
    }
    if options.convergent && !options.derived {
        return Err(NEEDS_DERIVATION.into());
    }
    let policy =
        PolicyChange { auto_rotate_seconds: period(body.auto_rotate_period)?, ..PolicyChange::default() };
    Ok(Change::Create { name, options, policy }.into())
}

/// `GET keys/{name}`
///
/// # Errors
/// [`Rejection`]
pub fn read_one(call: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    let name = call.param.unwrap_or_default();
    call.allow(name)?;
    let key = call.ring.get_any(name).ok_or(NOTHING_THERE)?;
    reply_data(call.arrival.id, responder, Json(&KeyForm(key)))
}

#[derive(serde::Serialize)]
struct List<'a> {
    keys: Vec<&'a str>,
}

/// `LIST keys`
///
/// # Errors
/// [`Rejection`]
pub fn list(call: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    let query = call.anything_asked()?;
    let text = |name| -> Result<Option<String>, Rejection> {
        let value = query.find_unique(name)?.map(|text| text.to_cow().into_owned());
        value.map(|bytes| String::from_utf8(bytes).map_err(|_| NOTHING_THERE.into())).transpose()
    };
    let after = text("after")?;
    let limit = text("limit")?.and_then(|limit| limit.parse::<usize>().ok()).filter(|limit| *limit > 0);
    let limit = limit.unwrap_or(usize::MAX);
    let sight = call.sight();
    let page = |deleted| call.ring.page(after.as_deref(), limit, deleted, |name| sight.allows(name));
    let mut keys: Vec<&str> =
        page(false).into_iter().chain(page(true)).map(|key| key.name().as_str()).collect();
    keys.sort_unstable();
    keys.truncate(limit);
    if keys.is_empty() {
        return Err(NOTHING_THERE.into());
    }
    reply_data(call.arrival.id, responder, Json(&List { keys }))
}

/// The name in the path, of a key that exists and is not deleted.
pub(super) fn existing_name(call: &mut Call<'_>) -> Result<KeyName, Rejection> {
    call.key(call.param.unwrap_or_default()).map(|key| key.name().clone())
}

/// `POST keys/{name}/config`
///
/// # Errors
/// [`Rejection`]
pub fn configure(call: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    if let Some(outcome) = call.changed_key()? {
        return reply_data(call.arrival.id, responder, Json(&KeyForm(&outcome.key)));
    }
    let body: ConfigBody = read(call.body)?;
    let name = existing_name(call)?;
    let options = *call.key(name.as_str())?.options();
    let widens = |given: Option<Lenient<bool>>, now: bool| given == Some(Lenient(true)) && !now;
    if widens(body.exportable, options.exportable)
        || widens(body.allow_plaintext_backup, options.plaintext_backup)
    {
        return Err(FOR_GOOD.into());
    }
    let number = |given: Option<Lenient<u32>>| given.map(|Lenient(number)| number);
    let policy = PolicyChange {
        // There is no version 0: the oldest is meant.
        min_decryption_version: number(body.min_decryption_version).map(|number| number.max(1)),
        min_encryption_version: number(body.min_encryption_version),
        auto_rotate_seconds: period(body.auto_rotate_period)?,
        deletion_allowed: body.deletion_allowed.map(|Lenient(allowed)| allowed),
        keep_versions: None,
    };
    Ok(Change::Configure { name, policy, versions: Vec::new() }.into())
}

/// `POST keys/{name}/rotate`
///
/// # Errors
/// [`Rejection`]
pub fn rotate(call: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    if let Some(outcome) = call.changed_key()? {
        let key = outcome.key;
        call.subject.version = Some(key.latest_number());
        return reply_data(call.arrival.id, responder, Json(&KeyForm(&key)));
    }
    require_object(call.body)?;
    let name = existing_name(call)?;
    Ok(Change::Rotate { name, only_if_latest: None }.into())
}

/// `POST keys/{name}/trim`
///
/// # Errors
/// [`Rejection`]
pub fn trim(call: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    if let Some(outcome) = call.changed_key()? {
        return reply_data(call.arrival.id, responder, Json(&KeyForm(&outcome.key)));
    }
    let body: TrimBody = read(call.body)?;
    let name = existing_name(call)?;
    let Lenient(oldest) = body.min_available_version.ok_or(NO_BOUND)?;
    if oldest < call.key(name.as_str())?.oldest_number() {
        return Err(bad("policy_not_allowed", "minimum available version cannot be decremented".to_owned()));
    }
    Ok(Change::Trim { name, oldest }.into())
}

/// `DELETE keys/{name}`: for good, as its clients expect.
///
/// # Errors
/// [`Rejection`]
pub fn delete(call: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    if call.changed_key()?.is_some() {
        return reply_done(responder);
    }
    let name = call.param.unwrap_or_default();
    call.allow(name)?;
    let name = call.ring.get_any(name).ok_or(UNKNOWN_KEY)?.name().clone();
    Ok(Change::Destroy { name }.into())
}

/// `DELETE keys/{name}/soft-delete`
///
/// # Errors
/// [`Rejection`]
pub fn soft_delete(call: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    if let Some(outcome) = call.changed_key()? {
        return reply_data(call.arrival.id, responder, Json(&KeyForm(&outcome.key)));
    }
    let name = existing_name(call)?;
    Ok(Change::Delete { name }.into())
}

/// `POST keys/{name}/soft-delete-restore`
///
/// # Errors
/// [`Rejection`]
pub fn soft_delete_restore(call: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    if let Some(outcome) = call.changed_key()? {
        return reply_data(call.arrival.id, responder, Json(&KeyForm(&outcome.key)));
    }
    let name = call.param.unwrap_or_default();
    call.allow(name)?;
    let key = call.ring.get_any(name).ok_or(UNKNOWN_KEY)?;
    if key.deletion().is_none() {
        return reply_data(call.arrival.id, responder, Json(&KeyForm(key)));
    }
    Ok(Change::Undelete { name: key.name().clone() }.into())
}
