//! Why there is no training plan, with the figures and the remedy.

use dlm_core::units::{duration, size};
use dlm_core::{FailureKind, Hints, Subject};

use super::recipe::SECONDS_MAX;
use crate::memory::MemoryEstimate;

/// A plan that is refused.
#[derive(Clone, Debug, thiserror::Error, PartialEq)]
pub enum PlanError {
    #[error(
        "`{base}` does not fit: training needs {} at the least and {} of memory may be used ({} are free); {estimate}",
        size(*needed_bytes), size(*budget_bytes), size(*free_bytes)
    )]
    Memory {
        base: String,
        needed_bytes: u64,
        budget_bytes: u64,
        free_bytes: u64,
        /// The cheapest variant that was tried.
        estimate: Box<MemoryEstimate>,
        /// The largest registry base that fits here, if any.
        largest_fitting: Option<String>,
    },
    #[error(
        "training `{base}` would take about {} on this machine ({updates} updates, {}), more than the {} that pass unasked",
        duration(*seconds), if *is_measured { "its speed was measured" } else { "its speed is guessed from the processor" },
        duration(SECONDS_MAX)
    )]
    TooSlow {
        base: String,
        seconds: f64,
        updates: u64,
        is_measured: bool,
    },
    #[error("precision `{precision}` is not possible here: {reason}")]
    PrecisionUnsupported { precision: &'static str, reason: String },
    #[error("optimizer `{name}` is refused: {why}")]
    Galore {
        name: &'static str,
        why: String,
        nearest: &'static str,
    },
    #[error("`target_modules` names `{entry}`, which matches no layer; layers: {}", modules.join(", "))]
    UnknownTarget { entry: String, modules: Vec<String> },
    #[error("`target_modules` is an empty list, so nothing would be trained; layers: {}", modules.join(", "))]
    NoTargets { modules: Vec<String> },
    #[error("a DoRA adapter of experts ({}) is loaded by no other program", experts.join(", "))]
    DoraOfExperts { experts: Vec<String>, nearest: Vec<String> },
    #[error("no trainable rows: the document has no prose and no question-answer pair")]
    NoRows,
    #[error("no preference to train: the document has no preference section that this run takes")]
    NoPreferences,
    #[error("`{base}` takes text only, and the document has {images} image and {audio} audio sections")]
    MediaOnTextBase { base: String, images: u64, audio: u64 },
    #[error("`{base}` is a {modality} base, which cannot be trained yet")]
    ModalityNotBuilt { base: String, modality: &'static str },
    #[error(
        "`{base}` keeps its model code in its repository (trust_remote_code), and there is no Python here to run it"
    )]
    RemoteCode { base: String },
    #[error("`{key}` is {value}, outside {range}")]
    OutOfRange {
        key: &'static str,
        value: String,
        range: &'static str,
    },
    #[error("{world_size} processes train together on CUDA only, and this run is on {backend}")]
    WorldSize { world_size: u32, backend: &'static str },
}

impl PlanError {
    /// The reason in a few words, for a table of bases.
    pub fn brief(&self) -> &'static str {
        match self {
            PlanError::Memory { .. } => "more memory than there is",
            PlanError::TooSlow { .. } => "too long here",
            PlanError::ModalityNotBuilt { .. } => "not built yet",
            PlanError::RemoteCode { .. } => "code of its own",
            PlanError::PrecisionUnsupported { .. }
            | PlanError::Galore { .. }
            | PlanError::UnknownTarget { .. }
            | PlanError::NoTargets { .. }
            | PlanError::DoraOfExperts { .. }
            | PlanError::NoRows
            | PlanError::NoPreferences
            | PlanError::MediaOnTextBase { .. }
            | PlanError::OutOfRange { .. }
            | PlanError::WorldSize { .. } => "not as the document asks",
        }
    }
}

impl Hints for PlanError {
    fn subject(&self) -> Subject {
        match self {
            PlanError::NoRows | PlanError::NoPreferences | PlanError::MediaOnTextBase { .. } => Subject::Training,
            _ => Subject::Doctor,
        }
    }

    fn kind(&self) -> FailureKind {
        match self {
            PlanError::NoRows => FailureKind::NothingToDo,
            // What is not built is asked for wrongly, wherever it is asked for.
            PlanError::Galore { .. } | PlanError::ModalityNotBuilt { .. } => FailureKind::Misuse,
            _ => FailureKind::Runtime,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            PlanError::Memory {
                largest_fitting,
                estimate,
                budget_bytes,
                ..
            } => {
                let base = largest_fitting.as_ref();
                let mut hints: Vec<String> = base
                    .map(|key| format!("use a smaller base: `base_model: {key}` is the largest that fits here"))
                    .into_iter()
                    .collect();
                // Shorter rows and a lower rank are no help where the weights alone are too much.
                let fixed = estimate.weights + estimate.packed_weights + estimate.fixed;
                if fixed < *budget_bytes {
                    hints.push("lower `training.sequence_len` or `training.lora_r`".to_owned());
                }
                hints.push("close other programs".to_owned());
                hints
            }
            PlanError::TooSlow { .. } => vec![
                "use a smaller base: `base_model: smollm2-135m`".into(),
                "or train it all the same: `dlm train --yes-slow`, which `--resume` goes on with after a stop".into(),
            ],
            PlanError::PrecisionUnsupported { .. } => {
                vec!["remove `precision` from `training`: the plan chooses".into()]
            }
            PlanError::Galore { nearest, .. } => vec![format!("set `optimizer: {nearest}`, or remove the line")],
            PlanError::UnknownTarget { .. } | PlanError::NoTargets { .. } => {
                vec!["set `target_modules: auto`, or a preset: attention, mlp, all-linear".into()]
            }
            PlanError::DoraOfExperts { nearest, .. } => vec![format!(
                "set `target_modules: [{}]`, or `adapter: lora`",
                nearest.join(", ")
            )],
            PlanError::NoPreferences => vec![
                "write a `::preference::` section with `### Prompt`, `### Chosen` and `### Rejected`, or mine some: \
                 `dlm preference mine`"
                    .into(),
            ],
            PlanError::NoRows => {
                vec!["write prose, or an `::instruction::` section with `### Q` and `### A`".into()]
            }
            PlanError::MediaOnTextBase { .. } => {
                vec!["take the sections out; pictures and sound come in a later version".into()]
            }
            PlanError::ModalityNotBuilt { .. } | PlanError::RemoteCode { .. } => {
                vec!["choose a text base: `dlm base list`".into()]
            }
            PlanError::OutOfRange { key, range, .. } => vec![format!("set `{key}` within {range}")],
            PlanError::WorldSize { .. } => vec!["train in one process".into()],
        }
    }
}
