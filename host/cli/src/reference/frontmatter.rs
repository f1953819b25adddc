//! The page of the frontmatter's keys: defaults out of a fresh document, accepted values out of the reader's own messages.

use dlm_doc::{AdapterConfig, Frontmatter, SCHEMA_VERSION, Ulid, parse};
use serde_json::{Value, json};

/// An id for the documents that are given to the reader.
const ID: &str = "01HF7YAT0004106R0430MG2000";
/// What each key is for; the page cannot be made without a line for every key.
const MEANING: &[(&str, &str)] = &[
    (
        "dlm_id",
        "identity of the document and of its store; `dlm init` makes one",
    ),
    ("dlm_version", "version of this schema; `dlm migrate` raises it"),
    (
        "base_model",
        "registry key, `hf:org/name`, or a local base (`dlm base list`)",
    ),
    ("system_prompt", "system turn of training and of every question"),
    ("training.adapter", "kind of adapter"),
    ("training.lora_r", "rank of the adapter"),
    ("training.lora_alpha", "scale: the update is multiplied by alpha / r"),
    (
        "training.lora_dropout",
        "share of the adapter's inputs that a step leaves out",
    ),
    ("training.target_modules", "layers that get an adapter"),
    ("training.learning_rate", "peak step size of the optimizer"),
    ("training.sequence_len", "longest row, in tokens"),
    ("training.micro_batch_size", "rows of one pass"),
    ("training.grad_accum", "passes before the weights move"),
    ("training.num_epochs", "times that every row is seen"),
    ("training.optimizer", "how gradients move the weights"),
    ("training.lr_scheduler", "how the step size falls"),
    (
        "training.warmup_ratio",
        "share of the steps in which the step size rises",
    ),
    (
        "training.seed",
        "start of every random choice; the same seed gives the same bytes",
    ),
    (
        "training.precision",
        "number format of the products; null lets the plan choose",
    ),
    (
        "training.sources",
        "directories and files that are trained beside this document",
    ),
    (
        "training.sources_policy",
        "whether sources may lie outside the document's directory",
    ),
    ("training.holdout", "also keep hand-written pairs back for validation"),
    ("training.adapters", "named adapters, each with the keys below"),
    ("training.preference.enabled", "run the preference phase"),
    ("training.preference.method", "preference objective"),
    ("training.preference.loss_type", "loss of DPO"),
    (
        "training.preference.reference",
        "what the preferred answers are compared with",
    ),
    (
        "training.preference.hyperparams.beta",
        "strength of the preference (DPO)",
    ),
    (
        "training.preference.hyperparams.alpha",
        "weight of the odds ratio (ORPO)",
    ),
    (
        "training.preference.hyperparams.learning_rate",
        "peak step size of the preference phase",
    ),
    (
        "training.preference.hyperparams.num_epochs",
        "times that every triple is seen",
    ),
    ("training.cpt.schedule", "schedule of prose"),
    (
        "training.cpt.embed_warmup_steps",
        "steps in which the embedding learns too",
    ),
    ("training.gate.enabled", "learn a gate between the named adapters"),
    ("training.gate.hidden_proj_dim", "width of the gate"),
    ("training.gate.steps", "steps of the gate's training"),
    ("training.gate.lr", "step size of the gate"),
    (
        "training.gate.cold_start_floor",
        "sections an adapter needs before the gate is learned",
    ),
    ("training.gate.entropy_lambda", "how evenly the gate spreads"),
    ("training.cache.enabled", "keep tokenized sources between runs"),
    ("training.cache.max_bytes", "bytes that the cache may take"),
    (
        "training.cache.prune_older_than_days",
        "days after which `dlm cache prune` drops an entry",
    ),
    ("training.audio.auto_resample", "resample audio to the base's rate"),
    (
        "export.default_quant",
        "type of the exported weights when `--quant` is not given",
    ),
    (
        "export.default_temperature",
        "sampling temperature written into the export",
    ),
    ("export.default_top_p", "nucleus written into the export"),
    ("training.sources.0.path", "directory or file, relative to the document"),
    ("training.sources.0.include", "patterns of the files that are taken"),
    ("training.sources.0.exclude", "patterns of the files that are not"),
    ("training.sources.0.max_bytes_per_file", "larger files are left out"),
    ("training.sources.0.max_files", "most files that are taken"),
];

