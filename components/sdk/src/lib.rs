//! What plugins of dlm share: the bindings of the target world, a panic hook, and text helpers.
//!
//! Invariants: no WASI, no clock, no randomness; everything reaches the host through `wit/` and its grants.

pub mod bindings {
    //! Bindings generated from `wit/`, world `target-plugin`.
    wit_bindgen::generate!({
        path: "../../wit",
        world: "target-plugin",
        pub_export_macro: true,
        default_bindings_module: "dlm_plugin::bindings",
    });
}

pub mod http;
pub mod inputs;
pub mod text;

pub use bindings::dlm::plugin::{artifacts, config, log, output, process, progress, run, types};
pub use bindings::exports::dlm::plugin::target;
pub use bindings::exports::dlm::plugin::target::Guest as Target;
pub use serde_json;
pub use types::Error;

/// Sends the message and place of a panic to the log before the trap, so that the host can show why.
pub fn explain_panics() {
    std::panic::set_hook(Box::new(|panic| {
        log::write(log::Level::Error, &panic.to_string(), &[]);
    }));
}

/// Refuses an argument for a target that takes none.
pub fn no_argument(target: &str, argument: &str) -> Result<(), Error> {
    if argument.is_empty() {
        return Ok(());
    }
    Err(Error::InvalidInput(format!(
        "target `{target}` takes no argument, found `{argument}`"
    )))
}
