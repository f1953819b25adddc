//! One tiny model directory of `tests/golden/arch`.

use std::path::Path;

use dlm_kernels::{AdamW, Ctx, Simd, adamw_step};
use dlm_model::adapter::{Adapter, AdapterKind, AdapterSpec};
use dlm_model::config::json::parse_config;
use dlm_model::safetensors_dir::SafetensorsDir;
use dlm_model::{Batch, LoadOptions, Model, Session, StepOptions, Target, TargetKind};
use serde_json::Value;

use super::{CaseResult, GoldenError, Tensors, malformed, max_abs, model_failed, read, read_json};

/// Differences of two exact `f32` implementations, from the README: rounding alone stays below 5e-5.
const LOGITS: f64 = 2e-4;
/// Rounding alone stays below 3e-6.
const LOSS: f64 = 1e-5;
/// Rounding alone stays below 3e-6.
const GRADIENT: f64 = 2e-5;
/// Three optimizer steps add up what rounding did.
const LOSS_AFTER_STEPS: f64 = 1e-4;

/// Runs every number of a directory with exact products.
///
/// **Errors:** files that are missing or malformed, a model that this program does not load.
pub fn run_arch_case(dir: &Path) -> Result<Vec<CaseResult>, GoldenError> {
    run_arch_case_with(dir, Ctx::new(2, Simd::detect()))
}

/// [`run_arch_case`] with given threads and instruction set.
///
/// **Errors:** as [`run_arch_case`].
pub fn run_arch_case_with(dir: &Path, ctx: Ctx) -> Result<Vec<CaseResult>, GoldenError> {
    let case = Case::open(dir, ctx)?;
    let mut results = case.logits(&case.model, "")?;
    if dir.join("config.hub.json").exists() {
        let hub = load(dir, "config.hub.json", &case.model.ctx)?;
        results.extend(case.logits(&hub, " (config.hub.json)")?);
    }
    results.extend(case.losses()?);
    results.extend(case.greedy()?);
    for (place, numbers, logits, gradients) in [
        ("adapter", "lora", "adapter_logits", "grads.safetensors"),
        ("adapter_dora", "dora", "dora_logits", "grads_dora.safetensors"),
    ] {
        if dir.join(place).exists() {
            let path = dir.join(place);
            let adapter = Adapter::load_peft(&path, &case.model).map_err(|error| model_failed(&path, error))?;
            results.extend(case.adapter(place, adapter, &case.golden[numbers], Some(logits), gradients)?);
        }
    }
    if dir.join("lora_experts.safetensors").exists() {
        let adapter = case.experts()?;
        let numbers = &case.golden["lora_experts"];
        results.extend(case.adapter("experts", adapter, numbers, None, "grads_experts.safetensors")?);
    }
    Ok(results)
}

struct Case<'a> {
    dir: &'a Path,
    golden: Value,
    tensors: Tensors,
    model: Model,
    rows: Vec<Vec<u32>>,
}

fn load(dir: &Path, config: &str, ctx: &Ctx) -> Result<Model, GoldenError> {
    let path = dir.join(config);
    let config = parse_config(&read(&path)?).map_err(|error| model_failed(&path, error))?;
    let weights = SafetensorsDir::open(dir).map_err(|error| model_failed(dir, error))?;
    Model::load(config, &weights, LoadOptions::exact(ctx.clone())).map_err(|error| model_failed(dir, error))
}

pub(super) fn ids(value: &Value) -> Vec<u32> {
    let list = value.as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter().filter_map(Value::as_u64).map(|id| id as u32).collect()
}

pub(super) fn numbers(value: &Value) -> Vec<f64> {
    let list = value.as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter().filter_map(Value::as_f64).collect()
}

/// Largest difference of two lists; infinite when their lengths differ.
pub(super) fn max_abs_wide(found: &[f64], expected: &[f64]) -> f64 {
    if found.len() != expected.len() || found.is_empty() {
        return f64::INFINITY;
    }
    let pairs = found.iter().zip(expected);
    pairs
        .map(|(a, b)| if a.is_nan() { f64::INFINITY } else { (a - b).abs() })
        .fold(0.0, f64::max)
}

