//! Local bases: whole or not at all.

use std::fs;
use std::io::Write;

use dlm_core::Hints;
use dlm_store::{BaseStore, BaseStoreError, Disk, Home};

use super::fast_directory;

#[test]
fn a_base_appears_when_it_is_complete() {
    let directory = fast_directory();
    let home = Home::new(directory.path().join("home"));
    let bases = BaseStore::new(&home, Disk::new());
    assert_eq!(bases.names().unwrap(), Vec::<String>::new());
    assert!(!home.root().exists(), "listing creates nothing");

    let pending = bases.begin("mine").unwrap();
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

    let error = bases.begin("mine").unwrap_err();
    assert!(matches!(error, BaseStoreError::Exists { .. }), "{error}");
    assert!(error.hints()[0].contains("dlm base remove mine"));

    drop(bases.begin("other").unwrap());
    let left: Vec<_> = fs::read_dir(home.bases()).unwrap().collect();
    assert_eq!(left.len(), 1, "what was given up is removed");

    bases.remove("mine").unwrap();
    let error = bases.directory("mine").unwrap_err();
    assert_eq!(error.to_string(), "there is no local base `mine` (local bases: none)");
    assert!(bases.remove("mine").is_err());
    assert!(matches!(bases.begin("../x"), Err(BaseStoreError::Name(_))));
}
