//! `encrypt`, `decrypt`, `rewrap`, `hmac` and `verify`: one payload, or a batch of them, as Vault's clients send them.
//!
//! Owns the flow of these paths over the native [`Bench`], and the statuses of batches. Invariants: whatever is done to a
//! payload is done by the native operations, where it arrived; seals are counted before the first of them; an item that is
//! refused touches no other, and a whole that is malformed is refused before anything of it is done.

use crate::api::binding::Binding;
use crate::api::form::{Encoding, Form, Sink, measured, reply};
use crate::api::payload::{self, Bench};
use crate::api::product::Product;
use crate::api::vault::envelope::{CLOSING, Enveloped, Opening};
use crate::api::vault::errors::{fault, text_of};
use crate::api::vault::members::{self, Lenient, Members, Payload, Pieces, decode, next_item, place_of};
use crate::api::vault::{hash_of, second_of};
use crate::api::{Answer, Call, Rejection, Subject, Verdict};
use crate::audit::line::{Detail, Items};
use crate::crypto::envelope;
use crate::crypto::hash::Algorithm;
use crate::crypto::mac::Tag;
use crate::crypto::signature;
use crate::encoding::base64_len;
use crate::http::media::ReplyForm;
use crate::http::responder::{Fault, Responder};
use crate::http::status::Status;
use crate::keyring::{Change, Key, KeyVersion};
use crate::limits::{REPLY_BODY_MAX_BYTES, REPLY_HEAD_MAX_BYTES};
use crate::model::RequestId;

const NO_PLAINTEXT: Fault<'static> = fault("malformed_plaintext", "missing plaintext to encrypt");
const NO_CIPHERTEXT: Fault<'static> = fault("malformed_ciphertext", "missing ciphertext to decrypt");
const NO_INPUT: Fault<'static> = fault("malformed_input", "missing input for HMAC");
const NO_HMAC: Fault<'static> =
    fault("malformed_signature", "neither a 'signature' nor an 'hmac' were given to verify");
const NO_SIGNATURES: Fault<'static> =
    fault("key_type_not_allowed", "keys of this server do not support the verification of signatures");
const BAD_HMAC: Fault<'static> = fault("malformed_signature", "invalid HMAC to verify");
const NO_PREFIX: Fault<'static> = fault("malformed_ciphertext", "invalid ciphertext: no prefix");
const NOT_BASE64: Fault<'static> =
    fault("malformed_ciphertext", "invalid ciphertext: could not decode base64");
const BAD_PLAINTEXT: Fault<'static> = fault("malformed_plaintext", "the plaintext is not canonical base64");
const BAD_INPUT: Fault<'static> = fault("malformed_input", "unable to decode input as base64");
const NO_NONCE: Fault<'static> = fault("nonce_not_allowed", "a nonce of the caller's is not taken");
const NO_ENCRYPTION: Fault<'static> =
    fault("key_type_not_allowed", "key type hmac does not support encryption");
const EMPTY_BATCH: Fault<'static> = fault("empty_batch", "missing batch input to process");
const BAD_CODE: Fault<'static> = fault(
    "status_not_allowed",
    "partial_failure_response_code is none of the statuses that this server sends",
);
const BATCH_TOO_LARGE: Fault<'static> = Fault::new(
    Status::ContentTooLarge,
    "batch_too_large",
    "the results of this batch would be larger than a reply may be: send it in parts",
);
const UNREADABLE: Fault<'static> = fault("malformed_json", "the batch could not be read a second time");

/// What is done with a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Encrypt,
    Decrypt,
    Rewrap,
    Hmac,
    Verify,
}

impl Act {
    const fn payload(self) -> Payload {
        match self {
            Self::Encrypt => Payload::Plaintext,
            Self::Decrypt | Self::Rewrap => Payload::Ciphertext,
            Self::Hmac | Self::Verify => Payload::Input,
        }
    }

    const fn missing(self) -> Fault<'static> {
        match self {
            Self::Encrypt => NO_PLAINTEXT,
            Self::Decrypt | Self::Rewrap => NO_CIPHERTEXT,
            Self::Hmac | Self::Verify => NO_INPUT,
        }
    }

    /// Whether it seals, so that seals are counted.
    const fn seals(self) -> bool {
        matches!(self, Self::Encrypt | Self::Rewrap)
    }

    const fn hashes(self) -> bool {
        matches!(self, Self::Hmac | Self::Verify)
    }

    /// Whether the status of a batch tells of items that were refused.
    const fn tells(self) -> bool {
        matches!(self, Self::Encrypt | Self::Decrypt)
    }
}

