//! Equalities that hold whatever the reference says: threads, packing, shared prefixes, checkpoints, caches, precision.

#![expect(clippy::unwrap_used, reason = "helpers of tests; clippy excuses the tests alone")]

use dlm_core::training::Checkpointing;
use dlm_kernels::{Compute, Ctx, Simd};
use dlm_model::config::json::parse_config;
use dlm_model::safetensors_dir::SafetensorsDir;
use dlm_model::{
    Adapter, AdapterKind, AdapterSpec, Batch, LoadOptions, MergedSource, Model, Prepare, Session, SessionError,
    StepOptions, Target, TargetKind, WeightStorage, prefill_batch, step_batch,
};
use dlm_testkit::architectures::{ALL, dir};
use dlm_testkit::tiny::{adapter, sequences};

/// Different order of sums in `f32`, relative to values of order one.
const ROUNDING: f32 = 2e-5;
/// Factors rounded to eight bits of mantissa, through a few layers.
const BF16: f32 = 0.15;

fn load_with(name: &str, options: LoadOptions) -> Model {
    let config = parse_config(&std::fs::read(dir(name).join("config.json")).unwrap()).unwrap();
    Model::load(config, &SafetensorsDir::open(&dir(name)).unwrap(), options).unwrap()
}

fn load(name: &str) -> Model {
    load_with(name, LoadOptions::exact(Ctx::new(2, Simd::detect())))
}

fn spec(kind: AdapterKind, dropout: f32) -> AdapterSpec {
    AdapterSpec {
        kind,
        r: 4,
        alpha: 8.0,
        dropout,
        targets: vec!["all-linear".to_owned()],
    }
}

fn targets(sequences: &[Vec<u32>], weight: f32) -> Vec<Target> {
    let mut targets = Vec::new();
    let mut start = 0;
    for sequence in sequences {
        for (i, token) in sequence.iter().enumerate().skip(1) {
            targets.push(Target {
                row: start + i - 1,
                kind: TargetKind::Token(*token),
                weight,
            });
        }
        start += sequence.len();
    }
    targets
}

/// Losses, hidden rows and gradients of one step.
fn step(
    model: &Model,
    adapter: &Adapter,
    batch: &Batch,
    targets: &[Target],
    options: &StepOptions,
) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let forward = model.forward_train(Some(adapter), batch, options).unwrap();
    let hidden = forward.hidden().to_vec();
    let mut d_hidden = vec![0.0; hidden.len()];
    let loss = model.head_loss(&hidden, targets, &mut d_hidden);
    let mut grads = vec![0.0; adapter.params.len()];
    model.backward(forward, adapter, &d_hidden, &mut grads);
    (loss.nll, hidden, grads)
}

