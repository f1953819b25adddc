//! Memory that kernels need for a moment: aligned buffers kept per thread, so that steps do not allocate.

use std::cell::RefCell;

/// Elements of one cache line.
const LINE: usize = 16;

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; LINE]);

/// A buffer of `f32` that starts on a cache line.
#[derive(Clone, Default)]
pub(crate) struct AlignedBuffer {
    lines: Vec<Line>,
    len: usize,
}

impl std::fmt::Debug for AlignedBuffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Aligned({})", self.len)
    }
}

impl AlignedBuffer {
    pub(crate) fn zeroed(len: usize) -> AlignedBuffer {
        AlignedBuffer {
            lines: vec![Line([0.0; LINE]); len.div_ceil(LINE)],
            len,
        }
    }

    pub(crate) fn as_slice(&self) -> &[f32] {
        // SAFETY: `lines` holds at least `len` contiguous floats.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [f32] {
        // SAFETY: as above, and borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }

    /// Makes the buffer at least `len` long and returns that much of it; the contents are whatever was left there.
    fn at_least(&mut self, len: usize) -> &mut [f32] {
        if self.lines.len() * LINE < len {
            self.lines.resize(len.div_ceil(LINE), Line([0.0; LINE]));
        }
        self.len = self.lines.len() * LINE;
        &mut self.as_mut_slice()[..len]
    }
}

thread_local! {
    static POOL: RefCell<Vec<AlignedBuffer>> = const { RefCell::new(Vec::new()) };
}

/// Lends `body` a buffer of `len` floats with unspecified contents; nested calls get different buffers.
///
/// The memory stays with the thread, as large as its largest use.
pub(crate) fn with<R>(len: usize, body: impl FnOnce(&mut [f32]) -> R) -> R {
    let mut buffer = POOL.with_borrow_mut(|pool| pool.pop()).unwrap_or_default();
    let result = body(buffer.at_least(len));
    POOL.with_borrow_mut(|pool| pool.push(buffer));
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_buffers_are_different_and_aligned() {
        with(33, |outer| {
            assert_eq!(outer.as_ptr() as usize % 64, 0);
            outer.fill(1.0);
            with(100, |inner| inner.fill(2.0));
            assert!(outer.iter().all(|&x| x == 1.0));
        });
    }
}
