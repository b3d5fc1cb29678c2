//! Replies around bytes that are made here and asked for by their number: random bytes and keystreams.
//!
//! Owns [`Made`]. Invariant: the bytes are made where they leave from and encoded there, so that a mebibyte of them takes
//! no memory beside the reply's own.

use crate::api::form::{Encoding, begin};
use crate::api::{Answer, Rejection, Verdict};
use crate::http::media::ReplyForm;
use crate::http::responder::{Fault, Responder};
use crate::http::status::Status;

const OUT_OF_RANGE: Fault<'static> =
    Fault::new(Status::BadRequest, "bytes_out_of_range", "bytes is a number from 1 to 1048576.");

/// The number of bytes that is asked for.
///
/// # Errors
/// 400 if it is none or beyond `most`.
pub fn count(bytes: Option<u32>, most: usize) -> Result<usize, Rejection> {
    let count = bytes.and_then(|bytes| usize::try_from(bytes).ok());
    count.filter(|count| (1..=most).contains(count)).ok_or_else(|| OUT_OF_RANGE.into())
}

/// A reply to be made.
#[derive(Debug)]
pub struct Made<'a> {
    /// How many bytes.
    pub count: usize,
    /// The form of the reply; as text the bytes are hexadecimal and end with a line feed.
    pub form: ReplyForm,
    /// How they stand in JSON.
    pub encoding: Encoding,
    /// What stands before them in JSON.
    pub before: &'a [u8],
    /// What stands behind them in JSON.
    pub after: &'a [u8],
    /// Fields of a reply that is not JSON.
    pub fields: &'a [(&'a str, &'a [u8])],
}

impl Made<'_> {
    /// Writes the reply around what `fill` makes.
    ///
    /// # Errors
    /// Those of `fill`, and [`Rejection`] if the reply finds no room.
    pub fn reply(
        &self,
        responder: &mut Responder<'_>,
        fill: impl FnOnce(&mut [u8]) -> Result<(), Rejection>,
    ) -> Answer {
        let (encoding, before, after): (_, &[u8], &[u8]) = match self.form {
            ReplyForm::Octets => (None, b"", b""),
            ReplyForm::Text => (Some(Encoding::Hex), b"", b"\n"),
            ReplyForm::Json => (Some(self.encoding), self.before, self.after),
        };
        let fields = if self.form == ReplyForm::Json { &[] } else { self.fields };
        let region = encoding.map_or(self.count, |encoding| encoding.len(self.count));
        begin(responder, Status::Ok, self.form, before.len() + region + after.len(), fields)?;
        responder.append(before);
        if let Some(region) = responder.body(region) {
            let start = region.len().saturating_sub(self.count);
            fill(region.get_mut(start..).unwrap_or_default())?;
            if let Some(encoding) = encoding {
                encoding.encode_within(region, self.count).ok_or(Rejection::Overloaded)?;
            }
        }
        responder.append(after);
        Ok(Verdict::Done)
    }
}
