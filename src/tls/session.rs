//! A TLS session over a transport, itself a transport.
//!
//! ```text
//!   handshaking ──finished, all sent──▶ secure ──conclude──▶ secure, its end announced
//!        └───────first bytes are HTTP──▶ clear: bytes pass as they are, so that one reply can say what is wrong
//! ```
//!
//! Owns [`Session`] and [`Scratch`]. Invariants: one receive asks the inner transport for no more than what its target can take, so
//! that the plaintext that waits in the session is less than one record; records that bring nothing are borne up to
//! [`TLS_HOLLOW_MAX_BYTES`] in a row, whatever is waited for; what waits to be sent is at most
//! [`TLS_SEND_BUFFER_BYTES`] and what the library says by itself; what it keeps beyond what every session does is on its
//! charge, and a session that gets no room for it, or had to give it to another, ends; only encrypted bytes pass through the scratch; a
//! stream that ends without `close_notify` is an error (RFC 8446, section 6.1), and one that is aborted is never ended by one.

use core::cell::RefCell;
use core::fmt;
use std::io::{self, Read as _, Write as _};
use std::rc::Rc;
use std::sync::Arc;

use rustls::{ServerConfig, ServerConnection};

use crate::clock::WallTime;
use crate::limits::{
    METHOD_MAX_BYTES, TLS_HANDSHAKE_MAX_BYTES, TLS_HANDSHAKE_READ_BYTES, TLS_HANDSHAKE_USUAL_BYTES,
    TLS_HOLLOW_MAX_BYTES, TLS_RECORD_KEPT_BYTES, TLS_RECORD_OVERHEAD_BYTES, TLS_SCRATCH_BYTES,
    TLS_SEND_BUFFER_BYTES,
};
use crate::model::Identities;
use crate::quota::Tally;
use crate::reactor::{Charge, Established, Exhausted, Received, Transport};
use crate::tls::identity::identities;
use crate::tls::records::Records;
use crate::tls::told::Agreed;

/// Room that all sessions of one worker share for encrypted bytes on their way.
pub struct Scratch(RefCell<Box<[u8]>>);

impl Scratch {
    /// Takes the room.
    #[must_use]
    pub fn new() -> Rc<Self> {
        Rc::new(Self(RefCell::new(vec![0; TLS_SCRATCH_BYTES].into_boxed_slice())))
    }
}

impl fmt::Debug for Scratch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scratch")
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing has come yet.
    Fresh,
    /// The peer has begun.
    Handshaking,
    /// Bytes can pass.
    Secure,
    /// Bytes pass as they are.
    Clear,
}

/// A TLS session of the server's side.
pub struct Session<T> {
    inner: T,
    tls: ServerConnection,
    scratch: Rc<Scratch>,
    phase: Phase,
    /// What the peer said in the clear before that was noticed, and how much of it was taken.
    overheard: (Box<[u8]>, usize),
    identities: Option<Rc<Identities>>,
    aborting: bool,
    records: Records,
    /// Length of the whole records since the last byte of plaintext.
    hollow: usize,
    /// What the handshake took.
    shaken: usize,
    /// Plaintext that waits to be taken.
    left: usize,
    charge: Charge,
}

impl<T: Transport> Session<T> {
    /// Begins a session over `inner` under `config`; all sessions of a worker share a `scratch`. What it keeps now and then is
    /// on `charge`.
    ///
    /// # Errors
    /// If the library refuses the configuration.
    pub fn new(
        inner: T,
        config: Arc<ServerConfig>,
        scratch: Rc<Scratch>,
        charge: Charge,
    ) -> io::Result<Self> {
        let mut tls = ServerConnection::new(config).map_err(invalid)?;
        tls.set_buffer_limit(Some(TLS_SEND_BUFFER_BYTES));
        let overheard = (Box::default(), 0);
        Ok(Self {
            inner,
            tls,
            scratch,
            phase: Phase::Fresh,
            overheard,
            identities: None,
            aborting: false,
            records: Records::default(),
            hollow: 0,
            shaken: 0,
            left: 0,
            charge,
        })
    }

    /// What both sides have agreed on; nothing before that.
    pub fn agreed(&self) -> Option<Agreed> {
        (self.phase == Phase::Secure).then(|| Agreed::of(&self.tls))
    }

    /// The transport below.
    pub fn inner(&self) -> &T {
        &self.inner
    }

