//! Register tiles: the innermost product, one per instruction set.
//!
//! A tile is `C[mr, 16 nv] (+)= alpha A[mr, k] B[k, 16 nv]` with `mr` up to [`rows_max`] and `nv` 1 or 2. The columns of
//! `B` fill vector registers, the elements of `A` are broadcast. Element `(i, p)` of `A` lies at `i * RS + p * a_step`
//! with `RS` known at compile time: 1 for packed rows and for transposed factors, [`PANEL`] for a factor that is itself
//! a panel.
//!
//! Every element of `C` is one chain of additions in the order of `k`. So a result depends on neither `mr` nor on the
//! place of the tile, and any split of the output over threads or calls gives the same bits.
//!
//! **Sketch:** 12 x 32 takes 24 multiply-adds, 2 loads and 12 broadcasts per step: the multipliers are the limit
//! (32 flops per cycle and core in `f32` on Zen 4, twice that in `bf16`). Matrix registers: see `amx`.

#[cfg(target_arch = "x86_64")]
mod amx;

use crate::ctx::{Compute, Simd};

/// Columns of a panel: two 512-bit vectors.
pub(crate) const PANEL: usize = 32;
/// Most rows of a tile in any instruction set.
pub(crate) const TILE_ROWS: usize = 32;
/// Most rows of a tile in vector registers.
const VECTOR_ROWS: usize = 12;
const TILE_ROWS_AVX2: usize = 6;
const TILE_ROWS_SCALAR: usize = 4;

/// Returns the most rows that one tile takes in this instruction set.
pub(crate) fn rows_max(simd: Simd, compute: Compute) -> usize {
    match simd {
        Simd::Scalar => TILE_ROWS_SCALAR,
        Simd::Avx2 => TILE_ROWS_AVX2,
        Simd::Amx if compute == Compute::Bf16 => TILE_ROWS,
        Simd::Avx512 | Simd::Avx512Bf16 | Simd::Amx => VECTOR_ROWS,
    }
}

/// Says whether tiles take the rows of `A` as rows of `bf16`, not as lanes of a step.
pub(crate) fn reads_rows(simd: Simd, compute: Compute) -> bool {
    simd == Simd::Amx && compute == Compute::Bf16
}

/// Addresses and steps of one tile. In [`Compute::Bf16`] every 32-bit element of `A` and `B` is a pair along `k`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tile {
    /// Steps along the sum (pairs in `bf16`).
    pub(crate) k: usize,
    pub(crate) a: *const f32,
    /// Distance of the steps of `A`, of its rows where [`reads_rows`].
    pub(crate) a_step: usize,
    pub(crate) b: *const f32,
    pub(crate) b_step: usize,
    pub(crate) c: *mut f32,
    pub(crate) c_step: usize,
    /// 1 in [`Compute::Bf16`].
    pub(crate) alpha: f32,
    /// Adds to `C` instead of replacing it.
    pub(crate) add: bool,
}

/// A tile of fixed size in one instruction set.
///
/// # Safety
/// The processor has the instruction set, and with `mr` rows and `nv` vectors of the kernel: `a` is readable at
/// `i * RS + p * a_step` for `i < mr`, `p < k`; `b` at `p * b_step + j` for `j < 16 nv`; `c` is writable (and, with
/// `add`, readable) at `i * c_step + j`, and nobody else touches those elements meanwhile.
pub(crate) type Kernel = unsafe fn(&Tile);

/// Kernels of one family.
pub(crate) enum Kernels {
    /// By rows (index `mr - 1`), for tiles of one and of two vectors.
    Vectors {
        narrow: [Kernel; VECTOR_ROWS],
        wide: [Kernel; VECTOR_ROWS],
    },
    /// Matrix registers, which a thread configures for a number of rows and gives back.
    #[cfg(target_arch = "x86_64")]
    Matrix,
}

impl Kernels {
    /// Picks the kernels for tiles whose `A` has the row step `RS`.
    ///
    /// `simd` must have been found on this machine (that is what makes calling a [`Kernel`] sound).
    pub(crate) fn pick<const RS: usize>(simd: Simd, compute: Compute) -> Kernels {
        #[cfg(target_arch = "x86_64")]
        match (simd, compute) {
            (Simd::Amx, Compute::Bf16) => {
                return Kernels::Matrix;
            }
            (Simd::Avx512Bf16, Compute::Bf16) => {
                return x86::BF16;
            }
            (Simd::Avx512 | Simd::Avx512Bf16 | Simd::Amx, Compute::F32) => {
                return Kernels::Vectors {
                    narrow: x86::avx512::<RS, 1>(),
                    wide: x86::avx512::<RS, 2>(),
                };
            }
            (Simd::Avx2, Compute::F32) => {
                return Kernels::Vectors {
                    narrow: x86::avx2::<RS, 1>(),
                    wide: x86::avx2::<RS, 2>(),
                };
            }
            _ => {}
        }
        assert!(
            simd == Simd::Scalar && compute == Compute::F32,
            "callers check `Ctx::supports` before they ask for bf16"
        );
        Kernels::Vectors {
            narrow: scalar_kernels::<RS, 16>(),
            wide: scalar_kernels::<RS, 32>(),
        }
    }

