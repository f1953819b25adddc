//! From rows of text to a trained adapter: batches, steps, schedules, optimizer, evaluation, recall.
//!
//! Invariants: everything random is a pure function of the seed and a position (epoch, step, row), so a run that is
//! resumed from any step repeats the uninterrupted one bit for bit. Nothing here reads or writes a file: state goes in
//! and out as values. The store layout, the document grammar and plugins are unknown here.

pub mod augment;
pub mod batch;
pub mod decode;
pub mod hold;
pub mod optim;
pub mod probe;
pub mod rows;
pub mod run;
pub mod schedule;
pub mod state;
pub mod windows;

pub use optim::Optimizer;
pub use probe::{PairRecall, recall_pairs};
pub use rows::{Row, RowCache, RowKind, SourceBody, SourceRow};
pub use run::{Outcome, Recipe, RunError, TrainInput, train};
pub use schedule::{Schedule, WarmupStart};
pub use state::TrainState;
