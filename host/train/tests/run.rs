//! The training loop on a tiny model: equalities that must hold bit for bit, and refusals.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::cell::RefCell;
use std::path::Path;

use dlm_core::hardware::SimdLevel;
use dlm_core::training::{Checkpointing, Ending, MomentType, TrainPhase};
use dlm_core::{Cancel, Event, Hints, Progress, Quiet};
use dlm_model::base::{OpenedBase, open_base};
use dlm_model::engine::{AdamWOptions, TrainerOptions};
use dlm_model::{AdapterKind, AdapterSpec, Cpu, CpuEngine, CpuOptions, Engine, Reader, ReaderOptions};
use dlm_train::augment::Augment;
use dlm_train::schedule::ScheduleKind;
use dlm_train::{
    AnchorOptions, AnchorSet, Dataset, DatasetOptions, Origin, Outcome, Recipe, Row, RunError, Schedule, Source,
    SourceContent, Split, SplitRule, Supervised, TrainInput, TrainState, WarmupStart, recall_pairs, run_digest, train,
};

#[path = "run/counts.rs"]
mod counts;

const STEPS: u64 = 12;
/// A seed under which the third pair of [`sources`], were it synthesized, is on the validation side.
const VALIDATION_SEED: i64 = 6;

fn base() -> OpenedBase {
    open_base(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/arch/llama")).unwrap()
}

fn load(base: &OpenedBase, threads: usize) -> CpuEngine {
    CpuEngine::load(&Cpu::new(threads, SimdLevel::Amx), base, &CpuOptions::EXACT).unwrap()
}

fn base_reader(engine: &CpuEngine) -> Box<dyn Reader + '_> {
    engine.reader(None, ReaderOptions::default()).unwrap()
}

fn source(number: u64, content: SourceContent) -> Source {
    Source {
        origin: Origin::Section {
            id: format!("{number:016}").parse().unwrap(),
            line: 1,
        },
        content,
        is_synthesized: false,
    }
}

fn pair(number: u64, question: &str, answer: &str) -> Source {
    source(number, SourceContent::Pairs(vec![(question.into(), answer.into())]))
}

fn prose(number: u64, text: &str) -> Source {
    source(number, SourceContent::Prose(text.into()))
}

fn sources() -> Vec<Source> {
    vec![
        pair(0, "Who is it?", "It is Ann."),
        pair(1, "What is the sum of 3 and 4?", "7"),
        pair(2, "Where is the boat?", "At sea."),
        prose(3, "The boat is at sea."),
    ]
}

/// A seed under which the prose of [`sources`] is trained on.
const SPLIT_SEED: i64 = 1;

fn options() -> DatasetOptions {
    DatasetOptions {
        system_prompt: None,
        window: 512,
        split: SplitRule::new(SPLIT_SEED, false, &[]),
    }
}

fn dataset_of(base: &OpenedBase, sources: Vec<Source>) -> Dataset {
    Dataset::new(sources, options(), base.text()).unwrap()
}

fn dataset(base: &OpenedBase) -> Dataset {
    let dataset = dataset_of(base, sources());
    assert_eq!(dataset.indices(Split::Train).len(), 4, "another seed is needed");
    dataset
}

fn recipe(steps: u64) -> Recipe {
    Recipe {
        seed: 5,
        lr: 5e-3,
        schedule: Schedule::new(ScheduleKind::Cosine, steps, 0.1, WarmupStart::First),
        rows_per_step: 3,
        batch_tokens_max: 4096,
        clip: Some(1.0),
        weight_decay: 0.0,
        moments: MomentType::F32,
        augment: Some(Augment {
            share: 0.7,
            drop_function: 0.3,
            drop_content: 0.1,
        }),
        noise_share: 0.2,
        clean_share: 0.2,
        anchors_per_step: 0,
        anchor_weight: 1.0,
        loss_stop: None,
        steps_min: 0,
        eval_every: 4,
        eval_patience: 3,
        obeys_eval: false,
        checkpointing: Checkpointing::default(),
        system_prompt: None,
        sequence_len_max: 512,
        prose_weight: 0.5,
        preference: None,
    }
}

fn spec() -> AdapterSpec {
    AdapterSpec {
        kind: AdapterKind::Lora,
        r: 4,
        alpha: 8.0,
        dropout: 0.1,
        targets: vec!["all-linear".into()],
    }
}

