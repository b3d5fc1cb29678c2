//! Pages for secrets: mapped between two guard pages, and kept out of swap, core files and children as far as the system allows.
//!
//! Owns [`Kind`]. Invariant: what was mapped stays mapped, or nothing of it was ever given out.
//!
//! `unsafe`, because no crate that is used here has `memfd_secret`, and because the calls for the others take addresses.

#![expect(unsafe_code, reason = "above, and with each block")]

use core::ptr::{self, NonNull};
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use nix::libc;

use crate::limits::KEY_SLOT_MAX_BYTES;

/// How pages are kept: [`secret`], [`locked`] or [`unlocked`].
pub(super) type Kind = fn(*mut libc::c_void, usize) -> io::Result<()>;

/// Reserves `len` bytes, whole pages, between two guard pages, and has `fit` make zero memory of them.
pub(super) fn map(len: usize, fit: Kind) -> io::Result<NonNull<u8>> {
    let page = page_bytes();
    let whole = len + 2 * page;
    // SAFETY: a new mapping at an address of the kernel's choice touches nothing that is there.
    let reserved = unsafe {
        libc::mmap(ptr::null_mut(), whole, libc::PROT_NONE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)
    };
    if reserved == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    let inner = reserved.wrapping_byte_add(page);
    let fitted =
        fit(inner, len).and_then(|()| NonNull::new(inner.cast()).ok_or_else(io::Error::last_os_error));
    fitted.inspect_err(|_| {
        // SAFETY: what was mapped above, with what `fit` put into it; nobody has been given any of it.
        unsafe { libc::munmap(reserved, whole) };
    })
}

/// Memory that is mapped here and nowhere else, not in the kernel either, is always in RAM, and in no core file.
pub(super) fn secret(inner: *mut libc::c_void, len: usize) -> io::Result<()> {
    // SAFETY: the call takes a number and returns a descriptor, which nobody else has.
    let fd = unsafe {
        let fd = libc::syscall(libc::SYS_memfd_secret, libc::O_CLOEXEC);
        OwnedFd::from_raw_fd(i32::try_from(done(fd)?).map_err(io::Error::other)?)
    };
    nix::unistd::ftruncate(&fd, i64::try_from(len).map_err(io::Error::other)?)?;
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: `inner` and `len` lie within what `map` has just reserved and nobody uses.
    let mapped =
        unsafe { libc::mmap(inner, len, access, libc::MAP_SHARED | libc::MAP_FIXED, fd.as_raw_fd(), 0) };
    if mapped == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: advice for the pages of `map` alone. A child does not get them: it would share them.
    done(unsafe { libc::madvise(inner, len, libc::MADV_DONTFORK) }.into()).map(drop)
}

/// Memory that is not swapped once it was touched, in no core file, and zero in a child.
pub(super) fn locked(inner: *mut libc::c_void, len: usize) -> io::Result<()> {
    unlocked(inner, len)?;
    // SAFETY: both calls change how the kernel keeps these pages, not what is in them.
    done(unsafe {
        match libc::syscall(libc::SYS_mlock2, inner, len, libc::MLOCK_ONFAULT) {
            0 => 0,
            _ => libc::mlock(inner, len).into(),
        }
    })
    .map(drop)
}

/// Memory in no core file, and zero in a child.
pub(super) fn unlocked(inner: *mut libc::c_void, len: usize) -> io::Result<()> {
    // SAFETY: `inner` and `len` lie within what `map` has just reserved and nobody uses.
    unsafe {
        done(libc::mprotect(inner, len, libc::PROT_READ | libc::PROT_WRITE).into())?;
        done(libc::madvise(inner, len, libc::MADV_DONTDUMP).into())?;
        done(libc::madvise(inner, len, libc::MADV_WIPEONFORK).into()).map(drop)
    }
}

fn done(result: i64) -> io::Result<i64> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The size of a page.
#[must_use]
pub fn page_bytes() -> usize {
    // SAFETY: the call reads a number.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(page).unwrap_or(KEY_SLOT_MAX_BYTES * 2)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// What the kernel says of the mapping that holds `at`.
    fn told(at: NonNull<u8>) -> String {
        let all = fs::read_to_string("/proc/self/smaps").unwrap();
        let mut of_it = false;
        let lines = all.lines().filter(|line| {
            let range = line.split_once(' ').and_then(|(range, _)| range.split_once('-'));
            if let Some((from, to)) = range {
                let bounds = [from, to].map(|bound| usize::from_str_radix(bound, 16).unwrap_or(0));
                of_it = (bounds[0]..bounds[1]).contains(&at.addr().get());
            }
            of_it
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn each_kind_of_memory_is_what_it_says() {
        let kinds: [(Kind, &str, bool); 3] =
            [(secret, "dd dc", true), (locked, "dd wf", true), (unlocked, "dd wf", false)];
        for (fit, flags, is_locked) in kinds {
            let start = match map(2 * page_bytes(), fit) {
                Ok(start) => start,
                Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => continue,
                Err(error) => panic!("{error}"),
            };
            let told = told(start);
            let line = told.lines().find(|line| line.starts_with("VmFlags:")).unwrap().to_owned();
            assert!(flags.split(' ').all(|flag| line.contains(flag)), "{told}");
            assert_eq!(line.contains(" lo"), is_locked, "{told}");
        }
    }

    #[test]
    fn what_stands_beside_the_region_cannot_be_touched() {
        let start = map(page_bytes(), unlocked).unwrap().addr().get();
        for beside in [start - 1, start + page_bytes()] {
            let told = told(NonNull::new(ptr::without_provenance_mut(beside)).unwrap());
            assert!(told.lines().next().is_some_and(|line| line.contains(" ---p ")), "{told}");
        }
    }
}
