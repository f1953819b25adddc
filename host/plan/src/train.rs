//! The training plan: every knob of a run, decided before a weight is read.

pub mod describe;
pub mod facts;
pub mod fit;
mod ladder;
mod machine;
mod optimizer;
pub mod phase;
pub mod plan;
mod preference;
pub mod recipe;
pub mod refuse;
mod resolve;
pub mod targets;
#[cfg(test)]
pub(crate) mod tests;
mod time;

pub use describe::PlanLine;
pub use facts::{DocumentFacts, Gflops, RowFacts, Switches, TrainOptions, TrainRequest};
pub use fit::{BaseFit, fit_bases};
pub use machine::Budget;
pub use phase::{
    AnchorPlan, AugmentPlan, BatchPlan, NoisePlan, PhasePlan, PreferencePlan, SchedulePlan, StepsPlan, StopPlan,
};
pub use plan::{ProsePlan, TrainPlan};
pub use refuse::PlanError;
pub use resolve::plan_train;

pub use crate::memory::WeightPacking;