/// Everything of a run that a test may change.
struct Setup<'a> {
    dataset: &'a Dataset,
    recipe: &'a Recipe,
    anchors: Option<&'a AnchorSet>,
    resume: Option<TrainState>,
    progress: &'a dyn Progress,
    cancel: Cancel,
    clock: &'a dyn Fn() -> f64,
    snapshot_seconds: f64,
    /// Receives every snapshot.
    kept: RefCell<Vec<TrainState>>,
}

impl<'a> Setup<'a> {
    /// A quiet run from the start, without anchors.
    fn new(dataset: &'a Dataset, recipe: &'a Recipe) -> Self {
        Self {
            dataset,
            recipe,
            anchors: None,
            resume: None,
            progress: &Quiet,
            cancel: Cancel::new(),
            clock: &|| 0.0,
            snapshot_seconds: 0.0,
            kept: RefCell::new(Vec::new()),
        }
    }
}

fn run_with(engine: &CpuEngine, base: &OpenedBase, setup: &Setup<'_>) -> Result<Outcome, RunError> {
    run_adapter(engine, base, setup, &spec())
}

fn run_adapter(
    engine: &CpuEngine,
    base: &OpenedBase,
    setup: &Setup<'_>,
    spec: &AdapterSpec,
) -> Result<Outcome, RunError> {
    let adapter = engine.fresh_adapter(spec, setup.recipe.seed).unwrap();
    let digest = run_digest(setup.recipe, setup.dataset, spec, "base");
    let keep = |state: TrainState| {
        setup.kept.borrow_mut().push(state);
        Ok(())
    };
    let objective = Supervised::new(setup.dataset, base.text(), setup.anchors, setup.recipe);
    let input = TrainInput {
        engine,
        objective: &objective,
        phase: TrainPhase::Sft,
        recipe: setup.recipe,
        progress: setup.progress,
        cancel: &setup.cancel,
        base: "base",
        clock: setup.clock,
        snapshot_seconds: setup.snapshot_seconds,
        snapshot: &keep,
    };
    train(&input, adapter, &digest, setup.resume.clone())
}

fn run(
    engine: &CpuEngine,
    base: &OpenedBase,
    recipe: &Recipe,
    resume: Option<TrainState>,
) -> (Outcome, Vec<TrainState>) {
    let dataset = dataset(base);
    let setup = Setup {
        resume,
        ..Setup::new(&dataset, recipe)
    };
    let outcome = run_with(engine, base, &setup).unwrap();
    (outcome, setup.kept.into_inner())
}

#[test]
fn a_run_lowers_the_loss_and_repeats_itself() {
    let base = base();
    let engine = load(&base, 1);
    let (first, states) = run(&engine, &base, &recipe(60), None);
    let (second, _) = run(&engine, &base, &recipe(60), None);
    assert_eq!(first.adapter.params, second.adapter.params);
    assert!(
        first.loss < 0.7 * states[0].header.last_loss,
        "{} after {}",
        first.loss,
        states[0].header.last_loss
    );
    assert_eq!(first.ending, Ending::Complete);
}

/// The test's recipe with moments of a type.
fn recipe_of(moments: MomentType) -> Recipe {
    Recipe {
        moments,
        ..recipe(STEPS)
    }
}

#[test]
fn resumed_equals_uninterrupted_from_every_step() {
    let base = base();
    let engine = load(&base, 2);
    for moments in [MomentType::F32, MomentType::EightBit] {
        let recipe = recipe_of(moments);
        let (whole, states) = run(&engine, &base, &recipe, None);
        assert_eq!(states.len() as u64, STEPS - 1);
        for state in states {
            let step = state.header.step;
            assert_eq!(state.tensors.moment_type(), moments);
            let (resumed, _) = run(&engine, &base, &recipe, Some(state));
            assert_eq!(
                resumed.adapter.params, whole.adapter.params,
                "{moments:?} from step {step}"
            );
            assert_eq!(resumed.state, whole.state);
        }
    }
}

#[test]
fn the_thread_count_changes_nothing() {
    let base = base();
    for moments in [MomentType::F32, MomentType::EightBit] {
        let one = run(&load(&base, 1), &base, &recipe_of(moments), None).0;
        for threads in [2, 3] {
            let other = run(&load(&base, threads), &base, &recipe_of(moments), None).0;
            assert_eq!(one.adapter.params, other.adapter.params, "{threads} threads");
            assert_eq!(one.state, other.state, "{threads} threads");
        }
    }
}

