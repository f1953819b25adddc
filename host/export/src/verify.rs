//! The check of a written file: read it back through the model reader, which shares no code with the writer, and compare.
//!
//! Invariants: nothing is taken from memory of the writing; every tensor is compared value by value with the weights it
//! was made from, in the checkpoint's own names and row order, so a wrong name, order or offset cannot pass.

use std::path::Path;
use std::sync::Arc;

use dlm_core::Quant;
use dlm_kernels::Ctx;
use dlm_kernels::quant::{GgmlType, dequantize_row};
use dlm_model::config::{DecoderConfig, config_from_gguf};
use dlm_model::gguf::{GgufFile, GgufWeights};
use dlm_model::tokenizer::{Tokenizer, tokenizer_from_gguf};
use dlm_model::weights::{RawTensor, WeightSource};

use crate::error::ExportError;
use crate::names::{Place, place};
use crate::plan::ModelPlan;

/// The worst error of one type, over all tensors of that type.
#[derive(Clone, Debug, PartialEq)]
pub struct TypeError {
    pub ty: GgmlType,
    pub tensors: usize,
    /// Root mean square error over root mean square of the values, of the worst tensor.
    pub relative: f64,
    /// The worst tensor, in the checkpoint's name.
    pub worst: String,
    /// What the type allows.
    pub bound: f64,
}

/// What was found right.
#[derive(Clone, Debug, PartialEq)]
pub struct VerifyReport {
    pub bytes: u64,
    pub tensors: usize,
    pub metadata_keys: usize,
    /// Tokens of the check texts that the reloaded tokenizer gave alike; `None` when no tokenizer was handed in.
    pub tokens_equal: Option<usize>,
    /// One row per type in the file.
    pub errors: Vec<TypeError>,
}

/// How far the reloaded model's logits are from the ones in memory.
#[derive(Clone, Debug, PartialEq)]
pub struct LogitsReport {
    pub rows: usize,
    /// Mean Kullback-Leibler divergence, in nats.
    pub kl_mean: f64,
    pub kl_bound: f64,
    /// Rows in which the most likely token is the same.
    pub argmax_equal: usize,
    pub max_abs_difference: f32,
}

impl LogitsReport {
    /// Says whether the divergence stays within what the level allows.
    pub fn is_within(&self) -> bool {
        self.kl_mean <= self.kl_bound
    }
}

/// Relative error that rounding to a type may cause in one matrix.
///
/// Half a step over the spread of normal values, doubled for heavy tails; floats: one unit in the last place.
const fn relative_bound(ty: GgmlType) -> f64 {
    match ty {
        GgmlType::F32 => 1e-6,
        GgmlType::F16 => 1e-3,
        GgmlType::BF16 => 8e-3,
        GgmlType::Q8_0 | GgmlType::Q8_K => 0.02,
        GgmlType::Q6_K => 0.05,
        GgmlType::Q5_K | GgmlType::Q5_0 | GgmlType::Q5_1 => 0.1,
        GgmlType::Q4_K | GgmlType::Q4_0 | GgmlType::Q4_1 | GgmlType::IQ4_NL | GgmlType::IQ4_XS => 0.2,
        GgmlType::Q3_K => 0.35,
        GgmlType::Q2_K => 0.6,
    }
}

/// Mean divergence that a level may cause; measured on SmolLM2-135M and taken about three times.
const fn kl_bound(quant: Quant) -> f64 {
    match quant {
        Quant::F16 => 1e-4,
        Quant::Q8_0 => 0.01,
        Quant::Q6_K => 0.03,
        // A base that is stored in four bits, with rows that fall back to blocks of 32, measured 0.145 (SmolLM2-135M).
        Quant::Q5_K_M => 0.3,
        Quant::Q4_K_M => 0.3,
        Quant::IQ4_XS => 0.4,
        Quant::Q3_K_M => 0.6,
    }
}

/// Texts that take every branch of a pre-tokenizer.
const CHECK_TEXTS: [&str; 4] = [
    "Hello, world! It's 12345 o'clock; isn't it?\n\n  def f(x):\n\treturn x**2  # 3.14159",
    "<|im_start|>user\nWas ist \u{fc}brig? \u{4f60}\u{597d}\u{ff0c}\u{4e16}\u{754c}<|im_end|>\n",
    "\u{1f680} (normal) \u{1f636}\u{200d}\u{1f32b}\u{fe0f} 3 33 333 3333 ...... '''''' I'VE we'Ll",
    "   leading and trailing   \r\n\r\n \u{a0}x",
];