/// `POST encrypt/{name}`
///
/// # Errors
/// [`Rejection`]
pub fn encrypt(call: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    serve(Act::Encrypt, call, responder)
}

/// `POST decrypt/{name}`
///
/// # Errors
/// [`Rejection`]
pub fn decrypt(call: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    serve(Act::Decrypt, call, responder)
}

/// `POST rewrap/{name}`
///
/// # Errors
/// [`Rejection`]
pub fn rewrap(call: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    serve(Act::Rewrap, call, responder)
}

/// `POST hmac/{name}` and `POST hmac/{name}/{algorithm}`
///
/// # Errors
/// [`Rejection`]
pub fn hmac(call: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    serve(Act::Hmac, call, responder)
}

/// `POST verify/{name}` and `POST verify/{name}/{algorithm}`
///
/// # Errors
/// [`Rejection`]
pub fn verify(call: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    serve(Act::Verify, call, responder)
}

fn serve(act: Act, call: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    if let Some(Err(error)) = call.committed.take() {
        return Err(error.into());
    }
    call.resolve_escapes();
    let members: Members<'_> = members::read(call.body)?;
    let key = call.sight().key(call.subject, call.param.unwrap_or_default())?;
    if !act.hashes() && !key.kind().encrypts() {
        return Err(NO_ENCRYPTION.into());
    }
    let hash = if act.hashes() { Some(hash_of(second_of(call).or(members.hash()))?) } else { None };
    let id = call.arrival.id;
    if let Some(batch) = members.batch_input {
        let partial = members.partial_failure_response_code.map(status_of).transpose()?;
        let mut seals = Seals { key, version: None, count: 0, change: None };
        let count =
            members::walk(batch, |item| if act.seals() { seals.add(item.version()) } else { Ok(()) })?;
        seals.close()?;
        if let Some(change) = seals.change {
            return Ok(change.into());
        }
        if count == 0 {
            return Err(EMPTY_BATCH.into());
        }
        let place = place_of(batch, call.body);
        let bench = Bench { tools: call.tools, now: call.now, wall: call.wall, key, sealing: None };
        let mut batch = Batch { act, hash, bench, items: Items::default(), first: None };
        let body = call.body.get_mut(..place.end).unwrap_or_default();
        return batch.answer(id, (body, place.start), count, partial, call.subject, responder);
    }
    let mut pieces = members.into_pieces(act.payload(), call.body);
    if act.seals() {
        let version = payload::sealing_version(key, pieces.version)?;
        call.subject.version = Some(version.number());
        if let Some(change) = payload::count_seals(key, version, 1)? {
            return Ok(change.into());
        }
    }
    let mut bench = Bench { tools: call.tools, now: call.now, wall: call.wall, key, sealing: None };
    let product = carry_out(act, hash, &mut bench, &mut pieces, call.body)?;
    call.subject.version = product.version();
    call.subject.detail = product.is_invalid().then_some(Detail::Invalid);
    let whole = Enveloped { id, data: Some(Alone(&product)) };
    reply(responder, Status::Ok, ReplyForm::Json, &[], &whole)
}

/// The status that a batch is to have of which some items were refused.
fn status_of(Lenient(code): Lenient<u32>) -> Result<Status, Rejection> {
    let code = u16::try_from(code).ok().filter(|code| *code >= 200);
    let status = code.and_then(Status::of_code).filter(|status| !status.is_bodiless());
    status.ok_or_else(|| BAD_CODE.into())
}

/// The seals of a batch, counted in runs of the same version.
struct Seals<'a> {
    key: &'a Key,
    version: Option<&'a KeyVersion>,
    count: usize,
    change: Option<Change>,
}

impl Seals<'_> {
    fn add(&mut self, wanted: Option<u32>) -> Result<(), Rejection> {
        // An item whose version cannot seal is refused by itself, later.
        let Ok(version) = payload::sealing_version(self.key, wanted) else { return Ok(()) };
        if self.version.is_none_or(|run| run.number() != version.number()) {
            self.close()?;
            self.version = Some(version);
        }
        self.count += 1;
        Ok(())
    }

    fn close(&mut self) -> Result<(), Rejection> {
        if let (Some(version), None) = (self.version.take(), &self.change) {
            self.change = payload::count_seals(self.key, version, self.count)?;
        }
        self.count = 0;
        Ok(())
    }
}

