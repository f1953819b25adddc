//! Answers and scores side by side: what is asked beside them changes no bit, and scores are those of whole sequences.

#![expect(clippy::unwrap_used, reason = "helpers of tests; clippy excuses the tests alone")]

#[path = "many/scores.rs"]
mod scores;

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use dlm_core::Cancel;
use dlm_core::hardware::SimdLevel;
use dlm_core::training::Precision;
use dlm_kernels::quant::{GgmlType, quantize_row};
use dlm_kernels::{Compute, Ctx, Simd};
use dlm_model::chat::{Message, Thinking};
use dlm_model::config::json::parse_config;
use dlm_model::generate::{
    GenerateError, GenerateJob, GenerateOptions, Generation, ManyOptions, Sequence, StopReason, Watch, generate,
    generate_many,
};
use dlm_model::safetensors_dir::SafetensorsDir;
use dlm_model::text::{Stops, TextModel};
use dlm_model::weights::{RawTensor, WeightError, WeightSource};
use dlm_model::{
    Adapter, AdapterKind, Cpu, CpuEngine, CpuOptions, Engine, LoadOptions, Model, PrecisionPaths, Prepare, Reader,
    ReaderOptions, Sampling, ScoreJob, Session, WeightStorage, open_base, read_batch, score_many, step_batch,
};
use dlm_testkit::architectures::{ALL, dir};
use dlm_testkit::tiny;

/// The matrices of a directory in a block type.
struct Quantized(SafetensorsDir, GgmlType);

impl WeightSource for Quantized {
    fn tensor(&self, name: &str) -> Result<RawTensor<'_>, WeightError> {
        let raw = self.0.tensor(name)?;
        let [_, k] = raw.shape[..] else { return Ok(raw) };
        if raw.dtype != GgmlType::F32 || k % 32 != 0 {
            return Ok(raw);
        }
        let values: Vec<f32> = raw
            .bytes
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
            .collect();
        let mut bytes = Vec::new();
        for row in values.chunks_exact(k) {
            let mut out = vec![0; self.1.row_bytes(k).unwrap()];
            quantize_row(self.1, row, None, &mut out).unwrap();
            bytes.extend(out);
        }
        Ok(RawTensor {
            dtype: self.1,
            shape: raw.shape,
            bytes: Cow::Owned(bytes),
        })
    }

    fn names(&self) -> Vec<String> {
        self.0.names()
    }

    fn has(&self, name: &str) -> bool {
        self.0.has(name)
    }
}

fn load(name: &str, quantized: Option<GgmlType>, threads: usize) -> CpuEngine {
    load_as(name, quantized, threads, (WeightStorage::AsStored, Prepare::Decode))
}

fn load_as(
    name: &str,
    quantized: Option<GgmlType>,
    threads: usize,
    (storage, prepare): (WeightStorage, Prepare),
) -> CpuEngine {
    let config = parse_config(&std::fs::read(dir(name).join("config.json")).unwrap()).unwrap();
    let options = LoadOptions {
        ctx: Ctx::new(threads, Simd::detect()),
        compute: Compute::F32,
        storage,
        prepare,
    };
    let source = SafetensorsDir::open(&dir(name)).unwrap();
    CpuEngine::new(match quantized {
        None => Model::load(config, &source, options).unwrap(),
        Some(ty) => Model::load(config, &Quantized(source, ty), options).unwrap(),
    })
}

fn adapter(model: &Model, kind: AdapterKind) -> Adapter {
    tiny::adapter(model, kind, 0.0)
}

fn ids(seed: u32, len: u32) -> Vec<u32> {
    (0..len).map(|i| 20 + (i * i * 31 + i * seed + seed) % 290).collect()
}

fn text() -> TextModel {
    TextModel::from_dir(&dir("tokenizer"), None).unwrap()
}

fn job(prompt: Vec<u32>, temperature: f32, seed: u64, tokens_max: usize) -> GenerateJob {
    GenerateJob {
        prompt,
        options: GenerateOptions {
            sampling: Sampling {
                temperature,
                top_p: (seed.is_multiple_of(2)).then_some(0.9),
                top_k: (seed.is_multiple_of(3)).then_some(40),
                repetition_penalty: None,
                seed,
            },
            tokens_max,
            stops: Stops::default(),
            cancel: Cancel::new(),
        },
    }
}

