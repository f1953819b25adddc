//! `dlm synth instructions`: question-answer pairs that a teacher writes from the document's prose, filtered.
//!
//! Invariants: every check precedes the first request; passages travel as fenced data, never as instructions; results
//! are taken in the order of the document however many teachers work side by side; whatever stops a run, the pairs
//! accepted so far are staged.

mod answers;
mod ask;
mod clean;
mod grounding;
mod parse;
mod passage;
mod run;
mod workers;

use std::path::PathBuf;
use std::time::Duration;

use dlm_core::ports::model::Models;
use dlm_core::ports::teacher::{TeacherRequest, TeacherSource};
use dlm_core::{Cancel, Section, SectionId, SectionKind, Subject};
use serde::Serialize;

use crate::failure::Failure;
use crate::staging::Outcome;

pub use run::instructions;

/// The word in front of messages.
pub(crate) const SUBJECT: Subject = Subject::Synth;

/// What synthesis needs from outside.
pub struct SynthPorts<'a> {
    pub teachers: &'a dyn TeacherSource,
    pub models: &'a dyn Models,
    /// Waits, or returns early when the flag is raised.
    pub pause: &'a (dyn Fn(Duration, &Cancel) + Sync),
}

/// The pairs in a teacher's answer about `passage` that a document can hold, as sections; the rest is left out.
pub fn sections_of(answer: &str, passage: &str) -> Vec<Section> {
    let pairs = parse::parse(answer).map(|answer| answer.pairs).unwrap_or_default();
    let kept = pairs
        .iter()
        .filter_map(|(question, answer)| clean::clean(question, answer, passage).ok());
    kept.map(|pair| pair.section).collect()
}

/// The passage of [`sample_request`].
const SAMPLE: &str = "The Halden Lighthouse stands on a cliff above the village of Mirrow. Greta Osk, a glass maker, built it in 1904. \
                      The lamp of the lighthouse is lit at dusk and burns until six in the morning.";
/// Pairs that it asks for.
const SAMPLE_PAIRS: usize = 2;

/// What a teacher is asked about a short passage, word for word as `dlm synth instructions` asks.
pub fn sample_request() -> TeacherRequest {
    let passage = passage::Passage {
        source: Section::text(SectionKind::Prose, SAMPLE).id(),
        headings: vec!["Halden".to_owned()],
        text: SAMPLE.to_owned(),
    };
    TeacherRequest {
        system: passage::system(Strategy::Extraction),
        user: passage::user(Strategy::Extraction, &passage, SAMPLE_PAIRS),
        new_tokens_max: 512,
        temperature: 0.0,
        top_p: None,
        seed: Some(0),
    }
}

/// Why nothing of a teacher's answer to [`sample_request`] would reach a document; nothing where a pair would.
pub fn sample_problem(answer: &str) -> Option<String> {
    let found = match parse::parse(answer) {
        Ok(found) => found,
        Err(complaint) => return Some(format!("no pair can be read in its answer: {complaint}")),
    };
    let refusals: Vec<clean::Refusal> = found
        .pairs
        .iter()
        .filter_map(|(question, answer)| clean::clean(question, answer, SAMPLE).err())
        .collect();
    let (reason, detail) = refusals.first().filter(|_| refusals.len() == found.pairs.len())?;
    let detail = detail
        .as_deref()
        .map(|detail| format!(": {detail}"))
        .unwrap_or_default();
    Some(format!("none of its pairs would be taken, `{reason}`{detail}"))
}

/// What is asked of the teacher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Strategy {
    /// Questions that the passage answers outright.
    Extraction,
    /// Questions that go on from it.
    Expansion,
}

impl Strategy {
    /// The word in markers and reports.
    pub fn name(self) -> &'static str {
        match self {
            Strategy::Extraction => "extraction",
            Strategy::Expansion => "expansion",
        }
    }
}

/// `--strategy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategies {
    Extraction,
    Expansion,
    Both,
}

impl Strategies {
    /// How many pairs of each kind one section is asked for; kinds with none are not asked.
    pub(crate) fn budget(self, per_section: usize) -> Vec<(Strategy, usize)> {
        let split = match self {
            Strategies::Extraction => [(Strategy::Extraction, per_section), (Strategy::Expansion, 0)],
            Strategies::Expansion => [(Strategy::Extraction, 0), (Strategy::Expansion, per_section)],
            Strategies::Both => [
                (Strategy::Extraction, per_section.div_ceil(2)),
                (Strategy::Expansion, per_section / 2),
            ],
        };
        split.into_iter().filter(|(_, pairs)| *pairs > 0).collect()
    }
}

