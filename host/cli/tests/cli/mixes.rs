//! Exports of one adapter among several, of several as one, and of adapters from elsewhere.

use serde_json::{Value, json};

use crate::lab::{ID, Lab, Ran};

/// A document with two adapters, each with questions of its own.
fn two(settings: &str, adapters: &str) -> Lab {
    let lab = Lab::new();
    lab.trainable();
    let head = lab.read("a.dlm");
    let head = head.split("Some prose.").next().unwrap();
    let head = head.replace(
        "\n---\n\n",
        &format!("\ntraining:\n  adapters: {adapters}\n{settings}---\n\n"),
    );
    let pair = |question: &str, answer: &str| format!("### Q\n{question}\n### A\n{answer}\n\n");
    let body = [
        "::instruction#ferry::\n".to_owned(),
        pair("Who is it?", "Ann."),
        pair("Who was it?", "Ben."),
        "::instruction#garden::\n".to_owned(),
        pair("Where is it?", "At sea."),
        pair("Where was it?", "Ashore."),
    ];
    lab.write("a.dlm", head + &body.concat());
    lab.run(&["train", "a.dlm", "--max-steps", "6", "--threads", "1"]).ok();
    lab
}

const BOTH: &str = "{ferry: {lora_r: 4}, garden: {lora_r: 8}}";

fn exported(lab: &Lab, words: &str) -> Ran {
    let line = format!("export a.dlm --no-smoke {words}");
    lab.run(&line.split_whitespace().collect::<Vec<_>>())
}

fn record(lab: &Lab, place: &str) -> Value {
    let text = lab.read(&format!("home/store/{ID}/exports/{place}/export_manifest.json"));
    serde_json::from_str(&text).unwrap()
}

/// The newest export on record in the store.
fn row(lab: &Lab) -> Value {
    let manifest: Value = serde_json::from_str(&lab.read(&format!("home/store/{ID}/manifest.json"))).unwrap();
    manifest["exports"].as_array().unwrap().last().unwrap().clone()
}

/// Loss on a text with the adapter that these words choose.
fn loss(lab: &Lab, words: &str) -> f64 {
    lab.write("t.txt", "Who is it? Ann. Where is it? At sea, with the boat.");
    let line = format!("score a.dlm --text t.txt --json --threads 1 {words}");
    let report = lab.json(&line.split_whitespace().collect::<Vec<_>>());
    report["text_loss"].as_f64().unwrap()
}

fn mixed_place(lab: &Lab, label: &str) -> String {
    let place = lab.store().join(format!("exports/vllm-{label}/adapters/mixed"));
    assert!(place.join("adapter_model.safetensors").exists(), "{}", place.display());
    place.display().to_string()
}

#[test]
fn exports_of_two_adapters_lie_beside_each_other_and_share_the_base() {
    let lab = two("", BOTH);
    exported(&lab, "--target llama-server --quant F16 --adapter ferry").ok();
    let ran = exported(&lab, "--target llama-server --quant F16 --adapter garden").ok();
    ran.says(&["(cached base)"]);
    let places = ["F16-ferry", "F16-garden"];
    let [ferry, garden] = places.map(|place| record(&lab, place));
    assert_eq!(
        (&ferry["adapter_name"], &garden["adapter_name"]),
        (&json!("ferry"), &json!("garden"))
    );
    let digest = |record: &Value, name: &str| {
        let list = record["artifacts"].as_array().unwrap();
        list.iter().find(|artifact| artifact["path"] == name).unwrap()["sha256"].clone()
    };
    assert_eq!(digest(&ferry, "base.F16.gguf"), digest(&garden, "base.F16.gguf"));
    assert_ne!(digest(&ferry, "adapter.gguf"), digest(&garden, "adapter.gguf"));
    assert_eq!(row(&lab)["adapter_name"], "garden");
    lab.run(&["show", "a.dlm", "--verify"]).ok();
    // A damaged base of another export is not taken.
    let base = lab.store().join("exports/F16-ferry/base.F16.gguf");
    let mut bytes = std::fs::read(&base).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::remove_file(&base).unwrap();
    std::fs::write(&base, bytes).unwrap();
    std::fs::remove_dir_all(lab.store().join("exports/F16-garden")).unwrap();
    let ran = exported(&lab, "--target llama-server --quant F16 --adapter garden").ok();
    assert!(!ran.err.contains("(cached base)"), "{}", ran.err);
    assert_eq!(
        digest(&record(&lab, "F16-garden"), "base.F16.gguf"),
        digest(&garden, "base.F16.gguf")
    );
}

