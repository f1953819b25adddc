//! `init` with a person at the terminal and with a base that only a hub knows; the command line tests the rest.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dlm_core::base::AcceptedVia;
use dlm_core::hardware::{Backend, Hardware, SimdLevel};
use dlm_core::ports::{BaseRequest, BaseSource, BaseSourceError, RemoteBase, Snapshot};
use dlm_core::{Cancel, Progress, Quiet, Subject};
use dlm_flow::base::ExportProbes;
use dlm_flow::init::{InitOptions, InitReport, init, skips_export_probes};
use dlm_flow::{Clock, Failure, Surroundings};
use dlm_store::{Home, Store};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

struct Still;

impl Clock for Still {
    fn unix_ms(&self) -> u64 {
        1_776_623_414_000
    }

    fn seconds(&self) -> f64 {
        0.0
    }
}

/// A hub with one repository, whose files lie in a directory.
struct OneModel(PathBuf);

impl BaseSource for OneModel {
    fn inspect(&self, request: &BaseRequest, _: &Cancel) -> Result<RemoteBase, BaseSourceError> {
        assert_eq!(request.hf_id, "org/name");
        Ok(RemoteBase {
            commit: COMMIT.to_owned(),
            files: vec![("model.safetensors".to_owned(), 1000)],
            config_json: std::fs::read_to_string(self.0.join("config.json")).unwrap(),
        })
    }

    fn cached(&self, _request: &BaseRequest) -> Result<Option<Snapshot>, BaseSourceError> {
        Ok(None)
    }

    fn fetch(&self, request: &BaseRequest, _: &dyn Progress, _: &Cancel) -> Result<Snapshot, BaseSourceError> {
        assert_eq!(
            request.revision.as_deref(),
            Some(COMMIT),
            "the probed commit is the pinned one"
        );
        Ok(Snapshot {
            dir: self.0.clone(),
            commit: COMMIT.to_owned(),
            files: Vec::new(),
            bytes_fetched: 0,
        })
    }
}

fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/arch/llama")
}

/// Runs `init` in `directory` for `base`, with `answer` to every question, which are collected.
fn run(
    directory: &Path,
    hub: Arc<dyn BaseSource + Send + Sync>,
    options: InitOptions,
    answer: bool,
) -> (Result<InitReport, Failure>, Vec<String>) {
    let hardware = Hardware {
        backend: Backend::Cpu,
        device_name: "test".into(),
        cpu_cores: 2,
        memory_total_bytes: 16 << 30,
        memory_available_bytes: 12 << 30,
        simd: SimdLevel::Avx2,
        cuda: Vec::new(),
        platform: "test".into(),
    };
    let around = Surroundings {
        home: Home::new(directory.join("home")),
        disk: dlm_store::Disk::new(),
        hardware,
        clock: Arc::new(Still),
        random: Arc::new(|bytes| bytes.fill(7)),
        progress: Arc::new(Quiet),
        cancel: Cancel::new(),
        hub,
        trial: Arc::new(dlm_core::ports::text_trial::NoTrial),
        hub_root: "https://hub.example".to_owned(),
        is_forced: false,
        has_terminal: true,
        version: "0",
    };
    let asked = RefCell::new(Vec::new());
    let ask = |question: &str| {
        asked.borrow_mut().push(question.to_owned());
        Ok(answer)
    };
    (init(&around, &options, None, &ask), asked.into_inner())
}

fn options(directory: &Path, base: &str) -> InitOptions {
    InitOptions {
        path: directory.join("a.dlm"),
        base: Some(base.to_owned()),
        export_probes: ExportProbes::Run,
        accepts_license: false,
        overwrites: false,
    }
}

