//! Cooperative cancellation: one flag that long work polls between steps.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A flag shared between the one who interrupts (Ctrl-C) and the work that stops at its next safe point.
#[derive(Clone, Debug, Default)]
pub struct Cancel {
    own: Arc<AtomicBool>,
    above: Option<Arc<Cancel>>,
}

impl Cancel {
    /// Makes a flag that is not raised.
    pub fn new() -> Self {
        Self::default()
    }

    /// Raises the flag; every clone sees it.
    pub fn cancel(&self) {
        self.own.store(true, Ordering::SeqCst);
    }

    /// Makes a flag for a part of the work: it is raised with this one, and alone without it.
    pub fn below(&self) -> Cancel {
        Cancel {
            own: Arc::default(),
            above: Some(Arc::new(self.clone())),
        }
    }

    /// Says whether the work should stop at its next safe point.
    pub fn is_cancelled(&self) -> bool {
        self.own.load(Ordering::SeqCst) || self.above.as_ref().is_some_and(|above| above.is_cancelled())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_cancelled_with_the_whole_and_alone() {
        let whole = Cancel::new();
        let (one, other) = (whole.below(), whole.below());
        one.clone().cancel();
        assert_eq!([&whole, &one, &other].map(Cancel::is_cancelled), [false, true, false]);
        whole.cancel();
        assert_eq!([&whole, &one, &other].map(Cancel::is_cancelled), [true, true, true]);
    }
}
