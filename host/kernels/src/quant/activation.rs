//! Activations as eight-bit integers: what quantized weights are multiplied with.
//!
//! One format for every weight type: blocks of 32 with an `f32` scale, codes in -127..=127, rounded to the nearest (ties
//! to even). Sums are kept beside the codes, because a weight with an offset needs them.
//! **Source:** the idea is ggml's Q8_1; it rounds activations the same way, so the two agree to its own error.

use super::lanes::round;
use super::{BLOCK, QuantError};

/// Rows of activations, quantized.
#[derive(Clone, Debug, Default)]
pub struct Activation {
    rows: usize,
    len: usize,
    pub(super) codes: Vec<i8>,
    /// One per block of 32.
    pub(super) scales: Vec<f32>,
    /// Scale times the sum of the codes, per block of 32.
    pub(super) sums: Vec<f32>,
    /// The same per half block.
    pub(super) half_sums: Vec<f32>,
}

impl Activation {
    /// Quantizes `x`, rows of `len` values; `len` must be a multiple of 32.
    pub fn new(x: &[f32], len: usize) -> Result<Activation, QuantError> {
        let mut activation = Activation::default();
        activation.set(x, len)?;
        Ok(activation)
    }

    /// Replaces the content, keeping the memory: the form for a decoding loop.
    ///
    /// **Errors:** `len` is no multiple of 32, or does not divide the length of `x`.
    pub fn set(&mut self, x: &[f32], len: usize) -> Result<(), QuantError> {
        if len == 0 || !len.is_multiple_of(BLOCK) || !x.len().is_multiple_of(len) {
            return Err(QuantError::Activation { len, found: x.len() });
        }
        (self.rows, self.len) = (x.len() / len, len);
        let blocks = x.len() / BLOCK;
        self.codes.resize(x.len(), 0);
        self.scales.resize(blocks, 0.0);
        self.sums.resize(blocks, 0.0);
        self.half_sums.resize(2 * blocks, 0.0);
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: the feature that the function is compiled for was just found.
            unsafe { self.fill_avx2(x) };
            return Ok(());
        }
        self.fill(x);
        Ok(())
    }

    /// Returns the number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Returns the values of one row.
    #[expect(clippy::len_without_is_empty, reason = "a row is never empty")]
    pub fn len(&self) -> usize {
        self.len
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn fill_avx2(&mut self, x: &[f32]) {
        self.fill(x);
    }

    #[inline(always)]
    fn fill(&mut self, x: &[f32]) {
        let blocks = x
            .as_chunks::<BLOCK>()
            .0
            .iter()
            .zip(self.codes.as_chunks_mut::<BLOCK>().0);
        let sums = self.sums.iter_mut().zip(self.half_sums.as_chunks_mut::<2>().0);
        for (((x, codes), scale), (sum, halves)) in blocks.zip(&mut self.scales).zip(sums) {
            let magnitude = x.iter().map(|x| x.to_bits() & 0x7fff_ffff).fold(0, u32::max);
            let greatest = f32::from_bits(magnitude);
            *scale = greatest / 127.0;
            let inverse = if greatest > 0.0 { 127.0 / greatest } else { 0.0 };
            let mut totals = [0i32; 2];
            for j in 0..BLOCK {
                let code = round(x[j] * inverse) as i32;
                codes[j] = code as i8;
                totals[j / 16] += code;
            }
            *sum = *scale * (totals[0] + totals[1]) as f32;
            *halves = totals.map(|total| *scale * total as f32);
        }
    }
}
