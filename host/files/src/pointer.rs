//! Files that stand for others: what Git keeps of a large file that it did not fetch.

use std::path::Path;

use crate::error::DiskError;
use crate::read::read_at;

/// How a pointer of Git LFS begins.
///
/// **Source:** the Git LFS specification, version 1; its older form has another host.
const BEGINNINGS: [&[u8]; 2] = [
    b"version https://git-lfs.github.com/spec/v1",
    b"version https://hawser.github.com/spec/v1",
];
/// Bytes of the longest pointer that the specification allows.
const POINTER_BYTES_MAX: u64 = 1024;

/// Says whether a file is a pointer of Git LFS, which stands where the real file was not fetched.
///
/// **Errors:** a file that cannot be read.
pub fn is_lfs_pointer(path: &Path) -> Result<bool, DiskError> {
    let head = read_at(path, 0, POINTER_BYTES_MAX + 1)?;
    let begins = BEGINNINGS.iter().any(|beginning| head.starts_with(beginning));
    Ok(begins && head.len() as u64 <= POINTER_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_are_told_from_files_that_speak_of_them() {
        let dir = tempfile::tempdir().unwrap();
        let check = |text: &[u8]| {
            let path = dir.path().join("file");
            std::fs::write(&path, text).unwrap();
            is_lfs_pointer(&path).unwrap()
        };
        let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n";
        assert!(check(pointer.as_bytes()));
        assert!(!check(b"see version https://git-lfs.github.com/spec/v1"));
        assert!(!check(b""));
        assert!(!check((pointer.to_owned() + &"x".repeat(2000)).as_bytes()));
        assert!(is_lfs_pointer(&dir.path().join("absent")).is_err());
    }
}
