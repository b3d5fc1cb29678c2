//! The start up to the lock-down: tests, files, sockets, descriptors.
//!
//! Owns the order in which things are opened and the numbers that they get. Invariants: a mistake of the operator is
//! found here, with what to do in its text; when this is done every number below the connections' is taken, so that an accepted socket's number says what it is.

use core::num::NonZero;
use core::time::Duration;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::sync::Arc;

use mio::unix::SourceFd;
use mio::{Interest, Poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::SigSet;
use rustix::io::fcntl_dupfd_cloexec;

use crate::api::route::TABLE;
use crate::api::vault::route::Mount;
use crate::audit::{Office, Outlets, Recent};
use crate::auth::Authenticator;
use crate::broker::process;
use crate::build_info;
use crate::clock::Moment;
use crate::config::{Config, ControlGroups, Endpoint, Scheme};
use crate::console::{Output, Stage};
use crate::crypto::mac::MacKey;
use crate::crypto::random::{self, Generator, Kernel};
use crate::crypto::selftest;
use crate::fleet::Fleet;
use crate::http::env::Bounds;
use crate::http::forwarded::Forwarding;
use crate::http::sharing::Origins;
use crate::http::status::Status;
use crate::keeper::{Checkpoints, Keeper, Opening, Parts};
use crate::limiter::Addresses;
use crate::limits::{
    DESCRIPTORS_SPARE_COUNT, FD_CONNECTION_FIRST_NUMBER, FD_DATA_DIRECTORY_NUMBER, FD_EPOLL_FIRST_NUMBER,
    FD_EVENT_FIRST_NUMBER, FD_EVENT_LAST_NUMBER, FD_JOURNAL_NEXT_NUMBER, FD_JOURNAL_NUMBER,
    FD_OWN_FIRST_NUMBER, FD_OWN_LAST_NUMBER, KEY_BYTES,
};
use crate::log::{self, Module};
use crate::metrics::Registry;
use crate::metrics::process::USAGE;
use crate::model::Outcome;
use crate::publication::Publication;
use crate::reactor::Budget;
use crate::reactor::mailbox::Mailbox;
use crate::reactor::run::WAKE_TOKEN;
use crate::reactor::socket::Stream;
use crate::sandbox::descriptors::{self, Fillers};
use crate::sandbox::watch::Watch;
use crate::sandbox::{self, Plan, namespaces, rlimits};
use crate::secret::{self, Secret};
use crate::server::archivist::Archivist;
use crate::server::audit_log::{self, ArchiveSlots, OpenedAudit};
use crate::server::census::{self, Census};
use crate::server::certificates::{self, Certificates};
use crate::server::door::Limits;
use crate::server::error::ServerError;
use crate::server::fleet_vault;
use crate::server::front::Site;
use crate::server::listeners::{self, Entrance, Inherited};
use crate::server::memory::Room;
use crate::server::notify::{Notifier, WAITING};
use crate::server::observed::Scene;
use crate::server::parent::Manager;
use crate::server::resources;
use crate::server::shared::Shared;
use crate::server::signals::MainLoop;
use crate::server::vault::{self, Kept, Vault};
use crate::server::worker::{Common, Worker};
use crate::store::journal::Slot;
use crate::store::{AdminKey, DataDir, Owner, Store};

/// Everything that the threads will need, opened and in its place.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) plan: Plan,
    /// What the main thread looks at again and again, and a random number that says when.
    pub(super) watch: Watch,
    pub(super) jitter: u64,
    pub(super) office: Arc<Office>,
    pub(super) common: Common,
    pub(super) workers: Vec<Worker>,
    pub(super) main: MainLoop,
    /// What is moved into the keeper's thread.
    pub(super) keeper: Option<Parts>,
    /// What is moved into the archivist's.
    pub(super) archivist: Option<Archivist>,
    /// The data directory once more, for the keeper to confine itself to; closed before anything is served.
    pub(super) directory: Option<OwnedFd>,
    pub(super) endpoints: Vec<Endpoint>,
    /// Where they are shown.
    pub(super) stage: Stage,
    /// The admin key that is kept in a file, if this start made the store. Taken out and wiped once it was shown.
    pub(super) admin: Option<AdminKey>,
    /// Held for the life of the process: the lock on the data directory, and the numbers that stay taken.
    _lock: OwnedFd,
    _fillers: Fillers,
}

