//! Prints the time of the operations around the big products, for the sizes of a 135M model.
//!
//! `cargo run -p dlm-kernels --example ops_bench [threads] [part of a name]`; each figure is the best of many repetitions.
#![expect(clippy::print_stdout, reason = "printing is what a benchmark does")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use dlm_kernels::quant::{GgmlType, quantize_row};
use dlm_kernels::{
    Activation, AdamW, AttentionSaved, AttentionShape, Bytes, Compute, Ctx, Direction, GemmArgs, KvCache, KvData,
    Moments, RowTarget, Segment, Simd, Weight, Write, adamw_step, add, attention_backward, attention_decode,
    attention_forward, gated_backward, gated_forward, gemm, linear, linear_backward_input, loss_rows, rmsnorm_backward,
    rmsnorm_forward,
};

const SHAPE: AttentionShape = AttentionShape {
    n_heads: 9,
    n_kv_heads: 3,
    head_dim: 64,
    scale: 0.125,
    softcap: None,
    window: None,
};
const D: usize = 576;
const FF: usize = 1536;
const VOCAB: usize = 49152;
const T: usize = 512;

fn values(len: usize, mut state: u32) -> Vec<f32> {
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(1664525).wrapping_add(1013904223);
            (state >> 8) as f32 / (1 << 24) as f32 - 0.5
        })
        .collect()
}

/// Seconds that the main thread has run so far, where the system tells: on a busy machine the honest measure.
fn processor_seconds() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let nanoseconds: f64 = text.split(' ').next()?.parse().ok()?;
    Some(nanoseconds * 1e-9)
}

/// Prints the best time of `body`, its mean processor time, and the rate of `amount` (in `unit`) at the lesser of both.
fn report(name: &str, amount: f64, unit: &str, mut body: impl FnMut()) {
    if std::env::args().nth(2).is_some_and(|part| !name.contains(&part)) {
        return;
    }
    body();
    let (start, before) = (Instant::now(), processor_seconds());
    let (mut best, mut rounds) = (f64::INFINITY, 0u32);
    while start.elapsed() < Duration::from_millis(500) || rounds < 5 {
        let begin = Instant::now();
        body();
        best = best.min(begin.elapsed().as_secs_f64());
        rounds += 1;
    }
    let used = before
        .zip(processor_seconds())
        .map(|(before, after)| (after - before) / f64::from(rounds));
    let used = used.unwrap_or(f64::INFINITY);
    let rate = amount * 1e-9 / best.min(used);
    println!(
        "{name:44} best {:9.1} us, processor {:9.1} us, {rate:8.2} G{unit}/s",
        best * 1e6,
        used * 1e6
    );
}

fn attention(ctx: &Ctx, name: &str, segments: &[Segment], positions: &[u32]) {
    let rows = positions.len();
    let (width, kv) = (9 * 64, 3 * 64);
    let (q, k, v) = (values(rows * width, 1), values(rows * kv, 2), values(rows * kv, 3));
    let d_out = values(rows * width, 4);
    let (mut out, mut lse) = (vec![0.0; rows * width], vec![0.0; rows * 9]);
    let (mut dq, mut dk, mut dv) = (vec![0.0; rows * width], vec![0.0; rows * kv], vec![0.0; rows * kv]);
    let pairs: usize = segments
        .iter()
        .map(|s| s.q.len() * s.prefix.len() + s.q.len() * (s.q.len() + 1) / 2)
        .sum();
    let flops = (pairs * 9 * 64) as f64;
    report(&format!("attention forward, {name}"), 4.0 * flops, "flop", || {
        attention_forward(ctx, &SHAPE, segments, positions, &q, &k, &v, &mut out, &mut lse);
    });
    report(&format!("attention backward, {name}"), 10.0 * flops, "flop", || {
        let saved = AttentionSaved {
            segments,
            positions,
            q: &q,
            k: &k,
            v: &v,
            out: &out,
            lse: &lse,
        };
        attention_backward(ctx, &SHAPE, &saved, &d_out, &mut dq, &mut dk, &mut dv);
    });
}

fn attentions(ctx: &Ctx) {
    let positions: Vec<u32> = (0..T as u32).collect();
    attention(ctx, "one row of 512", &[Segment { q: 0..T, prefix: 0..0 }], &positions);
    let mut segments = vec![Segment { q: 0..30, prefix: 0..0 }];
    let mut positions: Vec<u32> = (0..30).collect();
    for _ in 0..8 {
        let start = positions.len();
        segments.push(Segment {
            q: start..start + 55,
            prefix: 0..30,
        });
        positions.extend(30..85);
    }
    attention(ctx, "8 rows of 55 behind 30", &segments, &positions);
    for len in [100, 1000] {
        let (q, cache) = (values(9 * 64, 1), values(len * 3 * 64, 2));
        let mut out = vec![0.0; 9 * 64];
        let data = KvData::F32(&cache);
        let cache = KvCache {
            k: data,
            v: data,
            len,
            row_stride: 3 * 64,
            head_stride: 64,
        };
        report(
            &format!("attention, one token over {len}"),
            (len * 2 * 3 * 64 * 4) as f64,
            "B",
            || {
                attention_decode(ctx, &SHAPE, &q, &[cache], black_box(&mut out));
            },
        );
    }
}

