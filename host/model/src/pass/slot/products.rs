//! Products with the factors of an adapter, whose rows may lie further apart than they are long.

use dlm_kernels::{Ctx, GemmArgs, gemm};

/// `c[m, n] = alpha a[m, k] b[n, k]^T + beta c`.
#[expect(clippy::too_many_arguments, reason = "a product with its factors")]
pub(super) fn times_transposed(
    ctx: &Ctx,
    alpha: f32,
    [m, n, k]: [usize; 3],
    a: &[f32],
    rsa: usize,
    b: &[f32],
    beta: f32,
    c: &mut [f32],
) {
    let args = GemmArgs {
        m,
        n,
        k,
        a,
        rsa,
        csa: 1,
        b,
        rsb: 1,
        csb: k,
        c,
        rsc: n,
        alpha,
        beta,
    };
    gemm(ctx, args);
}

/// `c[m, n] = alpha a[m, k] b[k, n] + beta c`, where rows of `a` lie `stride` apart.
pub(super) fn times(
    ctx: &Ctx,
    [m, n, k]: [usize; 3],
    (a, stride): (&[f32], usize),
    b: &[f32],
    [alpha, beta]: [f32; 2],
    c: &mut [f32],
) {
    let args = GemmArgs {
        m,
        n,
        k,
        a,
        rsa: stride,
        csa: 1,
        b,
        rsb: n,
        csb: 1,
        c,
        rsc: n,
        alpha,
        beta,
    };
    gemm(ctx, args);
}

/// `c[m, n] += alpha a[t, m]^T b[t, n]`, rows of `a` and `b` `stride` apart.
#[expect(clippy::too_many_arguments, reason = "a product with its factors and strides")]
pub(super) fn transposed_times(
    ctx: &Ctx,
    alpha: f32,
    [m, n, t]: [usize; 3],
    a: &[f32],
    stride_a: usize,
    b: &[f32],
    stride_b: usize,
    c: &mut [f32],
    rsc: usize,
) {
    let args = GemmArgs {
        m,
        n,
        k: t,
        a,
        rsa: 1,
        csa: stride_a,
        b,
        rsb: stride_b,
        csb: 1,
        c,
        rsc,
        alpha,
        beta: 1.0,
    };
    gemm(ctx, args);
}
