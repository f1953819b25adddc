//! Local bases: whole or not at all.

use std::fs;
use std::io::Write;

use dlm_core::{Cancel, Hints};
use dlm_store::{BaseStore, BaseStoreError, Disk, Home, PendingBase, Seen};

use super::fast_directory;

fn begin(bases: &BaseStore, name: &str) -> Result<PendingBase, BaseStoreError> {
    bases.begin(name, &Cancel::new(), || ())
}

#[test]
fn a_base_appears_when_it_is_complete() {
    let directory = fast_directory();
    let home = Home::new(directory.path().join("home"));
    let bases = BaseStore::new(&home, Disk::new());
    assert_eq!(bases.names().unwrap(), Vec::<String>::new());
    assert!(!home.root().exists(), "listing creates nothing");

    let pending = begin(&bases, "mine").unwrap();
    pending
        .write_with("base.json", 2, |file| file.write_all(b"{}"))
        .unwrap();
    assert_eq!(
        bases.names().unwrap(),
        Vec::<String>::new(),
        "not before it is complete"
    );
    let path = pending.commit().unwrap();
    assert_eq!(fs::read(path.join("base.json")).unwrap(), b"{}");
    assert_eq!(bases.names().unwrap(), ["mine"]);
    assert_eq!(bases.directory("mine").unwrap(), path);

    let error = begin(&bases, "mine").unwrap_err();
    assert!(matches!(error, BaseStoreError::Exists { .. }), "{error}");
    assert!(error.hints()[0].contains("dlm base remove mine"));

    drop(begin(&bases, "other").unwrap());
    let left: Vec<_> = fs::read_dir(home.bases()).unwrap().collect();
    assert_eq!(left.len(), 1, "what was given up is removed");

    let mut seen = Seen::of(&home, &path);
    let file = path.join("base.json");
    seen.digest(&file, &mut |_| Ok("digest".to_owned())).unwrap();
    seen.keep();
    assert_eq!(fs::read_dir(home.seen()).unwrap().count(), 1);
    bases.remove("mine").unwrap();
    assert_eq!(
        fs::read_dir(home.seen()).unwrap().count(),
        0,
        "what is remembered of it goes with it"
    );
    let error = bases.directory("mine").unwrap_err();
    assert_eq!(error.to_string(), "there is no local base `mine` (local bases: none)");
    assert!(bases.remove("mine").is_err());
    assert!(matches!(begin(&bases, "../x"), Err(BaseStoreError::Name(_))));
}

#[test]
fn what_killed_processes_left_is_removed_and_what_others_add_stays() {
    let directory = fast_directory();
    let home = Home::new(directory.path().join("home"));
    let bases = BaseStore::new(&home, Disk::new());
    let adding = begin(&bases, "living").unwrap();
    let at = |name: &str| home.bases().join(name);
    // As this version, and as earlier ones, are killed. No process has the largest number.
    for left in [".dead.new", ".gone.removing", &format!(".old.adding.{}", i32::MAX)] {
        fs::create_dir(at(left)).unwrap();
        fs::write(at(left).join("weights"), "half").unwrap();
    }
    drop(begin(&bases, "other").unwrap());
    let left: Vec<_> = dlm_files::list(&home.bases())
        .unwrap()
        .into_iter()
        .map(|entry| entry.name)
        .collect();
    assert_eq!(left, [".living.new", ".living.new.lock"]);
    adding.write_with("base.json", 2, |file| file.write_all(b"{}")).unwrap();
    // Whoever was second does not take the place of what is there by now.
    fs::create_dir(at("living")).unwrap();
    assert!(matches!(adding.commit(), Err(BaseStoreError::Exists { .. })));
    assert_eq!(dlm_files::list(&at("living")).unwrap(), []);
}
