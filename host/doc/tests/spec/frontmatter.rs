//! The frontmatter: its errors, every key's range, and the rules between keys.

use super::*;

#[test]
fn frontmatter_errors() {
    let front = |yaml: &str| format!("---\n{yaml}---\n");
    check_errors(
        &front("- a\n"),
        &["FrontmatterError 2:1"],
        "must be a mapping, got a list",
    );
    check_errors(
        &front("text\n"),
        &["FrontmatterError 2:1"],
        "must be a mapping, got the string `text`",
    );
    check_errors(&front("# only\n"), &["FrontmatterError 2:1"], "must be a mapping");
    check_errors(
        &front(""),
        &["SchemaValidationError 2:1"],
        "dlm_id: required key is missing; base_model: required",
    );
    check_errors(
        &front("a: 1\nb: 2\na: 3\nb: 4\n"),
        &["FrontmatterError 4:1", "FrontmatterError 5:1"],
        "key `a`",
    );
    check_errors(&front("a:\n  b: 1\n  b: 2\n"), &["FrontmatterError 4:3"], "key `b`");
    check_errors(
        &front("a: 1\nb:\n\tc: 1\n"),
        &["FrontmatterError 4:1"],
        "a tab cannot indent",
    );
    check_errors(
        &front("a: b\n\tc: d\n"),
        &["FrontmatterError 3:1"],
        "a tab cannot indent",
    );
    check_errors(&front("a: [1, 2\nb: {\n"), &["FrontmatterError 3:2"], "invalid YAML: ");
    check_errors(&front("a: b: c\n"), &["FrontmatterError 2:5"], "invalid YAML: ");
    check_errors(
        &front("a:\n  b: 1\n c: 2\n"),
        &["FrontmatterError 4:2"],
        "invalid YAML: ",
    );
    check_errors(&front("a: @b\n"), &["FrontmatterError 2:4"], "invalid YAML: ");
    check_errors(&front("a: *x\n"), &["FrontmatterError 2:4"], "invalid YAML: ");
    check_errors(&front("a: \u{7}\n"), &["FrontmatterError 2:4"], "U+0007 is not allowed");
    check_errors(
        &front("a: 1\n--- \nb: 1\n"),
        &["FrontmatterError 3:1"],
        "single document",
    );
    check_errors(&front("? [a]\n: b\n"), &["FrontmatterError 2:3"], "cannot be a key");
    check_errors(&front("a: !!python/object b\n"), &["FrontmatterError 2:4"], "tag");
    check_errors(
        &front(&format!("{ID}base_model: a\n1: b\n")),
        &["SchemaValidationError 4:1"],
        "1: key must be a string",
    );
    check_errors(
        &front(&format!("a: {}\n", "[".repeat(200))),
        &["FrontmatterError 2:68"],
        "nested deeper",
    );
}

