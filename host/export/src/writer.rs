//! The streaming GGUF v3 writer: header and tensor table first, then one tensor after the other.
//!
//! Invariants: the file appears under its name only when it is complete and on disk; a failure or a drop removes the
//! partial file. Tensors come in the order and length that the table promised, or the write is refused.
//! **Source:** `spec/export.md` section 5.

use std::path::{Path, PathBuf};

use dlm_core::digest::Sha256;
use dlm_files::{Disk, Partial};
use dlm_kernels::quant::GgmlType;
use dlm_model::gguf::Value;

use crate::error::ExportError;

/// The version that is written.
const VERSION: u32 = 3;
/// Tensor data begins at multiples of this, the format's default.
const ALIGNMENT: usize = 32;

/// Keys and values in the order of the file.
pub type Metadata = Vec<(String, Value)>;

/// One row of the tensor table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorRow {
    pub name: String,
    /// Outermost dimension first; the file has them the other way round.
    pub shape: Vec<usize>,
    pub ty: GgmlType,
}

impl TensorRow {
    /// Returns the bytes of the data, or `None` when a row is no whole number of blocks or the product is too large.
    pub fn bytes(&self) -> Option<usize> {
        let elements = self.shape.iter().try_fold(1usize, |all, n| all.checked_mul(*n))?;
        let row = self.shape.last().copied()?;
        self.ty.row_bytes(row)?;
        self.ty.row_bytes(elements)
    }
}

/// A file that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrittenFile {
    pub path: PathBuf,
    pub bytes: u64,
    /// Lower-case hexadecimal.
    pub sha256: String,
}

/// A GGUF file being written.
pub struct GgufWriter {
    out: Partial,
    hash: Sha256,
    path: PathBuf,
    written: u64,
    /// Names and lengths that are still to come, last first.
    pending: Vec<(String, usize)>,
}

fn padding(at: usize) -> usize {
    at.next_multiple_of(ALIGNMENT) - at
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

const fn type_number(value: &Value) -> u32 {
    match value {
        Value::U8(_) => 0,
        Value::I8(_) => 1,
        Value::U16(_) => 2,
        Value::I16(_) => 3,
        Value::U32(_) => 4,
        Value::I32(_) => 5,
        Value::F32(_) => 6,
        Value::Bool(_) => 7,
        Value::String(_) => 8,
        Value::Array(_) => 9,
        Value::U64(_) => 10,
        Value::I64(_) => 11,
        Value::F64(_) => 12,
    }
}

fn put_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::U8(v) => out.push(*v),
        Value::I8(v) => out.extend(v.to_le_bytes()),
        Value::U16(v) => out.extend(v.to_le_bytes()),
        Value::I16(v) => out.extend(v.to_le_bytes()),
        Value::U32(v) => out.extend(v.to_le_bytes()),
        Value::I32(v) => out.extend(v.to_le_bytes()),
        Value::F32(v) => out.extend(v.to_le_bytes()),
        Value::Bool(v) => out.push(u8::from(*v)),
        Value::String(v) => put_text(out, v),
        Value::U64(v) => out.extend(v.to_le_bytes()),
        Value::I64(v) => out.extend(v.to_le_bytes()),
        Value::F64(v) => out.extend(v.to_le_bytes()),
        Value::Array(values) => {
            // An empty array has no element to name its type; texts are the only lists that may be empty here.
            out.extend(values.first().map_or(8, type_number).to_le_bytes());
            out.extend((values.len() as u64).to_le_bytes());
            values.iter().for_each(|value| put_value(out, value));
        }
    }
}

/// Everything in front of the data, and the length of the data.
fn header(metadata: &[(String, Value)], tensors: &[TensorRow]) -> Result<(Vec<u8>, Vec<usize>), ExportError> {
    let mut out = b"GGUF".to_vec();
    out.extend(VERSION.to_le_bytes());
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend((metadata.len() as u64).to_le_bytes());
    for (key, value) in metadata {
        put_text(&mut out, key);
        out.extend(type_number(value).to_le_bytes());
        put_value(&mut out, value);
    }
    let mut offset = 0usize;
    let mut lengths = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        let bytes = tensor.bytes().ok_or_else(|| ExportError::Shape {
            name: tensor.name.clone(),
            found: tensor.shape.clone(),
            expected: format!("rows of whole {} blocks", tensor.ty),
        })?;
        put_text(&mut out, &tensor.name);
        out.extend((tensor.shape.len() as u32).to_le_bytes());
        for dimension in tensor.shape.iter().rev() {
            out.extend((*dimension as u64).to_le_bytes());
        }
        out.extend(tensor.ty.id().to_le_bytes());
        out.extend((offset as u64).to_le_bytes());
        offset = (offset + bytes).next_multiple_of(ALIGNMENT);
        lengths.push(bytes);
    }
    out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
    Ok((out, lengths))
}

/// Returns the bytes of the file that these tables make.
pub(crate) fn file_bytes(metadata: &[(String, Value)], tensors: &[TensorRow]) -> Result<u64, ExportError> {
    let (head, lengths) = header(metadata, tensors)?;
    Ok(head.len() as u64
        + lengths
            .iter()
            .map(|len| len.next_multiple_of(ALIGNMENT) as u64)
            .sum::<u64>())
}

impl GgufWriter {
    /// Begins a file: writes the header and the tensor table under a partial name beside `path`.
    ///
    /// **Errors:** a shape that its type cannot store, or a failed write.
    pub fn create(path: &Path, metadata: &[(String, Value)], tensors: &[TensorRow]) -> Result<GgufWriter, ExportError> {
        let (head, lengths) = header(metadata, tensors)?;
        let total = file_bytes(metadata, tensors)?;
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".partial");
        let partial = path.with_file_name(name);
        let out = Partial::begin(&Disk::new(), path, partial, total)?;
        let names = tensors.iter().map(|tensor| tensor.name.clone());
        let mut writer = GgufWriter {
            out,
            hash: Sha256::new(),
            path: path.to_owned(),
            written: 0,
            pending: names.zip(lengths).rev().collect(),
        };
        writer.put(&head)?;
        Ok(writer)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), ExportError> {
        self.hash.update(bytes);
        self.written += bytes.len() as u64;
        Ok(self.out.write(bytes)?)
    }

    /// Writes the data of the next tensor of the table.
    ///
    /// **Errors:** another name or length than the table's, or a failed write.
    pub fn tensor(&mut self, name: &str, bytes: &[u8]) -> Result<(), ExportError> {
        match self.pending.pop() {
            Some((expected, length)) if expected == name => {
                if length != bytes.len() {
                    return Err(ExportError::Length {
                        name: expected,
                        found: bytes.len(),
                        expected: length,
                    });
                }
            }
            other => {
                let expected = other.map_or_else(|| "no tensor".to_owned(), |(name, _)| format!("`{name}`"));
                return Err(ExportError::Order {
                    expected,
                    found: name.to_owned(),
                });
            }
        }
        self.put(bytes)?;
        self.put(&[0; ALIGNMENT][..padding(bytes.len())])
    }

    /// Puts the complete file on disk under its name.
    ///
    /// **Errors:** tensors that were never written, or a failed write.
    pub fn finish(self) -> Result<WrittenFile, ExportError> {
        if let Some((name, _)) = self.pending.last() {
            return Err(ExportError::Order {
                expected: format!("`{name}`"),
                found: "the end".to_owned(),
            });
        }
        self.out.commit()?;
        Ok(WrittenFile {
            path: self.path,
            bytes: self.written,
            sha256: self.hash.finish_hex(),
        })
    }
}
