//! `POST /api/keystream`: bytes that whoever may use the key can have made again.
//!
//! Owns the forms of its request and reply. Invariants: a nonce of the server's is 24 random bytes, so that no keystream
//! is given out twice by accident; a nonce of the caller's needs a permission of its own; no keystream is that of a
//! ciphertext.

use serde::Deserialize;

use crate::api::binding::Binding;
use crate::api::body::{Text, present, read};
use crate::api::form::{Encoding, acceptable};
use crate::api::made::{Made, count};
use crate::api::payload::{self, Digits};
use crate::api::raw;
use crate::api::{Answer, Call, Rejection};
use crate::audit::line::Detail;
use crate::crypto::keystream::{self, NONCE_BYTES};
use crate::cursor::Cursor;
use crate::encoding::{base64url_decode, base64url_encode};
use crate::http::media::ReplyForm;
use crate::http::query::Query;
use crate::http::responder::{Fault, Responder};
use crate::http::status::Status;
use crate::keyring::Key;
use crate::limits::KEYSTREAM_MAX_BYTES;
use crate::model::Permission;

const BAD_NONCE: Fault<'static> = Fault::new(
    Status::BadRequest,
    "malformed_nonce",
    "nonce must be 24 bytes in canonical base64 (in a query: base64url without padding).",
);
const REFUSED: Fault<'static> =
    Fault::new(Status::BadRequest, "unknown_key_version", "The key has no version of this number.");

const PARAMETERS: [&str; 5] = ["key", "bytes", "nonce", "context", "key_version"];
const BEFORE: &[u8] = b"{\"keystream\":\"";
const NONCE: &[u8] = b"\",\"nonce\":\"";
const VERSION: &[u8] = b"\",\"key_version\":";
/// What follows the keystream in JSON: a nonce in hexadecimal and the longest number at most.
const AFTER_LEN: usize = NONCE.len() + 2 * NONCE_BYTES + VERSION.len() + 10 + b"}".len();

type Nonce = [u8; NONCE_BYTES];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body<'a> {
    #[serde(borrow)]
    key: Text<'a>,
    bytes: u32,
    #[serde(borrow, default, deserialize_with = "present")]
    nonce: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "present")]
    context: Option<Text<'a>>,
    #[serde(default, deserialize_with = "present")]
    key_version: Option<u32>,
    #[serde(borrow, default, deserialize_with = "present")]
    format: Option<Text<'a>>,
}

/// What is to be made.
struct Order<'a> {
    key: &'a Key,
    version: Option<u32>,
    count: usize,
    nonce: Option<Nonce>,
    binding: Binding,
    form: ReplyForm,
    encoding: Encoding,
}

/// Serves the route.
///
/// # Errors
/// [`Rejection`]
pub fn keystream(call: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    let order = order(call)?;
    make(call, &order, responder)
}

/// Reads what is asked for.
fn order<'a>(call: &mut Call<'a>) -> Result<Order<'a>, Rejection> {
    match raw::choose(call, &PARAMETERS, "key")? {
        Some((query, key)) => order_raw(call, query, &key),
        None => order_json(call),
    }
}

/// Refuses a nonce of the caller's to whoever may not bring one, before it is told whether there is such a key and before
/// anything of the request is decoded.
fn admit(call: &Call<'_>, name: &str, brings_nonce: bool) -> Result<(), Rejection> {
    if brings_nonce { call.demand(Permission::KeystreamRederive, name) } else { Ok(()) }
}

