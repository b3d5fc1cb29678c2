//! Key material on its way in and out: import and export.
//!
//! Owns both forms of an import (JSON, and the bytes of the key themselves) and the reply of an export. Invariants: what
//! was taken is wiped where it stood; what is given out is encoded straight into the leased reply, which is wiped when
//! it is returned, and stands nowhere else; a key that was not made to be exported never is.

use core::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};
use zeroize::Zeroize as _;

use crate::api::body::{Text, present, read};
use crate::api::form::{self, Encoding, Form, Sink};
use crate::api::keys::settings::{Settings, settings_of};
use crate::api::keys::{form as key_form, new_name, require_json};
use crate::api::{Answer, Call, Rejection};
use crate::http::media::{ContentType, ReplyForm};
use crate::http::responder::{Fault, Responder};
use crate::http::status::Status;
use crate::keyring::{Change, Key, KeyVersion, Material, Outcome};
use crate::secret::SecretBytes;

const BAD_MATERIAL: Fault<'static> = Fault::new(
    Status::BadRequest,
    "malformed_material",
    "material must be canonical base64, padding included, or lower-case hexadecimal with format hex.",
);
const MIXED_FORMS: Fault<'static> = Fault::new(
    Status::BadRequest,
    "json_with_query_type",
    "With ?type= the body is the key itself. Drop the query to send JSON, or the JSON content type to send octets.",
);
const UNSUPPORTED_TYPE: Fault<'static> = Fault::new(
    Status::UnsupportedMediaType,
    "unsupported_media_type",
    "Send JSON, or add ?type= and send the key as application/octet-stream.",
);
const NO_TYPE: Fault<'static> = Fault::new(
    Status::BadRequest,
    "malformed_parameter",
    "Query parameters belong to an import of octets, which names its type in ?type=.",
);
const NOT_EXPORTABLE: Fault<'static> = Fault::new(
    Status::Forbidden,
    "key_not_exportable",
    "The key was not made with exportable, and that cannot be changed.",
);
const UNKNOWN_VERSION: Fault<'static> = Fault::new(
    Status::BadRequest,
    "unknown_key_version",
    "The key has no version of this number, or its material was destroyed.",
);
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ImportBody<'a> {
    #[serde(borrow)]
    material: Text<'a>,
    #[serde(borrow, default, deserialize_with = "present")]
    format: Option<Text<'a>>,
    #[serde(rename = "type", borrow, default, deserialize_with = "present")]
    kind: Option<Text<'a>>,
    #[serde(default, deserialize_with = "present")]
    derived: Option<bool>,
    #[serde(default, deserialize_with = "present")]
    exportable: Option<bool>,
    #[serde(default, deserialize_with = "present")]
    plaintext_backup: Option<bool>,
    #[serde(default, deserialize_with = "present")]
    min_decryption_version: Option<u32>,
    #[serde(default, deserialize_with = "present")]
    min_encryption_version: Option<u32>,
    #[serde(default, deserialize_with = "present")]
    keep_versions: Option<u32>,
    #[serde(default, deserialize_with = "present")]
    auto_rotate_seconds: Option<u64>,
    #[serde(default, deserialize_with = "present")]
    deletion_allowed: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExportBody<'a> {
    #[serde(default, deserialize_with = "present")]
    version: Option<Wanted>,
    #[serde(borrow, default, deserialize_with = "present")]
    format: Option<Text<'a>>,
}

/// `POST /api/keys/{name}/import`
///
/// # Errors
/// [`Rejection`]
pub fn import(call: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    if let Some(outcome) = call.changed_key()? {
        return imported(call, &outcome, responder);
    }
    let name = new_name(call)?;
    let query = call.query(&Settings::PARAMETERS)?;
    if call.arrival.head.coded_content {
        return Err(UNSUPPORTED_TYPE.into());
    }
    let raw = query.find_unique("type")?.is_some();
    let (settings, material) = match (raw, call.content_type()) {
        (true, ContentType::Json) => return Err(MIXED_FORMS.into()),
        (true, ContentType::Octets | ContentType::None | ContentType::Form) => {
            let settings = Settings::from_query(query)?;
            (settings, SecretBytes::take(call.body))
        }
        (false, ContentType::Json | ContentType::None | ContentType::Form) => {
            if query.pairs().next().is_some() {
                return Err(NO_TYPE.into());
            }
            read_import(call)?
        }
        _ => return Err(UNSUPPORTED_TYPE.into()),
    };
    let (options, policy) = settings.resolve();
    Ok(Change::Import { name, options, policy, material }.into())
}

