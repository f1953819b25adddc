//! PEFT's file layout: `adapter_config.json` and `adapter_model.safetensors`.
//!
//! Invariants: the same adapter gives the same bytes; loading accounts for every tensor of the file and of the model, so
//! an adapter of another base is refused and never half applied.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use dlm_files::{Disk, DiskError};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::{Value, json};

use super::{Adapter, AdapterError, AdapterKind, AdapterSpec};
use crate::model::Model;

/// Largest settings file that is read.
const CONFIG_BYTES_MAX: u64 = 1 << 20;
/// Largest tensor file that is read.
const TENSORS_BYTES_MAX: u64 = 8 << 30;
const CONFIG_FILE: &str = "adapter_config.json";
const TENSORS_FILE: &str = "adapter_model.safetensors";

/// What the files say besides the adapter itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeftMeta {
    /// Name of the base model, for `base_model_name_or_path`.
    pub base: String,
    /// Revision of the base model.
    pub revision: Option<String>,
}

impl Adapter {
    /// Returns the contents of the two files, settings first.
    pub fn peft_files(&self, meta: &PeftMeta) -> [(&'static str, Vec<u8>); 2] {
        [
            (CONFIG_FILE, self.peft_config(meta)),
            (TENSORS_FILE, self.peft_tensors()),
        ]
    }

    /// Writes the two files into an existing directory.
    ///
    /// **Errors:** a tensor that is not finite (nothing is written then), a file that cannot be written.
    pub fn save_peft(&self, dir: &Path, meta: &PeftMeta) -> Result<(), AdapterError> {
        self.check_finite()?;
        for (name, bytes) in self.peft_files(meta) {
            let path = dir.join(name);
            Disk::new().write(&path, &bytes).map_err(|error| AdapterError::File {
                path: path.display().to_string(),
                source: error.into_io(),
            })?;
        }
        Ok(())
    }

    /// Checks that every tensor is finite.
    ///
    /// **Errors:** the first tensor that is not.
    pub fn check_finite(&self) -> Result<(), AdapterError> {
        for (name, _, range) in self.tensors() {
            if self.params[range].iter().any(|value| !value.is_finite()) {
                return Err(AdapterError::NotFinite { name });
            }
        }
        Ok(())
    }

    fn peft_config(&self, meta: &PeftMeta) -> Vec<u8> {
        let alpha = match self.spec.alpha.fract() == 0.0 {
            true => json!(self.spec.alpha as i64),
            false => json!(self.spec.alpha),
        };
        let config = json!({
            "alpha_pattern": {},
            "auto_mapping": null,
            "base_model_name_or_path": meta.base,
            "bias": "none",
            "fan_in_fan_out": false,
            "inference_mode": true,
            "init_lora_weights": true,
            "layers_pattern": null,
            "layers_to_transform": null,
            "lora_alpha": alpha,
            // Printed and read back, so that 0.05 stays 0.05 and not the nearest `f32` in decimals.
            "lora_dropout": shortest(self.spec.dropout),
            "modules_to_save": null,
            "peft_type": "LORA",
            "r": self.spec.r,
            "rank_pattern": {},
            "revision": meta.revision,
            "target_modules": self.target_names,
            "task_type": "CAUSAL_LM",
            "use_dora": self.spec.kind == AdapterKind::Dora,
            "use_rslora": false,
        });
        let mut bytes = serde_json::to_vec_pretty(&config).expect("a JSON value is serializable");
        bytes.push(b'\n');
        bytes
    }

    fn peft_tensors(&self) -> Vec<u8> {
        let bytes: BTreeMap<String, (Vec<usize>, Vec<u8>)> = self
            .tensors()
            .map(|(name, shape, range)| {
                let bytes = self.params[range]
                    .iter()
                    .flat_map(|value| value.to_le_bytes())
                    .collect();
                (name, (shape, bytes))
            })
            .collect();
        let views = bytes.iter().map(|(name, (shape, bytes))| {
            let view = TensorView::new(Dtype::F32, shape.clone(), bytes).expect("bytes fit the shape");
            (name.as_str(), view)
        });
        let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        safetensors::serialize(views, Some(metadata)).expect("names are distinct and the header is small")
    }

    /// Reads an adapter for `model` from the directory of the two files.
    ///
    /// **Errors:** settings that this program does not apply, a tensor that belongs to no module or is missing, a wrong
    /// shape or type, numbers that are not finite.
    pub fn load_peft(dir: &Path, model: &Model) -> Result<Adapter, AdapterError> {
        let path = dir.join(CONFIG_FILE);
        let spec = parse_config(&path.display().to_string(), &read(&path, CONFIG_BYTES_MAX)?)?;
        let path = dir.join(TENSORS_FILE);
        Adapter::from_safetensors(
            &path.display().to_string(),
            &read(&path, TENSORS_BYTES_MAX)?,
            model,
            &spec,
        )
    }

    /// Fills an adapter of `spec` from the bytes of a safetensors file; `path` names them in errors.
    ///
    /// The targets of `spec` bound what the file may hold; the modules that get an adapter are those of the file.
    ///
    /// **Errors:** as [`Adapter::load_peft`].
    pub fn from_safetensors(
        path: &str,
        bytes: &[u8],
        model: &Model,
        spec: &AdapterSpec,
    ) -> Result<Adapter, AdapterError> {
        let file = SafeTensors::deserialize(bytes).map_err(|error| AdapterError::Malformed {
            path: path.to_owned(),
            cause: error.to_string(),
        })?;
        let mut adapter = Adapter::zeroed(model, spec)?;
        let places: Vec<_> = adapter.tensors().collect();
        let mut stray: Vec<&str> = file.names();
        stray.retain(|name| places.iter().all(|(known, ..)| known != name));
        stray.sort_unstable();
        if let Some(name) = stray.first() {
            return Err(AdapterError::Stray {
                path: path.to_owned(),
                name: (*name).to_owned(),
            });
        }
        for (name, shape, range) in places {
            let Ok(view) = file.tensor(&name) else {
                return Err(AdapterError::Missing {
                    path: path.to_owned(),
                    name,
                });
            };
            if view.shape() != shape {
                return Err(AdapterError::Shape {
                    path: path.to_owned(),
                    name,
                    expected: format!("shape {shape:?}"),
                    found: format!("{:?}", view.shape()),
                });
            }
            fill(&mut adapter.params[range], &view).map_err(|found| AdapterError::Shape {
                path: path.to_owned(),
                name: name.clone(),
                expected: "F32, F16 or BF16 numbers".to_owned(),
                found,
            })?;
        }
        adapter.check_finite()?;
        Ok(adapter)
    }
}

fn shortest(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

fn read(path: &Path, limit: u64) -> Result<Vec<u8>, AdapterError> {
    let shown = path.display().to_string();
    dlm_files::read_required(path, limit).map_err(|error| match error {
        DiskError::TooLarge { found_bytes, .. } => AdapterError::TooLarge {
            path: shown,
            bytes: found_bytes,
            limit,
        },
        error => AdapterError::File {
            path: shown,
            source: error.into_io(),
        },
    })
}

fn fill(out: &mut [f32], view: &TensorView<'_>) -> Result<(), String> {
    let data = view.data();
    match view.dtype() {
        Dtype::F32 => {
            for (out, bytes) in out.iter_mut().zip(data.as_chunks::<4>().0) {
                *out = f32::from_le_bytes(*bytes);
            }
        }
        Dtype::F16 | Dtype::BF16 => {
            let is_half = view.dtype() == Dtype::F16;
            for (out, bytes) in out.iter_mut().zip(data.as_chunks::<2>().0) {
                *out = match is_half {
                    true => half::f16::from_le_bytes(*bytes).to_f32(),
                    false => half::bf16::from_le_bytes(*bytes).to_f32(),
                };
            }
        }
        other => return Err(format!("{other:?}")),
    }
    Ok(())
}

/// Reads PEFT's settings; what would change the numbers and is not built here is refused.
fn parse_config(path: &str, bytes: &[u8]) -> Result<AdapterSpec, AdapterError> {
    let malformed = |cause: String| AdapterError::Malformed {
        path: path.to_owned(),
        cause,
    };
    let config: Value = serde_json::from_slice(bytes).map_err(|error| malformed(error.to_string()))?;
    let Value::Object(config) = config else {
        return Err(malformed("expected an object".to_owned()));
    };
    let unsupported = |feature: String| AdapterError::Unsupported {
        path: path.to_owned(),
        feature,
    };
    let is_off = |value: &Value| match value {
        Value::Null | Value::Bool(false) => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    };
    const MUST_BE_OFF: [&str; 12] = [
        "use_rslora",
        "fan_in_fan_out",
        "lora_bias",
        "modules_to_save",
        "rank_pattern",
        "alpha_pattern",
        "layers_to_transform",
        "layer_replication",
        "exclude_modules",
        "target_parameters",
        "use_qalora",
        "trainable_token_indices",
    ];
    for key in MUST_BE_OFF {
        if let Some(value) = config.get(key).filter(|value| !is_off(value)) {
            return Err(unsupported(format!("{key}: {value}")));
        }
    }
    for (key, expected) in [("peft_type", "LORA"), ("bias", "none")] {
        if let Some(value) = config.get(key).filter(|value| value.as_str() != Some(expected)) {
            return Err(unsupported(format!("{key}: {value}")));
        }
    }
    let number = |key: &str| config.get(key).and_then(Value::as_f64);
    let targets = match config.get("target_modules") {
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        Some(Value::String(name)) => vec![name.clone()],
        _ => return Err(malformed("`target_modules` is missing".to_owned())),
    };
    let is_dora = config.get("use_dora").and_then(Value::as_bool).unwrap_or(false);
    Ok(AdapterSpec {
        kind: if is_dora { AdapterKind::Dora } else { AdapterKind::Lora },
        r: config
            .get("r")
            .and_then(Value::as_u64)
            .and_then(|r| usize::try_from(r).ok())
            .ok_or_else(|| malformed("`r` is missing".to_owned()))?,
        alpha: number("lora_alpha").ok_or_else(|| malformed("`lora_alpha` is missing".to_owned()))? as f32,
        dropout: number("lora_dropout").unwrap_or(0.0) as f32,
        targets,
    })
}
