//! What goes into a training plan: what the document writes, how much it holds, and what the command asks for.
//!
//! These records are filled by `dlm-flow`, so that a plan can be made from any document model and tested from literals.

use dlm_core::hardware::{Hardware, SimdLevel};
use serde::{Deserialize, Serialize};

use crate::base::BaseFacts;

/// `training.adapter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AdapterKind {
    Lora,
    Qlora,
    Dora,
}

impl AdapterKind {
    /// The word of the frontmatter.
    pub fn name(self) -> &'static str {
        match self {
            AdapterKind::Lora => "lora",
            AdapterKind::Qlora => "qlora",
            AdapterKind::Dora => "dora",
        }
    }
}

/// `training.lr_scheduler`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    Cosine,
    Linear,
    Constant,
}

/// `training.cpt.schedule`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CptSchedule {
    Auto,
    Dapt,
    Sft,
}

/// `training.optimizer`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Optimizer {
    #[serde(rename = "adamw_torch")]
    AdamW,
    #[serde(rename = "adamw_bnb_8bit")]
    AdamW8bit,
    #[serde(rename = "paged_adamw_8bit")]
    PagedAdamW8bit,
    #[serde(rename = "galore_adamw")]
    Galore,
    #[serde(rename = "galore_adamw_8bit")]
    Galore8bit,
}

impl Optimizer {
    /// The word of the frontmatter.
    pub fn name(self) -> &'static str {
        match self {
            Optimizer::AdamW => "adamw_torch",
            Optimizer::AdamW8bit => "adamw_bnb_8bit",
            Optimizer::PagedAdamW8bit => "paged_adamw_8bit",
            Optimizer::Galore => "galore_adamw",
            Optimizer::Galore8bit => "galore_adamw_8bit",
        }
    }
}

/// The precision of the frozen products; reductions, softmax, norms, the loss and the adapter stay in f32 always.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    Bf16,
    Fp16,
    Fp32,
}

impl Precision {
    /// The word of the frontmatter.
    pub fn name(self) -> &'static str {
        match self {
            Precision::Bf16 => "bf16",
            Precision::Fp16 => "fp16",
            Precision::Fp32 => "fp32",
        }
    }

    /// Bytes of one packed weight.
    pub fn bytes(self) -> u64 {
        match self {
            Precision::Bf16 | Precision::Fp16 => 2,
            Precision::Fp32 => 4,
        }
    }
}

/// A number, or the word `auto` (which is the same as leaving the key out).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Auto {
    Auto,
    Given(u32),
}

impl Auto {
    /// The number, if one was given.
    pub fn given(self) -> Option<u32> {
        match self {
            Auto::Auto => None,
            Auto::Given(number) => Some(number),
        }
    }
}

/// `training.target_modules`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TargetModules {
    Auto,
    /// Presets (`attention`, `mlp`, `all-linear`), last path components, or dotted suffixes.
    Named(Vec<String>),
}

/// The `training` block as far as it is *written*: `None` is a key that the document leaves out.
///
/// On a document with named adapters these are the block of one adapter over the flat block.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TrainingKnobs {
    pub adapter: Option<AdapterKind>,
    pub lora_r: Option<u32>,
    pub lora_alpha: Option<u32>,
    pub lora_dropout: Option<f64>,
    pub target_modules: Option<TargetModules>,
    pub sequence_len: Option<u32>,
    pub micro_batch_size: Option<Auto>,
    pub grad_accum: Option<Auto>,
    pub learning_rate: Option<f64>,
    pub num_epochs: Option<u32>,
    pub optimizer: Option<Optimizer>,
    pub lr_scheduler: Option<Schedule>,
    pub warmup_ratio: Option<f64>,
    pub seed: Option<i64>,
    pub precision: Option<Precision>,
    pub cpt_schedule: Option<CptSchedule>,
    pub embed_warmup_steps: Option<u32>,
}

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
    pub knobs: TrainingKnobs,
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
