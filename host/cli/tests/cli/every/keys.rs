//! The rows of the frontmatter's keys: what a document with the key makes that one without it does not.

use std::collections::BTreeSet;

use super::{Sees, compare, page, rows, seen};
use crate::lab::{ID, Lab};

struct Key {
    key: &'static str,
    /// The frontmatter's lines.
    with: &'static str,
    without: &'static str,
    line: &'static str,
    sees: Sees,
}

const fn key(key: &'static str, with: &'static str, line: &'static str, words: &'static str) -> Key {
    Key {
        key,
        with,
        without: "",
        line,
        sees: Sees::Words(words),
    }
}

const PLAN: &str = "train a.dlm --dry-run";
const CHECK: &str = "check a.dlm";
const PREFERENCES: &str = "train preferences.dlm --dry-run";
const EXPORT: &str = "export a.dlm --target llama-server --no-smoke";
const F16: &str = "export a.dlm --target llama-server --no-smoke --quant F16";
const NOT_BUILT: &str = "not built yet";

const KEYS: &[Key] = &[
    key(
        "training.adapter",
        "training: {adapter: dora}",
        PLAN,
        "dora  (written in the document)",
    ),
    key(
        "training.adapter",
        "training: {adapter: qlora}",
        PLAN,
        "four bits (NF4)",
    ),
    key(
        "training.lora_r",
        "training: {lora_r: 4}",
        PLAN,
        "4  (written in the document)",
    ),
    key(
        "training.lora_alpha",
        "training: {lora_alpha: 9}",
        PLAN,
        "9  (written in the document)",
    ),
    key(
        "training.lora_dropout",
        "training: {lora_dropout: 0.25}",
        PLAN,
        "0.25  (written in the document)",
    ),
    key(
        "training.target_modules",
        "training: {target_modules: [q_proj]}",
        PLAN,
        "q_proj  (written in the document)",
    ),
    key(
        "training.target_modules",
        "training: {target_modules: [qq_proj]}",
        CHECK,
        "names `qq_proj`",
    ),
    key(
        "training.learning_rate",
        "training: {learning_rate: 0.5}",
        PLAN,
        "0.5  (written in the document)",
    ),
    key(
        "training.sequence_len",
        "training: {sequence_len: 64}",
        PLAN,
        "64  (written in the document)",
    ),
    key(
        "training.micro_batch_size",
        "training: {micro_batch_size: 3}",
        PLAN,
        "3  (written in the document)",
    ),
    key(
        "training.grad_accum",
        "training: {grad_accum: 2}",
        PLAN,
        "2  (written in the document)",
    ),
    key(
        "training.num_epochs",
        "training: {num_epochs: 7}",
        PLAN,
        "7  (written in the document)",
    ),
    key(
        "training.optimizer",
        "training: {optimizer: galore_adamw}",
        CHECK,
        "optimizer `galore_adamw` is refused",
    ),
    key(
        "training.optimizer",
        "training: {optimizer: adamw_8bit}",
        CHECK,
        "found `adamw_8bit`, did you mean `adamw_bnb_8bit`?",
    ),
    key(
        "training.optimizer",
        "training: {optimizer: adamw_bnb_8bit}",
        PLAN,
        "adamw_bnb_8bit  (written in the document)",
    ),
    key(
        "training.optimizer",
        "training: {optimizer: paged_adamw_8bit}",
        PLAN,
        "adamw_bnb_8bit  (chosen because the document writes `paged_adamw_8bit`",
    ),
    key(
        "training.optimizer",
        "training: {optimizer: adamw_torch}",
        PLAN,
        "adamw_torch  (written in the document)",
    ),
    key(
        "training.lr_scheduler",
        "training: {lr_scheduler: linear}",
        PLAN,
        "linear  (written in the document)",
    ),
    key(
        "training.warmup_ratio",
        "training: {warmup_ratio: 0.5}",
        PLAN,
        "(written in the document)",
    ),
    key(
        "training.warmup_ratio",
        "training: {warmup_ratio: 0.5, lr_scheduler: constant}",
        PLAN,
        "`warmup_ratio` of 0.5",
    ),
    key(
        "training.seed",
        "training: {seed: 9}",
        PLAN,
        "9  (written in the document)",
    ),
    key(
        "training.precision",
        "training: {precision: fp32}",
        PLAN,
        "fp32  (written in the document)",
    ),
    key(
        "training.precision",
        "training: {precision: fp16}",
        CHECK,
        "a CPU has no fp16 products",
    ),
    key(
        "training.cpt.schedule",
        "training: {cpt: {schedule: dapt}}",
        PLAN,
        "0.0005  (",
    ),
    key(
        "training.cpt.embed_warmup_steps",
        "training: {cpt: {embed_warmup_steps: 2}}",
        CHECK,
        NOT_BUILT,
    ),
    key(
        "training.adapters",
        "training: {adapters: {a: {}}}",
        PLAN,
        "adapter `a`:",
    ),
    key(
        "training.adapters.<name>.adapter",
        "training: {adapters: {a: {adapter: dora}}}",
        PLAN,
        "dora  (written in the document)",
    ),
    key(
        "training.adapters.<name>.lora_r",
        "training: {adapters: {a: {lora_r: 4}}}",
        PLAN,
        "4  (written in the document)",
    ),
    key(
        "training.adapters.<name>.lora_alpha",
        "training: {adapters: {a: {lora_alpha: 9}}}",
        PLAN,
        "9  (written in the document)",
    ),
    key(
        "training.adapters.<name>.lora_dropout",
        "training: {adapters: {a: {lora_dropout: 0.25}}}",
        PLAN,
        "0.25  (written in the document)",
    ),
    key(
        "training.adapters.<name>.target_modules",
        "training: {adapters: {a: {target_modules: [q_proj]}}}",
        PLAN,
        "q_proj  (written in the document)",
    ),
    key(
        "training.adapters.<name>.learning_rate",
        "training: {adapters: {a: {learning_rate: 0.5}}}",
        PLAN,
        "0.5  (written in the document)",
    ),
    key("training.sources", "training: {sources: [{path: x}]}", CHECK, NOT_BUILT),
    key(
        "training.sources.<n>.path",
        "training: {sources: [{path: x}]}",
        CHECK,
        NOT_BUILT,
    ),
    key(
        "training.sources.<n>.include",
        "training: {sources: [{path: x, include: [a]}]}",
        CHECK,
        NOT_BUILT,
    ),
    key(
        "training.sources.<n>.exclude",
        "training: {sources: [{path: x, exclude: [a]}]}",
        CHECK,
        NOT_BUILT,
    ),
    key(
        "training.sources.<n>.max_bytes_per_file",
        "training: {sources: [{path: x, max_bytes_per_file: 1}]}",
        CHECK,
        NOT_BUILT,
    ),
    key(
        "training.sources.<n>.max_files",
        "training: {sources: [{path: x, max_files: 1}]}",
        CHECK,
        NOT_BUILT,
    ),
    key(
        "training.sources_policy",
        "training: {sources_policy: strict}",
        CHECK,
        "`training.sources_policy` changes nothing",
    ),
    key(
        "training.preference.enabled",
        "training: {preference: {enabled: true}}",
        CHECK,
        "no preference section is there",
    ),
    Key {
        key: "training.preference.enabled",
        with: "training: {preference: {enabled: false}}",
        without: "",
        line: PREFERENCES,
        sees: Sees::Without("dpo, sigmoid loss"),
    },
    key(
        "training.preference.method",
        "training: {preference: {method: orpo}}",
        PREFERENCES,
        "orpo, alpha 0.1",
    ),
    key(
        "training.preference.loss_type",
        "training: {preference: {loss_type: ipo}}",
        PREFERENCES,
        "dpo, ipo loss",
    ),
    key(
        "training.preference.reference",
        "training: {preference: {reference: base}}",
        PREFERENCES,
        "against the base",
    ),
    key(
        "training.preference.hyperparams.beta",
        "training: {preference: {hyperparams: {beta: 0.2}}}",
        PREFERENCES,
        "beta 0.2",
    ),
    key(
        "training.preference.hyperparams.alpha",
        "training: {preference: {method: orpo, hyperparams: {alpha: 0.2}}}",
        PREFERENCES,
        "orpo, alpha 0.2",
    ),
    key(
        "training.preference.hyperparams.learning_rate",
        "training: {preference: {hyperparams: {learning_rate: 0.25}}}",
        PREFERENCES,
        "0.25  (written in the document)",
    ),
    key(
        "training.preference.hyperparams.num_epochs",
        "training: {preference: {hyperparams: {num_epochs: 3}}}",
        PREFERENCES,
        "3  (written in the document)",
    ),
    key(
        "training.preference.loss_type",
        "training: {preference: {method: orpo, loss_type: ipo}}",
        "check preferences.dlm",
        "loss_type` changes nothing",
    ),
    key(
        "training.gate.enabled",
        "training: {gate: {enabled: true}}",
        CHECK,
        "needs `training.adapters`",
    ),
    key(
        "training.gate.hidden_proj_dim",
        "training: {gate: {hidden_proj_dim: 8}}",
        CHECK,
        "hidden_proj_dim` changes nothing",
    ),
    key(
        "training.gate.steps",
        "training: {gate: {steps: 8}}",
        CHECK,
        "steps` changes nothing",
    ),
    key(
        "training.gate.lr",
        "training: {gate: {lr: 0.1}}",
        CHECK,
        "lr` changes nothing",
    ),
    key(
        "training.gate.cold_start_floor",
        "training: {gate: {cold_start_floor: 8}}",
        CHECK,
        "cold_start_floor` changes nothing",
    ),
    key(
        "training.gate.entropy_lambda",
        "training: {gate: {entropy_lambda: 0.1}}",
        CHECK,
        "entropy_lambda` changes nothing",
    ),
    key(
        "training.cache.enabled",
        "training: {cache: {enabled: true}}",
        CHECK,
        "enabled` changes nothing",
    ),
    key(
        "training.cache.max_bytes",
        "training: {cache: {max_bytes: 8}}",
        CHECK,
        "max_bytes` changes nothing",
    ),
    key(
        "training.cache.prune_older_than_days",
        "training: {cache: {prune_older_than_days: 8}}",
        CHECK,
        "prune_older_than_days` changes nothing",
    ),
    key(
        "training.audio.auto_resample",
        "training: {audio: {auto_resample: true}}",
        CHECK,
        "auto_resample` changes nothing",
    ),
    key(
        "training.holdout",
        "training: {holdout: true}",
        CHECK,
        "`training.holdout` changes nothing",
    ),
    key(
        "training.holdout",
        "training: {holdout: true}",
        "train many.dlm --dry-run",
        "held out: section",
    ),
    key(
        "export.default_quant",
        "export: {default_quant: Q8_0}",
        EXPORT,
        "base.Q8_0.gguf",
    ),
    key(
        "export.default_temperature",
        "export: {default_temperature: 1.5}",
        F16,
        "--temp 1.5",
    ),
    key(
        "export.default_temperature",
        "export: {default_temperature: 1.5}",
        "export a.dlm --target vllm --no-smoke",
        "\"temperature\":1.5",
    ),
    key(
        "export.default_top_p",
        "export: {default_top_p: 0.25}",
        F16,
        "--top-p 0.25",
    ),
    key(
        "export.default_top_p",
        "export: {default_top_p: 0.25}",
        "export a.dlm --target vllm --no-smoke",
        "\"top_p\":0.25",
    ),
    key(
        "system_prompt",
        "system_prompt: Speak up.",
        "check a.dlm",
        "system    9 characters",
    ),
];

