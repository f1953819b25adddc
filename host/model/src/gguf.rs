//! Reading GGUF files: metadata, tensor table and the bytes of each tensor, straight from a memory map.
//!
//! Invariants: nothing in the file is believed before it is checked. Every count, length, offset and dimension has a
//! limit and is compared with the bytes that are left before anything is allocated; a tensor's bytes lie inside the
//! file, are aligned and belong to that tensor alone. Writing GGUF is `dlm-export`'s; names and row order are `source`'s.

mod error;
mod names;
mod parse;
mod source;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use dlm_core::{Architecture, Hints, Subject};
use dlm_kernels::quant::GgmlType;

use crate::mapped::MappedFile;

pub use error::GgufSourceError;
pub use names::TensorPlace;
pub use parse::parse_header;
pub use source::GgufWeights;

/// First four bytes of every GGUF file.
pub const MAGIC: [u8; 4] = *b"GGUF";
/// Alignment of the tensor data when the file states none.
pub const ALIGNMENT_DEFAULT: u64 = 32;

/// Limits on what a file may claim. Real files stay far below each; a file beyond one is damaged or hostile.
pub mod limits {
    /// Metadata entries; real files have about 50.
    pub const METADATA_COUNT_MAX: u64 = 65_536;
    /// Tensors; a mixture of 256 experts in split form stays below.
    pub const TENSOR_COUNT_MAX: u64 = 262_144;
    /// Bytes of a key; the format's own limit.
    pub const KEY_BYTES_MAX: u64 = 65_535;
    /// Bytes of a tensor name; the format says 64, some writers go beyond.
    pub const NAME_BYTES_MAX: u64 = 256;
    /// Bytes of one string value; the longest are chat templates.
    pub const STRING_BYTES_MAX: u64 = 16 << 20;
    /// Array elements of all metadata together; the largest vocabularies need about a million.
    pub const ARRAY_ELEMENTS_MAX: u64 = 8 << 20;
    /// Dimensions of a tensor.
    pub const DIMENSIONS_MAX: u32 = 4;
    /// Alignment of tensor data.
    pub const ALIGNMENT_MAX: u64 = 1 << 20;
}

/// A value of the metadata, with the type that it has in the file.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    String(String),
    /// Elements of one type; arrays of arrays are refused.
    Array(Vec<Value>),
    U64(u64),
    I64(i64),
    F64(f64),
}

impl Value {
    /// Returns a whole number that is not negative, whatever integer type holds it.
    pub fn as_u64(&self) -> Option<u64> {
        match *self {
            Value::U8(v) => Some(v.into()),
            Value::U16(v) => Some(v.into()),
            Value::U32(v) => Some(v.into()),
            Value::U64(v) => Some(v),
            Value::I8(v) => u64::try_from(v).ok(),
            Value::I16(v) => u64::try_from(v).ok(),
            Value::I32(v) => u64::try_from(v).ok(),
            Value::I64(v) => u64::try_from(v).ok(),
            _ => None,
        }
    }

    /// Returns a floating-point number.
    pub fn as_f64(&self) -> Option<f64> {
        match *self {
            Value::F32(v) => Some(v.into()),
            Value::F64(v) => Some(v),
            _ => None,
        }
    }

    /// Returns a number, whatever type holds it.
    pub fn as_number(&self) -> Option<f64> {
        match *self {
            Value::I8(v) => Some(v.into()),
            Value::I16(v) => Some(v.into()),
            Value::I32(v) => Some(v.into()),
            Value::I64(v) => Some(v as f64),
            _ => self.as_f64().or_else(|| self.as_u64().map(|v| v as f64)),
        }
    }

    /// Returns a whole number that stands alone or is the same in every entry of a list, as some writers repeat it for
    /// each layer.
    pub fn as_uniform(&self) -> Option<u64> {
        match self {
            Value::Array(values) => {
                let first = values.first()?;
                values.iter().all(|value| value == first).then(|| first.as_u64())?
            }
            single => single.as_u64(),
        }
    }

    /// Returns a truth value.
    pub fn as_bool(&self) -> Option<bool> {
        match *self {
            Value::Bool(v) => Some(v),
            _ => None,
        }
    }

    /// Returns a text.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(v) => Some(v),
            _ => None,
        }
    }

    /// Returns the elements of an array.
    pub fn as_array(&self) -> Option<&[Value]> {
        match self {
            Value::Array(v) => Some(v),
            _ => None,
        }
    }
}

/// One row of the tensor table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Outermost dimension first, the reverse of the file's order.
    pub shape: Vec<usize>,
    pub dtype: GgmlType,
    /// Where the bytes lie in the file.
    pub bytes: Range<usize>,
}

/// Everything in front of the tensor data.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    /// 2 or 3; the two differ in nothing that is read here.
    pub version: u32,
    pub metadata: BTreeMap<String, Value>,
    /// By the name in the file.
    pub tensors: BTreeMap<String, TensorInfo>,
    /// Offset of the tensor data in the file.
    pub data_start: usize,
}

/// An open GGUF file.
#[derive(Debug)]
pub struct GgufFile {
    path: PathBuf,
    map: MappedFile,
    header: Header,
}

impl GgufFile {
    /// Maps a file and reads its header.
    ///
    /// **Errors:** an unreadable file, or the first fault of the header with its place.
    pub fn open(path: &Path) -> Result<Self, GgufFileError> {
        let io = |cause| GgufFileError::Io {
            path: path.to_owned(),
            cause,
        };
        let map = MappedFile::open(path).map_err(io)?;
        let header = parse_header(&map).map_err(|cause| GgufFileError::Format {
            path: path.to_owned(),
            cause,
        })?;
        Ok(Self {
            path: path.to_owned(),
            map,
            header,
        })
    }

