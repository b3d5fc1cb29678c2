//! The certificates of the server: in force from the start, and replaced when their files change.
//!
//! Owns [`Certificates`], which the archivist keeps, and [`Securing`], with which a worker begins sessions. Invariants: everything
//! is built before anything is replaced, and what cannot be built changes nothing; what nobody asked for is used only when two looks
//! have found the same; the same bad files are told once; what is done for the first time in
//! a thread and needs more than its filter allows is done before.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use crate::clock::{Moment, WallTime};
use crate::config::{Config, Tls};
use crate::crypto::hash;
use crate::limits::{TLS_EXPIRY_ROUND_MILLIS, TLS_EXPIRY_WARNING_DAYS, TLS_RELOAD_MILLIS};
use crate::log::{self, Level, Module};
use crate::reactor::socket::SocketTransport;
use crate::reactor::{Charge, Strangers, TaskId};
use crate::server::certificate_files::Files;
use crate::server::error::ServerError;
use crate::store::quoted;
use crate::tls::certificate::Facts;
pub(super) use crate::tls::failure_of;
use crate::tls::revocation::Revocations;
use crate::tls::{ClientAuth, Current, Edition, MinVersion, Options, Scratch, Session, provider};

const DAY_SECONDS: u64 = 86_400;

/// The configuration in force, shared by all threads.
pub(super) type InForce = Arc<Current>;

/// A connection through TLS.
pub(super) type Tunnel = Box<Session<SocketTransport>>;

/// What the archivist keeps.
#[derive(Debug)]
pub(super) struct Certificates {
    in_force: InForce,
    files: Files,
    /// Of what the files held that are in force.
    digest: [u8; 32],
    sighting: Sighting,
    /// Files are looked at again only by a thread that can reach nothing else.
    confined: bool,
    look_not_before: Moment,
    ends_not_before: Moment,
}

/// Reads the certificates that are configured, if any are.
pub(super) fn open(config: &Config) -> Result<Option<Certificates>, ServerError> {
    let Some(tls) = &config.tls else { return Ok(None) };
    prepare_thread().map_err(ServerError::config)?;
    let mut files = Files::find(config, tls)?;
    let refused = |reason: String| ServerError::config(format!("TLS: {reason}"));
    let contents = files.read().map_err(refused)?;
    let materials = files.materials(&contents, &[]).map_err(refused)?;
    let in_force = Current::new(&materials, options(tls)).map_err(|error| refused(error.to_string()))?;
    let edition = in_force.get();
    let now = WallTime::now();
    for (path, facts) in files.chains().zip(&edition.certificates) {
        tell_certificate(path, facts, now);
    }
    tell_revocations(&edition, now);
    Ok(Some(Certificates {
        in_force: Arc::new(in_force),
        digest: contents.digest(),
        files,
        sighting: Sighting::default(),
        confined: false,
        look_not_before: Moment::default(),
        ends_not_before: Moment::now().plus_millis(TLS_EXPIRY_ROUND_MILLIS),
    }))
}

/// Does what a thread that shakes hands, or builds configurations, can only do before it enters its filter.
pub(super) fn prepare_thread() -> Result<(), String> {
    provider::warm_up().map_err(|error| format!("TLS: {error}"))
}

fn options(tls: &Tls) -> Options {
    Options {
        min_version: if tls.tls12 { MinVersion::Tls12 } else { MinVersion::Tls13 },
        client_auth: match tls.client_ca {
            None => ClientAuth::Off,
            Some(_) if tls.client_required => ClientAuth::Required,
            Some(_) => ClientAuth::Optional,
        },
    }
}

impl Certificates {
    /// What the workers use.
    pub(super) fn in_force(&self) -> InForce {
        Arc::clone(&self.in_force)
    }

