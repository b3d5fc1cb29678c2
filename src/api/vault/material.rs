//! `export`, `backup`, `restore` and `keys/{name}/import`: keys on their way in and out, to and from Vault and `OpenBao` too.
//!
//! Owns the forms of these requests, and the reading of the backups that those two make. Invariants: what was taken is
//! decoded in the lease, which is wiped; a key that was not made to be given out never is; what may have been used elsewhere
//! with 96-bit nonces seals nothing here, and a fresh version does.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;

use crate::api::body::Text;
use crate::api::form::{Encoding, Form, Json, Sink};
use crate::api::payload::canonical_number;
use crate::api::vault::envelope::{reply_data, reply_done};
use crate::api::vault::errors::{NOTHING_THERE, fault};
use crate::api::vault::keys::{KeyForm, kind_name, kind_of, period};
use crate::api::vault::members::{Duration, Lenient, decode, read};
use crate::api::vault::segment_of;
use crate::api::{Answer, Call, Rejection};
use crate::audit::line::Detail;
use crate::clock::WallTime;
use crate::http::responder::{Fault, Responder};
use crate::keyring::backup::{self as text, PLAIN_PREFIX, SEALED_PREFIX, open_backup};
use crate::keyring::{Change, Circumstances, Foreign, Key, KeyVersion, Material, assemble};
use crate::limits::BACKUP_IN_BODY_MAX_BYTES;
use crate::model::{KeyName, KeyOptions, KeyType, PolicyChange};
use crate::secret::SecretBytes;

const NOT_EXPORTABLE: Fault<'static> = fault("key_not_exportable", "private key material is not exportable");
const BAD_KIND: Fault<'static> =
    fault("unknown_export_type", "invalid export type: those of this server are encryption-key and hmac-key");
const NOT_OF_KEY: Fault<'static> = fault("key_type_not_allowed", "encryption not supported for the key");
const UNKNOWN_VERSION: Fault<'static> =
    fault("unknown_key_version", "version does not exist or cannot be found");
const EXPORT_DISALLOWED: Fault<'static> =
    fault("plaintext_backup_not_allowed", "exporting is disallowed on the policy");
const BACKUP_DISALLOWED: Fault<'static> =
    fault("plaintext_backup_not_allowed", "plaintext backup is disallowed on the policy");
const TOO_LARGE: Fault<'static> =
    fault("backup_too_large", "the backup would be longer than a request may be");
const REJECTED: Fault<'static> = fault(
    "backup_rejected",
    "this is no backup of a key of this server, of Vault or of OpenBao, or one of a type that this server does not have",
);
const OLD_DERIVATION: Fault<'static> = fault(
    "backup_rejected",
    "the key derives in a way that newer versions of Vault do not use any more: rewrap what it has sealed under another key there",
);
const BAD_NAME: Fault<'static> = fault("malformed_key_name", "this server takes no key of that name");
const WRAPPED: Fault<'static> = fault(
    "wrapped_import",
    "a wrapped import needs RSA, which this server does not have: send type and keys, as export gives them",
);
const NO_KEYS: Fault<'static> =
    fault("malformed_material", "missing keys: versions and their base64, as export gives them");
const BAD_MATERIAL: Fault<'static> = fault("malformed_material", "a key is not canonical base64");

/// `GET export/{kind}/{name}` and `GET export/{kind}/{name}/{version}`
///
/// # Errors
/// [`Rejection`]
pub fn export(call: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    let name = call.param.unwrap_or_default();
    call.allow(name)?;
    let key = call.ring.get(name).ok_or(NOTHING_THERE)?;
    let part = match segment_of(call, 4) {
        Some("encryption-key") if key.kind().encrypts() => Part::Encryption,
        Some("encryption-key") => return Err(NOT_OF_KEY.into()),
        Some("hmac-key") => Part::Hmac,
        _ => return Err(BAD_KIND.into()),
    };
    if !key.options().exportable {
        return Err(NOT_EXPORTABLE.into());
    }
    let only = match segment_of(call, 6) {
        None => None,
        Some("latest") => Some(key.latest_number()),
        Some(number) => Some(number.parse().map_err(|_| UNKNOWN_VERSION)?),
    };
    if let Some(number) = only {
        let given = key.version(number).filter(|version| is_given(key, version));
        given.ok_or(UNKNOWN_VERSION)?;
        call.subject.version = Some(number);
    }
    reply_data(call.arrival.id, responder, Export { key, part, only })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Encryption,
    Hmac,
}

