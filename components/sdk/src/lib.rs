//! What plugins of dlm are written with: the bindings of every world, one trait and one `export_…!` macro per kind, and
//! small wrappers of what the host offers.
//!
//! Invariants: no WASI, no clock, no randomness; everything reaches the host through `wit/` and its grants; a component
//! imports only what it calls. The macros install a panic hook, so that a panic explains itself in the log.
//!
//! A whole judge:
//!
//! ```
//! use dlm_plugin::judge::{Info, Item, Judge, Verdict};
//! use dlm_plugin::Error;
//!
//! struct Terse;
//!
//! impl Judge for Terse {
//!     fn open(_argument: &str) -> Result<Self, Error> {
//!         Ok(Terse)
//!     }
//!     fn info(&self) -> Info {
//!         Info::pointwise("terse")
//!     }
//!     fn score(&mut self, item: &Item) -> Result<Verdict, Error> {
//!         Ok(Verdict::new(item.candidates.iter().map(|text| -(text.chars().count() as f64))))
//!     }
//! }
//!
//! dlm_plugin::export_judge!(Terse);
//! # fn main() {}
//! ```

pub mod bindings;
pub mod config;
pub mod destination;
mod error;
pub mod gallery;
pub mod guided;
pub mod http;
pub mod inputs;
pub mod judge;
pub mod log;
pub mod model;
pub mod openai;
pub mod peft;
#[doc(hidden)]
pub mod slot;
pub mod smoke;
pub mod target;
pub mod teacher;
pub mod templates;
pub mod text;

pub use bindings::host::dlm::plugin::{artifacts, output, process, progress, run, secrets, types, upload};
pub use serde_json;
pub use types::{Error, Identity};

/// Sends the message and place of a panic to the log before the trap, so that the host can show why.
pub fn explain_panics() {
    std::panic::set_hook(Box::new(|panic| log::error(&panic.to_string())));
}

/// Refuses an argument where a plugin takes none.
pub fn no_argument(kind: &str, name: &str, argument: &str) -> Result<(), Error> {
    if argument.is_empty() {
        return Ok(());
    }
    Err(error!(
        InvalidInput,
        "{kind} `{name}` takes no argument, found `{argument}`"
    ))
}

/// Ends a long loop once the user asked to stop.
pub fn stop_if_cancelled() -> Result<(), Error> {
    if progress::cancelled() {
        return Err(Error::Cancelled);
    }
    Ok(())
}

/// The name that reports show, with a text for `dlm plugin inspect`.
pub fn identity(name: impl Into<String>, detail: &str) -> Identity {
    Identity {
        name: name.into(),
        detail: (!detail.is_empty()).then(|| detail.to_owned()),
    }
}