fn rows(ctx: &Ctx) {
    let (x, weight, dy) = (values(T * D, 1), values(D, 2), values(T * D, 3));
    let (mut y, mut inv, mut dx) = (vec![0.0; T * D], vec![0.0; T], vec![0.0; T * D]);
    report("norm forward", (T * D * 8) as f64, "B", || {
        rmsnorm_forward(ctx, &x, &weight, 0.0, 1e-5, &mut y, &mut inv);
    });
    report("norm backward, added", (T * D * 16) as f64, "B", || {
        rmsnorm_backward(ctx, &x, &weight, 0.0, &inv, &dy, &mut dx, Write::Add);
    });
    report("residual add", (T * D * 12) as f64, "B", || add(ctx, &x, &mut y));
    let (gate, up, d_out) = (values(T * FF, 1), values(T * FF, 2), values(T * FF, 3));
    let (mut out, mut d_gate, mut d_up) = (vec![0.0; T * FF], vec![0.0; T * FF], vec![0.0; T * FF]);
    report("gate forward", (T * FF * 12) as f64, "B", || {
        gated_forward(ctx, Activation::Silu, &gate, &up, &mut out);
    });
    report("gate backward", (T * FF * 20) as f64, "B", || {
        gated_backward(ctx, Activation::Silu, &gate, &up, &d_out, &mut d_gate, &mut d_up);
    });
    let logits = values(64 * VOCAB, 1);
    let (mut work, mut losses) = (logits.clone(), vec![0.0; 64]);
    let targets = vec![RowTarget::Token(7); 64];
    report(
        "loss of 64 rows of logits, with a copy",
        (64 * VOCAB) as f64,
        "logit",
        || {
            work.copy_from_slice(&logits);
            loss_rows(ctx, &mut work, VOCAB, None, &targets, &[1.0; 64], &mut losses);
        },
    );
}

fn single_tokens(ctx: &Ctx) {
    let bits: Vec<u16> = (0..VOCAB * D).map(|i| 0x3c00 + (i % 512) as u16).collect();
    let x = values(4 * D, 1);
    let mut y = vec![0.0; 4 * VOCAB];
    let bf16 = Weight::from_bf16(VOCAB, D, &bits).expect("the shape fits");
    let f16 = Weight::from_f16(VOCAB, D, &bits).expect("the shape fits");
    let ceiling: Vec<u8> = bits.iter().flat_map(|bits| bits.to_le_bytes()).collect();
    report(
        "reading the head's bytes, rows of memory",
        ceiling.len() as f64,
        "B",
        || {
            let part = ceiling.len().div_ceil(64 * ctx.pool.threads()) * 64;
            ctx.pool.run(ctx.pool.threads(), |index| {
                let mut lanes = [0u64; 8];
                for line in ceiling[index * part..ceiling.len().min((index + 1) * part)]
                    .as_chunks::<64>()
                    .0
                {
                    for (lane, word) in lanes.iter_mut().zip(line.as_chunks::<8>().0) {
                        *lane ^= u64::from_le_bytes(*word);
                    }
                }
                black_box(lanes);
            });
        },
    );
    for (name, w) in [("bf16", &bf16), ("f16", &f16)] {
        for t in [1, 4] {
            report(
                &format!("head in {name}, {t} rows"),
                (VOCAB * D * 2) as f64,
                "B",
                || {
                    linear(ctx, Compute::F32, &x[..t * D], t, w, &mut y[..t * VOCAB], Write::Set);
                },
            );
        }
    }
    let w = Weight::from_bf16(D, D, &bits[..D * D]).expect("the shape fits");
    report("576 x 576 in bf16, 1 row", (D * D * 2) as f64, "B", || {
        linear(ctx, Compute::F32, &x[..D], 1, &w, &mut y[..D], Write::Set);
    });
}

