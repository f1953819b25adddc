//! Plugins as files: where they are found, what pins and permits them, how they come and go. Runs no plugin.
//!
//! Invariants: nothing here makes an engine or runs a guest; the lock file is the one place that pins and grants, and no
//! document, template or project writes to it; every text of a stranger is made harmless before it is part of a message.

pub mod ask;
pub mod check;
pub mod component;
mod contract;
pub mod discover;
mod disk;
pub mod error;
pub mod fetch;
pub mod imports;
pub mod inspect;
pub mod install;
pub mod list;
pub mod lockfile;
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

use std::path::{Path, PathBuf};

/// Largest component file.
pub(crate) const COMPONENT_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// The directory of installed plugins and of the lock, inside dlm's home.
pub fn plugins_directory(home: &Path) -> PathBuf {
    home.join("plugins")
}
