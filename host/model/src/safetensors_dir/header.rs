//! The safetensors header: JSON in front of the bytes, checked to the letter of the format.
//!
//! Invariants: ranges returned lie inside the file, have exactly the length of type times shape, and follow each other
//! without gap or overlap up to the end of the file.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use dlm_kernels::quant::GgmlType;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};

/// Bytes of a header; the reference reader has the same limit.
pub const HEADER_BYTES_MAX: u64 = 100_000_000;
/// Dimensions of a tensor; models use at most 5 (video patches).
const DIMENSIONS_MAX: usize = 8;
/// Tensors of one file.
const TENSORS_MAX: usize = 1 << 20;

/// A tensor of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorEntry {
    /// As the file writes it: `F32`, `BF16`, `I64`.
    pub dtype: String,
    /// Outermost dimension first.
    pub shape: Vec<usize>,
    /// Where the bytes lie in the file.
    pub bytes: Range<usize>,
}

impl TensorEntry {
    /// Returns the type as a weight, or nothing when no weight is stored so.
    pub fn weight_type(&self) -> Option<GgmlType> {
        match self.dtype.as_str() {
            "F32" => Some(GgmlType::F32),
            "F16" => Some(GgmlType::F16),
            "BF16" => Some(GgmlType::BF16),
            _ => None,
        }
    }
}

/// A fault of a safetensors file.
#[derive(Debug, thiserror::Error)]
pub enum SafetensorsError {
    #[error("the file has {file_bytes} bytes, too few for the header length")]
    NoHeaderLength { file_bytes: usize },
    #[error("the header is said to take {found} bytes, the limit is {HEADER_BYTES_MAX}")]
    HeaderTooLarge { found: u64 },
    #[error("the header is said to take {found} bytes, but {left} are left in the file")]
    HeaderTruncated { found: u64, left: usize },
    #[error("the header is not valid: {0}")]
    HeaderJson(serde_json::Error),
    #[error("tensor `{name}` has the type `{dtype}`, which is not known")]
    UnknownType { name: String, dtype: String },
    #[error("tensor `{name}` has {found} dimensions, the limit is {DIMENSIONS_MAX}")]
    Dimensions { name: String, found: usize },
    #[error("tensor `{name}` of shape {shape:?} is larger than any memory")]
    Overflow { name: String, shape: Vec<u64> },
    #[error("tensor `{name}` of type {dtype} and shape {shape:?} needs {expected} bytes, its offsets hold {found}")]
    Length {
        name: String,
        dtype: String,
        shape: Vec<u64>,
        expected: u64,
        found: u64,
    },
    #[error("tensor `{name}` ends before it begins: {begin} to {end}")]
    Backwards { name: String, begin: u64, end: u64 },
    #[error("tensor `{name}` takes data bytes {begin} to {end}, but the file holds {data_bytes}")]
    OutOfFile {
        name: String,
        begin: u64,
        end: u64,
        data_bytes: usize,
    },
    #[error("tensor `{name}` begins at data byte {begin}, expected {expected}: tensors overlap or leave a gap")]
    Misplaced { name: String, begin: u64, expected: u64 },
    #[error("{found} bytes after the last tensor belong to none")]
    Trailing { found: u64 },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

/// The header's map, refusing doubled names, which `serde_json` alone would let through.
struct Entries(BTreeMap<String, Entry>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntriesVisitor;
        impl<'de> Visitor<'de> for EntriesVisitor {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = BTreeMap::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        map.next_value::<IgnoredAny>()?;
                        continue;
                    }
                    let entry = map.next_value()?;
                    if entries.len() == TENSORS_MAX {
                        return Err(A::Error::custom(format_args!("more than {TENSORS_MAX} tensors")));
                    }
                    if entries.insert(name.clone(), entry).is_some() {
                        return Err(A::Error::custom(format_args!("tensor `{name}` appears twice")));
                    }
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(EntriesVisitor)
    }
}