/// Different prompts, equal ones, one of a single token, one over LongRope's border, a greedy one.
fn jobs() -> Vec<GenerateJob> {
    vec![
        job(ids(3, 9), 1.5, 11, 12),
        job(ids(8, 27), 1.5, 12, 20),
        job(vec![25], 1.5, 13, 7),
        job(ids(3, 9), 1.5, 14, 3),
        job(ids(5, 4), 0.0, 15, 9),
        job(ids(3, 9), 1.5, 11, 12),
    ]
}

fn options() -> ManyOptions<'static> {
    ManyOptions {
        context_max: 64,
        cache_bytes_max: 1 << 30,
        watch: Watch::default(),
    }
}

fn reader<'a>(
    engine: &'a CpuEngine,
    adapter: Option<&'a Adapter>,
    precision_paths: PrecisionPaths,
) -> Box<dyn Reader + 'a> {
    engine
        .reader(
            adapter,
            ReaderOptions {
                precision_paths,
                ..ReaderOptions::default()
            },
        )
        .unwrap()
}

fn streamed(engine: &CpuEngine) -> Box<dyn Reader + '_> {
    reader(engine, None, PrecisionPaths::STREAMED)
}

fn packed<'a>(engine: &'a CpuEngine, adapter: Option<&'a Adapter>) -> Box<dyn Reader + 'a> {
    reader(engine, adapter, PrecisionPaths::PACKED)
}

fn write(
    engine: &CpuEngine,
    adapter: Option<&Adapter>,
    jobs: &[GenerateJob],
    precision_paths: PrecisionPaths,
) -> Vec<Generation> {
    let mut reader = reader(engine, adapter, precision_paths);
    generate_many(&mut *reader, &text().tokenizer, jobs, &options()).unwrap()
}

#[track_caller]
fn check_alone(
    engine: &CpuEngine,
    adapter: Option<&Adapter>,
    precision_paths: PrecisionPaths,
    what: &str,
) -> Vec<Generation> {
    let jobs = jobs();
    let together = write(engine, adapter, &jobs, precision_paths);
    for (index, (job, answer)) in jobs.iter().zip(&together).enumerate() {
        let alone = write(engine, adapter, std::slice::from_ref(job), precision_paths);
        assert_eq!(&alone[0], answer, "{what}: job {index}");
        assert!(answer.tokens.len() <= job.options.tokens_max);
    }
    assert_eq!(together[0], together[5], "{what}: one seed, one text");
    together
}

#[test]
fn an_answer_is_the_same_alone_and_in_any_batch() {
    for name in ALL {
        let engine = load(name, None, 2);
        for kind in [None, Some(AdapterKind::Lora), Some(AdapterKind::Dora)] {
            let adapter = kind.map(|kind| adapter(engine.model(), kind));
            for precision_paths in [PrecisionPaths::STREAMED, PrecisionPaths::PACKED] {
                check_alone(
                    &engine,
                    adapter.as_ref(),
                    precision_paths,
                    &format!("{name} {kind:?} {precision_paths:?}"),
                );
            }
        }
    }
}

/// Where memory is short, exact answers come from weights that are decoded at every pass.
#[test]
fn weights_that_are_decoded_on_the_way_say_what_decoded_ones_say() {
    for ty in [GgmlType::Q8_0, GgmlType::Q4_1, GgmlType::Q5_0, GgmlType::IQ4_NL] {
        for name in ["llama", "mixtral", "gemma2"] {
            let said = |storage: WeightStorage| {
                let engine = load_as(name, Some(ty), 2, (storage, Prepare::Nothing));
                assert_eq!(engine.facts().is_quantized, storage == WeightStorage::AsStored);
                let adapter = adapter(engine.model(), AdapterKind::Lora);
                let mut reader = engine.reader(Some(&adapter), ReaderOptions::default()).unwrap();
                let id = reader.open(64).unwrap();
                let (mut logits, mut all) = (Vec::new(), Vec::new());
                // Many rows, few, and one at a time.
                for tokens in [ids(3, 23), ids(8, 3), ids(5, 1)] {
                    reader.read(&[id], &[&tokens], &mut logits).unwrap();
                    all.extend_from_slice(&logits);
                }
                for token in ids(7, 4) {
                    reader.step(&[id], &[token], &mut logits).unwrap();
                    all.extend_from_slice(&logits);
                }
                all
            };
            assert!(
                said(WeightStorage::AsStored) == said(WeightStorage::Dequantized),
                "{name} {ty:?}"
            );
        }
    }
}

