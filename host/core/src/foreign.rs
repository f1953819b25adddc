//! Libraries that fail on what strangers wrote: their panics are errors of what they read.
//!
//! Invariants: whoever tells panics of this program asks [`is_caught`] first and stays silent where one is caught here.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    /// How many calls of [`caught`] this thread is in.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

/// A library that failed; what it said.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the library that reads it fails: {0}")]
pub struct ForeignPanic(pub String);

/// Works on what a stranger wrote; what the work changed is thrown away when it panics.
///
/// **Errors**: its panic.
pub fn caught<T>(work: impl FnOnce() -> T) -> Result<T, ForeignPanic> {
    DEPTH.set(DEPTH.get() + 1);
    let result = catch_unwind(AssertUnwindSafe(work));
    DEPTH.set(DEPTH.get() - 1);
    result.map_err(|panic| ForeignPanic(message(&*panic)))
}

/// Says whether a panic of this thread is caught by [`caught`].
pub fn is_caught() -> bool {
    DEPTH.get() > 0
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "it does not say why".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_and_nothing_is_caught_behind_it() {
        let error = caught(|| -> () { panic!("out of {}", "range") }).unwrap_err();
        assert_eq!(error.to_string(), "the library that reads it fails: out of range");
        assert!(!is_caught());
        assert_eq!(caught(|| caught(is_caught).map(|is| is && is_caught())), Ok(Ok(true)));
        assert!(!is_caught());
    }
}
