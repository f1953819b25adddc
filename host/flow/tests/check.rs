//! `check` says of a document whatever `train` refuses about it, in the same words: every refusal of the plan, and those around it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dlm_core::hardware::{Backend, Hardware, SimdLevel};
use dlm_core::ports::{BaseRequest, BaseSource, BaseSourceError, RemoteBase, Snapshot};
use dlm_core::{Cancel, Progress, Quiet};
use dlm_flow::check::{TrainingVerdict, check};
use dlm_flow::train::{TrainCommand, prepare, rehearse, run};
use dlm_flow::{Clock, Failure, Surroundings};
use dlm_plan::PlanError;
use dlm_store::{Home, Store};

const ID: &str = "01HF7YAT0004106R0430MG2000";
const PAIR: &str = "::instruction::\n### Q\nWho is it?\n### A\nIt is Ann.\n";
const PLENTY: u64 = 12 << 30;

struct Still;

impl Clock for Still {
    fn unix_ms(&self) -> u64 {
        1_776_623_414_000
    }

    fn seconds(&self) -> f64 {
        0.0
    }
}

/// A hub that nobody may ask.
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

/// A home with the tiny base.
struct Lab {
    directory: tempfile::TempDir,
}

impl Lab {
    fn new() -> Self {
        let lab = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/arch/llama");
        dlm_flow::base::add(&lab.around(PLENTY), "tiny", &model).unwrap();
        lab
    }

    fn home(&self) -> Home {
        Home::new(self.directory.path().join("home"))
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("a.dlm")
    }

    fn around(&self, memory: u64) -> Surroundings {
        Surroundings {
            home: self.home(),
            disk: dlm_store::Disk::new(),
            hardware: Hardware {
                backend: Backend::Cpu,
                device_name: "test".into(),
                cpu_cores: 2,
                memory_total_bytes: memory,
                memory_available_bytes: memory,
                simd: SimdLevel::Avx2,
                cuda: Vec::new(),
                platform: "test".into(),
            },
            clock: Arc::new(Still),
            random: Arc::new(|bytes| bytes.fill(7)),
            progress: Arc::new(Quiet),
            cancel: Cancel::new(),
            hub: Arc::new(NoHub),
            trial: Arc::new(dlm_core::ports::text_trial::NoTrial),
            hub_root: "https://hub.example".to_owned(),
            is_forced: false,
            has_terminal: false,
            version: "0",
        }
    }

    fn write(&self, case: &Case) {
        let (base, settings, body) = (case.base, case.settings, case.body);
        let text = format!("---\ndlm_id: {ID}\ndlm_version: 15\nbase_model: {base}\n{settings}---\n\n{body}");
        std::fs::write(self.path(), text).unwrap();
    }

    fn command(&self) -> TrainCommand {
        TrainCommand {
            max_steps: Some(1),
            threads: Some(1),
            ..TrainCommand::plain(self.path())
        }
    }

    /// What `train` refuses before it loads a weight.
    fn refusal(&self, around: &Surroundings) -> Option<Failure> {
        let command = self.command();
        match prepare(around, &command) {
            Ok(prepared) => prepared.iter().find_map(|run| rehearse(around, &command, run).err()),
            Err(failure) => Some(failure),
        }
    }

    fn verdict(&self, around: &Surroundings) -> TrainingVerdict {
        let (check, failure) = check(Some((around, &self.command())), &self.path()).unwrap();
        assert!(failure.is_none(), "{failure:?}");
        check.training.unwrap()
    }
}

struct Case {
    base: &'static str,
    settings: &'static str,
    body: &'static str,
    memory: u64,
}

const FINE: Case = Case {
    base: "tiny",
    settings: "",
    body: PAIR,
    memory: PLENTY,
};

/// A document on the tiny base with these settings.
const fn asks(settings: &'static str) -> Case {
    Case { settings, ..FINE }
}

/// The name of a refusal of the plan: a new one does not compile without a name here and a case below.
fn name(error: &PlanError) -> &'static str {
    match error {
        PlanError::Memory { .. } => "memory",
        // The one update that is asked for here takes no half a day on any base.
        PlanError::TooSlow { .. } => "too slow",
        PlanError::PrecisionUnsupported { .. } => "precision",
        PlanError::Galore { .. } => "optimizer",
        PlanError::UnknownTarget { .. } => "unknown target",
        PlanError::NoTargets { .. } => "no targets",
        PlanError::DoraOfExperts { .. } => "dora of experts",
        PlanError::NoRows => "no rows",
        // Only `--phase preference` asks for them.
        PlanError::NoPreferences => "no preferences",
        PlanError::ModalityNotBuilt { .. } => "modality",
        PlanError::RemoteCode { .. } => "remote code",
        // A section of pictures is refused with its line before a plan is made.
        PlanError::MediaOnTextBase { .. } => "media",
        // The reader of the frontmatter refuses such a value with its line.
        PlanError::OutOfRange { .. } => "range",
        // A document cannot ask for several processes.
        PlanError::WorldSize { .. } => "world size",
    }
}

