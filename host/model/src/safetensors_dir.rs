//! A directory of safetensors files as a [`WeightSource`]: one `model.safetensors`, or shards with an index.
//!
//! Invariants: a header is checked before anything is allocated for it (length, types, shapes against byte ranges,
//! order, gaps, overlaps, end of file). Only F32, F16 and BF16 are weights. Pickled weights are never opened.

mod header;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dlm_core::{Hints, Subject};
use dlm_files::DiskError;
use serde::Deserialize;

use crate::mapped::MappedFile;
use crate::weights::{GgmlType, RawTensor, WeightError, WeightSource};

pub use header::{SafetensorsError, TensorEntry, parse_header};

/// Name of the only file of an unsharded model.
pub const SINGLE_FILE: &str = "model.safetensors";
/// Name of the index of a sharded model.
pub const INDEX_FILE: &str = "model.safetensors.index.json";
/// Bytes of an index; the largest models have some 100,000 tensors of about 100 bytes each.
const INDEX_BYTES_MAX: u64 = 64 << 20;
/// Files of one model.
const SHARDS_MAX: usize = 4096;

struct Shard {
    path: PathBuf,
    map: MappedFile,
}

/// The weights of a directory.
pub struct SafetensorsDir {
    dir: PathBuf,
    shards: Vec<Shard>,
    /// By name: the shard and the entry in it.
    tensors: BTreeMap<String, (usize, TensorEntry)>,
}

impl std::fmt::Debug for SafetensorsDir {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SafetensorsDir")
            .field("dir", &self.dir)
            .field("shards", &self.shards.len())
            .field("tensors", &self.tensors.len())
            .finish()
    }
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// A directory whose weights cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SafetensorsDirError {
    #[error("read weights: `{dir}` has neither `{SINGLE_FILE}` nor `{INDEX_FILE}`{}", if *.pickled { "; its pickled weights (`.bin`, `.pt`) run code when opened and are refused" } else { "" })]
    NoWeights { dir: PathBuf, pickled: bool },
    #[error("read `{path}`: {cause}")]
    Io { path: PathBuf, cause: std::io::Error },
    #[error("read `{path}`: {bytes} bytes, the limit is {max}")]
    TooLarge { path: PathBuf, bytes: u64, max: u64 },
    #[error("read `{path}`: {cause}")]
    Index { path: PathBuf, cause: serde_json::Error },
    #[error(
        "read `{path}`: tensor `{tensor}` is said to be in `{file}`, which is not a plain `.safetensors` file name"
    )]
    ShardName {
        path: PathBuf,
        tensor: String,
        file: String,
    },
    #[error("read `{path}`: it lists {found} files, the limit is {SHARDS_MAX}")]
    TooManyShards { path: PathBuf, found: usize },
    #[error("read weights: `{dir}/{INDEX_FILE}` names `{file}`, which is not there{}", shown_found(.found))]
    NoShard {
        dir: PathBuf,
        file: String,
        /// The weight files that are there.
        found: Vec<String>,
    },
    #[error("read `{path}`: tensor `{tensor}` is not in it, though `{INDEX_FILE}` says so")]
    NotInShard { path: PathBuf, tensor: String },
    #[error("read `{path}`: {cause}")]
    Format { path: PathBuf, cause: SafetensorsError },
}

impl Hints for SafetensorsDirError {
    fn subject(&self) -> Subject {
        Subject::BaseModel
    }

    fn hints(&self) -> Vec<String> {
        match self {
            SafetensorsDirError::NoWeights { .. } => {
                vec!["give a directory with `config.json`, tokenizer files and `*.safetensors`".to_owned()]
            }
            SafetensorsDirError::NoShard { .. } => vec![format!(
                "give the files the names that `{INDEX_FILE}` says, or fetch the whole repository again"
            )],
            SafetensorsDirError::Format { .. } | SafetensorsDirError::NotInShard { .. } => {
                vec!["download the file again and compare its SHA-256".to_owned()]
            }
            _ => Vec::new(),
        }
    }
}

