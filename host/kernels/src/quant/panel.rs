//! Quantized weights re-ordered for integer dot products: sixteen rows side by side.
//!
//! A panel holds sixteen rows, cut into groups of 32 columns. For every group the four columns `4c..4c+4` of all sixteen
//! rows lie together, so that one instruction multiplies them with four activations and adds into sixteen rows: no
//! horizontal sum, and the scales of the rows are one vector. Nothing is widened: a panel takes the bytes of the type
//! (Q4_K and Q5_K one or two per cent more), so decoding stays bound by the weights' own size.
//!
//! **Cost:** a decoding step reads each byte once; per 512 weights about 30 instructions, which is less time than
//! memory takes. Prompts re-use each unpacked group for eight tokens.
//! Invariants: results do not depend on threads, on vector width, or on how many tokens are multiplied at once.

use super::activation::Activation;
use super::groups::{is_known, unpack, zero_point};
use super::kernels::{self, Job};
use super::lanes::Level;
use super::layout::{Codes, Heads, Line, ROWS, layout};
use super::{BLOCK, GgmlType, QuantError, check_row};
use crate::ctx::{Ctx, Write};
use crate::pool::Disjoint;

/// Parts per thread that a product is cut into, so that a late thread costs little.
const PARTS_PER_THREAD: usize = 4;

/// A weight `[n, k]` in panels.
#[derive(Clone, Debug)]
pub struct Panels {
    ty: GgmlType,
    n: usize,
    k: usize,
    heads: Vec<u8>,
    lines: Vec<Line>,
}

impl Panels {
    /// Says whether weights of this type can be packed.
    pub fn supports(ty: GgmlType) -> bool {
        is_known(ty)
    }

    /// Re-orders the rows of a weight; the stored bytes are no longer needed for products afterwards.
    ///
    /// **Errors:** a type without integer product, or bytes that are not `n` rows of `k`.
    pub fn pack(ctx: &Ctx, ty: GgmlType, n: usize, k: usize, bytes: &[u8]) -> Result<Panels, QuantError> {
        if !is_known(ty) {
            return Err(QuantError::Unsupported {
                ty,
                purpose: "an integer product",
            });
        }
        let row_bytes = ty.row_bytes(k).ok_or(QuantError::RowLength { ty, len: k })?;
        check_row(ty, n * k, bytes.len())?;
        let (panels, groups) = (n.div_ceil(ROWS), k / BLOCK);
        let (heads, codes) = layout(ty);
        let (head_bytes, line_count) = (heads.bytes(groups), codes.lines() * groups);
        let mut packed = Panels {
            ty,
            n,
            k,
            heads: vec![0; panels * head_bytes],
            lines: vec![Line([0; 64]); panels * line_count],
        };
        let (all_heads, all_lines) = (Disjoint::new(&mut packed.heads), Disjoint::new(&mut packed.lines));
        ctx.pool.run(panels, |panel| {
            // SAFETY: panels do not overlap and each is packed by one task.
            let (heads, lines) = unsafe {
                (
                    all_heads.range(panel * head_bytes, head_bytes),
                    all_lines.range(panel * line_count, line_count),
                )
            };
            let rows = &bytes[panel * ROWS * row_bytes..][..ROWS.min(n - panel * ROWS) * row_bytes];
            for (lane, row) in rows.chunks_exact(row_bytes).enumerate() {
                pack_row(ty, row, lane, heads, lines);
            }
        });
        Ok(packed)
    }

    /// Returns the bytes that the panels take.
    pub fn bytes(&self) -> usize {
        self.heads.len() + 64 * self.lines.len()
    }

    /// Returns the output features.
    pub fn n(&self) -> usize {
        self.n
    }

    /// Returns the input features.
    pub fn k(&self) -> usize {
        self.k
    }

    /// Returns the type that was packed.
    pub fn ggml_type(&self) -> GgmlType {
        self.ty
    }

    /// `y[t, n] (+)= x[t, k] W^T` with the quantized rows of `activation`.
    ///
    /// **Panics:** when `activation` or `y` has another shape than the product needs.
    pub fn product(&self, ctx: &Ctx, activation: &Activation, y: &mut [f32], write: Write) {
        let tokens = activation.rows();
        assert_eq!(activation.len(), self.k, "activations as long as the weight's rows");
        assert_eq!(y.len(), tokens * self.n, "an output of one row per activation");
        let panels = self.n.div_ceil(ROWS);
        let threads = ctx.pool.threads();
        let parts = if threads == 1 {
            1
        } else {
            (threads * PARTS_PER_THREAD).min(panels)
        };
        let level = Level::of(ctx.simd);
        let out = Disjoint::new(y);
        ctx.pool.run(parts, |part| {
            for panel in part * panels / parts..(part + 1) * panels / parts {
                self.panel_product(level, panel, activation, &out, write);
            }
        });
    }

