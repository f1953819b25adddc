//! More bits err less: the order of the types by their error on values like those of real weights.

#![expect(clippy::unwrap_used, reason = "tests")]

use dlm_kernels::quant::{GgmlType, dequantize_row, quantize_row};

/// Sums of seeded uniform values: near enough to the bell of real weights, the same everywhere.
fn bell(len: usize) -> Vec<f32> {
    let mut state = 7u32;
    let mut uniform = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..len)
        .map(|_| 0.05 * (0..6).map(|_| uniform()).sum::<f32>())
        .collect()
}

/// Error of quantizing to `ty` and back, relative to the values.
fn error(ty: GgmlType, values: &[f32]) -> f64 {
    let mut bytes = vec![0; ty.row_bytes(values.len()).unwrap()];
    quantize_row(ty, values, None, &mut bytes).unwrap();
    let mut back = vec![0.0; values.len()];
    dequantize_row(ty, &bytes, &mut back).unwrap();
    let square = |x: f32| f64::from(x) * f64::from(x);
    let wrong: f64 = values.iter().zip(&back).map(|(a, b)| square(a - b)).sum();
    (wrong / values.iter().map(|x| square(*x)).sum::<f64>()).sqrt()
}

#[test]
fn finer_types_err_less() {
    let values = bell(256 * 64);
    let ladders: [&[GgmlType]; 2] = [
        &[GgmlType::Q4_0, GgmlType::Q5_0, GgmlType::Q8_0],
        &[GgmlType::Q4_1, GgmlType::Q5_1, GgmlType::Q6_K, GgmlType::Q8_0],
    ];
    for ladder in ladders
        .into_iter()
        .chain([&[GgmlType::Q4_K, GgmlType::Q5_K, GgmlType::Q6_K][..]])
    {
        for pair in ladder.windows(2) {
            let (coarse, fine) = (error(pair[0], &values), error(pair[1], &values));
            println!("{} {coarse:.4}, {} {fine:.4}", pair[0], pair[1]);
            assert!(fine < 0.7 * coarse, "{} {coarse}, {} {fine}", pair[0], pair[1]);
        }
    }
    assert!(error(GgmlType::Q5_1, &values) < error(GgmlType::Q5_0, &values));
    assert!(error(GgmlType::Q4_1, &values) < error(GgmlType::Q4_0, &values));
}
