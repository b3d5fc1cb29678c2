//! The envelope of every reply: `{"request_id": ..., "data": {...}, ...}`, with all of its members.
//!
//! Owns [`Enveloped`] and its two parts. Invariant: no member is ever left out, since clients in typed languages fail on a
//! reply without one.

use crate::api::form::{Form, Sink, reply};
use crate::api::{Answer, Verdict};
use crate::http::media::ReplyForm;
use crate::http::responder::Responder;
use crate::http::status::Status;
use crate::model::RequestId;

/// A form in its envelope, and perhaps what stands beside it.
#[derive(Debug)]
pub struct Enveloped<'a, F> {
    /// The request.
    pub id: &'a RequestId,
    /// `data`, if there is any.
    pub data: Option<F>,
}

impl<F: Form> Form for Enveloped<'_, F> {
    fn write(&self, sink: &mut impl Sink) {
        Opening(self.id).write(sink);
        match &self.data {
            Some(data) => data.write(sink),
            None => sink.put(b"null"),
        }
        sink.put(CLOSING);
    }
}

/// What stands before `data`.
#[derive(Debug)]
pub struct Opening<'a>(pub &'a RequestId);

impl Form for Opening<'_> {
    fn write(&self, sink: &mut impl Sink) {
        sink.put(b"{\"request_id\":\"");
        put_id(sink, self.0);
        sink.put(b"\",\"lease_id\":\"\",\"renewable\":false,\"lease_duration\":0,\"data\":");
    }
}

/// What stands behind `data`.
pub const CLOSING: &[u8] = b",\"wrap_info\":null,\"warnings\":null,\"auth\":null}\n";

/// The identifier of a request as a UUID is written.
pub fn put_id(sink: &mut impl Sink, id: &RequestId) {
    let mut rest = &id.as_bytes()[..];
    for (index, len) in [8, 4, 4, 4, 12].into_iter().enumerate() {
        let Some((group, behind)) = rest.split_at_checked(len) else { return };
        if index > 0 {
            sink.put(b"-");
        }
        sink.put(group);
        rest = behind;
    }
}

/// Replies with `data`.
///
/// # Errors
/// [`Rejection`](crate::api::Rejection) if it finds no room.
pub fn reply_data(id: &RequestId, responder: &mut Responder<'_>, data: impl Form) -> Answer {
    reply(responder, Status::Ok, ReplyForm::Json, &[], &Enveloped { id, data: Some(data) })
}

/// Replies that it was done.
///
/// # Errors
/// [`Rejection`](crate::api::Rejection) if it finds no room.
pub fn reply_done(responder: &mut Responder<'_>) -> Answer {
    responder.begin(Status::NoContent, None, 0, &[])?;
    Ok(Verdict::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::form::Json;

    struct Text(Vec<u8>);

    impl Sink for Text {
        fn put(&mut self, bytes: &[u8]) {
            self.0.extend_from_slice(bytes);
        }

        fn put_with(&mut self, count: usize, fill: impl FnOnce(&mut [u8])) {
            let from = self.0.len();
            self.0.resize(from + count, 0);
            fill(&mut self.0[from..]);
        }
    }

    #[test]
    fn an_envelope_has_every_member() {
        let id = RequestId::new(0x0102_0304_0506_0708, 9);
        let mut text = Text(Vec::new());
        Enveloped { id: &id, data: Some(Json(&[1])) }.write(&mut text);
        let read: serde_json::Value = serde_json::from_slice(&text.0).unwrap();
        assert_eq!(
            read,
            serde_json::json!({
                "request_id": "01020304-0506-0708-0000-000000000009", "lease_id": "", "renewable": false,
                "lease_duration": 0, "data": [1], "wrap_info": null, "warnings": null, "auth": null,
            })
        );
    }
}
