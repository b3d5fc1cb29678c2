//! What a page of metrics is made of: the counters of all threads, and what can be looked at.
//!
//! Owns [`Scene`]. Invariant: to look takes no lock that a request waits for, but for that of the configuration of TLS in force, and none
//! that is held while something is counted.

use std::sync::Arc;

use crate::audit::Office;
use crate::metrics::{Observed, Registry, Source};
use crate::reactor::Budget;
use crate::server::census::Census;
use crate::server::certificates::{self, InForce};
use crate::server::notify::DONE;
use crate::server::shared::Shared;

/// Everything that is asked when a page is made.
#[derive(Debug)]
pub(super) struct Scene {
    pub(super) registry: Registry,
    pub(super) census: Arc<Census>,
    pub(super) budget: Arc<Budget>,
    pub(super) office: Arc<Office>,
    pub(super) shared: Arc<Shared>,
    pub(super) tls: Option<InForce>,
}

impl Scene {
    pub(super) fn new(
        registry: Registry,
        (census, budget): (&Arc<Census>, &Arc<Budget>),
        office: Arc<Office>,
        shared: &Arc<Shared>,
        tls: Option<InForce>,
    ) -> Self {
        let (census, budget, shared) = (Arc::clone(census), Arc::clone(budget), Arc::clone(shared));
        Self { registry, census, budget, office, shared, tls }
    }
}

impl Source for Scene {
    fn registry(&self) -> &Registry {
        &self.registry
    }

    fn observe(&self) -> Observed {
        let progress = self.shared.progress();
        Observed {
            connections: (self.census.connections(), self.census.places()),
            handshaking: self.census.handshakes(),
            memory_limit_bytes: self.budget.total_bytes(),
            memory_held_bytes: self.budget.made_bytes(),
            memory_leased_bytes: self.budget.leased_bytes(),
            memory_strangers_bytes: self.budget.strangers_bytes(),
            audit_file_bytes: self.office.length(),
            workers: progress.len(),
            turns: progress.iter().filter(|turns| **turns != DONE).sum(),
            certificates: self.tls.as_ref().map(certificates::ends).unwrap_or_default(),
        }
    }
}
