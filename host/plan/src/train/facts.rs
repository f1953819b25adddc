//! What goes into a training plan: what the document writes, how much it holds, and what the command asks for.
//!
//! These records are filled by `dlm-flow`, so that a plan can be made from any document model and tested from literals.

use dlm_core::hardware::{Hardware, SimdLevel};
use dlm_core::training::WrittenKnobs;
use serde::{Deserialize, Serialize};

use crate::base::BaseFacts;

/// How much there is to train on, after expansion, split and tokenizing.
///
/// **Units**: tokens of the base's tokenizer, templates included. A shared prefix (the system turn that all rows of a
/// step begin with) is counted once per step, in `shared_prefix_tokens`, and not in the rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowFacts {
    pub sections: u64,
    /// Question-answer pairs on the training side.
    pub instruction_rows: u64,
    pub instruction_tokens: u64,
    /// Of those, the tokens with loss.
    pub answer_tokens: u64,
    /// The longest instruction row.
    pub instruction_tokens_max: u64,
    /// Prose sections on the training side.
    pub prose_sections: u64,
    pub prose_tokens: u64,
    /// Rows held out for validation.
    pub validation_rows: u64,
    /// Rows mixed in from earlier versions.
    pub replay_rows: u64,
    pub replay_tokens: u64,
    pub preference_rows: u64,
    pub image_rows: u64,
    pub audio_rows: u64,
    pub shared_prefix_tokens: u64,
}

/// What a document asks for and holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DocumentFacts {
    /// On a document with named adapters: the block of one adapter over the flat block.
    pub knobs: WrittenKnobs,
    pub rows: RowFacts,
    /// The named adapter that this plan trains, on a document that has some.
    pub adapter_name: Option<String>,
}

/// What the command line asks for; `None` leaves it to the document and the plan.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TrainOptions {
    pub seed: Option<i64>,
    pub max_steps: Option<u64>,
    pub threads: Option<u32>,
    /// Use no more than this instruction set.
    pub simd_max: Option<SimdLevel>,
    /// Plan as if only this much memory were there.
    pub memory_limit_bytes: Option<u64>,
    /// `DLM_FORCE=1`: go on where a refusal can be overridden.
    pub is_forced: bool,
    /// Continue the last run.
    pub is_resume: bool,
    /// Processes that train together.
    pub world_size: Option<u32>,
    /// Switch the base's hold, the question augmentation or the answer noise on or off against the recipe.
    pub hold: Option<bool>,
    pub augment: Option<bool>,
    pub noise: Option<bool>,
}

/// Everything a training plan is made from.
#[derive(Clone, Copy, Debug)]
pub struct TrainRequest<'a> {
    pub document: &'a DocumentFacts,
    pub base: &'a BaseFacts,
    pub hardware: &'a Hardware,
    pub options: &'a TrainOptions,
}
