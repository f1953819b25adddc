//! Copies factors into the order in which tiles read them.
//!
//! Three moves cover every case. [`transpose`] takes rows that run along the sum and turns them into lanes (the rows of
//! `x`; a weight in the forward). [`interleave`] takes rows that already lie across the sum (a weight in the backward). [`narrow`] leaves the rows
//! as they lie, for the matrix registers.
//! Both convert on the way: from `f32`, `bf16` or `f16` storage to `f32` values or, in `bf16` compute, to 32-bit pairs
//! of neighbors along the sum (a missing last neighbor is zero).

use crate::ctx::{Compute, Simd};
use crate::tile::PANEL;

/// Storage of plain floats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Float {
    F32,
    Bf16,
    F16,
}

impl Float {
    pub(crate) const fn size(self) -> usize {
        match self {
            Float::F32 => 4,
            Float::Bf16 | Float::F16 => 2,
        }
    }
}

/// Elements of a sum in `bf16` that one instruction of the matrix registers takes.
const PADDED: usize = 32;

/// Returns the 32-bit steps of a sum of `k` elements; in `bf16` it is padded with zeros to whole vectors of pairs.
pub(crate) fn steps(compute: Compute, k: usize) -> usize {
    match compute {
        Compute::F32 => k,
        Compute::Bf16 => k.next_multiple_of(PADDED) / 2,
    }
}

/// Rows of stored floats: row `i` starts `i * row_bytes` after the start of `bytes`.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub(crate) float: Float,
    pub(crate) bytes: &'a [u8],
    pub(crate) row_bytes: usize,
}

impl<'a> Rows<'a> {
    /// Views floats with `row_step` elements from row to row.
    pub(crate) fn of(values: &'a [f32], row_step: usize) -> Rows<'a> {
        Rows {
            float: Float::F32,
            // SAFETY: any float is four bytes.
            bytes: unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), values.len() * 4) },
            row_bytes: row_step * 4,
        }
    }

    fn check(&self, rows: usize, row_len: usize) {
        if rows > 0 && row_len > 0 {
            let end = (rows - 1) * self.row_bytes + row_len * self.float.size();
            assert!(end <= self.bytes.len(), "the rows lie inside the factor");
        }
    }

    /// Reads one element; the caller has checked the range.
    #[inline(always)]
    fn get(&self, row: usize, at: usize) -> f32 {
        let start = row * self.row_bytes + at * self.float.size();
        match self.float {
            Float::F32 => {
                let raw = &self.bytes[start..start + 4];
                f32::from_le_bytes([raw[0], raw[1], raw[2], raw[3]])
            }
            Float::Bf16 => {
                let raw = &self.bytes[start..start + 2];
                f32::from_bits(u32::from(u16::from_le_bytes([raw[0], raw[1]])) << 16)
            }
            Float::F16 => {
                let raw = &self.bytes[start..start + 2];
                half::f16::from_le_bytes([raw[0], raw[1]]).to_f32()
            }
        }
    }
}

/// Writes element `p` of row `i` to `out[p * out_step + i]`, for `k` elements of `rows` rows.
///
/// Lanes `rows..lanes` are written as zero; `lanes` is at most 16.
pub(crate) fn transpose(
    simd: Simd,
    compute: Compute,
    from: Rows<'_>,
    rows: usize,
    k: usize,
    out: &mut [f32],
    (out_step, lanes): (usize, usize),
) {
    let steps = steps(compute, k);
    from.check(rows, k);
    assert!(rows <= lanes && lanes <= 16, "a move has at most 16 lanes");
    assert!(
        steps == 0 || (steps - 1) * out_step + lanes <= out.len(),
        "the packed rows fit"
    );
    #[cfg(target_arch = "x86_64")]
    if simd >= Simd::Avx512 {
        // SAFETY: the ranges were checked above and `simd` was found on this machine (bf16 conversion by `supports`).
        unsafe { x86::transpose(compute, from, rows, k, out.as_mut_ptr(), out_step, lanes) };
        return;
    }
    assert!(
        compute == Compute::F32 && simd < Simd::Avx512,
        "bf16 compute exists with its instructions only"
    );
    for p in 0..k {
        let out = &mut out[p * out_step..][..lanes];
        for (i, out) in out.iter_mut().enumerate() {
            *out = if i < rows { from.get(i, p) } else { 0.0 };
        }
    }
}

