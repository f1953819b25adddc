//! One call computes at a time; those that wait for their turn stop waiting when they are cancelled.

use std::ops::{Deref, DerefMut};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use dlm_core::Cancel;
use dlm_core::ports::model::ModelError;

use super::lock;

/// Time between two looks at the flag of a call that waits.
const LOOK: Duration = Duration::from_millis(20);

/// Whose turn it is.
#[derive(Default)]
pub(super) struct Turns {
    /// Bytes that loaded weights take; none while a call computes.
    waiting: Mutex<State>,
    free: Condvar,
}

#[derive(Default)]
struct State {
    is_taken: bool,
    weights_bytes: u64,
}

/// The turn of a call: bytes that loaded weights take so far. Dropping it lets the next one compute.
pub(super) struct Turn<'t> {
    turns: &'t Turns,
    weights_bytes: u64,
}

impl Turns {
    /// Waits until no other call computes.
    ///
    /// **Errors:** a flag that is raised before that.
    pub fn next(&self, cancel: &Cancel) -> Result<Turn<'_>, ModelError> {
        let mut state = lock(&self.waiting);
        loop {
            if cancel.is_cancelled() {
                return Err(ModelError::Cancelled);
            }
            if !state.is_taken {
                state.is_taken = true;
                return Ok(Turn {
                    turns: self,
                    weights_bytes: state.weights_bytes,
                });
            }
            let waited = self.free.wait_timeout(state, LOOK);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Deref for Turn<'_> {
    type Target = u64;

    fn deref(&self) -> &u64 {
        &self.weights_bytes
    }
}

impl DerefMut for Turn<'_> {
    fn deref_mut(&mut self) -> &mut u64 {
        &mut self.weights_bytes
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.turns.waiting);
        state.is_taken = false;
        state.weights_bytes = self.weights_bytes;
        self.turns.free.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn turns_are_taken_one_after_the_other_and_keep_their_count() {
        let turns = Turns::default();
        let at_once = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let mut turn = turns.next(&Cancel::new()).unwrap();
                    assert_eq!(at_once.fetch_add(1, Ordering::SeqCst), 0);
                    *turn += 5;
                    at_once.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        assert_eq!(*turns.next(&Cancel::new()).unwrap(), 40);
    }

    #[test]
    fn a_call_that_waits_can_be_cancelled() {
        let turns = Arc::new(Turns::default());
        let held = turns.next(&Cancel::new()).unwrap();
        let cancel = Cancel::new();
        let (of_thread, flag) = (Arc::clone(&turns), cancel.clone());
        let waiting = std::thread::spawn(move || of_thread.next(&flag).err());
        cancel.cancel();
        assert_eq!(waiting.join().unwrap(), Some(ModelError::Cancelled));
        drop(held);
        assert!(turns.next(&Cancel::new()).is_ok());
    }
}
