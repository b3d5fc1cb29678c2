//! The flow that every operation on a payload goes through, in JSON, in a batch and raw.
//!
//! Owns [`Operation`], of which each such route has one, and [`serve`]. Invariants: what is wrong with a request as a
//! whole is found before anything of it is done; payloads are decoded, worked on and encoded where they arrived; what a
//! ciphertext is bound to is decoded before it is touched.

use crate::api::batch;
use crate::api::binding::Binding;
use crate::api::form::Encoding;
use crate::api::members::{self, Members, Pieces, Shape};
use crate::api::payload::{self, Bench, DECRYPTION_FAILED};
use crate::api::product::{Product, Replies};
use crate::api::raw::{self, Raw};
use crate::api::{Answer, Call, Rejection, Subject, Verdict};
use crate::audit::line::Detail;
use crate::crypto::envelope::{self, Form as Envelope};
use crate::crypto::signature::{self, Presented};
use crate::encoding::base64_decode_in_place;
use crate::http::media::ReplyForm;
use crate::http::query::Query;
use crate::http::responder::{Fault, Responder};
use crate::http::status::Status;
use crate::keyring::{Key, KeyVersion};

const BAD_PLAINTEXT: Fault<'static> = Fault::new(
    Status::BadRequest,
    "malformed_plaintext",
    "plaintext must be canonical base64, padding included.",
);
const BAD_INPUT: Fault<'static> =
    Fault::new(Status::BadRequest, "malformed_input", "input must be canonical base64, padding included.");
const BAD_SIGNATURE: Fault<'static> = Fault::new(
    Status::BadRequest,
    "malformed_signature",
    "signature must be quantonium:v, the number of the version, a colon, and canonical base64.",
);
const PLAINTEXT_OR_BATCH: Fault<'static> = Fault::new(
    Status::BadRequest,
    "plaintext_or_batch",
    "Send either plaintext or batch, and with batch put associated_data and context into its items.",
);
const CIPHERTEXT_OR_BATCH: Fault<'static> = Fault::new(
    Status::BadRequest,
    "ciphertext_or_batch",
    "Send either ciphertext or batch, and with batch put associated_data and context into its items.",
);
const INPUT_OR_BATCH: Fault<'static> = Fault::new(
    Status::BadRequest,
    "input_or_batch",
    "Send either input or batch, and with batch put signature into its items.",
);

/// What the payload of an operation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// `plaintext`: bytes in an encoding, or the raw body.
    Plaintext,
    /// `input`: the same.
    Input,
    /// `ciphertext`: its text form, or the raw body in either form.
    Ciphertext,
}

/// What is done with the version that the request chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// It seals.
    Seals,
    /// It signs.
    Signs,
    /// There is none: the payload or the signature names its own.
    None,
}

/// One operation on payloads.
#[derive(Debug)]
pub struct Operation {
    /// What it works on.
    pub payload: Payload,
    /// What the chosen version is for.
    pub choice: Choice,
    /// The members of the request.
    pub shape: Shape,
    /// The members of an item of a batch.
    pub item: Shape,
    /// The query parameters of a raw call.
    pub parameters: &'static [&'static str],
    /// The forms of the reply to a raw call.
    pub replies: Replies,
    /// Whether keys that only sign serve too.
    pub any_key: bool,
    /// What it does.
    pub work: Work,
}

/// What an operation does with one payload.
pub type Work = for<'b> fn(&mut Bench<'_>, Input<'b>) -> Result<Product<'b>, Rejection>;

/// One payload, decoded.
#[derive(Debug)]
pub struct Input<'b> {
    /// Its bytes; of a ciphertext nonce, ciphertext and tag.
    pub data: &'b mut [u8],
    /// The version that a ciphertext names; 0 for any other payload.
    pub version: u32,
    /// What it is bound to.
    pub binding: Binding,
    /// The signature to check, and the version that it names.
    pub signature: Option<(u32, Presented)>,
}

impl Payload {
    const fn one_or_many(self) -> Fault<'static> {
        match self {
            Self::Plaintext => PLAINTEXT_OR_BATCH,
            Self::Input => INPUT_OR_BATCH,
            Self::Ciphertext => CIPHERTEXT_OR_BATCH,
        }
    }

    /// Decodes the text of a JSON member in place: the version that it names, and its bytes.
    fn decode(self, text: &mut [u8], encoding: Encoding) -> Result<(u32, &mut [u8]), Rejection> {
        match self {
            Self::Plaintext => Ok((0, encoding.decode_in_place(text).ok_or(BAD_PLAINTEXT)?)),
            Self::Input => Ok((0, decode_input(text, encoding)?)),
            Self::Ciphertext => of_text(text),
        }
    }

    /// Takes a raw body: the version that it names, and its bytes.
    fn take(self, body: &mut [u8]) -> Result<(u32, &mut [u8]), Rejection> {
        if self != Self::Ciphertext {
            return Ok((0, body));
        }
        match envelope::recognise(body).ok_or(DECRYPTION_FAILED)? {
            Envelope::Binary => of_binary(body),
            Envelope::Text => {
                // Tools append a line end to a text.
                let len = body.trim_ascii_end().len();
                of_text(body.get_mut(..len).unwrap_or_default())
            }
        }
    }
}

