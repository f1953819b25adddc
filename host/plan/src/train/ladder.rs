//! The variants of a run from fastest to most frugal, and the choice of the first that fits the memory.
//!
//! The rows of an update stay the same on every rung, and so does the result on all but the last two, which round.

use dlm_core::training::{Checkpointing, Optimizer};
use dlm_core::units::size;

use super::facts::{RowFacts, TrainRequest};
use super::machine::Machine;
use super::optimizer::optimizer;
use super::phase::{AnchorPlan, BatchPlan};
use super::plan::ProsePlan;
use super::recipe;
use super::refuse::PlanError;
use crate::base::shape::{self, LinearKind};
use crate::base::{BaseFacts, Registry};
use crate::knob::Knob;
use crate::memory::{MemoryEstimate, MemoryInput, WeightPacking, estimate};

/// What the choice depends on beside the rungs.
pub(super) struct Ladder<'a> {
    pub request: &'a TrainRequest<'a>,
    pub prose: &'a ProsePlan,
    pub anchors: &'a AnchorPlan,
    pub machine: &'a Machine,
    pub adapter_parameters: u64,
    pub targets: &'a [String],
    pub linears: &'a [LinearKind],
    pub rank: u32,
    pub sequence_len: u32,
}

/// One rung, settled.
pub(super) struct Variant {
    pub batch: BatchPlan,
    pub packing: Knob<WeightPacking>,
    pub checkpointing: Knob<Checkpointing>,
    pub optimizer: Knob<Optimizer>,
    pub memory: MemoryEstimate,
}

#[derive(Clone, Copy)]
struct Rung {
    packing: WeightPacking,
    checkpointing: Checkpointing,
    /// The micro batch is the whole batch over this.
    split: u32,
    /// Whether the moments are kept in eight bits where the document names no optimizer.
    has_small_moments: bool,
}

/// One block of so many is computed anew, from few to all.
const RECOMPUTED: [u32; 3] = [4, 2, 1];

/// Fastest first. Layout copies go before recomputation (a product that unpacks its weight is a twentieth to a quarter slower, by
/// its rows), and that before smaller forward passes; what changes numbers comes last: rounded inputs, then moments in eight bits.
fn rungs(rows: u32, packings: &[WeightPacking]) -> Vec<Rung> {
    let rung = |packing, every, is_narrow, split| Rung {
        packing,
        checkpointing: Checkpointing { every, is_narrow },
        split,
        has_small_moments: false,
    };
    let mut rungs: Vec<Rung> = packings.iter().map(|packing| rung(*packing, 0, false, 1)).collect();
    rungs.extend(RECOMPUTED.map(|every| rung(WeightPacking::None, every, false, 1)));
    let mut split = 2;
    while split <= rows {
        rungs.push(rung(WeightPacking::None, 1, false, split));
        split *= 2;
    }
    let narrow = rung(WeightPacking::None, 1, true, split / 2);
    rungs.push(narrow);
    rungs.push(Rung {
        has_small_moments: true,
        ..narrow
    });
    rungs
}

