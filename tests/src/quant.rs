//! `quant/`: block codecs against the bytes and values of ggml, and NF4 against its definition.

use std::path::Path;

use dlm_kernels::quant::nf4::{self, NF4_BLOCK, Nf4Scales};
use dlm_kernels::quant::{GgmlType, dequantize_row, quantize_row};
use dlm_kernels::{Ctx, Simd};
use safetensors::SafeTensors;
use serde_json::Value;

use crate::{Case, Failed};

/// A quantizer may be built otherwise than the reference's, but not be worse than it by more than this.
const RMSE_FACTOR: f64 = 1.02;
/// Restoring doubly quantized scales hangs on the order of a sum.
const DOUBLE_QUANT_TOLERANCE: f64 = 1e-3;

/// Runs every file of the directory.
pub fn run(dir: &Path) -> Result<Vec<Case>, Failed> {
    let mut cases = Vec::new();
    if dir.join("gguf.safetensors").exists() {
        let raw = std::fs::read(dir.join("gguf.safetensors"))?;
        let file = SafeTensors::deserialize(&raw)?;
        cases.extend(decode(&file)?);
        cases.extend(encode(&file, &dir.join("gguf.json"))?);
    }
    if dir.join("nf4.safetensors").exists() {
        let raw = std::fs::read(dir.join("nf4.safetensors"))?;
        cases.extend(nf4(&SafeTensors::deserialize(&raw)?)?);
    }
    Ok(cases)
}

fn floats(file: &SafeTensors<'_>, name: &str) -> Result<Vec<f32>, Failed> {
    Ok(file
        .tensor(name)?
        .data()
        .as_chunks::<4>()
        .0
        .iter()
        .map(|raw| f32::from_le_bytes(*raw))
        .collect())
}

fn type_of(stem: &str) -> Result<GgmlType, Failed> {
    let name = stem
        .split('.')
        .nth(1)
        .ok_or_else(|| format!("`{stem}` names no type"))?;
    GgmlType::ALL
        .into_iter()
        .find(|ty| ty.name() == name)
        .ok_or_else(|| format!("unknown type `{name}`").into())
}

/// Decoding is exact: any difference is a miss.
fn decode(file: &SafeTensors<'_>) -> Result<Vec<Case>, Failed> {
    let stems: Vec<String> = file
        .names()
        .iter()
        .filter_map(|n| n.strip_suffix(".bytes"))
        .map(str::to_owned)
        .collect();
    stems
        .into_iter()
        .map(|stem| {
            let expected = floats(file, &format!("{stem}.dequant"))?;
            let mut found = vec![0.0; expected.len()];
            dequantize_row(
                type_of(&stem)?,
                file.tensor(&format!("{stem}.bytes"))?.data(),
                &mut found,
            )?;
            Ok(Case {
                name: format!("decode {stem}"),
                deviation: worst(&found, &expected),
                tolerance: 0.0,
            })
        })
        .collect()
}

fn encode(file: &SafeTensors<'_>, facts: &Path) -> Result<Vec<Case>, Failed> {
    let facts: Value = serde_json::from_slice(&std::fs::read(facts)?)?;
    let records = facts["records"].as_object().ok_or("gguf.json has no `records`")?;
    let importance = floats(file, "importance")?;
    let mut cases = Vec::new();
    for (stem, record) in records {
        let parts: Vec<&str> = stem.split('.').collect();
        let ["ggml", _, kind, input] = parts.as_slice() else {
            continue;
        };
        let (ty, x) = (type_of(stem)?, floats(file, input)?);
        let weights = (*kind == "iv").then_some(importance.as_slice());
        let row_bytes = ty
            .row_bytes(importance.len())
            .ok_or("rows do not fit the type's blocks")?;
        let mut bytes = vec![0; row_bytes * (x.len() / importance.len())];
        for (x, out) in x.chunks(importance.len()).zip(bytes.chunks_mut(row_bytes)) {
            quantize_row(ty, x, weights, out)?;
        }
        let mut back = vec![0.0; x.len()];
        dequantize_row(ty, &bytes, &mut back)?;
        let (key, used) = if record.get("weighted_rmse").is_some() {
            ("weighted_rmse", weights)
        } else {
            ("rmse", None)
        };
        let bound = record[key].as_f64().ok_or_else(|| format!("{stem}: no `{key}`"))?;
        cases.push(Case {
            name: format!("encode {stem}"),
            deviation: rmse(&back, &x, used),
            tolerance: bound * RMSE_FACTOR,
        });
    }
    Ok(cases)
}

fn nf4(file: &SafeTensors<'_>) -> Result<Vec<Case>, Failed> {
    let mut cases = Vec::new();
    let names: Vec<String> = file
        .names()
        .iter()
        .filter_map(|n| n.strip_suffix(".weight"))
        .map(str::to_owned)
        .collect();
    for name in names {
        let x = floats(file, &format!("{name}.weight"))?;
        let (mut codes, mut scales) = (vec![0; x.len().div_ceil(2)], vec![0.0; x.len().div_ceil(NF4_BLOCK)]);
        nf4::encode(&Ctx::new(1, Simd::detect()), &x, &mut codes, &mut scales);
        let packed = file.tensor(&format!("{name}.packed"))?;
        let wrong = codes.iter().zip(packed.data()).filter(|(a, b)| a != b).count();
        cases.push(Case {
            name: format!("nf4 {name} codes"),
            deviation: wrong as f64,
            tolerance: 0.0,
        });
        let mut decoded = vec![0.0; x.len()];
        nf4::decode(&codes, &scales, &mut decoded);
        let expected = floats(file, &format!("{name}.dequant"))?;
        cases.push(Case {
            name: format!("nf4 {name} values"),
            deviation: worst(&decoded, &expected),
            tolerance: 0.0,
        });
        let scales = Nf4Scales::encode(&scales).decode();
        nf4::decode(&codes, &scales, &mut decoded);
        let expected = floats(file, &format!("{name}.dq_dequant"))?;
        cases.push(Case {
            name: format!("nf4 {name} values, double quantized"),
            deviation: worst(&decoded, &expected),
            tolerance: DOUBLE_QUANT_TOLERANCE,
        });
    }
    Ok(cases)
}

/// Largest absolute difference; infinite when lengths differ or a value is no number.
fn worst(found: &[f32], expected: &[f32]) -> f64 {
    if found.len() != expected.len() {
        return f64::INFINITY;
    }
    found.iter().zip(expected).fold(0.0, |worst, (a, b)| {
        let d = f64::from((a - b).abs());
        if d.is_nan() { f64::INFINITY } else { worst.max(d) }
    })
}

fn rmse(found: &[f32], x: &[f32], weights: Option<&[f32]>) -> f64 {
    let (mut error, mut total) = (0.0, 0.0);
    for (i, (found, x)) in found.iter().zip(x).enumerate() {
        let weight = weights.map_or(1.0, |weights| f64::from(weights[i % weights.len()]));
        error += weight * (f64::from(*found) - f64::from(*x)).powi(2);
        total += weight;
    }
    (error / total).sqrt()
}
