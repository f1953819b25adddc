//! One tensor from its stored form to the bytes of the file.
//!
//! Invariants: rows are independent, so the bytes do not hang on the thread count; a value that the type cannot carry is
//! refused by name; a tensor that already has its type is copied, not rounded again.

use std::borrow::Cow;
use std::sync::Mutex;

use dlm_kernels::Ctx;
use dlm_kernels::quant::{GgmlType, Level, dequantize_row, quantize_row_at};
use dlm_model::arch::StoredForm;
use dlm_model::weights::{RawTensor, WeightSource};

use crate::error::ExportError;
use crate::tensor::{PlannedTensor, Source};

/// The largest number of a half float.
const HALF_MAX: f32 = 65_504.0;
/// Parts per thread that a tensor is cut into.
const PARTS_PER_THREAD: usize = 8;

/// The row of the checkpoint that row `row` of the file is.
fn source_row(change: StoredForm, rows: usize, row: usize) -> usize {
    match change {
        StoredForm::Interleaved { heads } => {
            let head_rows = rows / heads;
            let (head, in_head) = (row / head_rows, row % head_rows);
            head * head_rows + in_head % 2 * (head_rows / 2) + in_head / 2
        }
        StoredForm::AsTheyAre | StoredForm::PlusOne => row,
    }
}

/// Rows and their length; a vector that is not re-ordered is one row.
fn rows_of(shape: &[usize], change: StoredForm) -> (usize, usize) {
    let elements: usize = shape.iter().product();
    match (shape, change) {
        (&[len], StoredForm::AsTheyAre | StoredForm::PlusOne) => (1, len),
        _ => (shape[0], elements / shape[0]),
    }
}

struct Job<'a> {
    level: Level,
    raw: &'a RawTensor<'a>,
    change: StoredForm,
    ty: GgmlType,
    importance: Option<&'a [f32]>,
    rows: usize,
    row_len: usize,
}

impl Job<'_> {
    /// Encodes one row; hands back a value that the type cannot carry.
    fn row(&self, row: usize, values: &mut [f32], out: &mut [u8]) -> Result<(), RowFault> {
        let row_bytes = self.raw.bytes.len() / self.rows;
        let stored = &self.raw.bytes[source_row(self.change, self.rows, row) * row_bytes..][..row_bytes];
        if self.raw.dtype == self.ty && self.change != StoredForm::PlusOne {
            out.copy_from_slice(stored);
            return Ok(());
        }
        dequantize_row(self.raw.dtype, stored, values).map_err(|cause| RowFault::Codec(Box::new(cause)))?;
        if self.change == StoredForm::PlusOne {
            values.iter_mut().for_each(|value| *value += 1.0);
        }
        let limit = if self.ty == GgmlType::F32 { f32::MAX } else { HALF_MAX };
        // Every block type keeps its scales as half floats, so the limit is theirs too, and generous.
        if values.iter().any(|value| value.abs() > limit || value.is_nan()) {
            let bad = values
                .iter()
                .copied()
                .find(|value| value.abs() > limit || value.is_nan());
            return Err(RowFault::Value(bad.unwrap_or(f32::NAN)));
        }
        quantize_row_at(self.level, self.ty, values, self.importance, out)
            .map_err(|cause| RowFault::Codec(Box::new(cause)))
    }
}

enum RowFault {
    Value(f32),
    Codec(Box<dlm_kernels::quant::QuantError>),
}

