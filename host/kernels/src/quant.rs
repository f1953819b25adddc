//! Block codecs of the GGUF family, NF4 and the eight bits of the optimizer's moments: type table, dequantizing, quantizing and integer dot products.
//!
//! Invariants: dequantizing is exact (bit-equal to the format's definition); quantizing gives the same bytes whatever
//! the instruction set and the thread count, because every vector lane walks one block in the scalar order.
//! This module knows rows of blocks; it knows no tensor names, files or architectures.
//!
//! One file per family: `simple` (32-element blocks), `k_min` (Q2_K, Q4_K, Q5_K: scale and minimum), `k_scale`
//! (Q3_K, Q6_K: scale only), `iq4` (non-linear four bits), `search` (the scale searches they share), `lanes` (the
//! vectors that the searches run on). Products: `activation`, `groups` and `dot` (the plain version), `panel` and
//! `kernels` (the fast one).

mod activation;
mod dot;
pub mod dynamic;
mod groups;
mod iq4;
mod k_min;
mod k_scale;
mod kernels;
mod lanes;
mod layout;
pub mod nf4;
mod nf4_matrix;
mod panel;
mod search;
mod simple;

pub use activation::Activation;
pub use dot::dot_row;
pub use lanes::Level;
pub use nf4_matrix::Nf4Matrix;
pub use panel::Panels;

use half::{bf16, f16};
use lanes::Lanes;

/// Elements of one super-block of the K types.
pub const SUPER_BLOCK: usize = 256;
/// Elements of one block of the simple types.
pub const BLOCK: usize = 32;

/// A storage type of a GGUF tensor that this program reads and writes.
///
/// **Source:** ggml's type table; the discriminants are the numbers in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(
    non_camel_case_types,
    reason = "these are the names that the format and its users write"
)]
#[repr(u32)]
pub enum GgmlType {
    F32 = 0,
    F16 = 1,
    Q4_0 = 2,
    Q4_1 = 3,
    Q5_0 = 6,
    Q5_1 = 7,
    Q8_0 = 8,
    Q2_K = 10,
    Q3_K = 11,
    Q4_K = 12,
    Q5_K = 13,
    Q6_K = 14,
    Q8_K = 15,
    IQ4_NL = 20,
    IQ4_XS = 23,
    BF16 = 30,
}

impl GgmlType {
    /// Every type of the table, in the order of their ids.
    pub const ALL: [GgmlType; 16] = [
        GgmlType::F32,
        GgmlType::F16,
        GgmlType::Q4_0,
        GgmlType::Q4_1,
        GgmlType::Q5_0,
        GgmlType::Q5_1,
        GgmlType::Q8_0,
        GgmlType::Q2_K,
        GgmlType::Q3_K,
        GgmlType::Q4_K,
        GgmlType::Q5_K,
        GgmlType::Q6_K,
        GgmlType::Q8_K,
        GgmlType::IQ4_NL,
        GgmlType::IQ4_XS,
        GgmlType::BF16,
    ];

    /// Returns the number that stands for the type in a file.
    pub const fn id(self) -> u32 {
        self as u32
    }

    /// Finds the type with the given number; `None` for a number that this program does not decode.
    pub fn from_id(id: u32) -> Option<GgmlType> {
        Self::ALL.into_iter().find(|ty| ty.id() == id)
    }

