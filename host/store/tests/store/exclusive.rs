//! One writer at a time.

use std::fs;
use std::process::Command;
use std::time::Duration;

use dlm_core::{Cancel, FailureKind, Hints};
use dlm_store::{AdapterSlot, Disk, ExclusiveError, Home, LockWait, Store, StoreError, StoreNotice};

use super::scenario::{stamp, wait};
use super::{NOW_MS, lock, new_store};

/// The id of a process that ran and is gone.
fn dead_pid() -> u32 {
    let mut child = Command::new("true").spawn().unwrap();
    let pid = child.id();
    child.wait().unwrap();
    pid
}

fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[test]
fn a_second_writer_is_refused_with_the_holder() {
    let (_directory, store) = new_store();
    let guard = lock(&store);
    let path = store.paths().exclusive_lock();
    let content = fs::read_to_string(&path).unwrap();
    assert_eq!(
        content,
        format!("{}\n{}\n{}\n", std::process::id(), host(), NOW_MS / 1000)
    );
    let error = store.lock(&wait(NOW_MS)).unwrap_err();
    let expected = format!("`{}`: already locked by PID {}", path.display(), std::process::id());
    assert_eq!(error.to_string(), expected);
    assert_eq!(
        (error.subject().as_str(), error.kind()),
        ("store", FailureKind::Runtime)
    );
    assert!(
        error.hints()[0].contains(&path.display().to_string()),
        "{:?}",
        error.hints()
    );
    assert!(guard.release().unwrap());
    assert!(!path.exists());
    lock(&store);
    assert!(!path.exists(), "dropping releases too");
}

#[test]
fn another_live_process_is_respected() {
    let (_directory, store) = new_store();
    let path = store.paths().exclusive_lock();
    // Process 1 always runs; the reference implementation holds no advisory lock and writes its time with a fraction.
    fs::write(&path, format!("1\n{}\n1776623414.25\n", host())).unwrap();
    let error = store.lock(&wait(NOW_MS)).unwrap_err();
    assert!(error.to_string().ends_with("already locked by PID 1"), "{error}");
    assert!(path.exists());
}

/// After a kill, a restart or in a container: the number in the file belongs to somebody else, who holds no advisory lock.
#[test]
fn a_number_that_was_given_to_another_process_keeps_nobody_out() {
    let (_directory, store) = new_store();
    let path = store.paths().exclusive_lock();
    fs::write(&path, format!("1\n{}\n1776623414\n", host())).unwrap();
    assert!(!dlm_files::exclusive::is_held(&path));
    let mut guard = lock(&store);
    assert_eq!(guard.take_notices(), [StoreNotice::LockTakenOver { pid: 1 }]);
    assert!(dlm_files::exclusive::is_held(&path));
    assert!(guard.release().unwrap());
}

#[test]
fn a_holder_on_another_host_counts_as_alive() {
    let (_directory, store) = new_store();
    let path = store.paths().exclusive_lock();
    fs::write(&path, format!("{}\nelsewhere\n1776623414\n", dead_pid())).unwrap();
    let error = store.lock(&wait(NOW_MS)).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("on host `elsewhere` (whether it still runs cannot be seen"),
        "{error}"
    );
    assert!(error.hints()[0].contains("rm '"), "{:?}", error.hints());
}

#[test]
fn a_dead_holder_is_replaced_and_told() {
    let (_directory, store) = new_store();
    let path = store.paths().exclusive_lock();
    let pid = dead_pid();
    fs::write(&path, format!("{pid}\n{}\n1776623414\n", host())).unwrap();
    let mut guard = lock(&store);
    assert_eq!(guard.take_notices(), [StoreNotice::LockTakenOver { pid }]);
    assert!(guard.release().unwrap());
    assert!(!path.exists());
}

#[test]
fn content_that_names_no_holder_is_stale() {
    let (_directory, store) = new_store();
    let path = store.paths().exclusive_lock();
    for content in ["", "x", "1\n", "pid\nhost\n5\n"] {
        fs::write(&path, content).unwrap();
        let error = store.lock(&wait(NOW_MS)).unwrap_err();
        assert!(
            matches!(error, StoreError::Exclusive(ExclusiveError::Unreadable { .. })),
            "{error}"
        );
        assert!(error.to_string().contains("stale lock"), "{error}");
        assert!(path.exists(), "never stolen silently");
    }
}

