//! `POST /api/decrypt`: one ciphertext as JSON, many as a JSON batch, or one as the raw body.
//!
//! Owns what the route takes. Invariants are those of [`operation`]; a raw call recognises the text and the binary form
//! by its first bytes.

use crate::api::members::Shape;
use crate::api::operation::{self, Choice, Input, Operation, Payload};
use crate::api::payload::Bench;
use crate::api::product::{Product, Replies};
use crate::api::{Answer, Call, Rejection};
use crate::http::responder::Responder;

static DECRYPT: Operation = Operation {
    payload: Payload::Ciphertext,
    choice: Choice::None,
    shape: Shape {
        known: &["key", "ciphertext", "associated_data", "context", "format", "batch"],
        required: &["key"],
    },
    item: Shape {
        known: &["ciphertext", "associated_data", "context", "reference"],
        required: &["ciphertext"],
    },
    parameters: &["key", "associated_data", "context"],
    replies: Replies::Plaintext,
    any_key: false,
    work: open,
};

/// Serves the route.
///
/// # Errors
/// [`Rejection`]
pub fn decrypt(call: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    operation::serve(&DECRYPT, call, responder)
}

fn open<'b>(bench: &mut Bench<'_>, input: Input<'b>) -> Result<Product<'b>, Rejection> {
    let Input { data, version, binding, .. } = input;
    let data = bench.open(version, binding, data)?;
    Ok(Product::Plaintext { version, data })
}
