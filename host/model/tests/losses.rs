//! The head's losses: chunks, rows with several targets, stored distributions, soft-caps.

#![expect(clippy::unwrap_used, reason = "helpers of tests; clippy excuses the tests alone")]

use std::path::PathBuf;

use dlm_kernels::{Ctx, Simd};
use dlm_model::config::json::parse_config;
use dlm_model::safetensors_dir::SafetensorsDir;
use dlm_model::{Batch, BatchError, LoadOptions, Model, StepOptions, Target, TargetKind};

fn load(name: &str) -> Model {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/golden/arch")
        .join(name);
    let config = parse_config(&std::fs::read(dir.join("config.json")).unwrap()).unwrap();
    let options = LoadOptions::exact(Ctx::new(2, Simd::detect()));
    Model::load(config, &SafetensorsDir::open(&dir).unwrap(), options).unwrap()
}

fn hidden(model: &Model, rows: usize) -> Vec<f32> {
    (0..rows * model.config.d_model)
        .map(|i| (i as f32 * 0.37).sin())
        .collect()
}

fn token(row: usize, token: u32, weight: f32) -> Target {
    Target {
        row,
        kind: TargetKind::Token(token),
        weight,
    }
}

fn stored(row: usize, weight: f32) -> Target {
    Target {
        row,
        kind: TargetKind::TopK {
            ids: vec![5, 17, 200],
            probs: vec![0.5, 0.2, 0.1],
        },
        weight,
    }
}

/// Weighted sum of the losses, in the order of the targets.
fn weighted(model: &Model, hidden: &[f32], targets: &[Target]) -> f64 {
    let mut unused = vec![0.0; hidden.len()];
    let loss = model.head_loss(hidden, targets, &mut unused);
    let (mut nll, mut kl) = (loss.nll.iter(), loss.kl.iter());
    let terms = targets.iter().map(|target| {
        let value = match target.kind {
            TargetKind::Token(_) => nll.next(),
            TargetKind::TopK { .. } => kl.next(),
        };
        f64::from(*value.unwrap()) * f64::from(target.weight)
    });
    terms.sum()
}

#[test]
fn gradients_of_all_kinds_of_targets_equal_finite_differences() {
    for name in ["llama", "gemma2"] {
        let model = load(name);
        let d = model.config.d_model;
        let mut hidden = hidden(&model, 4);
        // Row 2 has three targets, row 1 none.
        let targets = [
            token(0, 3, 0.7),
            token(2, 300, 1.0),
            stored(2, 0.5),
            token(2, 8, 0.25),
            stored(3, 1.5),
        ];
        let mut gradient = vec![0.0; hidden.len()];
        model.head_loss(&hidden, &targets, &mut gradient);
        assert!(
            gradient[d..2 * d].iter().all(|g| *g == 0.0),
            "{name}: a row without target"
        );
        for place in (0..hidden.len()).step_by(13) {
            let mut at = |delta: f32| {
                let old = hidden[place];
                hidden[place] = old + delta;
                let loss = weighted(&model, &hidden, &targets);
                hidden[place] = old;
                loss
            };
            let difference = (at(1e-2) - at(-1e-2)) / 2e-2;
            let found = f64::from(gradient[place]);
            assert!(
                (difference - found).abs() < 2e-3,
                "{name} {place}: {difference} and {found}"
            );
        }
    }
}

#[test]
fn chunks_change_nothing_and_gradients_are_added() {
    let model = load("llama");
    let d = model.config.d_model;
    let rows = 300;
    let hidden = hidden(&model, rows);
    let targets: Vec<Target> = (0..rows).map(|row| token(row, row as u32, 0.1)).collect();
    let mut all = vec![1.0; hidden.len()];
    let loss = model.head_loss(&hidden, &targets, &mut all);
    for row in [0, 127, 128, 255, 256, 299] {
        let mut one = vec![0.0; d];
        let own = [token(0, row as u32, 0.1)];
        let alone = model.head_loss(&hidden[row * d..(row + 1) * d], &own, &mut one);
        assert!((alone.nll[0] - loss.nll[row]).abs() < 1e-5);
        for (one, all) in one.iter().zip(&all[row * d..]) {
            assert!((one + 1.0 - all).abs() < 1e-6, "row {row}");
        }
        let logprob = model.logprobs(&hidden, &[(row, row as u32)]);
        assert!((logprob[0] + loss.nll[row]).abs() < 1e-5);
    }
}

#[test]
fn a_stored_distribution_that_is_the_models_own_costs_nothing() {
    let model = load("gemma2");
    let hidden = hidden(&model, 1);
    let ids = vec![1u32, 30, 99, 250];
    let pairs: Vec<(usize, u32)> = ids.iter().map(|id| (0, *id)).collect();
    let probs = model
        .logprobs(&hidden, &pairs)
        .iter()
        .map(|logprob| logprob.exp())
        .collect();
    let own = Target {
        row: 0,
        kind: TargetKind::TopK { ids, probs },
        weight: 1.0,
    };
    let mut gradient = vec![0.0; hidden.len()];
    let loss = model.head_loss(&hidden, &[own], &mut gradient);
    assert!(
        loss.kl[0].abs() < 1e-6 && gradient.iter().all(|g| g.abs() < 1e-5),
        "{loss:?}"
    );
}

#[test]
fn a_token_outside_the_vocabulary_is_refused_by_every_pass() {
    let model = load("llama");
    let batch = Batch::packed(&[[1, 2, 320]]);
    let expected = BatchError::Token {
        row: 2,
        token: 320,
        vocab: 320,
    };
    assert_eq!(model.forward_eval(None, &batch).err(), Some(expected.clone()));
    assert_eq!(
        model.forward_train(None, &batch, &StepOptions::default()).err(),
        Some(expected)
    );
}
