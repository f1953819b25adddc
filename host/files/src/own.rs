//! Files that this user alone may change, for what is trusted because nobody else could have written it.
//!
//! Invariants: a directory or file of somebody else, one that others can write to, or one behind a link is none of ours;
//! where the system does not know owners, nothing is.

#![cfg_attr(
    unix,
    expect(clippy::disallowed_methods, reason = "part of the place where files change")
)]

use std::fs::File;
use std::path::{Path, PathBuf};

/// Makes the directory, for this user alone; none when it belongs to somebody else or others can write to it.
#[cfg(unix)]
pub fn own_directory(directory: &Path) -> Option<PathBuf> {
    use std::os::unix::fs::DirBuilderExt;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
    made.ok()?;
    let found = std::fs::symlink_metadata(directory).ok()?;
    (found.is_dir() && is_own(&found)).then(|| directory.to_owned())
}

/// Opens a plain file of this user that nobody else can write to; a link is not followed.
#[cfg(unix)]
pub fn open_own(path: &Path) -> Option<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let flags = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).ok()?;
    let file = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)
        .ok()?;
    let found = file.metadata().ok()?;
    (found.is_file() && is_own(&found)).then_some(file)
}

/// Notes in the time of modification that a file was used now. Where that cannot be noted it only looks older than it is.
#[cfg(unix)]
pub fn mark_used(file: &File) {
    use rustix::fs::{Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};
    let at = |tv_nsec| Timespec { tv_sec: 0, tv_nsec };
    let _marked = rustix::fs::futimens(
        file,
        &Timestamps {
            last_access: at(UTIME_OMIT),
            last_modification: at(UTIME_NOW),
        },
    );
}

/// Times of use are kept on Unix alone.
#[cfg(not(unix))]
pub fn mark_used(_file: &File) {}

#[cfg(unix)]
fn is_own(found: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    found.uid() == rustix::process::geteuid().as_raw() && found.mode() & 0o022 == 0
}

/// Makes the directory, for this user alone; owners are not known here.
#[cfg(not(unix))]
pub fn own_directory(_directory: &Path) -> Option<PathBuf> {
    None
}

/// Opens a plain file of this user; owners are not known here.
#[cfg(not(unix))]
pub fn open_own(_path: &Path) -> Option<File> {
    None
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_others_can_write_to_or_a_link_is_not_ours() {
        let place = tempfile::tempdir().unwrap();
        let directory = own_directory(&place.path().join("a/b")).unwrap();
        let path = directory.join("file");
        std::fs::write(&path, "1").unwrap();
        let open_to = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        open_to(0o644);
        assert!(open_own(&path).is_some());
        open_to(0o666);
        assert!(open_own(&path).is_none());
        open_to(0o600);
        let link = directory.join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(open_own(&link).is_none());
        assert!(own_directory(&path).is_none(), "a file is no directory");
    }
}
