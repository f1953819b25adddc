//! What is about to be done, as data: known bases, and plans with the origin and reason of every value.
//!
//! Invariants: pure functions of their arguments. Nothing here reads a file, a clock, the environment or a tensor, and
//! nothing asks the machine: hardware comes in as a record. A plan can be shown, serialised, refused or compared before
//! anything is touched, and what does not fit is refused here, before a weight is loaded.

pub mod base;
pub mod knob;
pub mod memory;
pub mod train;

pub use base::{BaseError, BaseFacts, BaseSpec, Registry, ResolvedBase, resolve_base};
pub use knob::{Knob, Origin};
pub use memory::MemoryEstimate;
pub use train::{DocumentFacts, PlanError, TrainOptions, TrainPlan, TrainRequest, TrainingKnobs, plan_train};
