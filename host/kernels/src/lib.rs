//! Skeleton; being written.
pub mod quant;
