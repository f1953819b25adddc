//! Every number that a run depends on besides its rows, and the digest that ties a kept state to its run.

use dlm_core::digest::Sha256;
use dlm_core::training::{Checkpointing, MomentType};
use dlm_model::AdapterSpec;
use serde::{Serialize, Serializer};

use crate::augment::Augment;
use crate::dataset::Dataset;
use crate::pairs::Pair;
use crate::preference::{Both, PreferenceRule};
use crate::schedule::Schedule;

/// Every number that a run depends on, besides its rows.
///
/// The names of its fields are part of the digest of kept states ([`run_digest`]).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Recipe {
    pub seed: u64,
    /// Peak learning rate.
    pub lr: f64,
    pub schedule: Schedule,
    pub rows_per_step: usize,
    /// Most tokens of one forward pass; a step with more is accumulated over several.
    pub batch_tokens_max: usize,
    /// Largest global gradient norm.
    pub clip: Option<f64>,
    pub weight_decay: f64,
    /// Rewording of questions; `None` trains every question as written.
    pub augment: Option<Augment>,
    /// Share of the answer's input tokens that are replaced by random ones.
    pub noise_share: f64,
    /// Share of the steps, at the end, that see no noise and no rewording.
    pub clean_share: f64,
    /// Rows of the base's own output in each step.
    #[serde(rename = "hold_rows_per_step")]
    pub anchors_per_step: usize,
    /// Weight of the mean divergence on them beside the mean loss on the document.
    #[serde(rename = "hold_weight")]
    pub anchor_weight: f64,
    /// Ends the run when every pair's last clean loss is at or under this.
    pub loss_stop: Option<f64>,
    /// Steps before which `loss_stop` ends no run.
    pub steps_min: u64,
    /// Steps between evaluations on the validation rows.
    pub eval_every: u64,
    /// Evaluations without improvement after which the run ends.
    pub eval_patience: u32,
    /// Whether the validation loss decides which weights are kept and when the run ends; otherwise it is only reported.
    pub obeys_eval: bool,
    /// What the backward pass computes anew. Only what changes numbers ties a state to its run.
    #[serde(rename = "checkpoint", serialize_with = "is_narrow")]
    pub checkpointing: Checkpointing,
    pub system_prompt: Option<String>,
    pub sequence_len_max: usize,
    /// Weight of a token of running text beside a token of an answer.
    pub prose_weight: f32,
    /// How the optimizer keeps its moments. The usual way is left out, so that states that were kept before there was another
    /// one still belong to their runs.
    #[serde(skip_serializing_if = "MomentType::is_f32")]
    pub moments: MomentType,
    /// How preferences are taught, in a run that teaches some.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preference: Option<PreferenceRule>,
}

fn is_narrow<S: Serializer>(checkpointing: &Checkpointing, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bool(checkpointing.is_narrow)
}

impl Recipe {
    /// Says whether step `index` is one of the last, clean ones.
    pub(crate) fn is_clean(&self, index: u64) -> bool {
        let clean = (self.clean_share * self.schedule.steps as f64).round() as u64;
        index + clean >= self.schedule.steps
    }

    /// Says whether losses of step `index` tell what is learned: in the clean steps at the end, or, without such, in all.
    ///
    /// Reworded and noisy rows are harder than the real question, so what is low on them is learned.
    pub(crate) fn shows_learning(&self, index: u64) -> bool {
        self.clean_share <= 0.0 || self.is_clean(index)
    }
}

/// Returns the digest that ties a kept state to its run.
pub fn run_digest(recipe: &Recipe, dataset: &Dataset, adapter: &AdapterSpec, base: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(serde_json::to_vec(recipe).expect("a recipe is plain data"));
    hash.update(format!("{adapter:?}"));
    hash.update(base);
    for example in dataset.examples() {
        hash.update(example.digest_text());
    }
    hash.finish_hex()
}

/// Returns the digest that ties a kept state to its run over preferences. What the pairs' log-probabilities were at the start, and
/// are under the reference, belongs to it, and with it the adapter that the run began with.
pub fn preference_digest(
    recipe: &Recipe,
    pairs: &[Pair],
    logprobs: [&[Both<f64>]; 2],
    adapter: &AdapterSpec,
    base: &str,
) -> String {
    let mut hash = Sha256::new();
    hash.update(serde_json::to_vec(recipe).expect("a recipe is plain data"));
    hash.update(format!("{adapter:?}"));
    hash.update(base);
    for pair in pairs {
        hash.update(format!("{} {} {:?}", pair.origin, pair.index, pair.preference));
    }
    hash.update(format!("{logprobs:?}"));
    hash.finish_hex()
}
