//! Rows of a run: what a section gives to learn, and the tokens with their targets that one step sees.
//!
//! Invariants: an instruction row has loss on its answer and the end of turn alone; the first token of a text is never
//! a target. Rows as they are written are tokenized once; a reworded question is new at each visit.

use std::cell::{Cell, OnceCell};

use dlm_core::random::Rng;
use dlm_core::{Hints, Subject};
use dlm_model::TargetKind;
use dlm_model::chat::{Message, Thinking};
use dlm_model::text::{LossRow, TextError, TextModel};

use crate::augment::{Augment, reword};

/// What a row teaches.
#[derive(Clone, Debug, PartialEq)]
pub enum SourceBody {
    /// Learned as an answer to a question.
    Pair { question: String, answer: String },
    /// Learned as running text (continued pretraining).
    Prose {
        text: String,
        /// Bytes at the beginning that repeat the window before: read, not learned.
        context: usize,
    },
}

/// One row as it comes out of a section.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceRow {
    /// Id of the section, 16 hex digits; of a row from an earlier version of the document `replay:<id>:<last seen>`.
    pub section_id: String,
    /// Position of the row inside its section.
    pub sub_index: u32,
    /// 1-based line of the section in its file, for reports.
    pub line: usize,
    pub body: SourceBody,
    /// Held out: never trained on, judged by its loss.
    pub is_validation: bool,
}

/// The two modes in which losses are reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowKind {
    Sft,
    Cpt,
}

/// What the id of a row begins with that is drawn from earlier versions of the document.
const REPLAY: &str = "replay:";

impl SourceRow {
    /// Says whether the row comes from an earlier version of the document.
    pub fn is_replayed(&self) -> bool {
        self.section_id.starts_with(REPLAY)
    }

    /// Returns the mode in which the row is trained.
    pub fn kind(&self) -> RowKind {
        match self.body {
            SourceBody::Pair { .. } => RowKind::Sft,
            SourceBody::Prose { .. } => RowKind::Cpt,
        }
    }
}

/// One target of a row: what the output at `position` should have been.
#[derive(Clone, Debug, PartialEq)]
pub struct RowTarget {
    /// Index into the row's tokens of the *input* whose output is judged.
    pub position: usize,
    pub kind: TargetKind,
    /// Weight of this target before it is divided by the step's sum.
    pub weight: f32,
}

/// Tokens and targets of one row.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub ids: Vec<u32>,
    pub targets: Vec<RowTarget>,
}

/// How rows become tokens.
#[derive(Clone, Debug)]
pub struct RowOptions {
    /// Rendered as the system turn; `None` leaves the template's own default.
    pub system_prompt: Option<String>,
    /// Longest row.
    pub sequence_len_max: usize,
    /// Weight of a token of running text beside a token of an answer.
    pub prose_weight: f32,
}

/// A row that cannot be trained on.
#[derive(Debug, thiserror::Error)]
pub enum RowError {
    #[error("section {section_id} (line {line}), pair {pair}: {tokens} tokens, but `sequence_len` allows {allowed}")]
    TooLong {
        section_id: String,
        line: usize,
        pair: u32,
        tokens: usize,
        allowed: usize,
    },
    #[error("section {section_id} (line {line}), pair {pair}: the answer has no token to learn from")]
    EmptyAnswer { section_id: String, line: usize, pair: u32 },
    #[error(transparent)]
    Text(#[from] TextError),
}

impl Hints for RowError {
    fn subject(&self) -> Subject {
        Subject::Training
    }

    fn hints(&self) -> Vec<String> {
        match self {
            RowError::TooLong { tokens, .. } => {
                vec![format!(
                    "raise `training.sequence_len` to at least {tokens}, or split the pair"
                )]
            }
            RowError::EmptyAnswer { .. } => vec!["write an answer under its `### A`".to_owned()],
            RowError::Text(error) => error.hints(),
        }
    }
}

/// Turns a source row into tokens with its own words, without rewording.
pub fn plain(row: &SourceRow, text: &TextModel, options: &RowOptions) -> Result<Row, RowError> {
    match &row.body {
        SourceBody::Pair { question, answer } => pair(row, question, answer, text, options),
        SourceBody::Prose { text: prose, context } => prose_row(row, prose, *context, text, options),
    }
}

/// Turns a source row into tokens, its question reworded by `rng`; none where the question stays as it is or the
/// reworded one is too long.
pub fn reworded(
    row: &SourceRow,
    text: &TextModel,
    options: &RowOptions,
    augment: &Augment,
    rng: &mut Rng,
) -> Result<Option<Row>, RowError> {
    let SourceBody::Pair { question, answer } = &row.body else {
        return Ok(None);
    };
    let changed = reword(question, augment, rng);
    if changed == *question {
        return Ok(None);
    }
    match pair(row, &changed, answer, text, options) {
        Err(RowError::TooLong { .. }) => Ok(None),
        other => other.map(Some),
    }
}

/// The rows of a run as they are written, each tokenized once.
///
/// Invariants: what is handed out is what [`plain`] gives; rows beyond the budget of tokens are made at each visit, so a
/// huge document costs time, not memory.
pub struct RowCache<'a> {
    sources: &'a [SourceRow],
    text: &'a TextModel,
    options: RowOptions,
    kept: Vec<OnceCell<Row>>,
    tokens_left: Cell<usize>,
}

