//! Adapter versions: numbers, the pointer, rejection, commit, and mending after a dead writer.

use std::fs;

use dlm_core::manifest::RunStatus;
use dlm_store::{AdapterSlot, Store, StoreNotice, VersionError};

use super::scenario::{Run, id, run_record, stamp, state, train, wait, weights};
use super::{NOW_MS, lock, new_store};

const RUN: Run<'static> = Run {
    now_ms: NOW_MS,
    sections: &["one"],
    replay_budget_bytes: u64::MAX,
};

fn commit(store: &Store, slot: &AdapterSlot) -> u32 {
    let guard = lock(store);
    let pending = guard.begin_version(slot.clone()).unwrap();
    pending.write("adapter_config.json", b"{}").unwrap();
    pending.write("adapter_model.safetensors", &weights(1.0)).unwrap();
    pending.commit().unwrap().number
}

#[test]
fn numbers_go_on_from_the_largest() {
    let (_directory, store) = new_store();
    let slot = AdapterSlot::Flat;
    assert_eq!(commit(&store, &slot), 1);
    let versions = store.paths().versions(&slot);
    for name in ["v0007", "v0009-rejected", "vx", "w0100", "notes"] {
        fs::create_dir(versions.join(name)).unwrap();
    }
    fs::write(versions.join("v9000"), b"a file").unwrap();
    assert_eq!(commit(&store, &slot), 8);
    fs::create_dir(versions.join("v9999")).unwrap();
    assert_eq!(commit(&store, &slot), 10_000);
    let pointer = fs::read_to_string(store.paths().pointer(&slot)).unwrap();
    assert_eq!(pointer, "adapter/versions/v10000\n");
    assert_eq!(store.current_version(&slot).unwrap().unwrap().number, Some(10_000));
}

#[test]
fn named_slots_do_not_mix() {
    let (_directory, store) = new_store();
    let style = AdapterSlot::named("style").unwrap();
    let tone = AdapterSlot::named("tone").unwrap();
    assert_eq!(
        (commit(&store, &style), commit(&store, &style), commit(&store, &tone)),
        (1, 2, 1)
    );
    assert_eq!(store.adapter_slots().unwrap(), [style.clone(), tone]);
    let pointer = fs::read_to_string(store.paths().pointer(&style)).unwrap();
    assert_eq!(pointer, "adapter/style/versions/v0002\n");
    assert_eq!(store.current_version(&AdapterSlot::Flat).unwrap(), None);
}

#[test]
fn a_version_without_weights_is_not_committed() {
    let (_directory, store) = new_store();
    let guard = lock(&store);
    let pending = guard.begin_version(AdapterSlot::Flat).unwrap();
    pending.write("adapter_config.json", b"{}").unwrap();
    let error = pending.commit().unwrap_err();
    assert!(
        error.to_string().contains("lacks `adapter_model.safetensors`"),
        "{error}"
    );
    assert_eq!(store.current_version(&AdapterSlot::Flat).unwrap(), None);
    assert_eq!(
        store.next_version(&AdapterSlot::Flat).unwrap(),
        2,
        "the directory stays for inspection"
    );
}

#[test]
fn files_cannot_leave_the_version() {
    let (_directory, store) = new_store();
    let guard = lock(&store);
    let pending = guard.begin_version(AdapterSlot::Flat).unwrap();
    for name in ["../x", "a/b", "", "..", "a\\b"] {
        assert!(
            matches!(pending.write(name, b"x"), Err(VersionError::Name(_))),
            "{name}"
        );
    }
}

#[test]
fn rejected_versions_get_names_of_their_own() {
    let (_directory, store) = new_store();
    let mut names = Vec::new();
    for _ in 0..3 {
        let guard = lock(&store);
        let pending = guard.begin_version(AdapterSlot::Flat).unwrap();
        pending.write("adapter_model.safetensors", b"NaN").unwrap();
        let path = pending.reject().unwrap();
        names.push(path.file_name().unwrap().to_string_lossy().into_owned());
    }
    assert_eq!(names, ["v0001-rejected", "v0001-rejected-1", "v0001-rejected-2"]);
    assert_eq!(store.current_version(&AdapterSlot::Flat).unwrap(), None);
    assert_eq!(commit(&store, &AdapterSlot::Flat), 1);
    let listed = store.versions(&AdapterSlot::Flat).unwrap();
    let rejected = listed.iter().filter(|version| version.is_rejected).count();
    assert_eq!((listed.len(), rejected), (4, 3));
    assert!(
        listed
            .iter()
            .any(|version| version.is_current && version.name == "v0001")
    );
}