fn is_given(key: &Key, version: &KeyVersion) -> bool {
    version.number() >= key.policy().min_decryption_version && version.material().is_some()
}

struct Export<'a> {
    key: &'a Key,
    part: Part,
    only: Option<u32>,
}

impl Form for Export<'_> {
    fn write(&self, sink: &mut impl Sink) {
        sink.put(b"{\"name\":\"");
        sink.put(self.key.name().as_str().as_bytes());
        sink.put(b"\",\"type\":\"");
        sink.put(kind_name(self.key.kind()).as_bytes());
        sink.put(b"\",\"keys\":{");
        let wanted = |version: &&KeyVersion| {
            is_given(self.key, version) && self.only.is_none_or(|only| version.number() == only)
        };
        let mut before: &[u8] = b"\"";
        for version in self.key.versions().filter(wanted) {
            let Some(material) = version.material() else { continue };
            sink.put(before);
            sink.put_number(version.number());
            sink.put(b"\":\"");
            let mut put = |bytes: &[u8]| sink.put_encoded(bytes, Encoding::Base64);
            match (material, self.part) {
                (Material::Encryption { enc, .. }, Part::Encryption) => enc.with(|bytes| put(bytes)),
                (Material::Encryption { mac, .. }, Part::Hmac) => mac.with(|bytes| put(bytes)),
                (Material::Mac(key), _) => key.with(put),
            }
            sink.put(b"\"");
            before = b",\"";
        }
        sink.put(b"}}");
    }
}

/// `GET backup/{name}`
///
/// # Errors
/// [`Rejection`]
pub fn backup(call: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    let name = call.param.unwrap_or_default();
    call.allow(name)?;
    let key = call.ring.get(name).ok_or(NOTHING_THERE)?;
    if !key.options().exportable {
        return Err(EXPORT_DISALLOWED.into());
    }
    let backup = text::write_plain_backup(key).map_err(|_| BACKUP_DISALLOWED)?;
    call.subject.detail = Some(Detail::Plaintext);
    // What could not be brought back is no backup.
    if backup.len() > BACKUP_IN_BODY_MAX_BYTES {
        return Err(TOO_LARGE.into());
    }
    reply_data(call.arrival.id, responder, BackupForm(backup.as_bytes()))
}

struct BackupForm<'a>(&'a [u8]);

impl Form for BackupForm<'_> {
    fn write(&self, sink: &mut impl Sink) {
        sink.put(b"{\"backup\":\"");
        sink.put(self.0);
        sink.put(b"\"}");
    }
}

#[derive(Deserialize)]
struct RestoreBody<'a> {
    #[serde(borrow, default)]
    backup: Option<Text<'a>>,
    #[serde(borrow, default)]
    name: Option<Text<'a>>,
    #[serde(default)]
    force: Option<Lenient<bool>>,
}

/// `POST restore` and `POST restore/{name}`
///
/// # Errors
/// [`Rejection`]
pub fn restore(call: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    if call.changed_key()?.is_some() {
        return reply_done(responder);
    }
    call.resolve_escapes();
    let (wanted, replace, backup) = {
        let body: RestoreBody<'_> = read(call.body)?;
        let wanted = call.param.or(body.name.as_ref().map(Text::as_str)).filter(|name| !name.is_empty());
        let wanted = wanted.map(|name| KeyName::new(name).ok_or(BAD_NAME)).transpose()?;
        let replace = body.force == Some(Lenient(true));
        (wanted, replace, body.backup.map(|text| text.into_piece(call.body)))
    };
    if let Some(name) = &wanted {
        call.sight().allow(call.subject, name.as_str())?;
    }
    let mut piece = backup.ok_or(REJECTED)?;
    let backup = piece.bytes_mut(call.body);
    let own = |prefix: &str| backup.starts_with(prefix.as_bytes());
    let key = if own(PLAIN_PREFIX) {
        text::read_plain_backup(str::from_utf8(backup).unwrap_or_default()).map_err(|_| REJECTED)?
    } else if own(SEALED_PREFIX) {
        let text = str::from_utf8(backup).unwrap_or_default();
        call.tools.backup_key.with(|backup_key| open_backup(text, backup_key)).map_err(|_| REJECTED)?
    } else {
        let (now, tools) = (call.now, &mut *call.tools);
        let mut draw = |bytes: &mut [u8]| tools.random.fill(now, bytes);
        let mut at = Circumstances { now: call.wall, restore_window_seconds: 0, draw: &mut draw };
        of_vault(decode(backup).ok_or(REJECTED)?, &mut at)?
    };
    // A key must not come back under another name for somebody who may not have it under its own.
    call.sight().allow(call.subject, key.name().as_str())?;
    let name = wanted.unwrap_or_else(|| key.name().clone());
    call.subject.note_key(name.as_str());
    // Whether there is a key to replace is known when the change is made.
    call.subject.detail = replace.then_some(Detail::Replaced);
    Ok(Change::Restore { name, key: Box::new(key), replace }.into())
}