/// Tests, opens and places everything.
pub(super) fn prepare(config: &Config, manager: &Manager) -> Result<Prepared, ServerError> {
    // What reads audit lines is not to find anything else among them.
    let stage = Stage::open(if config.audit_sink.has_stdout() { Output::Err } else { Output::Out });
    check_binary()?;
    let Environs { inherited, notifier, descriptors_count, user_namespace, key_memory, groups } =
        settle(config, manager)?;
    // The journal's numbers are kept for it; everything that is opened before it is placed lies above all bands.
    let kept = fill(FD_DATA_DIRECTORY_NUMBER + 1)?;
    let plan = Plan { starter: manager.starter(), user_namespace, key_memory, ..plan(config)? };
    let (watch, slots) = (Watch::open()?, ArchiveSlots::hold()?);
    let mut random = generator()?;

    let owner = owner(&plan);
    // Before anything is made: a certificate that cannot be read is the operator's mistake.
    let certificates = certificates::open(config)?;
    let above = fill(FD_CONNECTION_FIRST_NUMBER)?;
    let data_dir = open_data_dir(config, owner, &notifier)?;
    let Stored { parts, news, authenticator, backup_key, audit, mut archivist, recent, body_key, admin } =
        open_store(config, &data_dir, slots, &mut random, (above, kept))?;
    let (directory, lock) = (keep_directory(&data_dir)?, place_lock(data_dir)?);

    let listeners = listeners::open(config, inherited, owner)?;
    let room = Room::look(groups.memory_bytes, config.workers, config.tls.is_some());
    let shared = Shared::new(config.workers);
    let census = Census::new(census_bounds(config, descriptors_count, room));
    let budget = Budget::new(room.budget(config.max_memory_bytes, census.places()));
    let tls = certificates.as_ref().map(Certificates::in_force);
    let (office, tls_of) = (Arc::clone(&archivist.office), tls.clone());
    let scene = Scene::new(registry(config, &audit, &parts), (&census, &budget), office, &shared, tls_of);
    let common = Common {
        shared,
        budget,
        census,
        scene: Arc::new(scene),
        authenticator: Arc::new(authenticator),
        keeper: Keeper::new(Arc::clone(&parts.publication)),
        recent,
        publication: Arc::clone(&parts.publication),
        backup_key: Arc::new(backup_key),
        bounds: bounds(config),
        limits: Arc::new(limits(config, &mut random)?),
        fleet: Arc::clone(&parts.fleet),
        console: !config.no_console,
        body_key,
        origins: Arc::new(Origins::new(&config.cors_origins)),
        site: Arc::new(Site::new(&config.allowed_hosts, https_port(&listeners.endpoints))),
        vault: config.vault_mount.as_deref().map(Mount::new).map(Arc::new),
        forwarding: Arc::new(forwarding(config)),
        tls,
    };
    let opened = open_loops(audit, listeners.of_worker, &common, &archivist.office, &mut random);
    let (mut workers, mut main) =
        opened.map_err(|error| ServerError::io("opening the event loops", &error))?;
    attach(&mut main, news, notifier, manager)?;
    archivist.certificates = certificates;
    let jitter = random.array(Moment::now()).map_err(|error| ServerError::config(error.to_string()))?;
    let fillers = fill(FD_CONNECTION_FIRST_NUMBER)?;
    give_reserves(&mut workers);
    Ok(Prepared {
        plan,
        watch,
        jitter: u64::from_be_bytes(jitter),
        office: Arc::clone(&archivist.office),
        common,
        workers,
        main,
        endpoints: listeners.endpoints,
        stage,
        keeper: Some(parts),
        archivist: Some(archivist),
        directory: Some(directory),
        admin,
        _lock: lock,
        _fillers: fillers,
    })
}