fn max_abs(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn kinds() -> [(AdapterKind, f32); 4] {
    [
        (AdapterKind::Lora, 0.0),
        (AdapterKind::Lora, 0.3),
        (AdapterKind::Dora, 0.0),
        (AdapterKind::Dora, 0.3),
    ]
}

const WITH_DROPOUT: StepOptions = StepOptions {
    dropout_seed: Some(99),
    checkpointing: Checkpointing::OFF,
};

#[test]
fn results_do_not_depend_on_threads_or_on_what_ran_before() {
    for name in ["llama", "gemma2", "mixtral"] {
        let batch = Batch::packed(&sequences());
        let targets = targets(&sequences(), 0.02);
        let run = |threads| {
            let model = load_with(name, LoadOptions::exact(Ctx::new(threads, Simd::detect())));
            let adapter = adapter(&model, AdapterKind::Dora, 0.1);
            let first = step(&model, &adapter, &batch, &targets, &WITH_DROPOUT);
            let second = step(&model, &adapter, &batch, &targets, &WITH_DROPOUT);
            assert!(
                first == second,
                "{name}: a second run on used buffers gives the same bits"
            );
            first
        };
        let one = run(1);
        for threads in [2, 3, 5] {
            assert!(one == run(threads), "{name}: {threads} threads give the bits of one");
        }
    }
}

#[test]
fn checkpoints_change_no_bit() {
    for name in ALL {
        let model = load(name);
        let batch = Batch::packed(&sequences());
        let targets = targets(&sequences(), 0.02);
        for (kind, dropout) in kinds() {
            let adapter = adapter(&model, kind, dropout);
            let kept = step(&model, &adapter, &batch, &targets, &WITH_DROPOUT);
            for every in [1, 2, 3] {
                let options = StepOptions {
                    checkpointing: Checkpointing {
                        every,
                        is_narrow: false,
                    },
                    ..WITH_DROPOUT
                };
                let again = step(&model, &adapter, &batch, &targets, &options);
                assert!(kept == again, "{name} {kind:?} {dropout}, one of {every}");
            }
        }
    }
}

#[test]
fn packed_rows_equal_rows_alone() {
    for name in ALL {
        let model = load(name);
        let adapter = adapter(&model, AdapterKind::Lora, 0.0);
        let all = sequences();
        let options = StepOptions::default();
        let packed = step(&model, &adapter, &Batch::packed(&all), &targets(&all, 0.02), &options);
        let mut alone = (Vec::new(), Vec::new(), vec![0.0; adapter.params.len()]);
        for sequence in &all {
            let one = std::slice::from_ref(sequence);
            let (nll, hidden, grads) = step(&model, &adapter, &Batch::packed(one), &targets(one, 0.02), &options);
            alone.0.extend(nll);
            alone.1.extend(hidden);
            alone.2.iter_mut().zip(grads).for_each(|(sum, g)| *sum += g);
        }
        assert!(max_abs(&packed.0, &alone.0) < ROUNDING, "{name}: losses");
        assert!(max_abs(&packed.1, &alone.1) < 5.0 * ROUNDING, "{name}: hidden rows");
        assert!(max_abs(&packed.2, &alone.2) < ROUNDING, "{name}: gradients");
    }
}

#[test]
fn a_shared_prefix_equals_its_copies() {
    for name in ALL {
        let model = load(name);
        let adapter = adapter(&model, AdapterKind::Lora, 0.0);
        let mut all = sequences();
        // Sharers of a prefix count as long together (LongRope), copies each on their own: stay short.
        all[2].truncate(16);
        let (prefix, tails) = all.split_first().unwrap();
        let whole: Vec<Vec<u32>> = tails.iter().map(|tail| [&prefix[..], tail].concat()).collect();
        let copies = Batch::packed(&whole);
        let mut shared = Batch::default();
        let rows = shared.push(prefix, 0..0);
        let (mut shared_targets, mut copied_targets) = (Vec::new(), Vec::new());
        let mut start = 0;
        for tail in tails {
            let own = shared.push(tail, rows.clone());
            start += prefix.len();
            for (i, token) in tail.iter().enumerate().skip(1) {
                let target = |row| Target {
                    row,
                    kind: TargetKind::Token(*token),
                    weight: 0.05,
                };
                shared_targets.push(target(own.start + i - 1));
                copied_targets.push(target(start + i - 1));
            }
            start += tail.len();
        }
        let options = StepOptions::default();
        let one = step(&model, &adapter, &shared, &shared_targets, &options);
        let two = step(&model, &adapter, &copies, &copied_targets, &options);
        assert!(max_abs(&one.0, &two.0) < ROUNDING, "{name}: losses");
        assert!(max_abs(&one.2, &two.2) < ROUNDING, "{name}: gradients");
    }
}

#[test]
fn gradients_with_dropout_equal_finite_differences() {
    // Not mixtral: its loss jumps where a row changes its expert; the golden gradients judge it.
    for name in ["llama", "phi3", "olmo2", "gemma2"] {
        let model = load(name);
        let all = sequences();
        let (batch, targets) = (Batch::packed(&all), targets(&all, 1.0));
        for (kind, dropout) in kinds() {
            let mut adapter = adapter(&model, kind, dropout);
            let (_, _, grads) = step(&model, &adapter, &batch, &targets, &WITH_DROPOUT);
            for module in adapter.modules.clone().iter().step_by(3) {
                let middle = |range: &std::ops::Range<usize>| range.start + range.len() / 2;
                let mut places = vec![middle(&module.b)];
                // The norm in the denominator counts as a constant, so only `m` of DoRA has the true derivative.
                match &module.magnitude {
                    Some(range) => places = vec![middle(range)],
                    None => places.push(middle(&module.a)),
                }
                for place in places {
                    let mut at = |delta: f32| -> f64 {
                        let old = adapter.params[place];
                        adapter.params[place] = old + delta;
                        let nll = step(&model, &adapter, &batch, &targets, &WITH_DROPOUT).0;
                        adapter.params[place] = old;
                        nll.iter().map(|nll| f64::from(*nll)).sum()
                    };
                    let h = 4e-3;
                    let difference = (at(h) - at(-h)) / f64::from(2.0 * h);
                    let gradient = f64::from(grads[place]);
                    assert!(
                        (difference - gradient).abs() < 0.03 + 0.02 * gradient.abs(),
                        "{name} {kind:?} {dropout} {}: difference {difference}, gradient {gradient}",
                        module.path
                    );
                }
            }
        }
    }
}

#[test]
fn a_fresh_adapter_is_the_base() {
    for name in ALL {
        let model = load(name);
        let batch = Batch::packed(&sequences());
        let base = model.forward_eval(None, &batch).unwrap().hidden().to_vec();
        let lora = Adapter::init(&model, &spec(AdapterKind::Lora, 0.0), 1).unwrap();
        assert!(
            base == model.forward_eval(Some(&lora), &batch).unwrap().hidden(),
            "{name}: bit for bit"
        );
        let dora = Adapter::init(&model, &spec(AdapterKind::Dora, 0.0), 1).unwrap();
        let found = model.forward_eval(Some(&dora), &batch).unwrap();
        assert!(
            max_abs(&base, found.hidden()) < 5.0 * ROUNDING,
            "{name}: magnitude over norm is one"
        );
    }
}

#[test]
fn merged_equals_unmerged() {
    for name in ALL {
        let model = load(name);
        let source = SafetensorsDir::open(&dir(name)).unwrap();
        let batch = Batch::packed(&sequences());
        for kind in [AdapterKind::Lora, AdapterKind::Dora] {
            let adapter = adapter(&model, kind, 0.0);
            let options = LoadOptions::exact(model.ctx.clone());
            let merged = Model::load(model.config.clone(), &MergedSource::new(&source, &adapter), options).unwrap();
            let one = model.forward_eval(Some(&adapter), &batch).unwrap();
            let two = merged.forward_eval(None, &batch).unwrap();
            assert!(max_abs(one.hidden(), two.hidden()) < 1e-4, "{name} {kind:?}");
        }
    }
}

#[test]
fn a_session_says_what_a_whole_pass_says() {
    for name in ALL {
        let model = load(name);
        let adapter = adapter(&model, AdapterKind::Dora, 0.0);
        let tokens: Vec<u32> = sequences().concat();
        let expected = |len: usize| {
            let forward = model
                .forward_eval(Some(&adapter), &Batch::packed(&[&tokens[..len]]))
                .unwrap();
            let d = model.config.d_model;
            model.logits(&forward.hidden()[(len - 1) * d..])
        };
        let close = |a: &[f32], b: &[f32], what: &str| assert!(max_abs(a, b) < 2e-4, "{name}: {what}");
        let mut session = Session::new(&model, Some(&adapter), tokens.len());
        close(session.prefill(&tokens[..10]).unwrap(), &expected(10), "prefill");
        for (i, token) in tokens.iter().enumerate().take(36).skip(10) {
            close(session.step(*token).unwrap(), &expected(i + 1), "step");
        }
        session.truncate(20);
        close(
            session.prefill(&tokens[20..25]).unwrap(),
            &expected(25),
            "after truncation",
        );
        let mut fork = session.fork(tokens.len()).unwrap();
        close(fork.prefill(&tokens[25..]).unwrap(), &expected(tokens.len()), "fork");
        assert!(fork.step(1).is_err(), "{name}: the context is full");
        assert_eq!(session.len(), 25);
    }
}

#[test]
fn a_batch_of_sessions_equals_each_alone() {
    for name in ALL {
        let model = load(name);
        let adapter = adapter(&model, AdapterKind::Lora, 0.0);
        let all = sequences();
        let mut batched: Vec<Session<'_>> = all.iter().map(|_| Session::new(&model, Some(&adapter), 64)).collect();
        let mut alone: Vec<Session<'_>> = all.iter().map(|_| Session::new(&model, Some(&adapter), 64)).collect();
        let mut logits = Vec::new();
        let mut refs: Vec<&mut Session<'_>> = batched.iter_mut().collect();
        prefill_batch(&mut refs, &all, &mut logits).unwrap();
        assert_eq!(
            prefill_batch(&mut refs, &all, &mut logits),
            Err(SessionError::Mixed),
            "only empty sessions"
        );
        for ((session, tokens), found) in alone.iter_mut().zip(&all).zip(logits.chunks(model.config.vocab)) {
            assert!(
                max_abs(session.prefill(tokens).unwrap(), found) < 2e-4,
                "{name}: prompts"
            );
        }
        // Long enough that one sequence crosses LongRope's border on the way.
        for round in 0..14u32 {
            let tokens = [30 + round, 60 + round, 90 + round];
            let mut refs: Vec<&mut Session<'_>> = batched.iter_mut().collect();
            step_batch(&mut refs, &tokens, &mut logits).unwrap();
            for ((session, token), found) in alone.iter_mut().zip(tokens).zip(logits.chunks(model.config.vocab)) {
                assert!(
                    max_abs(session.step(token).unwrap(), found) < 2e-4,
                    "{name} round {round}"
                );
            }
        }
    }
}

#[test]
fn bf16_products_stay_close_to_f32_and_prepared_weights_equal_stored_ones() {
    let ctx = Ctx::new(2, Simd::detect());
    for name in ALL {
        let exact = load(name);
        let all = sequences();
        let (batch, targets) = (Batch::packed(&all), targets(&all, 0.02));
        let run = |compute, prepare| {
            let model = load_with(
                name,
                LoadOptions {
                    ctx: ctx.clone(),
                    compute,
                    storage: WeightStorage::AsStored,
                    prepare,
                },
            );
            let adapter = adapter(&model, AdapterKind::Lora, 0.0);
            step(&model, &adapter, &batch, &targets, &StepOptions::default())
        };
        let adapter = adapter(&exact, AdapterKind::Lora, 0.0);
        let expected = step(&exact, &adapter, &batch, &targets, &StepOptions::default());
        assert!(
            expected == run(Compute::F32, Prepare::Both),
            "{name}: packed panels change no bit"
        );
        if !ctx.supports(Compute::Bf16) {
            println!("SKIPPED: this processor has no bf16 products");
            continue;
        }
        let narrow = run(Compute::Bf16, Prepare::Both);
        // Mixtral may send a row to another expert when its router's inputs move.
        if name != "mixtral" {
            assert!(max_abs(&expected.0, &narrow.0) < BF16, "{name}: losses");
            let norm = |g: &[f32]| g.iter().map(|g| g * g).sum::<f32>().sqrt();
            let difference: Vec<f32> = expected.2.iter().zip(&narrow.2).map(|(a, b)| a - b).collect();
            assert!(norm(&difference) < BF16 * norm(&expected.2), "{name}: gradients");
        }
    }
}
