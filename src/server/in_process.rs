//! One worker's application without threads, sockets, files of its own or a lock-down: for tests and benches.
//!
//! Owns nothing. What it makes is the service of a real worker, which the caller runs on an executor and a transport of
//! its own. No keeper's thread runs behind it, so a request that asks for a change is never answered.

use core::cell::{Cell, RefCell};
use std::fs::File;
use std::rc::Rc;
use std::sync::Arc;

use crate::api::Tools;
use crate::api::route::TABLE;
use crate::api::vault::route::Mount;
use crate::audit::{Chain, Office, Outlets, Recent, Sink, Syncing};
use crate::auth::Authenticator;
use crate::auth::jwt::Room;
use crate::clock::WallTime;
use crate::crypto::hash::Algorithm;
use crate::crypto::mac::MacKey;
use crate::crypto::random::Generator;
use crate::fleet::Fleet;
use crate::http::service::Service;
use crate::http::status::Status;
use crate::keeper::{Keeper, State};
use crate::limits::{KEY_BYTES, LEASE_BUDGET_DEFAULT_BYTES, VAULT_MOUNT_DEFAULT_TEXT};
use crate::metrics::Registry;
use crate::publication::{Publication, View};
use crate::reactor::turn::CommitFailed;
use crate::reactor::{Budget, Turn};
use crate::secret::Secret;
use crate::server::census::{Bounds, Census};
use crate::server::door::Limits;
use crate::server::front::Front;
use crate::server::observed::Scene;
use crate::server::service::App;
use crate::server::shared::Shared;

/// What a worker's application is made of.
#[derive(Debug)]
pub struct Parts {
    /// The turn of the executor that will run it.
    pub turn: Rc<Turn>,
    /// The keys and who may use them.
    pub publication: Arc<Publication<State>>,
    /// Checks the credentials.
    pub authenticator: Authenticator,
    /// The random source.
    pub random: Generator,
    /// What seals backups of keys.
    pub backup_key: Secret<KEY_BYTES>,
    /// Where the audit lines go.
    pub audit: File,
    /// What ties them together.
    pub chain: Chain,
}

/// The application, and the tick commit that [`crate::reactor::Executor::commit`] is to run.
pub fn open(parts: Parts) -> (impl Service, impl Fn(WallTime) -> Result<(), CommitFailed>) {
    let Parts { turn, publication, authenticator, random, backup_key, audit, chain } = parts;
    let (sink, recent) = (Sink::new(audit, "in-process", chain), Recent::new("in-process"));
    let sink = Outlets::new(Some(sink), None, Syncing::Written).remembered_by(Arc::clone(&recent));
    let sink = Rc::new(sink);
    let shared = Shared::new(1);
    shared.open_gate();
    let registry = Registry::new(1, TABLE.len(), Status::ALL.len());
    registry.watch_stream(sink.counters());
    let counters = registry.worker(0).map_or_else(Arc::default, Arc::clone);
    let scene = Scene {
        registry,
        census: Census::new(Bounds {
            connections: 1,
            connections_per_address: None,
            handshakes: 1,
            handshakes_per_address: None,
        }),
        budget: Budget::new(LEASE_BUDGET_DEFAULT_BYTES),
        office: Arc::new(Office::new(1)),
        shared: Arc::clone(&shared),
        tls: None,
    };
    let app = App {
        worker: 0,
        entropy: Cell::new(true),
        turn,
        view: View::new(Arc::clone(&publication)),
        authenticator: Arc::new(authenticator),
        front: Front::default(),
        fleet: Fleet::alone(),
        vault: Some(Arc::new(Mount::new(VAULT_MOUNT_DEFAULT_TEXT))),
        limits: Arc::new(Limits { rate: None, addresses: None }),
        body_key: Some(Arc::new(MacKey::new(Algorithm::Sha256, &[7; 32]))),
        room: RefCell::new(Box::new(Room::new())),
        tools: RefCell::new(Tools::new(random, Arc::new(backup_key))),
        refusals: Rc::default(),
        subjects: RefCell::new(Vec::new()),
        sink: Rc::clone(&sink),
        recent,
        keeper: Keeper::new(publication),
        counters,
        scene: Arc::new(scene),
        shared,
        console: true,
    };
    (app, move |now| sink.commit_now(now).map_err(|_| CommitFailed))
}
