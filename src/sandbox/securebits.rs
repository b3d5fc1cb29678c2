//! Securebits: user 0 is nothing special, and no change of user touches the capability sets.
//!
//! Owns the bits and their locks. Invariant: all but `KEEP_CAPS` itself are set and locked (0xef), or none is
//! touched because `CAP_SETPCAP` is absent.

use rustix::thread::{CapabilitiesSecureBits, capabilities_secure_bits, set_capabilities_secure_bits};

use super::{Failure, capabilities};
use crate::model::Outcome;

const STEP: &str = "securebits";
const LOCKED: CapabilitiesSecureBits = CapabilitiesSecureBits::NO_ROOT
    .union(CapabilitiesSecureBits::NO_ROOT_LOCKED)
    .union(CapabilitiesSecureBits::NO_SETUID_FIXUP)
    .union(CapabilitiesSecureBits::NO_SETUID_FIXUP_LOCKED)
    .union(CapabilitiesSecureBits::KEEP_CAPS_LOCKED)
    .union(CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE)
    .union(CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE_LOCKED);

/// Sets and locks the bits.
pub(super) fn lock() -> Result<Outcome, Failure> {
    if let Some(skipped) = capabilities::unless_held(STEP, caps::Capability::CAP_SETPCAP)? {
        return Ok(skipped);
    }
    set_capabilities_secure_bits(LOCKED).map_err(|error| Failure::refused(STEP, error))?;
    let found = capabilities_secure_bits().map_err(|error| Failure::refused(STEP, error))?;
    Failure::unless_equal(STEP, &LOCKED, &found)?;
    Ok(Outcome::Done)
}
