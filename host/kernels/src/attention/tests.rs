//! Attention against its twin, and the equalities that packing and caching promise.

use super::*;
use crate::ctx::Simd;
use crate::reference::{self, widen};
use crate::testing::{ATTENTION, DIFFERENCES, SIZES, assert_gradient, assert_near, assert_same_bits, contexts, values};

const PLAIN: AttentionShape = AttentionShape {
    n_heads: 4,
    n_kv_heads: 2,
    head_dim: 64,
    scale: 0.125,
    softcap: None,
    window: None,
};

/// A batch: segments, the positions of its rows, and their number.
struct Batch {
    segments: Vec<Segment>,
    positions: Vec<u32>,
}

impl Batch {
    /// A shared prefix followed by rows that continue it, then a sequence on its own.
    fn shared(prefix: usize, rows: &[usize], alone: usize) -> Batch {
        let mut batch = Batch {
            segments: Vec::new(),
            positions: Vec::new(),
        };
        batch.push(prefix, 0..0, 0);
        for &len in rows {
            batch.push(len, 0..prefix, prefix);
        }
        batch.push(alone, 0..0, 0);
        batch
    }

    fn push(&mut self, len: usize, prefix: Range<usize>, position: usize) {
        let start = self.positions.len();
        self.segments.push(Segment {
            q: start..start + len,
            prefix,
        });
        self.positions.extend((position..position + len).map(|p| p as u32));
    }

    fn rows(&self) -> usize {
        self.positions.len()
    }
}

struct Inputs {
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    d_out: Vec<f32>,
}

impl Inputs {
    fn new(shape: &AttentionShape, rows: usize) -> Inputs {
        let (width, kv_width) = (shape.n_heads * shape.head_dim, shape.n_kv_heads * shape.head_dim);
        Inputs {
            q: values(rows * width, 1).iter().map(|x| 3.0 * x).collect(),
            k: values(rows * kv_width, 2).iter().map(|x| 3.0 * x).collect(),
            v: values(rows * kv_width, 3),
            d_out: values(rows * width, 4),
        }
    }
}

struct Results {
    out: Vec<f32>,
    lse: Vec<f32>,
    dq: Vec<f32>,
    dk: Vec<f32>,
    dv: Vec<f32>,
}

fn run(ctx: &Ctx, shape: &AttentionShape, batch: &Batch, x: &Inputs) -> Results {
    let mut r = Results {
        out: vec![0.0; x.q.len()],
        lse: vec![0.0; shape.n_heads * batch.rows()],
        dq: vec![f32::NAN; x.q.len()],
        dk: vec![f32::NAN; x.k.len()],
        dv: vec![f32::NAN; x.v.len()],
    };
    let (segments, positions) = (&batch.segments, &batch.positions);
    attention_forward(
        ctx, shape, segments, positions, &x.q, &x.k, &x.v, &mut r.out, &mut r.lse,
    );
    let saved = AttentionSaved {
        segments,
        positions,
        q: &x.q,
        k: &x.k,
        v: &x.v,
        out: &r.out,
        lse: &r.lse,
    };
    attention_backward(ctx, shape, &saved, &x.d_out, &mut r.dq, &mut r.dk, &mut r.dv);
    r
}

fn check(ctx: &Ctx, shape: &AttentionShape, batch: &Batch) {
    let x = Inputs::new(shape, batch.rows());
    let found = run(ctx, shape, batch, &x);
    let (q, k, v, d_out) = (widen(&x.q), widen(&x.k), widen(&x.v), widen(&x.d_out));
    let (segments, positions) = (&batch.segments, &batch.positions);
    let (out, lse) = reference::attention_forward(shape, segments, positions, &q, &k, &v);
    let (dq, dk, dv) = reference::attention_backward(shape, segments, positions, (&q, &k, &v), &d_out);
    let what = |name: &str| format!("{name}, {:?}, {shape:?}, {segments:?}", ctx.simd);
    assert_near(&found.out, &out, ATTENTION, &what("out"));
    assert_near(&found.lse, &lse, ATTENTION, &what("lse"));
    assert_near(&found.dq, &dq, ATTENTION, &what("dq"));
    assert_near(&found.dk, &dk, ATTENTION, &what("dk"));
    assert_near(&found.dv, &dv, ATTENTION, &what("dv"));
}

#[test]
fn both_directions_agree_with_the_twin_at_every_length() {
    let shape = AttentionShape {
        n_heads: 2,
        n_kv_heads: 1,
        head_dim: 16,
        scale: 0.25,
        ..PLAIN
    };
    for ctx in contexts() {
        for len in SIZES.into_iter().filter(|&len| len <= 255) {
            check(&ctx, &shape, &Batch::shared(5, &[len], 0));
        }
        check(&ctx, &shape, &Batch::shared(33, &[40, 1, 70], 29));
    }
}

