//! The tiny models of `tests/golden/arch`, exported at every level and read back.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dlm_core::{Cancel, Quant, Quiet};
use dlm_export::{
    ExportError, Identity, ModelExport, ModelPlan, VerifyAgainst, Vocabulary, WriteOptions, plan_model, verify_model,
    write_model,
};
use dlm_kernels::quant::GgmlType;
use dlm_kernels::{Ctx, Simd};
use dlm_model::config::{DecoderConfig, parse_config};
use dlm_model::gguf::{GgufFile, GgufWeights, Value};
use dlm_model::safetensors_dir::SafetensorsDir;
use dlm_model::tokenizer::{TokenizerFiles, read_tokenizer_dir};
use dlm_model::weights::WeightSource;
use dlm_testkit::architectures;

struct Tiny {
    config: DecoderConfig,
    weights: SafetensorsDir,
    text: TokenizerFiles,
    vocabulary: Vocabulary,
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/golden/arch")
        .join(name)
}

fn tiny(name: &str) -> Tiny {
    let dir = golden(name);
    let config = parse_config(&std::fs::read(dir.join("config.json")).unwrap()).unwrap();
    let text = read_tokenizer_dir(&dir).unwrap();
    let vocabulary = Vocabulary::new(&text.tokenizer, config.vocab).unwrap();
    Tiny {
        weights: SafetensorsDir::open(&dir).unwrap(),
        config,
        text,
        vocabulary,
    }
}

fn identity() -> Identity {
    Identity {
        name: "Tiny".to_owned(),
        license: Some("apache-2.0".to_owned()),
        provenance: vec![("dlm.id".to_owned(), "01TEST".to_owned())],
        ..Identity::default()
    }
}

fn plan(tiny: &Tiny, quant: Quant) -> ModelPlan {
    plan_model(&ModelExport {
        config: &tiny.config,
        weights: &tiny.weights,
        vocabulary: &tiny.vocabulary,
        chat_template: Some("{{ messages }}"),
        identity: &identity(),
        quant,
        is_weighted: false,
    })
    .unwrap()
}

fn write(ctx: &Ctx, tiny: &Tiny, plan: &ModelPlan, path: &Path) -> dlm_export::WrittenFile {
    write_model(
        ctx,
        plan,
        &tiny.weights,
        path,
        &WriteOptions {
            importance: None,
            progress: &Quiet,
            cancel: &Cancel::new(),
        },
    )
    .unwrap()
}

#[test]
fn every_model_survives_every_level() {
    let ctx = Ctx::new(2, Simd::detect());
    let dir = tempfile::tempdir().unwrap();
    for name in architectures::ALL {
        let tiny = tiny(name);
        for quant in Quant::ALL {
            let plan = plan(&tiny, quant);
            let path = dir.path().join(format!("{name}.{}.gguf", quant.name()));
            let written = write(&ctx, &tiny, &plan, &path);
            assert_eq!(written.bytes, plan.bytes, "{name} {quant:?}: planned and written bytes");
            assert_eq!(written.bytes, std::fs::metadata(&path).unwrap().len());
            let report = verify_model(
                &ctx,
                &path,
                &plan,
                &VerifyAgainst {
                    config: &tiny.config,
                    weights: &tiny.weights,
                    tokenizer: Some(&tiny.text.tokenizer),
                },
            );
            let report = report.unwrap_or_else(|error| panic!("{name} {quant:?}: {error}"));
            assert!(report.tokens_equal.unwrap() > 50, "{name} {quant:?}: {report:?}");
            assert!(
                report.errors.iter().any(|row| row.ty == GgmlType::F32),
                "{name} {quant:?}: {report:?}"
            );
        }
    }
}

#[test]
fn bytes_do_not_depend_on_threads_or_vectors() {
    let dir = tempfile::tempdir().unwrap();
    let tiny = tiny("llama");
    let plan = plan(&tiny, Quant::Q4_K_M);
    let mut digests = Vec::new();
    for (threads, simd) in [(1, Simd::Scalar), (2, Simd::detect()), (5, Simd::detect())] {
        let path = dir.path().join(format!("{threads}.gguf"));
        digests.push(write(&Ctx::new(threads, simd), &tiny, &plan, &path).sha256);
    }
    assert_eq!(digests[0], digests[1]);
    assert_eq!(digests[1], digests[2]);
}