#[test]
fn pointers_stay_inside_the_store() {
    let (directory, store) = new_store();
    commit(&store, &AdapterSlot::Flat);
    let path = store.paths().pointer(&AdapterSlot::Flat);
    fs::create_dir(directory.path().join("outside")).unwrap();
    for content in [
        "../outside",
        "/etc",
        "adapter/../../outside",
        "adapter/versions/../../../outside",
    ] {
        fs::write(&path, content).unwrap();
        let error = store.current_version(&AdapterSlot::Flat).unwrap_err();
        assert!(
            error
                .to_string()
                .contains(&format!("leads outside the store: `{content}`")),
            "{error}"
        );
    }
    #[cfg(unix)]
    {
        let link = store.paths().root().join("adapter/link");
        std::os::unix::fs::symlink(directory.path().join("outside"), link).unwrap();
        fs::write(&path, "adapter/link").unwrap();
        let error = store.current_version(&AdapterSlot::Flat).unwrap_err();
        assert!(matches!(error, VersionError::PointerOutside { .. }), "{error}");
    }
    fs::write(&path, "adapter/versions/v0099\n").unwrap();
    let error = store.current_version(&AdapterSlot::Flat).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("names `adapter/versions/v0099`, which does not exist"),
        "{error}"
    );
    fs::write(&path, "a\nb").unwrap();
    assert!(matches!(
        store.current_version(&AdapterSlot::Flat),
        Err(VersionError::PointerUnreadable { .. })
    ));
    fs::write(&path, "\n").unwrap();
    assert_eq!(store.current_version(&AdapterSlot::Flat).unwrap(), None);
    fs::write(&path, "./adapter/versions/v0001").unwrap();
    assert_eq!(
        store.current_version(&AdapterSlot::Flat).unwrap().unwrap().number,
        Some(1)
    );
}

#[test]
fn a_commit_that_was_not_recorded_is_recorded_by_the_next_writer() {
    let (_directory, store) = new_store();
    train(&store, &RUN).unwrap();
    let guard = lock(&store);
    guard
        .record_run(stamp(NOW_MS), run_record(2, 2, stamp(NOW_MS)))
        .unwrap();
    let pending = guard.begin_version(AdapterSlot::Flat).unwrap();
    pending.write("adapter_config.json", b"{}").unwrap();
    pending.write("adapter_model.safetensors", &weights(2.0)).unwrap();
    pending.write_state(state(2)).unwrap();
    pending.commit().unwrap();
    drop(guard);

    let mut guard = store.lock(&wait(NOW_MS + 9000)).unwrap();
    let notices = guard.take_notices();
    let expected = StoreNotice::VersionRecorded {
        slot: AdapterSlot::Flat,
        version: 2,
        run_id: 2,
    };
    assert_eq!(notices, [expected]);
    let manifest = guard.manifest().unwrap().unwrap();
    assert_eq!((manifest.adapter_version, manifest.training_runs.len()), (2, 2));
    assert_eq!(manifest.training_runs[1].status, RunStatus::Completed);
    assert_eq!(manifest.training_runs[1].ended_at, Some(stamp(NOW_MS + 9000)));
    assert!(guard.verify().unwrap().is_empty());
}

#[test]
fn a_damaged_commit_that_was_not_recorded_is_undone() {
    for recorded in [false, true] {
        let (_directory, store) = new_store();
        if recorded {
            train(&store, &RUN).unwrap();
        }
        let guard = lock(&store);
        let pending = guard.begin_version(AdapterSlot::Flat).unwrap();
        let number = pending.number();
        pending.write("adapter_config.json", b"{}").unwrap();
        pending.write("adapter_model.safetensors", &weights(2.0)[..20]).unwrap();
        let kept = pending.commit().unwrap().directory;
        drop(guard);

        let mut guard = lock(&store);
        let notices = guard.take_notices();
        assert!(
            matches!(&notices[..], [StoreNotice::PointerReset { damaged, version, .. }]
                if (*damaged, *version) == (number, number - 1)),
            "{notices:?}"
        );
        let current = guard.current_version(&AdapterSlot::Flat).unwrap();
        assert_eq!(current.and_then(|current| current.number), recorded.then_some(1));
        assert!(kept.is_dir(), "nothing is deleted");
    }
}

#[test]
fn inspection_tells_what_is_there() {
    let (_directory, store) = new_store();
    train(&store, &RUN).unwrap();
    fs::create_dir(store.paths().versions(&AdapterSlot::Flat).join("v0002")).unwrap();
    fs::create_dir(store.paths().versions(&AdapterSlot::Flat).join("v0003-rejected")).unwrap();
    commit(&store, &AdapterSlot::named("style").unwrap());
    fs::write(store.paths().determinism_lock(), "{").unwrap();
    let found = store.inspect().unwrap().unwrap();
    assert!(found.has_adapter_current);
    assert_eq!(found.orphan_versions, ["adapter/versions/v0002"]);
    assert_eq!(found.rejected_versions, ["adapter/versions/v0003-rejected"]);
    assert_eq!(found.named_adapters.len(), 1);
    assert_eq!(
        (
            found.named_adapters[0].name.as_str(),
            found.named_adapters[0].latest_version
        ),
        ("style", 1)
    );
    assert_eq!(found.lock_status, dlm_store::LockStatus::Unreadable);
    assert!(found.replay_size_bytes > 0 && found.total_size_bytes > found.replay_size_bytes);
    assert_eq!(found.pointer_problems, Vec::<String>::new());
}

#[test]
fn verification_finds_damage() {
    let (_directory, store) = new_store();
    train(&store, &RUN).unwrap();
    assert_eq!(store.verify().unwrap(), Vec::<String>::new());
    let directory = store.current_version(&AdapterSlot::Flat).unwrap().unwrap().directory;
    fs::write(directory.join("training_state.pt"), b"x").unwrap();
    let corpus = store.paths().replay().join("corpus.zst");
    let mut bytes = fs::read(&corpus).unwrap();
    bytes[0] ^= 0xff;
    fs::write(&corpus, bytes).unwrap();
    let found = store.verify().unwrap();
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(
        found[0].contains("adapter/versions/v0001: `training_state.pt` is damaged"),
        "{found:?}"
    );
    assert!(
        found[1].contains(&format!("section {} at offset 0", id("one"))),
        "{found:?}"
    );
}
