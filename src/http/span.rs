//! A part of a caller's buffer, remembered by numbers instead of a borrow.
//!
//! Owns [`Span`]. Invariant: resolving a span never panics; a span used with another buffer than its own gives
//! wrong or no bytes, but never bytes beyond that buffer.

/// Offset and length of a part of a buffer of at most 64 KiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    start: u16,
    len: u16,
}

impl Span {
    /// The span of `part` inside `whole`; nothing if `part` does not lie inside, or beyond the first 64 KiB.
    #[must_use]
    pub fn of(whole: &[u8], part: &[u8]) -> Option<Self> {
        let start = part.as_ptr().addr().checked_sub(whole.as_ptr().addr())?;
        whole.get(start..start.checked_add(part.len())?)?;
        Some(Self { start: u16::try_from(start).ok()?, len: u16::try_from(part.len()).ok()? })
    }

    /// The bytes of the span in `whole`; empty if they do not lie inside.
    #[must_use]
    pub fn of_bytes(self, whole: &[u8]) -> &[u8] {
        let start = usize::from(self.start);
        whole.get(start..start + usize::from(self.len)).unwrap_or_default()
    }

    /// Whether the span is empty.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_gives_back_its_part() {
        let whole = b"GET /path";
        let span = Span::of(whole, &whole[4..]).unwrap();
        assert_eq!(span.of_bytes(whole), b"/path");
        assert_eq!(span.of_bytes(b"GET"), b"");
    }

    #[test]
    fn a_part_of_something_else_has_no_span() {
        let whole = [0u8; 64];
        assert_eq!(Span::of(&whole[8..], &whole[..4]), None);
        assert_eq!(Span::of(&whole[..8], &whole[4..16]), None);
    }
}
