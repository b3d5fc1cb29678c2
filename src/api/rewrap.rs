//! `POST /api/rewrap`: ciphertexts sealed again, under the latest version or another, without showing the plaintext.
//!
//! Owns what the route takes. Invariants are those of [`operation`]; the plaintext stands only in the request's lease,
//! which is wiped; the new ciphertext is bound to what the old one was bound to.

use crate::api::members::Shape;
use crate::api::operation::{self, Choice, Input, Operation, Payload};
use crate::api::payload::Bench;
use crate::api::product::{Product, Replies};
use crate::api::{Answer, Call, Rejection};
use crate::http::responder::Responder;

static REWRAP: Operation = Operation {
    payload: Payload::Ciphertext,
    choice: Choice::Seals,
    shape: Shape {
        known: &["key", "ciphertext", "associated_data", "context", "key_version", "format", "batch"],
        required: &["key"],
    },
    item: Shape {
        known: &["ciphertext", "associated_data", "context", "reference"],
        required: &["ciphertext"],
    },
    parameters: &["key", "associated_data", "context", "key_version"],
    replies: Replies::Ciphertext,
    any_key: false,
    work: rewrap_one,
};

/// Serves the route.
///
/// # Errors
/// [`Rejection`]
pub fn rewrap(call: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    operation::serve(&REWRAP, call, responder)
}

fn rewrap_one<'b>(bench: &mut Bench<'_>, input: Input<'b>) -> Result<Product<'b>, Rejection> {
    let Input { data, version, binding, .. } = input;
    let data = bench.open(version, binding, data)?;
    let seal = bench.seal(binding, data)?;
    Ok(Product::Ciphertext { seal, data })
}
