//! Importance matrices: what is measured, what a file says, and what it does to the rounding.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::path::Path;

use dlm_core::{Cancel, Quant, Quiet};
use dlm_export::{
    Identity, Imatrix, ImatrixEntry, ModelExport, ModelPlan, Vocabulary, WriteOptions, plan_model, write_model,
};
use dlm_kernels::{Ctx, Simd};
use dlm_model::base::{OpenedBase, open_base};
use dlm_model::gguf::{GgufFile, GgufWeights};
use dlm_model::weights::WeightSource;
use dlm_model::{Batch, InputSquares, LoadOptions, Model};
use dlm_testkit::gguf::GgufBytes;
use dlm_testkit::{architectures, tiny};

fn load(name: &str, threads: usize) -> (OpenedBase, Model) {
    let base = open_base(&architectures::dir(name)).unwrap();
    let model = base
        .load(LoadOptions::exact(Ctx::new(threads, Simd::detect())))
        .unwrap();
    (base, model)
}

fn measured(base: &OpenedBase, model: &Model, rows: &[Vec<u32>]) -> Imatrix {
    let squares = InputSquares::new(model);
    let squares = model
        .watch_inputs(&Cancel::new(), &Batch::packed(rows), squares)
        .unwrap();
    Imatrix::of(base.config(), model.modules(), &squares).unwrap()
}

fn planned(base: &OpenedBase, quant: Quant) -> ModelPlan {
    let config = base.config();
    let vocabulary = Vocabulary::new(&base.text().tokenizer, config.vocab).unwrap();
    plan_model(&ModelExport {
        config,
        weights: base.weights(),
        vocabulary: &vocabulary,
        chat_template: None,
        identity: &Identity::default(),
        quant,
        is_weighted: false,
    })
    .unwrap()
}

fn write(base: &OpenedBase, matrix: Option<&Imatrix>, quant: Quant, threads: usize, path: &Path) -> String {
    let plan = planned(base, quant);
    let importance = matrix.map(|matrix| matrix.importance(&plan).unwrap());
    let options = WriteOptions {
        importance: importance.as_ref(),
        progress: &Quiet,
        cancel: &Cancel::new(),
    };
    let ctx = Ctx::new(threads, Simd::detect());
    write_model(&ctx, &plan, base.weights(), path, &options).unwrap().sha256
}

#[test]
fn every_matrix_of_a_block_is_measured_and_none_outside() {
    for name in architectures::ALL {
        let (base, model) = load(name, 2);
        let matrix = measured(&base, &model, &tiny::sequences());
        let plan = planned(&base, Quant::F16);
        let is_routed = |name: &str| name.ends_with("ffn_gate_inp.weight");
        let blocks = plan.tensors.iter().filter(|tensor| {
            tensor.row.shape.len() > 1 && tensor.row.name.starts_with("blk.") && !is_routed(&tensor.row.name)
        });
        let expected: Vec<&str> = blocks.map(|tensor| tensor.row.name.as_str()).collect();
        let mut found: Vec<&str> = matrix.entries.keys().map(String::as_str).collect();
        found.sort_by_key(|name| expected.iter().position(|other| other == name));
        assert_eq!(found, expected, "{name}");
        assert!(!matrix.importance(&plan).unwrap().is_empty(), "{name}");
    }
}

