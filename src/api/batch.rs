//! Many payloads in one request: results in the order of the items, errors beside results.
//!
//! Owns the reply `{"results": [...]}`. Invariants: one item's failure touches no other; the whole is 200 unless it is
//! malformed as a whole; `reference` comes back as it was sent; the length of the reply is known before its first
//! byte, although its items were worked on in place.

use crate::api::body::{BATCH_TOO_LARGE, Piece, Text};
use crate::api::{Answer, Call, Rejection, Tools, Verdict, payload};
use crate::http::media::ReplyForm;
use crate::http::responder::Responder;
use crate::http::status::Status;
use crate::limits::BATCH_REPLY_MAX_BYTES;

/// An item as it was sent.
#[derive(Debug)]
pub struct Item<'a> {
    /// The plaintext or ciphertext.
    pub payload: Text<'a>,
    /// Its own associated data.
    pub associated_data: Option<Text<'a>>,
    /// Whether it has a context.
    pub context: bool,
    /// What the caller calls it.
    pub reference: Option<Text<'a>>,
}

/// The result of an item: members of a JSON object without its closing brace.
pub trait Members {
    /// Length of [`write`](Self::write)'s output.
    fn length(&self) -> usize;

    /// Writes `{` and the members; `bytes` is what stands now where the payload stood.
    fn write(&self, responder: &mut Responder<'_>, bytes: &[u8]);
}

/// Lets `each` work on every item and writes the results.
///
/// `each` gets the payload's bytes, to work on in place, and how much of the scratch memory its associated data fills.
///
/// # Errors
/// 413 for a reply that no lease holds, [`Rejection::Overloaded`] if it finds no room now.
pub fn answer<'a, M: Members>(
    call: &mut Call<'_>,
    items: Vec<Piecewise>,
    responder: &mut Responder<'a>,
    mut each: impl FnMut(&mut Tools, &mut [u8], usize) -> Result<M, Rejection>,
) -> Answer {
    let mut len = b"{\"results\":[]}".len() + items.len().saturating_sub(1);
    let mut results = Vec::with_capacity(items.len());
    for mut item in items {
        let result = item
            .associated_data(call.tools, call.body)
            .and_then(|associated_data| each(call.tools, item.payload.bytes_mut(call.body), associated_data));
        let result = result.map_err(|rejection| error_members(&rejection));
        len += result.as_ref().map_or_else(String::len, Members::length) + item.reference.len() + b"}".len();
        results.push((item, result));
    }
    if len > BATCH_REPLY_MAX_BYTES {
        return Err(BATCH_TOO_LARGE.into());
    }
    responder.begin(Status::Ok, Some(ReplyForm::Json.content_type()), len, &[])?;
    responder.append(b"{\"results\":[");
    for (index, (item, result)) in results.iter().enumerate() {
        if index > 0 {
            responder.append(b",");
        }
        match result {
            Ok(members) => members.write(responder, item.payload.bytes(call.body)),
            Err(members) => responder.append(members.as_bytes()),
        }
        responder.append(item.reference.as_bytes());
        responder.append(b"}");
    }
    responder.append(b"]}");
    Ok(Verdict::Done)
}

/// An item that has let go of the body, so that the body can be worked on.
#[derive(Debug)]
pub struct Piecewise {
    payload: Piece,
    associated_data: Option<Piece>,
    context: bool,
    /// `,"reference":"…"`, escaped, or nothing.
    reference: String,
}

impl Piecewise {
    /// Lets an item go of `body`.
    #[must_use]
    pub fn new(item: Item<'_>, body: &[u8]) -> Self {
        let reference = item.reference.map(|text| format!(",\"reference\":{}", quoted(text.as_str())));
        Self {
            payload: item.payload.into_piece(body),
            associated_data: item.associated_data.map(|text| text.into_piece(body)),
            context: item.context,
            reference: reference.unwrap_or_default(),
        }
    }

    fn associated_data(&self, tools: &mut Tools, body: &[u8]) -> Result<usize, Rejection> {
        payload::refuse_context(self.context)?;
        payload::read_associated_data(tools, self.associated_data.as_ref().map(|piece| piece.bytes(body)))
    }
}

fn error_members(rejection: &Rejection) -> String {
    format!("{{\"error\":{{\"code\":\"{}\",\"detail\":{}}}", rejection.code(), quoted(rejection.detail()))
}

/// A text as JSON.
fn quoted(text: &str) -> String {
    // Text always has a JSON form.
    serde_json::to_string(text).unwrap_or_else(|_| "\"\"".to_owned())
}
