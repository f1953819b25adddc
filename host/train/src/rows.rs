//! Rows of a run: the tokens with their targets that one step sees.
//!
//! Invariants: an instruction row has loss on its answer and the end of turn alone; the first token of a text is never a
//! target.

use dlm_core::random::Rng;
use dlm_model::TargetKind;
use dlm_model::chat::{Message, Thinking};
use dlm_model::text::{LossRow, TextError, TextModel};

/// The two modes in which losses are reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowKind {
    /// An answer to a question (supervised fine-tuning).
    Sft,
    /// Running text (continued pretraining).
    Cpt,
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

impl Row {
    /// Makes every token with loss a target of the given weight.
    pub fn new(tokens: &LossRow, weight: f32) -> Row {
        let targets = tokens.loss.clone().map(|t| RowTarget {
            position: t - 1,
            kind: TargetKind::Token(tokens.ids[t]),
            weight,
        });
        Row {
            ids: tokens.ids.clone(),
            targets: targets.collect(),
        }
    }
}

/// Returns the conversation that asks one question.
pub fn question_messages(system_prompt: Option<&str>, question: &str) -> Vec<Message> {
    let mut messages: Vec<Message> = system_prompt.map(Message::system).into_iter().collect();
    messages.push(Message::user(question));
    messages
}

/// Renders a question with its answer as prompts are rendered, and tokenizes it; what follows the end of turn (a line break in most
/// templates) is neither learned nor looked at. Without a token to learn from, or one before it, there is no loss.
///
/// **Errors:** text that cannot be encoded, a template that refuses it.
pub fn answer_tokens(
    system_prompt: Option<&str>,
    question: &str,
    answer: &str,
    text: &TextModel,
) -> Result<LossRow, TextError> {
    let mut messages = question_messages(system_prompt, question);
    messages.push(Message::assistant(answer));
    let mut tokens = text.answer_row(&messages, Thinking::default())?;
    if tokens.loss.start == 0 {
        tokens.loss = 0..0;
    }
    tokens.ids.truncate(tokens.loss.end);
    Ok(tokens)
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
