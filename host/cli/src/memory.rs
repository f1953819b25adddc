//! Memory of this process: the most that it took, and what is said when there is no more.

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::Write;

use dlm_model::foreign::{self, Excess};

/// Most bytes that this process had in memory at one time; none where the system does not say.
pub fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// The system's allocator, with a message in the program's own form and exit code 1 where the standard library would
/// abort. Plans refuse before that: it is reached when something else takes the memory meanwhile.
pub struct Allocator;

// SAFETY: every call goes to the system's allocator as it came; a null pointer is never returned, the program ends instead.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promise is passed on.
        let place = unsafe { System.alloc(layout) };
        if place.is_null() {
            exhausted(layout.size())
        } else {
            place
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promise is passed on.
        let place = unsafe { System.alloc_zeroed(layout) };
        if place.is_null() {
            exhausted(layout.size())
        } else {
            place
        }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        foreign::give(layout.size());
        // SAFETY: the caller's promise is passed on.
        let place = unsafe { System.realloc(old, layout, size) };
        if place.is_null() { exhausted(size) } else { place }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        foreign::give(layout.size());
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(place, layout) }
    }
}

/// Counts an allocation of foreign work; past a limit the program ends, since the library that allocates cannot be told.
fn count(bytes: usize) {
    if let Err(excess) = foreign::take(bytes) {
        stopped(excess);
    }
}

#[cold]
fn stopped(excess: Excess) -> ! {
    let much = if excess.is_time { "longer" } else { "more memory" };
    end(format_args!(
        "base_model: {} of the base takes {much} than it may\n  \
         dlm stopped; nothing that was stored is lost\n  \
         choose another base: `dlm base list`\n",
        excess.what
    ))
}

/// Says what happened without allocating or taking a lock, and ends the program at once.
fn exhausted(bytes: usize) -> ! {
    end(format_args!(
        "memory: there is no more of it: {bytes} bytes were asked for on top of what is in use\n  \
         nothing that was stored is lost; a train goes on from its last state: `dlm train <path> --resume`\n  \
         close other programs, set `training.micro_batch_size: 1` or a lower `training.sequence_len`, or use a smaller base\n"
    ))
}

fn end(message: std::fmt::Arguments<'_>) -> ! {
    let mut text = [0u8; 512];
    let mut rest = &mut text[..];
    // A text that does not fit is cut.
    let _ = rest.write_fmt(message);
    let left = rest.len();
    let said = &text[..text.len() - left];
    // SAFETY: the pointer and the length are those of `said`; `_exit` does not return.
    unsafe {
        libc::write(libc::STDERR_FILENO, said.as_ptr().cast(), said.len());
        libc::_exit(1)
    }
}