/// To whom a start as root gives the files that it makes.
fn owner(plan: &Plan) -> Option<Owner> {
    let switches = sandbox::identity::will_switch(plan.uid, plan.gid);
    switches.then_some(Owner { uid: plan.uid, gid: plan.gid })
}

/// Tells main whom it hears and to whom it reports.
fn attach(
    main: &mut MainLoop,
    news: Option<OwnedFd>,
    notifier: Notifier,
    manager: &Manager,
) -> Result<(), ServerError> {
    let listens = news.map_or(Ok(()), |news| main.listen_for_news(news, FD_JOURNAL_NUMBER));
    listens.map_err(|error| ServerError::io("listening for news of the store", &error))?;
    let watched = main.report_to(notifier, manager);
    watched.map_err(|error| ServerError::io("watching the supervisor", &error))
}

/// The counters of all threads.
fn registry(config: &Config, audit: &[Outlets], parts: &Parts) -> Registry {
    let registry = Registry::new(config.workers, TABLE.len(), Status::ALL.len());
    audit.iter().for_each(|outlets| registry.watch_stream(outlets.counters()));
    registry.watch_stream(parts.diary.counters());
    registry
}

/// What is open once the data directory is.
struct Stored {
    parts: Parts,
    /// What tells that others have written.
    news: Option<OwnedFd>,
    authenticator: Authenticator,
    backup_key: Secret<KEY_BYTES>,
    audit: Vec<Outlets>,
    archivist: Archivist,
    recent: Arc<Recent>,
    body_key: Option<Arc<MacKey>>,
    admin: Option<AdminKey>,
}

/// Opens the store and the audit log; `kept` holds the numbers below the connections' until the journal gets its own.
fn open_store(
    config: &Config,
    data_dir: &DataDir,
    slots: ArchiveSlots,
    random: &mut Generator,
    kept: (Fillers, Fillers),
) -> Result<Stored, ServerError> {
    let placing = |error: io::Error| ServerError::io("placing the store", &error);
    let mut news = None;
    let vault = match &config.store {
        None => {
            let vault = vault::open(config, data_dir, random)?;
            drop(kept);
            vault
        }
        Some(remote) => {
            let process::Started { socket, news: told } = fleet_vault::start_broker(config, remote)?;
            drop(kept);
            let socket = descriptors::place(socket, FD_JOURNAL_NUMBER, FD_JOURNAL_NUMBER).map_err(placing)?;
            let told =
                descriptors::place(told, FD_EVENT_LAST_NUMBER, FD_EVENT_LAST_NUMBER).map_err(placing)?;
            news = Some(told);
            vault::open_shared(config, remote, data_dir, socket, random)?
        }
    };
    let Vault { store, sealer, opening, authenticator, backup_key, audit_root, unfinished, admin } = vault;
    let Opening { state, mut checkpoints, loaded, .. } = opening;
    let (store, id): (Box<dyn Store>, _) = match store {
        Kept::Journal(journal) => (Box::new(journal.into_placed(place_journal).map_err(placing)?), None),
        Kept::Etcd(etcd, id) => (etcd, Some(id)),
    };
    if let Some(id) = id {
        // Those of other servers are theirs.
        checkpoints.retain(|of| of.start.random == u32::from_be_bytes(id));
    }
    let fleet = if id.is_some() { Fleet::of(config.max_staleness_seconds) } else { Fleet::alone() };
    fleet.note(store.fresh_nanos().unwrap_or_default(), store.members());
    let mut audit = audit_log::open(data_dir, slots, config, audit_root, id, random)?;
    audit.catch_up(&loaded, &unfinished)?;
    let OpenedAudit { workers: audit, diary, archivist, start, recent, tips, body_key } = audit;
    let parts = Parts {
        store,
        sealer,
        head: loaded.head,
        publication: Publication::new(state),
        diary,
        checkpoints: Checkpoints::new(start, tips, checkpoints),
        fleet,
        restore_window_seconds: config.restore_window_seconds,
        // Also if it stands where it is known to have stood: an earlier start may have accepted it and been cut off,
        // and of a restore without audit files nobody else tells.
        counts_set_back: loaded.rolled_back || config.accept_store_rollback,
    };
    Ok(Stored { parts, news, authenticator, backup_key, audit, archivist, recent, body_key, admin })
}

