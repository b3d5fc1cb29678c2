//! Decoding of chunked bodies, in place, and the framing of chunks that are sent (RFC 9112, section 7.1).
//!
//! Owns [`ChunkedDecoder`] and [`ChunkFrame`]. Invariants: the result does not depend on how the input is split; decoded bytes never
//! overtake raw ones, so they are moved to the front of the caller's buffer; nothing beyond the end of the body
//! is consumed. Extensions are checked and skipped. Trailers are checked and dropped, whatever their names: no
//! trailer, `Content-Length` and its like included, ever takes part in anything (RFC 9110, section 6.5.1).

use super::grammar::{hex_value, is_blank, is_token_byte, is_value_byte};
use super::refusal::Refusal;
use crate::limits::{CHUNK_LINE_MAX_BYTES, CHUNK_SIZE_MAX_DIGITS, TRAILERS_MAX_BYTES};

/// The state of decoding one body. After a refusal it is of no further use.
#[derive(Clone, Copy, Debug, Default)]
pub struct ChunkedDecoder {
    /// What is left of the current chunk.
    left: u64,
    /// Length so far of the current chunk-size line, or of the trailer section.
    line: u16,
    /// Digits of the current chunk size.
    digits: u8,
    step: Step,
}

/// What one call of [`ChunkedDecoder::decode`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Raw bytes that are done with, counted from the front of the input.
    pub consumed: usize,
    /// Decoded bytes, now at the front of the input.
    pub produced: usize,
    /// Whether the body has ended; what follows `consumed` belongs to the next request.
    pub done: bool,
}

/// What the next byte may be. Steps of the last chunk, whose size is zero, are those of any other up to its LF.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Step {
    #[default]
    Size,
    BeforeExtension,
    ExtensionStart,
    ExtensionName,
    AfterExtensionName,
    ValueStart,
    Value,
    Quoted,
    QuotedPair,
    AfterQuoted,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    LineStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    FinalLf,
    Done,
}

impl ChunkedDecoder {
    /// Decodes as much of `raw` as there is, and moves the decoded bytes to its front.
    ///
    /// The caller takes `raw[..produced]`, drops the first `consumed` raw bytes, and calls again with what
    /// follows them once there is more.
    ///
    /// # Errors
    /// The body breaks the grammar or a limit; the connection must be closed after the reply.
    pub fn decode(&mut self, raw: &mut [u8]) -> Result<Progress, Refusal> {
        let (mut consumed, mut produced) = (0, 0);
        while self.step != Step::Done {
            if self.step == Step::Data {
                let there = raw.len() - consumed;
                let take = usize::try_from(self.left).unwrap_or(usize::MAX).min(there);
                if take == 0 {
                    break;
                }
                if produced != consumed {
                    raw.copy_within(consumed..consumed + take, produced);
                }
                consumed += take;
                produced += take;
                self.left -= take as u64;
                if self.left == 0 {
                    self.step = Step::DataCr;
                }
            } else {
                let Some(byte) = raw.get(consumed) else { break };
                self.step = self.next(*byte)?;
                consumed += 1;
            }
        }
        Ok(Progress { consumed, produced, done: self.step == Step::Done })
    }

