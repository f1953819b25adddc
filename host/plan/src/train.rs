//! The training plan: every knob of a run, decided before a weight is read.

pub mod describe;
pub mod facts;
pub mod fit;
mod ladder;
mod machine;
pub mod plan;
pub mod recipe;
pub mod refuse;
mod resolve;
pub mod targets;
#[cfg(test)]
pub(crate) mod tests;

pub use describe::PlanLine;
pub use facts::{DocumentFacts, RowFacts, Switches, TrainOptions, TrainRequest};
pub use fit::{BaseFit, fit_bases};
pub use machine::Budget;
pub use plan::{
    AnchorPlan, AugmentPlan, BatchPlan, NoisePlan, ProsePlan, SchedulePlan, StepsPlan, StopPlan, TrainPlan,
};
pub use refuse::PlanError;
pub use resolve::plan_train;

pub use crate::memory::WeightPacking;