/// A descriptor of the data directory that the keeper's confinement is made from.
fn keep_directory(data_dir: &DataDir) -> Result<OwnedFd, ServerError> {
    let directory = fcntl_dupfd_cloexec(data_dir.directory(), FD_CONNECTION_FIRST_NUMBER);
    directory.map_err(|error| ServerError::io("keeping the data directory", &error.into()))
}

/// What the lock-down is to reach.
fn plan(config: &Config) -> Result<Plan, ServerError> {
    Ok(Plan {
        uid: config.user_id,
        gid: config.group_id,
        mode: config.sandbox_mode,
        allow_missing: config.sandbox_allow_missing.clone(),
        ..Plan::new()?
    })
}

/// What the process has around it, before it opens anything of its own.
struct Environs {
    inherited: Vec<Inherited>,
    notifier: Notifier,
    descriptors_count: u64,
    user_namespace: Outcome,
    key_memory: Outcome,
    groups: ControlGroups,
}

/// Makes of what the parent has left what the server needs.
fn settle(config: &Config, manager: &Manager) -> Result<Environs, ServerError> {
    // A parent may have blocked signals of its own; a start ends on SIGTERM as any program does. Who is the first of process
    // numbers has no default actions: what came before now waits, and ends it in the next line but one.
    if std::process::id() == 1 {
        let ready = crate::exit::leave_on_signals();
        ready.map_err(|errno| ServerError::io("preparing for signals", &errno.into()))?;
    }
    let unblocked = SigSet::all().thread_unblock();
    unblocked.map_err(|errno| ServerError::io("unblocking signals", &errno.into()))?;
    let inherited = manager.take_sockets()?;
    // It has to be dumpable for that, and no key was read yet.
    let names_peers = listeners::names_peers(config, &inherited);
    let user_namespace = namespaces::enter_user(config.sandbox_mode, manager.starter(), names_peers)?;
    sandbox::shield()?;
    let groups = ControlGroups::here();
    resources::prepare(config, &groups)?;
    let mut drawn = Ok(());
    let key_memory = secret::open_region(|key| {
        drawn = random::draw_key(key);
        drawn.is_ok()
    });
    drawn.map_err(|_| ServerError::entropy())?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    close_inherited(&inherited)?;
    let descriptors_count = rlimits::raise_descriptors()?;
    USAGE.descriptors_most.set(descriptors_count);
    let inherited = listeners::place_inherited(inherited)?;
    let notifier = Notifier::open(manager)?;
    Ok(Environs { inherited, notifier, descriptors_count, user_namespace, key_memory, groups })
}

/// Opens the data directory; waits for it as long as the settings allow, and says so.
fn open_data_dir(config: &Config, owner: Option<Owner>, notifier: &Notifier) -> Result<DataDir, ServerError> {
    let patience = Duration::from_secs(config.store_wait_seconds);
    let mut has_waited = false;
    let opened = DataDir::open_patiently(&config.data_dir, owner, patience, || {
        if !core::mem::replace(&mut has_waited, true) {
            log::info(
                Module::Server,
                format_args!("waiting until another process has left the data directory"),
            );
            notifier.tell(WAITING);
        }
        !notifier.has_lost_supervisor()
    });
    // Also if the store is free at last: nobody would end this server, and it would keep the sockets.
    if notifier.has_lost_supervisor() { Err(ServerError::abandoned()) } else { Ok(opened?) }
}