    /// Whether the body has ended.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.step == Step::Done
    }

    /// The step after one byte that is not data.
    fn next(&mut self, byte: u8) -> Result<Step, Refusal> {
        match self.step {
            Step::DataCr if byte == b'\r' => Ok(Step::DataLf),
            Step::DataLf if byte == b'\n' => {
                self.line = 0;
                self.digits = 0;
                Ok(Step::Size)
            }
            Step::LineStart | Step::TrailerName | Step::TrailerValue | Step::TrailerLf | Step::FinalLf => {
                self.next_in_trailers(byte)
            }
            Step::Data | Step::DataCr | Step::DataLf | Step::Done => Err(Refusal::MalformedChunk),
            _ => self.next_in_size_line(byte),
        }
    }

    fn next_in_size_line(&mut self, byte: u8) -> Result<Step, Refusal> {
        self.line += 1;
        if usize::from(self.line) > CHUNK_LINE_MAX_BYTES {
            return Err(Refusal::ChunkLineTooLong);
        }
        match self.step {
            Step::Size => {
                if let Some(value) = hex_value(byte) {
                    self.digits += 1;
                    if self.digits > CHUNK_SIZE_MAX_DIGITS {
                        return Err(Refusal::ChunkSizeTooLong);
                    }
                    self.left = self.left << 4 | u64::from(value);
                    return Ok(Step::Size);
                }
                if self.digits == 0 {
                    return Err(Refusal::MalformedChunk);
                }
                after_member(byte)
            }
            Step::SizeLf if byte == b'\n' => {
                self.line = 0;
                Ok(if self.left == 0 { Step::LineStart } else { Step::Data })
            }
            step => next_in_extension(step, byte),
        }
    }

    fn next_in_trailers(&mut self, byte: u8) -> Result<Step, Refusal> {
        self.line += 1;
        if usize::from(self.line) > TRAILERS_MAX_BYTES {
            return Err(Refusal::TrailersTooLarge);
        }
        match (self.step, byte) {
            (Step::LineStart, b'\r') => Ok(Step::FinalLf),
            (Step::FinalLf, b'\n') => Ok(Step::Done),
            (Step::LineStart | Step::TrailerName, _) if is_token_byte(byte) => Ok(Step::TrailerName),
            (Step::TrailerName, b':') => Ok(Step::TrailerValue),
            (Step::TrailerValue, b'\r') => Ok(Step::TrailerLf),
            (Step::TrailerValue, _) if is_value_byte(byte) => Ok(Step::TrailerValue),
            (Step::TrailerLf, b'\n') => Ok(Step::LineStart),
            _ => Err(Refusal::MalformedTrailer),
        }
    }
}

/// Longest part of a chunk's frame: the digits of its size and a line end.
pub const CHUNK_FRAME_MAX_BYTES: usize = CHUNK_SIZE_MAX_DIGITS as usize + b"\r\n".len();

/// What stands around the data of a chunk that is sent.
#[derive(Clone, Copy, Debug)]
pub struct ChunkFrame {
    line: [u8; CHUNK_FRAME_MAX_BYTES],
    /// Where in `line` it begins.
    from: usize,
    after: &'static [u8],
}

impl ChunkFrame {
    /// The frame of a chunk of `size` bytes, with the end of the body behind it if it is the last. A chunk without data
    /// would be that end: of it only the end is written, and nothing if it is not the last.
    #[must_use]
    pub fn new(size: usize, last: bool) -> Self {
        let after: &[u8] = match (size, last) {
            (0, false) => b"",
            (0, true) => b"0\r\n\r\n",
            (_, false) => b"\r\n",
            (_, true) => b"\r\n0\r\n\r\n",
        };
        let mut frame = Self { after, ..Self::none() };
        if size == 0 {
            return frame;
        }
        let mut rest = size;
        for (place, byte) in frame.line.iter_mut().enumerate().rev() {
            *byte = match CHUNK_FRAME_MAX_BYTES - place {
                1 => b'\n',
                2 => b'\r',
                _ if rest == 0 => break,
                _ => {
                    let digit = b"0123456789abcdef".get(rest % 16).copied().unwrap_or_default();
                    rest /= 16;
                    digit
                }
            };
            frame.from = place;
        }
        frame
    }

    /// No frame, for bodies whose length was announced.
    #[must_use]
    pub const fn none() -> Self {
        Self { line: [0; CHUNK_FRAME_MAX_BYTES], from: CHUNK_FRAME_MAX_BYTES, after: b"" }
    }

    /// What stands before the data.
    #[must_use]
    pub fn before(&self) -> &[u8] {
        self.line.get(self.from..).unwrap_or_default()
    }

    /// What stands behind it.
    #[must_use]
    pub const fn after(&self) -> &'static [u8] {
        self.after
    }
}

