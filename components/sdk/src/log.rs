//! Log lines.

pub use crate::bindings::host::dlm::plugin::log::{Level, enabled, write};

/// Shown always.
pub fn error(message: &str) {
    write(Level::Error, message, &[]);
}

/// Shown always.
pub fn warn(message: &str) {
    write(Level::Warn, message, &[]);
}

/// Shown with `-v`.
pub fn info(message: &str) {
    write(Level::Info, message, &[]);
}

/// Shown with `-vv`.
pub fn debug(message: &str) {
    write(Level::Debug, message, &[]);
}
