//! Adapter files, read back with the model reader.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::path::{Path, PathBuf};

use dlm_export::{AdapterExport, AdapterModule, ExportError, Identity, plan_adapter, write_adapter};
use dlm_kernels::quant::dequantize_row;
use dlm_model::config::{DecoderConfig, parse_config};
use dlm_model::gguf::{GgufFile, Value};

fn config(name: &str) -> DecoderConfig {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/golden/arch")
        .join(name)
        .join("config.json");
    parse_config(&std::fs::read(path).unwrap()).unwrap()
}

fn ramp(len: usize) -> Vec<f32> {
    (0..len).map(|i| i as f32 / 64.0).collect()
}

fn module<'a>(path: &'a str, a: &'a [f32], b: &'a [f32], rank: usize, scale: f32) -> AdapterModule<'a> {
    AdapterModule {
        path,
        n: b.len() / rank,
        k: a.len() / rank,
        rank,
        scale,
        a,
        b,
        has_magnitude: false,
    }
}

fn read(file: &GgufFile, name: &str) -> (Vec<usize>, Vec<f32>) {
    let (info, bytes) = file.raw(name).unwrap_or_else(|| panic!("{name} is missing"));
    let mut values = vec![0.0; info.shape.iter().product()];
    dequantize_row(info.dtype, bytes, &mut values).unwrap();
    (info.shape.clone(), values)
}

fn write(config: &DecoderConfig, modules: &[AdapterModule<'_>], dir: &Path) -> GgufFile {
    let identity = Identity {
        name: "Tiny adapter".to_owned(),
        ..Identity::default()
    };
    let plan = plan_adapter(&AdapterExport {
        config,
        modules,
        identity: &identity,
    })
    .unwrap();
    let path = dir.join("adapter.gguf");
    write_adapter(&plan, &path).unwrap();
    GgufFile::open(&path).unwrap()
}

#[test]
fn tensors_keep_their_orientation_and_q_rows_follow_the_base() {
    let config = config("llama");
    let (k, head_dim) = (config.d_model, config.head_dim);
    let (a, b) = (ramp(2 * k), ramp(2 * config.q_width()));
    let (v_a, v_b) = (ramp(2 * k), ramp(2 * config.kv_width()));
    let modules = [
        module("model.layers.1.self_attn.q_proj", &a, &b, 2, 4.0),
        module("model.layers.0.self_attn.v_proj", &v_a, &v_b, 2, 4.0),
    ];
    let dir = tempfile::tempdir().unwrap();
    let file = write(&config, &modules, dir.path());
    assert_eq!(file.value("general.type"), Some(&Value::String("adapter".to_owned())));
    assert_eq!(file.value("adapter.type"), Some(&Value::String("lora".to_owned())));
    assert_eq!(file.value("adapter.lora.alpha"), Some(&Value::F32(8.0)));
    assert_eq!(file.architecture(), Some("llama"));
    assert_eq!(read(&file, "blk.1.attn_q.weight.lora_a"), (vec![2, k], a));
    assert_eq!(
        read(&file, "blk.0.attn_v.weight.lora_b"),
        (vec![config.kv_width(), 2], v_b)
    );
    let (shape, found) = read(&file, "blk.1.attn_q.weight.lora_b");
    assert_eq!(shape, [config.q_width(), 2]);
    // File row 2i + j is row j * half + i of each head.
    for head in 0..config.n_heads {
        for i in 0..head_dim / 2 {
            for j in 0..2 {
                let (file_row, row) = (head * head_dim + 2 * i + j, head * head_dim + j * head_dim / 2 + i);
                assert_eq!(
                    found[2 * file_row..2 * file_row + 2],
                    b[2 * row..2 * row + 2],
                    "head {head} row {row}"
                );
            }
        }
    }
}

#[test]
fn rows_stay_where_the_base_does_not_reorder() {
    let config = config("qwen2");
    let (a, b) = (ramp(2 * config.d_model), ramp(2 * config.q_width()));
    let modules = [module("model.layers.0.self_attn.q_proj", &a, &b, 2, 1.0)];
    let dir = tempfile::tempdir().unwrap();
    let file = write(&config, &modules, dir.path());
    assert_eq!(read(&file, "blk.0.attn_q.weight.lora_b").1, b);
}

#[test]
fn differing_scales_are_folded_into_b() {
    let config = config("llama");
    let (a, b) = (ramp(2 * config.d_model), ramp(2 * config.kv_width()));
    let (a4, b4) = (ramp(4 * config.d_model), ramp(4 * config.kv_width()));
    let modules = [
        module("model.layers.0.self_attn.v_proj", &a, &b, 2, 4.0),
        module("model.layers.1.self_attn.v_proj", &a4, &b4, 4, 0.5),
    ];
    let dir = tempfile::tempdir().unwrap();
    let file = write(&config, &modules, dir.path());
    // The runtime's scale is alpha / rank: 8 / 2 for the first, 8 / 4 for the second, which wants 0.5.
    assert_eq!(file.value("adapter.lora.alpha"), Some(&Value::F32(8.0)));
    let (_, found) = read(&file, "blk.1.attn_v.weight.lora_b");
    let expected: Vec<f32> = b4.iter().map(|value| value / 4.0).collect();
    assert_eq!(found, expected);
}

fn refused(config: &DecoderConfig, modules: &[AdapterModule<'_>]) -> String {
    let identity = Identity::default();
    match plan_adapter(&AdapterExport {
        config,
        modules,
        identity: &identity,
    }) {
        Err(error @ (ExportError::Adapter { .. } | ExportError::AdapterValue { .. })) => error.to_string(),
        other => panic!("expected a refusal, found {other:?}"),
    }
}

#[test]
fn what_the_format_cannot_say_is_refused() {
    let llama = config("llama");
    let (a, b) = (ramp(2 * llama.d_model), ramp(2 * llama.kv_width()));
    let good = module("model.layers.0.self_attn.v_proj", &a, &b, 2, 1.0);
    assert!(refused(&llama, &[]).contains("changes nothing"));
    assert!(
        refused(
            &llama,
            &[AdapterModule {
                has_magnitude: true,
                ..good
            }]
        )
        .contains("DoRA")
    );
    assert!(
        refused(
            &llama,
            &[AdapterModule {
                path: "lm_head",
                ..good
            }]
        )
        .contains("no tensor of its own")
    );
    assert!(
        refused(
            &llama,
            &[AdapterModule {
                path: "model.layers.99.mlp.up_proj",
                ..good
            }]
        )
        .contains("no tensor")
    );
    assert!(refused(&llama, &[AdapterModule { k: 3, ..good }]).contains("not [2, 3]"));
    assert!(refused(&llama, &[good, good]).contains("twice"));
    assert!(refused(&llama, &[AdapterModule { scale: 0.0, ..good }]).contains("scale"));
    let huge = vec![1e9; b.len()];
    assert!(refused(&llama, &[AdapterModule { b: &huge, ..good }]).contains("cannot carry"));
    let mixtral = config("mixtral");
    let expert = AdapterModule {
        path: "model.layers.0.block_sparse_moe.experts.0.w1",
        ..good
    };
    assert!(refused(&mixtral, &[expert]).contains("stacked"));
}
