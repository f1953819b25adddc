//! How long a run may take: what takes long is told, what takes half a day is asked for.

use dlm_core::units::duration;

use super::facts::TrainRequest;
use super::plan::TrainPlan;
use super::recipe;
use super::refuse::PlanError;

/// Refuses a run that would take half a day where that was not asked for; what takes long and is not refused is told.
pub(super) fn check_time(request: &TrainRequest, plan: &TrainPlan) -> Result<Option<String>, PlanError> {
    let seconds = plan.seconds();
    let options = request.options;
    if seconds > recipe::SECONDS_MAX && !options.is_forced && !options.allows_slow {
        return Err(PlanError::TooSlow {
            base: request.base.key.clone(),
            seconds,
            updates: plan.phases.iter().map(|phase| phase.steps.total.value).sum(),
            is_measured: options.gflops.is_some(),
        });
    }
    Ok((seconds > recipe::SECONDS_LONG).then(|| {
        let other = match request.base.key == recipe::QUICK_BASE {
            true => String::new(),
            false => format!("`base_model: {}` takes minutes, and ", recipe::QUICK_BASE),
        };
        format!(
            "training takes about {} here; {other}`--max-steps` ends a run earlier",
            duration(seconds)
        )
    }))
}
