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
    if let Some(outcome) = foresee(ask(PR_GET_MDWE, 0))? {
        return Ok(outcome);
    }
    ask(PR_SET_MDWE, c_ulong::from(PR_MDWE_REFUSE_EXEC_GAIN))
        .map_err(|error| Failure::refused(STEP, error))?;
    confirm()?;
    Ok(Outcome::Done)
}

/// What is known before the flag is set, from what the kernel says of it; nothing if it has to be set.
fn foresee(asked: Result<c_int, Errno>) -> Result<Option<Outcome>, Failure> {
    match asked {
        // A parent may have set it, with or without the other one (not to be inherited).
        Ok(found) => Ok((found & REFUSED != 0).then_some(Outcome::Done)),
        Err(Errno::EINVAL) => {
            let reason =
                "the kernel is older than 6.3: the filters alone keep memory from becoming executable";
            Ok(Some(Outcome::Skipped(reason.to_owned())))
        }
        Err(error) => Err(Failure::refused(STEP, error)),
    }
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
    fn nothing_is_told_as_done_in_part_where_the_kernel_does_not_know_the_flag() {
        assert_eq!(foresee(Ok(0)), Ok(None));
        assert_eq!(foresee(Ok(REFUSED | 2)), Ok(Some(Outcome::Done)));
        assert!(matches!(foresee(Err(Errno::EINVAL)), Ok(Some(Outcome::Skipped(_)))));
        assert!(foresee(Err(Errno::EPERM)).is_err());
    }

    #[test]
    fn a_flag_that_is_not_set_is_not_confirmed() {
        // A kernel without it says EINVAL.
        let failure = confirm().unwrap_err();
        assert!(matches!(failure, Failure::Unconfirmed { .. } | Failure::Refused { .. }), "{failure}");
    }
}
