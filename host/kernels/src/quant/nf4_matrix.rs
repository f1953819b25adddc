//! The stored values of a weight in NF4, with scales that are quantized once more: four bits and an eighth a value.

use std::ops::Range;

use super::nf4::{NF4_BLOCK, NF4_SCALE_BLOCK, Nf4Scales, decode_block, encode};
use crate::ctx::Ctx;
use crate::pool::Disjoint;

/// Values that one task encodes.
const TASK: usize = NF4_BLOCK * NF4_SCALE_BLOCK;

/// The values of a matrix, row after row; blocks do not end with a row.
#[derive(Clone, Debug, PartialEq)]
pub struct Nf4Matrix {
    len: usize,
    packed: Vec<u8>,
    scales: Nf4Scales,
}

impl Nf4Matrix {
    /// Encodes `len` values; `values` writes those of a range.
    pub fn encode(ctx: &Ctx, len: usize, values: impl Fn(Range<usize>, &mut [f32]) + Sync) -> Nf4Matrix {
        let mut packed = vec![0u8; len.div_ceil(2)];
        let mut scales = vec![0.0f32; len.div_ceil(NF4_BLOCK)];
        let (packed_parts, scale_parts) = (Disjoint::new(&mut packed), Disjoint::new(&mut scales));
        ctx.pool.run(len.div_ceil(TASK), |index| {
            let range = index * TASK..len.min((index + 1) * TASK);
            let mut x = vec![0.0; range.len()];
            values(range.clone(), &mut x);
            // SAFETY: tasks encode different blocks.
            let (packed, scales) = unsafe {
                (
                    packed_parts.range(range.start / 2, range.len().div_ceil(2)),
                    scale_parts.range(range.start / NF4_BLOCK, range.len().div_ceil(NF4_BLOCK)),
                )
            };
            encode(ctx, &x, packed, scales);
        });
        Nf4Matrix {
            len,
            packed,
            scales: Nf4Scales::encode(&scales),
        }
    }

    /// Decodes the values of a range.
    ///
    /// **Panics:** when the range does not lie inside, or is not `out` long.
    pub fn decode(&self, range: Range<usize>, out: &mut [f32]) {
        assert!(
            range.end <= self.len && range.len() == out.len(),
            "values of the matrix and room for them"
        );
        let (mut at, mut rest) = (range.start, out);
        while !rest.is_empty() {
            let (block, inside) = (at / NF4_BLOCK, at % NF4_BLOCK);
            let count = (NF4_BLOCK - inside).min(rest.len());
            let (now, later) = rest.split_at_mut(count);
            let first = block * NF4_BLOCK;
            let packed = &self.packed[first / 2..self.len.min(first + NF4_BLOCK).div_ceil(2)];
            let scale = self.scales.at(block);
            if count == NF4_BLOCK {
                decode_block(packed, scale, now);
            } else {
                let mut whole = [0.0; NF4_BLOCK];
                let values = self.len.min(first + NF4_BLOCK) - first;
                decode_block(packed, scale, &mut whole[..values]);
                now.copy_from_slice(&whole[inside..inside + count]);
            }
            at += count;
            rest = later;
        }
    }

    /// Returns the bytes that it takes.
    pub fn bytes(&self) -> usize {
        self.packed.len() + self.scales.bytes()
    }

    /// Returns the bytes that a matrix of `len` values takes.
    pub fn bytes_of(len: u64) -> u64 {
        let scales = len.div_ceil(NF4_BLOCK as u64);
        len.div_ceil(2) + scales + 4 * scales.div_ceil(NF4_SCALE_BLOCK as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Simd;
    use crate::testing::{assert_same_bits, values};

    #[test]
    fn any_range_has_the_values_of_the_whole_on_any_team() {
        let x = values(TASK + 3 * NF4_BLOCK + 11, 3);
        let mut wholes = Vec::new();
        for threads in [1, 2, 3] {
            let ctx = Ctx::new(threads, Simd::detect());
            let matrix = Nf4Matrix::encode(&ctx, x.len(), |range, out| out.copy_from_slice(&x[range]));
            assert_eq!(matrix.bytes() as u64, Nf4Matrix::bytes_of(x.len() as u64));
            let mut whole = vec![0.0; x.len()];
            matrix.decode(0..x.len(), &mut whole);
            for range in [3..5, 60..70, 64..128, 1..200, TASK - 5..TASK + 70, x.len() - 3..x.len()] {
                let mut part = vec![0.0; range.len()];
                matrix.decode(range.clone(), &mut part);
                assert_same_bits(&part, &whole[range], "a range");
            }
            wholes.push(whole);
        }
        assert_same_bits(&wholes[0], &wholes[1], "two threads");
        assert_same_bits(&wholes[0], &wholes[2], "three threads");
        let worst = x.iter().zip(&wholes[0]).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max);
        let greatest = x.iter().fold(0.0f32, |greatest, x| greatest.max(x.abs()));
        assert!(worst < 0.2 * greatest, "{worst} of {greatest}");
    }
}