impl Ladder<'_> {
    /// Takes the first rung under the comfortable budget, else the first under the hard one.
    pub(super) fn choose(&self) -> Result<Variant, PlanError> {
        let rows = self.rows_per_step();
        let rungs = self.rungs(rows);
        for budget in [self.machine.budget_comfort, self.machine.budget_hard] {
            for rung in &rungs {
                let variant = self.variant(rung, rows, budget);
                if variant.memory.total <= budget {
                    return Ok(variant);
                }
            }
        }
        let cheapest = rungs.last().expect("there is always a rung");
        let memory = self.variant(cheapest, rows, self.machine.budget_hard).memory;
        Err(PlanError::Memory {
            base: self.request.base.key.clone(),
            needed_bytes: memory.total,
            budget_bytes: self.machine.budget_hard,
            free_bytes: self.machine.free_bytes,
            estimate: Box::new(memory),
            largest_fitting: self.largest_fitting(),
        })
    }

    fn rungs(&self, rows: u32) -> Vec<Rung> {
        // Copies beside weights that are kept in four bits would take four times what that saved.
        let packings: &[WeightPacking] = match self.request.document.wants_four_bits {
            true => &[WeightPacking::None],
            false => &[WeightPacking::Both, WeightPacking::Forward, WeightPacking::None],
        };
        rungs(if self.is_batch_written() { 1 } else { rows }, packings)
    }

    fn is_batch_written(&self) -> bool {
        self.request.document.knobs.micro_batch_size.is_some()
    }

    /// Document rows of one update: as written, else the recipe's number or as many as there are.
    fn rows_per_step(&self) -> u32 {
        let knobs = &self.request.document.knobs;
        let all = self.prose.rows_total(&self.request.document.rows);
        let most = u32::try_from(all).unwrap_or(u32::MAX);
        match (knobs.micro_batch_size, knobs.grad_accum) {
            (Some(micro), Some(accum)) => micro.saturating_mul(accum),
            (Some(micro), None) => micro.max(recipe::ROWS_PER_STEP / micro * micro),
            (None, Some(accum)) => (recipe::ROWS_PER_STEP / accum).max(1).saturating_mul(accum),
            (None, None) => recipe::ROWS_PER_STEP.min(most).max(1),
        }
    }

    fn variant(&self, rung: &Rung, rows: u32, budget: u64) -> Variant {
        let batch = self.batch(rung, rows);
        let memory = self.estimate(rung, &batch);
        let fitting = format!("it is the fastest that fits {}", size(budget));
        let packing = match rung.packing {
            WeightPacking::Both => Knob::chosen(rung.packing, "there is memory for the fastest layout"),
            _ if self.request.document.wants_four_bits => {
                Knob::chosen(rung.packing, "copies would take back what four bits save")
            }
            _ => Knob::chosen(rung.packing, fitting.clone()),
        };
        let checkpointing = match rung.checkpointing.every {
            0 => Knob::chosen(
                rung.checkpointing,
                "there is memory for everything that the backward pass needs",
            ),
            _ => Knob::chosen(rung.checkpointing, fitting),
        };
        Variant {
            optimizer: self.optimizer(rung),
            batch,
            packing,
            checkpointing,
            memory,
        }
    }

    fn optimizer(&self, rung: &Rung) -> Knob<Optimizer> {
        optimizer(self.request, rung.has_small_moments)
    }

    fn batch(&self, rung: &Rung, rows: u32) -> BatchPlan {
        let knobs = &self.request.document.knobs;
        let (micro_rows, grad_accum) = match (knobs.micro_batch_size, knobs.grad_accum) {
            (Some(micro), Some(accum)) => (Knob::written(micro), Knob::written(accum)),
            (Some(micro), None) => {
                let accum = (rows / micro).max(1);
                (
                    Knob::written(micro),
                    Knob::chosen(accum, format!("{rows} rows an update teach best")),
                )
            }
            (None, Some(accum)) => {
                let micro = (rows / accum).max(1);
                (
                    Knob::chosen(micro, format!("{rows} rows an update teach best")),
                    Knob::written(accum),
                )
            }
            (None, None) => {
                let micro = rows.div_ceil(rung.split);
                let why = format!("{rows} short rows an update teach best, and more would leave too few updates");
                let accum = rows.div_ceil(micro);
                let reason = if accum == 1 {
                    "one forward pass holds them all"
                } else {
                    "one forward pass would not fit"
                };
                (Knob::chosen(micro, why), Knob::chosen(accum, reason))
            }
        };
        let world = self.request.options.world_size.unwrap_or(1);
        let effective_rows = micro_rows.value.saturating_mul(grad_accum.value).saturating_mul(world);
        let (tokens_max, tokens_mean) = self.tokens(micro_rows.value, grad_accum.value);
        BatchPlan {
            micro_rows,
            grad_accum,
            effective_rows,
            tokens_max,
            tokens_mean,
            is_packed: true,
        }
    }

    /// Tokens of one forward pass, at most and in the mean. A step with more is cut into two passes.
    fn tokens(&self, micro_rows: u32, grad_accum: u32) -> (u64, u64) {
        let rows = &self.request.document.rows;
        let count = self.prose.rows_total(rows);
        let all = rows.instruction_tokens + rows.replay_tokens + self.prose_tokens();
        let longest = self.longest_rows(1);
        let mean = all.div_ceil(count).clamp(1, longest);
        let anchor_rows = if self.anchors.is_on {
            self.anchors.rows_per_step.div_ceil(grad_accum)
        } else {
            0
        };
        // An anchor is a short question and an answer of at most so many tokens, shorter in the mean.
        let anchors = u64::from(anchor_rows) * u64::from(self.anchors.row_tokens_max) * 5 / 4;
        let shared = rows.shared_prefix_tokens;
        let most = shared + anchors + self.longest_rows(u64::from(micro_rows)).max(longest);
        // Both answers of a pair share a pass, whatever the rows of the other phase take.
        let pair = match self.request.options.phases.has_preference() {
            true => rows.preference_tokens_max,
            false => 0,
        };
        (most.max(pair), shared + anchors + u64::from(micro_rows) * mean)
    }

    /// Tokens of all windows of prose, what they repeat of each other among them.
    fn prose_tokens(&self) -> u64 {
        let window = u64::from(self.prose.window_tokens.value).min(u64::from(self.sequence_len));
        let prose = self.request.document.rows.prose_tokens;
        let read = (prose as f64 * (1.0 + recipe::PROSE_OVERLAP)).ceil() as u64;
        read.min(self.prose.windows * window)
    }

    /// Tokens of the longest so many rows together.
    fn longest_rows(&self, count: u64) -> u64 {
        let rows = &self.request.document.rows;
        let limit = u64::from(self.sequence_len);
        let window = u64::from(self.prose.window_tokens.value).min(limit);
        let pair = longest_row(rows).min(limit);
        let windows = |count: u64| (count.min(self.prose.windows) * window).min(self.prose_tokens());
        let pairs = |count: u64| count.min(rows.instruction_rows + rows.replay_rows) * pair;
        let tokens = match self.prose.windows > 0 && window >= pair {
            true => windows(count) + pairs(count - count.min(self.prose.windows)),
            false => {
                let first = count.min(rows.instruction_rows + rows.replay_rows);
                pairs(first) + windows(count - first)
            }
        };
        tokens.max(1)
    }

    fn estimate(&self, rung: &Rung, batch: &BatchPlan) -> MemoryEstimate {
        let base = self.request.base;
        let adapted = self.linears.iter().filter(|linear| {
            self.targets
                .iter()
                .any(|target| target.rsplit('.').next() == Some(linear.name))
        });
        let anchor_positions = if self.anchors.is_on {
            u64::from(self.anchors.set_rows) * u64::from(self.anchors.row_tokens_max)
        } else {
            0
        };
        estimate(&MemoryInput {
            shape: &base.shape,
            weights_bytes: match self.request.document.wants_four_bits {
                true => base.four_bit_bytes(),
                false => base.weights_bytes,
            },
            packing: rung.packing,
            precision: self.machine.precision.value,
            tokens: batch.tokens_max,
            checkpointing: rung.checkpointing,
            adapter_parameters: self.adapter_parameters,
            keeps_best: self.request.document.rows.validation_rows > 0,
            moments: self.optimizer(rung).value.moments(),
            ranks_per_block: adapted.count() as u64 * u64::from(self.rank),
            anchor_positions,
            anchor_top_k: u64::from(self.anchors.top_k),
        })
    }

    /// The largest text base of the registry whose cheapest variant fits, and that is not refused for its size.
    fn largest_fitting(&self) -> Option<String> {
        let budget = self.machine.budget_hard;
        let candidates = Registry::builtin()
            .bases()
            .iter()
            .filter(|record| record.modality.is_text());
        candidates
            .filter(|record| record.params < self.request.base.params)
            .filter_map(|record| BaseFacts::from_record(record, record.params * 2, "BF16".into()).ok())
            .filter(|facts| {
                let linears = shape::linears(&facts.architecture, &facts.shape);
                // Names differ between families: every layer is the most that can be asked for.
                let targets: Vec<String> = linears.iter().map(|linear| linear.name.to_owned()).collect();
                let request = TrainRequest {
                    base: facts,
                    ..*self.request
                };
                let ladder = Ladder {
                    request: &request,
                    adapter_parameters: shape::adapter_parameters(&linears, &targets, u64::from(self.rank)),
                    targets: &targets,
                    linears: &linears,
                    ..*self
                };
                let rows = ladder.rows_per_step();
                let rungs = ladder.rungs(rows);
                let cheapest = rungs.last().expect("there is always a rung");
                let variant = ladder.variant(cheapest, rows, budget);
                let step = self
                    .machine
                    .seconds_per_step(facts, ladder.adapter_parameters, &variant.batch);
                let is_slow = step * recipe::STEPS_TARGET as f64 > recipe::SECONDS_MAX;
                variant.memory.total <= budget && !is_slow
            })
            .max_by_key(|facts| facts.params)
            .map(|facts| facts.key)
    }
}

fn longest_row(rows: &RowFacts) -> u64 {
    let mean_replay = if rows.replay_rows > 0 {
        rows.replay_tokens.div_ceil(rows.replay_rows)
    } else {
        0
    };
    let mean = if rows.instruction_rows > 0 {
        rows.instruction_tokens.div_ceil(rows.instruction_rows)
    } else {
        0
    };
    rows.instruction_tokens_max.max(mean).max(mean_replay)
}
