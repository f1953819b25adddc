//! From a migrated YAML tree to a checked [`Frontmatter`]: every key, range and cross-field rule of the schema.
//!
//! Invariants: all violations are found in one pass; nothing is guessed from a wrong value.

use dlm_core::training::TargetModules;
use dlm_core::{Ulid, quant};

use super::field::{Block, Entry, RealRange, Report, join, strings_of};
use super::problems::Problems;
use super::{
    AdapterConfig, AudioConfig, CacheConfig, CptConfig, ExportConfig, Frontmatter, GateConfig, PreferenceConfig,
    PreferenceHyperparams, SCHEMA_VERSION, SourceDirective, TrainingConfig,
};
use crate::yaml::{Kind, Node, Pos, Value, resolve};

const U32: i128 = u32::MAX as i128;
/// The reference has no upper bound on counts; ours is what a 64-bit signed integer holds.
const I64: i128 = i64::MAX as i128;

const RATE: RealRange = RealRange {
    words: "a finite number > 0",
    holds: |x| x > 0.0,
};
const HALF: RealRange = RealRange {
    words: "a number from 0 to 0.5",
    holds: |x| (0.0..=0.5).contains(&x),
};
const UNIT: RealRange = RealRange {
    words: "a number from 0 to 1",
    holds: |x| (0.0..=1.0).contains(&x),
};
const OPEN_UNIT: RealRange = RealRange {
    words: "a number > 0 and <= 1",
    holds: |x| x > 0.0 && x <= 1.0,
};
const TEMPERATURE: RealRange = RealRange {
    words: "a number > 0 and <= 2",
    holds: |x| x > 0.0 && x <= 2.0,
};

/// What an adapter's name looks like.
pub(crate) const ADAPTER_NAME_PATTERN: &str = "[a-z][a-z0-9_]{0,31}";
/// Names that the store's layout uses beside the adapters' own directories.
const RESERVED_ADAPTER_NAMES: [&str; 2] = ["versions", "current"];

/// Says whether a name can be an adapter's.
pub(crate) fn is_adapter_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_lowercase())
        && name.len() <= 32
        && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

/// Reads the whole frontmatter; the version was checked before.
pub(crate) fn read(root: &Node) -> Result<Frontmatter, Problems> {
    let mut report = Report::default();
    let top = Pos { line: 2, col: 1 };
    let mut block = Block::open(String::new(), top, root, &mut report);

    let dlm_id = read_id(&mut block, &mut report);
    // Migration stamps the version, so it is written whether the file had it or not.
    block.take("dlm_version", &mut report);
    report.written.insert("dlm_version");
    let base_model = match block.string("base_model", &mut report) {
        Some((text, pos)) if text.is_empty() => {
            report.problems.push(
                "base_model",
                pos,
                "expected a registry key or `hf:org/name`, found an empty string",
            );
            None
        }
        Some((text, _)) => Some(text),
        None => {
            if !report.written.contains("base_model") {
                let hint = Some("add `base_model: smollm2-135m`".to_owned());
                report
                    .problems
                    .push_with_hint("base_model", top, "required key is missing", hint);
            }
            None
        }
    };
    let mut training = block.block("training", &mut report);
    let training_config = read_training(&mut training, &mut report);
    training.finish(&mut report);
    let mut export = block.block("export", &mut report);
    let export_config = read_export(&mut export, &mut report);
    export.finish(&mut report);
    let system_prompt = block.string_or_null("system_prompt", &mut report);
    block.finish(&mut report);

    match (dlm_id, base_model) {
        (Some(dlm_id), Some(base_model)) if report.problems.is_empty() => Ok(Frontmatter {
            dlm_id,
            dlm_version: SCHEMA_VERSION,
            base_model,
            training: training_config,
            export: export_config,
            system_prompt,
            written: report.written,
        }),
        _ => Err(report.problems),
    }
}

