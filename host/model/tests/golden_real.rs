//! The real base against the numbers of the reference implementation; needs the GGUF file that they were computed from.

#![expect(clippy::unwrap_used, reason = "helpers of tests; clippy excuses the tests alone")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use dlm_kernels::{Compute, Ctx, Simd};
use dlm_model::config::config_from_gguf;
use dlm_model::gguf::{GgufFile, GgufWeights};
use dlm_model::{LoadOptions, Model, Prepare, Session, TextModel, WeightStorage, prefill_batch, step_batch};
use dlm_testkit::golden::{CaseResult, run_real_cases};

#[test]
#[ignore = "needs the real base: DLM_TEST_BASE"]
fn the_real_base_computes_the_golden_numbers() {
    let base = std::env::var_os("DLM_TEST_BASE")
        .map(PathBuf::from)
        .expect("DLM_TEST_BASE names the real base");
    let golden = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden");
    let results = run_real_cases(&golden, &base, Ctx::new(2, Simd::detect())).unwrap();
    for result in &results {
        println!("{} {:.2e} of {:.0e}", result.name, result.deviation, result.tolerance);
    }
    assert!(results.len() >= 40, "only {} numbers were compared", results.len());
    let missed: Vec<&CaseResult> = results.iter().filter(|result| !result.pass).collect();
    assert!(missed.is_empty(), "{missed:#?}");
}

/// What a quantized model in the given form says after a prompt and two more tokens, alone and in a batch of six.
fn alone_and_batched(base: &Path, prepare: Prepare) -> (Vec<f32>, Vec<f32>) {
    let file = GgufFile::open(base).unwrap();
    let config = config_from_gguf(&file).unwrap();
    let source = GgufWeights::new(Arc::new(file)).unwrap();
    let options = LoadOptions {
        ctx: Ctx::new(2, Simd::detect()),
        compute: Compute::F32,
        storage: WeightStorage::AsStored,
        prepare,
    };
    let model = Model::load(config, &source, options).unwrap();
    let prompt = [504, 3575, 282, 4649, 314];
    let mut alone = Session::new(&model, None, 16);
    alone.prefill(&prompt).unwrap();
    alone.step(7042).unwrap();
    let one = alone.step(30).unwrap().to_vec();
    let mut sessions: Vec<Session<'_>> = (0..6).map(|_| alone.sibling(16)).collect();
    let mut refs: Vec<&mut Session<'_>> = sessions.iter_mut().collect();
    let mut logits = Vec::new();
    prefill_batch(&mut refs, &[prompt; 6], &mut logits).unwrap();
    step_batch(&mut refs, &[7042; 6], &mut logits).unwrap();
    step_batch(&mut refs, &[30; 6], &mut logits).unwrap();
    (one, logits[..model.config.vocab].to_vec())
}

#[test]
#[ignore = "needs the real base: DLM_TEST_BASE"]
fn a_quantized_model_prepared_for_training_says_the_same_alone_and_in_a_batch() {
    let base = std::env::var_os("DLM_TEST_BASE")
        .map(PathBuf::from)
        .expect("DLM_TEST_BASE names the real base");
    let largest = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    let (alone, batched) = alone_and_batched(&base, Prepare::Both);
    assert!(
        largest(&alone, &batched) < 2e-3,
        "same products, attention in another order"
    );
    // Integers with inputs rounded to eight bits: near, but not equal.
    let (rounded, _) = alone_and_batched(&base, Prepare::Decode);
    let distance = largest(&alone, &rounded);
    assert!(distance > 1e-3 && distance < 1.5, "{distance}");
}

/// Greedy, after bos: llama.cpp says the same of the same file.
#[test]
#[ignore = "needs the real Gemma-3 270M: DLM_TEST_GEMMA"]
fn the_real_gemma_goes_on_as_it_does_in_llama_cpp() {
    let path = std::env::var_os("DLM_TEST_GEMMA")
        .map(PathBuf::from)
        .expect("DLM_TEST_GEMMA names gemma-3-270m-q4_k_m.gguf");
    let file = Arc::new(GgufFile::open(&path).unwrap());
    let text = TextModel::from_gguf(&file, None).unwrap();
    let source = GgufWeights::new(Arc::clone(&file)).unwrap();
    let options = LoadOptions::exact(Ctx::new(2, Simd::detect()));
    let model = Model::load(config_from_gguf(&file).unwrap(), &source, options).unwrap();
    let best = |logits: &[f32]| {
        (0..logits.len())
            .max_by(|a, b| logits[*a].total_cmp(&logits[*b]))
            .unwrap() as u32
    };
    let mut session = Session::new(&model, None, 32);
    let mut next = best(
        session
            .prefill(&text.plain_ids("The capital of France is").unwrap())
            .unwrap(),
    );
    let mut answer = Vec::new();
    for _ in 0..8 {
        answer.push(next);
        next = best(session.step(next).unwrap());
    }
    let answer = text.tokenizer.decode(&answer).unwrap();
    assert_eq!(answer.trim_start(), "the capital of the country of France.");
}