#[test]
fn a_mix_is_one_adapter_that_says_what_its_parts_say_together() {
    let lab = two("", BOTH);
    for (spec, words) in [
        ("ferry:1,garden:0", "--adapter ferry"),
        ("garden:1", "--adapter garden"),
    ] {
        let ran = exported(&lab, &format!("--target vllm --adapter-mix {spec}")).ok();
        ran.says(&["adapters mixed:"]);
        let label = format!("mix-{}", spec.replace([':', ','], "-"));
        let (mixed, alone) = (
            loss(&lab, &format!("--adapter-dir {}", mixed_place(&lab, &label))),
            loss(&lab, words),
        );
        assert!((mixed - alone).abs() < 1e-4, "{spec}: {mixed} {alone}");
    }
    let ran = exported(&lab, "--target vllm --adapter-mix ferry:0.5,garden:0.5").ok();
    ran.says(&["ferry 0.5, garden 0.5 (linear, rank 12)"]);
    let record = record(&lab, "vllm-mix-ferry-0.5-garden-0.5");
    assert_eq!(record["adapter_mix"], json!([["ferry", 0.5], ["garden", 0.5]]));
    assert_eq!(
        (&record["adapter_version"], &record["adapter_name"]),
        (&json!(1), &Value::Null)
    );
    assert_eq!(row(&lab)["adapter_mix"], json!([["ferry", 0.5], ["garden", 0.5]]));
    assert!(row(&lab).get("gate_mode").is_none());
    let linear = loss(
        &lab,
        &format!("--adapter-dir {}", mixed_place(&lab, "mix-ferry-0.5-garden-0.5")),
    );
    let (ferry, garden) = (loss(&lab, "--adapter ferry"), loss(&lab, "--adapter garden"));
    assert!(
        (linear - ferry).abs() > 1e-3 && (linear - garden).abs() > 1e-3,
        "{linear} {ferry} {garden}"
    );
    // What the gate mixes, switched off, at half each.
    let prompt = |words: &str| {
        let line = format!("prompt a.dlm Who? --temp 0 --max-tokens 8 {words}");
        lab.run(&line.split_whitespace().collect::<Vec<_>>()).ok().out
    };
    let place = mixed_place(&lab, "mix-ferry-0.5-garden-0.5");
    assert_eq!(prompt("--gate off"), prompt(&format!("--adapter-dir {place}")));

    let ran = exported(
        &lab,
        "--target vllm --adapter-mix ferry:0.5,garden:0.5 --adapter-mix-method svd",
    )
    .ok();
    ran.says(&["(svd, rank 8)"]);
    let svd = loss(
        &lab,
        &format!("--adapter-dir {}", mixed_place(&lab, "mix-svd-ferry-0.5-garden-0.5")),
    );
    assert!((svd - linear).abs() < 0.2 && svd != linear, "{svd} {linear}");

    // Beside its base and merged, the file is checked against the mix in memory.
    let gguf = "--target llama-server --quant F16 --adapter-mix garden:1,ferry:0.25";
    exported(&lab, gguf).ok().says(&["verified: base.F16.gguf"]);
    exported(&lab, &format!("{gguf} --merged"))
        .ok()
        .says(&["verified: merged.F16.gguf"]);
    exported(&lab, &format!("{gguf} --dry-run"))
        .ok()
        .says(&["F16-mix-garden-1-ferry-0.25"]);
    lab.run(&["show", "a.dlm", "--verify"]).ok();
}

#[test]
fn what_cannot_be_mixed_is_refused_with_what_was_typed() {
    let lab = two("", "{ferry: {}, garden: {adapter: dora}}");
    let before = lab.files(&format!("home/store/{ID}"));
    let refused: [(&str, i32, &[&str]); 8] = [
        ("--adapter-mix ferry", 2, &["--adapter-mix: `ferry` has no weight"]),
        ("--adapter-mix ferry:NaN", 2, &["`ferry:NaN` is no number"]),
        ("--adapter-mix ferry:1,ferry:1", 2, &["`ferry` is there twice"]),
        (
            "--adapter-mix tone:1",
            2,
            &["`tone` is not declared", "`ferry`, `garden`"],
        ),
        ("--adapter-mix ferry:1 --adapter ferry", 2, &["cannot be used with"]),
        ("--adapter-mix ferry:1 --adapter-mix-method best", 2, &["best"]),
        (
            "--adapter-mix ferry:1,garden:1",
            1,
            &["`garden` is a DoRA", "--adapter garden --merged"],
        ),
        (
            "",
            2,
            &["several adapters", "--adapter ferry", "--adapter-mix ferry:1,garden:1"],
        ),
    ];
    for (words, code, said) in refused {
        exported(&lab, &format!("--target llama-server {words}"))
            .exits(code)
            .says(said);
    }
    exported(&lab, "--target vllm --adapter-mix ferry:1 --emit-sway-json")
        .exits(2)
        .says(&["a mix has no directory"]);
    let alike = |name: &str| !name.ends_with(".sqlite");
    let names = |files: Vec<(String, Vec<u8>)>| files.into_iter().filter(|(n, _)| alike(n)).collect::<Vec<_>>();
    assert_eq!(names(before), names(lab.files(&format!("home/store/{ID}"))));
}

