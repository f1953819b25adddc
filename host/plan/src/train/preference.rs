//! The phase that teaches preferences: few updates at a low rate over pairs of answers, from the adapter that is there.

use dlm_core::training::{CptSchedule, LrSchedule, PreferenceMethod, TrainPhase};
use dlm_core::units::counted;

use super::facts::TrainRequest;
use super::ladder::Variant;
use super::machine::Machine;
use super::phase::{
    AnchorPlan, AugmentPlan, BatchPlan, NoisePlan, PhasePlan, PreferencePlan, SchedulePlan, StepsPlan, StopPlan,
};
use super::recipe;
use crate::knob::{Knob, Origin};

/// Makes the phase; `variant` is what the machine has room for.
pub(super) fn preference_phase(
    request: &TrainRequest,
    machine: &Machine,
    adapter_parameters: u64,
    variant: &Variant,
) -> PhasePlan {
    let written = &request.document.preference;
    let batch = batch(request, &variant.batch);
    let off = "preferences are learned as they are written";
    PhasePlan {
        phase: match written.method {
            PreferenceMethod::Dpo => TrainPhase::Dpo,
            PreferenceMethod::Orpo => TrainPhase::Orpo,
        },
        preference: Some(PreferencePlan {
            method: written.method,
            loss: written.loss,
            reference: written.reference,
            beta: written.beta,
            alpha: written.alpha,
        }),
        learning_rate: Knob::or_chosen(written.learning_rate, || {
            (
                recipe::PREFERENCE_RATE,
                "preferences must not cost what was learned before".into(),
            )
        }),
        optimizer: variant.optimizer.clone(),
        clip_norm: Knob::chosen(recipe::CLIP_NORM, "one odd pair must not throw the adapter off"),
        schedule: SchedulePlan {
            kind: Knob::chosen(LrSchedule::Linear, "preferences settle as the rate falls"),
            warmup_steps: Knob::chosen(0, "the rate is low from the start"),
            floor: Knob::chosen(0.0, "the run ends at rest"),
            regime: Knob::chosen(CptSchedule::Sft, "pairs are answers"),
            prose_share: 0.0,
            embed_warmup_steps: 0,
        },
        steps: steps(request, &batch),
        stop: StopPlan {
            answer_loss: Knob::chosen(None, "a pair has no loss to reach"),
            steps_min: 0,
        },
        seconds_per_step: machine.seconds_per_step(request.base, adapter_parameters, &batch),
        batch,
        anchors: Knob::chosen(
            AnchorPlan {
                is_on: false,
                ..recipe::ANCHORS
            },
            "the reference holds the adapter",
        ),
        augment: Knob::chosen(
            AugmentPlan {
                is_on: false,
                ..recipe::AUGMENT
            },
            off,
        ),
        noise: Knob::chosen(
            NoisePlan {
                is_on: false,
                ..recipe::NOISE
            },
            off,
        ),
        checkpointing: variant.checkpointing.clone(),
    }
}

/// The pairs of an update; a pass takes as many of them as fit into the tokens of any other pass.
fn batch(request: &TrainRequest, supervised: &BatchPlan) -> BatchPlan {
    let rows = &request.document.rows;
    let most = u32::try_from(rows.preference_rows).unwrap_or(u32::MAX).max(1);
    let pairs = recipe::PAIRS_PER_STEP.min(most);
    let mean = rows.preference_tokens.div_ceil(rows.preference_rows.max(1)).max(1);
    BatchPlan {
        micro_rows: Knob::chosen(
            pairs,
            format!(
                "{} an update are as many rows as elsewhere",
                counted(pairs.into(), "pair")
            ),
        ),
        grad_accum: Knob::chosen(1, "a pass takes what there is memory for"),
        effective_rows: pairs,
        tokens_max: supervised.tokens_max,
        tokens_mean: mean * u64::from(pairs),
        is_packed: true,
    }
}

fn steps(request: &TrainRequest, batch: &BatchPlan) -> StepsPlan {
    let pairs = request.document.rows.preference_rows;
    let steps_per_epoch = pairs.div_ceil(u64::from(batch.effective_rows)).max(1);
    let epochs = Knob::or_chosen(request.document.preference.num_epochs, || {
        let wanted = recipe::PREFERENCE_STEPS_TARGET.div_ceil(steps_per_epoch);
        let epochs = wanted.clamp(1, recipe::PREFERENCE_EPOCHS_MAX);
        (
            u32::try_from(epochs).unwrap_or(u32::MAX),
            format!(
                "{} make {} a pass, and a preference takes some {} updates to show",
                counted(pairs, "pair"),
                counted(steps_per_epoch, "update"),
                recipe::PREFERENCE_STEPS_TARGET
            ),
        )
    });
    let planned = u64::from(epochs.value).saturating_mul(steps_per_epoch);
    let total = match request.options.max_steps {
        Some(steps) => Knob::flag(steps.max(1), "--max-steps"),
        None if epochs.origin == Origin::Document => Knob::written(planned),
        None => Knob::chosen(planned, format!("{} passes of {steps_per_epoch} updates", epochs.value)),
    };
    StepsPlan {
        epochs,
        steps_per_epoch,
        total,
        eval_every: 0,
        eval_patience: recipe::EVAL_PATIENCE,
    }
}
