//! What the doctor says: the machine in the reference's words, and a plan for a typical document on one base.
//!
//! **Source**: `spec/training.md` sections 5.1, 5.2 and 5.5. Keys that speak of Python libraries stay for scripts that
//! read them and are false or null; what runs here is under `engine`.

use dlm_core::Determinism;
use dlm_core::hardware::{Backend, Hardware, SimdLevel};
use dlm_core::training::{AdapterKind, Precision};
use serde::Serialize;

use crate::base::BaseFacts;
use crate::base::registry::{DEFAULT_BASE, Registry};
use crate::train::fit::{BaseFit, fit_bases, plan_typical};
use crate::train::{TrainOptions, TrainPlan};

/// The engine, as the doctor shows it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EngineFacts {
    pub name: String,
    pub version: String,
    /// Instruction sets and compiled back ends that runs may use.
    pub device_features: Vec<String>,
}

/// `capabilities` of `dlm doctor --json`. The contract's keys in `_gb` hold GiB; those in `_bytes` are ours.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Capabilities {
    pub backend: Backend,
    pub device_name: String,
    pub sm: Option<[u32; 2]>,
    pub rocm_arch: Option<String>,
    pub vram_gb: Option<f64>,
    pub unified_memory_gb: Option<f64>,
    pub cpu_cores: u32,
    pub ram_gb: f64,
    /// Free now; ours.
    pub ram_available_gb: f64,
    pub ram_bytes: u64,
    /// Free now.
    pub ram_available_bytes: u64,
    /// Free now, of the first accelerator.
    pub vram_bytes: Option<u64>,
    pub supports_bf16: bool,
    pub supports_fp16: bool,
    pub has_flash_attention: bool,
    pub has_xformers: bool,
    pub has_bitsandbytes: bool,
    pub has_triton: bool,
    pub has_mlx: bool,
    pub torch_version: Option<String>,
    pub accelerate_version: Option<String>,
    pub cuda_version: Option<String>,
    pub rocm_version: Option<String>,
    pub platform: String,
    #[serde(with = "dlm_core::determinism::run_word")]
    pub determinism_class: Determinism,
    pub telemetry_posture: String,
    pub engine: EngineFacts,
}

/// `plan` of `dlm doctor --json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DoctorPlan {
    /// The base that the plan is for; ours.
    pub base: String,
    pub precision: Precision,
    pub attn_implementation: String,
    pub use_qlora: bool,
    pub quant_compute_dtype: Option<String>,
    pub micro_batch_size: u32,
    pub grad_accum: u32,
    pub effective_batch_size: u32,
    pub gradient_checkpointing: bool,
    pub world_size: u32,
    /// In GiB.
    pub est_peak_vram_gb: f64,
    /// The same in bytes; ours.
    pub est_peak_bytes: u64,
    pub est_step_seconds: f64,
    pub reason: String,
}

/// The whole report.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DoctorReport {
    pub capabilities: Capabilities,
    pub plan: Option<DoctorPlan>,
    pub plan_error: Option<String>,
    /// Every text base of the registry, with what training it takes or why it cannot; ours.
    pub bases: Vec<BaseFit>,
}

impl DoctorReport {
    /// The largest base that can be trained here.
    pub fn largest_fitting(&self) -> Option<&BaseFit> {
        self.bases
            .iter()
            .filter(|base| base.fits())
            .max_by_key(|base| base.params)
    }
}

/// The base that is planned for when none is named.
pub fn default_base() -> BaseFacts {
    let record = Registry::builtin()
        .get(DEFAULT_BASE)
        .expect("the default base is in the registry (tested)");
    let facts = BaseFacts::from_record(record, record.params * 2, "BF16".into());
    facts.expect("the default base has sizes (tested)")
}

/// Makes the report; a refused plan is part of it, never an error.
pub fn doctor(hardware: &Hardware, engine: EngineFacts, base: &BaseFacts, options: &TrainOptions) -> DoctorReport {
    let (plan, plan_error) = match plan_typical(base, hardware, options) {
        Ok(plan) => (Some(DoctorPlan::new(&plan)), None),
        Err(error) => (None, Some(error.to_string())),
    };
    DoctorReport {
        capabilities: Capabilities::new(hardware, engine),
        plan,
        plan_error,
        bases: fit_bases(hardware, options),
    }
}

