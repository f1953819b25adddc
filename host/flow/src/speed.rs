//! How fast this machine multiplies, measured where a plan would keep somebody waiting: a guess from the processor's name refuses
//! nothing by itself.

use std::cell::OnceCell;

use dlm_core::training::Precision;
use dlm_model::Cpu;
use dlm_plan::base::BaseFacts;
use dlm_plan::train::fit::typical_document;
use dlm_plan::train::recipe::SECONDS_LONG;
use dlm_plan::train::{Gflops, TrainOptions, TrainPlan, TrainRequest};
use dlm_plan::{PlanError, plan_train};

use crate::surroundings::Surroundings;

/// Share of the time that is worth a remark from which the guess is not good enough.
const MEASURED_SHARE: f64 = 0.25;

/// The speed of this machine, measured once for a command.
#[derive(Default)]
pub(crate) struct Speed(OnceCell<Gflops>);

impl Speed {
    /// Plans with a guess, and where the run would be long, with a measurement.
    ///
    /// **Errors:** those of the plan.
    pub(crate) fn plan(&self, around: &Surroundings, request: &TrainRequest<'_>) -> Result<TrainPlan, PlanError> {
        let guessed = plan_train(request);
        let is_long = match &guessed {
            Ok(plan) => plan.seconds() > SECONDS_LONG * MEASURED_SHARE,
            Err(error) => matches!(error, PlanError::TooSlow { .. }),
        };
        if !is_long {
            return guessed;
        }
        let options = TrainOptions {
            gflops: Some(*self.0.get_or_init(|| measured(around, request.options))),
            ..request.options.clone()
        };
        plan_train(&TrainRequest {
            options: &options,
            ..*request
        })
    }
}

/// Plans a document of thirty questions on a base, as [`Speed::plan`] does.
///
/// **Errors:** those of the plan.
pub(crate) fn typical(
    around: &Surroundings,
    facts: &BaseFacts,
    options: &TrainOptions,
) -> Result<TrainPlan, PlanError> {
    Speed::default().plan(
        around,
        &TrainRequest {
            document: &typical_document(),
            base: facts,
            hardware: &around.hardware,
            options,
        },
    )
}

fn measured(around: &Surroundings, options: &TrainOptions) -> Gflops {
    let threads = options.threads.unwrap_or(around.hardware.cpu_cores).max(1);
    let simd = options
        .switches
        .simd_max
        .map_or(around.hardware.simd, |most| most.min(around.hardware.simd));
    let cpu = Cpu::new(threads as usize, simd);
    Gflops {
        f32: cpu.gflops(Precision::Fp32),
        bf16: cpu.gflops(Precision::Bf16),
    }
}
