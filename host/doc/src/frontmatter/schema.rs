//! The small blocks of the frontmatter with their defaults.

use dlm_core::Quant;
use dlm_core::training::{CptSchedule, PreferenceLoss, PreferenceMethod, PreferenceReference};
use serde::Serialize;

/// The block `training.preference.hyperparams`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PreferenceHyperparams {
    pub beta: f64,
    pub alpha: f64,
    pub learning_rate: f64,
    pub num_epochs: u32,
}

impl Default for PreferenceHyperparams {
    fn default() -> Self {
        PreferenceHyperparams {
            beta: 0.1,
            alpha: 0.1,
            learning_rate: 5e-6,
            num_epochs: 1,
        }
    }
}

/// The block `training.preference`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PreferenceConfig {
    /// The schema's default is false; when the key is not written, preference sections turn it on
    /// (see [`crate::Parsed::preference_enabled`]).
    pub enabled: bool,
    pub method: PreferenceMethod,
    pub loss_type: PreferenceLoss,
    pub reference: PreferenceReference,
    pub hyperparams: PreferenceHyperparams,
}

impl Default for PreferenceConfig {
    fn default() -> Self {
        PreferenceConfig {
            enabled: false,
            method: PreferenceMethod::Dpo,
            loss_type: PreferenceLoss::Sigmoid,
            reference: PreferenceReference::PreAdapter,
            hyperparams: PreferenceHyperparams::default(),
        }
    }
}

/// The block `training.cpt`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CptConfig {
    pub schedule: CptSchedule,
    pub embed_warmup_steps: u32,
}

impl Default for CptConfig {
    fn default() -> Self {
        CptConfig {
            schedule: CptSchedule::Auto,
            embed_warmup_steps: 0,
        }
    }
}

/// The block `training.gate`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GateConfig {
    pub enabled: bool,
    pub hidden_proj_dim: u32,
    pub steps: u32,
    pub lr: f64,
    pub cold_start_floor: u32,
    pub entropy_lambda: f64,
}

impl Default for GateConfig {
    fn default() -> Self {
        GateConfig {
            enabled: false,
            hidden_proj_dim: 64,
            steps: 200,
            lr: 3e-4,
            cold_start_floor: 4,
            entropy_lambda: 0.01,
        }
    }
}

/// The block `training.cache`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CacheConfig {
    pub enabled: bool,
    pub max_bytes: u64,
    pub prune_older_than_days: u32,
}

impl Default for CacheConfig {
    fn default() -> Self {
        CacheConfig {
            enabled: true,
            max_bytes: 10 * 1024 * 1024 * 1024,
            prune_older_than_days: 90,
        }
    }
}

/// The block `training.audio`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct AudioConfig {
    pub auto_resample: bool,
}

/// The block `export`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ExportConfig {
    pub default_quant: Quant,
    pub default_temperature: Option<f64>,
    pub default_top_p: Option<f64>,
}

impl Default for ExportConfig {
    fn default() -> Self {
        ExportConfig {
            default_quant: Quant::Q4_K_M,
            default_temperature: None,
            default_top_p: None,
        }
    }
}