    /// Sends what waits in the session, several records at once.
    fn push(&mut self) -> io::Result<()> {
        while self.tls.wants_write() {
            let mut outlet = Outlet { inner: &mut self.inner, scratch: &self.scratch };
            match self.tls.write_tls(&mut outlet) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The same as far as there is room.
    fn push_some(&mut self) -> io::Result<()> {
        match self.push() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            pushed => pushed,
        }
    }

    /// Receives once, and puts the plaintext that comes of it into `target`.
    ///
    /// Returns what the inner transport brought and how much plaintext there was.
    fn pull(&mut self, most: usize, target: &mut [u8]) -> io::Result<(Received, usize)> {
        let scratch = Rc::clone(&self.scratch);
        let mut bytes = scratch.0.try_borrow_mut().map_err(io::Error::other)?;
        let room = most.min(bytes.len());
        let room = bytes.get_mut(..room).unwrap_or_default();
        let received = self.inner.receive(room)?;
        let encrypted = room.get(..received.count).unwrap_or_default();
        if self.phase == Phase::Fresh && received.count > 0 {
            self.phase = Phase::Handshaking;
            if speaks_http(encrypted) {
                self.phase = Phase::Clear;
                self.overheard = (encrypted.into(), 0);
                return Ok((received, 0));
            }
        }
        let before = self.records.pending_bytes();
        self.records.take(encrypted);
        let ended = (before + encrypted.len()).saturating_sub(self.records.pending_bytes());
        let decrypted = self.decrypt(encrypted, target);
        drop(bytes);
        self.hollow = if matches!(decrypted, Ok(0)) { self.hollow.saturating_add(ended) } else { 0 };
        if decrypted.is_err() {
            // The alert that says why, as far as there is room; the error stays the reason.
            let _ = self.push();
        }
        Ok((received, decrypted?))
    }

    /// Gives `encrypted` to the session; nothing is the end of the stream. Returns how much plaintext stands in `target`.
    fn decrypt(&mut self, mut encrypted: &[u8], target: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        loop {
            let before = encrypted.len();
            // The session takes a few kilobytes at a time, and refuses when it must first decrypt: do that as seldom as possible.
            while let Ok(count) = self.tls.read_tls(&mut encrypted) {
                if count == 0 {
                    // Everything is taken, or the peer has said its end and what follows does not count.
                    encrypted = &[];
                    break;
                }
                if encrypted.is_empty() {
                    break;
                }
            }
            let progress = encrypted.len() < before;
            self.tls.process_new_packets().map_err(invalid)?;
            let rest = target.get_mut(filled..).unwrap_or_default();
            if !rest.is_empty() {
                filled += self.plaintext(rest)?.unwrap_or_default();
            }
            if encrypted.is_empty() {
                return Ok(filled);
            }
            if !progress {
                return Err(invalid("records do not fit"));
            }
        }
    }

    /// Takes plaintext that waits in the session: zero bytes at the end of the stream, nothing if there is none.
    fn plaintext(&mut self, target: &mut [u8]) -> io::Result<Option<usize>> {
        match self.tls.reader().read(target) {
            Ok(count) => Ok(Some(count)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Receives what was said in the clear.
    fn overhear(&mut self, target: &mut [u8]) -> io::Result<Received> {
        let (bytes, taken) = &mut self.overheard;
        let waiting = bytes.get(*taken..).unwrap_or_default();
        if waiting.is_empty() {
            return self.inner.receive(target);
        }
        let count = waiting.len().min(target.len());
        for (place, byte) in target.iter_mut().zip(waiting) {
            *place = *byte;
        }
        *taken += count;
        Ok(Received { count, drained: false })
    }

    /// Learns whom the peer's certificate names, that of the session which was resumed included.
    fn identify(&mut self) -> io::Result<()> {
        if let Some([own, ..]) = self.tls.peer_certificates() {
            // The resumed handshake may have verified it hours ago.
            let named = identities(own, WallTime::now());
            let named = named.ok_or_else(|| invalid("the client certificate does not hold any more"))?;
            self.identities = Some(Rc::new(named));
        }
        Ok(())
    }

    /// Counts what is kept now: it ends the session if there is no room for it.
    fn settle(&mut self) -> io::Result<()> {
        let kept = |is_kept: bool, bytes: usize| if is_kept { bytes } else { 0 };
        let shaking = self.phase == Phase::Handshaking;
        let bytes = kept(shaking, self.shaken.saturating_sub(TLS_HANDSHAKE_USUAL_BYTES))
            + kept(!shaking && self.records.pending_bytes() > 0, TLS_RECORD_KEPT_BYTES)
            + kept(self.left > 0, TLS_RECORD_KEPT_BYTES)
            + kept(self.tls.wants_write(), TLS_SEND_BUFFER_BYTES);
        self.charge.hold(bytes).map_err(|_| io::ErrorKind::OutOfMemory.into())
    }

    /// Receives plaintext.
    fn take_some(&mut self, target: &mut [u8]) -> io::Result<Received> {
        loop {
            if let Some(count) = self.plaintext(target)? {
                self.hollow = 0;
                self.left = self.left.saturating_sub(count);
                return Ok(Received { count, drained: false });
            }
            let most = target.len().saturating_add(TLS_RECORD_OVERHEAD_BYTES);
            let (received, count) = self.pull(most, target)?;
            self.push_some()?;
            if count > 0 {
                let state = self.tls.process_new_packets().map_err(invalid)?;
                self.left = state.plaintext_bytes_to_read();
                let nothing_waits = self.left == 0 && !state.peer_has_closed();
                return Ok(Received { count, drained: received.drained && nothing_waits });
            }
            if self.hollow > TLS_HOLLOW_MAX_BYTES {
                return Err(invalid("too many records that bring nothing"));
            }
        }
    }

    /// Sends some of `source`, or takes it to be sent.
    fn put_some(&mut self, source: &[u8]) -> io::Result<usize> {
        let mut count = self.tls.writer().write(source)?;
        if count == 0 {
            // There was no room: what waits must leave first.
            self.push()?;
            count = self.tls.writer().write(source)?;
        }
        self.push_some()?;
        if count == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(count) }
    }

    /// Goes on with the handshake.
    fn shake(&mut self) -> io::Result<Established> {
        loop {
            match self.phase {
                Phase::Secure => return Ok(Established::Ready),
                Phase::Clear => return Ok(Established::Clear),
                Phase::Fresh | Phase::Handshaking => {}
            }
            // The peer waits for all of it before it goes on, and TLS 1.2 for the end of it before it says anything.
            self.push()?;
            if !self.tls.is_handshaking() {
                self.identify()?;
                self.phase = Phase::Secure;
                self.hollow = 0;
                continue;
            }
            // Bytes behind the handshake wait in the session, so that few are taken at once.
            let (received, _) = self.pull(TLS_HANDSHAKE_READ_BYTES, &mut [])?;
            if received.count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.shaken = self.shaken.saturating_add(received.count);
            if self.shaken > TLS_HANDSHAKE_MAX_BYTES {
                return Err(invalid("the handshake is too long"));
            }
        }
    }

    /// Whether what it kept was given to another: then it goes no further.
    fn refuse_late(&self) -> io::Result<()> {
        if self.charge.has_given_way() { Err(io::ErrorKind::OutOfMemory.into()) } else { Ok(()) }
    }

    /// Bytes cannot pass yet, or not any more.
    fn refuse_untimely(&self) -> io::Result<()> {
        self.refuse_late()?;
        if self.is_established() { Ok(()) } else { Err(io::ErrorKind::NotConnected.into()) }
    }
}

impl<T: Transport> Transport for Session<T> {
    fn receive(&mut self, target: &mut [u8]) -> io::Result<Received> {
        if self.phase == Phase::Clear {
            return self.overhear(target);
        }
        self.refuse_untimely()?;
        let received = self.take_some(target);
        self.settle()?;
        received
    }

    fn send(&mut self, source: &[u8]) -> io::Result<usize> {
        if self.phase == Phase::Clear {
            return self.inner.send(source);
        }
        self.refuse_untimely()?;
        let sent = self.put_some(source);
        self.settle()?;
        sent
    }

    fn finish(&mut self) {
        self.conclude();
        self.inner.finish();
    }

    fn abort_on_close(&mut self, on: bool) {
        self.aborting = on;
        self.inner.abort_on_close(on);
    }

    fn establish(&mut self) -> io::Result<Established> {
        self.refuse_late()?;
        let established = self.shake();
        self.settle()?;
        established
    }

    fn is_established(&self) -> bool {
        matches!(self.phase, Phase::Secure | Phase::Clear)
    }

    fn has_begun(&self) -> bool {
        // Known as soon as a whole hello was taken. A byte costs nothing: who has sent no more could keep its place with that.
        self.is_established() || self.tls.protocol_version().is_some()
    }

    fn is_amid(&self) -> bool {
        self.phase == Phase::Secure && self.records.pending_bytes() > 0
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.phase != Phase::Clear {
            self.refuse_late()?;
            let pushed = self.push();
            self.settle()?;
            pushed?;
        }
        self.inner.flush()
    }

    fn conclude(&mut self) {
        if self.phase == Phase::Secure && !self.aborting {
            // The library says it once. A peer that does not read misses it.
            self.tls.send_close_notify();
            let _ = self.push();
        }
        self.inner.conclude();
    }

    fn charge(&mut self, account: &Arc<Tally>) -> Result<(), Exhausted> {
        self.charge.charge(account)
    }

    fn identities(&self) -> Option<Rc<Identities>> {
        self.identities.clone()
    }
}

impl<T: fmt::Debug> fmt::Debug for Session<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("inner", &self.inner)
            .field("phase", &self.phase)
            .finish_non_exhaustive()
    }
}

/// Gathers records into one send.
struct Outlet<'a, T> {
    inner: &'a mut T,
    scratch: &'a Scratch,
}

impl<T: Transport> io::Write for Outlet<'_, T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.inner.send(bytes)
    }

    fn write_vectored(&mut self, records: &[io::IoSlice<'_>]) -> io::Result<usize> {
        if let [one] = records {
            return self.inner.send(one);
        }
        let mut scratch = self.scratch.0.try_borrow_mut().map_err(io::Error::other)?;
        let whole = scratch.len();
        let mut room = &mut **scratch;
        for record in records {
            // Takes as much as there is room for, and moves `room` on.
            room.write_all(record.get(..record.len().min(room.len())).unwrap_or_default())?;
        }
        let gathered = whole - room.len();
        self.inner.send(scratch.get(..gathered).unwrap_or_default())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether a stream begins with what could be a method (RFC 9110, section 9.1), which no TLS record does.
fn speaks_http(start: &[u8]) -> bool {
    let word = start.split(|byte| *byte == b' ').next().unwrap_or_default();
    (1..=METHOD_MAX_BYTES).contains(&word.len()) && word.iter().all(u8::is_ascii_uppercase)
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
