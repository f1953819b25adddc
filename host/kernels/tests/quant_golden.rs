//! Block codecs against `tests/golden/quant`: the bytes and values that ggml and the Python package wrote.

use std::path::{Path, PathBuf};

use dlm_kernels::quant::{GgmlType, dequantize_row};
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
fn dequantised_rows_equal_the_golden_values_bit_for_bit() {
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
