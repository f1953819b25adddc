//! Products of few rows: stream the stored weight once, as fast as memory gives it.
//!
//! **Sketch:** one row against `bf16` reads 2 bytes per multiply-add, so memory (20 to 28 GB/s per core here) is the
//! limit by a factor of three over the arithmetic. Rows of the weight are read one after the other, as they
//! lie in memory (four interleaved streams reached a third of the speed); every sum runs over `k` in fixed lanes that
//! are added pairwise at the end, so a result depends on neither the neighbors nor the threads.
//! More than four rows of `x` go over each group of weight rows in turns of four; the group is in the first-level cache by
//! then, so memory is still read once.

use crate::ctx::{Ctx, Simd, Write};
use crate::lanes::fold16;
use crate::pack::Float;
use crate::pool::Disjoint;
use crate::quant::Activation;
use crate::scratch;
use crate::weight::Weight;

/// Rows of `x` that share one look at a row of the weight; from five on, packing pays where nobody asks for this precision path.
pub(crate) const GEMV_ROWS: usize = 4;
/// Rows of the weight whose sums are finished together.
const GROUP: usize = 4;
/// Lanes of a sum; the same in every instruction set.
const LANES: usize = 16;
/// Bytes of weight per task at least: about five microseconds of memory time.
const TASK_BYTES_MIN: usize = 96 * 1024;
/// Tasks per thread, so that a disturbed thread holds up little.
const TASKS_PER_THREAD: usize = 4;

/// `y (+)= x W^T`; lengths are checked by the caller.
pub(crate) fn gemv(ctx: &Ctx, x: &[f32], t: usize, outputs: &mut [(&Weight, &mut [f32])], write: Write) {
    if t == 0 {
        return;
    }
    let mut activation = None;
    for (w, y) in outputs.iter_mut() {
        if let Some(panels) = w.decode_panels() {
            let activation = activation.get_or_insert_with(|| {
                Activation::new(x, w.k()).expect("quantized rows are whole blocks of 32, and so is x")
            });
            panels.product(ctx, activation, y, write);
        }
    }
    let plain: Vec<(&Weight, Disjoint<'_, f32>)> = outputs
        .iter_mut()
        .filter(|(w, _)| w.decode_panels().is_none())
        .map(|(w, y)| (*w, Disjoint::new(y)))
        .collect();
    let bytes: usize = plain.iter().map(|(w, _)| w.stored_bytes()).sum();
    let threads = ctx.pool.threads();
    let wanted = if threads == 1 {
        1
    } else {
        (bytes / TASK_BYTES_MIN).clamp(1, threads * TASKS_PER_THREAD)
    };
    let mut tasks = Vec::with_capacity(wanted + plain.len());
    for (index, (w, _)) in plain.iter().enumerate() {
        let groups = w.n().div_ceil(GROUP);
        let parts = (wanted * w.stored_bytes())
            .div_ceil(bytes.max(1))
            .clamp(1, groups.max(1));
        for part in 0..parts {
            let end = ((part + 1) * groups / parts * GROUP).min(w.n());
            tasks.push((index, part * groups / parts * GROUP..end));
        }
    }
    let has_pairs = ctx.simd >= Simd::Avx512 && plain.iter().any(|(w, _)| matches!(w.floats(), Some((Float::Bf16, _))));
    let k = x.len() / t;
    scratch::with(if has_pairs { x.len() } else { 0 }, |pairs| {
        if has_pairs {
            split_pairs(x, k, pairs);
        }
        let input = Input { x, pairs, t, k };
        run_tasks(ctx, &plain, &tasks, &input, write);
    });
}

/// The rows of `x`, and the same with neighbors separated (empty when no weight needs them).
struct Input<'a> {
    x: &'a [f32],
    pairs: &'a [f32],
    t: usize,
    k: usize,
}

impl<'a> Input<'a> {
    /// Up to [`GEMV_ROWS`] rows from `first` on.
    fn turn(&self, first: usize) -> Input<'a> {
        let t = GEMV_ROWS.min(self.t - first);
        let part = |rows: &'a [f32]| match rows.is_empty() {
            true => rows,
            false => &rows[first * self.k..(first + t) * self.k],
        };
        Input {
            x: part(self.x),
            pairs: part(self.pairs),
            t,
            k: self.k,
        }
    }
}

