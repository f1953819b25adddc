//! The header parser: a cursor that never reads past the end, and the checks of the tensor table.

use std::collections::BTreeMap;

use dlm_kernels::quant::GgmlType;

use super::limits::{
    ALIGNMENT_MAX, ARRAY_ELEMENTS_MAX, DIMENSIONS_MAX, KEY_BYTES_MAX, METADATA_COUNT_MAX, NAME_BYTES_MAX,
    STRING_BYTES_MAX, TENSOR_COUNT_MAX,
};
use super::{ALIGNMENT_DEFAULT, GgufError, Header, MAGIC, TensorInfo, Value};

/// Least bytes of a metadata entry: empty key, type, one byte.
const METADATA_BYTES_MIN: u64 = 8 + 4 + 1;
/// Least bytes of a row of the tensor table: empty name, one dimension, type, offset.
const TENSOR_BYTES_MIN: u64 = 8 + 4 + 8 + 4 + 8;

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Array elements that may still be read.
    elements_left: u64,
}

impl<'a> Cursor<'a> {
    fn left(&self) -> u64 {
        (self.bytes.len() - self.at) as u64
    }

    fn need(&self, needed: u64, what: impl FnOnce() -> String) -> Result<(), GgufError> {
        if needed > self.left() {
            return Err(GgufError::Truncated {
                what: what(),
                at: self.at,
                needed,
                file_bytes: self.bytes.len(),
            });
        }
        Ok(())
    }

    fn take(&mut self, len: u64, what: impl FnOnce() -> String) -> Result<&'a [u8], GgufError> {
        self.need(len, what)?;
        // `need` compared the length with what is left, so it fits a usize.
        let end = self.at + len as usize;
        let slice = &self.bytes[self.at..end];
        self.at = end;
        Ok(slice)
    }

    fn array<const N: usize>(&mut self, what: impl FnOnce() -> String) -> Result<[u8; N], GgufError> {
        let slice = self.take(N as u64, what)?;
        Ok(slice.try_into().expect("`take` returns the length that was asked for"))
    }

    fn u32(&mut self, what: impl FnOnce() -> String) -> Result<u32, GgufError> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    fn u64(&mut self, what: impl FnOnce() -> String) -> Result<u64, GgufError> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    fn count(&mut self, max: u64, bytes_each: u64, what: impl Fn() -> String) -> Result<u64, GgufError> {
        let at = self.at;
        let found = self.u64(&what)?;
        if found > max {
            return Err(GgufError::TooLarge {
                what: what(),
                at,
                found,
                max,
            });
        }
        self.need(found * bytes_each, what)?;
        Ok(found)
    }

    fn string(&mut self, max: u64, what: impl Fn() -> String) -> Result<String, GgufError> {
        let len = self.count(max, 1, || format!("the length of {}", what()))?;
        let at = self.at;
        let slice = self.take(len, &what)?;
        match std::str::from_utf8(slice) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(GgufError::NotUtf8 { what: what(), at }),
        }
    }
}

/// Least bytes of a value of the given type; `None` for an unknown type. Strings and arrays count their length field.
fn value_bytes_min(kind: u32) -> Option<u64> {
    match kind {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        8 | 10..=12 => Some(8),
        9 => Some(12),
        _ => None,
    }
}

fn read_value(cursor: &mut Cursor<'_>, key: &str, kind: u32) -> Result<Value, GgufError> {
    let what = || format!("the value of `{key}`");
    let at = cursor.at;
    Ok(match kind {
        0 => Value::U8(cursor.array::<1>(what)?[0]),
        1 => Value::I8(i8::from_le_bytes(cursor.array(what)?)),
        2 => Value::U16(u16::from_le_bytes(cursor.array(what)?)),
        3 => Value::I16(i16::from_le_bytes(cursor.array(what)?)),
        4 => Value::U32(cursor.u32(what)?),
        5 => Value::I32(i32::from_le_bytes(cursor.array(what)?)),
        6 => Value::F32(f32::from_le_bytes(cursor.array(what)?)),
        7 => match cursor.array::<1>(what)?[0] {
            0 => Value::Bool(false),
            1 => Value::Bool(true),
            found => {
                return Err(GgufError::NotBool {
                    key: key.to_owned(),
                    at,
                    found,
                });
            }
        },
        8 => Value::String(cursor.string(STRING_BYTES_MAX, what)?),
        9 => read_array(cursor, key)?,
        10 => Value::U64(cursor.u64(what)?),
        11 => Value::I64(i64::from_le_bytes(cursor.array(what)?)),
        12 => Value::F64(f64::from_le_bytes(cursor.array(what)?)),
        found => {
            return Err(GgufError::UnknownValueType {
                key: key.to_owned(),
                at,
                found,
            });
        }
    })
}

