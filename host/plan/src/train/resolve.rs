//! From a request to a plan: the written value where there is one, else the recipe's, each with its reason; then the
//! fastest variant that fits the memory, or a refusal.

use dlm_core::Determinism;
use dlm_core::hardware::Backend;
use dlm_core::training::{AdapterKind, CptSchedule, LrSchedule, PhaseSelection, TrainPhase, WrittenKnobs};
use dlm_core::units::counted;

use super::facts::{RowFacts, TrainOptions, TrainRequest};
use super::ladder::{Ladder, Variant};
use super::machine::Machine;
use super::optimizer::check_optimizer;
use super::phase::{AnchorPlan, AugmentPlan, BatchPlan, NoisePlan, PhasePlan, SchedulePlan, StepsPlan, StopPlan};
use super::plan::{ProsePlan, TrainPlan};
use super::preference::preference_phase;
use super::recipe;
use super::refuse::PlanError;
use super::targets::{check_dora_targets, last_components, resolve_targets};
use super::time::check_time;
use crate::base::BaseFacts;
use crate::base::shape::{LinearKind, adapter_parameters, linears};
use crate::knob::{Knob, Origin};

/// Makes the plan of one training run, or says why there is none.
///
/// **Errors** before any weight is read, with figures and remedy.
pub fn plan_train(request: &TrainRequest) -> Result<TrainPlan, PlanError> {
    check_ranges(&request.document.knobs)?;
    check_request(request)?;
    let frame = Frame::new(request)?;
    let variant = frame.ladder(request).choose()?;
    frame.finish(request, variant)
}

/// What is settled before the memory decides the variant.
struct Frame {
    linears: Vec<LinearKind>,
    targets: Knob<Vec<String>>,
    adapter: AdapterKnobs,
    adapter_parameters: u64,
    sequence_len: Knob<u32>,
    prose: ProsePlan,
    regime: Regime,
    anchors: Knob<AnchorPlan>,
    machine: Machine,
    four_bits: Knob<bool>,
}

impl Frame {
    fn new(request: &TrainRequest) -> Result<Frame, PlanError> {
        let (knobs, rows, base) = (&request.document.knobs, &request.document.rows, request.base);
        let linears = linears(&base.architecture, &base.shape);
        let targets = resolve_targets(knobs.target_modules.as_deref(), &linears, base.shape.n_experts > 0)?;
        let adapter = AdapterKnobs::new(knobs, rows);
        if adapter.kind.value == AdapterKind::Dora && base.shape.n_experts > 0 {
            check_dora_targets(&targets.value, &linears)?;
        }
        let names = last_components(&targets.value);
        let sequence_len = sequence_len(knobs, base);
        let prose = prose_plan(rows, &sequence_len);
        let regime = Regime::new(knobs, rows, prose.windows);
        Ok(Frame {
            adapter_parameters: adapter_parameters(&linears, &names, u64::from(adapter.r.value)),
            prose: regime.settle_prose(prose, rows, &sequence_len),
            anchors: switched(
                request.options.switches.anchors,
                recipe::ANCHORS,
                |plan, is_on| AnchorPlan { is_on, ..plan },
                "--anchors",
                "without it a third to half of what the base could answer goes",
            ),
            machine: Machine::new(request)?,
            four_bits: four_bits(request),
            linears,
            targets,
            adapter,
            sequence_len,
            regime,
        })
    }