#[test]
fn waiting_ends_when_the_holder_goes_or_the_user_gives_up() {
    let (_directory, store) = new_store();
    let guard = lock(&store);
    let cancel = Cancel::new();
    cancel.cancel();
    let patient = LockWait {
        timeout: Duration::from_secs(60),
        cancel,
        now: stamp(NOW_MS),
    };
    let error = store.lock(&patient).unwrap_err();
    assert_eq!(error.kind(), FailureKind::Interrupted);

    let other = store.clone();
    let waiting = std::thread::spawn(move || {
        let patient = LockWait {
            timeout: Duration::from_secs(60),
            cancel: Cancel::new(),
            now: stamp(NOW_MS),
        };
        other.lock(&patient).map(|guard| guard.release().unwrap())
    });
    drop(guard);
    assert!(waiting.join().unwrap().unwrap());
}

#[test]
fn many_writers_take_turns() {
    let (_directory, store) = new_store();
    let writers: Vec<_> = (0..8)
        .map(|_| {
            let store = store.clone();
            std::thread::spawn(move || {
                let patient = LockWait {
                    timeout: Duration::from_secs(120),
                    cancel: Cancel::new(),
                    now: stamp(NOW_MS),
                };
                let guard = store.lock(&patient).unwrap();
                let run_id = guard.manifest().unwrap().unwrap().next_run_id();
                let record = super::scenario::run_record(run_id, 1, stamp(NOW_MS));
                guard.record_run(stamp(NOW_MS), record).unwrap();
            })
        })
        .collect();
    for writer in writers {
        writer.join().unwrap();
    }
    assert_eq!(
        store.manifest().unwrap().unwrap().next_run_id(),
        9,
        "no update was lost"
    );
}

#[test]
fn leftovers_of_the_dead_are_swept_and_of_the_living_kept() {
    let (_directory, store) = new_store();
    // Process 1 lives, and is not who wrote this.
    let dead = store.paths().root().join("manifest.json.tmp.1.0000002a");
    let alive = store
        .paths()
        .root()
        .join(format!("manifest.json.tmp.{}.0000002a", dead_pid()));
    let foreign = store.paths().root().join("notes.tmp.txt");
    for path in [&dead, &alive, &foreign] {
        fs::write(path, "half").unwrap();
    }
    let writing = fs::File::open(&alive).unwrap();
    writing.lock().unwrap();
    let mut guard = lock(&store);
    assert_eq!(guard.take_notices(), [StoreNotice::LeftoversRemoved { files: 1 }]);
    assert!(!dead.exists() && alive.exists() && foreign.exists());
}

#[test]
fn what_killed_writers_left_of_a_training_state_is_swept_unless_it_is_whole() {
    let (_directory, store) = new_store();
    let version = store.paths().versions(&AdapterSlot::Flat).join("v0001");
    fs::create_dir_all(&version).unwrap();
    let next = |name: &str| version.join(format!("next.{name}"));
    fs::write(next("training_state.pt"), "half").unwrap();
    let mut guard = lock(&store);
    assert_eq!(guard.take_notices(), [StoreNotice::LeftoversRemoved { files: 1 }]);
    assert!(!next("training_state.pt").exists());
    drop(guard);
    for name in [
        "training_state.pt",
        "training_state.rng.json",
        "training_state.pt.sha256",
    ] {
        fs::write(next(name), "new").unwrap();
    }
    let mut guard = lock(&store);
    assert_eq!(guard.take_notices(), []);
    assert_eq!(fs::read_to_string(version.join("training_state.pt")).unwrap(), "new");
}

#[test]
fn a_store_that_was_never_made_is_removed_and_one_that_is_being_made_stays() {
    let directory = super::fast_directory();
    let home = Home::new(directory.path());
    let at = |name: &str| home.stores().join(name);
    for name in ["DEAD", "ALIVE", "EMPTY", "LOST", "LOCKED"] {
        fs::create_dir_all(at(name)).unwrap();
    }
    fs::write(at("LOCKED").join(".lock"), "{}").unwrap();
    fs::write(at("LOCKED").join("manifest.json.tmp.1.0000002a"), "half").unwrap();
    fs::write(at("DEAD").join(".lock.tmp.1.0000002a"), "half").unwrap();
    let alive = at("ALIVE").join(format!(".lock.tmp.{}.0000002a", std::process::id()));
    fs::write(&alive, "half").unwrap();
    let writing = fs::File::open(&alive).unwrap();
    writing.lock().unwrap();
    // Its manifest is lost, its work is not.
    fs::write(at("LOST").join("manifest.json.tmp.1.0000002a"), "half").unwrap();
    fs::write(at("LOST").join("metrics.sqlite"), "work").unwrap();
    Store::sweep_unborn(&home, &Disk::new()).unwrap();
    assert!(!at("DEAD").exists());
    assert!(at("LOCKED/.lock").exists() && !at("LOCKED/manifest.json.tmp.1.0000002a").exists());
    assert!(alive.exists() && at("EMPTY").exists() && at("LOST/metrics.sqlite").exists());
}