/// Chunk extensions (RFC 9112, section 7.1.1), with the white space that they must be borne with.
fn next_in_extension(step: Step, byte: u8) -> Result<Step, Refusal> {
    match (step, byte) {
        (Step::BeforeExtension, b';') => Ok(Step::ExtensionStart),
        (Step::BeforeExtension | Step::ExtensionStart | Step::AfterExtensionName | Step::ValueStart, _)
            if is_blank(byte) =>
        {
            Ok(step)
        }
        (Step::ExtensionStart | Step::ExtensionName, _) if is_token_byte(byte) => Ok(Step::ExtensionName),
        (Step::ExtensionName | Step::AfterExtensionName, b'=') => Ok(Step::ValueStart),
        (Step::ExtensionName, _) if is_blank(byte) => Ok(Step::AfterExtensionName),
        (Step::AfterExtensionName, b';') => Ok(Step::ExtensionStart),
        (Step::ValueStart, b'"') => Ok(Step::Quoted),
        (Step::ValueStart | Step::Value, _) if is_token_byte(byte) => Ok(Step::Value),
        (Step::ExtensionName | Step::Value | Step::AfterQuoted, _) => after_member(byte),
        (Step::Quoted, b'"') => Ok(Step::AfterQuoted),
        (Step::Quoted, b'\\') => Ok(Step::QuotedPair),
        (Step::Quoted | Step::QuotedPair, _) if is_value_byte(byte) => Ok(Step::Quoted),
        _ => Err(Refusal::MalformedChunk),
    }
}

