//! The products of a slot with its adapters on: forward, and the gradient by hand.
//!
//! With `s = alpha / r`, `D` the dropout of the slot's input (one mask for its modules), per module:
//! - LoRA: `y = W x + s B A D(x)`;
//! - DoRA: `u = W D(x) + s B A D(x)`, `y = W x + g u - W D(x)` with `g = m / n` per row ([`dora`]).
//!
//! Invariants: the frozen weight gets no gradient, there is no place to put one.

mod dora;
mod dropout;
mod products;

use std::ops::Range;

use dlm_kernels::{Compute, GemmArgs, Write, gemm, linear_backward_input, linear_on};

use self::dora::Dora;
use self::dropout::Dropout;
use self::products::{times, times_transposed, transposed_times};
use super::Pass;
use crate::adapter::{AdaptedModule, AdaptedSlot, Adapter};
use crate::arena::Buffer;
use crate::model::Slot;

/// What the backward of a slot needs besides its input.
#[derive(Debug, Default)]
pub(crate) struct SlotSaved {
    /// `A D(x)` of all modules: `[t, rank]`.
    h: Option<Buffer>,
    /// `u` of every DoRA part, in slot order.
    u: Vec<Buffer>,
}

/// Names one slot of the model in a pass.
#[derive(Clone, Copy)]
pub(crate) struct SlotAt<'a> {
    pub pass: Pass<'a>,
    pub layer: usize,
    pub slot: usize,
}

