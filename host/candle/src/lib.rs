//! The decoder in candle's operations, on any device that candle knows.
//!
//! Today that is the twin: slow, obvious, with candle's own gradients, the judge of the fast path in tests. The engine for
//! CUDA and Metal grows here. Nothing else in the house may reach candle, so that the default program does not carry it.
//!
//! Must not know: optimizers, stores, plugins, documents. Nothing here prints, reads the environment or the clock.

#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

mod twin;

pub use twin::{Twin, TwinAdapter, TwinError};
