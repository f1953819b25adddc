//! A mixture of experts in place of the feed-forward part.
//!
//! The router's logits choose the best experts of each row; their weights are the softmax over the chosen ones (which
//! equals the softmax over all, renormalized). Rows are gathered per expert, so an expert computes the rows that chose it
//! and no others. The router is frozen, the gradient runs through it to the rows.

use dlm_kernels::{Compute, Weight, Write, linear_backward_input, linear_on};

use super::Pass;
use super::gated::{self, GatedSaved};
use crate::arena::Buffer;

/// What the backward needs besides the input.
pub(crate) struct MoeSaved {
    experts: Vec<ExpertSaved>,
}

/// The rows of one expert.
struct ExpertSaved {
    expert: usize,
    /// Row and weight.
    rows: Vec<(usize, f32)>,
    /// Output before the weight.
    y: Buffer,
    dense: GatedSaved,
}

/// Lists per expert the rows that chose it, with their weights. Equal logits go to the lower expert.
fn route(pass: Pass<'_>, router: &Weight, x: &[f32], t: usize) -> Vec<Vec<(usize, f32)>> {
    let model = pass.model;
    let count = router.n();
    let per_token = model.config.experts.map_or(1, |experts| experts.per_token);
    let mut logits = model.arena.take(t * count);
    let outputs = &mut [(router, &mut logits[..])];
    linear_on(&model.ctx, Compute::F32, pass.precision_path, x, t, outputs, Write::Set);
    let mut chosen = vec![Vec::new(); count];
    let mut order: Vec<usize> = Vec::with_capacity(count);
    for (row, logits) in logits.chunks_exact(count).enumerate() {
        order.clear();
        order.extend(0..count);
        order.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]).then(a.cmp(b)));
        let best = &order[..per_token];
        let largest = logits[best[0]];
        let sum: f32 = best.iter().map(|expert| (logits[*expert] - largest).exp()).sum();
        for &expert in best {
            chosen[expert].push((row, (logits[expert] - largest).exp() / sum));
        }
    }
    chosen
}

fn gather(pass: Pass<'_>, x: &[f32], rows: &[(usize, f32)]) -> Buffer {
    let d = pass.model.config.d_model;
    let mut out = pass.model.arena.take(rows.len() * d);
    for (out, (row, _)) in out.chunks_exact_mut(d).zip(rows) {
        out.copy_from_slice(&x[row * d..][..d]);
    }
    out
}

/// Computes the weighted sum of each row's experts.
pub(crate) fn forward(pass: Pass<'_>, index: usize, router: &Weight, x: &[f32], t: usize) -> (Buffer, MoeSaved) {
    let d = pass.model.config.d_model;
    let mut y = pass.model.arena.take_zeroed(t * d);
    let mut experts = Vec::new();
    for (expert, rows) in route(pass, router, x, t).into_iter().enumerate() {
        if rows.is_empty() {
            continue;
        }
        let input = gather(pass, x, &rows);
        let (part, dense) = gated::forward(pass, index, expert, &input, rows.len());
        for (part, (row, weight)) in part.chunks_exact(d).zip(&rows) {
            let y = &mut y[row * d..][..d];
            y.iter_mut().zip(part).for_each(|(y, part)| *y += weight * part);
        }
        experts.push(ExpertSaved {
            expert,
            rows,
            y: part,
            dense,
        });
    }
    (y, MoeSaved { experts })
}

/// Gradient of [`forward`]: adds those of the experts' adapters to `grads`, returns that of `x`.
pub(crate) fn backward(
    pass: Pass<'_>,
    index: usize,
    router: &Weight,
    x: &[f32],
    saved: MoeSaved,
    dy: &[f32],
    grads: &mut [f32],
) -> Buffer {
    let model = pass.model;
    let (d, count) = (model.config.d_model, router.n());
    let t = x.len() / d;
    let mut dx = model.arena.take_zeroed(x.len());
    // Gradient of every chosen weight, and the weights, both zero elsewhere.
    let mut d_weights = model.arena.take_zeroed(t * count);
    let mut weights = model.arena.take_zeroed(t * count);
    for part in saved.experts {
        let mut d_part = gather(pass, dy, &part.rows);
        for ((d_part, y), (row, weight)) in d_part.chunks_exact_mut(d).zip(part.y.chunks_exact(d)).zip(&part.rows) {
            let at = row * count + part.expert;
            weights[at] = *weight;
            d_weights[at] = d_part.iter().zip(y).map(|(dy, y)| dy * y).sum();
            d_part.iter_mut().for_each(|dy| *dy *= weight);
        }
        let input = gather(pass, x, &part.rows);
        let d_input = gated::backward(pass, index, part.expert, &input, part.dense, &d_part, grads);
        for (d_input, (row, _)) in d_input.chunks_exact(d).zip(&part.rows) {
            let dx = &mut dx[row * d..][..d];
            dx.iter_mut().zip(d_input).for_each(|(dx, d_input)| *dx += d_input);
        }
    }
    // Softmax over the chosen ones: dz = w (dw - sum w dw); the others have w = 0 and so dz = 0.
    for (weights, d_weights) in weights.chunks_exact(count).zip(d_weights.chunks_exact_mut(count)) {
        let mean: f32 = weights.iter().zip(&*d_weights).map(|(w, dw)| w * dw).sum();
        for (w, dw) in weights.iter().zip(d_weights) {
            *dw = w * (*dw - mean);
        }
    }
    linear_backward_input(&model.ctx, Compute::F32, &d_weights, t, router, &mut dx, Write::Add);
    dx
}
