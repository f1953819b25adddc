//! What a finished run is asked: the document's probes, and how much of deleted sections is kept without rehearsal.
//!
//! Invariants: nothing here trains; figures are functions of the weights alone.

use std::path::PathBuf;

use dlm_core::{Event, Subject};
use dlm_doc::{PROBES_MIN, Probe, probes};
use dlm_model::{Adapter, Engine, Reader};
use dlm_train::{EvalLoss, Example, PairRecall, mean_losses, recall_pairs, row_losses};
use serde::Serialize;

use super::preference_report::PreferenceReport;
use super::prepared::PreparedRun;
use crate::failure::Failure;
use crate::surroundings::Surroundings;

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

/// What a run's adapter was found to know.
pub(super) struct Findings {
    pub recall: Vec<PairRecall>,
    pub probes: Vec<ProbeScore>,
    pub retention: Option<Retention>,
    /// Of a phase that teaches preferences.
    pub preference: Option<PreferenceReport>,
}

/// A finished run that is asked.
pub(super) struct Examination<'a> {
    pub around: &'a Surroundings,
    pub prepared: &'a PreparedRun,
    pub engine: &'a dyn Engine,
    pub adapter: &'a Adapter,
    /// Directory of the version before, where there is one.
    pub before: Option<PathBuf>,
}

impl Examination<'_> {
    /// Asks the model what it has learned and what it has kept.
    ///
    /// **Errors:** a question that cannot be rendered, an engine that fails, a raised flag.
    pub(super) fn examine(&self) -> Result<Findings, Failure> {
        self.around.note("asking every question of the document");
        let recall = self.recall()?;
        Ok(Findings {
            probes: self.probes(&recall)?,
            retention: self.retention()?,
            recall,
            preference: None,
        })
    }

    fn reader<'a>(&'a self, adapter: Option<&'a Adapter>) -> Result<Box<dyn Reader + 'a>, Failure> {
        // As `dlm prompt --temp 0` reads, so that what is recalled here is what it says.
        let reading = self.engine.facts().exact_reading(&self.around.cancel);
        let reader = self.engine.reader(adapter, reading);
        reader.map_err(|e| Failure::new(Subject::Training, e))
    }

    /// Asks every question of the document that the adapter learns.
    pub(super) fn recall(&self) -> Result<Vec<PairRecall>, Failure> {
        let system = self.prepared.document.parsed.frontmatter().system();
        let (text, cancel) = (&self.prepared.text, &self.around.cancel);
        let document = self.prepared.dataset.examples().filter(|e| !e.origin.is_replay());
        let mut reader = self.reader(Some(self.adapter))?;
        recall_pairs(&mut *reader, text, system, document, cancel).map_err(|e| Failure::new(Subject::Training, e))
    }

    /// Scores the document's probes; their greedy answers are those of the recall.
    pub(super) fn probes(&self, recall: &[PairRecall]) -> Result<Vec<ProbeScore>, Failure> {
        let sections = self.prepared.document.parsed.sections();
        let chosen = probes(sections, PROBES_MIN, self.prepared.plan.seed.value);
        chosen
            .into_iter()
            .filter_map(|probe| {
                let asked = recall.iter().find(|pair| is_of(&probe, pair))?;
                Some(self.probe(probe, asked))
            })
            .collect()
    }

    fn probe(&self, probe: Probe, asked: &PairRecall) -> Result<ProbeScore, Failure> {
        let dataset = &self.prepared.dataset;
        let is_it = |e: &Example| e.origin.to_string() == asked.section_id && e.index == asked.sub_index;
        let place = dataset
            .examples()
            .position(is_it)
            .expect("what was asked is an example");
        let row = dataset.row(place, 1.0);
        let logprob = |adapter| -> Result<f64, Failure> {
            let losses = row_losses(&mut *self.reader(adapter)?, &row);
            let losses = losses.map_err(|e| Failure::new(Subject::Training, e))?;
            let sum: f64 = losses.iter().map(|loss| f64::from(*loss)).sum();
            Ok(-sum / losses.len().max(1) as f64)
        };
        Ok(ProbeScore {
            response: asked.response.clone(),
            section_id: asked.section_id.clone(),
            is_explicit: probe.is_explicit,
            exact: asked.exact,
            f1: asked.f1,
            logprob: logprob(Some(self.adapter))?,
            logprob_base: logprob(None)?,
            prompt: probe.question,
            reference: probe.answer,
        })
    }

    /// Measures the sections kept aside, also under the version before; none where there are none.
    fn retention(&self) -> Result<Option<Retention>, Failure> {
        let entries = &self.prepared.replay.retained;
        if entries.is_empty() {
            return Ok(None);
        }
        let losses = |adapter: &Adapter| -> Result<EvalLoss, Failure> {
            let rows = entries.iter().map(|entry| (entry.example.kind(), entry.row(1.0)));
            mean_losses(&mut *self.reader(Some(adapter))?, rows).map_err(|e| Failure::new(Subject::Training, e))
        };
        let now = losses(self.adapter)?;
        let before = self
            .before
            .as_deref()
            .map(|directory| self.engine.read_adapter(directory));
        let delta = match before {
            Some(Ok(before)) => Some(now.loss - losses(&before)?.loss),
            Some(Err(error)) => {
                let text = format!("retention: the version before cannot be compared with: {error}");
                self.around.progress.event(Event::Warning(text));
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
}

fn is_of(probe: &Probe, pair: &PairRecall) -> bool {
    pair.section_id == probe.section_id.as_str() && pair.question == probe.question && pair.reference == probe.answer
}
