//! `POST /api/decrypt`: one ciphertext as JSON, many as a JSON batch, or one as the raw body.
//!
//! Owns the forms of its request and reply. Invariants: every reason why a ciphertext does not open gives the same
//! reply; a raw call recognises the text and the binary form by its first bytes; a ciphertext is decoded and opened
//! where it arrived.

use serde::Deserialize;

use crate::api::batch::{self, Members, Piecewise};
use crate::api::body::{Items, Text, present, read};
use crate::api::payload::{self, DECRYPTION_FAILED, Digits, Raw};
use crate::api::{Answer, Call, Rejection, Tools, Verdict};
use crate::crypto::envelope::{self, Form};
use crate::encoding::{base64_decode_in_place, base64_encode, base64_len};
use crate::http::media::{ReplyForm, negotiate};
use crate::http::responder::{Fault, Responder};
use crate::http::status::Status;
use crate::keyring::Key;

const ONE_OR_MANY: Fault<'static> = Fault::new(
    Status::BadRequest,
    "ciphertext_or_batch",
    "Send either ciphertext or batch, and with batch put associated_data into its items.",
);

const HEAD: &[u8] = b"{\"plaintext\":\"";
const MIDDLE: &[u8] = b"\",\"key_version\":";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body<'a> {
    #[serde(borrow)]
    key: Text<'a>,
    #[serde(borrow, default, deserialize_with = "present")]
    ciphertext: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "present")]
    associated_data: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "present")]
    context: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "present")]
    batch: Option<Items<Item<'a>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Item<'a> {
    #[serde(borrow)]
    ciphertext: Text<'a>,
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
pub fn decrypt(call: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    match payload::read_raw(call)? {
        Some(raw) => decrypt_raw(call, &raw, responder),
        None => decrypt_json(call, responder),
    }
}

fn decrypt_json(call: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    call.resolve_escapes();
    let body: Body<'_> = read(call.body)?;
    call.subject.note_key(body.key.as_str());
    let key = call.ring.get(body.key.as_str()).ok_or(crate::api::UNKNOWN_KEY)?;
    let (ciphertext, associated_data) = match (body.ciphertext, body.batch) {
        (Some(ciphertext), None) => (ciphertext, body.associated_data),
        (None, Some(Items(items))) if body.associated_data.is_none() && body.context.is_none() => {
            let items = items.into_iter().map(|item| Piecewise::new(item.into(), call.body)).collect();
            return decrypt_batch(call, key, items, responder);
        }
        _ => return Err(ONE_OR_MANY.into()),
    };
    payload::refuse_context(body.context.is_some())?;
    let associated_data = payload::read_associated_data(
        call.tools,
        associated_data.as_ref().map(|text| text.as_str().as_bytes()),
    )?;
    let mut ciphertext = ciphertext.into_piece(call.body);
    let (version, plaintext) = open_text(call.tools, key, ciphertext.bytes_mut(call.body), associated_data)?;
    call.subject.version = Some(version);
    responder.begin(
        Status::Ok,
        Some(ReplyForm::Json.content_type()),
        json_len(version, plaintext.len()),
        &[],
    )?;
    write_members(responder, version, plaintext);
    responder.append(b"}");
    Ok(Verdict::Done)
}

fn decrypt_raw(call: &mut Call<'_>, raw: &Raw<'_>, responder: &mut Responder<'_>) -> Answer {
    let key = call.key(&raw.key)?;
    if raw.version.is_some() {
        return Err(VERSION_IS_INSIDE.into());
    }
    // A preference that cannot be met is no reason to withhold the plaintext (RFC 9110, section 12.4.1).
    let offers = [ReplyForm::Octets, ReplyForm::Json];
    let form = negotiate(call.arrival.head.accept(call.arrival.bytes), &offers).unwrap_or(ReplyForm::Octets);
    let (version, plaintext) = match envelope::recognise(call.body).ok_or(DECRYPTION_FAILED)? {
        Form::Text => open_text(call.tools, key, trimmed(call.body), raw.associated_data)?,
        Form::Binary => open_binary(call.tools, key, call.body, raw.associated_data)?,
    };
    call.subject.version = Some(version);
    if form == ReplyForm::Json {
        responder.begin(Status::Ok, Some(form.content_type()), json_len(version, plaintext.len()), &[])?;
        write_members(responder, version, plaintext);
        responder.append(b"}");
    } else {
        let digits = Digits::of(version);
        let fields: [(&str, &[u8]); 1] = [("X-Key-Version", digits.as_bytes())];
        responder.begin(Status::Ok, Some(form.content_type()), plaintext.len(), &fields)?;
        responder.append(plaintext);
    }
    Ok(Verdict::Done)
}

const VERSION_IS_INSIDE: Fault<'static> = Fault::new(
    Status::BadRequest,
    "unknown_parameter",
    "A ciphertext names its own key version: drop key_version.",
);

