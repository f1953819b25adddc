//! A row of floats that move in step: one (the scalar twin), eight (AVX2) or sixteen (AVX-512).
//!
//! Invariants: every operation is the IEEE one on every lane (no fused multiply-add, no approximate reciprocal), so a
//! search written once over [`Lanes`] gives the same bits for every width. Wide types are private to this module's
//! users and only reached through functions compiled for their instructions, after the machine was asked.

use crate::ctx::Simd;

/// The widest vector that the quantizers use.
pub(super) const WIDEST: usize = 16;

/// Which vectors the quantizers run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// One value at a time: the slow obvious version.
    Scalar,
    /// Eight lanes.
    Avx2,
    /// Sixteen lanes.
    Avx512,
}

impl Level {
    /// Returns the widest level of this machine.
    pub fn detect() -> Level {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected;
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("f16c");
            if avx2 && is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw") {
                return Level::Avx512;
            }
            if avx2 {
                return Level::Avx2;
            }
        }
        Level::Scalar
    }

    /// Returns the level of an instruction set.
    pub fn of(simd: Simd) -> Level {
        match simd {
            Simd::Scalar => Level::Scalar,
            Simd::Avx2 => Level::Avx2,
            Simd::Avx512 | Simd::Avx512Bf16 | Simd::Amx => Level::Avx512,
        }
    }

    /// Returns this level, or the widest one that the machine has if that is lower.
    pub fn at_most_detected(self) -> Level {
        self.min(Level::detect())
    }
}

/// Floats that move in step.
pub(super) trait Lanes: Copy {
    /// How many floats.
    const COUNT: usize;
    /// A yes or no per lane.
    type Mask: Copy;

    fn splat(value: f32) -> Self;
    /// Reads the first `COUNT` values.
    fn load(from: &[f32]) -> Self;
    /// Writes the first `COUNT` values.
    fn store(self, to: &mut [f32]);
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    fn div(self, other: Self) -> Self;
    /// The lesser; the second operand when the two are equal or one is not a number.
    fn min(self, other: Self) -> Self;
    /// The greater; the second operand when the two are equal or one is not a number.
    fn max(self, other: Self) -> Self;
    fn abs(self) -> Self;
    fn sqrt(self) -> Self;
    fn greater(self, other: Self) -> Self::Mask;
    fn and(left: Self::Mask, right: Self::Mask) -> Self::Mask;
    /// Takes `yes` where the mask holds.
    fn select(mask: Self::Mask, yes: Self, no: Self) -> Self;

    /// Rounds to the nearest whole number, ties to even. **Range:** magnitude below 2^22.
    #[inline(always)]
    fn round(self) -> Self {
        let magic = Self::splat(ROUND_MAGIC);
        self.add(magic).sub(magic)
    }
}

/// 1.5 * 2^23: adding it leaves a float no room for a fraction.
const ROUND_MAGIC: f32 = 12_582_912.0;

/// Rounds one float to the nearest whole number, ties to even. **Range:** magnitude below 2^22.
#[inline(always)]
pub(super) fn round(value: f32) -> f32 {
    (value + ROUND_MAGIC) - ROUND_MAGIC
}

impl Lanes for f32 {
    const COUNT: usize = 1;
    type Mask = bool;

