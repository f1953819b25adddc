//! The real base of `DLM_TEST_BASE` (a GGUF file), exported at every level and read back.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::path::Path;
use std::sync::Arc;

use dlm_core::{Cancel, Quant, Quiet};
use dlm_export::{
    AdapterExport, AdapterModule, Identity, ModelExport, VerifyAgainst, Vocabulary, WriteOptions, plan_adapter,
    plan_model, verify_model, write_adapter, write_model,
};
use dlm_kernels::{Ctx, Simd};
use dlm_model::config::config_from_gguf;
use dlm_model::gguf::{GgufFile, GgufWeights, Value};
use dlm_model::safetensors_dir::SafetensorsDir;
use dlm_model::tokenizer::tokenizer_from_gguf;
use dlm_model::weights::WeightSource;

#[test]
#[ignore = "needs the real base: DLM_TEST_BASE"]
fn the_real_base_survives_every_level() {
    let base = std::env::var_os("DLM_TEST_BASE").expect("DLM_TEST_BASE names the real base");
    let file = Arc::new(GgufFile::open(Path::new(&base)).unwrap());
    let weights = GgufWeights::new(Arc::clone(&file)).unwrap();
    let config = config_from_gguf(&file).unwrap();
    let tokenizer = tokenizer_from_gguf(&file).unwrap();
    let vocabulary = Vocabulary::new(&tokenizer, config.vocab).unwrap();
    for (key, found) in [("tokens", &vocabulary.tokens), ("merges", &vocabulary.merges)] {
        let list = file
            .value(&format!("tokenizer.ggml.{key}"))
            .and_then(Value::as_array)
            .unwrap();
        assert!(
            list.iter()
                .map(Value::as_str)
                .eq(found.iter().map(|text| Some(text.as_str()))),
            "{key} differ"
        );
    }
    let template = file.value("tokenizer.chat_template").and_then(Value::as_str);
    let identity = Identity {
        name: "Exported".to_owned(),
        ..Identity::default()
    };
    let dir = tempfile::tempdir().unwrap();
    let keep = std::env::var_os("DLM_TEST_KEEP");
    let dir = keep.as_deref().map_or(dir.path(), Path::new);
    let ctx = Ctx::new(2, Simd::detect());
    for quant in Quant::ALL {
        let export = ModelExport {
            config: &config,
            weights: &weights,
            vocabulary: &vocabulary,
            chat_template: template,
            identity: &identity,
            quant,
            is_weighted: false,
        };
        let plan = plan_model(&export).unwrap();
        let path = dir.join(format!("base.{}.gguf", quant.name()));
        let start = std::time::Instant::now();
        let written = write_model(
            &ctx,
            &plan,
            &weights,
            &path,
            &WriteOptions {
                importance: None,
                progress: &Quiet,
                cancel: &Cancel::new(),
            },
        )
        .unwrap();
        let wrote = start.elapsed();
        let report = verify_model(
            &ctx,
            &path,
            &plan,
            &VerifyAgainst {
                config: &config,
                weights: &weights,
                tokenizer: Some(&tokenizer),
            },
        )
        .unwrap();
        eprintln!(
            "{}: {} bytes, written in {wrote:?}, checked in {:?}",
            quant.name(),
            written.bytes,
            start.elapsed() - wrote
        );
        for row in &report.errors {
            eprintln!(
                "  {} x {}: relative error {:.5} ({})",
                row.tensors, row.ty, row.relative, row.worst
            );
        }
        assert_eq!(report.tensors, 272);
    }
}

/// The values of an F32 tensor of PEFT's file.
fn values(weights: &SafetensorsDir, name: &str) -> Vec<f32> {
    let raw = weights.tensor(name).unwrap();
    raw.bytes
        .as_chunks::<4>()
        .0
        .iter()
        .map(|bytes| f32::from_le_bytes(*bytes))
        .collect()
}

#[test]
#[ignore = "needs the real base: DLM_TEST_BASE"]
fn the_golden_adapter_of_the_real_base_is_written() {
    let base = std::env::var_os("DLM_TEST_BASE").expect("DLM_TEST_BASE names the real base");
    let config = config_from_gguf(&GgufFile::open(Path::new(&base)).unwrap()).unwrap();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/adapter_init");
    let peft = SafetensorsDir::open_file(&golden.join("adapter_model.safetensors")).unwrap();
    let names: Vec<String> = peft
        .names()
        .into_iter()
        .filter(|name| name.ends_with("lora_A.weight"))
        .collect();
    let tensors: Vec<(String, Vec<f32>, Vec<f32>)> = names
        .iter()
        .map(|a| {
            let path = a
                .strip_prefix("base_model.model.")
                .unwrap()
                .strip_suffix(".lora_A.weight")
                .unwrap();
            (
                path.to_owned(),
                values(&peft, a),
                values(&peft, &a.replace("lora_A", "lora_B")),
            )
        })
        .collect();
    let modules: Vec<AdapterModule<'_>> = tensors
        .iter()
        .map(|(path, a, b)| AdapterModule {
            path,
            n: b.len() / 4,
            k: a.len() / 4,
            rank: 4,
            scale: 2.0,
            a,
            b,
            has_magnitude: false,
        })
        .collect();
    assert_eq!(modules.len(), 60);
    let identity = Identity {
        name: "Golden adapter".to_owned(),
        ..Identity::default()
    };
    let plan = plan_adapter(&AdapterExport {
        config: &config,
        modules: &modules,
        identity: &identity,
    })
    .unwrap();
    let dir = tempfile::tempdir().unwrap();
    let keep = std::env::var_os("DLM_TEST_KEEP");
    let path = keep.as_deref().map_or(dir.path(), Path::new).join("adapter.gguf");
    write_adapter(&plan, &path).unwrap();
    let file = GgufFile::open(&path).unwrap();
    assert_eq!(file.header().tensors.len(), 120);
    assert_eq!(file.header().tensors["blk.29.attn_v.weight.lora_b"].shape, [192, 4]);
}
