//! Finding the end of a head while it arrives, byte by byte if the client likes.
//!
//! Owns [`HeadScan`]. Invariants: each byte is looked at once, however the head is split; everything that can be
//! refused early is refused early (junk, bare line ends, limits, a bad request line), so that a hostile peer does
//! not hold a lease until its deadline; nothing is looked at beyond `limits::HEAD_MAX_BYTES`.

use memchr::{memchr, memchr2};

use super::refusal::Refusal;
use super::target::RequestLine;
use crate::limits::{
    EMPTY_LINES_MAX_COUNT, HEAD_FIELDS_MAX_COUNT, HEAD_MAX_BYTES, METHOD_MAX_BYTES, TARGET_MAX_BYTES,
};

/// What follows the target in a request line: a space and the version.
const VERSION_PART_BYTES: usize = " HTTP/1.1".len();

/// The state of looking for the end of one head. A new head needs a new scan.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeadScan {
    /// Bytes that need no second look.
    seen: u16,
    /// Where the current line starts.
    line: u16,
    /// Where the first space of the request line stands.
    space: Option<u16>,
    /// Empty lines before the request line.
    empty_lines: u8,
    /// Complete field lines.
    fields: u8,
    request: Option<(RequestLine, u16)>,
}

/// A head whose end was found and whose lines are well ended.
#[derive(Clone, Copy, Debug)]
pub struct Lines {
    /// The request line.
    pub request: RequestLine,
    /// Where the field lines start.
    pub fields_start: usize,
    /// How many field lines there are.
    pub fields_count: usize,
    /// Where the head ends: after its empty line.
    pub end: usize,
}

impl HeadScan {
    /// Looks at what has arrived since the last call; `bytes` always starts with the first byte of the head.
    ///
    /// Returns nothing as long as the head is not complete.
    ///
    /// # Errors
    /// The head is refused; the scan is of no further use.
    pub fn advance(&mut self, bytes: &[u8]) -> Result<Option<Lines>, Refusal> {
        let window = bytes.get(..HEAD_MAX_BYTES).unwrap_or(bytes);
        loop {
            let fresh = window.get(usize::from(self.seen)..).unwrap_or_default();
            let Some(hit) = memchr2(b'\r', b'\n', fresh) else {
                self.look_at_request_line(fresh)?;
                self.seen = offset(window.len());
                break;
            };
            self.look_at_request_line(fresh.get(..hit).unwrap_or_default())?;
            let end_of_line = usize::from(self.seen) + hit;
            self.seen = offset(end_of_line);
            match window.get(end_of_line..) {
                Some([b'\r', b'\n', ..]) => {}
                Some([b'\r']) => break,
                _ => return Err(Refusal::BareLineEnd),
            }
            self.seen = offset(end_of_line + 2);
            if let Some(lines) = self.end_line(window, end_of_line)? {
                return Ok(Some(lines));
            }
        }
        if window.len() == HEAD_MAX_BYTES { Err(Refusal::HeadTooLarge) } else { Ok(None) }
    }

    /// Takes the line from `self.line` to `end`.
    fn end_line(&mut self, window: &[u8], end: usize) -> Result<Option<Lines>, Refusal> {
        let line = window.get(usize::from(self.line)..end).unwrap_or_default();
        let next = offset(end + 2);
        self.line = next;
        match (self.request, line) {
            (None, []) => {
                self.empty_lines += 1;
                if self.empty_lines > EMPTY_LINES_MAX_COUNT {
                    return Err(Refusal::MalformedRequestLine);
                }
            }
            (None, _) => self.request = Some((RequestLine::parse(window, line)?, next)),
            (Some((request, fields_start)), []) => {
                return Ok(Some(Lines {
                    request,
                    fields_start: usize::from(fields_start),
                    fields_count: usize::from(self.fields),
                    end: usize::from(next),
                }));
            }
            (Some(_), [b' ' | b'\t', ..]) => return Err(Refusal::FoldedField),
            (Some(_), _) => {
                self.fields += 1;
                if usize::from(self.fields) > HEAD_FIELDS_MAX_COUNT {
                    return Err(Refusal::TooManyFields);
                }
            }
        }
        Ok(None)
    }

