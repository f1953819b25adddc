//! Test support shared by the crates and by `cargo xtask golden`: golden numbers and what runs them, scripted servers.
//!
//! Dev only: no crate that ships depends on this one.

pub mod architectures;
pub mod chat_server;
pub mod gguf;
pub mod golden;
pub mod reward;
pub mod sentencepiece;
pub mod tiny;
