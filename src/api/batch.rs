//! Many payloads in one request: results in the order of the items, errors beside results.
//!
//! Owns the reply `{"results": [...]}`. Invariants: one item's failure touches no other; the whole is 200 unless it is
//! malformed as a whole or its results are longer than any reply; `reference` comes back as it was sent; items are read
//! one by one from a body that was checked whole, so that their number costs time and no memory.

use core::ops::Range;

use crate::api::body::Piece;
use crate::api::form::{Encoding, Form, Sink, measured};
use crate::api::members;
use crate::api::operation::{Operation, carry_out};
use crate::api::payload::Bench;
use crate::api::product::Product;
use crate::api::{Answer, Rejection, Subject, Verdict};
use crate::audit::line::{Detail, Items};
use crate::http::media::ReplyForm;
use crate::http::responder::{Fault, Responder};
use crate::http::status::Status;
use crate::limits::REPLY_BODY_MAX_BYTES;

/// The refusal of a batch whose results are too long.
const BATCH_TOO_LARGE: Fault<'static> = Fault::new(
    Status::ContentTooLarge,
    "batch_too_large",
    "The results of this batch would be larger than a reply may be. Send it in parts.",
);

const UNREADABLE: Fault<'static> =
    Fault::new(Status::BadRequest, "malformed_json", "The batch could not be read a second time.");

/// Works on the `count` items of a checked batch, whose text stands at `place` in `body`, writes the results and notes
/// in `subject` how the items fared.
///
/// # Errors
/// 413 if the results are longer than any reply, [`Rejection::Overloaded`] if they find no room now.
pub fn answer(
    operation: &Operation,
    bench: &mut Bench<'_>,
    (body, place, count): (&mut [u8], Range<usize>, usize),
    encoding: Encoding,
    subject: &mut Subject,
    responder: &mut Responder<'_>,
) -> Answer {
    let (items, mut first) = (subject.items.insert(Items::default()), None);
    responder.begin_growing(Status::Ok, ReplyForm::Json.content_type())?;
    let mut results = Results { responder, len: 0 };
    results.put(&Plain(b"{\"results\":["))?;
    let body = body.get_mut(..place.end).unwrap_or_default();
    // Behind the bracket.
    let mut at = place.start + 1;
    let mut between: &[u8] = b"{";
    for _ in 0..count {
        // Each was read before; whatever cannot be read again must not make the results shorter unseen.
        let (mut pieces, end) = members::next_item(body, at).ok_or(UNREADABLE)?;
        results.put(&Plain(between))?;
        {
            // The result lends from the body; it goes before the body is looked at again.
            let result = carry_out(operation, bench, &mut pieces, body, encoding);
            note(items, &result);
            first = first.or(result.as_ref().err().map(Rejection::code));
            results.put(&Members(&result, encoding))?;
        }
        if let Some(reference) = &pieces.reference {
            results.put(&Reference(reference, body))?;
        }
        results.put(&Plain(b"}"))?;
        between = b",{";
        at = end;
    }
    results.put(&Plain(b"]}"))?;
    subject.detail = (items.invalid > 0).then_some(Detail::Invalid);
    subject.code = first.filter(|_| items.failed == items.count);
    Ok(Verdict::Done)
}

/// Counts an item that was worked on.
fn note(items: &mut Items, result: &Result<Product<'_>, Rejection>) {
    items.count = items.count.saturating_add(1);
    match result {
        Ok(product) => items.invalid = items.invalid.saturating_add(u32::from(product.is_invalid())),
        Err(_) => items.failed = items.failed.saturating_add(1),
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
        if self.len > REPLY_BODY_MAX_BYTES {
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

struct Members<'a, 'b>(&'a Result<Product<'b>, Rejection>, Encoding);

impl Form for Members<'_, '_> {
    fn write(&self, sink: &mut impl Sink) {
        match self.0 {
            Ok(product) => product.write_members(self.1, sink),
            Err(rejection) => {
                sink.put(b"\"error\":{\"code\":");
                sink.put_json(rejection.code());
                sink.put(b",\"detail\":");
                sink.put_json(rejection.detail());
                sink.put(b"}");
            }
        }
    }
}

struct Reference<'a>(&'a Piece, &'a [u8]);

impl Form for Reference<'_> {
    fn write(&self, sink: &mut impl Sink) {
        sink.put(b",\"reference\":");
        // What was a JSON text is text.
        sink.put_json(str::from_utf8(self.0.bytes(self.1)).unwrap_or_default());
    }
}
