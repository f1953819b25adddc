//! The plugin host from outside: what guests are refused, and what the built-in targets make.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod adapters;
mod bombs;
mod fakes;
mod go_template;
#[path = "../../../../fuzz/checks/guest.rs"]
mod guest;
#[path = "../../../../fuzz/checks/guest_values.rs"]
mod guest_values;
mod hostile;
mod judges;
mod model_work;
mod processes;
mod real;
mod refusals;
mod seeds;
mod smoke;
mod sources;
mod swapped;
mod targets;
mod teachers;
mod used;
mod values;
mod versions;
mod wasi;
