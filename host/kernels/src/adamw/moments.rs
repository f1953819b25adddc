//! The moments of AdamW, whole or in eight bits.

use super::eight_bit::{EightBit, adamw_step_8bit};
use super::{AdamW, adamw_step};
use crate::ctx::Ctx;
use crate::quant::dynamic::DynamicMap;

/// What AdamW remembers of earlier gradients, one first and one second moment a parameter.
#[derive(Clone, Debug, PartialEq)]
pub enum Moments {
    /// As they are: 8 bytes a parameter.
    Full { m: Vec<f32>, v: Vec<f32> },
    /// In blocks of 256: 2 bytes a parameter, and two scales a block.
    EightBit { m: EightBit, v: EightBit },
}

impl Moments {
    /// The moments of `len` parameters that were never updated.
    pub fn full(len: usize) -> Moments {
        Moments::Full {
            m: vec![0.0; len],
            v: vec![0.0; len],
        }
    }

    /// [`Moments::full`] in eight bits.
    pub fn eight_bit(len: usize) -> Moments {
        Moments::EightBit {
            m: EightBit::zeros(len, DynamicMap::Signed),
            v: EightBit::zeros(len, DynamicMap::Unsigned),
        }
    }

    /// The number of parameters that they are of; none where the parts do not fit each other.
    pub fn parameters(&self) -> Option<usize> {
        let lens = match self {
            Moments::Full { m, v } => [Some(m.len()), Some(v.len())],
            Moments::EightBit { m, v } => [m.values(), v.values()],
        };
        lens[0].filter(|_| lens[0] == lens[1])
    }

    /// Updates the parameters and the moments in one pass; `step` and `grad_scale` as in [`adamw_step`].
    ///
    /// **Panics:** when the lengths are not those of the parameters.
    pub fn step(
        &mut self,
        ctx: &Ctx,
        settings: &AdamW,
        (step, grad_scale): (u64, f32),
        params: &mut [f32],
        grads: &[f32],
    ) {
        match self {
            Moments::Full { m, v } => adamw_step(ctx, settings, step, grad_scale, params, grads, m, v),
            Moments::EightBit { m, v } => adamw_step_8bit(ctx, settings, (step, grad_scale), params, grads, m, v),
        }
    }
}
