//! Small dense `f32` products with any strides, for the adapters.

use crate::ctx::{Compute, Ctx, Write};
use crate::product::{Dense, Output, Source, product};

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
///
/// **Panics:** when a factor or the result does not hold its shape, or rows of `c` overlap.
pub fn gemm(ctx: &Ctx, args: GemmArgs<'_>) {
    let GemmArgs { m, n, k, .. } = args;
    if m == 0 || n == 0 {
        return;
    }
    let inside = |len: usize, rows: usize, rs: usize, columns: usize, cs: usize| {
        rows == 0 || columns == 0 || (rows - 1) * rs + (columns - 1) * cs < len
    };
    assert!(
        inside(args.a.len(), m, args.rsa, k, args.csa),
        "the left factor is [m, k]"
    );
    assert!(
        inside(args.b.len(), k, args.rsb, n, args.csb),
        "the right factor is [k, n]"
    );
    assert!(inside(args.c.len(), m, args.rsc, n, 1), "the result is [m, n]");
    if args.beta != 0.0 && args.beta != 1.0 {
        for row in args.c.chunks_mut(args.rsc).take(m) {
            row[..n].iter_mut().for_each(|c| *c *= args.beta);
        }
    }
    let left = Dense {
        rows: m,
        columns: k,
        values: args.a,
        row_step: args.rsa,
        column_step: args.csa,
    };
    let right = Dense {
        rows: k,
        columns: n,
        values: args.b,
        row_step: args.rsb,
        column_step: args.csb,
    };
    let output = Output {
        source: Source::Dense(right),
        c: args.c,
        c_step: args.rsc,
    };
    let write = if args.beta == 0.0 { Write::Set } else { Write::Add };
    product(ctx, Compute::F32, &left, &mut [output], args.alpha, write);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{F32_SUM, SIZES, assert_near, contexts, values};

    fn check(ctx: &Ctx, (m, n, k): (usize, usize, usize), transposed: (bool, bool), alpha: f32, beta: f32) {
        let (a, b) = (values(m * k, 1), values(k * n, 2));
        let rsc = n + 3;
        let old = values(m * rsc, 3);
        let (rsa, csa) = if transposed.0 { (1, m) } else { (k, 1) };
        let (rsb, csb) = if transposed.1 { (1, k) } else { (n, 1) };
        let mut c = old.clone();
        if beta == 0.0 {
            for row in c.chunks_mut(rsc) {
                row[..n].fill(f32::NAN);
            }
        }
        let args = GemmArgs {
            m,
            n,
            k,
            a: &a,
            rsa,
            csa,
            b: &b,
            rsb,
            csb,
            c: &mut c,
            rsc,
            alpha,
            beta,
        };
        gemm(ctx, args);
        let expected: Vec<f64> = (0..m * rsc)
            .map(|at| {
                let (i, j) = (at / rsc, at % rsc);
                let before = f64::from(old[at]);
                if j >= n {
                    return before;
                }
                let sum: f64 = (0..k)
                    .map(|p| f64::from(a[i * rsa + p * csa]) * f64::from(b[p * rsb + j * csb]))
                    .sum();
                f64::from(alpha) * sum + if beta == 0.0 { 0.0 } else { f64::from(beta) * before }
            })
            .collect();
        assert_near(
            &c,
            &expected,
            F32_SUM,
            &format!("{:?} [{m}, {n}, {k}] {transposed:?}", ctx.simd),
        );
    }

    #[test]
    fn products_agree_with_the_formula_at_every_edge() {
        for ctx in contexts() {
            for &size in &SIZES {
                for transposed in [(false, false), (true, false), (false, true), (true, true)] {
                    check(&ctx, (size, 8, 33), transposed, 1.0, 0.0);
                    check(&ctx, (13, size, 8), transposed, 0.5, 1.0);
                    check(&ctx, (9, 17, size), transposed, -2.0, 0.25);
                }
            }
            check(&ctx, (5, 5, 0), (false, false), 1.0, 0.0);
        }
    }

    #[test]
    fn any_strides_are_served() {
        for ctx in contexts() {
            let (a, b) = (values(200, 1), values(400, 2));
            let mut c = vec![0.0; 7 * 6];
            gemm(
                &ctx,
                GemmArgs {
                    m: 7,
                    n: 6,
                    k: 5,
                    a: &a,
                    rsa: 3,
                    csa: 23,
                    b: &b,
                    rsb: 50,
                    csb: 7,
                    c: &mut c,
                    rsc: 6,
                    alpha: 1.0,
                    beta: 0.0,
                },
            );
            let expected: Vec<f64> = (0..42)
                .map(|at| {
                    (0..5)
                        .map(|p| f64::from(a[at / 6 * 3 + p * 23]) * f64::from(b[p * 50 + at % 6 * 7]))
                        .sum()
                })
                .collect();
            assert_near(&c, &expected, F32_SUM, "strided");
        }
    }
}
