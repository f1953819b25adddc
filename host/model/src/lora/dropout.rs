//! Dropout as a function of (seed, layer, slot, element): nothing is stored, running again drops the same elements.
//!
//! **Source:** the 32-bit mixer is of the `hash-prospector` family (two multiplications, three xor-shifts), keyed before
//! and between the rounds; an element is dropped when the mixed counter falls below `p 2^32`.

use dlm_kernels::{Ctx, Write};

/// Elements of one task.
const CHUNK: usize = 16 * 1024;

/// Which elements of one slot's input are dropped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mask {
    keys: [u32; 2],
    /// Mixed counters below this are dropped.
    threshold: u32,
    /// Factor of the elements that stay.
    scale: f32,
}

impl Mask {
    pub fn new(seed: u64, layer: usize, slot: usize, p: f32) -> Mask {
        let mut z = seed ^ (((layer as u64) << 32) | slot as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        Mask {
            keys: [z as u32, (z >> 32) as u32],
            threshold: (f64::from(p) * 4_294_967_296.0) as u32,
            scale: 1.0 / (1.0 - p),
        }
    }

    #[inline(always)]
    fn factor(&self, element: u32) -> f32 {
        let mut x = element ^ self.keys[0];
        x ^= x >> 16;
        x = x.wrapping_mul(0x7feb_352d);
        x ^= (x >> 15) ^ self.keys[1];
        x = x.wrapping_mul(0x846c_a68b);
        x ^= x >> 16;
        if x < self.threshold { 0.0 } else { self.scale }
    }
}

/// `y (+)= D(x)`.
///
/// **Panics:** when the slices differ in length or hold more than 2^32 elements.
pub(crate) fn apply(ctx: &Ctx, mask: Mask, x: &[f32], y: &mut [f32], write: Write) {
    assert!(
        x.len() == y.len() && u32::try_from(x.len()).is_ok(),
        "equal lengths of 32 bits"
    );
    ctx.pool.run_chunks(y, CHUNK, |index, y| {
        let start = index * CHUNK;
        let x = &x[start..start + y.len()];
        match write {
            Write::Set => {
                for (i, (y, x)) in y.iter_mut().zip(x).enumerate() {
                    *y = x * mask.factor((start + i) as u32);
                }
            }
            Write::Add => {
                for (i, (y, x)) in y.iter_mut().zip(x).enumerate() {
                    *y += x * mask.factor((start + i) as u32);
                }
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use dlm_kernels::Simd;

    use super::*;

    #[test]
    fn about_p_of_the_elements_drop_and_the_rest_keep_the_mean() {
        let ctx = Ctx::new(2, Simd::Scalar);
        let x = vec![1.0; 100_000];
        let mut y = vec![0.0; x.len()];
        apply(&ctx, Mask::new(42, 3, 1, 0.1), &x, &mut y, Write::Set);
        let dropped = y.iter().filter(|y| **y == 0.0).count();
        assert!((9_600..10_400).contains(&dropped), "{dropped} dropped");
        assert!(y.iter().all(|y| *y == 0.0 || (*y - 1.0 / 0.9).abs() < 1e-6));
    }

    #[test]
    fn masks_of_other_slots_layers_and_seeds_are_unrelated() {
        let ctx = Ctx::new(1, Simd::Scalar);
        let x = vec![1.0; 10_000];
        let draw = |seed, layer, slot| {
            let mut y = vec![0.0; x.len()];
            apply(&ctx, Mask::new(seed, layer, slot, 0.5), &x, &mut y, Write::Set);
            y
        };
        let first = draw(1, 0, 0);
        assert_eq!(first, draw(1, 0, 0));
        for other in [draw(2, 0, 0), draw(1, 1, 0), draw(1, 0, 1)] {
            let equal = first.iter().zip(&other).filter(|(a, b)| a == b).count();
            assert!((4_700..5_300).contains(&equal), "{equal} equal");
        }
    }
}
