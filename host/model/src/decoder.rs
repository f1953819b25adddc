//! What every pass through the decoder shares: buffers that are reused, and rotary tables.

pub(crate) mod arena;
pub(crate) mod rotary;
pub(crate) mod train;

pub use train::{Checkpoint, Forward, StepOptions};
