//! The values of a frozen weight as they lie in memory.

use std::ops::Range;
use std::sync::Arc;

use crate::bytes::Bytes;
use crate::pack::Float;
use crate::quant::{self, GgmlType, Nf4Matrix, dequantize_row};

/// How the values of a weight are kept.
#[derive(Clone, Debug)]
pub(crate) enum Stored {
    /// Rows of a file's type, one after the other.
    Rows {
        ty: GgmlType,
        row_bytes: usize,
        data: Bytes,
    },
    /// Four-bit normal floats.
    Nf4(Arc<Nf4Matrix>),
}

impl Stored {
    /// Decodes some columns of row `i` of rows of `k`; of a file's type the range lies between whole blocks.
    pub(crate) fn decode(&self, k: usize, i: usize, columns: Range<usize>, out: &mut [f32]) {
        match self {
            Stored::Rows { ty, row_bytes, data } => {
                let part = |at: usize| ty.row_bytes(at).expect("columns are cut between blocks");
                let row = &data.as_slice()[i * row_bytes..(i + 1) * row_bytes];
                dequantize_row(*ty, &row[part(columns.start)..part(columns.end)], out)
                    .expect("the range was cut between blocks");
            }
            Stored::Nf4(matrix) => matrix.decode(i * k + columns.start..i * k + columns.end, out),
        }
    }

    /// Returns the values as plain floats, where they are kept so: their type and all their bytes.
    pub(crate) fn floats(&self) -> Option<(Float, &[u8])> {
        match self {
            Stored::Rows { ty, data, .. } => Some((float_of(*ty)?, data.as_slice())),
            Stored::Nf4(_) => None,
        }
    }

    /// Returns the values that share a scale; 1 of plain floats.
    pub(crate) fn block_size(&self) -> usize {
        match self {
            Stored::Rows { ty, .. } => ty.block_size(),
            Stored::Nf4(_) => quant::nf4::NF4_BLOCK,
        }
    }

    /// Returns the bytes that they take.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Stored::Rows { data, .. } => data.as_slice().len(),
            Stored::Nf4(matrix) => matrix.bytes(),
        }
    }
}

/// Returns how the type stores plain floats, if it does.
pub(crate) fn float_of(ty: GgmlType) -> Option<Float> {
    match ty {
        GgmlType::F32 => Some(Float::F32),
        GgmlType::BF16 => Some(Float::Bf16),
        GgmlType::F16 => Some(Float::F16),
        _ => None,
    }
}
