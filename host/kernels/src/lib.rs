//! Compute kernels of the CPU engine: products with frozen weights, attention, norms, losses and the optimizer step.
//!
//! Everything works on row-major `f32` slices and writes into slices of the caller; no op allocates results of its own.
//!
//! Invariants:
//! - results never depend on the number of threads: work is split over outputs, every sum runs in one fixed order;
//! - sums are accumulated in `f32` or wider, whatever the storage type;
//! - the instruction set is chosen once ([`Simd::detect`]) and passed in with [`Ctx`], so tests can force each variant;
//! - each fast variant has a plain twin in [`reference`] that judges it.
//!
//! This crate knows no architecture, file, document or tensor name.
//!
//! Lengths that do not fit together are broken invariants of the caller: the functions here panic and name the slice.

#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

mod adamw;
mod attention;
mod bytes;
#[cfg(target_arch = "x86_64")]
mod cpu;
mod ctx;
mod dropout;
mod elementwise;
mod gated;
mod gemm;
mod gemv;
mod lanes;
mod linear;
mod loss;
mod norm;
mod pack;
mod pool;
mod product;
pub mod quant;
pub mod reference;
mod rope;
mod scratch;
mod stored;
mod tile;
mod weight;

pub use adamw::{AdamW, EightBit, Moments, adamw_step, global_norm};
pub use attention::{
    AttentionSaved, AttentionShape, CachedRows, KvCache, KvData, Segment, attention_backward, attention_cached,
    attention_cached_rows, attention_decode, attention_forward,
};
pub use bytes::Bytes;
pub use ctx::{Compute, Ctx, Simd, Write};
pub use dropout::{DropoutMask, dropout};
pub use elementwise::{add, axpy, scale, softmax_rows};
pub use gated::{Activation, gated_backward, gated_forward};
pub use gemm::{GemmArgs, gemm};
pub use linear::{PrecisionPath, linear, linear_backward_input, linear_many, linear_on};
pub use loss::{RowTarget, logprob_rows, loss_rows};
pub use norm::{rmsnorm_backward, rmsnorm_forward};
pub use pool::Pool;
pub use product::Direction;
pub use rope::{Rope, rope_backward, rope_forward};
pub use weight::{Weight, WeightError};

#[cfg(test)]
mod testing;