#[test]
fn quantized_weights_and_threads_change_nothing_of_that() {
    for ty in [GgmlType::Q8_0, GgmlType::Q4_1] {
        let mut found = Vec::new();
        for threads in [1, 2, 3] {
            let engine = load("llama", Some(ty), threads);
            assert!(engine.facts().is_quantized);
            let adapter = adapter(engine.model(), AdapterKind::Lora);
            for precision_paths in [PrecisionPaths::STREAMED, PrecisionPaths::PACKED] {
                found.push(check_alone(
                    &engine,
                    Some(&adapter),
                    precision_paths,
                    &format!("{ty} {precision_paths:?}"),
                ));
            }
        }
        assert!(found.chunks(2).all(|pair| pair == &found[..2]), "{ty}: threads");
    }
}

/// Logits after a prompt and three steps of each of six sessions, together or one after the other.
fn logits_of_six(
    model: &Model,
    adapter: Option<&Adapter>,
    precision_paths: PrecisionPaths,
    is_together: bool,
) -> Vec<Vec<f32>> {
    let prompts: Vec<Vec<u32>> = (0..6).map(|i| ids(i, 1 + 7 * i)).collect();
    let mut all: Vec<Session<'_>> = prompts
        .iter()
        .map(|_| Session::on_precision_paths(model, adapter, 64, precision_paths))
        .collect();
    let mut out = Vec::new();
    let mut logits = Vec::new();
    let mut groups: Vec<Vec<&mut Session<'_>>> = match is_together {
        true => vec![all.iter_mut().collect()],
        false => all.iter_mut().map(|session| vec![session]).collect(),
    };
    for turn in 0..4 {
        let mut row = Vec::new();
        let mut first = 0;
        for group in &mut groups {
            let (end, tokens) = (first + group.len(), vec![30 + turn; group.len()]);
            match turn {
                0 => read_batch(group, &prompts[first..end], &mut logits).unwrap(),
                _ => step_batch(group, &tokens, &mut logits).unwrap(),
            }
            row.extend_from_slice(&logits);
            first = end;
        }
        out.push(row);
    }
    out
}

#[test]
fn every_logit_has_the_same_bits_alone_and_in_a_batch() {
    let mut by_rows_differs = false;
    for (name, ty) in ALL
        .map(|name| (name, None))
        .into_iter()
        .chain([("llama", Some(GgmlType::Q4_0))])
    {
        let engine = load(name, ty, 2);
        for kind in [None, Some(AdapterKind::Lora), Some(AdapterKind::Dora)] {
            let adapter = kind.map(|kind| adapter(engine.model(), kind));
            for precision_paths in [PrecisionPaths::STREAMED, PrecisionPaths::PACKED] {
                let both = [true, false]
                    .map(|together| logits_of_six(engine.model(), adapter.as_ref(), precision_paths, together));
                assert!(both[0] == both[1], "{name} {ty:?} {kind:?} {precision_paths:?}");
            }
            let both =
                [true, false].map(|it| logits_of_six(engine.model(), adapter.as_ref(), PrecisionPaths::default(), it));
            by_rows_differs |= both[0] != both[1];
        }
    }
    assert!(
        by_rows_differs,
        "without fixed precision paths the number of rows shows, or this test sees nothing"
    );
}

/// The same on a real quantized base, whose rows are no multiple of the kernels' widths; needs its file.
#[test]
#[ignore = "needs the real base: DLM_TEST_BASE"]
fn a_real_base_answers_and_scores_the_same_in_every_batch() {
    let path = std::env::var_os("DLM_TEST_BASE")
        .map(PathBuf::from)
        .expect("DLM_TEST_BASE names the real base");
    let base = open_base(&path).unwrap();
    for prepare in [Prepare::Decode, Prepare::Inference] {
        let loading = CpuOptions {
            precision: Precision::Fp32,
            storage: WeightStorage::AsStored,
            prepare,
        };
        let engine = CpuEngine::load(&Cpu::new(2, SimdLevel::Amx), &base, &loading).unwrap();
        let ask = |text: &str| {
            base.text()
                .prompt_ids(&[Message::user(text)], Thinking::default())
                .unwrap()
        };
        let prompts = [
            "Name a river.",
            "What is a ferry?",
            "Name a river.",
            "Count to three.",
            "Say no.",
        ]
        .map(ask);
        let jobs: Vec<GenerateJob> = (0..5).map(|i| job(prompts[i].clone(), 0.9, i as u64, 10)).collect();
        let write = |jobs: &[GenerateJob]| {
            let options = ManyOptions {
                context_max: 2048,
                ..options()
            };
            generate_many(&mut *streamed(&engine), &base.text().tokenizer, jobs, &options).unwrap()
        };
        let scored: Vec<ScoreJob> = jobs
            .iter()
            .map(|job| ScoreJob {
                prompt: job.prompt.clone(),
                completion: base.text().tokenizer.encode("The Thames crosses London.").unwrap(),
            })
            .collect();
        let score = |jobs: &[ScoreJob]| score_many(&mut *packed(&engine, None), jobs, 2048, &Cancel::new()).unwrap();
        let (answers, scores) = (write(&jobs), score(&scored));
        for at in 0..5 {
            assert_eq!(write(&jobs[at..=at])[0], answers[at], "{prepare:?} answer {at}");
            assert_eq!(score(&scored[at..=at])[0], scores[at], "{prepare:?} score {at}");
        }
        println!("{:?}", answers.iter().map(|answer| &answer.text).collect::<Vec<_>>());
    }
}