#[test]
fn a_person_accepts_a_license_and_it_is_recorded() {
    let directory = tempfile::tempdir().unwrap();
    let hub = Arc::new(OneModel(tiny()));
    let (report, asked) = run(
        directory.path(),
        hub.clone(),
        options(directory.path(), "gemma-2-2b-it"),
        true,
    );
    let report = report.unwrap();
    assert!(
        asked.len() == 1 && asked[0].contains("https://ai.google.dev/gemma/terms"),
        "{asked:?}"
    );
    let home = Home::new(directory.path().join("home"));
    let manifest = Store::new(&home, &report.dlm_id).manifest().unwrap().unwrap();
    let accepted = manifest.license_acceptance.unwrap();
    assert_eq!(
        (accepted.via, accepted.accepted_at.as_str()),
        (AcceptedVia::Interactive, "2026-04-19T18:30:14")
    );
    assert!(
        // What it says of the base depends on the machine: that it takes long, or too long.
        report.warnings[0].contains("`gemma-2-2b-it`") && report.warnings[0].contains("this machine"),
        "{:?}",
        report.warnings
    );
}

#[test]
fn a_person_declines_and_nothing_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let hub = Arc::new(OneModel(tiny()));
    let (report, asked) = run(
        directory.path(),
        hub.clone(),
        options(directory.path(), "gemma-2-2b-it"),
        false,
    );
    let failure = report.unwrap_err();
    assert_eq!(
        (failure.subject.as_str(), failure.kind.exit_code(), asked.len()),
        ("license", 1, 1)
    );
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn a_hub_base_is_probed_and_pinned_to_its_commit() {
    let directory = tempfile::tempdir().unwrap();
    let hub = Arc::new(OneModel(tiny()));
    let (report, _) = run(
        directory.path(),
        hub.clone(),
        options(directory.path(), "hf:org/name"),
        false,
    );
    let report = report.unwrap();
    assert_eq!(report.base_revision, COMMIT);
    let store = Store::new(&Home::new(directory.path().join("home")), &report.dlm_id);
    assert_eq!(
        store.manifest().unwrap().unwrap().base_model_revision.as_deref(),
        Some(COMMIT)
    );
    assert!(!skips_export_probes(&store).unwrap());
}

#[test]
fn a_hub_base_without_a_known_tokenizer_is_only_taken_without_export() {
    let model = tempfile::tempdir().unwrap();
    for name in [
        "config.json",
        "model.safetensors",
        "tokenizer_config.json",
        "tokenizer.json",
    ] {
        let bytes = std::fs::read(tiny().join(name)).unwrap();
        std::fs::write(model.path().join(name), bytes).unwrap();
    }
    let path = model.path().join("tokenizer.json");
    let mut tokenizer: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    tokenizer["pre_tokenizer"] = serde_json::json!({"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": "[0-9]+|[^0-9]"}, "behavior": "Isolated", "invert": false},
        {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}
    ]});
    std::fs::write(&path, tokenizer.to_string()).unwrap();
    let hub = Arc::new(OneModel(model.path().to_path_buf()));

    let directory = tempfile::tempdir().unwrap();
    let (report, _) = run(
        directory.path(),
        hub.clone(),
        options(directory.path(), "hf:org/name"),
        false,
    );
    let failure = report.unwrap_err();
    assert!(
        failure.message().contains("pretokenizer_label") && failure.subject == Subject::Init,
        "{failure:?}"
    );
    assert!(failure.hints[0].contains("--skip-export-probes"), "{:?}", failure.hints);
    assert!(!directory.path().join("a.dlm").exists());

    let skipping = InitOptions {
        export_probes: ExportProbes::Skip,
        ..options(directory.path(), "hf:org/name")
    };
    let report = run(directory.path(), hub.clone(), skipping, false).0.unwrap();
    let store = Store::new(&Home::new(directory.path().join("home")), &report.dlm_id);
    assert!(skips_export_probes(&store).unwrap());
}

#[test]
fn a_failed_write_of_the_document_leaves_no_store() {
    let directory = tempfile::tempdir().unwrap();
    let hub = Arc::new(OneModel(tiny()));
    // A name that is too long for the file system passes every check that comes before writing.
    let long = InitOptions {
        path: directory.path().join(format!("{}.dlm", "a".repeat(300))),
        ..options(directory.path(), "smollm2-135m")
    };
    let failure = run(directory.path(), hub.clone(), long, false).0.unwrap_err();
    assert_eq!(failure.subject, Subject::Init);
    let stores = std::fs::read_dir(directory.path().join("home/store")).unwrap();
    assert_eq!(stores.count(), 0);
}
