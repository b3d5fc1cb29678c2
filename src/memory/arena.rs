//! A heap that can be closed: `dlmalloc` behind one lock.
//!
//! Owns [`Arena`]. Invariant: all of its memory is free or in use by one owner; what is freed is taken again before new
//! pages are. Unsafe because an allocator is: the bookkeeping lies in the memory that it hands out, and no crate offers that
//! safely over pages of one's own.

#![expect(unsafe_code, reason = "an allocator is unsafe by nature")]

use core::alloc::{GlobalAlloc, Layout};
use core::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use dlmalloc::Dlmalloc;

use super::pages::{Pages, Region};

/// A heap; it takes memory from the kernel until it is closed.
pub struct Arena(Mutex<Dlmalloc<Pages>>);

impl Arena {
    /// An empty heap.
    #[must_use]
    pub const fn new() -> Self {
        Self(Mutex::new(Dlmalloc::new_with_allocator(Pages::of_kernel())))
    }

    /// From here on the heap has what it has, and `region`. What is freed no longer goes back to the kernel.
    pub fn close(&self, region: Region) {
        let mut heap = self.lock();
        // SAFETY: it gives back what no block lies in.
        unsafe { heap.trim(0) };
        // The search for segments to give back would find none.
        heap.set_max_release_check_rate(0);
        heap.allocator_mut().close(region);
    }

    /// No thread waits for long: under the lock nothing is called that allocates, panics or waits. A waiting thread spins for a
    /// moment, then waits in `futex` without a time limit.
    #[inline]
    fn lock(&self) -> MutexGuard<'_, Dlmalloc<Pages>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[inline]
    pub(super) fn c_alloc(&self, size: usize) -> *mut u8 {
        // SAFETY: it asks for nothing.
        unsafe { self.lock().c_malloc(size) }
    }

    /// # Safety
    /// `align` is a power of two.
    #[inline]
    pub(super) unsafe fn c_aligned(&self, size: usize, align: usize) -> *mut u8 {
        // SAFETY: the caller's promise is the one that is asked for.
        unsafe { self.lock().c_memalign(align, size) }
    }

    /// # Safety
    /// `pointer` is null or came from this heap and was not freed.
    #[inline]
    pub(super) unsafe fn c_realloc(&self, pointer: *mut u8, size: usize) -> *mut u8 {
        // SAFETY: the caller's promise is the one that is asked for.
        unsafe { self.lock().c_realloc(pointer, size) }
    }

    /// # Safety
    /// `pointer` is null or came from this heap and was not freed.
    #[inline]
    pub(super) unsafe fn c_free(&self, pointer: *mut u8) {
        // SAFETY: the caller's promise is the one that is asked for.
        unsafe { self.lock().c_free(pointer) }
    }
}

impl Default for Arena {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Arena {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arena").finish_non_exhaustive()
    }
}

