//! Integer products of quantized weights: panels against the plain version, and both against decoded values.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use dlm_kernels::quant::{Activation, GgmlType, Panels, dequantize_row, dot_row, quantize_row};
use dlm_kernels::{Ctx, Simd, Write};

const TYPES: [GgmlType; 8] = [
    GgmlType::Q4_0,
    GgmlType::Q4_1,
    GgmlType::Q5_0,
    GgmlType::Q5_1,
    GgmlType::Q8_0,
    GgmlType::Q4_K,
    GgmlType::Q5_K,
    GgmlType::Q6_K,
];

/// A seeded sequence in -1..1 with a few large values.
fn noise(seed: u64, len: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..len)
        .map(|i| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let unit = (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0;
            if i % 97 == 5 { unit * 6.0 } else { unit }
        })
        .collect()
}

fn weight(ty: GgmlType, n: usize, k: usize) -> Vec<u8> {
    let row_bytes = ty.row_bytes(k).unwrap();
    let mut bytes = vec![0; n * row_bytes];
    for (i, out) in bytes.chunks_mut(row_bytes).enumerate() {
        quantize_row(ty, &noise(i as u64 + 3, k), None, out).unwrap();
    }
    bytes
}

#[test]
fn panels_equal_the_plain_product_bit_for_bit() {
    for ty in TYPES {
        for (n, k, tokens) in [(1, 256, 1), (16, 512, 3), (37, 768, 8), (50, 256, 13)] {
            let bytes = weight(ty, n, k);
            let row_bytes = ty.row_bytes(k).unwrap();
            let x = noise(99, tokens * k);
            let activation = Activation::new(&x, k).unwrap();
            for simd in Simd::ALL {
                for threads in [1, 3] {
                    let ctx = Ctx::new(threads, simd);
                    let panels = Panels::pack(&ctx, ty, n, k, &bytes).unwrap();
                    let mut y = vec![1.0; tokens * n];
                    panels.product(&ctx, &activation, &mut y, Write::Set);
                    let mut twice = y.clone();
                    panels.product(&ctx, &activation, &mut twice, Write::Add);
                    for t in 0..tokens {
                        for i in 0..n {
                            let plain = dot_row(ty, &bytes[i * row_bytes..][..row_bytes], &activation, t).unwrap();
                            let at = t * n + i;
                            assert!(y[at] == plain, "{ty} {simd:?} row {i} token {t}: {} for {plain}", y[at]);
                            assert!(twice[at] == plain + plain, "{ty} {simd:?}: added twice");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn the_plain_product_is_near_the_product_of_decoded_values() {
    /// Rounding activations to eight bits: half a step of 1/127 of the largest of 32 values, here at most 6, spread
    /// over random signs.
    const RELATIVE: f32 = 0.01;
    for ty in TYPES {
        let k = 768;
        let bytes = weight(ty, 1, k);
        let x = noise(7, k);
        let activation = Activation::new(&x, k).unwrap();
        let mut decoded = vec![0.0; k];
        dequantize_row(ty, &bytes, &mut decoded).unwrap();
        let exact: f64 = decoded.iter().zip(&x).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum();
        let norm = |values: &[f32]| values.iter().map(|v| v * v).sum::<f32>().sqrt();
        let found = dot_row(ty, &bytes, &activation, 0).unwrap();
        let error = (f64::from(found) - exact).abs() as f32;
        assert!(
            error <= RELATIVE * norm(&decoded) * norm(&x),
            "{ty}: {found} for {exact}"
        );
    }
}

#[test]
fn activations_that_are_not_whole_blocks_are_refused() {
    assert!(Activation::new(&[0.0; 48], 48).is_err());
    assert!(Activation::new(&[0.0; 96], 64).is_err());
    let ctx = Ctx::new(1, Simd::Scalar);
    assert!(Panels::pack(&ctx, GgmlType::Q2_K, 1, 256, &[0; 84]).is_err());
    assert!(Panels::pack(&ctx, GgmlType::Q4_0, 2, 32, &[0; 18]).is_err());
}
