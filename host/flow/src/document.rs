//! Reads a document from disk; what is wrong with it comes back in one failure, with excerpts.

use std::path::{Path, PathBuf};

use dlm_core::Subject;
use dlm_core::shell::quoted_path;
use dlm_doc::{Limits, ParseErrors, Parsed, render};
use dlm_files::{Disk, DiskError};

use crate::failure::Failure;

/// A parsed document with its place.
#[derive(Debug)]
pub struct Document {
    pub path: PathBuf,
    /// The file's text as it is.
    pub text: String,
    pub parsed: Parsed,
}

/// Reads and parses a document; all of its mistakes come back in one failure.
///
/// **Errors** name the file; mistakes of the text have line, column and excerpt.
pub fn load(path: &Path) -> Result<Document, Failure> {
    let bytes = read_bytes(path)?;
    match dlm_doc::parse_bytes(&bytes, &Limits::default()) {
        Ok(parsed) => Ok(Document {
            path: path.to_path_buf(),
            text: String::from_utf8(bytes).expect("what parses is UTF-8"),
            parsed,
        }),
        Err(errors) => Err(unparsable(path, &bytes, &errors)),
    }
}

/// Replaces a document, behind a link the file that it leads to; who may read and change it stays as it was. What a writer
/// that died left beside it is removed.
///
/// **Errors** name the file; one that is read-only is one.
pub(crate) fn replace(disk: &Disk, path: &Path, bytes: &[u8], subject: Subject) -> Result<(), Failure> {
    let failed = |error: DiskError| Failure::from(error).under(subject.clone());
    let cannot = |error: std::io::Error| {
        Failure::new(
            subject.clone(),
            format!("{} cannot be written: {error}", path.display()),
        )
    };
    let real = path.canonicalize().map_err(cannot)?;
    if real.metadata().map_err(cannot)?.permissions().readonly() {
        return Err(Failure::new(subject, format!("{} is read-only", real.display())));
    }
    disk.sweep_beside(&real).map_err(failed)?;
    disk.write(&real, bytes).map_err(failed)
}

/// Reads the bytes of a document.
///
/// **Errors** name the file and say how to make one that is missing.
pub fn read_bytes(path: &Path) -> Result<Vec<u8>, Failure> {
    let shown = path.display();
    if path.is_dir() {
        return Err(Failure::new(
            Subject::Doc,
            format!("{shown} is a directory, expected a .dlm file"),
        ));
    }
    let limit = Limits::default().document_bytes_max as u64;
    match dlm_files::read(path, limit).map_err(|e| Failure::from(e).under(Subject::Doc))? {
        Some(bytes) => Ok(bytes),
        None => Err(Failure::new(Subject::Doc, format!("{shown} does not exist"))
            .hint(format!("make a document: `dlm init {}`", quoted_path(path)))),
    }
}

/// Makes the failure of a text that does not parse: every error as `file:line:col: message` with its excerpt.
pub fn unparsable(path: &Path, bytes: &[u8], errors: &ParseErrors) -> Failure {
    let source = String::from_utf8_lossy(bytes);
    let text = render::render_errors(Some(&path.display().to_string()), &source, errors);
    Failure::new(Subject::Parse, text.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fail(text: &[u8]) -> Failure {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.dlm");
        std::fs::write(&path, text).unwrap();
        load(&path).unwrap_err()
    }

    #[test]
    fn all_mistakes_are_in_one_failure_with_their_places() {
        let failure = fail(b"---\ndlm_id: nope\nbase_modle: x\n---\n\n::teach::\n");
        assert_eq!((failure.subject.as_str(), failure.kind.exit_code()), ("parse", 1));
        for part in ["a.dlm:2:", "a.dlm:3:", "a.dlm:6:1: FenceError", "| ::teach::", "^"] {
            assert!(
                failure.message().contains(part),
                "{part} is missing in:\n{}",
                failure.message()
            );
        }
    }

    #[test]
    fn bytes_that_are_no_text_have_a_place() {
        let failure = fail(b"---\ndlm_id: \xff\n---\n");
        assert!(
            failure.message().contains("a.dlm:2:9: EncodingError"),
            "{}",
            failure.message()
        );
    }

    #[test]
    fn a_missing_file_says_how_to_make_one() {
        let failure = load(Path::new("/nowhere/a.dlm")).unwrap_err();
        assert_eq!(failure.message(), "/nowhere/a.dlm does not exist");
        assert_eq!(failure.hints, ["make a document: `dlm init /nowhere/a.dlm`"]);
        assert!(
            load(&std::env::temp_dir())
                .unwrap_err()
                .message()
                .contains("is a directory")
        );
    }
}