/// A backup as Vault and `OpenBao` make it: what of it is needed here.
#[derive(Deserialize)]
struct Backup<'a> {
    #[serde(borrow)]
    policy: PolicyPart<'a>,
    #[serde(borrow, default)]
    archived_keys: Option<Archive<'a>>,
}

#[derive(Deserialize)]
struct Archive<'a> {
    #[serde(borrow, default)]
    keys: Vec<KeyPart<'a>>,
}

#[derive(Deserialize)]
struct PolicyPart<'a> {
    #[serde(borrow)]
    name: Text<'a>,
    #[serde(rename = "type")]
    kind: u32,
    #[serde(borrow)]
    keys: BTreeMap<Number, KeyPart<'a>>,
    #[serde(default)]
    derived: bool,
    #[serde(default)]
    kdf: u32,
    #[serde(default)]
    convergent_encryption: bool,
    #[serde(default)]
    exportable: bool,
    #[serde(default)]
    allow_plaintext_backup: bool,
    #[serde(default)]
    min_decryption_version: u32,
    #[serde(default)]
    min_encryption_version: u32,
    #[serde(default)]
    deletion_allowed: bool,
    /// In nanoseconds.
    #[serde(default)]
    auto_rotate_period: u64,
}

#[derive(Deserialize)]
struct KeyPart<'a> {
    #[serde(borrow, default)]
    key: Option<Text<'a>>,
    #[serde(borrow, default)]
    hmac_key: Option<Text<'a>>,
    #[serde(default)]
    creation_time: i64,
    #[serde(default)]
    convergent_version: i32,
}

/// A number that stands as the name of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Number(u32);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // In one form only: of two forms of a number one would be lost.
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        canonical_number(text.as_bytes()).map(Self).ok_or_else(|| serde::de::Error::custom("no number"))
    }
}

fn of_vault(json: &[u8], at: &mut Circumstances<'_>) -> Result<Key, Rejection> {
    const DERIVES_BY_HKDF: u32 = 1;
    const CONVERGES_BY_HMAC: i32 = 3;
    let Backup { policy, archived_keys } = serde_json::from_slice(json).map_err(|_| REJECTED)?;
    let kind = match policy.kind {
        5 => KeyType::ChaCha20Poly1305,
        10 => KeyType::HmacSha256,
        11 => KeyType::XChaCha20Poly1305,
        _ => return Err(REJECTED.into()),
    };
    let name = KeyName::new(policy.name.as_str()).ok_or(BAD_NAME)?;
    // Old versions stand in the archive alone, by their numbers; the first place is empty.
    let mut parts: BTreeMap<u32, KeyPart<'_>> = BTreeMap::new();
    let archived = archived_keys.map_or_else(Vec::new, |archive| archive.keys);
    for (number, part) in
        (0u32..).zip(archived).chain(policy.keys.into_iter().map(|(Number(of), part)| (of, part)))
    {
        if number > 0 && part.key.is_some() {
            parts.insert(number, part);
        }
    }
    let others = parts.values().any(|part| part.convergent_version != CONVERGES_BY_HMAC);
    if (policy.derived && policy.kdf != DERIVES_BY_HKDF) || (policy.convergent_encryption && others) {
        return Err(OLD_DERIVATION.into());
    }
    let options = KeyOptions {
        kind,
        derived: policy.derived,
        convergent: policy.convergent_encryption,
        exportable: policy.exportable,
        plaintext_backup: policy.allow_plaintext_backup,
    };
    let change = PolicyChange {
        min_decryption_version: Some(policy.min_decryption_version.max(1)),
        min_encryption_version: Some(policy.min_encryption_version),
        keep_versions: None,
        auto_rotate_seconds: period(Some(Lenient(Duration(policy.auto_rotate_period / 1_000_000_000))))?,
        deletion_allowed: Some(policy.deletion_allowed),
    };
    let mut versions = Vec::with_capacity(parts.len());
    for (number, part) in parts {
        let key = secret(part.key.as_ref()).ok_or(REJECTED)?;
        let mac = if kind.encrypts() { secret(part.hmac_key.as_ref()) } else { None };
        let seconds = u64::try_from(part.creation_time).unwrap_or(0);
        let created = WallTime::from_millis(seconds.saturating_mul(1_000)).min(at.now);
        versions.push(Foreign { number, created, key, mac });
    }
    assemble(&name, options, &change, &versions, at).map_err(|_| REJECTED.into())
}

