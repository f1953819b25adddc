//! One tensor of a file that is planned: its row in the header, and where its values come from.

use std::collections::BTreeMap;

use dlm_model::arch::StoredForm;

use crate::writer::TensorRow;

/// Weights of input columns for quantizing: by name in the file, for each expert (one where there are none).
pub type Importance = BTreeMap<String, Vec<Option<Vec<f32>>>>;

/// Where the values of a tensor come from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Source {
    /// A checkpoint tensor.
    Tensor { name: String, change: StoredForm },
    /// Checkpoint tensors of one shape, one after the other.
    Stack(Vec<String>),
    /// Worked out from the settings.
    Values(Vec<f32>),
}

/// One tensor of the file.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedTensor {
    pub row: TensorRow,
    pub(crate) source: Source,
}