#[test]
fn every_kind_of_head_agrees_with_the_twin() {
    let batch = Batch::shared(19, &[23, 35], 40);
    for ctx in contexts() {
        for (n_heads, n_kv_heads, head_dim) in [(9, 3, 64), (2, 2, 80), (4, 1, 8), (1, 1, 128), (3, 3, 5), (2, 1, 33)] {
            let shape = AttentionShape {
                n_heads,
                n_kv_heads,
                head_dim,
                ..PLAIN
            };
            check(&ctx, &shape, &batch);
        }
        for window in [None, Some(1), Some(7), Some(1000)] {
            for softcap in [None, Some(3.0)] {
                let shape = AttentionShape {
                    window,
                    softcap,
                    ..PLAIN
                };
                check(&ctx, &shape, &batch);
            }
        }
    }
}

#[test]
fn the_gradient_is_the_slope() {
    let batch = Batch::shared(2, &[3, 2], 1);
    for (window, softcap) in [(None, None), (Some(3), Some(2.0))] {
        let shape = AttentionShape {
            n_heads: 2,
            n_kv_heads: 1,
            head_dim: 3,
            window,
            softcap,
            ..PLAIN
        };
        let x = Inputs::new(&shape, batch.rows());
        let (q, k, v, d_out) = (widen(&x.q), widen(&x.k), widen(&x.v), widen(&x.d_out));
        let loss = |q: &[f64], k: &[f64], v: &[f64]| -> f64 {
            let (out, _) = reference::attention_forward(&shape, &batch.segments, &batch.positions, q, k, v);
            out.iter().zip(&d_out).map(|(out, d)| out * d).sum()
        };
        let (dq, dk, dv) =
            reference::attention_backward(&shape, &batch.segments, &batch.positions, (&q, &k, &v), &d_out);
        assert_gradient(&q, &dq, DIFFERENCES, "dq", |q| loss(q, &k, &v));
        assert_gradient(&k, &dk, DIFFERENCES, "dk", |k| loss(&q, k, &v));
        assert_gradient(&v, &dv, DIFFERENCES, "dv", |v| loss(&q, &k, v));
    }
}

#[test]
fn threads_change_nothing() {
    let batch = Batch::shared(30, &[55, 80, 41], 300);
    let x = Inputs::new(&PLAIN, batch.rows());
    for simd in Simd::ALL.into_iter().filter(|&simd| simd <= Simd::detect()) {
        let one = run(&Ctx::new(1, simd), &PLAIN, &batch, &x);
        for threads in [2, 5] {
            let many = run(&Ctx::new(threads, simd), &PLAIN, &batch, &x);
            assert_same_bits(&one.out, &many.out, "out");
            assert_same_bits(&one.lse, &many.lse, "lse");
            assert_same_bits(&one.dq, &many.dq, "dq");
            assert_same_bits(&one.dk, &many.dk, "dk");
            assert_same_bits(&one.dv, &many.dv, "dv");
        }
    }
}

#[test]
fn a_shared_prefix_gives_the_bits_of_a_prefix_of_its_own() {
    let (prefix, len) = (21, 38);
    let width = PLAIN.n_heads * PLAIN.head_dim;
    for ctx in contexts() {
        let shared = Batch::shared(prefix, &[len], 0);
        let mut alone = Batch {
            segments: Vec::new(),
            positions: Vec::new(),
        };
        alone.push(prefix + len, 0..0, 0);
        let x = Inputs::new(&PLAIN, shared.rows());
        let (a, b) = (run(&ctx, &PLAIN, &shared, &x), run(&ctx, &PLAIN, &alone, &x));
        assert_same_bits(
            &a.out[prefix * width..],
            &b.out[prefix * width..],
            "rows behind the prefix",
        );
        assert_same_bits(&a.dq, &b.dq, "gradient of the queries");
    }
}

/// The keys and values of a batch as a cache with heads outermost, in both precisions.
fn cache_of(shape: &AttentionShape, rows: &[f32], capacity: usize) -> (Vec<f32>, Vec<u16>) {
    let (heads, dim) = (shape.n_kv_heads, shape.head_dim);
    let mut cache = vec![f32::NAN; heads * capacity * dim];
    for (row, values) in rows.chunks_exact(heads * dim).enumerate() {
        for (head, values) in values.chunks_exact(dim).enumerate() {
            cache[(head * capacity + row) * dim..][..dim].copy_from_slice(values);
        }
    }
    let half = cache.iter().map(|x| half::f16::from_f32(*x).to_bits()).collect();
    (cache, half)
}

