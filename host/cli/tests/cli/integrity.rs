//! Files that are not what was written: told wherever they would be used, with what is whole.

use std::path::{Path, PathBuf};

use crate::lab::{Lab, Ran, tiny_base};

fn train(lab: &Lab, more: &[&str]) -> Ran {
    lab.run(&[&["train", "a.dlm", "--max-steps", "2", "--threads", "1"], more].concat())
}

/// Turns one bit of a file around.
fn flip(path: &Path, from_end: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    let at = bytes.len() - from_end;
    bytes[at] ^= 0x10;
    std::fs::write(path, bytes).unwrap();
}

fn version(lab: &Lab, name: &str) -> PathBuf {
    lab.store().join("adapter/versions").join(name)
}

/// Every command that answers from the document's model.
const USES: [&[&str]; 3] = [
    &["prompt", "a.dlm", "What?", "--max-tokens", "2"],
    &["export", "a.dlm", "--target", "llama-server", "--quant", "F16"],
    &["train", "a.dlm", "--resume", "--max-steps", "2"],
];

#[test]
fn a_flipped_bit_of_an_adapter_is_told_with_the_version_that_is_whole() {
    let lab = Lab::new();
    lab.trainable();
    train(&lab, &[]).ok();
    train(&lab, &[]).ok();
    let whole = lab.run(&["show", "a.dlm", "--verify"]).ok().out;
    assert!(whole.contains("verified") && !whole.contains("damaged"), "{whole}");
    let sums = lab.read(&format!(
        "home/store/{}/adapter/versions/v0002/SHA256SUMS",
        crate::lab::ID
    ));
    assert!(
        sums.contains("  adapter_model.safetensors\n") && sums.contains("  training_state.pt\n"),
        "{sums}"
    );

    let weights = version(&lab, "v0002").join("adapter_model.safetensors");
    flip(&weights, 3);
    for line in USES {
        lab.run(line).exits(1).says(&[
            "v0002/adapter_model.safetensors` is damaged: its SHA-256 is ",
            "adapter/versions/v0001 is whole",
            "dlm train a.dlm --fresh",
        ]);
    }
    let shown = lab.run(&["show", "a.dlm"]).ok().out;
    assert!(
        shown.contains("is damaged") && shown.contains("v0001 is whole"),
        "{shown}"
    );
    lab.run(&["show", "a.dlm", "--verify"]).exits(1);
    let report = lab.run(&["show", "a.dlm", "--verify", "--json"]).exits(1);
    let report: serde_json::Value = serde_json::from_str(&report.out).unwrap();
    assert_eq!(report["damage"].as_array().unwrap().len(), 1, "{report}");
    // A new run needs nothing of it, but has nothing to compare with.
    // The hint, typed.
    std::fs::write(lab.store().join("adapter/current.txt"), "adapter/versions/v0001\n").unwrap();
    lab.run(USES[0]).ok();
    assert_eq!(lab.json(&["show", "a.dlm", "--json"])["adapter_version"], 1);
    train(&lab, &[]).ok();
    assert_eq!(lab.json(&["show", "a.dlm", "--json"])["adapter_version"], 3);
}

#[test]
fn every_file_of_a_version_counts() {
    let lab = Lab::new();
    lab.trainable();
    train(&lab, &[]).ok();
    for name in ["adapter_config.json", "tokenizer.json"] {
        let path = version(&lab, "v0001").join(name);
        let good = std::fs::read(&path).unwrap();
        flip(&path, 2);
        lab.run(USES[0]).exits(1).says(&[name, "is damaged"]);
        std::fs::write(&path, good).unwrap();
        lab.run(USES[0]).ok();
    }
    std::fs::remove_file(version(&lab, "v0001").join("tokenizer.json")).unwrap();
    lab.run(USES[0]).exits(1).says(&["tokenizer.json` is missing"]);
}

/// Versions of before had no file of digests; the manifest has those of the last one.
#[test]
fn a_version_of_an_earlier_dlm_is_held_against_the_manifest() {
    let lab = Lab::new();
    lab.trainable();
    train(&lab, &[]).ok();
    std::fs::remove_file(version(&lab, "v0001").join("SHA256SUMS")).unwrap();
    lab.run(USES[0]).ok();
    flip(&version(&lab, "v0001").join("adapter_model.safetensors"), 3);
    lab.run(USES[0]).exits(1).says(&["is damaged"]);
    lab.run(&["show", "a.dlm", "--verify"]).exits(1);
}

#[test]
fn a_flipped_bit_of_a_base_is_told_with_how_to_get_it_anew() {
    let lab = Lab::new();
    lab.trainable();
    train(&lab, &[]).ok();
    let weights = lab.path("home/bases/tiny/model.safetensors");
    flip(&weights, 3);
    for line in [USES[0], USES[1], &["train", "a.dlm", "--max-steps", "2"]] {
        let ran = lab.run(line).exits(1);
        let ran = ran.says(&[
            "model.safetensors` of the base `tiny` is damaged",
            "dlm base remove tiny",
        ]);
        assert!(!ran.err.contains("loading"), "{}", ran.err);
    }
    let shown = lab.run(&["show", "a.dlm", "--verify"]).exits(1).out;
    assert!(shown.contains("of the base `tiny` is damaged"), "{shown}");
    lab.run(&["base", "remove", "tiny"]).ok();
    lab.run(&["base", "add", "tiny", "--from", "model"]).ok();
    lab.run(USES[0]).ok();
    lab.run(&["show", "a.dlm", "--verify"]).ok();
}

