//! What goes into a training plan: what the document writes, how much it holds, and what the command asks for.
//!
//! These records are filled by `dlm-flow`, so that a plan can be made from any document model and tested from literals.

use dlm_core::hardware::{Hardware, SimdLevel};
use dlm_core::training::{PhaseSelection, WrittenKnobs, WrittenPreference};
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
    /// Preference pairs, those of earlier versions among them.
    pub preference_rows: u64,
    /// Tokens of all pairs, the prompt of each counted once.
    pub preference_tokens: u64,
    /// The longest pair.
    pub preference_tokens_max: u64,
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
    pub preference: WrittenPreference,
    /// The named adapter that this plan trains, on a document that has some.
    pub adapter_name: Option<String>,
    /// Whether any adapter of the document is `qlora`: all of them are trained on one loaded base.
    pub wants_four_bits: bool,
}

/// What the command line asks for; `None` leaves it to the document and the plan.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TrainOptions {
    pub seed: Option<i64>,
    pub max_steps: Option<u64>,
    pub threads: Option<u32>,
    /// Plan as if only this much memory were there.
    pub memory_limit_bytes: Option<u64>,
    /// `DLM_FORCE=1`: go on where a refusal can be overridden.
    pub is_forced: bool,
    /// Continue the last run.
    pub is_resume: bool,
    /// The flag or variable that turns the cache of tokenized sections off, where one was given.
    pub cache_off: Option<String>,
    /// Processes that train together.
    pub world_size: Option<u32>,
    pub switches: Switches,
    /// `--phase`.
    pub phases: PhaseSelection,
    /// `--yes-slow`: go on however long it takes.
    pub allows_slow: bool,
    /// How fast this machine was measured to be; without, it is guessed from the instruction set.
    pub gflops: Option<Gflops>,
}

/// Billions of products and sums a second of the frozen products, on all threads of a run together.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gflops {
    pub f32: f64,
    pub bf16: f64,
}

/// Parts of the recipe that a person may switch as a whole; `None` leaves one to the recipe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switches {
    /// `--anchors`: rows of the base's own output beside the document's.
    pub anchors: Option<bool>,
    /// `--augment`: questions reworded at every visit.
    pub augment: Option<bool>,
    /// `--noise`: wrong tokens among the input of answers.
    pub noise: Option<bool>,
    /// `--simd`: no more than this instruction set.
    pub simd_max: Option<SimdLevel>,
}

impl Switches {
    /// The flags that say the same, each with a space before it.
    pub fn flags(&self) -> String {
        let mut flags = String::new();
        let parts = [
            ("--anchors", self.anchors),
            ("--augment", self.augment),
            ("--noise", self.noise),
        ];
        for (flag, is_on) in parts {
            if let Some(is_on) = is_on {
                flags += &format!(" {flag} {}", if is_on { "on" } else { "off" });
            }
        }
        if let Some(level) = self.simd_max {
            flags += &format!(" --simd {}", level.name());
        }
        flags
    }
}

/// Everything a training plan is made from.
#[derive(Clone, Copy, Debug)]
pub struct TrainRequest<'a> {
    pub document: &'a DocumentFacts,
    pub base: &'a BaseFacts,
    pub hardware: &'a Hardware,
    pub options: &'a TrainOptions,
}
