//! The products of a slot with its adapters on: forward, and the gradient by hand.
//!
//! With `s = alpha / r`, `D` the dropout of the slot's input (one mask for its modules), per module:
//! - LoRA: `y = W x + s B A D(x)`;
//! - DoRA: `u = W D(x) + s B A D(x)`, `y = W x + g u - W D(x)` with `g = m / n` per row, `n` a constant. Without dropout
//!   that is `y = g (W x + s B A x)`.
//!
//! Invariants: the frozen weight gets no gradient, there is no place to put one; dropout is a function of seed, layer, slot
//! and element, so a block that runs twice sees the same mask.

use dlm_core::random::mix;
use dlm_kernels::{
    Compute, Ctx, DropoutMask, GemmArgs, PrecisionPath, Weight, Write, axpy, dropout, gemm, linear_backward_input,
    linear_on,
};

use crate::adapter::{AdaptedModule, AdaptedSlot, Adapter, Gains};
use crate::decoder::arena::Buffer;
use crate::model::{Model, Slot};

/// Everything that is the same for all blocks of one pass.
#[derive(Clone, Copy)]
pub(crate) struct Pass<'a> {
    pub model: &'a Model,
    pub adapter: Option<&'a Adapter>,
    /// Row factors, present exactly for DoRA.
    pub gains: Option<&'a Gains>,
    /// Seed of the dropout masks; `None` where nothing is dropped.
    pub dropout_seed: Option<u64>,
    /// The adapter's factors as passes of few rows read them.
    pub few: Option<&'a FewRows>,
    /// A backward will follow.
    pub is_training: bool,
    /// How the frozen products of the pass are computed.
    pub precision_path: PrecisionPath,
}

