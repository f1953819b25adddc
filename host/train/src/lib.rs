//! From rows of text to a trained adapter: batches, steps, schedules, optimizer, evaluation, recall.
//!
//! Invariants: everything random is a pure function of the seed and a position (epoch, step, row), so a run that is
//! resumed from any step repeats the uninterrupted one bit for bit. Nothing here reads or writes a file: state goes in
//! and out as values. The store layout, the document grammar and plugins are unknown here.

#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

pub mod anchors;
pub mod augment;
pub mod batch;
pub mod dataset;
pub mod decode;
pub mod error;
pub mod gate;
pub mod learner;
pub mod losses;
pub mod objective;
pub mod pairs;
pub mod preference;
pub mod probe;
pub mod recipe;
pub mod rows;
pub mod run;
pub mod schedule;
pub mod state;
pub mod supervised;
pub mod windows;

pub use anchors::{AnchorOptions, AnchorSet};
pub use dataset::{Body, Dataset, DatasetOptions, Example, Origin, Source, SourceContent, Split, SplitRule};
pub use error::RunError;
pub use losses::{EvalLoss, mean_losses, row_losses};
pub use objective::Objective;
pub use pairs::{Pair, Preference, Preferences, pair_logprobs, pair_logprobs_of};
pub use preference::{Both, PreferenceRule};
pub use probe::{PairRecall, recall_pairs};
pub use recipe::{Recipe, preference_digest, run_digest};
pub use rows::{Row, RowKind};
pub use run::{Outcome, TrainInput, train};
pub use schedule::{Schedule, WarmupStart};
pub use state::TrainState;
pub use supervised::Supervised;