impl<'a> SlotAt<'a> {
    fn frozen(&self) -> &'a Slot {
        &self.pass.model.layers[self.layer].slots[self.slot]
    }

    fn adapted(&self) -> Option<(&'a Adapter, &'a AdaptedSlot)> {
        let adapter = self.pass.adapter?;
        Some((adapter, adapter.slot(self.layer, self.slot)?))
    }

    /// Says whether anything of this slot is trained.
    pub fn is_adapted(&self) -> bool {
        self.adapted().is_some()
    }

    fn dropout(&self, adapter: &Adapter) -> Dropout {
        Dropout::new(self.pass.dropout_seed, self.layer, self.slot, adapter.spec.dropout)
    }

    fn dora(&self) -> Option<Dora<'a>> {
        Some(Dora {
            model: self.pass.model,
            gains: self.pass.gains?,
            precision_path: self.pass.precision_path,
        })
    }

    /// Computes every part of the slot: `outs[i][t, n_i]` from `x[t, k]`.
    pub fn forward(&self, x: &[f32], t: usize, outs: &mut [&mut [f32]]) -> SlotSaved {
        let (model, frozen) = (self.pass.model, self.frozen());
        if let Some(watch) = self.pass.watch {
            let mut squares = watch.lock().expect("nobody panicked with it");
            squares.add(self.layer, self.slot, x, frozen.k);
        }
        let weights = frozen.parts.iter().map(|part| &part.weight);
        if let [out] = outs {
            let mut only = [(&frozen.parts[0].weight, &mut **out)];
            model.products(self.pass.precision_path, x, t, &mut only);
        } else {
            let mut pairs: Vec<_> = weights.zip(outs.iter_mut().map(|out| &mut **out)).collect();
            model.products(self.pass.precision_path, x, t, &mut pairs);
        }
        let mut saved = SlotSaved::default();
        if let Some((adapter, slot)) = self.adapted() {
            self.adapt(adapter, slot, x, t, outs, &mut saved);
        }
        for (part, out) in frozen.parts.iter().zip(outs.iter_mut()) {
            if let Some(bias) = &part.bias {
                for row in out.chunks_exact_mut(bias.len()) {
                    row.iter_mut().zip(bias).for_each(|(y, b)| *y += b);
                }
            }
        }
        saved
    }

    fn adapt(
        &self,
        adapter: &Adapter,
        slot: &AdaptedSlot,
        x: &[f32],
        t: usize,
        outs: &mut [&mut [f32]],
        saved: &mut SlotSaved,
    ) {
        let model = self.pass.model;
        let (ctx, frozen) = (&model.ctx, self.frozen());
        let (r, scale) = (adapter.spec.r, adapter.spec.scale());
        let dropped = self.dropout(adapter).forward(ctx, &model.arena, x);
        let h = self.low_rank_input(adapter, slot, dropped.as_deref().unwrap_or(x), t);
        for (index, module) in adapter.modules[slot.modules.clone()].iter().enumerate() {
            for (part, b, rows) in self.module_parts(adapter, module) {
                let h = &h[index * r..];
                let add_low_rank = |y: &mut [f32]| match self.pass.few {
                    None => times_transposed(ctx, scale, [t, rows.len(), r], h, slot.rank, b, 1.0, y),
                    Some(few) => few.add_b(ctx, scale, (h, slot.rank), rows.clone(), y),
                };
                let out = &mut *outs[part];
                let Some(dora) = self.dora() else {
                    add_low_rank(out);
                    continue;
                };
                let weight = &frozen.parts[part].weight;
                let u = dora.forward(weight, rows.clone(), dropped.as_deref(), out, add_low_rank);
                if self.pass.is_training {
                    saved.u.push(u);
                }
            }
        }
        if self.pass.is_training {
            saved.h = Some(h);
        }
    }

    /// `A D(x)` of all modules of the slot: `[t, rank]`.
    fn low_rank_input(&self, adapter: &Adapter, slot: &AdaptedSlot, input: &[f32], t: usize) -> Buffer {
        let (model, k) = (self.pass.model, self.frozen().k);
        let mut h = model.arena.take(t * slot.rank);
        match self.pass.few.and_then(|few| few.a(self.layer, self.slot)) {
            None => {
                let a = &adapter.params[slot.a.clone()];
                times_transposed(&model.ctx, 1.0, [t, slot.rank, k], input, k, a, 0.0, &mut h);
            }
            Some(a) => {
                let outputs = &mut [(a, &mut h[..])];
                let path = self.pass.precision_path;
                linear_on(&model.ctx, Compute::F32, path, input, t, outputs, Write::Set);
            }
        }
        h
    }

    /// Lists the parts of a module: index in the slot, rows of `B`, place in the row tables.
    fn module_parts<'m>(
        &self,
        adapter: &'m Adapter,
        module: &'m AdaptedModule,
    ) -> impl Iterator<Item = (usize, &'m [f32], Range<usize>)> + use<'m, 'a> {
        let r = adapter.spec.r;
        let parts = &self.frozen().parts;
        let mut row = 0;
        module.parts.clone().map(move |part| {
            let n = parts[part].weight.n();
            let first = row;
            row += n;
            let b = &adapter.params[module.b.start + first * r..][..n * r];
            (part, b, module.rows.start + first..module.rows.start + row)
        })
    }

    /// Adds the gradients of the slot's adapters to `grads` and writes that of the input to `dx` (where it is wanted).
    ///
    /// `x` is the input of the forward, `d_outs` the gradients of its outputs.
    pub fn backward(
        &self,
        x: &[f32],
        t: usize,
        saved: SlotSaved,
        d_outs: &[&[f32]],
        mut dx: Option<&mut [f32]>,
        grads: &mut [f32],
    ) {
        let model = self.pass.model;
        let frozen = self.frozen();
        let scaled = match self.adapted() {
            Some((adapter, slot)) => self.magnitude_backward(adapter, slot, &saved, d_outs, grads),
            None => Vec::new(),
        };
        // Without dropout the frozen product of DoRA is scaled too; with dropout `W x` itself is not.
        let is_plain = self
            .adapted()
            .is_none_or(|(adapter, _)| self.dropout(adapter).keeps_all());
        if let Some(dx) = dx.as_deref_mut() {
            for (index, part) in frozen.parts.iter().enumerate() {
                let dy = match scaled.get(index).and_then(Option::as_deref) {
                    Some(scaled) if is_plain => scaled,
                    _ => d_outs[index],
                };
                let write = if index == 0 { Write::Set } else { Write::Add };
                linear_backward_input(&model.ctx, model.compute, dy, t, &part.weight, dx, write);
            }
        }
        let Some((adapter, slot)) = self.adapted() else {
            return;
        };
        let (ctx, k) = (&model.ctx, frozen.k);
        let dropout = self.dropout(adapter);
        let dropped = dropout.forward(ctx, &model.arena, x);
        let input = dropped.as_deref().unwrap_or(x);
        let dh = self.low_rank_backward(adapter, slot, t, &saved, &scaled, d_outs, grads);
        let d_a = &mut grads[slot.a.clone()];
        transposed_times(ctx, 1.0, [slot.rank, k, t], &dh, slot.rank, input, k, d_a, k);
        drop(dropped);
        let Some(dx) = dx else {
            return;
        };
        let a = &adapter.params[slot.a.clone()];
        let shape = [t, k, slot.rank];
        if dropout.keeps_all() {
            times(ctx, shape, (&dh, slot.rank), a, [1.0, 1.0], dx);
            return;
        }
        let mut d_dropped = model.arena.take(t * k);
        times(ctx, shape, (&dh, slot.rank), a, [1.0, 0.0], &mut d_dropped);
        if let Some(dora) = self.dora() {
            for ((part, dy), scaled) in frozen.parts.iter().zip(d_outs).zip(&scaled) {
                if let Some(scaled) = scaled {
                    dora.dropped_backward(&part.weight, t, dy, scaled, &mut d_dropped);
                }
            }
        }
        dropout.backward(ctx, &d_dropped, dx);
    }

    /// DoRA: gradients of the magnitudes, and `g dy` of every part that has them.
    fn magnitude_backward(
        &self,
        adapter: &Adapter,
        slot: &AdaptedSlot,
        saved: &SlotSaved,
        d_outs: &[&[f32]],
        grads: &mut [f32],
    ) -> Vec<Option<Buffer>> {
        let Some(dora) = self.dora() else {
            return Vec::new();
        };
        let mut scaled: Vec<Option<Buffer>> = d_outs.iter().map(|_| None).collect();
        let mut u = saved.u.iter();
        for module in &adapter.modules[slot.modules.clone()] {
            let magnitude = module.magnitude.clone().expect("a DoRA module has a magnitude");
            for (part, _, rows) in self.module_parts(adapter, module) {
                let u = u.next().expect("the forward kept one `u` per part");
                let first = magnitude.start + rows.start - module.rows.start;
                let dm = &mut grads[first..first + rows.len()];
                scaled[part] = Some(dora.backward(rows, d_outs[part], u, dm));
            }
        }
        scaled
    }

    /// Gradients of every `B`, and of `h`.
    #[expect(
        clippy::too_many_arguments,
        reason = "one step of `backward`, split off for its length"
    )]
    fn low_rank_backward(
        &self,
        adapter: &Adapter,
        slot: &AdaptedSlot,
        t: usize,
        saved: &SlotSaved,
        scaled: &[Option<Buffer>],
        d_outs: &[&[f32]],
        grads: &mut [f32],
    ) -> Buffer {
        let (ctx, r, s) = (&self.pass.model.ctx, adapter.spec.r, adapter.spec.scale());
        let h = saved.h.as_deref().expect("the forward kept `h` of an adapted slot");
        let mut dh = self.pass.model.arena.take(t * slot.rank);
        for (index, module) in adapter.modules[slot.modules.clone()].iter().enumerate() {
            let mut row = module.b.start;
            for (nth, (part, b, _)) in self.module_parts(adapter, module).enumerate() {
                let dy = scaled.get(part).and_then(Option::as_deref).unwrap_or(d_outs[part]);
                let n = b.len() / r;
                let d_b = &mut grads[row..row + b.len()];
                row += b.len();
                transposed_times(ctx, s, [n, r, t], dy, n, &h[index * r..], slot.rank, d_b, r);
                gemm(
                    ctx,
                    GemmArgs {
                        m: t,
                        n: r,
                        k: n,
                        a: dy,
                        rsa: n,
                        csa: 1,
                        b,
                        rsb: r,
                        csb: 1,
                        c: &mut dh[index * r..],
                        rsc: slot.rank,
                        alpha: s,
                        beta: if nth == 0 { 0.0 } else { 1.0 },
                    },
                );
            }
        }
        dh
    }
}
