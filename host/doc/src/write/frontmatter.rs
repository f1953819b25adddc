//! The frontmatter in canonical form: keys in schema order, defaults left out unless the author wrote them.
//!
//! Invariants: one table of keys, made from the values, decides order and defaults, so that writing and comparing
//! cannot disagree.

use dlm_core::training::{Auto, TargetModules};

use crate::frontmatter::{
    AdapterConfig, CacheConfig, CptConfig, ExportConfig, Frontmatter, GateConfig, PreferenceConfig,
    PreferenceHyperparams, SCHEMA_VERSION, SourceDirective, TrainingConfig,
};
use crate::write::scalar;

/// One written node of the frontmatter.
enum Item {
    /// Key, YAML text of the value, YAML text of the default; written when they differ or the key is explicit.
    Value {
        key: &'static str,
        text: String,
        default: String,
    },
    /// A mapping; left out when empty.
    Block { key: String, items: Vec<Item> },
    /// A list of mappings.
    List { key: &'static str, entries: Vec<Vec<Item>> },
}

/// Writes both `---` lines and what is between them.
pub(super) fn write(frontmatter: &Frontmatter) -> String {
    let mut out = String::from("---\n");
    out.push_str(&format!("dlm_id: {}\n", id_text(frontmatter)));
    out.push_str(&format!("dlm_version: {SCHEMA_VERSION}\n"));
    out.push_str(&format!("base_model: {}\n", scalar::string(&frontmatter.base_model)));
    write_items(&mut out, &items(frontmatter), "", 0, frontmatter);
    let prompt = frontmatter.system_prompt.as_deref();
    if let Some(text) = prompt {
        out.push_str(&format!("system_prompt: {}\n", scalar::text_value(text)));
    } else if frontmatter.wrote("system_prompt") {
        out.push_str("system_prompt: null\n");
    }
    out.push_str("---\n");
    out
}

/// An id of digits alone would read as a number.
fn id_text(frontmatter: &Frontmatter) -> String {
    scalar::string(frontmatter.dlm_id.as_str())
}

fn write_items(out: &mut String, items: &[Item], path: &str, depth: usize, frontmatter: &Frontmatter) {
    let indent = "  ".repeat(depth);
    for item in items {
        match item {
            Item::Value { key, text, default } => {
                if text != default || frontmatter.wrote(&joined(path, key)) {
                    out.push_str(&format!("{indent}{key}: {text}\n"));
                }
            }
            Item::Block { key, items } => {
                let mut inner = String::new();
                let inner_path = joined(path, key);
                write_items(&mut inner, items, &inner_path, depth + 1, frontmatter);
                // An adapter's name alone declares it.
                let is_adapter = path == "training.adapters";
                // A name such as `on` is a boolean unless quoted.
                let key = scalar::key(key);
                if inner.is_empty() && is_adapter {
                    out.push_str(&format!("{indent}{key}: {{}}\n"));
                } else if !inner.is_empty() {
                    out.push_str(&format!("{indent}{key}:\n{inner}"));
                }
            }
            Item::List { key, entries } => {
                out.push_str(&format!("{indent}{key}:\n"));
                for (index, entry) in entries.iter().enumerate() {
                    let mut inner = String::new();
                    let inner_path = format!("{}.{index}", joined(path, key));
                    write_items(&mut inner, entry, &inner_path, depth + 2, frontmatter);
                    let body = inner.strip_prefix(&"  ".repeat(depth + 2)).unwrap_or(&inner);
                    out.push_str(&format!("{indent}  - {body}"));
                }
            }
        }
    }
}

fn joined(path: &str, key: &str) -> String {
    crate::frontmatter::field::join(path, key)
}

fn value(key: &'static str, text: impl ToString, default: impl ToString) -> Item {
    Item::Value {
        key,
        text: text.to_string(),
        default: default.to_string(),
    }
}

fn real(key: &'static str, value: f64, default: f64) -> Item {
    Item::Value {
        key,
        text: scalar::real(value),
        default: scalar::real(default),
    }
}

fn or_null(key: &'static str, value: Option<String>) -> Item {
    Item::Value {
        key,
        text: value.unwrap_or_else(|| "null".to_owned()),
        default: "null".to_owned(),
    }
}

fn auto(value: Auto) -> String {
    value
        .given()
        .map_or_else(|| "auto".to_owned(), |value| value.to_string())
}

fn strings(texts: &[String]) -> String {
    format!(
        "[{}]",
        texts
            .iter()
            .map(|text| scalar::flow_string(text))
            .collect::<Vec<_>>()
            .join(", ")
    )
}

fn modules(modules: &TargetModules) -> String {
    match modules {
        TargetModules::Auto => "auto".to_owned(),
        TargetModules::Named(names) => strings(names),
    }
}

fn block(key: &str, items: Vec<Item>) -> Item {
    Item::Block {
        key: key.to_owned(),
        items,
    }
}

fn items(frontmatter: &Frontmatter) -> Vec<Item> {
    vec![
        block("training", training(&frontmatter.training)),
        block("export", export(&frontmatter.export)),
    ]
}

fn training(t: &TrainingConfig) -> Vec<Item> {
    let d = TrainingConfig::default();
    let mut items = vec![
        value("adapter", t.adapter.name(), d.adapter.name()),
        value("lora_r", t.lora_r, d.lora_r),
        value("lora_alpha", t.lora_alpha, d.lora_alpha),
        real("lora_dropout", t.lora_dropout, d.lora_dropout),
        value("target_modules", modules(&t.target_modules), "auto"),
        value("sequence_len", t.sequence_len, d.sequence_len),
        value("micro_batch_size", auto(t.micro_batch_size), "auto"),
        value("grad_accum", auto(t.grad_accum), "auto"),
        real("learning_rate", t.learning_rate, d.learning_rate),
        value("num_epochs", t.num_epochs, d.num_epochs),
        value("optimizer", t.optimizer.name(), d.optimizer.name()),
        value("lr_scheduler", t.lr_scheduler.name(), d.lr_scheduler.name()),
        real("warmup_ratio", t.warmup_ratio, d.warmup_ratio),
        value("seed", t.seed, d.seed),
        block("preference", preference(&t.preference)),
        block("cpt", cpt(&t.cpt)),
    ];
    items.push(match &t.adapters {
        None => or_null("adapters", None),
        Some(list) => block(
            "adapters",
            list.iter().map(|(name, config)| block(name, adapter(config))).collect(),
        ),
    });
    items.push(or_null(
        "precision",
        t.precision.map(|precision| precision.name().to_owned()),
    ));
    items.push(match &t.sources {
        None => or_null("sources", None),
        Some(list) if list.is_empty() => or_null("sources", Some("[]".to_owned())),
        Some(list) => Item::List {
            key: "sources",
            entries: list.iter().map(source).collect(),
        },
    });
    items.push(value(
        "sources_policy",
        t.sources_policy.name(),
        d.sources_policy.name(),
    ));
    items.push(block("gate", gate(&t.gate)));
    items.push(block("cache", cache(&t.cache)));
    items.push(block(
        "audio",
        vec![value("auto_resample", t.audio.auto_resample, false)],
    ));
    items.push(value("holdout", t.holdout, false));
    items
}

fn adapter(config: &AdapterConfig) -> Vec<Item> {
    let d = AdapterConfig::default();
    vec![
        value("adapter", config.adapter.name(), d.adapter.name()),
        value("lora_r", config.lora_r, d.lora_r),
        value("lora_alpha", config.lora_alpha, d.lora_alpha),
        real("lora_dropout", config.lora_dropout, d.lora_dropout),
        value("target_modules", modules(&config.target_modules), "auto"),
        real("learning_rate", config.learning_rate, d.learning_rate),
    ]
}

fn preference(p: &PreferenceConfig) -> Vec<Item> {
    let d = PreferenceConfig::default();
    let (h, dh) = (&p.hyperparams, PreferenceHyperparams::default());
    vec![
        value("enabled", p.enabled, d.enabled),
        value("method", p.method.name(), d.method.name()),
        value("loss_type", p.loss_type.name(), d.loss_type.name()),
        value("reference", p.reference.name(), d.reference.name()),
        block(
            "hyperparams",
            vec![
                real("beta", h.beta, dh.beta),
                real("alpha", h.alpha, dh.alpha),
                real("learning_rate", h.learning_rate, dh.learning_rate),
                value("num_epochs", h.num_epochs, dh.num_epochs),
            ],
        ),
    ]
}

fn cpt(c: &CptConfig) -> Vec<Item> {
    let d = CptConfig::default();
    vec![
        value("schedule", c.schedule.name(), d.schedule.name()),
        value("embed_warmup_steps", c.embed_warmup_steps, d.embed_warmup_steps),
    ]
}

fn source(s: &SourceDirective) -> Vec<Item> {
    vec![
        value("path", scalar::string(&s.path), ""),
        value("include", strings(&s.include), "[\"**/*\"]"),
        value("exclude", strings(&s.exclude), "[]"),
        or_null(
            "max_bytes_per_file",
            s.max_bytes_per_file.map(|value| value.to_string()),
        ),
        or_null("max_files", s.max_files.map(|value| value.to_string())),
    ]
}

fn gate(g: &GateConfig) -> Vec<Item> {
    let d = GateConfig::default();
    vec![
        value("enabled", g.enabled, d.enabled),
        value("hidden_proj_dim", g.hidden_proj_dim, d.hidden_proj_dim),
        value("steps", g.steps, d.steps),
        real("lr", g.lr, d.lr),
        value("cold_start_floor", g.cold_start_floor, d.cold_start_floor),
        real("entropy_lambda", g.entropy_lambda, d.entropy_lambda),
    ]
}

fn cache(c: &CacheConfig) -> Vec<Item> {
    let d = CacheConfig::default();
    vec![
        value("enabled", c.enabled, d.enabled),
        value("max_bytes", c.max_bytes, d.max_bytes),
        value(
            "prune_older_than_days",
            c.prune_older_than_days,
            d.prune_older_than_days,
        ),
    ]
}

fn export(e: &ExportConfig) -> Vec<Item> {
    let d = ExportConfig::default();
    vec![
        value("default_quant", e.default_quant.name(), d.default_quant.name()),
        or_null("default_temperature", e.default_temperature.map(scalar::real)),
        or_null("default_top_p", e.default_top_p.map(scalar::real)),
    ]
}

/// The first key at which two frontmatters differ in value.
pub(super) fn difference(left: &Frontmatter, right: &Frontmatter) -> Option<String> {
    if left.dlm_id != right.dlm_id {
        return Some("dlm_id".to_owned());
    }
    if left.base_model != right.base_model {
        return Some("base_model".to_owned());
    }
    if left.training != right.training {
        return Some("training".to_owned());
    }
    if left.export != right.export {
        return Some("export".to_owned());
    }
    (left.system_prompt != right.system_prompt).then(|| "system_prompt".to_owned())
}
