//! The measurements that `cargo xtask bench` puts beside its peers.
//!
//! `measure step < job.json`: one LoRA training step, the job and the answer being those of `xtask/peers/peft_step.py`; beside them
//! `four_bits`, `layout` (`none`, `forward`, `both`), `every` and `narrow` (checkpointing) of the job.
//! `measure generate FILE.gguf PROMPT NEW THREADS`: seconds to read a prompt and to write new tokens, three times.
//! `measure pairs FILE.gguf DOCUMENT`: the preferences of a document as texts, rendered, for the job of the next.
//! `measure preferences DOCUMENT < job.json`: DPO steps on a document, the job and the answer being those of `xtask/peers/trl_dpo.py`.
//! `measure rows FILE.gguf DOCUMENT`: the first eight questions of a document as a job's `rows` and `answers`.
//! `measure random FILE.gguf SHAPE DIRECTORY`: a base of random weights, with the tokenizer of a file.
//! `measure quantize IN.gguf OUT.gguf TYPE THREADS`: seconds to write a model in another type.

#![expect(clippy::print_stdout, reason = "the figures are the program's result")]

#[path = "measure/preferences.rs"]
mod preferences;
#[path = "measure/random_base.rs"]
mod random_base;

use std::path::Path;
use std::time::Instant;

use dlm_core::training::Checkpointing;
use dlm_core::{Cancel, Choice, Quant, Quiet};
use dlm_export::{Identity, ModelExport, Vocabulary, WriteOptions, plan_model, write_model};
use dlm_kernels::{Compute, Ctx, Simd};
use dlm_model::base::{OpenedBase, open_base};
use dlm_model::chat::{Message, Thinking};
use dlm_model::engine::{AdamWOptions, Trainer, TrainerOptions};
use dlm_model::{
    AdapterKind, AdapterSpec, CpuEngine, Engine, LoadOptions, Prepare, Session, TargetKind, WeightStorage,
};
use dlm_tests::Failed;
use dlm_train::batch::pack;
use dlm_train::rows::{Row, RowTarget};
use serde_json::{Value, json};

/// Runs of a generation measurement.
const GENERATIONS: usize = 3;

fn main() -> Result<(), Failed> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["step"] => step(&serde_json::from_reader(std::io::stdin())?)?,
        ["generate", file, prompt, new, threads] => generate(file, prompt.parse()?, new.parse()?, threads.parse()?)?,
        ["rows", file, document] => rows(file, document)?,
        ["pairs", file, document] => preferences::texts(file, document)?,
        ["preferences", document] => preferences::steps(&serde_json::from_reader(std::io::stdin())?, document)?,
        ["random", file, shape, directory] => random_base::write(file, shape, directory)?,
        ["quantize", from, to, quant, threads] => quantize(from, to, quant, threads.parse()?)?,
        _ => return Err("usage: measure step | rows FILE DOCUMENT | pairs FILE DOCUMENT | preferences DOCUMENT | generate FILE PROMPT NEW THREADS | quantize IN OUT TYPE THREADS | random FILE SHAPE DIRECTORY".into()),
    };
    println!("{result}");
    Ok(())
}

fn field<'a>(job: &'a Value, name: &str) -> Result<&'a Value, Failed> {
    job.get(name).ok_or_else(|| format!("the job has no `{name}`").into())
}

fn open(path: &str) -> Result<OpenedBase, Failed> {
    Ok(open_base(Path::new(path))?)
}

fn step(job: &Value) -> Result<Value, Failed> {
    let compute = if field(job, "dtype")? == "bfloat16" {
        Compute::Bf16
    } else {
        Compute::F32
    };
    let threads = field(job, "threads")?.as_u64().ok_or("`threads` is no number")? as usize;
    let options = LoadOptions {
        ctx: Ctx::new(threads, Simd::detect()),
        compute,
        storage: match job.get("four_bits") == Some(&json!(true)) {
            true => WeightStorage::FourBits,
            false => WeightStorage::AsStored,
        },
        prepare: match job.get("layout").and_then(Value::as_str) {
            None | Some("both") => Prepare::Both,
            Some("forward") => Prepare::Forward,
            Some("none") => Prepare::Nothing,
            Some(other) => return Err(format!("unknown layout `{other}`").into()),
        },
    };
    let model = open(field(job, "gguf")?.as_str().ok_or("`gguf` is no path")?)?.load(options)?;
    let targets: Vec<String> = serde_json::from_value(field(job, "targets")?.clone())?;
    let spec = AdapterSpec {
        kind: AdapterKind::Lora,
        r: 8,
        alpha: 16.0,
        dropout: 0.0,
        targets,
    };
    let engine = CpuEngine::new(model);
    let options = TrainerOptions {
        optimizer: AdamWOptions::USUAL,
        clip: None,
        checkpointing: Checkpointing {
            every: job.get("every").and_then(Value::as_u64).unwrap_or(0) as u32,
            is_narrow: job.get("narrow") == Some(&json!(true)),
        },
    };
    let loaded = status_mib("VmRSS:");
    let mut trainer = engine.trainer(&engine.fresh_adapter(&spec, 0)?, &options)?;
    let rows = job_rows(job)?;
    let (mut times, mut loss) = (Vec::new(), 0.0);
    for _ in 0..field(job, "steps")?.as_u64().ok_or("`steps` is no number")? {
        let start = Instant::now();
        loss = one_step(trainer.as_mut(), &rows)?;
        times.push(start.elapsed().as_secs_f64() * 1000.0);
    }
    Ok(json!({ "ms": times, "peak_mib": peak_mib(), "loaded_mib": loaded, "loss": loss }))
}

