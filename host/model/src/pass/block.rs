//! One decoder block: forward, and its gradient by hand.
//!
//! ```text
//! a = attention(rope(norm_q(q(n1 x))), rope(norm_k(k(n1 x))), v(n1 x))      x2 = x  + n2(o(a))
//! m = down(act(gate(n3 x2)) * up(n3 x2))  or a mixture of experts            y  = x2 + n4(m)
//! ```
//!
//! Every norm `n` exists only where the configuration has it. The same function serves training and inference; they
//! differ in the attention that they pass in and in whether the saved set is kept.
//!
//! Kept per row for the backward: `x`, q, k, v, attention output, log-sum-exp, `x2`, gate and up, the thin adapter
//! products; where the family has them also q and k before their norm, and the outputs before `n2` and `n4`. Norms,
//! rotations of normed q and k, and the gated product are computed again.

use dlm_kernels::{
    AttentionSaved, AttentionShape, Ctx, Rope, Segment, Write, add, attention_backward, rmsnorm_backward,
    rmsnorm_forward, rope_backward, rope_forward,
};

use super::Pass;
use super::gated::{self, GatedSaved};
use super::moe::{self, MoeSaved};
use super::slot::{SlotAt, SlotSaved};
use crate::arena::{Arena, Buffer};
use crate::config::{DecoderConfig, LayerKind};
use crate::model::{Layer, Model, OUT, QKV};
use crate::rotary::Tables;

/// The rows of a pass and their angles.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub t: usize,
    pub tables: &'a Tables,
}

/// Queries, keys and values after rotation, as attention sees them.
pub(crate) struct Qkv<'a> {
    pub q: &'a [f32],
    pub k: &'a [f32],
    pub v: &'a [f32],
}

/// What attention writes: its output and, for training, the log-sum-exp of the scores.
pub(crate) struct AttentionOut<'a> {
    pub out: &'a mut [f32],
    pub lse: &'a mut [f32],
}

/// What the backward of a block needs besides its input.
pub(crate) struct Body {
    /// q and k before their norm where there is one, otherwise after rotation.
    q: Buffer,
    k: Buffer,
    v: Buffer,
    qkv: SlotSaved,
    attention: Buffer,
    lse: Buffer,
    out: SlotSaved,
    /// Attention output before the norm after it.
    projected: Option<Buffer>,
    x2: Buffer,
    mlp: MlpSaved,
    /// Output of the feed-forward part before the norm after it.
    mlp_out: Option<Buffer>,
}

/// What the backward of the feed-forward part needs besides its input.
pub(crate) enum MlpSaved {
    Dense(GatedSaved),
    Experts(MoeSaved),
}

/// Returns the attention sizes of a layer.
pub(crate) fn attention_shape(config: &DecoderConfig, kind: LayerKind) -> AttentionShape {
    AttentionShape {
        n_heads: config.n_heads,
        n_kv_heads: config.n_kv_heads,
        head_dim: config.head_dim,
        scale: config.attention_scale,
        softcap: config.attention_softcap,
        window: kind.window,
    }
}

/// Rows after a norm.
struct NormedRows {
    y: Buffer,
    inv_rms: Buffer,
}

fn normed(model: &Model, x: &[f32], weight: &[f32]) -> NormedRows {
    let mut normed = NormedRows {
        y: model.arena.take(x.len()),
        inv_rms: model.arena.take(x.len() / weight.len()),
    };
    rmsnorm_forward(
        &model.ctx,
        x,
        weight,
        0.0,
        model.config.norm_eps,
        &mut normed.y,
        &mut normed.inv_rms,
    );
    normed
}

