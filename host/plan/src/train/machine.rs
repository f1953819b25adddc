//! The machine's side of a plan: device, instruction set, threads, precision, memory budget, expected speed.

use dlm_core::hardware::{Backend, Hardware, SimdLevel};
use dlm_core::training::Precision;

use super::facts::{Gflops, TrainOptions, TrainRequest};
use super::phase::BatchPlan;
use super::recipe;
use super::refuse::PlanError;
use crate::base::BaseFacts;
use crate::knob::Knob;

/// Products per second and core at each level, measured on a quiet two-core AVX512-BF16 machine (f32 195 and bf16 435
/// GFLOP/s on both cores); the lower levels follow from their vector widths.
const GFLOPS_PER_CORE: [(SimdLevel, f64, f64); 5] = [
    (SimdLevel::Scalar, 3.0, 3.0),
    (SimdLevel::Avx2, 45.0, 45.0),
    (SimdLevel::Avx512, 95.0, 95.0),
    (SimdLevel::Avx512Bf16, 95.0, 210.0),
    (SimdLevel::Amx, 95.0, 800.0),
];
/// What a step reaches of that: attention, norms and thin products run slower than the frozen products.
const EFFICIENCY: f64 = 0.6;
/// A CUDA device's products per second with bf16 weights, at the low end of what is in use.
const CUDA_GFLOPS: f64 = 25_000.0;
/// An Apple device's.
const MPS_GFLOPS: f64 = 4_000.0;
/// First compute capability with bf16 products.
const CUDA_BF16_MAJOR: u32 = 8;

/// What the plan decided about the machine.
pub(super) struct Machine {
    pub backend: Knob<Backend>,
    pub simd: Knob<SimdLevel>,
    pub threads: Knob<u32>,
    pub precision: Knob<Precision>,
    /// As measured, where it was.
    gflops: Option<Gflops>,
    /// The fast variants stay under this.
    pub budget_comfort: u64,
    /// Nothing goes over this.
    pub budget_hard: u64,
    pub free_bytes: u64,
}

impl Machine {
    pub(super) fn new(request: &TrainRequest) -> Result<Machine, PlanError> {
        let (hardware, options) = (request.hardware, request.options);
        let simd = simd(hardware, options);
        let precision = precision(request.document.knobs.precision, hardware, simd.value)?;
        let budget = Budget::new(hardware, options.memory_limit_bytes);
        Ok(Machine {
            backend: Knob::chosen(
                hardware.backend,
                format!("this machine offers {}", hardware.device_name),
            ),
            threads: threads(hardware, options.threads),
            gflops: options.gflops,
            simd,
            precision,
            budget_comfort: budget.comfort,
            budget_hard: budget.hard,
            free_bytes: budget.free,
        })
    }

    /// A guess from the arithmetic of a step.
    pub(super) fn seconds_per_step(&self, base: &BaseFacts, adapter_parameters: u64, batch: &BatchPlan) -> f64 {
        let tokens = (batch.tokens_mean * u64::from(batch.grad_accum.value)) as f64;
        let flops = tokens * (4.0 * base.parameters_active() as f64 + 6.0 * adapter_parameters as f64);
        let gflops = match self.backend.value {
            Backend::Cuda | Backend::Rocm => CUDA_GFLOPS,
            Backend::Mps => MPS_GFLOPS,
            Backend::Cpu => {
                let (_, f32, bf16) = GFLOPS_PER_CORE[self.simd.value as usize];
                let threads = f64::from(self.threads.value);
                let guessed = Gflops {
                    f32: f32 * threads,
                    bf16: bf16 * threads,
                };
                let rates = self.gflops.unwrap_or(guessed);
                match self.precision.value {
                    Precision::Bf16 => rates.bf16,
                    Precision::Fp16 | Precision::Fp32 => rates.f32,
                }
            }
        };
        flops / (gflops * 1e9 * EFFICIENCY)
    }
}

/// The memory that a run may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    pub comfort: u64,
    pub hard: u64,
    pub free: u64,
}

