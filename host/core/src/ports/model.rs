//! The model port: what a plugin may ask of a language model, through the engine.
//!
//! The records mirror the interface `model` of `wit/host.wit`. Results come back in request order; an implementation
//! batches where it can. One handle may be used from several threads, one call at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::Cancel;

/// Which weights answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelWeights {
    /// The base alone.
    Base,
    /// Base plus the document's current adapter; a failure where there is none.
    Adapter,
}

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelRole {
    System,
    User,
    Assistant,
}

/// One message of a chat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelMessage {
    pub role: ModelRole,
    pub content: String,
}

/// A prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelPrompt {
    /// Text as it stands; the tokenizer adds its start token where it does so by itself.
    Raw(String),
    /// A chat, rendered with the model's template and a generation prompt.
    Chat(Vec<ModelMessage>),
}

/// Facts about a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelInfo {
    /// The selector that names it.
    pub name: String,
    /// Commit or file hash of the weights, when known.
    pub revision: Option<String>,
    pub architecture: String,
    pub context_length: u32,
    pub vocabulary_size: u32,
    pub has_adapter: bool,
    pub adapter_version: Option<u32>,
    pub has_chat_template: bool,
}

/// How tokens are drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelSampling {
    pub new_tokens_max: u32,
    /// 0.0 is greedy.
    pub temperature: f32,
    pub top_p: Option<f32>,
    pub top_k: Option<u32>,
    pub seed: Option<u64>,
    /// Texts that end the answer, besides the model's own end of turn.
    pub stop: Vec<String>,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelFinish {
    Stop,
    Length,
}

/// A request for text.
#[derive(Clone, Debug, PartialEq)]
pub struct GenerateRequest {
    pub prompt: ModelPrompt,
    pub weights: ModelWeights,
    pub sampling: ModelSampling,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelGeneration {
    /// Special tokens left out.
    pub text: String,
    pub prompt_tokens: u32,
    pub completion_tokens: u32,
    pub finish: ModelFinish,
}

/// A request for the log-probability of a completion.
///
/// After a chat prompt the completion's end-of-turn token counts as its last token; after raw text none is added. The ids
/// of prompt and completion are joined, never tokenized anew across the border.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScoreRequest {
    pub prompt: ModelPrompt,
    pub completion: String,
    pub weights: ModelWeights,
    /// Fill `tokens` in the answer.
    pub is_per_token: bool,
}

/// One token with its natural log-probability.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelToken {
    pub id: u32,
    pub text: String,
    pub logprob: f32,
}

/// The score of a completion.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelScore {
    /// Sum over the completion's tokens, natural logarithm.
    pub logprob: f64,
    pub token_count: u32,
    pub tokens: Vec<ModelToken>,
}

/// A request for a sequence classifier's opinion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RankRequest {
    pub prompt: ModelPrompt,
    pub completion: String,
}

/// A request for the likeliest next tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextRequest {
    pub prompt: ModelPrompt,
    pub weights: ModelWeights,
    /// 1 to 256.
    pub top: u32,
}

/// Why a model did not answer; the cases map one to one to `types.error` of the contract.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModelError {
    /// The request or the selector is wrong.
    #[error("{0}")]
    InvalidInput(String),
    /// Valid, but this model cannot do it, such as `rank` on a model without a classification head.
    #[error("{0}")]
    Unsupported(String),
    /// It cannot be had here: no adapter, license not accepted, weights missing or too large.
    #[error("{0}")]
    Unavailable(String),
    #[error("{0}")]
    NotFound(String),
    #[error("cancelled")]
    Cancelled,
    /// More tokens than the allowance of the call; never a case of the contract: whoever gave the allowance ends the guest.
    #[error("more tokens than are allowed")]
    Tokens,
    #[error("{0}")]
    Failed(String),
}

/// What one call may take of a model. The work of all its requests counts, also where the call fails.
#[derive(Debug)]
pub struct ModelAllowance {
    /// Raised when the call must end; looked at between the blocks of a pass.
    pub cancel: Cancel,
    given: u64,
    left: AtomicU64,
}

