//! What each quantization costs, measured: size, perplexity and divergence from the weights in memory, on the document's own rows
//! and on general text.
//!
//! Invariants: a level is measured as it would be exported, written and read back, with the adapter; nothing of it is kept.

use dlm_core::{Quant, Subject};
use dlm_files::{Staging, file_size};
use dlm_model::base::open_base;
use dlm_model::{Batch, CpuEngine, CpuOptions, Engine, Reader, WeightStorage};
use dlm_plan::export::{ExportOptions, plan_export};
use serde::Serialize;

use super::run::Shared;
use super::{ExportCommand, Form, imatrix, memory_bytes, write};
use crate::failure::Failure;
use crate::inference::{self, LoadedModel, LocatedModel};
use crate::surroundings::Surroundings;

/// Tokens of each of the two texts that are read at most.
const TOKENS_MAX: usize = 1024;
/// Rows of logits that are compared at once.
const ROWS_MAX: usize = 128;
/// Text that no calibration has.
const GENERAL: &str = include_str!("../../../../examples/general-text.txt");

/// The table.
#[derive(Clone, Debug, Serialize)]
pub struct QualityReport {
    /// Largest file first.
    pub levels: Vec<LevelQuality>,
    /// Of the weights in memory.
    pub document_perplexity: f64,
    pub general_perplexity: f64,
    /// Tokens that were foretold.
    pub document_tokens: usize,
    pub general_tokens: usize,
    #[serde(skip)]
    pub memory_bytes: u64,
    pub seconds: f64,
}

/// One quantization.
#[derive(Clone, Debug, Serialize)]
pub struct LevelQuality {
    pub quant: &'static str,
    /// Of the base's file.
    pub bytes: u64,
    /// Rounded by an importance matrix.
    pub is_weighted: bool,
    pub document: TextQuality,
    pub general: TextQuality,
}

/// How one quantization reads one text.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct TextQuality {
    pub perplexity: f64,
    /// Mean divergence of the next token's distribution from that of the weights in memory, in nats.
    pub divergence: f64,
    /// Share of the positions at which the most likely token is the same.
    pub same_choice: f64,
}

/// Rows of a text, and the positions whose next token is foretold.
struct Text {
    rows: Vec<(Vec<u32>, std::ops::Range<usize>)>,
}

impl Text {
    fn new(rows: impl Iterator<Item = (Vec<u32>, std::ops::Range<usize>)>) -> Text {
        let mut left = TOKENS_MAX;
        let fitting = rows.take_while(|(ids, _)| {
            let fits = ids.len() <= left;
            left = left.saturating_sub(ids.len());
            fits
        });
        Text {
            rows: fitting.collect(),
        }
    }

    fn tokens(&self) -> usize {
        self.rows.iter().map(|(_, loss)| loss.len()).sum()
    }
}

/// What was summed over the positions of a text.
#[derive(Default)]
struct Sums {
    loss_before: f64,
    loss: f64,
    divergence: f64,
    same: usize,
    positions: usize,
}

impl Sums {
    fn quality(&self) -> TextQuality {
        let count = self.positions.max(1) as f64;
        TextQuality {
            perplexity: (self.loss / count).exp(),
            divergence: self.divergence / count,
            same_choice: self.same as f64 / count,
        }
    }

    fn perplexity_before(&self) -> f64 {
        (self.loss_before / self.positions.max(1) as f64).exp()
    }

    /// Adds a position: the logits in memory, those of the level, and the token that follows.
    fn add(&mut self, before: &[f32], after: &[f32], next: u32) {
        let (before, after) = (log_softmax(before), log_softmax(after));
        self.loss_before -= before[next as usize];
        self.loss -= after[next as usize];
        self.divergence += before.iter().zip(&after).map(|(p, q)| p.exp() * (p - q)).sum::<f64>();
        self.same += usize::from(best(&before) == best(&after));
        self.positions += 1;
    }
}

fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let peak = logits.iter().fold(f32::NEG_INFINITY, |peak, x| peak.max(*x));
    let sum: f64 = logits.iter().map(|x| f64::from(x - peak).exp()).sum();
    logits.iter().map(|x| f64::from(x - peak) - sum.ln()).collect()
}

fn best(of: &[f64]) -> Option<usize> {
    let best = of.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    best.map(|(index, _)| index)
}

/// Measures every level, or those that the command names.
///
/// **Errors:** what an export of a level would refuse; a document that teaches nothing to measure.
/// **Cost:** writes each file once, aside, and reads at most 2048 tokens with it and with the weights in memory.
pub fn quant_report(around: &Surroundings, command: &ExportCommand) -> Result<QualityReport, Failure> {
    let started = around.clock.seconds();
    let asked = |quant: &Quant| command.quants.is_empty() || command.quants.contains(quant);
    let levels: Vec<Quant> = Quant::ALL.into_iter().filter(asked).collect();
    let mut shared = Shared::new(around, command)?;
    let memory = levels
        .iter()
        .map(|quant| {
            memory_bytes(
                around,
                &shared.chosen.located,
                Form::Gguf,
                *quant,
                shared.chosen.mix.is_some(),
            )
        })
        .max()
        .unwrap_or(0);
    inference::check_memory(around, &shared.chosen.located, memory)
        .map_err(|failure| failure.under(Subject::Export))?;
    let [document, general] = texts(&shared.chosen.located);
    if document.rows.is_empty() {
        return Err(Failure::new(
            Subject::Export,
            "the document has no row that could be read to measure with",
        )
        .hint("write a question and its answer, or prose"));
    }
    let (mut rows, mut before) = (Vec::new(), [0.0; 2]);
    for (done, quant) in levels.iter().enumerate() {
        let (at, of) = (done + 1, levels.len());
        around.note(format!("measuring {} ({at} of {of})", quant.name()));
        let (level, [in_document, in_general]) = measured(&mut shared, *quant, [&document, &general])?;
        before = [in_document, in_general];
        rows.push(level);
    }
    Ok(QualityReport {
        levels: rows,
        document_perplexity: before[0],
        general_perplexity: before[1],
        document_tokens: document.tokens(),
        general_tokens: general.tokens(),
        memory_bytes: memory,
        seconds: around.clock.seconds() - started,
    })
}

