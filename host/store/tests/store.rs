//! Tests of the store on real directories.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "store/scenario.rs"]
mod scenario;

#[path = "store/bases.rs"]
mod bases;
#[path = "store/disk_full.rs"]
mod disk_full;
#[path = "store/durability.rs"]
mod durability;
#[path = "store/exclusive.rs"]
mod exclusive;
#[path = "store/metrics.rs"]
mod metrics;
#[path = "store/power_cut.rs"]
mod power_cut;
#[path = "store/records.rs"]
mod records;
#[path = "store/replay.rs"]
mod replay;
#[path = "store/state.rs"]
mod state;
#[path = "store/versions.rs"]
mod versions;

use dlm_core::manifest::Manifest;
use dlm_store::{Disk, Store, StoreGuard};
use tempfile::TempDir;

const NOW_MS: i64 = 1_776_623_414_000;

/// A directory in memory where there is such a file system: flushing to a real disk would take most of the time.
fn fast_directory() -> TempDir {
    let shared = std::path::Path::new("/dev/shm");
    let place = if shared.is_dir() {
        shared.to_owned()
    } else {
        std::env::temp_dir()
    };
    tempfile::Builder::new().prefix("dlm-store").tempdir_in(place).unwrap()
}

/// A store that was never trained, in a directory that goes with the test.
fn new_store() -> (TempDir, Store) {
    let directory = fast_directory();
    let store = Store::at(directory.path().join("store"), Disk::new());
    let guard = lock(&store);
    let first = Manifest::new(scenario::DLM_ID, "smollm2-135m", scenario::stamp(NOW_MS));
    guard.initialize(&first).unwrap();
    guard.release().unwrap();
    (directory, store)
}

fn lock(store: &Store) -> StoreGuard {
    store.lock(&scenario::wait(NOW_MS)).unwrap()
}
