//! The learned gate of a document with several adapters: `adapter/_gate/gate_config.json` and `gate.safetensors`.
//!
//! Invariants: the format is that of the reference program, whose network is a sequence of two linear layers; the settings are
//! written last, and weights that do not fit them are no gate.

use std::path::PathBuf;

use dlm_core::training::GateMode;
use dlm_core::{Hints, Subject};
use dlm_files::DiskError;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};

use crate::json;
use crate::layout::StorePaths;
use crate::store::{Store, StoreGuard};

/// Largest gate that is read.
const BYTES_MAX: u64 = 256 << 20;
/// Names of the tensors, in the order of [`GateTensors`].
const NAMES: [&str; 4] = ["0.weight", "0.bias", "2.weight", "2.bias"];

/// What a gate was made for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GateConfig {
    /// Width of the base's hidden states.
    pub input_dim: usize,
    pub hidden_proj_dim: usize,
    /// In the order of the network's outputs.
    pub adapter_names: Vec<String>,
    /// Never diverged.
    pub mode: GateMode,
    #[serde(default)]
    pub entropy_lambda: f64,
    /// Revision of the base; gates of other programs do not say it.
    #[serde(default)]
    pub base_model_revision: Option<String>,
}

/// The network's numbers, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct GateTensors {
    /// `[hidden, inputs]`.
    pub first: Vec<f32>,
    /// `[hidden]`.
    pub first_bias: Vec<f32>,
    /// `[adapters, hidden]`.
    pub second: Vec<f32>,
    /// `[adapters]`.
    pub second_bias: Vec<f32>,
}

/// A gate as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct GateRecord {
    pub config: GateConfig,
    /// None of a uniform gate.
    pub tensors: Option<GateTensors>,
}

/// A gate that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    #[error("`{}` is no gate: {cause}", path.display())]
    Malformed { path: PathBuf, cause: String },
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl Hints for GateError {
    fn subject(&self) -> Subject {
        match self {
            GateError::Malformed { .. } => Subject::Store,
            GateError::Disk(error) => error.subject(),
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            GateError::Malformed { .. } => vec!["train again: the gate is made anew".to_owned()],
            GateError::Disk(error) => error.hints(),
        }
    }
}

impl GateConfig {
    /// Shapes of the tensors, in their order.
    fn shapes(&self) -> [Vec<usize>; 4] {
        let (inputs, hidden, outputs) = (self.input_dim, self.hidden_proj_dim, self.adapter_names.len());
        [vec![hidden, inputs], vec![hidden], vec![outputs, hidden], vec![outputs]]
    }
}

impl StorePaths {
    /// `adapter/_gate/gate_config.json`.
    pub fn gate_config(&self) -> PathBuf {
        self.adapter().join("_gate").join("gate_config.json")
    }

    /// `adapter/_gate/gate.safetensors`.
    pub fn gate_tensors(&self) -> PathBuf {
        self.adapter().join("_gate").join("gate.safetensors")
    }
}

impl Store {
    /// Reads the gate; none where none was made.
    ///
    /// **Errors:** files that do not belong together, or are no gate.
    pub fn gate(&self) -> Result<Option<GateRecord>, GateError> {
        let path = self.paths().gate_config();
        let Some(text) = dlm_files::read_text(&path, BYTES_MAX)? else {
            return Ok(None);
        };
        let config: GateConfig = serde_json::from_str(&text).map_err(|error| malformed(path, error))?;
        let tensors = match config.mode {
            GateMode::Trained => Some(self.gate_tensors(&config)?),
            GateMode::Uniform | GateMode::Diverged => None,
        };
        Ok(Some(GateRecord { config, tensors }))
    }

    fn gate_tensors(&self, config: &GateConfig) -> Result<GateTensors, GateError> {
        let path = self.paths().gate_tensors();
        let bytes = dlm_files::read_required(&path, BYTES_MAX)?;
        let file = SafeTensors::deserialize(&bytes).map_err(|error| malformed(path.clone(), error))?;
        let mut tensors = Vec::with_capacity(NAMES.len());
        for (name, shape) in NAMES.into_iter().zip(config.shapes()) {
            let tensor = file.tensor(name).map_err(|error| malformed(path.clone(), error))?;
            if tensor.dtype() != Dtype::F32 || tensor.shape() != shape {
                let cause = format!(
                    "`{name}` is {:?} {:?}, expected F32 {shape:?}",
                    tensor.dtype(),
                    tensor.shape()
                );
                return Err(malformed(path, cause));
            }
            let (values, _) = tensor.data().as_chunks::<4>();
            let values: Vec<f32> = values.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
            if values.iter().any(|value| !value.is_finite()) {
                return Err(malformed(path, format!("`{name}` holds a number that is not finite")));
            }
            tensors.push(values);
        }
        let [first, first_bias, second, second_bias] =
            <[Vec<f32>; 4]>::try_from(tensors).expect("one tensor for each name");
        Ok(GateTensors {
            first,
            first_bias,
            second,
            second_bias,
        })
    }
}

impl StoreGuard {
    /// Writes the gate in the place of the one before.
    ///
    /// **Errors** name the path; the settings then stay those of before.
    pub fn write_gate(&self, gate: &GateRecord) -> Result<(), DiskError> {
        let (config, tensors) = (self.paths().gate_config(), self.paths().gate_tensors());
        self.disk()
            .create_directories(config.parent().expect("the path has a directory"))?;
        match &gate.tensors {
            Some(values) => self.disk().write(&tensors, &to_bytes(&gate.config, values))?,
            None => {
                self.disk().remove_file(&tensors)?;
            }
        }
        let value = serde_json::to_value(&gate.config).expect("settings are plain data");
        self.disk().write(&config, json::pretty(&value).as_bytes())
    }
}

fn to_bytes(config: &GateConfig, tensors: &GateTensors) -> Vec<u8> {
    let all = [
        &tensors.first,
        &tensors.first_bias,
        &tensors.second,
        &tensors.second_bias,
    ];
    let bytes = all.map(|values| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>());
    let views = NAMES
        .iter()
        .zip(config.shapes())
        .zip(&bytes)
        .map(|((name, shape), bytes)| {
            let view = TensorView::new(Dtype::F32, shape, bytes).expect("numbers fit their shape");
            (*name, view)
        });
    safetensors::serialize(views, None).expect("names are distinct")
}

fn malformed(path: PathBuf, cause: impl ToString) -> GateError {
    GateError::Malformed {
        path,
        cause: cause.to_string(),
    }
}
