//! `POST /api/hash`: SHA-2 of an input as JSON or of the raw body.
//!
//! Owns the forms of its request and reply. Invariant: there is no `?key=` here, so the content type tells raw calls from
//! JSON; for the types that curl and `BusyBox` send by default the parameter `algorithm` does.

use serde::Deserialize;

use crate::api::body::{Text, present, read};
use crate::api::form::{Encoding, Form, Sink, acceptable, reply};
use crate::api::operation::decode_input;
use crate::api::payload::check_input;
use crate::api::{Answer, Call, Rejection, raw};
use crate::crypto::hash::{self, Algorithm, Digest};
use crate::http::media::{ContentType, ReplyForm};
use crate::http::responder::{Fault, Responder};
use crate::http::status::Status;

const UNKNOWN_ALGORITHM: Fault<'static> = Fault::new(
    Status::BadRequest,
    "unknown_algorithm",
    "The algorithms are sha256 (the default), sha384 and sha512.",
);
const UNSUPPORTED_TYPE: Fault<'static> = Fault::new(
    Status::UnsupportedMediaType,
    "unsupported_media_type",
    "Send application/json, application/octet-stream or text/plain.",
);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body<'a> {
    #[serde(borrow)]
    input: Text<'a>,
    #[serde(borrow, default, deserialize_with = "present")]
    algorithm: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "present")]
    format: Option<Text<'a>>,
}

/// Serves the route.
///
/// # Errors
/// [`Rejection`]
pub fn hash(call: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    if call.arrival.head.coded_content {
        return Err(UNSUPPORTED_TYPE.into());
    }
    let named = raw::text(call.query(&["algorithm"])?, "algorithm")?;
    let offers = match (call.content_type(), &named) {
        (ContentType::Octets, _) => [ReplyForm::Octets, ReplyForm::Text, ReplyForm::Json],
        (ContentType::Text, _) | (ContentType::None | ContentType::Form, Some(_)) => {
            [ReplyForm::Text, ReplyForm::Octets, ReplyForm::Json]
        }
        (ContentType::Json | ContentType::None | ContentType::Form, None) => {
            return hash_json(call, responder);
        }
        (ContentType::Json, Some(_)) => return Err(raw::BAD_PARAMETER.into()),
        (ContentType::Other, _) => return Err(UNSUPPORTED_TYPE.into()),
    };
    let form = acceptable(call.arrival.head.accept(call.arrival.bytes), &offers)?;
    let algorithm = algorithm(named.as_deref())?;
    check_input(call.body)?;
    show(responder, form, algorithm, call.body, Encoding::Base64)
}

fn hash_json(call: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    call.resolve_escapes();
    let body: Body<'_> = read(call.body)?;
    let algorithm = algorithm(body.algorithm.as_ref().map(Text::as_str))?;
    let encoding = Encoding::of(body.format.as_ref())?;
    let mut input = body.input.into_piece(call.body);
    let input = decode_input(input.bytes_mut(call.body), encoding)?;
    check_input(input)?;
    show(responder, ReplyForm::Json, algorithm, input, encoding)
}

fn algorithm(name: Option<&str>) -> Result<Algorithm, Rejection> {
    match name {
        None | Some("sha256" | "sha2-256") => Ok(Algorithm::Sha256),
        Some("sha384" | "sha2-384") => Ok(Algorithm::Sha384),
        Some("sha512" | "sha2-512") => Ok(Algorithm::Sha512),
        Some(_) => Err(UNKNOWN_ALGORITHM.into()),
    }
}

fn show(
    responder: &mut Responder<'_>,
    form: ReplyForm,
    algorithm: Algorithm,
    input: &[u8],
    encoding: Encoding,
) -> Answer {
    let sum = hash::digest(algorithm, &[input]);
    reply(responder, Status::Ok, form, &[], &Shown { sum, algorithm, form, encoding })
}

struct Shown {
    sum: Digest,
    algorithm: Algorithm,
    form: ReplyForm,
    encoding: Encoding,
}

impl Form for Shown {
    fn write(&self, sink: &mut impl Sink) {
        match self.form {
            ReplyForm::Octets => sink.put(self.sum.as_bytes()),
            ReplyForm::Text => {
                sink.put_encoded(self.sum.as_bytes(), Encoding::Hex);
                sink.put(b"\n");
            }
            ReplyForm::Json => {
                sink.put(b"{\"sum\":\"");
                sink.put_encoded(self.sum.as_bytes(), self.encoding);
                sink.put(match self.algorithm {
                    Algorithm::Sha256 => b"\",\"algorithm\":\"sha256\"}",
                    Algorithm::Sha384 => b"\",\"algorithm\":\"sha384\"}",
                    Algorithm::Sha512 => b"\",\"algorithm\":\"sha512\"}",
                });
            }
        }
    }
}
