//! Gated units: `out = act(gate) * up`.

use crate::ctx::Ctx;
use crate::elementwise::CHUNK;
use crate::lanes::{exp, fma, per_simd, tanh};
use crate::pool::Disjoint;

/// The function of the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activation {
    /// `x * sigmoid(x)`.
    Silu,
    /// The tanh approximation of the Gaussian error unit.
    GeluTanh,
}

/// The root of two over pi.
const GELU_SCALE: f32 = 0.797_884_6;
const GELU_CUBE: f32 = 0.044_715;

#[inline(always)]
fn silu<const FUSED: bool>(x: f32) -> (f32, f32) {
    let sigmoid = 1.0 / (1.0 + exp::<FUSED>(-x));
    (x * sigmoid, sigmoid * fma::<FUSED>(x, 1.0 - sigmoid, 1.0))
}

#[inline(always)]
fn gelu<const FUSED: bool>(x: f32) -> (f32, f32) {
    let square = x * x;
    let tanh = tanh::<FUSED>(GELU_SCALE * x * fma::<FUSED>(GELU_CUBE, square, 1.0));
    let inner_slope = GELU_SCALE * fma::<FUSED>(3.0 * GELU_CUBE, square, 1.0);
    let slope = 0.5 * (1.0 + tanh) + 0.5 * x * (1.0 - tanh * tanh) * inner_slope;
    (0.5 * x * (1.0 + tanh), slope)
}

#[inline(always)]
fn forward_body<const FUSED: bool>(activation: Activation, gate: &[f32], up: &[f32], out: &mut [f32]) {
    match activation {
        Activation::Silu => {
            for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
                *out = silu::<FUSED>(*gate).0 * up;
            }
        }
        Activation::GeluTanh => {
            for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
                *out = gelu::<FUSED>(*gate).0 * up;
            }
        }
    }
}

per_simd!(fn forward_chunk(activation: Activation, gate: &[f32], up: &[f32], out: &mut [f32]) => forward_body);

#[inline(always)]
fn backward_body<const FUSED: bool>(
    activation: Activation,
    gate: &[f32],
    up: &[f32],
    d_out: &[f32],
    d_gate: &mut [f32],
    d_up: &mut [f32],
) {
    let len = d_out.len();
    let (gate, up, d_gate, d_up) = (&gate[..len], &up[..len], &mut d_gate[..len], &mut d_up[..len]);
    match activation {
        Activation::Silu => {
            for i in 0..len {
                let (value, slope) = silu::<FUSED>(gate[i]);
                d_up[i] = d_out[i] * value;
                d_gate[i] = d_out[i] * up[i] * slope;
            }
        }
        Activation::GeluTanh => {
            for i in 0..len {
                let (value, slope) = gelu::<FUSED>(gate[i]);
                d_up[i] = d_out[i] * value;
                d_gate[i] = d_out[i] * up[i] * slope;
            }
        }
    }
}

per_simd!(
    fn backward_chunk(
        activation: Activation,
        gate: &[f32],
        up: &[f32],
        d_out: &[f32],
        d_gate: &mut [f32],
        d_up: &mut [f32],
    ) => backward_body
);

/// `out = act(gate) * up`, element by element.
pub fn gated_forward(ctx: &Ctx, activation: Activation, gate: &[f32], up: &[f32], out: &mut [f32]) {
    assert!(
        gate.len() == out.len() && up.len() == out.len(),
        "gate, up and out have one length"
    );
    ctx.pool.run_chunks(out, CHUNK, |index, out| {
        let at = index * CHUNK;
        forward_chunk(
            ctx.simd,
            activation,
            &gate[at..][..out.len()],
            &up[at..][..out.len()],
            out,
        );
    });
}

/// Gradients of [`gated_forward`]: `d_up = d_out act(gate)`, `d_gate = d_out up act'(gate)`.
pub fn gated_backward(
    ctx: &Ctx,
    activation: Activation,
    gate: &[f32],
    up: &[f32],
    d_out: &[f32],
    d_gate: &mut [f32],
    d_up: &mut [f32],
) {
    let len = d_out.len();
    assert!(
        gate.len() == len && up.len() == len && d_gate.len() == len && d_up.len() == len,
        "all slices have one length"
    );
    let (d_gate, d_up) = (Disjoint::new(d_gate), Disjoint::new(d_up));
    ctx.pool.run(len.div_ceil(CHUNK), |index| {
        let at = index * CHUNK;
        let size = CHUNK.min(len - at);
        // SAFETY: chunks of different tasks do not overlap.
        let (d_gate, d_up) = unsafe { (d_gate.range(at, size), d_up.range(at, size)) };
        let (gate, up, d_out) = (&gate[at..][..size], &up[at..][..size], &d_out[at..][..size]);
        backward_chunk(ctx.simd, activation, gate, up, d_out, d_gate, d_up);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::{activate, activate_slope, widen};
    use crate::testing::{DIFFERENCES, ELEMENTWISE, SIZES, assert_gradient, assert_near, contexts, values};

    fn wide_values(len: usize, seed: u32) -> Vec<f32> {
        values(len, seed).iter().map(|x| 9.0 * x).collect()
    }

    #[test]
    fn both_directions_agree_with_the_twin() {
        for ctx in contexts() {
            for activation in [Activation::Silu, Activation::GeluTanh] {
                for len in SIZES.into_iter().chain([CHUNK + 3]) {
                    let (gate, up, d_out) = (wide_values(len, 1), values(len, 2), values(len, 3));
                    let (mut out, mut d_gate, mut d_up) = (vec![0.0; len], vec![0.0; len], vec![0.0; len]);
                    gated_forward(&ctx, activation, &gate, &up, &mut out);
                    gated_backward(&ctx, activation, &gate, &up, &d_out, &mut d_gate, &mut d_up);
                    let (g, u, d) = (widen(&gate), widen(&up), widen(&d_out));
                    let twin = |f: &dyn Fn(usize) -> f64| (0..len).map(f).collect::<Vec<_>>();
                    assert_near(&out, &twin(&|i| activate(activation, g[i]) * u[i]), ELEMENTWISE, "out");
                    assert_near(
                        &d_up,
                        &twin(&|i| d[i] * activate(activation, g[i])),
                        ELEMENTWISE,
                        "d_up",
                    );
                    let expected = twin(&|i| d[i] * u[i] * activate_slope(activation, g[i]));
                    assert_near(&d_gate, &expected, ELEMENTWISE, "d_gate");
                }
            }
        }
    }

    #[test]
    fn the_slope_is_the_difference() {
        for activation in [Activation::Silu, Activation::GeluTanh] {
            let x = widen(&wide_values(40, 4));
            let slopes: Vec<f64> = x.iter().map(|x| activate_slope(activation, *x)).collect();
            assert_gradient(&x, &slopes, DIFFERENCES, "activation", |x| {
                x.iter().map(|x| activate(activation, *x)).sum()
            });
        }
    }
}
