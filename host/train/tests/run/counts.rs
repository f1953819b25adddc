//! What a run counts, when it ends, how often it keeps its state, and how its anchors are asked.

use std::cell::Cell;

use dlm_model::chat::Thinking;
use dlm_train::rows::question_messages;

use super::*;

/// The base was asked without the document's system prompt and without the token that every text of it begins with.
#[test]
fn anchors_are_asked_as_the_document_is() {
    let base = base();
    let mut text = base.text().clone();
    text.tokenizer.specials.bos = text.tokenizer.id("<|endoftext|>");
    text.tokenizer.specials.add_bos = true;
    let options = AnchorOptions {
        rows: 4,
        greedy_share: 0.5,
        tokens_max: 2,
        top: 4,
    };
    let engine = load(&base, 1);
    let prepare = |system| {
        let mut reader = base_reader(&engine);
        AnchorSet::prepare(&mut *reader, &text, system, &options, &Quiet, &Cancel::new()).unwrap()
    };
    let first = |list: &str| list.lines().next().unwrap().to_owned();
    let question = first(include_str!("../../src/anchors/questions.txt"));
    let opening = text
        .plain_ids(&first(include_str!("../../src/anchors/openings.txt")))
        .unwrap();
    assert_eq!(opening[0], text.tokenizer.specials.bos.unwrap());
    for system in [None, Some("Be brief.")] {
        let rows = prepare(system).rows_of_step(0, 0, 4);
        let asked = text.prompt_ids(&question_messages(system, &question), Thinking::default());
        assert!(rows.iter().any(|row| row.ids.starts_with(&asked.as_ref().unwrap()[..])));
        assert!(rows.iter().any(|row| row.ids.starts_with(&opening)));
    }
}

#[test]
fn a_run_without_clean_steps_stops_when_all_is_learned_but_not_before_its_fewest_steps() {
    let base = base();
    let engine = load(&base, 2);
    let dataset = dataset(&base);
    let steps = |clean_share: f64, steps_min: u64| {
        let recipe = Recipe {
            lr: 0.02,
            augment: None,
            noise_share: 0.0,
            rows_per_step: 4,
            clean_share,
            loss_stop: Some(1.0),
            steps_min,
            ..recipe(150)
        };
        let outcome = run_with(&engine, &base, &Setup::new(&dataset, &recipe)).unwrap();
        (outcome.state.header.step, outcome.ending)
    };
    let (early, ending) = steps(0.0, 0);
    assert!(early < 120 && ending == Ending::EarlyStop, "{early} {ending:?}");
    let (later, _) = steps(0.0, early + 7);
    assert_eq!(later, early + 7);
    // With clean steps at the end, those alone tell.
    assert_eq!(steps(0.2, 0).0, 121);
}

#[test]
fn a_loss_that_is_only_reported_still_has_its_best() {
    let base = base();
    let engine = load(&base, 1);
    let mut sources = sources();
    sources[2].is_synthesized = true;
    let split = SplitRule::new(VALIDATION_SEED, false, &sources);
    let dataset = Dataset::new(sources, DatasetOptions { split, ..options() }, base.text()).unwrap();
    let recipe = Recipe {
        lr: 0.05,
        eval_every: 1,
        eval_patience: 1,
        ..recipe(30)
    };
    let losses = RefCell::new(Vec::new());
    struct Losses<'a>(&'a RefCell<Vec<f64>>);
    impl Progress for Losses<'_> {
        fn event(&self, event: Event) {
            if let Event::Eval { loss, .. } = event {
                self.0.borrow_mut().push(loss);
            }
        }
    }
    let heard = Losses(&losses);
    let setup = Setup {
        progress: &heard,
        ..Setup::new(&dataset, &recipe)
    };
    let outcome = run_with(&engine, &base, &setup).unwrap();
    let all = losses.borrow();
    let best = all.iter().copied().fold(f64::INFINITY, f64::min);
    assert_eq!(all.len(), 30, "nothing ended the run");
    assert!(best < all[29], "the last loss is to be worse than the best");
    assert_eq!(outcome.state.header.best_loss, Some(best));
    assert_eq!(outcome.adapter.params, outcome.state.tensors.params);
}

#[test]
fn tokens_are_those_that_were_computed_by_this_run() {
    let base = base();
    let engine = load(&base, 1);
    let dataset = dataset(&base);
    let learn = recipe(12);
    let setup = Setup::new(&dataset, &learn);
    let whole = run_with(&engine, &base, &setup).unwrap();
    assert_eq!(whole.tokens, whole.state.header.tokens);
    let states = setup.kept.into_inner();
    let at = &states[6];
    let resumed = Setup {
        resume: Some(at.clone()),
        ..Setup::new(&dataset, &learn)
    };
    let rest = run_with(&engine, &base, &resumed).unwrap();
    assert_eq!(rest.state.header.tokens, whole.state.header.tokens);
    assert_eq!(rest.tokens, whole.tokens - at.header.tokens);

    // What every row begins with goes through the model once.
    let long = "word ".repeat(40);
    let systematic = DatasetOptions {
        system_prompt: Some(long.clone()),
        ..options()
    };
    let shared = Dataset::new(sources(), systematic, base.text()).unwrap();
    let setup = Setup::new(&shared, &learn);
    let outcome = run_with(&engine, &base, &setup).unwrap();
    let system = base.text().tokenizer.encode(&long).unwrap().len() as u64;
    let rows = 12 * 3;
    assert!(
        outcome.tokens < whole.tokens + rows * system / 2,
        "{} with a system prompt of {system}, {} without",
        outcome.tokens,
        whole.tokens
    );
}

#[test]
fn states_are_kept_as_often_as_their_cost_allows() {
    let base = base();
    let engine = load(&base, 1);
    let dataset = dataset(&base);
    let learn = recipe(40);
    // A clock that goes on by a second at each look: a snapshot then seems to take one.
    let now = Cell::new(0.0);
    let clock = || {
        now.set(now.get() + 1.0);
        now.get()
    };
    let count = |snapshot_seconds: f64| {
        let setup = Setup {
            clock: &clock,
            snapshot_seconds,
            ..Setup::new(&dataset, &learn)
        };
        run_with(&engine, &base, &setup).unwrap();
        setup.kept.into_inner().len()
    };
    let (soon, never) = (count(1.0), count(1e9));
    // After the first, each waits for fifty times what the last one took.
    assert!((2..10).contains(&soon), "{soon}");
    assert_eq!(never, 0);
}
