//! Prints the speed of products with frozen weights for the shapes of a 135M model.
//!
//! `cargo run -p dlm-kernels --example gemm_bench [threads]`; each figure is the best of many repetitions.
#![expect(clippy::print_stdout, reason = "printing is what a benchmark does")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use dlm_kernels::{Compute, Ctx, Direction, Simd, Weight, Write, linear, linear_backward_input};

/// `(n, k)` of q/o, k/v, gate/up, down and the head.
const SHAPES: [(usize, usize); 5] = [(576, 576), (192, 576), (1536, 576), (576, 1536), (49152, 576)];
const ROWS: [usize; 5] = [1, 8, 64, 256, 512];

fn values(len: usize, mut state: u32) -> Vec<f32> {
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(1664525).wrapping_add(1013904223);
            (state >> 8) as f32 / (1 << 24) as f32 - 0.5
        })
        .collect()
}

fn best(limit: Duration, mut body: impl FnMut()) -> f64 {
    body();
    let (start, mut best) = (Instant::now(), f64::INFINITY);
    let mut rounds = 0;
    while start.elapsed() < limit || rounds < 3 {
        let begin = Instant::now();
        body();
        best = best.min(begin.elapsed().as_secs_f64());
        rounds += 1;
    }
    best
}

fn main() {
    let threads = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(2);
    let ctx = Ctx::new(threads, Simd::detect());
    println!("{} threads, {}", ctx.pool.threads(), ctx.simd().name());
    for (n, k) in SHAPES {
        let bits: Vec<u16> = values(n * k, 1).iter().map(|x| (x.to_bits() >> 16) as u16).collect();
        let plain = Weight::from_bf16(n, k, &bits).expect("the shape fits");
        for t in ROWS.into_iter().filter(|t| n < 10000 || *t <= 64) {
            let x = values(t * k, 2);
            let dy = values(t * n, 3);
            let mut y = vec![0.0; t * n];
            let mut dx = vec![0.0; t * k];
            for compute in [Compute::F32, Compute::Bf16] {
                if !ctx.supports(compute) {
                    continue;
                }
                let limit = Duration::from_millis(150);
                let rate = |seconds: f64| 2e-9 * (t * n * k) as f64 / seconds;
                let packing = best(limit, || {
                    linear(&ctx, compute, &x, t, &plain, black_box(&mut y), Write::Set)
                });
                let mut w = plain.clone();
                w.prepare(&ctx, compute, Direction::Forward);
                w.prepare(&ctx, compute, Direction::Backward);
                let forward = best(limit, || {
                    linear(&ctx, compute, &x, t, &w, black_box(&mut y), Write::Set)
                });
                let backward = best(limit, || {
                    linear_backward_input(&ctx, compute, &dy, t, &w, black_box(&mut dx), Write::Set);
                });
                println!(
                    "n {n:5} k {k:4} t {t:3} {compute:?}: forward {:6.1} prepared, {:6.1} not; backward {:6.1} GFLOP/s",
                    rate(forward),
                    rate(packing),
                    rate(backward)
                );
            }
        }
    }
}
