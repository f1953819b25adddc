//! SHA-256 of files, as 64 lower-case hex digits.

use std::io::Read;
use std::path::Path;

use dlm_core::Cancel;
use dlm_core::digest::Sha256;

use crate::error::{DiskError, failed};
use crate::platform::open_ordinary;

/// Bytes read at once; large enough that the system calls do not show.
const CHUNK_BYTES: usize = 1 << 20;

/// The digest of a file, read in pieces.
///
/// **Errors** name the path.
pub fn sha256_file(path: &Path) -> Result<String, DiskError> {
    open_ordinary(path)
        .and_then(|file| sha256_of(file).map(|(digest, _)| digest))
        .map_err(|source| failed(path, "read", 0, source))
}

/// The digest of a file, read in pieces until `cancel` is raised.
///
/// **Errors** name the path; one of kind `Interrupted` where the flag was raised.
pub fn sha256_file_until(path: &Path, cancel: &Cancel) -> Result<String, DiskError> {
    let watched = |file| sha256_of(Interruptible { file, cancel }).map(|(digest, _)| digest);
    open_ordinary(path)
        .and_then(watched)
        .map_err(|source| failed(path, "read", 0, source))
}

/// A reader that a raised flag ends.
pub struct Interruptible<'a, R> {
    pub file: R,
    pub cancel: &'a Cancel,
}

impl<R: Read> Read for Interruptible<'_, R> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        match self.cancel.is_cancelled() {
            true => Err(std::io::ErrorKind::Interrupted.into()),
            false => self.file.read(out),
        }
    }
}

/// The digest and the length of what is left of a reader.
///
/// **Errors:** as the reader's.
pub fn sha256_of(mut reader: impl Read) -> std::io::Result<(String, u64)> {
    let mut digest = Sha256::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut total = 0;
    loop {
        let count = reader.read(&mut chunk)?;
        if count == 0 {
            return Ok((digest.finish_hex(), total));
        }
        digest.update(&chunk[..count]);
        total += count as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_and_its_bytes_have_one_digest() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let bytes = vec![7; CHUNK_BYTES + 3];
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(sha256_file(&path).unwrap(), dlm_core::digest::sha256_hex(&bytes));
        assert_eq!(sha256_of(bytes.as_slice()).unwrap().1, bytes.len() as u64);
        let error = sha256_file(&directory.path().join("none")).unwrap_err();
        assert!(error.to_string().contains("none`: cannot read"), "{error}");
    }
}
