//! Where weights come from: named tensors in Hugging Face names and row order, whatever the file.
//!
//! Invariants: a source hands out bytes that lie inside its file and whose length fits type and shape; the decoder asks
//! for names and never sees a file format. A GGUF source turns llama's interleaved query and key rows back.

use std::borrow::Cow;

pub use dlm_kernels::quant::GgmlType;

/// One tensor as stored: its type, its shape (outermost first) and its bytes.
#[derive(Clone, Debug)]
pub struct RawTensor<'a> {
    pub dtype: GgmlType,
    pub shape: Vec<usize>,
    pub bytes: Cow<'a, [u8]>,
}

/// Named tensors of one model.
///
/// Names are those of the Hugging Face files (`model.layers.0.self_attn.q_proj.weight`); rows are in that order too.
pub trait WeightSource: Sync {
    /// Returns the tensor with this name.
    ///
    /// **Errors:** no such tensor, or bytes that do not fit its shape.
    fn tensor(&self, name: &str) -> Result<RawTensor<'_>, WeightError>;

    /// Returns every name, sorted.
    fn names(&self) -> Vec<String>;

    /// Returns how the values of a tensor are stored; `None` where it cannot be had.
    fn stored_as(&self, name: &str) -> Option<GgmlType> {
        self.tensor(name).ok().map(|tensor| tensor.dtype)
    }

    /// Gives the memory of the bytes handed out so far back, where they are a file's; they are read again where they are touched.
    fn release_pages(&self) {}

    /// Says whether a tensor with this name exists.
    fn has(&self, name: &str) -> bool;
}

/// A tensor that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum WeightError {
    #[error("tensor `{name}` is not in {place}")]
    Missing { name: String, place: String },
    #[error("tensor `{name}` in {place}: {cause}")]
    Unreadable { name: String, place: String, cause: String },
}
