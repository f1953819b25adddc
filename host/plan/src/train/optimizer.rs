//! Which optimizer a run has, and why two of the schema's are refused.

use dlm_core::training::Optimizer;

use super::facts::TrainRequest;
use super::recipe;
use super::refuse::PlanError;
use crate::knob::Knob;

/// Directions that GaLore projects gradients onto (`spec/training.md`, 3).
const GALORE_RANK: u32 = 128;

/// The optimizer of every phase; moments in eight bits where memory is short and the document names none.
pub(super) fn optimizer(request: &TrainRequest, is_memory_short: bool) -> Knob<Optimizer> {
    match request.document.knobs.optimizer {
        // On a processor there is no accelerator whose memory the moments could leave.
        Some(Optimizer::PagedAdamW8bit) => Knob::chosen(
            Optimizer::AdamW8bit,
            format!(
                "the document writes `{}`, which is the same where there is no accelerator to page out of",
                Optimizer::PagedAdamW8bit.name()
            ),
        ),
        None if is_memory_short => Knob::chosen(
            Optimizer::AdamW8bit,
            "moments in eight bits are the last that memory can be saved with",
        ),
        written => Knob::or_chosen(written, || {
            (
                Optimizer::AdamW,
                "the adapter is small enough for full moments".to_owned(),
            )
        }),
    }
}

/// Refuses GaLore. Its projection is made for the gradient of a whole weight matrix; a factor of a LoRA has the adapter's rank
/// already.
pub(super) fn check_optimizer(request: &TrainRequest) -> Result<(), PlanError> {
    let knobs = &request.document.knobs;
    let lora_r = knobs.lora_r.unwrap_or(recipe::LORA_R);
    match knobs.optimizer {
        Some(optimizer @ (Optimizer::Galore | Optimizer::Galore8bit)) => Err(PlanError::Galore {
            name: optimizer.name(),
            why: why_no_galore(lora_r),
            nearest: nearest(optimizer, lora_r).name(),
        }),
        _ => Ok(()),
    }
}

/// What an author who wrote GaLore wants: its update, which up to its rank is AdamW's, or less memory for the moments.
fn nearest(galore: Optimizer, lora_r: u32) -> Optimizer {
    match lora_r > GALORE_RANK {
        true => Optimizer::AdamW8bit,
        false => galore.moments().adamw(),
    }
}

/// Why GaLore is of no use to factors of a rank.
fn why_no_galore(lora_r: u32) -> String {
    let what = match lora_r > GALORE_RANK {
        true => format!(
            "a LoRA factor of rank {lora_r} has {lora_r}, so a decomposition every few updates would save at most half of \
             their memory, and eight bits save three quarters of it"
        ),
        false => format!(
            "a LoRA factor of rank {lora_r} has no more than {lora_r}, so a decomposition every few updates would save nothing"
        ),
    };
    format!("it keeps moments of gradients projected onto {GALORE_RANK} directions, and {what}")
}
