//! The optimizer step over one flat buffer of adapter parameters.

mod eight_bit;
mod moments;

pub use eight_bit::EightBit;
pub use moments::Moments;

use crate::ctx::Ctx;
use crate::elementwise::CHUNK;
use crate::lanes::per_simd;
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
    let factors = Factors::new(settings, step, grad_scale);
    let (params, m, v) = (Disjoint::new(params), Disjoint::new(m), Disjoint::new(v));
    ctx.pool.run(len.div_ceil(CHUNK), |index| {
        let at = index * CHUNK;
        let size = CHUNK.min(len - at);
        // SAFETY: chunks of different tasks do not overlap.
        let (params, m, v) = unsafe { (params.range(at, size), m.range(at, size), v.range(at, size)) };
        step_chunk(ctx.simd, &factors, params, &grads[at..][..size], m, v);
    });
}

/// The constants of one step.
struct Factors {
    grad_scale: f32,
    step_size: f32,
    root_correction: f32,
    keep: f32,
    beta2: f32,
    eps: f32,
    fresh1: f32,
    fresh2: f32,
}

impl Factors {
    /// Of step `step`, counted from 1.
    fn new(settings: &AdamW, step: u64, grad_scale: f32) -> Factors {
        let power = i32::try_from(step).unwrap_or(i32::MAX);
        Factors {
            grad_scale,
            step_size: (settings.lr / (1.0 - settings.beta1.powi(power))) as f32,
            root_correction: (1.0 - settings.beta2.powi(power)).sqrt() as f32,
            keep: (1.0 - settings.lr * settings.weight_decay) as f32,
            beta2: settings.beta2 as f32,
            eps: settings.eps as f32,
            fresh1: (1.0 - settings.beta1) as f32,
            fresh2: (1.0 - settings.beta2) as f32,
        }
    }
}

/// Unfused in every instruction set, so that the optimizer's path is the same bits on every machine.
#[inline(always)]
fn step_body<const FUSED: bool>(f: &Factors, params: &mut [f32], grads: &[f32], m: &mut [f32], v: &mut [f32]) {
    for (((p, g), m), v) in params.iter_mut().zip(grads).zip(m).zip(v) {
        let g = g * f.grad_scale;
        *m += (g - *m) * f.fresh1;
        *v = *v * f.beta2 + g * g * f.fresh2;
        let root = v.sqrt() / f.root_correction + f.eps;
        *p = *p * f.keep - f.step_size * (*m / root);
    }
}

per_simd!(fn step_chunk(f: &Factors, params: &mut [f32], grads: &[f32], m: &mut [f32], v: &mut [f32]) => step_body);

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{ELEMENTWISE, assert_near, assert_same_bits, contexts, values};

    const SETTINGS: AdamW = AdamW {
        lr: 1e-2,
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        weight_decay: 0.1,
    };

    #[test]
    fn ten_steps_follow_the_formula() {
        for ctx in contexts() {
            let len = CHUNK + 37;
            let mut params = values(len, 1);
            let (mut m, mut v) = (vec![0.0; len], vec![0.0; len]);
            let mut wide: Vec<f64> = params.iter().map(|x| f64::from(*x)).collect();
            let (mut wide_m, mut wide_v) = (vec![0.0f64; len], vec![0.0f64; len]);
            for step in 1..=10u64 {
                let grads = values(len, 10 + step as u32);
                adamw_step(&ctx, &SETTINGS, step, 0.5, &mut params, &grads, &mut m, &mut v);
                for i in 0..len {
                    let g = 0.5 * f64::from(grads[i]);
                    wide_m[i] = 0.9 * wide_m[i] + 0.1 * g;
                    wide_v[i] = 0.999 * wide_v[i] + 0.001 * g * g;
                    let m_hat = wide_m[i] / (1.0 - 0.9f64.powi(step as i32));
                    let v_hat = wide_v[i] / (1.0 - 0.999f64.powi(step as i32));
                    wide[i] -= 1e-2 * 0.1 * wide[i] + 1e-2 * m_hat / (v_hat.sqrt() + 1e-8);
                }
            }
            assert_near(&params, &wide, ELEMENTWISE, "parameters after ten steps");
        }
    }

    #[test]
    fn every_instruction_set_makes_the_same_step() {
        let mut results = Vec::new();
        for ctx in contexts() {
            let mut params = values(1000, 1);
            let (mut m, mut v) = (values(1000, 2), vec![0.25; 1000]);
            adamw_step(&ctx, &SETTINGS, 3, 1.0, &mut params, &values(1000, 3), &mut m, &mut v);
            results.push(params);
        }
        for other in &results[1..] {
            assert_same_bits(&results[0], other, "parameters");
        }
    }

    #[test]
    fn the_norm_is_that_of_all_values_on_any_team() {
        let x = values(3 * CHUNK + 11, 5);
        let exact = x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        let found: Vec<f64> = [1, 2, 5]
            .map(|threads| global_norm(&Ctx::new(threads, crate::Simd::detect()), &x))
            .to_vec();
        assert!((found[0] - exact).abs() < 1e-12 * exact);
        assert!(found.iter().all(|norm| norm.to_bits() == found[0].to_bits()));
    }
}
