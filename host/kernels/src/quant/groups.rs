//! One view of every weight type: 32 unsigned codes with a scale and an offset per half.
//!
//! Value = `scale * code + offset`. Codes are made unsigned by moving the type's zero into the offset, which is what
//! integer dot instructions want. Used where speed is not the point: packing panels, and the scalar dot product.

use super::k_min::unpack_scales;
use super::{BLOCK, GgmlType, half_at};

/// 32 weights of one row.
pub(super) struct Group {
    pub codes: [u8; BLOCK],
    pub scales: [f32; 2],
    pub offsets: [f32; 2],
}

/// Says whether [`unpack`] knows the type.
pub(super) fn is_known(ty: GgmlType) -> bool {
    use GgmlType::{Q4_0, Q4_1, Q4_K, Q5_0, Q5_1, Q5_K, Q6_K, Q8_0};
    matches!(ty, Q4_0 | Q4_1 | Q5_0 | Q5_1 | Q8_0 | Q4_K | Q5_K | Q6_K)
}

/// Says whether the two halves of a group of this type have scales of their own.
pub(super) fn has_halves(ty: GgmlType) -> bool {
    ty == GgmlType::Q6_K
}

/// What a code of this type stands above zero when the offset is a multiple of the scale; zero for types with a minimum.
pub(super) fn zero_point(ty: GgmlType) -> f32 {
    match ty {
        GgmlType::Q4_0 => 8.0,
        GgmlType::Q5_0 => 16.0,
        GgmlType::Q6_K => 32.0,
        GgmlType::Q8_0 => 128.0,
        _ => 0.0,
    }
}

fn nibbles(packed: &[u8]) -> [u8; BLOCK] {
    std::array::from_fn(|j| if j < 16 { packed[j] & 15 } else { packed[j - 16] >> 4 })
}

fn with_fifth(mut codes: [u8; BLOCK], high: &[u8]) -> [u8; BLOCK] {
    for (j, code) in codes.iter_mut().enumerate() {
        *code |= (high[j / 8] >> (j % 8) & 1) << 4;
    }
    codes
}

/// Decodes group `index` of a row. **Panics:** for a type that [`is_known`] does not know.
pub(super) fn unpack(ty: GgmlType, row: &[u8], index: usize) -> Group {
    let (block_index, sub) = (index * BLOCK / ty.block_size(), index * BLOCK % ty.block_size() / BLOCK);
    let block = &row[block_index * ty.block_bytes()..][..ty.block_bytes()];
    let (codes, scales, mins) = match ty {
        GgmlType::Q4_0 => (nibbles(&block[2..]), [half_at(block, 0); 2], 0.0),
        GgmlType::Q4_1 => (nibbles(&block[4..]), [half_at(block, 0); 2], half_at(block, 2)),
        GgmlType::Q5_0 => (
            with_fifth(nibbles(&block[6..]), &block[2..6]),
            [half_at(block, 0); 2],
            0.0,
        ),
        GgmlType::Q5_1 => (
            with_fifth(nibbles(&block[8..]), &block[4..8]),
            [half_at(block, 0); 2],
            half_at(block, 2),
        ),
        GgmlType::Q8_0 => (
            std::array::from_fn(|j| block[2 + j] ^ 0x80),
            [half_at(block, 0); 2],
            0.0,
        ),
        GgmlType::Q4_K | GgmlType::Q5_K => unpack_k_min(ty, block, sub),
        GgmlType::Q6_K => unpack_q6_k(block, sub),
        _ => unreachable!("callers ask `is_known` first"),
    };
    let zero = zero_point(ty);
    Group {
        codes,
        scales,
        offsets: if zero == 0.0 {
            [mins; 2]
        } else {
            scales.map(|scale| -zero * scale)
        },
    }
}

fn unpack_k_min(ty: GgmlType, block: &[u8], sub: usize) -> ([u8; BLOCK], [f32; 2], f32) {
    let (scales, mins) = unpack_scales(block[4..16].first_chunk().expect("twelve bytes"));
    let fifth = (ty == GgmlType::Q5_K).then(|| &block[16..48]);
    let low = &block[if fifth.is_some() { 48 } else { 16 } + 32 * (sub / 2)..][..32];
    let codes = std::array::from_fn(|j| {
        let nibble = low[j] >> (4 * (sub % 2)) & 15;
        nibble | fifth.map_or(0, |fifth| (fifth[j] >> sub & 1) << 4)
    });
    (
        codes,
        [half_at(block, 0) * f32::from(scales[sub]); 2],
        -(half_at(block, 2) * f32::from(mins[sub])),
    )
}

fn unpack_q6_k(block: &[u8], sub: usize) -> ([u8; BLOCK], [f32; 2], f32) {
    let (part, quarter) = (sub / 4, sub % 4);
    let low = &block[64 * part + 32 * (quarter % 2)..][..32];
    let high = &block[128 + 32 * part..][..32];
    let codes = std::array::from_fn(|j| (low[j] >> (4 * (quarter / 2)) & 15) | (high[j] >> (2 * quarter) & 3) << 4);
    let d = half_at(block, 208);
    let scales = [0, 1].map(|half| d * f32::from(block[192 + 2 * sub + half] as i8));
    (codes, scales, 0.0)
}
