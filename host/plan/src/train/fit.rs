//! Which bases this machine can train: for `dlm base list`, for the warning of `dlm init`, for the doctor.

use dlm_core::hardware::Hardware;
use serde::Serialize;

use super::facts::{DocumentFacts, RowFacts, TrainOptions, TrainRequest};
use super::refuse::PlanError;
use super::resolve::plan_train;
use crate::base::{BaseFacts, Registry};

/// The document that bases are measured with: thirty pairs of a few sentences, the usual case.
pub const TYPICAL_ROWS: RowFacts = RowFacts {
    sections: 5,
    instruction_rows: 30,
    instruction_tokens: 30 * 64,
    answer_tokens: 30 * 24,
    instruction_tokens_max: 96,
    prose_sections: 4,
    prose_tokens: 400,
    validation_rows: 0,
    replay_rows: 0,
    replay_tokens: 0,
    preference_rows: 0,
    preference_tokens: 0,
    preference_tokens_max: 0,
    image_rows: 0,
    audio_rows: 0,
    shared_prefix_tokens: 24,
};

/// Whether one base can be trained here.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BaseFit {
    pub key: String,
    pub params: u64,
    /// Peak memory in bytes when it fits.
    pub memory_bytes: Option<u64>,
    pub seconds_per_step: Option<f64>,
    /// Why not, when it does not.
    pub refusal: Option<String>,
}

impl BaseFit {
    /// Whether the base can be trained here.
    pub fn fits(&self) -> bool {
        self.refusal.is_none()
    }
}

/// The facts of a document with [`TYPICAL_ROWS`] and no setting of its own.
pub fn typical_document() -> DocumentFacts {
    DocumentFacts {
        rows: TYPICAL_ROWS,
        ..DocumentFacts::default()
    }
}

/// Plans a typical document on one base.
pub fn plan_typical(
    base: &BaseFacts,
    hardware: &Hardware,
    options: &TrainOptions,
) -> Result<super::TrainPlan, PlanError> {
    plan_train(&TrainRequest {
        document: &typical_document(),
        base,
        hardware,
        options,
    })
}

/// Measures every text base of the registry whose sizes are known, in the registry's order.
pub fn fit_bases(hardware: &Hardware, options: &TrainOptions) -> Vec<BaseFit> {
    let records = Registry::builtin().bases().iter();
    records
        .filter_map(|record| BaseFacts::from_record(record, record.params * 2, "BF16".into()).ok())
        .map(|base| {
            let plan = plan_typical(&base, hardware, options);
            BaseFit {
                key: base.key.clone(),
                params: base.params,
                memory_bytes: plan.as_ref().ok().map(|plan| plan.memory.total),
                seconds_per_step: plan.as_ref().ok().map(|plan| plan.first().seconds_per_step),
                refusal: plan.err().map(|error| error.to_string()),
            }
        })
        .collect()
}
