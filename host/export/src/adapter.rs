//! A LoRA adapter as a GGUF file beside its base.
//!
//! Invariants: the runtime computes `W x + alpha/r * B (A x)` with one alpha for the whole file, so differences of scale
//! between modules are folded into B; rows of B are rows of W and are re-ordered with them. What the format cannot say
//! (DoRA's magnitudes) is refused before anything is written. **Source:** `spec/export.md` section 7.

use std::path::Path;

use dlm_core::Quant;
use dlm_kernels::quant::{GgmlType, quantize_row};
use dlm_model::adapter::Adapter;
use dlm_model::arch::StoredForm;
use dlm_model::config::DecoderConfig;
use dlm_model::gguf::Value;

use crate::encode::interleave_rows;
use crate::error::ExportError;
use crate::metadata::{Identity, Keys};
use crate::names::{Place, place, sort_key};
use crate::writer::{GgufWriter, TensorRow, WrittenFile};

/// The type of adapter tensors: halves are what runtimes expect, and finer than any base they are added to.
const TYPE: GgmlType = GgmlType::F16;
/// The largest number of a half float.
const HALF_MAX: f32 = 65_504.0;

/// One adapted module.
#[derive(Clone, Copy, Debug)]
pub struct AdapterModule<'a> {
    /// `model.layers.0.self_attn.q_proj`.
    pub path: &'a str,
    /// Output features.
    pub n: usize,
    /// Input features.
    pub k: usize,
    pub rank: usize,
    /// What the product is multiplied with: `alpha / r`, or `alpha / sqrt(r)` for rank-stabilised adapters.
    pub scale: f32,
    /// `[rank, k]`.
    pub a: &'a [f32],
    /// `[n, rank]`.
    pub b: &'a [f32],
    /// The module has a magnitude vector (DoRA).
    pub has_magnitude: bool,
}

impl<'a> AdapterModule<'a> {
    /// Returns the modules of a trained adapter.
    pub fn of(adapter: &'a Adapter) -> Vec<AdapterModule<'a>> {
        let rank = adapter.spec.r;
        let modules = adapter.modules.iter().map(|module| {
            let (a, b) = (&adapter.params[module.a.clone()], &adapter.params[module.b.clone()]);
            AdapterModule {
                path: &module.path,
                n: b.len() / rank,
                k: a.len() / rank,
                rank,
                scale: adapter.spec.scale(),
                a,
                b,
                has_magnitude: module.magnitude.is_some(),
            }
        });
        modules.collect()
    }
}

/// An adapter to write.
#[derive(Clone, Copy, Debug)]
pub struct AdapterExport<'a> {
    pub config: &'a DecoderConfig,
    pub modules: &'a [AdapterModule<'a>],
    pub identity: &'a Identity,
}

/// An adapter file that is about to be written.
#[derive(Clone, Debug)]
pub struct AdapterPlan {
    pub metadata: Vec<(String, Value)>,
    pub tensors: Vec<TensorRow>,
    values: Vec<Vec<f32>>,
}

fn refuse(module: &AdapterModule<'_>, cause: impl Into<String>) -> ExportError {
    ExportError::Adapter {
        module: module.path.to_owned(),
        cause: cause.into(),
    }
}