fn of_text(text: &mut [u8]) -> Result<(u32, &mut [u8]), Rejection> {
    let (version, body) = envelope::parse_text(text).ok_or(DECRYPTION_FAILED)?;
    let start = text.len() - body.len();
    let body = text.get_mut(start..).unwrap_or_default();
    let len = base64_decode_in_place(body).ok_or(DECRYPTION_FAILED)?;
    Ok((version, body.get_mut(..len).unwrap_or_default()))
}

fn of_binary(bytes: &mut [u8]) -> Result<(u32, &mut [u8]), Rejection> {
    let (version, body) = envelope::parse_binary(bytes).ok_or(DECRYPTION_FAILED)?;
    let start = bytes.len() - body.len();
    Ok((version, bytes.get_mut(start..).unwrap_or_default()))
}

/// Serves the route of an operation.
///
/// # Errors
/// [`Rejection`]
pub fn serve(operation: &Operation, call: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    if let Some(Err(error)) = call.committed.take() {
        return Err(error.into());
    }
    match raw::read(call, operation.parameters)? {
        Some(raw) => serve_raw(operation, call, &raw, responder),
        None => serve_json(operation, call, responder),
    }
}

fn serve_json(operation: &Operation, call: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    call.resolve_escapes();
    let members = Members::read(call.body, operation.shape)?;
    let name = members.key.as_ref().map_or("", |name| name.as_str());
    let key = call.sight().key(call.subject, name)?;
    let sealing = prepare(operation, key, members.key_version)?;
    call.subject.version = sealing.map(KeyVersion::number);
    let encoding = Encoding::of(members.format.as_ref())?;
    let one_or_many = operation.payload.one_or_many();
    if let Some(text) = members.batch {
        if members.has_item_members() {
            return Err(one_or_many.into());
        }
        let place = members::place_of(text, call.body);
        let count = members::check_batch(text, operation.item)?;
        if let Some(change) = count_seals(operation, key, sealing, count)? {
            return Ok(change);
        }
        let mut bench = Bench { tools: call.tools, now: call.now, wall: call.wall, key, sealing };
        let items = (&mut *call.body, place, count);
        return batch::answer(operation, &mut bench, items, encoding, call.subject, responder);
    }
    let mut pieces = members.into_pieces(call.body).ok_or(one_or_many)?;
    if let Some(change) = count_seals(operation, key, sealing, 1)? {
        return Ok(change);
    }
    let mut bench = Bench { tools: call.tools, now: call.now, wall: call.wall, key, sealing };
    let product = carry_out(operation, &mut bench, &mut pieces, call.body, encoding)?;
    note(call.subject, &product);
    product.reply(responder, ReplyForm::Json, encoding)
}

fn serve_raw(
    operation: &Operation,
    call: &mut Call<'_>,
    raw: &Raw<'_>,
    responder: &mut Responder<'_>,
) -> Answer {
    let key = call.key(&raw.key)?;
    let sealing = prepare(operation, key, raw.version)?;
    call.subject.version = sealing.map(KeyVersion::number);
    let accept = call.arrival.head.accept(call.arrival.bytes);
    let form = operation.replies.choose(call.content_type(), accept)?;
    let signature =
        if operation.parameters.contains(&"signature") { Some(signature_of_query(raw.query)?) } else { None };
    if let Some(change) = count_seals(operation, key, sealing, 1)? {
        return Ok(change);
    }
    let mut bench = Bench { tools: call.tools, now: call.now, wall: call.wall, key, sealing };
    let (version, data) = operation.payload.take(call.body)?;
    let product = (operation.work)(&mut bench, Input { data, version, binding: raw.binding, signature })?;
    note(call.subject, &product);
    product.reply(responder, form, Encoding::Base64)
}

/// Notes for the audit line what came of the one payload of a request.
fn note(subject: &mut Subject, product: &Product<'_>) {
    subject.version = product.version();
    subject.detail = product.is_invalid().then_some(Detail::Invalid);
}

/// Checks the type of the key, and finds the version that seals or signs.
fn prepare<'a>(
    operation: &Operation,
    key: &'a Key,
    wanted: Option<u32>,
) -> Result<Option<&'a KeyVersion>, Rejection> {
    if !operation.any_key {
        payload::require_encryption(key)?;
    }
    match operation.choice {
        Choice::None => Ok(None),
        Choice::Seals | Choice::Signs => payload::sealing_version(key, wanted).map(Some),
    }
}

