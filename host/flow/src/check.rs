//! `dlm check`: everything that was parsed and everything that is wrong, without touching a store.

use std::path::{Path, PathBuf};

use dlm_doc::{CheckReport, Limits, render};
use serde_json::Value;

use crate::document::{read_bytes, unparsable};
use crate::failure::Failure;

/// The outcome for one file.
#[derive(Debug)]
pub struct Check {
    pub path: PathBuf,
    pub report: CheckReport,
    /// Problems and warnings with their places and excerpts; empty when there are none.
    pub remarks: String,
}

/// Checks a file; one that does not parse is an outcome too.
///
/// **Errors** when the file cannot be read.
pub fn check(path: &Path) -> Result<(Check, Option<Failure>), Failure> {
    let bytes = read_bytes(path)?;
    let report = dlm_doc::check(&bytes, &Limits::default());
    let failure = report
        .outcome
        .as_ref()
        .err()
        .map(|errors| unparsable(path, &bytes, errors));
    let remarks = match &failure {
        Some(_) => String::new(),
        None => {
            let text = String::from_utf8_lossy(&bytes);
            render::render_check(Some(&path.display().to_string()), &text, &report)
        }
    };
    let check = Check {
        path: path.to_path_buf(),
        report,
        remarks,
    };
    Ok((check, failure))
}

impl Check {
    /// The value that `--json` prints.
    pub fn to_json(&self) -> Value {
        self.report.to_json()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_checked_without_a_store_and_a_broken_one_fails() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.dlm");
        let id = dlm_core::Ulid::mint(1_700_000_000_000, [1; 10]);
        let good = dlm_doc::starter_document(&id, "smollm2-135m").unwrap();
        std::fs::write(&path, &good).unwrap();
        let (check, failure) = check(&path).unwrap();
        assert!(failure.is_none() && check.remarks.is_empty(), "{}", check.remarks);
        assert_eq!(check.to_json()["frontmatter"]["dlm_id"], id.as_str());

        std::fs::write(&path, good.replace("### A\n", "### B\n")).unwrap();
        let (check, failure) = super::check(&path).unwrap();
        assert!(
            failure.is_none() && check.remarks.contains("InstructionGrammarError"),
            "{}",
            check.remarks
        );

        std::fs::write(&path, good.replace("::instruction::", "::teach::")).unwrap();
        let (check, failure) = super::check(&path).unwrap();
        assert!(failure.unwrap().message.contains("FenceError"));
        assert_eq!(check.to_json()["errors"][0]["class"], "FenceError");
    }
}