    /// Returns everything before the tensors' data: metadata and tensor table.
    pub fn metadata_bytes(&self) -> &[u8] {
        &self.map[..self.header.data_start]
    }

    /// Returns the path that the file was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Gives the memory of what was read so far back; it is read again where it is touched again.
    pub fn release_pages(&self) {
        self.map.release_pages();
    }

    /// Returns the whole file.
    pub fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// Returns a metadata value.
    pub fn value(&self, key: &str) -> Option<&Value> {
        self.header.metadata.get(key)
    }

    /// Returns `general.architecture`, or nothing when it is missing or no text.
    pub fn architecture(&self) -> Option<&str> {
        self.value("general.architecture").and_then(Value::as_str)
    }

    /// Returns the decoder that the file holds, or nothing when this program knows none of that name.
    pub fn decoder(&self) -> Option<Architecture> {
        let name = self.architecture()?;
        let experts = self.value(&format!("{name}.expert_count")).and_then(Value::as_u64);
        Architecture::of_gguf(name, experts.unwrap_or(0) > 0)
    }

    /// Returns a tensor by its name in the file, with its bytes.
    pub fn raw(&self, name: &str) -> Option<(&TensorInfo, &[u8])> {
        let info = self.header.tensors.get(name)?;
        Some((info, &self.map[info.bytes.clone()]))
    }
}

/// A GGUF file that cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum GgufFileError {
    #[error("read GGUF file `{path}`: {cause}")]
    Io { path: PathBuf, cause: std::io::Error },
    #[error("read GGUF file `{path}`: {cause}")]
    Format { path: PathBuf, cause: GgufError },
}

impl Hints for GgufFileError {
    fn subject(&self) -> Subject {
        Subject::BaseModel
    }

    fn hints(&self) -> Vec<String> {
        match self {
            GgufFileError::Io { .. } => Vec::new(),
            GgufFileError::Format { cause, .. } => match cause {
                GgufError::UnknownTensorType { .. } => {
                    vec!["use a file in Q4_0 to Q8_0, Q2_K to Q6_K, IQ4, F16, BF16 or F32".to_owned()]
                }
                GgufError::Version { byte_swapped: true, .. } => {
                    vec!["use the little-endian form of this file; llama.cpp's `gguf_convert_endian.py FILE little` makes it".to_owned()]
                }
                GgufError::Version { .. } => {
                    vec!["use a file of version 2 or 3, as current converters write it".to_owned()]
                }
                _ => vec!["download the file again and compare its SHA-256".to_owned()],
            },
        }
    }
}

/// A fault of a GGUF header. `at` is the byte offset in the file.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum GgufError {
    #[error("the file does not begin with `GGUF`")]
    Magic,
    #[error("version {found} is not supported, expected 2 or 3{}", if *.byte_swapped { " (the file is big-endian)" } else { "" })]
    Version { found: u32, byte_swapped: bool },
    #[error("the file ends at byte {file_bytes} inside {what} at byte {at}, which needs {needed} bytes")]
    Truncated {
        what: String,
        at: usize,
        needed: u64,
        file_bytes: usize,
    },
    #[error("{what} at byte {at} is {found}, the limit is {max}")]
    TooLarge {
        what: String,
        at: usize,
        found: u64,
        max: u64,
    },
    #[error("{what} at byte {at} is not valid UTF-8")]
    NotUtf8 { what: String, at: usize },
    #[error("the value type of `{key}` at byte {at} is {found}, which is not known")]
    UnknownValueType { key: String, at: usize, found: u32 },
    #[error("the value of `{key}` at byte {at} is an array of arrays")]
    NestedArray { key: String, at: usize },
    #[error("the truth value of `{key}` at byte {at} is {found}, expected 0 or 1")]
    NotBool { key: String, at: usize, found: u8 },
    #[error("metadata key `{key}` at byte {at} appears twice")]
    DuplicateKey { key: String, at: usize },
    #[error("tensor `{name}` at byte {at} appears twice")]
    DuplicateTensor { name: String, at: usize },
    #[error("`general.alignment` is {found}, expected a power of two from 8 to {max}", max = limits::ALIGNMENT_MAX)]
    Alignment { found: String },
    #[error("tensor `{name}` has type {found}, which this program does not decode")]
    UnknownTensorType { name: String, found: u32 },
    #[error("tensor `{name}` has no dimensions or a dimension of 0: {shape:?}")]
    EmptyTensor { name: String, shape: Vec<u64> },
    #[error("tensor `{name}` with dimensions {shape:?} is larger than any memory")]
    Overflow { name: String, shape: Vec<u64> },
    #[error("tensor `{name}` has rows of {row} elements, but {dtype} stores blocks of {block}")]
    RaggedBlocks {
        name: String,
        row: u64,
        dtype: GgmlType,
        block: usize,
    },
    #[error("tensor `{name}` begins at data offset {offset}, which is not a multiple of {alignment}")]
    Unaligned { name: String, offset: u64, alignment: u64 },
    #[error("tensor `{name}` takes bytes {start} to {end}, but the file has {file_bytes}")]
    OutOfFile {
        name: String,
        start: u64,
        end: u64,
        file_bytes: usize,
    },
    #[error("tensors `{first}` and `{second}` overlap at byte {at}")]
    Overlap { first: String, second: String, at: usize },
}
