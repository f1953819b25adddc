//! What one phase of a run does: its rate, its length, the rows of an update, when it ends.
//!
//! Invariants: the phases of a plan share the base, the adapter's shape, the machine and the memory budget; what differs
//! between them stands here.

use dlm_core::training::{
    Checkpointing, CptSchedule, LrSchedule, Optimizer, PreferenceLoss, PreferenceMethod, PreferenceReference,
    TrainPhase,
};
use serde::{Deserialize, Serialize};

use crate::knob::Knob;

/// One phase of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PhasePlan {
    pub phase: TrainPhase,
    /// Of a phase that teaches preferences.
    pub preference: Option<PreferencePlan>,
    pub learning_rate: Knob<f64>,
    pub optimizer: Knob<Optimizer>,
    /// Global L2 norm that gradients are cut to.
    pub clip_norm: Knob<f64>,
    pub schedule: SchedulePlan,
    pub steps: StepsPlan,
    pub batch: BatchPlan,
    pub stop: StopPlan,
    pub anchors: Knob<AnchorPlan>,
    pub augment: Knob<AugmentPlan>,
    pub noise: Knob<NoisePlan>,
    /// Which activations are computed anew on the way back instead of being kept.
    pub checkpointing: Knob<Checkpointing>,
    /// A rough guess from the arithmetic and the instruction set; the run measures.
    pub seconds_per_step: f64,
}

impl PhasePlan {
    /// About how long it takes.
    pub fn seconds(&self) -> f64 {
        self.seconds_per_step * self.steps.total.value as f64
    }
}

/// How preferences are taught.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PreferencePlan {
    pub method: PreferenceMethod,
    /// Of DPO.
    pub loss: PreferenceLoss,
    /// Of DPO.
    pub reference: PreferenceReference,
    /// Of DPO.
    pub beta: f64,
    /// Of ORPO.
    pub alpha: f64,
}

/// The learning rate's course.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SchedulePlan {
    pub kind: Knob<LrSchedule>,
    pub warmup_steps: Knob<u64>,
    /// The share of the peak that the rate falls to; 0 except for continued pretraining.
    pub floor: Knob<f64>,
    /// Which regime was taken, never `auto`.
    pub regime: Knob<CptSchedule>,
    /// Share of prose rows among the rows of the training side.
    pub prose_share: f64,
    /// First updates that also train the embedding and the head.
    pub embed_warmup_steps: u32,
}

/// How long the run is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepsPlan {
    pub epochs: Knob<u32>,
    pub steps_per_epoch: u64,
    /// Optimizer updates at most; the stop rule may end the run before.
    pub total: Knob<u64>,
    /// An evaluation comes every so many updates; 0 when nothing is held out.
    pub eval_every: u64,
    /// Evaluations without improvement that end the run.
    pub eval_patience: u32,
}

impl StepsPlan {
    /// Updates of the plan without `--max-steps`.
    pub fn uncapped(&self) -> u64 {
        u64::from(self.epochs.value).saturating_mul(self.steps_per_epoch)
    }
}

/// The rows of one update.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BatchPlan {
    /// Document rows, or pairs, in one forward pass.
    pub micro_rows: Knob<u32>,
    /// Forward passes in one update.
    pub grad_accum: Knob<u32>,
    /// `micro_rows * grad_accum * world_size`: document rows, or pairs, in one update.
    pub effective_rows: u32,
    /// Tokens of one forward pass at most, the anchors included; what the memory estimate counts.
    pub tokens_max: u64,
    /// Tokens of one forward pass in the mean; what the time estimate counts.
    pub tokens_mean: u64,
    /// Rows share one copy of the system turn and are packed without padding.
    pub is_packed: bool,
}

/// When a run ends before its last step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StopPlan {
    /// The mean loss of one epoch's clean answer tokens under which the run ends, in nats a token.
    pub answer_loss: Knob<Option<f64>>,
    /// Never before this many updates.
    pub steps_min: u64,
}

/// The anchors: rows of the base's own output with a penalty for leaving its distribution.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AnchorPlan {
    pub is_on: bool,
    /// Anchors in one update, beside the document's rows.
    pub rows_per_step: u32,
    /// Weight of the KL term of an anchor's token against an answer token's loss.
    pub strength: f64,
    /// Probabilities kept per position; the rest is one lumped bucket.
    pub top_k: u32,
    /// Rows in the set, prepared once per base and kept.
    pub set_rows: u32,
    /// Tokens that the base generates for a row at most.
    pub row_tokens_max: u32,
    /// Share of the set that is greedy answers to neutral questions; the rest is free samples.
    pub greedy_share: f64,
}

/// Variations of the questions, made anew at every visit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AugmentPlan {
    pub is_on: bool,
    /// Share of the visits in which the question is reworded: put into a frame, with words dropped.
    pub share: f64,
    /// Chance that a function word is dropped from such a question.
    pub drop_function: f64,
    /// Chance that another word is dropped; never a name or a word with a digit.
    pub drop_content: f64,
}

/// Noise on the answer's input tokens; the labels stay.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NoisePlan {
    pub is_on: bool,
    /// Share of the answer's input tokens that are replaced.
    pub share: f64,
    /// Share of the steps, at the end, without noise and rewording.
    pub clean_tail: f64,
}
