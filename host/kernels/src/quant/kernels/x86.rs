//! Vector versions of the panel loops.
//!
//! The layouts are constants of the functions, so that each type gets a loop without branches.

use std::arch::x86_64::*;

use super::{BLOCK, Codes, GgmlType, Heads, Job, ROWS, TOKENS, layout};

const SCALE: u8 = Heads::Scale as u8;
const SCALE_MIN: u8 = Heads::ScaleMin as u8;
const SUPER_MIN: u8 = Heads::SuperMin as u8;
const SUPER_HALVES: u8 = Heads::SuperHalves as u8;
const FOUR: u8 = Codes::Four as u8;
const FIVE: u8 = Codes::Five as u8;
const SIX: u8 = Codes::Six as u8;
const EIGHT: u8 = Codes::Eight as u8;

const fn codes_of(codes: u8) -> Codes {
    match codes {
        FOUR => Codes::Four,
        FIVE => Codes::Five,
        SIX => Codes::Six,
        _ => Codes::Eight,
    }
}

/// Checks what the loops read without looking: every line, head, code and sum of the job.
fn check(ty: GgmlType, job: &Job<'_>, first: usize, tokens: usize) {
    let (heads, codes) = layout(ty);
    assert!(job.lines.len() >= job.groups * codes.lines() && job.heads.len() >= heads.bytes(job.groups));
    let blocks = (first + tokens) * job.groups;
    assert!(job.activation.scales.len() >= blocks && job.activation.sums.len() >= blocks);
    assert!(job.activation.codes.len() >= blocks * BLOCK && job.activation.half_sums.len() >= 2 * blocks);
    assert!(tokens <= TOKENS);
}

/// Runs the AVX-512 loops. The caller found AVX-512 F, BW and VNNI.
pub(super) fn multiply_vnni(ty: GgmlType, job: &Job<'_>, first: usize, sums: &mut [[f32; ROWS]]) {
    check(ty, job, first, sums.len());
    let mut done = 0;
    while done < sums.len() {
        let (from, rest) = (first + done, &mut sums[done..]);
        // SAFETY: the caller found the features, `check` compared every length, and `rest` has the tokens of the tile.
        done += unsafe {
            match rest.len() {
                8.. => tile_vnni::<8>(ty, job, from, rest),
                4.. => tile_vnni::<4>(ty, job, from, rest),
                2.. => tile_vnni::<2>(ty, job, from, rest),
                _ => tile_vnni::<1>(ty, job, from, rest),
            }
        };
    }
}

/// # Safety
/// AVX-512 F, BW and VNNI exist; the job was checked; `sums` has `T` rows.
unsafe fn tile_vnni<const T: usize>(ty: GgmlType, job: &Job<'_>, first: usize, sums: &mut [[f32; ROWS]]) -> usize {
    // SAFETY: passed on to the caller.
    unsafe {
        match ty {
            GgmlType::Q4_0 => panel_vnni::<SCALE, FOUR, T>(job, first, sums),
            GgmlType::Q5_0 => panel_vnni::<SCALE, FIVE, T>(job, first, sums),
            GgmlType::Q8_0 => panel_vnni::<SCALE, EIGHT, T>(job, first, sums),
            GgmlType::Q4_1 => panel_vnni::<SCALE_MIN, FOUR, T>(job, first, sums),
            GgmlType::Q5_1 => panel_vnni::<SCALE_MIN, FIVE, T>(job, first, sums),
            GgmlType::Q4_K => panel_vnni::<SUPER_MIN, FOUR, T>(job, first, sums),
            GgmlType::Q5_K => panel_vnni::<SUPER_MIN, FIVE, T>(job, first, sums),
            _ => panel_vnni::<SUPER_HALVES, SIX, T>(job, first, sums),
        }
    }
    T
}

/// Reads sixteen half floats.
///
/// # Safety
/// 32 bytes are readable at `from`.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn halves_512(from: *const u8) -> __m512 {
    // SAFETY: promised by the caller.
    _mm512_cvtph_ps(unsafe { _mm256_loadu_si256(from.cast()) })
}

