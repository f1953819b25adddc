//! The training state beside an adapter: named tensors and JSON in one file, with its digest, and the random streams.
//!
//! Invariants: the file is safetensors bytes with a format tag and never a pickle, whatever its name says; nothing is
//! taken from a file whose digest does not match; equal states give equal bytes; a kill at any moment leaves the state before
//! or the one after whole, although three files hold it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dlm_core::digest::sha256_hex;
use dlm_core::{Hints, Subject};
use dlm_files::{Disk, DiskError};
use safetensors::{Dtype, SafeTensors};
use serde_json::{Map, Value};

use crate::json;
use crate::record::{self, Flaw};
use crate::version::{PendingVersion, VersionError};

/// The state's file; the name is a contract, the content is ours.
pub const STATE_FILE: &str = "training_state.pt";
/// 64 hex digits and LF.
pub const STATE_DIGEST_FILE: &str = "training_state.pt.sha256";
/// The random streams as JSON.
pub const STATE_RNG_FILE: &str = "training_state.rng.json";
/// Versions that the run was made with; advisory.
pub const PINNED_VERSIONS_FILE: &str = "pinned_versions.json";
/// Facts about the run; advisory.
pub const TRAINING_RUN_FILE: &str = "training_run.json";

/// Marks the file as ours; the number grows with the layout.
const FORMAT: &str = "dlm.training_state/1";
const FORMAT_KEY: &str = "format";
const FIELDS_KEY: &str = "fields";
/// Largest state that is read: two f32 moments of a very large adapter.
const STATE_BYTES_MAX: u64 = 16 << 30;
/// Largest JSON file of a version that is read.
const JSON_BYTES_MAX: u64 = 64 << 20;
/// Tensors begin at a multiple of this, as readers that map the file expect.
const ALIGNMENT: usize = 8;

/// A tensor of the state.
#[derive(Clone, Debug, PartialEq)]
pub struct StateTensor {
    /// Sizes; their product is the number of values.
    pub shape: Vec<usize>,
    /// Values.
    pub data: StateData,
}

/// Values of a tensor.
#[derive(Clone, Debug, PartialEq)]
pub enum StateData {
    /// Numbers, bit for bit.
    F32(Vec<f32>),
    /// Bytes of any meaning.
    U8(Vec<u8>),
}

impl StateTensor {
    fn is_narrow(&self) -> bool {
        matches!(self.data, StateData::U8(_))
    }
}

impl StateData {
    fn len(&self) -> usize {
        match self {
            StateData::F32(values) => values.len(),
            StateData::U8(values) => values.len(),
        }
    }

    fn bytes_len(&self) -> usize {
        match self {
            StateData::F32(values) => values.len() * size_of::<f32>(),
            StateData::U8(values) => values.len(),
        }
    }

    fn type_name(&self) -> &'static str {
        match self {
            StateData::F32(_) => "F32",
            StateData::U8(_) => "U8",
        }
    }
}

/// Everything that a run needs to go on as if it had never stopped.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrainingState {
    /// Tensors by name.
    pub tensors: BTreeMap<String, StateTensor>,
    /// Step, epoch, schedule, best loss, base revision, pinned versions and the like.
    pub fields: Map<String, Value>,
    /// Random streams.
    pub rng: Map<String, Value>,
}

