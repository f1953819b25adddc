//! The processor's engine: our own kernels over a [`Model`].
//!
//! Invariants: the same operations in the same order whoever asks, so that a run repeats itself bit for bit, whatever the
//! number of threads.

mod reader;
mod trainer;

use std::path::Path;

use dlm_core::hardware::SimdLevel;
use dlm_core::training::{MixMethod, Precision};
use dlm_kernels::{Compute, Ctx, Direction, Simd, Weight, Write, linear};

use super::{Engine, EngineError, EngineFacts, Reader, ReaderOptions, Trainer, TrainerOptions};
use crate::adapter::{Adapter, AdapterError, AdapterSpec};
use crate::base::OpenedBase;
use crate::model::{LoadError, LoadOptions, Model, Prepare, WeightStorage};

use reader::CpuReader;
use trainer::CpuTrainer;

/// The processor: the threads and the instruction set that engines share.
#[derive(Clone, Debug)]
pub struct Cpu {
    ctx: Ctx,
}

impl Cpu {
    /// Starts the threads; of the instruction set, what the machine lacks is left out.
    pub fn new(threads: usize, simd: SimdLevel) -> Cpu {
        Cpu {
            ctx: Ctx::new(threads, kernels_simd(simd)),
        }
    }

    /// Measures how many billions of products and sums a second the frozen products of training do, over the best of a few runs of
    /// some milliseconds each. It depends on what else the machine does at the moment.
    pub fn gflops(&self, precision: Precision) -> f64 {
        const ROWS: usize = 256;
        const SIDE: usize = 1024;
        const RUNS: usize = 5;
        let compute = match precision {
            Precision::Bf16 if self.ctx.supports(Compute::Bf16) => Compute::Bf16,
            _ => Compute::F32,
        };
        let values: Vec<f32> = (0..SIDE * SIDE).map(|i| (i % 17) as f32 - 8.0).collect();
        let mut weight = Weight::from_f32(SIDE, SIDE, &values).expect("the shape fits the values");
        weight.prepare(&self.ctx, compute, Direction::Forward);
        let mut out = vec![0.0; ROWS * SIDE];
        let mut best = f64::INFINITY;
        for _ in 0..RUNS {
            let started = std::time::Instant::now();
            linear(
                &self.ctx,
                compute,
                &values[..ROWS * SIDE],
                ROWS,
                &weight,
                &mut out,
                Write::Set,
            );
            best = best.min(started.elapsed().as_secs_f64());
        }
        2.0 * (ROWS * SIDE * SIDE) as f64 / best.max(1e-9) / 1e9
    }

    /// Returns what kernels are given, for whoever encodes weights (`dlm-export`).
    pub fn ctx(&self) -> &Ctx {
        &self.ctx
    }
}

/// How weights are loaded for the processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuOptions {
    /// Of the frozen products of more than four rows; without products in `fp16` that means `f32`.
    pub precision: Precision,
    pub storage: WeightStorage,
    pub prepare: Prepare,
}

impl CpuOptions {
    /// Exact products on dequantized weights, nothing laid out beside them.
    pub const EXACT: CpuOptions = CpuOptions {
        precision: Precision::Fp32,
        storage: WeightStorage::Dequantized,
        prepare: Prepare::Nothing,
    };

    pub(crate) fn on(&self, cpu: &Cpu) -> LoadOptions {
        LoadOptions {
            ctx: cpu.ctx.clone(),
            compute: match self.precision {
                Precision::Bf16 => Compute::Bf16,
                Precision::Fp32 | Precision::Fp16 => Compute::F32,
            },
            storage: self.storage,
            prepare: self.prepare,
        }
    }
}

/// A model in main memory.
#[derive(Debug)]
pub struct CpuEngine {
    model: Model,
    facts: EngineFacts,
}

impl CpuEngine {
    /// Loads the weights of an opened base.
    ///
    /// **Errors:** as [`Model::load`].
    pub fn load(cpu: &Cpu, base: &OpenedBase, options: &CpuOptions) -> Result<CpuEngine, LoadError> {
        Ok(CpuEngine::new(base.load(options.on(cpu))?))
    }

    /// Puts a loaded model behind the boundary.
    pub fn new(model: Model) -> CpuEngine {
        let (stored, prepared) = model.weight_bytes();
        let facts = EngineFacts {
            vocab: model.config.vocab,
            is_quantized: model.is_quantized(),
            streams_integers: model.streams_integers,
            weights_bytes: (stored + prepared) as u64,
            cache_bytes_per_token: (2 * size_of::<f32>() * model.config.n_layers * model.config.kv_width()) as u64,
            long_from: model.rotary.long_from(),
        };
        CpuEngine { model, facts }
    }

    /// Returns the model itself, for what only the processor does.
    pub fn model(&self) -> &Model {
        &self.model
    }
}

impl Engine for CpuEngine {
    fn facts(&self) -> &EngineFacts {
        &self.facts
    }

    fn fresh_adapter(&self, spec: &AdapterSpec, seed: u64) -> Result<Adapter, AdapterError> {
        Adapter::init(&self.model, spec, seed)
    }

    fn read_adapter(&self, directory: &Path) -> Result<Adapter, AdapterError> {
        Adapter::load_peft(directory, &self.model)
    }

    fn mix(&self, parts: &[(&Adapter, f32)], method: MixMethod) -> Result<Adapter, AdapterError> {
        let mixed = Adapter::mix(&self.model, parts)?;
        let r = parts.iter().map(|(part, _)| part.spec.r).max().unwrap_or(mixed.spec.r);
        match method {
            MixMethod::Linear => Ok(mixed),
            MixMethod::Svd => mixed.truncated(&self.model, r),
        }
    }

    fn trainer(&self, adapter: &Adapter, options: &TrainerOptions) -> Result<Box<dyn Trainer + '_>, EngineError> {
        Ok(Box::new(CpuTrainer::new(&self.model, adapter.clone(), *options)))
    }

    fn reader<'a>(
        &'a self,
        adapter: Option<&'a Adapter>,
        options: ReaderOptions,
    ) -> Result<Box<dyn Reader + 'a>, EngineError> {
        Ok(Box::new(CpuReader::new(self, adapter, options)))
    }
}

/// Returns the kernels' name of an instruction-set level.
fn kernels_simd(level: SimdLevel) -> Simd {
    match level {
        SimdLevel::Scalar => Simd::Scalar,
        SimdLevel::Avx2 => Simd::Avx2,
        SimdLevel::Avx512 => Simd::Avx512,
        SimdLevel::Avx512Bf16 => Simd::Avx512Bf16,
        SimdLevel::Amx => Simd::Amx,
    }
}
