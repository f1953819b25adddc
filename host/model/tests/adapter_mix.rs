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

/// What an adapter adds to a weight, `[n, k]`.
fn change(adapter: &Adapter, path: &str, size: usize) -> Vec<f32> {
    let mut weight = vec![0.0; size];
    let module = adapter.modules.iter().find(|module| module.path == path).unwrap();
    merged_weight(adapter, module, &mut weight);
    weight
}

fn square(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|x| x * x).sum()
}

#[test]
fn a_truncated_mix_is_the_nearest_of_its_rank() {
    let path = dir("llama");
    let source = SafetensorsDir::open(&path).unwrap();
    let config = parse_config(&std::fs::read(path.join("config.json")).unwrap()).unwrap();
    let model = Model::load(config, &source, LoadOptions::exact(Ctx::new(1, Simd::detect()))).unwrap();
    let one = adapter(&model, AdapterKind::Lora, 3, &["all-linear"], 1);
    let two = adapter(&model, AdapterKind::Lora, 2, &["attention"], 2);
    let mixed = Adapter::mix(&model, &[(&one, 0.6), (&two, 1.5)]).unwrap();
    // At the whole rank it is the same change; below it, what is lost grows with every rank that is left out.
    let mut lost = Vec::new();
    for r in [7, 5, 3, 2, 1] {
        let nearest = mixed.truncated(&model, r).unwrap();
        assert_eq!((nearest.spec.r, nearest.spec.scale()), (r, 1.0));
        let mut sum = 0.0;
        for module in &nearest.modules {
            let size = module.a.len() / r * (module.b.len() / r);
            let (whole, found) = (change(&mixed, &module.path, size), change(&nearest, &module.path, size));
            let pairs = || whole.iter().zip(&found).map(|(w, f)| (f64::from(*w), f64::from(*f)));
            let (left, kept) = (square(pairs().map(|(w, f)| w - f)), square(pairs().map(|(_, f)| f)));
            // What is left out stands at right angles to what is kept: no scaling of it would be nearer.
            let all = square(pairs().map(|(w, _)| w));
            assert!(
                (all - left - kept).abs() < 1e-5 * all,
                "{}: {all} {left} {kept}",
                module.path
            );
            sum += left;
            // Directions of length 1, at right angles.
            let a = &nearest.params[module.a.clone()];
            let k = a.len() / r;
            let ranks = if module.path.contains("mlp") { 3 } else { 5 };
            for i in 0..r.min(ranks) {
                for j in 0..=i {
                    let dot: f32 = a[i * k..][..k].iter().zip(&a[j * k..][..k]).map(|(x, y)| x * y).sum();
                    assert!(
                        (dot - f32::from(u8::from(i == j))).abs() < 1e-5,
                        "{} {i} {j} {dot}",
                        module.path
                    );
                }
            }
        }
        lost.push(sum);
    }
    assert!(lost[0] < 1e-9 && lost[1] < 1e-9, "{lost:?}");
    assert!(lost[1..].windows(2).all(|pair| pair[0] < pair[1]), "{lost:?}");
    let again = mixed.truncated(&model, 3).unwrap();
    assert_eq!(again.params, mixed.truncated(&model, 3).unwrap().params);
}
