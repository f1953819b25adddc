//! Measures answers and scores side by side: tokens per second of 1 to 16 sequences, and milliseconds per scored pair.
//!
//! With one thread the figures are of processor time where the system tells it (Linux), which another program's load
//! disturbs little; with more threads they are of wall time and mean something on a quiet machine only.
//!
//! ```text
//! cargo run -p dlm-model --example many_bench -- <base.gguf> [threads]
//! ```

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measurement prints, and ends when it cannot go on"
)]

use std::path::PathBuf;
use std::time::Instant;

use dlm_core::Cancel;
use dlm_core::hardware::SimdLevel;
use dlm_core::training::Precision;
use dlm_core::units::size;
use dlm_model::chat::{Message, Thinking};
use dlm_model::generate::{GenerateJob, GenerateOptions, ManyOptions, Watch, generate_many};
use dlm_model::text::Stops;
use dlm_model::{
    Cpu, CpuEngine, CpuOptions, Engine, OpenedBase, PrecisionPaths, Prepare, ReaderOptions, Sampling, ScoreJob,
    WeightStorage, open_base, score_many,
};

/// New tokens per answer.
const TOKENS: usize = 32;
/// Runs of which the median is printed.
const RUNS: usize = 3;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let path = PathBuf::from(arguments.next().expect("the path of a base"));
    let threads = arguments.next().map_or(2, |text| text.parse().unwrap());
    let base = open_base(&path).unwrap();
    for prepare in [Prepare::Decode, Prepare::Inference] {
        let started = Instant::now();
        let cpu = Cpu::new(threads, SimdLevel::Amx);
        let options = CpuOptions {
            precision: Precision::Fp32,
            storage: WeightStorage::AsStored,
            prepare,
        };
        let engine = CpuEngine::load(&cpu, &base, &options).unwrap();
        let (stored, packed) = engine.model().weight_bytes();
        println!(
            "{prepare:?}: loaded in {:.1} s, weights {}, packed copies {}, {} threads, {}",
            started.elapsed().as_secs_f64(),
            size(stored as u64),
            size(packed as u64),
            threads,
            cpu.ctx().simd().name()
        );
        answers(&base, &engine, threads, prepare == Prepare::Inference);
        scores(&base, &engine, threads);
    }
}

/// Seconds that the main thread has computed.
fn processor_seconds() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/schedstat").ok()?;
    let nanoseconds: u64 = text.split_whitespace().next()?.parse().ok()?;
    Some(nanoseconds as f64 * 1e-9)
}

/// Median and spread of the seconds of some runs.
fn median(threads: usize, mut run: impl FnMut()) -> (f64, f64) {
    let mut seconds: Vec<f64> = (0..RUNS)
        .map(|_| {
            let started = (Instant::now(), processor_seconds());
            run();
            match (threads, started.1.zip(processor_seconds())) {
                (1, Some((before, after))) => after - before,
                _ => started.0.elapsed().as_secs_f64(),
            }
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    (seconds[RUNS / 2], seconds[RUNS - 1] - seconds[0])
}

fn question(base: &OpenedBase, text: &str) -> Vec<u32> {
    base.text()
        .prompt_ids(&[Message::user(text)], Thinking::default())
        .unwrap()
}

/// Without packed copies the packed precision path decodes all weights at every step; it is not measured then.
fn answers(base: &OpenedBase, engine: &CpuEngine, threads: usize, is_packed: bool) {
    let prompt = question(
        base,
        "Write about a ferry on a river, its crew and the weather of one long day.",
    );
    let all = [1, 4, 8, 16];
    let packed = if is_packed { &all[..] } else { &[] };
    for (name, precision_paths, counts) in [
        ("streamed", PrecisionPaths::STREAMED, &all[..]),
        ("packed", PrecisionPaths::PACKED, packed),
    ] {
        for &count in counts {
            let job = |seed| GenerateJob {
                prompt: prompt.clone(),
                options: GenerateOptions {
                    sampling: Sampling {
                        temperature: 0.7,
                        seed,
                        ..Sampling::greedy()
                    },
                    tokens_max: TOKENS,
                    // Nothing ends an answer early.
                    stops: Stops::default(),
                    cancel: Cancel::new(),
                },
            };
            let jobs: Vec<GenerateJob> = (0..count).map(job).collect();
            let options = ManyOptions {
                context_max: 2048,
                cache_bytes_max: 1 << 30,
                watch: Watch::default(),
            };
            let mut reader = engine
                .reader(
                    None,
                    ReaderOptions {
                        precision_paths,
                        ..ReaderOptions::default()
                    },
                )
                .unwrap();
            let (seconds, spread) = median(threads, || {
                generate_many(&mut *reader, &base.text().tokenizer, &jobs, &options).unwrap();
            });
            println!(
                "  {name}, {count} sequences of {} + {TOKENS} tokens: {:.0} tokens/s ({seconds:.3} s, spread {spread:.3})",
                prompt.len(),
                (count as usize * TOKENS) as f64 / seconds
            );
        }
    }
}

fn scores(base: &OpenedBase, engine: &CpuEngine, threads: usize) {
    let answer = "The ferry leaves the north quay at eight, crosses in eleven minutes and waits for the post before it \
                  returns; in fog the crew rings the bell every two minutes and keeps to the marked channel.";
    let completion = base.text().tokenizer.encode(answer).unwrap();
    for (prompts, samples) in [(1, 1), (1, 4), (8, 1), (8, 4)] {
        let mut jobs = Vec::new();
        for p in 0..prompts {
            let prompt = question(
                base,
                &format!("How does ferry number {p} cross the river, and what about fog?"),
            );
            for s in 0..samples {
                let mut completion = completion.clone();
                completion.rotate_left(s);
                jobs.push(ScoreJob {
                    prompt: prompt.clone(),
                    completion,
                });
            }
        }
        let precision_paths = PrecisionPaths::PACKED;
        let mut reader = engine
            .reader(
                None,
                ReaderOptions {
                    precision_paths,
                    ..ReaderOptions::default()
                },
            )
            .unwrap();
        let (seconds, spread) = median(threads, || {
            score_many(&mut *reader, &jobs, 2048, &Cancel::new()).unwrap();
        });
        println!(
            "  scored {prompts} prompts of {} tokens with {samples} completions of {}: {:.1} ms a pair (spread {:.1})",
            jobs[0].prompt.len(),
            completion.len(),
            1e3 * seconds / jobs.len() as f64,
            1e3 * spread / jobs.len() as f64
        );
    }
}
