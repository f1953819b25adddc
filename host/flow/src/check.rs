//! `dlm check`: everything that was parsed, everything that is wrong, and what `dlm train` would refuse; nothing is written.

use std::path::{Path, PathBuf};

use dlm_doc::{CheckReport, Limits, Parsed, SectionKind, render};
use serde_json::{Value, json};

use crate::base::Reach;
use crate::document::{Document, read_bytes, unparsable};
use crate::failure::Failure;
use crate::surroundings::Surroundings;
use crate::train::{Judgement, TrainCommand, judge, rehearse};

/// The outcome for one file.
#[derive(Debug)]
pub struct Check {
    pub path: PathBuf,
    pub report: CheckReport,
    /// Problems and warnings with their places and excerpts; empty when there are none.
    pub remarks: String,
    /// What the grammar allows and was likely meant otherwise: one line each.
    pub advice: Vec<String>,
    /// What training would say; none where that was not asked, and for a document that has to be mended first.
    pub training: Option<TrainingVerdict>,
}

/// What `dlm train` would say before it loads a weight.
#[derive(Debug, Default)]
pub struct TrainingVerdict {
    /// Why it would refuse.
    pub refusal: Option<Failure>,
    /// What it would warn of.
    pub warnings: Vec<String>,
    /// The base's files are on the hub alone, so that what only they can tell was not judged.
    pub is_base_elsewhere: bool,
}

/// Checks a file; one that does not parse is an outcome too. With surroundings and a command, what that training would
/// refuse is found as well; no connection is opened for it.
///
/// **Errors** when the file cannot be read.
pub fn check(
    training: Option<(&Surroundings, &TrainCommand)>,
    path: &Path,
) -> Result<(Check, Option<Failure>), Failure> {
    let bytes = read_bytes(path)?;
    let report = dlm_doc::check(&bytes, &Limits::default());
    let failure = report
        .outcome
        .as_ref()
        .err()
        .map(|errors| unparsable(path, &bytes, errors));
    let text = String::from_utf8_lossy(&bytes);
    let remarks = match &failure {
        Some(_) => String::new(),
        None => {
            let text = render::render_check(Some(&path.display().to_string()), &text, &report);
            match report.problems.is_empty() {
                true => text,
                // As `dlm train` will say it.
                false => format!("parse: {text}"),
            }
        }
    };
    let (advice, verdict) = match &report.outcome {
        Ok(parsed) => {
            let advice = questions_in_prose(path, parsed);
            let asked = training.filter(|_| report.problems.is_empty());
            let verdict = asked.map(|(around, command)| {
                let document = Document {
                    path: path.to_path_buf(),
                    text: text.into_owned(),
                    parsed: parsed.clone(),
                };
                verdict(around, command, document)
            });
            (advice, verdict)
        }
        Err(_) => (Vec::new(), None),
    };
    let check = Check {
        path: path.to_path_buf(),
        report,
        remarks,
        advice,
        training: verdict,
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

/// Asks the function that judges for `dlm train`.
fn verdict(around: &Surroundings, command: &TrainCommand, document: Document) -> TrainingVerdict {
    let refused = |refusal| TrainingVerdict {
        refusal: Some(refusal),
        ..TrainingVerdict::default()
    };
    match judge(around, command, document, Reach::ThisMachine) {
        Ok(Judgement::Ready(prepared)) => {
            // What is worth knowing of a base is no remark on the document.
            let of_base = prepared.iter().find_map(|run| {
                let facts = &run.base.facts;
                let text = facts.capability_warning.as_ref()?;
                Some(format!("{}: {text}", facts.key))
            });
            let mut warnings: Vec<String> = Vec::new();
            for warning in prepared.iter().flat_map(|run| &run.plan.warnings) {
                if of_base.as_ref() != Some(warning) && !warnings.contains(warning) {
                    warnings.push(warning.clone());
                }
            }
            TrainingVerdict {
                refusal: prepared.iter().find_map(|run| rehearse(around, command, run).err()),
                warnings,
                is_base_elsewhere: false,
            }
        }
        Ok(Judgement::Unfetched { warnings }) => TrainingVerdict {
            warnings,
            is_base_elsewhere: true,
            ..TrainingVerdict::default()
        },
        Err(failure) => refused(failure),
    }
}

impl Check {
    /// The value that `--json` prints.
    pub fn to_json(&self) -> Value {
        let mut value = self.report.to_json();
        if let (Some(verdict), Value::Object(keys)) = (&self.training, &mut value) {
            keys.insert("training".to_owned(), verdict.to_json());
        }
        value
    }
}

impl TrainingVerdict {
    fn to_json(&self) -> Value {
        let refusal = self.refusal.as_ref().map(|failure| {
            json!({
                "subject": failure.subject.as_str(),
                "message": failure.message(),
                "hints": failure.hints,
                "exit_code": failure.kind.exit_code(),
            })
        });
        json!({
            "refusal": refusal,
            "warnings": self.warnings,
            "base_is_here": !self.is_base_elsewhere,
        })
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