impl ModelAllowance {
    /// Allows so many tokens, read and written.
    pub fn new(tokens: u64, cancel: Cancel) -> ModelAllowance {
        ModelAllowance {
            cancel,
            given: tokens,
            left: AtomicU64::new(tokens),
        }
    }

    /// Allows any number of tokens: for what the program itself asks.
    pub fn unbounded(cancel: &Cancel) -> ModelAllowance {
        ModelAllowance::new(u64::MAX, cancel.clone())
    }

    /// Counts tokens before the work on them.
    ///
    /// **Errors:** [`ModelError::Tokens`] where fewer are left; all are used up then.
    pub fn take(&self, tokens: u64) -> Result<(), ModelError> {
        let rest = |left: u64| Some(left.saturating_sub(tokens));
        let left = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, rest);
        match left.unwrap_or(0) >= tokens {
            true => Ok(()),
            false => Err(ModelError::Tokens),
        }
    }

    /// Tokens that were counted; at most those that were given.
    pub fn taken(&self) -> u64 {
        self.given - self.left.load(Ordering::SeqCst)
    }
}

/// One loaded model. Loading happens at the first call that needs weights.
///
/// Every function that needs weights counts the tokens of its requests, prompts included, off the allowance, and ends soon
/// after its flag is raised.
pub trait Model: Send + Sync {
    /// Facts about it.
    fn info(&self) -> ModelInfo;

    /// Writes answers. A request with a seed gives the same text in every batch.
    fn generate(
        &self,
        requests: &[GenerateRequest],
        allowance: &ModelAllowance,
    ) -> Result<Vec<ModelGeneration>, ModelError>;

    /// Scores completions.
    fn score(&self, requests: &[ScoreRequest], allowance: &ModelAllowance) -> Result<Vec<ModelScore>, ModelError>;

    /// The raw output of a sequence classifier with one label, one number a request.
    fn rank(&self, requests: &[RankRequest], allowance: &ModelAllowance) -> Result<Vec<f64>, ModelError>;

    /// The likeliest next tokens, most likely first.
    fn next(&self, requests: &[NextRequest], allowance: &ModelAllowance) -> Result<Vec<Vec<ModelToken>>, ModelError>;

    /// Token ids of a text, without added special tokens.
    fn tokenize(&self, text: &str) -> Result<Vec<u32>, ModelError>;

    /// Text of token ids.
    fn detokenize(&self, ids: &[u32]) -> Result<String, ModelError>;

    /// A chat as text.
    fn render(&self, chat: &[ModelMessage], with_generation_prompt: bool) -> Result<String, ModelError>;
}

/// The models of a run.
pub trait Models: Send + Sync {
    /// The run's own model.
    ///
    /// **Errors**: [`ModelError::Unavailable`] where the command has none, such as `dlm plugin inspect`.
    fn current(&self) -> Result<Arc<dyn Model>, ModelError>;

    /// Another model by registry key, local base or `hf:org/name`; loaded once per run, under the usual license rules.
    fn named(&self, selector: &str) -> Result<Arc<dyn Model>, ModelError>;
}

/// A run without any model.
pub struct NoModels;

impl Models for NoModels {
    fn current(&self) -> Result<Arc<dyn Model>, ModelError> {
        Err(ModelError::Unavailable("this command runs without a model".to_owned()))
    }

    fn named(&self, _selector: &str) -> Result<Arc<dyn Model>, ModelError> {
        Err(ModelError::Unavailable("this command runs without a model".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_allowance_is_used_up_once() {
        let allowance = ModelAllowance::new(10, Cancel::new());
        assert_eq!(allowance.take(4), Ok(()));
        assert_eq!(allowance.take(6), Ok(()));
        assert_eq!((allowance.take(0), allowance.taken()), (Ok(()), 10));
        assert_eq!(allowance.take(1), Err(ModelError::Tokens));
        let small = ModelAllowance::new(3, Cancel::new());
        assert_eq!(small.take(u64::MAX), Err(ModelError::Tokens));
        assert_eq!((small.take(1), small.taken()), (Err(ModelError::Tokens), 3));
    }
}
