//! A full disk: a clear error with path and sizes, nothing half-written, nothing committed lost.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dlm_core::Hints;
use dlm_store::{AdapterSlot, Disk, Operation, Store, StoreError, verify_version};

use super::scenario::{Run, train, weights};
use super::{NOW_MS, lock};

const RUN: Run<'static> = Run {
    now_ms: NOW_MS,
    sections: &["one", "two"],
    replay_budget_bytes: u64::MAX,
};
const NEXT: Run<'static> = Run {
    now_ms: NOW_MS + 60_000,
    sections: &["one", "three"],
    replay_budget_bytes: u64::MAX,
};

/// Operations that need space; the others work on a full disk too.
fn takes_space(operation: Operation) -> bool {
    use Operation::{CreateDirectory, CreateFile, Database, Link, SyncFile, Write};
    matches!(
        operation,
        CreateDirectory | CreateFile | Database | Link | SyncFile | Write
    )
}

/// A disk that is full from the n-th operation on that takes space.
fn full_after(count: u64) -> Disk {
    let seen = AtomicU64::new(0);
    Disk::with_hook(Arc::new(move |operation, _| {
        if takes_space(operation) && seen.fetch_add(1, Ordering::SeqCst) >= count {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        Ok(())
    }))
}

#[test]
fn a_disk_that_is_full_at_any_point_loses_nothing() {
    let directory = super::fast_directory();
    for count in 0.. {
        let root = directory.path().join(format!("store{count}"));
        train(&Store::at(&root, Disk::new()), &RUN).unwrap();
        let result = train(&Store::at(&root, full_after(count)), &NEXT);
        let store = Store::at(&root, Disk::new());
        let current = store.current_version(&AdapterSlot::Flat).unwrap().unwrap();
        verify_version(&current.directory).unwrap();
        drop(lock(&store));
        assert_eq!(store.verify().unwrap(), Vec::<String>::new(), "full after {count}");
        assert_eq!(temporaries(&root), Vec::<String>::new(), "full after {count}");
        match result {
            Ok(_) => {
                assert!(count > 40, "only {count} operations took space");
                return;
            }
            Err(error) => {
                let text = format!("{error:#}");
                assert!(text.contains("no space left to write"), "full after {count}: {text}");
                assert!(text.contains(&root.display().to_string()), "{text}");
            }
        }
        fs::remove_dir_all(&root).unwrap();
    }
}

fn temporaries(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(temporaries(&path));
        } else if path.to_string_lossy().contains(".tmp.") {
            found.push(path.display().to_string());
        }
    }
    found
}

#[test]
fn the_error_has_sizes_and_a_remedy() {
    let directory = super::fast_directory();
    let path = directory.path().join("file");
    fs::write(&path, "before").unwrap();
    let error = full_after(0).write(&path, &[0; 1000]).unwrap_err();
    assert!(error.is_full());
    let text = error.to_string();
    assert!(
        text.starts_with(&format!("`{}`: no space left to write 1000 bytes (", path.display())),
        "{text}"
    );
    assert!(text.contains("bytes are free"), "{text}");
    assert_eq!(error.subject().as_str(), "disk");
    assert!(error.hints()[0].contains("--home"), "{:?}", error.hints());
    assert_eq!(fs::read(&path).unwrap(), b"before");
    let error = StoreError::from(error);
    assert_eq!(error.subject().as_str(), "disk");
}

/// A file system in memory that is given back when the test ends.
#[cfg(target_os = "linux")]
struct SmallDisk(tempfile::TempDir);

#[cfg(target_os = "linux")]
impl SmallDisk {
    fn mount(size: &str) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(directory.path())
            .output();
        mounted
            .is_ok_and(|output| output.status.success())
            .then_some(Self(directory))
    }
}

#[cfg(target_os = "linux")]
impl Drop for SmallDisk {
    fn drop(&mut self) {
        let done = Command::new("umount").arg(self.0.path()).status();
        assert!(
            done.is_ok_and(|status| status.success()),
            "the small disk could not be given back"
        );
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_real_full_disk_gives_the_same_error() {
    let Some(disk) = SmallDisk::mount("512k") else {
        println!("SKIPPED: this user may not mount a small disk; the injected failures above cover the same paths");
        return;
    };
    let store = Store::at(disk.0.path().join("store"), Disk::new());
    train(&store, &RUN).unwrap();
    let before = fs::read(store.paths().manifest()).unwrap();
    let guard = lock(&store);
    let pending = guard.begin_version(AdapterSlot::Flat).unwrap();
    pending.write("adapter_config.json", b"{}").unwrap();
    let error = pending
        .write("adapter_model.safetensors", &vec![1; 4 << 20])
        .unwrap_err();
    let text = error.to_string();
    assert!(text.contains("no space left to write 4194304 bytes ("), "{text}");
    assert!(text.contains("adapter_model.safetensors"), "{text}");
    assert_eq!(error.subject().as_str(), "disk");
    assert!(!pending.directory().join("adapter_model.safetensors").exists());
    drop(guard);

    // Appending to the corpus is cut back, so the space is free again and the corpus whole.
    let guard = lock(&store);
    let noise: String = (0u32..400_000)
        .map(|number| number.wrapping_mul(2_654_435_761).to_string())
        .collect();
    let section = super::scenario::remember(&noise, 2, super::scenario::stamp(NOW_MS));
    let current = Default::default();
    let error = guard
        .replay_writer()
        .unwrap()
        .append(&[section], &current, u64::MAX)
        .unwrap_err();
    assert!(error.to_string().contains("no space left"), "{error}");
    assert_eq!(store.replay().unwrap().dead_bytes().unwrap(), 0);
    drop(guard);

    assert_eq!(fs::read(store.paths().manifest()).unwrap(), before);
    assert_eq!(store.verify().unwrap(), Vec::<String>::new());
    assert_eq!(
        fs::read(
            store
                .current_version(&AdapterSlot::Flat)
                .unwrap()
                .unwrap()
                .directory
                .join("adapter_model.safetensors")
        )
        .unwrap(),
        weights(1.0)
    );
    train(&store, &NEXT).unwrap();
}