/// The document's own rows, with the answers to foretell, and general text.
fn texts(located: &LocatedModel) -> [Text; 2] {
    let system = located.document.parsed.frontmatter().system();
    let sections = located.document.parsed.sections().iter();
    let own = sections.flat_map(|section| imatrix::section_rows(&located.text, system, section));
    let general = GENERAL
        .split("\n\n")
        .filter_map(|part| located.text.prose_row(part.trim()).ok());
    [
        Text::new(own.map(|row| (row.ids, row.loss))),
        Text::new(general.map(|row| (row.ids, row.loss))),
    ]
}

/// Writes a level aside, reads both texts with it, and forgets it; also returns the perplexities of the weights in memory.
fn measured(shared: &mut Shared<'_>, quant: Quant, texts: [&Text; 2]) -> Result<(LevelQuality, [f64; 2]), Failure> {
    let options = ExportOptions {
        quant: Some(quant),
        imatrix_file: shared
            .command
            .options
            .imatrix_file
            .clone()
            .filter(|_| quant.is_k_quant()),
        is_merged: false,
        ..shared.command.options.clone()
    };
    let plan = plan_export(&shared.chosen.located.base.facts, &options)?;
    shared.prepare(&plan)?;
    let around = shared.around;
    let (loaded, calibration) = shared.ready(&plan);
    let directory = shared.store.paths().export("quant-report");
    let directory = directory.map_err(|e| Failure::new(Subject::Export, e))?;
    let disk = around.private_disk();
    disk.create_directories(directory.parent().expect("an export lies in a directory"))?;
    let wait = || around.note("waiting for another report on this document to end");
    let staging = Staging::begin(&disk, &directory, &around.cancel, wait)?;
    let staging = staging.ok_or_else(|| Failure::interrupted("nothing was measured"))?;
    let path = staging.directory().join("base.gguf");
    write::bare(around, &shared.chosen.located, loaded, quant, calibration, &path)?;
    let exact = CpuOptions {
        storage: WeightStorage::AsStored,
        ..CpuOptions::EXACT
    };
    let written = CpuEngine::load(&loaded.cpu, &open_base(&path)?, &exact);
    let written = written.map_err(|e| Failure::from(e).under(Subject::Export))?;
    let mut sums = Vec::new();
    for text in texts {
        sums.push(compared(shared, loaded, &written, text)?);
    }
    let level = LevelQuality {
        quant: quant.name(),
        bytes: file_size(&path)?,
        is_weighted: calibration.is_some(),
        document: sums[0].quality(),
        general: sums[1].quality(),
    };
    Ok((level, [sums[0].perplexity_before(), sums[1].perplexity_before()]))
}

/// Reads a text with the weights in memory and with those of a file.
fn compared(shared: &Shared<'_>, loaded: &LoadedModel, written: &CpuEngine, text: &Text) -> Result<Sums, Failure> {
    let failed = |e| Failure::new(Subject::Export, e);
    let adapter = loaded.adapter.as_ref();
    let cancel = &shared.around.cancel;
    let mut before = loaded
        .engine
        .reader(adapter, loaded.engine.facts().exact_reading(cancel))
        .map_err(failed)?;
    let mut after = written
        .reader(adapter, written.facts().exact_reading(cancel))
        .map_err(failed)?;
    let vocab = before.facts().vocab;
    let mut sums = Sums::default();
    for (ids, loss) in &text.rows {
        let batch = Batch::packed(std::slice::from_ref(ids));
        // The token at `t` is foretold at `t - 1`.
        let positions: Vec<usize> = loss.clone().filter(|t| *t > 0).map(|t| t - 1).collect();
        for positions in positions.chunks(ROWS_MAX) {
            let read = |reader: &mut dyn Reader| match reader.logits(&batch, positions) {
                Err(error) if error.is_cancelled() => Err(Failure::interrupted("nothing was measured")),
                other => other.map_err(failed),
            };
            let (left, right) = (read(&mut *before)?, read(&mut *after)?);
            let pairs = left.chunks_exact(vocab).zip(right.chunks_exact(vocab));
            for ((left, right), position) in pairs.zip(positions) {
                sums.add(left, right, ids[position + 1]);
            }
        }
    }
    Ok(sums)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_logits_cost_nothing_and_others_do() {
        let mut sums = Sums::default();
        sums.add(&[1.0, 2.0, 3.0], &[2.0, 3.0, 4.0], 2);
        let quality = sums.quality();
        assert!(quality.divergence.abs() < 1e-12 && quality.same_choice == 1.0);
        assert!((quality.perplexity - sums.perplexity_before()).abs() < 1e-9);
        sums.add(&[1.0, 2.0, 3.0], &[3.0, 2.0, 1.0], 2);
        let quality = sums.quality();
        assert!(quality.divergence > 0.1 && quality.same_choice == 0.5);
        assert!(quality.perplexity > sums.perplexity_before());
    }

    #[test]
    fn a_text_ends_before_the_row_that_is_too_long() {
        let rows = [(600, 1..600), (500, 1..500), (10, 1..10)].map(|(len, loss)| (vec![0; len], loss));
        let text = Text::new(rows.into_iter());
        assert_eq!((text.rows.len(), text.tokens()), (1, 599));
    }
}
