//! The server: start-up, threads, end.
//!
//! Owns the order of the start. Invariants: nothing is served before the self-test passed, everything that is needed
//! was opened, every privilege was given up and every thread was seen by the kernel to be locked in; a step that
//! fails ends the start with exit code 78 and says what to do; after the lock-down there is no path, and no file is opened, but by the archivist in the audit directory and those of the certificates.

mod access;
mod announcement;
mod archivist;
#[cfg(feature = "pentest")]
mod attacked;
mod audit_log;
mod census;
#[cfg(feature = "tls")]
mod certificate_files;
#[cfg(feature = "tls")]
mod certificates;
#[cfg(not(feature = "tls"))]
#[path = "no_certificates.rs"]
mod certificates;
mod door;
mod error;
mod faces;
mod fleet_vault;
mod following;
mod front;
pub mod in_process;
mod listeners;
mod memory;
mod monitor;
mod notify;
mod observed;
mod parent;
mod preflight;
mod refusals;
mod resources;
mod service;
mod shared;
mod signals;
mod startup;
mod streaming;
mod supervisor;
mod turned_away;
mod vault;
mod wire;
mod worker;

use core::convert::Infallible;
use core::mem::ManuallyDrop;
use core::time::Duration;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

pub use error::ServerError;
pub use fleet_vault::read_credentials;
pub use parent::Manager;
pub use supervisor::supervise;
pub use vault::read_audit;

use crate::clock::{Moment, WallTime};
use crate::config::Config;
use crate::crypto::random::{Generator, Kernel};
use crate::exit::Exit;
use crate::keeper::{Ledger, Now, Parts};
use crate::limits::{ARCHIVIST_STACK_BYTES, THREAD_STACK_BYTES};
use crate::log::{self, Module};
use crate::metrics::process::USAGE;
use crate::model::{Mode, Outcome, Posture, Step};
use crate::sandbox;
use crate::sandbox::confinement::{self, Confined, Reach};
use crate::sandbox::directories::Held;
use crate::sandbox::rlimits;
use crate::sandbox::seccomp::Role;
use crate::sandbox::verify::Witness;
use crate::secret;
use crate::server::archivist::Archivist;
use crate::server::certificates::Certificates;
use crate::server::memory::Needs;
use crate::server::monitor::{Means, Monitor};
use crate::server::shared::Shared;
use crate::server::startup::Prepared;
use crate::server::worker::Common;

/// Serves until a signal ends it. Only a start that fails returns: a server that has served leaves the process.
///
/// # Errors
/// What stopped the start.
pub fn run(config: &Config, manager: &Manager) -> Result<(), ServerError> {
    #[cfg(feature = "pentest")]
    crate::pentest::begin(&config.data_dir);
    USAGE.started_micros.set(WallTime::now().as_millis().saturating_mul(1_000));
    let mut prepared = startup::prepare(config, manager)?;
    // Before any filter, which allow no other way to ask whether standard error has room.
    prepared.main.take_log();
    memory::close_heap(&Needs::of(&prepared.common, config.workers))?;
    let posture = sandbox::lock_down(&prepared.plan, held(&mut prepared.keeper, &mut prepared.archivist))?;
    let Err(error) = serve_locked_down(config, &mut prepared, posture);
    refuse(&error)
}

/// The directories that stay open.
fn held<'a>(keeper: &'a mut Option<Parts>, archivist: &'a mut Option<Archivist>) -> Held<'a> {
    let mut held = Held::default();
    held.apart.extend(keeper.as_mut().and_then(|parts| parts.store.directory()));
    if let Some(Archivist { archive, certificates, .. }) = archivist {
        held.apart.push(archive.directory_mut());
        held.linked.extend(certificates.as_mut().into_iter().flat_map(Certificates::directories_mut));
    }
    held
}

/// Ends a start that has failed, and says why. For when it must not return: to drop what is open would close it, which the filter of
/// the process forbids.
fn refuse(error: &ServerError) -> ! {
    log::fatal(Module::Server, format_args!("{error}"));
    error.exit().leave()
}

