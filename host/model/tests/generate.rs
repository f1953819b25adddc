//! The loop that generates, on a scripted model and on the tiny golden ones.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::path::{Path, PathBuf};

use dlm_core::Cancel;
use dlm_kernels::{Ctx, Simd};
use dlm_model::generate::{GenerateError, GenerateOptions, NextToken, Step, StopReason, generate};
use dlm_model::text::{Stops, TextModel};
use dlm_model::{LoadOptions, Sampling, Session, open_base};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/golden/arch")
        .join(name)
}

/// Says one token after the other, whatever it is fed.
struct Script {
    tokens: Vec<u32>,
    next: usize,
    logits: Vec<f32>,
    context: usize,
    fed: usize,
}

impl Script {
    fn new(tokens: Vec<u32>) -> Self {
        Self {
            tokens,
            next: 0,
            logits: vec![0.0; 320],
            context: 1000,
            fed: 0,
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the script is over")]
struct Over;

impl NextToken for Script {
    type Error = Over;

    fn feed(&mut self, tokens: &[u32]) -> Result<&[f32], Over> {
        self.fed += tokens.len();
        let token = *self.tokens.get(self.next).ok_or(Over)?;
        self.next += 1;
        self.logits.fill(0.0);
        self.logits[token as usize] = 1.0;
        Ok(&self.logits)
    }

    fn room(&self) -> usize {
        self.context - self.fed
    }
}

fn text() -> TextModel {
    TextModel::from_dir(&golden("tokenizer"), None).unwrap()
}

fn options(tokens_max: usize, stops: Stops) -> GenerateOptions {
    GenerateOptions {
        sampling: Sampling::greedy(),
        tokens_max,
        stops,
        cancel: Cancel::new(),
    }
}

fn stop_text(stop: &str) -> Stops {
    Stops {
        ids: Vec::new(),
        texts: vec![stop.to_owned()],
    }
}

/// Generates what the script says and checks that the pieces, joined, are the text.
fn run(said: &str, options: &GenerateOptions) -> (String, StopReason, usize) {
    let text = text();
    let mut script = Script::new(text.tokenizer.encode(said).unwrap());
    let mut pieces = String::new();
    let result = generate(&mut script, &text.tokenizer, &[1, 2], options, |step| match step {
        Step::PromptRead { tokens } => assert_eq!(tokens, 2),
        Step::Token { text, .. } | Step::Rest { text } => pieces.push_str(text),
    })
    .unwrap();
    assert_eq!(pieces, result.text);
    (result.text, result.reason, result.tokens.len())
}

#[test]
fn a_stop_token_ends_it_and_is_not_shown() {
    let stops = text().stops;
    assert_eq!(stops.ids, [0, 1, 2]);
    let (shown, reason, tokens) = run("The 日本 river.<|im_end|>more", &options(50, stops));
    assert_eq!((shown.as_str(), reason), ("The 日本 river.", StopReason::Eos));
    assert_eq!(tokens, text().tokenizer.encode("The 日本 river.").unwrap().len());
}

#[test]
fn a_stop_text_ends_it_and_is_cut() {
    let (shown, reason, _) = run("one STAR two STOP three", &options(50, stop_text("STOP")));
    assert_eq!((shown.as_str(), reason), ("one STAR two ", StopReason::Stop));
}

#[test]
fn text_that_waited_is_given_at_the_end() {
    let count = text().tokenizer.encode("one STO").unwrap().len();
    let (shown, reason, tokens) = run("one STOP", &options(count, stop_text("STOP!")));
    assert_eq!((shown.as_str(), reason, tokens), ("one STO", StopReason::Length, count));
}

#[test]
fn a_cut_character_is_marked() {
    let ids = text().tokenizer.encode("日").unwrap();
    assert!(ids.len() > 1);
    let (shown, reason, _) = run("日", &options(ids.len() - 1, Stops::default()));
    assert_eq!((shown.as_str(), reason), ("\u{FFFD}", StopReason::Length));
}

#[test]
fn a_raised_flag_keeps_what_is_there() {
    let text = text();
    let options = options(50, Stops::default());
    let mut script = Script::new(text.tokenizer.encode("one two three").unwrap());
    let cancel = options.cancel.clone();
    let mut seen = 0;
    let result = generate(&mut script, &text.tokenizer, &[1], &options, |step| {
        if let Step::Token { .. } = step {
            seen += 1;
            if seen == 3 {
                cancel.cancel();
            }
        }
    })
    .unwrap();
    assert_eq!((result.reason, result.tokens.len()), (StopReason::Cancelled, 3));
    assert_eq!(result.text, text.tokenizer.decode(&result.tokens).unwrap());
}

#[test]
fn what_cannot_work_is_refused_before_any_work() {
    let text = text();
    let mut script = Script::new(vec![20; 5]);
    let mut refusal = |prompt: &[u32], options: &GenerateOptions| {
        let error = generate(&mut script, &text.tokenizer, prompt, options, |_| {}).unwrap_err();
        assert_eq!(script.fed, 0);
        error
    };
    assert!(matches!(
        refusal(&[], &options(5, Stops::default())),
        GenerateError::EmptyPrompt
    ));
    let error = refusal(&[1; 996], &options(5, Stops::default()));
    assert!(
        error
            .to_string()
            .contains("996 tokens and an answer of up to 5 do not fit a context of 1000"),
        "{error}"
    );
    let mut bad = options(5, Stops::default());
    bad.sampling.temperature = -1.0;
    assert!(matches!(refusal(&[1], &bad), GenerateError::Sampling(_)));
    let mut script = Script::new(vec![20; 2]);
    let failing = generate(
        &mut script,
        &text.tokenizer,
        &[1],
        &options(5, Stops::default()),
        |_| {},
    );
    assert!(failing.unwrap_err().to_string().contains("the script is over"));
}

#[test]
fn tiny_models_continue_as_the_reference() {
    for arch in ["llama", "qwen3", "gemma2"] {
        let base = open_base(&golden(arch)).unwrap();
        let model = base.load(LoadOptions::exact(Ctx::new(1, Simd::detect()))).unwrap();
        let json = std::fs::read(golden(arch).join("golden.json")).unwrap();
        let golden: serde_json::Value = serde_json::from_slice(&json).unwrap();
        let ids = |value: &serde_json::Value| -> Vec<u32> { serde_json::from_value(value.clone()).unwrap() };
        let cases = golden["greedy"].as_array().unwrap();
        assert!(cases.len() >= 2);
        // The first two prompts are the rows of the batch, without their padding.
        for (case, row) in cases.iter().zip(golden["input_ids"].as_array().unwrap()) {
            let prompt_len = case["prompt_len"].as_u64().unwrap() as usize;
            let (prompt, expected) = (ids(row)[..prompt_len].to_vec(), ids(&case["tokens"]));
            let mut session = Session::new(&model, None, prompt.len() + expected.len());
            let options = options(expected.len(), Stops::default());
            let result = generate(&mut session, &base.text().tokenizer, &prompt, &options, |_| {}).unwrap();
            assert_eq!(result.tokens, expected, "{arch}");
        }
    }
}

#[test]
fn a_seed_repeats_an_answer() {
    let base = open_base(&golden("llama")).unwrap();
    let model = base.load(LoadOptions::exact(Ctx::new(1, Simd::detect()))).unwrap();
    let answer = |seed: u64, temperature: f32| {
        let mut session = Session::new(&model, None, 64);
        let mut options = options(24, Stops::default());
        options.sampling = Sampling {
            temperature,
            top_p: Some(0.95),
            top_k: Some(50),
            seed,
            ..Sampling::greedy()
        };
        generate(&mut session, &base.text().tokenizer, &[1, 30, 40], &options, |_| {})
            .unwrap()
            .tokens
    };
    assert_eq!(answer(5, 2.0), answer(5, 2.0));
    assert_ne!(answer(5, 2.0), answer(6, 2.0));
    assert_eq!(answer(5, 0.0), answer(6, 0.0));
}