    #[inline(always)]
    fn splat(value: f32) -> f32 {
        value
    }
    #[inline(always)]
    fn load(from: &[f32]) -> f32 {
        from[0]
    }
    #[inline(always)]
    fn store(self, to: &mut [f32]) {
        to[0] = self;
    }
    #[inline(always)]
    fn add(self, other: f32) -> f32 {
        self + other
    }
    #[inline(always)]
    fn sub(self, other: f32) -> f32 {
        self - other
    }
    #[inline(always)]
    fn mul(self, other: f32) -> f32 {
        self * other
    }
    #[inline(always)]
    fn div(self, other: f32) -> f32 {
        self / other
    }
    #[inline(always)]
    fn min(self, other: f32) -> f32 {
        if self < other { self } else { other }
    }
    #[inline(always)]
    fn max(self, other: f32) -> f32 {
        if self > other { self } else { other }
    }
    #[inline(always)]
    fn abs(self) -> f32 {
        f32::abs(self)
    }
    #[inline(always)]
    fn sqrt(self) -> f32 {
        f32::sqrt(self)
    }
    #[inline(always)]
    fn greater(self, other: f32) -> bool {
        self > other
    }
    #[inline(always)]
    fn and(left: bool, right: bool) -> bool {
        left && right
    }
    #[inline(always)]
    fn select(mask: bool, yes: f32, no: f32) -> f32 {
        if mask { yes } else { no }
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::{Eight, Sixteen};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::Lanes;

    /// Eight floats of AVX2.
    #[derive(Clone, Copy)]
    pub(in crate::quant) struct Eight(__m256);

    /// Sixteen floats of AVX-512.
    #[derive(Clone, Copy)]
    pub(in crate::quant) struct Sixteen(__m512);

    // SAFETY, for every block of the two implementations: values of these types are only made inside functions that
    // are compiled for the instructions and called after `Level::detect` found them; loads and stores check the length.
    impl Lanes for Eight {
        const COUNT: usize = 8;
        type Mask = __m256;

        #[inline(always)]
        fn splat(value: f32) -> Eight {
            // SAFETY: see above.
            Eight(unsafe { _mm256_set1_ps(value) })
        }
        #[inline(always)]
        fn load(from: &[f32]) -> Eight {
            assert!(from.len() >= 8);
            // SAFETY: see above; the length was checked.
            Eight(unsafe { _mm256_loadu_ps(from.as_ptr()) })
        }
        #[inline(always)]
        fn store(self, to: &mut [f32]) {
            assert!(to.len() >= 8);
            // SAFETY: see above; the length was checked.
            unsafe { _mm256_storeu_ps(to.as_mut_ptr(), self.0) }
        }
        #[inline(always)]
        fn add(self, other: Eight) -> Eight {
            // SAFETY: see above.
            Eight(unsafe { _mm256_add_ps(self.0, other.0) })
        }
        #[inline(always)]
        fn sub(self, other: Eight) -> Eight {
            // SAFETY: see above.
            Eight(unsafe { _mm256_sub_ps(self.0, other.0) })
        }
        #[inline(always)]
        fn mul(self, other: Eight) -> Eight {
            // SAFETY: see above.
            Eight(unsafe { _mm256_mul_ps(self.0, other.0) })
        }
        #[inline(always)]
        fn div(self, other: Eight) -> Eight {
            // SAFETY: see above.
            Eight(unsafe { _mm256_div_ps(self.0, other.0) })
        }
        #[inline(always)]
        fn min(self, other: Eight) -> Eight {
            // SAFETY: see above.
            Eight(unsafe { _mm256_min_ps(self.0, other.0) })
        }
        #[inline(always)]
        fn max(self, other: Eight) -> Eight {
            // SAFETY: see above.
            Eight(unsafe { _mm256_max_ps(self.0, other.0) })
        }
        #[inline(always)]
        fn abs(self) -> Eight {
            // SAFETY: see above.
            Eight(unsafe { _mm256_andnot_ps(_mm256_set1_ps(-0.0), self.0) })
        }
        #[inline(always)]
        fn sqrt(self) -> Eight {
            // SAFETY: see above.
            Eight(unsafe { _mm256_sqrt_ps(self.0) })
        }
        #[inline(always)]
        fn greater(self, other: Eight) -> __m256 {
            // SAFETY: see above.
            unsafe { _mm256_cmp_ps::<_CMP_GT_OQ>(self.0, other.0) }
        }
        #[inline(always)]
        fn and(left: __m256, right: __m256) -> __m256 {
            // SAFETY: see above.
            unsafe { _mm256_and_ps(left, right) }
        }
        #[inline(always)]
        fn select(mask: __m256, yes: Eight, no: Eight) -> Eight {
            // SAFETY: see above.
            Eight(unsafe { _mm256_blendv_ps(no.0, yes.0, mask) })
        }
    }

    impl Lanes for Sixteen {
        const COUNT: usize = 16;
        type Mask = __mmask16;

        #[inline(always)]
        fn splat(value: f32) -> Sixteen {
            // SAFETY: see above.
            Sixteen(unsafe { _mm512_set1_ps(value) })
        }
        #[inline(always)]
        fn load(from: &[f32]) -> Sixteen {
            assert!(from.len() >= 16);
            // SAFETY: see above; the length was checked.
            Sixteen(unsafe { _mm512_loadu_ps(from.as_ptr()) })
        }
        #[inline(always)]
        fn store(self, to: &mut [f32]) {
            assert!(to.len() >= 16);
            // SAFETY: see above; the length was checked.
            unsafe { _mm512_storeu_ps(to.as_mut_ptr(), self.0) }
        }
        #[inline(always)]
        fn add(self, other: Sixteen) -> Sixteen {
            // SAFETY: see above.
            Sixteen(unsafe { _mm512_add_ps(self.0, other.0) })
        }
        #[inline(always)]
        fn sub(self, other: Sixteen) -> Sixteen {
            // SAFETY: see above.
            Sixteen(unsafe { _mm512_sub_ps(self.0, other.0) })
        }
        #[inline(always)]
        fn mul(self, other: Sixteen) -> Sixteen {
            // SAFETY: see above.
            Sixteen(unsafe { _mm512_mul_ps(self.0, other.0) })
        }
        #[inline(always)]
        fn div(self, other: Sixteen) -> Sixteen {
            // SAFETY: see above.
            Sixteen(unsafe { _mm512_div_ps(self.0, other.0) })
        }
        #[inline(always)]
        fn min(self, other: Sixteen) -> Sixteen {
            // SAFETY: see above.
            Sixteen(unsafe { _mm512_min_ps(self.0, other.0) })
        }
        #[inline(always)]
        fn max(self, other: Sixteen) -> Sixteen {
            // SAFETY: see above.
            Sixteen(unsafe { _mm512_max_ps(self.0, other.0) })
        }
        #[inline(always)]
        fn abs(self) -> Sixteen {
            // SAFETY: see above.
            Sixteen(unsafe { _mm512_abs_ps(self.0) })
        }
        #[inline(always)]
        fn sqrt(self) -> Sixteen {
            // SAFETY: see above.
            Sixteen(unsafe { _mm512_sqrt_ps(self.0) })
        }
        #[inline(always)]
        fn greater(self, other: Sixteen) -> __mmask16 {
            // SAFETY: see above.
            unsafe { _mm512_cmp_ps_mask::<_CMP_GT_OQ>(self.0, other.0) }
        }
        #[inline(always)]
        fn and(left: __mmask16, right: __mmask16) -> __mmask16 {
            left & right
        }
        #[inline(always)]
        fn select(mask: __mmask16, yes: Sixteen, no: Sixteen) -> Sixteen {
            // SAFETY: see above.
            Sixteen(unsafe { _mm512_mask_blend_ps(mask, no.0, yes.0) })
        }
    }
}
