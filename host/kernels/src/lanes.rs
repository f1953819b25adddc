//! Plain loops compiled once per instruction set, and the functions that they share.
//!
//! A body is written once over fixed-width arrays and marked `#[inline(always)]`; [`per_simd`] wraps it in one function
//! per instruction set, and the compiler turns the arrays into vectors. `FUSED` says whether a multiply-add is one
//! rounding: where the instruction exists it is, elsewhere it would be a slow library call.

/// Lanes of a running sum; the order of additions is the same in every instruction set.
pub(crate) const LANES: usize = 32;

/// Defines `fn $name(simd, args..)` that runs `$body::<FUSED>(args..)` compiled for `simd`.
///
/// The caller passes a `Simd` that was found on this machine ([`crate::Ctx::new`] sees to that).
macro_rules! per_simd {
    ($(#[$attribute:meta])* $visibility:vis fn $name:ident($($argument:ident: $type:ty),* $(,)?) $(-> $result:ty)? => $body:ident) => {
        $(#[$attribute])*
        $visibility fn $name(simd: $crate::ctx::Simd, $($argument: $type),*) $(-> $result)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($argument: $type),*) $(-> $result)? {
                    $body::<true>($($argument),*)
                }
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
                fn avx512($($argument: $type),*) $(-> $result)? {
                    $body::<true>($($argument),*)
                }
                match simd {
                    $crate::ctx::Simd::Scalar => {}
                    // SAFETY: `Ctx::new` lowers the set to what this machine has.
                    $crate::ctx::Simd::Avx2 => return unsafe { avx2($($argument),*) },
                    // SAFETY: as above.
                    _ => return unsafe { avx512($($argument),*) },
                }
            }
            let _ = simd;
            $body::<false>($($argument),*)
        }
    };
}
pub(crate) use per_simd;

/// `a * b + c`.
#[inline(always)]
pub(crate) fn fma<const FUSED: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

