//! What the file system says about a file that nobody wrote to since.
//!
//! Invariants: equal stamps mean the same bytes only where the record of a stamp is [younger](FileStamp::is_settled) than
//! the file: a change within one step of the system's clock would not show. Elsewhere than on Unix there is no stamp, so
//! that files are always read.

use std::fs::Metadata;

use serde::{Deserialize, Serialize};

/// Longer than a step of the clock that stamps files (4 ms to 10 ms).
const STEP_NS: i64 = 20_000_000;

/// Which file it is, and when it was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileStamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified_ns: i64,
    /// Set by the system alone, so that setting back the time of modification hides nothing.
    changed_ns: i64,
}

impl FileStamp {
    #[cfg(unix)]
    pub fn of(found: &Metadata) -> Option<FileStamp> {
        use std::os::unix::fs::MetadataExt;
        let ns = |seconds: i64, ns: i64| seconds.saturating_mul(1_000_000_000).saturating_add(ns);
        found.is_file().then(|| FileStamp {
            device: found.dev(),
            inode: found.ino(),
            bytes: found.size(),
            modified_ns: ns(found.mtime(), found.mtime_nsec()),
            changed_ns: ns(found.ctime(), found.ctime_nsec()),
        })
    }

    #[cfg(not(unix))]
    pub fn of(_found: &Metadata) -> Option<FileStamp> {
        None
    }

    /// True where the file that holds this stamp, itself last changed at `record`, is so much younger that any later change
    /// of the stamped file would show in its times.
    pub fn is_settled(self, record: FileStamp) -> bool {
        record.changed_ns.saturating_sub(self.changed_ns) >= STEP_NS
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;

    #[test]
    fn a_record_as_old_as_its_file_vouches_for_nothing() {
        let stamp = |changed_ns| FileStamp {
            device: 1,
            inode: 2,
            bytes: 3,
            modified_ns: changed_ns,
            changed_ns,
        };
        let file = stamp(1_000_000_000);
        assert!(!file.is_settled(stamp(1_000_000_000)), "the same step of the clock");
        assert!(!file.is_settled(stamp(900_000_000)), "an older record");
        assert!(file.is_settled(stamp(1_000_000_000 + STEP_NS)));
    }

    #[test]
    fn a_write_changes_the_stamp_and_a_time_put_back_does_not_hide_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, "one").unwrap();
        let of = || FileStamp::of(&std::fs::metadata(&path).unwrap()).unwrap();
        let (first, time) = (of(), std::fs::metadata(&path).unwrap().modified().unwrap());
        // Until the clock has moved on, a change need not show: that is what `is_settled` is for.
        let mut second = first;
        while second.changed_ns == first.changed_ns {
            std::fs::write(&path, "two").unwrap();
            std::fs::File::options()
                .write(true)
                .open(&path)
                .unwrap()
                .set_modified(time)
                .unwrap();
            second = of();
        }
        assert_eq!((second.bytes, second.modified_ns), (first.bytes, first.modified_ns));
        assert_ne!(second, first);
    }
}