    fn ladder<'a>(&'a self, request: &'a TrainRequest<'a>) -> Ladder<'a> {
        Ladder {
            request,
            prose: &self.prose,
            anchors: &self.anchors.value,
            machine: &self.machine,
            adapter_parameters: self.adapter_parameters,
            targets: &self.targets.value,
            linears: &self.linears,
            rank: self.adapter.r.value,
            sequence_len: self.sequence_len.value,
        }
    }

    /// The phases that have something to teach, in their order, and what a person should know of the first.
    fn phases(&self, request: &TrainRequest, variant: &Variant) -> (Vec<PhasePlan>, Vec<String>) {
        let knobs = &request.document.knobs;
        let (mut phases, mut told) = (Vec::new(), Vec::new());
        if has_supervised(request) {
            let steps = steps_plan(request, &self.prose, &variant.batch, &self.regime);
            let learning_rate = self.regime.learning_rate(knobs, request.base);
            told = warnings(request, &self.prose, &self.regime, &learning_rate, &steps);
            let (augment, noise) = variations(request.options);
            phases.push(PhasePlan {
                phase: self.regime.phase(),
                preference: None,
                learning_rate,
                optimizer: variant.optimizer.clone(),
                clip_norm: Knob::chosen(recipe::CLIP_NORM, "one odd row must not throw the adapter off"),
                schedule: self.regime.schedule(knobs, steps.total.value),
                stop: stop_plan(&steps, &self.regime),
                steps,
                batch: variant.batch.clone(),
                anchors: self.anchors.clone(),
                augment,
                noise,
                checkpointing: variant.checkpointing.clone(),
                seconds_per_step: self
                    .machine
                    .seconds_per_step(request.base, self.adapter_parameters, &variant.batch),
            });
        }
        if has_preferences(request) {
            phases.push(preference_phase(
                request,
                &self.machine,
                self.adapter_parameters,
                variant,
            ));
        }
        (phases, told)
    }

    fn finish(self, request: &TrainRequest, variant: Variant) -> Result<TrainPlan, PlanError> {
        let (knobs, options) = (&request.document.knobs, request.options);
        let (phases, warnings) = self.phases(request, &variant);
        let mut plan = TrainPlan {
            base: request.base.key.clone(),
            adapter_name: request.document.adapter_name.clone(),
            rows: request.document.rows,
            seed: seed(knobs, options),
            adapter: self.adapter.kind,
            lora_r: self.adapter.r,
            lora_alpha: self.adapter.alpha,
            lora_dropout: self.adapter.dropout,
            target_modules: self.targets,
            sequence_len: self.sequence_len,
            prose: self.prose,
            phases,
            determinism: Determinism::of_run(self.machine.backend.value),
            backend: self.machine.backend,
            simd: self.machine.simd,
            threads: self.machine.threads,
            precision: self.machine.precision,
            four_bits: self.four_bits,
            packing: variant.packing,
            cache: match &options.cache_off {
                Some(name) => Knob::flag(false, name),
                None => Knob::chosen(
                    false,
                    "the cache of tokenized sections is not built yet in this version",
                ),
            },
            world_size: options.world_size.unwrap_or(1),
            memory: variant.memory,
            memory_budget_bytes: self.machine.budget_hard,
            adapter_parameters: self.adapter_parameters,
            warnings,
        };
        plan.warnings.extend(check_time(request, &plan)?);
        Ok(plan)
    }
}

/// The question augmentation and the answer noise, as the recipe or a flag has them.
fn variations(options: &TrainOptions) -> (Knob<AugmentPlan>, Knob<NoisePlan>) {
    let augment = switched(
        options.switches.augment,
        recipe::AUGMENT,
        |plan, is_on| AugmentPlan { is_on, ..plan },
        "--augment",
        "a question is asked in other words than the document's",
    );
    let noise = switched(
        options.switches.noise,
        recipe::NOISE,
        |plan, is_on| NoisePlan { is_on, ..plan },
        "--noise",
        "an answer must come from the question, not from its own first words",
    );
    (augment, noise)
}

/// A group of settings that is on by recipe and can be switched as a whole.
fn switched<T: Clone>(
    option: Option<bool>,
    plan: T,
    set: impl FnOnce(T, bool) -> T,
    flag: &str,
    reason: &str,
) -> Knob<T> {
    match option {
        Some(is_on) => Knob::flag(set(plan, is_on), flag),
        None => Knob::chosen(plan, reason),
    }
}

fn check_ranges(knobs: &WrittenKnobs) -> Result<(), PlanError> {
    let out = |key, value: String, range| Err(PlanError::OutOfRange { key, value, range });
    match knobs {
        WrittenKnobs { lora_r: Some(r), .. } if !(1..=256).contains(r) => out("lora_r", r.to_string(), "1 to 256"),
        WrittenKnobs {
            lora_alpha: Some(0), ..
        } => out("lora_alpha", "0".into(), "1 and more"),
        WrittenKnobs {
            lora_dropout: Some(p), ..
        } if !(0.0..=0.5).contains(p) => out("lora_dropout", p.to_string(), "0 to 0.5"),
        WrittenKnobs {
            sequence_len: Some(n), ..
        } if !(64..=32768).contains(n) => out("sequence_len", n.to_string(), "64 to 32768"),
        WrittenKnobs {
            learning_rate: Some(rate),
            ..
        } if !(*rate > 0.0 && rate.is_finite()) => out("learning_rate", rate.to_string(), "numbers above 0"),
        WrittenKnobs {
            num_epochs: Some(0), ..
        } => out("num_epochs", "0".into(), "1 and more"),
        WrittenKnobs {
            warmup_ratio: Some(w), ..
        } if !(0.0..=0.5).contains(w) => out("warmup_ratio", w.to_string(), "0 to 0.5"),
        WrittenKnobs {
            micro_batch_size: Some(0),
            ..
        } => out("micro_batch_size", "0".into(), "1 and more"),
        WrittenKnobs {
            grad_accum: Some(0), ..
        } => out("grad_accum", "0".into(), "1 and more"),
        _ => Ok(()),
    }
}

