//! Dropout as a function of a key and the element's index: nothing is stored, running again drops the same elements.
//!
//! The 32-bit mixer has two multiplications and three xor-shifts, keyed before and between the rounds; an element is
//! dropped when the mixed index falls below `p 2^32`. Integers only, so every instruction set drops the same elements.

use crate::ctx::{Ctx, Write};
use crate::elementwise::CHUNK;
use crate::lanes::per_simd;

/// Which elements are dropped.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DropoutMask {
    keys: [u32; 2],
    /// Mixed indices below this are dropped.
    threshold: u32,
    /// Factor of the elements that stay: `1 / (1 - p)`.
    scale: f32,
}

impl DropoutMask {
    /// Drops elements with probability `p`, `0 <= p < 1`, chosen by `key`.
    pub fn new(key: u64, p: f32) -> DropoutMask {
        assert!((0.0..1.0).contains(&p), "a probability below one");
        DropoutMask {
            keys: [key as u32, (key >> 32) as u32],
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

#[inline(always)]
fn set_body<const FUSED: bool>(mask: DropoutMask, start: u32, x: &[f32], y: &mut [f32]) {
    for (i, (y, x)) in (0u32..).zip(y.iter_mut().zip(x)) {
        *y = x * mask.factor(start.wrapping_add(i));
    }
}

#[inline(always)]
fn add_body<const FUSED: bool>(mask: DropoutMask, start: u32, x: &[f32], y: &mut [f32]) {
    for (i, (y, x)) in (0u32..).zip(y.iter_mut().zip(x)) {
        *y += x * mask.factor(start.wrapping_add(i));
    }
}

per_simd!(fn set_chunk(mask: DropoutMask, start: u32, x: &[f32], y: &mut [f32]) => set_body);
per_simd!(fn add_chunk(mask: DropoutMask, start: u32, x: &[f32], y: &mut [f32]) => add_body);

/// `y (+)= D(x)`: dropped elements count as zero, the others are scaled by `1 / (1 - p)`.
///
/// The same call with a gradient in place of `x` is its own backward.
///
/// **Panics:** when the slices differ in length or hold more than 2^32 elements.
pub fn dropout(ctx: &Ctx, mask: DropoutMask, x: &[f32], y: &mut [f32], write: Write) {
    assert!(
        x.len() == y.len() && u32::try_from(x.len()).is_ok(),
        "equal lengths of 32 bits"
    );
    ctx.pool.run_chunks(y, CHUNK, |index, y| {
        let start = index * CHUNK;
        let x = &x[start..start + y.len()];
        match write {
            Write::Set => set_chunk(ctx.simd, mask, start as u32, x, y),
            Write::Add => add_chunk(ctx.simd, mask, start as u32, x, y),
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctx::Simd;

    fn draw(simd: Simd, key: u64, p: f32, len: usize) -> Vec<f32> {
        let ctx = Ctx::new(2, simd);
        let mut y = vec![0.0; len];
        dropout(&ctx, DropoutMask::new(key, p), &vec![1.0; len], &mut y, Write::Set);
        y
    }

    #[test]
    fn about_p_of_the_elements_drop_and_the_rest_keep_the_mean() {
        let y = draw(Simd::detect(), 42, 0.1, 100_000);
        let dropped = y.iter().filter(|y| **y == 0.0).count();
        assert!((9_600..10_400).contains(&dropped), "{dropped} dropped");
        assert!(y.iter().all(|y| *y == 0.0 || (*y - 1.0 / 0.9).abs() < 1e-6));
    }

    #[test]
    fn every_instruction_set_drops_the_same_elements() {
        for len in [1, 7, 16, 33, 129, 20_000] {
            let plain = draw(Simd::Scalar, 5, 0.3, len);
            for simd in Simd::ALL {
                assert_eq!(plain, draw(simd, 5, 0.3, len), "{} {len}", simd.name());
            }
        }
    }

    #[test]
    fn masks_of_other_keys_are_unrelated() {
        let first = draw(Simd::detect(), 1, 0.5, 10_000);
        for key in [2, 1 << 32, u64::MAX] {
            let other = draw(Simd::detect(), key, 0.5, 10_000);
            let equal = first.iter().zip(&other).filter(|(a, b)| a == b).count();
            assert!((4_700..5_300).contains(&equal), "key {key}: {equal} equal");
        }
    }

    #[test]
    fn adding_keeps_what_is_there() {
        let ctx = Ctx::new(1, Simd::detect());
        let mask = DropoutMask::new(9, 0.5);
        let x: Vec<f32> = (0..50).map(|i| i as f32).collect();
        let (mut set, mut added) = (vec![0.0; 50], vec![1.0; 50]);
        dropout(&ctx, mask, &x, &mut set, Write::Set);
        dropout(&ctx, mask, &x, &mut added, Write::Add);
        assert!(set.iter().zip(added).all(|(a, b)| a + 1.0 == b));
    }
}
