//! `dlm train`: from a document to a committed adapter.
//!
//! The order is that of `spec/training.md` section 6: everything that can refuse comes before a weight is loaded
//! ([`prepare`], [`Job::begin`]), the store is locked before it is read, and the adapter's pointer flips before anything is
//! recorded about it; what a run that died left is settled before the next one is planned ([`settle`]).

mod anchors;
mod command;
mod commit;
mod job;
mod lane;
mod measure;
mod observe;
mod pins;
mod preference_report;
mod preferences;
mod prepare;
mod prepared;
mod recipe;
mod replay;
mod report;
mod resume;
mod room;
mod run;

pub use command::TrainCommand;
pub use job::{Job, Turn, settle};
pub use lane::Lane;
pub use measure::{ProbeScore, Retention};
pub use preference_report::{Judgement as PreferenceJudgement, PreferenceReport, Trial};
pub(crate) use prepare::{Judgement, judge};
pub use prepare::{prepare, rehearse};
pub use prepared::PreparedRun;
pub use replay::{DrawnSection, ReplayReport};
pub use report::TrainReport;
pub use run::{load, run};