/// Encodes a checkpoint tensor into `out`.
fn encode(ctx: &Ctx, name: &str, job: &Job<'_>, out: &mut [u8]) -> Result<(), ExportError> {
    let row_bytes = job
        .ty
        .row_bytes(job.row_len)
        .filter(|bytes| bytes * job.rows == out.len());
    let row_bytes = row_bytes.ok_or_else(|| ExportError::Shape {
        name: name.to_owned(),
        found: job.raw.shape.clone(),
        expected: format!("rows of whole {} blocks", job.ty),
    })?;
    let per_part = job.rows.div_ceil(ctx.pool.threads() * PARTS_PER_THREAD).max(1);
    // The first row in file order with a fault is reported, whichever thread met one first.
    let fault: Mutex<Option<(usize, RowFault)>> = Mutex::new(None);
    ctx.pool.run_chunks(out, per_part * row_bytes, |part, chunk| {
        let mut values = vec![0.0; job.row_len];
        for (i, out) in chunk.chunks_exact_mut(row_bytes).enumerate() {
            let row = part * per_part + i;
            if let Err(cause) = job.row(row, &mut values, out) {
                let mut first = fault.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                if first.as_ref().is_none_or(|(at, _)| row < *at) {
                    *first = Some((row, cause));
                }
                return;
            }
        }
    });
    match fault.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
        None => Ok(()),
        Some((_, RowFault::Value(found))) => Err(ExportError::Value {
            name: name.to_owned(),
            found,
            ty: job.ty,
        }),
        Some((_, RowFault::Codec(cause))) => Err((*cause).into()),
    }
}

fn fetch<'a>(weights: &'a dyn WeightSource, name: &str, shape: &[usize]) -> Result<RawTensor<'a>, ExportError> {
    let raw = weights.tensor(name)?;
    if raw.shape != shape {
        return Err(ExportError::Shape {
            name: name.to_owned(),
            found: raw.shape,
            expected: format!("{shape:?}"),
        });
    }
    Ok(raw)
}

/// Produces the bytes of one planned tensor.
pub(crate) fn tensor_bytes<'a>(
    ctx: &Ctx,
    planned: &'a PlannedTensor,
    weights: &dyn WeightSource,
    importance: Option<&[Option<Vec<f32>>]>,
) -> Result<Cow<'a, [u8]>, ExportError> {
    let (names, shape): (&[String], &[usize]) = match &planned.source {
        Source::Values(values) => {
            return Ok(values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect::<Vec<u8>>()
                .into());
        }
        Source::Tensor { name, .. } => (std::slice::from_ref(name), &planned.row.shape),
        Source::Stack(names) => (names, &planned.row.shape[1..]),
    };
    let change = match planned.source {
        Source::Tensor { change, .. } => change,
        Source::Values(_) | Source::Stack(_) => StoredForm::AsTheyAre,
    };
    let total = planned.row.bytes().unwrap_or(0);
    let mut out = vec![0; total];
    let each = (total / names.len()).max(1);
    for (index, (name, out)) in names.iter().zip(out.chunks_exact_mut(each)).enumerate() {
        let raw = fetch(weights, name, shape)?;
        let (rows, row_len) = rows_of(shape, change);
        if let StoredForm::Interleaved { heads } = change
            && (heads == 0 || !rows.is_multiple_of(2 * heads))
        {
            let expected = format!("{heads} heads of an even number of rows");
            return Err(ExportError::Shape {
                name: name.clone(),
                found: shape.to_vec(),
                expected,
            });
        }
        let job = Job {
            level: Level::of(ctx.simd()),
            raw: &raw,
            change,
            ty: planned.row.ty,
            importance: importance.and_then(|experts| experts.get(index)?.as_deref()),
            rows,
            row_len,
        };
        encode(ctx, name, &job, out)?;
    }
    Ok(out.into())
}

/// Re-orders the rows of a matrix `[heads * head_rows, row_len]` as the file has them.
pub(crate) fn interleave_rows(values: &[f32], rows: usize, heads: usize) -> Vec<f32> {
    let row_len = values.len() / rows;
    let row = |row| &values[source_row(StoredForm::Interleaved { heads }, rows, row) * row_len..][..row_len];
    (0..rows).flat_map(row).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_each_head_interleave() {
        let found: Vec<usize> = (0..8)
            .map(|row| source_row(StoredForm::Interleaved { heads: 2 }, 8, row))
            .collect();
        assert_eq!(found, [0, 2, 1, 3, 4, 6, 5, 7]);
        assert_eq!(interleave_rows(&[0.0, 1.0, 2.0, 3.0], 4, 1), [0.0, 2.0, 1.0, 3.0]);
    }
}
