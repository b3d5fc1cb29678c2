//! In which shape a client is told what went wrong, and the second of the two shapes: `{"errors": ["text"]}`.
//!
//! Owns [`Complaint`] and [`ErrorList`]. Invariants: the body is valid JSON whatever its texts hold; its length is known
//! before it is written; of who asks, and of what he may do, it says no more than `permission denied`.

use super::problem::{PROBLEM_TYPE, Problem, escape};
use super::responder::Fault;
use super::status::Status;
use crate::model::RequestId;

/// In which shape a client is told what went wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Complaint {
    /// A problem document ([`super::problem`]).
    #[default]
    Problem,
    /// A list of texts, as the API of Vault and `OpenBao` has it, with the statuses that its clients know.
    Errors,
}

/// What went wrong, in the shape that its client knows.
#[derive(Clone, Copy, Debug)]
pub enum Told<'a> {
    /// As a problem document.
    Problem(Problem<'a>),
    /// As a list of texts.
    Errors(ErrorList<'a>),
}

impl<'a> Told<'a> {
    /// A fault of the request of this identifier in this shape.
    #[must_use]
    pub const fn new(complaint: Complaint, fault: &Fault<'a>, request_id: &'a RequestId) -> Self {
        let Fault { status, code, detail } = *fault;
        match complaint {
            Complaint::Problem => Self::Problem(Problem { status, code, detail, request_id, instance: None }),
            Complaint::Errors => Self::Errors(ErrorList::of(fault)),
        }
    }

    /// The status.
    #[must_use]
    pub const fn status(&self) -> Status {
        match self {
            Self::Problem(problem) => problem.status,
            Self::Errors(list) => list.status,
        }
    }

    /// The media type of the body.
    #[must_use]
    pub const fn content_type(&self) -> &'static str {
        match self {
            Self::Problem(_) => PROBLEM_TYPE,
            Self::Errors(_) => ErrorList::TYPE,
        }
    }

    /// The exact length of the body in bytes, which is never empty.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "it never is")]
    pub fn len(&self) -> usize {
        match self {
            Self::Problem(problem) => problem.len(),
            Self::Errors(list) => list.len(),
        }
    }

    /// Writes the body to the front of `target`.
    ///
    /// Returns its length, or nothing if `target` is too short.
    pub fn write(&self, target: &mut [u8]) -> Option<usize> {
        match self {
            Self::Problem(problem) => problem.write(target),
            Self::Errors(list) => list.write(target),
        }
    }
}

/// A refusal as a list of at most one text.
#[derive(Clone, Copy, Debug)]
pub struct ErrorList<'a> {
    /// The status.
    pub status: Status,
    text: &'a str,
}

impl<'a> ErrorList<'a> {
    /// The media type of the body: clients compare it to the letter.
    pub const TYPE: &'static str = "application/json";

    /// The list for a fault. One without a text has none.
    #[must_use]
    pub const fn of(fault: &Fault<'a>) -> Self {
        const DENIED: &str = "permission denied";
        let (status, text) = match fault.status {
            Status::Unauthorized | Status::Forbidden => (Status::Forbidden, DENIED),
            Status::Conflict
            | Status::Gone
            | Status::UnsupportedMediaType
            | Status::NotAcceptable
            | Status::UnprocessableContent => (Status::BadRequest, fault.detail),
            status => (status, fault.detail),
        };
        Self { status, text }
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

    fn emit(&self, sink: &mut impl FnMut(&[u8]) -> Option<()>) -> Option<()> {
        if self.text.is_empty() {
            return sink(b"{\"errors\":[]}\n");
        }
        sink(b"{\"errors\":[\"")?;
        escape(self.text, sink)?;
        sink(b"\"]}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(status: Status, text: &str) -> (Status, String) {
        let list = ErrorList::of(&Fault::new(status, "code", text));
        let mut target = vec![0; list.len()];
        assert_eq!(list.write(&mut target), Some(list.len()));
        assert_eq!(list.write(&mut vec![0; list.len() - 1]), None);
        (list.status, String::from_utf8(target).unwrap())
    }

    #[test]
    fn a_list_holds_the_text_whatever_is_in_it() {
        let (status, body) = written(Status::BadRequest, "a \"b\"\\\n\u{e9}");
        let parsed: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(
            (status, parsed),
            (Status::BadRequest, serde_json::json!({"errors": ["a \"b\"\\\n\u{e9}"]}))
        );
        assert_eq!(written(Status::NotFound, ""), (Status::NotFound, "{\"errors\":[]}\n".to_owned()));
    }

    #[test]
    fn who_is_not_let_in_is_told_nothing_else() {
        let denied = (Status::Forbidden, "{\"errors\":[\"permission denied\"]}\n".to_owned());
        assert_eq!(written(Status::Unauthorized, "The credential is not valid."), denied);
        assert_eq!(written(Status::Forbidden, "The credential does not allow this."), denied);
    }

    #[test]
    fn statuses_that_its_clients_do_not_know_become_bad_requests() {
        assert_eq!(written(Status::Conflict, "x").0, Status::BadRequest);
        for status in [Status::ContentTooLarge, Status::TooManyRequests, Status::ServiceUnavailable] {
            assert_eq!(written(status, "x").0, status);
        }
    }
}
