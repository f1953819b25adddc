//! Runs golden numbers against the engine: one result per number or group of numbers, with its largest deviation.
//!
//! A directory names the case; nothing here knows which directories exist. The reference implementation's numbers are
//! described in `tests/golden/README.md` and `tests/golden/arch/README.md`.

mod arch;
mod real;
mod tensors;
mod text;

use std::path::{Path, PathBuf};

pub use arch::{run_arch_case, run_arch_case_with};
pub use real::run_real_cases;
pub use tensors::Tensors;
pub use text::{run_chat_template_case, run_rows_case, run_text_cases, run_tokenizer_case, run_tokenizer_dir};

/// The comparison of one golden number, or of a group of them.
#[derive(Clone, Debug, PartialEq)]
pub struct CaseResult {
    pub name: String,
    /// Largest deviation, in the unit of the tolerance.
    pub deviation: f64,
    pub tolerance: f64,
    pub pass: bool,
}

impl CaseResult {
    pub(crate) fn new(name: impl Into<String>, deviation: f64, tolerance: f64) -> CaseResult {
        CaseResult {
            name: name.into(),
            deviation,
            tolerance,
            // A deviation that is not a number is a miss.
            pass: deviation <= tolerance,
        }
    }
}

/// A golden directory that cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum GoldenError {
    #[error("read `{path}`: {source}", path = .path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("`{path}`: {cause}", path = .path.display())]
    Malformed { path: PathBuf, cause: String },
    #[error("the model of `{path}`: {cause}", path = .path.display())]
    Model { path: PathBuf, cause: String },
}

pub(crate) fn read(path: &Path) -> Result<Vec<u8>, GoldenError> {
    std::fs::read(path).map_err(|source| GoldenError::File {
        path: path.to_owned(),
        source,
    })
}

pub(crate) fn read_json(path: &Path) -> Result<serde_json::Value, GoldenError> {
    serde_json::from_slice(&read(path)?).map_err(|error| malformed(path, error))
}

pub(crate) fn malformed(path: &Path, cause: impl ToString) -> GoldenError {
    GoldenError::Malformed {
        path: path.to_owned(),
        cause: cause.to_string(),
    }
}

pub(crate) fn model_failed(path: &Path, cause: impl ToString) -> GoldenError {
    GoldenError::Model {
        path: path.to_owned(),
        cause: cause.to_string(),
    }
}

/// Largest absolute difference; infinite when the lengths differ or a value is no number.
pub(crate) fn max_abs(found: &[f32], expected: &[f32]) -> f64 {
    if found.len() != expected.len() {
        return f64::INFINITY;
    }
    let pairs = found.iter().zip(expected);
    pairs
        .map(|(a, b)| f64::from(*a) - f64::from(*b))
        .map(|difference| {
            if difference.is_nan() {
                f64::INFINITY
            } else {
                difference.abs()
            }
        })
        .fold(0.0, f64::max)
}