/// Texts in which spaces and line ends, and words that are cut into bytes, come in runs. A U+2581 beside a space is left out:
/// files write runs of spaces as such (Gemma), so a program that reads them cannot know that the two would be one token.
const SPACED_TEXTS: [&str; 3] = [
    "a  b   c    d     e\t\tf\n\n\ng\n\n\n\n    if x:\n        return {  }\n",
    "\u{3053}\u{3093}\u{306b}\u{3061}\u{306f}\u{3000}\u{4e16}\u{754c}  \u{645}\u{631}\u{62d}\u{628}\u{627} \u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467} \u{10348}",
    "Stra\u{df}e a\u{2581}mark </s> <unk> caf\u{e9} cafe\u{301} '''''' --- ====",
];
/// Special tokens that are tried; vocabularies have up to some thousands that nothing uses.
const SPECIALS_MAX: usize = 32;

fn wrong(path: &Path, cause: impl Into<String>) -> ExportError {
    ExportError::Verify {
        path: path.to_owned(),
        cause: cause.into(),
    }
}

/// Squared error and squared size of one row.
fn row_error(
    stored: (&RawTensor<'_>, &RawTensor<'_>),
    rows: usize,
    row: usize,
    buffers: &mut [Vec<f32>; 2],
) -> Option<[f64; 2]> {
    let (left, right) = stored;
    for (raw, buffer) in [left, right].into_iter().zip(buffers.iter_mut()) {
        let row_bytes = raw.bytes.len() / rows;
        dequantize_row(raw.dtype, &raw.bytes[row * row_bytes..][..row_bytes], buffer).ok()?;
    }
    let [left, right] = &*buffers;
    let mut sums = [0.0; 2];
    for (a, b) in left.iter().zip(right) {
        let (a, b) = (f64::from(*a), f64::from(*b));
        sums[0] += (a - b) * (a - b);
        sums[1] += a * a;
    }
    Some(sums)
}

/// Relative error of a whole tensor; `None` when it cannot be decoded.
fn relative_error(ctx: &Ctx, expected: &RawTensor<'_>, found: &RawTensor<'_>) -> Option<f64> {
    let elements: usize = expected.shape.iter().product();
    let rows = if expected.shape.len() < 2 { 1 } else { expected.shape[0] };
    let mut sums: Vec<Option<[f64; 2]>> = vec![None; rows];
    let per_part = rows.div_ceil(ctx.pool.threads() * 4).max(1);
    ctx.pool.run_chunks(&mut sums, per_part, |part, sums| {
        let mut buffers = [vec![0.0; elements / rows], vec![0.0; elements / rows]];
        for (i, sum) in sums.iter_mut().enumerate() {
            *sum = row_error((expected, found), rows, part * per_part + i, &mut buffers);
        }
    });
    let mut total = [0.0; 2];
    for sum in sums {
        let sum = sum?;
        total = [total[0] + sum[0], total[1] + sum[1]];
    }
    match total {
        [0.0, _] => Some(0.0),
        [error, size] => Some((error / size).sqrt()),
    }
}

fn check_tables(path: &Path, file: &GgufFile, plan: &ModelPlan) -> Result<(), ExportError> {
    let header = file.header();
    for (key, value) in &plan.metadata {
        if header.metadata.get(key) != Some(value) {
            return Err(wrong(
                path,
                format!("metadata `{key}` did not come back as it was written"),
            ));
        }
    }
    if header.metadata.len() != plan.metadata.len() || header.tensors.len() != plan.tensors.len() {
        return Err(wrong(
            path,
            format!(
                "{} keys and {} tensors came back, {} and {} were written",
                header.metadata.len(),
                header.tensors.len(),
                plan.metadata.len(),
                plan.tensors.len()
            ),
        ));
    }
    for tensor in &plan.tensors {
        let found = header.tensors.get(&tensor.row.name);
        if found.is_none_or(|info| info.shape != tensor.row.shape || info.dtype != tensor.row.ty) {
            return Err(wrong(
                path,
                format!("tensor `{}` did not come back as it was written", tensor.row.name),
            ));
        }
    }
    Ok(())
}

/// Gives the memory of what was compared back.
fn release(sources: [&dyn WeightSource; 2]) {
    sources.iter().for_each(|source| source.release_pages());
}

