//! Adapters on disk: what PEFT wrote loads, what is written loads again, and nothing is half applied.

#![expect(clippy::unwrap_used, reason = "helpers of tests; clippy excuses the tests alone")]

use dlm_core::Hints;
use dlm_kernels::{Ctx, Simd};
use dlm_model::config::json::parse_config;
use dlm_model::safetensors_dir::SafetensorsDir;
use dlm_model::{Adapter, AdapterError, AdapterKind, AdapterSpec, LoadOptions, Model, PeftMeta};
use dlm_testkit::architectures::dir;

fn load(name: &str) -> Model {
    let config = parse_config(&std::fs::read(dir(name).join("config.json")).unwrap()).unwrap();
    let options = LoadOptions::exact(Ctx::new(1, Simd::detect()));
    Model::load(config, &SafetensorsDir::open(&dir(name)).unwrap(), options).unwrap()
}

fn spec(targets: &[&str]) -> AdapterSpec {
    AdapterSpec {
        kind: AdapterKind::Lora,
        r: 4,
        alpha: 8.0,
        dropout: 0.05,
        targets: targets.iter().map(|target| (*target).to_owned()).collect(),
    }
}

fn meta() -> PeftMeta {
    PeftMeta {
        base: "example/base".to_owned(),
        revision: None,
    }
}

#[test]
fn what_is_written_loads_again_bit_for_bit() {
    for (name, place) in [
        ("llama", "adapter"),
        ("llama", "adapter_dora"),
        ("phi3", "adapter"),
        ("mixtral", "adapter"),
    ] {
        let model = load(name);
        let first = Adapter::load_peft(&dir(name).join(place), &model).unwrap();
        let directory = tempfile::tempdir().unwrap();
        first.save_peft(directory.path(), &meta()).unwrap();
        let second = Adapter::load_peft(directory.path(), &model).unwrap();
        assert_eq!(first.params, second.params);
        assert_eq!(first.spec, second.spec);
        let other = tempfile::tempdir().unwrap();
        second.save_peft(other.path(), &meta()).unwrap();
        for file in ["adapter_config.json", "adapter_model.safetensors"] {
            let read = |dir: &tempfile::TempDir| std::fs::read(dir.path().join(file)).unwrap();
            assert_eq!(read(&directory), read(&other), "{name} {file}");
        }
    }
}

#[test]
fn an_adapter_of_another_model_is_refused() {
    let model = load("qwen3");
    let error = Adapter::load_peft(&dir("llama").join("adapter"), &model).unwrap_err();
    assert!(matches!(error, AdapterError::Shape { .. }), "{error}");
    let error = Adapter::load_peft(&dir("phi3").join("adapter"), &model).unwrap_err();
    assert!(matches!(error, AdapterError::Target { .. }), "{error}");
    let error = Adapter::load_peft(&dir("smollm3").join("adapter"), &load("llama")).unwrap_err();
    assert!(matches!(error, AdapterError::Stray { .. }), "{error}");
}

#[test]
fn a_missing_tensor_a_number_that_is_none_and_settings_that_are_not_applied_are_refused() {
    let model = load("llama");
    let directory = tempfile::tempdir().unwrap();
    let mut adapter = Adapter::init(&model, &spec(&["q_proj"]), 3).unwrap();
    adapter.save_peft(directory.path(), &meta()).unwrap();
    let path = directory.path().join("adapter_config.json");
    let config = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, config.replace("\"q_proj\"", "\"q_proj\", \"v_proj\"")).unwrap();
    let error = Adapter::load_peft(directory.path(), &model).unwrap_err();
    assert!(matches!(error, AdapterError::Missing { .. }), "{error}");
    std::fs::write(&path, config.replace("\"bias\": \"none\"", "\"bias\": \"all\"")).unwrap();
    let error = Adapter::load_peft(directory.path(), &model).unwrap_err();
    assert!(matches!(error, AdapterError::Unsupported { .. }), "{error}");
    std::fs::write(&path, &config).unwrap();
    let tensors = directory.path().join("adapter_model.safetensors");
    let bytes = std::fs::read(&tensors).unwrap();
    std::fs::write(&tensors, &bytes[..bytes.len() - 4]).unwrap();
    let error = Adapter::load_peft(directory.path(), &model).unwrap_err();
    assert!(matches!(error, AdapterError::Malformed { .. }), "{error}");
    adapter.params[5] = f32::NAN;
    let error = adapter.save_peft(directory.path(), &meta()).unwrap_err();
    assert!(error.to_string().contains("q_proj.lora_A.weight"), "{error}");
}

#[test]
fn targets_name_modules_and_an_unknown_one_lists_those_that_exist() {
    let model = load("llama");
    let count = |targets: &[&str]| Adapter::init(&model, &spec(targets), 1).unwrap().modules.len();
    assert_eq!(count(&["auto"]), 8);
    assert_eq!(count(&["attention", "q_proj"]), 8);
    assert_eq!(count(&["mlp"]), 6);
    assert_eq!(count(&["all-linear"]), 14);
    assert_eq!(count(&["layers.1.self_attn.q_proj", "down_proj"]), 3);
    assert_eq!(
        Adapter::init(&load("phi3"), &spec(&["auto"]), 1).unwrap().modules.len(),
        8
    );
    assert_eq!(
        Adapter::init(&load("mixtral"), &spec(&["auto"]), 1)
            .unwrap()
            .modules
            .len(),
        8
    );
    let error = Adapter::init(&model, &spec(&["proj"]), 1).unwrap_err();
    assert!(matches!(error, AdapterError::Target { .. }), "{error}");
    assert!(error.hints()[0].contains("gate_proj"), "{:?}", error.hints());
    assert!(matches!(
        Adapter::init(&model, &spec(&[]), 1),
        Err(AdapterError::NoTargets)
    ));
    let mut large = spec(&["auto"]);
    large.r = 257;
    assert!(matches!(
        Adapter::init(&model, &large, 1),
        Err(AdapterError::Spec { .. })
    ));
}

#[test]
fn a_start_depends_on_seed_and_path_alone() {
    let model = load("llama");
    let start = |targets: &[&str], seed: u64| {
        let adapter = Adapter::init(&model, &spec(targets), seed).unwrap();
        let module = adapter
            .modules
            .iter()
            .find(|m| m.path.ends_with("1.self_attn.q_proj"))
            .unwrap();
        assert!(adapter.params[module.b.clone()].iter().all(|b| *b == 0.0));
        adapter.params[module.a.clone()].to_vec()
    };
    let a = start(&["auto"], 42);
    assert_eq!(a, start(&["all-linear"], 42));
    assert_ne!(a, start(&["auto"], 43));
    let bound = 1.0 / 8.0;
    assert!(a.iter().all(|a| (-bound..bound).contains(a)));
    let mean = a.iter().sum::<f32>() / a.len() as f32;
    let variance = a.iter().map(|a| a * a).sum::<f32>() / a.len() as f32;
    assert!(
        mean.abs() < 0.02 && (variance / (bound * bound / 3.0) - 1.0).abs() < 0.2,
        "{mean} {variance}"
    );
}