/// Does the work on one payload.
fn carry_out<'b>(
    act: Act,
    hash: Option<Algorithm>,
    bench: &mut Bench<'_>,
    pieces: &'b mut Pieces,
    body: &'b mut [u8],
) -> Result<Product<'b>, Rejection> {
    if pieces.nonce {
        return Err(NO_NONCE.into());
    }
    let data = pieces.associated_data.as_ref().map(|piece| piece.bytes(body));
    let context = pieces.context.as_ref().map(|piece| piece.bytes(body));
    let binding = if act.hashes() {
        Binding::default()
    } else {
        Binding::read(bench.tools, Encoding::Base64, data, context)?
    };
    if matches!(act, Act::Encrypt | Act::Rewrap | Act::Hmac) {
        bench.sealing = Some(payload::sealing_version(bench.key, pieces.version)?);
    }
    let presented = match (&pieces.hmac, act) {
        (Some(piece), Act::Verify) => Some(presented(piece.bytes(body))?),
        (None, Act::Verify) => return Err(if pieces.signature { NO_SIGNATURES } else { NO_HMAC }.into()),
        _ => None,
    };
    let text = pieces.payload.as_mut().ok_or_else(|| act.missing())?.bytes_mut(body);
    match act {
        Act::Encrypt => {
            let data = decode(text).ok_or(BAD_PLAINTEXT)?;
            let seal = bench.seal(binding, data)?;
            Ok(Product::Ciphertext { seal, data })
        }
        Act::Decrypt => {
            let (version, data) = ciphertext(text)?;
            let data = bench.open(version, binding, data)?;
            Ok(Product::Plaintext { version, data })
        }
        Act::Rewrap => {
            let (version, data) = ciphertext(text)?;
            let data = bench.open(version, binding, data)?;
            let seal = bench.seal(binding, data)?;
            Ok(Product::Ciphertext { seal, data })
        }
        Act::Hmac => {
            let (version, tag) = bench.sign(hash, decode(text).ok_or(BAD_INPUT)?)?;
            Ok(Product::Signature { version, tag })
        }
        Act::Verify => {
            let (version, presented) = presented.ok_or(NO_HMAC)?;
            let input = decode(text).ok_or(BAD_INPUT)?;
            let valid = bench.verify(hash, input, version, &presented)?;
            Ok(Product::Verdict { version: bench.key.version(version).map(KeyVersion::number), valid })
        }
    }
}

/// The version that a ciphertext names, and its bytes. Version 0 is the first, as in the oldest ciphertexts of Vault.
fn ciphertext(text: &mut [u8]) -> Result<(u32, &mut [u8]), Rejection> {
    const OLDEST: &[u8] = b"vault:v0:";
    let (version, start) = if text.starts_with(OLDEST) {
        (1, OLDEST.len())
    } else {
        let (version, body) = envelope::parse_text(text).ok_or(NO_PREFIX)?;
        (version, text.len() - body.len())
    };
    let body = text.get_mut(start..).unwrap_or_default();
    Ok((version, decode(body).ok_or(NOT_BASE64)?))
}

fn presented(text: &[u8]) -> Result<(u32, signature::Presented), Rejection> {
    signature::parse_text(text).ok_or_else(|| BAD_HMAC.into())
}

/// A batch in work.
struct Batch<'a> {
    act: Act,
    hash: Option<Algorithm>,
    bench: Bench<'a>,
    items: Items,
    first: Option<&'static str>,
}

impl Batch<'_> {
    fn answer(
        &mut self,
        id: &RequestId,
        (body, start): (&mut [u8], usize),
        count: usize,
        partial: Option<Status>,
        subject: &mut Subject,
        responder: &mut Responder<'_>,
    ) -> Answer {
        let json = ReplyForm::Json.content_type();
        subject.items = Some(Items::default());
        responder.begin_growing(Status::Ok, json)?;
        let mut results = Results { responder, len: 0 };
        results.put(&Opening(id))?;
        results.put(&Plain(b"{\"batch_results\":["))?;
        // Behind the bracket.
        let mut at = start + 1;
        for index in 0..count {
            // Each was read before; whatever cannot be read again must not make the results shorter unseen.
            let (mut pieces, end) = next_item(self.act.payload(), body, at).ok_or(UNREADABLE)?;
            results.put(&Plain(if index == 0 { b"{" } else { b",{" }))?;
            {
                let result = carry_out(self.act, self.hash, &mut self.bench, &mut pieces, body);
                self.note(&result);
                results.put(&Item { act: self.act, result: &result })?;
            }
            let reference = pieces.reference.as_ref().map_or(&b""[..], |piece| piece.bytes(body));
            results.put(&Reference(reference))?;
            at = end;
        }
        results.put(&Plain(b"]}"))?;
        results.put(&Plain(CLOSING))?;
        subject.items = Some(self.items);
        subject.detail = (self.items.invalid > 0).then_some(Detail::Invalid);
        subject.code = self.first.filter(|_| self.items.failed == self.items.count);
        if self.act.tells() && self.items.failed > 0 {
            let some = self.items.failed < self.items.count;
            let status = partial.filter(|_| some).unwrap_or(Status::BadRequest);
            results.responder.restate(status, json)?;
        }
        Ok(Verdict::Done)
    }

    fn note(&mut self, result: &Result<Product<'_>, Rejection>) {
        self.items.count = self.items.count.saturating_add(1);
        match result {
            Ok(product) => {
                self.items.invalid = self.items.invalid.saturating_add(u32::from(product.is_invalid()));
            }
            Err(rejection) => {
                self.items.failed = self.items.failed.saturating_add(1);
                self.first = self.first.or(Some(rejection.code()));
            }
        }
    }
}

