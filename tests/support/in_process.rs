//! The real application on the real executor, over a transport in memory: what tests and benches drive.
//!
//! Included with `#[path]`. One connection, one peer: [`InProcess::exchange`] sends bytes and runs turns of the loop
//! until nothing more happens.

#![allow(dead_code, reason = "included by several files, not all of which use all of it")]
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and says where"
)]

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::future::Future;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use quantonium::audit::chain::Root;
use quantonium::auth::change::apply as apply_to_callers;
use quantonium::auth::entry::SALT_BYTES;
use quantonium::auth::{Authenticator, Change as CallerChange, Directory, Terms, api_key};
use quantonium::clock::{Moment, WallTime};
use quantonium::crypto::random::{Generator, Kernel};
use quantonium::http::connection::{Idle, serve};
use quantonium::http::env::{Bounds, Env};
use quantonium::http::forwarded::Forwarding;
use quantonium::http::peer::{Peer, Way};
use quantonium::http::service::Service;
use quantonium::http::sharing::Origins;
use quantonium::keeper::State;
use quantonium::keyring::change::apply;
use quantonium::keyring::{Change, Circumstances, Effect, Key};
use quantonium::limits::LEASE_BUDGET_DEFAULT_BYTES;
use quantonium::model::{KeyName, KeyOptions, KeyType, PolicyChange};
use quantonium::publication::Publication;
use quantonium::reactor::mailbox::Mailbox;
use quantonium::reactor::turn::CommitFailed;
use quantonium::reactor::{Budget, Channel, Executor, Pool, Received, Resting, TaskId, Transport, Turn};
use quantonium::secret::Secret;
use quantonium::server::in_process::{self, Parts};

/// The key that exists.
pub(crate) const KEY: &str = "orders";

/// Both directions of the connection.
#[derive(Debug)]
struct Wire {
    inbound: Vec<u8>,
    taken: usize,
    outbound: Vec<u8>,
    /// Whether a reply is under way that would end by a reset.
    aborting: bool,
}

#[derive(Debug)]
struct MemoryTransport(Rc<RefCell<Wire>>);

impl Transport for MemoryTransport {
    fn receive(&mut self, target: &mut [u8]) -> io::Result<Received> {
        let mut wire = self.0.borrow_mut();
        let there = wire.inbound.len() - wire.taken;
        if there == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = there.min(target.len());
        target[..count].copy_from_slice(&wire.inbound[wire.taken..][..count]);
        wire.taken += count;
        Ok(Received { count, drained: count < target.len() })
    }

    fn send(&mut self, source: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().outbound.extend_from_slice(source);
        Ok(source.len())
    }

    fn finish(&mut self) {}

    fn abort_on_close(&mut self, on: bool) {
        self.0.borrow_mut().aborting = on;
    }
}

/// A worker with one connection.
pub(crate) struct InProcess {
    wire: Rc<RefCell<Wire>>,
    turn: Box<dyn FnMut() -> bool>,
    /// How far the worker's clock is ahead.
    ahead_millis: Rc<Cell<u64>>,
    publication: Arc<Publication<State>>,
    /// An API key that may do everything.
    pub(crate) credential: String,
}

impl InProcess {
    /// A worker whose audit lines go to `audit`, with memory for messages of `most` bytes.
    pub(crate) fn new(audit: File, most: usize) -> Self {
        Self::with_key(audit, most, KeyOptions::of(KeyType::XChaCha20Poly1305))
    }

    /// The same with another kind of key.
    pub(crate) fn with_key(audit: File, most: usize, options: KeyOptions) -> Self {
        Self::of_peer(audit, most, options, Peer::new(None, Way::Plain), Forwarding::default())
    }

    /// The same with a connection that comes this way, and for these origins.
    pub(crate) fn reached_by(
        audit: File,
        most: usize,
        options: KeyOptions,
        way: Way,
        origins: Origins,
    ) -> Self {
        Self::at(audit, most, options, (Peer::new(None, way), Forwarding::default(), origins))
    }

    /// The same with a connection of this peer, and with these proxies believed.
    pub(crate) fn of_peer(
        audit: File,
        most: usize,
        options: KeyOptions,
        peer: Peer,
        forwarding: Forwarding,
    ) -> Self {
        Self::at(audit, most, options, (peer, forwarding, Origins::default()))
    }

