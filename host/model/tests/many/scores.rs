//! Scores of given continuations and the likeliest next tokens: those of whole sequences, whatever is asked beside them.

use dlm_core::Cancel;
use dlm_kernels::quant::GgmlType;
use dlm_model::safetensors_dir::SafetensorsDir;
use dlm_model::{Adapter, AdapterKind, Batch, LoadOptions, Model, ScoreError, ScoreJob, next_many, score_many};
use dlm_testkit::architectures::{ALL, dir};

use super::{Quantized, adapter, ids, load, packed};

/// `log p` of every completion token from one pass over the whole sequence and its full logits, in f64.
fn brute_force(model: &Model, adapter: Option<&Adapter>, job: &ScoreJob) -> Vec<f64> {
    let all = [&job.prompt[..], &job.completion].concat();
    let read = &all[..all.len() - 1];
    let forward = model.forward_eval(adapter, &Batch::packed(&[read])).unwrap();
    let logits = model.logits(forward.hidden());
    let rows = logits.chunks_exact(model.config.vocab).skip(job.prompt.len() - 1);
    rows.zip(&job.completion)
        .map(|(row, token)| {
            let top = row.iter().copied().fold(f32::MIN, f32::max);
            let total: f64 = row.iter().map(|z| f64::from(z - top).exp()).sum();
            f64::from(row[*token as usize] - top) - total.ln()
        })
        .collect()
}

fn score_jobs() -> Vec<ScoreJob> {
    let job = |prompt: Vec<u32>, completion: Vec<u32>| ScoreJob { prompt, completion };
    vec![
        job(ids(3, 9), ids(4, 12)),
        job(ids(8, 25), ids(2, 14)),
        job(ids(3, 9), vec![77]),
        job(vec![25], ids(6, 3)),
        job(ids(8, 25), ids(2, 3)),
        job(ids(3, 9), ids(4, 12)),
    ]
}

#[test]
fn scores_are_those_of_whole_sequences_and_do_not_depend_on_the_batch() {
    let cancel = Cancel::new();
    for name in ALL {
        let engine = load(name, None, 2);
        for kind in [None, Some(AdapterKind::Lora), Some(AdapterKind::Dora)] {
            let adapter = kind.map(|kind| adapter(engine.model(), kind));
            let score =
                |jobs: &[ScoreJob]| score_many(&mut *packed(&engine, adapter.as_ref()), jobs, 512, &cancel).unwrap();
            let jobs = score_jobs();
            let found = score(&jobs);
            for (index, (job, found)) in jobs.iter().zip(&found).enumerate() {
                assert_eq!(
                    &score(std::slice::from_ref(job))[0],
                    found,
                    "{name} {kind:?} job {index}: bits"
                );
                let expected = brute_force(engine.model(), adapter.as_ref(), job);
                assert_eq!(found.len(), expected.len());
                for (found, expected) in found.iter().zip(&expected) {
                    let distance = (f64::from(*found) - expected).abs();
                    assert!(distance < 1e-4, "{name} {kind:?} job {index}: {found} for {expected}");
                }
            }
            if kind.is_some() {
                let base = score_many(&mut *packed(&engine, None), &jobs, 512, &cancel).unwrap();
                assert_ne!(base, found, "{name}: the adapter changes scores");
            }
        }
    }
}

/// Passes hold a limited number of rows; long prompts with many completions take several.
#[test]
fn many_long_completions_take_several_passes() {
    let engine = load("llama", None, 2);
    let prompt = ids(3, 200);
    let jobs: Vec<ScoreJob> = (0..13)
        .map(|i| ScoreJob {
            prompt: if i < 11 { prompt.clone() } else { ids(i, 30) },
            completion: ids(40 + i, 210 + i),
        })
        .collect();
    let cancel = Cancel::new();
    let found = score_many(&mut *packed(&engine, None), &jobs, 512, &cancel).unwrap();
    for index in [0, 7, 10, 12] {
        let alone = score_many(&mut *packed(&engine, None), &jobs[index..=index], 512, &cancel).unwrap();
        assert_eq!(alone[0], found[index]);
    }
    cancel.cancel();
    assert_eq!(
        score_many(&mut *packed(&engine, None), &jobs, 512, &cancel),
        Err(ScoreError::Cancelled)
    );
}

#[test]
fn quantized_weights_are_scored_exactly() {
    let engine = load("llama", Some(GgmlType::Q4_1), 2);
    let jobs = score_jobs();
    let found = score_many(&mut *packed(&engine, None), &jobs, 512, &Cancel::new()).unwrap();
    // The same weights, widened on loading: no activation is rounded on the way.
    let config = engine.model().config.clone();
    let source = Quantized(SafetensorsDir::open(&dir("llama")).unwrap(), GgmlType::Q4_1);
    let exact = Model::load(config, &source, LoadOptions::exact(engine.model().ctx.clone())).unwrap();
    for (job, found) in jobs.iter().zip(&found) {
        for (found, expected) in found.iter().zip(brute_force(&exact, None, job)) {
            assert!((f64::from(*found) - expected).abs() < 1e-4);
        }
    }
}

#[test]
fn scores_that_cannot_be_are_refused() {
    let engine = load("llama", None, 1);
    let run = |prompt: Vec<u32>, completion: Vec<u32>| {
        let jobs = [ScoreJob { prompt, completion }];
        score_many(&mut *packed(&engine, None), &jobs, 32, &Cancel::new()).unwrap_err()
    };
    assert_eq!(run(vec![], vec![20]), ScoreError::EmptyPrompt);
    assert_eq!(run(vec![20], vec![]), ScoreError::EmptyCompletion);
    let long = run(ids(1, 30), ids(2, 3)).to_string();
    assert!(
        long.contains("30 tokens and a completion of 3 do not fit a context of 32"),
        "{long}"
    );
    for (prompt, completion) in [
        (vec![9999], vec![20]),
        (vec![20], vec![9999]),
        (vec![20], vec![9999, 20]),
    ] {
        let error = run(prompt, completion).to_string();
        assert!(error.contains("9999") && error.contains("320"), "{error}");
    }
}

#[test]
fn the_next_tokens_are_sorted_and_agree_with_scores() {
    let cancel = Cancel::new();
    for name in ["llama", "gemma2", "mixtral"] {
        let engine = load(name, None, 2);
        let prompts = [(ids(3, 9), 5), (ids(8, 25), 320), (vec![25], 1)];
        let found = next_many(&mut *packed(&engine, None), &prompts, 512, &cancel).unwrap();
        for ((prompt, top), list) in prompts.iter().zip(&found) {
            assert_eq!(list.len(), *top);
            assert!(
                list.windows(2).all(|pair| pair[0].1 >= pair[1].1),
                "{name}: likeliest first"
            );
            let jobs: Vec<ScoreJob> = list
                .iter()
                .map(|(id, _)| ScoreJob {
                    prompt: prompt.clone(),
                    completion: vec![*id],
                })
                .collect();
            let scores = score_many(&mut *packed(&engine, None), &jobs, 512, &cancel).unwrap();
            for ((_, found), score) in list.iter().zip(scores) {
                assert!((found - score[0]).abs() < 1e-4, "{name}: {found} and {score:?}");
            }
            assert_eq!(
                next_many(&mut *packed(&engine, None), &[(prompt.clone(), *top)], 512, &cancel).unwrap()[0],
                *list
            );
        }
        let total: f64 = found[1].iter().map(|(_, logprob)| f64::from(*logprob).exp()).sum();
        assert!(
            (total - 1.0).abs() < 1e-4,
            "{name}: probabilities of all tokens sum to {total}"
        );
    }
}
