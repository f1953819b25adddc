//! Small dense `f32` products with any strides, for the adapters.

use crate::ctx::Ctx;

/// `C[m, n] = alpha A[m, k] B[k, n] + beta C`; element `(i, j)` of a factor lies at `i * rs + j * cs`.
///
/// A transposed factor is the same slice with its strides exchanged.
#[derive(Debug)]
pub struct GemmArgs<'a> {
    /// Rows of `C`.
    pub m: usize,
    /// Columns of `C`.
    pub n: usize,
    /// Length of the sums.
    pub k: usize,
    /// Left factor.
    pub a: &'a [f32],
    /// Distance between rows of `a`.
    pub rsa: usize,
    /// Distance between columns of `a`.
    pub csa: usize,
    /// Right factor.
    pub b: &'a [f32],
    /// Distance between rows of `b`.
    pub rsb: usize,
    /// Distance between columns of `b`.
    pub csb: usize,
    /// Result; its columns are contiguous.
    pub c: &'a mut [f32],
    /// Distance between rows of `c`.
    pub rsc: usize,
    /// Factor of the product.
    pub alpha: f32,
    /// Factor of what was in `c`; with 0 it is overwritten, even if it was NaN.
    pub beta: f32,
}

/// Computes a product of strided matrices.
pub fn gemm(_ctx: &Ctx, args: GemmArgs<'_>) {
    for i in 0..args.m {
        for j in 0..args.n {
            let sum: f64 = (0..args.k)
                .map(|p| {
                    f64::from(args.a[i * args.rsa + p * args.csa]) * f64::from(args.b[p * args.rsb + j * args.csb])
                })
                .sum();
            let c = &mut args.c[i * args.rsc + j];
            let old = if args.beta == 0.0 { 0.0 } else { args.beta * *c };
            *c = args.alpha * sum as f32 + old;
        }
    }
}
