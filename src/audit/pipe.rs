//! Standard output as a sink: one stream of bytes into which all threads write their lines.
//!
//! Owns [`Pipe`], what it owes, and the change of descriptor 1 into one whose writes do not wait ([`Pipe::standard`]).
//! Invariants: a line is never torn by another thread's: what a short write has left of it is written before anything
//! else, by whoever comes next; nobody waits for a reader, and a line that did not go out whole is not told.

use core::cell::RefCell;
use core::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{FileType, Mode, OFlags};

use crate::audit::{Batch, Event};
use crate::clock::WallTime;
use crate::limits::{AUDIT_LINE_MAX_BYTES, AUDIT_PIPE_BYTES};

type Write = dyn Fn(&[u8]) -> io::Result<usize> + Send + Sync;

/// What all threads write to.
pub struct Pipe {
    write: Box<Write>,
    /// The rest of a line of which the beginning is out.
    owed: Mutex<Vec<u8>>,
}

impl fmt::Debug for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipe").finish_non_exhaustive()
    }
}

impl Pipe {
    /// A pipe whose calls to `write` do not wait and may take less than they are given.
    #[must_use]
    pub fn new(write: Box<Write>) -> Arc<Self> {
        Arc::new(Self { write, owed: Mutex::new(Vec::with_capacity(AUDIT_LINE_MAX_BYTES)) })
    }

    /// Standard output, from now on without waiting. What other processes share is left as it is where that is possible: a
    /// pipe or a terminal is opened once more; a socket can only be changed for all.
    ///
    /// # Errors
    /// A stream that was closed or leads to `/dev/null`, or what the system says.
    pub fn standard() -> io::Result<Arc<Self>> {
        let stdout = rustix::stdio::stdout();
        let found = rustix::fs::fstat(stdout)?;
        match FileType::from_raw_mode(found.st_mode) {
            FileType::CharacterDevice if found.st_rdev == rustix::fs::makedev(1, 3) => {
                return Err(io::Error::other("it is closed, or leads to /dev/null"));
            }
            FileType::Fifo | FileType::CharacterDevice => {
                let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
                match rustix::fs::open("/proc/self/fd/1", flags, Mode::empty()) {
                    Ok(own) => rustix::stdio::dup2_stdout(&own)?,
                    // It belongs to another user, or there is no /proc.
                    Err(_) => dont_wait()?,
                }
                // What a reader may be behind by; a bound of the system may be lower, and then it stays as it is.
                let _ = rustix::pipe::fcntl_setpipe_size(rustix::stdio::stdout(), AUDIT_PIPE_BYTES);
            }
            // A write to a file does not wait for a reader.
            FileType::RegularFile => {}
            _ => dont_wait()?,
        }
        Ok(Self::new(Box::new(|bytes| Ok(rustix::io::write(rustix::stdio::stdout(), bytes)?))))
    }

    /// Writes `lines`, after what is owed.
    ///
    /// # Errors
    /// How many bytes are taken for written, up to the end of a line: this pipe sees to the rest of the last one.
    fn write(&self, lines: &[u8]) -> Result<(), usize> {
        let mut owed = self.owed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(written) = write_all(&self.write, &owed) {
            owed.drain(..written);
            return Err(0);
        }
        owed.clear();
        let written = match write_all(&self.write, lines) {
            Ok(()) => return Ok(()),
            Err(written) => written,
        };
        let (out, rest) = lines.split_at_checked(written).unwrap_or((lines, &[]));
        if out.last().is_none_or(|last| *last == b'\n') {
            return Err(written);
        }
        let ends = rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |at| at + 1);
        owed.extend_from_slice(rest.get(..ends).unwrap_or_default());
        Err(written + ends)
    }
}

/// Has every process that shares standard output write to it without waiting.
fn dont_wait() -> io::Result<()> {
    let stdout = rustix::stdio::stdout();
    let flags = rustix::fs::fcntl_getfl(stdout)?;
    Ok(rustix::fs::fcntl_setfl(stdout, flags | OFlags::NONBLOCK)?)
}

/// Writes all of `bytes`, or says how many were written before it failed.
pub(super) fn write_all(write: impl Fn(&[u8]) -> io::Result<usize>, bytes: &[u8]) -> Result<(), usize> {
    let mut written = 0;
    while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
        match write(rest) {
            Ok(0) => return Err(written),
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Err(written),
        }
    }
    Ok(())
}