#[test]
fn the_weights_of_a_gate_are_frozen_where_no_adapter_is_named() {
    let lab = two("  gate: {enabled: true, cold_start_floor: 2, steps: 50}\n", BOTH);
    let ran = exported(&lab, "--target llama-server --quant F16").ok();
    ran.says(&["the weights of the learned gate are frozen: every question gets ferry 0."]);
    let found = record(&lab, "F16-gate");
    assert_eq!(found["gate_mode"], "static_mean");
    assert_eq!(row(&lab)["gate_mode"], "static_mean");
    let weight = |name: &str| {
        let mix = found["adapter_mix"].as_array().unwrap();
        mix.iter().find(|pair| pair[0] == name).unwrap()[1].as_f64().unwrap()
    };
    assert!((weight("ferry") + weight("garden") - 1.0).abs() < 1e-6, "{found}");
    // What is on record of the newest gate counts; a name that is not on record has no weight.
    let database = rusqlite::Connection::open(lab.store().join("metrics.sqlite")).unwrap();
    let trained = lab
        .read(&format!("home/store/{ID}/adapter/_gate/gate_config.json"))
        .contains("\"trained\"");
    database
        .execute_batch(
            "UPDATE gate_events SET mean_weight = 0.75 WHERE adapter_name = 'ferry';
             DELETE FROM gate_events WHERE adapter_name = 'garden'",
        )
        .unwrap();
    drop(database);
    exported(&lab, "--target vllm").ok();
    let expected = if trained {
        json!([["ferry", 0.75], ["garden", 0.0]])
    } else {
        json!([["ferry", 0.5], ["garden", 0.5]])
    };
    assert_eq!(record(&lab, "vllm-gate")["adapter_mix"], expected);
    // A named adapter is exported alone, and without its gate the document has nothing to freeze.
    exported(&lab, "--target vllm --adapter garden").ok();
    assert_eq!(record(&lab, "vllm-garden")["adapter_mix"], Value::Null);
    std::fs::remove_dir_all(lab.store().join("adapter/_gate")).unwrap();
    exported(&lab, "--target vllm")
        .exits(2)
        .says(&["several adapters", "--adapter ferry"]);
}

/// Says of an adapter's newest version how it was trained, as its training would.
fn says(lab: &Lab, adapter: &str, file: &str, text: Option<&str>) {
    let versions = lab.store().join(format!("adapter/{adapter}versions"));
    let place = versions.join("v0001");
    let name = place.join(file);
    match text {
        Some(text) => std::fs::write(&name, text).unwrap(),
        None => drop(std::fs::remove_file(&name)),
    }
    let sums = place.join("SHA256SUMS");
    let listed = std::fs::read_to_string(&sums).unwrap();
    let mut kept: String = listed
        .lines()
        .filter(|line| !line.ends_with(file))
        .map(|line| format!("{line}\n"))
        .collect();
    if let Some(text) = text {
        kept += &dlm_store::sums::line(file, &dlm_core::digest::sha256_hex(text.as_bytes()));
    }
    std::fs::write(&sums, kept).unwrap();
}