fn job_rows(job: &Value) -> Result<Vec<Row>, Failed> {
    let rows: Vec<Vec<u32>> = serde_json::from_value(field(job, "rows")?.clone())?;
    let answers: Vec<(usize, usize)> = serde_json::from_value(field(job, "answers")?.clone())?;
    let targets = |ids: &[u32], (first, end): (usize, usize)| {
        (first.max(1)..end)
            .map(|t| RowTarget {
                position: t - 1,
                kind: TargetKind::Token(ids[t]),
                weight: 1.0,
            })
            .collect()
    };
    Ok(rows
        .into_iter()
        .zip(answers)
        .map(|(ids, answer)| Row {
            targets: targets(&ids, answer),
            ids,
        })
        .collect())
}

/// Pairs of a document that one step of the measurement takes.
const ROWS: usize = 8;

fn rows(file: &str, document: &str) -> Result<Value, Failed> {
    let base = open(file)?;
    let text = std::fs::read_to_string(document)?;
    let parsed = dlm_doc::parse(&text).map_err(|e| e.first().message.clone())?;
    let (mut rows, mut answers) = (Vec::new(), Vec::new());
    for section in parsed.sections() {
        let Ok(dlm_doc::Rows::Pairs(pairs)) = dlm_doc::rows(section) else {
            continue;
        };
        for pair in pairs.into_iter().take(ROWS - rows.len()) {
            let messages = [Message::user(pair.question), Message::assistant(pair.answer)];
            let row = base.text().answer_row(&messages, Thinking::default())?;
            answers.push((row.loss.start, row.loss.end));
            rows.push(row.ids[..row.loss.end].to_vec());
        }
    }
    Ok(json!({ "rows": rows, "answers": answers }))
}

fn one_step(trainer: &mut dyn Trainer, rows: &[Row]) -> Result<f64, Failed> {
    let count: usize = rows.iter().map(|r| r.targets.len()).sum();
    let packed = pack(rows, 1.0 / count as f32);
    let losses = trainer.pass(&packed.batch, &packed.targets, 0)?;
    trainer.update(1e-4)?;
    Ok(losses.iter().map(|loss| f64::from(*loss)).sum::<f64>() / count as f64)
}

/// Reads a prompt as `dlm prompt` does before it samples and as `--temp 0` does, and writes tokens.
fn generate(file: &str, prompt: usize, new: usize, threads: usize) -> Result<Value, Failed> {
    let ctx = Ctx::new(threads, Simd::detect());
    let compute = match ctx.supports(Compute::Bf16) {
        true => Compute::Bf16,
        false => Compute::F32,
    };
    let options = LoadOptions {
        ctx,
        compute,
        storage: WeightStorage::AsStored,
        prepare: Prepare::Decode,
    };
    let mut model = open(file)?.load(options)?;
    let ids: Vec<u32> = (0..prompt as u32).map(|i| 100 + i * 37 % 20000).collect();
    let (mut read, mut read_exactly, mut written) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..GENERATIONS {
        model.compute = Compute::F32;
        let mut session = Session::new(&model, None, prompt);
        let start = Instant::now();
        session.prefill(&ids)?;
        read_exactly.push(prompt as f64 / start.elapsed().as_secs_f64());
        model.compute = compute;
        let mut session = Session::new(&model, None, prompt + new);
        let start = Instant::now();
        let mut next = dlm_model::sampling::argmax(session.prefill(&ids)?);
        read.push(prompt as f64 / start.elapsed().as_secs_f64());
        let mut session = Session::new(&model, None, new + 1);
        session.prefill(&[next])?;
        let start = Instant::now();
        for _ in 0..new {
            next = dlm_model::sampling::argmax(session.step(next)?);
        }
        written.push(new as f64 / start.elapsed().as_secs_f64());
    }
    Ok(
        json!({ "prompt_tokens_per_s": read, "exact_prompt_tokens_per_s": read_exactly, "new_tokens_per_s": written, "peak_mib": peak_mib() }),
    )
}

fn quantize(from: &str, to: &str, quant: &str, threads: usize) -> Result<Value, Failed> {
    let base = open(from)?;
    let start = Instant::now();
    let vocabulary = Vocabulary::new(&base.text().tokenizer, base.config().vocab)?;
    let identity = Identity {
        name: "measure".to_owned(),
        basename: None,
        size_label: None,
        license: None,
        base_model: None,
        provenance: Vec::new(),
    };
    let plan = plan_model(&ModelExport {
        config: base.config(),
        weights: base.weights(),
        vocabulary: &vocabulary,
        chat_template: base.text().template.as_ref().map(|t| t.source()),
        identity: &identity,
        quant: Quant::from_word(quant).ok_or_else(|| format!("unknown level `{quant}`"))?,
        is_weighted: false,
    })?;
    let ctx = Ctx::new(threads, Simd::detect());
    let (progress, cancel) = (Quiet, Cancel::new());
    let options = WriteOptions {
        importance: None,
        progress: &progress,
        cancel: &cancel,
    };
    let written = write_model(&ctx, &plan, base.weights(), Path::new(to), &options)?;
    Ok(json!({ "seconds": start.elapsed().as_secs_f64(), "bytes": written.bytes }))
}

fn peak_mib() -> Option<f64> {
    status_mib("VmHWM:")
}

fn status_mib(field: &str) -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with(field))?;
    Some(line.split_whitespace().nth(1)?.parse::<f64>().ok()? / 1024.0)
}