    /// Returns the format's name, such as `Q4_K`.
    pub const fn name(self) -> &'static str {
        match self {
            GgmlType::F32 => "F32",
            GgmlType::F16 => "F16",
            GgmlType::BF16 => "BF16",
            GgmlType::Q4_0 => "Q4_0",
            GgmlType::Q4_1 => "Q4_1",
            GgmlType::Q5_0 => "Q5_0",
            GgmlType::Q5_1 => "Q5_1",
            GgmlType::Q8_0 => "Q8_0",
            GgmlType::Q2_K => "Q2_K",
            GgmlType::Q3_K => "Q3_K",
            GgmlType::Q4_K => "Q4_K",
            GgmlType::Q5_K => "Q5_K",
            GgmlType::Q6_K => "Q6_K",
            GgmlType::Q8_K => "Q8_K",
            GgmlType::IQ4_NL => "IQ4_NL",
            GgmlType::IQ4_XS => "IQ4_XS",
        }
    }

    /// Returns how many elements one block holds; a row must be a whole number of blocks.
    pub const fn block_size(self) -> usize {
        match self {
            GgmlType::F32 | GgmlType::F16 | GgmlType::BF16 => 1,
            GgmlType::Q4_0 | GgmlType::Q4_1 | GgmlType::Q5_0 | GgmlType::Q5_1 | GgmlType::Q8_0 | GgmlType::IQ4_NL => {
                BLOCK
            }
            _ => SUPER_BLOCK,
        }
    }

    /// Returns how many bytes one block takes.
    pub const fn block_bytes(self) -> usize {
        match self {
            GgmlType::F32 => 4,
            GgmlType::F16 | GgmlType::BF16 => 2,
            GgmlType::Q4_0 | GgmlType::IQ4_NL => 18,
            GgmlType::Q4_1 => 20,
            GgmlType::Q5_0 => 22,
            GgmlType::Q5_1 => 24,
            GgmlType::Q8_0 => 34,
            GgmlType::Q2_K => 84,
            GgmlType::Q3_K => 110,
            GgmlType::Q4_K => 144,
            GgmlType::Q5_K => 176,
            GgmlType::Q6_K => 210,
            GgmlType::Q8_K => 292,
            GgmlType::IQ4_XS => 136,
        }
    }

    /// Returns the bytes of a row of `len` elements, or `None` when `len` is not a whole number of blocks or the
    /// product does not fit.
    pub fn row_bytes(self, len: usize) -> Option<usize> {
        if !len.is_multiple_of(self.block_size()) {
            return None;
        }
        (len / self.block_size()).checked_mul(self.block_bytes())
    }

    /// Says whether the type stores blocks of integers (everything but the plain floats).
    pub const fn is_quantized(self) -> bool {
        self.block_size() > 1
    }
}

impl std::fmt::Display for GgmlType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A row that does not fit its type, or a type that cannot be asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantError {
    /// The row is not a whole number of blocks.
    #[error("read a row of {len} elements as {ty}: its blocks hold {} elements", .ty.block_size())]
    RowLength { ty: GgmlType, len: usize },
    /// The byte slice has another length than the row needs.
    #[error("hold a row of {len} elements as {ty}: expected {expected} bytes, found {found}")]
    Bytes {
        ty: GgmlType,
        len: usize,
        expected: usize,
        found: usize,
    },
    /// The importance vector has another length than the row.
    #[error("weigh a row of {len} elements: the importance vector has {found}")]
    Importance { len: usize, found: usize },
    /// The rows of activations are not whole blocks.
    #[error("quantize activations in rows of {len}: needs a multiple of 32 that divides the {found} values")]
    Activation { len: usize, found: usize },
    /// The type is no weight type, or has no such kernel.
    #[error("use {ty} for {purpose}: only weight types with that kernel serve")]
    Unsupported { ty: GgmlType, purpose: &'static str },
}

fn check_row(ty: GgmlType, len: usize, found: usize) -> Result<(), QuantError> {
    let expected = ty.row_bytes(len).ok_or(QuantError::RowLength { ty, len })?;
    if expected != found {
        return Err(QuantError::Bytes {
            ty,
            len,
            expected,
            found,
        });
    }
    Ok(())
}

/// Decodes a row (or several rows, one after the other) of `ty` into `out`.
///
/// **Shapes:** `bytes` is `ty.row_bytes(out.len())` long. **Errors:** lengths that do not fit.
/// **Source:** ggml's `dequantize_row_*`; the results are bit-equal to it.
pub fn dequantize_row(ty: GgmlType, bytes: &[u8], out: &mut [f32]) -> Result<(), QuantError> {
    check_row(ty, out.len(), bytes.len())?;
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("f16c") {
            // SAFETY: the features that the function is compiled for were just found on this machine.
            unsafe { dequantize_avx2(ty, bytes, out) };
            return Ok(());
        }
    }
    dequantize_any(ty, bytes, out);
    Ok(())
}

