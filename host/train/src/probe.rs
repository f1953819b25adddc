//! Recall: what the trained model answers to the document's own questions.
//!
//! Invariants: generation is greedy, so the figure is a property of the weights; a response counts only when it has
//! every number of the reference, however alike the rest is.

use dlm_core::Cancel;
use dlm_model::Reader;
use dlm_model::chat::Thinking;
use dlm_model::generate::{GenerateError, Watch};
use dlm_model::sampling::Sampling;
use dlm_model::text::{TextError, TextModel};
use serde::{Deserialize, Serialize};

use crate::dataset::{Body, Example};
use crate::decode::{Prompt, continue_all};
use crate::rows::question_messages;

/// Token F1 from which a response that differs in wording counts as recalled.
const F1_MIN: f64 = 0.8;
/// Tokens that a response may be longer than its reference.
const SLACK_TOKENS: usize = 16;

/// What the model answered to one question of the document.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PairRecall {
    pub section_id: String,
    pub sub_index: u32,
    /// 1-based line of the section.
    pub line: usize,
    pub question: String,
    pub response: String,
    pub reference: String,
    /// The response is the reference, up to case, spacing and final punctuation.
    pub exact: bool,
    /// Harmonic mean of word precision and recall.
    pub f1: f64,
    /// Counts as known.
    pub recalled: bool,
}

/// Why recall could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    #[error(transparent)]
    Generate(#[from] GenerateError),
    #[error(transparent)]
    Text(#[from] TextError),
}

/// Asks every question of the examples greedily and compares the answers with the document's.
pub fn recall_pairs<'e>(
    reader: &mut dyn Reader,
    text: &TextModel,
    system_prompt: Option<&str>,
    examples: impl Iterator<Item = &'e Example>,
    cancel: &Cancel,
) -> Result<Vec<PairRecall>, ProbeError> {
    let pairs: Vec<(&Example, &str, &str)> = examples
        .filter_map(|example| match &example.body {
            Body::Pair { question, answer } => Some((example, question.as_str(), answer.as_str())),
            Body::Prose { .. } => None,
        })
        .collect();
    let asked: Vec<(&str, usize)> = pairs
        .iter()
        .map(|(_, question, answer)| Ok((*question, text.text_ids(answer)?.len() + SLACK_TOKENS)))
        .collect::<Result<_, TextError>>()?;
    let responses = answer_all(reader, text, system_prompt, &asked, cancel)?;
    Ok(pairs
        .into_iter()
        .zip(responses)
        .map(|((example, question, reference), response)| {
            let (exact, f1) = (
                normalize(&response) == normalize(reference),
                token_f1(&response, reference),
            );
            PairRecall {
                section_id: example.origin.to_string(),
                sub_index: example.index,
                line: example.origin.line(),
                question: question.to_owned(),
                recalled: exact || (f1 >= F1_MIN && has_numbers_of(&response, reference)),
                response,
                reference: reference.to_owned(),
                exact,
                f1,
            }
        })
        .collect())
}

/// Answers every question greedily with at most the given number of tokens.
pub fn answer_all(
    reader: &mut dyn Reader,
    text: &TextModel,
    system_prompt: Option<&str>,
    questions: &[(&str, usize)],
    cancel: &Cancel,
) -> Result<Vec<String>, ProbeError> {
    let prompts = questions
        .iter()
        .map(|(question, tokens_max)| {
            Ok(Prompt {
                ids: text.prompt_ids(&question_messages(system_prompt, question), Thinking::default())?,
                tokens_max: *tokens_max,
                sampling: Sampling::greedy(),
            })
        })
        .collect::<Result<Vec<_>, TextError>>()?;
    let answers = continue_all(reader, text, prompts, Watch::default(), cancel)?;
    Ok(answers
        .into_iter()
        .map(|answer| answer.text.trim().to_owned())
        .collect())
}

/// Lower case, words only, single spaces.
pub fn normalize(text: &str) -> String {
    words(text).join(" ")
}

fn words(text: &str) -> Vec<String> {
    text.to_lowercase()
        .split(|c: char| !c.is_alphanumeric() && c != '\'')
        .filter(|w| !w.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Harmonic mean of precision and recall over the words, counted with repetition.
pub fn token_f1(response: &str, reference: &str) -> f64 {
    let (mut left, right) = (words(response), words(reference));
    let (n_response, n_reference) = (left.len(), right.len());
    if n_response == 0 || n_reference == 0 {
        return 0.0;
    }
    let common = right
        .iter()
        .filter(|word| {
            left.iter()
                .position(|w| w == *word)
                .map(|i| left.swap_remove(i))
                .is_some()
        })
        .count();
    2.0 * common as f64 / (n_response + n_reference) as f64
}

fn has_numbers_of(response: &str, reference: &str) -> bool {
    let said = words(response);
    words(reference)
        .iter()
        .filter(|w| w.chars().any(|c| c.is_ascii_digit()))
        .all(|w| said.contains(w))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f1_counts_repetition() {
        assert_eq!(token_f1("a b c", "A, b. C!"), 1.0);
        assert!((token_f1("a a", "a b") - 0.5).abs() < 1e-12);
        assert_eq!(token_f1("", "a"), 0.0);
    }

    #[test]
    fn a_wrong_number_is_not_recalled() {
        assert!(!has_numbers_of("It was founded in 1878.", "It was founded in 1887."));
        assert!(has_numbers_of("Founded in 1887", "It was founded in 1887."));
    }

    #[test]
    fn normalizing_drops_case_and_punctuation() {
        assert_eq!(normalize(" The  Ferry,\nMaud! "), "the ferry maud");
    }
}
