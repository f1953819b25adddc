//! Losses over rows of logits: cross-entropy and the divergence from a stored distribution, with their gradients.

use crate::ctx::Ctx;
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
        let wide = crate::reference::widen(logits);
        let (loss, grad) = crate::reference::loss_row(&wide, softcap.map(f64::from), &targets[row]);
        // SAFETY: every task owns its row.
        let slot = unsafe { losses.range(row, 1) };
        slot[0] = loss as f32;
        for (logit, grad) in logits.iter_mut().zip(grad) {
            *logit = grad as f32 * weights[row];
        }
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
        let wide = crate::reference::widen(&logits[row * vocab..][..vocab]);
        let target = RowTarget::Token(tokens[row]);
        out[0] = -crate::reference::loss_row(&wide, softcap.map(f64::from), &target).0 as f32;
    });
}
