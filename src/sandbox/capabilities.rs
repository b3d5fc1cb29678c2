//! Capabilities: all five sets of the calling thread are emptied.
//!
//! Owns the sets. Invariant: after [`clear`] none can be raised again, which it proves by trying.

use caps::{CapSet, Capability};

use super::Failure;
use crate::model::Outcome;

const BOUNDING: &str = "capability bounding set";
const AMBIENT: &str = "ambient capabilities";
const SETS: &str = "capability sets";

/// The outcome of a step that is skipped because this thread does not hold what it needs; nothing if it does.
pub(super) fn unless_held(step: &'static str, needed: Capability) -> Result<Option<Outcome>, Failure> {
    let held =
        caps::has_cap(None, CapSet::Effective, needed).map_err(|error| Failure::refused(step, error))?;
    Ok((!held).then(|| Outcome::Skipped(format!("{needed} is absent"))))
}

/// Empties the bounding set: what no executed file can ever give back.
pub(super) fn clear_bounding() -> Result<Outcome, Failure> {
    if let Some(skipped) = unless_held(BOUNDING, Capability::CAP_SETPCAP)? {
        return Ok(skipped);
    }
    caps::clear(None, CapSet::Bounding).map_err(|error| Failure::refused(BOUNDING, error))?;
    Ok(Outcome::Done)
}

/// What a server needs that starts as root: to make its data directory and give it away, to leave the host's namespaces and root, and
/// to become another user; and what its supervisor needs to signal it then.
const OF_A_START: [Capability; 8] = [
    Capability::CAP_CHOWN,
    Capability::CAP_DAC_OVERRIDE,
    Capability::CAP_FOWNER,
    Capability::CAP_KILL,
    Capability::CAP_SETGID,
    Capability::CAP_SETUID,
    Capability::CAP_SETPCAP,
    Capability::CAP_SYS_ADMIN,
];

/// Gives up every capability but those of a start, for this process and for what it executes.
pub(super) fn restrict() -> Result<(), Failure> {
    let refused = |error| Failure::refused(SETS, error);
    if unless_held(BOUNDING, Capability::CAP_SETPCAP)?.is_none() {
        for capability in caps::read(None, CapSet::Bounding).map_err(refused)? {
            if !OF_A_START.contains(&capability) {
                caps::drop(None, CapSet::Bounding, capability).map_err(refused)?;
            }
        }
    }
    clear_ambient()?;
    caps::clear(None, CapSet::Inheritable).map_err(refused)?;
    let mut kept = caps::read(None, CapSet::Permitted).map_err(refused)?;
    kept.retain(|capability| OF_A_START.contains(capability));
    for set in [CapSet::Effective, CapSet::Permitted] {
        caps::set(None, set, &kept).map_err(refused)?;
    }
    Ok(())
}

/// Empties the ambient set: what an executed file without capabilities of its own would keep.
pub(super) fn clear_ambient() -> Result<Outcome, Failure> {
    caps::clear(None, CapSet::Ambient).map_err(|error| Failure::refused(AMBIENT, error))?;
    Ok(Outcome::Done)
}

/// Empties the effective, permitted and inheritable sets and proves that none of them can be raised again.
pub(super) fn clear() -> Result<Outcome, Failure> {
    // Clearing the permitted set clears the effective one with it.
    for set in [CapSet::Inheritable, CapSet::Permitted] {
        caps::clear(None, set).map_err(|error| Failure::refused(SETS, error))?;
    }
    for set in [CapSet::Permitted, CapSet::Effective, CapSet::Inheritable] {
        let regained = caps::raise(None, set, Capability::CAP_SETUID).is_ok();
        Failure::unless_equal("capability regained by trying", &false, &regained)?;
    }
    Ok(Outcome::Done)
}
