//! Block codecs against `tests/golden/quant`: the bytes and values that ggml and the Python package wrote.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::path::{Path, PathBuf};

use dlm_kernels::quant::{GgmlType, Level, dequantize_row, quantize_row_at};
use safetensors::SafeTensors;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/golden/quant")
        .join(name)
}

fn floats(file: &SafeTensors<'_>, name: &str) -> Vec<f32> {
    let view = file.tensor(name).unwrap();
    view.data()
        .as_chunks::<4>()
        .0
        .iter()
        .map(|raw| f32::from_le_bytes(*raw))
        .collect()
}

#[test]
fn dequantized_rows_equal_the_golden_values_bit_for_bit() {
    let raw = std::fs::read(golden("gguf.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&raw).unwrap();
    let mut cases = 0;
    for name in file.names() {
        let Some(stem) = name.strip_suffix(".bytes") else {
            continue;
        };
        let ty_name = stem.split('.').nth(1).unwrap();
        let ty = GgmlType::ALL.into_iter().find(|ty| ty.name() == ty_name).unwrap();
        let bytes = file.tensor(name).unwrap().data();
        let expected = floats(&file, &format!("{stem}.dequant"));
        let mut found = vec![0.0; expected.len()];
        dequantize_row(ty, bytes, &mut found).unwrap();
        for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
            assert!(found == expected, "{stem}: element {i} is {found}, expected {expected}");
        }
        cases += 1;
    }
    assert!(cases >= 30, "only {cases} cases were found in the golden file");
}

/// Root mean square difference of two rows, each value weighed when `weights` are given (one per column).
fn rmse(found: &[f32], x: &[f32], weights: Option<&[f32]>) -> f64 {
    let (mut error, mut total) = (0.0, 0.0);
    for (i, (found, x)) in found.iter().zip(x).enumerate() {
        let weight = weights.map_or(1.0, |weights| f64::from(weights[i % weights.len()]));
        error += weight * (f64::from(*found) - f64::from(*x)).powi(2);
        total += weight;
    }
    (error / total).sqrt()
}

/// Bytes may differ where another build of the reference rounds otherwise; the error may not grow.
const RMSE_FACTOR: f64 = 1.02;

#[test]
fn quantized_rows_equal_the_golden_bytes_or_are_as_good() {
    let raw = std::fs::read(golden("gguf.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&raw).unwrap();
    let facts: serde_json::Value = serde_json::from_slice(&std::fs::read(golden("gguf.json")).unwrap()).unwrap();
    let importance = floats(&file, "importance");
    let mut differing = Vec::new();
    let mut cases = 0;
    for (stem, record) in facts["records"].as_object().unwrap() {
        let parts: Vec<&str> = stem.split('.').collect();
        let (["ggml", ty, kind, input], true) = (parts.as_slice(), true) else {
            continue;
        };
        let ty = GgmlType::ALL.into_iter().find(|known| known.name() == *ty).unwrap();
        let x = floats(&file, input);
        let expected = file.tensor(&format!("{stem}.bytes")).unwrap().data().to_vec();
        let weights = (*kind == "iv").then_some(importance.as_slice());
        let row_bytes = ty.row_bytes(importance.len()).unwrap();
        for level in [Level::Scalar, Level::Avx2, Level::Avx512] {
            let mut bytes = vec![0; expected.len()];
            for (x, out) in x.chunks(importance.len()).zip(bytes.chunks_mut(row_bytes)) {
                quantize_row_at(level, ty, x, weights, out).unwrap();
            }
            let wrong = bytes.iter().zip(&expected).filter(|(a, b)| a != b).count();
            let mut back = vec![0.0; x.len()];
            dequantize_row(ty, &bytes, &mut back).unwrap();
            let bound = record["rmse"].as_f64().unwrap();
            let plain = rmse(&back, &x, None);
            match record.get("weighted_rmse").and_then(serde_json::Value::as_f64) {
                Some(bound) => {
                    let found = rmse(&back, &x, weights);
                    assert!(
                        found <= bound * RMSE_FACTOR,
                        "{stem} {level:?}: weighted rmse {found} above {bound}"
                    );
                }
                None => assert!(
                    plain <= bound * RMSE_FACTOR,
                    "{stem} {level:?}: rmse {plain} above {bound}"
                ),
            }
            if wrong > 0 {
                differing.push(format!("{stem} {level:?}: {wrong} of {}", bytes.len()));
            }
            cases += 1;
        }
    }
    assert!(cases >= 100, "only {cases} cases were found in the golden file");
    assert!(differing.is_empty(), "bytes that differ:\n{}", differing.join("\n"));
}
