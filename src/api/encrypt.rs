//! `POST /api/encrypt`: one plaintext as JSON, many as a JSON batch, or one as the raw body.
//!
//! Owns the forms of its request and reply. Invariants: plaintext is decoded, sealed and left where it arrived, and
//! only its encoded ciphertext is written once more; the length of the reply is known before its first byte; uses of
//! a version are counted before they happen, and a worn-out version is rotated before it is used again.

use serde::Deserialize;

use crate::api::batch::{self, Members, Piecewise};
use crate::api::body::{Items, Text, present, read};
use crate::api::payload::{self, Digits, Raw, Seal};
use crate::api::{Answer, Call, Rejection, Verdict};
use crate::crypto::envelope;
use crate::encoding::base64_decode_in_place;
use crate::http::media::{ContentType, ReplyForm, negotiate};
use crate::http::responder::{Fault, Responder};
use crate::http::status::Status;
use crate::keyring::{Change, Key, KeyVersion, SealRefusal};

const BAD_PLAINTEXT: Fault<'static> = Fault::new(
    Status::BadRequest,
    "malformed_plaintext",
    "plaintext must be canonical base64, padding included.",
);
const ONE_OR_MANY: Fault<'static> = Fault::new(
    Status::BadRequest,
    "plaintext_or_batch",
    "Send either plaintext or batch, and with batch put associated_data into its items.",
);
const NOT_ACCEPTABLE: Fault<'static> = Fault::new(
    Status::NotAcceptable,
    "not_acceptable",
    "The reply can be application/octet-stream, text/plain or application/json.",
);
const WORN_OUT: Fault<'static> = Fault::new(
    Status::Conflict,
    "key_version_worn_out",
    "This version has been used as often as its nonces allow. Encrypt with the latest version.",
);

const HEAD: &[u8] = b"{\"ciphertext\":\"";
const MIDDLE: &[u8] = b"\",\"key_version\":";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body<'a> {
    #[serde(borrow)]
    key: Text<'a>,
    #[serde(borrow, default, deserialize_with = "present")]
    plaintext: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "present")]
    associated_data: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "present")]
    context: Option<Text<'a>>,
    #[serde(default, deserialize_with = "present")]
    key_version: Option<u32>,
    #[serde(borrow, default, deserialize_with = "present")]
    batch: Option<Items<Item<'a>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Item<'a> {
    #[serde(borrow)]
    plaintext: Text<'a>,
    #[serde(borrow, default, deserialize_with = "present")]
    associated_data: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "present")]
    context: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "present")]
    reference: Option<Text<'a>>,
}

/// Serves the route.
///
/// # Errors
/// [`Rejection`]
pub fn encrypt(call: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    if let Some(Err(error)) = call.committed.take() {
        return Err(error.into());
    }
    match payload::read_raw(call)? {
        Some(raw) => encrypt_raw(call, &raw, responder),
        None => encrypt_json(call, responder),
    }
}

fn encrypt_json(call: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    call.resolve_escapes();
    let body: Body<'_> = read(call.body)?;
    call.subject.note_key(body.key.as_str());
    let key = call.ring.get(body.key.as_str()).ok_or(crate::api::UNKNOWN_KEY)?;
    let version = payload::sealing_version(key, body.key_version)?;
    call.subject.version = Some(version.number());
    let (plaintext, associated_data) = match (body.plaintext, body.batch) {
        (Some(plaintext), None) => (plaintext, body.associated_data),
        (None, Some(Items(items))) if body.associated_data.is_none() && body.context.is_none() => {
            let items = items.into_iter().map(|item| Piecewise::new(item.into(), call.body)).collect();
            return encrypt_batch(call, key, version, items, responder);
        }
        _ => return Err(ONE_OR_MANY.into()),
    };
    payload::refuse_context(body.context.is_some())?;
    if let Some(change) = count(key, version, 1)? {
        return Ok(Verdict::Commit(change));
    }
    let associated_data = payload::read_associated_data(
        call.tools,
        associated_data.as_ref().map(|text| text.as_str().as_bytes()),
    )?;
    let mut plaintext = plaintext.into_piece(call.body);
    let data = decoded(plaintext.bytes_mut(call.body))?;
    let seal = payload::seal(call.tools, call.now, key, version, data, associated_data)?;
    write_json(responder, &seal, data)?;
    Ok(Verdict::Done)
}

fn encrypt_raw(call: &mut Call<'_>, raw: &Raw<'_>, responder: &mut Responder<'_>) -> Answer {
    let key = call.key(&raw.key)?;
    let version = payload::sealing_version(key, raw.version)?;
    call.subject.version = Some(version.number());
    let preferred = match call.content_type() {
        ContentType::Octets => [ReplyForm::Octets, ReplyForm::Text, ReplyForm::Json],
        _ => [ReplyForm::Text, ReplyForm::Octets, ReplyForm::Json],
    };
    let form = negotiate(call.arrival.head.accept(call.arrival.bytes), &preferred).ok_or(NOT_ACCEPTABLE)?;
    if let Some(change) = count(key, version, 1)? {
        return Ok(Verdict::Commit(change));
    }
    let seal = payload::seal(call.tools, call.now, key, version, call.body, raw.associated_data)?;
    match form {
        ReplyForm::Json => write_json(responder, &seal, call.body)?,
        ReplyForm::Text => write_text(responder, &seal, call.body)?,
        ReplyForm::Octets => write_binary(responder, &seal, call.body)?,
    }
    Ok(Verdict::Done)
}

