//! The files of a directory that a template source was pointed to: plain files, no links, no hidden names.

use std::fs;
use std::path::Path;

use dlm_core::ports::target::{Artifact, ArtifactKind};
use dlm_core::units::size;

use crate::error::OutputError;
use crate::output::check_name;

/// Most files, and bytes of one file.
const FILES_MAX: usize = 10_000;
const FILE_BYTES_MAX: u64 = 16 << 20;
/// Deepest directory.
const DEPTH_MAX: usize = 8;

/// Lists the files below `directory`, named relative to it with `/`.
///
/// **Errors**: a directory that cannot be read, or one with more files than a template source should have.
pub(super) fn inputs(directory: &Path) -> Result<Vec<Artifact>, OutputError> {
    let mut found = Vec::new();
    walk(directory, "", DEPTH_MAX, &mut found)?;
    Ok(found)
}

fn walk(directory: &Path, prefix: &str, depth: usize, found: &mut Vec<Artifact>) -> Result<(), OutputError> {
    let failed = OutputError::files("read", directory);
    for entry in fs::read_dir(directory).map_err(&failed)? {
        let entry = entry.map_err(&failed)?;
        let kind = entry.file_type().map_err(&failed)?;
        let file_name = entry.file_name();
        let Some(file_name) = file_name.to_str().filter(|name| !name.starts_with('.')) else {
            continue;
        };
        let name = format!("{prefix}{file_name}");
        if kind.is_dir() && depth > 0 {
            walk(&entry.path(), &format!("{name}/"), depth - 1, found)?;
        } else if kind.is_file() && check_name(&name).is_ok() {
            found.push(input(&entry.path(), name)?);
        }
        if found.len() > FILES_MAX {
            return Err(failed(std::io::Error::other(format!("more than {FILES_MAX} files"))));
        }
    }
    Ok(())
}

fn input(path: &Path, name: String) -> Result<Artifact, OutputError> {
    let failed = OutputError::files("read", path);
    let bytes_count = fs::metadata(path).map_err(&failed)?.len();
    if bytes_count > FILE_BYTES_MAX {
        let text = format!("it has more than {}", size(FILE_BYTES_MAX));
        return Err(failed(std::io::Error::other(text)));
    }
    let bytes = dlm_files::read_required(path, FILE_BYTES_MAX).map_err(|error| failed(error.into_io()))?;
    let is_document = Path::new(&name).extension().is_some_and(|extension| extension == "dlm");
    Ok(Artifact {
        kind: if is_document {
            ArtifactKind::Document
        } else {
            ArtifactKind::Other
        },
        path: path.to_owned(),
        size: bytes.len() as u64,
        sha256: dlm_core::digest::sha256_hex(&bytes),
        staged_path: None,
        name,
    })
}