#[test]
fn caches_serve_prompts_and_single_tokens() {
    for ctx in contexts() {
        for (window, softcap) in [(None, None), (Some(9), Some(4.0))] {
            let shape = AttentionShape {
                n_heads: 6,
                n_kv_heads: 2,
                head_dim: 48,
                window,
                softcap,
                ..PLAIN
            };
            let (len, capacity) = (70, 80);
            let mut batch = Batch {
                segments: Vec::new(),
                positions: Vec::new(),
            };
            batch.push(len, 0..0, 0);
            let mut x = Inputs::new(&shape, len);
            // Values that half precision holds exactly.
            for value in x.k.iter_mut().chain(&mut x.v) {
                *value = half::f16::from_f32(*value).to_f32();
            }
            let (expected, _) = reference::attention_forward(
                &shape,
                &batch.segments,
                &batch.positions,
                &widen(&x.q),
                &widen(&x.k),
                &widen(&x.v),
            );
            let (k, k_half) = cache_of(&shape, &x.k, capacity);
            let (v, v_half) = cache_of(&shape, &x.v, capacity);
            for (k, v) in [
                (KvData::F32(&k), KvData::F32(&v)),
                (KvData::F16(&k_half), KvData::F16(&v_half)),
            ] {
                let cache = KvCache {
                    k,
                    v,
                    len,
                    row_stride: 48,
                    head_stride: capacity * 48,
                };
                check_cached(&ctx, &shape, cache, &x.q, &expected);
            }
        }
    }
}

/// Compares the newest rows of a full cache, and single tokens of shorter ones, with the rows of a whole pass.
fn check_cached(ctx: &Ctx, shape: &AttentionShape, cache: KvCache<'_>, q: &[f32], expected: &[f64]) {
    let (len, width) = (cache.len, shape.n_heads * shape.head_dim);
    for rows in [1, 2, 17, 40, len] {
        let at = (len - rows) * width;
        let mut out = vec![f32::NAN; rows * width];
        attention_cached(ctx, shape, &q[at..], rows, &cache, &mut out);
        assert_near(&out, &expected[at..], ATTENTION, "newest rows of a cache");
    }
    let caches = [20, 1, len].map(|len| KvCache { len, ..cache });
    let newest = |cache: &KvCache<'_>| (cache.len - 1) * width..cache.len * width;
    let rows: Vec<f32> = caches.iter().flat_map(|cache| q[newest(cache)].to_vec()).collect();
    let mut out = vec![f32::NAN; rows.len()];
    attention_decode(ctx, shape, &rows, &caches, &mut out);
    for (cache, out) in caches.iter().zip(out.chunks(width)) {
        assert_near(out, &expected[newest(cache)], ATTENTION, "one token of many");
    }
}

/// However rows are cut into passes, and whoever is read beside them, they get the bits of one pass.
#[test]
fn rows_of_caches_do_not_depend_on_the_cut() {
    for ctx in contexts() {
        for (window, softcap) in [(None, None), (Some(9), Some(4.0))] {
            let shape = AttentionShape {
                window,
                softcap,
                ..PLAIN
            };
            let (len, width, kv_width) = (45, shape.n_heads * shape.head_dim, shape.n_kv_heads * shape.head_dim);
            let x = Inputs::new(&shape, len);
            let cache = |len| KvCache {
                k: KvData::F32(&x.k),
                v: KvData::F32(&x.v),
                len,
                row_stride: kv_width,
                head_stride: shape.head_dim,
            };
            let run = |parts: &[Range<usize>]| {
                let mut q = Vec::new();
                let mut sequences = Vec::new();
                for part in parts {
                    let start = q.len() / width;
                    q.extend_from_slice(&x.q[part.start * width..part.end * width]);
                    sequences.push(CachedRows {
                        rows: start..start + part.len(),
                        cache: cache(part.end),
                    });
                }
                let mut out = vec![f32::NAN; q.len()];
                attention_cached_rows(&ctx, &shape, &q, &sequences, &mut out);
                out
            };
            let mut batch = Batch {
                segments: Vec::new(),
                positions: Vec::new(),
            };
            batch.push(len, 0..0, 0);
            let mut whole = vec![f32::NAN; len * width];
            let mut lse = vec![0.0; len * shape.n_heads];
            let (segments, positions) = (&batch.segments, &batch.positions);
            attention_forward(
                &ctx, &shape, segments, positions, &x.q, &x.k, &x.v, &mut whole, &mut lse,
            );
            assert_same_bits(&run(std::slice::from_ref(&(0..len))), &whole, "a cache and packed rows");
            assert_same_bits(
                &run(std::slice::from_ref(&(44..45))),
                &whole[44 * width..],
                "a single row",
            );
            let cut = run(&[0..33, 33..34, 34..45]);
            assert_same_bits(&cut, &whole, "cut in three");
            let beside = run(&[10..20, 0..1, 3..45]);
            assert_same_bits(&beside[..10 * width], &whole[10 * width..20 * width], "beside others");
        }
    }
}

#[test]
#[should_panic(expected = "do not overlap")]
fn overlapping_segments_are_refused() {
    let mut batch = Batch::shared(3, &[4], 0);
    batch.segments[1].q = 2..7;
    let x = Inputs::new(&PLAIN, batch.rows());
    run(&Ctx::new(1, Simd::detect()), &PLAIN, &batch, &x);
}