/// Keys that every document has: without them it is none.
const NEEDED: [(&str, &str); 3] = [
    ("dlm_id", "dlm_id: "),
    ("dlm_version", "dlm_version: 15"),
    ("base_model", "base_model: tiny"),
];

const HEAD: &str = "base_model: tiny\n";

fn document(more: &str) -> String {
    let more = if more.is_empty() {
        String::new()
    } else {
        format!("{more}\n")
    };
    format!("---\ndlm_id: {ID}\ndlm_version: 15\n{HEAD}{more}---\n\n::instruction::\n### Q\nWhat?\n### A\nThat.\n")
}

/// Writes the documents that the lines name.
fn write(lab: &Lab, more: &str) {
    let text = document(more);
    lab.write("a.dlm", &text);
    lab.write(
        "preferences.dlm",
        format!("{text}\n::preference::\n### Prompt\nWhat?\n### Chosen\nThat.\n### Rejected\nThis.\n"),
    );
    let sections: String = (0..70)
        .map(|number| format!("\n::instruction::\n### Q\nWhat is {number}?\n### A\nThat.\n"))
        .collect();
    lab.write("many.dlm", text + &sections);
}

#[test]
fn every_key_has_a_row_and_every_row_a_key() {
    let lab = Lab::new();
    let page = page(&lab, "frontmatter.md");
    let listed: BTreeSet<&str> = rows(&page).filter_map(|row| row.split('`').nth(1)).collect();
    assert!(listed.len() > 50, "the page is read: {}", listed.len());
    let needed = NEEDED.iter().map(|(key, _)| *key);
    let known: BTreeSet<&str> = KEYS.iter().map(|row| row.key).chain(needed).collect();
    let missing: Vec<_> = listed.difference(&known).collect();
    assert!(missing.is_empty(), "keys without a row: {missing:?}");
    let gone: Vec<_> = known.difference(&listed).collect();
    assert!(gone.is_empty(), "rows without a key: {gone:?}");
}

#[test]
fn every_key_does_what_its_row_says() {
    let lab = Lab::new();
    lab.trainable();
    write(&lab, "");
    lab.run(&["train", "a.dlm", "--max-steps", "2", "--threads", "1"]).ok();
    for row in KEYS {
        let run = |more: &str| {
            let lab = lab.copy();
            write(&lab, more);
            seen(&lab, row.line)
        };
        let (with, without) = (run(row.with), run(row.without));
        compare(row.key, &row.sees, &with, &without);
    }
}

#[test]
fn the_keys_that_every_document_has_are_missed() {
    let lab = Lab::new();
    for (key, line) in NEEDED {
        let text = document("");
        let start = text.find(line).unwrap();
        let end = start + text[start..].find('\n').unwrap() + 1;
        lab.write("a.dlm", format!("{}{}", &text[..start], &text[end..]));
        let ran = lab.run(&["check", "a.dlm"]);
        match key {
            "dlm_version" => assert!(ran.out.contains("1, read as 15"), "{}", ran.out),
            _ => assert!(
                ran.err.contains(&format!("{key}: required key is missing")),
                "{}",
                ran.err
            ),
        }
    }
}
