//! The recipe: every number that a plan chooses when the document leaves it open, each with the reason beside it.
//!
//! One file on purpose: teaching is tuned here and nowhere else. "Measured" means the runs of `docs/internals/benchmarks.md` on
//! SmolLM2-135M with invented documents of 30 pairs; everything else says that it was not measured.

use super::phase::{AnchorPlan, AugmentPlan, NoisePlan};

/// Adapter rank. Measured: 16 with noise and anchors answers 51 to 53 of 68 paraphrases of the example and keeps the optimizer's
/// state half as large as 32 does.
pub const LORA_R: u32 = 16;
/// Scale over rank: `alpha = 2 r` keeps the update's size the same whatever the rank.
pub const ALPHA_PER_R: u32 = 2;
/// Under this many rows dropout only slows learning down: there is nothing to average over.
pub const DROPOUT_ROWS_MIN: u64 = 200;
/// The dropout of larger documents (the schema's default).
pub const DROPOUT: f64 = 0.05;

/// Peak rate below [`PARAMS_SMALL`]. Measured: 1e-3 reaches 30 of 30 in 80 updates, 2e-4 learns nothing in that time.
pub const LEARNING_RATE_SMALL: f64 = 1e-3;
/// Peak rate from there to [`PARAMS_LARGE`]. Not measured.
pub const LEARNING_RATE_MEDIUM: f64 = 6e-4;
/// Peak rate above. Not measured; twice the usual rate of published LoRA recipes, since runs are short.
pub const LEARNING_RATE_LARGE: f64 = 4e-4;
/// Bases under this size take the highest rate.
pub const PARAMS_SMALL: u64 = 300_000_000;
/// Bases above this size take the lowest.
pub const PARAMS_LARGE: u64 = 1_000_000_000;
/// Peak rate of continued pretraining, as a share of the rate above: long rows carry many more tokens an update.
pub const PROSE_RATE_SHARE: f64 = 0.5;

/// Document rows in one update. Measured: 8 short rows; larger batches give too few updates on small documents.
pub const ROWS_PER_STEP: u32 = 8;
/// Updates aimed at. Measured: 100 answer all 34 pairs of the example with two seeds, 90 answer 33 and 32.
pub const STEPS_TARGET: u64 = 100;
/// Updates at most for documents so large that even [`EPOCHS_MIN`] passes would take longer.
pub const STEPS_MAX: u64 = 1500;
/// Passes over every pair at least: a fact seen less often does not stick.
pub const EPOCHS_MIN: u64 = 12;
/// Passes at least when [`STEPS_MAX`] bounds the run.
pub const EPOCHS_MIN_LARGE: u64 = 3;
/// Passes at most: more only overwrite the base.
pub const EPOCHS_MAX: u64 = 60;
/// Passes over documents that are mostly prose.
pub const PROSE_EPOCHS: u64 = 6;

/// Peak rate of preferences. Chosen on `examples/development/observatory.dlm` (`cargo xtask teach preferences --document PATH --rate R`):
/// of 20 answers that the document taught, twice the rate broke 1 and four times 7 before the change was taken back, and this one none.
pub const PREFERENCE_RATE: f64 = 5e-5;
/// Pairs in one update: as many rows as an update of questions has.
pub const PAIRS_PER_STEP: u32 = 4;
/// Updates over preferences aimed at.
pub const PREFERENCE_STEPS_TARGET: u64 = 40;
/// Passes over preferences at most.
pub const PREFERENCE_EPOCHS_MAX: u64 = 10;

/// Share of the updates in which the rate rises (the schema's default).
pub const WARMUP_SHARE: f64 = 0.1;
/// The same for continued pretraining (`training.md` section 4).
pub const PROSE_WARMUP_SHARE: f64 = 0.2;
/// The share of the peak that continued pretraining falls to (`training.md` section 4).
pub const PROSE_FLOOR: f64 = 0.1;
/// Share of prose rows above which a run is continued pretraining (`training.md` section 4, strict).
pub const PROSE_SHARE: f64 = 0.7;