fn read_id(block: &mut Block<'_>, report: &mut Report) -> Option<Ulid> {
    let Some((text, pos)) = block.string("dlm_id", report) else {
        if !report.written.contains("dlm_id") {
            let hint = Some("`dlm init` writes a document with a fresh id".to_owned());
            report
                .problems
                .push_with_hint("dlm_id", Pos { line: 2, col: 1 }, "required key is missing", hint);
        }
        return None;
    };
    match text.parse() {
        Ok(id) => Some(id),
        Err(error) => {
            report
                .problems
                .push("dlm_id", pos, format!("expected a ULID (26 characters): {error}"));
            None
        }
    }
}

fn read_training(block: &mut Block<'_>, report: &mut Report) -> TrainingConfig {
    let d = TrainingConfig::default();
    let flat = FlatKeys::read(block, report);
    let sequence_len = block.int("sequence_len", 64..=32768, 2048, report) as u32;
    let micro_batch_size = block.auto_or_int("micro_batch_size", report);
    let grad_accum = block.auto_or_int("grad_accum", report);
    let num_epochs = block.int("num_epochs", 1..=U32, d.num_epochs.into(), report) as u32;
    let optimizer = block.choice("optimizer", d.optimizer, report);
    let lr_scheduler = block.choice("lr_scheduler", d.lr_scheduler, report);
    let warmup_ratio = block.real("warmup_ratio", &HALF, d.warmup_ratio, report);
    let seed = block.int("seed", i64::MIN.into()..=I64, d.seed.into(), report) as i64;
    let preference = read_preference(block, report);
    let cpt = read_cpt(block, report);
    let adapters = read_adapters(block, &flat, report);
    let precision = block.choice_or_null("precision", report);
    let sources = read_sources(block, report);
    let sources_policy = block.choice("sources_policy", d.sources_policy, report);
    let gate = read_gate(block, adapters.as_ref().map_or(0, Vec::len), report);
    let cache = read_cache(block, report);
    let audio = read_audio(block, report);
    let holdout = block.boolean("holdout", d.holdout, report);
    let AdapterConfig {
        adapter,
        lora_r,
        lora_alpha,
        lora_dropout,
        target_modules,
        learning_rate,
    } = flat.values;
    TrainingConfig {
        adapter,
        lora_r,
        lora_alpha,
        lora_dropout,
        target_modules,
        sequence_len,
        micro_batch_size,
        grad_accum,
        learning_rate,
        num_epochs,
        optimizer,
        lr_scheduler,
        warmup_ratio,
        seed,
        preference,
        cpt,
        adapters,
        precision,
        sources,
        sources_policy,
        gate,
        cache,
        audio,
        holdout,
    }
}

/// The six keys that stand in `training` and in every named adapter.
struct FlatKeys {
    values: AdapterConfig,
    /// Place of each written key, for the rule that named adapters exclude flat values.
    places: Vec<(&'static str, Pos)>,
}

const FLAT_KEYS: [&str; 6] = [
    "adapter",
    "lora_r",
    "lora_alpha",
    "lora_dropout",
    "target_modules",
    "learning_rate",
];

impl FlatKeys {
    fn read(block: &mut Block<'_>, report: &mut Report) -> Self {
        let d = AdapterConfig::default();
        let places = FLAT_KEYS
            .iter()
            .filter_map(|key| block.place(key).map(|pos| (*key, pos)))
            .collect();
        let values = AdapterConfig {
            adapter: block.choice("adapter", d.adapter, report),
            lora_r: block.int("lora_r", 1..=256, d.lora_r.into(), report) as u32,
            lora_alpha: block.int("lora_alpha", 1..=U32, d.lora_alpha.into(), report) as u32,
            lora_dropout: block.real("lora_dropout", &HALF, d.lora_dropout, report),
            target_modules: read_target_modules(block, report),
            learning_rate: block.real("learning_rate", &RATE, d.learning_rate, report),
        };
        FlatKeys { values, places }
    }