    /// Where the files are.
    pub(super) fn directories(&self) -> Vec<BorrowedFd<'_>> {
        self.files.directories()
    }

    /// The same, for descriptors that are to take their places.
    pub(super) fn directories_mut(&mut self) -> Vec<&mut OwnedFd> {
        self.files.directories_mut().collect()
    }

    /// Begins to look at the files, in the thread that will, locked in: what cannot be read now, could be read as another user or
    /// by a thread that was not confined.
    pub(super) fn begin(&mut self, confined: bool) {
        self.confined = confined;
        let read = if confined {
            self.files.read().map(drop)
        } else {
            Err("the thread that would read them is not confined to their directories (no Landlock)"
                .to_owned())
        };
        if let Err(reason) = read {
            let fingerprint = hash::sha256(&[reason.as_bytes()]);
            self.sighting.refuse(fingerprint, true);
            log::warn(
                Module::Tls,
                format_args!(
                    "tls_reload_unavailable: new certificates need a restart, since the files cannot be read again: {reason}"
                ),
            );
        }
    }

    /// Looks whether the files have changed, if it is time, or if that was `asked` for. Returns whether a new configuration is in
    /// force, if there was something to do.
    pub(super) fn look(&mut self, now: Moment, asked: bool) -> Option<bool> {
        if now >= self.ends_not_before {
            self.ends_not_before = now.plus_millis(TLS_EXPIRY_ROUND_MILLIS);
            self.tell_ends();
        }
        if !asked && (now < self.look_not_before || !self.confined) {
            return None;
        }
        self.look_not_before = now.plus_millis(TLS_RELOAD_MILLIS);
        if !self.confined {
            log::warn(
                Module::Tls,
                format_args!("SIGHUP: tls_reload_unavailable: restart the server for new certificates"),
            );
            return Some(false);
        }
        let contents = match self.files.read() {
            Ok(contents) => contents,
            Err(reason) => return self.refuse(hash::sha256(&[reason.as_bytes()]), &reason, asked),
        };
        let digest = contents.digest();
        if digest == self.digest {
            self.sighting = Sighting::default();
            if asked {
                log::info(Module::Tls, format_args!("the certificates have not changed"));
            }
            return None;
        }
        if !self.sighting.note(digest, asked) {
            return None;
        }
        let built = self.files.materials(&contents, &self.in_force.get().revocations);
        let replaced =
            built.and_then(|materials| self.in_force.replace(&materials).map_err(|error| error.to_string()));
        match replaced {
            Ok(edition) => {
                (self.digest, self.sighting) = (digest, Sighting::default());
                log::info(Module::Tls, format_args!("new certificates are in force"));
                self.tell_all(&edition);
                Some(true)
            }
            Err(reason) => self.refuse(digest, &reason, asked),
        }
    }

    /// Keeps what is in force. What may be half written is told only if it is still so at the next look.
    fn refuse(&mut self, fingerprint: [u8; 32], reason: &str, asked: bool) -> Option<bool> {
        if !self.sighting.refuse(fingerprint, asked) {
            return None;
        }
        log::error(
            Module::Tls,
            format_args!("the certificates were not replaced, those in force stay: {reason}"),
        );
        Some(false)
    }

    fn tell_all(&self, edition: &Edition) {
        let now = WallTime::now();
        for (path, facts) in self.files.chains().zip(&edition.certificates) {
            tell_certificate(path, facts, now);
        }
        tell_revocations(edition, now);
    }

    /// Tells which certificates end soon, and which lists are overdue.
    fn tell_ends(&self) {
        let now = WallTime::now();
        let edition = self.in_force.get();
        for (path, facts) in self.files.chains().zip(&edition.certificates) {
            if level(facts, now) != Level::Info {
                tell_certificate(path, facts, now);
            }
        }
        if edition.revocations.iter().any(|list| list.next_update() < now) {
            tell_revocations(&edition, now);
        }
    }
}

/// What the last look found, as long as it is not in force.
#[derive(Debug, Default)]
struct Sighting {
    fingerprint: Option<[u8; 32]>,
    /// Whether it was told that it cannot be used.
    told: bool,
}

impl Sighting {
    /// Notes what was found. Returns whether it is to be tried now: a look may fall into the middle of a copy, and half a chain or half
    /// the authorities are good to look at too, so that without being `asked` it must be as the last look found it.
    fn note(&mut self, fingerprint: [u8; 32], asked: bool) -> bool {
        let before = self.fingerprint.replace(fingerprint);
        if before != Some(fingerprint) {
            self.told = false;
            return asked;
        }
        asked || !self.told
    }

    /// Notes that what was found cannot be used. Returns whether to tell so.
    fn refuse(&mut self, fingerprint: [u8; 32], asked: bool) -> bool {
        let steady = self.fingerprint.replace(fingerprint) == Some(fingerprint);
        let told = core::mem::replace(&mut self.told, asked || steady);
        asked || steady && !told
    }
}

/// What a worker begins sessions with.
pub(super) struct Securing {
    in_force: InForce,
    scratch: Rc<Scratch>,
    strangers: Rc<Strangers>,
}

impl Securing {
    pub(super) fn new(in_force: InForce, strangers: Rc<Strangers>) -> Self {
        Self { in_force, scratch: Scratch::new(), strangers }
    }

