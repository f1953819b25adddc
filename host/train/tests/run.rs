//! The training loop on a tiny model: equalities that must hold bit for bit, and refusals.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::cell::RefCell;
use std::path::Path;

use dlm_core::random::Rng;
use dlm_core::training::Ending;
use dlm_core::{Cancel, Event, Progress, Quiet};
use dlm_kernels::{Ctx, Simd};
use dlm_model::base::{OpenedBase, open_base};
use dlm_model::{Adapter, AdapterKind, AdapterSpec, LoadOptions, Model};
use dlm_train::augment::Augment;
use dlm_train::hold::{HoldOptions, HoldSet};
use dlm_train::rows::plain;
use dlm_train::run::{Outcome, RunError, run_digest};
use dlm_train::schedule::ScheduleKind;
use dlm_train::{
    Recipe, RowCache, Schedule, SourceBody, SourceRow, TrainInput, TrainState, WarmupStart, recall_pairs, train,
};

const STEPS: u64 = 12;

fn base() -> OpenedBase {
    open_base(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/arch/llama")).unwrap()
}

fn load(base: &OpenedBase, threads: usize) -> Model {
    base.load(LoadOptions::exact(Ctx::new(threads, Simd::detect())))
        .unwrap()
}

fn rows() -> Vec<SourceRow> {
    let row = |i: u32, body| SourceRow {
        section_id: format!("{i:016}"),
        sub_index: 0,
        line: 1,
        body,
        is_validation: false,
    };
    let pair = |i: u32, q: &str, a: &str| {
        row(
            i,
            SourceBody::Pair {
                question: q.into(),
                answer: a.into(),
            },
        )
    };
    vec![
        pair(0, "Who is it?", "It is Ann."),
        pair(1, "What is the sum of 3 and 4?", "7"),
        pair(2, "Where is the boat?", "At sea."),
        row(
            3,
            SourceBody::Prose {
                text: "The boat is at sea.".into(),
                context: 0,
            },
        ),
    ]
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
        augment: Some(Augment {
            share: 0.7,
            drop_function: 0.3,
            drop_content: 0.1,
        }),
        noise_share: 0.2,
        clean_share: 0.2,
        hold_rows_per_step: 0,
        hold_weight: 1.0,
        loss_stop: None,
        eval_every: 4,
        eval_patience: 3,
        obeys_eval: false,
        checkpoint: false,
        system_prompt: None,
        sequence_len_max: 512,
        prose_weight: 0.5,
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
    rows: &'a [SourceRow],
    recipe: &'a Recipe,
    hold: Option<&'a HoldSet>,
    resume: Option<TrainState>,
    progress: &'a dyn Progress,
    cancel: Cancel,
    /// Receives every snapshot.
    kept: RefCell<Vec<TrainState>>,
}

impl<'a> Setup<'a> {
    /// A quiet run from the start, without a hold.
    fn new(rows: &'a [SourceRow], recipe: &'a Recipe) -> Self {
        Self {
            rows,
            recipe,
            hold: None,
            resume: None,
            progress: &Quiet,
            cancel: Cancel::new(),
            kept: RefCell::new(Vec::new()),
        }
    }
}

fn run_with(model: &Model, base: &OpenedBase, setup: &Setup<'_>) -> Result<Outcome, RunError> {
    run_adapter(model, base, setup, &spec())
}

fn run_adapter(model: &Model, base: &OpenedBase, setup: &Setup<'_>, spec: &AdapterSpec) -> Result<Outcome, RunError> {
    let adapter = Adapter::init(model, spec, setup.recipe.seed).unwrap();
    let digest = run_digest(setup.recipe, setup.rows, &adapter, "base");
    let keep = |state: &TrainState, _: &Adapter| {
        setup.kept.borrow_mut().push(state.clone());
        Ok(())
    };
    let input = TrainInput {
        model,
        text: base.text(),
        rows: setup.rows,
        hold: setup.hold,
        recipe: setup.recipe,
        progress: setup.progress,
        cancel: &setup.cancel,
        clock: &|| 0.0,
        snapshot_every: 1,
        snapshot: &keep,
    };
    train(&input, adapter, &digest, setup.resume.clone())
}

fn run(model: &Model, base: &OpenedBase, recipe: &Recipe, resume: Option<TrainState>) -> (Outcome, Vec<TrainState>) {
    let rows = rows();
    let setup = Setup {
        resume,
        ..Setup::new(&rows, recipe)
    };
    let outcome = run_with(model, base, &setup).unwrap();
    (outcome, setup.kept.into_inner())
}

#[test]
fn the_repeated_beginning_of_a_window_is_read_and_not_learned() {
    let base = base();
    let options = recipe(1).row_options();
    let window = |context: usize| SourceRow {
        body: SourceBody::Prose {
            text: "The boat is at sea. It is Ann.".into(),
            context,
        },
        ..rows()[3].clone()
    };
    let whole = plain(&window(0), base.text(), &options).unwrap();
    let after = plain(&window("The boat is at sea.".len()), base.text(), &options).unwrap();
    assert_eq!(after.ids, whole.ids);
    let read = base.text().tokenizer.encode("The boat is at sea.").unwrap().len();
    let skipped = whole.targets.len() - after.targets.len();
    assert_eq!(after.targets, whole.targets[skipped..]);
    // The first target is the first token beyond the context; without context it is the second token of the row.
    let bos = usize::from(base.text().tokenizer.specials.add_bos);
    assert_eq!(after.targets[0].position + 1, read + bos);
}

#[test]
fn a_cached_row_is_the_row() {
    let base = base();
    let rows = rows();
    let options = recipe(1).row_options();
    let cache = RowCache::new(&rows, base.text(), options.clone());
    let augment = recipe(1).augment.unwrap();
    let mut differing = 0;
    for (index, row) in rows.iter().enumerate() {
        let written = plain(row, base.text(), &options).unwrap();
        assert_eq!(cache.plain(index).unwrap(), written);
        assert_eq!(cache.plain(index).unwrap(), written);
        for visit in 0..20 {
            let mut rng = Rng::stream(1, "test", &[visit]);
            let row = cache.reworded(index, &augment, &mut rng).unwrap();
            differing += usize::from(row != written);
        }
    }
    assert!(differing > 10, "{differing} of 80 visits were reworded");
}

#[test]
fn a_run_lowers_the_loss_and_repeats_itself() {
    let base = base();
    let model = load(&base, 1);
    let (first, states) = run(&model, &base, &recipe(60), None);
    let (second, _) = run(&model, &base, &recipe(60), None);
    assert_eq!(first.adapter.params, second.adapter.params);
    assert!(
        first.loss < 0.7 * states[0].header.last_loss,
        "{} after {}",
        first.loss,
        states[0].header.last_loss
    );
    assert_eq!(first.ending, Ending::Complete);
}

#[test]
fn resumed_equals_uninterrupted_from_every_step() {
    let base = base();
    let model = load(&base, 2);
    let (whole, states) = run(&model, &base, &recipe(STEPS), None);
    assert_eq!(states.len() as u64, STEPS - 1);
    for state in states {
        let (resumed, _) = run(&model, &base, &recipe(STEPS), Some(state.clone()));
        assert_eq!(
            resumed.adapter.params, whole.adapter.params,
            "from step {}",
            state.header.step
        );
        assert_eq!(resumed.state, whole.state);
    }
}

#[test]
fn the_thread_count_changes_nothing() {
    let base = base();
    let one = run(&load(&base, 1), &base, &recipe(STEPS), None).0;
    for threads in [2, 3] {
        let other = run(&load(&base, threads), &base, &recipe(STEPS), None).0;
        assert_eq!(one.adapter.params, other.adapter.params, "{threads} threads");
    }
}

#[test]
fn accumulation_over_single_rows_is_one_batch() {
    let base = base();
    let model = load(&base, 1);
    // Dropout masks hang on the place of a row in its batch, so they are off where batches differ.
    let without_dropout = |limit: usize| {
        let recipe = Recipe {
            batch_tokens_max: limit,
            ..recipe(3)
        };
        let spec = AdapterSpec { dropout: 0.0, ..spec() };
        run_adapter(&model, &base, &Setup::new(&rows(), &recipe), &spec).unwrap()
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
    let model = load(&base, 1);
    let (rows, recipe) = (rows(), recipe(STEPS));
    let cancel = Cancel::new();
    let interrupter = Interrupter(&cancel, 5);
    let setup = Setup {
        progress: &interrupter,
        cancel: cancel.clone(),
        ..Setup::new(&rows, &recipe)
    };
    let stopped = run_with(&model, &base, &setup).unwrap();
    assert_eq!((stopped.ending, stopped.state.header.step), (Ending::Cancelled, 5));
    let (resumed, _) = run(&model, &base, &recipe, Some(stopped.state));
    let (whole, _) = run(&model, &base, &recipe, None);
    assert_eq!(resumed.adapter.params, whole.adapter.params);
}

#[test]
fn a_state_of_another_run_is_refused() {
    let base = base();
    let model = load(&base, 1);
    let (_, states) = run(&model, &base, &recipe(STEPS), None);
    let other = Recipe {
        lr: 1e-3,
        ..recipe(STEPS)
    };
    let rows = rows();
    let setup = Setup {
        resume: Some(states[2].clone()),
        ..Setup::new(&rows, &other)
    };
    assert!(matches!(run_with(&model, &base, &setup), Err(RunError::ForeignState)));
}

#[test]
fn infinity_stops_the_run_and_names_the_step() {
    let base = base();
    let model = load(&base, 1);
    let wild = Recipe {
        lr: 1e30,
        clip: None,
        ..recipe(STEPS)
    };
    let rows = rows();
    let setup = Setup::new(&rows, &wild);
    match run_with(&model, &base, &setup) {
        Err(RunError::NonFiniteLoss { step, .. } | RunError::NonFiniteGradient { step, .. }) => assert!(step > 1),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("a rate of 1e30 cannot end well"),
    }
}

#[test]
fn rows_without_training_side_are_refused() {
    let base = base();
    let model = load(&base, 1);
    let held: Vec<SourceRow> = rows()
        .into_iter()
        .map(|row| SourceRow {
            is_validation: true,
            ..row
        })
        .collect();
    let recipe = recipe(STEPS);
    let setup = Setup::new(&held, &recipe);
    assert!(matches!(run_with(&model, &base, &setup), Err(RunError::NoRows)));
}

#[test]
fn obeying_the_held_out_loss_keeps_the_best_weights() {
    let base = base();
    let model = load(&base, 1);
    let mut rows = rows();
    rows[2].is_validation = true;
    // A rate that overshoots: the last weights are worse on the held-out row than some before.
    let recipe = Recipe {
        lr: 0.05,
        obeys_eval: true,
        eval_every: 1,
        eval_patience: 100,
        ..recipe(30)
    };
    let setup = Setup::new(&rows, &recipe);
    let outcome = run_with(&model, &base, &setup).unwrap();
    let header = &outcome.state.header;
    assert_eq!(Some(outcome.eval.unwrap().loss), header.best_loss);
    assert!(
        header.best_step.unwrap() < 30,
        "the best step was {:?}",
        header.best_step
    );
    assert_ne!(outcome.adapter.params, outcome.state.params);
}

#[test]
fn the_hold_keeps_the_base_nearer() {
    let base = base();
    let model = load(&base, 2);
    let options = HoldOptions {
        rows: 10,
        greedy_share: 0.5,
        tokens_max: 8,
        top: 16,
    };
    let hold = HoldSet::prepare(&model, base.text(), &options, &Quiet, &Cancel::new()).unwrap();
    assert_eq!(hold.len(), 10);
    assert_eq!(HoldSet::from_bytes(&hold.to_bytes()).unwrap(), hold);
    let rows = rows();
    let moved = |hold_rows: usize| {
        let recipe = Recipe {
            hold_rows_per_step: hold_rows,
            hold_weight: 5.0,
            ..recipe(40)
        };
        let setup = Setup {
            hold: Some(&hold),
            ..Setup::new(&rows, &recipe)
        };
        let outcome = run_with(&model, &base, &setup).unwrap();
        // Mean divergence from the base on the hold rows themselves.
        let all = hold.rows_of_step(0, 0, 10);
        let packed = dlm_train::batch::pack(&all, 1.0);
        let forward = model.forward_eval(Some(&outcome.adapter), &packed.batch).unwrap();
        let mut unused = vec![0.0; forward.hidden().len()];
        let kl = model.head_loss(forward.hidden(), &packed.targets, &mut unused).kl;
        kl.iter().sum::<f32>() / kl.len() as f32
    };
    let (free, held) = (moved(0), moved(4));
    assert!(held < 0.5 * free, "divergence {held} with the hold, {free} without");
}

#[test]
fn recall_counts_what_was_learned() {
    let base = base();
    let model = load(&base, 2);
    let rows = rows();
    let learn = Recipe {
        lr: 0.02,
        augment: None,
        noise_share: 0.0,
        rows_per_step: 4,
        ..recipe(150)
    };
    let setup = Setup::new(&rows, &learn);
    let outcome = run_with(&model, &base, &setup).unwrap();
    let recalled = |adapter| {
        let pairs = recall_pairs(&model, adapter, base.text(), None, &rows, &Cancel::new()).unwrap();
        assert_eq!(pairs.len(), 3);
        pairs.iter().filter(|p| p.recalled).count()
    };
    assert_eq!(recalled(None), 0);
    assert!(recalled(Some(&outcome.adapter)) >= 2);
}