/// The weight files of a directory for a message.
fn shown_found(found: &[String]) -> String {
    const SHOWN: usize = 3;
    let names: Vec<String> = found.iter().take(SHOWN).map(|name| format!("`{name}`")).collect();
    let more = found.len().saturating_sub(SHOWN);
    match (names.as_slice(), more) {
        ([], _) => String::new(),
        (names, 0) => format!("; {} is", names.join(", ")),
        (names, more) => format!("; {} and {more} more are", names.join(", ")),
    }
}

/// The files that hold the weights of a directory: the whole file, else those that the index names. An index beside the
/// whole file is stale, and is not read, as in the reference.
///
/// **Errors:** no weights, an index that cannot be read, or a file that it names and that is not there.
/// **Source:** `transformers`, `modeling_utils.py`: the whole file is looked for first.
pub fn weight_files(dir: &Path) -> Result<Vec<String>, SafetensorsDirError> {
    Ok(wanted_files(dir)?.into_keys().collect())
}

/// The weight files with the tensors that each must hold; the whole file may hold anything.
fn wanted_files(dir: &Path) -> Result<BTreeMap<String, Vec<String>>, SafetensorsDirError> {
    let index = dir.join(INDEX_FILE);
    if dir.join(SINGLE_FILE).exists() {
        return Ok(BTreeMap::from([(SINGLE_FILE.to_owned(), Vec::new())]));
    }
    if !index.exists() {
        return Err(SafetensorsDirError::NoWeights {
            dir: dir.to_owned(),
            pickled: has_pickled_weights(dir),
        });
    }
    let files = read_index(&index)?;
    match files.keys().find(|file| !dir.join(file).exists()) {
        None => Ok(files),
        Some(absent) => Err(SafetensorsDirError::NoShard {
            dir: dir.to_owned(),
            file: absent.clone(),
            found: found_weights(dir),
        }),
    }
}

/// The names of weight files in a directory, sorted; what cannot be listed has none.
fn found_weights(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| name.ends_with(".safetensors")).collect();
    names.sort();
    names
}

/// Reads a small file whole.
///
/// **Errors:** unreadable, or longer than `max`.
fn read_limited(path: &Path, max: u64) -> Result<Vec<u8>, SafetensorsDirError> {
    dlm_files::read_required(path, max).map_err(|error| match error {
        DiskError::TooLarge {
            path,
            found_bytes,
            limit_bytes,
        } => SafetensorsDirError::TooLarge {
            path,
            bytes: found_bytes,
            max: limit_bytes,
        },
        error => SafetensorsDirError::Io {
            path: path.to_owned(),
            cause: error.into_io(),
        },
    })
}

fn open_shard(path: PathBuf) -> Result<(Shard, BTreeMap<String, TensorEntry>), SafetensorsDirError> {
    let io = |cause| SafetensorsDirError::Io {
        path: path.clone(),
        cause,
    };
    let map = MappedFile::open(&path).map_err(io)?;
    let entries = parse_header(&map).map_err(|cause| SafetensorsDirError::Format {
        path: path.clone(),
        cause,
    })?;
    Ok((Shard { path, map }, entries))
}

fn has_pickled_weights(dir: &Path) -> bool {
    [
        "pytorch_model.bin",
        "pytorch_model.bin.index.json",
        "consolidated.00.pth",
        "model.pt",
    ]
    .iter()
    .any(|name| dir.join(name).exists())
}

