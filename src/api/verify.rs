//! `POST /api/verify`: whether a signature is right, for one input as JSON, for many as a JSON batch, or for the raw body.
//!
//! Owns what the route takes. Invariants are those of [`operation`]; signatures are compared in time that does not depend
//! on their bytes; a signature that is none is refused, one that is wrong is `valid: false`.

use crate::api::members::Shape;
use crate::api::operation::{self, Choice, Input, Operation, Payload};
use crate::api::payload::Bench;
use crate::api::product::{Product, Replies};
use crate::api::{Answer, Call, Rejection};
use crate::http::responder::{Fault, Responder};
use crate::http::status::Status;
use crate::keyring::KeyVersion;

const SIGNATURE_MISSING: Fault<'static> = Fault::new(
    Status::BadRequest,
    "malformed_signature",
    "Send the signature that is to be checked, as POST /api/sign gave it.",
);

static VERIFY: Operation = Operation {
    payload: Payload::Input,
    choice: Choice::None,
    shape: Shape { known: &["key", "input", "signature", "format", "batch"], required: &["key"] },
    item: Shape { known: &["input", "signature", "reference"], required: &["input", "signature"] },
    parameters: &["key", "signature"],
    replies: Replies::Verdict,
    any_key: true,
    work: verify_one,
};

/// Serves the route.
///
/// # Errors
/// [`Rejection`]
pub fn verify(call: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    operation::serve(&VERIFY, call, responder)
}

fn verify_one<'b>(bench: &mut Bench<'_>, input: Input<'b>) -> Result<Product<'b>, Rejection> {
    let Input { data, signature, .. } = input;
    let (version, presented) = signature.ok_or(SIGNATURE_MISSING)?;
    let valid = bench.verify(None, data, version, &presented)?;
    // Whatever a signature names: only a version that exists can have been used.
    let version = bench.key.version(version).map(KeyVersion::number);
    Ok(Product::Verdict { version, valid })
}
