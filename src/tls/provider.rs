//! The seam to the library of algorithms: nothing else in the tree names it.
//!
//! Owns [`provider`], [`ticketer`] and [`warm_up`]. Invariants: key exchange is hybrid with ML-KEM where the peer can do it;
//! there is no suite without forward secrecy and authenticated encryption; nothing is left to be set up after
//! [`warm_up`], which runs before the lock-down.

use std::sync::{Arc, LazyLock};

use rustls::NamedGroup;
use rustls::crypto::{CryptoProvider, aws_lc_rs as library};
use rustls::server::ProducesTickets;

use crate::tls::TlsError;
use crate::tls::self_signed::PrivateKey;

/// Most preferred first.
const GROUPS: [NamedGroup; 4] =
    [NamedGroup::X25519MLKEM768, NamedGroup::X25519, NamedGroup::secp256r1, NamedGroup::secp384r1];

/// The algorithms. Which suites come to use depends on the versions: those of TLS 1.2 among them are ephemeral and
/// authenticated too, and are offered only where that version is.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
        let mut provider = library::default_provider();
        let place = |group: NamedGroup| GROUPS.iter().position(|known| *known == group);
        provider.kx_groups.retain(|group| place(group.name()).is_some());
        provider.kx_groups.sort_by_key(|group| place(group.name()));
        Arc::new(provider)
    });
    Arc::clone(&PROVIDER)
}

/// Seals session tickets under keys of this process that it replaces every six hours.
///
/// # Errors
/// [`TlsError::Random`].
pub fn ticketer() -> Result<Arc<dyn ProducesTickets>, TlsError> {
    library::Ticketer::new().map_err(|_| TlsError::Random)
}

/// Uses once what every handshake uses: the generator (which reads `/sys` and gathers its own entropy the first time), each group
/// and a signature.
///
/// # Errors
/// [`TlsError::Random`] or [`TlsError::Library`].
pub fn warm_up() -> Result<(), TlsError> {
    let provider = provider();
    let failed = |error: rustls::Error| TlsError::Library(error.to_string());
    provider.secure_random.fill(&mut [0; 32]).map_err(|_| TlsError::Random)?;
    for group in &provider.kx_groups {
        let ours = group.start().map_err(failed)?;
        let theirs = group.start_and_complete(ours.pub_key()).map_err(failed)?;
        ours.complete(&theirs.pub_key).map_err(failed)?;
    }
    PrivateKey::generate()?.sign(b"warm-up")?;
    let ticketer = ticketer()?;
    let sealed = ticketer.encrypt(b"warm-up").ok_or(TlsError::Random)?;
    ticketer.decrypt(&sealed).map(drop).ok_or(TlsError::Random)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_stand_in_order_and_all_of_them_work() {
        let names: Vec<NamedGroup> = provider().kx_groups.iter().map(|group| group.name()).collect();
        assert_eq!(names, GROUPS);
        warm_up().unwrap();
    }
}