/// The stream of one thread on its way to the pipe.
#[derive(Debug)]
pub struct Piped {
    pipe: Arc<Pipe>,
    pub(super) batch: RefCell<Batch>,
}

impl Piped {
    /// The stream of that batch.
    #[must_use]
    pub fn new(pipe: Arc<Pipe>, batch: Batch) -> Self {
        Self { pipe, batch: RefCell::new(batch) }
    }

    pub(super) fn append(&self, event: &Event<'_>) {
        self.batch.borrow_mut().append(event);
    }

    /// Prepares what is pending, and writes it if `wanted`.
    pub(super) fn write(&self, now: WallTime, wanted: bool) -> Result<(), usize> {
        let mut batch = self.batch.borrow_mut();
        let lines = batch.pending(now);
        if wanted { self.pipe.write(lines) } else { Err(0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::fd::OwnedFd;

    /// A pipe whose writes do not wait, and its reading end.
    fn open() -> (Arc<Pipe>, std::fs::File) {
        let (reader, writer) = io::pipe().unwrap();
        let (reader, writer) = (OwnedFd::from(reader), OwnedFd::from(writer));
        rustix::fs::fcntl_setfl(&writer, OFlags::NONBLOCK).unwrap();
        rustix::fs::fcntl_setfl(&reader, OFlags::NONBLOCK).unwrap();
        (Pipe::new(Box::new(move |bytes| Ok(rustix::io::write(&writer, bytes)?))), reader.into())
    }

    #[test]
    fn a_full_pipe_fails_at_once_and_goes_on_where_it_stopped() {
        use std::io::Read as _;
        let (pipe, mut reader) = open();
        let line = [&[b'x'; 999][..], b"\n"].concat();
        let lines = line.repeat(1_000);
        let written = pipe.write(&lines).unwrap_err();
        assert!(written > 0 && written < lines.len() && written % line.len() == 0, "{written}");
        assert_eq!(pipe.write(&line), Err(0), "nobody reads");
        let mut read = vec![0; 1 << 20];
        let mut got = 0;
        got += reader.read(&mut read).unwrap();
        assert_eq!(pipe.write(b"next\n"), Ok(()));
        got += reader.read(&mut read[got..]).unwrap();
        assert!(read[..got].ends_with(b"x\nnext\n"));
        assert_eq!(got, written + 5, "the line that was torn is whole, and nothing else of it came");
        drop(reader);
        assert_eq!(pipe.write(b"nobody listens\n"), Err(0));
    }

    proptest! {
        #[test]
        fn whatever_the_reader_does_no_line_is_torn_and_what_is_told_is_there(
            turns in proptest::collection::vec((0usize..4, 1usize..5, 0usize..40), 1..60)
        ) {
            let out: Arc<Mutex<(Vec<u8>, usize)>> = Arc::default();
            let target = Arc::clone(&out);
            let pipe = Pipe::new(Box::new(move |bytes| {
                let mut out = target.lock().unwrap();
                let count = bytes.len().min(out.1);
                if count == 0 {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                out.1 -= count;
                out.0.extend_from_slice(&bytes[..count]);
                Ok(count)
            }));
            let mut told = Vec::new();
            for (number, (thread, lines, budget)) in turns.into_iter().enumerate() {
                out.lock().unwrap().1 = budget;
                let own: Vec<String> = (0..lines).map(|line| format!("{thread}:{number}:{line}\n")).collect();
                match pipe.write(own.concat().as_bytes()) {
                    Ok(()) => told.extend(own),
                    Err(taken) => {
                        let before: Vec<usize> = own.iter().scan(0, |sum, line| { *sum += line.len(); Some(*sum) }).collect();
                        prop_assert!(taken == 0 || before.contains(&taken), "it ends with a line");
                    }
                }
            }
            out.lock().unwrap().1 = usize::MAX;
            prop_assert_eq!(pipe.write(b"end\n"), Ok(()));
            let text = String::from_utf8(out.lock().unwrap().0.clone()).unwrap();
            for line in text.lines() {
                let parts = line.split(':').filter(|part| part.parse::<usize>().is_ok()).count();
                prop_assert!(parts == 3 || line == "end", "{:?}", line);
            }
            for line in told {
                prop_assert_eq!(text.matches(&format!("\n{line}")).count() + usize::from(text.starts_with(&line)), 1);
            }
        }
    }
}