/// The scales and offsets of group `group`, both halves.
///
/// # Safety
/// The heads of the group are readable at `heads` (checked by `check`).
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn heads_512<const HEADS: u8>(heads: *const u8, zero: f32, group: usize) -> ([__m512; 2], [__m512; 2]) {
    let minus_zero_point = _mm512_set1_ps(-zero);
    // SAFETY: the offsets below are those of `Heads::bytes` and stay inside the group's head.
    unsafe {
        match HEADS {
            SCALE => {
                let scale = halves_512(heads.add(32 * group));
                ([scale; 2], [_mm512_mul_ps(minus_zero_point, scale); 2])
            }
            SCALE_MIN => {
                let at = heads.add(64 * group);
                ([halves_512(at); 2], [halves_512(at.add(32)); 2])
            }
            SUPER_MIN => {
                let at = heads.add(320 * (group / 8));
                let small = at.add(64 + 32 * (group % 8));
                let scale = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(small.cast())));
                let min = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(small.add(16).cast())));
                let min = _mm512_mul_ps(halves_512(at.add(32)), min);
                let flipped = _mm512_xor_si512(_mm512_castps_si512(min), _mm512_set1_epi32(i32::MIN));
                (
                    [_mm512_mul_ps(halves_512(at), scale); 2],
                    [_mm512_castsi512_ps(flipped); 2],
                )
            }
            _ => {
                let at = heads.add(288 * (group / 8));
                let small = at.add(32 + 32 * (group % 8));
                let d = halves_512(at);
                let scale = |from: *const u8| {
                    let codes = _mm512_cvtepi8_epi32(_mm_loadu_si128(from.cast()));
                    _mm512_mul_ps(d, _mm512_cvtepi32_ps(codes))
                };
                let scales = [scale(small), scale(small.add(16))];
                (scales, scales.map(|scale| _mm512_mul_ps(minus_zero_point, scale)))
            }
        }
    }
}

/// The codes of column group `column`, four per row.
///
/// # Safety
/// The lines of the group are readable at `lines`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn codes_512<const CODES: u8>(lines: *const u8, column: usize) -> __m512i {
    // SAFETY: `Codes::lines` lines of 64 bytes start at `lines`; the indices stay below that.
    unsafe {
        if CODES == EIGHT {
            return _mm512_load_si512(lines.add(64 * column).cast());
        }
        let packed = _mm512_load_si512(lines.add(64 * (column % 4)).cast());
        let shifted = if column < 4 {
            packed
        } else {
            _mm512_srli_epi16::<4>(packed)
        };
        let low = _mm512_and_si512(shifted, _mm512_set1_epi8(15));
        match CODES {
            FIVE => {
                let mask = lines.add(256 + 8 * column).cast::<u64>().read();
                _mm512_mask_add_epi8(low, mask, low, _mm512_set1_epi8(16))
            }
            SIX => {
                let plane = _mm512_load_si512(lines.add(256 + 64 * (column / 4)).cast());
                let upper = match column % 4 {
                    0 => _mm512_slli_epi16::<4>(plane),
                    1 => _mm512_slli_epi16::<2>(plane),
                    2 => plane,
                    _ => _mm512_srli_epi16::<2>(plane),
                };
                _mm512_or_si512(low, _mm512_and_si512(upper, _mm512_set1_epi8(0x30)))
            }
            _ => low,
        }
    }
}

/// # Safety
/// AVX-512 F, BW and VNNI exist; the job was checked; `sums` has `T` rows.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn panel_vnni<const HEADS: u8, const CODES: u8, const T: usize>(
    job: &Job<'_>,
    first: usize,
    sums: &mut [[f32; ROWS]],
) {
    let lines_per_group = const { codes_of(CODES).lines() };
    let x = job.activation;
    let mut totals = [_mm512_setzero_ps(); T];
    for group in 0..job.groups {
        // SAFETY: `check` compared the lengths of heads, lines, codes, scales and sums with the groups and tokens.
        unsafe {
            let (scales, offsets) = heads_512::<HEADS>(job.heads.as_ptr(), job.zero, group);
            let lines = job.lines.as_ptr().add(group * lines_per_group).cast::<u8>();
            let mut dots = [[_mm512_setzero_si512(); 2]; T];
            for column in 0..8 {
                let codes = codes_512::<CODES>(lines, column);
                let half = if HEADS == SUPER_HALVES { column / 4 } else { 0 };
                for (t, dots) in dots.iter_mut().enumerate() {
                    let at = ((first + t) * job.groups + group) * BLOCK + 4 * column;
                    let four = x.codes.as_ptr().add(at).cast::<i32>().read_unaligned();
                    dots[half] = _mm512_dpbusd_epi32(dots[half], codes, _mm512_set1_epi32(four));
                }
            }
            for (t, total) in totals.iter_mut().enumerate() {
                let at = (first + t) * job.groups + group;
                let scale = _mm512_set1_ps(*x.scales.get_unchecked(at));
                let halves = if HEADS == SUPER_HALVES { 2 } else { 1 };
                for half in 0..halves {
                    let sum = if halves == 2 {
                        x.half_sums.get_unchecked(2 * at + half)
                    } else {
                        x.sums.get_unchecked(at)
                    };
                    let dot = _mm512_cvtepi32_ps(dots[t][half]);
                    *total = _mm512_fmadd_ps(_mm512_mul_ps(scales[half], scale), dot, *total);
                    *total = _mm512_fmadd_ps(offsets[half], _mm512_set1_ps(*sum), *total);
                }
            }
        }
    }
    for (total, sums) in totals.iter().zip(sums) {
        // SAFETY: a row of sums is sixteen floats long.
        unsafe { _mm512_storeu_ps(sums.as_mut_ptr(), *total) };
    }
}

