//! An installation that is killed at any operation on the disk: the old plugin or the new one, and nothing else after the next.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dlm_files::Disk;

use super::*;
use crate::disk::dies;

fn dying(left: u64) -> Disk {
    let count = AtomicU64::new(0);
    Disk::with_hook(Arc::new(move |_, _| {
        match count.fetch_add(1, Ordering::SeqCst) < left {
            true => Ok(()),
            false => Err(std::io::Error::other("killed")),
        }
    }))
}

#[test]
fn a_killed_installation_leaves_the_old_plugin_or_the_new_one() {
    let all = flags(&["model:current"]);
    let (old, new) = (judge("rubric", "1.2.0", &[MODEL]), judge("rubric", "1.3.0", &[MODEL]));
    for left in 0.. {
        let home = tempfile::tempdir().unwrap();
        install_with(home.path(), old.clone(), &all, NOW).unwrap();
        let offer = offer(home.path(), fetched(new.clone(), false), Policy::default(), &all).unwrap();
        let consent = decide(&offer, &all, None).unwrap();
        dies(dying(left));
        let is_done = install(home.path(), &offer, &consent, LATER).is_ok();
        dies(Disk::new());
        let entry = Lock::read(home.path()).unwrap().installed("rubric").cloned().unwrap();
        let found = finder(home.path())
            .find(&Selector::parse("rubric").unwrap(), None)
            .unwrap();
        let bytes = found.read().unwrap();
        assert_eq!(
            bytes,
            if entry.version == "1.2.0" {
                old.clone()
            } else {
                new.clone()
            },
            "{left}"
        );
        // The other version's folder is told as what it is, until the next installation removes it.
        let problem = verify(home.path()).unwrap().remove(0).problem;
        let is_told = |text: &str| text.contains("was not installed with it");
        assert!(
            problem.as_ref().is_none_or(|(_, text)| is_told(text)),
            "{left}: {problem:?}"
        );
        install_with(home.path(), new.clone(), &all, LATER).unwrap();
        let directory = home.path().join("plugins/rubric");
        let versions: Vec<_> = dlm_files::list(&directory)
            .unwrap()
            .into_iter()
            .map(|entry| entry.name)
            .collect();
        assert_eq!(versions, ["1.3.0"], "{left}");
        let files = dlm_files::list(&directory.join("1.3.0")).unwrap();
        assert!(
            files.iter().all(|file| !file.name.contains(".tmp.")),
            "{left}: {files:?}"
        );
        if is_done {
            assert!(left > 6, "only {left} operations were seen");
            return;
        }
    }
}
