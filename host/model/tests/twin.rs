//! The fast path against the slow twin: logits, losses and gradients on every text architecture, all modules adapted.

#![expect(clippy::unwrap_used, reason = "helpers of tests; clippy excuses the tests alone")]

use std::path::PathBuf;

use candle_core::Device;
use dlm_kernels::{Ctx, Simd};
use dlm_model::candle_twin::{Twin, TwinAdapter};
use dlm_model::config::json::parse_config;
use dlm_model::safetensors_dir::SafetensorsDir;
use dlm_model::{Adapter, AdapterKind, AdapterSpec, Batch, LoadOptions, Model, StepOptions, Target, TargetKind};

/// Two orders of `f32` sums.
const LOGITS: f32 = 1e-4;
const GRADIENT: f32 = 2e-5;

fn rows() -> Vec<Vec<u32>> {
    let row = |seed: u32, len: u32| (0..len).map(|i| 20 + (i * i * 17 + i * seed) % 290).collect();
    vec![row(5, 11), row(9, 23), row(2, 37)]
}

fn max_abs(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn check(name: &str) {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/golden/arch")
        .join(name);
    let config = parse_config(&std::fs::read(dir.join("config.json")).unwrap()).unwrap();
    let source = SafetensorsDir::open(&dir).unwrap();
    let twin = Twin::load(&config, &source, &Device::Cpu).unwrap();
    let model = Model::load(config, &source, LoadOptions::exact(Ctx::new(2, Simd::detect()))).unwrap();
    for kind in [AdapterKind::Lora, AdapterKind::Dora] {
        let spec = AdapterSpec {
            kind,
            r: 3,
            alpha: 6.0,
            dropout: 0.0,
            targets: vec!["all-linear".to_owned()],
        };
        let mut adapter = Adapter::init(&model, &spec, 11).unwrap();
        for module in adapter.modules.clone() {
            for (i, value) in adapter.params[module.b].iter_mut().enumerate() {
                *value = 0.04 * (i as f32 * 1.3).cos();
            }
        }
        let rows = rows();
        let on_twin = TwinAdapter::new(&adapter, &Device::Cpu).unwrap();
        for row in &rows {
            let slow = twin.logits(Some(&on_twin), row).unwrap();
            let slow = slow.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let fast = model.forward_eval(Some(&adapter), &Batch::packed(&[row])).unwrap();
            let deviation = max_abs(&model.logits(fast.hidden()), &slow);
            assert!(deviation < LOGITS, "{name} {kind:?}: logits differ by {deviation}");
        }
        let (slow_loss, slow) = twin.loss_and_gradients(&adapter, &rows).unwrap();
        let (fast_loss, fast) = step(&model, &adapter, &rows);
        assert!(
            (slow_loss - fast_loss).abs() < 1e-5,
            "{name} {kind:?}: {slow_loss} and {fast_loss}"
        );
        for (tensor, _, range) in adapter.tensors() {
            let deviation = max_abs(&slow[range.clone()], &fast[range]);
            assert!(
                deviation < GRADIENT,
                "{name} {kind:?}: gradient of {tensor} differs by {deviation}"
            );
        }
    }
}

fn step(model: &Model, adapter: &Adapter, rows: &[Vec<u32>]) -> (f64, Vec<f32>) {
    let count: usize = rows.iter().map(|row| row.len() - 1).sum();
    let mut targets = Vec::new();
    let mut start = 0;
    for row in rows {
        for (i, token) in row.iter().enumerate().skip(1) {
            targets.push(Target {
                row: start + i - 1,
                kind: TargetKind::Token(*token),
                weight: 1.0 / count as f32,
            });
        }
        start += row.len();
    }
    let forward = model
        .forward_train(Some(adapter), &Batch::packed(rows), &StepOptions::default())
        .unwrap();
    let mut d_hidden = vec![0.0; forward.hidden().len()];
    let loss = model.head_loss(forward.hidden(), &targets, &mut d_hidden);
    let mut grads = vec![0.0; adapter.params.len()];
    model.backward(forward, adapter, &d_hidden, &mut grads);
    (
        loss.nll.iter().map(|nll| f64::from(*nll)).sum::<f64>() / count as f64,
        grads,
    )
}

macro_rules! architectures {
    ($($test:ident: $name:literal,)*) => {
        $(#[test] fn $test() { check($name); })*
    };
}

architectures! {
    llama: "llama",
    llama3_rope: "llama3-rope",
    smollm3: "smollm3",
    qwen2: "qwen2",
    qwen3: "qwen3",
    gemma2: "gemma2",
    gemma3: "gemma3",
    phi3: "phi3",
    phi4_longrope: "phi4-longrope",
    olmo2: "olmo2",
    mistral: "mistral",
    mixtral: "mixtral",
}