const PLANNED: [(&str, Case); 9] = [
    (
        "memory",
        Case {
            memory: 8 << 20,
            ..FINE
        },
    ),
    ("precision", asks("training: {precision: fp16}\n")),
    ("optimizer", asks("training: {optimizer: galore_adamw}\n")),
    ("unknown target", asks("training: {target_modules: [qq_proj]}\n")),
    ("no targets", asks("training: {target_modules: []}\n")),
    (
        "dora of experts",
        Case {
            base: "mixtral-8x7b-instruct",
            ..asks("training: {adapter: dora, target_modules: [q_proj, w1]}\n")
        },
    ),
    ("no rows", Case { body: "", ..FINE }),
    (
        "modality",
        Case {
            base: "qwen2-vl-2b-instruct",
            ..FINE
        },
    ),
    (
        "remote code",
        Case {
            base: "internvl2-2b",
            ..FINE
        },
    ),
];

#[test]
fn every_refusal_of_the_plan_is_told_by_check_word_for_word() {
    let mut met = BTreeSet::new();
    for (expected, case) in &PLANNED {
        let lab = Lab::new();
        lab.write(case);
        let around = lab.around(case.memory);
        let refusal = lab
            .refusal(&around)
            .unwrap_or_else(|| panic!("{expected}: `train` does not refuse it"));
        let planned = refusal.error.downcast_ref::<PlanError>();
        let planned = planned.unwrap_or_else(|| panic!("{expected}: {refusal}"));
        assert_eq!(name(planned), *expected, "{refusal}");
        let told = lab
            .verdict(&around)
            .refusal
            .unwrap_or_else(|| panic!("{expected}: `check` says nothing"));
        assert_eq!(told.to_string(), refusal.to_string(), "{expected}");
        assert_eq!((told.kind, &told.hints), (refusal.kind, &refusal.hints), "{expected}");
        met.insert(*expected);
    }
    assert_eq!(met.len(), PLANNED.len(), "each case has a refusal of its own");
}

#[test]
fn refusals_around_the_plan_are_told_too() {
    let long = format!("::instruction::\n### Q\nWhy?\n### A\n{}\n", "It is Ann. ".repeat(60));
    let long: &'static str = Box::leak(long.into_boxed_str());
    let cases = [
        ("sources", asks("training: {sources: [{path: x}]}\n")),
        ("embedding first", asks("training: {cpt: {embed_warmup_steps: 3}}\n")),
        (
            "a picture",
            Case {
                body: "::image path=\"a.png\"::\n",
                ..FINE
            },
        ),
        ("an unknown base", Case { base: "tyny", ..FINE }),
        (
            "a gated base",
            Case {
                base: "gemma-2-2b-it",
                ..FINE
            },
        ),
        (
            "a long pair",
            Case {
                settings: "training: {sequence_len: 64}\n",
                body: long,
                ..FINE
            },
        ),
    ];
    for (what, case) in &cases {
        let lab = Lab::new();
        lab.write(case);
        let around = lab.around(case.memory);
        let refusal = lab
            .refusal(&around)
            .unwrap_or_else(|| panic!("{what}: `train` does not refuse it"));
        let told = lab
            .verdict(&around)
            .refusal
            .unwrap_or_else(|| panic!("{what}: `check` says nothing"));
        assert_eq!(told.to_string(), refusal.to_string(), "{what}");
    }
}

#[test]
fn a_lock_that_forbids_the_run_and_files_that_are_gone_are_told() {
    let lab = Lab::new();
    lab.write(&FINE);
    let around = lab.around(PLENTY);
    let prepared = prepare(&around, &lab.command()).unwrap();
    run(&around, &lab.command(), &prepared, &mut |_| {}).unwrap();
    assert!(lab.verdict(&around).refusal.is_none());

    let store = Store::new(&lab.home(), &ID.parse().unwrap());
    let lock = store.paths().determinism_lock();
    let kept = std::fs::read(&lock).unwrap();
    std::fs::write(&lock, "{").unwrap();
    let told = lab.verdict(&around).refusal.unwrap();
    assert_eq!(told.to_string(), lab.refusal(&around).unwrap().to_string());
    std::fs::write(&lock, kept).unwrap();

    std::fs::remove_file(lab.directory.path().join("home/bases/tiny/config.json")).unwrap();
    let told = lab.verdict(&around).refusal.unwrap();
    assert_eq!(told.to_string(), lab.refusal(&around).unwrap().to_string());
}

#[test]
fn a_base_that_is_elsewhere_is_said_to_be_and_the_hub_is_not_asked() {
    let lab = Lab::new();
    for base in ["smollm2-135m", "hf:org/name"] {
        lab.write(&Case { base, ..FINE });
        let verdict = lab.verdict(&lab.around(PLENTY));
        assert!(
            verdict.is_base_elsewhere && verdict.refusal.is_none(),
            "{base}: {verdict:?}"
        );
    }
    // What its files are not needed for is judged all the same.
    lab.write(&Case {
        base: "smollm2-135m",
        ..asks("training: {precision: fp16}\n")
    });
    let refusal = lab.verdict(&lab.around(PLENTY)).refusal.unwrap();
    assert!(
        matches!(
            refusal.error.downcast_ref(),
            Some(PlanError::PrecisionUnsupported { .. })
        ),
        "{refusal}"
    );
}
