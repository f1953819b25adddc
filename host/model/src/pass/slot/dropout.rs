//! The dropout of a slot's input: one mask for all its modules.
//!
//! Invariants: the mask is a function of seed, layer, slot and element, so a block that runs twice sees the same one.

use dlm_core::random::mix;
use dlm_kernels::{Ctx, DropoutMask, Write, dropout};

use crate::arena::{Arena, Buffer};

/// What is dropped of one slot's input.
pub(super) struct Dropout {
    mask: Option<DropoutMask>,
}

impl Dropout {
    /// The dropout of a slot; without a seed, or at rate 0, nothing is dropped.
    pub fn new(seed: Option<u64>, layer: usize, slot: usize, rate: f32) -> Dropout {
        let key = |seed: u64| seed ^ mix(((layer as u64) << 32) | (slot as u64 + 1));
        let seed = seed.filter(|_| rate > 0.0);
        Dropout {
            mask: seed.map(|seed| DropoutMask::new(mix(key(seed)), rate)),
        }
    }

    /// Says whether every element stays.
    pub fn keeps_all(&self) -> bool {
        self.mask.is_none()
    }

    /// Returns `D(x)`, where anything is dropped.
    pub fn forward(&self, ctx: &Ctx, arena: &Arena, x: &[f32]) -> Option<Buffer> {
        let mask = self.mask?;
        let mut out = arena.take(x.len());
        dropout(ctx, mask, x, &mut out, Write::Set);
        Some(out)
    }

    /// Adds the gradient of `x` to `dx`, from that of `D(x)`; where nothing is dropped there is nothing to undo, and the
    /// caller has added it already.
    pub fn backward(&self, ctx: &Ctx, d_dropped: &[f32], dx: &mut [f32]) {
        if let Some(mask) = self.mask {
            dropout(ctx, mask, d_dropped, dx, Write::Add);
        }
    }
}