#[test]
fn accumulation_over_single_rows_is_one_batch() {
    let base = base();
    let engine = load(&base, 1);
    let dataset = dataset(&base);
    // Dropout masks hang on the place of a row in its batch, so they are off where batches differ.
    let without_dropout = |limit: usize| {
        let recipe = Recipe {
            batch_tokens_max: limit,
            ..recipe(3)
        };
        let spec = AdapterSpec { dropout: 0.0, ..spec() };
        run_adapter(&engine, &base, &Setup::new(&dataset, &recipe), &spec).unwrap()
    };
    let (whole, split) = (without_dropout(4096), without_dropout(1));
    assert!(
        (whole.loss - split.loss).abs() < 1e-5 * whole.loss,
        "{} and {}",
        whole.loss,
        split.loss
    );
}

#[test]
fn ctrl_c_keeps_the_state_and_resuming_ends_alike() {
    /// Raises the flag after some steps, as a user would.
    struct Interrupter<'a>(&'a Cancel, u64);
    impl Progress for Interrupter<'_> {
        fn event(&self, event: Event) {
            if matches!(event, Event::Step(step) if step.step == self.1) {
                self.0.cancel();
            }
        }
    }
    let base = base();
    let engine = load(&base, 1);
    let (dataset, recipe) = (dataset(&base), recipe(STEPS));
    let cancel = Cancel::new();
    let interrupter = Interrupter(&cancel, 5);
    let setup = Setup {
        progress: &interrupter,
        cancel: cancel.clone(),
        ..Setup::new(&dataset, &recipe)
    };
    let stopped = run_with(&engine, &base, &setup).unwrap();
    assert_eq!((stopped.ending, stopped.state.header.step), (Ending::Cancelled, 5));
    let (resumed, _) = run(&engine, &base, &recipe, Some(stopped.state));
    let (whole, _) = run(&engine, &base, &recipe, None);
    assert_eq!(resumed.adapter.params, whole.adapter.params);
}

#[test]
fn a_state_of_another_run_is_refused() {
    let base = base();
    let engine = load(&base, 1);
    let (_, states) = run(&engine, &base, &recipe(STEPS), None);
    let other = Recipe {
        lr: 1e-3,
        ..recipe(STEPS)
    };
    let dataset = dataset(&base);
    let setup = Setup {
        resume: Some(states[2].clone()),
        ..Setup::new(&dataset, &other)
    };
    assert!(matches!(run_with(&engine, &base, &setup), Err(RunError::ForeignState)));

    // Moments of the other type belong to another run, also where a digest says otherwise.
    let (eight_bit, usual) = (recipe_of(MomentType::EightBit), recipe(STEPS));
    let mut state = states[2].clone();
    for digest in [
        state.header.run_digest.clone(),
        run_digest(&eight_bit, &dataset, &spec(), "base"),
    ] {
        state.header.run_digest = digest;
        let setup = Setup {
            resume: Some(state.clone()),
            ..Setup::new(&dataset, &eight_bit)
        };
        assert!(matches!(run_with(&engine, &base, &setup), Err(RunError::ForeignState)));
    }
    assert_ne!(
        run_digest(&eight_bit, &dataset, &spec(), "base"),
        run_digest(&usual, &dataset, &spec(), "base")
    );
}

#[test]
fn eight_bits_end_beside_f32() {
    /// What the losses of the last of sixty steps may differ by, in nats a token.
    const NEAR: f64 = 0.02;
    let base = base();
    let engine = load(&base, 1);
    let of = |moments| {
        let recipe = Recipe { moments, ..recipe(60) };
        let (outcome, states) = run(&engine, &base, &recipe, None);
        (states[0].header.last_loss, outcome.loss, outcome.adapter.params)
    };
    let ((_, full, a), (start, eight_bit, b)) = (of(MomentType::F32), of(MomentType::EightBit));
    assert!(
        full < 0.7 * start && (full - eight_bit).abs() < NEAR,
        "{full} and {eight_bit} from {start}"
    );
    assert_ne!(a, b, "they are two optimizers");
}

#[test]
fn infinity_stops_the_run_and_names_the_step() {
    let base = base();
    let engine = load(&base, 1);
    let wild = Recipe {
        lr: 1e30,
        clip: None,
        ..recipe(STEPS)
    };
    let dataset = dataset(&base);
    let setup = Setup::new(&dataset, &wild);
    match run_with(&engine, &base, &setup) {
        Err(error @ (RunError::NonFiniteLoss { step, .. } | RunError::NonFiniteGradient { step, .. })) => {
            assert!(
                step > 1 && error.hints()[0].contains("training.learning_rate"),
                "{error}"
            );
        }
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("a rate of 1e30 cannot end well"),
    }
}

