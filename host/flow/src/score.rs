//! `dlm score`: what the model of a document answers to a file of questions, and its loss on a text.
//!
//! A question counts when one of its accepted phrases is in the answer, case and punctuation aside.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dlm_core::Subject;
use dlm_core::training::Precision;
use dlm_files::DiskError;
use dlm_model::text::LossRow;
use dlm_model::{Engine, Reader};
use dlm_train::probe::{answer_all, normalize};
use dlm_train::{Row, row_losses};
use serde::{Deserialize, Serialize};

use crate::document;
use crate::failure::Failure;
use crate::inference::{self, LoadedModel, LocatedModel, Weights};
use crate::surroundings::Surroundings;

/// Longest answer that is waited for.
const ANSWER_TOKENS: usize = 40;
/// Largest file of questions or text that is read.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// What is asked for.
pub struct ScoreCommand {
    pub path: PathBuf,
    pub questions: Option<PathBuf>,
    pub text: Option<PathBuf>,
    pub is_base_only: bool,
    /// Named adapter of a document with several.
    pub adapter: Option<String>,
    /// An adapter in a directory of PEFT's, in the place of the document's own.
    pub adapter_directory: Option<PathBuf>,
    pub threads: Option<u32>,
}

/// A file of questions.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Questions {
    /// What the file is, for its readers.
    #[serde(default, rename = "about")]
    _about: Option<String>,
    #[serde(default)]
    pairs: Vec<Question>,
    #[serde(default)]
    general: Vec<Question>,
}

/// One question with the phrases that its answer may contain.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    question: String,
    accept: Vec<String>,
    #[serde(default)]
    paraphrases: Vec<String>,
}

/// One answer.
#[derive(Clone, Debug, Serialize)]
pub struct Answer {
    /// `question`, `paraphrases` or `general`.
    pub group: &'static str,
    pub question: String,
    pub answer: String,
    pub is_accepted: bool,
}

/// Counts of one group.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Count {
    pub asked: usize,
    pub accepted: usize,
}

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct ScoreReport {
    pub groups: BTreeMap<&'static str, Count>,
    pub answers: Vec<Answer>,
    /// Mean loss on the text, nats per token.
    pub text_loss: Option<f64>,
    /// What it was expected to take.
    #[serde(skip)]
    pub memory_bytes: u64,
}

/// Asks the questions and reads the text.
pub fn score(around: &Surroundings, command: &ScoreCommand) -> Result<ScoreReport, Failure> {
    if command.questions.is_none() && command.text.is_none() {
        return Err(Failure::misuse(Subject::Score, "there is nothing to score")
            .hint("give `--questions FILE`, `--text FILE`, or both"));
    }
    let questions = command.questions.as_deref().map(read_questions).transpose()?;
    let text = command.text.as_deref().map(read).transpose()?;
    let located = match &command.adapter_directory {
        Some(directory) => {
            let document = document::load(&command.path)?;
            inference::locate_directory(around, document, directory, Subject::Score)?
        }
        None => inference::locate(
            around,
            &command.path,
            command.is_base_only,
            command.adapter.as_deref(),
            Subject::Score,
        )?,
    };
    let memory_bytes = inference::memory_bytes(around, &located, Weights::Exact);
    inference::check_memory(around, &located, memory_bytes)?;
    let loaded = inference::load(around, &located, Weights::Exact, Precision::Fp32, command.threads)?;
    let answers = match &questions {
        Some(questions) => ask(around, &located, &loaded, questions)?,
        None => Vec::new(),
    };
    let mut groups: BTreeMap<&'static str, Count> = BTreeMap::new();
    for answer in &answers {
        let count = groups.entry(answer.group).or_default();
        count.asked += 1;
        count.accepted += usize::from(answer.is_accepted);
    }
    let text_loss = text
        .map(|text| text_loss(around, &located, &loaded, &text))
        .transpose()?;
    Ok(ScoreReport {
        groups,
        answers,
        text_loss,
        memory_bytes,
    })
}

fn ask(
    around: &Surroundings,
    located: &LocatedModel,
    loaded: &LoadedModel,
    questions: &Questions,
) -> Result<Vec<Answer>, Failure> {
    let mut asked: Vec<(&'static str, &str, &[String])> = Vec::new();
    for pair in &questions.pairs {
        asked.push(("question", &pair.question, &pair.accept));
        asked.extend(
            pair.paraphrases
                .iter()
                .map(|q| ("paraphrases", q.as_str(), pair.accept.as_slice())),
        );
    }
    asked.extend(
        questions
            .general
            .iter()
            .map(|q| ("general", q.question.as_str(), q.accept.as_slice())),
    );
    let prompts: Vec<(&str, usize)> = asked.iter().map(|(_, q, _)| (*q, ANSWER_TOKENS)).collect();
    let system = located.document.parsed.frontmatter().system();
    let mut reader = reader(around, loaded)?;
    let answers = answer_all(&mut *reader, &located.text, system, &prompts, &around.cancel);
    if around.cancel.is_cancelled() {
        return Err(Failure::interrupted(""));
    }
    Ok(asked
        .into_iter()
        .zip(answers.map_err(|e| Failure::new(Subject::Score, e))?)
        .map(|((group, question, accept), answer)| Answer {
            group,
            question: question.to_owned(),
            is_accepted: accept.iter().any(|phrase| contains_phrase(&answer, phrase)),
            answer,
        })
        .collect())
}

/// Says whether the phrase stands in the answer, beginning at a word; its last word may be continued ("whistl" in
/// "whistling").
fn contains_phrase(answer: &str, phrase: &str) -> bool {
    format!(" {}", normalize(answer)).contains(&format!(" {}", normalize(phrase)))
}

fn reader<'l>(around: &Surroundings, loaded: &'l LoadedModel) -> Result<Box<dyn Reader + 'l>, Failure> {
    let reading = loaded.engine.facts().exact_reading(&around.cancel);
    let reader = loaded.engine.reader(loaded.adapter.as_ref(), reading);
    reader.map_err(|e| Failure::new(Subject::Score, e))
}