fn turn(
    model: &Model,
    rows: Rows<'_>,
    kind: LayerKind,
    n_heads: usize,
    x: &mut [f32],
    turn: fn(&Ctx, &Rope<'_>, &mut [f32]),
) {
    if let Some(angles) = rows.tables.of(kind.rope) {
        let rope = Rope {
            n_heads,
            head_dim: model.config.head_dim,
            half: model.rotary.half(),
            cos: &angles.cos,
            sin: &angles.sin,
        };
        turn(&model.ctx, &rope, x);
    }
}

/// Runs a block: the output of `x`, and what its backward needs.
pub(crate) fn forward(
    pass: Pass<'_>,
    index: usize,
    rows: Rows<'_>,
    x: &[f32],
    attend: &mut dyn FnMut(usize, Qkv<'_>, AttentionOut<'_>),
) -> (Buffer, Body) {
    let model = pass.model;
    let (config, arena, layer) = (&model.config, &model.arena, &model.layers[index]);
    let (t, d) = (rows.t, config.d_model);
    let slot = |slot| SlotAt {
        pass,
        layer: index,
        slot,
    };
    let mut q = arena.take(t * config.q_width());
    let mut k = arena.take(t * config.kv_width());
    let mut v = arena.take(t * config.kv_width());
    let before = layer
        .norms
        .before_attention
        .as_ref()
        .map(|weight| normed(model, x, weight));
    let input = before.as_ref().map_or(x, |normed| &normed.y);
    let qkv = slot(QKV).forward(input, t, &mut [&mut q, &mut k, &mut v]);
    drop(before);

    let raw = rotate(model, layer, rows, &mut q, &mut k);
    let mut attention = arena.take(t * config.q_width());
    let mut lse = arena.take(t * config.n_heads);
    let out = AttentionOut {
        out: &mut attention,
        lse: &mut lse,
    };
    attend(index, Qkv { q: &q, k: &k, v: &v }, out);
    let (q, k) = raw.unwrap_or((q, k));

    let mut projected = arena.take(t * d);
    let out = slot(OUT).forward(&attention, t, &mut [&mut projected]);
    let (x2, projected) = residual(model, x, projected, layer.norms.after_attention.as_deref());

    let before = layer.norms.before_mlp.as_ref().map(|weight| normed(model, &x2, weight));
    let input: &[f32] = before.as_ref().map_or(&x2, |normed| &normed.y);
    let (mlp_out, mlp) = match &layer.router {
        None => {
            let (y, saved) = gated::forward(pass, index, 0, input, t);
            (y, MlpSaved::Dense(saved))
        }
        Some(router) => {
            let (y, saved) = moe::forward(pass, index, router, input, t);
            (y, MlpSaved::Experts(saved))
        }
    };
    drop(before);
    let (y, mlp_out) = residual(model, &x2, mlp_out, layer.norms.after_mlp.as_deref());
    let body = Body {
        q,
        k,
        v,
        qkv,
        attention,
        lse,
        out,
        projected,
        x2,
        mlp,
        mlp_out,
    };
    (y, body)
}

/// Norms (where there are any) and turns q and k in place; returns what they were before the norm.
fn rotate(model: &Model, layer: &Layer, rows: Rows<'_>, q: &mut Buffer, k: &mut Buffer) -> Option<(Buffer, Buffer)> {
    let mut raw = None;
    if let (Some(q_norm), Some(k_norm)) = (&layer.norms.q, &layer.norms.k) {
        let q_raw = std::mem::replace(q, normed(model, q, q_norm).y);
        let k_raw = std::mem::replace(k, normed(model, k, k_norm).y);
        raw = Some((q_raw, k_raw));
    }
    turn(model, rows, layer.kind, model.config.n_heads, q, rope_forward);
    turn(model, rows, layer.kind, model.config.n_kv_heads, k, rope_forward);
    raw
}

/// `x + norm(part)`; the second value is `part` where its norm needs it again.
fn residual(model: &Model, x: &[f32], mut part: Buffer, norm: Option<&[f32]>) -> (Buffer, Option<Buffer>) {
    match norm {
        None => {
            add(&model.ctx, x, &mut part);
            (part, None)
        }
        Some(weight) => {
            let mut sum = normed(model, &part, weight).y;
            add(&model.ctx, x, &mut sum);
            (sum, Some(part))
        }
    }
}

/// Gradient of [`forward`]: `d` comes in as that of the output and goes out as that of the input.
///
/// With `input_wanted` false the gradient of the input is not computed and `d` holds nothing of use afterwards.
#[expect(clippy::too_many_arguments, reason = "a block's inputs, saved set and gradients")]
pub(crate) fn backward(
    pass: Pass<'_>,
    index: usize,
    rows: Rows<'_>,
    (segments, positions): (&[Segment], &[u32]),
    x: &[f32],
    body: Body,
    d: &mut [f32],
    input_wanted: bool,
    grads: &mut [f32],
) {
    let model = pass.model;
    let layer = &model.layers[index];
    let slot = |slot| SlotAt {
        pass,
        layer: index,
        slot,
    };
    mlp_backward(pass, index, &body.x2, body.mlp, body.mlp_out, d, grads);
    if !input_wanted && !slot(QKV).is_adapted() && !slot(OUT).is_adapted() {
        return;
    }
    let attention_arguments = (body.q, body.k, body.v, body.attention, body.lse);
    let d_projected = body
        .projected
        .map(|projected| through_norm(model, &projected, layer.norms.after_attention.as_deref(), d));
    let mut d_attention = model.arena.take(attention_arguments.3.len());
    slot(OUT).backward(
        &attention_arguments.3,
        rows.t,
        body.out,
        &[d_projected.as_deref().unwrap_or(d)],
        Some(&mut d_attention),
        grads,
    );
    drop((d_projected, body.x2));
    let [dq, dk, dv] = attend_backward(
        model,
        layer,
        rows,
        (segments, positions),
        attention_arguments,
        d_attention,
    );

    let norm = layer.norms.before_attention.as_deref();
    let before = norm.map(|weight| normed(model, x, weight));
    let input = before.as_ref().map_or(x, |normed| &normed.y);
    let mut d_input = input_wanted.then(|| model.arena.take(input.len()));
    slot(QKV).backward(input, rows.t, body.qkv, &[&dq, &dk, &dv], d_input.as_deref_mut(), grads);
    if let Some(d_input) = d_input {
        join(model, x, norm, before, &d_input, d);
    }
}

/// Gradient through `norm(x)` alone.
fn through_norm(model: &Model, x: &[f32], weight: Option<&[f32]>, dy: &[f32]) -> Buffer {
    let weight = weight.expect("what a norm needs was kept, so there is one");
    let inv_rms = normed(model, x, weight).inv_rms;
    let mut dx = model.arena.take(x.len());
    rmsnorm_backward(&model.ctx, x, weight, 0.0, &inv_rms, dy, &mut dx, Write::Set);
    dx
}

/// Adds the gradient of a part's input to that of the residual stream, through the norm before the part if there is one.
fn join(model: &Model, x: &[f32], weight: Option<&[f32]>, normed: Option<NormedRows>, d_input: &[f32], d: &mut [f32]) {
    match (weight, normed) {
        (Some(weight), Some(normed)) => {
            rmsnorm_backward(&model.ctx, x, weight, 0.0, &normed.inv_rms, d_input, d, Write::Add);
        }
        _ => add(&model.ctx, d_input, d),
    }
}

fn mlp_backward(
    pass: Pass<'_>,
    index: usize,
    x2: &[f32],
    saved: MlpSaved,
    mlp_out: Option<Buffer>,
    d: &mut [f32],
    grads: &mut [f32],
) {
    let model = pass.model;
    let layer = &model.layers[index];
    let d_out = mlp_out.map(|out| through_norm(model, &out, layer.norms.after_mlp.as_deref(), d));
    let norm = layer.norms.before_mlp.as_deref();
    let before = norm.map(|weight| normed(model, x2, weight));
    let input = before.as_ref().map_or(x2, |normed| &normed.y);
    let dy = d_out.as_deref().unwrap_or(d);
    let d_input = match (saved, &layer.router) {
        (MlpSaved::Dense(saved), _) => gated::backward(pass, index, 0, input, saved, dy, grads),
        (MlpSaved::Experts(saved), Some(router)) => moe::backward(pass, index, router, input, saved, dy, grads),
        (MlpSaved::Experts(_), None) => unreachable!("experts were saved by a layer with a router"),
    };
    join(model, x2, norm, before, &d_input, d);
}

/// Gradients of the projections' outputs from that of the attention output.
fn attend_backward(
    model: &Model,
    layer: &Layer,
    rows: Rows<'_>,
    (segments, positions): (&[Segment], &[u32]),
    (mut q, mut k, v, out, lse): (Buffer, Buffer, Buffer, Buffer, Buffer),
    d_out: Buffer,
) -> [Buffer; 3] {
    let (config, arena): (_, &Arena) = (&model.config, &model.arena);
    let raw = match &layer.norms.q {
        Some(_) => rotate(model, layer, rows, &mut q, &mut k),
        None => None,
    };
    let mut dq = arena.take(q.len());
    let mut dk = arena.take(k.len());
    let mut dv = arena.take(v.len());
    let saved = AttentionSaved {
        segments,
        positions,
        q: &q,
        k: &k,
        v: &v,
        out: &out,
        lse: &lse,
    };
    attention_backward(
        &model.ctx,
        &attention_shape(config, layer.kind),
        &saved,
        &d_out,
        &mut dq,
        &mut dk,
        &mut dv,
    );
    drop((q, k, v, out, lse, d_out));
    turn(model, rows, layer.kind, config.n_heads, &mut dq, rope_backward);
    turn(model, rows, layer.kind, config.n_kv_heads, &mut dk, rope_backward);
    if let Some((q_raw, k_raw)) = raw {
        dq = through_norm(model, &q_raw, layer.norms.q.as_deref(), &dq);
        dk = through_norm(model, &k_raw, layer.norms.k.as_deref(), &dk);
    }
    [dq, dk, dv]
}
