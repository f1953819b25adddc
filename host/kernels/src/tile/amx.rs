//! Products of `bf16` tiles in the matrix registers of the processor (Intel AMX).
//!
//! A kernel computes up to 32 rows by 32 columns in four registers of sums. The rows of `A` are plain rows of `bf16`, the
//! panels of `B` are those of the vector kernels: 32-bit pairs along the sum are the layout that the instruction wants.
//! The sum starts from what `C` holds and runs in the order of `k`, so its cut into calls never changes a bit.
//!
//! The registers belong to the thread between [`configure`] and [`release`]. A thread that holds them costs the kernel of
//! the system 8 KiB at each switch, hence the release after every task.

use std::arch::asm;

use super::{Kernel, PANEL, Tile};

/// Rows of one register; its columns are 16 values of 32 bits.
const ROWS: usize = 16;
/// Most rows of a kernel: two registers below each other.
pub(crate) const ROWS_MAX: usize = 2 * ROWS;
/// Steps (pairs along the sum) that one instruction takes; sums are padded to a multiple with zeros.
pub(crate) const STEPS: usize = 16;

/// The memory operand of `ldtilecfg`, palette 1.
#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

/// Shapes the registers of this thread for kernels with `rows` rows: 0 to 3 hold sums, 4 and 5 `A`, 6 and 7 `B`.
///
/// # Safety
/// [`crate::cpu::has_matrix_registers`] said yes.
pub(crate) unsafe fn configure(rows: usize) {
    debug_assert!((1..=ROWS_MAX).contains(&rows), "a kernel has 1 to 32 rows");
    let upper = rows.min(ROWS) as u8;
    // A register of no rows is refused; the lower ones are not used then.
    let lower = rows.saturating_sub(ROWS).max(1) as u8;
    let mut configuration = Configuration {
        palette: 1,
        start_row: 0,
        reserved: [0; 14],
        row_bytes: [0; 16],
        rows: [0; 16],
    };
    configuration.row_bytes[..8].fill(64);
    configuration.rows[..8].copy_from_slice(&[upper, upper, lower, lower, upper, lower, 16, 16]);
    // SAFETY: the operand is 64 bytes in the documented layout.
    unsafe {
        asm!("ldtilecfg [{}]", in(reg) &raw const configuration, options(nostack, readonly, preserves_flags));
    }
}

/// Gives the registers of this thread back.
///
/// # Safety
/// [`crate::cpu::has_matrix_registers`] said yes.
pub(crate) unsafe fn release() {
    // SAFETY: promised by the caller.
    unsafe { asm!("tilerelease", options(nomem, nostack, preserves_flags)) };
}

/// Returns the kernel for this many rows and `vectors` (1 or 2) registers of columns.
pub(crate) fn kernel(rows: usize, vectors: usize) -> Kernel {
    match (rows > ROWS, vectors > 1) {
        (false, false) => upper_left,
        (false, true) => upper,
        (true, false) => left,
        (true, true) => whole,
    }
}