    fn at(audit: File, most: usize, options: KeyOptions, edge: (Peer, Forwarding, Origins)) -> Self {
        let now = Moment::now();
        let mut random = Generator::new(Kernel, now).unwrap();
        let credential = api_key::generate(|bytes| random.fill(now, bytes)).unwrap().as_str().to_owned();
        let authenticator = Authenticator::new(&random.array::<32>(now).unwrap(), "quantonium", "quantonium");
        let callers = with_admin(&authenticator, &credential);
        let change =
            Change::Create { name: KeyName::new(KEY).unwrap(), options, policy: PolicyChange::default() };
        let publication = Publication::new(State { callers, ..State::default() });
        make(&publication, &change, &mut random);
        let turn = Turn::new(now);
        let backup_key = Secret::try_fill(|bytes| random.fill(now, bytes)).unwrap();
        let publication_of = Arc::clone(&publication);
        let parts = Parts {
            turn: Rc::clone(&turn),
            publication: publication_of,
            authenticator,
            random,
            backup_key,
            audit,
            chain: Root::new(Secret::take(&mut [9; 32])).chain("in-process").unwrap(),
        };
        let (service, commit) = in_process::open(parts);
        let wire = Wire {
            inbound: Vec::with_capacity(most),
            taken: 0,
            outbound: Vec::with_capacity(most),
            aborting: false,
        };
        let wire = Rc::new(RefCell::new(wire));
        let ahead_millis = Rc::default();
        let ahead = Rc::clone(&ahead_millis);
        let turn = start(service, commit, turn, Rc::clone(&wire), ahead, edge);
        Self { wire, turn, ahead_millis, publication, credential }
    }

    /// Makes a key, as the keeper does.
    pub(crate) fn create(&self, name: &str, options: KeyOptions) {
        let name = KeyName::new(name).unwrap();
        self.change(&Change::Create { name, options, policy: PolicyChange::default() });
    }

    /// The key of this name as it is now.
    pub(crate) fn key(&self, name: &str) -> Arc<Key> {
        Arc::clone(self.publication.current().ring.get(name).unwrap())
    }

    /// Makes a change of the API keys, as the keeper does.
    pub(crate) fn change_callers(&self, change: &CallerChange) {
        let mut state = (*self.publication.current()).clone();
        apply_to_callers(&mut state.callers, change, WallTime::now()).unwrap();
        self.publication.publish(Arc::new(state));
    }

    /// The API keys as they are now.
    pub(crate) fn callers(&self) -> Directory {
        self.publication.current().callers.clone()
    }

    /// Makes a change of the key ring, as the keeper does.
    pub(crate) fn change(&self, change: &Change) {
        make(&self.publication, change, &mut Generator::new(Kernel, Moment::now()).unwrap());
    }

    /// Lets time pass while the client sends nothing, and shows `look` what came in the meantime.
    pub(crate) fn wait<R>(&mut self, millis: u64, look: impl FnOnce(&[u8]) -> R) -> R {
        self.ahead_millis.set(self.ahead_millis.get() + millis);
        self.more(&[], look)
    }

    /// Takes a key out of the ring, as the schedule does in the end.
    pub(crate) fn remove(&self, name: &str) {
        let mut state = (*self.publication.current()).clone();
        state.ring.remove(name);
        self.publication.publish(Arc::new(state));
    }

    /// Sends more of a request and shows `look` what came back since the last time.
    pub(crate) fn more<R>(&mut self, bytes: &[u8], look: impl FnOnce(&[u8]) -> R) -> R {
        // What the worker has not taken yet is what `exchange` would drop; here nothing is left between two calls.
        assert_eq!(self.wire.borrow().taken, self.wire.borrow().inbound.len());
        self.exchange(bytes, look)
    }

    /// Sends `request` and shows `look` what came back.
    pub(crate) fn exchange<R>(&mut self, request: &[u8], look: impl FnOnce(&[u8]) -> R) -> R {
        {
            let mut wire = self.wire.borrow_mut();
            wire.inbound.clear();
            wire.inbound.extend_from_slice(request);
            wire.taken = 0;
            wire.outbound.clear();
        }
        while (self.turn)() {}
        look(&self.wire.borrow().outbound)
    }
}

/// The API keys: one that may do everything, whose text is `credential`.
fn with_admin(authenticator: &Authenticator, credential: &str) -> Directory {
    let (mut directory, salt, now) = (Directory::default(), [7; SALT_BYTES], WallTime::now());
    let (id, _) = authenticator.digest(credential, &salt).unwrap();
    let token_secret = Secret::take(&mut [9; 32]);
    let generation = authenticator.generation(credential, &salt, 1, token_secret, now).unwrap();
    let (terms, generation) = (Arc::new(Terms::first()), Arc::new(generation));
    let change = CallerChange::Create { by: None, id, salt, terms, generation };
    apply_to_callers(&mut directory, &change, now).unwrap();
    directory
}