    /// Refuses a request line that cannot become a good one any more. `fresh` is its newest part.
    fn look_at_request_line(&mut self, fresh: &[u8]) -> Result<(), Refusal> {
        if self.request.is_some() {
            return Ok(());
        }
        // Faults are judged by their place, so that the verdict does not depend on how the line was split.
        let junk = position_of_junk(fresh);
        let clean = fresh.get(..junk.unwrap_or(fresh.len())).unwrap_or_default();
        if self.space.is_none() {
            self.space = memchr(b' ', clean).map(|at| offset(usize::from(self.seen) + at));
        }
        let start = usize::from(self.line);
        let len = usize::from(self.seen) + clean.len() - start;
        let method_len = self.space.map_or(len, |space| usize::from(space) - start);
        if method_len > METHOD_MAX_BYTES {
            return Err(Refusal::UnknownMethod);
        }
        if len > method_len + 1 + TARGET_MAX_BYTES + VERSION_PART_BYTES {
            return Err(Refusal::TargetTooLong);
        }
        if junk.is_some() { Err(Refusal::MalformedRequestLine) } else { Ok(()) }
    }
}

/// Where the first byte stands that is neither visible ASCII nor SP.
fn position_of_junk(text: &[u8]) -> Option<usize> {
    let is_junk = |byte: &u8| !(b' '..=b'~').contains(byte);
    // Looking at all bytes without stopping is done many at a time, and usually finds nothing.
    if !text.iter().fold(false, |found, byte| found | is_junk(byte)) {
        return None;
    }
    text.iter().position(is_junk)
}

/// An offset into the window; `limits` asserts that it fits.
fn offset(at: usize) -> u16 {
    u16::try_from(at).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(bytes: &[u8]) -> Result<Option<usize>, Refusal> {
        HeadScan::default().advance(bytes).map(|lines| lines.map(|lines| lines.end))
    }

    #[test]
    fn the_end_is_found_at_its_byte_however_the_head_is_split() {
        let head = b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let mut scan = HeadScan::default();
        for end in 0..head.len() {
            assert!(scan.advance(&head[..end]).unwrap().is_none(), "{end}");
            // Only a CR whose LF is still to come is looked at twice: the total stays linear.
            let pending = head[..end].last() == Some(&b'\r');
            assert_eq!(usize::from(scan.seen), end - usize::from(pending));
        }
        let lines = scan.advance(&[head, &b"next"[..]].concat()).unwrap().unwrap();
        assert_eq!((lines.end, lines.fields_start, lines.fields_count), (head.len(), 18, 1));
    }

    #[test]
    fn junk_is_refused_without_waiting() {
        for junk in [&b"\x16\x03\x01\x02\x00"[..], b"\x00", b"\x80\x2e", b"GET /\xc3\xa9", b"GE\tT"] {
            assert_eq!(scan(junk), Err(Refusal::MalformedRequestLine), "{junk:?}");
        }
        assert_eq!(scan(b"SSH-2.0-x\r\n"), Err(Refusal::MalformedRequestLine));
    }

    #[test]
    fn bare_line_ends_are_refused_without_waiting() {
        for bytes in ["\n", "GET / HTTP/1.1\n", "\rG", "GET / HTTP/1.1\r\nA: b\rc", "GET / HTTP/1.1\r\n\r\r"]
        {
            assert_eq!(scan(bytes.as_bytes()), Err(Refusal::BareLineEnd), "{bytes:?}");
        }
        assert_eq!(scan(b"\r"), Ok(None));
    }

    #[test]
    fn limits_hold_before_the_head_is_complete() {
        let method = [b'A'; METHOD_MAX_BYTES + 1];
        assert_eq!(scan(&method[1..]), Ok(None));
        assert_eq!(scan(&method), Err(Refusal::UnknownMethod));
        let line = format!("GET /{}", "a".repeat(TARGET_MAX_BYTES + VERSION_PART_BYTES));
        assert_eq!(scan(&line.as_bytes()[..line.len() - 1]), Ok(None));
        assert_eq!(scan(line.as_bytes()), Err(Refusal::TargetTooLong));
        let fields = format!("GET / HTTP/1.1\r\n{}", "a: b\r\n".repeat(HEAD_FIELDS_MAX_COUNT + 1));
        assert_eq!(scan(&fields.as_bytes()[..fields.len() - 1]), Ok(None));
        assert_eq!(scan(fields.as_bytes()), Err(Refusal::TooManyFields));
        assert_eq!(scan(b"\r\n\r\n\r\n\r\n\r\n"), Err(Refusal::MalformedRequestLine));
    }

    #[test]
    fn a_head_of_exactly_the_limit_is_taken_and_one_byte_more_is_not() {
        let frame = "GET / HTTP/1.1\r\na: \r\n\r\n".len();
        for (extra, result) in [(0, Ok(Some(HEAD_MAX_BYTES))), (1, Err(Refusal::HeadTooLarge))] {
            let value = "v".repeat(HEAD_MAX_BYTES - frame + extra);
            let head = format!("GET / HTTP/1.1\r\na: {value}\r\n\r\n");
            assert_eq!(scan(head.as_bytes()), result);
            assert_eq!(scan(&head.as_bytes()[..head.len() - 1 - extra]), Ok(None));
        }
    }
}