#[test]
fn an_adapter_of_four_bit_weights_is_merged_where_that_is_confirmed() {
    let lab = Lab::new();
    lab.trainable();
    lab.run(&["train", "a.dlm", "--max-steps", "2", "--threads", "1"]).ok();
    let plain = "--target llama-server --quant F16";
    exported(&lab, &format!("{plain} --dequantize"))
        .exits(2)
        .says(&["add `--merged`"]);
    exported(&lab, &format!("{plain} --merged --dequantize"))
        .ok()
        .says(&["trained on unquantized weights"]);
    assert_eq!(record(&lab, "F16")["dequantized"], false);
    let quantized = [
        ("training_run.json", r#"{"use_qlora": true}"#),
        ("pinned_versions.json", r#"{"bitsandbytes": "0.44.1"}"#),
    ];
    for (file, text) in quantized {
        says(&lab, "", file, Some(text));
        exported(&lab, plain).ok();
        let ran = exported(&lab, &format!("{plain} --merged")).exits(1);
        ran.says(&["merge: ", "leave out `--merged`", "add `--dequantize`"]);
        exported(&lab, &format!("{plain} --merged --dequantize")).ok();
        let record = record(&lab, "F16");
        assert_eq!(
            (&record["merged"], &record["dequantized"]),
            (&json!(true), &json!(true))
        );
        // What a target fetches and merges by itself is none of our merging.
        exported(&lab, "--target vllm --merged")
            .ok()
            .says(&["has no use for --merged"]);
        // The pins count where there is no record.
        says(&lab, "", "training_run.json", None);
    }
    says(&lab, "", "pinned_versions.json", Some(r#"{"bitsandbytes": ""}"#));
    exported(&lab, &format!("{plain} --merged")).ok();
    for text in ["{", "{}", r#"{"use_qlora": "no"}"#] {
        says(&lab, "", "training_run.json", Some(text));
        exported(&lab, plain)
            .exits(1)
            .says(&["preflight[training_run_json]: ", "training_run.json"]);
    }
}

#[test]
fn every_member_of_a_mix_is_asked_how_it_was_trained() {
    let lab = two("", BOTH);
    says(&lab, "garden/", "training_run.json", Some(r#"{"use_qlora": true}"#));
    let mix = "--target llama-server --quant F16 --adapter-mix ferry:1,garden:1";
    for words in ["", "--merged"] {
        exported(&lab, &format!("{mix} {words}"))
            .exits(1)
            .says(&["merge: ", "--merged --dequantize"]);
    }
    exported(&lab, &format!("{mix} --merged --dequantize")).ok();
    assert_eq!(record(&lab, "F16-mix-ferry-1-garden-1")["dequantized"], true);
    exported(&lab, "--target llama-server --quant F16 --adapter-mix ferry:1 --merged").ok();
}

/// A directory of `tests/golden/adapters`.
fn golden(name: &str) -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/adapters");
    path.join(name).canonicalize().unwrap().display().to_string()
}

#[test]
fn an_adapter_from_elsewhere_answers_is_scored_and_exported() {
    let lab = Lab::new();
    lab.trainable();
    let base = loss(&lab, "--base-only");
    let mut losses = vec![base];
    for name in ["rslora", "patterns", "patterns_rslora_dora", "layers", "lookahead"] {
        let words = format!("--adapter-dir {}", golden(name));
        losses.push(loss(&lab, &words));
        let line = format!("prompt a.dlm Who? --temp 0 --max-tokens 3 -v {words}");
        lab.run(&line.split_whitespace().collect::<Vec<_>>()).ok();
        let label = format!("dir-{}", name.replace('.', "-"));
        let export = format!("--target llama-server --quant F16 {words}");
        if name.ends_with("dora") {
            exported(&lab, &export).exits(1).says(&["DoRA", "--merged"]);
            exported(&lab, &format!("{export} --merged")).ok();
        } else {
            exported(&lab, &export).ok().says(&["adapter.gguf"]);
        }
        assert_eq!(record(&lab, &format!("F16-{label}"))["adapter_name"], Value::Null);
    }
    for (at, one) in losses.iter().enumerate() {
        assert!(
            losses[..at].iter().all(|other| (one - other).abs() > 1e-6),
            "{losses:?}"
        );
    }
    // What it says of its base is told where it is another.
    let settings = std::fs::read_to_string(format!("{}/adapter_config.json", golden("rslora"))).unwrap();
    std::fs::create_dir(lab.path("foreign")).unwrap();
    let tensors = "adapter_model.safetensors";
    std::fs::copy(
        format!("{}/{tensors}", golden("rslora")),
        lab.path("foreign").join(tensors),
    )
    .unwrap();
    let with = |key: &str, value: Value| {
        let mut settings: Value = serde_json::from_str(&settings).unwrap();
        settings[key] = value;
        lab.write("foreign/adapter_config.json", settings.to_string());
        lab.run(&[
            "prompt",
            "a.dlm",
            "Who?",
            "--temp",
            "0",
            "--max-tokens",
            "2",
            "--adapter-dir",
            "foreign",
        ])
    };
    with("base_model_name_or_path", json!("someone/other"))
        .ok()
        .says(&["trained on `someone/other`", "tiny"]);
    with("lora_bias", json!(true))
        .exits(1)
        .says(&["lora_bias: true", "dlm base add"]);
    with("init_lora_weights", json!("pissa"))
        .exits(1)
        .says(&["pissa", "merge_and_unload"]);
    let conflicts = ["--adapter x", "--base-only", "--gate off"];
    for other in conflicts {
        let line = format!("prompt a.dlm Who? --adapter-dir foreign {other}");
        lab.run(&line.split_whitespace().collect::<Vec<_>>())
            .exits(2)
            .says(&["cannot be used with"]);
    }
    lab.run(&["prompt", "a.dlm", "Who?", "--adapter-dir", "nowhere"])
        .exits(1)
        .says(&["nowhere/adapter_config.json"]);
}