/// The refusals that need no arithmetic.
fn check_request(request: &TrainRequest) -> Result<(), PlanError> {
    let (base, rows) = (request.base, &request.document.rows);
    let name = base.key.clone();
    if base.trust_remote_code {
        return Err(PlanError::RemoteCode { base: name });
    }
    if base.modality.is_text() && (rows.image_rows > 0 || rows.audio_rows > 0) {
        return Err(PlanError::MediaOnTextBase {
            base: name,
            images: rows.image_rows,
            audio: rows.audio_rows,
        });
    }
    if !base.modality.is_text() {
        return Err(PlanError::ModalityNotBuilt {
            base: name,
            modality: base.modality.name(),
        });
    }
    check_phases(request)?;
    let backend = request.hardware.backend;
    check_optimizer(request)?;
    let world_size = request.options.world_size.unwrap_or(1);
    if world_size > 1 && backend != Backend::Cuda {
        return Err(PlanError::WorldSize {
            world_size,
            backend: backend.name(),
        });
    }
    Ok(())
}

/// Whether the base is kept in four bits.
fn four_bits(request: &TrainRequest) -> Knob<bool> {
    let base = request.base;
    if !request.document.wants_four_bits {
        return Knob::chosen(false, "`adapter: qlora` would keep the base in four bits");
    }
    match base.is_float() {
        true => Knob::chosen(true, "an adapter of the document is `qlora`"),
        false => Knob::chosen(
            false,
            format!("the base is stored as {} and is trained on as it is", base.storage),
        ),
    }
}

/// Says whether there is something for questions, answers and prose to train.
fn has_supervised(request: &TrainRequest) -> bool {
    let rows = &request.document.rows;
    request.options.phases.has_sft() && rows.instruction_rows + rows.prose_sections + rows.replay_rows > 0
}

fn has_preferences(request: &TrainRequest) -> bool {
    request.options.phases.has_preference() && request.document.rows.preference_rows > 0
}

/// Refuses a run without a phase.
fn check_phases(request: &TrainRequest) -> Result<(), PlanError> {
    match request.options.phases {
        PhaseSelection::Preference if !has_preferences(request) => Err(PlanError::NoPreferences),
        _ if !has_supervised(request) && !has_preferences(request) => Err(PlanError::NoRows),
        _ => Ok(()),
    }
}

/// Rank, scale and dropout.
struct AdapterKnobs {
    kind: Knob<AdapterKind>,
    r: Knob<u32>,
    alpha: Knob<u32>,
    dropout: Knob<f64>,
}

impl AdapterKnobs {
    fn new(knobs: &WrittenKnobs, rows: &RowFacts) -> Self {
        let r = Knob::or_chosen(knobs.lora_r, || {
            (
                recipe::LORA_R,
                "a higher rank holds more facts for hardly more time on a small document".into(),
            )
        });
        let alpha = Knob::or_chosen(knobs.lora_alpha, || {
            let factor = recipe::ALPHA_PER_R;
            (
                r.value.saturating_mul(factor),
                format!("{factor} times the rank keeps the update's size the same at any rank"),
            )
        });
        let all = rows.instruction_rows + rows.prose_sections;
        let dropout = Knob::or_chosen(knobs.lora_dropout, || {
            if all < recipe::DROPOUT_ROWS_MIN {
                (
                    0.0,
                    format!("{all} rows are too few to average over: dropout would only slow them down"),
                )
            } else {
                (recipe::DROPOUT, format!("{all} rows are enough to average over"))
            }
        });
        let kind = Knob::or_chosen(knobs.adapter, || (AdapterKind::Lora, "it is the default".into()));
        AdapterKnobs {
            kind,
            r,
            alpha,
            dropout,
        }
    }
}

fn seed(knobs: &WrittenKnobs, options: &TrainOptions) -> Knob<i64> {
    match options.seed {
        Some(seed) => Knob::flag(seed, "--seed"),
        None => Knob::or_chosen(knobs.seed, || (recipe::SEED, "any fixed number repeats the run".into())),
    }
}