fn read_array(cursor: &mut Cursor<'_>, key: &str) -> Result<Value, GgufError> {
    let what = || format!("the number of elements of `{key}`");
    let at = cursor.at;
    let kind = cursor.u32(|| format!("the element type of `{key}`"))?;
    if kind == 9 {
        return Err(GgufError::NestedArray {
            key: key.to_owned(),
            at,
        });
    }
    let bytes_each = value_bytes_min(kind).ok_or_else(|| GgufError::UnknownValueType {
        key: key.to_owned(),
        at,
        found: kind,
    })?;
    let count = cursor.count(cursor.elements_left, bytes_each, what)?;
    cursor.elements_left -= count;
    let mut values = Vec::with_capacity(count as usize);
    for _ in 0..count {
        values.push(read_value(cursor, key, kind)?);
    }
    Ok(Value::Array(values))
}

fn read_metadata(cursor: &mut Cursor<'_>, count: u64) -> Result<BTreeMap<String, Value>, GgufError> {
    let mut metadata = BTreeMap::new();
    for index in 0..count {
        let at = cursor.at;
        let key = cursor.string(KEY_BYTES_MAX, || format!("metadata key {index}"))?;
        let kind = cursor.u32(|| format!("the value type of `{key}`"))?;
        let value = read_value(cursor, &key, kind)?;
        if metadata.contains_key(&key) {
            return Err(GgufError::DuplicateKey { key, at });
        }
        metadata.insert(key, value);
    }
    Ok(metadata)
}

struct TensorRow {
    name: String,
    /// Fastest dimension first, as in the file.
    dims: Vec<u64>,
    dtype: u32,
    offset: u64,
}

fn read_tensor_row(cursor: &mut Cursor<'_>, index: u64) -> Result<TensorRow, GgufError> {
    let name = cursor.string(NAME_BYTES_MAX, || format!("the name of tensor {index}"))?;
    let at = cursor.at;
    let n_dims = cursor.u32(|| format!("the number of dimensions of `{name}`"))?;
    if n_dims > DIMENSIONS_MAX {
        return Err(GgufError::TooLarge {
            what: format!("the number of dimensions of `{name}`"),
            at,
            found: n_dims.into(),
            max: DIMENSIONS_MAX.into(),
        });
    }
    let mut dims = Vec::with_capacity(n_dims as usize);
    for _ in 0..n_dims {
        dims.push(cursor.u64(|| format!("a dimension of `{name}`"))?);
    }
    let dtype = cursor.u32(|| format!("the type of `{name}`"))?;
    let offset = cursor.u64(|| format!("the offset of `{name}`"))?;
    Ok(TensorRow {
        name,
        dims,
        dtype,
        offset,
    })
}

fn alignment(metadata: &BTreeMap<String, Value>) -> Result<u64, GgufError> {
    let Some(value) = metadata.get("general.alignment") else {
        return Ok(ALIGNMENT_DEFAULT);
    };
    match value.as_u64() {
        Some(found) if (8..=ALIGNMENT_MAX).contains(&found) && found.is_power_of_two() => Ok(found),
        _ => Err(GgufError::Alignment {
            found: format!("{value:?}"),
        }),
    }
}

