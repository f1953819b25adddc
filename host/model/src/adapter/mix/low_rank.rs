//! The nearest product of a given rank to `B A`, without the dense matrix.
//!
//! With thin QR of `B` and of `Aᵀ`, `B A = Q_b (R_b R_aᵀ) Q_aᵀ`; the singular values of the small core are those of the product.
//! Invariants: everything in `f64` and in one order, so the same input gives the same bytes.
//! **Source:** `spec/export.md` section 10; one-sided Jacobi as in Golub and Van Loan, *Matrix Computations*, 8.6.3.

/// Two columns are at right angles below this cosine.
const COSINE_MIN: f64 = 1e-14;
/// Jacobi settles in some ten rounds.
const ROUNDS_MAX: usize = 60;

type Columns = Vec<Vec<f64>>;

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Makes the columns orthonormal, those that others give already zero; returns the triangle: of each column its part of every one.
///
/// Each column is projected twice, which is as good as Householder's reflections.
fn orthonormal(columns: &mut Columns) -> Columns {
    let mut triangle = vec![vec![0.0; columns.len()]; columns.len()];
    for (j, parts) in triangle.iter_mut().enumerate() {
        let (before, rest) = columns.split_at_mut(j);
        let column = &mut rest[0];
        let length = dot(column, column).sqrt();
        for _ in 0..2 {
            for (i, other) in before.iter().enumerate() {
                let part = dot(other, column);
                parts[i] += part;
                column.iter_mut().zip(other).for_each(|(x, o)| *x -= part * o);
            }
        }
        let left = dot(column, column).sqrt();
        // What rounding leaves of a dependent column has no direction.
        let norm = if left > COSINE_MIN * length { left } else { 0.0 };
        parts[j] = norm;
        let inverse = if norm > 0.0 { 1.0 / norm } else { 0.0 };
        column.iter_mut().for_each(|x| *x *= inverse);
    }
    triangle
}

/// Turns the columns of a square matrix until they are at right angles: returns `U S` and `V`, largest first.
fn singular(mut core: Columns) -> (Columns, Columns) {
    let size = core.len();
    let mut turned: Columns = (0..size)
        .map(|j| (0..size).map(|i| f64::from(u8::from(i == j))).collect())
        .collect();
    for _ in 0..ROUNDS_MAX {
        let mut is_settled = true;
        for p in 0..size {
            for q in p + 1..size {
                let (alpha, beta, gamma) = (
                    dot(&core[p], &core[p]),
                    dot(&core[q], &core[q]),
                    dot(&core[p], &core[q]),
                );
                if gamma.abs() <= COSINE_MIN * (alpha * beta).sqrt() {
                    continue;
                }
                is_settled = false;
                let zeta = (beta - alpha) / (2.0 * gamma);
                let tangent = zeta.signum() / (zeta.abs() + (1.0 + zeta * zeta).sqrt());
                let cosine = 1.0 / (1.0 + tangent * tangent).sqrt();
                turn(&mut core, (p, q), cosine, cosine * tangent);
                turn(&mut turned, (p, q), cosine, cosine * tangent);
            }
        }
        if is_settled {
            break;
        }
    }
    let mut order: Vec<usize> = (0..size).collect();
    let lengths: Vec<f64> = core.iter().map(|column| dot(column, column)).collect();
    order.sort_by(|a, b| lengths[*b].total_cmp(&lengths[*a]));
    let sorted = |columns: &Columns| order.iter().map(|at| columns[*at].clone()).collect();
    (sorted(&core), sorted(&turned))
}

fn turn(columns: &mut Columns, (p, q): (usize, usize), cosine: f64, sine: f64) {
    let (left, right) = columns.split_at_mut(q);
    for (x, y) in left[p].iter_mut().zip(&mut right[0]) {
        (*x, *y) = (cosine * *x - sine * *y, sine * *x + cosine * *y);
    }
}

/// The sum of the columns with these factors.
fn combined(columns: &Columns, factors: &[f64]) -> Vec<f32> {
    let mut sum = vec![0.0f64; columns.first().map_or(0, Vec::len)];
    for (column, factor) in columns.iter().zip(factors) {
        sum.iter_mut().zip(column).for_each(|(sum, x)| *sum += factor * x);
    }
    sum.into_iter().map(|x| x as f32).collect()
}

/// Returns the columns of `B'` (`U S`) and the rows of `A'` (`Vᵀ`), at most `r` of each, whose product is nearest to that of
/// `b` (columns) and `a` (rows).
pub(super) fn nearest(mut b: Columns, mut a: Columns, r: usize) -> Vec<(Vec<f32>, Vec<f32>)> {
    let (of_b, of_a) = (orthonormal(&mut b), orthonormal(&mut a));
    let size = b.len();
    // Column j of `R_b R_aᵀ`: the columns of `R_b`, each as often as `R_aᵀ` has it there.
    let core = (0..size).map(|j| {
        (0..size)
            .map(|i| (0..size).map(|l| of_b[l][i] * of_a[l][j]).sum())
            .collect()
    });
    let (left, right) = singular(core.collect());
    let pairs = left.iter().zip(&right).take(r);
    pairs
        .map(|(left, right)| (combined(&b, left), combined(&a, right)))
        .collect()
}
