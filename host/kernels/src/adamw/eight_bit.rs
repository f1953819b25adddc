//! AdamW whose moments lie in eight bits between two steps.
//!
//! A step decodes a block of both moments, updates it and the parameters as [`adamw_step`](super::adamw_step) does, and encodes
//! the moments again. The parameters move by the moments as they were before they were encoded.
//!
//! Every value is kept so. bitsandbytes leaves tensors of less than 4096 values in 32 bits: biases and norms of a whole
//! model, which are sensitive and save nothing. A LoRA has none. Its thin matrices at a low rank on a small base are as small
//! (2304 values at rank 4 and a width of 576), so that rule would quietly keep the whole adapter of such a run in 32 bits, and
//! it would take a second layout beside the flat buffer. A block may therefore span two tensors; the map's seven decades are
//! what makes that harmless.
//!
//! **Source:** Dettmers et al. 2022, "8-bit optimizers via block-wise quantization".

use super::{AdamW, Factors, step_body};
use crate::ctx::Ctx;
use crate::elementwise::CHUNK;
use crate::lanes::per_simd;
use crate::pool::Disjoint;
use crate::quant::dynamic::{Codebook, DYNAMIC_BLOCK, DynamicMap};

const _: () = assert!(CHUNK.is_multiple_of(DYNAMIC_BLOCK), "a task takes whole blocks");

/// Numbers in blocks of 256, a byte each; the last block may be short.
#[derive(Clone, Debug, PartialEq)]
pub struct EightBit {
    /// One code a value.
    pub codes: Vec<u8>,
    /// The largest magnitude of each block.
    pub scales: Vec<f32>,
}

impl EightBit {
    /// `len` zeros on a map.
    pub fn zeros(len: usize, map: DynamicMap) -> EightBit {
        EightBit {
            codes: vec![Codebook::of(map).zero(); len],
            scales: vec![0.0; len.div_ceil(DYNAMIC_BLOCK)],
        }
    }

    /// The number of values; none where there are not as many scales as blocks.
    pub fn values(&self) -> Option<usize> {
        let len = self.codes.len();
        (self.scales.len() == len.div_ceil(DYNAMIC_BLOCK)).then_some(len)
    }
}

/// [`adamw_step`](super::adamw_step) over moments in eight bits.
///
/// **Cost:** nine times that of `f32` moments where all lies in the cache (`ops_bench`, two threads with AVX-512: 1.8 ns a parameter
/// to 0.2). That is 9 ms for an adapter of 4.9 million parameters.
///
/// **Panics:** when the lengths do not fit each other.
pub(super) fn adamw_step_8bit(
    ctx: &Ctx,
    settings: &AdamW,
    (step, grad_scale): (u64, f32),
    params: &mut [f32],
    grads: &[f32],
    m: &mut EightBit,
    v: &mut EightBit,
) {
    let len = params.len();
    assert!(
        grads.len() == len && m.values() == Some(len) && v.values() == Some(len),
        "parameters, gradients and moments have one length"
    );
    let factors = Factors::new(settings, step, grad_scale);
    let params = Disjoint::new(params);
    let (m_codes, m_scales) = (Disjoint::new(&mut m.codes), Disjoint::new(&mut m.scales));
    let (v_codes, v_scales) = (Disjoint::new(&mut v.codes), Disjoint::new(&mut v.scales));
    ctx.pool.run(len.div_ceil(CHUNK), |index| {
        let at = index * CHUNK;
        let size = CHUNK.min(len - at);
        let (block, blocks) = (at / DYNAMIC_BLOCK, size.div_ceil(DYNAMIC_BLOCK));
        // SAFETY: chunks of different tasks do not overlap, and neither do the blocks in them.
        let (params, m, v) = unsafe {
            (
                params.range(at, size),
                (m_codes.range(at, size), m_scales.range(block, blocks)),
                (v_codes.range(at, size), v_scales.range(block, blocks)),
            )
        };
        step_blocks(ctx.simd, &factors, params, &grads[at..][..size], m, v);
    });
}

/// Unfused, as [`step_body`] is.
#[inline(always)]
fn blocks_body<const FUSED: bool>(
    f: &Factors,
    params: &mut [f32],
    grads: &[f32],
    (m_codes, m_scales): (&mut [u8], &mut [f32]),
    (v_codes, v_scales): (&mut [u8], &mut [f32]),
) {
    let (signed, unsigned) = (Codebook::of(DynamicMap::Signed), Codebook::of(DynamicMap::Unsigned));
    let (mut m, mut v) = ([0.0f32; DYNAMIC_BLOCK], [0.0f32; DYNAMIC_BLOCK]);
    let blocks = params
        .chunks_mut(DYNAMIC_BLOCK)
        .zip(grads.chunks(DYNAMIC_BLOCK))
        .zip(m_codes.chunks_mut(DYNAMIC_BLOCK).zip(m_scales))
        .zip(v_codes.chunks_mut(DYNAMIC_BLOCK).zip(v_scales));
    for (((params, grads), (m_codes, m_scale)), (v_codes, v_scale)) in blocks {
        let (m, v) = (&mut m[..params.len()], &mut v[..params.len()]);
        signed.decode(m_codes, *m_scale, m);
        unsigned.decode(v_codes, *v_scale, v);
        step_body::<FUSED>(f, params, grads, m, v);
        *m_scale = signed.encode(m, m_codes);
        *v_scale = unsigned.encode(v, v_codes);
        // A second moment that is not zero never becomes zero: the step would be the first moment over `eps`, which is
        // thousands of times too long. It concerns values whose gradient is 2500 times smaller than the block's largest.
        for (code, v) in v_codes.iter_mut().zip(v) {
            *code = (*code).max(u8::from(*v > 0.0));
        }
    }
}

per_simd!(fn step_blocks(
    f: &Factors,
    params: &mut [f32],
    grads: &[f32],
    m: (&mut [u8], &mut [f32]),
    v: (&mut [u8], &mut [f32]),
) => blocks_body);

#[cfg(test)]
mod tests;