/// Mean loss of an epoch's clean answer tokens at which a run ends: all measured runs under it answered every pair.
pub const STOP_ANSWER_LOSS: f64 = 0.01;
/// No run ends before this many updates, whatever its loss.
pub const STOP_STEPS_MIN: u64 = 40;
/// Global gradient norm (`training.md` section 3).
pub const CLIP_NORM: f64 = 1.0;
/// The seed of documents that write none (the schema's default).
pub const SEED: i64 = 42;
/// Evaluations without improvement that end a run (`training.md` section 3).
pub const EVAL_PATIENCE: u32 = 3;
/// Evaluations in a run.
pub const EVALS: u64 = 10;

/// Longest row that is planned for when the document names no `sequence_len` (the schema's default).
pub const SEQUENCE_LEN: u32 = 2048;
/// Window of prose beside pairs: short windows keep an update short. Not measured against others.
pub const PROSE_WINDOW: u32 = 128;
/// Window of documents that are mostly prose.
pub const PROSE_WINDOW_LONG: u32 = 512;
/// Share of a window that repeats the end of the one before, read and not learned (`training.md` section 1.8).
pub const PROSE_OVERLAP: f64 = 0.1;
/// Loss weight of prose beside pairs. Measured: at 1.0 it costs 3 pairs, 16 paraphrases and 7 % of general loss.
pub const PROSE_WEIGHT: f64 = 0.2;

/// Hold on the base. Measured: brings general loss from +15 % to +2 % and general answers from 25 to 35 of 40; a strength of
/// 2 instead of 1.5 keeps two more of them (35 and 36 instead of 33) and costs 2 to 4 of 54 paraphrases.
pub const ANCHORS: AnchorPlan = AnchorPlan {
    is_on: true,
    // Measured with three or four.
    rows_per_step: 4,
    strength: 2.0,
    // The base's 64 likeliest tokens carry nearly all of its mass.
    top_k: 64,
    // Made once per base and cached; enough that a row comes back only every 24 updates.
    set_rows: 96,
    row_tokens_max: 40,
    greedy_share: 0.7,
};

/// Question augmentation. Measured: paraphrases 0.40 -> 0.55.
pub const AUGMENT: AugmentPlan = AugmentPlan {
    is_on: true,
    share: 0.7,
    drop_function: 0.3,
    drop_content: 0.08,
};

/// Noise on the answer's input tokens. Measured: paraphrases 0.55 -> 0.70. Digits are spared: a wrong number is what
/// stays wrong.
pub const NOISE: NoisePlan = NoisePlan {
    is_on: true,
    share: 0.2,
    clean_tail: 0.25,
};

/// Seconds of training from which a person is told beforehand.
pub const SECONDS_LONG: f64 = 600.0;
/// Seconds of training that are refused unless asked for. It takes the place of the limit of parameters on a CPU
/// (`training.md` 5.4): what matters is how long one waits.
pub const SECONDS_MAX: f64 = 43_200.0;
/// Share of the free memory that a run may take: the rest is for the system's own growth.
pub const MEMORY_SHARE: f64 = 0.9;
/// Share of all memory that the fast variants stay under (`training.md` 5.2); the frugal ones may use the share above.
pub const MEMORY_SHARE_COMFORT: f64 = 0.5;
/// The base that is named where another one takes long.
pub const QUICK_BASE: &str = "smollm2-135m";
/// Share of a CUDA device's free memory (`training.md` 5.2).
pub const CUDA_MEMORY_SHARE: f64 = 0.85;
/// Share of unified memory on an Apple device (`training.md` 5.2).
pub const MPS_MEMORY_SHARE: f64 = 0.5;

/// The peak rate for a base of so many parameters.
pub fn learning_rate(params: u64) -> f64 {
    match params {
        p if p < PARAMS_SMALL => LEARNING_RATE_SMALL,
        p if p <= PARAMS_LARGE => LEARNING_RATE_MEDIUM,
        _ => LEARNING_RATE_LARGE,
    }
}

/// Passes over the document, from the updates that one pass takes.
pub fn epochs(steps_per_epoch: u64, is_mostly_prose: bool) -> u64 {
    let steps_per_epoch = steps_per_epoch.max(1);
    let wanted = STEPS_TARGET.div_ceil(steps_per_epoch);
    if is_mostly_prose {
        return wanted.clamp(EPOCHS_MIN_LARGE, PROSE_EPOCHS);
    }
    let least = EPOCHS_MIN.min((STEPS_MAX / steps_per_epoch).max(EPOCHS_MIN_LARGE));
    wanted.clamp(least, EPOCHS_MAX)
}
