//! The environment of the process: the one place that reads its variables.
//!
//! Invariants: what is found here is passed on as a value; the libraries below never see a variable. An empty variable is
//! one that is not set.

#![expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]

use std::path::PathBuf;

use crate::origin::{Origin, Setting};

/// The text of a variable, without blanks around it.
pub fn text(name: &'static str) -> Option<Setting<String>> {
    let value = std::env::var(name).ok()?.trim().to_owned();
    (!value.is_empty()).then_some(Setting {
        value,
        origin: Origin::Environment(name),
    })
}

/// The path that a variable names.
pub fn path(name: &'static str) -> Option<Setting<PathBuf>> {
    let value = std::env::var_os(name).filter(|value| !value.is_empty())?;
    Some(Setting {
        value: PathBuf::from(value),
        origin: Origin::Environment(name),
    })
}

/// A switch: `1`, `true`, `yes` and `on` mean yes, everything else means no.
pub fn switch(name: &'static str) -> Setting<bool> {
    let is_yes = |value: &String| matches!(value.to_lowercase().as_str(), "1" | "true" | "yes" | "on");
    match text(name) {
        Some(set) if is_yes(&set.value) => set.map(|_| true),
        _ => Setting::default(false),
    }
}

/// Every variable.
pub fn all() -> std::env::VarsOs {
    std::env::vars_os()
}