/// More jobs than live at once: those that wait take the places of those that end.
#[test]
fn more_answers_than_places() {
    let engine = load("qwen3", None, 2);
    let jobs: Vec<GenerateJob> = (0..40)
        .map(|i| job(ids(i / 3, 5 + i % 7), 1.2, u64::from(i), 1 + i as usize % 11))
        .collect();
    let together = write(&engine, None, &jobs, PrecisionPaths::STREAMED);
    assert_eq!(together.len(), jobs.len());
    for (job, answer) in jobs.iter().zip(&together) {
        assert_eq!(
            &write(&engine, None, std::slice::from_ref(job), PrecisionPaths::STREAMED)[0],
            answer
        );
        assert_eq!(answer.tokens.len(), job.options.tokens_max);
        assert_eq!(answer.prompt_tokens, job.prompt.len());
    }
}

/// Prompts that begin alike read their beginning once; caches that may be small make the others wait.
#[test]
fn what_prompts_share_and_how_many_fit_changes_nothing() {
    for name in ["llama", "gemma2", "phi4-longrope", "mistral"] {
        let engine = load(name, None, 2);
        let begin = ids(3, 19);
        let jobs: Vec<GenerateJob> = (0..24)
            .map(|i| {
                let tail = if i == 20 { Vec::new() } else { ids(40 + i, 1 + i % 13) };
                let own = if i == 21 { ids(77, 20) } else { begin.clone() };
                job([own, tail].concat(), 1.2, u64::from(i), 1 + i as usize % 9)
            })
            .collect();
        let alone: Vec<Generation> = jobs
            .iter()
            .map(|job| write(&engine, None, std::slice::from_ref(job), PrecisionPaths::STREAMED).remove(0))
            .collect();
        let per_position = 8 * (engine.model().config.n_layers * engine.model().config.kv_width()) as u64;
        for positions in [0, 1, 64, 100, 1000, 10_000] {
            let options = ManyOptions {
                cache_bytes_max: positions * per_position,
                watch: Watch::default(),
                ..options()
            };
            let together = generate_many(&mut *streamed(&engine), &text().tokenizer, &jobs, &options).unwrap();
            assert!(together == alone, "{name}: {positions} positions");
        }
    }
}

/// Whoever counts the tokens ends the work, and hears of every one.
#[test]
fn no_token_is_chosen_beyond_the_allowance() {
    let engine = load("llama", None, 2);
    let jobs = jobs();
    let chosen = AtomicUsize::new(0);
    let unbounded = ManyOptions {
        watch: Watch {
            goes_on: &|tokens| {
                chosen.fetch_add(tokens, Ordering::SeqCst);
                true
            },
            ..Watch::default()
        },
        ..options()
    };
    let answers = generate_many(&mut *streamed(&engine), &text().tokenizer, &jobs, &unbounded).unwrap();
    let all = chosen.swap(0, Ordering::SeqCst);
    let written: usize = answers.iter().map(|answer| answer.tokens.len()).sum();
    assert!(
        (written..=written + jobs.len()).contains(&all),
        "{all} were heard of, {written} are there"
    );
    let most = all - 1;
    let bounded = ManyOptions {
        watch: Watch {
            goes_on: &|tokens| chosen.fetch_add(tokens, Ordering::SeqCst) + tokens <= most,
            ..Watch::default()
        },
        ..options()
    };
    let mut reader = streamed(&engine);
    let refused = generate_many(&mut *reader, &text().tokenizer, &jobs, &bounded);
    assert!(matches!(refused, Err(GenerateError::Refused)), "{refused:?}");
    assert_eq!(chosen.load(Ordering::SeqCst), all);
}

