//! The golden numbers of a real base model: the JSON files beside `arch/`.

use std::path::Path;
use std::sync::Arc;

use dlm_kernels::{AdamW, Ctx, adamw_step, global_norm};
use dlm_model::adapter::{Adapter, AdapterKind, AdapterSpec, MergedSource};
use dlm_model::config::config_from_gguf;
use dlm_model::gguf::{GgufFile, GgufWeights};
use dlm_model::weights::WeightSource;
use dlm_model::{Batch, LoadOptions, Model, Session, StepOptions};
use serde_json::Value;

use super::arch::{greedy, ids, max_abs_wide, numbers, train_step};
use super::{CaseResult, GoldenError, Tensors, malformed, model_failed, read_json};

/// Rounding alone moves logits by 1e-4.
const LOGITS: f64 = 1e-3;
const NLL_RELATIVE: f64 = 1e-5;
const WEIGHT_RELATIVE: f64 = 1e-6;
/// The sums of merged weights are printed to nine digits.
const MERGED_RELATIVE: f64 = 1e-6;
const LOSS_RELATIVE: f64 = 2e-5;
const GRAD_NORM_RELATIVE: f64 = 1e-4;
const FINAL_ADAMW_RELATIVE: f64 = 1e-3;
const FINAL_SGD_RELATIVE: f64 = 1e-5;
/// Norms of single gradient tensors: rounding alone moves them by up to 6e-5.
const FIRST_GRADIENT_RELATIVE: f64 = 5e-4;

/// Runs `weights.json`, `logits.json`, `greedy.json` and `lora_train.json` of a directory, those that exist, on the GGUF
/// base that they were computed from, dequantized, with exact products.
///
/// **Errors:** files that are missing or malformed, a base that this program does not load.
pub fn run_real_cases(dir: &Path, base: &Path, ctx: Ctx) -> Result<Vec<CaseResult>, GoldenError> {
    let file = GgufFile::open(base).map_err(|error| model_failed(base, error))?;
    let config = config_from_gguf(&file).map_err(|error| model_failed(base, error))?;
    let source = GgufWeights::new(Arc::new(file)).map_err(|error| model_failed(base, error))?;
    let model = Model::load(config, &source, LoadOptions::exact(ctx)).map_err(|error| model_failed(base, error))?;
    let real = Real {
        dir,
        model: &model,
        source: &source,
    };
    let mut results = Vec::new();
    type Run<'a> = fn(&Real<'a>, &Value) -> Result<Vec<CaseResult>, GoldenError>;
    let runs: [(&str, Run<'_>); 5] = [
        ("weights.json", Real::weights),
        ("logits.json", Real::logits),
        ("greedy.json", Real::greedy),
        ("lora_train.json", Real::adapter_forward),
        ("lora_train.json", Real::train),
    ];
    for (name, run) in runs {
        let path = dir.join(name);
        if path.exists() {
            results.extend(run(&real, &read_json(&path)?)?);
        }
    }
    Ok(results)
}

struct Real<'a> {
    dir: &'a Path,
    model: &'a Model,
    source: &'a dyn WeightSource,
}

