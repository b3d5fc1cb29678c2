//! `POST /api/datakey`: a fresh key for the caller's own use, sealed under a key that stays here.
//!
//! Owns the forms of its request and reply. Invariants: the fresh key leaves in the open only where that was asked for;
//! its copies on the stack are wiped; seals are counted as those of an encryption are.

use serde::Deserialize;
use zeroize::Zeroizing;

use crate::api::binding::Binding;
use crate::api::body::{Text, present, read};
use crate::api::form::{Encoding, Form, Sink, reply};
use crate::api::payload::{self, Bench};
use crate::api::product::{Product, Replies};
use crate::api::raw::{self, Raw};
use crate::api::{Answer, Call, Rejection};
use crate::audit::line::Detail;
use crate::http::media::ReplyForm;
use crate::http::responder::{Fault, Responder};
use crate::http::status::Status;
use crate::keyring::Key;
use crate::limits::DATA_KEY_MAX_BYTES;

const BAD_BITS: Fault<'static> =
    Fault::new(Status::BadRequest, "bits_not_allowed", "A data key has 128, 256 (the default) or 512 bits.");

const PARAMETERS: [&str; 5] = ["key", "bits", "associated_data", "context", "key_version"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body<'a> {
    #[serde(borrow)]
    key: Text<'a>,
    #[serde(default, deserialize_with = "present")]
    bits: Option<u32>,
    #[serde(default, deserialize_with = "present")]
    plaintext: Option<bool>,
    #[serde(borrow, default, deserialize_with = "present")]
    associated_data: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "present")]
    context: Option<Text<'a>>,
    #[serde(default, deserialize_with = "present")]
    key_version: Option<u32>,
    #[serde(borrow, default, deserialize_with = "present")]
    format: Option<Text<'a>>,
}

/// What is to be made.
#[derive(Debug)]
pub struct Order<'a> {
    /// Under which key it is sealed.
    pub key: &'a Key,
    /// Under which version; the latest if none is named.
    pub version: Option<u32>,
    /// How long it is.
    pub bytes: usize,
    /// What it is bound to.
    pub binding: Binding,
}

/// Serves the route.
///
/// # Errors
/// [`Rejection`]
pub fn datakey(call: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    if let Some(Err(error)) = call.committed.take() {
        return Err(error.into());
    }
    match raw::read(call, &PARAMETERS)? {
        Some(raw) => datakey_raw(call, &raw, responder),
        None => datakey_json(call, responder),
    }
}

fn datakey_json(call: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    call.resolve_escapes();
    let body: Body<'_> = read(call.body)?;
    let key = call.sight().key(call.subject, body.key.as_str())?;
    let encoding = Encoding::of(body.format.as_ref())?;
    let associated_data = body.associated_data.as_ref().map(|text| text.as_str().as_bytes());
    let context = body.context.as_ref().map(|text| text.as_str().as_bytes());
    let binding = Binding::read(call.tools, encoding, associated_data, context)?;
    let order = Order { key, version: body.key_version, bytes: size(body.bits)?, binding };
    let shows = body.plaintext.unwrap_or(true);
    call.subject.detail = shows.then_some(Detail::Plaintext);
    make(call, &order, |product, plaintext| {
        let plaintext = Some(plaintext).filter(|_| shows);
        reply(responder, Status::Ok, ReplyForm::Json, &[], &Pair { product, plaintext, encoding })
    })
}

/// With a query there is nothing to say in a body, and the reply is the sealed key alone.
fn datakey_raw(call: &mut Call<'_>, raw: &Raw<'_>, responder: &mut Responder<'_>) -> Answer {
    raw::require_empty_body(call)?;
    let key = call.key(&raw.key)?;
    let accept = call.arrival.head.accept(call.arrival.bytes);
    let form = Replies::Ciphertext.choose(call.content_type(), accept)?;
    let bytes = size(raw::number(raw.query, "bits")?)?;
    let order = Order { key, version: raw.version, bytes, binding: raw.binding };
    make(call, &order, |product, _| product.reply(responder, form, Encoding::Base64))
}

/// The length of a key of so many bits.
///
/// # Errors
/// 400 for one that is not made.
pub fn size(bits: Option<u32>) -> Result<usize, Rejection> {
    match bits {
        Some(128) => Ok(16),
        None | Some(256) => Ok(32),
        Some(512) => Ok(64),
        Some(_) => Err(BAD_BITS.into()),
    }
}

/// Draws a key, seals a copy of it and lends both to `show`.
///
/// # Errors
/// [`Rejection`]
pub fn make(
    call: &mut Call<'_>,
    order: &Order<'_>,
    show: impl FnOnce(&Product<'_>, &[u8]) -> Answer,
) -> Answer {
    let key = order.key;
    payload::require_encryption(key)?;
    let version = payload::sealing_version(key, order.version)?;
    call.subject.version = Some(version.number());
    if let Some(change) = payload::count_seals(key, version, 1)? {
        return Ok(change.into());
    }
    let mut plaintext = Zeroizing::new([0; DATA_KEY_MAX_BYTES]);
    let plaintext = plaintext.get_mut(..order.bytes).unwrap_or_default();
    call.tools.draw(call.now, plaintext)?;
    let mut sealed = Zeroizing::new([0; DATA_KEY_MAX_BYTES]);
    let sealed = sealed.get_mut(..plaintext.len()).unwrap_or_default();
    sealed.copy_from_slice(plaintext);
    let mut bench = Bench { tools: call.tools, now: call.now, wall: call.wall, key, sealing: Some(version) };
    let seal = bench.seal(order.binding, sealed)?;
    show(&Product::Ciphertext { seal, data: sealed }, plaintext)
}

/// A sealed key, perhaps beside the key itself.
struct Pair<'a, 'b> {
    product: &'a Product<'b>,
    plaintext: Option<&'a [u8]>,
    encoding: Encoding,
}

impl Form for Pair<'_, '_> {
    fn write(&self, sink: &mut impl Sink) {
        sink.put(b"{");
        self.product.write_members(self.encoding, sink);
        if let Some(plaintext) = self.plaintext {
            sink.put(b",\"plaintext\":\"");
            sink.put_encoded(plaintext, self.encoding);
            sink.put(b"\"");
        }
        sink.put(b"}");
    }
}
