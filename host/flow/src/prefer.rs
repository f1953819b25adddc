//! `dlm preference`: mining preferences from the model's own samples with a judge, and what becomes of the plan.
//!
//! Invariants: every check precedes the first sample; a run can be repeated from its seed; nothing is written to the
//! document without the user's word; whatever stops a run, the pairs accepted so far are staged.

pub(crate) mod check;
pub(crate) mod choose;
mod judge;
mod mine;
mod sample;

use std::path::PathBuf;

use dlm_core::ports::judge::JudgeSource;
use dlm_core::ports::model::Models;
use dlm_core::{Section, SectionId, SectionKind, Subject};
use dlm_doc::{Rows, rows};
use serde::Serialize;

use crate::failure::Failure;
use crate::staging::{Outcome, Skip};

pub use mine::mine;

/// The word in front of messages.
pub(crate) const SUBJECT: Subject = Subject::Preference;

/// What mining needs from outside.
pub struct MinePorts<'a> {
    pub judges: &'a dyn JudgeSource,
    pub models: &'a dyn Models,
}

/// How to mine.
#[derive(Clone, Debug)]
pub struct MineOptions {
    pub path: PathBuf,
    /// Answers drawn per prompt, at least 2.
    pub samples: usize,
    /// Judge selector.
    pub judge: String,
    /// Smallest margin; the judge's own when none.
    pub threshold: Option<f64>,
    /// Most pairs that are kept.
    pub pairs_max: Option<usize>,
    pub temperature: f64,
    pub top_p: Option<f64>,
    /// `--backend mlx`, which this program does not have.
    pub wants_mlx: bool,
    pub adapter: Option<String>,
    /// Overrides the document's seed.
    pub seed: Option<i64>,
    /// Mine questions that are marked `!probe` as well.
    pub includes_probes: bool,
    /// A failing judge costs its prompt, not the run.
    pub keeps_going: bool,
    /// Write into the document instead of staging.
    pub applies: bool,
}

/// One accepted preference.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MinedPair {
    pub section_id: SectionId,
    /// As typed, for people; the marker holds the encoded form.
    pub judge: String,
    pub margin: f64,
    pub score_chosen: f64,
    pub score_rejected: f64,
    pub reasoning: Option<String>,
    pub prompt: String,
    pub chosen: String,
    pub rejected: String,
    /// The chosen text is the document's own answer.
    pub is_own_answer: bool,
}

/// What mining found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MineReport {
    pub path: PathBuf,
    pub judge: String,
    pub threshold: f64,
    pub run_id: u64,
    pub additions: Vec<MinedPair>,
    pub skipped: Vec<Skip>,
    pub outcome: Outcome,
    /// Sections that were written into the document, with `--apply`.
    pub written: usize,
}

/// A report, and why the command still does not end with success: nothing found, interrupted, a judge that failed.
pub struct MiningResult {
    pub report: MineReport,
    pub stopped: Option<Failure>,
}

/// Makes the section of a preference; none when its texts would not read back as they are.
pub(crate) fn preference_section(prompt: &str, chosen: &str, rejected: &str) -> Option<Section> {
    let content = format!("### Prompt\n{prompt}\n### Chosen\n{chosen}\n### Rejected\n{rejected}");
    let section = Section::text(SectionKind::Preference, content);
    match rows(&section) {
        Ok(Rows::Triples(triples)) => match triples.as_slice() {
            [triple] if triple.prompt == prompt && triple.chosen == chosen && triple.rejected == rejected => {
                Some(section)
            }
            _ => None,
        },
        _ => None,
    }
}
