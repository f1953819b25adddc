//! From the plan's values to the loop's and the adapter's.

use dlm_core::training::{self, LrSchedule};
use dlm_model::{AdapterKind, AdapterSpec};
use dlm_plan::train::{PhasePlan, SchedulePlan, TrainPlan};
use dlm_train::augment::Augment;
use dlm_train::schedule::{Schedule, ScheduleKind, WarmupStart};
use dlm_train::{Example, PreferenceRule, Recipe, RowKind};

use super::prepared::PreparedRun;

/// Returns the loop's numbers.
pub(super) fn recipe(prepared: &PreparedRun, phase: &PhasePlan) -> Recipe {
    let plan = &prepared.plan;
    let (augment, noise, anchors) = (&phase.augment.value, &phase.noise.value, &phase.anchors.value);
    Recipe {
        seed: plan.seed.value as u64,
        lr: phase.learning_rate.value,
        schedule: Schedule {
            kind: schedule_kind(&phase.schedule),
            steps: phase.steps.total.value,
            warmup: phase.schedule.warmup_steps.value,
            start: WarmupStart::First,
        },
        rows_per_step: phase.batch.effective_rows as usize,
        batch_tokens_max: phase.batch.tokens_max as usize,
        clip: Some(phase.clip_norm.value),
        weight_decay: 0.0,
        moments: phase.optimizer.value.moments(),
        augment: augment.is_on.then_some(Augment {
            share: augment.share,
            drop_function: augment.drop_function,
            drop_content: augment.drop_content,
        }),
        noise_share: if noise.is_on { noise.share } else { 0.0 },
        clean_share: noise.clean_tail,
        anchors_per_step: if anchors.is_on {
            anchors.rows_per_step as usize
        } else {
            0
        },
        anchor_weight: anchors.strength,
        loss_stop: phase.stop.answer_loss.value,
        steps_min: phase.stop.steps_min,
        eval_every: phase.steps.eval_every.max(1),
        eval_patience: phase.steps.eval_patience,
        obeys_eval: obeys_eval(prepared),
        checkpointing: phase.checkpointing.value,
        system_prompt: prepared.document.parsed.frontmatter().system().map(str::to_owned),
        sequence_len_max: plan.sequence_len.value as usize,
        prose_weight: plan.prose.weight.value as f32,
        preference: phase.preference.map(|preference| PreferenceRule {
            method: preference.method,
            loss: preference.loss,
            beta: preference.beta,
            alpha: preference.alpha,
        }),
    }
}

/// Prose for validation says nothing about whether the facts are learned: beside pairs its loss is reported, not obeyed.
fn obeys_eval(prepared: &PreparedRun) -> bool {
    let is_judged_pair = |example: &Example| example.is_validation() && example.kind() == RowKind::Sft;
    prepared.plan.rows.instruction_rows == 0 || prepared.dataset.examples().any(is_judged_pair)
}

fn schedule_kind(schedule: &SchedulePlan) -> ScheduleKind {
    match schedule.kind.value {
        LrSchedule::Cosine if schedule.floor.value > 0.0 => ScheduleKind::CosineWithFloor {
            floor: schedule.floor.value,
        },
        LrSchedule::Cosine => ScheduleKind::Cosine,
        LrSchedule::Linear => ScheduleKind::Linear,
        LrSchedule::Constant => ScheduleKind::Constant,
    }
}

/// Returns what the plan's adapter should be.
pub(super) fn adapter_spec(plan: &TrainPlan) -> AdapterSpec {
    AdapterSpec {
        kind: match plan.adapter.value {
            training::AdapterKind::Lora | training::AdapterKind::Qlora => AdapterKind::Lora,
            training::AdapterKind::Dora => AdapterKind::Dora,
        },
        r: plan.lora_r.value as usize,
        alpha: plan.lora_alpha.value as f32,
        dropout: plan.lora_dropout.value as f32,
        targets: plan.target_modules.value.clone(),
    }
}