#[test]
fn sums_are_those_of_what_a_matrix_reads() {
    let (base, model) = load("llama", 2);
    let rows = tiny::sequences();
    let matrix = measured(&base, &model, &rows);
    // What the first layer's query reads is the norm of the embedding.
    let floats = |name: &str| -> Vec<f32> {
        let raw = base.weights().tensor(name).unwrap();
        raw.bytes
            .as_chunks::<4>()
            .0
            .iter()
            .map(|raw| f32::from_le_bytes(*raw))
            .collect()
    };
    let (embed, norm) = (
        floats("model.embed_tokens.weight"),
        floats("model.layers.0.input_layernorm.weight"),
    );
    let d = norm.len();
    let mut expected = vec![0.0f64; d];
    for token in rows.concat() {
        let row = &embed[token as usize * d..][..d];
        let mean = row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / d as f64;
        let inverse = 1.0 / (mean + f64::from(base.config().norm_eps)).sqrt();
        for ((sum, x), weight) in expected.iter_mut().zip(row).zip(&norm) {
            *sum += (f64::from(*x) * inverse * f64::from(*weight)).powi(2);
        }
    }
    let entry = &matrix.entries["blk.0.attn_q.weight"];
    assert_eq!(entry.counts, [rows.concat().len() as f32]);
    for (found, expected) in entry.sums.iter().zip(&expected) {
        assert!(
            (f64::from(*found) - expected).abs() <= 1e-4 * expected,
            "{found} {expected}"
        );
    }
    assert_eq!(matrix.entries["blk.0.attn_k.weight"], *entry);
}

#[test]
fn experts_count_the_rows_that_chose_them() {
    let (base, model) = load("mixtral", 2);
    let rows = tiny::sequences();
    let matrix = measured(&base, &model, &rows);
    let experts = base.config().experts.unwrap();
    let tokens = rows.concat().len() * experts.per_token;
    for part in ["gate", "up", "down"] {
        let entry = &matrix.entries[&format!("blk.0.ffn_{part}_exps.weight")];
        assert_eq!(entry.counts.len(), experts.count, "{part}");
        assert_eq!(entry.counts.iter().sum::<f32>(), tokens as f32, "{part}");
    }
    // An expert that read nothing rounds evenly, and the others are not touched by that.
    let plan = planned(&base, Quant::Q4_K_M);
    let mut silent = matrix.clone();
    let entry = silent.entries.get_mut("blk.0.ffn_up_exps.weight").unwrap();
    entry.counts[1] = 0.0;
    let importance = silent.importance(&plan).unwrap();
    let of = &importance["blk.0.ffn_up_exps.weight"];
    assert!(of[1].is_none() && of[0].is_some());
    let directory = tempfile::tempdir().unwrap();
    let [whole, part] = [&matrix, &silent].map(|matrix| {
        let path = directory.path().join("model.gguf");
        write(&base, Some(matrix), Quant::Q4_K_M, 2, &path);
        let file = GgufFile::open(&path).unwrap();
        file.raw("blk.0.ffn_up_exps.weight").unwrap().1.to_vec()
    });
    let each = whole.len() / experts.count;
    let differs: Vec<bool> = whole.chunks(each).zip(part.chunks(each)).map(|(a, b)| a != b).collect();
    assert_eq!(differs, [false, true, false, false]);
}

