//! What an operation on a payload gives, and its forms in replies.
//!
//! Owns [`Product`]. Invariants: what was sealed or opened is written from where it stands; the text form of a raw reply
//! ends with a line feed, the binary form is the bytes alone.

use crate::api::form::{Encoding, Form, Sink, acceptable, reply};
use crate::api::payload::{Digits, Seal};
use crate::api::{Answer, Rejection};
use crate::crypto::envelope;
use crate::crypto::mac::Tag;
use crate::http::media::{ContentType, ReplyForm, negotiate};
use crate::http::responder::Responder;
use crate::http::status::Status;

/// The result of one operation.
#[derive(Debug)]
pub enum Product<'b> {
    /// Something that was sealed.
    Ciphertext {
        /// Version, nonce and tag.
        seal: Seal,
        /// The ciphertext between them.
        data: &'b [u8],
    },
    /// Something that was opened.
    Plaintext {
        /// The version that opened it.
        version: u32,
        /// The plaintext.
        data: &'b [u8],
    },
    /// A signature.
    Signature {
        /// The version that signed.
        version: u32,
        /// The tag.
        tag: Tag,
    },
    /// Whether a signature is right.
    Verdict {
        /// The version that it names, if the key has it.
        version: Option<u32>,
        /// Whether it is.
        valid: bool,
    },
}

/// A product in one of its forms.
#[derive(Debug)]
pub struct Shown<'a, 'b> {
    /// The product.
    pub product: &'a Product<'b>,
    /// The form.
    pub form: ReplyForm,
    /// How a plaintext stands in JSON.
    pub encoding: Encoding,
}

/// Which forms the replies of a raw call have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replies {
    /// Those of a ciphertext: the form of the request decides, and `Accept` overrides.
    Ciphertext,
    /// Octets, or JSON where it is preferred.
    Plaintext,
    /// A line of text, or JSON where it is preferred.
    Signature,
    /// JSON.
    Verdict,
}

impl Replies {
    /// Chooses the form of the reply.
    ///
    /// # Errors
    /// 406 if the client takes none. A preference that cannot be met is no reason to withhold a plaintext or a verdict
    /// (RFC 9110, section 12.4.1).
    pub fn choose(self, content_type: ContentType, accept: Option<&[u8]>) -> Result<ReplyForm, Rejection> {
        use ReplyForm::{Json, Octets, Text};
        match self {
            Self::Ciphertext if content_type == ContentType::Octets => {
                acceptable(accept, &[Octets, Text, Json])
            }
            Self::Ciphertext => acceptable(accept, &[Text, Octets, Json]),
            Self::Plaintext => Ok(negotiate(accept, &[Octets, Json]).unwrap_or(Octets)),
            Self::Signature => acceptable(accept, &[Text, Json]),
            Self::Verdict => Ok(Json),
        }
    }
}

impl Product<'_> {
    /// The number of the version that was used; nothing if a verdict needed none.
    #[must_use]
    pub const fn version(&self) -> Option<u32> {
        match self {
            Self::Ciphertext { seal, .. } => Some(seal.version),
            Self::Plaintext { version, .. } | Self::Signature { version, .. } => Some(*version),
            Self::Verdict { version, .. } => *version,
        }
    }

    /// Whether it says that a signature is wrong.
    #[must_use]
    pub const fn is_invalid(&self) -> bool {
        matches!(self, Self::Verdict { valid: false, .. })
    }

    /// Writes the whole reply.
    ///
    /// # Errors
    /// [`Rejection`] if it finds no room.
    pub fn reply(&self, responder: &mut Responder<'_>, form: ReplyForm, encoding: Encoding) -> Answer {
        let shown = Shown { product: self, form, encoding };
        if form == ReplyForm::Json {
            return reply(responder, Status::Ok, form, &[], &shown);
        }
        let Some(version) = self.version() else { return reply(responder, Status::Ok, form, &[], &shown) };
        let digits = Digits::of(version);
        reply(responder, Status::Ok, form, &[("X-Key-Version", digits.as_bytes())], &shown)
    }

    /// Writes the members of its JSON form, without braces.
    pub fn write_members(&self, encoding: Encoding, sink: &mut impl Sink) {
        let version = match self {
            Self::Ciphertext { seal, data } => {
                sink.put(b"\"ciphertext\":\"");
                write_envelope(sink, seal, data);
                seal.version
            }
            Self::Plaintext { version, data } => {
                sink.put(b"\"plaintext\":\"");
                sink.put_encoded(data, encoding);
                *version
            }
            Self::Signature { version, tag } => {
                sink.put(b"\"signature\":\"");
                write_signature(sink, *version, tag);
                *version
            }
            Self::Verdict { valid, .. } => {
                sink.put(if *valid { b"\"valid\":true" } else { b"\"valid\":false" });
                return;
            }
        };
        sink.put(b"\",\"key_version\":");
        sink.put_number(version);
    }

    fn write_text(&self, sink: &mut impl Sink) {
        match self {
            Self::Ciphertext { seal, data } => write_envelope(sink, seal, data),
            Self::Signature { version, tag } => write_signature(sink, *version, tag),
            Self::Plaintext { data, .. } => return sink.put(data),
            Self::Verdict { valid, .. } => sink.put(if *valid { b"true" } else { b"false" }),
        }
        sink.put(b"\n");
    }

    fn write_octets(&self, sink: &mut impl Sink) {
        match self {
            Self::Ciphertext { seal, data } => {
                sink.put_with(envelope::BINARY_HEADER_BYTES, |header| {
                    envelope::write_binary_header(header, seal.version);
                });
                sink.put(seal.nonce());
                sink.put(data);
                sink.put(&seal.tag);
            }
            Self::Plaintext { data, .. } => sink.put(data),
            Self::Signature { .. } | Self::Verdict { .. } => self.write_text(sink),
        }
    }
}

impl Form for Shown<'_, '_> {
    fn write(&self, sink: &mut impl Sink) {
        match self.form {
            ReplyForm::Json => {
                sink.put(b"{");
                self.product.write_members(self.encoding, sink);
                sink.put(b"}");
            }
            ReplyForm::Text => self.product.write_text(sink),
            ReplyForm::Octets => self.product.write_octets(sink),
        }
    }
}

fn write_envelope(sink: &mut impl Sink, seal: &Seal, data: &[u8]) {
    let len = envelope::text_len(seal.version, seal.algorithm, data.len()).unwrap_or(usize::MAX);
    sink.put_with(len, |target| {
        let Some(prefix) = envelope::write_text_prefix(target, seal.version) else { return };
        if let Some(rest) = target.get_mut(prefix..) {
            envelope::write_text_body(rest, seal.nonce(), data, &seal.tag);
        }
    });
}

fn write_signature(sink: &mut impl Sink, version: u32, tag: &Tag) {
    let len = envelope::text_prefix_len(version).unwrap_or(usize::MAX);
    sink.put_with(len, |target| {
        envelope::write_text_prefix(target, version);
    });
    sink.put_encoded(tag.as_bytes(), Encoding::Base64);
}
