//! The use cases of `dlm`: one module each, from a plan and ports to a typed report.
//!
//! Invariants: nothing here prints, asks, or reads flags, the environment, the clock or the home directory; all of
//! those come in through [`Surroundings`]. A use case either comes to its end or leaves everything as it was.

#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

pub mod base;
pub mod check;
pub mod doctor;
pub mod document;
pub mod export;
mod failure;
pub mod gate;
mod idle_keys;
pub mod inference;
pub mod init;
mod integrity;
pub mod metrics;
pub mod migrate;
pub mod models;
pub mod named_adapters;
pub mod prefer;
pub mod prompt;
pub mod rows;
pub mod score;
pub mod show;
mod speed;
pub mod staging;
mod surroundings;
pub mod synth;
pub mod templates;
pub mod train;
mod trained;
pub mod used;

pub use failure::Failure;
pub use surroundings::{Clock, RandomBytes, Surroundings};
