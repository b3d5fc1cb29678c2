//! Error bodies: `application/problem+json` (RFC 9457).
//!
//! Owns [`Problem`]. Invariants: the body is valid JSON whatever its texts hold; its length is known before it is
//! written; `type` is `urn:quantonium:problem:` and the code, so that the type and the code never disagree.

use super::refusal::Refusal;
use super::status::Status;
use crate::model::RequestId;

/// The media type of error bodies.
pub const PROBLEM_TYPE: &str = "application/problem+json";

/// A refusal or a failure, as the client reads it.
#[derive(Clone, Copy, Debug)]
pub struct Problem<'a> {
    /// The status; its reason phrase is the `title`.
    pub status: Status,
    /// The stable name of the reason, in snake case.
    pub code: &'static str,
    /// What went wrong, for people. Never holds a secret.
    pub detail: &'a str,
    /// The identifier of the request, as in `X-Request-Id`.
    pub request_id: &'a RequestId,
    /// What the problem is about, as a URI reference, such as the path of a key.
    pub instance: Option<&'a str>,
}

impl<'a> Problem<'a> {
    /// The problem that a refusal of this floor is answered with.
    #[must_use]
    pub const fn from_refusal(refusal: Refusal, request_id: &'a RequestId) -> Self {
        Self {
            status: refusal.status(),
            code: refusal.code(),
            detail: refusal.detail(),
            request_id,
            instance: None,
        }
    }

    /// The exact length of the body in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        let mut len = 0;
        let counted = self.emit(&mut |piece| {
            len += piece.len();
            Some(())
        });
        // Counting cannot fail.
        counted.map_or(usize::MAX, |()| len)
    }

    /// Whether the body is empty: it never is.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        false
    }

    /// Writes the body to the front of `target`.
    ///
    /// Returns its length, or nothing if `target` is too short.
    pub fn write(&self, target: &mut [u8]) -> Option<usize> {
        let mut at = 0;
        self.emit(&mut |piece| {
            target.get_mut(at..)?.get_mut(..piece.len())?.copy_from_slice(piece);
            at += piece.len();
            Some(())
        })?;
        Some(at)
    }

    /// Hands out the body, piece by piece.
    fn emit(&self, sink: &mut impl FnMut(&[u8]) -> Option<()>) -> Option<()> {
        let mut status = [b'0'; 3];
        let mut rest = self.status.code();
        for place in status.iter_mut().rev() {
            *place = b'0' + u8::try_from(rest % 10).unwrap_or(0);
            rest /= 10;
        }
        sink(b"{\"type\":\"urn:quantonium:problem:")?;
        escape(self.code, sink)?;
        sink(b"\",\"title\":\"")?;
        escape(self.status.reason(), sink)?;
        sink(b"\",\"status\":")?;
        sink(&status)?;
        sink(b",\"detail\":\"")?;
        escape(self.detail, sink)?;
        sink(b"\",\"code\":\"")?;
        escape(self.code, sink)?;
        sink(b"\",\"request_id\":\"")?;
        sink(self.request_id.as_bytes())?;
        if let Some(instance) = self.instance {
            sink(b"\",\"instance\":\"")?;
            escape(instance, sink)?;
        }
        sink(b"\"}\n")
    }
}

/// Hands out a text as it stands inside a JSON string (RFC 8259, section 7).
pub(super) fn escape(text: &str, sink: &mut impl FnMut(&[u8]) -> Option<()>) -> Option<()> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut rest = text.as_bytes();
    while let Some(at) = rest.iter().position(|byte| *byte < b' ' || matches!(byte, b'"' | b'\\')) {
        let (plain, tail) = rest.split_at_checked(at)?;
        let (byte, tail) = tail.split_first()?;
        sink(plain)?;
        match byte {
            b'"' | b'\\' => sink(&[b'\\', *byte])?,
            _ => {
                let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied();
                sink(&[b'\\', b'u', b'0', b'0', digit(byte >> 4)?, digit(byte & 15)?])?;
            }
        }
        rest = tail;
    }
    sink(rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(problem: &Problem<'_>) -> Vec<u8> {
        let mut target = vec![0; problem.len()];
        assert_eq!(problem.write(&mut target), Some(problem.len()));
        for len in 0..problem.len() {
            assert_eq!(problem.write(&mut vec![0; len]), None);
        }
        target
    }

    #[test]
    fn a_problem_has_the_members_of_the_rfc() {
        let id = RequestId::new(1, 2);
        let problem = Problem::from_refusal(Refusal::MissingHost, &id);
        assert_eq!(
            str::from_utf8(&written(&problem)).unwrap(),
            "{\"type\":\"urn:quantonium:problem:missing_host\",\"title\":\"Bad Request\",\"status\":400,\
             \"detail\":\"HTTP/1.1 requests need a Host field.\",\"code\":\"missing_host\",\
             \"request_id\":\"00000000000000010000000000000002\"}\n"
        );
    }

    proptest! {
        #[test]
        fn any_text_survives_a_json_parser(detail in ".*|[\u{0}-\u{7f}]*", instance in proptest::option::of(".*")) {
            let id = RequestId::new(0, 7);
            let problem = Problem {
                status: Status::ServiceUnavailable,
                code: "audit_unavailable",
                detail: &detail,
                request_id: &id,
                instance: instance.as_deref(),
            };
            let parsed: serde_json::Value = serde_json::from_slice(&written(&problem)).unwrap();
            prop_assert_eq!(&parsed["detail"], &detail);
            prop_assert_eq!(parsed["instance"].as_str(), instance.as_deref());
            prop_assert_eq!(&parsed["status"], 503);
            prop_assert_eq!(&parsed["title"], "Service Unavailable");
            prop_assert_eq!(&parsed["code"], "audit_unavailable");
            prop_assert_eq!(&parsed["type"], "urn:quantonium:problem:audit_unavailable");
        }
    }
}