/// Squared error of a file's matrices, weighted by how strongly each column is used.
fn weighted_error(base: &OpenedBase, matrix: &Imatrix, path: &Path) -> f64 {
    let written = GgufWeights::new(std::sync::Arc::new(GgufFile::open(path).unwrap())).unwrap();
    let values = |source: &dyn WeightSource, name: &str| {
        let raw = source.tensor(name).unwrap();
        let mut values = vec![0.0; raw.shape.iter().product()];
        dlm_kernels::quant::dequantize_row(raw.dtype, &raw.bytes, &mut values).unwrap();
        values
    };
    let mut error = 0.0;
    for (hub, file) in [
        ("self_attn.v_proj", "attn_v"),
        ("mlp.up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
    ] {
        let name = format!("model.layers.1.{hub}.weight");
        let (exact, rounded) = (values(base.weights(), &name), values(&written, &name));
        let sums = &matrix.entries[&format!("blk.1.{file}.weight")].sums;
        let pairs = exact.chunks(sums.len()).zip(rounded.chunks(sums.len()));
        for (exact, rounded) in pairs {
            let each = exact.iter().zip(rounded).zip(sums);
            error += each.map(|((a, b), sum)| f64::from((a - b).powi(2) * sum)).sum::<f64>();
        }
    }
    error
}

#[test]
fn what_is_used_most_is_rounded_least() {
    let (base, model) = load("llama", 2);
    let matrix = measured(&base, &model, &tiny::sequences());
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.gguf");
    for quant in Quant::ALL.into_iter().filter(|quant| quant.is_k_quant()) {
        let plain = write(&base, None, quant, 2, &path);
        let before = weighted_error(&base, &matrix, &path);
        let weighted = write(&base, Some(&matrix), quant, 2, &path);
        let after = weighted_error(&base, &matrix, &path);
        // Rows of 64 at Q6_K are Q8_0, which has no scale to search for.
        if quant == Quant::Q6_K {
            assert_eq!(plain, weighted);
            continue;
        }
        assert!(after < 0.95 * before, "{quant:?}: {before} {after}");
    }
}

#[test]
fn threads_and_order_change_no_byte_and_a_file_comes_back_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let mut digests = Vec::new();
    for threads in [1, 2, 5] {
        let (base, model) = load("gemma2", threads);
        let matrix = Imatrix {
            datasets: vec!["some text".to_owned(), "more".to_owned()],
            chunk_count: 1,
            chunk_size: 512,
            ..measured(&base, &model, &tiny::sequences())
        };
        let written = matrix.write(&path("imatrix.gguf")).unwrap();
        assert_eq!(Imatrix::read(&path("imatrix.gguf")).unwrap(), matrix);
        digests.push((
            written.sha256,
            write(&base, Some(&matrix), Quant::Q4_K_M, threads, &path("model.gguf")),
        ));
    }
    assert!(digests.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn files_that_do_not_fit_are_refused_with_their_cause() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("imatrix.gguf");
    let refused = |bytes: Vec<u8>| {
        std::fs::write(&path, bytes).unwrap();
        Imatrix::read(&path).unwrap_err().to_string()
    };
    let start = || GgufBytes::default().string("general.type", "imatrix");
    let sums = |values: &[f32]| start().floats("blk.0.attn_q.weight.in_sum2", &[2, 1], values);
    let found = [
        refused(GgufBytes::default().string("general.type", "model").bytes()),
        refused(start().bytes()),
        refused(sums(&[1.0, 2.0]).bytes()),
        refused(
            sums(&[1.0, f32::NAN])
                .floats("blk.0.attn_q.weight.counts", &[1, 1], &[3.0])
                .bytes(),
        ),
        refused(
            sums(&[1.0, -1.0])
                .floats("blk.0.attn_q.weight.counts", &[1, 1], &[3.0])
                .bytes(),
        ),
        refused(
            sums(&[1.0, 2.0])
                .floats("blk.0.attn_q.weight.counts", &[2, 1], &[3.0, 1.0])
                .bytes(),
        ),
        refused(b"no file of that kind".to_vec()),
    ];
    let expected = [
        "it is a model",
        "no sums",
        "counts` is missing",
        "holds NaN",
        "holds -1",
        "2 counts",
        "",
    ];
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.contains(expected), "{found}");
    }
    let (base, _) = load("llama", 1);
    let plan = planned(&base, Quant::Q4_K_M);
    let of = |name: &str, columns: usize| Imatrix {
        entries: [(
            name.to_owned(),
            ImatrixEntry {
                sums: vec![1.0; columns],
                counts: vec![1.0],
            },
        )]
        .into(),
        ..Imatrix::default()
    };
    let error = of("blk.0.attn_q.weight", 3).importance(&plan).unwrap_err().to_string();
    assert!(
        error.contains("has 3 columns for 1 experts in it, and 64 for 1"),
        "{error}"
    );
    let error = of("blk.0.attn_x.weight", 64).importance(&plan).unwrap_err().to_string();
    assert!(error.contains("none of this model's matrices"), "{error}");
}