/// `--filter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Filter {
    /// The base must find the answer likelier with the passage than without it.
    Sway,
    /// Only exact duplicates are dropped.
    None,
    /// Near duplicates are dropped as well.
    DedupOnly,
}

/// How to synthesize.
#[derive(Clone, Debug)]
pub struct SynthOptions {
    pub path: PathBuf,
    /// Teacher selector.
    pub teacher: String,
    /// Pairs that one section is asked for, at least 1.
    pub per_section: usize,
    pub strategies: Strategies,
    /// [`Filter::Sway`] when none was typed.
    pub filter: Option<Filter>,
    pub threshold: Option<f64>,
    /// Most pairs that are accepted.
    pub pairs_max: Option<usize>,
    pub new_tokens_max: u32,
    pub temperature: f64,
    pub top_p: Option<f64>,
    pub seed: Option<u64>,
    /// Named adapter of a document with several: it teaches and filters, and the pairs are its own. Without, pairs are those of the
    /// adapter that has the section they were made from.
    pub adapter: Option<String>,
    /// Teachers side by side.
    pub concurrency: usize,
    /// Use and keep answers of remote teachers.
    pub uses_kept_answers: bool,
    pub applies: bool,
    /// Put sections right after their source.
    pub is_inline: bool,
    pub is_dry_run: bool,
}

/// A pair that a teacher wrote.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GeneratedPair {
    pub section_id: SectionId,
    pub source: SectionId,
    /// As typed, for people.
    pub teacher: String,
    pub strategy: Strategy,
    pub question: String,
    pub answer: String,
    /// How much likelier the base finds the answer with the passage, nats per token.
    pub grounding: Option<f64>,
    /// Share of the answer's content words that the passage has.
    pub support: Option<f64>,
    /// It passed the filter.
    pub is_accepted: bool,
}

/// A section or pair that gave nothing, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SynthSkip {
    /// A section id, or `-` for the document.
    pub section: String,
    pub strategy: Option<Strategy>,
    pub reason: &'static str,
    pub detail: Option<String>,
}

/// A pair that the filter dropped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FilteredPair {
    pub section_id: SectionId,
    pub reason: &'static str,
    pub detail: String,
    pub question: String,
}

/// How many pairs passed each part of the filter.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct FilterReport {
    pub filter: Filter,
    pub generated: usize,
    /// Left after duplicates were dropped.
    pub dedup: usize,
    /// Left after the base was asked; only with [`Filter::Sway`].
    pub judge_passed: Option<usize>,
    pub accepted: usize,
    pub threshold: Option<f64>,
}

/// What the teacher cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct UsageReport {
    pub requests: u64,
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
    /// Answers that were kept from an earlier run.
    pub kept_answers: u64,
}

/// What synthesis gave.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SynthReport {
    pub path: PathBuf,
    pub teacher: String,
    pub additions: Vec<GeneratedPair>,
    pub skipped: Vec<SynthSkip>,
    pub filter: FilterReport,
    pub filtered: Vec<FilteredPair>,
    pub usage: UsageReport,
    pub outcome: Outcome,
    pub written: usize,
}

/// A report, and why the command still does not end with success.
pub struct SynthesisResult {
    pub report: SynthReport,
    pub stopped: Option<Failure>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_judged_as_a_run_would() {
        let asked = sample_request();
        assert!(asked.user.contains(SAMPLE) && asked.user.starts_with("Write exactly 2 "));
        assert_eq!(
            sample_problem(r#"[{"question": "Who built it?", "answer": "Greta Osk."}]"#),
            None
        );
        for (answer, part) in [
            (
                "You asked: nothing",
                "no pair can be read in its answer: it is not JSON",
            ),
            (
                r#"[{"question": "What does the passage say?", "answer": "a"}]"#,
                "`refers_to_passage`: it says \"the passage\"",
            ),
            (r#"[{"question": "same", "answer": "Same"}]"#, "`repeats_question`"),
        ] {
            let problem = sample_problem(answer).unwrap();
            assert!(problem.contains(part), "{problem}");
        }
    }
}