    /// The keys whose value is not the default.
    fn changed(&self) -> Vec<(&'static str, Pos)> {
        let (v, d) = (&self.values, AdapterConfig::default());
        let is_changed = |key: &str| match key {
            "adapter" => v.adapter != d.adapter,
            "lora_r" => v.lora_r != d.lora_r,
            "lora_alpha" => v.lora_alpha != d.lora_alpha,
            "lora_dropout" => v.lora_dropout != d.lora_dropout,
            "target_modules" => v.target_modules != d.target_modules,
            _ => v.learning_rate != d.learning_rate,
        };
        self.places.iter().copied().filter(|(key, _)| is_changed(key)).collect()
    }
}

fn read_target_modules(block: &mut Block<'_>, report: &mut Report) -> TargetModules {
    let Some(entry) = block.take("target_modules", report) else {
        return TargetModules::Auto;
    };
    if resolve(entry.value) == Value::Str("auto".to_owned()) {
        return TargetModules::Auto;
    }
    TargetModules::Named(strings_of(&entry, "`auto` or a list of strings", report))
}

fn read_preference(parent: &mut Block<'_>, report: &mut Report) -> PreferenceConfig {
    let mut block = parent.block("preference", report);
    let d = PreferenceConfig::default();
    let enabled = block.boolean("enabled", d.enabled, report);
    let method = block.choice("method", d.method, report);
    let loss_type = block.choice("loss_type", d.loss_type, report);
    let reference = block.choice("reference", d.reference, report);
    let mut inner = block.block("hyperparams", report);
    let h = PreferenceHyperparams::default();
    let hyperparams = PreferenceHyperparams {
        beta: inner.real("beta", &UNIT, h.beta, report),
        alpha: inner.real("alpha", &UNIT, h.alpha, report),
        learning_rate: inner.real("learning_rate", &RATE, h.learning_rate, report),
        num_epochs: inner.int("num_epochs", 1..=U32, h.num_epochs.into(), report) as u32,
    };
    inner.finish(report);
    block.finish(report);
    PreferenceConfig {
        enabled,
        method,
        loss_type,
        reference,
        hyperparams,
    }
}

fn read_cpt(parent: &mut Block<'_>, report: &mut Report) -> CptConfig {
    let mut block = parent.block("cpt", report);
    let d = CptConfig::default();
    let config = CptConfig {
        schedule: block.choice("schedule", d.schedule, report),
        embed_warmup_steps: block.int("embed_warmup_steps", 0..=U32, 0, report) as u32,
    };
    block.finish(report);
    config
}

fn read_adapters(parent: &mut Block<'_>, flat: &FlatKeys, report: &mut Report) -> Option<Vec<(String, AdapterConfig)>> {
    let entry = parent.take("adapters", report)?;
    if resolve(entry.value) == Value::Null {
        return None;
    }
    let Entry { path, pos, value } = entry;
    let is_map = matches!(value.kind, Kind::Map(_));
    let mut block = Block::open(path, pos, value, report);
    let mut adapters = Vec::new();
    for (name, entry) in block.take_all() {
        check_adapter_name(name, &entry, report);
        report.written.insert(entry.path.clone());
        let mut inner = Block::open(entry.path, entry.pos, entry.value, report);
        adapters.push((name.to_owned(), FlatKeys::read(&mut inner, report).values));
        inner.finish(report);
    }
    if is_map && adapters.is_empty() {
        report.problems.push(
            "training.adapters",
            pos,
            "expected at least one adapter, found an empty mapping",
        );
    }
    let changed = flat.changed();
    if let Some(first) = changed.iter().map(|(_, pos)| *pos).min() {
        let keys = changed
            .iter()
            .map(|(key, _)| format!("`{key}`"))
            .collect::<Vec<_>>()
            .join(", ");
        let message = format!("{keys} must keep the default when `adapters` is given; set it per adapter instead");
        let hint = Some(format!("move {keys} into the entries of `training.adapters`"));
        report.problems.push_with_hint("training", first, message, hint);
    }
    Some(adapters)
}

fn check_adapter_name(name: &str, entry: &Entry<'_>, report: &mut Report) {
    if !is_adapter_name(name) {
        let message = format!("adapter name must match {ADAPTER_NAME_PATTERN}");
        report.problems.push(entry.path.clone(), entry.pos, message);
    } else if RESERVED_ADAPTER_NAMES.contains(&name) {
        report.problems.push(
            entry.path.clone(),
            entry.pos,
            "adapter name is reserved for the layout of the store",
        );
    }
}

fn read_sources(parent: &mut Block<'_>, report: &mut Report) -> Option<Vec<SourceDirective>> {
    let entry = parent.take("sources", report)?;
    let items = match &entry.value.kind {
        Kind::List(items) => items,
        _ if resolve(entry.value) == Value::Null => return None,
        _ => {
            let message = format!(
                "expected a list of directives or null, found {}",
                entry.value.describe()
            );
            report.problems.push(entry.path, entry.pos, message);
            return None;
        }
    };
    let read = |(index, item): (usize, &Node)| {
        let path = join(&entry.path, &index.to_string());
        read_source(Block::open(path.clone(), item.pos, item, report), &path, report)
    };
    Some(items.iter().enumerate().filter_map(read).collect())
}

fn read_source(mut block: Block<'_>, at: &str, report: &mut Report) -> Option<SourceDirective> {
    let path = match block.string("path", report) {
        Some((text, pos)) if text.is_empty() => {
            report
                .problems
                .push(join(at, "path"), pos, "expected a path, found an empty string");
            None
        }
        Some((text, _)) => Some(text),
        None => {
            if !report.written.contains(&join(at, "path")) && block.is_mapping {
                report
                    .problems
                    .push(join(at, "path"), block.pos, "required key is missing");
            }
            None
        }
    };
    let include = block.strings("include", &["**/*"], report);
    let exclude = block.strings("exclude", &[], report);
    let max_bytes_per_file = block
        .int_or_null("max_bytes_per_file", 1..=I64, report)
        .map(|value| value as u64);
    let max_files = block
        .int_or_null("max_files", 1..=I64, report)
        .map(|value| value as u64);
    block.finish(report);
    path.map(|path| SourceDirective {
        path,
        include,
        exclude,
        max_bytes_per_file,
        max_files,
    })
}

fn read_gate(parent: &mut Block<'_>, adapters: usize, report: &mut Report) -> GateConfig {
    let at = parent.place("gate").unwrap_or(parent.pos);
    let mut block = parent.block("gate", report);
    let d = GateConfig::default();
    let enabled_at = block.place("enabled").unwrap_or(at);
    let config = GateConfig {
        enabled: block.boolean("enabled", d.enabled, report),
        hidden_proj_dim: block.int("hidden_proj_dim", 8..=2048, d.hidden_proj_dim.into(), report) as u32,
        steps: block.int("steps", 1..=10_000, d.steps.into(), report) as u32,
        lr: block.real("lr", &OPEN_UNIT, d.lr, report),
        cold_start_floor: block.int("cold_start_floor", 1..=1024, d.cold_start_floor.into(), report) as u32,
        entropy_lambda: block.real("entropy_lambda", &UNIT, d.entropy_lambda, report),
    };
    block.finish(report);
    if config.enabled && adapters < 2 {
        let message = format!("needs `training.adapters` with two or more names, found {adapters}");
        report.problems.push("training.gate.enabled", enabled_at, message);
    }
    config
}

fn read_cache(parent: &mut Block<'_>, report: &mut Report) -> CacheConfig {
    let mut block = parent.block("cache", report);
    let d = CacheConfig::default();
    let config = CacheConfig {
        enabled: block.boolean("enabled", d.enabled, report),
        max_bytes: block.int("max_bytes", 1..=I64, d.max_bytes.into(), report) as u64,
        prune_older_than_days: block.int("prune_older_than_days", 1..=U32, d.prune_older_than_days.into(), report)
            as u32,
    };
    block.finish(report);
    config
}

fn read_audio(parent: &mut Block<'_>, report: &mut Report) -> AudioConfig {
    let mut block = parent.block("audio", report);
    let config = AudioConfig {
        auto_resample: block.boolean("auto_resample", false, report),
    };
    block.finish(report);
    config
}

fn read_export(block: &mut Block<'_>, report: &mut Report) -> ExportConfig {
    let d = ExportConfig::default();
    ExportConfig {
        default_quant: block.choice_among("default_quant", quant::document_levels(), d.default_quant, report),
        default_temperature: block.real_or_null("default_temperature", &TEMPERATURE, report),
        default_top_p: block.real_or_null("default_top_p", &OPEN_UNIT, report),
    }
}
