//! The way to etcd from within this process: for commands, for the broker, and for tests.
//!
//! Owns [`Direct`]. Invariant: its threads end with it, and it does not wait for them.

use std::sync::Arc;
use std::thread::JoinHandle;

use super::board::{Board, Wish};
use super::client::Client;
use super::place::Access;
use super::{follower, lease, pulse};
use crate::clock::Moment;
use crate::limits::ETCD_CHANGE_MILLIS;
use crate::store::etcd::link::{Link, LinkError, Member, News, Page, Span, Swap, Swapped};

/// A way to etcd.
pub struct Direct {
    access: Access,
    client: Client,
    board: Arc<Board>,
    runs: bool,
    /// Gives back the lease at the end.
    lease: Option<JoinHandle<()>>,
}

impl Direct {
    /// A way by `access`; `ring` is called when there is news.
    #[must_use]
    pub fn new(access: Access, ring: Box<dyn Fn() + Send + Sync>) -> Self {
        Self {
            client: Client::new(access.clone()),
            access,
            board: Board::new(ring),
            runs: false,
            lease: None,
        }
    }

    /// Starts what runs beside: the watch and the pulse.
    ///
    /// # Errors
    /// [`LinkError::Away`] if the system starts no thread.
    pub fn start(&mut self) -> Result<(), LinkError> {
        if self.runs {
            return Ok(());
        }
        let failed = |error: std::io::Error| LinkError::Away(error.to_string());
        let (board, client) = (Arc::clone(&self.board), Client::new(self.access.clone()));
        let spawn = |name: &str, body: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new().name(name.to_owned()).spawn(body).map_err(failed)
        };
        spawn("etcd-watch", Box::new(move || follower::run(&board, client)))?;
        let (board, client) = (Arc::clone(&self.board), Client::new(self.access.clone()));
        spawn("etcd-pulse", Box::new(move || pulse::run(&board, client)))?;
        let (board, client) = (Arc::clone(&self.board), Client::new(self.access.clone()));
        self.lease = Some(spawn("etcd-lease", Box::new(move || lease::run(&board, client)))?);
        self.runs = true;
        Ok(())
    }

    /// Ends what runs beside, and waits until the others have been told that this server does not live any more, or cannot be.
    pub fn end(&mut self) {
        self.board.change(|facts| facts.ended = true);
        if let Some(lease) = self.lease.take() {
            // It does not panic, and nothing would be done about it here.
            let _ = lease.join();
        }
    }
}

impl Link for Direct {
    fn read(&mut self, span: &Span) -> Result<Page, LinkError> {
        self.client.read(span)
    }

    fn swap(&mut self, swap: &Swap) -> Result<Swapped, LinkError> {
        self.client.swap(swap, 0)
    }

    fn follow(&mut self, from: &[u8], to: &[u8], head: &[u8], at: u64) -> Result<(), LinkError> {
        self.start()?;
        self.board.follow(Wish { from: from.to_vec(), to: to.to_vec(), head: head.to_vec() }, at);
        Ok(())
    }

    fn news(&mut self, until: u64) -> Result<News, LinkError> {
        if until > 0 {
            let deadline = Moment::now().plus_millis(ETCD_CHANGE_MILLIS);
            self.board.wait(deadline, |facts| facts.has_reached(until));
        }
        Ok(self.board.take())
    }

    fn join(&mut self, member: &Member) -> Result<(), LinkError> {
        self.start()?;
        self.board.change(|facts| facts.member = Some(member.clone()));
        Ok(())
    }
}

impl Drop for Direct {
    fn drop(&mut self) {
        self.board.change(|facts| facts.ended = true);
    }
}

impl core::fmt::Debug for Direct {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Direct").field("access", &self.access).finish_non_exhaustive()
    }
}
