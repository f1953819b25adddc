//! The port for trying what strangers wrote about text, tokenizer and chat template, before it is trusted.

use std::path::Path;

use crate::Cancel;

/// How a trial ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was read and used, or refused in words.
    Sound,
    /// A library failed on it, or the process that tried it died or took too much; in words.
    Unsound(String),
}

/// A trial that came to no verdict.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrialError {
    #[error("cancelled")]
    Cancelled,
    #[error("the trial of its tokenizer and chat template cannot be run: {0}")]
    Unrun(String),
}

/// Tries the textual part of a base.
pub trait TextTrial: Send + Sync {
    /// Reads and uses tokenizer and chat template of the directory or GGUF file at `path`, apart from this process.
    ///
    /// **Errors**: no verdict.
    fn run(&self, path: &Path, cancel: &Cancel) -> Result<Verdict, TrialError>;
}

/// Trusts everything; for files that a test made itself.
pub struct NoTrial;

impl TextTrial for NoTrial {
    fn run(&self, _path: &Path, _cancel: &Cancel) -> Result<Verdict, TrialError> {
        Ok(Verdict::Sound)
    }
}
