//! What a payload is bound to: associated data, and the context of a derived key.
//!
//! Owns [`Binding`]. Invariants: both are decoded before anything is touched; the bytes stand in the worker's scratch
//! memory, so that none is asked for; a derived key is never used without its context, and a plain key never with one.

use crate::api::form::Encoding;
use crate::api::{Rejection, Tools};
use crate::encoding::base64url_decode;
use crate::http::query::Query;
use crate::http::responder::Fault;
use crate::http::status::Status;
use crate::keyring::Key;

const BAD_ASSOCIATED_DATA: Fault<'static> = Fault::new(
    Status::BadRequest,
    "malformed_associated_data",
    "associated_data must be canonical base64 (in a query: base64url without padding) of at most 4096 bytes.",
);
const BAD_CONTEXT: Fault<'static> = Fault::new(
    Status::BadRequest,
    "malformed_context",
    "context must be canonical base64 (in a query: base64url without padding) of at most 1024 bytes.",
);
const CONTEXT_REQUIRED: Fault<'static> = Fault::new(
    Status::BadRequest,
    "context_required",
    "The key is a derived one: send the context, which must not be empty.",
);
const CONTEXT_NOT_ALLOWED: Fault<'static> = Fault::new(
    Status::BadRequest,
    "context_not_allowed",
    "A context is only for derived keys, and this key is not one.",
);

/// How much of the scratch memory holds what.
#[derive(Clone, Copy, Debug, Default)]
pub struct Binding {
    associated_data: usize,
    context: Option<usize>,
}

impl Binding {
    /// Decodes the members of a JSON object.
    ///
    /// # Errors
    /// 400 if one is not of the form or too long.
    pub fn read(
        tools: &mut Tools,
        encoding: Encoding,
        associated_data: Option<&[u8]>,
        context: Option<&[u8]>,
    ) -> Result<Self, Rejection> {
        let decode = |text: Option<&[u8]>, target: &mut [u8], bad: Fault<'static>| {
            text.map(|text| encoding.decode(text, target).ok_or(bad)).transpose()
        };
        let data = decode(associated_data, tools.associated_data.as_mut_slice(), BAD_ASSOCIATED_DATA)?;
        let context = decode(context, tools.context.as_mut_slice(), BAD_CONTEXT)?;
        Ok(Self { associated_data: data.unwrap_or(0), context })
    }

    /// Decodes the parameters of a raw call.
    ///
    /// # Errors
    /// 400 if one is not of the form or too long.
    pub fn from_query(tools: &mut Tools, query: Query<'_>) -> Result<Self, Rejection> {
        let decode = |name: &str, target: &mut [u8], bad: Fault<'static>| -> Result<_, Rejection> {
            let Some(text) = query.find_unique(name)? else { return Ok(None) };
            Ok(Some(base64url_decode(&text.to_cow(), target).ok_or(bad)?))
        };
        let data = decode("associated_data", tools.associated_data.as_mut_slice(), BAD_ASSOCIATED_DATA)?
            .unwrap_or(0);
        let context = decode("context", tools.context.as_mut_slice(), BAD_CONTEXT)?;
        Ok(Self { associated_data: data, context })
    }

    /// The associated data.
    #[must_use]
    pub fn associated_data(self, tools: &Tools) -> &[u8] {
        tools.associated_data.get(..self.associated_data).unwrap_or_default()
    }

    /// The context under which `key` is used; empty for a plain key.
    ///
    /// # Errors
    /// 400 if a derived key has none or a plain key has one.
    pub fn context<'a>(self, tools: &'a Tools, key: &Key) -> Result<&'a [u8], Rejection> {
        match (key.options().derived, self.context) {
            (false, None) => Ok(&[]),
            (false, Some(_)) => Err(CONTEXT_NOT_ALLOWED.into()),
            (true, None | Some(0)) => Err(CONTEXT_REQUIRED.into()),
            (true, Some(len)) => Ok(tools.context.get(..len).unwrap_or_default()),
        }
    }
}
