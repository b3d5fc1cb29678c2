//! `random` and `hash`: what needs no key.
//!
//! Owns the forms of their requests and replies. Invariant: random bytes come from the worker's generator alone, whatever
//! source is named, and leave from where they were drawn.

use serde::Deserialize;

use crate::api::body::Text;
use crate::api::form::measured;
use crate::api::form::{Encoding, Form, Sink, begin};
use crate::api::payload::check_input;
use crate::api::vault::envelope::{CLOSING, Opening, reply_data};
use crate::api::vault::errors::fault;
use crate::api::vault::members::{Lenient, Plain as _, decode, read};
use crate::api::vault::{hash_of, second_of};
use crate::api::{Answer, Call, Rejection, Verdict};
use crate::crypto::hash::{self, Digest};
use crate::http::media::ReplyForm;
use crate::http::responder::{Fault, Responder};
use crate::http::status::Status;
use crate::limits::VAULT_RANDOM_MAX_BYTES;

const TOO_MANY: Fault<'static> = fault("bytes_out_of_range", "'bytes' should be less than 131072");
const TOO_FEW: Fault<'static> = fault("bytes_out_of_range", "'bytes' cannot be less than 1");
const NO_NUMBER: Fault<'static> = fault("bytes_out_of_range", "error parsing url-set byte count");
const BAD_SOURCE: Fault<'static> =
    fault("unknown_source", "unsupported entropy source: those of this server are platform and all");
const BAD_FORMAT: Fault<'static> =
    fault("unknown_format", "unsupported encoding format; must be \"hex\" or \"base64\"");
const NO_INPUT: Fault<'static> = fault("malformed_input", "input missing");
const BAD_INPUT: Fault<'static> = fault("malformed_input", "unable to decode input as base64");

const USUAL_BYTES: usize = 32;

#[derive(Deserialize)]
struct RandomBody<'a> {
    #[serde(default)]
    bytes: Option<Lenient<u32>>,
    #[serde(borrow, default)]
    format: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct HashBody<'a> {
    #[serde(borrow, default)]
    input: Option<Text<'a>>,
    #[serde(borrow, default)]
    algorithm: Option<Text<'a>>,
    #[serde(borrow, default)]
    format: Option<Text<'a>>,
}

/// `POST random`, `random/{bytes}`, `random/{source}` and `random/{source}/{bytes}`
///
/// # Errors
/// [`Rejection`]
pub fn random(call: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    let (count, encoding) = {
        let body: RandomBody<'_> = read(call.body)?;
        let encoding = encoding(body.format.as_ref(), Encoding::Base64)?;
        (count(call, body.bytes)?, encoding)
    };
    let (before, after) = (&b"{\"random_bytes\":\""[..], &b"\"}"[..]);
    let opening = Opening(call.arrival.id);
    let region = encoding.len(count);
    let len = measured(&opening) + before.len() + region + after.len() + CLOSING.len();
    begin(responder, Status::Ok, ReplyForm::Json, len, &[])?;
    opening.write(responder);
    responder.append(before);
    if let Some(region) = responder.body(region) {
        let start = region.len().saturating_sub(count);
        call.tools.draw(call.now, region.get_mut(start..).unwrap_or_default())?;
        encoding.encode_within(region, count).ok_or(Rejection::Overloaded)?;
    }
    responder.append(after);
    responder.append(CLOSING);
    Ok(Verdict::Done)
}

/// How many bytes are wanted: the path says it, or the body.
fn count(call: &Call<'_>, named: Option<Lenient<u32>>) -> Result<usize, Rejection> {
    let number = |text: &str| u32::of_text(text).ok_or(Rejection::Fault(NO_NUMBER));
    let wanted = match (call.param, second_of(call)) {
        (None | Some("platform" | "all"), None) => named.map(|Lenient(number)| number),
        (Some("platform" | "all"), Some(text)) => Some(number(text)?),
        (Some(text), None) => Some(number(text)?),
        (_, Some(_)) => return Err(BAD_SOURCE.into()),
    };
    let wanted = wanted.map_or(USUAL_BYTES, |wanted| usize::try_from(wanted).unwrap_or(usize::MAX));
    match wanted {
        0 => Err(TOO_FEW.into()),
        count if count > VAULT_RANDOM_MAX_BYTES => Err(TOO_MANY.into()),
        count => Ok(count),
    }
}

fn encoding(format: Option<&Text<'_>>, usual: Encoding) -> Result<Encoding, Rejection> {
    match format.map(Text::as_str) {
        None | Some("") => Ok(usual),
        Some("hex") => Ok(Encoding::Hex),
        Some("base64") => Ok(Encoding::Base64),
        Some(_) => Err(BAD_FORMAT.into()),
    }
}

/// `POST hash` and `POST hash/{algorithm}`
///
/// # Errors
/// [`Rejection`]
pub fn hash(call: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    call.resolve_escapes();
    let body: HashBody<'_> = read(call.body)?;
    let algorithm = hash_of(call.param.or(body.algorithm.as_ref().map(Text::as_str)))?;
    let encoding = encoding(body.format.as_ref(), Encoding::Hex)?;
    let mut input = body.input.ok_or(NO_INPUT)?.into_piece(call.body);
    let input = decode(input.bytes_mut(call.body)).ok_or(BAD_INPUT)?;
    check_input(input)?;
    let sum = hash::digest(algorithm, &[input]);
    reply_data(call.arrival.id, responder, Sum { sum, encoding })
}

struct Sum {
    sum: Digest,
    encoding: Encoding,
}

impl Form for Sum {
    fn write(&self, sink: &mut impl Sink) {
        sink.put(b"{\"sum\":\"");
        sink.put_encoded(self.sum.as_bytes(), self.encoding);
        sink.put(b"\"}");
    }
}
