//! Calls whose body is the payload itself, and whose other members stand in the query.
//!
//! Owns the choice between JSON and raw calls. Invariants: query `key` present means raw, absent means JSON, and a
//! content type that says otherwise is refused; a parameter that the route does not know is an error.

use std::borrow::Cow;

use crate::api::binding::Binding;
use crate::api::payload::canonical_number;
use crate::api::{Call, Rejection};
use crate::http::media::ContentType;
use crate::http::query::Query;
use crate::http::responder::Fault;
use crate::http::status::Status;

const MIXED_FORMS: Fault<'static> = Fault::new(
    Status::BadRequest,
    "json_with_query_key",
    "With ?key= the body is the payload itself. Drop the parameter to send JSON, or the JSON content type to send octets.",
);
const UNSUPPORTED_TYPE: Fault<'static> = Fault::new(
    Status::UnsupportedMediaType,
    "unsupported_media_type",
    "Send JSON, or add ?key=NAME and send application/octet-stream or text/plain.",
);
/// A parameter is not as it must be.
pub const BAD_PARAMETER: Fault<'static> = Fault::new(
    Status::BadRequest,
    "malformed_parameter",
    "A query parameter is not of the form that this route takes.",
);
const UNEXPECTED_BODY: Fault<'static> = Fault::new(
    Status::BadRequest,
    "unexpected_body",
    "With these query parameters the body must be empty. Drop them to send JSON.",
);

/// A raw call, by its query.
#[derive(Debug)]
pub struct Raw<'a> {
    /// The name of the key.
    pub key: Cow<'a, str>,
    /// The version that was asked for.
    pub version: Option<u32>,
    /// What the payload is bound to.
    pub binding: Binding,
    /// The whole query.
    pub query: Query<'a>,
}

/// Reads the query of a call, whose parameters are all among `known`. Nothing means that the call is JSON.
///
/// # Errors
/// [`Rejection`] if query and content type contradict each other, or a parameter is malformed.
pub fn read<'a>(call: &mut Call<'a>, known: &[&str]) -> Result<Option<Raw<'a>>, Rejection> {
    let Some((query, key)) = choose(call, known, "key")? else { return Ok(None) };
    let version = number(query, "key_version")?;
    let binding = Binding::from_query(call.tools, query)?;
    Ok(Some(Raw { key, version, binding, query }))
}

/// Reads the query of a call that is raw if the parameter `mark` is there, which is returned with the query.
///
/// # Errors
/// [`Rejection`] if query and content type contradict each other, or a parameter is not known.
pub fn choose<'a>(
    call: &Call<'a>,
    known: &[&str],
    mark: &str,
) -> Result<Option<(Query<'a>, Cow<'a, str>)>, Rejection> {
    if call.arrival.head.coded_content {
        return Err(UNSUPPORTED_TYPE.into());
    }
    let content_type = call.content_type();
    let query = call.query(known)?;
    let Some(marked) = text(query, mark)? else {
        if query.pairs().next().is_some() {
            return Err(BAD_PARAMETER.into());
        }
        let json = matches!(content_type, ContentType::Json | ContentType::None | ContentType::Form);
        return if json { Ok(None) } else { Err(UNSUPPORTED_TYPE.into()) };
    };
    match content_type {
        ContentType::Json => Err(MIXED_FORMS.into()),
        ContentType::Other => Err(UNSUPPORTED_TYPE.into()),
        ContentType::None | ContentType::Octets | ContentType::Text | ContentType::Form => {
            Ok(Some((query, marked)))
        }
    }
}

/// The text of a parameter.
///
/// # Errors
/// 400 if it stands twice or is no text.
pub fn text<'a>(query: Query<'a>, name: &str) -> Result<Option<Cow<'a, str>>, Rejection> {
    let Some(value) = query.find_unique(name)? else { return Ok(None) };
    let text = match value.to_cow() {
        Cow::Borrowed(bytes) => str::from_utf8(bytes).ok().map(Cow::Borrowed),
        Cow::Owned(bytes) => String::from_utf8(bytes).ok().map(Cow::Owned),
    };
    text.map(Some).ok_or_else(|| BAD_PARAMETER.into())
}

/// A parameter that is a positive number.
///
/// # Errors
/// 400 if it stands twice or is none.
pub fn number(query: Query<'_>, name: &str) -> Result<Option<u32>, Rejection> {
    let Some(value) = query.find_unique(name)? else { return Ok(None) };
    canonical_number(&value.to_cow()).map(Some).ok_or_else(|| BAD_PARAMETER.into())
}

/// Refuses a body beside a query that says everything.
///
/// # Errors
/// 400 if there is one.
pub fn require_empty_body(call: &Call<'_>) -> Result<(), Rejection> {
    if call.body.is_empty() { Ok(()) } else { Err(UNEXPECTED_BODY.into()) }
}