// SAFETY: `Dlmalloc` keeps the contract of `GlobalAlloc` for one thread at a time; the lock sees to that. It does not
// unwind: it panics only if its own records were overwritten, and a panic ends this program.
unsafe impl GlobalAlloc for Arena {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: a layout's alignment is a power of two.
        unsafe { self.lock().malloc(layout.size(), layout.align()) }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        let pointer = unsafe { self.alloc(layout) };
        if !pointer.is_null() {
            // Outside the lock. SAFETY: these bytes were just given to this call alone.
            unsafe { pointer.write_bytes(0, layout.size()) };
        }
        pointer
    }

    #[inline]
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller promises that `pointer` came from this heap, with this layout.
        unsafe { self.lock().free(pointer, layout.size(), layout.align()) }
    }

    #[inline]
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above.
        unsafe { self.lock().realloc(pointer, layout.size(), layout.align(), size) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REGION: usize = 1 << 20;
    const BLOCK: Layout = match Layout::from_size_align(64 << 10, 16) {
        Ok(layout) => layout,
        Err(_) => panic!(),
    };

    fn closed() -> Arena {
        let arena = Arena::new();
        arena.close(Region::reserve(REGION, REGION, 0).unwrap());
        arena
    }

    /// Takes blocks until there is no more, each filled with a byte of its own.
    fn fill(arena: &Arena) -> Vec<*mut u8> {
        let mut all = Vec::new();
        loop {
            // SAFETY: the layout is not empty; what comes back is written within its size.
            unsafe {
                let block = arena.alloc(BLOCK);
                if block.is_null() {
                    return all;
                }
                block.write_bytes(u8::try_from(all.len()).unwrap() + 1, BLOCK.size());
                all.push(block);
            }
        }
    }

    fn free(arena: &Arena, blocks: &[*mut u8]) {
        for block in blocks {
            // SAFETY: each came from this heap with this layout, and is freed once.
            unsafe { arena.dealloc(*block, BLOCK) };
        }
    }

    #[test]
    fn a_closed_heap_gives_out_its_region_and_then_refuses() {
        let arena = closed();
        let blocks = fill(&arena);
        // One block's worth goes into records of 16 bytes each and the end of the region.
        assert_eq!(blocks.len(), REGION / BLOCK.size() - 1);
        for (number, block) in blocks.iter().enumerate() {
            // SAFETY: the block was filled and is not shared.
            let bytes = unsafe { core::slice::from_raw_parts(*block, BLOCK.size()) };
            assert!(bytes.iter().all(|byte| usize::from(*byte) == number + 1), "blocks overlap");
        }
        free(&arena, &blocks);
    }

    #[test]
    fn what_is_freed_is_given_out_again_in_pieces_of_any_size() {
        let arena = closed();
        for _ in 0..3 {
            let blocks = fill(&arena);
            assert_eq!(blocks.len(), REGION / BLOCK.size() - 1);
            free(&arena, &blocks);
            let whole = Layout::from_size_align(REGION - 4_096, 16).unwrap();
            // SAFETY: the layout is not empty, and the same for both.
            unsafe {
                let all = arena.alloc_zeroed(whole);
                assert!(!all.is_null(), "the pieces did not grow together");
                let bytes = core::slice::from_raw_parts(all, whole.size());
                assert!(bytes.iter().all(|byte| *byte == 0), "zeroed memory holds what was there");
                arena.dealloc(all, whole);
            }
        }
    }

    #[test]
    fn what_was_taken_before_the_end_is_freed_and_used_after_it() {
        let arena = Arena::new();
        // SAFETY: the layout is not empty.
        let before: Vec<*mut u8> = (0..8).map(|_| unsafe { arena.alloc(BLOCK) }).collect();
        assert!(before.iter().all(|block| !block.is_null()));
        arena.close(Region::reserve(REGION, REGION, 0).unwrap());
        free(&arena, &before);
        let after = fill(&arena);
        assert!(after.len() >= REGION / BLOCK.size() - 1 + before.len());
        assert!(before.iter().any(|block| after.contains(block)), "what was freed is lost");
        free(&arena, &after);
    }

    #[test]
    fn a_block_that_moves_keeps_its_bytes_and_its_alignment() {
        let arena = closed();
        let page = Layout::from_size_align(100, 4_096).unwrap();
        // SAFETY: layouts are not empty, and each pointer is used with the size it has at that time.
        unsafe {
            let first = arena.alloc(page);
            first.write_bytes(7, 100);
            let wall = arena.alloc(BLOCK);
            let second = arena.realloc(first, page, 50_000);
            assert!(!second.is_null() && second.addr().is_multiple_of(4_096));
            assert!(core::slice::from_raw_parts(second, 100).iter().all(|byte| *byte == 7));
            assert!(arena.realloc(second, Layout::from_size_align(50_000, 4_096).unwrap(), REGION).is_null());
            arena.dealloc(second, Layout::from_size_align(50_000, 4_096).unwrap());
            arena.dealloc(wall, BLOCK);
        }
    }

    #[test]
    fn more_than_there_is_is_refused_before_the_heap_is_touched() {
        let refused = Region::reserve(usize::MAX / 2, usize::MAX / 2, 0).unwrap_err();
        assert_eq!(refused.needed_bytes, usize::MAX / 2);
    }
}