/// Bits of one element.
fn type_bits(dtype: &str) -> Option<u64> {
    Some(match dtype {
        "F4" => 4,
        "BOOL" | "U8" | "I8" | "F8_E5M2" | "F8_E4M3" | "F8_E8M0" | "F8_E4M3FNUZ" | "F8_E5M2FNUZ" => 8,
        "F16" | "BF16" | "I16" | "U16" => 16,
        "F32" | "I32" | "U32" => 32,
        "F64" | "I64" | "U64" | "C64" => 64,
        _ => return None,
    })
}

fn expected_bytes(name: &str, entry: &Entry) -> Result<u64, SafetensorsError> {
    let bits = type_bits(&entry.dtype).ok_or_else(|| SafetensorsError::UnknownType {
        name: name.to_owned(),
        dtype: entry.dtype.clone(),
    })?;
    if entry.shape.len() > DIMENSIONS_MAX {
        return Err(SafetensorsError::Dimensions {
            name: name.to_owned(),
            found: entry.shape.len(),
        });
    }
    let total = entry
        .shape
        .iter()
        .try_fold(bits, |product, &dim| product.checked_mul(dim));
    total
        .map(|bits| bits.div_ceil(8))
        .ok_or_else(|| SafetensorsError::Overflow {
            name: name.to_owned(),
            shape: entry.shape.clone(),
        })
}

fn check_entry(name: &str, entry: &Entry, data_bytes: usize) -> Result<(), SafetensorsError> {
    let (begin, end) = entry.data_offsets;
    let name = || name.to_owned();
    if end < begin {
        return Err(SafetensorsError::Backwards {
            name: name(),
            begin,
            end,
        });
    }
    if end > data_bytes as u64 {
        return Err(SafetensorsError::OutOfFile {
            name: name(),
            begin,
            end,
            data_bytes,
        });
    }
    let expected = expected_bytes(&name(), entry)?;
    if expected != end - begin {
        return Err(SafetensorsError::Length {
            name: name(),
            dtype: entry.dtype.clone(),
            shape: entry.shape.clone(),
            expected,
            found: end - begin,
        });
    }
    Ok(())
}

/// Reads and checks the header of a whole safetensors file given as bytes.
///
/// **Errors:** the first fault, with the tensor's name. **Source:** the format description of the `safetensors` project.
pub fn parse_header(bytes: &[u8]) -> Result<BTreeMap<String, TensorEntry>, SafetensorsError> {
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
        return Err(SafetensorsError::NoHeaderLength {
            file_bytes: bytes.len(),
        });
    };
    let found = u64::from_le_bytes(*length);
    if found > HEADER_BYTES_MAX {
        return Err(SafetensorsError::HeaderTooLarge { found });
    }
    if found > rest.len() as u64 {
        return Err(SafetensorsError::HeaderTruncated {
            found,
            left: rest.len(),
        });
    }
    let (header, data) = rest.split_at(found as usize);
    let Entries(entries) = serde_json::from_slice(header).map_err(SafetensorsError::HeaderJson)?;
    let mut order: Vec<(&String, &Entry)> = entries.iter().collect();
    for (name, entry) in &order {
        check_entry(name, entry, data.len())?;
    }
    order.sort_by_key(|(_, entry)| entry.data_offsets);
    let mut expected = 0;
    for (name, entry) in order {
        let (begin, end) = entry.data_offsets;
        if begin != expected {
            return Err(SafetensorsError::Misplaced {
                name: name.clone(),
                begin,
                expected,
            });
        }
        expected = end;
    }
    if expected != data.len() as u64 {
        return Err(SafetensorsError::Trailing {
            found: data.len() as u64 - expected,
        });
    }
    let data_start = 8 + header.len();
    let place = |entry: Entry| TensorEntry {
        dtype: entry.dtype,
        shape: entry.shape.iter().map(|&dim| dim as usize).collect(),
        bytes: data_start + entry.data_offsets.0 as usize..data_start + entry.data_offsets.1 as usize,
    };
    Ok(entries.into_iter().map(|(name, entry)| (name, place(entry))).collect())
}
