//! Runs on a tiny base, one after another on one store: what is rehearsed, what is measured, what is refused.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

#[path = "train/crash.rs"]
mod crash;
#[path = "train/phases.rs"]
mod phases;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use dlm_core::hardware::{Backend, Hardware, SimdLevel};
use dlm_core::ports::{BaseRequest, BaseSource, BaseSourceError, RemoteBase, Snapshot};
use dlm_core::training::PhaseSelection;
use dlm_core::{Cancel, Event, Progress, SectionId, SectionKind};
use dlm_flow::base::ExportProbes;
use dlm_flow::train::{Job, PreparedRun, TrainCommand, TrainReport, Turn, load, prepare, run};
use dlm_flow::{Clock, Failure, Surroundings};
use dlm_plan::lock::LockFlags;
use dlm_store::{Disk, Home, Store};

const ID: &str = "01HF7YAT0004106R0430MG2000";
const START_MS: u64 = 1_776_623_414_000;
const DAY_MS: u64 = 86_400_000;

struct Time(AtomicU64);

impl Time {
    fn pass(&self, ms: u64) {
        self.0.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Clock for Time {
    fn unix_ms(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    fn seconds(&self) -> f64 {
        0.0
    }
}

/// Keeps warnings.
#[derive(Default)]
struct Ear(Mutex<Vec<String>>);

impl Progress for Ear {
    fn event(&self, event: Event) {
        if let Event::Warning(text) = event {
            self.0.lock().unwrap().push(text);
        }
    }
}

struct NoHub;

impl BaseSource for NoHub {
    fn inspect(&self, request: &BaseRequest, _: &Cancel) -> Result<RemoteBase, BaseSourceError> {
        panic!("the hub is asked for {}", request.hf_id)
    }

    fn cached(&self, _: &BaseRequest) -> Result<Option<Snapshot>, BaseSourceError> {
        Ok(None)
    }

    fn fetch(&self, request: &BaseRequest, _: &dyn Progress, _: &Cancel) -> Result<Snapshot, BaseSourceError> {
        panic!("the hub is asked for {}", request.hf_id)
    }
}

/// A home with the tiny base, and a clock.
struct Lab {
    directory: tempfile::TempDir,
    time: Arc<Time>,
    ear: Arc<Ear>,
    disk: Mutex<Disk>,
}

impl Lab {
    fn new() -> Self {
        Self::with_base(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/arch/llama"))
    }

    fn with_base(model: &Path) -> Self {
        let lab = Self {
            directory: tempfile::tempdir().unwrap(),
            time: Arc::new(Time(AtomicU64::new(START_MS))),
            ear: Arc::default(),
            disk: Mutex::new(Disk::new()),
        };
        lab.within(|around| dlm_flow::base::add(around, "tiny", model)).unwrap();
        lab
    }

    fn home(&self) -> Home {
        Home::new(self.directory.path().join("home"))
    }

    fn store(&self) -> Store {
        Store::new(&self.home(), &ID.parse().unwrap())
    }

    fn within<T>(&self, act: impl FnOnce(&Surroundings) -> T) -> T {
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
        act(&Surroundings {
            home: self.home(),
            disk: self.disk.lock().unwrap().clone(),
            hardware,
            clock: self.time.clone(),
            random: Arc::new(|bytes| bytes.fill(7)),
            progress: self.ear.clone(),
            cancel: Cancel::new(),
            hub: Arc::new(NoHub),
            trial: Arc::new(dlm_core::ports::text_trial::NoTrial),
            hub_root: "https://hub.example".to_owned(),
            is_forced: false,
            has_terminal: false,
            version: "0",
        })
    }

    fn write(&self, body: &str) -> PathBuf {
        self.write_with("", body)
    }

    fn write_with(&self, settings: &str, body: &str) -> PathBuf {
        let path = self.directory.path().join("a.dlm");
        let text = format!("---\ndlm_id: {ID}\ndlm_version: 15\nbase_model: tiny\n{settings}---\n\n{body}");
        std::fs::write(&path, text).unwrap();
        path
    }

    fn command(&self) -> TrainCommand {
        TrainCommand {
            path: self.directory.path().join("a.dlm"),
            is_resume: false,
            seed: None,
            max_steps: Some(2),
            threads: Some(1),
            switches: Default::default(),
            phases: PhaseSelection::All,
            skips_mined: false,
            allows_slow: false,
            cache_off: None,
            lock: LockFlags::default(),
            is_strict_about_metrics: true,
            accepts_license: false,
            export_probes: ExportProbes::Run,
        }
    }

    /// Prepares the only adapter.
    fn prepare(&self, command: &TrainCommand) -> Result<PreparedRun, Failure> {
        let mut runs = self.within(|around| prepare(around, command))?;
        assert_eq!(runs.len(), 1);
        Ok(runs.remove(0))
    }

    /// From now on files are reached through this.
    fn dies(&self, disk: Disk) {
        *self.disk.lock().unwrap() = disk;
    }

    fn try_train(&self, command: &TrainCommand) -> Result<Vec<TrainReport>, Failure> {
        let mut reports = Vec::new();
        self.within(|around| {
            let prepared = prepare(around, command)?;
            run(around, command, &prepared, &mut |report| reports.push(report.clone()))
        })?;
        Ok(reports)
    }

    /// Trains and lets a day pass.
    fn train_as(&self, command: &TrainCommand) -> TrainReport {
        let report = self.try_train(command);
        self.time.pass(DAY_MS);
        match report.unwrap_or_else(|failure| panic!("{failure:?}")).as_slice() {
            [report] => report.clone(),
            reports => panic!("one phase was planned, {} were run", reports.len()),
        }
    }

    fn train(&self, body: &str) -> TrainReport {
        self.write(body);
        self.train_as(&self.command())
    }

    fn adapter_bytes(&self, report: &TrainReport) -> Vec<u8> {
        std::fs::read(report.adapter.join("adapter_model.safetensors")).unwrap()
    }

    fn details(&self, report: &TrainReport) -> serde_json::Value {
        let path = report.log.with_extension("details.json");
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }
}

fn pair(question: &str, answer: &str) -> String {
    format!("### Q\n{question}\n\n### A\n{answer}")
}

fn fenced(content: &str) -> String {
    format!("::instruction::\n{content}\n")
}

fn document(sections: &[&str]) -> String {
    sections.iter().map(|content| fenced(content)).collect()
}

fn id(content: &str) -> SectionId {
    SectionId::of_content(SectionKind::Instruction, content)
}

fn drawn(report: &TrainReport) -> Vec<&str> {
    report
        .replay
        .drawn
        .iter()
        .map(|section| section.row_id.as_str())
        .collect()
}

#[test]
fn a_deleted_section_is_rehearsed_and_an_edited_one_is_not() {
    let lab = Lab::new();
    let (ann, boat, sum) = (
        pair("Who is it?", "It is Ann."),
        pair("Where is the boat?", "At sea."),
        pair("What is the sum of 3 and 4?", "7"),
    );
    let first = lab.train(&document(&[&ann, &boat, &sum]));
    assert_eq!((drawn(&first), first.plan.rows.replay_rows), (vec![], 0));

    // The boat's section goes, Ann's answer changes.
    let bob = pair("Who is it?", "It is Bob.");
    let second = lab.train(&document(&[&bob, &sum]));
    let row = format!("replay:{}:2026-04-19T18:30:14", id(&boat));
    assert_eq!(drawn(&second), [row.as_str()]);
    assert_eq!(second.plan.rows.replay_rows, 1);
    let replaced = [(id(&ann).to_string(), id(&bob).to_string())];
    assert_eq!(second.replay.superseded, replaced.into());
    assert!(second.recall.iter().all(|pair| pair.question != "Where is the boat?"));
    // It is recorded: plan, log, details, and the mark in the corpus.
    let log = std::fs::read_to_string(&second.log).unwrap();
    let lines = log
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let line = lines.into_iter().find(|line| line["type"] == "replay").unwrap();
    assert_eq!(line["drawn"][0]["row_id"], row);
    assert_eq!(lab.details(&second)["replay"]["drawn"][0]["row_id"], row);
    let corpus = lab.store().replay().unwrap();
    assert_eq!(corpus.extra(&id(&ann)).superseded_by, Some(id(&bob)));
    assert_eq!(corpus.entries().len(), 4);

    // The mark holds when nothing is edited any more; a section that comes back is not drawn beside itself.
    let third = lab.train(&document(&[&bob, &sum, &boat]));
    assert_eq!(drawn(&third), Vec::<&str>::new());
    let corpus = lab.store().replay().unwrap();
    let entry = corpus.entries().iter().find(|e| e.section_id == id(&boat)).unwrap();
    assert_eq!(corpus.read(entry).unwrap().training_runs_seen, [1, 3]);
    let unchanged = corpus.entries().iter().find(|e| e.section_id == id(&sum)).unwrap();
    assert_eq!(corpus.read(unchanged).unwrap().training_runs_seen, [1]);
}

#[test]
fn the_loss_of_our_marks_brings_no_old_answer_back() {
    let lab = Lab::new();
    let (ann, bob) = (pair("Who is it?", "It is Ann."), pair("Who is it?", "It is Bob."));
    lab.train(&document(&[&ann]));
    lab.train(&document(&[&bob]));
    std::fs::remove_file(lab.store().paths().replay().join("extra.json")).unwrap();
    let third = lab.train(&document(&[&bob]));
    assert_eq!(drawn(&third), Vec::<&str>::new());
}

#[test]
fn the_same_corpus_and_seed_give_the_same_bytes() {
    let sections = [
        pair("Who is it?", &"It is Ann at sea. ".repeat(12)),
        pair("Where is the boat?", "At sea."),
        pair("What is the sum of 3 and 4?", "7"),
    ];
    let both = |days: u64| {
        let lab = Lab::new();
        lab.train(&document(&[&sections[0], &sections[1], &sections[2]]));
        lab.time.pass(days * DAY_MS);
        let second = lab.train(&document(&[&sections[0]]));
        assert_eq!(second.replay.drawn.len() + second.replay.retained.len(), 2);
        lab.adapter_bytes(&second)
    };
    let first = both(0);
    assert_eq!(first, both(50), "the clock changes nothing");

    // Without the corpus the same document gives another adapter: what was drawn was trained on.
    let lab = Lab::new();
    let alone = lab.train(&document(&[&sections[0]]));
    assert_ne!(first, lab.adapter_bytes(&alone));
}

#[test]
fn no_more_is_rehearsed_than_the_document_has() {
    let lab = Lab::new();
    let long: Vec<String> = (0..6)
        .map(|i| pair(&format!("Who is at place {i}?"), &"It is Ann at sea. ".repeat(4)))
        .collect();
    let sections: Vec<&str> = long.iter().map(String::as_str).collect();
    lab.train(&document(&sections));
    let kept = pair("What is it?", "A boat and the sea, and Ann at sea.");
    let second = lab.train(&document(&[&kept]));
    let rows = &second.plan.rows;
    let document_tokens = rows.instruction_tokens + rows.shared_prefix_tokens;
    let drawn: usize = second.replay.drawn.iter().map(|section| section.tokens).sum();
    assert!(drawn as u64 <= document_tokens, "{drawn} of {document_tokens}");
    // Three kept ones have room for some of the six.
    let more = [
        &kept,
        &pair("What was it?", &"A boat. ".repeat(20)),
        &pair("What is to be?", &"The sea. ".repeat(20)),
    ];
    let third = lab.train(&document(&more.map(String::as_str)));
    assert!(!third.replay.drawn.is_empty(), "{:?}", third.replay);
    let rows = &third.plan.rows;
    let document_tokens = rows.instruction_tokens + rows.shared_prefix_tokens * rows.instruction_rows;
    let drawn: usize = third.replay.drawn.iter().map(|section| section.tokens).sum();
    assert!(drawn as u64 <= document_tokens, "{drawn} of {document_tokens}");
}

#[test]
fn some_deleted_sections_are_only_measured() {
    let lab = Lab::new();
    let sections = [
        pair("Who is it?", &"It is Ann at sea. ".repeat(12)),
        pair("Where is the boat?", "At sea."),
        pair("What is the sum of 3 and 4?", "7"),
        pair("What color is the sea?", "Blue."),
    ];
    let first = lab.train(&document(&sections.each_ref().map(String::as_str)));
    assert_eq!(first.retention, None);
    let second = lab.train(&document(&[&sections[0]]));
    assert_eq!((second.replay.drawn.len(), second.replay.retained.len()), (2, 1));
    let kept = &second.replay.retained[0];
    assert!(
        drawn(&second).iter().all(|row| !row.contains(kept.as_str())),
        "{:?}",
        second.replay
    );
    let retention = second.retention.unwrap();
    assert!(retention.loss.is_finite() && retention.sft == Some(retention.loss) && retention.cpt.is_none());
    assert!(retention.delta.unwrap().abs() > 0.0, "the weights have changed");

    let manifest = lab.store().manifest().unwrap().unwrap();
    let path = manifest.training_runs[1].summary_path.clone().unwrap();
    let summary = lab.store().summary(&path).unwrap().unwrap();
    assert_eq!(
        (summary.retention_loss, summary.retention_loss_delta),
        (Some(retention.loss), retention.delta)
    );
    assert_eq!(evals(&lab), [(2, Some(retention.loss))]);
    // The same section stays aside as long as the set of candidates is the same.
    let third = lab.train(&document(&[&sections[0]]));
    assert_eq!(third.replay.retained, second.replay.retained);
    assert_eq!(drawn(&third).len(), 2);
}

/// Run and retention of every evaluation, through the store's own reader.
fn evals(lab: &Lab) -> Vec<(u64, Option<f64>)> {
    let reader = lab.store().metrics_reader().unwrap().unwrap();
    let mut found = Vec::new();
    for run in 1..=3 {
        for eval in reader.evals(run, None).unwrap() {
            found.push((run, eval.retention));
        }
    }
    found
}

#[test]
fn a_large_corpus_is_sampled_by_seed() {
    let lab = Lab::new();
    let sections: Vec<String> = (0..44).map(|i| pair(&format!("Where is {i}?"), "At sea.")).collect();
    let all: Vec<&str> = sections.iter().map(String::as_str).collect();
    lab.train_as(&TrainCommand {
        max_steps: Some(1),
        ..{
            lab.write(&document(&all));
            lab.command()
        }
    });
    let kept = [
        pair("Who is it?", &"It is Ann at sea. ".repeat(12)),
        pair("Who was it?", &"It was Ann. ".repeat(20)),
    ];
    lab.write(&document(&kept.each_ref().map(String::as_str)));
    let rows = |seed: Option<i64>| {
        let command = TrainCommand { seed, ..lab.command() };
        let prepared = lab.prepare(&command).unwrap();
        let replay = prepared.replay().clone();
        assert_eq!(replay.retained.len(), 3, "5 % of 44, rounded up");
        replay
    };
    let first = rows(None);
    assert!((8..=32).contains(&first.drawn.len()), "{}", first.drawn.len());
    assert_eq!(first, rows(None));
    assert_ne!(first.drawn, rows(Some(7)).drawn);
    lab.time.pass(100 * DAY_MS);
    assert_eq!(first, rows(None), "the clock changes nothing");
}

#[test]
fn a_damaged_corpus_is_set_aside_and_begun_anew() {
    let lab = Lab::new();
    let body = document(&[
        &pair("Who is it?", "It is Ann."),
        &pair("Where is the boat?", "At sea."),
    ]);
    lab.train(&body);
    let index = lab.store().paths().replay().join("index.json");
    std::fs::write(&index, "{").unwrap();
    lab.train(&body);
    let heard = lab.ear.0.lock().unwrap().join("\n");
    assert!(
        heard.contains("replay index is corrupt") && heard.contains("set aside"),
        "{heard}"
    );
    assert_eq!(lab.store().replay().unwrap().entries().len(), 2);

    // One damaged frame: its entry goes, the run goes on, and the section is taken up again from the document.
    lab.train(&document(&[&pair("Who is it?", "It is Ann.")]));
    let corpus = lab.store().paths().replay().join("corpus.zst");
    let mut bytes = std::fs::read(&corpus).unwrap();
    let gone = id(&pair("Where is the boat?", "At sea."));
    let entry = lab.store().replay().unwrap();
    let entry = entry.entries().iter().find(|e| e.section_id == gone).unwrap();
    bytes[entry.byte_offset as usize] ^= 0xff;
    std::fs::write(&corpus, bytes).unwrap();
    let report = lab.train(&document(&[&pair("Who is it?", "It is Ann.")]));
    assert_eq!(drawn(&report), Vec::<&str>::new());
    let heard = lab.ear.0.lock().unwrap().join("\n");
    assert!(
        heard.contains(gone.as_str()) && heard.contains("it is set aside"),
        "{heard}"
    );
}

#[test]
fn probes_are_asked_and_scored() {
    let lab = Lab::new();
    lab.write(
        "Some prose.\n\n::instruction::\n### Q\nWho is it?\n\n### A\nIt is Ann.\n\n### Q !probe\nWhere is the boat?\n\n\
         ### A\nAt sea.\n\n### Q\nWhat is the sum?\n\n### A\n7\n\n### Q\nWhat is red?\n\n### A\nIt.\n",
    );
    let report = lab.train_as(&TrainCommand {
        max_steps: Some(60),
        ..lab.command()
    });
    assert_eq!(report.probes.len(), 3);
    let marked: Vec<bool> = report.probes.iter().map(|probe| probe.is_explicit).collect();
    assert_eq!(marked, [true, false, false]);
    assert_eq!(report.probes[0].prompt, "Where is the boat?");
    for probe in &report.probes {
        assert!(probe.logprob > probe.logprob_base, "{probe:?}");
        assert_eq!(probe.exact, probe.f1 == 1.0, "{probe:?}");
        let asked = report.recall.iter().find(|pair| pair.question == probe.prompt).unwrap();
        assert_eq!(asked.response, probe.response);
    }
    let manifest = lab.store().manifest().unwrap().unwrap();
    let path = manifest.training_runs[0].summary_path.clone().unwrap();
    let summary = lab.store().summary(&path).unwrap().unwrap();
    assert_eq!(summary.probes.len(), 3);
    assert_eq!(summary.probes[0].reference.as_deref(), Some("At sea."));
    assert_eq!(lab.details(&report)["probes"][0]["logprob"], report.probes[0].logprob);
}

#[test]
fn a_pair_that_is_too_long_is_refused_before_anything_is_loaded() {
    let lab = Lab::new();
    let long = pair("Who is it?", &"It is Ann at sea. ".repeat(20));
    lab.write_with(
        "training:\n  sequence_len: 64\n",
        &document(&[&pair("What?", "That."), &long]),
    );
    let failure = lab.prepare(&lab.command()).err().unwrap();
    assert!(failure.message().contains(id(&long).as_str()), "{failure:?}");
    assert!(failure.hints[0].contains("training.sequence_len"), "{failure:?}");
}

#[test]
fn a_base_that_cannot_be_exported_is_trained_only_when_asked_for() {
    let model = tempfile::tempdir().unwrap();
    let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/arch/llama");
    for name in [
        "config.json",
        "model.safetensors",
        "tokenizer_config.json",
        "tokenizer.json",
    ] {
        std::fs::copy(tiny.join(name), model.path().join(name)).unwrap();
    }
    let path = model.path().join("tokenizer.json");
    let mut tokenizer: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    tokenizer["pre_tokenizer"] = serde_json::json!({"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": "[0-9]+|[^0-9]"}, "behavior": "Isolated", "invert": false},
        {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}
    ]});
    std::fs::write(&path, tokenizer.to_string()).unwrap();
    let lab = Lab::with_base(model.path());
    lab.write(&document(&[&pair("Who is it?", "It is Ann.")]));
    let failure = lab.prepare(&lab.command()).err().unwrap();
    assert!(failure.message().contains("pretokenizer_label"), "{failure:?}");
    assert!(failure.hints[0].contains("--skip-export-probes"), "{failure:?}");
    let skipping = TrainCommand {
        export_probes: ExportProbes::Skip,
        ..lab.command()
    };
    assert!(lab.prepare(&skipping).is_ok());
}

#[test]
fn one_loaded_base_trains_run_after_run() {
    let body = document(&[
        &pair("Who is it?", "It is Ann."),
        &pair("Where is the boat?", "At sea."),
    ]);
    let apart = Lab::new();
    apart.train(&body);
    let expected = apart.train(&body);

    let lab = Lab::new();
    lab.write(&body);
    let second = lab.within(|around| {
        let command = lab.command();
        let prepared = prepare(around, &command)?;
        let engine = load(around, &prepared)?;
        let train = |run: &PreparedRun| {
            let turn = Turn::first(&command, run);
            Job::begin(around, &command, run, run.plan.first(), turn)?.train(&*engine)
        };
        train(&prepared[0])?;
        train(&prepare(around, &command)?[0])
    });
    let second = second.unwrap_or_else(|failure| panic!("{failure:?}"));
    assert_eq!(second.version, 2);
    assert_eq!(lab.adapter_bytes(&second), apart.adapter_bytes(&expected));
}

#[test]
fn a_plan_that_another_run_overtook_is_refused() {
    let lab = Lab::new();
    lab.write(&document(&[&pair("Who is it?", "It is Ann.")]));
    let command = lab.command();
    let early = lab.prepare(&command).unwrap();
    lab.train_as(&command);
    let failure = lab
        .within(|around| run(around, &command, &[early], &mut |_| {}))
        .err()
        .unwrap();
    assert!(
        failure.message().contains("another run of this document"),
        "{failure:?}"
    );
}

#[test]
fn a_section_kept_aside_that_fits_no_more_does_not_fail_the_run() {
    let lab = Lab::new();
    let short = pair("Who is it?", "It is Ann.");
    let long = [
        pair("Where is the boat?", &"It is Ann at sea. ".repeat(20)),
        pair("What is the sum?", &"It is at sea. ".repeat(20)),
    ];
    lab.train(&document(&[&short, &long[0], &long[1]]));
    lab.write_with("training:\n  sequence_len: 64\n", &document(&[&short]));
    let report = lab.train_as(&lab.command());
    assert_eq!((report.replay.retained.len(), report.retention), (1, None));
    assert_eq!(drawn(&report), Vec::<&str>::new());
}