/// Counts seals before they happen; returns the rotation that must come first if the latest version is worn out.
fn count(key: &Key, version: &KeyVersion, seals: usize) -> Result<Option<Change>, Rejection> {
    let seals = u64::try_from(seals).unwrap_or(u64::MAX);
    if !key.kind().counts_seals() {
        return Ok(None);
    }
    let (name, version_number) = (key.name().clone(), version.number());
    match version.uses().count_seals(seals) {
        Ok(()) => Ok(None),
        Err(SealRefusal::NeedsBlock) => Ok(Some(Change::ReserveSeals { name, version: version_number })),
        Err(SealRefusal::WornOut) if version_number == key.latest_number() => {
            Ok(Some(Change::Rotate { name, only_if_latest: Some(version_number) }))
        }
        Err(SealRefusal::WornOut) => Err(WORN_OUT.into()),
    }
}

/// Decodes base64 in place and lends what it stood for.
fn decoded(text: &mut [u8]) -> Result<&mut [u8], Rejection> {
    let len = base64_decode_in_place(text).ok_or(BAD_PLAINTEXT)?;
    text.get_mut(..len).ok_or_else(|| BAD_PLAINTEXT.into())
}

fn encrypt_batch(
    call: &mut Call<'_>,
    key: &Key,
    version: &KeyVersion,
    items: Vec<Piecewise>,
    responder: &mut Responder<'_>,
) -> Answer {
    if let Some(change) = count(key, version, items.len())? {
        return Ok(Verdict::Commit(change));
    }
    let now = call.now;
    batch::answer(call, items, responder, |tools, text, associated_data| {
        let data = decoded(text)?;
        let seal = payload::seal(tools, now, key, version, data, associated_data)?;
        Ok(Sealed { seal, len: data.len() })
    })
}

/// A ciphertext that stands at the front of what was its plaintext's text.
struct Sealed {
    seal: Seal,
    len: usize,
}

impl Members for Sealed {
    fn length(&self) -> usize {
        json_len(&self.seal, self.len) - b"}".len()
    }

    fn write(&self, responder: &mut Responder<'_>, bytes: &[u8]) {
        write_members(responder, &self.seal, bytes.get(..self.len).unwrap_or_default());
    }
}

impl<'a> From<Item<'a>> for batch::Item<'a> {
    fn from(item: Item<'a>) -> Self {
        let Item { plaintext, associated_data, context, reference } = item;
        Self { payload: plaintext, associated_data, context: context.is_some(), reference }
    }
}

fn text_len(seal: &Seal, data_len: usize) -> usize {
    envelope::text_len(seal.version, seal.algorithm, data_len).unwrap_or(usize::MAX)
}

fn json_len(seal: &Seal, data_len: usize) -> usize {
    let fixed = HEAD.len() + MIDDLE.len() + Digits::of(seal.version).as_bytes().len() + b"}".len();
    text_len(seal, data_len).saturating_add(fixed)
}

fn write_json(responder: &mut Responder<'_>, seal: &Seal, data: &[u8]) -> Result<(), Rejection> {
    responder.begin(Status::Ok, Some(ReplyForm::Json.content_type()), json_len(seal, data.len()), &[])?;
    write_members(responder, seal, data);
    responder.append(b"}");
    Ok(())
}

fn write_members(responder: &mut Responder<'_>, seal: &Seal, data: &[u8]) {
    responder.append(HEAD);
    write_envelope(responder, seal, data);
    responder.append(MIDDLE);
    responder.append(Digits::of(seal.version).as_bytes());
}

fn write_text(responder: &mut Responder<'_>, seal: &Seal, data: &[u8]) -> Result<(), Rejection> {
    let len = text_len(seal, data.len()).saturating_add(1);
    begin_raw(responder, ReplyForm::Text, seal, len)?;
    write_envelope(responder, seal, data);
    responder.append(b"\n");
    Ok(())
}

fn write_binary(responder: &mut Responder<'_>, seal: &Seal, data: &[u8]) -> Result<(), Rejection> {
    let len = envelope::binary_len(seal.algorithm, data.len()).unwrap_or(usize::MAX);
    begin_raw(responder, ReplyForm::Octets, seal, len)?;
    if let Some(header) = responder.body(envelope::BINARY_HEADER_BYTES) {
        envelope::write_binary_header(header, seal.version);
    }
    responder.append(seal.nonce());
    responder.append(data);
    responder.append(&seal.tag);
    Ok(())
}

fn begin_raw(
    responder: &mut Responder<'_>,
    form: ReplyForm,
    seal: &Seal,
    len: usize,
) -> Result<(), Rejection> {
    let digits = Digits::of(seal.version);
    responder.begin(Status::Ok, Some(form.content_type()), len, &[("X-Key-Version", digits.as_bytes())])?;
    Ok(())
}

/// Writes the text form. What cannot be written shows as a wrong length when the reply is finished.
fn write_envelope(responder: &mut Responder<'_>, seal: &Seal, data: &[u8]) {
    let Some(target) = responder.body(text_len(seal, data.len())) else { return };
    let Some(prefix) = envelope::write_text_prefix(target, seal.version) else { return };
    if let Some(rest) = target.get_mut(prefix..) {
        envelope::write_text_body(rest, seal.nonce(), data, &seal.tag);
    }
}
