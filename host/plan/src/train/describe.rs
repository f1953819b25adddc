//! A plan as lines for people: every knob with its value and the reason for it.

use dlm_core::training::{Checkpointing, PreferenceMethod, PreferenceReference};
use dlm_core::units::size;
use serde::Serialize;

use super::phase::{PhasePlan, PreferencePlan};
use super::plan::TrainPlan;
use crate::knob::Knob;

/// One line of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlanLine {
    /// The key of the frontmatter where there is one.
    pub name: &'static str,
    pub value: String,
    /// `written in the document`, `given by --seed`, or `chosen because ...`.
    pub why: String,
}

fn line<T>(name: &'static str, knob: &Knob<T>, value: impl Into<String>) -> PlanLine {
    PlanLine {
        name,
        value: value.into(),
        why: knob.why(),
    }
}

fn show<T: std::fmt::Display>(name: &'static str, knob: &Knob<T>) -> PlanLine {
    line(name, knob, knob.value.to_string())
}

impl TrainPlan {
    /// All knobs, in the order in which a person asks about them.
    pub fn lines(&self) -> Vec<PlanLine> {
        let mut lines = self.adapter();
        lines.extend(self.phases.iter().flat_map(PhasePlan::lesson));
        lines.extend(self.prose());
        lines.extend(self.phases.iter().flat_map(PhasePlan::course));
        if self.first().preference.is_some() {
            lines.push(self.first().optimizer());
        }
        lines.push(show("seed", &self.seed));
        lines.extend(self.machine());
        lines
    }

    /// What is learned.
    fn adapter(&self) -> Vec<PlanLine> {
        vec![
            line("adapter", &self.adapter, self.adapter.value.name()),
            show("lora_r", &self.lora_r),
            show("lora_alpha", &self.lora_alpha),
            show("lora_dropout", &self.lora_dropout),
            line(
                "target_modules",
                &self.target_modules,
                self.target_modules.value.join(" "),
            ),
            show("sequence_len", &self.sequence_len),
        ]
    }

    /// How prose is cut and what is rehearsed.
    fn prose(&self) -> Vec<PlanLine> {
        vec![
            show("prose window", &self.prose.window_tokens),
            show("prose weight", &self.prose.weight),
            self.replay(),
        ]
    }

    /// What is rehearsed of earlier versions of the document.
    fn replay(&self) -> PlanLine {
        let rows = &self.rows;
        let (value, why) = match rows.replay_rows {
            0 => ("none".to_owned(), "no section was deleted from the document"),
            count => (
                format!("{count} rows, {} tokens", rows.replay_tokens),
                "sections that were deleted are rehearsed, up to as many tokens as the document has",
            ),
        };
        PlanLine {
            name: "replay",
            value,
            why: why.to_owned(),
        }
    }

    /// Where it runs.
    fn machine(&self) -> Vec<PlanLine> {
        let memory = PlanLine {
            name: "memory",
            value: format!("{} of {}", size(self.memory.total), size(self.memory_budget_bytes)),
            why: self.memory.to_string(),
        };
        let mut lines = vec![
            line("backend", &self.backend, self.backend.value.name()),
            line("simd", &self.simd, self.simd.value.name()),
            show("threads", &self.threads),
            line("precision", &self.precision, self.precision.value.name()),
            line(
                "base weights",
                &self.four_bits,
                if self.four_bits.value {
                    "four bits (NF4)"
                } else {
                    "as stored"
                },
            ),
            line("weight layout", &self.packing, self.packing.value.name()),
            line("cache", &self.cache, if self.cache.value { "on" } else { "off" }),
        ];
        lines.push(self.first().checkpointing());
        lines.push(memory);
        lines
    }
}

impl PhasePlan {
    /// How the rows are shown.
    fn lesson(&self) -> Vec<PlanLine> {
        if let Some(preference) = &self.preference {
            return vec![preference.line()];
        }
        let on = |is_on: bool, text: String| if is_on { text } else { "off".into() };
        let (anchors, noise) = (&self.anchors.value, &self.noise.value);
        let anchor_text = format!(
            "{} rows an update, strength {}",
            anchors.rows_per_step, anchors.strength
        );
        let noise_text = format!("{:.0} % of the input tokens", noise.share * 100.0);
        vec![
            line("anchors", &self.anchors, on(anchors.is_on, anchor_text)),
            line(
                "question variants",
                &self.augment,
                on(self.augment.value.is_on, "new every pass".into()),
            ),
            line("answer noise", &self.noise, on(noise.is_on, noise_text)),
        ]
    }

    /// How long, how fast, how much at a time.
    fn course(&self) -> Vec<PlanLine> {
        if self.preference.is_some() {
            return vec![
                show("preference rate", &self.learning_rate),
                show("preference epochs", &self.steps.epochs),
                show("preference updates", &self.steps.total),
                show("pairs an update", &self.batch.micro_rows),
            ];
        }
        let schedule = &self.schedule;
        let stop = &self.stop.answer_loss;
        let stop_at = stop.value.map_or("at the last update".into(), |loss| {
            format!("at an answer loss of {loss}")
        });
        vec![
            show("learning_rate", &self.learning_rate),
            line("lr_scheduler", &schedule.kind, schedule.kind.value.name()),
            show("warm-up updates", &schedule.warmup_steps),
            self.optimizer(),
            show("num_epochs", &self.steps.epochs),
            show("updates", &self.steps.total),
            show("micro_batch_size", &self.batch.micro_rows),
            show("grad_accum", &self.batch.grad_accum),
            line("stop", stop, stop_at),
        ]
    }

    /// The same in every phase.
    fn optimizer(&self) -> PlanLine {
        line("optimizer", &self.optimizer, self.optimizer.value.name())
    }

    fn checkpointing(&self) -> PlanLine {
        let Checkpointing { every, is_narrow } = self.checkpointing.value;
        let blocks = match every {
            0 => "off".to_owned(),
            1 => "every block".to_owned(),
            every => format!("one block of {every}"),
        };
        let rounded = if is_narrow { ", inputs rounded to bf16" } else { "" };
        line("checkpointing", &self.checkpointing, blocks + rounded)
    }
}

impl PreferencePlan {
    fn line(&self) -> PlanLine {
        let value = match self.method {
            PreferenceMethod::Dpo => format!(
                "dpo, {} loss, beta {}, against the {}",
                self.loss.name(),
                self.beta,
                match self.reference {
                    PreferenceReference::PreAdapter => "adapter before",
                    PreferenceReference::Base => "base",
                }
            ),
            PreferenceMethod::Orpo => format!("orpo, alpha {}", self.alpha),
        };
        PlanLine {
            name: "preferences",
            value,
            why: "`training.preference` of the document, or its defaults".to_owned(),
        }
    }
}
