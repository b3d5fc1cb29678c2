//! The heap that C code sees: the program's own, under the names of the C standard.
//!
//! Owns the five symbols that a C library lets a program replace (musl's manual: all that allocate, or none). The TLS library's C
//! code takes its memory by them, and wipes it before it gives it back; the C library's own heap, which grows by `brk`, `mmap` and
//! `mprotect`, is never used, so that no thread needs these calls. Unsafe because C is: symbols by name, pointers without a type.

#![expect(unsafe_code, reason = "symbols of the C standard, with its untyped pointers")]

use core::ffi::c_void;
use core::ptr;

use quantonium::memory::ProcessHeap;

// SAFETY of all five: the signatures are those of the C standard, a C program's promises are those that `ProcessHeap` asks for, and
// nothing else in the program goes by these names: the linker would refuse a second one.

#[unsafe(no_mangle)]
extern "C" fn malloc(size: usize) -> *mut c_void {
    ProcessHeap::c_alloc(size).cast()
}

#[unsafe(no_mangle)]
extern "C" fn calloc(count: usize, size: usize) -> *mut c_void {
    count.checked_mul(size).map_or(ptr::null_mut(), |bytes| ProcessHeap::c_zeroed(bytes).cast())
}

#[unsafe(no_mangle)]
unsafe extern "C" fn realloc(pointer: *mut c_void, size: usize) -> *mut c_void {
    // SAFETY: C promises that `pointer` is null or came from one of these functions and was not freed.
    unsafe { ProcessHeap::c_realloc(pointer.cast(), size).cast() }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn free(pointer: *mut c_void) {
    // SAFETY: as above.
    unsafe { ProcessHeap::c_free(pointer.cast()) }
}

/// What the C library's `posix_memalign` and `memalign` call.
#[unsafe(no_mangle)]
extern "C" fn aligned_alloc(align: usize, size: usize) -> *mut c_void {
    ProcessHeap::c_aligned(size, align).cast()
}
