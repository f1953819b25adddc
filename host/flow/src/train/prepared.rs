//! A document that is ready to train.

use dlm_model::text::TextModel;
use dlm_plan::base::license::LicenseDecision;
use dlm_plan::train::TrainPlan;
use dlm_train::Dataset;

use super::lane::Lane;
use super::replay::{Replay, ReplayReport};
use crate::base::ReadyBase;
use crate::document::Document;

/// A document that is ready to train: opened base, rows, and the plan for them.
pub struct PreparedRun {
    pub document: Document,
    pub base: ReadyBase,
    pub text: TextModel,
    pub dataset: Dataset,
    pub plan: TrainPlan,
    pub lane: Lane,
    pub(super) replay: Replay,
    pub(super) license: LicenseDecision,
}

impl PreparedRun {
    /// What the run will rehearse of earlier versions of the document.
    pub fn replay(&self) -> &ReplayReport {
        &self.replay.report
    }
}
