//! What every kernel is given: the team of threads and the instruction set.

use std::sync::Arc;

use crate::pool::Pool;

/// An instruction set that kernels are written for, narrowest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Simd {
    /// Plain Rust for any processor.
    Scalar,
    /// AVX2 with FMA and F16C.
    Avx2,
    /// AVX-512 F, BW, DQ and VL.
    Avx512,
    /// [`Simd::Avx512`] with the BF16 dot product (`vdpbf16ps`).
    Avx512Bf16,
    /// [`Simd::Avx512Bf16`] with matrix registers that multiply BF16 (AMX).
    Amx,
}

impl Simd {
    /// Every variant, narrowest first.
    pub const ALL: [Simd; 5] = [Simd::Scalar, Simd::Avx2, Simd::Avx512, Simd::Avx512Bf16, Simd::Amx];

    /// Finds the widest set that this processor has.
    pub fn detect() -> Simd {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            if !(has!("avx2") && has!("fma") && has!("f16c")) {
                return Simd::Scalar;
            }
            if !(has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl")) {
                return Simd::Avx2;
            }
            if !has!("avx512bf16") {
                return Simd::Avx512;
            }
            if crate::cpu::has_matrix_registers() {
                return Simd::Amx;
            }
            Simd::Avx512Bf16
        }
        #[cfg(not(target_arch = "x86_64"))]
        Simd::Scalar
    }

    /// Returns the name that plans and benchmarks print.
    pub const fn name(self) -> &'static str {
        match self {
            Simd::Scalar => "scalar",
            Simd::Avx2 => "avx2",
            Simd::Avx512 => "avx512",
            Simd::Avx512Bf16 => "avx512-bf16",
            Simd::Amx => "amx-bf16",
        }
    }
}

/// The precision of the factors in products with frozen weights; sums are `f32` in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compute {
    /// Factors in `f32`: as exact as the stored weight.
    F32,
    /// Both factors rounded to `bfloat16`: twice the speed where the processor multiplies it.
    Bf16,
}

/// What to do with an output slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// Replace what is there.
    Set,
    /// Add to what is there.
    Add,
}

/// Threads and instruction set, handed to every kernel. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Ctx {
    /// The team that shares the work.
    pub pool: Arc<Pool>,
    /// The instruction set in use. Private, because kernels run its instructions unchecked.
    pub(crate) simd: Simd,
}

impl Ctx {
    /// Starts a team of `threads` and uses `simd`, or the widest set of this machine that is below it.
    pub fn new(threads: usize, simd: Simd) -> Ctx {
        Ctx {
            pool: Arc::new(Pool::new(threads)),
            simd: simd.min(Simd::detect()),
        }
    }

    /// Returns the instruction set in use.
    pub fn simd(&self) -> Simd {
        self.simd
    }

    /// Says whether products in this precision have a kernel here; [`Compute::F32`] always has.
    pub fn supports(&self, compute: Compute) -> bool {
        compute == Compute::F32 || self.simd >= Simd::Avx512Bf16
    }
}