/// Counts the seals of a request before the first of them.
fn count_seals(
    operation: &Operation,
    key: &Key,
    sealing: Option<&KeyVersion>,
    seals: usize,
) -> Result<Option<Verdict>, Rejection> {
    match (operation.choice, sealing) {
        (Choice::Seals, Some(version)) => Ok(payload::count_seals(key, version, seals)?.map(Verdict::from)),
        _ => Ok(None),
    }
}

/// Does the work on one payload of a JSON request.
///
/// # Errors
/// [`Rejection`], which concerns this payload alone.
pub fn carry_out<'b>(
    operation: &Operation,
    bench: &mut Bench<'_>,
    pieces: &'b mut Pieces,
    body: &'b mut [u8],
    encoding: Encoding,
) -> Result<Product<'b>, Rejection> {
    let Pieces { payload, signature, associated_data, context, reference: _ } = pieces;
    let associated_data = associated_data.as_ref().map(|piece| piece.bytes(body));
    let context = context.as_ref().map(|piece| piece.bytes(body));
    let binding = Binding::read(bench.tools, encoding, associated_data, context)?;
    let signature = signature.as_ref().map(|piece| parse_signature(piece.bytes(body))).transpose()?;
    let (version, data) = operation.payload.decode(payload.bytes_mut(body), encoding)?;
    (operation.work)(bench, Input { data, version, binding, signature })
}

/// Decodes the text of an input in place.
///
/// # Errors
/// 400 if it is not of the encoding.
pub fn decode_input(text: &mut [u8], encoding: Encoding) -> Result<&mut [u8], Rejection> {
    encoding.decode_in_place(text).ok_or_else(|| BAD_INPUT.into())
}

fn parse_signature(text: &[u8]) -> Result<(u32, Presented), Rejection> {
    signature::parse_text(text).ok_or_else(|| BAD_SIGNATURE.into())
}

/// Reads the parameter `signature`: the text form, or the same with the URL-safe alphabet and without padding.
fn signature_of_query(query: Query<'_>) -> Result<(u32, Presented), Rejection> {
    // Four more bytes than the longest: what is longer is refused for its form.
    let mut text = [0; signature::TEXT_MAX_BYTES + 4];
    let value = query.find_unique("signature")?.ok_or(BAD_SIGNATURE)?;
    let len = value.decode(&mut text).ok_or(BAD_SIGNATURE)?;
    let (given, room) = text.split_at_mut_checked(len).ok_or(BAD_SIGNATURE)?;
    let mut padding = 0;
    if !given.iter().any(|byte| matches!(byte, b'+' | b'/' | b'=')) {
        for byte in given.iter_mut() {
            *byte = match *byte {
                b'-' => b'+',
                b'_' => b'/',
                other => other,
            };
        }
        let encoded = given.rsplit(|byte| *byte == b':').next().unwrap_or_default().len();
        padding = encoded.next_multiple_of(4) - encoded;
        room.get_mut(..padding).ok_or(BAD_SIGNATURE)?.fill(b'=');
    }
    parse_signature(text.get(..len + padding).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::hash::Algorithm;
    use crate::crypto::mac::MacKey;

    fn of_query(text: &str) -> Option<Vec<u8>> {
        let query = Query::parse(text.as_bytes()).unwrap();
        signature_of_query(query).ok().map(|(version, presented)| {
            assert_eq!(version, 4_294_967_295);
            presented.as_bytes().to_vec()
        })
    }

    #[test]
    fn a_signature_in_a_query_is_escaped_or_url_safe() {
        for algorithm in [Algorithm::Sha256, Algorithm::Sha384, Algorithm::Sha512] {
            for message in 0..32u8 {
                let tag = MacKey::new(algorithm, b"key").tag(&[&[message]]);
                let mut text = vec![0; signature::TEXT_MAX_BYTES];
                let len = signature::write_text(&mut text, u32::MAX, &tag).unwrap();
                let text = String::from_utf8(text[..len].to_vec()).unwrap();
                let escaped = text.replace('+', "%2B").replace('/', "%2f").replace('=', "%3D");
                let url_safe = text.replace('+', "-").replace('/', "_").replace('=', "");
                for given in [&escaped, &url_safe] {
                    assert_eq!(of_query(&format!("signature={given}")).unwrap(), tag.as_bytes(), "{given}");
                }
                if text.contains('+') {
                    // A plus is a blank in a query.
                    assert_eq!(of_query(&format!("signature={text}")), None);
                }
                assert_eq!(of_query(&format!("signature={url_safe}A")), None);
                assert_eq!(of_query(&format!("signature={}", "A".repeat(500))), None);
            }
        }
        assert_eq!(of_query("signature="), None);
        assert_eq!(of_query("other=1"), None);
    }
}