/// Elements whose even and odd members are separated together; the rest of a row stays in order.
const PAIRED: usize = 64;

/// Puts the even elements of every 32 before the odd ones: a vector of `bf16` pairs then widens with one shift and one
/// mask instead of a shuffle.
fn split_pairs(x: &[f32], k: usize, out: &mut [f32]) {
    for (x, out) in x.chunks_exact(k).zip(out.chunks_exact_mut(k)) {
        out.copy_from_slice(x);
        let whole = k / PAIRED * PAIRED;
        for (x, out) in x[..whole].as_chunks::<32>().0.iter().zip(out.as_chunks_mut::<32>().0) {
            for i in 0..16 {
                out[i] = x[2 * i];
                out[16 + i] = x[2 * i + 1];
            }
        }
    }
}

fn run_tasks(
    ctx: &Ctx,
    plain: &[(&Weight, Disjoint<'_, f32>)],
    tasks: &[(usize, std::ops::Range<usize>)],
    input: &Input<'_>,
    write: Write,
) {
    ctx.pool.run(tasks.len(), |index| {
        let (output, rows) = &tasks[index];
        let (w, y) = &plain[*output];
        for start in rows.clone().step_by(GROUP) {
            let group = start..rows.end.min(start + GROUP);
            dot_rows(ctx.simd, w, group.clone(), input, |row, sums| {
                // SAFETY: rows of the weight, and so columns of `y`, belong to one task.
                let y = unsafe { y.range(row * w.n() + start, group.len()) };
                for (y, sum) in y.iter_mut().zip(sums) {
                    *y = if write == Write::Add { *y + sum } else { *sum };
                }
            });
        }
    });
}

/// Dots up to [`GROUP`] rows of the weight with every row of `x`; `each` hears the number of a row of `x` and its dots.
fn dot_rows(
    simd: Simd,
    w: &Weight,
    rows: std::ops::Range<usize>,
    input: &Input<'_>,
    mut each: impl FnMut(usize, &[f32; GROUP]),
) {
    let k = input.k;
    let mut turns = |float: Float, bytes: &[u8]| {
        for first in (0..input.t).step_by(GEMV_ROWS) {
            let turn = input.turn(first);
            let sums = dot_floats(simd, float, bytes, rows.len(), &turn);
            for (i, sums) in sums.iter().enumerate().take(turn.t) {
                each(first + i, sums);
            }
        }
    };
    if let Some((float, bytes)) = w.floats() {
        let row_bytes = k * float.size();
        turns(float, &bytes[rows.start * row_bytes..rows.end * row_bytes]);
        return;
    }
    scratch::with(rows.len() * k, |decoded| {
        for (row, decoded) in rows.clone().zip(decoded.chunks_exact_mut(k)) {
            w.row_f32(row, decoded);
        }
        // SAFETY: any float is four bytes.
        let bytes = unsafe { std::slice::from_raw_parts(decoded.as_ptr().cast(), decoded.len() * 4) };
        turns(Float::F32, bytes);
    });
}

fn dot_floats(simd: Simd, float: Float, bytes: &[u8], rows: usize, input: &Input<'_>) -> [[f32; GROUP]; GEMV_ROWS] {
    let Input { x, pairs, t, k } = *input;
    assert!(bytes.len() == rows * k * float.size() && x.len() == t * k, "whole rows");
    assert!(
        rows <= GROUP && t <= GEMV_ROWS,
        "at most a group of rows and four inputs"
    );
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: the instruction set was found on this machine and the lengths were just checked.
        unsafe {
            match (simd, float) {
                (Simd::Avx512 | Simd::Avx512Bf16 | Simd::Amx, Float::F32) => {
                    return x86::pick::<0>(bytes, rows, x, t, k);
                }
                (Simd::Avx512 | Simd::Avx512Bf16 | Simd::Amx, Float::Bf16) => {
                    return x86::pick::<1>(bytes, rows, pairs, t, k);
                }
                (Simd::Avx512 | Simd::Avx512Bf16 | Simd::Amx, Float::F16) => {
                    return x86::pick::<2>(bytes, rows, x, t, k);
                }
                (Simd::Avx2, _) => return x86::dot_avx2(float, bytes, rows, x, t, k),
                (Simd::Scalar, _) => {}
            }
        }
    }
    dot_plain::<false>(float, bytes, rows, x, t, k)
}

/// One value at a time, in the lanes' order; compiled for AVX2 it is the AVX2 variant.
#[inline(always)]
fn dot_plain<const FUSED: bool>(
    float: Float,
    bytes: &[u8],
    rows: usize,
    x: &[f32],
    t: usize,
    k: usize,
) -> [[f32; GROUP]; GEMV_ROWS] {
    let mut out = [[0.0; GROUP]; GEMV_ROWS];
    let size = float.size();
    for row in 0..rows {
        let bytes = &bytes[row * k * size..][..k * size];
        let mut sums = [[0.0f32; LANES]; GEMV_ROWS];
        for start in (0..k).step_by(LANES) {
            let count = LANES.min(k - start);
            let mut block = [0.0f32; LANES];
            widen(float, &bytes[start * size..][..count * size], &mut block);
            for (i, sums) in sums.iter_mut().enumerate().take(t) {
                let mut values = [0.0f32; LANES];
                values[..count].copy_from_slice(&x[i * k + start..][..count]);
                for ((sum, w), x) in sums.iter_mut().zip(block).zip(values) {
                    *sum = if FUSED { w.mul_add(x, *sum) } else { *sum + w * x };
                }
            }
        }
        for (out, sums) in out.iter_mut().zip(sums) {
            out[row] = fold16(sums);
        }
    }
    out
}

#[inline(always)]
fn widen(float: Float, bytes: &[u8], out: &mut [f32; LANES]) {
    match float {
        Float::F32 => {
            for (out, raw) in out.iter_mut().zip(bytes.as_chunks::<4>().0) {
                *out = f32::from_le_bytes(*raw);
            }
        }
        Float::Bf16 => {
            for (out, raw) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
                *out = f32::from_bits(u32::from(u16::from_le_bytes(*raw)) << 16);
            }
        }
        Float::F16 => {
            for (out, raw) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
                *out = crate::quant::half_to_f32(u16::from_le_bytes(*raw));
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{Float, GEMV_ROWS, GROUP, dot_plain};
    use crate::lanes::x86::sum4;

    /// # Safety
    /// AVX2, FMA and F16C are there.
    #[target_feature(enable = "avx2,fma,f16c")]
    pub(super) unsafe fn dot_avx2(
        float: Float,
        bytes: &[u8],
        rows: usize,
        x: &[f32],
        t: usize,
        k: usize,
    ) -> [[f32; GROUP]; GEMV_ROWS] {
        dot_plain::<true>(float, bytes, rows, x, t, k)
    }

    /// Independent chains of a sum, to cover the latency of the multiply-add: 16 lanes of each 64 elements.
    const CHAINS: usize = super::PAIRED / 16;
    /// Bytes ahead of the reader that are asked for: about 100 ns at the speed of memory.
    const AHEAD: usize = 4096;

    /// # Safety
    /// AVX-512 is there; `bytes` is `rows` rows and `x` is `t` rows of `k` values (for `bf16`, with separated pairs).
    pub(super) unsafe fn pick<const FLOAT: u8>(
        bytes: &[u8],
        rows: usize,
        x: &[f32],
        t: usize,
        k: usize,
    ) -> [[f32; GROUP]; GEMV_ROWS] {
        // SAFETY: handed on.
        unsafe {
            match t {
                1 => group::<FLOAT, 1>(bytes, rows, x, k),
                2 => group::<FLOAT, 2>(bytes, rows, x, k),
                3 => group::<FLOAT, 3>(bytes, rows, x, k),
                _ => group::<FLOAT, 4>(bytes, rows, x, k),
            }
        }
    }

    /// Walks the rows one after the other, as they lie in memory: the processor's prefetcher follows one stream.
    ///
    /// # Safety
    /// AVX-512 is there; `bytes` is `rows` rows and `x` is `T` rows of `k` values.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    unsafe fn group<const FLOAT: u8, const T: usize>(
        bytes: &[u8],
        rows: usize,
        x: &[f32],
        k: usize,
    ) -> [[f32; GROUP]; GEMV_ROWS] {
        let mut sums = [[_mm512_setzero_ps(); GROUP]; T];
        for (row, bytes) in bytes.chunks_exact(bytes.len() / rows).enumerate().take(GROUP) {
            // SAFETY: handed on.
            let row_sums = unsafe { dot::<FLOAT, T>(bytes.as_ptr(), x.as_ptr(), k) };
            for (sums, sum) in sums.iter_mut().zip(row_sums) {
                sums[row] = sum;
            }
        }
        let mut out = [[0.0; GROUP]; GEMV_ROWS];
        for (out, sums) in out.iter_mut().zip(sums) {
            *out = sum4(sums);
        }
        out
    }

    /// # Safety
    /// AVX-512 is there; `k` values are readable at `row`, and `T` rows of `k` values at `x`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    unsafe fn dot<const FLOAT: u8, const T: usize>(row: *const u8, x: *const f32, k: usize) -> [__m512; T] {
        let size = if FLOAT == 0 { 4 } else { 2 };
        let mut sums = [[_mm512_setzero_ps(); CHAINS]; T];
        let block = super::PAIRED;
        let whole = k / block * block;
        // SAFETY: whole blocks lie inside the rows, the rest is masked; prefetching reads nothing.
        unsafe {
            for p in (0..whole).step_by(block) {
                _mm_prefetch::<_MM_HINT_T1>(row.wrapping_add(p * size + AHEAD).cast());
                _mm_prefetch::<_MM_HINT_T1>(row.wrapping_add(p * size + AHEAD + 64).cast());
                let values = load_block::<FLOAT>(row.add(p * size));
                for (chain, w) in values.into_iter().enumerate() {
                    for (i, sums) in sums.iter_mut().enumerate() {
                        let input = _mm512_loadu_ps(x.add(i * k + p + 16 * chain));
                        sums[chain] = _mm512_fmadd_ps(w, input, sums[chain]);
                    }
                }
            }
            for (chain, at) in (whole..k).step_by(16).enumerate() {
                let mask = if k - at >= 16 { 0xffff } else { (1 << (k - at)) - 1 };
                let w = load::<FLOAT>(row.add(at * size), mask);
                for (i, sums) in sums.iter_mut().enumerate() {
                    let input = _mm512_maskz_loadu_ps(mask, x.add(i * k + at));
                    sums[chain] = _mm512_fmadd_ps(w, input, sums[chain]);
                }
            }
        }
        sums.map(|c| _mm512_add_ps(_mm512_add_ps(c[0], c[1]), _mm512_add_ps(c[2], c[3])))
    }

    /// Loads 64 elements; of `bf16`, the even ones of each half before the odd ones.
    ///
    /// # Safety
    /// AVX-512 is there; the elements are readable at `at`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    unsafe fn load_block<const FLOAT: u8>(at: *const u8) -> [__m512; CHAINS] {
        let size = if FLOAT == 0 { 4 } else { 2 };
        // SAFETY: promised by the caller.
        unsafe {
            if FLOAT != 1 {
                return std::array::from_fn(|chain| load::<FLOAT>(at.add(16 * chain * size), 0xffff));
            }
            let upper = _mm512_set1_epi32(0xffff_0000_u32.cast_signed());
            let halves = [_mm512_loadu_epi32(at.cast()), _mm512_loadu_epi32(at.add(64).cast())];
            let even = halves.map(|raw| _mm512_castsi512_ps(_mm512_slli_epi32::<16>(raw)));
            let odd = halves.map(|raw| _mm512_castsi512_ps(_mm512_and_si512(raw, upper)));
            [even[0], odd[0], even[1], odd[1]]
        }
    }

    /// # Safety
    /// AVX-512 is there; the masked elements are readable at `at`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    unsafe fn load<const FLOAT: u8>(at: *const u8, mask: __mmask16) -> __m512 {
        // SAFETY: promised by the caller.
        unsafe {
            match FLOAT {
                0 => _mm512_maskz_loadu_ps(mask, at.cast()),
                1 => {
                    let wide = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, at.cast()));
                    _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
                }
                _ => _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, at.cast())),
            }
        }
    }
}
