//! Why a request was not taken: the one error of the parsers of this floor.
//!
//! Owns [`Refusal`], the table of status, code and text for each reason. Invariants: the codes are part of the
//! API and do not change; no text quotes what the client sent. After a refusal of a head or a body the
//! framing is lost, so the connection is closed once the reply is out ([`Refusal::loses_framing`]).

use core::fmt;

use super::status::Status;

/// A reason to refuse a request before the application sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The first line is not `method SP target SP HTTP/x.y`, or not even text.
    MalformedRequestLine,
    /// A method that is not implemented, `CONNECT` included.
    UnknownMethod,
    /// The request target is longer than `limits::TARGET_MAX_BYTES`.
    TargetTooLong,
    /// The request target is in none of the forms of RFC 9112, section 3.2, or in one that the method does not take.
    MalformedTarget,
    /// HTTP, but neither 1.0 nor 1.1.
    UnsupportedVersion,
    /// CR without LF, or LF without CR.
    BareLineEnd,
    /// A field continued on a second line (obs-fold, RFC 9112, section 5.2).
    FoldedField,
    /// A field line with a bad name, white space before the colon, or control characters.
    MalformedField,
    /// A field that may occur once occurs again.
    RepeatedField,
    /// The head is larger than `limits::HEAD_MAX_BYTES`.
    HeadTooLarge,
    /// More fields than `limits::HEAD_FIELDS_MAX_COUNT`.
    TooManyFields,
    /// An HTTP/1.1 request without `Host`.
    MissingHost,
    /// `Host`, or the authority of the target, is not a host with an optional port.
    MalformedHost,
    /// `Content-Length` is not one decimal number below 2^64.
    MalformedLength,
    /// Both `Content-Length` and `Transfer-Encoding`.
    AmbiguousFraming,
    /// `Transfer-Encoding` in which `chunked` is not the one last coding.
    MalformedCoding,
    /// A transfer coding other than `chunked`.
    UnknownCoding,
    /// `Transfer-Encoding` in an HTTP/1.0 request.
    CodingInOldVersion,
    /// An expectation other than `100-continue`.
    UnknownExpectation,
    /// A chunk-size line or the end of a chunk that breaks the grammar.
    MalformedChunk,
    /// A chunk-size line longer than `limits::CHUNK_LINE_MAX_BYTES`.
    ChunkLineTooLong,
    /// A chunk size of more digits than `limits::CHUNK_SIZE_MAX_DIGITS`.
    ChunkSizeTooLong,
    /// A trailer field that breaks the grammar.
    MalformedTrailer,
    /// Trailers larger than `limits::TRAILERS_MAX_BYTES`.
    TrailersTooLarge,
    /// A `%` in the query without two hexadecimal digits.
    MalformedQuery,
    /// A query parameter that may occur once occurs again.
    RepeatedParameter,
}

impl Refusal {
    /// The status to answer with.
    #[must_use]
    pub const fn status(self) -> Status {
        match self {
            Self::UnknownMethod | Self::UnknownCoding => Status::NotImplemented,
            Self::TargetTooLong => Status::UriTooLong,
            Self::UnsupportedVersion => Status::VersionNotSupported,
            Self::HeadTooLarge | Self::TooManyFields | Self::TrailersTooLarge => Status::HeaderFieldsTooLarge,
            Self::UnknownExpectation => Status::ExpectationFailed,
            _ => Status::BadRequest,
        }
    }

    /// The stable name of the reason, in snake case.
    #[must_use]
    pub const fn code(self) -> &'static str {
        self.row().0
    }

    /// A short sentence for people.
    #[must_use]
    pub const fn detail(self) -> &'static str {
        self.row().1
    }

    /// Whether the end of the request is not known, so that the connection must be closed after the reply.
    #[must_use]
    pub const fn loses_framing(self) -> bool {
        !matches!(self, Self::MalformedQuery | Self::RepeatedParameter)
    }

    const fn row(self) -> (&'static str, &'static str) {
        match self {
            Self::MalformedRequestLine => ("malformed_request_line", "The request line is malformed."),
            Self::UnknownMethod => ("unknown_method", "The method is not implemented."),
            Self::TargetTooLong => ("target_too_long", "The request target is too long."),
            Self::MalformedTarget => ("malformed_target", "The request target is malformed."),
            Self::UnsupportedVersion => ("unsupported_version", "Only HTTP/1.0 and HTTP/1.1 are spoken."),
            Self::BareLineEnd => ("bare_line_end", "Lines must end with CR LF."),
            Self::FoldedField => ("folded_field", "A field must not span lines."),
            Self::MalformedField => ("malformed_field", "A header field is malformed."),
            Self::RepeatedField => ("repeated_field", "A header field must not be repeated."),
            Self::HeadTooLarge => ("head_too_large", "The request head is too large."),
            Self::TooManyFields => ("too_many_fields", "The request head has too many fields."),
            Self::MissingHost => ("missing_host", "HTTP/1.1 requests need a Host field."),
            Self::MalformedHost => ("malformed_host", "The host is malformed."),
            Self::MalformedLength => ("malformed_content_length", "Content-Length must be one number."),
            Self::AmbiguousFraming => {
                ("ambiguous_framing", "Content-Length and Transfer-Encoding exclude each other.")
            }
            Self::MalformedCoding => {
                ("malformed_transfer_encoding", "Transfer-Encoding must be exactly chunked.")
            }
            Self::UnknownCoding => ("unknown_transfer_coding", "The transfer coding is not implemented."),
            Self::CodingInOldVersion => {
                ("transfer_encoding_in_http_1_0", "HTTP/1.0 has no Transfer-Encoding.")
            }
            Self::UnknownExpectation => ("unknown_expectation", "The expectation cannot be met."),
            Self::MalformedChunk => ("malformed_chunk", "The chunked body is malformed."),
            Self::ChunkLineTooLong => ("chunk_line_too_long", "A chunk-size line is too long."),
            Self::ChunkSizeTooLong => ("chunk_size_too_long", "A chunk size has too many digits."),
            Self::MalformedTrailer => ("malformed_trailer", "A trailer field is malformed."),
            Self::TrailersTooLarge => ("trailers_too_large", "The trailer section is too large."),
            Self::MalformedQuery => ("malformed_query", "The query is not percent-encoded correctly."),
            Self::RepeatedParameter => ("repeated_parameter", "A query parameter must not be repeated."),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.detail())
    }
}

impl core::error::Error for Refusal {}