fn order_json<'a>(call: &mut Call<'a>) -> Result<Order<'a>, Rejection> {
    call.resolve_escapes();
    let body: Body<'_> = read(call.body)?;
    call.subject.note_key(body.key.as_str());
    admit(call, body.key.as_str(), body.nonce.is_some())?;
    call.subject.detail = body.nonce.as_ref().map(|_| Detail::Rederived);
    let key = call.sight().key(call.subject, body.key.as_str())?;
    let encoding = Encoding::of(body.format.as_ref())?;
    let nonce = body.nonce.as_ref().map(|text| {
        let mut nonce = [0; NONCE_BYTES];
        let whole = encoding.decode(text.as_str().as_bytes(), &mut nonce) == Some(NONCE_BYTES);
        if whole { Ok(nonce) } else { Err(BAD_NONCE) }
    });
    let context = body.context.as_ref().map(|text| text.as_str().as_bytes());
    let binding = Binding::read(call.tools, encoding, None, context)?;
    let offers = [ReplyForm::Json, ReplyForm::Octets, ReplyForm::Text];
    let form = acceptable(call.arrival.head.accept(call.arrival.bytes), &offers)?;
    let count = count(Some(body.bytes), KEYSTREAM_MAX_BYTES)?;
    let (version, nonce) = (body.key_version, nonce.transpose()?);
    Ok(Order { key, version, count, nonce, binding, form, encoding })
}

fn order_raw<'a>(call: &mut Call<'a>, query: Query<'_>, name: &str) -> Result<Order<'a>, Rejection> {
    call.subject.note_key(name);
    let brings_nonce = query.pairs().any(|(name, _)| name.is(b"nonce"));
    admit(call, name, brings_nonce)?;
    call.subject.detail = brings_nonce.then_some(Detail::Rederived);
    let version = raw::number(query, "key_version")?;
    let binding = Binding::from_query(call.tools, query)?;
    raw::require_empty_body(call)?;
    let key = call.key(name)?;
    let nonce = query.find_unique("nonce")?.map(|text| {
        let mut nonce = [0; NONCE_BYTES];
        let whole = base64url_decode(&text.to_cow(), &mut nonce) == Some(NONCE_BYTES);
        if whole { Ok(nonce) } else { Err(BAD_NONCE) }
    });
    let offers = [ReplyForm::Octets, ReplyForm::Text, ReplyForm::Json];
    let form = acceptable(call.arrival.head.accept(call.arrival.bytes), &offers)?;
    let count = count(raw::number(query, "bytes")?, KEYSTREAM_MAX_BYTES)?;
    let nonce = nonce.transpose()?;
    Ok(Order { key, version, count, nonce, binding, form, encoding: Encoding::Base64 })
}

fn make(call: &mut Call<'_>, order: &Order<'_>, responder: &mut Responder<'_>) -> Answer {
    let key = order.key;
    payload::require_encryption(key)?;
    let (version, nonce) = match order.nonce {
        Some(nonce) => (payload::opening_version(key, order.version)?, nonce),
        None => {
            let mut nonce = [0; NONCE_BYTES];
            call.tools.draw(call.now, &mut nonce)?;
            (payload::sealing_version(key, order.version)?, nonce)
        }
    };
    call.subject.version = Some(version.number());
    let context = order.binding.context(call.tools, key)?;
    let mut room = [0; AFTER_LEN];
    let after = after(&mut room, &nonce, version.number(), order.encoding).ok_or(Rejection::Overloaded)?;
    let mut shown = [0; NONCE_BYTES.div_ceil(3) * 4];
    base64url_encode(&nonce, &mut shown);
    let digits = Digits::of(version.number());
    let fields: [(&str, &[u8]); 2] = [("X-Nonce", &shown), ("X-Key-Version", digits.as_bytes())];
    let Order { count, form, encoding, .. } = *order;
    let made = Made { count, form, encoding, before: BEFORE, after, fields: &fields };
    let answer = made.reply(responder, |target| {
        let filled = version
            .with_sub_key(|sub| keystream::fill(sub, version.number(), context, &nonce, target))
            .ok_or(REFUSED)?;
        Ok(filled.map_err(|_| REFUSED)?)
    })?;
    version.uses().note(call.wall, 1);
    Ok(answer)
}

