//! What the tests of this crate share: sizes, seeded values, tolerances.

use crate::ctx::{Compute, Ctx, Simd};

/// Lengths around every vector, tile and block edge.
pub(crate) const SIZES: [usize; 15] = [1, 2, 3, 5, 7, 8, 15, 16, 17, 31, 33, 127, 129, 255, 1023];

/// A relative and an absolute bound; the relative part is measured against the largest expected value of the slice,
/// because sums with cancellation have no meaningful error of their own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tolerance {
    pub(crate) relative: f64,
    pub(crate) absolute: f64,
}

/// Element-wise `f32` ops: a handful of roundings of 2^-24 and the polynomial exponential (2 units in the last place).
pub(crate) const ELEMENTWISE: Tolerance = Tolerance {
    relative: 2e-6,
    absolute: 1e-7,
};
/// `f32` sums of up to 1023 products in one chain: 1023 * 2^-24 in the worst case, far less in practice.
pub(crate) const F32_SUM: Tolerance = Tolerance {
    relative: 1e-5,
    absolute: 1e-6,
};
/// Products of factors rounded to `bf16` (2^-9 each); errors of a sum average out.
pub(crate) const BF16_SUM: Tolerance = Tolerance {
    relative: 1.2e-2,
    absolute: 1e-3,
};
/// Gradients through softmax: differences of near-equal `f32` sums.
pub(crate) const ATTENTION: Tolerance = Tolerance {
    relative: 2e-5,
    absolute: 2e-6,
};
/// Integer products: the input is rounded to 8 bits per block of 32 (1/254 of the block's largest value).
pub(crate) const INT8_SUM: Tolerance = Tolerance {
    relative: 2e-2,
    absolute: 1e-3,
};
/// Central differences in `f64` with a step of 1e-5: the square of the step plus rounding over the step.
pub(crate) const DIFFERENCES: Tolerance = Tolerance {
    relative: 1e-7,
    absolute: 1e-8,
};

/// Returns the bound for a product in this precision.
pub(crate) fn sums(compute: Compute) -> Tolerance {
    match compute {
        Compute::F32 => F32_SUM,
        Compute::Bf16 => BF16_SUM,
    }
}

/// Seeded values in -1..1.
pub(crate) fn values(len: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12345);
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

/// One context per instruction set of this machine, with two threads.
pub(crate) fn contexts() -> Vec<Ctx> {
    Simd::ALL
        .into_iter()
        .filter(|&simd| simd <= Simd::detect())
        .map(|simd| Ctx::new(2, simd))
        .collect()
}

/// Compares with the twin's result.
#[track_caller]
pub(crate) fn assert_near(found: &[f32], expected: &[f64], tolerance: Tolerance, what: &str) {
    let found: Vec<f64> = found.iter().map(|&x| f64::from(x)).collect();
    assert_near_f64(&found, expected, tolerance, what);
}

/// [`assert_near`] for twins among themselves.
#[track_caller]
pub(crate) fn assert_near_f64(found: &[f64], expected: &[f64], tolerance: Tolerance, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}: lengths differ");
    let largest = expected.iter().fold(0.0f64, |a, x| a.max(x.abs()));
    let bound = tolerance.relative * largest + tolerance.absolute;
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!(
            (found - expected).abs() <= bound,
            "{what}: element {i} is {found}, expected {expected} within {bound}"
        );
    }
}

/// Asserts that two results are the same bits.
#[track_caller]
pub(crate) fn assert_same_bits(a: &[f32], b: &[f32], what: &str) {
    assert_eq!(a.len(), b.len(), "{what}: lengths differ");
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        assert!(a.to_bits() == b.to_bits(), "{what}: element {i} is {a} and {b}");
    }
}

/// Checks a gradient against central differences of `sum(weights * f(x))`.
#[track_caller]
pub(crate) fn assert_gradient(
    x: &[f64],
    gradient: &[f64],
    tolerance: Tolerance,
    what: &str,
    mut loss: impl FnMut(&[f64]) -> f64,
) {
    const STEP: f64 = 1e-5;
    let mut moved = x.to_vec();
    let differences: Vec<f64> = (0..x.len())
        .map(|i| {
            moved[i] = x[i] + STEP;
            let above = loss(&moved);
            moved[i] = x[i] - STEP;
            let below = loss(&moved);
            moved[i] = x[i];
            (above - below) / (2.0 * STEP)
        })
        .collect();
    assert_near_f64(gradient, &differences, tolerance, what);
}