#[test]
fn a_model_read_from_gguf_is_written_the_same_again() {
    let ctx = Ctx::new(2, Simd::detect());
    let dir = tempfile::tempdir().unwrap();
    for name in architectures::ALL {
        let tiny = tiny(name);
        let first = dir.path().join("first.gguf");
        let plan = plan(&tiny, Quant::F16);
        write(&ctx, &tiny, &plan, &first);
        let file = Arc::new(GgufFile::open(&first).unwrap());
        let weights = GgufWeights::new(Arc::clone(&file)).unwrap();
        let config = dlm_model::config::config_from_gguf(&file).unwrap();
        let again = plan_model(&ModelExport {
            config: &config,
            weights: &weights,
            vocabulary: &tiny.vocabulary,
            chat_template: Some("{{ messages }}"),
            identity: &identity(),
            quant: Quant::F16,
            is_weighted: false,
        })
        .unwrap();
        let second = dir.path().join("second.gguf");
        write_model(
            &ctx,
            &again,
            &weights,
            &second,
            &WriteOptions {
                importance: None,
                progress: &Quiet,
                cancel: &Cancel::new(),
            },
        )
        .unwrap();
        let (left, right) = (GgufFile::open(&first).unwrap(), GgufFile::open(&second).unwrap());
        assert_eq!(left.header().metadata, right.header().metadata, "{name}");
        for tensor in left.header().tensors.keys() {
            assert_eq!(left.raw(tensor), right.raw(tensor), "{name} {tensor}");
        }
    }
}

fn text_of(file: &GgufFile, key: &str) -> String {
    file.value(key)
        .and_then(Value::as_str)
        .unwrap_or_else(|| panic!("{key} is missing"))
        .to_owned()
}

#[test]
fn metadata_says_what_the_families_need() {
    let ctx = Ctx::new(1, Simd::detect());
    let dir = tempfile::tempdir().unwrap();
    let expected = BTreeMap::from([
        ("llama3-rope", ("llama", "rope_freqs.weight")),
        ("smollm3", ("smollm3", "blk.0.attn_q.weight")),
        ("qwen2", ("qwen2", "blk.0.attn_q.bias")),
        ("qwen3", ("qwen3", "blk.0.attn_q_norm.weight")),
        ("gemma2", ("gemma2", "blk.0.post_ffw_norm.weight")),
        ("gemma3", ("gemma3", "blk.0.attn_k_norm.weight")),
        ("phi3", ("phi3", "blk.0.attn_qkv.weight")),
        ("phi4-longrope", ("phi3", "rope_factors_long.weight")),
        ("olmo2", ("olmo2", "blk.0.post_attention_norm.weight")),
        ("mixtral", ("llama", "blk.0.ffn_gate_exps.weight")),
    ]);
    for (name, (architecture, tensor)) in expected {
        let tiny = tiny(name);
        let path = dir.path().join("one.gguf");
        write(&ctx, &tiny, &plan(&tiny, Quant::Q8_0), &path);
        let file = GgufFile::open(&path).unwrap();
        assert_eq!(text_of(&file, "general.architecture"), architecture, "{name}");
        assert_eq!(text_of(&file, "general.type"), "model");
        assert_eq!(text_of(&file, "tokenizer.ggml.pre"), "gpt-2");
        assert_eq!(text_of(&file, "tokenizer.chat_template"), "{{ messages }}");
        assert_eq!(text_of(&file, "dlm.id"), "01TEST");
        assert_eq!(file.value("general.file_type"), Some(&Value::U32(7)));
        assert!(file.header().tensors.contains_key(tensor), "{name} lacks {tensor}");
    }
}

