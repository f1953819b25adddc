//! The optimiser step over one flat buffer of adapter parameters.

use crate::ctx::Ctx;
use crate::elementwise::CHUNK;
use crate::pool::Disjoint;

/// Settings of one AdamW step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// Learning rate of this step.
    pub lr: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
}

/// Updates `params` and both moments in one pass.
///
/// `step` counts from 1. Gradients are multiplied by `grad_scale` first (the clipping factor, or 1).
///
/// **Source:** Loshchilov and Hutter, Decoupled Weight Decay Regularization; the order of operations is PyTorch's
/// `torch.optim.AdamW`.
#[expect(clippy::too_many_arguments, reason = "four buffers and their settings")]
pub fn adamw_step(
    ctx: &Ctx,
    settings: &AdamW,
    step: u64,
    grad_scale: f32,
    params: &mut [f32],
    grads: &[f32],
    m: &mut [f32],
    v: &mut [f32],
) {
    let len = params.len();
    assert!(
        grads.len() == len && m.len() == len && v.len() == len,
        "parameters, gradients and moments have one length"
    );
    let power = i32::try_from(step).unwrap_or(i32::MAX);
    let step_size = (settings.lr / (1.0 - settings.beta1.powi(power))) as f32;
    let root_correction = (1.0 - settings.beta2.powi(power)).sqrt() as f32;
    let keep = (1.0 - settings.lr * settings.weight_decay) as f32;
    let (beta2, eps) = (settings.beta2 as f32, settings.eps as f32);
    let (fresh1, fresh2) = ((1.0 - settings.beta1) as f32, (1.0 - settings.beta2) as f32);
    let (params, m, v) = (Disjoint::new(params), Disjoint::new(m), Disjoint::new(v));
    ctx.pool.run(len.div_ceil(CHUNK), |index| {
        let at = index * CHUNK;
        let size = CHUNK.min(len - at);
        // SAFETY: chunks of different tasks do not overlap.
        let (params, m, v) = unsafe { (params.range(at, size), m.range(at, size), v.range(at, size)) };
        for (((p, g), m), v) in params.iter_mut().zip(&grads[at..]).zip(m).zip(v) {
            let g = g * grad_scale;
            *m += (g - *m) * fresh1;
            *v = *v * beta2 + g * g * fresh2;
            let root = v.sqrt() / root_correction + eps;
            *p = *p * keep - step_size * (*m / root);
        }
    });
}

/// The Euclidean norm of all values, summed in `f64` in a fixed order.
pub fn global_norm(ctx: &Ctx, values: &[f32]) -> f64 {
    let mut partial = vec![0.0f64; values.len().div_ceil(CHUNK)];
    ctx.pool.run_chunks(&mut partial, 1, |index, sum| {
        let start = index * CHUNK;
        let end = values.len().min(start + CHUNK);
        // Sixteen independent sums, so that the order is fixed and still wide enough for vector units.
        let mut lanes = [0.0f64; 16];
        for block in values[start..end].chunks(16) {
            for (lane, &x) in lanes.iter_mut().zip(block) {
                *lane += f64::from(x) * f64::from(x);
            }
        }
        sum[0] = lanes.iter().sum();
    });
    partial.iter().sum::<f64>().sqrt()
}
