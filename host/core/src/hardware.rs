//! What a machine offers, as data. Probing is elsewhere (`dlm-model` for the processor and accelerators, the command
//! line for the operating system); plans only read this record, so any machine can be planned for on any other.

use serde::{Deserialize, Serialize};

use crate::choice::Choice;

/// The vector instructions that kernels may use, from none to most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SimdLevel {
    Scalar,
    Avx2,
    Avx512,
    /// With the bf16 dot product, which doubles the peak of products of narrow weights.
    Avx512Bf16,
    /// With matrix registers that multiply bf16.
    Amx,
}

impl Choice for SimdLevel {
    const TABLE: &'static [(&'static str, Self)] = &[
        ("scalar", Self::Scalar),
        ("avx2", Self::Avx2),
        ("avx512", Self::Avx512),
        ("avx512-bf16", Self::Avx512Bf16),
        ("amx-bf16", Self::Amx),
    ];
}

/// The kind of device that a run uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    Cpu,
    Cuda,
    Mps,
    Rocm,
}

impl Choice for Backend {
    const TABLE: &'static [(&'static str, Self)] = &[
        ("cpu", Self::Cpu),
        ("cuda", Self::Cuda),
        ("mps", Self::Mps),
        ("rocm", Self::Rocm),
    ];
}

crate::named_choices!(SimdLevel, Backend);

/// One CUDA device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CudaDevice {
    pub name: String,
    /// Compute capability, major and minor.
    pub compute_capability: (u32, u32),
    pub memory_total_bytes: u64,
    /// Free at the time of the probe.
    pub memory_free_bytes: u64,
}

/// The facts about one machine that a plan depends on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hardware {
    /// The device that runs go to when nothing else is asked for.
    pub backend: Backend,
    /// The processor's or accelerator's name.
    pub device_name: String,
    /// Logical cores that this process may use.
    pub cpu_cores: u32,
    pub memory_total_bytes: u64,
    /// What a new process can take without swapping; never more than a container's limit.
    pub memory_available_bytes: u64,
    pub simd: SimdLevel,
    pub cuda: Vec<CudaDevice>,
    /// Operating system and processor family: `linux-x86_64`.
    pub platform: String,
}
