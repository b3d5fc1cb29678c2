//! The memory of the process: one heap, which the lock-down closes.
//!
//! Owns [`ProcessHeap`], the allocator of the program, [`close`], and [`zeroed`] for memory that may be refused. Invariants: once it
//! is closed, no thread asks the kernel for memory, gives it back or changes how it may be used, so that the filters
//! need no call for that; a request that nothing can serve ends the process with [`Exit::System`] and a line, unless the
//! caller has said that it can do without. What is freed stays with the process, for the next request: its resident memory is
//! what it once needed at most.

use core::alloc::{GlobalAlloc, Layout};
use core::cell::Cell;

mod arena;
mod pages;

pub use arena::Arena;
pub use pages::{Refused, Region};

use crate::exit::Exit;
use crate::log::{self, Module};

static HEAP: Arena = Arena::new();

thread_local! {
    /// Whether this thread can do without what it asks for.
    static MAY_BE_REFUSED: Cell<bool> = const { Cell::new(false) };
}

const SPENT: &str = "memory is spent, the process ends: lower --max-memory or --max-connections, \
                     or raise the limit of its address space";

/// Takes one last region from the kernel, which from here on serves every request that the heap has no room for.
///
/// # Errors
/// [`Refused`]; the heap is as it was.
pub fn close(least_bytes: usize, wanted_bytes: usize, beside_bytes: usize) -> Result<usize, Refused> {
    let region = Region::reserve(least_bytes, wanted_bytes, beside_bytes)?;
    let bytes = region.bytes();
    HEAP.close(region);
    Ok(bytes)
}

/// Zero bytes on the heap; nothing if there is no room for them.
#[must_use]
pub fn zeroed(bytes: usize) -> Option<Box<[u8]>> {
    let mut all = Vec::new();
    MAY_BE_REFUSED.set(true);
    let reserved = all.try_reserve_exact(bytes);
    MAY_BE_REFUSED.set(false);
    reserved.ok()?;
    all.resize(bytes, 0);
    Some(all.into_boxed_slice())
}

/// The allocator of the program, for `main.rs` and for what C code calls.
#[derive(Clone, Copy, Debug)]
pub struct ProcessHeap;

/// Ends the process if `pointer` is none and the thread cannot do without.
#[inline]
fn served(pointer: *mut u8) -> *mut u8 {
    if pointer.is_null() && !MAY_BE_REFUSED.get() {
        spent();
    }
    pointer
}

#[cold]
fn spent() -> ! {
    log::last_words(Module::Server, format_args!("{SPENT}"));
    Exit::System.leave()
}

#[expect(unsafe_code, reason = "a global allocator is unsafe by nature")]
// SAFETY: every call is handed on to one `Arena` as it came, which keeps the contract.
unsafe impl GlobalAlloc for ProcessHeap {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `alloc`.
        served(unsafe { HEAP.alloc(layout) })
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        served(unsafe { HEAP.alloc_zeroed(layout) })
    }

    #[inline]
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` came from `HEAP` through this allocator, with this layout.
        unsafe { HEAP.dealloc(pointer, layout) }
    }

    #[inline]
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above, and the caller keeps the contract of `realloc`.
        served(unsafe { HEAP.realloc(pointer, layout, size) })
    }
}

#[expect(unsafe_code, reason = "what C code calls has no layout: only the caller knows what a pointer is")]
impl ProcessHeap {
    /// `malloc` of C.
    #[must_use]
    pub fn c_alloc(size: usize) -> *mut u8 {
        served(HEAP.c_alloc(size))
    }

    /// `aligned_alloc` of C; null if `align` is not a power of two.
    #[must_use]
    pub fn c_aligned(size: usize, align: usize) -> *mut u8 {
        if !align.is_power_of_two() {
            return core::ptr::null_mut();
        }
        // SAFETY: `align` is a power of two.
        served(unsafe { HEAP.c_aligned(size, align) })
    }

    /// `calloc` of C, of a size that was multiplied already.
    #[must_use]
    pub fn c_zeroed(size: usize) -> *mut u8 {
        let pointer = served(HEAP.c_alloc(size));
        // SAFETY: `size` bytes at `pointer`, which is not null, were given to this call alone.
        unsafe { pointer.write_bytes(0, size) };
        pointer
    }

    /// `realloc` of C.
    ///
    /// # Safety
    /// `pointer` is null or came from this heap and was not freed.
    #[must_use]
    pub unsafe fn c_realloc(pointer: *mut u8, size: usize) -> *mut u8 {
        // SAFETY: the caller's promise is the one that is asked for.
        served(unsafe { HEAP.c_realloc(pointer, size) })
    }

    /// `free` of C.
    ///
    /// # Safety
    /// `pointer` is null or came from this heap and was not freed.
    pub unsafe fn c_free(pointer: *mut u8) {
        // SAFETY: the caller's promise is the one that is asked for.
        unsafe { HEAP.c_free(pointer) }
    }
}