/// The longest row: as written, never more than the base was trained for.
fn sequence_len(knobs: &WrittenKnobs, base: &BaseFacts) -> Knob<u32> {
    let limit = base.context_usable;
    match knobs.sequence_len {
        Some(length) if length <= limit => Knob::written(length),
        Some(length) => Knob::chosen(
            limit,
            format!("the base reads {limit} tokens, and the document writes {length}"),
        ),
        None => {
            let length = recipe::SEQUENCE_LEN.min(limit);
            Knob::chosen(length, "rows are packed without padding, so a long limit costs nothing")
        }
    }
}

fn windows(tokens: u64, window: u32) -> u64 {
    let advance = u64::from(window).max(1);
    tokens.div_ceil(advance)
}

fn prose_plan(rows: &RowFacts, sequence_len: &Knob<u32>) -> ProsePlan {
    let window = recipe::PROSE_WINDOW.min(sequence_len.value);
    ProsePlan {
        window_tokens: Knob::chosen(window, "short windows beside questions keep an update short"),
        windows: windows(rows.prose_tokens, window),
        weight: Knob::chosen(
            recipe::PROSE_WEIGHT,
            "raw prose at full weight teaches no fact and takes general ability away",
        ),
    }
}

/// Whether the run answers questions or continues pretraining.
struct Regime {
    is_dapt: bool,
    prose_share: f64,
    knob: Knob<CptSchedule>,
}

impl Regime {
    fn new(knobs: &WrittenKnobs, rows: &RowFacts, windows: u64) -> Self {
        let total = windows + rows.instruction_rows;
        let prose_share = if total == 0 { 0.0 } else { windows as f64 / total as f64 };
        let knob = match knobs.cpt_schedule {
            Some(written @ (CptSchedule::Dapt | CptSchedule::Sft)) => Knob::written(written),
            _ => {
                let is_dapt = prose_share > recipe::PROSE_SHARE;
                let percent = (prose_share * 100.0).round();
                let kind = if is_dapt { CptSchedule::Dapt } else { CptSchedule::Sft };
                Knob::chosen(kind, format!("{percent} % of the rows are prose"))
            }
        };
        Regime {
            is_dapt: knob.value == CptSchedule::Dapt,
            prose_share,
            knob,
        }
    }

    /// Gives prose its full weight and long windows where it is the point of the document.
    fn settle_prose(&self, prose: ProsePlan, rows: &RowFacts, sequence_len: &Knob<u32>) -> ProsePlan {
        if !self.is_dapt && rows.instruction_rows > 0 {
            return prose;
        }
        let window = recipe::PROSE_WINDOW_LONG.min(sequence_len.value);
        ProsePlan {
            window_tokens: Knob::chosen(window, "prose is the point of this document"),
            windows: windows(rows.prose_tokens, window),
            weight: Knob::chosen(1.0, "prose is the point of this document"),
        }
    }

    fn learning_rate(&self, knobs: &WrittenKnobs, base: &BaseFacts) -> Knob<f64> {
        Knob::or_chosen(knobs.learning_rate, || {
            let rate = recipe::learning_rate(base.params);
            let size = format!("a base of {} M parameters", base.params / 1_000_000);
            if self.is_dapt {
                (
                    rate * recipe::PROSE_RATE_SHARE,
                    format!("{size} takes it on long rows of prose"),
                )
            } else {
                (rate, format!("{size} learns short rows in few updates at this peak"))
            }
        })
    }

    fn phase(&self) -> TrainPhase {
        if self.is_dapt { TrainPhase::Cpt } else { TrainPhase::Sft }
    }

    fn schedule(&self, knobs: &WrittenKnobs, total: u64) -> SchedulePlan {
        let kind = Knob::or_chosen(knobs.lr_scheduler, || {
            (LrSchedule::Cosine, "a slow end lets the answers settle".into())
        });
        let limit = total.saturating_sub(1);
        let steps = |share: f64| ((share * total as f64).ceil() as u64).min(limit);
        let warmup_steps = match (self.is_dapt, knobs.warmup_ratio, kind.value) {
            (true, written, _) => Knob::chosen(
                steps(recipe::PROSE_WARMUP_SHARE).max(1).min(limit),
                unheeded("continued pretraining starts gently", written),
            ),
            (false, written, LrSchedule::Constant) => {
                Knob::chosen(0, unheeded("a constant rate has no warm-up", written))
            }
            (false, Some(ratio), _) => Knob::written(steps(ratio)),
            (false, None, _) => Knob::chosen(steps(recipe::WARMUP_SHARE), "a tenth of the run lets the moments form"),
        };
        let floor = if self.is_dapt {
            Knob::chosen(
                recipe::PROSE_FLOOR,
                "continued pretraining keeps a tenth of the peak to its end",
            )
        } else {
            Knob::chosen(0.0, "the run ends at rest")
        };
        SchedulePlan {
            kind,
            warmup_steps,
            floor,
            regime: self.knob.clone(),
            // Short enough to be read back from JSON as it was written.
            prose_share: (self.prose_share * 1e4).round() / 1e4,
            embed_warmup_steps: knobs.embed_warmup_steps.unwrap_or(0),
        }
    }
}