/// Defines a kernel from the instructions that load its first sums, clear them, take one step and store the sums.
///
/// `{c}` and `{cl}` are the upper and the lower 16 rows of `C`, `{cs}` is their step in bytes; the same for `A`. The
/// registers keep their contents from one block to the next: the compiler uses none of them.
macro_rules! kernel {
    ($name:ident, $load:expr, $clear:expr, $step:expr, $store:expr) => {
        /// # Safety
        /// See [`Kernel`]; this thread is configured for the rows, `a_step` is the distance of the rows of `A`, and `k` is a
        /// multiple of [`STEPS`].
        unsafe fn $name(tile: &Tile) {
            debug_assert!(tile.k.is_multiple_of(STEPS), "sums are padded");
            let lower = |rows: *const f32, step: usize| rows.wrapping_add(ROWS * step);
            // SAFETY: the instructions touch what the contract of `Kernel` lends, in the rows that are configured.
            unsafe {
                if tile.add {
                    asm!(
                        $load, "/* {cl} */",
                        c = in(reg) tile.c, cl = in(reg) lower(tile.c, tile.c_step), cs = in(reg) 4 * tile.c_step,
                        options(nostack, readonly, preserves_flags)
                    );
                } else {
                    asm!($clear, options(nomem, nostack, preserves_flags));
                }
                if tile.k > 0 {
                    asm!(
                        "2:",
                        $step,
                        "add {a}, 64",
                        "add {al}, 64",
                        "add {b}, 2048",
                        "dec {count}",
                        "jnz 2b",
                        a = inout(reg) tile.a => _, al = inout(reg) lower(tile.a, tile.a_step) => _,
                        step = in(reg) 4 * tile.a_step,
                        b = inout(reg) tile.b => _, bs = in(reg) 4 * PANEL,
                        count = inout(reg) tile.k / STEPS => _,
                        options(nostack, readonly)
                    );
                }
                asm!(
                    $store, "/* {cl} */",
                    c = in(reg) tile.c, cl = in(reg) lower(tile.c, tile.c_step), cs = in(reg) 4 * tile.c_step,
                    options(nostack, preserves_flags)
                );
            }
        }
    };
}

kernel!(
    upper_left,
    "tileloadd tmm0, [{c} + {cs}*1]",
    "tilezero tmm0",
    "tileloadd tmm4, [{a} + {step}*1]
     tileloadd tmm6, [{b} + {bs}*1]
     tdpbf16ps tmm0, tmm4, tmm6",
    "tilestored [{c} + {cs}*1], tmm0"
);
kernel!(
    upper,
    "tileloadd tmm0, [{c} + {cs}*1]
     tileloadd tmm1, [{c} + {cs}*1 + 64]",
    "tilezero tmm0
     tilezero tmm1",
    "tileloadd tmm4, [{a} + {step}*1]
     tileloadd tmm6, [{b} + {bs}*1]
     tdpbf16ps tmm0, tmm4, tmm6
     tileloadd tmm7, [{b} + {bs}*1 + 64]
     tdpbf16ps tmm1, tmm4, tmm7",
    "tilestored [{c} + {cs}*1], tmm0
     tilestored [{c} + {cs}*1 + 64], tmm1"
);
kernel!(
    left,
    "tileloadd tmm0, [{c} + {cs}*1]
     tileloadd tmm2, [{cl} + {cs}*1]",
    "tilezero tmm0
     tilezero tmm2",
    "tileloadd tmm4, [{a} + {step}*1]
     tileloadd tmm6, [{b} + {bs}*1]
     tdpbf16ps tmm0, tmm4, tmm6
     tileloadd tmm5, [{al} + {step}*1]
     tdpbf16ps tmm2, tmm5, tmm6",
    "tilestored [{c} + {cs}*1], tmm0
     tilestored [{cl} + {cs}*1], tmm2"
);
kernel!(
    whole,
    "tileloadd tmm0, [{c} + {cs}*1]
     tileloadd tmm1, [{c} + {cs}*1 + 64]
     tileloadd tmm2, [{cl} + {cs}*1]
     tileloadd tmm3, [{cl} + {cs}*1 + 64]",
    "tilezero tmm0
     tilezero tmm1
     tilezero tmm2
     tilezero tmm3",
    "tileloadd tmm4, [{a} + {step}*1]
     tileloadd tmm6, [{b} + {bs}*1]
     tdpbf16ps tmm0, tmm4, tmm6
     tileloadd tmm5, [{al} + {step}*1]
     tdpbf16ps tmm2, tmm5, tmm6
     tileloadd tmm7, [{b} + {bs}*1 + 64]
     tdpbf16ps tmm1, tmm4, tmm7
     tdpbf16ps tmm3, tmm5, tmm7",
    "tilestored [{c} + {cs}*1], tmm0
     tilestored [{c} + {cs}*1 + 64], tmm1
     tilestored [{cl} + {cs}*1], tmm2
     tilestored [{cl} + {cs}*1 + 64], tmm3"
);
