//! One exchange whose bodies are of any size: a thread sends the input in chunks while the reply is read.
//!
//! Owns [`Transfer`]. Invariants: memory is bounded by two pieces, whatever either side sends; a reply counts as whole only with its
//! last chunk, or all of its announced length, and when all of the input was sent; who stands still for long is left, but
//! the input may take its time.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use rustix::net::{Shutdown, shutdown};
use zeroize::Zeroizing;

use super::{Framing, Reply, Request, Target, content_type, field, framing, head, head_bytes, status};
use crate::cli::secure::{Connection, Halves, left};
use crate::clock::Moment;
use crate::http::chunked::ChunkedDecoder;
use crate::limits::{
    CLIENT_PIECE_MAX_BYTES, CLIENT_REPLY_HEAD_MAX_BYTES, CLIENT_REQUEST_MAX_MILLIS, CLIENT_STALL_LOOK_MILLIS,
    CLIENT_STALL_MAX_MILLIS, HEALTHCHECK_REPLY_MAX_BYTES,
};

/// What is sent, as it comes.
pub(in crate::cli) type Source = Box<dyn Read + Send>;

/// Why a transfer failed.
#[derive(Debug)]
pub(in crate::cli) enum Broken {
    /// The input could not be read.
    Input(io::Error),
    /// The connection failed, or nobody moved; with [`ErrorKind::InvalidData`] what came is no reply.
    Connection(io::Error),
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Self::Connection(error)
    }
}

/// What the sender tells.
#[derive(Default)]
struct Sender {
    sent_bytes: AtomicU64,
    /// Whether it waits for input, which may take as long as it likes.
    is_fed: AtomicBool,
    end: Mutex<Option<Result<(), Broken>>>,
    ended: Condvar,
}

/// How what is left of a reply ends.
enum Rest {
    Length(u64),
    Chunked(ChunkedDecoder),
}

/// A reply with status 200 whose body is read as it comes.
pub(in crate::cli) struct Transfer {
    reader: Box<dyn Read>,
    sender: Arc<Sender>,
    rest: Rest,
    buffer: Zeroizing<Vec<u8>>,
    /// Bytes in the buffer that came with the head.
    early: usize,
    /// The version of the key that was used.
    pub(in crate::cli) key_version: Option<u32>,
}

impl Transfer {
    /// Sends `asked` with `source` as its body, and reads the head of the reply. A reply of another status is returned whole.
    pub(in crate::cli) fn begin(
        connection: Connection,
        target: &Target,
        asked: &Request<'_>,
        source: Source,
    ) -> Result<Result<Self, Reply>, Broken> {
        let look = Duration::from_millis(CLIENT_STALL_LOOK_MILLIS);
        let Halves { reader, mut writer, socket } = connection.split(look)?;
        let sender = Arc::new(Sender::default());
        let told = Arc::clone(&sender);
        let head = head(target, asked, "Transfer-Encoding: chunked\r\n");
        std::thread::Builder::new().spawn(move || {
            let end = told.send_all(&mut *writer, &head, source);
            told.tell(end, &socket);
        })?;
        let rest = Rest::Length(0);
        let buffer = Zeroizing::new(vec![0; CLIENT_PIECE_MAX_BYTES]);
        let mut transfer = Self { reader, sender, rest, buffer, early: 0, key_version: None };
        let refusal = transfer.read_head()?;
        Ok(match refusal {
            None => Ok(transfer),
            Some(reply) => Err(reply),
        })
    }

    /// How many bytes of the input were sent.
    pub(in crate::cli) fn sent_bytes(&self) -> u64 {
        self.sender.sent_bytes.load(Ordering::Relaxed)
    }

    /// The next piece of the body. Nothing: the reply is whole, and all of the input was sent.
    pub(in crate::cli) fn next(&mut self) -> Result<Option<&[u8]>, Broken> {
        loop {
            let is_done = match &self.rest {
                Rest::Length(left) => *left == 0,
                Rest::Chunked(decoder) => decoder.is_done(),
            };
            if is_done {
                return self.sender.wait().map(|()| None);
            }
            let filled = match core::mem::take(&mut self.early) {
                0 => self.read_some(0)?,
                early => early,
            };
            let raw = self.buffer.get_mut(..filled).unwrap_or_default();
            let produced = match &mut self.rest {
                Rest::Length(left) if *left < filled as u64 => return Err(no_reply()),
                Rest::Length(left) => {
                    *left -= filled as u64;
                    filled
                }
                Rest::Chunked(decoder) => {
                    let progress = decoder.decode(raw).map_err(|_| no_reply())?;
                    if progress.consumed != filled {
                        return Err(no_reply());
                    }
                    progress.produced
                }
            };
            if produced > 0 {
                return Ok(self.buffer.get(..produced));
            }
        }
    }

