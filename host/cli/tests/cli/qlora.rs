//! A base in four bits through the binary: trained, interrupted, resumed, asked and scored on the very weights that the adapter
//! corrects.

use crate::lab::Lab;
use crate::spine::{Training, adapter};

/// A lab whose document asks for a kind of adapter.
fn lab_with(kind: &str) -> Lab {
    let lab = Lab::new();
    lab.trainable();
    write(&lab, kind);
    lab
}

fn write(lab: &Lab, kind: &str) {
    lab.set_training(&format!("adapter: {kind}"));
}

#[test]
fn a_base_in_four_bits_is_trained_resumed_bit_for_bit_and_named_in_the_version() {
    let lab = lab_with("qlora");
    let plan = lab.run(&["train", "a.dlm", "--dry-run"]).ok().out;
    let has = |name: &str, value: &str| plan.lines().any(|l| l.starts_with(name) && l.contains(value));
    assert!(has("base weights", "four bits (NF4)"), "{plan}");
    assert!(has("weight layout", "none"), "{plan}");

    let arguments = ["train", "a.dlm", "--max-steps", "400", "--threads", "1"];
    let mut training = Training::start(&lab, &arguments);
    training.until("step 10/");
    training.signal("INT");
    let (code, said) = training.end();
    assert_eq!(code, Some(130), "{said}");
    // The state is of other weights than the document asks for now.
    write(&lab, "lora");
    let other = lab.run(&[&arguments[..], &["--resume"]].concat()).exits(1);
    assert!(other.err.contains("resume:"), "{}", other.err);
    write(&lab, "qlora");
    lab.run(&[&arguments[..], &["--resume"]].concat())
        .ok()
        .says(&["resuming v0001 after step"]);

    let whole = lab_with("qlora");
    whole
        .run(&["train", "a.dlm", "--max-steps", "400", "--threads", "2"])
        .ok();
    assert_eq!(adapter(&lab, "v0002"), adapter(&whole, "v0001"));
    let usual = lab_with("lora");
    usual.run(&arguments).ok();
    assert_ne!(
        adapter(&usual, "v0001"),
        adapter(&whole, "v0001"),
        "they are trained on other weights"
    );
    for (lab, is_quantized) in [(&whole, true), (&usual, false)] {
        let lock: serde_json::Value =
            serde_json::from_slice(&std::fs::read(lab.store().join("dlm.lock")).unwrap()).unwrap();
        let said = lock["determinism_flags"].get("base_weights");
        assert_eq!(said.and_then(serde_json::Value::as_str), is_quantized.then_some("nf4"));
        let facts = lab.store().join("adapter/versions/v0001/training_run.json");
        let facts: serde_json::Value = serde_json::from_slice(&std::fs::read(facts).unwrap()).unwrap();
        assert_eq!(facts["use_qlora"], is_quantized);
    }
}

#[test]
fn what_recall_counts_is_what_the_prompt_says_on_the_same_weights() {
    let lab = lab_with("qlora");
    let text = lab.read("a.dlm");
    lab.write(
        "a.dlm",
        text + "\n### Q\nWho founded it?\n### A\nIt was the third house.\n",
    );
    let report = lab.json(&["train", "a.dlm", "--threads", "2", "--max-steps", "40", "--json"]);
    assert_eq!(report["plan"]["four_bits"]["value"], true);
    let recall = report["recall"].as_array().unwrap();
    assert_eq!(recall.len(), 2, "{report}");
    let said = |pair: &serde_json::Value| {
        let question = pair["question"].as_str().unwrap();
        lab.run(&["prompt", "a.dlm", question, "--temp", "0", "--max-tokens", "80"])
            .ok()
            .out
    };
    for pair in recall {
        let told = pair["response"].as_str().unwrap();
        assert!(said(pair).trim().starts_with(told), "{pair}: {}", said(pair));
    }
    // Were the version said to be of the published weights, it would be put on those and score otherwise.
    lab.write("t.txt", "The third house by the water is the one with the boat.\n");
    let score = || lab.run(&["score", "a.dlm", "--text", "t.txt", "--json"]).ok().out;
    let on_four_bits = score();
    let facts = lab.store().join("adapter/versions/v0001/training_run.json");
    let text = std::fs::read_to_string(&facts).unwrap();
    std::fs::write(&facts, text.replace("\"use_qlora\": true", "\"use_qlora\": false")).unwrap();
    let damaged = lab.run(&["score", "a.dlm", "--text", "t.txt"]).exits(1).err;
    let digests: Vec<&str> = damaged
        .split(|c: char| !c.is_ascii_hexdigit())
        .filter(|word| word.len() == 64)
        .collect();
    let sums = facts.with_file_name("SHA256SUMS");
    let text = std::fs::read_to_string(&sums).unwrap();
    std::fs::write(&sums, text.replace(digests[1], digests[0])).unwrap();
    assert_ne!(on_four_bits, score());
}