/// The same loops compiled for wider vectors; no result changes, because Rust never contracts a product and a sum.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,f16c")]
fn dequantize_avx2(ty: GgmlType, bytes: &[u8], out: &mut [f32]) {
    dequantize_any(ty, bytes, out);
}

#[inline(always)]
fn dequantize_any(ty: GgmlType, bytes: &[u8], out: &mut [f32]) {
    match ty {
        GgmlType::F32 => {
            for (value, raw) in out.iter_mut().zip(bytes.as_chunks::<4>().0) {
                *value = f32::from_le_bytes(*raw);
            }
        }
        GgmlType::F16 => {
            for (value, raw) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
                *value = half_at(raw, 0);
            }
        }
        GgmlType::BF16 => {
            for (value, raw) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
                *value = bf16::from_le_bytes(*raw).to_f32();
            }
        }
        GgmlType::Q4_0 => simple::decode_q4_0(bytes, out),
        GgmlType::Q4_1 => simple::decode_q4_1(bytes, out),
        GgmlType::Q5_0 => simple::decode_q5_0(bytes, out),
        GgmlType::Q5_1 => simple::decode_q5_1(bytes, out),
        GgmlType::Q8_0 => simple::decode_q8_0(bytes, out),
        GgmlType::Q2_K => k_min::decode_q2_k(bytes, out),
        GgmlType::Q3_K => k_scale::decode_q3_k(bytes, out),
        GgmlType::Q4_K => k_min::decode_q4_k(bytes, out),
        GgmlType::Q5_K => k_min::decode_q5_k(bytes, out),
        GgmlType::Q6_K => k_scale::decode_q6_k(bytes, out),
        GgmlType::Q8_K => k_scale::decode_q8_k(bytes, out),
        GgmlType::IQ4_NL => iq4::decode_iq4_nl(bytes, out),
        GgmlType::IQ4_XS => iq4::decode_iq4_xs(bytes, out),
    }
}

/// Reads the half float that starts at byte `at`.
#[inline(always)]
fn half_at(bytes: &[u8], at: usize) -> f32 {
    half_to_f32(u16::from_le_bytes([bytes[at], bytes[at + 1]]))
}

/// Widens a half float with integer and float steps only, so that loops over it become vector code.
///
/// Every half (subnormals, infinities, NaN payloads up to quietness) maps to the same `f32` as the hardware instruction.
#[inline(always)]
pub(crate) fn half_to_f32(bits: u16) -> f32 {
    let sign = u32::from(bits & 0x8000) << 16;
    let magnitude = u32::from(bits & 0x7fff) << 13;
    // 2^112 re-bases the exponent (127 - 15) and normalizes subnormals exactly; infinities need their exponent back.
    let scaled = f32::from_bits(magnitude) * f32::from_bits(0x7780_0000);
    let special = u32::from(bits & 0x7c00 == 0x7c00) * 0x7f80_0000;
    f32::from_bits(scaled.to_bits() | special | sign)
}

/// Rounds to a half float and writes it at byte `at`.
#[inline(always)]
fn put_half(bytes: &mut [u8], at: usize, value: f32) {
    bytes[at..at + 2].copy_from_slice(&f16::from_f32(value).to_le_bytes());
}

/// Returns the weight of every value: its importance times `sqrt(factor * mean square of its span + square)`.
#[inline(always)]
fn importance_weights(x: &[f32], importance: &[f32], span: usize, factor: f32) -> Vec<f32> {
    let mut weights = Vec::with_capacity(x.len());
    for (x, importance) in x.chunks(span).zip(importance.chunks(span)) {
        let squares = x.iter().fold(0.0, |sum, x| sum + x * x);
        let variance = factor * squares / x.len() as f32;
        weights.extend(
            x.iter()
                .zip(importance)
                .map(|(x, importance)| importance * (variance + x * x).sqrt()),
        );
    }
    weights
}

