//! The header fields that the server reads; every other field is checked for its form and skipped.
//!
//! Owns [`Fields`]. Invariants: fields that decide who asks or what the body is are taken once or refused; of
//! `Accept` and `X-Request-Id`, which decide nothing, the first one counts. Field names are matched without case.

use super::framing::FramingFields;
use super::grammar::trim;
use super::refusal::Refusal;
use super::span::Span;
use super::target::{Version, is_authority};
use crate::limits::CLIENT_REQUEST_ID_MAX_BYTES;

/// What the fields of one head have said.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fields {
    /// `Host`: a checked authority.
    pub host: Option<Span>,
    /// `Authorization`.
    pub authorization: Option<Span>,
    /// `X-API-Key`.
    pub api_key: Option<Span>,
    /// `Content-Type`.
    pub content_type: Option<Span>,
    /// `Accept`.
    pub accept: Option<Span>,
    /// `Origin`.
    pub origin: Option<Span>,
    /// `X-Request-Id`, if it is short and plain enough to be repeated in logs and replies.
    pub request_id: Option<Span>,
    /// `traceparent`; nothing if it stands twice.
    pub traceparent: Option<Span>,
    /// `Content-Length` and `Transfer-Encoding`.
    pub framing: FramingFields,
    /// Whether there is a `Content-Encoding` other than `identity`.
    pub coded_content: bool,
    traceparents: u8,
    connection_close: bool,
    connection_keep_alive: bool,
    expectation: Option<Expectation>,
}

/// What `Expect` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expectation {
    Continue,
    Unknown,
}

impl Fields {
    /// Takes one field, whose value is a part of `head`.
    ///
    /// # Errors
    /// The field may occur once and occurs again, or its value is malformed.
    pub fn take(&mut self, head: &[u8], name: &[u8], value: &[u8]) -> Result<(), Refusal> {
        let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
        match name.len() {
            4 if is(b"host") => {
                once(&mut self.host, head, value)?;
                if !is_authority(value) {
                    return Err(Refusal::MalformedHost);
                }
            }
            6 if is(b"accept") => first(&mut self.accept, head, value),
            6 if is(b"origin") => once(&mut self.origin, head, value)?,
            6 if is(b"expect") => self.take_expectation(value)?,
            9 if is(b"x-api-key") => once(&mut self.api_key, head, value)?,
            10 if is(b"connection") => self.take_connection(value),
            11 if is(b"traceparent") => self.take_traceparent(head, value),
            12 if is(b"content-type") => once(&mut self.content_type, head, value)?,
            12 if is(b"x-request-id") && is_plain(value) => first(&mut self.request_id, head, value),
            13 if is(b"authorization") => once(&mut self.authorization, head, value)?,
            14 if is(b"content-length") => self.framing.take_length(value)?,
            16 if is(b"content-encoding") => {
                self.coded_content |= !value.eq_ignore_ascii_case(b"identity");
            }
            17 if is(b"transfer-encoding") => self.framing.take_coding(value)?,
            _ => {}
        }
        Ok(())
    }

    /// Whether the connection stays open after the reply (RFC 9112, section 9.3).
    #[must_use]
    pub const fn keep_alive(&self, version: Version) -> bool {
        match version {
            Version::Http11 => !self.connection_close,
            Version::Http10 => self.connection_keep_alive && !self.connection_close,
        }
    }

    /// Whether the client waits for `100 Continue`; HTTP/1.0 clients do not (RFC 9110, section 10.1.1).
    ///
    /// # Errors
    /// Something else is expected.
    pub fn expects_continue(&self, version: Version) -> Result<bool, Refusal> {
        match self.expectation {
            Some(Expectation::Unknown) => Err(Refusal::UnknownExpectation),
            Some(Expectation::Continue) => Ok(version == Version::Http11),
            None => Ok(false),
        }
    }

    fn take_expectation(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if self.expectation.is_some() {
            return Err(Refusal::RepeatedField);
        }
        // Refused only with the whole head, so that faults of framing come first.
        self.expectation = Some(if value.eq_ignore_ascii_case(b"100-continue") {
            Expectation::Continue
        } else {
            Expectation::Unknown
        });
        Ok(())
    }