    /// Returns the kernel for `rows` rows and `vectors` (1 or 2) vectors of 16 columns.
    pub(crate) fn get(&self, rows: usize, vectors: usize) -> Kernel {
        match self {
            Kernels::Vectors { narrow, .. } if vectors == 1 => narrow[rows - 1],
            Kernels::Vectors { wide, .. } => wide[rows - 1],
            #[cfg(target_arch = "x86_64")]
            Kernels::Matrix => amx::kernel(rows, vectors),
        }
    }

    /// Prepares this thread for tiles of so many rows; [`Kernels::leave`] must follow.
    pub(crate) fn enter(&self, rows: usize) {
        #[cfg(target_arch = "x86_64")]
        if let Kernels::Matrix = self {
            // SAFETY: only [`Kernels::pick`] makes the variant, for an instruction set that was found on this machine.
            unsafe { amx::configure(rows) };
        }
    }

    /// Gives back what [`Kernels::enter`] took.
    pub(crate) fn leave(&self) {
        #[cfg(target_arch = "x86_64")]
        if let Kernels::Matrix = self {
            // SAFETY: as in [`Kernels::enter`].
            unsafe { amx::release() };
        }
    }
}

fn scalar_kernels<const RS: usize, const N: usize>() -> [Kernel; VECTOR_ROWS] {
    let mut table: [Kernel; VECTOR_ROWS] = [scalar::<RS, N, 4>; VECTOR_ROWS];
    table[0] = scalar::<RS, N, 1>;
    table[1] = scalar::<RS, N, 2>;
    table[2] = scalar::<RS, N, 3>;
    table
}