/// Compares the settings that the file's reader works out with those it was written from.
fn check_settings(path: &Path, file: &GgufFile, expected: &DecoderConfig) -> Result<(), ExportError> {
    let found = config_from_gguf(file).map_err(|cause| wrong(path, cause.to_string()))?;
    let numbers = |config: &DecoderConfig| {
        format!(
            "{} {:?}",
            config.arch.facts().gguf,
            (
                (
                    config.vocab,
                    config.d_model,
                    config.n_layers,
                    config.n_heads,
                    config.n_kv_heads,
                    config.head_dim
                ),
                (
                    config.d_ff,
                    config.norm_eps,
                    config.norm_plus_one,
                    config.norm_placement,
                    config.qk_norm
                ),
                (
                    config.rope.dim,
                    config.rope.theta as f32,
                    &config.layers,
                    config.qkv_bias,
                    config.o_bias
                ),
                (
                    config.activation,
                    config.attention_softcap,
                    config.final_softcap,
                    config.embed_scale
                ),
                (
                    config.tied,
                    config.experts,
                    config.context_max,
                    config.fused_projections
                ),
            )
        )
    };
    let (written, came_back) = (numbers(expected), numbers(&found));
    if written != came_back {
        return Err(wrong(
            path,
            format!("the settings came back as {came_back}, written were {written}"),
        ));
    }
    Ok(())
}

/// The texts on which tokenizers are compared.
///
/// SentencePiece vocabularies are compared as they are used: behind the token that begins a prompt, with runs of spaces
/// and line ends, and with special tokens between words.
fn check_texts(file: &GgufFile, tokenizer: &Tokenizer) -> Vec<String> {
    let texts = CHECK_TEXTS.map(str::to_owned).to_vec();
    if file.value("tokenizer.ggml.model").and_then(|model| model.as_str()) == Some("gpt2") {
        return texts;
    }
    let specials = (0..tokenizer.vocab() as u32).filter(|id| tokenizer.is_special(*id));
    let specials = specials.filter_map(|id| tokenizer.token(id)).take(SPECIALS_MAX);
    let turns: String = specials.map(|token| format!("x {token}\n y{token}")).collect();
    let bos = tokenizer
        .specials
        .bos
        .and_then(|id| tokenizer.token(id))
        .unwrap_or_default();
    let mut all: Vec<String> = texts.iter().map(|text| bos.clone() + text).collect();
    all.extend(SPACED_TEXTS.map(|text| bos.clone() + text));
    all.push(bos + &turns);
    all
}

/// Returns the number of tokens that came out alike.
fn check_tokens(path: &Path, file: &GgufFile, tokenizer: &Tokenizer) -> Result<usize, ExportError> {
    let reloaded = tokenizer_from_gguf(file).map_err(|cause| wrong(path, cause.to_string()))?;
    let mut equal = 0;
    for text in check_texts(file, tokenizer) {
        let encode = |tokenizer: &Tokenizer| tokenizer.encode(&text).map_err(|cause| wrong(path, cause.to_string()));
        let (expected, found) = (encode(tokenizer)?, encode(&reloaded)?);
        if expected != found {
            return Err(wrong(
                path,
                format!("`{text}` became the tokens {found:?}, expected {expected:?}"),
            ));
        }
        equal += expected.len();
    }
    Ok(equal)
}

/// What a written model was made from.
#[derive(Clone, Copy)]
pub struct VerifyAgainst<'a> {
    pub config: &'a DecoderConfig,
    /// The source that was written (merged, if it was merged).
    pub weights: &'a dyn WeightSource,
    pub tokenizer: Option<&'a Tokenizer>,
}