impl<'a> Case<'a> {
    fn open(dir: &'a Path, ctx: Ctx) -> Result<Case<'a>, GoldenError> {
        let golden = read_json(&dir.join("golden.json"))?;
        let masks = golden["attention_mask"].as_array().cloned().unwrap_or_default();
        let rows = golden["input_ids"].as_array().cloned().unwrap_or_default();
        let rows = rows.iter().zip(&masks).map(|(row, mask)| {
            let len = ids(mask).iter().filter(|kept| **kept == 1).count();
            ids(row)[..len].to_vec()
        });
        Ok(Case {
            dir,
            rows: rows.collect(),
            tensors: Tensors::open(&dir.join("golden.safetensors"))?,
            model: load(dir, "config.json", &ctx)?,
            golden,
        })
    }

    fn long(&self) -> Vec<u32> {
        ids(&self.golden["long_input_ids"][0])
    }

    /// Deviation of a batch's logits from a golden tensor `[rows, padded, vocab]`.
    fn batch_deviation(&self, model: &Model, adapter: Option<&Adapter>, name: &str) -> Result<f64, GoldenError> {
        let (shape, expected) = self.tensors.f32(name)?;
        let (padded, vocab) = (shape[1], shape[2]);
        let found = logits(model, adapter, &self.rows).map_err(|error| model_failed(self.dir, error))?;
        let mut start = 0;
        let mut deviation = 0.0f64;
        for (index, row) in self.rows.iter().enumerate() {
            let len = row.len() * vocab;
            let expected = &expected[index * padded * vocab..][..len];
            deviation = deviation.max(max_abs(&found[start..start + len], expected));
            start += len;
        }
        Ok(deviation)
    }

    fn logits(&self, model: &Model, suffix: &str) -> Result<Vec<CaseResult>, GoldenError> {
        let batch = self.batch_deviation(model, None, "logits")?;
        let (_, expected) = self.tensors.f32("long_logits")?;
        let long = logits(model, None, &[self.long()]).map_err(|error| model_failed(self.dir, error))?;
        Ok(vec![
            CaseResult::new(format!("logits{suffix}"), batch, LOGITS),
            CaseResult::new(format!("long logits{suffix}"), max_abs(&long, &expected), LOGITS),
        ])
    }

    fn losses(&self) -> Result<Vec<CaseResult>, GoldenError> {
        let mut sums = Vec::new();
        for row in self.rows.iter().cloned().chain([self.long()]) {
            let (sum, count) = self.loss(None, &[row]).map_err(|error| model_failed(self.dir, error))?;
            sums.push((sum, count));
        }
        let means: Vec<f64> = sums.iter().map(|(sum, count)| sum / *count as f64).collect();
        let (long, rows) = means.split_last().unwrap_or((&f64::NAN, &[]));
        let batch = &sums[..self.rows.len()];
        let mean = batch.iter().map(|(sum, _)| sum).sum::<f64>() / batch.iter().map(|(_, n)| *n).sum::<usize>() as f64;
        let golden = |key: &str| self.golden[key].as_f64().unwrap_or(f64::NAN);
        Ok(vec![
            CaseResult::new(
                "nll",
                max_abs_wide(rows, &numbers(&self.golden["nll_per_sequence"])),
                LOSS,
            ),
            CaseResult::new("loss", (mean - golden("loss_token_mean")).abs(), LOSS),
            CaseResult::new("long nll", (long - golden("long_nll")).abs(), LOSS),
        ])
    }

    /// Sum of the losses of rows, and their number.
    fn loss(&self, adapter: Option<&Adapter>, rows: &[Vec<u32>]) -> Result<(f64, usize), dlm_model::BatchError> {
        let batch = Batch::packed(rows);
        let targets = next_token_targets(rows, 1.0);
        let forward = self.model.forward_eval(adapter, &batch)?;
        let mut unused = vec![0.0; forward.hidden().len()];
        let loss = self.model.head_loss(forward.hidden(), &targets, &mut unused);
        Ok((loss.nll.iter().map(|nll| f64::from(*nll)).sum(), targets.len()))
    }

    fn greedy(&self) -> Result<Vec<CaseResult>, GoldenError> {
        let cases = self.golden["greedy"].as_array().cloned().unwrap_or_default();
        let mut results = Vec::new();
        for (index, case) in cases.iter().enumerate() {
            let expected = ids(&case["tokens"]);
            let prompt = self.prompt(case)?;
            let found = greedy(&self.model, None, &prompt, expected.len());
            let found = found.map_err(|error| model_failed(self.dir, error))?;
            let misses = found.iter().zip(&expected).filter(|(a, b)| a != b).count();
            let misses = if expected.is_empty() {
                f64::INFINITY
            } else {
                misses as f64
            };
            results.push(CaseResult::new(format!("greedy {index} (wrong tokens)"), misses, 0.0));
        }
        Ok(results)
    }

    /// The prompt of a greedy case: written out, or recognized by its length as a row or the start of the long row.
    fn prompt(&self, case: &Value) -> Result<Vec<u32>, GoldenError> {
        for key in ["prompt", "prompt_ids", "input_ids"] {
            let prompt = ids(&case[key]);
            if !prompt.is_empty() {
                return Ok(prompt);
            }
        }
        let len = case["prompt_len"].as_u64().unwrap_or(0) as usize;
        if let Some(row) = self.rows.iter().find(|row| row.len() == len) {
            return Ok(row.clone());
        }
        let long = self.long();
        match len > 0 && len <= long.len() {
            true => Ok(long[..len].to_vec()),
            false => Err(malformed(
                &self.dir.join("golden.json"),
                format!("no prompt of {len} tokens"),
            )),
        }
    }

    fn adapter(
        &self,
        name: &str,
        mut adapter: Adapter,
        golden: &Value,
        logits: Option<&str>,
        gradients: &str,
    ) -> Result<Vec<CaseResult>, GoldenError> {
        let mut results = Vec::new();
        if let Some(tensor) = logits {
            let deviation = self.batch_deviation(&self.model, Some(&adapter), tensor)?;
            results.push(CaseResult::new(format!("{name}: logits"), deviation, LOGITS));
        }
        let (_, grads) = self.step(&adapter)?;
        let expected = Tensors::open(&self.dir.join(gradients))?;
        let mut deviation = 0.0f64;
        for (tensor, _, range) in adapter.tensors() {
            deviation = deviation.max(max_abs(&grads[range], &expected.f32(&tensor)?.1));
        }
        results.push(CaseResult::new(format!("{name}: gradients"), deviation, GRADIENT));
        let losses = self.train(&mut adapter)?;
        let expected = numbers(&golden["losses_before_each_step_and_after"]);
        let first = max_abs_wide(&losses[..1], &expected[..1.min(expected.len())]);
        results.push(CaseResult::new(format!("{name}: loss"), first, LOSS));
        let all = max_abs_wide(&losses, &expected);
        results.push(CaseResult::new(
            format!("{name}: losses of three steps"),
            all,
            LOSS_AFTER_STEPS,
        ));
        Ok(results)
    }

    /// Mean loss and gradients of the batch.
    fn step(&self, adapter: &Adapter) -> Result<(f64, Vec<f32>), GoldenError> {
        let options = StepOptions {
            dropout_seed: None,
            ..StepOptions::default()
        };
        let step = train_step(&self.model, adapter, &self.rows, &options);
        step.map_err(|error| model_failed(self.dir, error))
    }

    /// Three AdamW steps: the loss before each and after the last.
    fn train(&self, adapter: &mut Adapter) -> Result<Vec<f64>, GoldenError> {
        let settings = AdamW {
            lr: 1e-2,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.0,
        };
        let len = adapter.params.len();
        let (mut m, mut v) = (vec![0.0; len], vec![0.0; len]);
        let mut losses = Vec::new();
        for step in 1..=3 {
            let (loss, grads) = self.step(adapter)?;
            losses.push(loss);
            let ctx = &self.model.ctx;
            adamw_step(ctx, &settings, step, 1.0, &mut adapter.params, &grads, &mut m, &mut v);
        }
        losses.push(self.step(adapter)?.0);
        Ok(losses)
    }

    fn experts(&self) -> Result<Adapter, GoldenError> {
        let path = self.dir.join("lora_experts.safetensors");
        let lora = &self.golden["lora"];
        let spec = AdapterSpec {
            kind: AdapterKind::Lora,
            r: lora["r"].as_u64().unwrap_or(0) as usize,
            alpha: lora["alpha"].as_f64().unwrap_or(0.0) as f32,
            dropout: 0.0,
            targets: vec!["all-linear".to_owned()],
        };
        let bytes = read(&path)?;
        Adapter::from_safetensors(&path.display().to_string(), &bytes, &self.model, &spec)
            .map_err(|error| model_failed(&path, error))
    }
}

/// Targets of every row but the last of each sequence of a packed batch.
pub(super) fn next_token_targets(rows: &[Vec<u32>], weight: f32) -> Vec<Target> {
    let mut targets = Vec::new();
    let mut start = 0;
    for row in rows {
        for (i, token) in row.iter().enumerate().skip(1) {
            targets.push(Target {
                row: start + i - 1,
                kind: TargetKind::Token(*token),
                weight,
            });
        }
        start += row.len();
    }
    targets
}

/// Mean loss and gradients of a packed batch of rows.
pub(super) fn train_step(
    model: &Model,
    adapter: &Adapter,
    rows: &[Vec<u32>],
    options: &StepOptions,
) -> Result<(f64, Vec<f32>), dlm_model::BatchError> {
    let count: usize = rows.iter().map(|row| row.len() - 1).sum();
    let targets = next_token_targets(rows, 1.0 / count as f32);
    let forward = model.forward_train(Some(adapter), &Batch::packed(rows), options)?;
    let mut d_hidden = vec![0.0; forward.hidden().len()];
    let loss = model.head_loss(forward.hidden(), &targets, &mut d_hidden);
    let mut grads = vec![0.0; adapter.params.len()];
    model.backward(forward, adapter, &d_hidden, &mut grads);
    let sum: f64 = loss.nll.iter().map(|nll| f64::from(*nll)).sum();
    Ok((sum / count as f64, grads))
}

fn logits(model: &Model, adapter: Option<&Adapter>, rows: &[Vec<u32>]) -> Result<Vec<f32>, dlm_model::BatchError> {
    let forward = model.forward_eval(adapter, &Batch::packed(rows))?;
    Ok(model.logits(forward.hidden()))
}

pub(super) fn argmax(logits: &[f32]) -> u32 {
    let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    best.map_or(0, |(index, _)| index as u32)
}

/// Greedy continuation through the cache.
pub(super) fn greedy(
    model: &Model,
    adapter: Option<&Adapter>,
    prompt: &[u32],
    count: usize,
) -> Result<Vec<u32>, dlm_model::SessionError> {
    let mut session = Session::new(model, adapter, prompt.len() + count);
    let mut token = argmax(session.prefill(prompt)?);
    let mut tokens = vec![token];
    while tokens.len() < count {
        token = argmax(session.step(token)?);
        tokens.push(token);
    }
    Ok(tokens)
}
