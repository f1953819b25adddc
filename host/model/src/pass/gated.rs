//! One gated feed-forward unit, `down(act(gate(x)) * up(x))`: the whole feed-forward part of a block, or one expert.

use dlm_kernels::{Activation as GatedActivation, gated_backward, gated_forward};

use super::Pass;
use super::slot::{SlotAt, SlotSaved};
use crate::arena::Buffer;
use crate::config::{Activation, DecoderConfig};
use crate::model::{down, gate_up};

/// What the backward of one gated unit needs besides its input.
pub(crate) struct GatedSaved {
    gate: Buffer,
    up: Buffer,
    gate_up: SlotSaved,
    down: SlotSaved,
}

fn activation(config: &DecoderConfig) -> GatedActivation {
    match config.activation {
        Activation::Silu => GatedActivation::Silu,
        Activation::GeluTanh => GatedActivation::GeluTanh,
    }
}

/// Runs the gated unit of one expert (0 where there are none).
pub(crate) fn forward(pass: Pass<'_>, index: usize, expert: usize, x: &[f32], t: usize) -> (Buffer, GatedSaved) {
    let model = pass.model;
    let slot = |slot| SlotAt {
        pass,
        layer: index,
        slot,
    };
    let width = t * model.config.d_ff;
    let mut gate = model.arena.take(width);
    let mut up = model.arena.take(width);
    let gate_up_saved = slot(gate_up(expert)).forward(x, t, &mut [&mut gate, &mut up]);
    let mut product = model.arena.take(width);
    gated_forward(&model.ctx, activation(&model.config), &gate, &up, &mut product);
    let mut y = model.arena.take(t * model.config.d_model);
    let down_saved = slot(down(expert)).forward(&product, t, &mut [&mut y]);
    let saved = GatedSaved {
        gate,
        up,
        gate_up: gate_up_saved,
        down: down_saved,
    };
    (y, saved)
}

/// Gradient of [`forward`]: adds those of the adapters to `grads`, returns that of `x`.
pub(crate) fn backward(
    pass: Pass<'_>,
    index: usize,
    expert: usize,
    x: &[f32],
    saved: GatedSaved,
    dy: &[f32],
    grads: &mut [f32],
) -> Buffer {
    let model = pass.model;
    let (arena, config) = (&model.arena, &model.config);
    let slot = |slot| SlotAt {
        pass,
        layer: index,
        slot,
    };
    let t = x.len() / config.d_model;
    let width = saved.gate.len();
    let activation = activation(config);
    let mut d_product = arena.take(width);
    {
        let down_slot = slot(down(expert));
        let mut product = arena.take(if down_slot.is_adapted() { width } else { 0 });
        if down_slot.is_adapted() {
            gated_forward(&model.ctx, activation, &saved.gate, &saved.up, &mut product);
        }
        down_slot.backward(&product, t, saved.down, &[dy], Some(&mut d_product), grads);
    }
    let mut d_gate = arena.take(width);
    let mut d_up = arena.take(width);
    gated_backward(
        &model.ctx,
        activation,
        &saved.gate,
        &saved.up,
        &d_product,
        &mut d_gate,
        &mut d_up,
    );
    drop((d_product, saved.gate, saved.up));
    let mut dx = arena.take(x.len());
    slot(gate_up(expert)).backward(x, t, saved.gate_up, &[&d_gate, &d_up], Some(&mut dx), grads);
    dx
}