/// The bytes that a text in base64 stands for, out of reach of whatever looks at memory.
fn secret(text: Option<&Text<'_>>) -> Option<SecretBytes> {
    let mut bytes = zeroize::Zeroizing::new(text?.as_str().as_bytes().to_vec());
    Some(SecretBytes::take(decode(&mut bytes)?))
}

#[derive(Deserialize)]
struct ImportBody<'a> {
    #[serde(rename = "type", borrow, default)]
    kind: Option<Text<'a>>,
    #[serde(borrow, default)]
    keys: Option<BTreeMap<Number, Text<'a>>>,
    #[serde(borrow, default)]
    hmac_keys: Option<BTreeMap<Number, Text<'a>>>,
    #[serde(borrow, default)]
    ciphertext: Option<Text<'a>>,
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
}

/// `POST keys/{name}/import`: what `export` gives, as it is. The wrapped form needs RSA.
///
/// # Errors
/// [`Rejection`]
pub fn import(call: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    if let Some(outcome) = call.changed_key()? {
        return reply_data(call.arrival.id, responder, Json(&KeyForm(&outcome.key)));
    }
    call.resolve_escapes();
    let body: ImportBody<'_> = read(call.body)?;
    let name = call.param.unwrap_or_default();
    call.sight().allow(call.subject, name)?;
    let name = KeyName::new(name).ok_or(BAD_NAME)?;
    if body.ciphertext.is_some() {
        return Err(WRAPPED.into());
    }
    let kind = kind_of(body.kind.as_ref().map_or("chacha20-poly1305", |kind| kind.as_str()), 0)?;
    let is = |given: Option<Lenient<bool>>| given == Some(Lenient(true));
    let options = KeyOptions {
        kind,
        derived: is(body.derived),
        convergent: is(body.convergent_encryption),
        exportable: is(body.exportable),
        plaintext_backup: is(body.allow_plaintext_backup),
    };
    let auto_rotate_seconds = period(body.auto_rotate_period)?;
    let policy = PolicyChange { auto_rotate_seconds, ..PolicyChange::default() };
    let (keys, macs) = (body.keys.ok_or(NO_KEYS)?, body.hmac_keys.unwrap_or_default());
    let mut versions = Vec::with_capacity(keys.len());
    for (number, text) in &keys {
        let key = secret(Some(text)).ok_or(BAD_MATERIAL)?;
        let mac = macs.get(number).map(|text| secret(Some(text)).ok_or(BAD_MATERIAL)).transpose()?;
        versions.push(Foreign { number: number.0, created: call.wall, key, mac });
    }
    let (now, tools) = (call.now, &mut *call.tools);
    let mut draw = |bytes: &mut [u8]| tools.random.fill(now, bytes);
    let mut at = Circumstances { now: call.wall, restore_window_seconds: 0, draw: &mut draw };
    let key = Box::new(assemble(&name, options, &policy, &versions, &mut at)?);
    Ok(Change::Restore { name, key, replace: false }.into())
}
