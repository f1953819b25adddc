//! Manifest, lock and summary files: exact bytes, and every way in which they can be wrong.

use std::fs;

use dlm_core::Hints;
use dlm_core::manifest::{ExportRecord, Manifest, RunStatus};
use dlm_store::manifest::{load_manifest, manifest_text};
use dlm_store::{DeterminismLockError, ManifestError};

use super::scenario::{self, Run, lock_record, stamp, train};
use super::{NOW_MS, lock, new_store};

/// A manifest as the reference implementation writes it, with every field set.
const REFERENCE: &str = r#"{
  "adapter_config_sha256": null,
  "adapter_sha256": null,
  "adapter_version": 2,
  "adapter_versions": {
    "style": 3
  },
  "base_model": "smollm2-135m",
  "base_model_revision": "12fd25f77366fa6b3b4b768ec3050bf629380bac",
  "base_model_sha256": null,
  "content_hashes": {
    "0123456789abcdef": "0123456789abcdef"
  },
  "created_at": "2026-04-19T18:30:14",
  "dlm_id": "01HZ4X7TGZM3J1A2B3C4D5E6F7",
  "exports": [
    {
      "adapter_gguf_sha256": null,
      "adapter_mix": [
        [
          "style",
          0.5
        ],
        [
          "tone",
          1.0
        ]
      ],
      "adapter_name": null,
      "base_gguf_sha256": "ab",
      "exported_at": "2026-04-20T08:00:00",
      "llama_cpp_tag": "b8816",
      "merged": false,
      "ollama_name": "café",
      "ollama_version": "0.5.0",
      "quant": "Q4_K_M",
      "smoke_output_first_line": "\"Hi\"",
      "target": "ollama"
    }
  ],
  "license_acceptance": {
    "accepted_at": "2026-04-19T18:30:14",
    "license_spdx": "LicenseRef-Gemma",
    "license_url": "https://example.org/license",
    "via": "cli_flag"
  },
  "pinned_versions": {
    "torch": "2.5.1"
  },
  "schema_version": 1,
  "source_path": "/home/x/doc.dlm",
  "training_runs": [
    {
      "adapter_name": null,
      "adapter_version": 2,
      "base_model_revision": null,
      "ended_at": "2026-04-19T18:40:14",
      "final_train_loss": 1e-05,
      "final_val_loss": 2.0,
      "pinned_versions": {},
      "run_id": 1,
      "seed": 42,
      "started_at": "2026-04-19T18:30:14",
      "status": "completed",
      "steps": 20,
      "summary_path": "logs/train-000001-20260419T183014.summary.json",
      "weight_distribution": {
        "lang": {
          "de": 3
        }
      }
    }
  ],
  "updated_at": "2026-04-19T18:40:14"
}
"#;

#[test]
fn a_loaded_and_saved_manifest_has_the_same_bytes() {
    let (_directory, store) = new_store();
    fs::write(store.paths().manifest(), REFERENCE).unwrap();
    let manifest = store.manifest().unwrap().unwrap();
    assert_eq!(manifest_text(&manifest), REFERENCE);
    let guard = lock(&store);
    guard.write_manifest(&manifest).unwrap();
    assert_eq!(fs::read_to_string(store.paths().manifest()).unwrap(), REFERENCE);
}

#[test]
fn a_new_manifest_has_every_key() {
    let manifest = Manifest::new(scenario::DLM_ID, "smollm2-135m", stamp(NOW_MS));
    let text = manifest_text(&manifest);
    let written: serde_json::Value = serde_json::from_str(&text).unwrap();
    let reference: serde_json::Value = serde_json::from_str(REFERENCE).unwrap();
    let keys = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&written), keys(&reference));
    assert!(text.contains("\"created_at\": \"2026-04-19T18:30:14\""), "{text}");
}

