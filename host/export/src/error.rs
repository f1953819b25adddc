//! What can go wrong in an export.

use std::io;
use std::path::PathBuf;

use dlm_core::{FailureKind, Hints, Subject};
use dlm_files::DiskError;
use dlm_kernels::quant::{GgmlType, QuantError};
use dlm_model::weights::WeightError;

/// An export that cannot be planned, written or trusted.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error("tensor `{name}` has no place in a GGUF file of architecture `{architecture}`")]
    UnknownTensor { name: String, architecture: &'static str },
    #[error("tensor `{name}` has the shape {found:?}, expected {expected}")]
    Shape {
        name: String,
        found: Vec<usize>,
        expected: String,
    },
    #[error("{what}")]
    Inexpressible { what: String },
    #[error("write the tokenizer into the file: {cause}")]
    Tokenizer { cause: String },
    #[error("tensor `{name}` holds a value that is {found}; a file of type {ty} cannot carry it")]
    Value { name: String, found: f32, ty: GgmlType },
    #[error("tensor `{name}` of the adapter holds a value that is {found}; a file of type {ty} cannot carry it")]
    AdapterValue { name: String, found: f32, ty: GgmlType },
    #[error("adapter module `{module}`: {cause}")]
    Adapter { module: String, cause: String },
    #[error("write `{path}`: no space left on the device ({needed} bytes are needed in all)")]
    DiskFull { path: PathBuf, needed: u64 },
    #[error("write `{path}`: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("write tensor `{found}`: the plan expects {expected} next")]
    Order { expected: String, found: String },
    #[error("write tensor `{name}`: {found} bytes, the plan expects {expected}")]
    Length {
        name: String,
        found: usize,
        expected: usize,
    },
    #[error("importance matrix: {cause}")]
    Imatrix { cause: String },
    #[error("the export was interrupted; nothing was left behind")]
    Cancelled,
    #[error(transparent)]
    Weight(#[from] WeightError),
    #[error(transparent)]
    Codec(#[from] QuantError),
    #[error("check `{path}`: {cause}")]
    Verify { path: PathBuf, cause: String },
}

impl From<DiskError> for ExportError {
    fn from(error: DiskError) -> Self {
        let path = error.path().to_owned();
        match error {
            DiskError::Full { needed_bytes, .. } => ExportError::DiskFull {
                path,
                needed: needed_bytes,
            },
            error => ExportError::Io {
                path,
                source: error.into_io(),
            },
        }
    }
}

impl Hints for ExportError {
    fn subject(&self) -> Subject {
        match self {
            ExportError::Verify { .. } => Subject::Preflight,
            _ => Subject::Export,
        }
    }

    fn kind(&self) -> FailureKind {
        match self {
            ExportError::Cancelled => FailureKind::Interrupted,
            _ => FailureKind::Runtime,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            ExportError::DiskFull { .. } => {
                vec!["free space on that device, or choose a smaller level such as `--quant Q4_K_M`".to_owned()]
            }
            ExportError::Adapter { .. } => vec!["pass `--merged`".to_owned()],
            ExportError::Value { .. } => vec![
                "the value is the base's own, or comes of `--merged`, which can be left out; a base that was made for bf16 \
                 alone has no GGUF form here: choose another one with `dlm base list`"
                    .to_owned(),
            ],
            ExportError::Imatrix { .. } => {
                vec!["quantize without one: `--no-imatrix`".to_owned()]
            }
            ExportError::AdapterValue { .. } => vec!["train again with a smaller learning rate".to_owned()],
            _ => Vec::new(),
        }
    }
}
