//! What a use case finds around it: home directory, machine, clock, randomness, progress, cancellation, the hub.
//!
//! Only the command line reads the environment and the clock; everything else is handed these values.

use dlm_core::hardware::Hardware;
use dlm_core::ports::BaseSource;
use dlm_core::{Cancel, Progress};
use dlm_store::Home;

/// The clock, as two functions.
pub trait Clock {
    /// Milliseconds since 1970-01-01 UTC.
    fn unix_ms(&self) -> u64;
    /// Seconds since some fixed moment; never runs backwards.
    fn seconds(&self) -> f64;
}

/// Everything outside that a use case may look at or speak to.
pub struct Surroundings<'a> {
    pub home: Home,
    pub hardware: Hardware,
    pub clock: &'a dyn Clock,
    /// Fills the slice with unpredictable bytes (for new ids and unseeded sampling).
    pub random: &'a dyn Fn(&mut [u8]),
    pub progress: &'a dyn Progress,
    pub cancel: &'a Cancel,
    pub hub: &'a dyn BaseSource,
    /// `DLM_FORCE=1`: go on where a refusal can be overridden.
    pub is_forced: bool,
    /// A person can answer a question.
    pub has_terminal: bool,
    /// Version of this program.
    pub version: &'static str,
}
