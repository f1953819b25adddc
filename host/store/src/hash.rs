//! SHA-256 of bytes and files, as 64 lower-case hex digits.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::disk::DiskError;

/// Bytes read at once; large enough that the system calls do not show.
const CHUNK_BYTES: usize = 1 << 20;

/// The digest of bytes.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// The digest of a file, read in pieces.
///
/// **Errors** name the path.
pub fn sha256_file(path: &Path) -> Result<String, DiskError> {
    let wrap = |source| DiskError::Io {
        path: path.to_owned(),
        action: "read",
        source,
    };
    let mut file = File::open(path).map_err(wrap)?;
    let mut digest = Sha256::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let count = file.read(&mut chunk).map_err(wrap)?;
        if count == 0 {
            return Ok(hex(&digest.finalize()));
        }
        digest.update(chunk.get(..count).unwrap_or_default());
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
