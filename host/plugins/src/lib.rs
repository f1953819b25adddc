//! Runs plugins: WebAssembly components that start with no rights and get only what was granted.
//!
//! What is here: the engine and its code cache, the plugin manifest, capabilities and grants, limits, the host side of the
//! five worlds, WASI without authority, the built-in plugins, and the ports of `dlm-core` over them.
//!
//! Invariants:
//! - nothing of wasmtime is made until a plugin is opened;
//! - a guest holds no path, no socket and no process: it names things, the host checks, then acts through a port of
//!   `dlm-core`; this crate opens no socket;
//! - every call has limits, and whatever a guest does ends as an ordinary error that names plugin, version, function and
//!   what would lift the refusal.

mod builtin;
mod cache;
mod capability;
mod destination;
mod engine;
mod error;
mod host;
mod instance;
mod instances;
mod judge;
mod kind;
mod ledger;
mod limits;
mod load;
pub mod manage;
pub mod manifest;
mod native;
mod open;
mod output;
mod ports;
mod smoke;
mod source;
mod stamp;
mod target;
mod teacher;
mod templates;
mod terminal;
pub mod trial;
mod watched;

pub use builtin::{Builtin, builtins};
pub use cache::{Ahead, COUNTING, Compile, compile_ahead, compile_file};
pub use capability::{BadCapability, Capability, Grants};
pub use error::{PluginError, Who};
pub use kind::Kind;
pub use limits::{Limits, TARGET_LIMITS, limits};
pub use manifest::{Manifest, Request};
pub use native::NativeProcess;
pub use ports::{GrantFlags, INSTRUCTIONS_PER_SECOND, LogLevel, Metering, Ports, RunFacts};
pub use source::Plugins;
pub use target::PluginTarget;
pub use terminal::{inert, is_harmful};
