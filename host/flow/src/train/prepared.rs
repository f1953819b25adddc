//! One adapter of a document that is ready to train.

use std::rc::Rc;

use dlm_model::text::TextModel;
use dlm_plan::base::license::LicenseDecision;
use dlm_plan::train::TrainPlan;
use dlm_train::{Dataset, Pair};

use super::lane::Lane;
use super::replay::{Replay, ReplayReport};
use crate::base::ReadyBase;
use crate::document::Document;

/// One adapter of a document that is ready to train: opened base, rows, and the plan for them. The adapters of one document
/// share it, its base and its tokenizer.
pub struct PreparedRun {
    pub document: Rc<Document>,
    pub base: Rc<ReadyBase>,
    pub text: Rc<TextModel>,
    /// Questions, answers and prose.
    pub dataset: Dataset,
    /// Preferences, those of earlier versions of the document last.
    pub pairs: Vec<Pair>,
    pub plan: TrainPlan,
    pub lane: Lane,
    pub(super) replay: Replay,
    pub(super) license: LicenseDecision,
    /// Whether no other adapter of the document is trained after it.
    pub(super) is_last: bool,
}

impl PreparedRun {
    /// What the run will rehearse of earlier versions of the document.
    pub fn replay(&self) -> &ReplayReport {
        &self.replay.report
    }
}
