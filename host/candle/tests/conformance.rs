//! The fast path against the slow twin on a device: logits, losses and gradients on every text architecture, all modules
//! adapted, and steps of candle-nn's optimizer against ours.
//!
//! Every test is written for any device; the processor's run always, those of CUDA and Metal by name in a build with the
//! feature: `cargo test -p dlm-candle --features cuda -- --ignored`.

#![expect(clippy::unwrap_used, reason = "helpers of tests; clippy excuses the tests alone")]

use candle_core::Device;
use candle_nn::{AdamW, Optimizer, ParamsAdamW};
use dlm_candle::{Twin, TwinAdapter};
use dlm_kernels::{Ctx, Simd, adamw_step};
use dlm_model::config::json::parse_config;
use dlm_model::safetensors_dir::SafetensorsDir;
use dlm_model::{Adapter, AdapterKind, AdapterSpec, Batch, LoadOptions, Model, StepOptions, Target, TargetKind};
use dlm_testkit::architectures::dir;

/// Two orders of `f32` sums.
const LOGITS: f32 = 1e-4;
const GRADIENT: f32 = 2e-5;
/// A share of what five steps at 1e-3 move; a gradient near zero has a direction that rounding decides.
const OPTIMIZER: f32 = 2e-4;

fn rows() -> Vec<Vec<u32>> {
    let row = |seed: u32, len: u32| (0..len).map(|i| 20 + (i * i * 17 + i * seed) % 290).collect();
    vec![row(5, 11), row(9, 23), row(2, 37)]
}

fn max_abs(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// A tiny model on the fast path and its twin on the device.
fn pair(name: &str, device: &Device) -> (Model, Twin) {
    let dir = dir(name);
    let config = parse_config(&std::fs::read(dir.join("config.json")).unwrap()).unwrap();
    let source = SafetensorsDir::open(&dir).unwrap();
    let twin = Twin::load(&config, &source, device).unwrap();
    let model = Model::load(config, &source, LoadOptions::exact(Ctx::new(2, Simd::detect()))).unwrap();
    (model, twin)
}

/// An adapter on every module that changes what the model says.
fn adapter(model: &Model, kind: AdapterKind) -> Adapter {
    let spec = AdapterSpec {
        kind,
        r: 3,
        alpha: 6.0,
        dropout: 0.0,
        targets: vec!["all-linear".to_owned()],
    };
    let mut adapter = Adapter::init(model, &spec, 11).unwrap();
    for module in adapter.modules.clone() {
        for (i, value) in adapter.params[module.b].iter_mut().enumerate() {
            *value = 0.04 * (i as f32 * 1.3).cos();
        }
    }
    adapter
}

fn check(name: &str, device: &Device) {
    let (model, twin) = pair(name, device);
    for kind in [AdapterKind::Lora, AdapterKind::Dora] {
        let adapter = adapter(&model, kind);
        let rows = rows();
        let on_twin = TwinAdapter::new(&adapter, device).unwrap();
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

/// Five steps of AdamW on both sides, from the same parameters.
fn check_optimizer(device: &Device) {
    let (model, twin) = pair("llama", device);
    let mut adapter = adapter(&model, AdapterKind::Lora);
    let settings = dlm_kernels::AdamW {
        lr: 1e-3,
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        weight_decay: 0.01,
    };
    let start = adapter.clone();
    let on_twin = TwinAdapter::new(&start, device).unwrap();
    let mut theirs = AdamW::new(
        on_twin.vars(),
        ParamsAdamW {
            lr: settings.lr,
            beta1: settings.beta1,
            beta2: settings.beta2,
            eps: settings.eps,
            weight_decay: settings.weight_decay,
        },
    )
    .unwrap();
    let rows = rows();
    let count: usize = rows.iter().map(|row| row.len() - 1).sum();
    let (mut m, mut v) = (vec![0.0; adapter.params.len()], vec![0.0; adapter.params.len()]);
    for number in 1..=5 {
        let mut loss = candle_core::Tensor::zeros((), candle_core::DType::F32, device).unwrap();
        for row in &rows {
            loss = (loss + twin.loss_sum(Some(&on_twin), row).unwrap().0).unwrap();
        }
        theirs.backward_step(&(loss * (1.0 / count as f64)).unwrap()).unwrap();
        let (_, grads) = step(&model, &adapter, &rows);
        adamw_step(
            &model.ctx,
            &settings,
            number,
            1.0,
            &mut adapter.params,
            &grads,
            &mut m,
            &mut v,
        );
    }
    let moved = max_abs(&start.params, &adapter.params);
    let deviation = max_abs(&on_twin.params().unwrap(), &adapter.params);
    assert!(moved > 4e-3, "five steps moved by {moved}");
    assert!(
        deviation < OPTIMIZER,
        "parameters differ by {deviation} after five steps"
    );
}

macro_rules! architectures {
    ($($test:ident: $name:literal,)*) => {
        $(#[test] fn $test() { check($name, &Device::Cpu); })*
    };
}

dlm_testkit::each_architecture!(architectures);

#[test]
fn five_steps_of_candles_optimizer_are_ours() {
    check_optimizer(&Device::Cpu);
}

/// Everything above on another device.
#[cfg(any(feature = "cuda", feature = "metal"))]
fn check_all(device: &Device) {
    for name in dlm_testkit::architectures::ALL {
        check(name, device);
    }
    check_optimizer(device);
}

#[cfg(feature = "cuda")]
#[test]
#[ignore = "needs an NVIDIA device"]
fn everything_on_cuda() {
    check_all(&Device::new_cuda(0).unwrap());
}

#[cfg(feature = "metal")]
#[test]
#[ignore = "needs a device of Apple's"]
fn everything_on_metal() {
    check_all(&Device::new_metal(0).unwrap());
}