/// What comes after the lock-down, and from some point on under the filter of the process. It returns only to tell why it failed, and nothing that it was given is dropped.
fn serve_locked_down(
    config: &Config,
    prepared: &mut Prepared,
    mut posture: Posture,
) -> Result<Infallible, ServerError> {
    sandbox::foresee_enclosure(&prepared.plan, &mut posture)?;
    for (step, outcome) in &posture.steps {
        log::info(Module::Sandbox, format_args!("{step}: {outcome}"));
    }
    if let Some(parts) = &mut prepared.keeper {
        let skipped = posture.steps.iter().filter(|(_, outcome)| !outcome.is_whole());
        let told = parts.diary.begin(posture.mode, skipped.map(|(step, _)| step.name()), WallTime::now());
        told.map_err(|_| ServerError::config("the audit log cannot be written: is the disk full?"))?;
    }
    let foreseen = Arc::new(posture.clone());
    let threads = start_threads(prepared, &foreseen)?;
    let shared = Arc::clone(&prepared.common.shared);
    let confined = enclose(prepared, &shared, threads)?;
    look_beside(&prepared.plan.witness, &mut posture)?;
    let confined = sandbox::lock_in(&foreseen, Role::Main, confined)?;
    let confirmed = prepared.plan.witness.confirm_main();
    let means = Means {
        witness: &prepared.plan.witness,
        watch: &prepared.watch,
        board: Arc::clone(shared.board()),
        office: Arc::clone(&prepared.office),
        keeper: Arc::clone(&prepared.common.keeper),
        policy: config.integrity,
        shared: config.store.is_some(),
        jitter: prepared.jitter,
    };
    let mut monitor = confirmed.and_then(|()| Monitor::begin(means, Moment::now()))?;
    posture.landlock_abi = confined.abi;
    posture.add(Step::Seccomp, Outcome::Done);
    log::info(
        Module::Sandbox,
        format_args!("every thread is locked in (Landlock revision {})", posture.landlock_abi),
    );
    if monitor.must_end() {
        // Found before anybody was told that it serves: for its supervisor it has not.
        let ended = prepared.main.distrust(&shared, &prepared.common.keeper, &mut monitor);
        log::finish();
        ended.unwrap_or(Exit::Software).leave();
    }
    if prepared.main.is_abandoned() {
        return Err(ServerError::abandoned());
    }
    let admin = prepared.admin.take();
    announcement::announce(config, prepared, admin.as_ref());
    drop(admin);
    shared.settle(posture);
    shared.open_gate();
    prepared.main.tell_ready();
    let keeper = Arc::clone(&prepared.common.keeper);
    let drain = Duration::from_millis(config.drain_timeout_ms);
    let ended = prepared.main.run(&shared, &keeper, drain, &mut monitor);
    let exit = ended.unwrap_or_else(|error| {
        log::error(Module::Server, format_args!("the main thread's poll failed: {error}"));
        Exit::Io
    });
    if prepared.main.is_hurried() {
        log::finish_at_once();
    } else {
        log::finish();
    }
    exit.leave();
}

/// Enters the filter of the process for every thread, and waits until each of the others is locked in, as the kernel reports it; returns how
/// this one is confined.
fn enclose(prepared: &mut Prepared, shared: &Shared, threads: usize) -> Result<Confined, ServerError> {
    shared.await_prepared(threads);
    // Whatever is to be opened is opened before.
    let watched = prepared.plan.witness.other_threads(prepared.watch.places())?;
    prepared.watch.keep_threads(watched)?;
    let statuses = prepared.plan.witness.other_threads(usize::MAX)?;
    prepared.plan.witness.close_threads()?;
    rlimits::forbid_processes()?;
    let confined = confinement::confine(&Reach::Nothing)?;
    sandbox::enclose(&prepared.plan)?;
    shared.open_porch();
    shared.await_arrivals(threads).map_err(ServerError::thread)?;
    prepared.plan.witness.confirm_threads(&statuses, threads)?;
    Ok(confined)
}