    fn panel_product(
        &self,
        level: Level,
        panel: usize,
        activation: &Activation,
        out: &Disjoint<'_, f32>,
        write: Write,
    ) {
        let groups = self.k / BLOCK;
        let (heads, codes) = layout(self.ty);
        let (head_bytes, line_count) = (heads.bytes(groups), codes.lines() * groups);
        let job = Job {
            groups,
            zero: zero_point(self.ty),
            heads: &self.heads[panel * head_bytes..][..head_bytes],
            lines: &self.lines[panel * line_count..][..line_count],
            activation,
        };
        let first = panel * ROWS;
        let width = ROWS.min(self.n - first);
        let mut sums = [[0.0; ROWS]; kernels::TOKENS];
        for from in (0..activation.rows()).step_by(kernels::TOKENS) {
            let tokens = kernels::TOKENS.min(activation.rows() - from);
            kernels::multiply(level, self.ty, &job, from, &mut sums[..tokens]);
            for (i, sums) in sums[..tokens].iter().enumerate() {
                // SAFETY: panels do not overlap in any row of the output, and each panel is one task's.
                let y = unsafe { out.range((from + i) * self.n + first, width) };
                match write {
                    Write::Set => y.copy_from_slice(&sums[..width]),
                    Write::Add => y.iter_mut().zip(sums).for_each(|(y, sum)| *y += sum),
                }
            }
        }
    }
}

fn pack_row(ty: GgmlType, row: &[u8], lane: usize, heads: &mut [u8], lines: &mut [Line]) {
    let (head_layout, code_layout) = layout(ty);
    let groups = row.len() / ty.block_bytes() * ty.block_size() / BLOCK;
    for group in 0..groups {
        let lines = &mut lines[group * code_layout.lines()..][..code_layout.lines()];
        pack_codes(code_layout, &unpack(ty, row, group).codes, lane, lines);
    }
    for block in 0..row.len() / ty.block_bytes() {
        let stored = &row[block * ty.block_bytes()..][..ty.block_bytes()];
        pack_head(
            ty,
            head_layout,
            stored,
            lane,
            &mut heads[head_layout.bytes(block * ty.block_size() / BLOCK)..],
        );
    }
}

fn pack_codes(layout: Codes, codes: &[u8; BLOCK], lane: usize, lines: &mut [Line]) {
    for (j, code) in codes.iter().enumerate() {
        let (column, at) = (j / 4, 4 * lane + j % 4);
        if layout == Codes::Eight {
            lines[column].0[at] = *code;
            continue;
        }
        lines[column % 4].0[at] |= (code & 15) << (4 * (column / 4));
        match layout {
            Codes::Five => lines[4].0[8 * column + at / 8] |= (code >> 4) << (at % 8),
            Codes::Six => lines[4 + column / 4].0[at] |= (code >> 4) << (2 * (column % 4)),
            Codes::Four | Codes::Eight => {}
        }
    }
}

fn pack_head(ty: GgmlType, layout: Heads, block: &[u8], lane: usize, head: &mut [u8]) {
    let mut put = |at: usize, from: usize| head[at + 2 * lane..][..2].copy_from_slice(&block[from..from + 2]);
    match layout {
        Heads::Scale => put(0, 0),
        Heads::ScaleMin => {
            put(0, 0);
            put(32, 2);
        }
        Heads::SuperMin => {
            put(0, 0);
            put(32, 2);
            let packed = block[4..16].first_chunk().expect("twelve bytes");
            let (scales, mins) = super::k_min::unpack_scales(packed);
            for sub in 0..8 {
                head[64 + 32 * sub + lane] = scales[sub];
                head[80 + 32 * sub + lane] = mins[sub];
            }
        }
        Heads::SuperHalves => {
            debug_assert_eq!(ty, GgmlType::Q6_K);
            put(0, 208);
            for sub in 0..16 {
                head[32 + 16 * sub + lane] = block[192 + sub];
            }
        }
    }
}
