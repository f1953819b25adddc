//! The frontmatter as typed values: schema version 15 with every key and default.
//!
//! Invariants: a value of these types passed validation (`read`); serializing one gives the keys as in the file.
//! Which keys the author wrote is kept beside the values, because the planner may choose a knob that was left out
//! and must obey one that was written.

pub(crate) mod field;
mod problems;
pub(crate) mod read;
pub(crate) mod schema;

use std::collections::{BTreeMap, BTreeSet};

use dlm_core::Ulid;
use dlm_core::training::{
    AdapterKind, Auto, LrSchedule, Optimizer, Precision, SourcesPolicy, TargetModules, WrittenKnobs, WrittenPreference,
};
use serde::{Serialize, Serializer};

pub use schema::{
    AudioConfig, CacheConfig, CptConfig, ExportConfig, GateConfig, PreferenceConfig, PreferenceHyperparams,
};

/// The newest frontmatter schema version that this program reads and the one it writes.
pub const SCHEMA_VERSION: u32 = 15;

/// One entry of `training.adapters`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AdapterConfig {
    pub adapter: AdapterKind,
    pub lora_r: u32,
    pub lora_alpha: u32,
    pub lora_dropout: f64,
    pub target_modules: TargetModules,
    pub learning_rate: f64,
}

impl Default for AdapterConfig {
    fn default() -> Self {
        let training = TrainingConfig::default();
        AdapterConfig {
            adapter: training.adapter,
            lora_r: training.lora_r,
            lora_alpha: training.lora_alpha,
            lora_dropout: training.lora_dropout,
            target_modules: training.target_modules,
            learning_rate: training.learning_rate,
        }
    }
}

/// One entry of `training.sources`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SourceDirective {
    pub path: String,
    pub include: Vec<String>,
    pub exclude: Vec<String>,
    pub max_bytes_per_file: Option<u64>,
    pub max_files: Option<u64>,
}

/// The block `training`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TrainingConfig {
    pub adapter: AdapterKind,
    pub lora_r: u32,
    pub lora_alpha: u32,
    pub lora_dropout: f64,
    pub target_modules: TargetModules,
    pub sequence_len: u32,
    pub micro_batch_size: Auto,
    pub grad_accum: Auto,
    pub learning_rate: f64,
    pub num_epochs: u32,
    pub optimizer: Optimizer,
    pub lr_scheduler: LrSchedule,
    pub warmup_ratio: f64,
    pub seed: i64,
    pub preference: PreferenceConfig,
    pub cpt: CptConfig,
    /// In the order of the file: the first one takes the sections without suffix.
    #[serde(serialize_with = "serialize_adapters")]
    pub adapters: Option<Vec<(String, AdapterConfig)>>,
    pub precision: Option<Precision>,
    pub sources: Option<Vec<SourceDirective>>,
    pub sources_policy: SourcesPolicy,
    pub gate: GateConfig,
    pub cache: CacheConfig,
    pub audio: AudioConfig,
    /// Ours: hand-written pairs take part in the train and validation split.
    pub holdout: bool,
}

impl Default for TrainingConfig {
    fn default() -> Self {
        TrainingConfig {
            adapter: AdapterKind::Lora,
            lora_r: 8,
            lora_alpha: 16,
            lora_dropout: 0.05,
            target_modules: TargetModules::Auto,
            sequence_len: 2048,
            micro_batch_size: Auto::Auto,
            grad_accum: Auto::Auto,
            learning_rate: 2e-4,
            num_epochs: 3,
            optimizer: Optimizer::AdamW,
            lr_scheduler: LrSchedule::Cosine,
            warmup_ratio: 0.1,
            seed: 42,
            preference: PreferenceConfig::default(),
            cpt: CptConfig::default(),
            adapters: None,
            precision: None,
            sources: None,
            sources_policy: SourcesPolicy::Permissive,
            gate: GateConfig::default(),
            cache: CacheConfig::default(),
            audio: AudioConfig::default(),
            holdout: false,
        }
    }
}

fn serialize_adapters<S: Serializer>(
    adapters: &Option<Vec<(String, AdapterConfig)>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match adapters {
        None => serializer.serialize_none(),
        Some(list) => serializer.collect_map(list.iter().map(|(name, config)| (name, config))),
    }
}

/// The keys that the author wrote (of blocks only the keys inside), as dotted paths (`training.lora_r`, `training.adapters.tone.lora_r`,
/// `training.sources.0.include`), after migration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WrittenKeys(BTreeSet<String>);

impl WrittenKeys {
    /// Says whether the key at this dotted path is in the file.
    pub fn contains(&self, path: &str) -> bool {
        self.0.contains(path)
    }

    /// Marks a key as explicit, so that the writer puts it down even when it equals its default.
    pub fn insert(&mut self, path: impl Into<String>) {
        self.0.insert(path.into());
    }