fn make(publication: &Publication<State>, change: &Change, random: &mut Generator) {
    let mut state = (*publication.current()).clone();
    let mut draw = |bytes: &mut [u8]| random.fill(Moment::now(), bytes);
    let mut at = Circumstances { now: WallTime::now(), restore_window_seconds: 3_600, draw: &mut draw };
    let outcome = apply(&mut state.ring, change, &mut at).unwrap();
    if let Effect::Reserved { version, seals } = outcome.effect {
        outcome.key.version(version).unwrap().uses().grant(seals);
    }
    publication.publish(Arc::new(state));
}

/// Makes the executor with its connection; what is returned runs one turn and says whether another is needed.
fn start(
    service: impl Service + 'static,
    commit: impl Fn(WallTime) -> Result<(), CommitFailed> + 'static,
    turn: Rc<Turn>,
    wire: Rc<RefCell<Wire>>,
    ahead_millis: Rc<Cell<u64>>,
    (peer, forwarding, origins): (Peer, Forwarding, Origins),
) -> Box<dyn FnMut() -> bool> {
    let pool = Pool::settling(Budget::new(LEASE_BUDGET_DEFAULT_BYTES));
    let bounds = Bounds { requests: u64::MAX, ..Bounds::default() };
    let env = Env::new(service, Rc::clone(&pool), bounds, Arc::new(forwarding), Arc::new(origins), 7);
    let mut executor = Executor::new(Rc::clone(&turn), Mailbox::new(Box::new(|| {})), serve);
    let spawned = executor.spawn(|task| {
        let channel = Channel::new(MemoryTransport(Rc::clone(&wire)), Rc::clone(&turn), task);
        Ok::<_, ()>(Idle::new(channel, peer, env, ()))
    });
    let task = spawned.unwrap();
    Box::new(move || {
        let now = Moment::now().plus_millis(ahead_millis.get());
        if executor.alive() == 0 {
            return false;
        }
        let again = run_turn(&mut executor, &turn, task, now, &commit);
        pool.settle();
        assert!(
            executor.alive() == 1 || wire.borrow().aborting,
            "the connection lives on, unless a reply was cut"
        );
        again
    })
}

fn run_turn<R: Resting, F: Future<Output = Option<R>>, M: FnMut(R) -> F>(
    executor: &mut Executor<R, F, M>,
    turn: &Turn,
    task: TaskId,
    now: Moment,
    commit: &impl Fn(WallTime) -> Result<(), CommitFailed>,
) -> bool {
    let wall = WallTime::now();
    executor.begin(now, wall);
    turn.mark_ready(task, true, true, false);
    executor.poll(task);
    executor.poll_expired();
    executor.commit(|| commit(wall).into());
    turn.commit_wanted()
}

/// The text of a request for JSON routes.
pub(crate) fn request(credential: &str, target: &str, content_type: &str, body: &[u8]) -> Vec<u8> {
    let method = if body.is_empty() { "GET" } else { "POST" };
    let mut text =
        format!("{method} {target} HTTP/1.1\r\nHost: localhost:8080\r\nX-API-Key: {credential}\r\n");
    if !body.is_empty() {
        text.push_str(&format!("Content-Type: {content_type}\r\nContent-Length: {}\r\n", body.len()));
    }
    text.push_str("\r\n");
    [text.as_bytes(), body].concat()
}

/// The body of the one reply that `bytes` are, whose status must be 200.
pub(crate) fn body_of(bytes: &[u8]) -> &[u8] {
    assert!(bytes.starts_with(b"HTTP/1.1 200 "), "{}", bytes.escape_ascii());
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("the end of the head");
    &bytes[end + 4..]
}

/// The text between `"name":"` and the next quotation mark. Allocates nothing.
pub(crate) fn member<'a>(json: &'a [u8], name: &str) -> &'a str {
    let text = str::from_utf8(json).expect("text");
    let mut after = text.match_indices(name).map(|(at, _)| &text[at + name.len()..]);
    let value = after.find_map(|rest| rest.strip_prefix("\":\"")).expect("the member");
    value.split('"').next().expect("its end")
}