/// Runs the AVX2 loops. The caller found AVX2, FMA and F16C.
pub(super) fn multiply_avx2(ty: GgmlType, job: &Job<'_>, first: usize, sums: &mut [[f32; ROWS]]) {
    check(ty, job, first, sums.len());
    for (t, sums) in sums.iter_mut().enumerate() {
        // SAFETY: the caller found the features and `check` compared every length.
        unsafe {
            match ty {
                GgmlType::Q4_0 => panel_avx2::<SCALE, FOUR>(job, first + t, sums),
                GgmlType::Q5_0 => panel_avx2::<SCALE, FIVE>(job, first + t, sums),
                GgmlType::Q8_0 => panel_avx2::<SCALE, EIGHT>(job, first + t, sums),
                GgmlType::Q4_1 => panel_avx2::<SCALE_MIN, FOUR>(job, first + t, sums),
                GgmlType::Q5_1 => panel_avx2::<SCALE_MIN, FIVE>(job, first + t, sums),
                GgmlType::Q4_K => panel_avx2::<SUPER_MIN, FOUR>(job, first + t, sums),
                GgmlType::Q5_K => panel_avx2::<SUPER_MIN, FIVE>(job, first + t, sums),
                _ => panel_avx2::<SUPER_HALVES, SIX>(job, first + t, sums),
            }
        }
    }
}

/// The scales and offsets of a group for rows `8 * side..8 * side + 8`.
///
/// # Safety
/// The heads of the group are readable at `heads`.
#[inline]
#[target_feature(enable = "avx2,f16c")]
unsafe fn heads_256<const HEADS: u8>(
    heads: *const u8,
    zero: f32,
    group: usize,
    side: usize,
) -> ([__m256; 2], [__m256; 2]) {
    let minus_zero_point = _mm256_set1_ps(-zero);
    // SAFETY: the offsets are those of `Heads::bytes`; eight lanes are 16 bytes of half floats or 8 of bytes.
    unsafe {
        let halves = |from: *const u8| _mm256_cvtph_ps(_mm_loadu_si128(from.add(16 * side).cast()));
        match HEADS {
            SCALE => {
                let scale = halves(heads.add(32 * group));
                ([scale; 2], [_mm256_mul_ps(minus_zero_point, scale); 2])
            }
            SCALE_MIN => {
                let at = heads.add(64 * group);
                ([halves(at); 2], [halves(at.add(32)); 2])
            }
            SUPER_MIN => {
                let at = heads.add(320 * (group / 8));
                let small = at.add(64 + 32 * (group % 8) + 8 * side);
                let scale = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(small.cast())));
                let min = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(small.add(16).cast())));
                let min = _mm256_xor_ps(_mm256_mul_ps(halves(at.add(32)), min), _mm256_set1_ps(-0.0));
                ([_mm256_mul_ps(halves(at), scale); 2], [min; 2])
            }
            _ => {
                let at = heads.add(288 * (group / 8));
                let small = at.add(32 + 32 * (group % 8) + 8 * side);
                let d = halves(at);
                let scale = |from: *const u8| {
                    let codes = _mm256_cvtepi8_epi32(_mm_loadl_epi64(from.cast()));
                    _mm256_mul_ps(d, _mm256_cvtepi32_ps(codes))
                };
                let scales = [scale(small), scale(small.add(16))];
                (scales, scales.map(|scale| _mm256_mul_ps(minus_zero_point, scale)))
            }
        }
    }
}

