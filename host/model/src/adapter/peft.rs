//! PEFT's file layout: `adapter_config.json` and `adapter_model.safetensors`.
//!
//! Invariants: the same adapter gives the same bytes; loading accounts for every tensor of the file and of the model, so
//! an adapter of another base is refused and never half applied.

mod settings;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use dlm_files::{Disk, DiskError};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::json;

use super::{Adapter, AdapterError, AdapterKind, AdapterSpec, PEFT_PREFIX};
use crate::model::Model;
use settings::{ModuleScale, PeftSettings};

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

/// What the settings of an adapter say without its tensors and its model.
#[derive(Clone, Debug, PartialEq)]
pub struct PeftFacts {
    /// What it was trained on, as it says itself: a name on the hub, or a place on some machine.
    pub base: Option<String>,
    pub kind: AdapterKind,
    /// Largest rank of a module.
    pub r: usize,
}

impl PeftFacts {
    /// Reads the settings in a directory.
    ///
    /// **Errors:** no settings of a LoRA, a setting that is not applied here.
    pub fn read(dir: &Path) -> Result<PeftFacts, AdapterError> {
        let path = dir.join(CONFIG_FILE);
        let settings = PeftSettings::parse(&path.display().to_string(), &read(&path, CONFIG_BYTES_MAX)?)?;
        Ok(PeftFacts {
            r: settings.rank_max(),
            base: settings.base,
            kind: settings.kind,
        })
    }
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
    /// Modules of several ranks or scales become one adapter of the largest rank: what is missing is zero, and each module's own
    /// scale is in its `B`. That is the same product, to the rounding of one multiplication.
    ///
    /// **Errors:** settings that this program does not apply, a tensor that belongs to no module or is missing, a wrong
    /// shape or type, numbers that are not finite.
    pub fn load_peft(dir: &Path, model: &Model) -> Result<Adapter, AdapterError> {
        let path = dir.join(CONFIG_FILE);
        let settings = PeftSettings::parse(&path.display().to_string(), &read(&path, CONFIG_BYTES_MAX)?)?;
        let modules = settings.modules(model)?;
        let (_, first) = &modules[0];
        let is_even = modules.iter().all(|(_, scale)| scale == first);
        let r = modules.iter().map(|(_, scale)| scale.r).max().unwrap_or(first.r);
        let spec = AdapterSpec {
            kind: settings.kind,
            r,
            alpha: if is_even { first.alpha } else { r as f32 },
            dropout: settings.dropout,
            targets: modules.iter().map(|(path, _)| path.clone()).collect(),
        };
        let own: HashMap<&str, ModuleScale> = modules.iter().map(|(path, scale)| (path.as_str(), *scale)).collect();
        let path = dir.join(TENSORS_FILE);
        let bytes = read(&path, TENSORS_BYTES_MAX)?;
        let mut adapter = Adapter::filled(&path.display().to_string(), &bytes, model, &spec, |path| {
            own.get(path).map_or(r, |scale| scale.r)
        })?;
        if !is_even {
            for index in 0..adapter.modules.len() {
                let (b, scale) = (
                    adapter.modules[index].b.clone(),
                    own[adapter.modules[index].path.as_str()].scale,
                );
                adapter.params[b].iter_mut().for_each(|b| *b *= scale);
            }
            adapter.check_finite()?;
        }
        Ok(adapter)
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
        Adapter::filled(path, bytes, model, spec, |_| spec.r)
    }

    /// [`Adapter::from_safetensors`] where the modules of the file have ranks of their own, none above that of `spec`: what is
    /// missing of `A` and `B` stays zero.
    fn filled(
        path: &str,
        bytes: &[u8],
        model: &Model,
        spec: &AdapterSpec,
        rank: impl Fn(&str) -> usize,
    ) -> Result<Adapter, AdapterError> {
        let file = SafeTensors::deserialize(bytes).map_err(|error| AdapterError::Malformed {
            path: path.to_owned(),
            cause: error.to_string(),
        })?;
        let mut adapter = Adapter::zeroed(model, spec)?;
        let places: Vec<_> = adapter.tensors().collect();
        let known: HashSet<&str> = places.iter().map(|(name, ..)| name.as_str()).collect();
        let mut stray: Vec<&str> = file.names();
        stray.retain(|name| !known.contains(name));
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
            let module = name
                .strip_prefix(PEFT_PREFIX)
                .and_then(|name| name.split_once(".lora_"));
            let (module, tensor) = module.expect("tensors are named so");
            let own = match (tensor, shape.as_slice()) {
                ("A.weight", [_, k]) => vec![rank(module), *k],
                ("B.weight", [n, _]) => vec![*n, rank(module)],
                _ => shape.clone(),
            };
            if view.shape() != own {
                return Err(AdapterError::Shape {
                    path: path.to_owned(),
                    name,
                    expected: format!("shape {own:?}"),
                    found: format!("{:?}", view.shape()),
                });
            }
            fill(&mut adapter.params[range], (&own, &shape), &view).map_err(|found| AdapterError::Shape {
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

/// Writes a tensor of shape `own` into the beginning of each row of one of shape `shape`.
fn fill(out: &mut [f32], (own, shape): (&[usize], &[usize]), view: &TensorView<'_>) -> Result<(), String> {
    let (row, wide) = (own.last().copied().unwrap_or(1), shape.last().copied().unwrap_or(1));
    let decode: fn(&[u8]) -> f32 = match view.dtype() {
        Dtype::F32 => |bytes| f32::from_le_bytes(bytes.try_into().expect("four bytes")),
        Dtype::F16 => |bytes| half::f16::from_le_bytes(bytes.try_into().expect("two bytes")).to_f32(),
        Dtype::BF16 => |bytes| half::bf16::from_le_bytes(bytes.try_into().expect("two bytes")).to_f32(),
        other => return Err(format!("{other:?}")),
    };
    let width = if view.dtype() == Dtype::F32 { 4 } else { 2 };
    let rows = view.data().chunks_exact((row * width).max(1));
    for (out, bytes) in out.chunks_exact_mut(wide.max(1)).zip(rows) {
        for (out, bytes) in out.iter_mut().zip(bytes.chunks_exact(width)) {
            *out = decode(bytes);
        }
    }
    Ok(())
}