fn check_binary() -> Result<(), ServerError> {
    if cfg!(debug_assertions) {
        return Err(ServerError::config(
            "this is a debug build, whose extra system calls the filters would kill: run `make build`",
        ));
    }
    build_info::cpu_supported().map_err(|feature| {
        ServerError::config(format!(
            "this binary was built for processors with {feature}: use the portable build"
        ))
    })?;
    selftest::run().map_err(|failure| ServerError::defect(failure.to_string()))?;
    // Before the first key, nonce or identifier is drawn, those of the TLS library included.
    random::start_up().map_err(|_| ServerError::entropy())?;
    log::info(Module::Server, format_args!("cryptographic self-test passed"));
    Ok(())
}

fn fill(number: i32) -> Result<Fillers, ServerError> {
    descriptors::fill_below(number).map_err(|error| ServerError::io("reserving descriptor numbers", &error))
}

fn close_inherited(sockets: &[Inherited]) -> Result<(), ServerError> {
    let keep: Vec<i32> = sockets.iter().map(|socket| socket.fd.as_raw_fd()).collect();
    let closed = descriptors::close_inherited(&keep);
    closed.map(|_| ()).map_err(|error| ServerError::io("closing inherited descriptors", &error))
}

/// Keeps the lock on the data directory out of the bands.
fn place_lock(data_dir: DataDir) -> Result<OwnedFd, ServerError> {
    let placed = descriptors::place(data_dir.into_lock(), FD_OWN_FIRST_NUMBER, FD_OWN_LAST_NUMBER);
    placed.map_err(|error| ServerError::io("placing the lock", &error))
}

/// Gives a descriptor of the journal the number that the keeper's filter knows.
fn place_journal(fd: OwnedFd, slot: Slot) -> io::Result<OwnedFd> {
    let number = match slot {
        Slot::Journal => FD_JOURNAL_NUMBER,
        Slot::Next => FD_JOURNAL_NEXT_NUMBER,
        Slot::Directory => FD_DATA_DIRECTORY_NUMBER,
    };
    descriptors::place(fd, number, number)
}

/// The port of the first endpoint where TLS is spoken.
fn https_port(endpoints: &[Endpoint]) -> Option<u16> {
    endpoints.iter().find_map(|endpoint| match endpoint {
        Endpoint::Tcp(address, Scheme::Https) => Some(address.port()),
        _ => None,
    })
}

/// Makes the polls and wakers, whose numbers cannot be changed afterwards.
fn open_loops(
    audit: Vec<Outlets>,
    listeners: Vec<Vec<Entrance>>,
    common: &Common,
    office: &Arc<Office>,
    random: &mut Generator,
) -> io::Result<(Vec<Worker>, MainLoop)> {
    let mut workers = Vec::with_capacity(audit.len());
    let mut mailboxes = Vec::with_capacity(audit.len());
    for (index, (audit, listeners)) in audit.into_iter().zip(listeners).enumerate() {
        let (poll, mailbox) = open_loop(index)?;
        let first_id = random.array::<8>(Moment::now()).map_err(io::Error::other)?;
        mailboxes.push(Arc::clone(&mailbox));
        let first_id = u64::from_be_bytes(first_id);
        let news = Arc::clone(&mailbox);
        office.on_news(index, Box::new(move || news.nudge()));
        let ends = listeners.into_iter();
        let (listeners, ways) = ends.map(|end| ((end.socket, end.leaving), end.way)).unzip();
        workers.push(Worker { index, poll, mailbox, listeners, ways, audit, reserve: None, first_id });
    }
    let (poll, mailbox) = open_loop(workers.len())?;
    common.shared.connect(mailboxes, Arc::clone(&mailbox));
    let shared = Arc::clone(&common.shared);
    common.publication.on_publish(move || shared.nudge_workers());
    let gauge = open_gauge(workers.len() + 1)?;
    Ok((workers, MainLoop::new(poll, mailbox, Arc::clone(office), gauge)?))
}

/// What the main thread asks before it writes the log.
fn open_gauge(index: usize) -> io::Result<Option<OwnedFd>> {
    let number = FD_EPOLL_FIRST_NUMBER + i32::try_from(index).map_err(io::Error::other)?;
    log::may_be_full().then(|| descriptors::create_at(number, log::gauge)).transpose()
}

