//! What a finished run is asked: the document's probes, and how much of deleted sections is kept without rehearsal.
//!
//! Invariants: nothing here trains; figures are functions of the weights alone.

use std::path::PathBuf;

use dlm_core::Subject;
use dlm_doc::{PROBES_MIN, Probe, probes};
use dlm_model::{Adapter, Model};
use dlm_store::AdapterSlot;
use dlm_train::rows::{Row, plain};
use dlm_train::run::{EvalLoss, mean_losses, row_losses};
use dlm_train::{PairRecall, SourceBody, SourceRow};
use serde::Serialize;

use super::Job;
use crate::failure::Failure;

/// One probe, what the model answered and how sure it was of the document's answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ProbeScore {
    pub prompt: String,
    pub response: String,
    pub reference: String,
    pub section_id: String,
    /// Marked `### Q !probe`; the others fill up.
    pub is_explicit: bool,
    /// The response is the reference, up to case, spacing and punctuation.
    pub exact: bool,
    /// Harmonic mean of word precision and recall.
    pub f1: f64,
    /// Mean log-probability of a token of the reference, in nats, under the adapter.
    pub logprob: f64,
    /// The same under the base alone.
    pub logprob_base: f64,
}

/// Mean losses on sections that were deleted and are not rehearsed, in nats per token.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Retention {
    pub loss: f64,
    pub sft: Option<f64>,
    pub cpt: Option<f64>,
    /// Against the version before, on the same rows; none where there is none to compare with.
    pub delta: Option<f64>,
}

impl Job<'_> {
    /// The current version's directory, before the run's own is committed.
    pub(super) fn version_before(&self) -> Result<Option<PathBuf>, Failure> {
        let current = self.store.current_version(&AdapterSlot::Flat)?;
        Ok(current.map(|version| version.directory))
    }

    /// Scores the document's probes; their greedy answers are those of the recall.
    pub(super) fn probes(
        &self,
        model: &Model,
        adapter: &Adapter,
        recall: &[PairRecall],
    ) -> Result<Vec<ProbeScore>, Failure> {
        let sections = self.prepared.document.parsed.sections();
        let chosen = probes(sections, PROBES_MIN, self.prepared.plan.seed.value);
        chosen
            .into_iter()
            .filter_map(|probe| {
                let asked = recall.iter().find(|pair| is_of(&probe, pair))?;
                Some(self.probe(model, adapter, probe, asked))
            })
            .collect()
    }

    fn probe(&self, model: &Model, adapter: &Adapter, probe: Probe, asked: &PairRecall) -> Result<ProbeScore, Failure> {
        let source = SourceRow {
            section_id: asked.section_id.clone(),
            sub_index: asked.sub_index,
            line: asked.line,
            body: SourceBody::Pair {
                question: probe.question.clone(),
                answer: probe.answer.clone(),
            },
            is_validation: false,
        };
        let row = self.row(&source)?;
        let logprob = |adapter| -> Result<f64, Failure> {
            let losses =
                row_losses(model, adapter, &row).map_err(|e| Failure::new(Subject::Training, e.to_string()))?;
            let sum: f64 = losses.iter().map(|loss| f64::from(*loss)).sum();
            Ok(-sum / losses.len().max(1) as f64)
        };
        Ok(ProbeScore {
            response: asked.response.clone(),
            section_id: asked.section_id.clone(),
            is_explicit: probe.is_explicit,
            exact: asked.exact,
            f1: asked.f1,
            logprob: logprob(Some(adapter))?,
            logprob_base: logprob(None)?,
            prompt: probe.question,
            reference: probe.answer,
        })
    }

    /// Measures the sections kept aside, also under the version before; none where there are none.
    pub(super) fn retention(
        &self,
        model: &Model,
        adapter: &Adapter,
        before: Option<PathBuf>,
    ) -> Result<Option<Retention>, Failure> {
        let rows = &self.prepared.replay.retained;
        if rows.is_empty() {
            return Ok(None);
        }
        let rows: Vec<_> = rows
            .iter()
            .map(|source| Ok((source.kind(), self.row(source)?)))
            .collect::<Result<_, Failure>>()?;
        let losses = |adapter: &Adapter| -> Result<EvalLoss, Failure> {
            mean_losses(model, adapter, rows.iter().cloned().map(Ok)).map_err(Failure::from)
        };
        let now = losses(adapter)?;
        let delta = match before.map(|directory| Adapter::load_peft(&directory, model)) {
            Some(Ok(before)) => Some(now.loss - losses(&before)?.loss),
            Some(Err(error)) => {
                let text = format!("retention: the version before cannot be compared with: {error}");
                self.around.progress.event(dlm_core::Event::Warning(text));
                None
            }
            None => None,
        };
        Ok(Some(Retention {
            loss: now.loss,
            sft: now.sft,
            cpt: now.cpt,
            delta,
        }))
    }

    fn row(&self, source: &SourceRow) -> Result<Row, Failure> {
        let options = super::recipe(self.prepared).row_options();
        plain(source, &self.prepared.text, &options).map_err(|e| Failure::new(Subject::Training, e))
    }
}

fn is_of(probe: &Probe, pair: &PairRecall) -> bool {
    pair.section_id == probe.section_id.as_str() && pair.question == probe.question && pair.reference == probe.answer
}
