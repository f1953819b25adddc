//! The plugin host from outside: what guests are refused, and what the built-in targets make.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod adapters;
mod fakes;
mod go_template;
mod hostile;
mod judges;
mod real;
mod refusals;
mod smoke;
mod sources;
mod targets;
mod teachers;
mod used;