/// The products of a step with a weight of a 1.5B model, as it may be kept: laid out beforehand, plain, in four bits.
fn stored_weights(ctx: &Ctx) {
    const N: usize = 8960;
    const K: usize = 1536;
    let plain = values(N * K, 1);
    let bits: Vec<u16> = plain.iter().map(|x| (x.to_bits() >> 16) as u16).collect();
    let bf16 = Weight::from_bf16(N, K, &bits).expect("the shape fits");
    let quantized = |ty: GgmlType| {
        let mut bytes = vec![0; ty.row_bytes(K).expect("whole blocks") * N];
        for (row, out) in plain
            .chunks(K)
            .zip(bytes.chunks_mut(ty.row_bytes(K).expect("whole blocks")))
        {
            quantize_row(ty, row, None, out).expect("whole blocks");
        }
        Weight::from_bytes(ty, N, K, Bytes::from_vec(bytes)).expect("the shape fits")
    };
    let computes = [("bf16", Compute::Bf16), ("f32", Compute::F32)];
    for (products, compute) in computes.into_iter().filter(|(_, compute)| ctx.supports(*compute)) {
        let mut laid_out = bf16.clone();
        laid_out.prepare(ctx, compute, Direction::Forward);
        laid_out.prepare(ctx, compute, Direction::Backward);
        let weights = [
            ("laid out", laid_out),
            ("bf16", bf16.clone()),
            ("NF4", bf16.to_nf4(ctx).expect("plain floats")),
            ("Q4_K", quantized(GgmlType::Q4_K)),
            ("Q6_K", quantized(GgmlType::Q6_K)),
        ];
        for t in [96, 512] {
            let (x, dy) = (values(t * K, 2), values(t * N, 3));
            let (mut y, mut dx) = (vec![0.0; t * N], vec![0.0; t * K]);
            let flops = (2 * t * N * K) as f64;
            for (name, w) in &weights {
                report(
                    &format!("stored {name}, {products}, {t} rows, forward"),
                    flops,
                    "flop",
                    || {
                        linear(ctx, compute, &x, t, w, &mut y, Write::Set);
                    },
                );
                report(
                    &format!("stored {name}, {products}, {t} rows, backward"),
                    flops,
                    "flop",
                    || {
                        linear_backward_input(ctx, compute, &dy, t, w, &mut dx, Write::Set);
                    },
                );
            }
        }
    }
}

fn adapters(ctx: &Ctx) {
    for r in [8, 16] {
        let (x, a, b) = (values(T * D, 1), values(r * D, 2), values(D * r, 3));
        let (mut h, mut y) = (values(T * r, 4), vec![0.0; T * D]);
        let (mut da, mut db) = (vec![0.0; r * D], vec![0.0; D * r]);
        let flops = (2 * T * D * r) as f64;
        let product = |name: &str,
                       (m, n, k): (usize, usize, usize),
                       a: (&[f32], usize, usize),
                       b: (&[f32], usize, usize),
                       c: &mut [f32]| {
            report(&format!("adapter r {r}: {name}"), flops, "flop", || {
                let args = GemmArgs {
                    m,
                    n,
                    k,
                    a: a.0,
                    rsa: a.1,
                    csa: a.2,
                    b: b.0,
                    rsb: b.1,
                    csb: b.2,
                    c: &mut *c,
                    rsc: n,
                    alpha: 1.0,
                    beta: 1.0,
                };
                gemm(ctx, args);
            });
        };
        product("h = x A^T", (T, r, D), (&x, D, 1), (&a, 1, D), &mut h);
        product("y += h B^T", (T, D, r), (&h, r, 1), (&b, 1, r), &mut y);
        product("dB = dy^T h", (D, r, T), (&x, 1, D), (&h, r, 1), &mut db);
        product("dA = dh^T x", (r, D, T), (&h, 1, r), (&x, D, 1), &mut da);
        product("dx += dh A", (T, D, r), (&h, r, 1), (&a, D, 1), &mut y);
    }
    let len = 1_000_000;
    let (mut p, g, mut m, mut v) = (values(len, 1), values(len, 2), values(len, 3), vec![1.0; len]);
    let settings = AdamW {
        lr: 1e-4,
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        weight_decay: 0.0,
    };
    report("AdamW, a million parameters", (len * 28) as f64, "B", || {
        adamw_step(ctx, &settings, 5, 1.0, &mut p, &g, &mut m, &mut v);
    });
    let mut moments = Moments::eight_bit(len);
    report(
        "AdamW in eight bits, a million parameters",
        (len * 16) as f64,
        "B",
        || {
            moments.step(ctx, &settings, (5, 1.0), &mut p, &g);
        },
    );
}

fn main() {
    let threads = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(2);
    let ctx = Ctx::new(threads, Simd::detect());
    println!("{} threads, {}", ctx.pool.threads(), ctx.simd().name());
    report("a region of two empty tasks", 0.0, "", || ctx.pool.run(2, |_| {}));
    attentions(&ctx);
    rows(&ctx);
    single_tokens(&ctx);
    stored_weights(&ctx);
    adapters(&ctx);
}
