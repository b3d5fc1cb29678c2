//! Where a heap takes its pages from: the kernel, or one region that was reserved.
//!
//! Owns [`Region`] and [`Pages`]. Invariants: a region is private, never executable and in no core file, with a page behind and
//! before it that cannot be touched; a closed source makes no system call. Unsafe because mapping is: rustix has it as
//! unsafe calls, for the kernel knows nothing of Rust's references.

#![expect(unsafe_code, reason = "mapping memory is unsafe: the kernel knows nothing of references")]

use core::ffi::c_void;
use core::fmt;
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};

use rustix::mm::{Advice, MapFlags, MprotectFlags, ProtFlags, madvise, mmap_anonymous, mprotect, munmap};

use crate::limits::ARENA_GRAIN_BYTES;

/// Reserved address space for a heap. Its pages become memory when they are first written.
#[derive(Debug)]
pub struct Region {
    base: *mut u8,
    bytes: usize,
}

// SAFETY: the pages belong to whoever holds the region; nothing about them is bound to a thread.
unsafe impl Send for Region {}

/// The kernel gives less address space than is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// What would have been enough, what stays free beside it included.
    pub needed_bytes: usize,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the system has no {} bytes of address space left for this process", self.needed_bytes)
    }
}

impl std::error::Error for Refused {}

impl Region {
    /// Reserves `wanted_bytes`, or as much less as there is, but not less than `least_bytes`; so that `beside_bytes` are
    /// left for other mappings.
    ///
    /// # Errors
    /// [`Refused`] if not even the least is there.
    pub fn reserve(least_bytes: usize, wanted_bytes: usize, beside_bytes: usize) -> Result<Self, Refused> {
        let refused = Refused { needed_bytes: least_bytes.saturating_add(beside_bytes) };
        let mut bytes = wanted_bytes.max(least_bytes);
        loop {
            match Self::map(bytes, beside_bytes) {
                Some(region) => return Ok(region),
                None if bytes <= least_bytes => return Err(refused),
                // An eighth less each time: what is left unused of a limit is at most that.
                None => bytes = (bytes - bytes / 8).max(least_bytes),
            }
        }
    }

    /// How large it is.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    fn map(bytes: usize, beside_bytes: usize) -> Option<Self> {
        let bytes = bytes.checked_next_multiple_of(ARENA_GRAIN_BYTES)?;
        let beside = beside_bytes.checked_next_multiple_of(ARENA_GRAIN_BYTES)?;
        let guarded = bytes.checked_add(2 * ARENA_GRAIN_BYTES)?;
        let whole = guarded.checked_add(beside)?;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: a new mapping at a place of the kernel's choice touches nothing that exists.
        let start = unsafe { mmap_anonymous(ptr::null_mut(), whole, READ_WRITE, flags) }.ok()?.cast::<u8>();
        let base = start.wrapping_add(ARENA_GRAIN_BYTES);
        let after = base.wrapping_add(bytes);
        // SAFETY: all three lie in the mapping that was just made, of which nobody has a pointer yet.
        let fenced = unsafe {
            let tail = if beside > 0 { munmap(start.wrapping_add(guarded).cast(), beside) } else { Ok(()) };
            tail.and(fence(start)).and(fence(after))
        };
        if fenced.is_err() {
            return None;
        }
        // A core file is forbidden in other ways too. Large pages would make memory of what nobody has written. A kernel
        // that knows neither has neither.
        for advice in [Advice::LinuxDontDump, Advice::LinuxNoHugepage] {
            // SAFETY: these two change no byte.
            let _ = unsafe { madvise(base.cast(), bytes, advice) };
        }
        Some(Self { base, bytes })
    }
}

const READ_WRITE: ProtFlags = ProtFlags::READ.union(ProtFlags::WRITE);

/// Makes one grain untouchable.
///
/// # Safety
/// Nobody has a pointer into it.
unsafe fn fence(start: *mut u8) -> rustix::io::Result<()> {
    // SAFETY: the caller's promise.
    unsafe { mprotect(start.cast::<c_void>(), ARENA_GRAIN_BYTES, MprotectFlags::empty()) }
}

/// What `dlmalloc` asks for memory.
#[derive(Debug)]
pub(super) struct Pages {
    closed: bool,
    /// The region that was reserved, until it is handed over as one piece.
    base: AtomicPtr<u8>,
    bytes: usize,
}

/// How `dlmalloc` is to treat the region: it is never merged with another segment (whose own bits are 0), and never given back.
const REGION_FLAGS: u32 = 0b11;

impl Pages {
    pub(super) const fn of_kernel() -> Self {
        Self { closed: false, base: AtomicPtr::new(ptr::null_mut()), bytes: 0 }
    }

    #[expect(clippy::needless_pass_by_value, reason = "the region has one owner, which is this from here on")]
    pub(super) fn close(&mut self, region: Region) {
        let Region { base, bytes } = region;
        (self.closed, self.base, self.bytes) = (true, AtomicPtr::new(base), bytes);
    }
}

// SAFETY: what `alloc` returns is mapped readable and writable, is nobody else's, and stays so until `free` or `free_part`
// unmaps it, which the heap asks for only when it holds nothing there any more.
unsafe impl dlmalloc::Allocator for Pages {
    fn alloc(&self, size: usize) -> (*mut u8, usize, u32) {
        if self.closed {
            let base = self.base.swap(ptr::null_mut(), Ordering::Relaxed);
            return (base, self.bytes, REGION_FLAGS);
        }
        // SAFETY: a new mapping at a place of the kernel's choice touches nothing that exists.
        match unsafe { mmap_anonymous(ptr::null_mut(), size, READ_WRITE, MapFlags::PRIVATE) } {
            Ok(base) => (base.cast(), size, 0),
            Err(_) => (ptr::null_mut(), 0, 0),
        }
    }

    /// Never: no piece of this heap is a mapping of its own.
    fn remap(&self, _base: *mut u8, _old: usize, _new: usize, _can_move: bool) -> *mut u8 {
        ptr::null_mut()
    }

    fn free_part(&self, base: *mut u8, old: usize, new: usize) -> bool {
        // SAFETY: the heap holds nothing behind `new` any more.
        !self.closed && unsafe { munmap(base.wrapping_add(new).cast(), old - new) }.is_ok()
    }

    fn free(&self, base: *mut u8, size: usize) -> bool {
        // SAFETY: the heap holds nothing there any more.
        !self.closed && unsafe { munmap(base.cast(), size) }.is_ok()
    }

    fn can_release_part(&self, _flags: u32) -> bool {
        !self.closed
    }

    fn allocates_zeros(&self) -> bool {
        true
    }

    fn page_size(&self) -> usize {
        ARENA_GRAIN_BYTES
    }
}
