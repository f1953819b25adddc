//! Products with frozen weights: which precision path a product takes.

use crate::ctx::{Compute, Ctx, Write};
use crate::gemv::{self, GEMV_ROWS};
use crate::product::{Dense, Direction, Output, product};
use crate::weight::Weight;

/// How a product with a frozen weight is computed.
///
/// A row of the result depends on that row of the input and on the precision path only, never on the other rows or their number. So
/// whoever fixes the precision path gets the same bits for a row alone and in any batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PrecisionPath {
    /// By the number of rows: up to four are streamed, more are packed.
    #[default]
    ByRows,
    /// Reads the stored weight once, in `f32`, for any number of rows; weights with [`Weight::prepare_decode`] are
    /// multiplied as integers, with the row quantized to eight bits.
    Streamed,
    /// The packed product for any number of rows; quantized weights are decoded, or their packed copy is read.
    Packed,
    /// [`PrecisionPath::Packed`] in `f32` whatever is asked for.
    PackedF32,
}

/// `y[t, n] (+)= x[t, k] W^T`.
///
/// Up to four rows take the precision path that streams the stored weight once, in `f32` whatever `compute` is; quantized weights
/// are then multiplied as integers with the row quantized to eight bits. More rows take the packed product in `compute`.
///
/// A row of `y` depends on that row of `x` and on the precision path only, not on the other rows.
///
/// **Panics:** when lengths do not fit or `ctx` does not support `compute`.
pub fn linear(ctx: &Ctx, compute: Compute, x: &[f32], t: usize, w: &Weight, y: &mut [f32], write: Write) {
    linear_many(ctx, compute, x, t, &mut [(w, y)], write);
}

/// [`linear`] of one input with several weights of equal `k`: reads and packs `x` once, opens one parallel region.
pub fn linear_many(
    ctx: &Ctx,
    compute: Compute,
    x: &[f32],
    t: usize,
    outputs: &mut [(&Weight, &mut [f32])],
    write: Write,
) {
    linear_on(ctx, compute, PrecisionPath::ByRows, x, t, outputs, write);
}

/// [`linear_many`] on a given precision path.
///
/// **Panics:** as [`linear`].
pub fn linear_on(
    ctx: &Ctx,
    compute: Compute,
    precision_path: PrecisionPath,
    x: &[f32],
    t: usize,
    outputs: &mut [(&Weight, &mut [f32])],
    write: Write,
) {
    assert!(ctx.supports(compute), "this machine multiplies in the asked precision");
    let Some(k) = outputs.first().map(|(w, _)| w.k()) else {
        return;
    };
    assert!(x.len() == t * k, "x is [t, k]");
    for (w, y) in outputs.iter() {
        assert!(w.k() == k && y.len() == t * w.n(), "weights share k and y is [t, n]");
    }
    let is_streamed = match precision_path {
        PrecisionPath::ByRows => t <= GEMV_ROWS,
        PrecisionPath::Streamed => true,
        PrecisionPath::Packed | PrecisionPath::PackedF32 => false,
    };
    let compute = match precision_path {
        PrecisionPath::PackedF32 => Compute::F32,
        _ => compute,
    };
    if is_streamed {
        gemv::gemv(ctx, x, t, outputs, write);
        return;
    }
    let mut outputs: Vec<Output<'_>> = outputs
        .iter_mut()
        .map(|(w, y)| Output {
            source: w.source(compute, Direction::Forward),
            c_step: w.n(),
            c: y,
        })
        .collect();
    product(ctx, compute, &rows(x, t, k), &mut outputs, 1.0, write);
}

/// `dx[t, k] (+)= dy[t, n] W`.
///
/// **Panics:** when lengths do not fit or `ctx` does not support `compute`.
pub fn linear_backward_input(
    ctx: &Ctx,
    compute: Compute,
    dy: &[f32],
    t: usize,
    w: &Weight,
    dx: &mut [f32],
    write: Write,
) {
    assert!(ctx.supports(compute), "this machine multiplies in the asked precision");
    assert!(
        dy.len() == t * w.n() && dx.len() == t * w.k(),
        "dy is [t, n], dx is [t, k]"
    );
    let output = Output {
        source: w.source(compute, Direction::Backward),
        c: dx,
        c_step: w.k(),
    };
    product(ctx, compute, &rows(dy, t, w.n()), &mut [output], 1.0, write);
}

