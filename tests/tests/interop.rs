//! What is written here, read by the programs that it is written for: llama.cpp and PEFT.
//!
//! `cargo xtask interop` installs both and runs these tests; without them they are skipped.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]
#![expect(clippy::print_stderr, reason = "the figures, for those who ask for them")]

#[path = "interop/distance.rs"]
mod distance;
#[path = "interop/files.rs"]
mod files;
#[path = "interop/peer.rs"]
mod peer;
#[path = "interop/llama.rs"]
mod with_llama_cpp;
#[path = "interop/peft.rs"]
mod with_peft;