impl Capabilities {
    /// Reads the capabilities off a machine.
    pub fn new(hardware: &Hardware, engine: EngineFacts) -> Self {
        let cuda = hardware.cuda.first();
        let gib = |bytes: u64| round(bytes as f64 / f64::from(1u32 << 30));
        let is_apple = hardware.backend == Backend::Mps;
        Capabilities {
            backend: hardware.backend,
            device_name: hardware.device_name.clone(),
            sm: cuda.map(|device| [device.compute_capability.0, device.compute_capability.1]),
            rocm_arch: None,
            vram_gb: cuda.map(|device| gib(device.memory_free_bytes)),
            unified_memory_gb: is_apple.then(|| gib(hardware.memory_total_bytes)),
            cpu_cores: hardware.cpu_cores,
            ram_gb: gib(hardware.memory_total_bytes),
            ram_available_gb: gib(hardware.memory_available_bytes),
            ram_bytes: hardware.memory_total_bytes,
            ram_available_bytes: hardware.memory_available_bytes,
            vram_bytes: cuda.map(|device| device.memory_free_bytes),
            supports_bf16: match hardware.backend {
                Backend::Cpu => hardware.simd >= SimdLevel::Avx512Bf16,
                Backend::Cuda => cuda.is_some_and(|device| device.compute_capability.0 >= 8),
                Backend::Mps | Backend::Rocm => false,
            },
            supports_fp16: hardware.backend != Backend::Cpu,
            has_flash_attention: false,
            has_xformers: false,
            has_bitsandbytes: false,
            has_triton: false,
            has_mlx: false,
            torch_version: None,
            accelerate_version: None,
            cuda_version: None,
            rocm_version: None,
            platform: hardware.platform.clone(),
            determinism_class: Determinism::of_run(hardware.backend),
            telemetry_posture: "none".into(),
            engine,
        }
    }
}

fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

impl DoctorPlan {
    /// A training plan in the reference's words.
    pub fn new(plan: &TrainPlan) -> Self {
        let phase = plan.first();
        let use_qlora = plan.adapter.value == AdapterKind::Qlora;
        let precision = plan.precision.value;
        let attention = if plan.backend.value == Backend::Cpu {
            "eager"
        } else {
            "sdpa"
        };
        let on = |is_on: bool| if is_on { "on" } else { "off" };
        let reason = format!(
            "precision={}, attn={attention}, qlora={}, adapter={}, optim={}, grad_ckpt={}, simd={}, threads={}",
            precision.name(),
            on(use_qlora),
            plan.adapter.value.name(),
            phase.optimizer.value.name(),
            on(phase.checkpointing.value.every > 0),
            plan.simd.value.name(),
            plan.threads.value,
        );
        DoctorPlan {
            base: plan.base.clone(),
            precision,
            attn_implementation: attention.into(),
            use_qlora,
            quant_compute_dtype: use_qlora.then(|| precision.name().to_owned()),
            micro_batch_size: phase.batch.micro_rows.value,
            grad_accum: phase.batch.grad_accum.value,
            effective_batch_size: phase.batch.effective_rows,
            gradient_checkpointing: phase.checkpointing.value.every > 0,
            world_size: plan.world_size,
            est_peak_vram_gb: round(plan.memory.total as f64 / f64::from(1u32 << 30)),
            est_peak_bytes: plan.memory.total,
            est_step_seconds: round(phase.seconds_per_step),
            reason,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::Gflops;
    use crate::train::tests::hardware;

    fn engine() -> EngineFacts {
        EngineFacts {
            name: "dlm".into(),
            version: "0.1.0".into(),
            device_features: vec!["avx512-bf16".into()],
        }
    }

    #[test]
    fn a_slow_machine_is_refused_the_default_base_and_told_the_largest_that_fits() {
        let slow = TrainOptions {
            gflops: Some(Gflops { f32: 10.0, bf16: 10.0 }),
            ..TrainOptions::default()
        };
        let report = doctor(&hardware(), engine(), &default_base(), &slow);
        assert!(report.plan.is_none());
        assert!(
            report.plan_error.as_ref().unwrap().contains("more than the 12 h"),
            "{:?}",
            report.plan_error
        );
        let largest = report.largest_fitting().unwrap().params;
        assert!((100_000_000..1_500_000_000).contains(&largest), "{largest}");
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["capabilities"]["has_triton"], false);
        assert_eq!(json["capabilities"]["determinism_class"], "best_effort");
        assert_eq!(json["capabilities"]["ram_bytes"], 24u64 << 30);
        assert_eq!(json["capabilities"]["torch_version"], serde_json::Value::Null);
        assert_eq!(json["plan"], serde_json::Value::Null);
    }

    #[test]
    fn the_plan_is_for_the_base_that_is_named() {
        let small = crate::train::tests::smollm2();
        let plan = doctor(&hardware(), engine(), &small, &TrainOptions::default())
            .plan
            .unwrap();
        assert_eq!(plan.base, "smollm2-135m");
    }

    #[test]
    fn a_forced_cpu_gets_a_plan_in_the_references_words() {
        let forced = TrainOptions {
            is_forced: true,
            ..TrainOptions::default()
        };
        let report = doctor(&hardware(), engine(), &default_base(), &forced);
        let plan = report.plan.unwrap();
        assert_eq!((plan.base.as_str(), plan.effective_batch_size), (DEFAULT_BASE, 8));
        assert!(
            plan.reason
                .starts_with("precision=bf16, attn=eager, qlora=off, adapter=lora, optim=adamw_torch")
        );
        assert!(plan.est_peak_vram_gb > 3.0 && plan.est_step_seconds > 1.0, "{plan:?}");
    }
}