fn read_index(path: &Path) -> Result<BTreeMap<String, Vec<String>>, SafetensorsDirError> {
    let content = read_limited(path, INDEX_BYTES_MAX)?;
    let index: Index = serde_json::from_slice(&content).map_err(|cause| SafetensorsDirError::Index {
        path: path.to_owned(),
        cause,
    })?;
    let mut files: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (tensor, file) in index.weight_map {
        let plain =
            file.ends_with(".safetensors") && Path::new(&file).file_name().is_some_and(|name| name == file.as_str());
        if !plain {
            return Err(SafetensorsDirError::ShardName {
                path: path.to_owned(),
                tensor,
                file,
            });
        }
        files.entry(file).or_default().push(tensor);
    }
    if files.len() > SHARDS_MAX {
        return Err(SafetensorsDirError::TooManyShards {
            path: path.to_owned(),
            found: files.len(),
        });
    }
    Ok(files)
}

impl SafetensorsDir {
    /// Maps the files of a directory and reads their headers.
    ///
    /// **Errors:** no weights, an unreadable file, or the first fault of a header.
    pub fn open(dir: &Path) -> Result<Self, SafetensorsDirError> {
        let mut source = Self {
            dir: dir.to_owned(),
            shards: Vec::new(),
            tensors: BTreeMap::new(),
        };
        for (file, wanted) in wanted_files(dir)? {
            let wanted = (file != SINGLE_FILE).then_some(wanted.as_slice());
            source.add_shard(dir.join(&file), wanted)?;
        }
        Ok(source)
    }

    /// Maps one file, whatever its name; for adapters and golden vectors.
    ///
    /// **Errors:** an unreadable file, or the first fault of its header.
    pub fn open_file(path: &Path) -> Result<Self, SafetensorsDirError> {
        let mut source = Self {
            dir: path.to_owned(),
            shards: Vec::new(),
            tensors: BTreeMap::new(),
        };
        source.add_shard(path.to_owned(), None)?;
        Ok(source)
    }

    fn add_shard(&mut self, path: PathBuf, wanted: Option<&[String]>) -> Result<(), SafetensorsDirError> {
        let (shard, mut entries) = open_shard(path)?;
        let number = self.shards.len();
        match wanted {
            None => {
                let numbered = entries.into_iter().map(|(name, entry)| (name, (number, entry)));
                self.tensors.extend(numbered);
            }
            Some(wanted) => {
                for name in wanted {
                    let entry = entries.remove(name).ok_or_else(|| SafetensorsDirError::NotInShard {
                        path: shard.path.clone(),
                        tensor: name.clone(),
                    })?;
                    self.tensors.insert(name.clone(), (number, entry));
                }
            }
        }
        self.shards.push(shard);
        Ok(())
    }

    /// Returns the files that hold the weights, in the order of their names.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.shards.iter().map(|shard| shard.path.as_path())
    }

    /// Returns shape and stored type of a tensor without touching its bytes.
    pub fn entry(&self, name: &str) -> Option<&TensorEntry> {
        self.tensors.get(name).map(|(_, entry)| entry)
    }
}

impl WeightSource for SafetensorsDir {
    fn tensor(&self, name: &str) -> Result<RawTensor<'_>, WeightError> {
        let (number, entry) = self.tensors.get(name).ok_or_else(|| WeightError::Missing {
            name: name.to_owned(),
            place: self.dir.display().to_string(),
        })?;
        let shard = &self.shards[*number];
        let dtype = entry.weight_type().ok_or_else(|| WeightError::Unreadable {
            name: name.to_owned(),
            place: shard.path.display().to_string(),
            cause: format!("it is stored as {}, expected F32, F16 or BF16", entry.dtype),
        })?;
        Ok(RawTensor {
            dtype,
            shape: entry.shape.clone(),
            bytes: Cow::Borrowed(&shard.map[entry.bytes.clone()]),
        })
    }

    fn stored_as(&self, name: &str) -> Option<GgmlType> {
        self.entry(name)?.weight_type()
    }

    fn release_pages(&self) {
        self.shards.iter().for_each(|shard| shard.map.release_pages());
    }

    fn names(&self) -> Vec<String> {
        self.tensors.keys().cloned().collect()
    }

    fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }
}