fn rows(values: &[f32], t: usize, width: usize) -> Dense<'_> {
    Dense {
        rows: t,
        columns: width,
        values,
        row_step: width,
        column_step: 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Bytes;
    use crate::ctx::Simd;
    use crate::quant::{GgmlType, quantize_row};
    use crate::reference;
    use crate::testing::{F32_SUM, INT8_SUM, SIZES, assert_near, assert_same_bits, contexts, sums, values};

    fn weight(ty: GgmlType, n: usize, k: usize, seed: u32) -> Weight {
        let plain = values(n * k, seed);
        let mut bytes = vec![0; ty.row_bytes(k).unwrap() * n];
        if ty.is_quantized() {
            for (row, out) in plain.chunks(k).zip(bytes.chunks_mut(ty.row_bytes(k).unwrap())) {
                quantize_row(ty, row, None, out).unwrap();
            }
        } else {
            for (x, out) in plain.iter().zip(bytes.chunks_mut(ty.block_bytes())) {
                match ty {
                    GgmlType::F32 => out.copy_from_slice(&x.to_le_bytes()),
                    GgmlType::BF16 => out.copy_from_slice(&half::bf16::from_f32(*x).to_le_bytes()),
                    _ => out.copy_from_slice(&half::f16::from_f32(*x).to_le_bytes()),
                }
            }
        }
        Weight::from_bytes(ty, n, k, Bytes::from_vec(bytes)).unwrap()
    }

    fn computes(ctx: &Ctx) -> impl Iterator<Item = Compute> + '_ {
        [Compute::F32, Compute::Bf16]
            .into_iter()
            .filter(|&compute| ctx.supports(compute))
    }

    fn check(ctx: &Ctx, w: &Weight, t: usize) {
        let (n, k) = (w.n(), w.k());
        let wide = reference::widen(&w.to_f32());
        let (x, dy) = (values(t * k, 7), values(t * n, 8));
        let y_wide = reference::linear(&reference::widen(&x), t, &wide, n, k);
        let dx_wide = reference::linear_backward_input(&reference::widen(&dy), t, &wide, n, k);
        for compute in computes(ctx) {
            let mut prepared = w.clone();
            prepared.prepare(ctx, compute, Direction::Forward);
            prepared.prepare(ctx, compute, Direction::Backward);
            for w in [w, &prepared] {
                let what = format!(
                    "{:?} {compute:?} {} bytes, [{n}, {k}] t {t}",
                    ctx.simd,
                    w.stored_bytes()
                );
                let (mut y, mut dx) = (vec![f32::NAN; t * n], vec![f32::NAN; t * k]);
                linear(ctx, compute, &x, t, w, &mut y, Write::Set);
                assert_near(&y, &y_wide, sums(compute), &what);
                linear_backward_input(ctx, compute, &dy, t, w, &mut dx, Write::Set);
                assert_near(&dx, &dx_wide, sums(compute), &what);
                let before = y.clone();
                linear(ctx, compute, &x, t, w, &mut y, Write::Add);
                let doubled: Vec<f64> = before.iter().map(|y| 2.0 * f64::from(*y)).collect();
                assert_near(&y, &doubled, F32_SUM, &what);
            }
        }
    }

    #[test]
    fn products_agree_with_the_twin_at_every_edge() {
        for ctx in contexts() {
            for &n in &SIZES {
                check(&ctx, &weight(GgmlType::F32, n, 33, 1), 5);
                check(&ctx, &weight(GgmlType::BF16, 17, n, 2), 13);
                check(&ctx, &weight(GgmlType::F16, 33, 31, 3), n);
            }
            check(&ctx, &weight(GgmlType::BF16, 70, 2000, 4), 25);
        }
    }

    #[test]
    fn every_storage_type_multiplies_in_both_directions() {
        for ctx in contexts() {
            for ty in GgmlType::ALL.into_iter().filter(|ty| *ty != GgmlType::Q8_K) {
                for t in [1, 3, 4, 5, 12] {
                    check(&ctx, &weight(ty, 67, 1024, 5), t);
                }
            }
        }
    }

    #[test]
    fn four_bit_normal_floats_multiply_in_both_directions() {
        for ctx in contexts() {
            for (n, k) in [(67, 1024), (40, 72), (5, 1600)] {
                let w = weight(GgmlType::BF16, n, k, 8).to_nf4(&ctx).unwrap();
                for t in [1, 4, 5, 12] {
                    check(&ctx, &w, t);
                    check_precision_path(&ctx, PrecisionPath::Streamed, &w, t);
                    check_precision_path(&ctx, PrecisionPath::Packed, &w, t);
                }
            }
        }
    }

    #[test]
    fn packed_integers_serve_few_rows() {
        for ctx in contexts() {
            for ty in GgmlType::ALL.into_iter().filter(|ty| *ty != GgmlType::Q8_K) {
                let mut w = weight(ty, 67, 1024, 6);
                let has_integers = w.prepare_decode(&ctx);
                assert!(
                    has_integers
                        || !ty.is_quantized()
                        || matches!(
                            ty,
                            GgmlType::Q2_K | GgmlType::Q3_K | GgmlType::IQ4_NL | GgmlType::IQ4_XS
                        ),
                    "{ty}"
                );
                for t in 1..=GEMV_ROWS {
                    let x = values(t * w.k(), 7);
                    let wide = reference::linear(&reference::widen(&x), t, &reference::widen(&w.to_f32()), 67, 1024);
                    let mut y = vec![f32::NAN; t * 67];
                    linear(&ctx, Compute::F32, &x, t, &w, &mut y, Write::Set);
                    assert_near(&y, &wide, INT8_SUM, &format!("{:?} {ty} t {t}", ctx.simd));
                }
            }
        }
    }

    #[test]
    fn results_do_not_depend_on_threads_or_neighbors() {
        for simd in Simd::ALL.into_iter().filter(|&simd| simd <= Simd::detect()) {
            let w = weight(GgmlType::BF16, 300, 900, 9);
            let t = 77;
            let (x, dy) = (values(t * 900, 10), values(t * 300, 11));
            let mut expected: [Option<[Vec<f32>; 3]>; 2] = [None, None];
            for threads in [1, 2, 3, 5] {
                let ctx = Ctx::new(threads, simd);
                for compute in computes(&ctx) {
                    let (mut y, mut dx) = (vec![0.0; t * 300], vec![0.0; t * 900]);
                    linear(&ctx, compute, &x, t, &w, &mut y, Write::Set);
                    linear_backward_input(&ctx, compute, &dy, t, &w, &mut dx, Write::Set);
                    let mut few = vec![0.0; 6 * 300];
                    linear(&ctx, compute, &x[9 * 900..15 * 900], 6, &w, &mut few, Write::Set);
                    assert_same_bits(&few, &y[9 * 300..15 * 300], "six rows of many");
                    let mut one = vec![0.0; 300];
                    linear(&ctx, compute, &x[..900], 1, &w, &mut one, Write::Set);
                    let found = [y, dx, one];
                    let expected = expected[compute as usize].get_or_insert_with(|| found.clone());
                    for (found, expected) in found.iter().zip(expected) {
                        assert_same_bits(found, expected, &format!("{simd:?} {compute:?}, {threads} threads"));
                    }
                }
            }
        }
    }

    /// Products on one precision path: rows together, and each alone.
    fn check_precision_path(ctx: &Ctx, precision_path: PrecisionPath, w: &Weight, t: usize) {
        let (n, k) = (w.n(), w.k());
        let x = values(t * k, 12);
        let run = |x: &[f32], t: usize| {
            let mut y = vec![f32::NAN; t * n];
            linear_on(ctx, Compute::F32, precision_path, x, t, &mut [(w, &mut y)], Write::Set);
            y
        };
        let together = run(&x, t);
        let alone: Vec<f32> = x.chunks_exact(k).flat_map(|row| run(row, 1)).collect();
        let what = format!(
            "{:?} {precision_path:?} {} bytes, [{n}, {k}] t {t}",
            ctx.simd,
            w.stored_bytes()
        );
        assert_same_bits(&together, &alone, &what);
        let wide = reference::linear(&reference::widen(&x), t, &reference::widen(&w.to_f32()), n, k);
        let is_integer = precision_path == PrecisionPath::Streamed && w.decode_panels().is_some();
        let tolerance = if is_integer { INT8_SUM } else { F32_SUM };
        assert_near(&together, &wide, tolerance, &what);
    }

    #[test]
    fn on_a_precision_path_a_row_alone_has_the_bits_of_the_row_in_a_batch() {
        for ctx in contexts() {
            for ty in GgmlType::ALL.into_iter().filter(|ty| *ty != GgmlType::Q8_K) {
                let stored = weight(ty, 67, 1024, 13);
                let (mut decoding, mut packed) = (stored.clone(), stored.clone());
                let _ = decoding.prepare_decode(&ctx);
                packed.prepare(&ctx, Compute::F32, Direction::Forward);
                for t in [1, 2, 4, 5, 8, 9, 17] {
                    for precision_path in [PrecisionPath::Streamed, PrecisionPath::Packed] {
                        for w in [&stored, &decoding, &packed] {
                            check_precision_path(&ctx, precision_path, w, t);
                        }
                    }
                }
            }
            for (n, k) in [(1, 1), (3, 33), (130, 70), (5, 1023)] {
                for ty in [GgmlType::F32, GgmlType::BF16, GgmlType::F16] {
                    for precision_path in [PrecisionPath::Streamed, PrecisionPath::Packed] {
                        check_precision_path(&ctx, precision_path, &weight(ty, n, k, 14), 11);
                    }
                }
            }
        }
    }

    #[test]
    fn several_weights_at_once_equal_one_after_the_other() {
        for ctx in contexts() {
            let weights = [
                weight(GgmlType::F32, 40, 64, 1),
                weight(GgmlType::F16, 8, 64, 2),
                weight(GgmlType::Q8_0, 33, 64, 3),
            ];
            for t in [1, 4, 20] {
                let x = values(t * 64, 4);
                let mut many: Vec<Vec<f32>> = weights.iter().map(|w| vec![0.0; t * w.n()]).collect();
                let mut outputs: Vec<(&Weight, &mut [f32])> =
                    weights.iter().zip(many.iter_mut().map(|y| &mut y[..])).collect();
                linear_many(&ctx, Compute::F32, &x, t, &mut outputs, Write::Set);
                for (w, many) in weights.iter().zip(&many) {
                    let mut y = vec![0.0; t * w.n()];
                    linear(&ctx, Compute::F32, &x, t, w, &mut y, Write::Set);
                    assert_same_bits(&y, many, "one of several");
                }
            }
        }
    }
}
