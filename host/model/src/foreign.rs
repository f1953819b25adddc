//! Work on what strangers wrote (templates, tokenizers): it ends within its memory, its time and its stack, or with an error.
//!
//! Invariants: a panic of the library that reads it is an error; its stack is one of its own where the depth of the input
//! decides how much is used. Memory and time are counted on the thread that works; the program's allocator asks
//! [`take`] before it gives, and ends the program where a limit is passed: nothing else can end a library that goes on
//! allocating. What does so at once is found by a trial in a process of its own (`trial`), before a base is used.

use std::cell::Cell;
use std::time::{Duration, Instant};

use dlm_core::foreign::{ForeignPanic, caught};

/// What a piece of foreign work may use.
#[derive(Clone, Copy, Debug)]
pub struct Allowance {
    /// What is worked on, for messages: `the chat template`.
    pub what: &'static str,
    /// Most bytes that it holds at once.
    pub bytes: usize,
    pub time: Duration,
}

/// What is left of an allowance on this thread.
#[derive(Clone, Copy)]
struct Remainder {
    allowance: Allowance,
    bytes: isize,
    until: Instant,
}

thread_local! {
    /// None where no foreign work runs. No destructor and no lazy start: the allocator looks at it.
    static REMAINDER: Cell<Option<Remainder>> = const { Cell::new(None) };
}

/// A limit that foreign work passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Excess {
    /// What was worked on.
    pub what: &'static str,
    /// True for time, false for memory.
    pub is_time: bool,
}

/// Counts an allocation of the calling thread.
///
/// **Errors**: the limit that it passes; none where no foreign work runs.
pub fn take(bytes: usize) -> Result<(), Excess> {
    let Some(mut left) = REMAINDER.get() else {
        return Ok(());
    };
    left.bytes = left.bytes.saturating_sub_unsigned(bytes);
    REMAINDER.set(Some(left));
    let excess = |is_time| Excess {
        what: left.allowance.what,
        is_time,
    };
    if left.bytes < 0 {
        return Err(excess(false));
    }
    // The clock costs as much as a small allocation.
    match bytes >= CLOCK_BYTES_MIN && Instant::now() > left.until {
        true => Err(excess(true)),
        false => Ok(()),
    }
}

/// Allocations from this size on look at the clock; what takes long either makes large texts or runs out of instructions.
const CLOCK_BYTES_MIN: usize = 1024;

/// Counts what is given back.
pub fn give(bytes: usize) {
    if let Some(mut left) = REMAINDER.get() {
        // What was allocated before the work gives no further room.
        let most = isize::try_from(left.allowance.bytes).unwrap_or(isize::MAX);
        left.bytes = left.bytes.saturating_add_unsigned(bytes).min(most);
        REMAINDER.set(Some(left));
    }
}

/// Why foreign work came to no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ForeignError {
    #[error(transparent)]
    Panic(#[from] ForeignPanic),
    #[error("no thread to read it on: {0}")]
    Thread(String),
}

/// Puts back what was there before, also behind a panic.
struct Restored(Option<Remainder>);

impl Drop for Restored {
    fn drop(&mut self) {
        REMAINDER.set(self.0);
    }
}

/// Works on this thread.
///
/// **Errors**: a panic.
pub(crate) fn here<T>(allowance: Allowance, work: impl FnOnce() -> T) -> Result<T, ForeignError> {
    let restored = Restored(REMAINDER.get());
    REMAINDER.set(Some(Remainder {
        allowance,
        bytes: isize::try_from(allowance.bytes).unwrap_or(isize::MAX),
        until: Instant::now() + allowance.time,
    }));
    let result = caught(work);
    drop(restored);
    Ok(result?)
}

/// Works on a thread with a stack of its own, which is reserved, and taken page by page as it is used.
///
/// **Errors**: a panic, or no room for the stack.
pub(crate) fn deeply<T: Send>(
    stack_bytes: usize,
    allowance: Allowance,
    work: impl FnOnce() -> T + Send,
) -> Result<T, ForeignError> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("foreign".into())
            .stack_size(stack_bytes);
        let started = thread.spawn_scoped(scope, || here(allowance, work));
        let started = started.map_err(|cause| ForeignError::Thread(cause.to_string()))?;
        // Panics of the work are caught on its thread; this one has nothing else that could.
        started.join().expect("foreign work catches its panics")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Allowance = Allowance {
        what: "the test",
        bytes: 1000,
        time: Duration::from_secs(600),
    };

    #[test]
    fn memory_is_counted_while_the_work_runs_and_no_longer() {
        let excess = Excess {
            what: "the test",
            is_time: false,
        };
        let counted = here(SMALL, || {
            give(5000);
            [take(600), take(400), take(1), {
                give(1);
                take(0)
            }]
        });
        assert_eq!(counted.unwrap(), [Ok(()), Ok(()), Err(excess), Ok(())]);
        assert_eq!(take(usize::MAX), Ok(()), "nothing runs any more");
        let late = Allowance {
            time: Duration::ZERO,
            bytes: 1 << 20,
            ..SMALL
        };
        let found = here(late, || {
            while Instant::now() == Instant::now() {}
            (take(1), take(CLOCK_BYTES_MIN))
        });
        assert_eq!(
            found.unwrap(),
            (
                Ok(()),
                Err(Excess {
                    is_time: true,
                    ..excess
                })
            )
        );
    }

    #[test]
    fn a_panic_is_an_error_and_depth_is_no_crash() {
        let error = here(SMALL, || -> () { panic!("out of {}", "range") }).unwrap_err();
        assert_eq!(error.to_string(), "the library that reads it fails: out of range");
        assert_eq!(take(usize::MAX), Ok(()), "nothing runs any more");
        fn deep(levels: u32) -> u32 {
            std::hint::black_box(match levels {
                0 => 0,
                levels => deep(levels - 1) + 1,
            })
        }
        let large = Allowance {
            bytes: 1 << 20,
            ..SMALL
        };
        assert_eq!(deeply(256 << 20, large, || deep(500_000)).unwrap(), 500_000);
    }
}