fn open_loop(index: usize) -> io::Result<(Poll, Arc<Mailbox>)> {
    let offset = i32::try_from(index).map_err(io::Error::other)?;
    let poll = descriptors::create_at(FD_EPOLL_FIRST_NUMBER + offset, Poll::new)?;
    let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
    let event = descriptors::create_at(FD_EVENT_FIRST_NUMBER + offset, || {
        EventFd::from_flags(flags).map_err(Into::into)
    })?;
    let number = event.as_fd().as_raw_fd();
    poll.registry().register(&mut SourceFd(&number), WAKE_TOKEN, Interest::READABLE)?;
    // Not `mio::Waker`, which reads a counter that is full: it is never read here, and each write is an edge.
    let signal = move || {
        // An event descriptor takes a wake unless its counter is full, and then it is raised already.
        let _ = event.write(1);
    };
    Ok((poll, Mailbox::new(Box::new(signal))))
}

fn generator() -> Result<Generator, ServerError> {
    Generator::new(Kernel, Moment::now()).map_err(|_| ServerError::entropy())
}

/// Gives each worker a descriptor of its own to let go of when there is no other.
fn give_reserves(workers: &mut [Worker]) {
    for worker in workers {
        // Without one the first connection that finds no descriptor waits.
        worker.reserve = Stream::unconnected().ok();
    }
}

fn census_bounds(config: &Config, descriptors_count: u64, room: Room) -> census::Bounds {
    census::Bounds {
        connections: connections(config, descriptors_count, room),
        connections_per_address: config.max_connections_per_address.map(NonZero::get),
        handshakes: config.max_handshakes,
        handshakes_per_address: config.max_handshakes_per_address.map(NonZero::get),
    }
}

/// As many connections as were asked for, and no more than there are descriptors and memory.
fn connections(config: &Config, descriptors_count: u64, room: Room) -> usize {
    // A worker keeps one for refusals; the first few of those are among the spare ones.
    let spare = DESCRIPTORS_SPARE_COUNT.max(config.workers);
    let taken = usize::try_from(FD_CONNECTION_FIRST_NUMBER).unwrap_or(0) + spare;
    let left = usize::try_from(descriptors_count).unwrap_or(usize::MAX).saturating_sub(taken);
    if left < config.max_connections {
        log::warn(
            Module::Server,
            format_args!(
                "the descriptor limit allows {left} connections of the {} configured",
                config.max_connections
            ),
        );
    }
    let by_memory = room.connections().unwrap_or(usize::MAX);
    if by_memory < config.max_connections.min(left) {
        log::warn(
            Module::Server,
            format_args!(
                "memory allows {by_memory} connections of the {} configured",
                config.max_connections
            ),
        );
    }
    config.max_connections.min(left).min(by_memory)
}

fn limits(config: &Config, random: &mut Generator) -> Result<Limits, ServerError> {
    let mut key = [0; 2];
    for half in &mut key {
        let drawn = random.array::<8>(Moment::now());
        *half = u64::from_be_bytes(drawn.map_err(|error| ServerError::config(error.to_string()))?);
    }
    let addresses = config.address_rate_limit.map(|rate| Addresses::new(rate, key));
    Ok(Limits { rate: config.rate_limit, addresses })
}

fn forwarding(config: &Config) -> Forwarding {
    Forwarding::new(config.trusted_proxies.clone(), config.local_proxies, config.forwarded_field)
}

fn bounds(config: &Config) -> Bounds {
    Bounds {
        handshake_millis: config.handshake_timeout_ms,
        head_millis: config.head_timeout_ms,
        body_gap_millis: config.body_gap_timeout_ms,
        body_millis: config.body_timeout_ms,
        idle_millis: config.idle_timeout_ms,
        write_millis: config.write_timeout_ms,
        requests: config.max_requests_per_connection,
    }
}