/// Bytes of a tensor, all products checked.
fn tensor_bytes(row: &TensorRow, dtype: GgmlType) -> Result<u64, GgufError> {
    let overflow = || GgufError::Overflow {
        name: row.name.clone(),
        shape: row.dims.clone(),
    };
    if row.dims.is_empty() || row.dims.contains(&0) {
        return Err(GgufError::EmptyTensor {
            name: row.name.clone(),
            shape: row.dims.clone(),
        });
    }
    let row_len = usize::try_from(row.dims[0]).map_err(|_| overflow())?;
    if !row_len.is_multiple_of(dtype.block_size()) {
        return Err(GgufError::RaggedBlocks {
            name: row.name.clone(),
            row: row.dims[0],
            dtype,
            block: dtype.block_size(),
        });
    }
    let row_bytes = dtype.row_bytes(row_len).ok_or_else(overflow)?;
    let mut bytes = row_bytes as u64;
    for &dim in &row.dims[1..] {
        bytes = bytes.checked_mul(dim).ok_or_else(overflow)?;
    }
    Ok(bytes)
}

fn place_tensor(row: &TensorRow, data_start: u64, alignment: u64, file_bytes: usize) -> Result<TensorInfo, GgufError> {
    let dtype = GgmlType::from_id(row.dtype).ok_or_else(|| GgufError::UnknownTensorType {
        name: row.name.clone(),
        found: row.dtype,
    })?;
    let len = tensor_bytes(row, dtype)?;
    if !row.offset.is_multiple_of(alignment) {
        return Err(GgufError::Unaligned {
            name: row.name.clone(),
            offset: row.offset,
            alignment,
        });
    }
    let start = data_start.saturating_add(row.offset);
    let end = start.saturating_add(len);
    if end > file_bytes as u64 {
        return Err(GgufError::OutOfFile {
            name: row.name.clone(),
            start,
            end,
            file_bytes,
        });
    }
    Ok(TensorInfo {
        // `end` is inside the file, so every dimension fits a usize.
        shape: row.dims.iter().rev().map(|&dim| dim as usize).collect(),
        dtype,
        bytes: start as usize..end as usize,
    })
}

fn check_overlaps(tensors: &BTreeMap<String, TensorInfo>) -> Result<(), GgufError> {
    let mut places: Vec<(&String, &TensorInfo)> = tensors.iter().collect();
    places.sort_by_key(|(_, info)| info.bytes.start);
    for pair in places.windows(2) {
        if pair[1].1.bytes.start < pair[0].1.bytes.end {
            return Err(GgufError::Overlap {
                first: pair[0].0.clone(),
                second: pair[1].0.clone(),
                at: pair[1].1.bytes.start,
            });
        }
    }
    Ok(())
}

/// Reads and checks the header of a whole GGUF file given as bytes.
///
/// **Errors:** the first fault with its place. **Cost:** allocates at most a small multiple of the header's own size.
/// **Source:** the GGUF specification in ggml's `docs/gguf.md`.
pub fn parse_header(bytes: &[u8]) -> Result<Header, GgufError> {
    let mut cursor = Cursor {
        bytes,
        at: 0,
        elements_left: ARRAY_ELEMENTS_MAX,
    };
    if cursor.array::<4>(|| "the magic".to_owned())? != MAGIC {
        return Err(GgufError::Magic);
    }
    let version = cursor.u32(|| "the version".to_owned())?;
    if !(2..=3).contains(&version) {
        return Err(GgufError::Version {
            found: version,
            byte_swapped: (1..=3).contains(&version.swap_bytes()),
        });
    }
    let tensor_count = cursor.count(TENSOR_COUNT_MAX, TENSOR_BYTES_MIN, || {
        "the number of tensors".to_owned()
    })?;
    let metadata_count = cursor.count(METADATA_COUNT_MAX, METADATA_BYTES_MIN, || {
        "the number of metadata entries".to_owned()
    })?;
    let metadata = read_metadata(&mut cursor, metadata_count)?;
    let alignment = alignment(&metadata)?;
    let mut rows = Vec::with_capacity(tensor_count as usize);
    for index in 0..tensor_count {
        rows.push((cursor.at, read_tensor_row(&mut cursor, index)?));
    }
    let data_start = (cursor.at as u64).next_multiple_of(alignment);
    let mut tensors = BTreeMap::new();
    for (at, row) in rows {
        let info = place_tensor(&row, data_start, alignment, bytes.len())?;
        if tensors.contains_key(&row.name) {
            return Err(GgufError::DuplicateTensor { name: row.name, at });
        }
        tensors.insert(row.name, info);
    }
    check_overlaps(&tensors)?;
    Ok(Header {
        version,
        metadata,
        tensors,
        data_start: (data_start as usize).min(bytes.len()),
    })
}