/// The two tensors of one module: names, shapes, values.
fn module_tensors(
    config: &DecoderConfig,
    module: &AdapterModule<'_>,
    alpha: f32,
) -> Result<[(TensorRow, Vec<f32>); 2], ExportError> {
    let AdapterModule { n, k, rank, .. } = *module;
    if module.has_magnitude {
        return Err(refuse(module, "a GGUF adapter cannot carry the magnitudes of DoRA"));
    }
    if rank == 0 || module.a.len() != rank * k || module.b.len() != n * rank {
        return Err(refuse(
            module,
            format!("its tensors are not [{rank}, {k}] and [{n}, {rank}]"),
        ));
    }
    let weight = format!("{}.weight", module.path);
    let (name, change) = match place(config, &weight) {
        Ok(Place::Own { name, change }) => (name, change),
        Ok(Place::Expert { .. }) => return Err(refuse(module, "experts are stacked in the base file")),
        Ok(Place::Implied) | Err(_) => return Err(refuse(module, "the base file has no tensor of its own for it")),
    };
    // The runtime multiplies with alpha / rank.
    let factor = module.scale * rank as f32 / alpha;
    let mut b: Vec<f32> = match change {
        StoredForm::Interleaved { heads } if heads > 0 && n.is_multiple_of(2 * heads) => {
            interleave_rows(module.b, n, heads)
        }
        StoredForm::Interleaved { heads } => {
            return Err(refuse(module, format!("{n} rows do not divide into {heads} heads")));
        }
        StoredForm::AsTheyAre | StoredForm::PlusOne => module.b.to_vec(),
    };
    if factor != 1.0 {
        b.iter_mut().for_each(|value| *value *= factor);
    }
    if let Some(bad) = module
        .a
        .iter()
        .chain(&b)
        .find(|value| value.is_nan() || value.abs() > HALF_MAX)
    {
        return Err(ExportError::AdapterValue {
            name: module.path.to_owned(),
            found: *bad,
            ty: TYPE,
        });
    }
    let row = |suffix: &str, shape| TensorRow {
        name: format!("{name}.{suffix}"),
        shape,
        ty: TYPE,
    };
    Ok([
        (row("lora_a", vec![rank, k]), module.a.to_vec()),
        (row("lora_b", vec![n, rank]), b),
    ])
}

/// Plans an adapter file.
///
/// **Errors:** no modules, DoRA, a module without a tensor in the base file, tensors of another shape than stated.
pub fn plan_adapter(export: &AdapterExport<'_>) -> Result<AdapterPlan, ExportError> {
    let first = export.modules.first().ok_or_else(|| ExportError::Adapter {
        module: "(none)".to_owned(),
        cause: "the adapter changes nothing".to_owned(),
    })?;
    // One alpha for the file: that of the first module, so the usual adapter is written as it is.
    let alpha = first.scale * first.rank as f32;
    if !(alpha.is_finite() && alpha > 0.0) {
        return Err(refuse(
            first,
            format!("its scale is {}, expected a positive number", first.scale),
        ));
    }
    let mut keys = Keys::new("general");
    keys.text("architecture", export.config.arch.facts().gguf);
    keys.text("type", "adapter");
    keys.text("name", &export.identity.name);
    keys.put("file_type", Value::U32(Quant::F16.file_type()));
    let mut metadata = keys.list;
    metadata.push(("adapter.type".to_owned(), Value::String("lora".to_owned())));
    metadata.push(("adapter.lora.alpha".to_owned(), Value::F32(alpha)));
    let provenance = export.identity.provenance.iter();
    metadata.extend(provenance.map(|(key, text)| (key.clone(), Value::String(text.clone()))));
    let mut tensors = Vec::new();
    for module in export.modules {
        tensors.extend(module_tensors(export.config, module, alpha)?);
    }
    tensors.sort_by_cached_key(|(row, _)| sort_key(&row.name));
    if let Some(pair) = tensors.windows(2).find(|pair| pair[0].0.name == pair[1].0.name) {
        let module = pair[0].0.name.clone();
        return Err(ExportError::Adapter {
            module,
            cause: "it is adapted twice".to_owned(),
        });
    }
    let (tensors, values) = tensors.into_iter().unzip();
    Ok(AdapterPlan {
        metadata,
        tensors,
        values,
    })
}

/// Writes a planned adapter.
///
/// **Errors:** a failed write, which leaves nothing behind.
pub fn write_adapter(plan: &AdapterPlan, path: &Path) -> Result<WrittenFile, ExportError> {
    let mut writer = GgufWriter::create(path, &plan.metadata, &plan.tensors)?;
    for (tensor, values) in plan.tensors.iter().zip(&plan.values) {
        let mut bytes = vec![0; tensor.bytes().unwrap_or(0)];
        quantize_row(tensor.ty, values, None, &mut bytes)?;
        writer.tensor(&tensor.name, &bytes)?;
    }
    writer.finish()
}
