//! Export: a model or an adapter as a GGUF file that other programs load, and the check of what was written.
//!
//! Data goes one way: model facts + weights -> [`ModelPlan`] (every tensor, type, size and metadata value, nothing
//! touched yet) -> [`write_model`] (one tensor in memory at a time, an atomic file) -> [`verify_model`] (reads the file
//! back through the independent reader of `dlm-model` and compares).
//!
//! Must not know: targets, plugins, stores, documents, the network. Nothing here prints or reads the clock; same inputs
//! give the same bytes whatever the thread count.

#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

mod adapter;
mod encode;
mod error;
mod imatrix;
mod metadata;
mod names;
mod plan;
mod recipe;
mod tensor;
mod verify;
mod vocabulary;
mod writer;

pub use adapter::{AdapterExport, AdapterModule, AdapterPlan, plan_adapter, write_adapter};
pub use error::ExportError;
pub use imatrix::{Imatrix, ImatrixEntry};
pub use metadata::Identity;
pub use names::gguf_name;
pub use plan::{ModelExport, ModelPlan, WriteOptions, plan_model, write_model};
pub use recipe::tensor_type;
pub use tensor::{Importance, PlannedTensor};
pub use verify::{LogitsReport, TypeError, VerifyAgainst, VerifyReport, compare_logits, verify_model};
pub use vocabulary::{TokenType, Vocabulary, VocabularyModel};
pub use writer::{GgufWriter, Metadata, TensorRow, WrittenFile};
