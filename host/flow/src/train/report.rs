//! What a run is told to have done.

use std::path::PathBuf;

use dlm_core::Determinism;
use dlm_core::training::{Ending, TrainPhase};
use dlm_plan::train::{StepsPlan, TrainPlan};
use dlm_train::PairRecall;
use serde::Serialize;

use super::measure::{ProbeScore, Retention};
use super::preference_report::PreferenceReport;
use super::replay::ReplayReport;

/// What a run did.
#[derive(Clone, Debug, Serialize)]
pub struct TrainReport {
    pub phase: TrainPhase,
    /// On a document with several adapters.
    pub adapter_name: Option<String>,
    pub version: u32,
    pub adapter: PathBuf,
    pub log: PathBuf,
    pub run_id: u64,
    pub seed: i64,
    #[serde(with = "dlm_core::determinism::run_word")]
    pub determinism: Determinism,
    pub steps: u64,
    pub steps_max: u64,
    /// Updates of the plan without `--max-steps`.
    pub steps_planned: u64,
    pub ending: Ending,
    /// Over the last step: nats per token, or the loss of a pair.
    pub loss: f64,
    pub eval_loss: Option<f64>,
    pub tokens: u64,
    pub tokens_per_s: f64,
    pub seconds_training: f64,
    /// From the start of the command to the commit.
    pub seconds_total: f64,
    pub recalled: usize,
    pub recall: Vec<PairRecall>,
    pub probes: Vec<ProbeScore>,
    /// Sections of earlier versions that were rehearsed, kept aside or replaced.
    pub replay: ReplayReport,
    pub retention: Option<Retention>,
    /// Of a phase that teaches preferences.
    pub preference: Option<PreferenceReport>,
    pub plan: TrainPlan,
}

/// Says how a run ended, by its plan: the loop knows only that every step was taken.
pub(super) fn ending(steps: &StepsPlan, ending: Ending) -> Ending {
    match ending {
        Ending::Complete if steps.total.value < steps.uncapped() => Ending::MaxSteps,
        other => other,
    }
}