/// Plain twin of the vector tiles.
///
/// # Safety
/// See [`Kernel`].
unsafe fn scalar<const RS: usize, const N: usize, const MR: usize>(tile: &Tile) {
    for i in 0..MR {
        let mut sums = [0.0f32; N];
        for p in 0..tile.k {
            // SAFETY: inside `a` and `b` by the contract of `Kernel`.
            let (x, b) = unsafe {
                (
                    *tile.a.add(i * RS + p * tile.a_step),
                    std::slice::from_raw_parts(tile.b.add(p * tile.b_step), N),
                )
            };
            for (sum, b) in sums.iter_mut().zip(b) {
                *sum += x * b;
            }
        }
        // SAFETY: inside `c`, and only this task touches it.
        let c = unsafe { std::slice::from_raw_parts_mut(tile.c.add(i * tile.c_step), N) };
        for (c, sum) in c.iter_mut().zip(sums) {
            *c = if tile.add {
                *c + tile.alpha * sum
            } else {
                tile.alpha * sum
            };
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{Kernel, Kernels, Tile, VECTOR_ROWS};

    pub(super) const fn avx512<const RS: usize, const NV: usize>() -> [Kernel; VECTOR_ROWS] {
        [
            tile_avx512::<RS, NV, 1>,
            tile_avx512::<RS, NV, 2>,
            tile_avx512::<RS, NV, 3>,
            tile_avx512::<RS, NV, 4>,
            tile_avx512::<RS, NV, 5>,
            tile_avx512::<RS, NV, 6>,
            tile_avx512::<RS, NV, 7>,
            tile_avx512::<RS, NV, 8>,
            tile_avx512::<RS, NV, 9>,
            tile_avx512::<RS, NV, 10>,
            tile_avx512::<RS, NV, 11>,
            tile_avx512::<RS, NV, 12>,
        ]
    }

    pub(super) const fn avx2<const RS: usize, const NV: usize>() -> [Kernel; VECTOR_ROWS] {
        let mut table: [Kernel; VECTOR_ROWS] = [tile_avx2::<RS, NV, 6>; VECTOR_ROWS];
        table[0] = tile_avx2::<RS, NV, 1>;
        table[1] = tile_avx2::<RS, NV, 2>;
        table[2] = tile_avx2::<RS, NV, 3>;
        table[3] = tile_avx2::<RS, NV, 4>;
        table[4] = tile_avx2::<RS, NV, 5>;
        table
    }

    pub(super) const BF16: Kernels = Kernels::Vectors {
        narrow: bf16_kernels::<1>(),
        wide: bf16_kernels::<2>(),
    };

    const fn bf16_kernels<const NV: usize>() -> [Kernel; VECTOR_ROWS] {
        [
            tile_bf16::<NV, 1>,
            tile_bf16::<NV, 2>,
            tile_bf16::<NV, 3>,
            tile_bf16::<NV, 4>,
            tile_bf16::<NV, 5>,
            tile_bf16::<NV, 6>,
            tile_bf16::<NV, 7>,
            tile_bf16::<NV, 8>,
            tile_bf16::<NV, 9>,
            tile_bf16::<NV, 10>,
            tile_bf16::<NV, 11>,
            tile_bf16::<NV, 12>,
        ]
    }

    /// Writes the sums of a tile; a macro, because a function would take them through memory.
    macro_rules! store_avx512 {
        ($tile:ident, $sums:ident) => {
            let alpha = _mm512_set1_ps($tile.alpha);
            for (i, sums) in $sums.into_iter().enumerate() {
                for (j, sum) in sums.into_iter().enumerate() {
                    // SAFETY: inside `c` by the contract of `Kernel`.
                    unsafe {
                        let c = $tile.c.add(i * $tile.c_step + 16 * j);
                        let value = if $tile.add {
                            _mm512_fmadd_ps(sum, alpha, _mm512_loadu_ps(c))
                        } else {
                            _mm512_mul_ps(sum, alpha)
                        };
                        _mm512_storeu_ps(c, value);
                    }
                }
            }
        };
    }

    /// # Safety
    /// See [`Kernel`]; needs AVX-512 F.
    #[target_feature(enable = "avx512f")]
    unsafe fn tile_avx512<const RS: usize, const NV: usize, const MR: usize>(tile: &Tile) {
        let mut sums = [[_mm512_setzero_ps(); NV]; MR];
        let (mut a, mut b) = (tile.a, tile.b);
        for _ in 0..tile.k {
            // SAFETY: inside `a` and `b` by the contract of `Kernel`; the last advance may leave them, but is not read.
            unsafe {
                let mut columns = [_mm512_setzero_ps(); NV];
                for (j, column) in columns.iter_mut().enumerate() {
                    *column = _mm512_loadu_ps(b.add(16 * j));
                }
                for (i, sums) in sums.iter_mut().enumerate() {
                    let x = _mm512_set1_ps(*a.add(i * RS));
                    for (sum, column) in sums.iter_mut().zip(columns) {
                        *sum = _mm512_fmadd_ps(x, column, *sum);
                    }
                }
            }
            a = a.wrapping_add(tile.a_step);
            b = b.wrapping_add(tile.b_step);
        }
        store_avx512!(tile, sums);
    }

    /// # Safety
    /// See [`Kernel`]; needs AVX-512 F and BF16.
    #[target_feature(enable = "avx512f,avx512bf16")]
    unsafe fn tile_bf16<const NV: usize, const MR: usize>(tile: &Tile) {
        let mut sums = [[_mm512_setzero_ps(); NV]; MR];
        let (mut a, mut b) = (tile.a.cast::<i32>(), tile.b.cast::<i32>());
        for _ in 0..tile.k {
            // SAFETY: inside `a` and `b` by the contract of `Kernel`; 512 bits are 512 bits.
            unsafe {
                let mut columns = [_mm512_setzero_si512(); NV];
                for (j, column) in columns.iter_mut().enumerate() {
                    *column = _mm512_loadu_epi32(b.add(16 * j));
                }
                for (i, sums) in sums.iter_mut().enumerate() {
                    let x: __m512bh = std::mem::transmute(_mm512_set1_epi32(*a.add(i)));
                    for (sum, column) in sums.iter_mut().zip(columns) {
                        *sum = _mm512_dpbf16_ps(*sum, x, std::mem::transmute::<__m512i, __m512bh>(column));
                    }
                }
            }
            a = a.wrapping_add(tile.a_step);
            b = b.wrapping_add(tile.b_step);
        }
        store_avx512!(tile, sums);
    }

    /// Walks the panel in strips of 16 columns, because 16 registers hold no wider tile.
    ///
    /// # Safety
    /// See [`Kernel`]; needs AVX2 and FMA.
    #[target_feature(enable = "avx2,fma")]
    unsafe fn tile_avx2<const RS: usize, const NV: usize, const MR: usize>(tile: &Tile) {
        let alpha = _mm256_set1_ps(tile.alpha);
        for strip in 0..NV {
            let mut sums = [[_mm256_setzero_ps(); 2]; MR];
            let (mut a, mut b) = (tile.a, tile.b.wrapping_add(16 * strip));
            for _ in 0..tile.k {
                // SAFETY: inside `a` and `b` by the contract of `Kernel`.
                unsafe {
                    let columns = [_mm256_loadu_ps(b), _mm256_loadu_ps(b.add(8))];
                    for (i, sums) in sums.iter_mut().enumerate() {
                        let x = _mm256_broadcast_ss(&*a.add(i * RS));
                        for (sum, column) in sums.iter_mut().zip(columns) {
                            *sum = _mm256_fmadd_ps(x, column, *sum);
                        }
                    }
                }
                a = a.wrapping_add(tile.a_step);
                b = b.wrapping_add(tile.b_step);
            }
            for (i, sums) in sums.iter().enumerate() {
                for (j, sum) in sums.iter().enumerate() {
                    // SAFETY: inside `c` by the contract of `Kernel`.
                    unsafe {
                        let c = tile.c.add(i * tile.c_step + 16 * strip + 8 * j);
                        let value = if tile.add {
                            _mm256_fmadd_ps(*sum, alpha, _mm256_loadu_ps(c))
                        } else {
                            _mm256_mul_ps(*sum, alpha)
                        };
                        _mm256_storeu_ps(c, value);
                    }
                }
            }
        }
    }
}