/// Makes the page.
pub fn page() -> String {
    let id: Ulid = ID.parse().expect("the constant is an id");
    let fresh = serde_json::to_value(Frontmatter::new(id, "smollm2-135m")).expect("a frontmatter is plain data");
    let mut leaves = Vec::new();
    collect(String::new(), &fresh, &mut leaves);
    let mut out = format!(
        "# Frontmatter, schema version {SCHEMA_VERSION}\n\nWritten by `cargo xtask docs`: the defaults are those of a fresh document, the values are what the reader itself says it\n\
         expected. A key that is not written is chosen by the plan; `dlm train --dry-run` shows every choice with its reason.\n\n{HEAD}"
    );
    for (path, default) in leaves {
        let default = match path.as_str() {
            "dlm_id" | "base_model" => "required".to_owned(),
            _ => format!("`{default}`"),
        };
        out.push_str(&row(&path, &path, &default));
    }
    out.push_str(&format!("\n## An entry of `training.adapters`\n\n{HEAD}"));
    let adapter = serde_json::to_value(AdapterConfig::default()).expect("a block is plain data");
    for (key, default) in adapter.as_object().into_iter().flatten() {
        out.push_str(&row(
            &format!("training.{key}"),
            &format!("training.adapters.name.{key}"),
            &format!("`{default}`"),
        ));
    }
    out.push_str(&format!("\n## An entry of `training.sources`\n\n{HEAD}"));
    let source = [
        ("path", "required"),
        ("include", "`[\"**/*\"]`"),
        ("exclude", "`[]`"),
        ("max_bytes_per_file", "`null`"),
        ("max_files", "`null`"),
    ];
    for (key, default) in source {
        let path = format!("training.sources.0.{key}");
        out.push_str(&row(&path, &path, default));
    }
    out
}

const HEAD: &str = "| key | meaning | values | default |\n|---|---|---|---|\n";

fn row(known_as: &str, path: &str, default: &str) -> String {
    let meaning = MEANING
        .iter()
        .find(|(key, _)| *key == known_as)
        .map(|(_, meaning)| *meaning);
    let meaning = meaning.expect("every key of the schema has a line in MEANING (a test makes the page)");
    let mut values = expected(path);
    if default == "`null`" && !values.contains("null") {
        values.push_str(" or null");
    }
    let shown = path.replace(".name.", ".<name>.").replace(".0.", ".<n>.");
    format!("| `{shown}` | {meaning} | {values} | {default} |\n")
}

fn collect(path: String, value: &Value, leaves: &mut Vec<(String, String)>) {
    match value {
        Value::Object(map) => {
            for (key, inner) in map {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                collect(path, inner, leaves);
            }
        }
        leaf => leaves.push((path, leaf.to_string())),
    }
}

/// Gives the reader an empty mapping for the key and takes what it expected out of its message.
fn expected(path: &str) -> String {
    match path {
        "dlm_version" => return format!("an integer from 1 to {SCHEMA_VERSION}"),
        "training.adapters" => return "a mapping of names to entries".to_owned(),
        _ => {}
    }
    let mut front = json!({ "dlm_id": ID, "dlm_version": SCHEMA_VERSION, "base_model": "smollm2-135m" });
    let mut place = &mut front;
    for part in path.split('.') {
        place = match part {
            "0" => {
                *place = json!([{}]);
                &mut place[0]
            }
            key => {
                if place.is_null() {
                    *place = json!({});
                }
                &mut place[key]
            }
        };
    }
    *place = json!({});
    // JSON is YAML.
    let text = format!("---\n{front}\n---\n");
    let errors = parse(&text).expect_err("an empty mapping is no value of a leaf");
    let says = |message: &str| {
        let (_, rest) = message.split_once("expected ")?;
        Some(rest.split(", found ").next()?.to_owned())
    };
    let found = errors.errors.iter().find_map(|error| says(&error.message));
    found.expect("the reader says what it expected")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_what_the_reader_says() {
        for (path, values) in [
            ("training.lora_r", "an integer from 1 to 256"),
            ("training.adapter", "one of `lora`, `qlora`, `dora`"),
            ("training.adapters.name.lora_dropout", "a number from 0 to 0.5"),
            ("training.sources.0.include", "a list of strings"),
            ("system_prompt", "a string"),
        ] {
            assert_eq!(expected(path), values, "{path}");
        }
    }

    #[test]
    fn no_meaning_is_left_over() {
        let page = page();
        for (key, _) in MEANING {
            assert!(
                page.contains(&format!("`{}`", key.replace(".0.", ".<n>."))),
                "{key} is no key of the schema"
            );
        }
    }
}
