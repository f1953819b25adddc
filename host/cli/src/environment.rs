//! The environment of the process: the one place that reads its variables.
//!
//! Invariants: what is found here is passed on as a value; the libraries below never see a variable.

#![expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]

use std::ffi::OsString;
use std::path::PathBuf;

/// The value of a variable, whatever its bytes.
pub fn value(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

/// The value of a variable that is a text.
pub fn text(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The path that a variable names; an empty one counts as unset.
pub fn path(name: &str) -> Option<PathBuf> {
    value(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// Every variable.
pub fn all() -> std::env::VarsOs {
    std::env::vars_os()
}