#[test]
fn rows_without_training_side_are_refused() {
    let base = base();
    let engine = load(&base, 1);
    let empty = dataset_of(&base, Vec::new());
    let recipe = recipe(STEPS);
    let setup = Setup::new(&empty, &recipe);
    assert!(matches!(run_with(&engine, &base, &setup), Err(RunError::NoRows)));
}

#[test]
fn obeying_the_held_out_loss_keeps_the_best_weights() {
    let base = base();
    let engine = load(&base, 1);
    let mut sources = sources();
    sources[2].is_synthesized = true;
    let split = SplitRule::new(VALIDATION_SEED, false, &sources);
    let options = DatasetOptions { split, ..options() };
    let dataset = Dataset::new(sources, options, base.text()).unwrap();
    assert_eq!(dataset.indices(Split::Validation), [2], "another seed is needed");
    // A rate that overshoots: the last weights are worse on the held-out row than some before.
    let recipe = Recipe {
        lr: 0.05,
        obeys_eval: true,
        eval_every: 1,
        eval_patience: 100,
        ..recipe(30)
    };
    let setup = Setup::new(&dataset, &recipe);
    let outcome = run_with(&engine, &base, &setup).unwrap();
    let header = &outcome.state.header;
    assert_eq!(Some(outcome.eval.unwrap().loss), header.best_loss);
    assert!(
        header.best_step.unwrap() < 30,
        "the best step was {:?}",
        header.best_step
    );
    assert_ne!(outcome.adapter.params, outcome.state.tensors.params);
}

/// Mean divergence from the base on anchors, without dropout.
fn divergence(engine: &CpuEngine, outcome: &Outcome, anchors: &[Row]) -> f32 {
    let packed = dlm_train::batch::pack(anchors, 1.0);
    let mut adapter = outcome.adapter.clone();
    adapter.spec.dropout = 0.0;
    let options = TrainerOptions {
        optimizer: AdamWOptions::USUAL,
        clip: None,
        checkpointing: Checkpointing::default(),
    };
    let mut trainer = engine.trainer(&adapter, &options).unwrap();
    let losses = trainer.pass(&packed.batch, &packed.targets, 0).unwrap();
    losses.iter().sum::<f32>() / losses.len() as f32
}

#[test]
fn anchors_keep_the_base_nearer() {
    let base = base();
    let engine = load(&base, 2);
    let options = AnchorOptions {
        rows: 10,
        greedy_share: 0.5,
        tokens_max: 8,
        top: 16,
    };
    let anchors = AnchorSet::prepare(
        &mut *base_reader(&engine),
        base.text(),
        None,
        &options,
        &Quiet,
        &Cancel::new(),
    )
    .unwrap();
    assert_eq!(anchors.len(), 10);
    assert_eq!(AnchorSet::from_bytes(&anchors.to_bytes()).unwrap(), anchors);
    let dataset = dataset(&base);
    let moved = |anchors_per_step: usize| {
        let recipe = Recipe {
            anchors_per_step,
            anchor_weight: 5.0,
            ..recipe(40)
        };
        let setup = Setup {
            anchors: Some(&anchors),
            ..Setup::new(&dataset, &recipe)
        };
        let outcome = run_with(&engine, &base, &setup).unwrap();
        divergence(&engine, &outcome, &anchors.rows_of_step(0, 0, 10))
    };
    let (free, anchored) = (moved(0), moved(4));
    assert!(
        anchored < 0.5 * free,
        "divergence {anchored} with anchors, {free} without"
    );
}

#[test]
fn recall_counts_what_was_learned() {
    let base = base();
    let engine = load(&base, 2);
    let dataset = dataset(&base);
    let learn = Recipe {
        lr: 0.02,
        augment: None,
        noise_share: 0.0,
        rows_per_step: 4,
        ..recipe(150)
    };
    let setup = Setup::new(&dataset, &learn);
    let outcome = run_with(&engine, &base, &setup).unwrap();
    let recalled = |adapter| {
        let mut reader = engine.reader(adapter, ReaderOptions::default()).unwrap();
        let pairs = recall_pairs(&mut *reader, base.text(), None, dataset.examples(), &Cancel::new()).unwrap();
        assert_eq!(pairs.len(), 3);
        pairs.iter().filter(|p| p.recalled).count()
    };
    assert_eq!(recalled(None), 0);
    assert!(recalled(Some(&outcome.adapter)) >= 2);
}
