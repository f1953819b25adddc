//! A mix of adapters is the weighted sum of what each changes, weight by weight.

#![expect(clippy::unwrap_used, reason = "helpers of tests; clippy excuses the tests alone")]

use dlm_core::random::Rng;
use dlm_kernels::{Ctx, Simd};
use dlm_model::adapter::merged_weight;
use dlm_model::config::json::parse_config;
use dlm_model::safetensors_dir::SafetensorsDir;
use dlm_model::weights::WeightSource;
use dlm_model::{Adapter, AdapterKind, AdapterSpec, LoadOptions, Model};
use dlm_testkit::architectures::dir;

/// An adapter whose every tensor says something.
fn adapter(model: &Model, kind: AdapterKind, r: usize, targets: &[&str], seed: u64) -> Adapter {
    let spec = AdapterSpec {
        kind,
        r,
        alpha: 2.0 * r as f32,
        dropout: 0.0,
        targets: targets.iter().map(|target| (*target).to_owned()).collect(),
    };
    let mut adapter = Adapter::init(model, &spec, seed).unwrap();
    let mut rng = Rng::stream(seed, "mix", &[]);
    for module in adapter.modules.clone() {
        for b in &mut adapter.params[module.b.clone()] {
            *b = (rng.unit() as f32 - 0.5) * 0.1;
        }
        if let Some(magnitude) = module.magnitude {
            for m in &mut adapter.params[magnitude] {
                *m *= 0.8 + 0.4 * rng.unit() as f32;
            }
        }
    }
    adapter
}

#[test]
fn a_mix_changes_every_weight_by_the_weighted_sum_of_the_parts() {
    let path = dir("llama");
    let source = SafetensorsDir::open(&path).unwrap();
    let config = parse_config(&std::fs::read(path.join("config.json")).unwrap()).unwrap();
    let model = Model::load(config, &source, LoadOptions::exact(Ctx::new(1, Simd::detect()))).unwrap();
    let lora = adapter(&model, AdapterKind::Lora, 4, &["all-linear"], 1);
    let dora = adapter(&model, AdapterKind::Dora, 3, &["attention"], 2);
    let wide = adapter(&model, AdapterKind::Lora, 256, &["mlp"], 3);
    let mixes: [&[(&Adapter, f32)]; 4] = [
        &[(&lora, 1.0)],
        &[(&lora, 0.3), (&wide, 0.7)],
        &[(&dora, 0.6), (&lora, 0.4)],
        &[(&dora, 0.0), (&lora, 0.5), (&wide, 0.5)],
    ];
    for parts in mixes {
        let mixed = Adapter::mix(&model, parts).unwrap();
        for module in &mixed.modules {
            let raw = source.tensor(&format!("{}.weight", module.path)).unwrap();
            let (values, _) = raw.bytes.as_chunks::<4>();
            let base: Vec<f32> = values.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
            let mut expected = base.clone();
            for (part, weight) in parts {
                if let Some(own) = part.modules.iter().find(|own| own.path == module.path) {
                    let mut changed = base.clone();
                    merged_weight(part, own, &mut changed);
                    for ((sum, changed), base) in expected.iter_mut().zip(changed).zip(&base) {
                        *sum += weight * (changed - base);
                    }
                }
            }
            let mut found = base.clone();
            merged_weight(&mixed, module, &mut found);
            let largest = found
                .iter()
                .zip(&expected)
                .map(|(a, b)| (a - b).abs())
                .fold(0.0, f32::max);
            assert!(largest < 2e-5, "{}: {largest}", module.path);
        }
    }
    assert!(Adapter::mix(&model, &[]).is_err());
}
