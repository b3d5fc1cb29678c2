//! The configuration in force.
//!
//! Owns [`Current`] and [`Edition`]. Invariants: a connection keeps the edition that it began with; a replacement that fails
//! changes nothing; session tickets live on across replacements, but not across a change of who may sign client
//! certificates or of what is revoked of them: a ticket is a proof that was made under the old rule.

use core::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use rustls::ServerConfig;
use rustls::server::ProducesTickets;

use crate::clock::WallTime;
use crate::tls::TlsError;
use crate::tls::certificate::{Facts, Name};
use crate::tls::material::Authorities;
use crate::tls::provider::ticketer;
use crate::tls::revocation::Revocations;
use crate::tls::server_config::{Materials, Options, build};

/// A configuration, and what its certificates say of themselves.
#[derive(Debug)]
pub struct Edition {
    /// For new sessions.
    pub config: Arc<ServerConfig>,
    /// Of each certificate, in the order in which they were given.
    pub certificates: Vec<Facts>,
    /// Of each list of revoked client certificates.
    pub revocations: Vec<Revocations>,
}

impl Edition {
    /// When the first of the certificates ceases to hold.
    #[must_use]
    pub fn earliest_end(&self) -> WallTime {
        self.certificates.iter().map(|facts| facts.not_after).min().unwrap_or_default()
    }

    /// Of each certificate, in the order in which they were given, its first name, if it has one, and the second since 1970 with which it
    /// ceases to hold.
    pub fn ends(&self) -> impl ExactSizeIterator<Item = (Option<&Name>, u64)> {
        self.certificates.iter().map(|facts| (facts.names.first(), facts.not_after.as_secs()))
    }
}

/// The edition in force, shared by all workers and replaced by whoever reads the files again.
pub struct Current {
    options: Options,
    edition: RwLock<Arc<Edition>>,
    tickets: Mutex<Tickets>,
}

/// What seals tickets, and the authorities under which the sealed sessions were verified.
struct Tickets {
    ticketer: Arc<dyn ProducesTickets>,
    authorities: Option<Authorities>,
}

impl Current {
    /// The first edition.
    ///
    /// # Errors
    /// As [`build`].
    pub fn new(materials: &Materials, options: Options) -> Result<Self, TlsError> {
        let tickets = Tickets { ticketer: ticketer()?, authorities: materials.authorities.clone() };
        let edition = edition(materials, &options, &tickets)?;
        Ok(Self { options, edition: RwLock::new(edition), tickets: Mutex::new(tickets) })
    }

    /// The edition in force.
    #[must_use]
    pub fn get(&self) -> Arc<Edition> {
        // Nothing is half done under these locks, so that a panic elsewhere leaves them good.
        Arc::clone(&self.edition.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts another edition in force, for sessions that begin from now on, and returns it.
    ///
    /// # Errors
    /// As [`build`]; the one in force stays.
    pub fn replace(&self, materials: &Materials) -> Result<Arc<Edition>, TlsError> {
        let mut held = self.tickets.lock().unwrap_or_else(PoisonError::into_inner);
        let ticketer =
            if held.authorities == materials.authorities { Arc::clone(&held.ticketer) } else { ticketer()? };
        let tickets = Tickets { ticketer, authorities: materials.authorities.clone() };
        let edition = edition(materials, &self.options, &tickets)?;
        *held = tickets;
        *self.edition.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&edition);
        Ok(edition)
    }
}

impl fmt::Debug for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Current").field("options", &self.options).finish_non_exhaustive()
    }
}

fn edition(materials: &Materials, options: &Options, tickets: &Tickets) -> Result<Arc<Edition>, TlsError> {
    let config = build(materials, options, Arc::clone(&tickets.ticketer))?;
    let certificates = materials.pairs.iter().map(|pair| pair.facts().clone()).collect();
    let revocations = materials.authorities.as_ref().map(Authorities::revocations).unwrap_or_default();
    let revocations = revocations.to_vec();
    Ok(Arc::new(Edition { config, certificates, revocations }))
}
