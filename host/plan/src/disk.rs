//! How much disk a training run needs before it starts, and the refusal when it is not there.
//!
//! **Source**: `spec/training.md` 5.6.

use dlm_core::{Hints, Subject};

use dlm_core::units::size;

/// Adapter files take at most this share of the base at two bytes a parameter.
const ADAPTER_DIVISOR: u64 = 100;
/// The least that is reckoned for an adapter.
const ADAPTER_MIN: u64 = 50 << 20;
/// Logs, metrics and records of a run.
const LOGS: u64 = 10 << 20;

/// What a run writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskNeed {
    /// The base at two bytes a parameter.
    pub base_fp16_bytes: u64,
    /// Bytes that the replay corpus grows by.
    pub replay_bytes: u64,
    /// Embeddings and head that are saved with the adapter.
    pub saved_modules_bytes: u64,
    /// What must be downloaded first, when the download lies on the same disk.
    pub download_bytes: u64,
}

impl DiskNeed {
    /// Free bytes that a run asks for: one and a half times its files, and the download.
    pub fn bytes(&self) -> u64 {
        let adapter = (self.base_fp16_bytes / ADAPTER_DIVISOR).max(ADAPTER_MIN);
        // Adapter, optimizer state of two and a half times its size, logs.
        let sum = adapter + adapter * 5 / 2 + LOGS + self.replay_bytes + self.saved_modules_bytes;
        sum + sum / 2 + self.download_bytes
    }
}

/// There is too little room.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{place} has {} free, and the run needs {}", size(*free_bytes), size(*needed_bytes))]
pub struct DiskError {
    pub place: String,
    pub needed_bytes: u64,
    pub free_bytes: u64,
}

impl Hints for DiskError {
    fn subject(&self) -> Subject {
        Subject::Disk
    }

    fn hints(&self) -> Vec<String> {
        vec![format!(
            "free {} there, or keep stores elsewhere: `DLM_HOME=<dir>`",
            size(self.needed_bytes - self.free_bytes)
        )]
    }
}

/// Compares a need with what is free at a place.
pub fn check_disk(place: &str, need: &DiskNeed, free_bytes: u64) -> Result<(), DiskError> {
    let needed_bytes = need.bytes();
    if free_bytes >= needed_bytes {
        return Ok(());
    }
    Err(DiskError {
        place: place.to_owned(),
        needed_bytes,
        free_bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_of_the_specification() {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let need = |base_fp16_bytes| DiskNeed {
            base_fp16_bytes,
            ..DiskNeed::default()
        };
        assert_eq!(mib(need(270_000_000).bytes()), 277.5);
        assert_eq!(mib(need(5_000 << 20).bytes()), 277.5);
        assert!(mib(need(16_000 << 20).bytes()) > 850.0);
        let with_download = DiskNeed {
            download_bytes: 1 << 30,
            ..need(0)
        };
        assert_eq!(with_download.bytes() - need(0).bytes(), 1 << 30);
    }

    #[test]
    fn too_little_room_is_refused_with_both_figures() {
        let need = DiskNeed::default();
        assert_eq!(check_disk("/store", &need, need.bytes()), Ok(()));
        let error = check_disk("/store", &need, 50 << 20).unwrap_err();
        assert_eq!(error.to_string(), "/store has 50 MiB free, and the run needs 278 MiB");
        assert!(error.hints()[0].contains("228 MiB"), "{:?}", error.hints());
    }
}
