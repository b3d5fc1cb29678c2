//! How replies are written: encodings of binary values, and forms that are measured before they are written.
//!
//! Owns [`Encoding`], [`Sink`] and [`Form`]. Invariants: a form writes the same bytes each time, so that what was
//! measured is what is written; a reply that no lease holds is the caller's fault (413) and not a lack of memory (503);
//! bytes that are encoded where they stand pass only through stack memory that is wiped.

use std::io;

use serde::Serialize;
use zeroize::Zeroizing;

use crate::api::body::Text;
use crate::api::payload::Digits;
use crate::api::{Answer, Rejection, Verdict};
use crate::encoding::{
    base64_decode, base64_decode_in_place, base64_encode, base64_len, hex_decode, hex_decode_in_place,
    hex_encode,
};
use crate::http::media::{ReplyForm, negotiate};
use crate::http::responder::{Fault, Responder};
use crate::http::status::Status;
use crate::limits::{ENCODE_PIECE_BYTES, REPLY_BODY_MAX_BYTES};

const UNKNOWN_FORMAT: Fault<'static> =
    Fault::new(Status::BadRequest, "unknown_format", "The formats are base64 (the default) and hex.");
const REPLY_TOO_LARGE: Fault<'static> = Fault::new(
    Status::ContentTooLarge,
    "reply_too_large",
    "The reply would be larger than a reply may be. Ask for less, or for base64 or octets instead of hex.",
);
const NOT_ACCEPTABLE: Fault<'static> = Fault::new(
    Status::NotAcceptable,
    "not_acceptable",
    "This route has no reply of a type that Accept names. It can always reply with application/json.",
);

/// How binary values stand in JSON: all of one request and its reply alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// Standard base64 with padding.
    #[default]
    Base64,
    /// Lower-case hexadecimal.
    Hex,
}

impl Encoding {
    /// The encoding that the member `format` names.
    ///
    /// # Errors
    /// 400 for any other name.
    pub fn of(format: Option<&Text<'_>>) -> Result<Self, Rejection> {
        match format.map(Text::as_str) {
            None | Some("base64") => Ok(Self::Base64),
            Some("hex") => Ok(Self::Hex),
            Some(_) => Err(UNKNOWN_FORMAT.into()),
        }
    }

    /// Length of `len` bytes when they are encoded.
    #[must_use]
    pub const fn len(self, len: usize) -> usize {
        match self {
            Self::Base64 => base64_len(len),
            Self::Hex => len * 2,
        }
    }

    /// Decodes in place and lends what the text stood for.
    pub fn decode_in_place(self, text: &mut [u8]) -> Option<&mut [u8]> {
        let len = match self {
            Self::Base64 => base64_decode_in_place(text),
            Self::Hex => hex_decode_in_place(text),
        };
        text.get_mut(..len?)
    }

    /// Decodes to the front of `target`; returns how many bytes were written.
    pub fn decode(self, text: &[u8], target: &mut [u8]) -> Option<usize> {
        match self {
            Self::Base64 => base64_decode(text, target),
            Self::Hex => hex_decode(text, target),
        }
    }

    /// Encodes to the front of `target`; returns how many bytes were written.
    pub fn encode(self, bytes: &[u8], target: &mut [u8]) -> Option<usize> {
        match self {
            Self::Base64 => base64_encode(bytes, target),
            Self::Hex => hex_encode(bytes, target),
        }
    }

    /// Encodes the last `count` bytes of `region`, which has just the length of their encoding, to its front.
    ///
    /// Nothing is overwritten before it was read: what is written grows to the end of the region just when all is read.
    pub fn encode_within(self, region: &mut [u8], count: usize) -> Option<()> {
        let mut stage = Zeroizing::new([0; ENCODE_PIECE_BYTES]);
        let (mut from, mut to) = (region.len().checked_sub(count)?, 0);
        while from < region.len() {
            let len = ENCODE_PIECE_BYTES.min(region.len() - from);
            let piece = stage.get_mut(..len)?;
            piece.copy_from_slice(region.get(from..from + len)?);
            to += self.encode(piece, region.get_mut(to..)?)?;
            from += len;
        }
        Some(())
    }
}

/// Takes what a form writes.
pub trait Sink {
    /// Takes `bytes`.
    fn put(&mut self, bytes: &[u8]);

    /// Takes `count` bytes, which `fill` writes in place.
    fn put_with(&mut self, count: usize, fill: impl FnOnce(&mut [u8]));

    /// Takes bytes in an encoding.
    fn put_encoded(&mut self, bytes: &[u8], encoding: Encoding) {
        self.put_with(encoding.len(bytes.len()), |target| {
            encoding.encode(bytes, target);
        });
    }

    /// Takes a number in decimal.
    fn put_number(&mut self, number: u32) {
        self.put(Digits::of(number).as_bytes());
    }

