//! What a use case finds around it: home directory, machine, clock, randomness, progress, cancellation, the hub.
//!
//! Only the command line reads the environment and the clock; everything else is handed these values. They are owned and
//! cheap to clone, so that what outlives a call (the models of a run) holds the same surroundings as the call.

use std::sync::Arc;
use std::time::Duration;

use dlm_core::hardware::Hardware;
use dlm_core::ports::BaseSource;
use dlm_core::ports::text_trial::TextTrial;
use dlm_core::stamp::Stamp;
use dlm_core::{Cancel, Event, Progress, Ulid};
use dlm_store::{Disk, Home, LockWait, Store, StoreError, StoreGuard};

/// The clock, as two functions.
pub trait Clock: Send + Sync {
    /// Milliseconds since 1970-01-01 UTC.
    fn unix_ms(&self) -> u64;
    /// Seconds since some fixed moment; never runs backwards.
    fn seconds(&self) -> f64;
}

/// Fills the slice with unpredictable bytes.
pub type RandomBytes = Arc<dyn Fn(&mut [u8]) + Send + Sync>;

/// Everything outside that a use case may look at or speak to.
#[derive(Clone)]
pub struct Surroundings {
    pub home: Home,
    /// Access to files; what is made below the home is for this user alone.
    pub disk: Disk,
    pub hardware: Hardware,
    pub clock: Arc<dyn Clock>,
    /// For new ids and unseeded sampling.
    pub random: RandomBytes,
    pub progress: Arc<dyn Progress + Send + Sync>,
    pub cancel: Cancel,
    pub hub: Arc<dyn BaseSource + Send + Sync>,
    /// Tries tokenizers and chat templates of bases before they are trusted.
    pub trial: Arc<dyn TextTrial>,
    /// The hub's web root, which `{hub}` in license addresses stands for; no slash at its end.
    pub hub_root: String,
    /// `DLM_FORCE=1`: go on where a refusal can be overridden.
    pub is_forced: bool,
    /// A person can answer a question.
    pub has_terminal: bool,
    /// Version of this program.
    pub version: &'static str,
}

impl Surroundings {
    /// Access to files that say what a document says.
    pub fn private_disk(&self) -> Disk {
        self.disk.clone().private()
    }

    /// Locks a store for writing; where another process holds it, waits for it as long as `timeout`.
    ///
    /// **Errors:** held, or a disk that fails.
    pub(crate) fn lock(&self, store: &Store, timeout: Duration) -> Result<StoreGuard, StoreError> {
        store.lock(&LockWait {
            timeout,
            cancel: self.cancel.clone(),
            now: self.now(),
        })
    }

    /// The store of a document.
    pub fn store(&self, dlm_id: &Ulid) -> Store {
        Store::at(self.home.store_root(dlm_id), self.private_disk())
    }

    /// The present.
    pub fn now(&self) -> Stamp {
        Stamp::from_unix_ms(i64::try_from(self.clock.unix_ms()).unwrap_or(i64::MAX))
    }

    /// A seed that nobody chose.
    pub fn random_seed(&self) -> u64 {
        let mut bytes = [0; 8];
        (self.random)(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// Tells a remark for the reader.
    pub fn note(&self, text: impl Into<String>) {
        self.progress.event(Event::Note(text.into()));
    }

    /// Tells that something was lost or is likely wrong.
    pub fn warn(&self, text: impl Into<String>) {
        self.progress.event(Event::Warning(text.into()));
    }
}
