//! Buffers that outlive a step, so that the next one allocates nothing.
//!
//! Invariants: a buffer goes back when it is dropped. A request takes the smallest free buffer that fits, so a step that
//! is smaller than an earlier one in every size allocates nothing; a miss frees the largest free buffer that was too
//! small, so growing steps do not leave the buffers of smaller ones behind.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

/// Free buffers, sorted by length.
#[derive(Debug, Default, Clone)]
pub(crate) struct Arena {
    free: Arc<Mutex<Vec<Vec<f32>>>>,
}

/// A slice of `f32` lent by an [`Arena`]. What it holds at first is undefined (but initialised).
#[derive(Debug)]
pub(crate) struct Buffer {
    data: Vec<f32>,
    len: usize,
    home: Arena,
}

impl Arena {
    /// Lends `len` numbers of any value.
    pub fn take(&self, len: usize) -> Buffer {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let index = free.partition_point(|buffer| buffer.len() < len);
        let data = if index < free.len() {
            free.remove(index)
        } else {
            if index > 0 {
                drop(free.remove(index - 1));
            }
            drop(free);
            vec![0.0; len]
        };
        Buffer {
            data,
            len,
            home: self.clone(),
        }
    }

    /// Lends `len` zeros.
    pub fn take_zeroed(&self, len: usize) -> Buffer {
        let mut buffer = self.take(len);
        buffer.fill(0.0);
        buffer
    }

    /// Returns the bytes that wait for reuse.
    pub fn bytes(&self) -> usize {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        free.iter().map(|buffer| 4 * buffer.len()).sum()
    }

    /// Frees every buffer that nobody holds.
    pub fn clear(&self) {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let data = std::mem::take(&mut self.data);
        let mut free = self.home.free.lock().unwrap_or_else(PoisonError::into_inner);
        let index = free.partition_point(|buffer| buffer.len() < data.len());
        free.insert(index, data);
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.data[..self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.data[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_returned_buffer_is_lent_again() {
        let arena = Arena::default();
        let first = arena.take(100);
        let place = first.as_ptr();
        drop(first);
        assert_eq!(arena.bytes(), 400);
        assert_eq!(arena.take(60).as_ptr(), place);
    }

    #[test]
    fn a_miss_frees_a_buffer_that_is_too_small() {
        let arena = Arena::default();
        drop(arena.take(10));
        drop(arena.take(1000));
        assert_eq!(arena.bytes(), 4000);
    }

    #[test]
    fn a_smaller_step_after_a_larger_one_allocates_nothing() {
        let arena = Arena::default();
        let step = |t: usize| {
            let first = [arena.take(t * 8), arena.take(t), arena.take(t * 24), arena.take(t * 8)];
            drop(first);
            let _second = [arena.take(t * 24), arena.take(t * 8)];
        };
        step(1000);
        let bytes = arena.bytes();
        for t in [100, 1, 999, 500, 1000, 37] {
            step(t);
            assert_eq!(arena.bytes(), bytes, "{t}");
        }
    }
}
