//! The key region: pages that are made once, before the first secret is read, and handed out in slots.
//!
//! Owns the pages, and [`Slot`], the only way to them. Invariants: the pages are in no core file, and a guard page stands
//! on either side; a slot has one owner, and is zero when it is given and when it came back; after [`open`] nothing here makes a system
//! call but for the lock, which waits by futex.
//!
//! `unsafe`, because no crate that is used here has `memfd_secret`, and because nothing safe gives out memory at an
//! address of one's own. The file maps, locks and turns addresses into slices; what is free is counted in `slots`.

#![expect(unsafe_code, reason = "above, and with each block")]

use core::ptr::{self, NonNull};
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::sync::{Mutex, OnceLock, PoisonError};

use nix::libc;
use nix::sys::resource::{Resource, getrlimit};
use zeroize::zeroize_bytes;

use super::masked;
use super::slots::{Share, Slots};
use crate::limits::{KEY_REGION_MAX_BYTES, KEY_SLOT_MAX_BYTES};
use crate::model::Outcome;

static OPENED: OnceLock<Opened> = OnceLock::new();

struct Opened {
    region: Option<Region>,
    outcome: Outcome,
}

struct Region {
    start: NonNull<u8>,
    slots: Mutex<Slots>,
}

// SAFETY: `start` is only an address; the bytes behind it are reached through slots, of which the map gives no two the
// same, and the map stands behind a lock. The pages are never unmapped.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

/// Makes the region; later calls tell how that ended. To be called before the first secret is read, while there is one thread.
///
/// `Done`: memory that not even root reads, nor the kernel by its own map. `Partial`: locked memory. `Skipped`: a single page that may be
/// swapped. Secrets without room in it lie masked on the heap.
pub fn open() -> Outcome {
    let outcome = OPENED.get_or_init(make).outcome.clone();
    masked::prepare();
    outcome
}

/// A part of the region with one owner; wiped when dropped.
pub(super) struct Slot {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: a slot owns its bytes as a box does, and they are plain bytes.
unsafe impl Send for Slot {}
// SAFETY: as above; shared, it only reads.
unsafe impl Sync for Slot {}

impl Slot {
    /// A slot of `len` zero bytes, aligned to a granule; nothing without a region, or if it has no room.
    pub(super) fn take(len: usize, share: Share) -> Option<Self> {
        let region = OPENED.get()?.region.as_ref()?;
        let offset = region.slots.lock().unwrap_or_else(PoisonError::into_inner).take(len, share)?;
        // SAFETY: the map covers the pages behind `start` and nothing else.
        Some(Self { start: unsafe { region.start.add(offset) }, len })
    }

    /// Its bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: the map gave `len` bytes at `start` to this slot alone; they are mapped and initialised by the kernel.
        unsafe { core::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }

    /// Its bytes, to be written.
    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`, and `self` is borrowed mutably.
        unsafe { core::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }

    /// Where it begins.
    pub(super) const fn start(&self) -> NonNull<u8> {
        self.start
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        zeroize_bytes(self.bytes_mut());
        if let Some(region) = OPENED.get().and_then(|opened| opened.region.as_ref()) {
            let offset = self.start.addr().get() - region.start.addr().get();
            region.slots.lock().unwrap_or_else(PoisonError::into_inner).give_back(offset, self.len);
        }
    }
}

fn make() -> Opened {
    let (region, outcome) = match first(secret) {
        Ok(region) => (Some(region), Outcome::Done),
        Err(no_secret) => match first(locked) {
            Ok(region) => {
                let reason = format!("locked memory, which root can read: memfd_secret: {no_secret}");
                (Some(region), Outcome::Partial(reason))
            }
            Err(no_lock) => {
                let reason = format!("no memory can be locked: memfd_secret: {no_secret}, mlock: {no_lock}");
                (map(page_bytes(), unlocked).ok(), Outcome::Skipped(reason))
            }
        },
    };
    Opened { region, outcome }
}

/// The largest region that the limit on locked memory allows.
fn first(fit: fn(*mut libc::c_void, usize) -> io::Result<()>) -> io::Result<Region> {
    let (limit, _) = getrlimit(Resource::RLIMIT_MEMLOCK)?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let page = page_bytes();
    let half = (limit / 2).min(KEY_REGION_MAX_BYTES) / page * page;
    let bounded = if half == 0 && limit >= page { page } else { half };
    // Whose limit is below this gets it only if he is not bound by limits (CAP_IPC_LOCK).
    let whole = (limit < KEY_REGION_MAX_BYTES).then_some(KEY_REGION_MAX_BYTES);
    let mut refused = io::Error::from_raw_os_error(libc::EPERM);
    for len in whole.into_iter().chain((bounded > 0).then_some(bounded)) {
        match map(len, fit) {
            Ok(region) => return Ok(region),
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

/// Reserves `len` bytes between two guard pages, and has `fit` make memory of them.
fn map(len: usize, fit: fn(*mut libc::c_void, usize) -> io::Result<()>) -> io::Result<Region> {
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
    match fitted {
        Ok(start) => Ok(Region { start, slots: Mutex::new(Slots::new(len)) }),
        Err(error) => {
            // SAFETY: what was mapped above, with what `fit` put into it; nobody has been given any of it.
            unsafe { libc::munmap(reserved, whole) };
            Err(error)
        }
    }
}

/// Memory that is mapped here and nowhere else, not in the kernel either, is always in RAM, and in no core file.
fn secret(inner: *mut libc::c_void, len: usize) -> io::Result<()> {
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
fn locked(inner: *mut libc::c_void, len: usize) -> io::Result<()> {
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
fn unlocked(inner: *mut libc::c_void, len: usize) -> io::Result<()> {
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

fn page_bytes() -> usize {
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
    fn a_slot_is_zero_and_its_own_and_zero_again_for_the_next() {
        assert!(!matches!(open(), Outcome::Skipped(_)), "{}", open());
        let mut one = Slot::take(100, Share::Many).unwrap();
        let two = Slot::take(100, Share::Many).unwrap();
        assert_eq!(one.bytes(), [0; 100]);
        one.bytes_mut().fill(7);
        assert_eq!((one.bytes(), two.bytes()), ([7; 100].as_slice(), [0; 100].as_slice()));
        assert!(one.start().addr().get().is_multiple_of(crate::limits::KEY_REGION_GRANULE_BYTES));
    }

    #[test]
    fn each_kind_of_memory_is_what_it_says() {
        let kinds: [(fn(_, _) -> _, &str, bool); 3] =
            [(secret, "dd dc", true), (locked, "dd wf", true), (unlocked, "dd wf", false)];
        for (fit, flags, is_locked) in kinds {
            let region = match map(2 * page_bytes(), fit) {
                Ok(region) => region,
                Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => continue,
                Err(error) => panic!("{error}"),
            };
            let told = told(region.start);
            let line = told.lines().find(|line| line.starts_with("VmFlags:")).unwrap().to_owned();
            assert!(flags.split(' ').all(|flag| line.contains(flag)), "{told}");
            assert_eq!(line.contains(" lo"), is_locked, "{told}");
        }
    }

    #[test]
    fn what_stands_beside_the_region_cannot_be_touched() {
        let region = map(page_bytes(), unlocked).unwrap();
        let start = region.start.addr().get();
        for beside in [start - 1, start + page_bytes()] {
            let told = told(NonNull::new(ptr::without_provenance_mut(beside)).unwrap());
            assert!(told.lines().next().is_some_and(|line| line.contains(" ---p ")), "{told}");
        }
    }
}