/// A text without the line end that tools append to it.
fn trimmed(text: &mut [u8]) -> &mut [u8] {
    let len = text.trim_ascii_end().len();
    text.get_mut(..len).unwrap_or_default()
}

fn open_text<'a>(
    tools: &Tools,
    key: &Key,
    text: &'a mut [u8],
    associated_data: usize,
) -> Result<(u32, &'a [u8]), Rejection> {
    let (version, body) = envelope::parse_text(text).ok_or(DECRYPTION_FAILED)?;
    let start = text.len() - body.len();
    let body = text.get_mut(start..).unwrap_or_default();
    let len = base64_decode_in_place(body).ok_or(DECRYPTION_FAILED)?;
    let body = body.get_mut(..len).unwrap_or_default();
    Ok((version, payload::open(tools, key, version, body, associated_data)?))
}

fn open_binary<'a>(
    tools: &Tools,
    key: &Key,
    bytes: &'a mut [u8],
    associated_data: usize,
) -> Result<(u32, &'a [u8]), Rejection> {
    let (version, body) = envelope::parse_binary(bytes).ok_or(DECRYPTION_FAILED)?;
    let start = bytes.len() - body.len();
    let body = bytes.get_mut(start..).unwrap_or_default();
    Ok((version, payload::open(tools, key, version, body, associated_data)?))
}

fn decrypt_batch(
    call: &mut Call<'_>,
    key: &Key,
    items: Vec<Piecewise>,
    responder: &mut Responder<'_>,
) -> Answer {
    batch::answer(call, items, responder, |tools, text, associated_data| {
        let start = text.as_ptr().addr();
        let (version, plaintext) = open_text(tools, key, text, associated_data)?;
        Ok(Opened { version, offset: plaintext.as_ptr().addr() - start, len: plaintext.len() })
    })
}

/// A plaintext that stands somewhere within what was its ciphertext's text.
struct Opened {
    version: u32,
    offset: usize,
    len: usize,
}

impl Members for Opened {
    fn length(&self) -> usize {
        json_len(self.version, self.len) - b"}".len()
    }

    fn write(&self, responder: &mut Responder<'_>, bytes: &[u8]) {
        let plaintext = bytes.get(self.offset..).and_then(|rest| rest.get(..self.len));
        write_members(responder, self.version, plaintext.unwrap_or_default());
    }
}

impl<'a> From<Item<'a>> for batch::Item<'a> {
    fn from(item: Item<'a>) -> Self {
        let Item { ciphertext, associated_data, context, reference } = item;
        Self { payload: ciphertext, associated_data, context: context.is_some(), reference }
    }
}

fn json_len(version: u32, plaintext_len: usize) -> usize {
    HEAD.len() + base64_len(plaintext_len) + MIDDLE.len() + Digits::of(version).as_bytes().len() + b"}".len()
}

fn write_members(responder: &mut Responder<'_>, version: u32, plaintext: &[u8]) {
    responder.append(HEAD);
    if let Some(target) = responder.body(base64_len(plaintext.len())) {
        base64_encode(plaintext, target);
    }
    responder.append(MIDDLE);
    responder.append(Digits::of(version).as_bytes());
}