/// What stands behind the keystream in JSON.
fn after<'r>(
    room: &'r mut [u8; AFTER_LEN],
    nonce: &Nonce,
    version: u32,
    encoding: Encoding,
) -> Option<&'r [u8]> {
    let mut encoded = [0; 2 * NONCE_BYTES];
    let len = encoding.encode(nonce, &mut encoded)?;
    let mut cursor = Cursor::new(room);
    cursor.put(NONCE)?;
    cursor.put(encoded.get(..len)?)?;
    cursor.put(VERSION)?;
    cursor.put_number(u64::from(version), 0)?;
    cursor.put(b"}")?;
    let len = cursor.position();
    room.get(..len)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::api::{Subject, Tools};
    use crate::audit::Recent;
    use crate::auth::{Authenticator, Directory};
    use crate::clock::{Moment, WallTime};
    use crate::crypto::random::{Generator, Kernel};
    use crate::http::head::Head;
    use crate::http::peer::{Peer, Way};
    use crate::http::service::Arrival;
    use crate::integrity::{Board, Failed};
    use crate::keyring::Ring;
    use crate::metrics::Registry;
    use crate::model::{Health, Posture, RequestId, StoreHealth};
    use crate::secret::Secret;

    /// The code with which a caller without any right is refused who sends `body` to `target`, where no key exists.
    fn refused(target: &str, body: &str) -> (&'static str, String) {
        let bytes = format!("POST /api/keystream{target} HTTP/1.1\r\nHost: a\r\n\r\n");
        let head = Head::parse(bytes.as_bytes()).unwrap().unwrap();
        let (now, id) = (Moment::now(), RequestId::new(1, 1));
        let peer = Peer::new(None, Way::Local);
        let client = peer.address;
        let bytes = bytes.as_bytes();
        let arrival = Arrival { head: &head, bytes, peer: &peer, client, id: &id, started: now };
        let backup_key = Arc::new(Secret::try_fill(|_| Ok::<(), ()>(())).unwrap());
        let mut tools = Tools::new(Generator::new(Kernel, now).unwrap(), backup_key);
        let (mut body, mut subject) = (body.as_bytes().to_vec(), Subject::default());
        let store = StoreHealth::default();
        let health = Health {
            uptime_seconds: 0,
            store,
            audit: true,
            audit_low: false,
            entropy: true,
            sandbox: true,
            integrity: Failed::default(),
            draining: false,
        };
        let mut call = Call {
            arrival: &arrival,
            body: &mut body,
            param: None,
            principal: None,
            authority: None,
            permission: None,
            ring: &Ring::default(),
            callers: &Directory::default(),
            authenticator: &Authenticator::new(&[0; 32], "", ""),
            default_rate: None,
            kept: &mut None,
            tools: &mut tools,
            mount: "",
            recent: &Recent::new("s"),
            metrics: &Registry::new(0, 0, 0),
            health: &health,
            posture: &Posture::default(),
            board: &Board::default(),
            now,
            wall: WallTime::default(),
            console: false,
            committed: None,
            subject: &mut subject,
        };
        let code = order(&mut call).err().map_or("none", |rejection| rejection.code());
        (code, subject.key)
    }

    #[test]
    fn a_nonce_needs_its_permission_before_a_key_is_looked_up_or_anything_decoded() {
        for (target, body) in [
            ("", r#"{"key":"k","bytes":1,"nonce":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}"#),
            ("", r#"{"key":"k","bytes":1,"nonce":"!"}"#),
            ("", r#"{"key":"k","bytes":0,"nonce":"","context":"!","format":"octal"}"#),
            ("?key=k&bytes=1&nonce=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", ""),
            ("?key=k&bytes=x&key_version=x&context=!&nonce=!&nonce=", "x"),
        ] {
            assert_eq!(refused(target, body), ("insufficient_scope", "k".to_owned()), "{target} {body}");
        }
        for (target, body) in [("", r#"{"key":"k","bytes":1}"#), ("?key=k&bytes=1", "")] {
            assert_eq!(
                refused(target, body).0,
                "unknown_key",
                "{target}: the route's own permission is enough"
            );
        }
    }
}
