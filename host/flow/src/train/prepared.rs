//! One adapter of a document that is ready to train.

use std::rc::Rc;

use dlm_core::training::AdapterKind;
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
    /// Says whether the adapter is trained on weights in four bits: those of `qlora`, or those that the base is stored in where the
    /// document asks for `qlora`.
    pub(super) fn was_quantized(&self) -> bool {
        self.plan.four_bits.value || self.plan.adapter.value == AdapterKind::Qlora
    }

    /// Names the weights that are trained on: the base's revision, and that it is kept in four bits.
    pub(super) fn weights_name(&self) -> String {
        let revision = &self.base.resolved.record.revision;
        match self.plan.four_bits.value {
            true => format!("{revision} nf4"),
            false => revision.clone(),
        }
    }

    /// What the run will rehearse of earlier versions of the document.
    pub fn replay(&self) -> &ReplayReport {
        &self.replay.report
    }
}