/// Reads a written model back and compares everything with what it was made from.
///
/// Logits are the caller's to compare, with
/// [`compare_logits`], because running a model is not this crate's work.
/// **Errors:** the first thing that is not as it was written, named. **Cost:** decodes both copies of every weight once.
pub fn verify_model(
    ctx: &Ctx,
    path: &Path,
    plan: &ModelPlan,
    against: &VerifyAgainst<'_>,
) -> Result<VerifyReport, ExportError> {
    let VerifyAgainst {
        config,
        weights,
        tokenizer,
    } = *against;
    let file = Arc::new(GgufFile::open(path).map_err(|cause| wrong(path, cause.to_string()))?);
    check_tables(path, &file, plan)?;
    check_settings(path, &file, config)?;
    let tokens_equal = tokenizer
        .map(|tokenizer| check_tokens(path, &file, tokenizer))
        .transpose()?;
    let reloaded = GgufWeights::new(Arc::clone(&file)).map_err(|cause| wrong(path, cause.to_string()))?;
    let mut errors: Vec<TypeError> = Vec::new();
    for name in weights.names() {
        if place(config, &name)? == Place::Implied {
            continue;
        }
        let (expected, found) = (weights.tensor(&name)?, reloaded.tensor(&name)?);
        if expected.shape != found.shape {
            return Err(wrong(
                path,
                format!(
                    "`{name}` has the shape {:?}, expected {:?}",
                    found.shape, expected.shape
                ),
            ));
        }
        let ty = plan_type(plan, config, &name).unwrap_or(found.dtype);
        let relative =
            relative_error(ctx, &expected, &found).ok_or_else(|| wrong(path, format!("`{name}` cannot be decoded")))?;
        // Norms that were stored plus one lose the last bits of small values.
        let bound = relative_bound(ty).max(if config.norm_plus_one { 1e-5 } else { 0.0 });
        if relative.is_nan() || relative > bound {
            return Err(wrong(
                path,
                format!("`{name}` ({ty}) is off by {relative:.4}, its type allows {bound}"),
            ));
        }
        match errors.iter_mut().find(|row| row.ty == ty) {
            Some(row) => {
                row.tensors += 1;
                if relative > row.relative {
                    (row.relative, row.worst) = (relative, name);
                }
            }
            None => errors.push(TypeError {
                ty,
                tensors: 1,
                relative,
                worst: name,
                bound,
            }),
        }
        release([weights, &reloaded]);
    }
    errors.sort_by_key(|row| row.ty);
    Ok(VerifyReport {
        bytes: file.bytes().len() as u64,
        tensors: plan.tensors.len(),
        metadata_keys: plan.metadata.len(),
        tokens_equal,
        errors,
    })
}

/// The type that a checkpoint tensor was written as.
fn plan_type(plan: &ModelPlan, config: &DecoderConfig, name: &str) -> Option<GgmlType> {
    let (Place::Own { name, .. } | Place::Expert { name, .. }) = place(config, name).ok()? else {
        return None;
    };
    plan.tensors
        .iter()
        .find(|tensor| tensor.row.name == name)
        .map(|tensor| tensor.row.ty)
}

/// Compares rows of logits, the model in memory first.
///
/// **Panics:** when the two are not as long as each other, or not whole rows of `vocab`.
pub fn compare_logits(quant: Quant, expected: &[f32], found: &[f32], vocab: usize) -> LogitsReport {
    assert!(
        expected.len() == found.len() && vocab > 0 && expected.len().is_multiple_of(vocab),
        "rows of logits"
    );
    let mut report = LogitsReport {
        rows: expected.len() / vocab,
        kl_mean: 0.0,
        kl_bound: kl_bound(quant),
        argmax_equal: 0,
        max_abs_difference: 0.0,
    };
    for (expected, found) in expected.chunks_exact(vocab).zip(found.chunks_exact(vocab)) {
        report.kl_mean += divergence(expected, found);
        report.argmax_equal += usize::from(argmax(expected) == argmax(found));
        let differences = expected.iter().zip(found).map(|(a, b)| (a - b).abs());
        report.max_abs_difference = differences.fold(report.max_abs_difference, f32::max);
    }
    report.kl_mean /= report.rows.max(1) as f64;
    report
}

fn argmax(row: &[f32]) -> usize {
    let better = |best: (usize, f32), (i, x): (usize, &f32)| if *x > best.1 { (i, *x) } else { best };
    row.iter().enumerate().fold((0, f32::NEG_INFINITY), better).0
}

fn log_sum(row: &[f32]) -> f64 {
    let max = f64::from(row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    max + row.iter().map(|x| (f64::from(*x) - max).exp()).sum::<f64>().ln()
}

fn divergence(expected: &[f32], found: &[f32]) -> f64 {
    let (a, b) = (log_sum(expected), log_sum(found));
    let pairs = expected.iter().zip(found);
    pairs
        .map(|(x, y)| (f64::from(*x) - a).exp() * ((f64::from(*x) - a) - (f64::from(*y) - b)))
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_logits_have_no_divergence_and_shifted_ones_neither() {
        let expected = [1.0, 2.0, 3.0, 0.5, -1.0, 0.0];
        let shifted = expected.map(|x| x + 4.0);
        let report = compare_logits(Quant::F16, &expected, &shifted, 3);
        assert!(report.kl_mean.abs() < 1e-9 && report.is_within(), "{report:?}");
        assert_eq!((report.rows, report.argmax_equal), (2, 2));
    }

    #[test]
    fn other_logits_diverge() {
        let report = compare_logits(Quant::Q4_K_M, &[9.0, 0.0], &[0.0, 9.0], 2);
        assert!(!report.is_within() && report.argmax_equal == 0, "{report:?}");
    }
}
