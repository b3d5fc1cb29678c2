//! The keeper's end: what it asks of the broker, and waits for.
//!
//! Owns [`Remote`]. Invariants: no connection is opened here, and no file; a broker that ends, stands still or talks nonsense is etcd being away,
//! for good; after that nothing is sent any more, and whoever asks is told that it is cut.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd as _, OwnedFd};

use super::wire::{self, Answer, Request};
use crate::store::etcd::link::{Link, LinkError, Member, News, Page, Span, Swap, Swapped};

/// The way to the broker.
#[derive(Debug)]
pub struct Remote {
    socket: Socket,
    /// Whether the broker is there, as far as is known.
    lives: bool,
}

/// A descriptor that is read and written with the calls that the keeper's filter allows.
#[derive(Debug)]
struct Socket(OwnedFd);

impl Read for Socket {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::read(self.0.as_fd(), target)?)
    }
}

impl Write for Socket {
    fn write(&mut self, source: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(self.0.as_fd(), source)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Remote {
    /// The way through `socket`, whose reads end by themselves after a time.
    #[must_use]
    pub const fn new(socket: OwnedFd) -> Self {
        Self { socket: Socket(socket), lives: true }
    }

    fn ask(&mut self, request: &Request) -> Result<Answer, LinkError> {
        let gone = || LinkError::Away("the process that speaks to etcd has ended or stands still".to_owned());
        if !self.lives {
            return Err(gone());
        }
        let answer = self.exchange(request);
        self.lives = answer.is_some();
        match answer {
            Some(Answer::Failed(error)) => Err(error),
            Some(answer) => Ok(answer),
            // What was asked may have been done.
            None if matches!(request, Request::Swap(_)) => Err(LinkError::Unknown(gone().to_string())),
            None => Err(gone()),
        }
    }

    fn exchange(&mut self, request: &Request) -> Option<Answer> {
        wire::send(&mut self.socket, &request.encode()).ok()?;
        let frame = wire::receive(&mut self.socket).ok()??;
        Answer::decode(&frame)
    }
}

fn strange() -> LinkError {
    LinkError::Away("the process that speaks to etcd answers something else".to_owned())
}

impl Link for Remote {
    fn read(&mut self, span: &Span) -> Result<Page, LinkError> {
        match self.ask(&Request::Read(span.clone()))? {
            Answer::Page(page) => Ok(page),
            _ => Err(strange()),
        }
    }

    fn swap(&mut self, swap: &Swap) -> Result<Swapped, LinkError> {
        match self.ask(&Request::Swap(swap.clone()))? {
            Answer::Swapped(swapped) => Ok(swapped),
            _ => Err(LinkError::Unknown(strange().to_string())),
        }
    }

    fn follow(&mut self, from: &[u8], to: &[u8], head: &[u8], at: u64) -> Result<(), LinkError> {
        let (from, to, head) = (from.to_vec(), to.to_vec(), head.to_vec());
        self.ask(&Request::Follow { from, to, head, at }).map(drop)
    }

    fn news(&mut self, until: u64) -> Result<News, LinkError> {
        match self.ask(&Request::News { until })? {
            Answer::News(news) => Ok(news),
            _ => Err(strange()),
        }
    }

    fn join(&mut self, member: &Member) -> Result<(), LinkError> {
        self.ask(&Request::Join(member.clone())).map(drop)
    }

    fn is_cut(&self) -> bool {
        !self.lives
    }
}