/// A training state that cannot be resumed from.
#[derive(Debug, thiserror::Error)]
pub enum ResumeIntegrityError {
    #[error("`{}` is missing", path.display())]
    Missing { path: PathBuf },
    #[error("`{}` has SHA-256 {found}, its digest file says {expected}", path.display())]
    Digest {
        path: PathBuf,
        expected: String,
        found: String,
    },
    #[error("`{}` is not 64 hexadecimal digits", path.display())]
    DigestUnreadable { path: PathBuf },
    #[error("`{}` is a pickle of another program, which is never executed", path.display())]
    Pickle { path: PathBuf },
    #[error("`{}` cannot be decoded: {source}", path.display())]
    Container {
        path: PathBuf,
        source: safetensors::SafeTensorError,
    },
    #[error("`{}` cannot be decoded: its format is `{found}`, this program reads `{FORMAT}`", path.display())]
    Format { path: PathBuf, found: String },
    #[error("`{}` cannot be decoded: tensor `{tensor}` has type {found}, expected F32 or U8", path.display())]
    TensorType {
        path: PathBuf,
        tensor: String,
        found: String,
    },
    #[error("`{}` cannot be decoded: {flaw}", path.display())]
    Json {
        path: PathBuf,
        #[source]
        flaw: Flaw,
    },
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl Hints for ResumeIntegrityError {
    fn subject(&self) -> Subject {
        Subject::Resume
    }

    fn hints(&self) -> Vec<String> {
        vec!["run `dlm train --fresh` to begin again from the base; earlier versions are kept".to_owned()]
    }
}

/// A state that breaks its own rules and was not written.
#[derive(Debug, thiserror::Error)]
pub enum StateWriteError {
    #[error("tensor `{tensor}` of the training state has {values} values, its shape {shape:?} asks for another number")]
    Shape {
        tensor: String,
        values: usize,
        shape: Vec<usize>,
    },
    #[error(transparent)]
    Version(#[from] VersionError),
}

impl Hints for StateWriteError {
    fn subject(&self) -> Subject {
        match self {
            StateWriteError::Shape { .. } => Subject::Training,
            StateWriteError::Version(error) => error.subject(),
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            StateWriteError::Shape { .. } => Vec::new(),
            StateWriteError::Version(error) => error.hints(),
        }
    }
}

impl PendingVersion<'_> {
    /// Writes the state, its digest and the random streams.
    ///
    /// **Errors** name the tensor or the path.
    pub fn write_state(&self, state: TrainingState) -> Result<(), StateWriteError> {
        let streams = json::pretty(&Value::Object(state.rng));
        let bytes = encode(state.fields, state.tensors)?;
        let digest = format!("{}\n", sha256_hex(&bytes));
        // An earlier writing that failed between two names.
        self.settle_state()?;
        self.write(&next(STATE_FILE), &bytes)?;
        self.write(&next(STATE_RNG_FILE), streams.as_bytes())?;
        // From here on it is the new state.
        self.write(&next(STATE_DIGEST_FILE), digest.as_bytes())?;
        self.settle_state()?;
        Ok(())
    }

    fn settle_state(&self) -> Result<(), VersionError> {
        settle(self.disk(), self.directory())?;
        Ok(())
    }

    /// Writes a JSON file with sorted keys.
    ///
    /// **Errors** name the path.
    pub fn write_json(&self, name: &str, value: &Value) -> Result<(), VersionError> {
        self.write(name, json::pretty(value).as_bytes())
    }
}

/// Reads the state of a version directory.
///
/// **Errors** when a file is missing, its digest differs or it cannot be decoded.
pub fn read_state(directory: &Path) -> Result<TrainingState, ResumeIntegrityError> {
    let path = state_file(directory, STATE_FILE);
    let bytes = required(&path, STATE_BYTES_MAX)?;
    verify_digest(&path, &bytes, &state_file(directory, STATE_DIGEST_FILE))?;
    let mut state = decode(&path, &bytes)?;
    let path = state_file(directory, STATE_RNG_FILE);
    let bytes = required(&path, JSON_BYTES_MAX)?;
    state.rng = record::object(&bytes).map_err(|flaw| ResumeIntegrityError::Json { path, flaw })?;
    Ok(state)
}

/// Gives the files of a whole new state their names, the digest's last: it says that the others are to be had. Removes those of
/// a state whose writer was killed before it was whole; returns how many.
pub(crate) fn settle(disk: &Disk, directory: &Path) -> Result<usize, DiskError> {
    let is_whole = directory.join(next(STATE_DIGEST_FILE)).is_file();
    let mut removed = 0;
    for name in [STATE_FILE, STATE_RNG_FILE, STATE_DIGEST_FILE] {
        let aside = directory.join(next(name));
        match is_whole {
            true if aside.is_file() => disk.rename(&aside, &directory.join(name))?,
            true => {}
            false => removed += usize::from(disk.remove_file(&aside)?),
        }
    }
    Ok(removed)
}

/// What a file of the state is called until it has its name.
fn next(name: &str) -> String {
    format!("next.{name}")
}

/// Where a file of the state lies: under its own name, or under the other one where a writer was killed on the way.
pub(crate) fn state_file(directory: &Path, name: &str) -> PathBuf {
    let aside = directory.join(next(name));
    match directory.join(next(STATE_DIGEST_FILE)).is_file() && aside.is_file() {
        true => aside,
        false => directory.join(name),
    }
}

/// The step after which the state of a version directory was kept; none without a state. Reads no tensor.
pub(crate) fn kept_step(directory: &Path) -> Option<u64> {
    let bytes = dlm_files::read(&state_file(directory, STATE_RNG_FILE), JSON_BYTES_MAX).ok()??;
    let step = record::object(&bytes).ok()?.get("step")?.as_u64()?;
    state_file(directory, STATE_FILE).is_file().then_some(step)
}

fn required(path: &Path, limit: u64) -> Result<Vec<u8>, ResumeIntegrityError> {
    dlm_files::read(path, limit)?.ok_or_else(|| ResumeIntegrityError::Missing { path: path.to_owned() })
}

fn verify_digest(path: &Path, bytes: &[u8], digest: &Path) -> Result<(), ResumeIntegrityError> {
    let text = String::from_utf8(required(digest, JSON_BYTES_MAX)?).unwrap_or_default();
    let expected = text.trim();
    if expected.len() != 64 || !expected.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(ResumeIntegrityError::DigestUnreadable {
            path: digest.to_owned(),
        });
    }
    let found = sha256_hex(bytes);
    if found != expected {
        return Err(ResumeIntegrityError::Digest {
            path: path.to_owned(),
            expected: expected.to_owned(),
            found,
        });
    }
    Ok(())
}