/// The codes of column group `column` for eight rows.
///
/// # Safety
/// The lines of the group are readable at `lines`.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn codes_256<const CODES: u8>(lines: *const u8, column: usize, side: usize) -> __m256i {
    // SAFETY: `Codes::lines` lines of 64 bytes start at `lines`; a side is 32 bytes of each.
    unsafe {
        let load = |line: usize| _mm256_load_si256(lines.add(64 * line + 32 * side).cast());
        if CODES == EIGHT {
            return load(column);
        }
        let packed = load(column % 4);
        let shifted = if column < 4 {
            packed
        } else {
            _mm256_srli_epi16::<4>(packed)
        };
        let low = _mm256_and_si256(shifted, _mm256_set1_epi8(15));
        match CODES {
            FIVE => {
                // Spread bit j of the mask over byte j: its byte to all eight lanes, then one bit each.
                let mask = lines.add(256 + 8 * column + 4 * side).cast::<i32>().read();
                let spread = _mm256_setr_epi64x(0, 0x0101_0101_0101_0101, 0x0202_0202_0202_0202, 0x0303_0303_0303_0303);
                let bytes = _mm256_shuffle_epi8(_mm256_set1_epi32(mask), spread);
                let bits = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64 as i64);
                let set = _mm256_cmpeq_epi8(_mm256_and_si256(bytes, bits), bits);
                _mm256_or_si256(low, _mm256_and_si256(set, _mm256_set1_epi8(16)))
            }
            SIX => {
                let plane = load(4 + column / 4);
                let upper = match column % 4 {
                    0 => _mm256_slli_epi16::<4>(plane),
                    1 => _mm256_slli_epi16::<2>(plane),
                    2 => plane,
                    _ => _mm256_srli_epi16::<2>(plane),
                };
                _mm256_or_si256(low, _mm256_and_si256(upper, _mm256_set1_epi8(0x30)))
            }
            _ => low,
        }
    }
}

/// Four products per row, added up.
#[inline]
#[target_feature(enable = "avx2")]
fn dot_256<const CODES: u8>(codes: __m256i, x: __m256i) -> __m256i {
    let ones = _mm256_set1_epi16(1);
    if CODES == EIGHT {
        // Codes up to 255 would overflow the sixteen-bit pair sums: take even and odd bytes apart.
        let even = _mm256_and_si256(codes, _mm256_set1_epi16(0xff));
        let odd = _mm256_srli_epi16::<8>(codes);
        let even_x = _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(x));
        let odd_x = _mm256_srai_epi16::<8>(x);
        return _mm256_add_epi32(_mm256_madd_epi16(even, even_x), _mm256_madd_epi16(odd, odd_x));
    }
    _mm256_madd_epi16(_mm256_maddubs_epi16(codes, x), ones)
}

/// # Safety
/// AVX2, FMA and F16C exist; the job was checked for `token`.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn panel_avx2<const HEADS: u8, const CODES: u8>(job: &Job<'_>, token: usize, sums: &mut [f32; ROWS]) {
    let lines_per_group = const { codes_of(CODES).lines() };
    let x = job.activation;
    let mut totals = [_mm256_setzero_ps(); 2];
    for group in 0..job.groups {
        let at = token * job.groups + group;
        for (side, total) in totals.iter_mut().enumerate() {
            // SAFETY: `check` compared the lengths of heads, lines, codes, scales and sums with the groups and tokens.
            unsafe {
                let (scales, offsets) = heads_256::<HEADS>(job.heads.as_ptr(), job.zero, group, side);
                let lines = job.lines.as_ptr().add(group * lines_per_group).cast::<u8>();
                let mut dots = [_mm256_setzero_si256(); 2];
                for column in 0..8 {
                    let four = x
                        .codes
                        .as_ptr()
                        .add(at * BLOCK + 4 * column)
                        .cast::<i32>()
                        .read_unaligned();
                    let dot = dot_256::<CODES>(codes_256::<CODES>(lines, column, side), _mm256_set1_epi32(four));
                    let half = if HEADS == SUPER_HALVES { column / 4 } else { 0 };
                    dots[half] = _mm256_add_epi32(dots[half], dot);
                }
                let scale = _mm256_set1_ps(*x.scales.get_unchecked(at));
                let halves = if HEADS == SUPER_HALVES { 2 } else { 1 };
                for half in 0..halves {
                    let sum = if halves == 2 {
                        x.half_sums.get_unchecked(2 * at + half)
                    } else {
                        x.sums.get_unchecked(at)
                    };
                    let dot = _mm256_cvtepi32_ps(dots[half]);
                    *total = _mm256_fmadd_ps(_mm256_mul_ps(scales[half], scale), dot, *total);
                    *total = _mm256_fmadd_ps(offsets[half], _mm256_set1_ps(*sum), *total);
                }
            }
        }
    }
    for (total, sums) in totals.iter().zip(sums.as_chunks_mut::<8>().0) {
        // SAFETY: half a row of sums is eight floats long.
        unsafe { _mm256_storeu_ps(sums.as_mut_ptr(), *total) };
    }
}