/// What may follow the size, an extension's name or its value.
fn after_member(byte: u8) -> Result<Step, Refusal> {
    match byte {
        b'\r' => Ok(Step::SizeLf),
        b';' => Ok(Step::ExtensionStart),
        _ if is_blank(byte) => Ok(Step::BeforeExtension),
        _ => Err(Refusal::MalformedChunk),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(body: &[u8]) -> Result<(Vec<u8>, Progress), Refusal> {
        let mut raw = body.to_vec();
        let progress = ChunkedDecoder::default().decode(&mut raw)?;
        raw.truncate(progress.produced);
        Ok((raw, progress))
    }

    #[test]
    fn a_body_is_decoded_up_to_its_end() {
        let (body, progress) = decode(b"5\r\nhello\r\n00A;x\r\n, world!!!\r\n0\r\n\r\nGET /").unwrap();
        assert_eq!(body, b"hello, world!!!");
        assert!(progress.done);
        assert_eq!(progress.consumed, 34);
    }

    #[test]
    fn framed_chunks_are_read_back() {
        for sizes in [&[0][..], &[1], &[15, 16, 17], &[0, 4_096, 0, 65_552, 0], &[255, 0]] {
            let mut body = Vec::new();
            let mut data = 0;
            for (place, size) in sizes.iter().enumerate() {
                let frame = ChunkFrame::new(*size, place + 1 == sizes.len());
                body.extend_from_slice(frame.before());
                body.resize(body.len() + size, b'x');
                body.extend_from_slice(frame.after());
                data += size;
            }
            let (decoded, progress) = decode(&body).unwrap();
            let read = (decoded.len(), progress.consumed, progress.done);
            assert_eq!(read, (data, body.len(), true), "{sizes:?}");
        }
        let frame = ChunkFrame::new(usize::MAX, true);
        assert_eq!((frame.before(), frame.after()), (&b"ffffffffffffffff\r\n"[..], &b"\r\n0\r\n\r\n"[..]));
        assert!(ChunkFrame::none().before().is_empty() && ChunkFrame::none().after().is_empty());
    }

    #[test]
    fn an_incomplete_body_waits_for_more() {
        let (body, progress) = decode(b"5\r\nhel").unwrap();
        assert_eq!(body, b"hel");
        assert_eq!(progress, Progress { consumed: 6, produced: 3, done: false });
        assert_eq!(decode(b"").unwrap().1, Progress { consumed: 0, produced: 0, done: false });
    }

    #[test]
    fn a_finished_decoder_consumes_nothing_more() {
        let mut decoder = ChunkedDecoder::default();
        assert!(decoder.decode(&mut b"0\r\n\r\n".to_vec()).unwrap().done);
        let progress = decoder.decode(&mut b"5\r\n".to_vec()).unwrap();
        assert_eq!(progress, Progress { consumed: 0, produced: 0, done: true });
        assert!(decoder.is_done());
    }

    #[test]
    fn extensions_and_trailers_are_skipped() {
        for body in [
            "1;a\r\nx\r\n0\r\n\r\n",
            "1;a=b;c=\"d;\\\"\t\"\r\nx\r\n0\r\n\r\n",
            "1 ; a = b ; c\r\nx\r\n0;z\r\n\r\n",
            "1;a=\"\" ;b\r\nx\r\n0\r\nA: b\r\nContent-Length: 5\r\nE:\r\n\r\n",
        ] {
            let (decoded, progress) = decode(body.as_bytes()).unwrap();
            assert_eq!(
                (&decoded[..], progress.consumed, progress.done),
                (&b"x"[..], body.len(), true),
                "{body}"
            );
        }
    }

    #[test]
    fn bad_size_lines_are_refused() {
        for body in [
            "\r\n",
            ";a\r\n",
            " 5\r\n",
            "+5\r\n",
            "-5\r\n",
            "0x5\r\n",
            "5 \r\n",
            "5\n",
            "5\r5",
            "g\r\n",
            "5;\r\n",
            "5;a=\r\n",
            "5;=a\r\n",
            "5;a b\r\n",
            "5;a=\"b\r\n",
            "5;a=\"b\"c\r\n",
            "5;a\n",
            "5;a=\"\\\n",
            "5,5\r\n",
            "5;a \r\n",
            "5;a=b c\r\n",
            "5;\0\r\n",
        ] {
            assert_eq!(decode(body.as_bytes()), Err(Refusal::MalformedChunk), "{body:?}");
        }
    }

    #[test]
    fn chunks_must_end_with_their_line_end() {
        for body in ["1\r\nxx", "1\r\nx\n", "1\r\nx\rx", "1\r\nx0\r\n\r\n"] {
            assert_eq!(decode(body.as_bytes()), Err(Refusal::MalformedChunk), "{body:?}");
        }
    }

    #[test]
    fn bad_trailers_are_refused() {
        for trailer in
            ["x", ":a\r\n", "a b: c\r\n", "a : b\r\n", " a: b\r\n", "a: b\n", "a: \0\r\n", "a: b\rc", "\n"]
        {
            let body = format!("0\r\n{trailer}\r\n\r\n");
            assert_eq!(decode(body.as_bytes()), Err(Refusal::MalformedTrailer), "{body:?}");
        }
    }

    #[test]
    fn sizes_have_at_most_sixteen_digits() {
        let mut raw = b"ffffffffffffffff\r\nx".to_vec();
        let mut decoder = ChunkedDecoder::default();
        assert_eq!(decoder.decode(&mut raw).unwrap().produced, 1);
        assert_eq!(decoder.left, u64::MAX - 1);
        assert_eq!(decode(b"00000000000000000"), Err(Refusal::ChunkSizeTooLong));
        assert_eq!(decode(b"10000000000000000"), Err(Refusal::ChunkSizeTooLong));
    }

    #[test]
    fn lines_and_trailers_have_their_limits() {
        let line = format!("1;{}\r\n", "a".repeat(CHUNK_LINE_MAX_BYTES - 4));
        assert_eq!(line.len(), CHUNK_LINE_MAX_BYTES);
        assert!(decode(line.as_bytes()).is_ok());
        assert_eq!(decode(line.replace(';', ";a").as_bytes()), Err(Refusal::ChunkLineTooLong));
        let trailers = format!("0\r\na:{}\r\n\r\n", "b".repeat(TRAILERS_MAX_BYTES - 6));
        assert!(decode(trailers.as_bytes()).unwrap().1.done);
        assert_eq!(decode(trailers.replace(':', "::").as_bytes()), Err(Refusal::TrailersTooLarge));
    }
}
