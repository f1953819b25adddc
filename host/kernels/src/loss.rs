//! Losses over rows of logits: cross-entropy and the divergence from a stored distribution, with their gradients.

use crate::ctx::Ctx;
use crate::lanes::{exp, max, per_simd, sum, tanh};
use crate::pool::Disjoint;

/// What one row of logits is compared with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RowTarget<'a> {
    /// The token that should have come: loss `-log q(token)`.
    Token(u32),
    /// A stored distribution: loss `KL(stored || q)`. What the listed probabilities leave of 1 is one lumped bucket,
    /// compared with all the mass that `q` puts on tokens that are not listed.
    TopK {
        /// Distinct tokens.
        ids: &'a [u32],
        /// Their probabilities.
        probs: &'a [f32],
    },
}

/// Replaces each row of raw logits by `weight * d loss / d logits` and returns the unweighted losses.
///
/// With `softcap`, the model's logits are `cap * tanh(raw / cap)` and the gradient is that of the raw ones.
///
/// **Shapes:** `logits` `[rows, vocab]`, `targets`, `weights`, `losses` `[rows]`.
/// **Panics:** when a token is not below `vocab`.
pub fn loss_rows(
    ctx: &Ctx,
    logits: &mut [f32],
    vocab: usize,
    softcap: Option<f32>,
    targets: &[RowTarget<'_>],
    weights: &[f32],
    losses: &mut [f32],
) {
    let rows = targets.len();
    assert!(
        logits.len() == rows * vocab && weights.len() == rows && losses.len() == rows,
        "logits are [rows, vocab], one target, weight and loss per row"
    );
    let losses = Disjoint::new(losses);
    ctx.pool.run_chunks(logits, vocab.max(1), |row, logits| {
        // SAFETY: every task owns its row.
        let loss = unsafe { losses.range(row, 1) };
        loss[0] = match targets[row] {
            RowTarget::Token(token) => token_row(ctx.simd, logits, softcap, token as usize, weights[row]),
            RowTarget::TopK { ids, probs } => top_row(ctx.simd, logits, softcap, ids, probs, weights[row]),
        };
    });
}

/// Returns `log q(token)` of each row of raw logits.
///
/// **Shapes:** `logits` `[rows, vocab]`, `tokens`, `out` `[rows]`.
pub fn logprob_rows(ctx: &Ctx, logits: &[f32], vocab: usize, softcap: Option<f32>, tokens: &[u32], out: &mut [f32]) {
    assert!(
        logits.len() == tokens.len() * vocab && out.len() == tokens.len(),
        "logits are [rows, vocab], one token and result per row"
    );
    ctx.pool.run_chunks(out, 1, |row, out| {
        let logits = &logits[row * vocab..][..vocab];
        out[0] = logprob_row(ctx.simd, logits, softcap, tokens[row] as usize);
    });
}

#[inline(always)]
fn cap<const FUSED: bool>(z: f32, softcap: Option<f32>) -> f32 {
    match softcap {
        Some(cap) => cap * tanh::<FUSED>(z / cap),
        None => z,
    }
}

#[inline(always)]
fn cap_row<const FUSED: bool>(logits: &mut [f32], softcap: Option<f32>) {
    if softcap.is_some() {
        for z in logits {
            *z = cap::<FUSED>(*z, softcap);
        }
    }
}

#[inline(always)]
fn logprob_body<const FUSED: bool>(logits: &[f32], softcap: Option<f32>, token: usize) -> f32 {
    // The cap is monotonous, so the largest raw logit is the largest capped one.
    let top = cap::<FUSED>(max(logits), softcap);
    let total = sum(logits, |sum, z| sum + exp::<FUSED>(cap::<FUSED>(z, softcap) - top));
    cap::<FUSED>(logits[token], softcap) - top - total.ln()
}

per_simd!(fn logprob_row(logits: &[f32], softcap: Option<f32>, token: usize) -> f32 => logprob_body);

/// Replaces capped logits by `e^(z - top)` and returns the sum; with a cap the logits stay, because its slope needs them.
#[inline(always)]
fn exponentials<const FUSED: bool>(logits: &mut [f32], top: f32, keep_logits: bool) -> f32 {
    if keep_logits {
        return sum(logits, |sum, z| sum + exp::<FUSED>(z - top));
    }
    for z in logits.iter_mut() {
        *z = exp::<FUSED>(*z - top);
    }
    sum(logits, |sum, e| sum + e)
}

/// Turns what [`exponentials`] left into `factor * e^(z - top)`, times the slope of the cap.
#[inline(always)]
fn gradients<const FUSED: bool>(logits: &mut [f32], top: f32, softcap: Option<f32>, factor: f32) {
    match softcap {
        Some(cap) => {
            for z in logits {
                *z = factor * exp::<FUSED>(*z - top) * slope(*z, cap);
            }
        }
        None => {
            for z in logits {
                *z *= factor;
            }
        }
    }
}

/// The slope of the cap at a capped value.
#[inline(always)]
fn slope(capped: f32, cap: f32) -> f32 {
    let ratio = capped / cap;
    1.0 - ratio * ratio
}

#[inline(always)]
fn token_body<const FUSED: bool>(logits: &mut [f32], softcap: Option<f32>, token: usize, weight: f32) -> f32 {
    cap_row::<FUSED>(logits, softcap);
    let top = max(logits);
    let target = logits[token];
    let total = exponentials::<FUSED>(logits, top, softcap.is_some());
    gradients::<FUSED>(logits, top, softcap, weight / total);
    logits[token] -= weight * softcap.map_or(1.0, |cap| slope(target, cap));
    total.ln() - (target - top)
}

per_simd!(
    fn token_row(logits: &mut [f32], softcap: Option<f32>, token: usize, weight: f32) -> f32 => token_body
);

/// With `P` the listed mass, `r = 1 - P` the rest of the stored distribution and `R` the model's mass outside the list:
/// the loss is `sum p log(p / q) + r log(r / R)`, its gradient `q - p` on the list and `q (1 - r / R)` outside.
#[inline(always)]
fn top_body<const FUSED: bool>(
    logits: &mut [f32],
    softcap: Option<f32>,
    ids: &[u32],
    probs: &[f32],
    weight: f32,
) -> f32 {
    assert_eq!(ids.len(), probs.len(), "one probability per listed token");
    cap_row::<FUSED>(logits, softcap);
    let top = max(logits);
    let listed: Vec<f32> = ids.iter().map(|&id| logits[id as usize]).collect();
    // The rest is summed without the list, not as a difference: it may be tiny.
    for &id in ids {
        logits[id as usize] = f32::NEG_INFINITY;
    }
    let rest_sum = f64::from(exponentials::<FUSED>(logits, top, softcap.is_some()));
    let listed_sum: f64 = listed.iter().map(|z| f64::from(z - top).exp()).sum();
    let total = rest_sum + listed_sum;
    let mass: f64 = probs.iter().map(|&p| f64::from(p)).sum();
    let rest = (1.0 - mass).max(0.0);
    let log_total = f64::from(top) + total.ln();
    let (mut loss, mut pull) = (0.0, mass + rest);
    if rest > 0.0 {
        let model_rest = rest_sum / total;
        loss += rest * (rest / model_rest).ln();
        pull -= rest / model_rest;
    }
    let factor = (f64::from(weight) * pull / total) as f32;
    gradients::<FUSED>(logits, top, softcap, factor);
    for ((&id, &p), &z) in ids.iter().zip(probs).zip(&listed) {
        let (p, log_q) = (f64::from(p), f64::from(z) - log_total);
        if p > 0.0 {
            loss += p * (p.ln() - log_q);
        }
        let gradient = f64::from(weight) * (log_q.exp() * (mass + rest) - p);
        logits[id as usize] = gradient as f32 * softcap.map_or(1.0, |cap| slope(z, cap));
    }
    loss as f32
}

per_simd!(
    fn top_row(logits: &mut [f32], softcap: Option<f32>, ids: &[u32], probs: &[f32], weight: f32) -> f32 => top_body
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::{self, widen};
    use crate::testing::{DIFFERENCES, ELEMENTWISE, SIZES, assert_gradient, assert_near, contexts, values};

    const CAPS: [Option<f32>; 2] = [None, Some(6.0)];

    fn logits(len: usize, seed: u32) -> Vec<f32> {
        values(len, seed).iter().map(|x| 8.0 * x).collect()
    }

    fn check(ctx: &Ctx, vocab: usize, targets: &[RowTarget<'_>], softcap: Option<f32>) {
        let rows = targets.len();
        let raw = logits(rows * vocab, 1);
        let weights = values(rows, 2);
        let (mut found, mut losses) = (raw.clone(), vec![0.0; rows]);
        loss_rows(ctx, &mut found, vocab, softcap, targets, &weights, &mut losses);
        for (row, target) in targets.iter().enumerate() {
            let wide = widen(&raw[row * vocab..][..vocab]);
            let (loss, gradient) = reference::loss_row(&wide, softcap.map(f64::from), target);
            let weighted: Vec<f64> = gradient.iter().map(|g| g * f64::from(weights[row])).collect();
            let what = format!("{:?} vocab {vocab} {target:?} {softcap:?}", ctx.simd);
            assert_near(&losses[row..=row], &[loss], ELEMENTWISE, &what);
            assert_near(&found[row * vocab..][..vocab], &weighted, ELEMENTWISE, &what);
            if let RowTarget::Token(token) = *target {
                let mut logprob = [0.0];
                logprob_rows(
                    ctx,
                    &raw[row * vocab..][..vocab],
                    vocab,
                    softcap,
                    &[token],
                    &mut logprob,
                );
                assert_near(&logprob, &[-loss], ELEMENTWISE, &what);
            }
        }
    }

    #[test]
    fn losses_and_gradients_agree_with_the_twin() {
        for ctx in contexts() {
            for softcap in CAPS {
                for vocab in SIZES.into_iter().chain([49152]) {
                    let last = vocab as u32 - 1;
                    check(&ctx, vocab, &[RowTarget::Token(0), RowTarget::Token(last)], softcap);
                    if vocab >= 5 {
                        let partial = RowTarget::TopK {
                            ids: &[3, 0, last],
                            probs: &[0.5, 0.2, 0.1],
                        };
                        let whole = RowTarget::TopK {
                            ids: &[1, last],
                            probs: &[0.75, 0.25],
                        };
                        let zero = RowTarget::TopK {
                            ids: &[2, 4],
                            probs: &[0.0, 0.9],
                        };
                        check(&ctx, vocab, &[partial, whole, zero], softcap);
                    }
                }
            }
        }
    }

    #[test]
    fn the_gradients_are_the_slopes() {
        let x = widen(&logits(12, 5));
        let targets = [
            RowTarget::Token(3),
            RowTarget::TopK {
                ids: &[7, 2],
                probs: &[0.5, 0.25],
            },
            RowTarget::TopK {
                ids: &[7, 2],
                probs: &[0.5, 0.5],
            },
        ];
        for target in &targets {
            for softcap in [None, Some(6.0)] {
                let (_, gradient) = reference::loss_row(&x, softcap, target);
                assert_gradient(&x, &gradient, DIFFERENCES, "loss", |x| {
                    reference::loss_row(x, softcap, target).0
                });
            }
        }
    }

    #[test]
    fn divergence_from_itself_is_zero() {
        let ctx = Ctx::new(1, crate::Simd::detect());
        let raw = logits(10, 6);
        let total: f64 = raw.iter().map(|z| f64::from(*z).exp()).sum();
        let probs: Vec<f32> = raw[..4].iter().map(|z| (f64::from(*z).exp() / total) as f32).collect();
        let target = RowTarget::TopK {
            ids: &[0, 1, 2, 3],
            probs: &probs,
        };
        let (mut found, mut losses) = (raw.clone(), [0.0]);
        loss_rows(&ctx, &mut found, 10, None, &[target], &[1.0], &mut losses);
        assert_near(&losses, &[0.0], ELEMENTWISE, "loss");
        assert_near(&found, &[0.0; 10], ELEMENTWISE, "gradient");
    }

    #[test]
    fn a_logit_that_is_no_number_shows_in_the_loss() {
        for ctx in contexts() {
            let (mut raw, mut losses) = (logits(40, 7), [0.0]);
            raw[17] = f32::NAN;
            loss_rows(&ctx, &mut raw, 40, None, &[RowTarget::Token(1)], &[1.0], &mut losses);
            assert!(losses[0].is_nan());
        }
    }
}
