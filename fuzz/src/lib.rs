//! How a fuzz target begins: what `dlm` itself does about foreign libraries that panic or take too much.
//!
//! Invariants: a panic that the program catches is no finding, and neither is an allowance that is passed, on which the
//! program ends with a message: the process ends with [`EXCESS`], and whoever runs it begins it again.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use dlm_core::foreign::is_caught;
use dlm_model::foreign;

/// The exit code of a process that passed an allowance.
pub const EXCESS: i32 = 88;

/// Most bytes that the process holds while foreign work runs: less than the program allows, so that several targets fit a machine.
const FOREIGN_BYTES_MAX: usize = 1 << 30;

/// Bytes that are held.
static HELD: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The system's allocator, counted as that of the program.
struct Counting;

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        give(layout.size());
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(old, layout, size) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        give(layout.size());
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(place, layout) }
    }
}

fn give(bytes: usize) {
    HELD.fetch_sub(bytes, Ordering::Relaxed);
    foreign::give(bytes);
}

fn count(bytes: usize) {
    let held = HELD.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
    if foreign::take(bytes).is_err() || (held > FOREIGN_BYTES_MAX && is_caught()) {
        // SAFETY: ends the process; nothing of it is used afterwards.
        unsafe { libc::_exit(EXCESS) }
    }
}

/// Puts a hook in front of the fuzzer's, which ends the process at every panic.
pub fn begin() {
    let fuzzers = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !is_caught() {
            fuzzers(panic);
        }
    }));
}