/// Writes the `k` elements of each of `rows` rows as `bf16`, the rows behind one another, each padded with zeros.
pub(crate) fn narrow(simd: Simd, from: Rows<'_>, rows: usize, k: usize, out: &mut [f32]) {
    let steps = steps(Compute::Bf16, k);
    from.check(rows, k);
    assert!(rows * steps <= out.len(), "the packed rows fit");
    #[cfg(target_arch = "x86_64")]
    if simd >= Simd::Avx512Bf16 {
        // SAFETY: the ranges were checked above and `simd` was found on this machine.
        unsafe { x86::narrow(from, rows, k, out.as_mut_ptr()) };
        return;
    }
    unreachable!("bf16 compute exists with its instructions only: {simd:?}");
}

/// Writes element `j` of row `p` to `out[p * PANEL + j]`, for `k` rows of `columns` elements; the rest is zero.
pub(crate) fn interleave(simd: Simd, compute: Compute, from: Rows<'_>, columns: usize, k: usize, out: &mut [f32]) {
    let steps = steps(compute, k);
    from.check(k, columns);
    assert!(
        columns <= PANEL && steps * PANEL <= out.len(),
        "a panel has 32 columns and fits"
    );
    #[cfg(target_arch = "x86_64")]
    if simd >= Simd::Avx512 {
        // SAFETY: the ranges were checked above and `simd` was found on this machine (bf16 conversion by `supports`).
        unsafe { x86::interleave(compute, from, columns, k, out.as_mut_ptr()) };
        return;
    }
    assert!(
        compute == Compute::F32 && simd < Simd::Avx512,
        "bf16 compute exists with its instructions only"
    );
    for (p, out) in out.chunks_exact_mut(PANEL).take(k).enumerate() {
        for (j, out) in out.iter_mut().enumerate() {
            *out = if j < columns { from.get(p, j) } else { 0.0 };
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{Float, PADDED, Rows};
    use crate::ctx::Compute;
    use crate::tile::PANEL;

    const F32: u8 = 0;
    const BF16: u8 = 1;
    const F16: u8 = 2;

    /// # Safety
    /// Ranges are checked by the caller; AVX-512 (and BF16 for `Compute::Bf16`) is there.
    pub(super) unsafe fn transpose(
        compute: Compute,
        from: Rows<'_>,
        rows: usize,
        k: usize,
        out: *mut f32,
        out_step: usize,
        lanes: usize,
    ) {
        // SAFETY: handed on.
        unsafe {
            match (from.float, compute) {
                (Float::F32, Compute::F32) => transpose_f32::<F32>(from, rows, k, out, out_step, lanes),
                (Float::Bf16, Compute::F32) => transpose_f32::<BF16>(from, rows, k, out, out_step, lanes),
                (Float::F16, Compute::F32) => transpose_f32::<F16>(from, rows, k, out, out_step, lanes),
                (Float::F32, Compute::Bf16) => transpose_pairs::<F32>(from, rows, k, out, out_step, lanes),
                (Float::Bf16, Compute::Bf16) => transpose_pairs::<BF16>(from, rows, k, out, out_step, lanes),
                (Float::F16, Compute::Bf16) => transpose_pairs::<F16>(from, rows, k, out, out_step, lanes),
            }
        }
    }

    /// # Safety
    /// Ranges are checked by the caller; AVX-512 (and BF16 for `Compute::Bf16`) is there.
    pub(super) unsafe fn interleave(compute: Compute, from: Rows<'_>, columns: usize, k: usize, out: *mut f32) {
        // SAFETY: handed on.
        unsafe {
            match (from.float, compute) {
                (Float::F32, Compute::F32) => interleave_f32::<F32>(from, columns, k, out),
                (Float::Bf16, Compute::F32) => interleave_f32::<BF16>(from, columns, k, out),
                (Float::F16, Compute::F32) => interleave_f32::<F16>(from, columns, k, out),
                (Float::F32, Compute::Bf16) => interleave_pairs::<F32>(from, columns, k, out),
                (Float::Bf16, Compute::Bf16) => interleave_pairs::<BF16>(from, columns, k, out),
                (Float::F16, Compute::Bf16) => interleave_pairs::<F16>(from, columns, k, out),
            }
        }
    }

    /// # Safety
    /// Ranges are checked by the caller; AVX-512 with BF16 is there.
    pub(super) unsafe fn narrow(from: Rows<'_>, rows: usize, k: usize, out: *mut f32) {
        // SAFETY: handed on.
        unsafe {
            match from.float {
                Float::F32 => narrow_rows::<F32>(from, rows, k, out),
                Float::Bf16 => narrow_rows::<BF16>(from, rows, k, out),
                Float::F16 => narrow_rows::<F16>(from, rows, k, out),
            }
        }
    }

    /// Mask of the lowest `count` bits of 16, all of them for more.
    #[inline(always)]
    fn low16(count: usize) -> __mmask16 {
        if count >= 16 { 0xffff } else { (1 << count) - 1 }
    }

    #[inline(always)]
    fn low32(count: usize) -> __mmask32 {
        if count >= 32 { 0xffff_ffff } else { (1 << count) - 1 }
    }

    /// Loads up to 16 elements as `f32`; lanes from `count` on are zero.
    ///
    /// # Safety
    /// `count.min(16)` elements are readable at `at`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    unsafe fn load16<const FLOAT: u8>(at: *const u8, count: usize) -> __m512 {
        // SAFETY: masked lanes are not read.
        unsafe {
            match FLOAT {
                F32 => _mm512_maskz_loadu_ps(low16(count), at.cast()),
                BF16 => {
                    let raw = _mm256_maskz_loadu_epi16(low16(count), at.cast());
                    _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(raw)))
                }
                _ => _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(low16(count), at.cast())),
            }
        }
    }

    /// Loads up to 32 elements as `bf16`; lanes from `count` on are zero.
    ///
    /// # Safety
    /// `count.min(32)` elements are readable at `at`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    unsafe fn load32<const FLOAT: u8>(at: *const u8, count: usize) -> __m512i {
        // SAFETY: masked lanes are not read; 512 bits are 512 bits.
        unsafe {
            if FLOAT == BF16 {
                return _mm512_maskz_loadu_epi16(low32(count), at.cast());
            }
            let size = if FLOAT == F32 { 4 } else { 2 };
            let low = load16::<FLOAT>(at, count);
            let high = load16::<FLOAT>(at.wrapping_add(16 * size), count.saturating_sub(16));
            std::mem::transmute(_mm512_cvtne2ps_pbh(high, low))
        }
    }

    /// Exchanges rows and columns of a 16 x 16 block of 32-bit lanes.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn turn(rows: [__m512i; 16]) -> [__m512i; 16] {
        let mut pairs = [_mm512_setzero_si512(); 16];
        for i in 0..8 {
            pairs[2 * i] = _mm512_unpacklo_epi32(rows[2 * i], rows[2 * i + 1]);
            pairs[2 * i + 1] = _mm512_unpackhi_epi32(rows[2 * i], rows[2 * i + 1]);
        }
        let mut quads = [_mm512_setzero_si512(); 16];
        for i in 0..4 {
            let at = 4 * i;
            quads[at] = _mm512_unpacklo_epi64(pairs[at], pairs[at + 2]);
            quads[at + 1] = _mm512_unpackhi_epi64(pairs[at], pairs[at + 2]);
            quads[at + 2] = _mm512_unpacklo_epi64(pairs[at + 1], pairs[at + 3]);
            quads[at + 3] = _mm512_unpackhi_epi64(pairs[at + 1], pairs[at + 3]);
        }
        // quads[4 i + c], 128-bit lane l: column 4 l + c of rows 4 i .. 4 i + 4.
        let mut out = [_mm512_setzero_si512(); 16];
        for c in 0..4 {
            let low_even = _mm512_shuffle_i32x4::<0b10_00_10_00>(quads[c], quads[4 + c]);
            let low_odd = _mm512_shuffle_i32x4::<0b11_01_11_01>(quads[c], quads[4 + c]);
            let high_even = _mm512_shuffle_i32x4::<0b10_00_10_00>(quads[8 + c], quads[12 + c]);
            let high_odd = _mm512_shuffle_i32x4::<0b11_01_11_01>(quads[8 + c], quads[12 + c]);
            out[c] = _mm512_shuffle_i32x4::<0b10_00_10_00>(low_even, high_even);
            out[8 + c] = _mm512_shuffle_i32x4::<0b11_01_11_01>(low_even, high_even);
            out[4 + c] = _mm512_shuffle_i32x4::<0b10_00_10_00>(low_odd, high_odd);
            out[12 + c] = _mm512_shuffle_i32x4::<0b11_01_11_01>(low_odd, high_odd);
        }
        out
    }

    /// # Safety
    /// `out` is writable at `p * out_step + i` for `p < count`, `i < lanes`.
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn scatter(block: [__m512i; 16], count: usize, out: *mut f32, out_step: usize, lanes: usize) {
        let mask = low16(lanes);
        for (p, lane) in block.into_iter().enumerate().take(count) {
            // SAFETY: promised by the caller; masked lanes are not written.
            unsafe { _mm512_mask_storeu_epi32(out.add(p * out_step).cast(), mask, lane) };
        }
    }

    /// # Safety
    /// As [`transpose`].
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    unsafe fn transpose_f32<const FLOAT: u8>(
        from: Rows<'_>,
        rows: usize,
        k: usize,
        out: *mut f32,
        out_step: usize,
        lanes: usize,
    ) {
        let size = from.float.size();
        for p in (0..k).step_by(16) {
            let mut block = [_mm512_setzero_si512(); 16];
            for (i, lane) in block.iter_mut().enumerate().take(rows) {
                // SAFETY: row `i` has `k` elements.
                unsafe {
                    let at = from.bytes.as_ptr().add(i * from.row_bytes + p * size);
                    *lane = _mm512_castps_si512(load16::<FLOAT>(at, k - p));
                }
            }
            // SAFETY: the packed rows fit, as the caller checked.
            unsafe { scatter(turn(block), (k - p).min(16), out.add(p * out_step), out_step, lanes) };
        }
    }

    /// # Safety
    /// As [`transpose`].
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    unsafe fn transpose_pairs<const FLOAT: u8>(
        from: Rows<'_>,
        rows: usize,
        k: usize,
        out: *mut f32,
        out_step: usize,
        lanes: usize,
    ) {
        let size = from.float.size();
        for p in (0..k).step_by(32) {
            let mut block = [_mm512_setzero_si512(); 16];
            for (i, lane) in block.iter_mut().enumerate().take(rows) {
                // SAFETY: row `i` has `k` elements.
                unsafe {
                    let at = from.bytes.as_ptr().add(i * from.row_bytes + p * size);
                    *lane = load32::<FLOAT>(at, k - p);
                }
            }
            // SAFETY: the packed rows fit, padding too, as the caller checked.
            unsafe { scatter(turn(block), PADDED / 2, out.add(p / 2 * out_step), out_step, lanes) };
        }
    }

    /// # Safety
    /// As [`narrow`].
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    unsafe fn narrow_rows<const FLOAT: u8>(from: Rows<'_>, rows: usize, k: usize, mut out: *mut f32) {
        let size = from.float.size();
        for i in 0..rows {
            for p in (0..k).step_by(PADDED) {
                // SAFETY: row `i` has `k` elements, and every row has room for its padding.
                unsafe {
                    let at = from.bytes.as_ptr().add(i * from.row_bytes + p * size);
                    _mm512_storeu_epi32(out.cast(), load32::<FLOAT>(at, k - p));
                }
                out = out.wrapping_add(PADDED / 2);
            }
        }
    }

    /// # Safety
    /// As [`interleave`].
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    unsafe fn interleave_f32<const FLOAT: u8>(from: Rows<'_>, columns: usize, k: usize, out: *mut f32) {
        let size = from.float.size();
        for p in 0..k {
            // SAFETY: `k` rows of `columns` elements are readable, `k` rows of a panel writable.
            unsafe {
                let at = from.bytes.as_ptr().add(p * from.row_bytes);
                let low = load16::<FLOAT>(at, columns);
                let high = load16::<FLOAT>(at.wrapping_add(16 * size), columns.saturating_sub(16));
                _mm512_storeu_ps(out.add(p * PANEL), low);
                _mm512_storeu_ps(out.add(p * PANEL + 16), high);
            }
        }
    }

    /// # Safety
    /// As [`interleave`].
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    unsafe fn interleave_pairs<const FLOAT: u8>(from: Rows<'_>, columns: usize, k: usize, out: *mut f32) {
        // Lane 2 j takes element j of the even row, lane 2 j + 1 element j of the odd row (numbers from 32 on).
        let mut order = [0u16; 64];
        for (lane, source) in order.iter_mut().enumerate() {
            *source = (lane / 2 + 32 * (lane % 2)) as u16;
        }
        for p in (0..k.next_multiple_of(PADDED)).step_by(2) {
            // SAFETY: `k` rows of `columns` elements are readable, half the padded rows of a panel writable.
            unsafe {
                let low_order = _mm512_loadu_epi16(order.as_ptr().cast());
                let high_order = _mm512_loadu_epi16(order.as_ptr().add(32).cast());
                let at = from.bytes.as_ptr().wrapping_add(p * from.row_bytes);
                let even = load32::<FLOAT>(at, if p < k { columns } else { 0 });
                let odd = load32::<FLOAT>(at.wrapping_add(from.row_bytes), if p + 1 < k { columns } else { 0 });
                let out = out.add(p / 2 * PANEL);
                _mm512_storeu_epi32(out.cast(), _mm512_permutex2var_epi16(even, low_order, odd));
                _mm512_storeu_epi32(out.add(16).cast(), _mm512_permutex2var_epi16(even, high_order, odd));
            }
        }
    }
}
