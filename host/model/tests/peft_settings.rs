//! The less common settings of PEFT: an adapter that has them says what PEFT says with it, or is refused by the setting's name.

#![expect(clippy::unwrap_used, reason = "helpers of tests; clippy excuses the tests alone")]

use std::path::{Path, PathBuf};

use dlm_core::Hints;
use dlm_kernels::{Ctx, Simd};
use dlm_model::config::json::parse_config;
use dlm_model::safetensors_dir::SafetensorsDir;
use dlm_model::weights::WeightSource;
use dlm_model::{Adapter, AdapterError, AdapterKind, Batch, LoadOptions, MergedSource, Model, PeftMeta, Session};
use dlm_testkit::architectures::dir;
use serde_json::{Value, json};

/// Both sides compute in `f32` (`tests/golden/adapters/README.md`).
const WORST: f32 = 2e-4;
const CASES: [&str; 5] = ["rslora", "patterns", "patterns_rslora_dora", "layers", "lookahead"];

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/adapters")
}

fn numbers() -> Value {
    serde_json::from_slice(&std::fs::read(golden().join("golden.json")).unwrap()).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

fn source() -> SafetensorsDir {
    SafetensorsDir::open(&dir("llama")).unwrap()
}

fn load(source: &dyn WeightSource) -> Model {
    let config = parse_config(&std::fs::read(dir("llama").join("config.json")).unwrap()).unwrap();
    Model::load(config, source, LoadOptions::exact(Ctx::new(1, Simd::detect()))).unwrap()
}

/// Largest difference to PEFT's logits of the row.
fn worst(name: &str, model: &Model, adapter: Option<&Adapter>) -> f32 {
    let bytes = std::fs::read(golden().join("golden.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let expected = file.tensor(name).unwrap();
    let (expected, _) = expected.data().as_chunks::<4>();
    let row = ids(&numbers()["input_ids"]);
    let forward = model.forward_eval(adapter, &Batch::packed(&[row])).unwrap();
    let found = model.logits(forward.hidden());
    assert_eq!(found.len(), expected.len());
    let pairs = found.iter().zip(expected);
    pairs
        .map(|(found, expected)| (found - f32::from_le_bytes(*expected)).abs())
        .fold(0.0, f32::max)
}

fn greedy(model: &Model, adapter: &Adapter, prompt: &[u32], count: usize) -> Vec<u32> {
    let best = |logits: &[f32]| {
        let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
        best.unwrap().0 as u32
    };
    let mut session = Session::new(model, Some(adapter), prompt.len() + count);
    let mut tokens = vec![best(session.prefill(prompt).unwrap())];
    while tokens.len() < count {
        tokens.push(best(session.step(*tokens.last().unwrap()).unwrap()));
    }
    tokens
}

#[test]
fn every_setting_that_can_be_applied_gives_what_peft_gives() {
    let (source, numbers) = (source(), numbers());
    let model = load(&source);
    let prompt = ids(&numbers["input_ids"]);
    for name in CASES {
        let adapter = Adapter::load_peft(&golden().join(name), &model).unwrap();
        let expected = ids(&numbers[name]["tokens"]);
        assert_eq!(greedy(&model, &adapter, &prompt, expected.len()), expected, "{name}");
        let off = worst(name, &model, Some(&adapter));
        assert!(off < WORST, "{name}: {off}");
        // Merged, and written with a rank and a scale for all, it says the same.
        let merged = MergedSource::new(&source, &adapter);
        let off = worst(name, &load(&merged), None);
        assert!(off < WORST, "{name}, merged: {off}");
        let directory = tempfile::tempdir().unwrap();
        let meta = PeftMeta {
            base: "example/base".to_owned(),
            revision: None,
        };
        adapter.save_peft(directory.path(), &meta).unwrap();
        let again = Adapter::load_peft(directory.path(), &model).unwrap();
        assert_eq!(adapter.params, again.params, "{name}");
        let off = worst(name, &model, Some(&again));
        assert!(off < WORST, "{name}, written again: {off}");
    }
}

#[test]
fn a_rank_stabilized_adapter_is_kept_bit_for_bit_and_others_are_padded() {
    let model = load(&source());
    let read = |name: &str| Adapter::load_peft(&golden().join(name), &model).unwrap();
    let adapter = read("rslora");
    assert_eq!(
        (adapter.spec.r, adapter.spec.alpha, adapter.spec.scale()),
        (4, 8.0, 2.0)
    );
    let bytes = std::fs::read(golden().join("rslora/adapter_model.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    for (name, _, range) in adapter.tensors() {
        let stored = file.tensor(&name).unwrap();
        let values: Vec<u8> = adapter.params[range]
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        assert_eq!(values, stored.data(), "{name}");
    }
    let adapter = read("patterns");
    assert_eq!((adapter.spec.r, adapter.spec.scale()), (7, 1.0));
    let query = &adapter.modules[0];
    assert!(query.path.ends_with("layers.0.self_attn.q_proj"), "{}", query.path);
    let k = query.a.len() / 7;
    assert!(adapter.params[query.a.clone()][2 * k..].iter().all(|a| *a == 0.0));
    assert_eq!(read("patterns_rslora_dora").spec.kind, AdapterKind::Dora);
    assert_eq!(read("layers").modules.len(), 2);
}

/// Reads an adapter with other settings.
fn with(name: &str, changes: &[(&str, Value)]) -> Result<Adapter, AdapterError> {
    let directory = tempfile::tempdir().unwrap();
    let from = golden().join(name);
    let mut settings: Value =
        serde_json::from_slice(&std::fs::read(from.join("adapter_config.json")).unwrap()).unwrap();
    for (key, value) in changes {
        settings[*key] = value.clone();
    }
    std::fs::write(directory.path().join("adapter_config.json"), settings.to_string()).unwrap();
    let tensors = "adapter_model.safetensors";
    std::fs::copy(from.join(tensors), directory.path().join(tensors)).unwrap();
    Adapter::load_peft(directory.path(), &load(&source()))
}

#[test]
fn names_mean_what_they_mean_to_peft() {
    let all = with("patterns_rslora_dora", &[("target_modules", json!("all-linear"))]).unwrap();
    assert_eq!(all.modules.len(), 12);
    let model = load(&source());
    let off = worst("patterns_rslora_dora", &model, Some(&all));
    assert!(off < WORST, "{off}");
    for changes in [
        vec![("layers_pattern", json!(null))],
        vec![("layers_pattern", json!(["blocks", "layers"]))],
        vec![("layers_to_transform", json!(1))],
        vec![
            ("layers_to_transform", json!(null)),
            ("exclude_modules", json!(r"model\.layers\.0\..*")),
        ],
    ] {
        let adapter = with("layers", &changes).unwrap();
        assert_eq!(adapter.modules.len(), 2, "{changes:?}");
    }
    // The first pattern of the file counts.
    let patterns = json!({ ".*_proj": 9, "q_proj": 3, r"^model\.layers\.0\.self_attn\.v_proj": 20 });
    let adapter = with("patterns", &[("alpha_pattern", patterns)]).unwrap();
    assert!(worst("patterns", &model, Some(&adapter)) > WORST);
}

#[test]
fn what_cannot_be_applied_is_refused_by_its_name_with_the_next_thing_to_do() {
    let refused = [
        ("lora_bias", json!(true)),
        ("layer_replication", json!([[0, 1]])),
        ("use_qalora", json!(true)),
        ("fan_in_fan_out", json!(true)),
        ("modules_to_save", json!(["embed_tokens"])),
        ("target_parameters", json!(["mlp.experts.gate_up_proj"])),
        ("trainable_token_indices", json!([1])),
        ("alora_invocation_tokens", json!([1, 2])),
        ("init_lora_weights", json!("pissa")),
        ("init_lora_weights", json!("pissa_niter_16")),
        ("init_lora_weights", json!("olora")),
        ("init_lora_weights", json!("loftq")),
        ("bias", json!("all")),
        ("peft_type", json!("IA3")),
        ("a_setting_of_next_year", json!({ "on": true })),
    ];
    for (key, value) in refused {
        let error = with("rslora", &[(key, value.clone())]).unwrap_err();
        assert!(matches!(error, AdapterError::Unsupported { .. }), "{key}: {error}");
        assert!(error.to_string().contains(&format!("{key}: {value}")), "{error}");
        assert!(error.hints()[0].contains("dlm base add"), "{:?}", error.hints());
    }
    let wrong = [
        (("target_modules", json!(["q_proj", "lm_head"])), "`lm_head`"),
        (("target_modules", json!(r".*\.nothing")), r".*\.nothing"),
        (("target_modules", json!("(")), "pattern `(`"),
        (("target_modules", json!(r"(.+)+\1x")), "cannot be matched"),
        (("target_modules", json!("all-linear")), "is missing"),
        (("target_modules", json!(["q_proj"])), "belongs to no module"),
        (("rank_pattern", json!({ "q_proj": 2 })), "expected shape [2, 64]"),
        (("rank_pattern", json!({ "q_proj": 0 })), "`rank_pattern`"),
        (("rank_pattern", json!({ "q_proj": 1_000_000_000 })), "rank 1 to 256"),
        (("alpha_pattern", json!({ "q_proj": "much" })), "`alpha_pattern`"),
        (("use_rslora", json!("yes")), "use_rslora"),
        (("r", json!(null)), "`r`"),
    ];
    for ((key, value), what) in wrong {
        let error = with("rslora", &[(key, value.clone())]).unwrap_err();
        assert!(error.to_string().contains(what), "{key}: {value}: {error}");
    }
}