#[test]
fn every_manifest_that_cannot_be_used_says_why() {
    let (_directory, store) = new_store();
    let path = store.paths().manifest();
    let cases = [
        (
            "{",
            "manifest is corrupt: invalid JSON: EOF while parsing an object at line 1 column 1",
        ),
        ("[]", "manifest is corrupt: the top level is a list, expected an object"),
        (
            "{\"dlm_id\": \"x\"}",
            "manifest is corrupt: schema violation: missing field `created_at`",
        ),
        (&REFERENCE.replace("\"steps\"", "\"stepz\""), "unknown field `stepz`"),
        (
            &REFERENCE.replace("\"run_id\": 1", "\"run_id\": 0"),
            "`training_runs[0].run_id` is `0`, expected 1 or more",
        ),
        (
            &REFERENCE.replace("18:30:14\"", "18:30:14Z\""),
            "is not a UTC time like",
        ),
        (
            &REFERENCE.replace("\"completed\"", "\"done\""),
            "unknown variant `done`",
        ),
        (
            &REFERENCE.replace("https://example.org/license", ""),
            "`license_acceptance.license_url` is ``",
        ),
        (
            &REFERENCE.replace("\"schema_version\": 1", "\"schema_version\": 2"),
            "`schema_version` is 2, this program reads 1; it requires migration",
        ),
    ];
    for (text, expected) in cases {
        fs::write(&path, text).unwrap();
        let error = store.manifest().unwrap_err();
        let message = error.to_string();
        assert!(
            message.starts_with(&format!("{}: manifest is corrupt: ", path.display())),
            "{message}"
        );
        assert!(message.contains(expected), "{message}");
        assert_eq!(error.subject().as_str(), "store");
        assert!(!error.hints().is_empty());
        assert_eq!(
            matches!(error, ManifestError::Version { .. }),
            text.contains("\"schema_version\": 2")
        );
    }
    fs::write(&path, [0xff, 0xfe]).unwrap();
    assert!(store.manifest().unwrap_err().to_string().contains("invalid JSON"));
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(store.manifest().unwrap_err().to_string().contains("unreadable"));
}

#[test]
fn a_manifest_that_breaks_a_rule_is_not_written() {
    let (_directory, store) = new_store();
    let guard = lock(&store);
    let before = fs::read(store.paths().manifest()).unwrap();
    let mut run = scenario::run_record(1, 1, stamp(NOW_MS));
    run.final_train_loss = Some(f64::NAN);
    let error = guard.record_run(stamp(NOW_MS), run).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("`training_runs[0].final_train_loss` is `NaN`"),
        "{error}"
    );
    assert_eq!(fs::read(store.paths().manifest()).unwrap(), before);
}

#[test]
fn runs_and_exports_are_recorded() {
    let (_directory, store) = new_store();
    let guard = lock(&store);
    let (now, later) = (stamp(NOW_MS), stamp(NOW_MS + 5000));
    guard.record_run(now, scenario::run_record(1, 1, now)).unwrap();
    let manifest = guard.end_run(later, 1, RunStatus::Cancelled, 6).unwrap();
    assert_eq!(manifest.training_runs.len(), 1);
    assert_eq!(manifest.training_runs[0].status, RunStatus::Cancelled);
    assert_eq!(manifest.training_runs[0].steps, 6);
    assert_eq!(manifest.training_runs[0].ended_at, Some(later));
    assert_eq!(manifest.next_run_id(), 2);
    let export: ExportRecord =
        serde_json::from_str("{\"exported_at\": \"2026-04-20T08:00:00\", \"quant\": \"F16\"}").unwrap();
    let manifest = guard.record_export(later, export).unwrap();
    assert_eq!(
        (manifest.exports.len(), manifest.exports[0].target.as_str()),
        (1, "ollama")
    );
    assert_eq!(store.manifest().unwrap().unwrap(), manifest);
}