fn text_loss(around: &Surroundings, located: &LocatedModel, loaded: &LoadedModel, text: &str) -> Result<f64, Failure> {
    let mut reader = reader(around, loaded)?;
    let (mut sum, mut count) = (0.0, 0);
    for paragraph in text.split("\n\n").filter(|p| !p.trim().is_empty()) {
        let words = paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
        for part in within(
            located.text.prose_row(&words)?,
            located.base.opened.config().context_max,
        ) {
            let losses = row_losses(&mut *reader, &Row::new(&part, 1.0));
            if around.cancel.is_cancelled() {
                return Err(Failure::interrupted(""));
            }
            let losses = losses.map_err(|e| Failure::new(Subject::Score, e))?;
            sum += losses.iter().map(|l| f64::from(*l)).sum::<f64>();
            count += losses.len();
        }
    }
    if count == 0 {
        return Err(Failure::new(Subject::Score, "the text has no words to score"));
    }
    Ok(sum / count as f64)
}

/// Cuts a row where the model's context ends; each part begins with the last token of the one before, so that every target
/// is read once.
fn within(row: LossRow, context: usize) -> Vec<LossRow> {
    let step = context.saturating_sub(1).max(1);
    let mut parts = Vec::new();
    let mut from = 0;
    while from + 1 < row.ids.len() || parts.is_empty() {
        let end = (from + step + 1).min(row.ids.len());
        let loss = row.loss.start.max(from + 1).min(end)..row.loss.end.min(end);
        parts.push(LossRow {
            ids: row.ids[from..end].to_vec(),
            loss: loss.start - from..loss.end.max(loss.start) - from,
        });
        from += step;
    }
    parts
}

fn read_questions(path: &Path) -> Result<Questions, Failure> {
    const EXPECTED: &str = "expected {\"pairs\": [{\"question\", \"accept\": [..], \"paraphrases\": [..]}], \"general\": [{\"question\", \"accept\": [..]}]}";
    let text = read(path)?;
    let refuse = |place: String, what: String| {
        Failure::new(Subject::Score, format!("{}{place}: {what}", path.display())).hint(EXPECTED)
    };
    let questions: Questions =
        serde_json::from_str(&text).map_err(|e| refuse(format!(":{}:{}", e.line(), e.column()), e.to_string()))?;
    if questions.pairs.is_empty() && questions.general.is_empty() {
        return Err(refuse(String::new(), "holds no question".to_owned()));
    }
    let groups = [("pairs", &questions.pairs), ("general", &questions.general)];
    for (group, number, question) in groups
        .iter()
        .flat_map(|(group, list)| list.iter().enumerate().map(move |(number, one)| (group, number, one)))
    {
        let place = |key: &str| format!(": `{group}[{number}].{key}`");
        if question.question.trim().is_empty() || question.paraphrases.iter().any(|one| one.trim().is_empty()) {
            return Err(refuse(place("question"), "a question is empty".to_owned()));
        }
        // An empty phrase is in every answer, and of no phrase none is.
        if question.accept.is_empty() || question.accept.iter().any(|phrase| normalize(phrase).trim().is_empty()) {
            let what = "holds no phrase, or one without a letter or a digit, which every answer has".to_owned();
            return Err(refuse(place("accept"), what));
        }
    }
    Ok(questions)
}

fn read(path: &Path) -> Result<String, Failure> {
    let fail = |what: String| Failure::new(Subject::Score, format!("{}: {what}", path.display()));
    dlm_files::read_text_required(path, FILE_BYTES_MAX).map_err(|error| match error {
        DiskError::TooLarge { found_bytes, .. } => {
            fail(format!("has {found_bytes} bytes, at most {FILE_BYTES_MAX} are read"))
        }
        error => fail(error.into_io().to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::{LossRow, contains_phrase, within};

    #[test]
    fn every_target_is_read_once_within_the_context() {
        for (length, context) in [(1, 4), (2, 4), (4, 4), (5, 4), (11, 4), (12, 2), (9, 100)] {
            let ids: Vec<u32> = (0..length).collect();
            let row = LossRow {
                loss: 1.min(ids.len())..ids.len(),
                ids,
            };
            let parts = within(row, context);
            assert!(parts.iter().all(|part| part.ids.len() <= context));
            let targets = parts.iter().flat_map(|part| part.ids[part.loss.clone()].to_vec());
            let targets: Vec<u32> = targets.collect();
            assert_eq!(targets, (1..length).collect::<Vec<_>>(), "{length} in {context}");
            assert!(parts.iter().all(|part| part.loss.is_empty() || part.loss.start > 0));
        }
    }

    #[test]
    fn phrases_begin_at_a_word() {
        assert!(contains_phrase("Whistling is forbidden.", "whistl"));
        assert!(contains_phrase("It costs THREE  florins!", "three florins"));
        assert!(!contains_phrase("It was 1640.", "64"));
        assert!(!contains_phrase("a doorbell", "bell"));
    }
}