#[test]
fn every_key_takes_its_range_and_nothing_else() {
    let table: &[(&str, &[&str], &[&str])] = &[
        (
            "adapter",
            &["lora", "qlora", "dora", "'lora'"],
            &["LoRA", "null", "5", "[]"],
        ),
        (
            "lora_r",
            &["1", "256", "'16'", "16.0", "'16.0'", "0x10", "1_0"],
            &["0", "257", "16.5", "true", "null", "x", "'1.5'", ".inf"],
        ),
        ("lora_alpha", &["1", "100000"], &["0", "-1"]),
        (
            "lora_dropout",
            &["0", "0.5", "'0.1'", "1e-1"],
            &["0.51", "-0.1", ".nan", "false"],
        ),
        ("target_modules", &["auto", "[a]", "[]"], &["b", "[1]", "null", "{}"]),
        ("sequence_len", &["64", "32768"], &["63", "32769"]),
        ("micro_batch_size", &["auto", "1", "'4'"], &["0", "Auto", "1.5"]),
        ("grad_accum", &["auto", "16"], &["-1", "null"]),
        (
            "learning_rate",
            &["2e-4", "'2e-4'", "1.0e-5", "1"],
            &["0", "-1", ".inf", ".nan", "true", "fast", "null"],
        ),
        ("num_epochs", &["1", "100"], &["0", "1.5"]),
        (
            "optimizer",
            &[
                "adamw_torch",
                "adamw_bnb_8bit",
                "paged_adamw_8bit",
                "galore_adamw",
                "galore_adamw_8bit",
            ],
            &["adam"],
        ),
        ("lr_scheduler", &["cosine", "linear", "constant"], &["cosin"]),
        ("warmup_ratio", &["0", "0.5"], &["0.6"]),
        (
            "seed",
            &["-1", "0", "9223372036854775807"],
            &["9223372036854775808", "x", "1.5"],
        ),
        (
            "preference",
            &[
                "{}",
                "{enabled: off, method: orpo, loss_type: hinge, reference: base}",
                "{hyperparams: {alpha: 1}}",
            ],
            &[
                "null",
                "{a: 1}",
                "{hyperparams: {beta: 2}}",
                "{hyperparams: null}",
                "{enabled: 2}",
            ],
        ),
        (
            "cpt",
            &["{schedule: sft, embed_warmup_steps: 0}"],
            &["null", "{embed_warmup_steps: -1}", "{schedule: x}"],
        ),
        (
            "adapters",
            &["null", "{a: {}}", "{a: {lora_r: 3, target_modules: [x]}, b_1: {}}"],
            &[
                "{}",
                "{A: {}}",
                "{versions: {}}",
                "{current: {}}",
                "{a: {seed: 1}}",
                "{a: null}",
                "[]",
            ],
        ),
        ("precision", &["bf16", "fp16", "fp32", "null"], &["f16"]),
        (
            "sources",
            &[
                "null",
                "[]",
                "[{path: x}]",
                "[{path: x, include: [a], exclude: [], max_files: 1, max_bytes_per_file: null}]",
            ],
            &[
                "{}",
                "[{}]",
                "[{path: ''}]",
                "[{path: x, include: a}]",
                "[{path: x, max_files: 0}]",
                "[x]",
                "[{path: x, foo: 1}]",
            ],
        ),
        ("sources_policy", &["permissive", "strict"], &["null"]),
        (
            "gate",
            &["{hidden_proj_dim: 8, steps: 10000, lr: 1, cold_start_floor: 1024, entropy_lambda: 0}"],
            &[
                "null",
                "{enabled: true}",
                "{hidden_proj_dim: 7}",
                "{steps: 10001}",
                "{lr: 1.1}",
                "{cold_start_floor: 0}",
                "{entropy_lambda: 1.1}",
            ],
        ),
        (
            "cache",
            &["{enabled: no, max_bytes: 1, prune_older_than_days: 1}"],
            &["{max_bytes: 0}", "{prune_older_than_days: 0}", "{enabled: maybe}"],
        ),
        ("audio", &["{auto_resample: Yes}"], &["null", "{auto_resample: x}"]),
        ("holdout", &["true", "FALSE"], &["null", "2"]),
    ];
    for (key, good, bad) in table {
        for value in *good {
            let parsed = parsed(&with_training(&format!("{key}: {value}")));
            let is_block = matches!(*key, "preference" | "cpt" | "gate" | "cache" | "audio");
            assert_eq!(
                parsed.frontmatter().wrote(&format!("training.{key}")),
                !is_block,
                "{key}: {value}"
            );
        }
        for value in *bad {
            let found = errors(&with_training(&format!("{key}: {value}")));
            assert_eq!(
                (found.first().class, found.first().line),
                (ErrorClass::SchemaValidation, 6),
                "{key}: {value}"
            );
            assert!(
                found.first().message.starts_with(&format!("training.{key}")),
                "{key}: {value}: {found}"
            );
        }
    }
}

#[test]
fn export_and_top_level_keys() {
    let front = |yaml: &str| format!("---\n{ID}base_model: a\n{yaml}\n---\n");
    for good in [
        "export: {default_quant: Q6_K, default_temperature: 2, default_top_p: 1}",
        "export: {default_temperature: null}",
        "system_prompt: null",
        "system_prompt: ''",
    ] {
        parsed(&front(good));
    }
    for bad in [
        "export: null",
        "export: {default_quant: F16}",
        "export: {default_temperature: 0}",
        "export: {default_top_p: 1.1}",
        "system_prompt: 5",
        "system_prompt: 2024-01-31",
        "training: null",
        "training: []",
        "extra: 1",
    ] {
        assert_eq!(errors(&front(bad)).first().class, ErrorClass::SchemaValidation, "{bad}");
    }
    for id in [
        "01HZ4X7TGZM3J1A2B3C4D5E6F",
        "01hz4x7tgzm3j1a2b3c4d5e6f7",
        "01HZ4X7TGZM3J1A2B3C4D5E6FU",
        "null",
    ] {
        check_errors(
            &format!("---\ndlm_id: {id}\nbase_model: a\n---\n"),
            &["SchemaValidationError 2:1"],
            "dlm_id: ",
        );
    }
    let suggestion = errors(&with_training("learnin_rate: 1"));
    assert!(
        suggestion.first().message.contains("did you mean `learning_rate`?"),
        "{suggestion}"
    );
}

#[test]
fn cross_field_rules() {
    let text = with_training("learning_rate: 1e-3\nlora_r: 8\nlora_alpha: 4\nadapters: {a: {}}");
    check_errors(
        &text,
        &["SchemaValidationError 6:3"],
        "`lora_alpha`, `learning_rate` must keep the default",
    );
    parsed(&with_training("learning_rate: 0.0002\nlora_r: 8\nadapters: {a: {}}"));
    check_errors(
        &with_training("adapters: {a: {}}\ngate:\n  enabled: true"),
        &["SchemaValidationError 8:5"],
        "training.gate.enabled: needs `training.adapters` with two",
    );
    parsed(&with_training("adapters: {a: {}, b: {}}\ngate: {enabled: true}"));
}

#[test]
fn explicit_preference_switch_is_obeyed() {
    let body = "::preference::\n### Prompt\np\n### Chosen\nc\n### Rejected\nr";
    let on = |yaml: &str, body: &str| parsed(&format!("{}{body}", with_training(yaml))).preference_enabled();
    assert!(on("seed: 1", body));
    assert!(!on("preference: {enabled: false}", body));
    assert!(on("preference: {enabled: true}", ""));
    assert!(!on("preference: {method: orpo}", ""));
}
