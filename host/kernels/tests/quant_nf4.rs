//! NF4 against `tests/golden/quant/nf4.safetensors`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::path::Path;

use dlm_kernels::quant::dynamic::{DynamicMap, dynamic_levels};
use dlm_kernels::quant::nf4::{NF4_BLOCK, NF4_LEVELS, Nf4Scales, decode, encode};
use dlm_kernels::{Ctx, Simd};
use safetensors::SafeTensors;

fn floats(file: &SafeTensors<'_>, name: &str) -> Vec<f32> {
    let view = file.tensor(name).unwrap();
    view.data()
        .as_chunks::<4>()
        .0
        .iter()
        .map(|raw| f32::from_le_bytes(*raw))
        .collect()
}

fn file() -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/quant/nf4.safetensors")).unwrap()
}

#[test]
fn the_tables_are_the_golden_ones() {
    let raw = file();
    let file = SafeTensors::deserialize(&raw).unwrap();
    assert_eq!(NF4_LEVELS.to_vec(), floats(&file, "nf4_levels"));
    assert_eq!(dynamic_levels(DynamicMap::Signed), floats(&file, "dynamic_map_256"));
}

#[test]
fn codes_scales_and_values_equal_the_golden_ones() {
    /// Restoring the doubly quantized scales: the offset hangs on the order of its sum.
    const TOLERANCE: f32 = 1e-3;
    let raw = file();
    let file = SafeTensors::deserialize(&raw).unwrap();
    for name in ["m64x128", "m160x128"] {
        let x = floats(&file, &format!("{name}.weight"));
        let (mut packed, mut scales) = (vec![0; x.len() / 2], vec![0.0; x.len() / NF4_BLOCK]);
        encode(&Ctx::new(1, Simd::detect()), &x, &mut packed, &mut scales);
        assert_eq!(
            packed,
            file.tensor(&format!("{name}.packed")).unwrap().data(),
            "{name}: codes"
        );
        assert_eq!(scales, floats(&file, &format!("{name}.absmax")), "{name}: scales");
        let mut decoded = vec![0.0; x.len()];
        decode(&packed, &scales, &mut decoded);
        assert_eq!(decoded, floats(&file, &format!("{name}.dequant")), "{name}: values");
        let scales = Nf4Scales::encode(&scales).decode();
        decode(&packed, &scales, &mut decoded);
        for (found, expected) in decoded.iter().zip(floats(&file, &format!("{name}.dq_dequant"))) {
            assert!((found - expected).abs() <= TOLERANCE, "{name}: {found} for {expected}");
        }
    }
}