/// What no step can see: whether somebody traces this process, and whether the key region held all that it is for.
fn look_beside(witness: &Witness, posture: &mut Posture) -> Result<(), ServerError> {
    let tracer = witness.status()?.tracer;
    if tracer != 0 {
        let told = format_args!("process {tracer} traces this one, and sees every key");
        if posture.mode != Mode::Auto {
            return Err(ServerError::config(format!("sandbox: {told}")));
        }
        log::warn(Module::Sandbox, told);
    }
    if secret::is_beside() {
        // What every thread has made by now is most of what is ever made.
        let reason = "the states of some generators found no room in it (raise the limit of locked memory)";
        log::warn(Module::Sandbox, format_args!("{}: partial ({reason})", Step::KeyMemory));
        posture.lower(Step::KeyMemory, reason);
        sandbox::judge(posture)?;
    }
    Ok(())
}

/// Starts the keeper, the archivist and the workers; returns how many threads that were.
fn start_threads(prepared: &mut Prepared, posture: &Arc<Posture>) -> Result<usize, ServerError> {
    let workers = core::mem::take(&mut prepared.workers);
    let threads = workers.len() + 2;
    let common = prepared.common.clone();
    let parts = prepared.keeper.take().ok_or_else(|| ServerError::defect("the keeper was started twice"))?;
    let directory =
        prepared.directory.take().ok_or_else(|| ServerError::defect("the keeper has no directory"))?;
    let of_keeper = Arc::clone(posture);
    spawn("keeper", THREAD_STACK_BYTES, move || keep(&common, parts, directory, &of_keeper));
    let archivist =
        prepared.archivist.take().ok_or_else(|| ServerError::defect("the archivist was started twice"))?;
    let shared = Arc::clone(&prepared.common.shared);
    let keeper = Arc::clone(&prepared.common.keeper);
    let of_archivist = Arc::clone(posture);
    spawn("archivist", ARCHIVIST_STACK_BYTES, move || archivist.run(&shared, keeper, &of_archivist));
    for worker in workers {
        let (common, of_worker) = (prepared.common.clone(), Arc::clone(posture));
        let name = format!("worker-{}", worker.index);
        spawn(&name, THREAD_STACK_BYTES, move || worker.run(&common, &of_worker));
    }
    Ok(threads)
}

/// Starts a thread, or ends the process: what `body` owns must not be dropped here.
fn spawn(name: &str, stack_bytes: usize, body: impl FnOnce() + Send + 'static) {
    let builder = std::thread::Builder::new().name(name.to_owned()).stack_size(stack_bytes);
    let body = ManuallyDrop::new(body);
    // The thread is never joined: it ends with the process.
    if let Err(error) = builder.spawn(move || ManuallyDrop::into_inner(body)()) {
        refuse(&ServerError::thread(format!("{name}: {error}")))
    }
}

/// The body of the keeper's thread.
fn keep(common: &Common, parts: Parts, directory: OwnedFd, posture: &Posture) {
    let generator = Generator::new(Kernel, Moment::now());
    let confined = confinement::confine(&Reach::Names(directory.as_fd()));
    // Its number is above the bands, and the filter allows no such thing.
    drop(directory);
    common.shared.await_filter();
    let locked = confined.and_then(|confined| sandbox::lock_in(posture, Role::Keeper, confined));
    let locked = locked.map_err(|failure| failure.to_string());
    match generator.map_err(|error| error.to_string()).and_then(|generator| locked.map(|_| generator)) {
        Ok(generator) => {
            let mut ledger = Ledger::new(parts, generator);
            if let Err(reason) = ledger.begin(Now::read()) {
                common.shared.arrive(Err(reason.to_string()));
                rest(&ledger)
            }
            common.shared.arrive(Ok(()));
            common.keeper.run(&mut ledger)
        }
        Err(reason) => {
            common.shared.arrive(Err(reason));
            rest(&parts)
        }
    }
}

/// What `kept` holds is kept: to drop it would close descriptors that belong to their bands.
fn rest<T>(_kept: &T) -> ! {
    loop {
        std::thread::park();
    }
}
