//! `POST /api/entropy/sample`: random bytes.
//!
//! Owns the forms of its request and reply. Invariants: the bytes come from the worker's generator, which is reseeded from
//! the kernel at least once in a mebibyte; without a seed there is no reply.

use serde::Deserialize;

use crate::api::body::{Text, present, read};
use crate::api::form::{Encoding, acceptable};
use crate::api::made::{Made, count};
use crate::api::{Answer, Call, payload, raw};
use crate::http::media::ReplyForm;
use crate::http::responder::Responder;
use crate::limits::RANDOM_SAMPLE_MAX_BYTES;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body<'a> {
    bytes: u32,
    #[serde(borrow, default, deserialize_with = "present")]
    format: Option<Text<'a>>,
}

/// Serves the route.
///
/// # Errors
/// [`crate::api::Rejection`]
pub fn sample(call: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    let (bytes, encoding, offers) = match raw::choose(call, &["bytes"], "bytes")? {
        Some((_, bytes)) => {
            raw::require_empty_body(call)?;
            let bytes = payload::canonical_number(bytes.as_bytes());
            (bytes, Encoding::Base64, [ReplyForm::Octets, ReplyForm::Text, ReplyForm::Json])
        }
        None => {
            call.resolve_escapes();
            let body: Body<'_> = read(call.body)?;
            let encoding = Encoding::of(body.format.as_ref())?;
            (Some(body.bytes), encoding, [ReplyForm::Json, ReplyForm::Octets, ReplyForm::Text])
        }
    };
    let form = acceptable(call.arrival.head.accept(call.arrival.bytes), &offers)?;
    let count = count(bytes, RANDOM_SAMPLE_MAX_BYTES)?;
    let made = Made { count, form, encoding, before: b"{\"entropy\":\"", after: b"\"}", fields: &[] };
    made.reply(responder, |target| call.tools.draw(call.now, target))
}
