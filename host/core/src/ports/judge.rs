//! The judge port: scores candidate answers.

use super::plugin::{PluginFailure, PluginIdentity};

/// How a judge looks at candidates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JudgeMode {
    /// Each by itself; any number of candidates in an item.
    Pointwise,
    /// Exactly two candidates in an item.
    Pairwise,
}

/// What a judge says about itself.
#[derive(Clone, Debug, PartialEq)]
pub struct JudgeInfo {
    pub identity: PluginIdentity,
    pub mode: JudgeMode,
    /// Smallest margin that counts as a preference, on the judge's own scale; finite and not negative.
    pub suggested_threshold: f64,
    /// The same input always gives the same score, in any order.
    pub is_deterministic: bool,
    /// Most items that the caller puts into one call, 1 to 1024.
    pub batch_max: usize,
}

/// One prompt with its candidates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JudgeItem {
    pub system: Option<String>,
    pub prompt: String,
    pub candidates: Vec<String>,
    /// A known good answer, when the document has one.
    pub reference: Option<String>,
}

/// The judge's opinion of one item.
#[derive(Clone, Debug, PartialEq)]
pub struct JudgeVerdict {
    /// One finite number per candidate, higher is better.
    pub scores: Vec<f64>,
    pub reasoning: Option<String>,
}

/// One opened judge.
pub trait Judge {
    /// What it says about itself.
    fn info(&self) -> &JudgeInfo;

    /// Scores items, one verdict each, in order. The count of verdicts and scores is checked, and every score is finite.
    ///
    /// **Errors**: the whole batch fails or none of it.
    fn score(&mut self, items: &[JudgeItem]) -> Result<Vec<JudgeVerdict>, PluginFailure>;
}

/// Finds judges by selector: `name[@version][:argument]` or `path.wasm[:argument]`.
pub trait JudgeSource {
    /// Opens the judge that `selector` names.
    ///
    /// **Errors**: an unknown or malformed selector is a misuse; else what stopped it from opening.
    fn open_judge(&self, selector: &str) -> Result<Box<dyn Judge>, PluginFailure>;
}