    fn take_traceparent(&mut self, head: &[u8], value: &[u8]) {
        self.traceparents = self.traceparents.saturating_add(1);
        let only = self.traceparents == 1;
        self.traceparent = Span::of(head, value).filter(|_| only);
    }

    fn take_connection(&mut self, value: &[u8]) {
        for option in value.split(|byte| *byte == b',').map(trim) {
            self.connection_close |= option.eq_ignore_ascii_case(b"close");
            self.connection_keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }
}

fn once(slot: &mut Option<Span>, head: &[u8], value: &[u8]) -> Result<(), Refusal> {
    if slot.is_some() {
        return Err(Refusal::RepeatedField);
    }
    *slot = Some(Span::of(head, value).ok_or(Refusal::MalformedField)?);
    Ok(())
}

fn first(slot: &mut Option<Span>, head: &[u8], value: &[u8]) {
    if slot.is_none() {
        *slot = Span::of(head, value);
    }
}

fn is_plain(value: &[u8]) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !value.is_empty() && value.len() <= CLIENT_REQUEST_ID_MAX_BYTES && value.iter().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(lines: &[(&str, &str)]) -> Result<Fields, Refusal> {
        let mut fields = Fields::default();
        for (name, value) in lines {
            fields.take(value.as_bytes(), name.as_bytes(), value.as_bytes())?;
        }
        Ok(fields)
    }

    #[test]
    fn fields_that_matter_must_not_be_repeated() {
        for name in ["Host", "authorization", "X-API-Key", "Content-Type", "Origin", "Expect"] {
            assert!(take(&[(name, "a")]).is_ok(), "{name}");
            assert_eq!(take(&[(name, "a"), (name, "a")]).unwrap_err(), Refusal::RepeatedField, "{name}");
        }
        for name in ["Accept", "X-Request-Id", "Connection", "Cookie"] {
            assert!(take(&[(name, "a"), (name, "a")]).is_ok(), "{name}");
        }
    }

    #[test]
    fn connection_options_are_read_as_a_list() {
        for (lines, in_10, in_11) in [
            (&[][..], false, true),
            (&[("Connection", "keep-alive")][..], true, true),
            (&[("connection", "TE, Keep-Alive")][..], true, true),
            (&[("Connection", "close")][..], false, false),
            (&[("Connection", "keep-alive"), ("Connection", "upgrade ,\tCLOSE")][..], false, false),
            (&[("Connection", "closed, xclose")][..], false, true),
        ] {
            let fields = take(lines).unwrap();
            assert_eq!(fields.keep_alive(Version::Http10), in_10, "{lines:?}");
            assert_eq!(fields.keep_alive(Version::Http11), in_11, "{lines:?}");
        }
    }

    #[test]
    fn only_the_one_expectation_is_met_and_only_in_1_1() {
        let fields = take(&[("Expect", "100-Continue")]).unwrap();
        assert_eq!(fields.expects_continue(Version::Http11), Ok(true));
        assert_eq!(fields.expects_continue(Version::Http10), Ok(false));
        for value in ["", "100-continue, x", "200-ok"] {
            let fields = take(&[("Expect", value)]).unwrap();
            assert_eq!(fields.expects_continue(Version::Http11), Err(Refusal::UnknownExpectation));
        }
    }

    #[test]
    fn request_ids_that_are_not_plain_are_ignored() {
        let longest = "a".repeat(CLIENT_REQUEST_ID_MAX_BYTES);
        assert!(take(&[("X-Request-Id", &longest)]).unwrap().request_id.is_some());
        for value in ["", "a b", "a\"", &format!("{longest}a")] {
            assert!(take(&[("X-Request-Id", value)]).unwrap().request_id.is_none(), "{value:?}");
        }
    }

    #[test]
    fn coded_content_is_noticed() {
        assert!(take(&[("Content-Encoding", "gzip")]).unwrap().coded_content);
        assert!(!take(&[("Content-Encoding", "Identity")]).unwrap().coded_content);
    }
}