/// Tokens that a cache keeps; a token with its target takes some 60 bytes.
const CACHE_TOKENS_MAX: usize = 1 << 20;

impl<'a> RowCache<'a> {
    /// Makes an empty cache.
    pub fn new(sources: &'a [SourceRow], text: &'a TextModel, options: RowOptions) -> Self {
        Self {
            kept: vec![OnceCell::new(); sources.len()],
            sources,
            text,
            options,
            tokens_left: Cell::new(CACHE_TOKENS_MAX),
        }
    }

    /// Returns a row as it is written.
    ///
    /// **Errors** as [`plain`].
    pub fn plain(&self, index: usize) -> Result<Row, RowError> {
        if let Some(row) = self.kept[index].get() {
            return Ok(row.clone());
        }
        let row = plain(&self.sources[index], self.text, &self.options)?;
        if let Some(left) = self.tokens_left.get().checked_sub(row.ids.len()) {
            self.tokens_left.set(left);
            return Ok(self.kept[index].get_or_init(|| row).clone());
        }
        Ok(row)
    }

    /// Returns a row with its question reworded by `rng`, or as it is written where that changes nothing.
    ///
    /// **Errors** as [`plain`].
    pub fn reworded(&self, index: usize, augment: &Augment, rng: &mut Rng) -> Result<Row, RowError> {
        match reworded(&self.sources[index], self.text, &self.options, augment, rng)? {
            Some(row) => Ok(row),
            None => self.plain(index),
        }
    }
}

/// Returns the conversation that asks one question.
pub fn question_messages(system_prompt: Option<&str>, question: &str) -> Vec<Message> {
    let mut messages: Vec<Message> = system_prompt.map(Message::system).into_iter().collect();
    messages.push(Message::user(question));
    messages
}

fn pair(
    row: &SourceRow,
    question: &str,
    answer: &str,
    text: &TextModel,
    options: &RowOptions,
) -> Result<Row, RowError> {
    let mut messages = question_messages(options.system_prompt.as_deref(), question);
    messages.push(Message::assistant(answer));
    let rendered = text.answer_row(&messages, Thinking::default())?;
    if rendered.loss.is_empty() || rendered.loss.start == 0 {
        return Err(RowError::EmptyAnswer {
            section_id: row.section_id.clone(),
            line: row.line,
            pair: row.sub_index + 1,
        });
    }
    // What follows the end of turn (a line break in most templates) is neither learned nor looked at.
    let ids = rendered.ids[..rendered.loss.end].to_vec();
    if ids.len() > options.sequence_len_max {
        return Err(RowError::TooLong {
            section_id: row.section_id.clone(),
            line: row.line,
            pair: row.sub_index + 1,
            tokens: ids.len(),
            allowed: options.sequence_len_max,
        });
    }
    let targets = rendered
        .loss
        .map(|t| RowTarget {
            position: t - 1,
            kind: TargetKind::Token(ids[t]),
            weight: 1.0,
        })
        .collect();
    Ok(Row { ids, targets })
}

fn prose_row(
    row: &SourceRow,
    prose: &str,
    context: usize,
    text: &TextModel,
    options: &RowOptions,
) -> Result<Row, RowError> {
    let LossRow { ids, loss } = text.prose_row_after(prose, context)?;
    if ids.len() > options.sequence_len_max {
        return Err(RowError::TooLong {
            section_id: row.section_id.clone(),
            line: row.line,
            pair: row.sub_index + 1,
            tokens: ids.len(),
            allowed: options.sequence_len_max,
        });
    }
    let targets = loss
        .map(|t| RowTarget {
            position: t - 1,
            kind: TargetKind::Token(ids[t]),
            weight: options.prose_weight,
        })
        .collect();
    Ok(Row { ids, targets })
}

/// Replaces a share of the answer's input tokens by random ones, labels unchanged.
///
/// The model then cannot lean on the words it has just been shown and must find the fact through the question. Tokens
/// with a digit and special tokens stay, because a number with a right beginning is the commonest wrong answer.
pub fn add_noise(row: &mut Row, share: f64, text: &TextModel, rng: &mut Rng) {
    let vocab = text.tokenizer.vocab();
    let positions: Vec<usize> = row.targets.iter().map(|t| t.position).collect();
    // The first judged position is the last token of the prompt: it stays.
    for position in positions.into_iter().skip(1) {
        if rng.chance(share) && may_change(text, row.ids[position]) {
            let random = rng.below(vocab) as u32;
            if may_change(text, random) {
                row.ids[position] = random;
            }
        }
    }
}

/// Says whether a token is plain text without a digit.
fn may_change(text: &TextModel, id: u32) -> bool {
    let has_digit = || {
        text.tokenizer
            .token(id)
            .is_none_or(|t| t.chars().any(|c| c.is_ascii_digit()))
    };
    !text.tokenizer.is_special(id) && !has_digit()
}
