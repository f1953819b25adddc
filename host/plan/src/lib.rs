//! What is about to be done, as data: known bases, and plans with the origin and reason of every value.
//!
//! Invariants: pure functions of their arguments. Nothing here reads a file, a clock, the environment or a tensor, and
//! nothing asks the machine: hardware comes in as a record. A plan can be shown, serialized, refused or compared before
//! anything is touched, and what does not fit is refused here, before a weight is loaded.

#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

pub mod base;
pub mod disk;
pub mod doctor;
pub mod export;
pub mod knob;
pub mod lock;
pub mod memory;
pub mod prompt;
pub mod train;

pub use base::{BaseError, BaseFacts, BaseSpec, Registry, ResolvedBase, resolve_base};
pub use disk::{DiskError, DiskNeed, check_disk};
pub use doctor::{DoctorReport, EngineFacts, doctor};
pub use export::{ExportOptions, ExportPlan, plan_export};
pub use knob::{Knob, Origin};
pub use memory::MemoryEstimate;
pub use prompt::{PromptOptions, PromptPlan, plan_prompt};
pub use train::{DocumentFacts, PlanError, TrainOptions, TrainPlan, TrainRequest, plan_train};
