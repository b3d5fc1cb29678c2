//! The key region: pages that are made once, before the first secret is read, and handed out in slots.
//!
//! Owns the pages, and [`Slot`], the only way to them. Invariants: the pages are in no core file, and a guard page stands
//! on either side; a slot has one owner, and is zero when it is given and when it came back; after [`open`] nothing here makes a system
//! call but for the lock, which waits by futex.
//!
//! `unsafe`, because nothing safe gives out memory at an address of one's own: addresses become slices here. `pages` maps them,
//! and what is free is counted in `slots`.

#![expect(unsafe_code, reason = "above, and with each block")]

use core::ptr::NonNull;
use std::io;
use std::sync::{Mutex, OnceLock, PoisonError};

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit};
use zeroize::zeroize_bytes;

use super::masked::KEY_BYTES;
use super::pages::{self, Kind, page_bytes};
use super::slots::{Share, Slots};
use super::{locked, masked};
use crate::limits::{KEY_REGION_MAX_BYTES, KEY_REGION_UNLOCKED_BYTES};
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
/// `Done`: memory that not even root reads, nor the kernel by its own map. `Partial`: locked memory. `Skipped`: pages that may be
/// swapped, for the process's own state alone. Secrets without room lie masked on the heap, under a key that `draw` fills: it tells
/// whether it could.
pub fn open(draw: impl FnOnce(&mut [u8; KEY_BYTES]) -> bool) -> Outcome {
    let outcome = OPENED.get_or_init(make).outcome.clone();
    masked::prepare(draw);
    locked::begin();
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
    let (region, outcome) = match largest(pages::secret) {
        Ok(region) => (Some(region), Outcome::Done),
        Err(no_secret) => match largest(pages::locked) {
            Ok(region) => {
                let reason = format!("locked memory, which root can read: memfd_secret: {no_secret}");
                (Some(region), Outcome::Partial(reason))
            }
            Err(no_lock) => {
                let reason = format!("no memory can be locked: memfd_secret: {no_secret}, mlock: {no_lock}");
                let bytes = KEY_REGION_UNLOCKED_BYTES;
                let region = Region::make(bytes, pages::unlocked, Slots::of_process(bytes));
                (region.ok(), Outcome::Skipped(reason))
            }
        },
    };
    Opened { region, outcome }
}

impl Region {
    fn make(len: usize, kind: Kind, slots: Slots) -> io::Result<Self> {
        Ok(Self { start: pages::map(len, kind)?, slots: Mutex::new(slots) })
    }
}

/// The largest region that the limit on locked memory allows.
fn largest(kind: Kind) -> io::Result<Region> {
    let (limit, _) = getrlimit(Resource::RLIMIT_MEMLOCK)?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let page = page_bytes();
    let half = (limit / 2).min(KEY_REGION_MAX_BYTES) / page * page;
    let bounded = if half == 0 && limit >= page { page } else { half };
    // Whose limit is below this gets it only if he is not bound by limits (CAP_IPC_LOCK).
    let whole = (limit < KEY_REGION_MAX_BYTES).then_some(KEY_REGION_MAX_BYTES);
    let mut refused = io::Error::from(Errno::EPERM);
    for len in whole.into_iter().chain((bounded > 0).then_some(bounded)) {
        match Region::make(len, kind, Slots::new(len)) {
            Ok(region) => return Ok(region),
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

/// The same under a key that needs no kernel.
#[cfg(test)]
pub(super) fn open_for_test() -> Outcome {
    open(|key| {
        key.fill(0x5A);
        true
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_zero_and_its_own_and_zero_again_for_the_next() {
        assert!(!matches!(open_for_test(), Outcome::Skipped(_)), "{}", open_for_test());
        let mut one = Slot::take(100, Share::Many).unwrap();
        let two = Slot::take(100, Share::Many).unwrap();
        assert_eq!(one.bytes(), [0; 100]);
        one.bytes_mut().fill(7);
        assert_eq!((one.bytes(), two.bytes()), ([7; 100].as_slice(), [0; 100].as_slice()));
        assert!(one.start().addr().get().is_multiple_of(crate::limits::KEY_REGION_GRANULE_BYTES));
    }
}