/// Encodes one row of `x` as `ty`, on the widest vectors of this machine.
///
/// **Shapes:** `out` is `ty.row_bytes(x.len())` long, `importance` (one positive weight per column) as long as `x`.
/// Q8_0 and the plain floats ignore importance. **Errors:** lengths that do not fit; Q8_K, which is no weight type.
/// **Source:** ggml's `quantize_*`: the bytes are equal to those of a build without fused multiply-add.
pub fn quantize_row(ty: GgmlType, x: &[f32], importance: Option<&[f32]>, out: &mut [u8]) -> Result<(), QuantError> {
    quantize_row_at(Level::detect(), ty, x, importance, out)
}

/// Encodes a row as [`quantize_row`] does, on vectors of the given width (or narrower, if the machine has no such).
pub fn quantize_row_at(
    level: Level,
    ty: GgmlType,
    x: &[f32],
    importance: Option<&[f32]>,
    out: &mut [u8],
) -> Result<(), QuantError> {
    check_row(ty, x.len(), out.len())?;
    if ty == GgmlType::Q8_K {
        return Err(QuantError::Unsupported {
            ty,
            purpose: "storing a weight",
        });
    }
    if let Some(importance) = importance
        && importance.len() != x.len()
    {
        return Err(QuantError::Importance {
            len: x.len(),
            found: importance.len(),
        });
    }
    match level.at_most_detected() {
        // SAFETY: `at_most_detected` found the features that the function is compiled for.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => unsafe { quantize_avx512(ty, x, importance, out) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => unsafe { quantize_avx2(ty, x, importance, out) },
        _ => quantize_any::<f32>(ty, x, importance, out),
    }
    Ok(())
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,f16c,avx512f,avx512bw")]
fn quantize_avx512(ty: GgmlType, x: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
    quantize_any::<lanes::Sixteen>(ty, x, importance, out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,f16c")]
fn quantize_avx2(ty: GgmlType, x: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
    quantize_any::<lanes::Eight>(ty, x, importance, out);
}

#[inline(always)]
fn quantize_any<V: Lanes>(ty: GgmlType, x: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
    match ty {
        GgmlType::F32 => {
            for (value, raw) in x.iter().zip(out.as_chunks_mut::<4>().0) {
                *raw = value.to_le_bytes();
            }
        }
        GgmlType::F16 => {
            for (value, raw) in x.iter().zip(out.as_chunks_mut::<2>().0) {
                put_half(raw, 0, *value);
            }
        }
        GgmlType::BF16 => {
            for (value, raw) in x.iter().zip(out.as_chunks_mut::<2>().0) {
                *raw = bf16::from_f32(*value).to_le_bytes();
            }
        }
        GgmlType::Q4_0 => simple::encode_q4_0::<V>(x, importance, out),
        GgmlType::Q4_1 => simple::encode_q4_1::<V>(x, importance, out),
        GgmlType::Q5_0 => simple::encode_q5_0::<V>(x, importance, out),
        GgmlType::Q5_1 => simple::encode_q5_1::<V>(x, importance, out),
        GgmlType::Q8_0 => simple::encode_q8_0(x, out),
        GgmlType::Q2_K => k_min::encode_q2_k::<V>(x, importance, out),
        GgmlType::Q3_K => k_scale::encode_q3_k::<V>(x, importance, out),
        GgmlType::Q4_K => k_min::encode_q4_k::<V>(x, importance, out),
        GgmlType::Q5_K => k_min::encode_q5_k::<V>(x, importance, out),
        GgmlType::Q6_K => k_scale::encode_q6_k::<V>(x, importance, out),
        GgmlType::Q8_K => unreachable!("`quantize_row_at` refuses Q8_K"),
        GgmlType::IQ4_NL => iq4::encode_iq4_nl(x, importance, out),
        GgmlType::IQ4_XS => iq4::encode_iq4_xs(x, importance, out),
    }
}
