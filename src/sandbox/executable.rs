//! No new code: memory that is or was writable never becomes executable, in any thread (`PR_SET_MDWE`, Linux 6.3).
//!
//! Owns the flag, which cannot be cleared. A second wall behind the filters, which have no call on memory at all. Neither rustix nor
//! nix has a call for it.

use nix::errno::Errno;
use nix::libc::{PR_GET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, PR_SET_MDWE, c_int, c_ulong, prctl};

use super::{Failure, left_out};
use crate::model::{Outcome, Step};

const STEP: &str = Step::NoNewCode.name();
/// What is set.
const REFUSED: c_int = PR_MDWE_REFUSE_EXEC_GAIN.cast_signed();

/// Sets the flag.
pub(super) fn forbid_new() -> Result<Outcome, Failure> {
    match ask(PR_GET_MDWE, 0) {
        // A parent may have set it, with or without the other one (not to be inherited).
        Ok(found) if found & REFUSED != 0 => return Ok(Outcome::Done),
        Ok(_) => {}
        Err(Errno::EINVAL) => {
            let reason =
                "the kernel is older than 6.3: the filters alone keep memory from becoming executable";
            return Ok(Outcome::Partial(reason.to_owned()));
        }
        Err(error) => return Err(Failure::refused(STEP, error)),
    }
    ask(PR_SET_MDWE, c_ulong::from(PR_MDWE_REFUSE_EXEC_GAIN))
        .map_err(|error| Failure::refused(STEP, error))?;
    confirm()?;
    Ok(Outcome::Done)
}

/// Fails unless the flag is set.
pub(super) fn confirm() -> Result<(), Failure> {
    let found = ask(PR_GET_MDWE, 0).map_err(|error| Failure::refused(STEP, error))?;
    left_out::tolerate(Step::NoNewCode, Failure::unless_equal(STEP, &REFUSED, &(found & REFUSED)))
}

#[expect(unsafe_code, reason = "rustix and nix have no safe call for it")]
fn ask(option: c_int, argument: c_ulong) -> Result<c_int, Errno> {
    let none: c_ulong = 0;
    // SAFETY: both options take numbers, no pointer, and change nothing of what memory holds.
    Errno::result(unsafe { prctl(option, argument, none, none, none) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_that_is_not_set_is_not_confirmed() {
        // A kernel without it says EINVAL.
        let failure = confirm().unwrap_err();
        assert!(matches!(failure, Failure::Unconfirmed { .. } | Failure::Refused { .. }), "{failure}");
    }
}
