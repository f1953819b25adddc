//! Models: what a decoder is (data), its weights, adapters on top, training forward and backward, inference; tokenizer,
//! chat template, sampling and generation.
//!
//! Must not know: optimisers, stores, plugins, documents. Nothing here prints, reads the environment or the clock.

pub mod config;
pub mod weights;