/// A reply that grows.
struct Results<'a, 'b> {
    responder: &'a mut Responder<'b>,
    len: usize,
}

impl Results<'_, '_> {
    fn put(&mut self, form: &impl Form) -> Result<(), Rejection> {
        let len = measured(form);
        self.len = self.len.saturating_add(len);
        // Another head may have to stand beside the first one for a moment.
        if self.len > REPLY_BODY_MAX_BYTES - REPLY_HEAD_MAX_BYTES {
            return Err(BATCH_TOO_LARGE.into());
        }
        self.responder.announce(len)?;
        form.write(self.responder);
        Ok(())
    }
}

struct Plain<'a>(&'a [u8]);

impl Form for Plain<'_> {
    fn write(&self, sink: &mut impl Sink) {
        sink.put(self.0);
    }
}

/// The only product of a request.
struct Alone<'a, 'b>(&'a Product<'b>);

impl Form for Alone<'_, '_> {
    fn write(&self, sink: &mut impl Sink) {
        sink.put(b"{");
        match self.0 {
            Product::Verdict { valid: false, .. } => sink.put(b"\"valid\":false"),
            product => write_product(product, sink),
        }
        sink.put(b"}");
    }
}

/// A product among others, without braces.
struct Item<'a, 'b> {
    act: Act,
    result: &'a Result<Product<'b>, Rejection>,
}

impl Form for Item<'_, '_> {
    fn write(&self, sink: &mut impl Sink) {
        match self.result {
            // So it is in a batch.
            Ok(Product::Verdict { valid: false, .. }) => return,
            Ok(product) => write_product(product, sink),
            Err(rejection) => {
                if self.act == Act::Decrypt {
                    sink.put(b"\"plaintext\":\"\",");
                }
                sink.put(b"\"error\":");
                sink.put_json(text_of(rejection));
            }
        }
        sink.put(b",");
    }
}

struct Reference<'a>(&'a [u8]);

impl Form for Reference<'_> {
    fn write(&self, sink: &mut impl Sink) {
        sink.put(b"\"reference\":");
        // What was a JSON text is text.
        sink.put_json(str::from_utf8(self.0).unwrap_or_default());
        sink.put(b"}");
    }
}

/// The members of a product, without braces.
pub(super) fn write_product(product: &Product<'_>, sink: &mut impl Sink) {
    match product {
        Product::Ciphertext { seal, data } => {
            sink.put(b"\"ciphertext\":\"");
            put_prefix(seal.version, sink);
            sink.put_with(base64_len(seal.nonce().len() + data.len() + seal.tag.len()), |target| {
                envelope::write_text_body(target, seal.nonce(), data, &seal.tag);
            });
            sink.put(b"\",\"key_version\":");
            sink.put_number(seal.version);
        }
        Product::Plaintext { data, .. } => {
            sink.put(b"\"plaintext\":\"");
            sink.put_encoded(data, Encoding::Base64);
            sink.put(b"\"");
        }
        Product::Signature { version, tag } => {
            sink.put(b"\"hmac\":\"");
            put_tag(*version, tag, sink);
            sink.put(b"\"");
        }
        Product::Verdict { valid, .. } => {
            sink.put(if *valid { b"\"valid\":true" } else { b"\"valid\":false" });
        }
    }
}

fn put_prefix(version: u32, sink: &mut impl Sink) {
    sink.put(envelope::VAULT_PREFIX);
    sink.put_number(version);
    sink.put(b":");
}

fn put_tag(version: u32, tag: &Tag, sink: &mut impl Sink) {
    put_prefix(version, sink);
    sink.put_encoded(tag.as_bytes(), Encoding::Base64);
}
