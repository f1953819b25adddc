//! Rows of a run: what a section gives to learn, and the tokens with their targets that one step sees.
//!
//! Invariants: an instruction row has loss on its answer and the end of turn alone; the first token of a text is never
//! a target. Tokens are made anew at each visit, because a question may be reworded from visit to visit.

use dlm_core::Hints;
use dlm_model::TargetKind;
use dlm_model::chat::{Message, Thinking};
use dlm_model::text::{TextError, TextModel};

use crate::augment::{Augment, reword};
use crate::rng::Rng;

/// What a row teaches.
#[derive(Clone, Debug, PartialEq)]
pub enum SourceBody {
    /// Learned as an answer to a question.
    Pair { question: String, answer: String },
    /// Learned as running text (continued pretraining).
    Prose { text: String },
}

/// One row as it comes out of a section.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceRow {
    /// Id of the section, 16 hex digits.
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

impl SourceRow {
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
    fn subject(&self) -> &str {
        "training"
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
        SourceBody::Prose { text: prose } => prose_row(row, prose, text, options),
    }
}

/// Turns a source row into tokens, its question reworded by `rng`. Falls back on the question as written where the
/// reworded one is too long.
pub fn reworded(
    row: &SourceRow,
    text: &TextModel,
    options: &RowOptions,
    augment: &Augment,
    rng: &mut Rng,
) -> Result<Row, RowError> {
    if let SourceBody::Pair { question, answer } = &row.body {
        let changed = reword(question, augment, rng);
        if changed != *question {
            match pair(row, &changed, answer, text, options) {
                Err(RowError::TooLong { .. }) => {}
                other => return other,
            }
        }
    }
    plain(row, text, options)
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

fn prose_row(row: &SourceRow, prose: &str, text: &TextModel, options: &RowOptions) -> Result<Row, RowError> {
    let ids = text.prose_row(prose)?.ids;
    if ids.len() > options.sequence_len_max {
        return Err(RowError::TooLong {
            section_id: row.section_id.clone(),
            line: row.line,
            pair: row.sub_index + 1,
            tokens: ids.len(),
            allowed: options.sequence_len_max,
        });
    }
    let targets = (1..ids.len())
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

/// Cuts text into windows of at most `limit` tokens, on paragraph, then sentence, then word borders.
///
/// `count` gives the number of tokens of a piece. Pieces keep their order and together hold every word.
pub fn windows(text: &str, limit: usize, count: &dyn Fn(&str) -> usize) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    let mut current = String::new();
    for piece in pieces(text, limit, count) {
        let joined = if current.is_empty() {
            piece.clone()
        } else {
            format!("{current}{piece}")
        };
        if !current.is_empty() && count(joined.trim()) > limit {
            out.push(current.trim().to_owned());
            current = piece;
        } else {
            current = joined;
        }
    }
    if !current.trim().is_empty() {
        out.push(current.trim().to_owned());
    }
    out
}

/// Splits into paragraphs, and those that are too long into sentences, and those into words.
fn pieces(text: &str, limit: usize, count: &dyn Fn(&str) -> usize) -> Vec<String> {
    let mut out = Vec::new();
    for paragraph in split_after(text, "\n\n") {
        if count(paragraph) <= limit {
            out.push(paragraph.to_owned());
            continue;
        }
        for sentence in split_after_sentence(paragraph) {
            if count(sentence) <= limit {
                out.push(sentence.to_owned());
            } else {
                out.extend(sentence.split_inclusive(' ').map(str::to_owned));
            }
        }
    }
    out
}

fn split_after<'a>(text: &'a str, mark: &'a str) -> impl Iterator<Item = &'a str> {
    text.split_inclusive(mark)
}

fn split_after_sentence(text: &str) -> Vec<&str> {
    let mut out = Vec::new();
    let mut start = 0;
    let bytes = text.as_bytes();
    for i in 0..bytes.len() {
        let ends = matches!(bytes[i], b'.' | b'!' | b'?') && bytes.get(i + 1).is_some_and(u8::is_ascii_whitespace);
        if ends {
            out.push(&text[start..i + 2]);
            start = i + 2;
        }
    }
    if start < text.len() {
        out.push(&text[start..]);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> usize {
        text.split_whitespace().count()
    }

    #[test]
    fn windows_hold_every_word_and_respect_the_limit() {
        let text = "One two three. Four five six! Seven eight.\n\nNine ten. Eleven twelve thirteen fourteen fifteen sixteen seventeen.";
        for limit in 1..12 {
            let got = windows(text, limit, &words);
            assert!(got.iter().all(|w| words(w) <= limit), "{limit}: {got:?}");
            let joined: Vec<&str> = got.iter().flat_map(|w| w.split_whitespace()).collect();
            assert_eq!(joined, text.split_whitespace().collect::<Vec<_>>());
        }
    }

    #[test]
    fn windows_prefer_paragraph_borders() {
        let got = windows("One two.\n\nThree four five.", 4, &words);
        assert_eq!(got, vec!["One two.", "Three four five."]);
    }
}