/// The reason of a warm-up that does not follow the written ratio.
fn unheeded(reason: &str, written: Option<f64>) -> String {
    match written {
        Some(ratio) => format!("{reason}, and the document writes a `warmup_ratio` of {ratio}"),
        None => reason.to_owned(),
    }
}

fn steps_plan(request: &TrainRequest, prose: &ProsePlan, batch: &BatchPlan, regime: &Regime) -> StepsPlan {
    let (knobs, rows, options) = (&request.document.knobs, &request.document.rows, request.options);
    let count = prose.rows_total(rows);
    let per_pass = u64::from(batch.micro_rows.value) * u64::from(options.world_size.unwrap_or(1));
    let steps_per_epoch = count.div_ceil(per_pass).div_ceil(u64::from(batch.grad_accum.value));
    let epochs = Knob::or_chosen(knobs.num_epochs, || {
        let epochs = recipe::epochs(steps_per_epoch, regime.is_dapt);
        let steps = epochs * steps_per_epoch;
        (
            u32::try_from(epochs).unwrap_or(u32::MAX),
            format!(
                "{} {} {} a pass, and facts stick after about {steps} updates",
                counted(count, "row"),
                if count == 1 { "makes" } else { "make" },
                counted(steps_per_epoch, "update")
            ),
        )
    });
    let planned = u64::from(epochs.value).saturating_mul(steps_per_epoch);
    let total = match options.max_steps {
        Some(steps) => Knob::flag(steps.max(1), "--max-steps"),
        None if epochs.origin == Origin::Document => Knob {
            value: planned,
            origin: Origin::Document,
            reason: String::new(),
        },
        None => Knob::chosen(planned, format!("{} passes of {steps_per_epoch} updates", epochs.value)),
    };
    let eval_every = if rows.validation_rows == 0 {
        0
    } else {
        (total.value / recipe::EVALS).max(1)
    };
    StepsPlan {
        epochs,
        steps_per_epoch,
        total,
        eval_every,
        eval_patience: recipe::EVAL_PATIENCE,
    }
}

fn stop_plan(steps: &StepsPlan, regime: &Regime) -> StopPlan {
    let answer_loss = match &steps.total.origin {
        Origin::Chosen if !regime.is_dapt => Knob::chosen(
            Some(recipe::STOP_ANSWER_LOSS),
            "a run that knows every answer only loses general ability by going on",
        ),
        Origin::Chosen => Knob::chosen(None, "prose has no answer to reach"),
        Origin::Flag(name) => Knob::flag(None, name),
        Origin::Document => Knob::written(None),
    };
    StopPlan {
        answer_loss,
        steps_min: recipe::STOP_STEPS_MIN.min(steps.total.value),
    }
}

fn warnings(
    request: &TrainRequest,
    prose: &ProsePlan,
    regime: &Regime,
    learning_rate: &Knob<f64>,
    steps: &StepsPlan,
) -> Vec<String> {
    let rows = &request.document.rows;
    let mut warnings = Vec::new();
    if let Some(text) = &request.base.capability_warning {
        warnings.push(format!("{}: {text}", request.base.key));
    }
    if rows.instruction_rows == 0 {
        warnings.push(
            "the document has prose only: it will sound like it, but will not answer questions about it; \
             write `### Q` and `### A` pairs, or make some with `dlm synth`"
                .into(),
        );
    } else if regime.is_dapt {
        warnings.push(format!(
            "{} windows of prose drown {} question-answer pairs; train the pairs alone, or set `cpt.schedule: sft`",
            prose.windows, rows.instruction_rows
        ));
    }
    let is_written = learning_rate.origin == Origin::Document;
    if is_written && steps.total.value < recipe::STOP_STEPS_MIN && rows.instruction_rows > 0 {
        warnings.push(format!(
            "{} updates at the written rate of {} teach little; leave out `num_epochs` and `learning_rate` to let the plan choose",
            steps.total.value, learning_rate.value
        ));
    }
    if request
        .document
        .knobs
        .sequence_len
        .is_some_and(|written| written > request.base.context_usable)
    {
        warnings.push(format!(
            "`sequence_len` is cut to {}: the base reads no more",
            request.base.context_usable
        ));
    }
    warnings
}
