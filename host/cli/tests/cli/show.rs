//! `dlm show`: before and after a store, and with one that is damaged.

use crate::lab::{ID, Lab};

const KEYS: [&str; 17] = [
    "dlm_id",
    "path",
    "base_model",
    "base_model_revision",
    "adapter_version",
    "training_runs",
    "last_trained_at",
    "has_adapter_current",
    "replay_size_bytes",
    "total_size_bytes",
    "source_path",
    "orphaned",
    "exports",
    "content_hashes",
    "pinned_versions",
    "named_adapters",
    "training_cache_config",
];

/// A store as a run leaves it, as far as its records go.
fn trained(lab: &Lab) {
    lab.document();
    let known = lab.json(&["check", "a.dlm", "--json"])["sections"][0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let store = lab.store();
    std::fs::create_dir_all(store.join("adapter/versions/v0001")).unwrap();
    std::fs::create_dir_all(store.join("adapter/versions/v0002")).unwrap();
    std::fs::write(store.join("adapter/current.txt"), "adapter/versions/v0001\n").unwrap();
    let manifest = serde_json::json!({
        "adapter_version": 1,
        "base_model": "smollm2-135m",
        "base_model_revision": "12fd25f77366fa6b3b4b768ec3050bf629380bac",
        "content_hashes": {known: "prose", "0123456789abcdef": "prose"},
        "created_at": "2026-04-19T18:30:14",
        "dlm_id": ID,
        "exports": [{"exported_at": "2026-04-20T10:00:00", "quant": "Q4_K_M"}],
        "schema_version": 1,
        "source_path": lab.path("a.dlm"),
        "training_runs": [{
            "run_id": 1, "started_at": "2026-04-19T18:30:14", "ended_at": "2026-04-19T18:31:00",
            "adapter_version": 1, "seed": 42, "steps": 150, "final_train_loss": 0.25
        }],
        "updated_at": "2026-04-19T18:31:00",
    });
    std::fs::write(store.join("manifest.json"), manifest.to_string()).unwrap();
}

#[test]
fn a_document_without_a_store() {
    let lab = Lab::new();
    lab.document();
    let ran = lab.run(&["show", "a.dlm"]).ok();
    insta::assert_snapshot!(ran.out, @r#"
    a.dlm
      dlm_id         01HF7YAT0004106R0430MG2000
      base_model     smollm2-135m
      store          not yet initialized (run dlm train)
      sections       2 (2 new, 0 unchanged, 0 removed since the last run)
                     dd2f4e53501d4a34  prose, line 7, new
                     e2fec986a6b78873  instruction, line 9, new
    "#);
    let report = lab.json(&["show", "a.dlm", "--json"]);
    assert_eq!(report["store_initialized"], false);
    assert_eq!(report["source_path"], "[DIR]/a.dlm");
    assert_eq!(report["training_cache_config"]["prune_older_than_days"], 90);
    assert_eq!(report["base_security"]["trust_remote_code"], false);
    assert!(!lab.path("home").exists(), "reading makes nothing");
}

#[test]
fn a_trained_document_as_text() {
    let lab = Lab::new();
    trained(&lab);
    let ran = lab.run(&["show", "a.dlm"]).ok();
    let size = ran
        .out
        .lines()
        .find(|line| line.contains("  store "))
        .unwrap()
        .split('(')
        .next_back()
        .unwrap()
        .to_owned();
    insta::assert_snapshot!(ran.out.replace(&size, "SIZE)"), @r#"
    a.dlm
      dlm_id         01HF7YAT0004106R0430MG2000
      base_model     smollm2-135m (revision 12fd25f)
      store          [DIR]/home/store/01HF7YAT0004106R0430MG2000 (SIZE)
      adapter        v0001
                     adapter/versions/v0002 was left by a run that did not end
      training runs  1 — last 2026-04-19T18:31:00
                     run 1 completed, v0001, 150 steps, seed 42, loss 0.2500
      exports        1
                     2026-04-20T10:00:00  ollama Q4_K_M (base + adapter)
      dlm.lock       absent
      sections       2 (1 new, 1 unchanged, 1 removed since the last run)
                     dd2f4e53501d4a34  prose, line 7, unchanged
                     e2fec986a6b78873  instruction, line 9, new
                     0123456789abcdef  removed
    "#);
}

#[test]
fn a_trained_document_as_json() {
    let lab = Lab::new();
    trained(&lab);
    let before = lab.files("home");
    let report = lab.json(&["show", "a.dlm", "--json"]);
    for key in KEYS {
        assert!(report.get(key).is_some(), "{key} is missing in {report}");
    }
    assert_eq!(report["training_runs"], 1);
    assert_eq!(report["runs"][0]["steps"], 150);
    assert_eq!(report["last_trained_at"], "2026-04-19T18:31:00");
    assert_eq!(report["has_adapter_current"], true);
    assert_eq!(
        (&report["sections"][0]["status"], &report["sections"][1]["status"]),
        (&"unchanged".into(), &"new".into())
    );
    assert_eq!(report["removed_sections"], serde_json::json!(["0123456789abcdef"]));
    assert_eq!(report["orphan_versions"], serde_json::json!(["adapter/versions/v0002"]));
    assert_eq!(report["lock"]["status"], "absent");
    assert_eq!(report["orphaned"], false);
    assert_eq!(lab.files("home"), before, "show changes nothing");
}

#[test]
fn a_moved_document_leaves_an_orphan() {
    let lab = Lab::new();
    trained(&lab);
    std::fs::rename(lab.path("a.dlm"), lab.path("b.dlm")).unwrap();
    assert_eq!(lab.json(&["show", "b.dlm", "--json"])["orphaned"], true);
    assert!(
        lab.run(&["show", "b.dlm"])
            .ok()
            .out
            .contains("which is gone or another document")
    );
}

#[test]
fn a_corrupt_manifest_fails_under_show_with_its_path() {
    for text in ["{", "[]", "{\"schema_version\": 99}", "{\"dlm_id\": 3}"] {
        let lab = Lab::new();
        trained(&lab);
        std::fs::write(lab.store().join("manifest.json"), text).unwrap();
        let ran = lab
            .run(&["show", "a.dlm"])
            .exits(1)
            .says(&["manifest.json: manifest is corrupt"]);
        assert!(ran.err.starts_with("show: "), "{}", ran.err);
        assert_eq!(ran.out, "");
    }
}

#[test]
fn damage_beside_the_manifest_is_told_not_hidden() {
    let lab = Lab::new();
    trained(&lab);
    std::fs::write(lab.store().join("dlm.lock"), "{").unwrap();
    std::fs::write(lab.store().join("adapter/current.txt"), "../../outside\n").unwrap();
    let report = lab.json(&["show", "a.dlm", "--json"]);
    assert_eq!(report["lock"]["status"], "unreadable");
    assert_eq!(report["has_adapter_current"], false);
    assert!(
        report["problems"][0].as_str().unwrap().contains("../../outside"),
        "{report}"
    );
    assert!(lab.run(&["show", "a.dlm"]).ok().out.contains("../../outside"));
}

#[test]
fn a_document_that_does_not_parse_fails_under_show() {
    let lab = Lab::new();
    lab.write("a.dlm", "nothing");
    assert!(
        lab.run(&["show", "a.dlm"])
            .exits(1)
            .err
            .starts_with("show: a.dlm:1:1: ")
    );
    assert!(
        lab.run(&["show", "none.dlm"])
            .exits(1)
            .err
            .starts_with("show: none.dlm does not exist")
    );
}