#[test]
fn the_lock_reads_back_and_refuses_what_it_does_not_know() {
    let (_directory, store) = new_store();
    let guard = lock(&store);
    assert_eq!(store.determinism_lock().unwrap(), None);
    let record = lock_record(1, stamp(NOW_MS));
    guard.write_determinism_lock(&record).unwrap();
    assert_eq!(store.determinism_lock().unwrap(), Some(record.clone()));
    let path = store.paths().determinism_lock();
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("{\n  \"base_model_revision\": \"rev\",\n"), "{text}");
    assert!(text.contains("\"created_at\": \"2026-04-19T18:30:14Z\""), "{text}");
    assert!(text.ends_with("}\n"), "{text}");

    for (from, to, expected) in [
        (
            "\"lock_version\": 1",
            "\"lock_version\": 2",
            "unsupported `lock_version` 2, this program reads 1",
        ),
        ("\"lock_version\": 1,", "", "unsupported `lock_version` null"),
        ("\"seed\"", "\"seeds\"", "unknown field `seeds`"),
        ("\"last_run_id\": 1", "\"last_run_id\": 0", "`last_run_id` is `0`"),
        ("14Z\"", "14\"", "a UTC time with zone"),
        ("\"cpu\"", "\"tpu\"", "unknown variant `tpu`"),
        (&"a".repeat(64), "abc", "64 lower-case hexadecimal digits"),
    ] {
        fs::write(&path, text.replace(from, to)).unwrap();
        let error = store.determinism_lock().unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert!(error.to_string().starts_with(&path.display().to_string()), "{error}");
        assert_eq!(error.subject().as_str(), "lock");
        assert!(error.hints()[0].contains("--update-lock"));
    }
    let mut wrong = record;
    wrong.world_size = 0;
    let error = guard.write_determinism_lock(&wrong).unwrap_err();
    assert!(matches!(error, DeterminismLockError::Refused { .. }), "{error}");
}

#[test]
fn a_run_leaves_log_and_summary() {
    let (_directory, store) = new_store();
    let run = Run {
        now_ms: NOW_MS,
        sections: &["one"],
        replay_budget_bytes: u64::MAX,
    };
    let report = train(&store, &run).unwrap();
    assert_eq!(report.summary_path, "logs/train-000001-20260419T183014.summary.json");
    let summary = store.summary(&report.summary_path).unwrap().unwrap();
    assert_eq!((summary.run_id, summary.adapter_version), (1, 1));
    assert_eq!(store.summary("logs/none.summary.json").unwrap(), None);
    assert!(store.summary("../manifest.json").is_err());

    let log = fs::read_to_string(store.paths().root().join("logs/train-000001-20260419T183014.jsonl")).unwrap();
    let lines: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let kinds: Vec<_> = lines.iter().map(|line| line["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["banner", "delta", "step", "run_complete"]);
    assert_eq!(lines[1]["new"][0], scenario::id("one").as_str());
    assert!(
        log.lines()
            .nth(2)
            .unwrap()
            .starts_with("{\"grad_norm\": 1.0, \"loss\": 0.25, \"lr\": 0.0001, "),
        "{log}"
    );

    let path = store.paths().root().join(&report.summary_path);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("\"seed\"", "\"seeds\"")).unwrap();
    let error = store.summary(&report.summary_path).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("run summary is corrupt: schema violation: unknown field `seeds`"),
        "{error}"
    );
}

#[test]
fn reading_creates_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("none");
    let store = dlm_store::Store::at(&root, dlm_store::Disk::new());
    assert_eq!(store.manifest().unwrap(), None);
    assert!(store.inspect().unwrap().is_none());
    assert!(store.metrics_reader().unwrap().is_none());
    assert!(store.replay().unwrap().entries().is_empty());
    assert!(store.determinism_lock().unwrap().is_none());
    assert!(!root.exists());
    assert_eq!(load_manifest(&root.join("manifest.json")).unwrap(), None);
}
