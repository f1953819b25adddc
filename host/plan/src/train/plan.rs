//! The training plan itself: plain data with a reason at every value.

use dlm_core::Determinism;
use dlm_core::hardware::{Backend, SimdLevel};
use dlm_core::training::{AdapterKind, Precision};
use serde::{Deserialize, Serialize};

use super::facts::RowFacts;
use super::phase::PhasePlan;
use crate::knob::Knob;
use crate::memory::{MemoryEstimate, WeightPacking};

/// Everything that a run needs to know before it starts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainPlan {
    pub base: String,
    pub adapter_name: Option<String>,
    pub rows: RowFacts,
    pub seed: Knob<i64>,

    pub adapter: Knob<AdapterKind>,
    pub lora_r: Knob<u32>,
    pub lora_alpha: Knob<u32>,
    pub lora_dropout: Knob<f64>,
    /// Last path components, or dotted suffixes, of the layers that get an adapter; never empty.
    pub target_modules: Knob<Vec<String>>,

    pub sequence_len: Knob<u32>,
    pub prose: ProsePlan,
    /// What runs one after the other on the loaded base, each from the adapter that the one before it left; never empty.
    pub phases: Vec<PhasePlan>,

    pub backend: Knob<Backend>,
    pub simd: Knob<SimdLevel>,
    pub threads: Knob<u32>,
    /// Of the frozen products; everything else is f32.
    pub precision: Knob<Precision>,
    /// Whether the weights of the blocks' products are kept in four bits (NF4), for every adapter of the document.
    pub four_bits: Knob<bool>,
    pub packing: Knob<WeightPacking>,
    /// Whether tokenized sections are kept between runs.
    pub cache: Knob<bool>,
    pub world_size: u32,

    pub memory: MemoryEstimate,
    /// What the run may use, from the machine's free memory.
    pub memory_budget_bytes: u64,
    pub adapter_parameters: u64,
    /// `best_effort` on the CPU; one machine repeats itself bit for bit whatever the thread count.
    #[serde(with = "dlm_core::determinism::run_word")]
    pub determinism: Determinism,
    /// Remarks that a person should read before the run.
    pub warnings: Vec<String>,
}

impl TrainPlan {
    /// About how long all phases take together.
    pub fn seconds(&self) -> f64 {
        self.phases.iter().map(PhasePlan::seconds).sum()
    }

    /// The first phase; what is told of a base in general is told of this one.
    pub fn first(&self) -> &PhasePlan {
        &self.phases[0]
    }
}

/// How prose becomes rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProsePlan {
    /// Tokens of one window; longer prose is cut on paragraph, sentence, then word borders.
    pub window_tokens: Knob<u32>,
    /// Rows that the document's prose is cut into, as estimated from its tokens.
    pub windows: u64,
    /// Weight of a prose token's loss against an answer token's.
    pub weight: Knob<f64>,
}

impl ProsePlan {
    /// Rows of an epoch: the document's own, the windows of its prose and the replayed ones; at least 1.
    pub fn rows_total(&self, rows: &RowFacts) -> u64 {
        (rows.instruction_rows + self.windows + rows.replay_rows).max(1)
    }
}
