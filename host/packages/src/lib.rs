//! Plugins as files: what a component says about itself, what it may ask for, where plugins are found, what pins and
//! permits them, how they come and go. Runs none of them.
//!
//! What is here: the plugin manifest, capabilities and limits in grant syntax, the plugins inside dlm, the lock file,
//! signatures and trusted keys, selectors, and one module for each command of `dlm plugin`.
//!
//! Invariants:
//! - nothing here makes an engine or runs a guest, and no engine is in reach;
//! - the lock file is the one place that pins and grants, and no document, template or project writes to it;
//! - every text of a stranger is made harmless before it is part of a message.

#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

pub mod ask;
pub mod author;
pub mod builtin;
pub mod capability;
pub mod check;
pub mod component;
mod contract;
pub mod discover;
mod disk;
pub mod error;
pub mod fetch;
mod grants;
pub mod imports;
pub mod index;
pub mod inspect;
pub mod install;
pub mod instances;
pub mod keys;
mod kind;
pub mod limits;
pub mod list;
pub mod lockfile;
pub mod manifest;
pub mod new;
pub mod pack;
pub mod remove;
mod seen;
pub mod selector;
pub mod settings;
pub mod signature;

#[cfg(test)]
mod testing;
pub mod trust;
pub mod verify;
mod wasi;

pub use builtin::{Builtin, builtins};
pub use capability::{Capability, CapabilityError};
pub use contract::{API, API_SUPPORTED};
pub use error::PackageError;
pub use grants::Grants;
pub use kind::Kind;
pub use limits::{Limits, TARGET_LIMITS, limits};
pub use manifest::{Manifest, Request};