/// Encodes a state; a tensor's memory is given back as soon as its bytes are written, so that there are never two of all of them.
fn encode(fields: Map<String, Value>, tensors: BTreeMap<String, StateTensor>) -> Result<Vec<u8>, StateWriteError> {
    let fields = Value::Object(fields);
    let mut metadata = Map::new();
    metadata.insert(FORMAT_KEY.to_owned(), FORMAT.into());
    metadata.insert(FIELDS_KEY.to_owned(), json::line(&fields).trim_end().into());
    let mut header = Map::new();
    header.insert("__metadata__".to_owned(), Value::Object(metadata));
    // Four-byte values first keeps every tensor aligned; names order the rest.
    let mut ordered: Vec<(String, StateTensor)> = tensors.into_iter().collect();
    ordered.sort_by(|(a, left), (b, right)| (left.is_narrow(), a).cmp(&(right.is_narrow(), b)));
    let mut offset = 0;
    for (name, tensor) in &ordered {
        let values = tensor.data.len();
        if tensor
            .shape
            .iter()
            .try_fold(1usize, |product, size| product.checked_mul(*size))
            != Some(values)
        {
            return Err(StateWriteError::Shape {
                tensor: name.clone(),
                values,
                shape: tensor.shape.clone(),
            });
        }
        let end = offset + tensor.data.bytes_len();
        let entry = serde_json::json!({
            "dtype": tensor.data.type_name(), "shape": tensor.shape, "data_offsets": [offset, end],
        });
        header.insert(name.clone(), entry);
        offset = end;
    }
    let mut text = json::line(&Value::Object(header)).trim_end().to_owned();
    let padded = text.len().next_multiple_of(ALIGNMENT);
    text.push_str(&" ".repeat(padded - text.len()));
    let mut bytes = Vec::with_capacity(size_of::<u64>() + text.len() + offset);
    bytes.extend_from_slice(&(text.len() as u64).to_le_bytes());
    bytes.extend_from_slice(text.as_bytes());
    for (_, tensor) in ordered {
        match tensor.data {
            StateData::F32(values) => bytes.extend(values.iter().flat_map(|value| value.to_le_bytes())),
            StateData::U8(values) => bytes.extend_from_slice(&values),
        }
    }
    Ok(bytes)
}

fn decode(path: &Path, bytes: &[u8]) -> Result<TrainingState, ResumeIntegrityError> {
    let owned = || path.to_owned();
    // A zip archive or a bare pickle is what the reference implementation writes under this name. A header's length may begin
    // like one; then the header's brace is behind it.
    let has_header = bytes.get(size_of::<u64>()) == Some(&b'{');
    if !has_header && (bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"\x80\x02")) {
        return Err(ResumeIntegrityError::Pickle { path: owned() });
    }
    let container = |source| ResumeIntegrityError::Container { path: owned(), source };
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(container)?;
    let metadata = header.metadata().clone().unwrap_or_default();
    let format = metadata.get(FORMAT_KEY).cloned().unwrap_or_default();
    if format != FORMAT {
        return Err(ResumeIntegrityError::Format {
            path: owned(),
            found: format,
        });
    }
    let fields = metadata.get(FIELDS_KEY).map(String::as_str).unwrap_or_default();
    let fields =
        record::object(fields.as_bytes()).map_err(|flaw| ResumeIntegrityError::Json { path: owned(), flaw })?;
    let mut tensors = BTreeMap::new();
    for (name, view) in SafeTensors::deserialize(bytes).map_err(container)?.iter() {
        let data = match view.dtype() {
            Dtype::U8 => StateData::U8(view.data().to_vec()),
            Dtype::F32 => StateData::F32(floats(view.data())),
            other => {
                return Err(ResumeIntegrityError::TensorType {
                    path: owned(),
                    tensor: name.to_owned(),
                    found: format!("{other:?}"),
                });
            }
        };
        let shape = view.shape().to_vec();
        tensors.insert(name.to_owned(), StateTensor { shape, data });
    }
    Ok(TrainingState {
        tensors,
        fields,
        rng: Map::new(),
    })
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes
        .chunks_exact(size_of::<f32>())
        .map(|chunk| f32::from_le_bytes(chunk.try_into().expect("a chunk has four bytes")))
        .collect()
}
