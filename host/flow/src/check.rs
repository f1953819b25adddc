//! `dlm check`: everything that was parsed and everything that is wrong, without touching a store.

use std::path::{Path, PathBuf};

use dlm_doc::{CheckReport, Limits, Parsed, SectionKind, render};
use serde_json::Value;

use crate::document::{read_bytes, unparsable};
use crate::failure::Failure;
use crate::surroundings::Surroundings;

/// The outcome for one file.
#[derive(Debug)]
pub struct Check {
    pub path: PathBuf,
    pub report: CheckReport,
    /// Problems and warnings with their places and excerpts; empty when there are none.
    pub remarks: String,
    /// What the grammar allows and training would not: one line each.
    pub advice: Vec<String>,
}

/// Checks a file; one that does not parse is an outcome too. With surroundings, what training would refuse is found as well.
///
/// **Errors** when the file cannot be read.
pub fn check(around: Option<&Surroundings>, path: &Path) -> Result<(Check, Option<Failure>), Failure> {
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
            let text = render::render_check(Some(&path.display().to_string()), &text, &report);
            match report.problems.is_empty() {
                true => text,
                // As `dlm train` will say it.
                false => format!("parse: {text}"),
            }
        }
    };
    let advice = match &report.outcome {
        Ok(parsed) => {
            let mut advice = questions_in_prose(path, parsed);
            advice.extend(around.and_then(|around| refusal(around, path, parsed)));
            advice
        }
        Err(_) => Vec::new(),
    };
    let check = Check {
        path: path.to_path_buf(),
        report,
        remarks,
        advice,
    };
    Ok((check, failure))
}

/// Finds question headings where nobody asks: the commonest slip is a forgotten `::instruction::`.
fn questions_in_prose(path: &Path, parsed: &Parsed) -> Vec<String> {
    let mut found = Vec::new();
    for section in parsed.sections().iter().filter(|s| s.kind == SectionKind::Prose) {
        let heading = section.content.lines().find(|line| line.trim_end() == "### Q");
        found.extend(heading.map(|_| {
            format!(
                "{}:{}: the prose that begins here holds `### Q`, which is read as text; to teach an answer, put \
                 `::instruction::` on a line of its own above it",
                path.display(),
                section.start_line
            )
        }));
    }
    found
}

/// Says why training would refuse a document that parses; its mistakes in rows are reported already.
fn refusal(around: &Surroundings, path: &Path, parsed: &Parsed) -> Option<String> {
    if !dlm_doc::training_problems(parsed).is_empty() {
        return None;
    }
    let front = parsed.frontmatter();
    let checked = crate::rows::check_trainable(path, parsed).and_then(|()| {
        // A base on the hub would be asked for; only names that are known here are looked at.
        match front.base_model.starts_with("hf:") {
            true => Ok(()),
            false => crate::base::resolve(around, &front.base_model).map(|_| ()),
        }
    });
    let failure = checked.err()?;
    let hints: String = failure.hints.iter().map(|hint| format!("\n  {hint}")).collect();
    Some(format!("`dlm train` refuses it: {failure}{hints}"))
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
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.dlm");
        let id = dlm_core::Ulid::mint(1_700_000_000_000, [1; 10]);
        let good = dlm_doc::starter_document(&id, "smollm2-135m").unwrap();
        std::fs::write(&path, &good).unwrap();
        let (check, failure) = check(None, &path).unwrap();
        assert!(failure.is_none() && check.remarks.is_empty(), "{}", check.remarks);
        assert_eq!(check.to_json()["frontmatter"]["dlm_id"], id.as_str());

        std::fs::write(&path, good.replace("### A\n", "### B\n")).unwrap();
        let (check, failure) = super::check(None, &path).unwrap();
        assert!(
            failure.is_none() && check.remarks.contains("InstructionGrammarError"),
            "{}",
            check.remarks
        );

        std::fs::write(&path, good.replace("::instruction::", "::teach::")).unwrap();
        let (check, failure) = super::check(None, &path).unwrap();
        assert!(failure.unwrap().message().contains("FenceError"));
        assert_eq!(check.to_json()["errors"][0]["class"], "FenceError");

        std::fs::write(&path, good.replace("::instruction::\n", "")).unwrap();
        let (check, failure) = super::check(None, &path).unwrap();
        assert!(
            failure.is_none() && check.advice[0].contains("`::instruction::`"),
            "{:?}",
            check.advice
        );
    }
}