impl Budget {
    /// Reads the budget off the machine, or off `limit` where the caller plans for less.
    pub fn new(hardware: &Hardware, limit: Option<u64>) -> Budget {
        let share = |bytes: u64, share: f64| (bytes as f64 * share) as u64;
        if let Some(limit) = limit {
            return Budget {
                comfort: limit,
                hard: limit,
                free: limit,
            };
        }
        match hardware.backend {
            Backend::Cpu => {
                let free = hardware.memory_available_bytes;
                let hard = share(free, recipe::MEMORY_SHARE);
                let comfort = share(hardware.memory_total_bytes, recipe::MEMORY_SHARE_COMFORT).min(hard);
                Budget { comfort, hard, free }
            }
            Backend::Cuda | Backend::Rocm => {
                let free = hardware.cuda.first().map_or(0, |device| device.memory_free_bytes);
                let hard = share(free, recipe::CUDA_MEMORY_SHARE);
                Budget {
                    comfort: hard,
                    hard,
                    free,
                }
            }
            Backend::Mps => {
                let free = hardware.memory_total_bytes;
                let hard = share(free, recipe::MPS_MEMORY_SHARE);
                Budget {
                    comfort: hard,
                    hard,
                    free,
                }
            }
        }
    }
}

fn simd(hardware: &Hardware, options: &TrainOptions) -> Knob<SimdLevel> {
    match options.switches.simd_max {
        Some(limit) if limit <= hardware.simd => Knob::flag(limit, "--simd"),
        Some(limit) => Knob::chosen(
            hardware.simd,
            format!("this processor has no more, and --simd allows {}", limit.name()),
        ),
        None => Knob::chosen(hardware.simd, "it is the most that this processor has"),
    }
}

fn threads(hardware: &Hardware, given: Option<u32>) -> Knob<u32> {
    match given {
        Some(threads) => Knob::flag(threads.max(1), "--threads"),
        None => Knob::chosen(
            hardware.cpu_cores.max(1),
            "results do not depend on it, and every core helps",
        ),
    }
}

/// Chooses or checks the precision of the frozen products.
///
/// On a CPU with bf16 dot products they are taken although the specification's table says fp32 for every CPU: they
/// double the peak, accumulate in f32, and the plan and the lock say which was used.
pub(super) fn precision(
    written: Option<Precision>,
    hardware: &Hardware,
    simd: SimdLevel,
) -> Result<Knob<Precision>, PlanError> {
    let refuse = |precision: Precision, reason: String| {
        Err(PlanError::PrecisionUnsupported {
            precision: precision.name(),
            reason,
        })
    };
    let has_bf16_cuda = hardware
        .cuda
        .first()
        .is_some_and(|device| device.compute_capability.0 >= CUDA_BF16_MAJOR);
    match (hardware.backend, written) {
        (Backend::Cpu, Some(Precision::Fp16)) => refuse(Precision::Fp16, "a CPU has no fp16 products".into()),
        (Backend::Cpu, Some(Precision::Bf16)) if simd < SimdLevel::Avx512Bf16 => refuse(
            Precision::Bf16,
            format!("the processor's level is {}, without bf16 products", simd.name()),
        ),
        (Backend::Cuda, Some(Precision::Bf16)) if !has_bf16_cuda => refuse(
            Precision::Bf16,
            format!("the device is older than compute capability {CUDA_BF16_MAJOR}.0"),
        ),
        (_, Some(precision)) => Ok(Knob::written(precision)),
        (Backend::Cpu, None) if simd >= SimdLevel::Avx512Bf16 => Ok(Knob::chosen(
            Precision::Bf16,
            "the processor multiplies bf16 at least twice as fast, and sums in f32 all the same",
        )),
        (Backend::Cpu | Backend::Mps, None) => Ok(Knob::chosen(
            Precision::Fp32,
            "the device has no faster narrow products",
        )),
        (Backend::Cuda, None) if has_bf16_cuda => {
            Ok(Knob::chosen(Precision::Bf16, "the device multiplies bf16 natively"))
        }
        (Backend::Cuda | Backend::Rocm, None) => {
            Ok(Knob::chosen(Precision::Fp16, "the device is too old for bf16 products"))
        }
    }
}
