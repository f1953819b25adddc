//! The order of flushes: what a power cut may not undo.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use dlm_store::{Disk, Operation, Store};

use super::NOW_MS;
use super::fast_directory;
use super::scenario::{Run, train};

type Trace = Vec<(Operation, PathBuf)>;

fn trace_of_a_run(root: &Path) -> Trace {
    let trace = Arc::new(Mutex::new(Trace::new()));
    let shared = Arc::clone(&trace);
    let disk = Disk::with_hook(Arc::new(move |operation, path| {
        shared.lock().unwrap().push((operation, path.to_owned()));
        Ok(())
    }));
    let run = Run {
        now_ms: NOW_MS,
        sections: &["one"],
        replay_budget_bytes: u64::MAX,
    };
    train(&Store::at(root, disk), &run).unwrap();
    trace.lock().unwrap().clone()
}

/// The place of an operation on a path in the trace.
fn place(trace: &Trace, operation: Operation, path: &Path) -> usize {
    let found = trace.iter().rposition(|(one, at)| *one == operation && at == path);
    found.unwrap_or_else(|| panic!("no {operation:?} of {}", path.display()))
}

#[test]
fn files_are_flushed_before_they_get_their_name_and_directories_after() {
    let directory = fast_directory();
    let trace = trace_of_a_run(&directory.path().join("store"));
    let renames = trace
        .iter()
        .enumerate()
        .filter(|(_, (operation, _))| *operation == Operation::Rename);
    let mut count = 0;
    for (index, (_, path)) in renames {
        // Right before, or when it was written under the name that it has until then.
        assert!(
            trace[..index].contains(&(Operation::SyncFile, path.clone())),
            "{}",
            path.display()
        );
        assert_eq!(
            trace[index + 1],
            (Operation::SyncDirectory, path.parent().unwrap().to_owned())
        );
        count += 1;
    }
    assert!(count > 10, "only {count} files were replaced");
}

#[test]
fn a_run_is_recorded_in_the_order_of_the_specification() {
    let directory = fast_directory();
    let root = directory.path().join("store");
    let trace = trace_of_a_run(&root);
    let version = root.join("adapter/versions/v0001");
    let order = [
        place(&trace, Operation::Rename, &version.join("adapter_model.safetensors")),
        place(&trace, Operation::Rename, &version.join("next.training_state.pt")),
        place(&trace, Operation::SyncDirectory, &version),
        place(&trace, Operation::Rename, &root.join("adapter/current.txt")),
        place(&trace, Operation::SyncFile, &root.join("replay/corpus.zst")),
        place(&trace, Operation::Rename, &root.join("replay/index.json")),
        place(
            &trace,
            Operation::Rename,
            &root.join("logs/train-000001-20260419T183014.summary.json"),
        ),
        place(&trace, Operation::Rename, &root.join("manifest.json")),
        place(&trace, Operation::Rename, &root.join("dlm.lock")),
        place(&trace, Operation::Remove, &root.join(".lock")),
    ];
    assert!(order.is_sorted(), "{order:?}\n{trace:#?}");
}
