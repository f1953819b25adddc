//! The slow obvious twins: every op written down as its formula, in `f64`, one value at a time.
//!
//! Tests convert their inputs to `f64`, call these, and compare; the backward formulas here are themselves checked
//! against finite differences of the forward formulas. Nothing on the way of a real run calls this module.

use crate::attention::{AttentionShape, Segment};
use crate::gated::Activation;
use crate::loss::RowTarget;

/// Widens a slice.
pub fn widen(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value)).collect()
}

/// `y[t, n] = x[t, k] W[n, k]^T`.
pub fn linear(x: &[f64], t: usize, w: &[f64], n: usize, k: usize) -> Vec<f64> {
    let mut y = vec![0.0; t * n];
    for row in 0..t {
        for out in 0..n {
            y[row * n + out] = (0..k).map(|p| x[row * k + p] * w[out * k + p]).sum();
        }
    }
    y
}

/// `dx[t, k] = dy[t, n] W[n, k]`.
pub fn linear_backward_input(dy: &[f64], t: usize, w: &[f64], n: usize, k: usize) -> Vec<f64> {
    let mut dx = vec![0.0; t * k];
    for row in 0..t {
        for p in 0..k {
            dx[row * k + p] = (0..n).map(|out| dy[row * n + out] * w[out * k + p]).sum();
        }
    }
    dx
}

/// Root-mean-square norm of each row: `y = x / sqrt(mean(x^2) + eps) * (weight + offset)`.
pub fn rmsnorm_forward(x: &[f64], weight: &[f64], offset: f64, eps: f64) -> Vec<f64> {
    let d = weight.len();
    let mut y = vec![0.0; x.len()];
    for (x, y) in x.chunks_exact(d).zip(y.chunks_exact_mut(d)) {
        let inv = 1.0 / (x.iter().map(|x| x * x).sum::<f64>() / d as f64 + eps).sqrt();
        for i in 0..d {
            y[i] = x[i] * inv * (weight[i] + offset);
        }
    }
    y
}

/// Gradient of [`rmsnorm_forward`] with respect to `x`:
/// with `g = dy (weight + offset)` and `r` the inverse root, `dx = r g - r^3 x mean(g x)`.
pub fn rmsnorm_backward(x: &[f64], weight: &[f64], offset: f64, eps: f64, dy: &[f64]) -> Vec<f64> {
    let d = weight.len();
    let mut dx = vec![0.0; x.len()];
    for ((x, dy), dx) in x.chunks_exact(d).zip(dy.chunks_exact(d)).zip(dx.chunks_exact_mut(d)) {
        let inv = 1.0 / (x.iter().map(|x| x * x).sum::<f64>() / d as f64 + eps).sqrt();
        let mean = (0..d).map(|i| dy[i] * (weight[i] + offset) * x[i]).sum::<f64>() / d as f64;
        for i in 0..d {
            dx[i] = inv * dy[i] * (weight[i] + offset) - inv.powi(3) * x[i] * mean;
        }
    }
    dx
}

/// Rotates the first `2 * half` values of each head: pairs `(i, i + half)` by the angle whose cosine and sine are given
/// per row and `i` (`[rows, half]`); `sign` is 1 forward and -1 backward.
pub fn rope(x: &[f64], heads: usize, head_dim: usize, half: usize, cos: &[f64], sin: &[f64], sign: f64) -> Vec<f64> {
    let mut y = x.to_vec();
    for row in 0..x.len() / (heads * head_dim) {
        for head in 0..heads {
            let base = (row * heads + head) * head_dim;
            for i in 0..half {
                let (c, s) = (cos[row * half + i], sign * sin[row * half + i]);
                let (a, b) = (x[base + i], x[base + half + i]);
                y[base + i] = a * c - b * s;
                y[base + half + i] = b * c + a * s;
            }
        }
    }
    y
}

/// The activation of a gate.
pub fn activate(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::Silu => x / (1.0 + (-x).exp()),
        Activation::GeluTanh => {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
            0.5 * x * (1.0 + inner.tanh())
        }
    }
}

/// The derivative of [`activate`].
pub fn activate_slope(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::Silu => {
            let sigmoid = 1.0 / (1.0 + (-x).exp());
            sigmoid * (1.0 + x * (1.0 - sigmoid))
        }
        Activation::GeluTanh => {
            let c = (2.0 / std::f64::consts::PI).sqrt();
            let tanh = (c * (x + 0.044715 * x.powi(3))).tanh();
            0.5 * (1.0 + tanh) + 0.5 * x * (1.0 - tanh * tanh) * c * (1.0 + 3.0 * 0.044715 * x * x)
        }
    }
}

/// The keys that query row `row` of `segment` attends to, in order: its prefix, then its own range up to itself, less
/// what lies outside the sliding window.
pub fn visible_keys(shape: &AttentionShape, segment: &Segment, positions: &[u32], row: usize) -> Vec<usize> {
    segment
        .prefix
        .clone()
        .chain(segment.q.start..=row)
        .filter(|&key| match shape.window {
            Some(window) => (positions[row] as usize) < positions[key] as usize + window,
            None => true,
        })
        .collect()
}

fn score(shape: &AttentionShape, q: &[f64], k: &[f64]) -> f64 {
    let raw = q.iter().zip(k).map(|(q, k)| q * k).sum::<f64>() * f64::from(shape.scale);
    match shape.softcap {
        Some(cap) => f64::from(cap) * (raw / f64::from(cap)).tanh(),
        None => raw,
    }
}

