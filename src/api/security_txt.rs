//! `/.well-known/security.txt` (RFC 9116): whom to tell of a fault in the program.
//!
//! It is the block of that name in `SECURITY.md`, which `build.rs` takes out of it. Whoever needs it has no credential,
//! and it tells nothing of this server.

use crate::api::{Answer, Call, Verdict};
use crate::http::media::ReplyForm;
use crate::http::responder::Responder;
use crate::http::status::Status;

const TEXT: &str = include_str!(concat!(env!("OUT_DIR"), "/security.txt"));

/// `GET /.well-known/security.txt`
///
/// # Errors
/// [`crate::api::Rejection`] for a query.
pub fn security_txt(call: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    call.query(&[])?;
    responder.begin(Status::Ok, Some(ReplyForm::Text.content_type()), TEXT.len(), &[])?;
    responder.append(TEXT.as_bytes());
    Ok(Verdict::Done)
}
