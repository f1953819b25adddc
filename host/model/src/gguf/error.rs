//! Why the tensors of a GGUF file cannot be given the names of Hugging Face.

use std::path::PathBuf;

use dlm_core::{Hints, Subject};

/// A GGUF file whose tensors cannot be told apart.
#[derive(Debug, thiserror::Error)]
pub enum GgufSourceError {
    #[error("read the weights of `{path}`: the file names no architecture (`general.architecture`)")]
    NoArchitecture { path: PathBuf },
    #[error("read the weights of `{path}`: architecture `{found}` is not supported")]
    Architecture { path: PathBuf, found: String },
    #[error("read the weights of `{path}`: tensor `{name}` does not belong to architecture `{architecture}`")]
    UnknownTensor {
        path: PathBuf,
        architecture: String,
        name: String,
    },
    #[error("read the weights of `{path}`: `{name}` stacks experts but has the shape {shape:?}")]
    ExpertShape {
        path: PathBuf,
        name: String,
        shape: Vec<usize>,
    },
}

impl Hints for GgufSourceError {
    fn subject(&self) -> Subject {
        Subject::BaseModel
    }
}
