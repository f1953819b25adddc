//! What saves memory: weights in four bits, and kept inputs that are rounded.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::borrow::Cow;

use dlm_core::training::Checkpointing;
use dlm_kernels::{Bytes, Compute, Ctx, Simd, Weight};
use dlm_model::config::json::parse_config;
use dlm_model::safetensors_dir::SafetensorsDir;
use dlm_model::weights::{GgmlType, RawTensor, WeightError, WeightSource};
use dlm_model::{
    Adapter, AdapterKind, Batch, LoadOptions, Model, Prepare, StepOptions, Target, TargetKind, WeightStorage,
};
use dlm_testkit::architectures::{ALL, dir};
use dlm_testkit::tiny::{adapter, sequences};

/// The weights of the blocks' products as NF4 has them, in `f32`.
struct Rounded(SafetensorsDir, Ctx);

impl WeightSource for Rounded {
    fn tensor(&self, name: &str) -> Result<RawTensor<'_>, WeightError> {
        let raw = self.0.tensor(name)?;
        let is_product = name.contains("_proj.") || name.contains(".experts.");
        let [n, k] = raw.shape[..] else { return Ok(raw) };
        if !is_product {
            return Ok(raw);
        }
        // Fused projections are cut into their parts first, and blocks begin with a part.
        let cuts: Vec<usize> = match name {
            _ if name.contains("qkv_proj") => vec![64, 32, 32],
            _ if name.contains("gate_up_proj") => vec![n / 2, n / 2],
            _ => vec![n],
        };
        assert_eq!(cuts.iter().sum::<usize>(), n, "{name}");
        let (mut bytes, mut row) = (Vec::new(), 0);
        for rows in cuts {
            let part = raw.bytes[row * k * 4..(row + rows) * k * 4].to_vec();
            let weight = Weight::from_bytes(raw.dtype, rows, k, Bytes::from_vec(part)).unwrap();
            let values = weight.to_nf4(&self.1).unwrap().to_f32();
            bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            row += rows;
        }
        Ok(RawTensor {
            dtype: GgmlType::F32,
            shape: raw.shape,
            bytes: Cow::Owned(bytes),
        })
    }

    fn names(&self) -> Vec<String> {
        self.0.names()
    }

    fn has(&self, name: &str) -> bool {
        self.0.has(name)
    }
}

fn load(name: &str, source: &dyn WeightSource, storage: WeightStorage) -> Model {
    let config = parse_config(&std::fs::read(dir(name).join("config.json")).unwrap()).unwrap();
    let options = LoadOptions {
        ctx: Ctx::new(2, Simd::detect()),
        compute: Compute::F32,
        storage,
        prepare: Prepare::Nothing,
    };
    Model::load(config, source, options).unwrap()
}

/// Losses and gradients of one step.
fn step(model: &Model, adapter: &Adapter, checkpointing: Checkpointing) -> (Vec<f32>, Vec<f32>) {
    let all = sequences();
    let mut targets = Vec::new();
    let mut start = 0;
    for sequence in &all {
        targets.extend((1..sequence.len()).map(|i| Target {
            row: start + i - 1,
            kind: TargetKind::Token(sequence[i]),
            weight: 0.02,
        }));
        start += sequence.len();
    }
    let options = StepOptions {
        dropout_seed: None,
        checkpointing,
    };
    let forward = model
        .forward_train(Some(adapter), &Batch::packed(&all), &options)
        .unwrap();
    let mut d_hidden = vec![0.0; forward.hidden().len()];
    let loss = model.head_loss(forward.hidden(), &targets, &mut d_hidden);
    let mut grads = vec![0.0; adapter.params.len()];
    model.backward(forward, adapter, &d_hidden, &mut grads);
    (loss.nll, grads)
}

#[test]
fn a_base_in_four_bits_trains_as_one_of_its_rounded_weights() {
    let ctx = Ctx::new(1, Simd::detect());
    for name in ALL {
        let source = SafetensorsDir::open(&dir(name)).unwrap();
        let four_bits = load(name, &source, WeightStorage::FourBits);
        assert!(four_bits.is_quantized(), "{name}");
        let rounded = Rounded(SafetensorsDir::open(&dir(name)).unwrap(), ctx.clone());
        let exact = load(name, &rounded, WeightStorage::AsStored);
        assert!(!exact.is_quantized());
        assert!(four_bits.weight_bytes().0 < exact.weight_bytes().0, "{name}");
        for kind in [AdapterKind::Lora, AdapterKind::Dora] {
            let found = step(&four_bits, &adapter(&four_bits, kind, 0.0), Checkpointing::OFF);
            let expected = step(&exact, &adapter(&exact, kind, 0.0), Checkpointing::OFF);
            assert!(found == expected, "{name} {kind:?}");
        }
    }
}

#[test]
fn rounded_inputs_change_the_gradient_in_its_third_digit() {
    for name in ALL {
        let source = SafetensorsDir::open(&dir(name)).unwrap();
        let model = load(name, &source, WeightStorage::AsStored);
        let adapter = adapter(&model, AdapterKind::Lora, 0.0);
        let narrow = Checkpointing {
            every: 1,
            is_narrow: true,
        };
        let (kept, found) = (
            step(&model, &adapter, Checkpointing::OFF),
            step(&model, &adapter, narrow),
        );
        assert_eq!(kept.0, found.0, "{name}: a loss is of the forward pass");
        let norm = |g: &[f32]| g.iter().map(|g| g * g).sum::<f32>().sqrt();
        let difference: Vec<f32> = kept.1.iter().zip(&found.1).map(|(a, b)| a - b).collect();
        let share = norm(&difference) / norm(&kept.1);
        // Mixtral may send a row to another expert when its router's inputs move.
        assert!(share > 0.0 && (share < 0.02 || name == "mixtral"), "{name}: {share}");
    }
}