#[test]
fn a_changed_byte_is_found() {
    let ctx = Ctx::new(1, Simd::detect());
    let dir = tempfile::tempdir().unwrap();
    let tiny = tiny("llama");
    let plan = plan(&tiny, Quant::Q8_0);
    let path = dir.path().join("model.gguf");
    write(&ctx, &tiny, &plan, &path);
    let place = GgufFile::open(&path).unwrap().header().tensors["blk.1.attn_k.weight"]
        .bytes
        .clone();
    let mut bytes = std::fs::read(&path).unwrap();
    // The scale of a block: its values become something else altogether.
    bytes[place.start + 1] ^= 0x40;
    std::fs::write(&path, &bytes).unwrap();
    let error = verify_model(
        &ctx,
        &path,
        &plan,
        &VerifyAgainst {
            config: &tiny.config,
            weights: &tiny.weights,
            tokenizer: None,
        },
    )
    .unwrap_err();
    assert!(
        error.to_string().contains("model.layers.1.self_attn.k_proj.weight"),
        "{error}"
    );
    bytes.truncate(bytes.len() - 64);
    std::fs::write(&path, &bytes).unwrap();
    assert!(matches!(
        verify_model(
            &ctx,
            &path,
            &plan,
            &VerifyAgainst {
                config: &tiny.config,
                weights: &tiny.weights,
                tokenizer: None
            }
        ),
        Err(ExportError::Verify { .. })
    ));
}

#[test]
fn an_interrupted_export_leaves_the_earlier_file() {
    let ctx = Ctx::new(1, Simd::detect());
    let dir = tempfile::tempdir().unwrap();
    let tiny = tiny("llama");
    let plan = plan(&tiny, Quant::F16);
    let path = dir.path().join("model.gguf");
    std::fs::write(&path, b"earlier").unwrap();
    let cancel = Cancel::new();
    cancel.cancel();
    let outcome = write_model(
        &ctx,
        &plan,
        &tiny.weights,
        &path,
        &WriteOptions {
            importance: None,
            progress: &Quiet,
            cancel: &cancel,
        },
    );
    assert!(matches!(outcome, Err(ExportError::Cancelled)));
    assert_eq!(std::fs::read(&path).unwrap(), b"earlier");
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().count(),
        1,
        "no partial file is left"
    );
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_named() {
    let ctx = Ctx::new(1, Simd::detect());
    let tiny = tiny("llama");
    let plan = plan(&tiny, Quant::F16);
    let dir = tempfile::tempdir().unwrap();
    // A partial name that leads to the device on which every write fails for lack of space.
    std::os::unix::fs::symlink("/dev/full", dir.path().join("model.gguf.partial")).unwrap();
    let path = dir.path().join("model.gguf");
    let error = write_model(
        &ctx,
        &plan,
        &tiny.weights,
        &path,
        &WriteOptions {
            importance: None,
            progress: &Quiet,
            cancel: &Cancel::new(),
        },
    )
    .unwrap_err();
    assert!(matches!(error, ExportError::DiskFull { .. }), "{error}");
    assert!(!path.exists() && !dir.path().join("model.gguf.partial").exists());
}

#[test]
fn values_that_a_type_cannot_carry_are_refused() {
    struct Infinite<'a>(&'a SafetensorsDir);
    impl WeightSource for Infinite<'_> {
        fn tensor(&self, name: &str) -> Result<dlm_model::weights::RawTensor<'_>, dlm_model::weights::WeightError> {
            let mut raw = self.0.tensor(name)?;
            if name.ends_with("up_proj.weight") {
                raw.bytes.to_mut()[..4].copy_from_slice(&1e6f32.to_le_bytes());
            }
            Ok(raw)
        }
        fn names(&self) -> Vec<String> {
            self.0.names()
        }
        fn has(&self, name: &str) -> bool {
            self.0.has(name)
        }
    }
    let ctx = Ctx::new(2, Simd::detect());
    let dir = tempfile::tempdir().unwrap();
    let tiny = tiny("llama");
    let plan = plan(&tiny, Quant::Q4_K_M);
    let path = dir.path().join("model.gguf");
    let error = write_model(
        &ctx,
        &plan,
        &Infinite(&tiny.weights),
        &path,
        &WriteOptions {
            importance: None,
            progress: &Quiet,
            cancel: &Cancel::new(),
        },
    )
    .unwrap_err();
    assert!(
        matches!(&error, ExportError::Value { name, found, .. } if name.ends_with("up_proj.weight") && *found == 1e6)
    );
}
