//! Runs plugins: WebAssembly components that start with no rights and get only what was granted.
//!
//! What is here: the engine, the plugin manifest, capabilities and grants, limits, the host side of the target world,
//! the built-in targets, and the flow of an export through a target.
//!
//! Invariants:
//! - nothing of wasmtime is made until a plugin is opened;
//! - a guest holds no path, no socket and no process: it names things, the host checks, then acts through a port of
//!   `dlm-core`; this crate opens no socket;
//! - every call has limits, and whatever a guest does ends as an ordinary error that names plugin, version, function and
//!   what would lift the refusal.
//!
//! What it does not do yet: plugins other than the built-in ones are found but not opened, WASI imports are refused, and
//! compiled code is not kept between runs (compiling a built-in target takes a tenth of a second).

mod builtin;
mod call;
mod capability;
mod engine;
mod error;
mod host;
mod kind;
mod limits;
pub mod manage;
pub mod manifest;
mod native;
mod output;
mod smoke;
mod source;
mod target;
mod terminal;
mod url;

pub use builtin::{Builtin, builtins};
pub use capability::{BadCapability, Capability, Grants};
pub use error::{PluginError, Who};
pub use kind::Kind;
pub use limits::{Limits, TARGET_LIMITS};
pub use manifest::{Manifest, Request};
pub use native::NativeProcess;
pub use source::{GrantFlags, LogLevel, Ports, RunFacts, Targets};
pub use target::PluginTarget;
pub use terminal::inert;