    /// Reads the head; returns the whole reply if it is no success.
    fn read_head(&mut self) -> Result<Option<Reply>, Broken> {
        let mut filled = 0;
        let mut deadline = None;
        let head_end = loop {
            if let Some(end) = self.buffer.get(..filled).and_then(head_bytes) {
                break end;
            }
            if filled >= CLIENT_REPLY_HEAD_MAX_BYTES {
                return Err(no_reply());
            }
            filled += self.read_some(filled)?;
            // It may begin late, as the input may; once it has begun nothing is waited for but the server.
            let _ =
                left(*deadline.get_or_insert_with(|| Moment::now().plus_millis(CLIENT_REQUEST_MAX_MILLIS)))?;
        };
        let head = self.buffer.get(..head_end).unwrap_or_default();
        let status = status(head).ok_or_else(no_reply)?;
        let framing = framing(head).ok_or_else(no_reply)?;
        self.key_version = field(head, "x-key-version").and_then(|text| text.parse().ok());
        if status != 200 {
            return self.refusal(filled).map(Some);
        }
        if content_type(head) != "application/octet-stream" {
            return Err(no_reply());
        }
        self.rest = match framing {
            Framing::Chunked => Rest::Chunked(ChunkedDecoder::default()),
            Framing::Length(length) => Rest::Length(length as u64),
            // Whether that is all could not be told.
            Framing::Close => return Err(no_reply()),
        };
        self.buffer.copy_within(head_end..filled, 0);
        self.early = filled - head_end;
        Ok(None)
    }

    /// The rest of a reply that says why not, of which a bounded part is read.
    fn refusal(&mut self, filled: usize) -> Result<Reply, Broken> {
        let mut whole = Zeroizing::new(self.buffer.get(..filled).unwrap_or_default().to_vec());
        while whole.len() < HEALTHCHECK_REPLY_MAX_BYTES && !super::is_whole(&whole) {
            match self.read_some(0) {
                Ok(read) => whole.extend_from_slice(self.buffer.get(..read).unwrap_or_default()),
                Err(_) => break,
            }
        }
        super::parse(&whole).ok_or_else(no_reply)
    }

    /// Waits for the reply, but not for ever.
    fn read_some(&mut self, at: usize) -> Result<usize, Broken> {
        let mut still_millis = 0;
        let mut seen = self.sent_bytes();
        loop {
            match self.reader.read(self.buffer.get_mut(at..).unwrap_or_default()) {
                Ok(0) => return Err(self.sender.blame(ErrorKind::UnexpectedEof.into())),
                Ok(read) => return Ok(read),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    let sent = self.sent_bytes();
                    let moved = sent != seen || self.sender.is_fed.load(Ordering::Relaxed);
                    still_millis = if moved { 0 } else { still_millis + CLIENT_STALL_LOOK_MILLIS };
                    seen = sent;
                    if still_millis >= CLIENT_STALL_MAX_MILLIS {
                        return Err(Broken::Connection(ErrorKind::TimedOut.into()));
                    }
                }
                Err(error) => return Err(self.sender.blame(error)),
            }
        }
    }
}

impl Sender {
    fn send_all(&self, writer: &mut dyn Write, head: &str, mut source: Source) -> Result<(), Broken> {
        writer.write_all(head.as_bytes())?;
        // Size line, piece and line end leave in one write.
        let mut piece = Zeroizing::new(vec![0; CLIENT_PIECE_MAX_BYTES]);
        let mut framed = Zeroizing::new(Vec::with_capacity(CLIENT_PIECE_MAX_BYTES + 16));
        loop {
            self.is_fed.store(true, Ordering::Relaxed);
            let read = match source.read(&mut piece) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                read => read.map_err(Broken::Input)?,
            };
            self.is_fed.store(false, Ordering::Relaxed);
            framed.clear();
            framed.extend_from_slice(format!("{read:x}\r\n").as_bytes());
            framed.extend_from_slice(piece.get(..read).unwrap_or_default());
            framed.extend_from_slice(b"\r\n");
            writer.write_all(&framed)?;
            writer.flush()?;
            if read == 0 {
                return Ok(());
            }
            self.sent_bytes.fetch_add(read as u64, Ordering::Relaxed);
        }
    }

    fn tell(&self, end: Result<(), Broken>, socket: &OwnedFd) {
        let stop = matches!(end, Err(Broken::Input(_)));
        *self.end.lock().unwrap_or_else(PoisonError::into_inner) = Some(end);
        self.ended.notify_one();
        if stop {
            // Who reads the reply is woken; what was sent lacks its last chunk.
            let _ = shutdown(socket, Shutdown::Both);
        }
    }

    /// Waits until all was sent, which it is if the reply is whole.
    fn wait(&self) -> Result<(), Broken> {
        let look = Duration::from_millis(CLIENT_STALL_LOOK_MILLIS);
        let mut end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..CLIENT_STALL_MAX_MILLIS / CLIENT_STALL_LOOK_MILLIS {
            // A reply that ends before the input does is none.
            if end.is_some() || self.is_fed.load(Ordering::Relaxed) {
                break;
            }
            end = self.ended.wait_timeout(end, look).unwrap_or_else(PoisonError::into_inner).0;
        }
        end.take().unwrap_or_else(|| Err(no_reply()))
    }

    /// What is at fault when reading failed: the input, if that failed first.
    fn blame(&self, error: io::Error) -> Broken {
        match self.end.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(Err(Broken::Input(input))) => Broken::Input(input),
            _ => Broken::Connection(error),
        }
    }
}

/// What came is no reply of this API.
fn no_reply() -> Broken {
    Broken::Connection(ErrorKind::InvalidData.into())
}
