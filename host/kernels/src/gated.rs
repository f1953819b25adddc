//! Gated units: `out = act(gate) * up`.

use crate::ctx::Ctx;
use crate::elementwise::CHUNK;
use crate::pool::Disjoint;

/// The function of the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activation {
    /// `x * sigmoid(x)`.
    Silu,
    /// The tanh approximation of the Gaussian error unit.
    GeluTanh,
}

fn activate(activation: Activation, x: f32) -> (f32, f32) {
    match activation {
        Activation::Silu => {
            let sigmoid = 1.0 / (1.0 + (-x).exp());
            (x * sigmoid, sigmoid * (1.0 + x * (1.0 - sigmoid)))
        }
        Activation::GeluTanh => {
            const C: f32 = 0.797_884_6;
            let tanh = (C * (x + 0.044715 * x * x * x)).tanh();
            let slope = 0.5 * (1.0 + tanh) + 0.5 * x * (1.0 - tanh * tanh) * C * (1.0 + 3.0 * 0.044715 * x * x);
            (0.5 * x * (1.0 + tanh), slope)
        }
    }
}

/// `out = act(gate) * up`, element by element.
pub fn gated_forward(ctx: &Ctx, activation: Activation, gate: &[f32], up: &[f32], out: &mut [f32]) {
    assert!(
        gate.len() == out.len() && up.len() == out.len(),
        "gate, up and out have one length"
    );
    ctx.pool.run_chunks(out, CHUNK, |index, out| {
        let at = index * CHUNK;
        for ((out, gate), up) in out.iter_mut().zip(&gate[at..]).zip(&up[at..]) {
            *out = activate(activation, *gate).0 * up;
        }
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
        for i in 0..size {
            let (value, slope) = activate(activation, gate[at + i]);
            d_up[i] = d_out[at + i] * value;
            d_gate[i] = d_out[at + i] * up[at + i] * slope;
        }
    });
}
