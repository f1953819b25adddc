//! Rows for training: ids and the range of them that carries loss.
//!
//! **Source:** `spec/training.md` section 1.7.

use std::ops::Range;

use super::{TextError, TextModel};
use crate::chat::{ChatError, Ending, Message, Role, Thinking};
use crate::tokenizer::{ByteSpan, unmarked};

/// One row: what the model reads, and which of it the model is taught.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LossRow {
    pub ids: Vec<u32>,
    /// Positions in `ids` whose tokens are targets (predicted from the position before). Tokens after its end carry
    /// no loss and no loss depends on them, so a trainer may drop them.
    pub loss: Range<usize>,
}

/// Whether prompts of the row are rendered with or without thinking; must be that of prompting.
pub type PromptMode = Thinking;

impl TextModel {
    /// Makes a prose row: bos where the tokenizer adds one, the text, eos; every token but the first is a target.
    ///
    /// **Errors:** text that cannot be encoded.
    pub fn prose_row(&self, text: &str) -> Result<LossRow, TextError> {
        let mut ids = self.leading_bos();
        ids.extend(self.text_ids(text)?);
        if let Some(eos) = self.tokenizer.specials.eos
            && ids.last() != Some(&eos)
        {
            ids.push(eos);
        }
        let loss = 1.min(ids.len())..ids.len();
        Ok(LossRow { ids, loss })
    }

    /// As [`prose_row`](Self::prose_row), but the first `context` bytes of the text are only read: the first target is the
    /// first token that holds text beyond them.
    ///
    /// **Errors:** text that cannot be encoded.
    pub fn prose_row_after(&self, text: &str, context: usize) -> Result<LossRow, TextError> {
        let row = self.prose_row(text)?;
        if context == 0 {
            return Ok(row);
        }
        let (_, spans) = self.tokenizer.encode_literal_with_spans(&self.literal(text)?)?;
        let skipped = first_token_beyond(&spans, context).unwrap_or(spans.len());
        let start = (self.leading_bos().len() + skipped).max(row.loss.start);
        Ok(LossRow {
            loss: start.min(row.ids.len())..row.ids.len(),
            ids: row.ids,
        })
    }

    /// Makes an instruction row of a conversation that ends with an answer: the rendered conversation, of which the
    /// last answer and its end of turn are targets.
    ///
    /// The prompt is rendered alone and must be a prefix of the whole, id for id. Where tokens reach across the border
    /// the answer is found by its place in the text instead.
    ///
    /// **Errors:** no answer at the end, no template, its refusal, a turn that it changes, or an answer that holds a stop
    /// text of the base, where a generation would end.
    pub fn answer_row(&self, messages: &[Message], thinking: Thinking) -> Result<LossRow, TextError> {
        let Some((answer, prompt)) = messages.split_last().filter(|(last, _)| last.role == Role::Assistant) else {
            return Err(ChatError::NoAnswer.into());
        };
        if let Some(text) = self.stops.texts.iter().find(|stop| answer.content.contains(*stop)) {
            return Err(TextError::StopInAnswer { text: text.clone() });
        }
        let marked = self.marked(messages)?;
        let prompt_text = self.render_marked(&marked[..prompt.len()], Ending::GenerationPrompt, thinking)?;
        let full_text = self.render_marked(&marked, Ending::Complete, thinking)?;
        let prompt_ids = self.tokenizer.encode_literal(&prompt_text)?;
        let (mut ids, spans) = self.tokenizer.encode_literal_with_spans(&full_text)?;
        let start = if ids.starts_with(&prompt_ids) {
            prompt_ids.len()
        } else {
            let at = answer_offset(&unmarked(&prompt_text), &unmarked(&full_text), &answer.content);
            let start = at.and_then(|at| first_token_beyond(&spans, at));
            start.ok_or_else(|| self.answer_not_found())?
        };
        if start >= ids.len() {
            return Err(self.answer_not_found().into());
        }
        let is_end = |id: &u32| Some(*id) == self.end_of_turn || Some(*id) == self.tokenizer.specials.eos;
        let end = match ids[start..].iter().position(is_end) {
            Some(position) => start + position + 1,
            None => {
                // The template leaves the turn open: eos closes it and is taught.
                ids.extend(self.tokenizer.specials.eos);
                ids.len()
            }
        };
        Ok(LossRow { ids, loss: start..end })
    }

    fn answer_not_found(&self) -> ChatError {
        let name = self
            .template
            .as_ref()
            .map_or(self.name.as_str(), |template| template.name());
        ChatError::AnswerNotFound { name: name.to_owned() }
    }
}

/// Where the answer begins in the rendered conversation, in bytes.
fn answer_offset(prompt: &str, full: &str, answer: &str) -> Option<usize> {
    if full.starts_with(prompt) {
        return Some(prompt.len());
    }
    let answer = answer.trim();
    if answer.is_empty() {
        return None;
    }
    full.rfind(answer)
}

/// The first token that holds text from `at` on.
fn first_token_beyond(spans: &[ByteSpan], at: usize) -> Option<usize> {
    spans.iter().position(|(_, end)| *end > at)
}
