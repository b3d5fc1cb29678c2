//! `POST /api/sign`: HMAC over one input as JSON, over many as a JSON batch, or over the raw body.
//!
//! Owns what the route takes. Invariants are those of [`operation`]; keys that encrypt sign with a key of its own.

use crate::api::members::Shape;
use crate::api::operation::{self, Choice, Input, Operation, Payload};
use crate::api::payload::Bench;
use crate::api::product::{Product, Replies};
use crate::api::{Answer, Call, Rejection};
use crate::http::responder::Responder;

static SIGN: Operation = Operation {
    payload: Payload::Input,
    choice: Choice::Signs,
    shape: Shape { known: &["key", "input", "key_version", "format", "batch"], required: &["key"] },
    item: Shape { known: &["input", "reference"], required: &["input"] },
    parameters: &["key", "key_version"],
    replies: Replies::Signature,
    any_key: true,
    work: sign_one,
};

/// Serves the route.
///
/// # Errors
/// [`Rejection`]
pub fn sign(call: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    operation::serve(&SIGN, call, responder)
}

fn sign_one<'b>(bench: &mut Bench<'_>, input: Input<'b>) -> Result<Product<'b>, Rejection> {
    let Input { data, .. } = input;
    let (version, tag) = bench.sign(None, data)?;
    Ok(Product::Signature { version, tag })
}
