//! Runs plugins: WebAssembly components that start with no rights and get only what was granted.
//!
//! What is here: the engine and its code cache, the host side of the five worlds, WASI without authority, the trial of a
//! plugin against its cases, and the ports of `dlm-core` over them. What a plugin is and may do is `dlm-packages`.
//!
//! Invariants:
//! - nothing of wasmtime is made until a plugin is opened;
//! - a guest holds no path, no socket and no process: it names things, the host checks, then acts through a port of
//!   `dlm-core`; this crate opens no socket;
//! - every call has limits, and whatever a guest does ends as an ordinary error that names plugin, version, function and
//!   what would lift the refusal.

#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

mod cache;
mod consent;
mod destination;
mod engine;
mod error;
mod export;
mod go_panic;
pub mod guard;
mod host;
mod instance;
mod judge;
mod ledger;
mod limits;
mod load;
mod native;
mod open;
mod output;
mod ports;
mod record;
mod smoke;
mod source;
mod target;
mod teacher;
mod templates;
pub mod trial;
mod watched;
mod wire;

pub use cache::{
    Ahead, COUNTING, CodeCache, Compile, CompilerFailure, KeptCode, RemovedCode, compile_ahead, compile_file,
    current_keys,
};
pub use consent::{AskGrant, GrantQuestion};
pub use engine::RUNTIME_VERSION;
pub use error::{PluginError, Who};
pub use native::NativeProcess;
pub use ports::{GrantFlags, INSTRUCTIONS_PER_SECOND, LogLevel, Metering, Ports, RunFacts};
pub use record::Recorded;
pub use source::Plugins;
pub use target::PluginTarget;
