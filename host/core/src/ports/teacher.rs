//! The teacher port: produces synthetic training text.

use super::plugin::{PluginFailure, PluginIdentity};

/// What a teacher says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TeacherInfo {
    pub identity: PluginIdentity,
    pub supports_seed: bool,
    /// How many instances may work side by side, 1 to 16.
    pub concurrency_max: usize,
}

/// One prompt for a teacher.
#[derive(Clone, Debug, PartialEq)]
pub struct TeacherRequest {
    pub system: String,
    pub user: String,
    pub new_tokens_max: u32,
    pub temperature: f32,
    pub top_p: Option<f32>,
    pub seed: Option<u64>,
}

/// What an answer cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TeacherUsage {
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
    pub requests: u64,
}

/// A teacher's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TeacherCompletion {
    /// Not empty after trimming.
    pub text: String,
    /// Cut by the token limit rather than ended by the model.
    pub is_truncated: bool,
    pub usage: TeacherUsage,
}

/// One opened teacher; its instances may move to other threads.
pub trait Teacher: Send {
    /// What it says about itself.
    fn info(&self) -> &TeacherInfo;

    /// Answers one prompt. The caller retries where [`PluginFailure::is_transient`] says so.
    fn complete(&mut self, request: &TeacherRequest) -> Result<TeacherCompletion, PluginFailure>;
}

/// Finds teachers by selector.
pub trait TeacherSource: Sync {
    /// Opens one instance of the teacher that `selector` names.
    ///
    /// **Errors**: an unknown or malformed selector is a misuse; else what stopped it from opening.
    fn open_teacher(&self, selector: &str) -> Result<Box<dyn Teacher>, PluginFailure>;
}