/// The factors of an adapter for passes of few rows, which read them as streams instead of packing them.
#[derive(Debug)]
pub(crate) struct FewRows {
    /// Per layer and slot, the `A` of its modules: `[rank, k]`.
    pub a: Vec<Vec<Option<Weight>>>,
    /// The `B` of every part turned to `[r, n]`, in the order of the row tables.
    pub b: Vec<f32>,
}

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

    /// The dropped input, where there is dropout.
    fn dropped(&self, x: &[f32], adapter: &Adapter) -> Option<Buffer> {
        let mask = self.mask(adapter)?;
        let mut out = self.pass.model.arena.take(x.len());
        dropout(&self.pass.model.ctx, mask, x, &mut out, Write::Set);
        Some(out)
    }

    fn mask(&self, adapter: &Adapter) -> Option<DropoutMask> {
        let seed = self.pass.dropout_seed?;
        let key = seed ^ mix(((self.layer as u64) << 32) | (self.slot as u64 + 1));
        (adapter.spec.dropout > 0.0).then(|| DropoutMask::new(mix(key), adapter.spec.dropout))
    }

    /// Computes every part of the slot: `outs[i][t, n_i]` from `x[t, k]`.
    pub fn forward(&self, x: &[f32], t: usize, outs: &mut [&mut [f32]]) -> SlotSaved {
        let (model, frozen) = (self.pass.model, self.frozen());
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
        let (ctx, k) = (&model.ctx, self.frozen().k);
        let dropped = self.dropped(x, adapter);
        let input = dropped.as_deref().unwrap_or(x);
        let mut h = model.arena.take(t * slot.rank);
        match self.pass.few.and_then(|few| few.a[self.layer][self.slot].as_ref()) {
            None => {
                let a = &adapter.params[slot.a.clone()];
                times_transposed(ctx, 1.0, [t, slot.rank, k], input, k, a, 0.0, &mut h);
            }
            Some(a) => {
                let outputs = &mut [(a, &mut h[..])];
                linear_on(
                    ctx,
                    Compute::F32,
                    self.pass.precision_path,
                    input,
                    t,
                    outputs,
                    Write::Set,
                );
            }
        }
        for (index, module) in adapter.modules[slot.modules.clone()].iter().enumerate() {
            for (part, b, rows) in self.module_parts(adapter, module) {
                let n = b.len() / adapter.spec.r;
                let h = &h[index * adapter.spec.r..];
                let (scale, out) = (adapter.spec.scale(), &mut *outs[part]);
                let shape = [t, n, adapter.spec.r];
                let low_rank = |y: &mut [f32]| match self.pass.few {
                    None => times_transposed(ctx, scale, shape, h, slot.rank, b, 1.0, y),
                    Some(few) => {
                        let first = rows.start * adapter.spec.r;
                        few_rows(ctx, scale, shape, (h, slot.rank), &few.b[first..first + b.len()], y);
                    }
                };
                match self.pass.gains {
                    None => low_rank(out),
                    Some(gains) => {
                        let u = model.arena.take(t * n);
                        let u = self.dora(&gains.gain[rows.clone()], dropped.as_deref(), t, part, u, out, low_rank);
                        if self.pass.is_training {
                            saved.u.push(u);
                        }
                    }
                }
            }
        }
        if self.pass.is_training {
            saved.h = Some(h);
        }
    }

    /// Applies DoRA to one part and returns `u`.
    #[expect(clippy::too_many_arguments, reason = "one step of `adapt`, split off for its length")]
    fn dora(
        &self,
        gain: &[f32],
        dropped: Option<&[f32]>,
        t: usize,
        part: usize,
        mut u: Buffer,
        out: &mut [f32],
        low_rank: impl Fn(&mut [f32]),
    ) -> Buffer {
        let model = self.pass.model;
        match dropped {
            None => {
                u.copy_from_slice(out);
                low_rank(&mut u);
                scale_columns(&model.ctx, &u, gain, out, Write::Set);
            }
            Some(dropped) => {
                let weight = &self.frozen().parts[part].weight;
                model.products(self.pass.precision_path, dropped, t, &mut [(weight, &mut u)]);
                axpy(&model.ctx, -1.0, &u, out);
                low_rank(&mut u);
                scale_columns(&model.ctx, &u, gain, out, Write::Add);
            }
        }
        u
    }

    /// Lists the parts of a module: index in the slot, rows of `B`, place in the row tables.
    fn module_parts<'m>(
        &self,
        adapter: &'m Adapter,
        module: &'m AdaptedModule,
    ) -> impl Iterator<Item = (usize, &'m [f32], std::ops::Range<usize>)> + use<'m, 'a> {
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
        let is_plain = self.adapted().is_none_or(|(adapter, _)| self.mask(adapter).is_none());
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
        let dropped = self.dropped(x, adapter);
        let input = dropped.as_deref().unwrap_or(x);
        let dh = self.low_rank_backward(adapter, slot, t, &saved, &scaled, d_outs, grads);
        let (ctx, k) = (&model.ctx, frozen.k);
        let d_a = &mut grads[slot.a.clone()];
        transposed_times(ctx, 1.0, [slot.rank, k, t], &dh, slot.rank, input, k, d_a, k);
        drop(dropped);
        let Some(dx) = dx else {
            return;
        };
        let a = &adapter.params[slot.a.clone()];
        match self.mask(adapter) {
            None => times(ctx, [t, k, slot.rank], (&dh, slot.rank), a, [1.0, 1.0], dx),
            Some(mask) => {
                let mut inner = model.arena.take(t * k);
                times(ctx, [t, k, slot.rank], (&dh, slot.rank), a, [1.0, 0.0], &mut inner);
                self.dropped_frozen_backward(t, &scaled, d_outs, &mut inner);
                dropout(ctx, mask, &inner, dx, Write::Add);
            }
        }
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
        let Some(gains) = self.pass.gains else {
            return Vec::new();
        };
        let model = self.pass.model;
        let mut scaled: Vec<Option<Buffer>> = d_outs.iter().map(|_| None).collect();
        let mut u = saved.u.iter();
        for module in &adapter.modules[slot.modules.clone()] {
            let magnitude = module.magnitude.clone().expect("a DoRA module has a magnitude");
            for (part, _, rows) in self.module_parts(adapter, module) {
                let u = u.next().expect("the forward kept one `u` per part");
                let first = magnitude.start + rows.start - module.rows.start;
                let dm = &mut grads[first..first + rows.len()];
                column_dots(&model.ctx, d_outs[part], u, &gains.inverse_norm[rows.clone()], dm);
                let mut out = model.arena.take(d_outs[part].len());
                scale_columns(&model.ctx, d_outs[part], &gains.gain[rows], &mut out, Write::Set);
                scaled[part] = Some(out);
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

    /// DoRA with dropout: adds `W^T ((g - 1) dy)` to the gradient of the dropped input.
    fn dropped_frozen_backward(&self, t: usize, scaled: &[Option<Buffer>], d_outs: &[&[f32]], inner: &mut [f32]) {
        let model = self.pass.model;
        for (index, scaled) in scaled.iter().enumerate() {
            let Some(scaled) = scaled else { continue };
            let mut less = model.arena.take(scaled.len());
            less.copy_from_slice(scaled);
            axpy(&model.ctx, -1.0, d_outs[index], &mut less);
            let weight = &self.frozen().parts[index].weight;
            linear_backward_input(&model.ctx, model.compute, &less, t, weight, inner, Write::Add);
        }
    }
}

/// `y[t, n] += scale h[t, r] b[r, n]`, row by row; rows of `h` lie `stride` apart.
fn few_rows(ctx: &Ctx, scale: f32, [t, n, r]: [usize; 3], (h, stride): (&[f32], usize), b: &[f32], y: &mut [f32]) {
    ctx.pool.run_chunks(&mut y[..t * n], n, |row, y| {
        for (h, b) in h[row * stride..][..r].iter().zip(b.chunks_exact(n)) {
            axpy(ctx, scale * h, b, y);
        }
    });
}

/// `c[m, n] = alpha a[m, k] b[n, k]^T + beta c`.
#[expect(clippy::too_many_arguments, reason = "a product with its factors")]
fn times_transposed(
    ctx: &Ctx,
    alpha: f32,
    [m, n, k]: [usize; 3],
    a: &[f32],
    rsa: usize,
    b: &[f32],
    beta: f32,
    c: &mut [f32],
) {
    let args = GemmArgs {
        m,
        n,
        k,
        a,
        rsa,
        csa: 1,
        b,
        rsb: 1,
        csb: k,
        c,
        rsc: n,
        alpha,
        beta,
    };
    gemm(ctx, args);
}

/// `c[m, n] = alpha a[m, k] b[k, n] + beta c`, where rows of `a` lie `stride` apart.
fn times(
    ctx: &Ctx,
    [m, n, k]: [usize; 3],
    (a, stride): (&[f32], usize),
    b: &[f32],
    [alpha, beta]: [f32; 2],
    c: &mut [f32],
) {
    let args = GemmArgs {
        m,
        n,
        k,
        a,
        rsa: stride,
        csa: 1,
        b,
        rsb: n,
        csb: 1,
        c,
        rsc: n,
        alpha,
        beta,
    };
    gemm(ctx, args);
}

/// `c[m, n] += alpha a[t, m]^T b[t, n]`, rows of `a` and `b` `stride` apart.
#[expect(clippy::too_many_arguments, reason = "a product with its factors and strides")]
fn transposed_times(
    ctx: &Ctx,
    alpha: f32,
    [m, n, t]: [usize; 3],
    a: &[f32],
    stride_a: usize,
    b: &[f32],
    stride_b: usize,
    c: &mut [f32],
    rsc: usize,
) {
    let args = GemmArgs {
        m,
        n,
        k: t,
        a,
        rsa: 1,
        csa: stride_a,
        b,
        rsb: stride_b,
        csb: 1,
        c,
        rsc,
        alpha,
        beta: 1.0,
    };
    gemm(ctx, args);
}

/// `y[t, n] (+)= x[t, n] factor[n]`.
fn scale_columns(ctx: &Ctx, x: &[f32], factor: &[f32], y: &mut [f32], write: Write) {
    let n = factor.len();
    ctx.pool.run_chunks(y, n, |row, y| {
        for ((y, x), f) in y.iter_mut().zip(&x[row * n..]).zip(factor) {
            *y = if write == Write::Add { *y + x * f } else { x * f };
        }
    });
}

/// `out[n] += factor[n] sum_t x[t, n] y[t, n]`, in row order.
fn column_dots(ctx: &Ctx, x: &[f32], y: &[f32], factor: &[f32], out: &mut [f32]) {
    const COLUMNS: usize = 64;
    let n = factor.len();
    ctx.pool.run_chunks(out, COLUMNS, |chunk, out| {
        let first = chunk * COLUMNS;
        let mut sums = [0.0f32; COLUMNS];
        for (x, y) in x.chunks_exact(n).zip(y.chunks_exact(n)) {
            let pairs = x[first..first + out.len()].iter().zip(&y[first..]);
            for (sum, (x, y)) in sums.iter_mut().zip(pairs) {
                *sum += x * y;
            }
        }
        for ((out, sum), factor) in out.iter_mut().zip(sums).zip(&factor[first..]) {
            *out += sum * factor;
        }
    });
}