/// Sums `f` over the elements of a slice in [`LANES`] lanes, folded pairwise at the end; `f` gets the running sum.
#[inline(always)]
pub(crate) fn sum(values: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (blocks, rest) = values.as_chunks::<LANES>();
    for block in blocks {
        for (lane, &x) in lanes.iter_mut().zip(block) {
            *lane = f(*lane, x);
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(rest) {
        *lane = f(*lane, x);
    }
    fold(lanes)
}

/// The dot product of two slices of one length.
#[inline(always)]
pub(crate) fn dot<const FUSED: bool>(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (a_blocks, a_rest) = a.as_chunks::<LANES>();
    let (b_blocks, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a_blocks.iter().zip(b_blocks) {
        for i in 0..LANES {
            lanes[i] = fma::<FUSED>(a[i], b[i], lanes[i]);
        }
    }
    for (lane, (a, b)) in lanes.iter_mut().zip(a_rest.iter().zip(b_rest)) {
        *lane = fma::<FUSED>(*a, *b, *lane);
    }
    fold(lanes)
}

/// The sum of `a * (b + offset) * c` over three slices of one length.
#[inline(always)]
pub(crate) fn dot3<const FUSED: bool>(a: &[f32], (b, offset): (&[f32], f32), c: &[f32]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (a_blocks, a_rest) = a.as_chunks::<LANES>();
    let (b_blocks, b_rest) = b.as_chunks::<LANES>();
    let (c_blocks, c_rest) = c.as_chunks::<LANES>();
    for ((a, b), c) in a_blocks.iter().zip(b_blocks).zip(c_blocks) {
        for i in 0..LANES {
            lanes[i] = fma::<FUSED>(a[i] * (b[i] + offset), c[i], lanes[i]);
        }
    }
    for (lane, ((a, b), c)) in lanes.iter_mut().zip(a_rest.iter().zip(b_rest).zip(c_rest)) {
        *lane = fma::<FUSED>(a * (b + offset), *c, *lane);
    }
    fold(lanes)
}

/// Adds the lanes pairwise, halves onto halves; written out, so that it stays in registers.
#[inline(always)]
fn fold(lanes: [f32; LANES]) -> f32 {
    let sixteen: [f32; 16] = std::array::from_fn(|i| lanes[i] + lanes[i + 16]);
    fold16(sixteen)
}

/// Adds sixteen lanes pairwise, halves onto halves.
#[inline(always)]
pub(crate) fn fold16(lanes: [f32; 16]) -> f32 {
    let eight: [f32; 8] = std::array::from_fn(|i| lanes[i] + lanes[i + 8]);
    let four: [f32; 4] = std::array::from_fn(|i| eight[i] + eight[i + 4]);
    (four[0] + four[2]) + (four[1] + four[3])
}

/// Horizontal sums of vectors.
#[cfg(target_arch = "x86_64")]
pub(crate) mod x86 {
    use std::arch::x86_64::*;

    /// Sums each of four vectors; a vector's sum is the same bits whatever the other three are.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(crate) fn sum4(v: [__m512; 4]) -> [f32; 4] {
        let low = _mm512_add_ps(_mm512_unpacklo_ps(v[0], v[1]), _mm512_unpackhi_ps(v[0], v[1]));
        let high = _mm512_add_ps(_mm512_unpacklo_ps(v[2], v[3]), _mm512_unpackhi_ps(v[2], v[3]));
        let (low, high) = (_mm512_castps_pd(low), _mm512_castps_pd(high));
        let even = _mm512_castpd_ps(_mm512_unpacklo_pd(low, high));
        let odd = _mm512_castpd_ps(_mm512_unpackhi_pd(low, high));
        // Every 128-bit lane now holds one partial sum per vector.
        let lanes = _mm512_add_ps(even, odd);
        let upper = _mm512_castps512_ps256(_mm512_shuffle_f32x4::<0b11_10_11_10>(lanes, lanes));
        let half = _mm256_add_ps(_mm512_castps512_ps256(lanes), upper);
        let sums = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps::<1>(half));
        // SAFETY: 128 bits are four floats.
        unsafe { std::mem::transmute::<__m128, [f32; 4]>(sums) }
    }
}

/// The largest value of a slice; minus infinity when it is empty, and NaN is passed over.
#[inline(always)]
pub(crate) fn max(values: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (blocks, rest) = values.as_chunks::<LANES>();
    for block in blocks {
        for (lane, &x) in lanes.iter_mut().zip(block) {
            *lane = if x > *lane { x } else { *lane };
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(rest) {
        *lane = if x > *lane { x } else { *lane };
    }
    lanes.into_iter().fold(f32::NEG_INFINITY, f32::max)
}

/// Largest argument whose exponential is finite here; beyond it the result stays at its value (2.3e38).
const EXP_MAX: f32 = 88.37;
/// Below this the exponential is zero (it would be subnormal).
const EXP_MIN: f32 = -87.33;

/// `e^x` to two units in the last place; zero below -87.33 (minus infinity included), NaN for NaN.
///
/// **Source:** Cephes `expf`: `x = n ln 2 + r`, a polynomial of degree 5 in `r`, and `2^n` through the exponent bits.
#[inline(always)]
pub(crate) fn exp<const FUSED: bool>(x: f32) -> f32 {
    /// Adding and taking away 1.5 * 2^23 rounds to the nearest whole number, and leaves it in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let clamped = if x > EXP_MAX { EXP_MAX } else { x };
    let clamped = if clamped < EXP_MIN { EXP_MIN } else { clamped };
    let shifted = fma::<FUSED>(clamped, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = fma::<FUSED>(n, -0.693_359_4, clamped);
    let r = fma::<FUSED>(n, 2.121_944_4e-4, r);
    let mut p = 1.987_569_1e-4;
    for c in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = fma::<FUSED>(p, r, c);
    }
    let value = fma::<FUSED>(p, r * r, r) + 1.0;
    let power = f32::from_bits(shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23);
    let value = value * power;
    if x < EXP_MIN { 0.0 } else { value }
}

/// `tanh(x)` to five units in the last place (where the quotient takes over from the series).
#[inline(always)]
pub(crate) fn tanh<const FUSED: bool>(x: f32) -> f32 {
    // Below 0.2 the quotient would lose digits to cancellation; the series is exact to 2^-24 there.
    let square = x * x;
    let series = fma::<FUSED>(square, -17.0 / 315.0, 2.0 / 15.0);
    let series = fma::<FUSED>(series, square, -1.0 / 3.0);
    let series = fma::<FUSED>(series * square, x, x);
    let quotient = 1.0 - 2.0 / (exp::<FUSED>(2.0 * x) + 1.0);
    if x.abs() < 0.2 { series } else { quotient }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctx::Simd;

    #[inline(always)]
    fn map_body<const FUSED: bool>(x: &mut [f32], hyperbolic: bool) {
        for x in x {
            *x = if hyperbolic {
                tanh::<FUSED>(*x)
            } else {
                exp::<FUSED>(*x)
            };
        }
    }

    per_simd!(fn map(x: &mut [f32], hyperbolic: bool) => map_body);

    #[test]
    fn exponential_and_tangent_are_exact_to_a_few_units() {
        for simd in Simd::ALL.into_iter().filter(|&simd| simd <= Simd::detect()) {
            let x: Vec<f32> = (-87_000..88_000).step_by(7).map(|i| i as f32 * 1e-3 + 3.3e-5).collect();
            for hyperbolic in [false, true] {
                let mut y = x.clone();
                map(simd, &mut y, hyperbolic);
                for (x, y) in x.iter().zip(&y) {
                    let wide = f64::from(*x);
                    let expected = if hyperbolic { wide.tanh() } else { wide.exp() };
                    let error = (f64::from(*y) - expected).abs() / expected.abs();
                    let units = if hyperbolic { 5.0 } else { 2.0 };
                    assert!(
                        error < units * 2.0f64.powi(-23),
                        "{simd:?} at {x}: {y}, expected {expected}"
                    );
                }
            }
        }
    }

    #[test]
    fn exponential_of_the_ends() {
        for simd in Simd::ALL.into_iter().filter(|&simd| simd <= Simd::detect()) {
            let mut x = [f32::NEG_INFINITY, -1e30, -88.0, 0.0, 1000.0, f32::INFINITY, f32::NAN];
            map(simd, &mut x, false);
            assert_eq!(x[..4], [0.0, 0.0, 0.0, 1.0]);
            assert!(
                x[4] > 2e38 && x[4].is_finite() && x[5] == x[4] && x[6].is_nan(),
                "{simd:?}: {x:?}"
            );
        }
    }
}