/// A reader that was used is as good as new: no answer, no refusal and no flag leaves a session open.
#[test]
fn no_session_stays_open() {
    let engine = load("llama", None, 2);
    let mut reader = streamed(&engine);
    let first = reader.open(1).unwrap();
    reader.close(first);
    let shared: Vec<GenerateJob> = (0..4)
        .map(|i| job([ids(3, 19), ids(40 + i, 3)].concat(), 1.2, 1, 5))
        .collect();
    let outside = job(vec![25, 9999], 1.2, 1, 5);
    let tokenizer = text().tokenizer;
    generate_many(&mut *reader, &tokenizer, &shared, &options()).unwrap();
    generate_many(&mut *reader, &tokenizer, &[shared[0].clone(), outside], &options()).unwrap_err();
    Sequence::open(&mut *reader, 8).unwrap();
    assert_eq!(reader.open(1).unwrap(), first);
}

/// The batched loop and the loop for one sequence say the same on a session of the same precision paths, which may be a
/// reader's.
#[test]
fn the_loop_for_many_is_the_loop_for_one() {
    let engine = load("gemma2", None, 2);
    let text = text();
    for job in jobs() {
        let mut session = Session::on_precision_paths(engine.model(), None, 64, PrecisionPaths::STREAMED);
        let one = generate(&mut session, &text.tokenizer, &job.prompt, &job.options, |_| {}).unwrap();
        let mut reader = streamed(&engine);
        let mut sequence = Sequence::open(&mut *reader, 64).unwrap();
        let read = generate(&mut sequence, &text.tokenizer, &job.prompt, &job.options, |_| {}).unwrap();
        assert_eq!(read, one);
        assert_eq!(write(&engine, None, &[job], PrecisionPaths::STREAMED)[0], one);
    }
}

#[test]
fn what_does_not_fit_is_refused_and_a_flag_ends_all() {
    let engine = load("llama", None, 1);
    let text = text();
    let run = |jobs: &[GenerateJob]| generate_many(&mut *streamed(&engine), &text.tokenizer, jobs, &options());
    let error = run(&[job(ids(1, 60), 1.0, 1, 5)]).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("60 tokens and an answer of up to 5 do not fit a context of 64"),
        "{error}"
    );
    assert!(matches!(
        run(&[job(Vec::new(), 1.0, 1, 5)]),
        Err(GenerateError::EmptyPrompt)
    ));
    let cancelled = job(ids(1, 6), 1.0, 1, 50);
    cancelled.options.cancel.cancel();
    let answers = run(&[job(ids(2, 6), 1.0, 1, 50), cancelled]).unwrap();
    assert!(answers.iter().all(|answer| answer.reason == StopReason::Cancelled));
    assert!(run(&[]).unwrap().is_empty());
}

/// Prompts read in pieces beside others, onto what a session holds, give the bits of one reading.
#[test]
fn reading_in_pieces_changes_no_bit() {
    for name in ["llama", "gemma2", "phi4-longrope", "mistral"] {
        let engine = load(name, None, 2);
        let new = || Session::on_precision_paths(engine.model(), None, 1300, PrecisionPaths::STREAMED);
        let (long, short) = (ids(7, 1100), ids(9, 21));
        let mut whole = new();
        let expected = whole.prefill(&long).unwrap().to_vec();
        let mut alone = new();
        let expected_short = alone.prefill(&short).unwrap().to_vec();
        let (mut a, mut b, mut c) = (new(), new(), new());
        let mut logits = Vec::new();
        let sessions = &mut [&mut a, &mut b, &mut c];
        read_batch(sessions, &[&short[..], &long[..], &long[..700]], &mut logits).unwrap();
        let vocab = engine.model().config.vocab;
        assert!(logits[..vocab] == expected_short, "{name}: short");
        assert!(logits[vocab..2 * vocab] == expected, "{name}: long");
        read_batch(&mut [&mut c], &[&long[700..]], &mut logits).unwrap();
        assert!(logits == expected, "{name}: continued");
        let mut fork = a.fork(40).unwrap();
        assert!(
            fork.step(30).unwrap() == alone.step(30).unwrap(),
            "{name}: a step after each"
        );
    }
}
