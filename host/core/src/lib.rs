//! Plain records, ids, progress events, cancellation, failure kinds and the ports of `dlm`.
//!
//! Invariants: nothing here reads a file, a clock, the environment or a tensor, and nothing prints.
//! Every other crate may depend on this one; this one depends on none of ours.

#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

pub mod architecture;
pub mod base;
pub mod cancel;
pub mod choice;
pub mod determinism;
pub mod digest;
pub mod event;
pub mod failure;
pub mod foreign;
pub mod go_template;
pub mod hardware;
pub mod http_rule;
pub mod inert;
pub mod lock;
pub mod manifest;
pub mod nearest;
pub mod ports;
pub mod quant;
pub mod random;
pub mod secret_form;
pub mod section;
pub mod shell;
pub mod split;
pub mod stamp;
pub mod training;
pub mod ulid;
pub mod units;
pub mod wall;

pub use architecture::Architecture;
pub use cancel::Cancel;
pub use choice::Choice;
pub use determinism::Determinism;
pub use event::{Event, Progress, Quiet};
pub use failure::{FailureKind, Hints, Subject};
pub use quant::Quant;
pub use section::{AutoMined, AutoSynth, Media, Section, SectionId, SectionKind};
pub use shell::shell_quoted;
pub use ulid::Ulid;
pub use wall::{Network, Wall};
