//! The closed choices and the small blocks of the frontmatter.
//!
//! Invariants: every choice knows its spelling in the file, in the order in which messages list the spellings.

use serde::{Serialize, Serializer};

/// A value that is one of a closed set of words.
pub(crate) trait Choice: Copy + PartialEq + 'static {
    /// Every value with its spelling.
    const TABLE: &'static [(&'static str, Self)];

    /// The word in the file.
    fn word(self) -> &'static str {
        Self::TABLE
            .iter()
            .find(|(_, value)| *value == self)
            .map(|(word, _)| *word)
            .expect("a choice is in its table")
    }
}

fn serialize_choice<C: Choice, S: Serializer>(choice: C, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(choice.word())
}

/// Value of `training.adapter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdapterKind {
    Lora,
    Qlora,
    Dora,
}

/// Value of `training.optimizer`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Optimizer {
    AdamwTorch,
    AdamwBnb8bit,
    PagedAdamw8bit,
    GaloreAdamw,
    GaloreAdamw8bit,
}

/// Value of `training.lr_scheduler`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LrScheduler {
    Cosine,
    Linear,
    Constant,
}

/// Value of `training.precision`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    Bf16,
    Fp16,
    Fp32,
}

/// Value of `training.sources_policy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourcesPolicy {
    Permissive,
    Strict,
}

/// Value of `training.preference.method`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PreferenceMethod {
    Dpo,
    Orpo,
}

/// Value of `training.preference.loss_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PreferenceLoss {
    Sigmoid,
    Hinge,
    Ipo,
}

/// Value of `training.preference.reference`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PreferenceReference {
    Base,
    PreAdapter,
}

/// Value of `training.cpt.schedule`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CptSchedule {
    Auto,
    Dapt,
    Sft,
}

/// Value of `export.default_quant`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quant {
    Q4KM,
    Q5KM,
    Q6K,
    Q80,
}

impl Choice for AdapterKind {
    const TABLE: &'static [(&'static str, Self)] =
        &[("lora", Self::Lora), ("qlora", Self::Qlora), ("dora", Self::Dora)];
}

impl Choice for Optimizer {
    const TABLE: &'static [(&'static str, Self)] = &[
        ("adamw_torch", Self::AdamwTorch),
        ("adamw_bnb_8bit", Self::AdamwBnb8bit),
        ("paged_adamw_8bit", Self::PagedAdamw8bit),
        ("galore_adamw", Self::GaloreAdamw),
        ("galore_adamw_8bit", Self::GaloreAdamw8bit),
    ];
}

impl Choice for LrScheduler {
    const TABLE: &'static [(&'static str, Self)] = &[
        ("cosine", Self::Cosine),
        ("linear", Self::Linear),
        ("constant", Self::Constant),
    ];
}

impl Choice for Precision {
    const TABLE: &'static [(&'static str, Self)] = &[("bf16", Self::Bf16), ("fp16", Self::Fp16), ("fp32", Self::Fp32)];
}

impl Choice for SourcesPolicy {
    const TABLE: &'static [(&'static str, Self)] = &[("permissive", Self::Permissive), ("strict", Self::Strict)];
}

impl Choice for PreferenceMethod {
    const TABLE: &'static [(&'static str, Self)] = &[("dpo", Self::Dpo), ("orpo", Self::Orpo)];
}

impl Choice for PreferenceLoss {
    const TABLE: &'static [(&'static str, Self)] =
        &[("sigmoid", Self::Sigmoid), ("hinge", Self::Hinge), ("ipo", Self::Ipo)];
}

impl Choice for PreferenceReference {
    const TABLE: &'static [(&'static str, Self)] = &[("base", Self::Base), ("pre_adapter", Self::PreAdapter)];
}

impl Choice for CptSchedule {
    const TABLE: &'static [(&'static str, Self)] = &[("auto", Self::Auto), ("dapt", Self::Dapt), ("sft", Self::Sft)];
}

impl Choice for Quant {
    const TABLE: &'static [(&'static str, Self)] = &[
        ("Q4_K_M", Self::Q4KM),
        ("Q5_K_M", Self::Q5KM),
        ("Q6_K", Self::Q6K),
        ("Q8_0", Self::Q80),
    ];
}

macro_rules! choice_traits {
    ($($name:ident),+) => {
        $(
            impl $name {
                /// The word in the file.
                pub fn as_str(self) -> &'static str {
                    self.word()
                }
            }

            impl Serialize for $name {
                fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                    serialize_choice(*self, serializer)
                }
            }
        )+
    };
}

choice_traits!(
    AdapterKind,
    Optimizer,
    LrScheduler,
    Precision,
    SourcesPolicy,
    PreferenceMethod,
    PreferenceLoss,
    PreferenceReference,
    CptSchedule,
    Quant
);

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
            default_quant: Quant::Q4KM,
            default_temperature: None,
            default_top_p: None,
        }
    }
}
