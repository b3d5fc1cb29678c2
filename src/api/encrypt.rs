//! `POST /api/encrypt`: one plaintext as JSON, many as a JSON batch, or one as the raw body.
//!
//! Owns what the route takes. Invariants are those of [`operation`].

use crate::api::members::Shape;
use crate::api::operation::{self, Choice, Input, Operation, Payload};
use crate::api::payload::Bench;
use crate::api::product::{Product, Replies};
use crate::api::{Answer, Call, Rejection};
use crate::http::responder::Responder;

static ENCRYPT: Operation = Operation {
    payload: Payload::Plaintext,
    choice: Choice::Seals,
    shape: Shape {
        known: &["key", "plaintext", "associated_data", "context", "key_version", "format", "batch"],
        required: &["key"],
    },
    item: Shape {
        known: &["plaintext", "associated_data", "context", "reference"],
        required: &["plaintext"],
    },
    parameters: &["key", "associated_data", "context", "key_version"],
    replies: Replies::Ciphertext,
    any_key: false,
    work: seal,
};

/// Serves the route.
///
/// # Errors
/// [`Rejection`]
pub fn encrypt(call: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    operation::serve(&ENCRYPT, call, responder)
}

fn seal<'b>(bench: &mut Bench<'_>, input: Input<'b>) -> Result<Product<'b>, Rejection> {
    let Input { data, binding, .. } = input;
    let seal = bench.seal(binding, data)?;
    Ok(Product::Ciphertext { seal, data })
}