    /// Begins the session of a task on a connection that was just accepted; nothing if the library refuses, and the connection ends.
    pub(super) fn secure(&self, transport: SocketTransport, task: TaskId) -> Option<Tunnel> {
        let config = Arc::clone(&self.in_force.get().config);
        let charge = Charge::of(&self.strangers, task);
        Session::new(transport, config, Rc::clone(&self.scratch), charge).ok().map(Box::new)
    }
}

/// Of each certificate in force its first name, and the second at which it ceases to hold.
pub(super) fn ends(in_force: &InForce) -> Vec<(String, u64)> {
    let edition = in_force.get();
    let told = edition.certificates.iter().map(|facts| {
        let first = facts.names.first().map(ToString::to_string).unwrap_or_default();
        (first, facts.not_after.as_secs())
    });
    told.collect()
}

fn days_left(facts: &Facts, now: WallTime) -> u64 {
    facts.not_after.as_secs().saturating_sub(now.as_secs()) / DAY_SECONDS
}

fn level(facts: &Facts, now: WallTime) -> Level {
    if !facts.holds_at(now) {
        Level::Error
    } else if days_left(facts, now) < TLS_EXPIRY_WARNING_DAYS {
        Level::Warn
    } else {
        Level::Info
    }
}

fn tell_certificate(path: &Path, facts: &Facts, now: WallTime) {
    let names: Vec<String> = facts.names.iter().map(ToString::to_string).collect();
    let names = if names.is_empty() { "no name".to_owned() } else { names.join(", ") };
    let end = facts.not_after.civil();
    let state = if now < facts.not_before {
        format!("does not hold before {}", facts.not_before.civil())
    } else if !facts.holds_at(now) {
        format!("has ended at {end}: clients refuse it")
    } else {
        format!("ends at {end} ({} days left)", days_left(facts, now))
    };
    log::tell(level(facts, now), Module::Tls, format_args!("{} ({names}) {state}", quoted(path)));
}

/// Tells until when what is known of revoked certificates is the newest.
fn tell_revocations(edition: &Edition, now: WallTime) {
    let Some(first) = edition.revocations.iter().map(Revocations::next_update).min() else { return };
    let (count, due) = (edition.revocations.len(), first.civil());
    if first < now {
        log::error(
            Module::Tls,
            format_args!(
                "a list of revoked client certificates was due to be replaced at {due}, and still holds: fetch the newest one"
            ),
        );
    } else {
        log::info(
            Module::Tls,
            format_args!("{count} lists of revoked client certificates; the next one is due at {due}"),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_asked_for_is_tried_when_two_looks_have_found_the_same() {
        let mut sighting = Sighting::default();
        let found = [(1, false), (2, false), (1, false), (1, true), (1, true), (2, false), (2, true)];
        for (number, tried) in found {
            assert_eq!(sighting.note([number; 32], false), tried);
        }
        assert!(sighting.note([3; 32], true), "a signal says that they are complete");
        assert!(sighting.note([3; 32], false), "and the next look has found the same");
    }

    #[test]
    fn what_cannot_be_used_is_told_once_and_whenever_that_was_asked() {
        let mut sighting = Sighting::default();
        let bad = [9; 32];
        assert!(!sighting.note(bad, false));
        assert!(sighting.note(bad, false) && sighting.refuse(bad, false));
        assert!(!sighting.note(bad, false), "it was told");
        assert!(sighting.note(bad, true) && sighting.refuse(bad, true));
        // What could not be read is never tried.
        let mut sighting = Sighting::default();
        let told: Vec<_> = (0..4).map(|_| sighting.refuse(bad, false)).collect();
        assert_eq!(told, [false, true, false, false]);
        assert!(!sighting.refuse([8; 32], false) && sighting.refuse([8; 32], false), "another reason");
    }

    #[test]
    fn a_certificate_is_told_of_as_loudly_as_its_end_is_near() {
        let day = DAY_SECONDS * 1_000;
        let at = |days: u64| WallTime::from_millis(days * day);
        let facts = Facts { names: Vec::new(), not_before: at(10), not_after: at(100) };
        for (now, expected) in [
            (at(9), Level::Error),
            (at(10), Level::Info),
            (at(100 - TLS_EXPIRY_WARNING_DAYS), Level::Info),
            (at(101 - TLS_EXPIRY_WARNING_DAYS), Level::Warn),
            (at(100), Level::Warn),
            (at(101), Level::Error),
        ] {
            assert_eq!(level(&facts, now), expected, "{now:?}");
        }
    }
}