    /// Every written path, sorted.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

/// The whole frontmatter, after migration and with defaults filled in.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Frontmatter {
    pub dlm_id: Ulid,
    /// Always [`SCHEMA_VERSION`] after migration; [`crate::Parsed::declared_version`] has the file's own.
    pub dlm_version: u32,
    pub base_model: String,
    pub training: TrainingConfig,
    pub export: ExportConfig,
    pub system_prompt: Option<String>,
    #[serde(skip)]
    pub written: WrittenKeys,
}

impl Frontmatter {
    /// Makes the frontmatter of a new document: everything else at its default and unwritten.
    pub fn new(dlm_id: Ulid, base_model: impl Into<String>) -> Self {
        let mut written = WrittenKeys::default();
        for key in ["dlm_id", "dlm_version", "base_model"] {
            written.insert(key);
        }
        Frontmatter {
            dlm_id,
            dlm_version: SCHEMA_VERSION,
            base_model: base_model.into(),
            training: TrainingConfig::default(),
            export: ExportConfig::default(),
            system_prompt: None,
            written,
        }
    }

    /// The system prompt as every reader uses it: without blanks around it, and none where nothing else is in it. Block scalars
    /// of YAML end with a line feed that nobody means.
    pub fn system(&self) -> Option<&str> {
        let text = self.system_prompt.as_deref().map(str::trim);
        text.filter(|text| !text.is_empty())
    }

    /// Says whether the key at this dotted path is in the file, for instance `training.learning_rate`.
    pub fn wrote(&self, path: &str) -> bool {
        self.written.contains(path)
    }

    /// The training knobs that the file itself fixes, those of a named adapter's block over the flat ones.
    pub fn written_knobs(&self, adapter: Option<&str>) -> WrittenKnobs {
        let flat = self.flat_knobs();
        let block = adapter.and_then(|name| Some((name, *self.adapters().get(name)?)));
        let Some((name, block)) = block else {
            return flat;
        };
        let wrote = |key: &str| self.wrote(&format!("training.adapters.{name}.{key}"));
        WrittenKnobs {
            adapter: wrote("adapter").then_some(block.adapter).or(flat.adapter),
            lora_r: wrote("lora_r").then_some(block.lora_r).or(flat.lora_r),
            lora_alpha: wrote("lora_alpha").then_some(block.lora_alpha).or(flat.lora_alpha),
            lora_dropout: wrote("lora_dropout")
                .then_some(block.lora_dropout)
                .or(flat.lora_dropout),
            target_modules: block
                .target_modules
                .named()
                .map(<[String]>::to_vec)
                .or(flat.target_modules),
            learning_rate: wrote("learning_rate")
                .then_some(block.learning_rate)
                .or(flat.learning_rate),
            ..flat
        }
    }

    /// The block `training.preference`; a rate or a number of passes only where the file fixes it.
    pub fn written_preference(&self) -> WrittenPreference {
        let preference = &self.training.preference;
        let numbers = &preference.hyperparams;
        let wrote = |key: &str| self.wrote(&format!("training.preference.hyperparams.{key}"));
        WrittenPreference {
            method: preference.method,
            loss: preference.loss_type,
            reference: preference.reference,
            beta: numbers.beta,
            alpha: numbers.alpha,
            learning_rate: wrote("learning_rate").then_some(numbers.learning_rate),
            num_epochs: wrote("num_epochs").then_some(numbers.num_epochs),
        }
    }

    fn flat_knobs(&self) -> WrittenKnobs {
        let t = &self.training;
        let wrote = |key: &str| self.wrote(&format!("training.{key}"));
        WrittenKnobs {
            adapter: wrote("adapter").then_some(t.adapter),
            lora_r: wrote("lora_r").then_some(t.lora_r),
            lora_alpha: wrote("lora_alpha").then_some(t.lora_alpha),
            lora_dropout: wrote("lora_dropout").then_some(t.lora_dropout),
            target_modules: t.target_modules.named().map(<[String]>::to_vec),
            sequence_len: wrote("sequence_len").then_some(t.sequence_len),
            micro_batch_size: t.micro_batch_size.given(),
            grad_accum: t.grad_accum.given(),
            learning_rate: wrote("learning_rate").then_some(t.learning_rate),
            num_epochs: wrote("num_epochs").then_some(t.num_epochs),
            optimizer: wrote("optimizer").then_some(t.optimizer),
            lr_scheduler: wrote("lr_scheduler").then_some(t.lr_scheduler),
            warmup_ratio: wrote("warmup_ratio").then_some(t.warmup_ratio),
            seed: wrote("seed").then_some(t.seed),
            precision: t.precision,
            cpt_schedule: wrote("cpt.schedule").then_some(t.cpt.schedule),
            embed_warmup_steps: wrote("cpt.embed_warmup_steps").then_some(t.cpt.embed_warmup_steps),
        }
    }

    /// The declared adapters by name.
    pub fn adapters(&self) -> BTreeMap<&str, &AdapterConfig> {
        self.training
            .adapters
            .iter()
            .flatten()
            .map(|(name, config)| (name.as_str(), config))
            .collect()
    }
}