    /// Takes the JSON form of a value.
    fn put_json(&mut self, value: &(impl Serialize + ?Sized))
    where
        Self: Sized,
    {
        // Nothing that is written here fails to have a JSON form; if it did, the length would show it.
        let _ = serde_json::to_writer(Writing(self), value);
    }
}

/// What can be written to a sink, as often as it is asked.
pub trait Form {
    /// Writes it.
    fn write(&self, sink: &mut impl Sink);
}

/// A value in its JSON form.
#[derive(Debug)]
pub struct Json<'a, T>(pub &'a T);

impl<T: Serialize> Form for Json<'_, T> {
    fn write(&self, sink: &mut impl Sink) {
        sink.put_json(self.0);
    }
}

/// The length of a form.
#[must_use]
pub fn measured(form: &impl Form) -> usize {
    let mut measure = Measure(0);
    form.write(&mut measure);
    measure.0
}

/// Writes a whole reply.
///
/// # Errors
/// 413 if it is longer than any reply, [`Rejection::Overloaded`] if it finds no room now.
pub fn reply(
    responder: &mut Responder<'_>,
    status: Status,
    kind: ReplyForm,
    fields: &[(&str, &[u8])],
    form: &impl Form,
) -> Answer {
    // Written twice, the first time only to be measured: that costs less than memory for a copy.
    begin(responder, status, kind, measured(form), fields)?;
    form.write(responder);
    Ok(Verdict::Done)
}

/// Begins a reply of a known length.
///
/// # Errors
/// 413 if it is longer than any reply, [`Rejection::Overloaded`] if it finds no room now.
pub fn begin(
    responder: &mut Responder<'_>,
    status: Status,
    kind: ReplyForm,
    len: usize,
    fields: &[(&str, &[u8])],
) -> Result<(), Rejection> {
    if len > REPLY_BODY_MAX_BYTES {
        return Err(REPLY_TOO_LARGE.into());
    }
    Ok(responder.begin(status, Some(kind.content_type()), len, fields)?)
}

/// Chooses the form of a reply that the client must be able to take.
///
/// # Errors
/// 406 if it takes none of them.
pub fn acceptable(accept: Option<&[u8]>, offers: &[ReplyForm]) -> Result<ReplyForm, Rejection> {
    negotiate(accept, offers).ok_or_else(|| NOT_ACCEPTABLE.into())
}

struct Measure(usize);

impl Sink for Measure {
    fn put(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }

    fn put_with(&mut self, count: usize, _: impl FnOnce(&mut [u8])) {
        self.0 = self.0.saturating_add(count);
    }
}

impl Sink for Responder<'_> {
    fn put(&mut self, bytes: &[u8]) {
        self.append(bytes);
    }

    fn put_with(&mut self, count: usize, fill: impl FnOnce(&mut [u8])) {
        // A lack of room shows as a wrong length when the reply is finished.
        if let Some(target) = self.body(count) {
            fill(target);
        }
    }
}

/// A sink for those who write to [`io::Write`].
struct Writing<'a, S>(&'a mut S);

impl<S: Sink> io::Write for Writing<'_, S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.put(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_encoded_within_the_region_that_they_end() {
        for count in (0..10).chain([3_071, 3_072, 3_073, 6_144, 100_000]) {
            let bytes: Vec<u8> = (0..=250).cycle().take(count).collect();
            for encoding in [Encoding::Base64, Encoding::Hex] {
                let mut region = vec![0; encoding.len(count)];
                let start = region.len() - count;
                region[start..].copy_from_slice(&bytes);
                encoding.encode_within(&mut region, count).unwrap();
                let mut expected = vec![0; encoding.len(count)];
                encoding.encode(&bytes, &mut expected).unwrap();
                assert!(region == expected, "{count} {encoding:?}");
                assert_eq!(encoding.decode_in_place(&mut region).unwrap(), bytes);
            }
        }
        assert_eq!(Encoding::Hex.encode_within(&mut [0; 3], 4), None);
    }

    #[test]
    fn what_is_measured_is_what_is_written() {
        struct Sample;
        impl Form for Sample {
            fn write(&self, sink: &mut impl Sink) {
                sink.put(b"{");
                sink.put_json("a\"b");
                sink.put_number(4_294_967_295);
                sink.put_encoded(&[1, 2, 3, 4], Encoding::Base64);
                sink.put_encoded(&[1, 2, 3, 4], Encoding::Hex);
            }
        }
        struct Written(Vec<u8>);
        impl Sink for Written {
            fn put(&mut self, bytes: &[u8]) {
                self.0.extend(bytes);
            }
            fn put_with(&mut self, count: usize, fill: impl FnOnce(&mut [u8])) {
                let start = self.0.len();
                self.0.resize(start + count, 0);
                fill(&mut self.0[start..]);
            }
        }
        let mut written = Written(Vec::new());
        Sample.write(&mut written);
        assert_eq!(written.0, b"{\"a\\\"b\"4294967295AQIDBA==01020304");
        assert_eq!(measured(&Sample), written.0.len());
    }
}