/// Takes settings and material out of a JSON body.
fn read_import(call: &mut Call<'_>) -> Result<(Settings, SecretBytes), Rejection> {
    call.resolve_escapes();
    let body: ImportBody<'_> = read(call.body)?;
    let encoding = Encoding::of(body.format.as_ref())?;
    let settings = settings_of!(body)?;
    let mut text = body.material.into_piece(call.body);
    let decoded = encoding.decode_in_place(text.bytes_mut(call.body)).ok_or(BAD_MATERIAL)?;
    let material = SecretBytes::take(decoded);
    // What stands behind the bytes tells of them too.
    text.bytes_mut(call.body).zeroize();
    Ok((settings, material))
}

fn imported(call: &mut Call<'_>, outcome: &Outcome, responder: &mut Responder<'_>) -> Answer {
    let key = &outcome.key;
    // An import with counted nonces makes two versions: its own, and a fresh one that seals.
    let of_new_key = if key.kind().counts_seals() { 2 } else { 1 };
    let status = if key.latest_number() <= of_new_key { Status::Created } else { Status::Ok };
    call.subject.version = Some(key.latest_number());
    key_form::reply_done(responder, status, key)
}

/// Which versions are asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Wanted {
    #[default]
    All,
    Latest,
    Number(u32),
}

impl<'de> Deserialize<'de> for Wanted {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WantedVisitor;
        impl Visitor<'_> for WantedVisitor {
            type Value = Wanted;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, \"latest\" or \"all\"")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Wanted, E> {
                let small = u32::try_from(number);
                small
                    .map(Wanted::Number)
                    .map_err(|_| E::invalid_value(de::Unexpected::Unsigned(number), &self))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Wanted, E> {
                match text {
                    "all" => Ok(Wanted::All),
                    "latest" => Ok(Wanted::Latest),
                    _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }
        }
        deserializer.deserialize_any(WantedVisitor)
    }
}

/// `POST /api/keys/{name}/export`
///
/// # Errors
/// [`Rejection`]
pub fn export(call: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    let name = call.param.unwrap_or_default();
    call.subject.note_key(name);
    require_json(call)?;
    let body = if call.body.is_empty() { ExportBody::default() } else { read(call.body)? };
    let (wanted, encoding) = (body.version.unwrap_or_default(), Encoding::of(body.format.as_ref())?);
    let key = call.key(name)?;
    if !key.options().exportable {
        return Err(NOT_EXPORTABLE.into());
    }
    let only = match wanted {
        Wanted::All => None,
        Wanted::Latest => Some(key.latest_number()),
        Wanted::Number(number) => Some(number),
    };
    if let Some(number) = only {
        key.version(number).and_then(KeyVersion::material).ok_or(UNKNOWN_VERSION)?;
        call.subject.version = Some(number);
    }
    form::reply(responder, Status::Ok, ReplyForm::Json, &[], &Export { key, only, encoding })
}

/// The versions that still have material, or the one that is asked for.
struct Export<'a> {
    key: &'a Key,
    only: Option<u32>,
    encoding: Encoding,
}

impl Form for Export<'_> {
    fn write(&self, sink: &mut impl Sink) {
        sink.put(b"{\"name\":\"");
        sink.put(self.key.name().as_str().as_bytes());
        sink.put(b"\",\"type\":\"");
        sink.put(self.key.kind().name().as_bytes());
        let options = self.key.options();
        sink.put(if options.derived { b"\",\"derived\":true" } else { b"\",\"derived\":false" });
        sink.put(if options.convergent { b",\"convergent\":true" } else { b",\"convergent\":false" });
        sink.put(b",\"versions\":{");
        let mut before: &[u8] = b"\"";
        let wanted = |version: &&KeyVersion| self.only.is_none_or(|only| version.number() == only);
        for version in self.key.versions().filter(wanted) {
            let Some(material) = version.material() else { continue };
            sink.put(before);
            sink.put_number(version.number());
            sink.put(b"\":{");
            self.write_material(material, sink);
            sink.put(b"}");
            before = b",\"";
        }
        sink.put(b"}}");
    }
}

impl Export<'_> {
    fn write_material(&self, material: &Material, sink: &mut impl Sink) {
        let mut member = |name: &[u8], bytes: &[u8]| {
            sink.put(name);
            sink.put_encoded(bytes, self.encoding);
            sink.put(b"\"");
        };
        match material {
            Material::Encryption { enc, mac, sub } => {
                enc.with(|bytes| member(b"\"encryption_key\":\"", bytes));
                mac.with(|bytes| member(b",\"hmac_key\":\"", bytes));
                sub.with(|bytes| member(b",\"sub_key\":\"", bytes));
            }
            Material::Mac(key) => key.with(|bytes| member(b"\"hmac_key\":\"", bytes)),
        }
    }
}