#[test]
fn a_flipped_bit_in_what_is_rehearsed_is_found_and_set_aside() {
    let lab = Lab::new();
    lab.trainable();
    train(&lab, &[]).ok();
    flip(&lab.store().join("replay/corpus.zst"), 4);
    lab.run(&["show", "a.dlm", "--verify"]).exits(1);
    let text = lab
        .read("a.dlm")
        .replace("What?", "Where?")
        .replace("Some prose.", "Other prose.");
    lab.write("a.dlm", text);
    train(&lab, &[]).ok().says(&["replay: ", "it is set aside"]);
    lab.run(&["show", "a.dlm", "--verify"]).ok();
}

#[test]
fn a_damaged_metrics_database_stops_nothing() {
    let lab = Lab::new();
    lab.trainable();
    train(&lab, &[]).ok();
    let path = lab.store().join("metrics.sqlite");
    let good = std::fs::read(&path).unwrap();
    let mut torn = good.clone();
    torn.truncate(good.len() / 2);
    let damages: [(&str, Vec<u8>); 3] = [
        (
            "noise",
            (0..4096u32)
                .map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8)
                .collect(),
        ),
        ("torn", torn),
        ("a header and noise", [&good[..100], &[0xa5; 9000]].concat()),
    ];
    for (what, bytes) in damages {
        for companion in ["metrics.sqlite-wal", "metrics.sqlite-shm"] {
            let _ = std::fs::remove_file(lab.store().join(companion));
        }
        std::fs::write(&path, bytes).unwrap();
        lab.run(&["show", "a.dlm"]).ok();
        lab.run(&["prompt", "a.dlm", "What?", "--max-tokens", "2"]).ok();
        train(&lab, &[])
            .ok()
            .says(&["metrics database was damaged", "metrics.sqlite.damaged-"]);
        let runs = lab.json(&["metrics", "show", "a.dlm", "--json"]);
        assert_eq!(runs["runs"].as_array().unwrap().len(), 1, "{what}: {runs}");
    }
    // What is no file can be no database.
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    train(&lab, &[]).ok();
    assert!(path.is_file());
}

#[test]
fn an_adapter_of_another_base_is_told_and_trained_again() {
    let lab = Lab::new();
    lab.trainable();
    train(&lab, &[]).ok();
    let other = tiny_base().with_file_name("qwen2");
    lab.run(&["base", "add", "other", "--from", other.to_str().unwrap()])
        .ok();
    lab.run(&["base", "add", "twin", "--from", "model"]).ok();
    let named = |name: &str| {
        let text = lab.read("a.dlm");
        let line = text
            .lines()
            .find(|line| line.starts_with("base_model:"))
            .unwrap()
            .to_owned();
        lab.write("a.dlm", text.replace(&line, &format!("base_model: {name}")));
    };
    // The same files under another name are the same base.
    named("twin");
    lab.run(USES[0]).ok();
    named("other");
    let told = [
        "v0001 was trained on `tiny` (revision ",
        "the document names `other` (revision ",
    ];
    for line in &USES[..2] {
        let ran = lab.run(line).exits(1).says(&told);
        ran.says(&["dlm train a.dlm --update-lock", "base_model: tiny"]);
    }
    let shown = lab.run(&["show", "a.dlm"]).ok().out;
    assert!(told.iter().all(|part| shown.contains(part)), "{shown}");
    lab.run(&["prompt", "a.dlm", "What?", "--base-only", "--max-tokens", "2"])
        .ok();
    train(&lab, &[]).exits(1).says(&["--update-lock"]);
    train(&lab, &["--update-lock"]).ok();
    lab.run(USES[0]).ok();
    let state = lab.json(&["show", "a.dlm", "--json"]);
    assert_eq!(
        (&state["base_model"], &state["adapter_version"]),
        (&"other".into(), &2.into())
    );
    let manifest: serde_json::Value =
        serde_json::from_slice(&std::fs::read(lab.store().join("manifest.json")).unwrap()).unwrap();
    assert_eq!(manifest["base_model"], "other");
    assert_eq!(
        manifest["base_model_revision"],
        manifest["training_runs"][1]["base_model_revision"]
    );
    assert_eq!(
        manifest["base_model_revision"],
        state["lock"]["content"]["base_model_revision"]
    );

    // Other files under the old name are another base, too.
    named("tiny");
    lab.run(&["base", "remove", "tiny"]).ok();
    lab.run(&["base", "add", "tiny", "--from", other.to_str().unwrap()])
        .ok();
    lab.run(USES[0]).ok();
}

#[cfg(unix)]
#[test]
fn nobody_else_reads_a_store_and_a_document_keeps_its_readers() {
    use std::os::unix::fs::PermissionsExt;
    let lab = Lab::new();
    lab.trainable();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    train(&lab, &[]).ok();
    // As earlier versions left it.
    std::fs::set_permissions(lab.store(), std::fs::Permissions::from_mode(0o755)).unwrap();
    train(&lab, &[]).ok();
    lab.run(USES[1]).ok();
    assert_eq!(mode(&lab.store()), 0o700);
    let mut open = vec![lab.store()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            // What a target or the model's writer makes lies below a directory that is closed.
            if path.ends_with("exports") {
                assert_eq!(mode(&path) & 0o077, 0, "{}", path.display());
                continue;
            }
            assert_eq!(mode(&path) & 0o077, 0, "{}", path.display());
            if path.is_dir() {
                open.push(path);
            }
        }
    }
}