fn head(row: usize, heads: usize, head: usize, dim: usize) -> std::ops::Range<usize> {
    let start = (row * heads + head) * dim;
    start..start + dim
}

/// Attention of every segment; returns the output `[rows, n_heads * head_dim]` and the log-sum-exp `[n_heads, rows]`.
pub fn attention_forward(
    shape: &AttentionShape,
    segments: &[Segment],
    positions: &[u32],
    q: &[f64],
    k: &[f64],
    v: &[f64],
) -> (Vec<f64>, Vec<f64>) {
    let (h, kvh, dim) = (shape.n_heads, shape.n_kv_heads, shape.head_dim);
    let rows = positions.len();
    let (mut out, mut lse) = (vec![0.0; q.len()], vec![0.0; h * rows]);
    for segment in segments {
        for row in segment.q.clone() {
            let keys = visible_keys(shape, segment, positions, row);
            for hq in 0..h {
                let hk = hq / (h / kvh);
                let query = &q[head(row, h, hq, dim)];
                let scores: Vec<f64> = keys
                    .iter()
                    .map(|&key| score(shape, query, &k[head(key, kvh, hk, dim)]))
                    .collect();
                let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let total = max + scores.iter().map(|s| (s - max).exp()).sum::<f64>().ln();
                lse[hq * rows + row] = total;
                let out = &mut out[head(row, h, hq, dim)];
                for (s, &key) in scores.iter().zip(&keys) {
                    let weight = (s - total).exp();
                    for (out, v) in out.iter_mut().zip(&v[head(key, kvh, hk, dim)]) {
                        *out += weight * v;
                    }
                }
            }
        }
    }
    (out, lse)
}

/// Gradients `(dq, dk, dv)` of [`attention_forward`].
pub fn attention_backward(
    shape: &AttentionShape,
    segments: &[Segment],
    positions: &[u32],
    (q, k, v): (&[f64], &[f64], &[f64]),
    d_out: &[f64],
) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let (h, kvh, dim) = (shape.n_heads, shape.n_kv_heads, shape.head_dim);
    let rows = positions.len();
    let (out, lse) = attention_forward(shape, segments, positions, q, k, v);
    let (mut dq, mut dk, mut dv) = (vec![0.0; q.len()], vec![0.0; k.len()], vec![0.0; v.len()]);
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    for segment in segments {
        for row in segment.q.clone() {
            for hq in 0..h {
                let at_q = head(row, h, hq, dim);
                let delta = dot(&d_out[at_q.clone()], &out[at_q.clone()]);
                for &key in &visible_keys(shape, segment, positions, row) {
                    let at_k = head(key, kvh, hq / (h / kvh), dim);
                    let s = score(shape, &q[at_q.clone()], &k[at_k.clone()]);
                    let p = (s - lse[hq * rows + row]).exp();
                    let mut ds = p * (dot(&d_out[at_q.clone()], &v[at_k.clone()]) - delta) * f64::from(shape.scale);
                    if let Some(cap) = shape.softcap {
                        ds *= 1.0 - (s / f64::from(cap)).powi(2);
                    }
                    for i in 0..dim {
                        dq[at_q.start + i] += ds * k[at_k.start + i];
                        dk[at_k.start + i] += ds * q[at_q.start + i];
                        dv[at_k.start + i] += p * d_out[at_q.start + i];
                    }
                }
            }
        }
    }
    (dq, dk, dv)
}

/// Loss of one row of raw logits and its gradient with respect to them (not weighted); see
/// [`loss_rows`](crate::loss_rows).
pub fn loss_row(logits: &[f64], softcap: Option<f64>, target: &RowTarget<'_>) -> (f64, Vec<f64>) {
    let capped: Vec<f64> = logits
        .iter()
        .map(|&z| softcap.map_or(z, |cap| cap * (z / cap).tanh()))
        .collect();
    let max = capped.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let total = max + capped.iter().map(|z| (z - max).exp()).sum::<f64>().ln();
    let q: Vec<f64> = capped.iter().map(|z| (z - total).exp()).collect();
    let (loss, mut grad) = match *target {
        RowTarget::Token(token) => {
            let mut grad = q.clone();
            grad[token as usize] -= 1.0;
            (total - capped[token as usize], grad)
        }
        RowTarget::TopK { ids, probs } => {
            let listed: f64 = probs.iter().map(|&p| f64::from(p)).sum();
            let rest = (1.0 - listed).max(0.0);
            let q_rest: f64 = (0..q.len()).filter(|&j| !ids.contains(&(j as u32))).map(|j| q[j]).sum();
            let mut grad: Vec<f64> = q
                .iter()
                .map(|q| {
                    if rest > 0.0 {
                        q * (listed + rest - rest / q_rest)
                    } else {
                        q * listed
                    }
                })
                .collect();
            let mut loss = if rest > 0.0 { rest * (rest / q_rest).ln() } else { 0.0 };
            for (&id, &p) in ids.iter().zip(probs) {
                let (p, j) = (f64::from(p), id as usize);
                grad[j] = q[j] * (listed + rest) - p;
                if p > 0.0 {
                    loss += p * (p.ln() - (capped[j] - total));
                }
            }
            (loss, grad)
        }
    };
    if let Some(cap) = softcap {
        for (grad, z) in grad.iter_mut().zip(&capped) {
            *grad *= 1.0 - (z / cap).powi(2);
        }
    }
    (loss, grad)
}
