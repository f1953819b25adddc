//! Where the codes and scales of a panel lie: what packing writes and the kernels read.

use super::GgmlType;

/// Rows of a panel.
pub(super) const ROWS: usize = 16;

/// How codes are stored in a panel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Codes {
    /// Four bits: vector `v` holds column groups `v` (low half) and `v + 4`.
    Four,
    /// Four bits, then eight 64-bit masks of the fifth bits.
    Five,
    /// Four bits, then two vectors of the upper two bits, column group `g` at bits `2 * (g % 4)` of vector `g / 4`.
    Six,
    /// One byte, column group after column group.
    Eight,
}

/// How scales are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heads {
    /// Per group: sixteen half-float scales.
    Scale,
    /// Per group: scales, then minima.
    ScaleMin,
    /// Per eight groups: factors of scales and of minima, then per group sixteen bytes of each.
    SuperMin,
    /// Per eight groups: factors, then per group sixteen signed bytes for each half.
    SuperHalves,
}

pub(super) const fn layout(ty: GgmlType) -> (Heads, Codes) {
    match ty {
        GgmlType::Q4_0 => (Heads::Scale, Codes::Four),
        GgmlType::Q5_0 => (Heads::Scale, Codes::Five),
        GgmlType::Q8_0 => (Heads::Scale, Codes::Eight),
        GgmlType::Q4_1 => (Heads::ScaleMin, Codes::Four),
        GgmlType::Q5_1 => (Heads::ScaleMin, Codes::Five),
        GgmlType::Q4_K => (Heads::SuperMin, Codes::Four),
        GgmlType::Q5_K => (Heads::SuperMin, Codes::Five),
        _ => (Heads::SuperHalves, Codes::Six),
    }
}

impl Codes {
    /// Cache lines per group.
    pub(super) const fn lines(self) -> usize {
        match self {
            Codes::Four => 4,
            Codes::Five => 5,
            Codes::Six => 6,
            Codes::Eight => 8,
        }
    }
}

impl Heads {
    /// Bytes for a panel of `groups` groups.
    pub(super) const fn bytes(self, groups: usize) -> usize {
        match self {
            Heads::Scale => 32 * groups,
            Heads::ScaleMin => 64 * groups,
            Heads::SuperMin => 40 * groups,
            Heads::SuperHalves => 36 * groups,
        }
    }
}

/// A cache line; keeps vectors aligned.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(super) struct Line(pub [u8; 64]);
