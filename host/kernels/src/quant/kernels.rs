//! The inner loops over a panel: scalar, AVX2 and AVX-512 with VNNI.
//!
//! Invariants: per output one accumulator, groups in order, for every group first `scale * scale_x` times the integer
//! sum and then `offset * sum_x`, both fused; so every version gives the same bits.

use super::activation::Activation;
use super::lanes::Level;
use super::layout::{Codes, Heads, Line, ROWS, layout};
use super::{BLOCK, GgmlType, half_at};

/// Tokens that share one pass over a panel: as many accumulators and sums as fit in 32 registers.
pub(super) const TOKENS: usize = 8;

/// One panel and the activations to multiply it with.
pub(super) struct Job<'a> {
    pub groups: usize,
    /// What codes stand above zero, for types without minima.
    pub zero: f32,
    pub heads: &'a [u8],
    pub lines: &'a [Line],
    pub activation: &'a Activation,
}

/// Multiplies a panel with `sums.len()` activations from row `first` on.
pub(super) fn multiply(level: Level, ty: GgmlType, job: &Job<'_>, first: usize, sums: &mut [[f32; ROWS]]) {
    assert!(
        (first + sums.len()) * job.groups <= job.activation.scales.len(),
        "rows that the activation has"
    );
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        if level == Level::Avx512 && has!("avx512vnni") && has!("avx512bw") {
            x86::multiply_vnni(ty, job, first, sums);
            return;
        }
        if level >= Level::Avx2 && has!("avx2") && has!("fma") && has!("f16c") {
            x86::multiply_avx2(ty, job, first, sums);
            return;
        }
    }
    let _ = level;
    for (i, sums) in sums.iter_mut().enumerate() {
        multiply_scalar(ty, job, first + i, sums);
    }
}

/// The scales and offsets of one group for the sixteen rows; two sets for types whose halves differ.
struct GroupHead {
    scales: [[f32; ROWS]; 2],
    offsets: [[f32; ROWS]; 2],
}

fn head_of(layout: Heads, zero: f32, heads: &[u8], group: usize) -> GroupHead {
    let halves = |at: usize| -> [f32; ROWS] { std::array::from_fn(|lane| half_at(heads, at + 2 * lane)) };
    match layout {
        Heads::Scale => {
            let scales = halves(32 * group);
            GroupHead {
                scales: [scales; 2],
                offsets: [scales.map(|scale| -zero * scale); 2],
            }
        }
        Heads::ScaleMin => GroupHead {
            scales: [halves(64 * group); 2],
            offsets: [halves(64 * group + 32); 2],
        },
        Heads::SuperMin => {
            let (start, sub) = (layout.bytes(group / 8 * 8), group % 8);
            let (d, d_min) = (halves(start), halves(start + 32));
            let scales = std::array::from_fn(|lane| d[lane] * f32::from(heads[start + 64 + 32 * sub + lane]));
            let offsets = std::array::from_fn(|lane| -(d_min[lane] * f32::from(heads[start + 80 + 32 * sub + lane])));
            GroupHead {
                scales: [scales; 2],
                offsets: [offsets; 2],
            }
        }
        Heads::SuperHalves => {
            let (start, sub) = (layout.bytes(group / 8 * 8), group % 8);
            let d = halves(start);
            let scales = [0, 1].map(|half| {
                std::array::from_fn(|lane| d[lane] * f32::from(heads[start + 32 + 32 * sub + 16 * half + lane] as i8))
            });
            GroupHead {
                scales,
                offsets: scales.map(|scales: [f32; ROWS]| scales.map(|scale| -zero * scale)),
            }
        }
    }
}

fn code_at(layout: Codes, lines: &[Line], column: usize, at: usize) -> u8 {
    if layout == Codes::Eight {
        return lines[column].0[at];
    }
    let low = lines[column % 4].0[at] >> (4 * (column / 4)) & 15;
    match layout {
        Codes::Five => low | (lines[4].0[8 * column + at / 8] >> (at % 8) & 1) << 4,
        Codes::Six => low | (lines[4 + column / 4].0[at] >> (2 * (column % 4)) & 3) << 4,
        Codes::Four | Codes::Eight => low,
    }
}

fn multiply_scalar(ty: GgmlType, job: &Job<'_>, token: usize, sums: &mut [f32; ROWS]) {
    let (heads, codes) = layout(ty);
    sums.fill(0.0);
    for group in 0..job.groups {
        let head = head_of(heads, job.zero, job.heads, group);
        let lines = &job.lines[group * codes.lines()..][..codes.lines()];
        let at = token * job.groups + group;
        let x = &job.activation.codes[at * BLOCK..][..BLOCK];
        let scale = job.activation.scales[at];
        for (lane, sum) in sums.iter_mut().enumerate() {
            let mut dots = [0i32; 2];
            for (j, x) in x.iter().enumerate() {
                dots[j / 16] += i32::from(code_at(codes, lines, j / 4, 4 * lane + j % 4)) * i32::from(*x);
            }
            if heads == Heads::SuperHalves {
                for (half, dot) in dots.iter().enumerate() {
                    *sum = (head.scales[half][lane] * scale).mul_add(*dot as f32, *sum);
                    *sum = head.offsets[half][lane].mul_add(job.activation.half_sums[2 * at + half], *sum);
                }
            } else {
                *sum = (head.scales[0][lane] * scale).mul_add((dots[0] + dots[1]) as f32, *sum);
                *sum = head.offsets[0][lane].mul_add(job.activation.sums[at], *sum);
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86;