fn cases(golden: &Value) -> &[Value] {
    golden["cases"].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn relative(found: f64, expected: f64) -> f64 {
    ((found - expected) / expected).abs()
}

fn l2(values: &[f32]) -> f64 {
    values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt()
}

/// Largest relative difference of two lists; infinite when their lengths differ.
fn max_relative(found: &[f64], expected: &[f64]) -> f64 {
    if found.len() != expected.len() || found.is_empty() {
        return f64::INFINITY;
    }
    let pairs = found.iter().zip(expected);
    pairs
        .map(|(a, b)| if a.is_nan() { f64::INFINITY } else { relative(*a, *b) })
        .fold(0.0, f64::max)
}

impl Real<'_> {
    fn failed(&self, error: impl ToString) -> GoldenError {
        model_failed(self.dir, error)
    }

    fn dense(&self, source: &dyn WeightSource, name: &str) -> Result<Vec<f32>, GoldenError> {
        let raw = source.tensor(name).map_err(|error| self.failed(error))?;
        let mut values = vec![0.0; raw.shape.iter().product()];
        dlm_kernels::quant::dequantize_row(raw.dtype, &raw.bytes, &mut values).map_err(|error| self.failed(error))?;
        Ok(values)
    }

    fn weights(&self, golden: &Value) -> Result<Vec<CaseResult>, GoldenError> {
        let tensors = golden["cases"].as_object().cloned().unwrap_or_default();
        let (mut norm, mut first) = (0.0f64, 0.0f64);
        for (name, expected) in &tensors {
            let values = self.dense(self.source, name)?;
            norm = norm.max(relative(l2(&values), expected["l2"].as_f64().unwrap_or(f64::NAN)));
            let head: Vec<f64> = values.iter().take(4).map(|value| f64::from(*value)).collect();
            first = first.max(max_relative(&head, &numbers(&expected["first4"])));
        }
        Ok(vec![
            CaseResult::new(
                format!("weights: L2 of {} tensors, relative", tensors.len()),
                norm,
                WEIGHT_RELATIVE,
            ),
            // Printed with nine digits, so equal values differ by up to half of the last one.
            CaseResult::new("weights: first four, relative", first, 1e-8),
        ])
    }

    fn top(&self, model: &Model, adapter: Option<&Adapter>, case: &Value) -> Result<f64, GoldenError> {
        let prompt = ids(&case["ids"]);
        let mut session = Session::new(model, adapter, prompt.len());
        let logits = session.prefill(&prompt).map_err(|error| self.failed(error))?;
        let best = ids(&case["top10_ids"]);
        let found: Vec<f64> = best.iter().map(|id| f64::from(logits[*id as usize])).collect();
        Ok(max_abs_wide(&found, &numbers(&case["top10_logits"])))
    }

    fn logits(&self, golden: &Value) -> Result<Vec<CaseResult>, GoldenError> {
        let mut results = Vec::new();
        for (index, case) in cases(golden).iter().enumerate() {
            let top = self.top(self.model, None, case)?;
            results.push(CaseResult::new(format!("logits {index}"), top, LOGITS));
            let tokens = ids(&case["ids"]);
            let batch = Batch::packed(&[&tokens]);
            let forward = self
                .model
                .forward_eval(None, &batch)
                .map_err(|error| self.failed(error))?;
            let pairs: Vec<(usize, u32)> = tokens.iter().skip(1).copied().enumerate().collect();
            let found = self.model.logprobs(forward.hidden(), &pairs);
            let found: Vec<f64> = found.iter().map(|value| f64::from(*value)).collect();
            let each = max_abs_wide(&found, &numbers(&case["token_logprobs"]));
            results.push(CaseResult::new(format!("log-probabilities {index}"), each, LOGITS));
            let mean = -found.iter().sum::<f64>() / found.len() as f64;
            let nll = relative(mean, case["mean_nll"].as_f64().unwrap_or(f64::NAN));
            results.push(CaseResult::new(format!("nll {index}, relative"), nll, NLL_RELATIVE));
        }
        Ok(results)
    }

    fn greedy(&self, golden: &Value) -> Result<Vec<CaseResult>, GoldenError> {
        let mut results = Vec::new();
        for (index, case) in cases(golden).iter().enumerate() {
            let expected = ids(&case["output_ids"]);
            let found = greedy(self.model, None, &ids(&case["prompt_ids"]), expected.len());
            let found = found.map_err(|error| self.failed(error))?;
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

    /// The untouched adapter of the golden files, as LoRA or as DoRA.
    fn adapter(&self, golden: &Value, kind: AdapterKind) -> Result<Adapter, GoldenError> {
        let targets = golden["targets"].as_array().cloned().unwrap_or_default();
        let spec = AdapterSpec {
            kind,
            r: golden["r"].as_u64().unwrap_or(0) as usize,
            alpha: golden["alpha"].as_f64().unwrap_or(0.0) as f32,
            dropout: 0.0,
            targets: targets.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        };
        let mut adapter = Adapter::init(self.model, &spec, 0).map_err(|error| self.failed(error))?;
        let files = [
            Tensors::open(&self.dir.join("adapter_init/adapter_model.safetensors"))?,
            Tensors::open(&self.dir.join("dora_magnitude_init.safetensors"))?,
        ];
        let places: Vec<_> = adapter.tensors().collect();
        for (name, _, range) in places {
            let file = files.iter().find(|file| file.has(&name));
            let file = file.ok_or_else(|| malformed(self.dir, format!("no start value of `{name}`")))?;
            adapter.params[range].copy_from_slice(&file.f32(&name)?.1);
        }
        Ok(adapter)
    }

    fn adapter_forward(&self, golden: &Value) -> Result<Vec<CaseResult>, GoldenError> {
        let mut results = Vec::new();
        for (name, kind) in [("lora", AdapterKind::Lora), ("dora", AdapterKind::Dora)] {
            let case = &golden[&format!("adapter_forward_{name}")];
            let adapter = self.adapter(golden, kind)?;
            let top = self.top(self.model, Some(&adapter), case)?;
            results.push(CaseResult::new(format!("{name}: logits"), top, LOGITS));
            let merged = MergedSource::new(self.source, &adapter);
            let mut deviation = 0.0f64;
            for (tensor, expected) in case["merged_weights"].as_object().cloned().unwrap_or_default() {
                let norm = l2(&self.dense(&merged, &tensor)?);
                deviation = deviation.max(relative(norm, expected["l2"].as_f64().unwrap_or(f64::NAN)));
            }
            let title = format!("{name}: L2 of merged weights, relative");
            results.push(CaseResult::new(title, deviation, MERGED_RELATIVE));
            let options = LoadOptions::exact(self.model.ctx.clone());
            let config = self.model.config.clone();
            let merged = Model::load(config, &merged, options).map_err(|error| self.failed(error))?;
            let top = self.top(&merged, None, case)?;
            results.push(CaseResult::new(
                format!("{name}: logits of the merged model"),
                top,
                LOGITS,
            ));
        }
        Ok(results)
    }

    fn rows(&self, golden: &Value) -> Vec<Vec<u32>> {
        let masks = golden["attention_mask"].as_array().cloned().unwrap_or_default();
        let rows = golden["input_ids"].as_array().cloned().unwrap_or_default();
        let rows = rows.iter().zip(&masks).map(|(row, mask)| {
            let len = ids(mask).iter().filter(|kept| **kept == 1).count();
            ids(row)[..len].to_vec()
        });
        rows.collect()
    }

    fn train(&self, golden: &Value) -> Result<Vec<CaseResult>, GoldenError> {
        let mut results = Vec::new();
        for (name, run) in golden["runs"].as_object().cloned().unwrap_or_default() {
            let kind = match name.starts_with("dora") {
                true => AdapterKind::Dora,
                false => AdapterKind::Lora,
            };
            let start = self.adapter(golden, kind)?;
            let trace = self.run(start.clone(), &self.rows(golden), &run)?;
            let is_sgd = run["config"]["opt"].as_str() == Some("sgd");
            let tolerance = if is_sgd {
                FINAL_SGD_RELATIVE
            } else {
                FINAL_ADAMW_RELATIVE
            };
            let loss = max_relative(&trace.losses, &numbers(&run["loss"]));
            let norm = max_relative(&trace.norms, &numbers(&run["grad_norm"]));
            let first = tensors_deviation(&trace.adapter, &trace.first, &run["first_grad"]);
            let last = tensors_deviation(&trace.adapter, &trace.adapter.params, &run["final"]);
            let all = relative(
                l2(&trace.adapter.params),
                run["final_all"]["l2"].as_f64().unwrap_or(f64::NAN),
            );
            let delta: Vec<f32> = trace
                .adapter
                .params
                .iter()
                .zip(&start.params)
                .map(|(a, b)| a - b)
                .collect();
            let delta = relative(l2(&delta), run["final_delta_l2"].as_f64().unwrap_or(f64::NAN));
            for (what, deviation, tolerance) in [
                ("losses", loss, LOSS_RELATIVE),
                ("gradient norms", norm, GRAD_NORM_RELATIVE),
                ("first gradients", first, FIRST_GRADIENT_RELATIVE),
                ("final tensors", last, tolerance),
                ("final L2", all, tolerance),
                ("L2 of the change", delta, FINAL_ADAMW_RELATIVE),
            ] {
                results.push(CaseResult::new(
                    format!("{name}: {what}, relative"),
                    deviation,
                    tolerance,
                ));
            }
        }
        Ok(results)
    }

    fn run(&self, mut adapter: Adapter, rows: &[Vec<u32>], run: &Value) -> Result<Trace, GoldenError> {
        let config = &run["config"];
        let ctx = &self.model.ctx;
        let len = adapter.params.len();
        let (mut m, mut v) = (vec![0.0; len], vec![0.0; len]);
        let (mut losses, mut norms, mut first) = (Vec::new(), Vec::new(), Vec::new());
        for (index, lr) in numbers(&run["lr"]).into_iter().enumerate() {
            let step = train_step(self.model, &adapter, rows, &StepOptions::default());
            let (loss, grads) = step.map_err(|error| self.failed(error))?;
            losses.push(loss);
            let norm = global_norm(ctx, &grads);
            norms.push(norm);
            let clip = config["clip"]
                .as_f64()
                .map_or(1.0, |limit| (limit / (norm + 1e-6)).min(1.0));
            if config["opt"].as_str() == Some("sgd") {
                let params = adapter.params.iter_mut().zip(&grads);
                params.for_each(|(p, g)| *p -= (lr * clip) as f32 * g);
            } else {
                let settings = AdamW {
                    lr,
                    beta1: 0.9,
                    beta2: 0.999,
                    eps: 1e-8,
                    weight_decay: config["wd"].as_f64().unwrap_or(0.0),
                };
                let params = &mut adapter.params;
                adamw_step(
                    ctx,
                    &settings,
                    index as u64 + 1,
                    clip as f32,
                    params,
                    &grads,
                    &mut m,
                    &mut v,
                );
            }
            if index == 0 {
                first = grads;
            }
        }
        let step = train_step(self.model, &adapter, rows, &StepOptions::default());
        losses.push(step.map_err(|error| self.failed(error))?.0);
        Ok(Trace {
            adapter,
            losses,
            norms,
            first,
        })
    }
}

struct Trace {
    adapter: Adapter,
    losses: Vec<f64>,
    norms: Vec<f64>,
    /// Gradients of the first step.
    first: Vec<f32>,
}

/// Largest relative difference of the L2 norms of the tensors that the golden object lists.
fn tensors_deviation(adapter: &Adapter, values: &[f32], golden: &Value) -> f64 {
    let expected = golden.as_object().cloned().unwrap_or_default();
    let places: Vec<_> = adapter
        .tensors()
        .filter(|(name, ..)| expected.contains_key(name))
        .collect();
    if places.len() != expected.len() || places.is_empty() {
        return f64::INFINITY;
    }
    let deviations = places.into_iter().map(|(name, _, range)| {
        let expected = expected[&name]["l2"].as_f64().unwrap_or(f64::NAN);
        relative(l2(&values[range]), expected)
    });
    deviations.fold(
        0.0,
        |worst, next| if next.is_nan() { f64::INFINITY } else { next.max(worst) },
    )
}
