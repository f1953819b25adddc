//! A base model on disk: a directory of safetensors or one GGUF file, opened but not loaded.
//!
//! Invariants: opening reads headers, settings and tokenizer only, so that a plan can refuse before any weight is
//! touched; what does not fit together (no template, more tokens than embedding rows) is refused here.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use dlm_core::architecture::TOKENS_CLASS;
use dlm_core::base::{BaseShape, TemplateDialect};
use dlm_core::digest::{Sha256, sha256_hex};
use dlm_core::{Hints, Subject};
use dlm_files::DiskError;
use dlm_kernels::quant::{GgmlType, Nf4Matrix};

use crate::chat::RECOGNIZED;
use crate::config::{ConfigError, DecoderConfig, GgufConfigError, config_from_gguf, parse_config};
use crate::gguf::{GgufFile, GgufFileError, GgufSourceError, GgufWeights, MAGIC, Value};
use crate::layout::slot_plans;
use crate::model::{LoadError, LoadOptions, Model, WeightStorage};
use crate::safetensors_dir::{SafetensorsDir, SafetensorsDirError};
use crate::text::{TextError, TextModel};
use crate::tokenizer::TEMPLATE_FILE;
use crate::weights::WeightSource;

/// The weights of a base, in either form.
#[derive(Debug)]
pub enum BaseWeights {
    Safetensors(SafetensorsDir),
    Gguf(GgufWeights),
}

/// What is known of a base without loading it.
#[derive(Clone, Debug, PartialEq)]
pub struct OpenedFacts {
    /// Bytes of all tensors as they are stored.
    pub bytes: u64,
    /// The type that most of those bytes are stored in: `BF16`, `Q4_1`.
    pub storage: String,
    /// The class name that `config.json` files use: `LlamaForCausalLM`.
    pub architecture: String,
    /// Values of all tensors.
    pub params: u64,
    pub template: TemplateDialect,
    pub context_length: u32,
    pub shape: BaseShape,
    /// The pre-tokenizer's label, where the file names one.
    pub tokenizer_pre: Option<String>,
    /// `general.architecture` of a GGUF of this base.
    pub gguf_arch: Option<String>,
    /// The license as the file names it.
    pub license_spdx: Option<String>,
    /// What the files say that was passed over.
    pub notes: Vec<String>,
}

/// A base whose files are open.
#[derive(Debug)]
pub struct OpenedBase {
    path: PathBuf,
    config: DecoderConfig,
    text: TextModel,
    weights: BaseWeights,
    gguf: Option<Arc<GgufFile>>,
    facts: OpenedFacts,
}

/// A base that cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum BaseOpenError {
    #[error("open base `{path}`: it is neither a directory nor a GGUF file")]
    NoBase { path: PathBuf },
    #[error("open base `{path}`: it is a Git LFS pointer, which stands for the file; the file itself was not fetched")]
    LfsPointer { path: PathBuf },
    #[error("open base `{path}`: it is part {part} of {parts} of a model that is split over several files")]
    Split { path: PathBuf, part: u64, parts: u64 },
    #[error("read `{path}`: {cause}")]
    Io { path: PathBuf, cause: std::io::Error },
    #[error("read `{path}`: {cause}")]
    Config { path: PathBuf, cause: ConfigError },
    #[error("open base `{path}`: it has no chat template")]
    NoTemplate { path: PathBuf },
    #[error("open base `{path}`: {what}")]
    Unfit { path: PathBuf, what: String },
    #[error(transparent)]
    GgufConfig(#[from] GgufConfigError),
    #[error(transparent)]
    Gguf(#[from] GgufFileError),
    #[error(transparent)]
    GgufSource(#[from] GgufSourceError),
    #[error(transparent)]
    Safetensors(#[from] SafetensorsDirError),
    #[error(transparent)]
    Text(#[from] TextError),
}

impl Hints for BaseOpenError {
    fn subject(&self) -> Subject {
        Subject::BaseModel
    }

    fn hints(&self) -> Vec<String> {
        match self {
            BaseOpenError::NoBase { .. } => {
                vec!["give a directory with `config.json` and `*.safetensors`, or a GGUF file".to_owned()]
            }
            BaseOpenError::LfsPointer { .. } => {
                vec!["fetch the files: `git lfs pull` in the folder of the repository".to_owned()]
            }
            BaseOpenError::Split { .. } => {
                vec!["join the parts first: `llama-gguf-split --merge <first part> <new file>` of llama.cpp".to_owned()]
            }
            BaseOpenError::Config { cause, .. } => cause.hints(),
            BaseOpenError::GgufConfig(error) => error.hints(),
            BaseOpenError::Gguf(error) => error.hints(),
            BaseOpenError::GgufSource(error) => error.hints(),
            BaseOpenError::Safetensors(error) => error.hints(),
            BaseOpenError::Text(error) => error.hints(),
            BaseOpenError::NoTemplate { .. } => vec![
                "choose a registry base".to_owned(),
                format!("or put the template that it was trained with beside it, as `{TEMPLATE_FILE}`"),
            ],
            BaseOpenError::Unfit { .. } => vec!["choose a registry base".to_owned()],
            BaseOpenError::Io { .. } => Vec::new(),
        }
    }
}

/// Type and number of values of one stored tensor.
type Stored = (String, u64, u64);

/// What the tensors of a file add up to.
pub(crate) struct Totals {
    pub bytes: u64,
    pub params: u64,
    pub storage: String,
}

fn totals(tensors: impl Iterator<Item = Stored>) -> Totals {
    let mut by_type: std::collections::BTreeMap<String, u64> = std::collections::BTreeMap::new();
    let (mut bytes, mut params) = (0, 0);
    for (dtype, tensor_bytes, values) in tensors {
        bytes += tensor_bytes;
        params += values;
        *by_type.entry(dtype).or_default() += tensor_bytes;
    }
    let largest = by_type.into_iter().max_by_key(|(_, bytes)| *bytes);
    Totals {
        bytes,
        params,
        storage: largest.map_or_else(String::new, |(dtype, _)| dtype),
    }
}

/// What the tensors of a directory add up to.
pub(crate) fn directory_totals(weights: &SafetensorsDir) -> Totals {
    let names = weights.names();
    let entries = names.iter().filter_map(|name| weights.entry(name));
    totals(entries.map(|entry| (entry.dtype.clone(), entry.bytes.len() as u64, values(&entry.shape))))
}

fn values(shape: &[usize]) -> u64 {
    shape.iter().map(|dim| *dim as u64).product()
}

/// The sizes that plans need. [`DecoderConfig::check`] keeps every one below 2^32.
pub(crate) fn shape(config: &DecoderConfig) -> BaseShape {
    BaseShape {
        d_model: config.d_model as u32,
        n_layers: config.n_layers as u32,
        n_heads: config.n_heads as u32,
        n_kv_heads: config.n_kv_heads as u32,
        head_dim: config.head_dim as u32,
        d_ff: config.d_ff as u32,
        vocab: config.vocab as u32,
        tied: config.tied,
        n_experts: config.experts.map_or(0, |experts| experts.count as u32),
        n_experts_used: config.experts.map_or(0, |experts| experts.per_token as u32),
    }
}

fn facts(path: &Path, config: &DecoderConfig, text: &TextModel, totals: Totals) -> Result<OpenedFacts, BaseOpenError> {
    let unfit = |what: &str| BaseOpenError::Unfit {
        path: path.to_owned(),
        what: what.to_owned(),
    };
    if text.template.is_none() {
        return Err(BaseOpenError::NoTemplate { path: path.to_owned() });
    }
    let template = text.dialect().ok_or_else(|| {
        let known: Vec<&str> = RECOGNIZED.iter().map(|dialect| dialect.name()).collect();
        unfit(&format!(
            "its chat template follows no known dialect (known: {})",
            known.join(", ")
        ))
    })?;
    if text.tokenizer.vocab() > config.vocab {
        // Ids may have gaps, so the highest one counts and not how many tokens there are.
        let (highest, rows) = (text.tokenizer.vocab() - 1, config.vocab);
        let token = text.tokenizer.token(highest as u32).unwrap_or_default();
        return Err(unfit(&format!(
            "its token `{token}` has the id {highest}, its embedding has {rows} rows, for the ids below {rows}"
        )));
    }
    Ok(OpenedFacts {
        bytes: totals.bytes,
        storage: totals.storage,
        architecture: config.arch.facts().hub_class.to_owned() + TOKENS_CLASS,
        params: totals.params,
        template,
        context_length: u32::try_from(config.context_max).unwrap_or(u32::MAX),
        shape: shape(config),
        tokenizer_pre: None,
        gguf_arch: Some(config.arch.facts().gguf.to_owned()),
        license_spdx: None,
        notes: text.tokenizer.notes.clone(),
    })
}

/// Refuses one part of a split model; nothing of it makes sense alone.
///
/// **Source:** llama.cpp's `gguf-split`, which writes these keys into every part.
fn refuse_part(file: &GgufFile) -> Result<(), BaseOpenError> {
    let number = |key: &str| file.value(key).and_then(Value::as_u64);
    match number("split.count") {
        None | Some(0 | 1) => Ok(()),
        Some(parts) => Err(BaseOpenError::Split {
            path: file.path().to_owned(),
            part: number("split.no").unwrap_or(0).saturating_add(1),
            parts,
        }),
    }
}

fn open_gguf(path: &Path) -> Result<OpenedBase, BaseOpenError> {
    let file = Arc::new(GgufFile::open(path)?);
    refuse_part(&file)?;
    let config = config_from_gguf(&file)?;
    let weights = GgufWeights::new(file.clone())?;
    let text = TextModel::from_gguf(&file, None)?;
    let tensors = file.header().tensors.values();
    let stored = tensors.map(|info| {
        (
            info.dtype.name().to_owned(),
            info.bytes.len() as u64,
            values(&info.shape),
        )
    });
    let mut facts = facts(path, &config, &text, totals(stored))?;
    let said = |key: &str| file.value(key).and_then(Value::as_str).map(str::to_owned);
    facts.tokenizer_pre = said("tokenizer.ggml.pre");
    facts.gguf_arch = said("general.architecture");
    facts.license_spdx = said("general.license");
    Ok(OpenedBase {
        path: path.to_owned(),
        config,
        text,
        weights: BaseWeights::Gguf(weights),
        gguf: Some(file),
        facts,
    })
}

/// Reads a `config.json`, no more of it than shows that it is too long.
pub(crate) fn read_settings(path: &Path) -> Result<Vec<u8>, std::io::Error> {
    let limit = crate::config::json::CONFIG_BYTES_MAX as u64 + 1;
    dlm_files::read_at(path, 0, limit).map_err(DiskError::into_io)
}

/// Says whether a path holds a sequence classifier; a GGUF file never does.
///
/// **Errors:** settings that cannot be read.
pub fn is_classifier(path: &Path) -> Result<bool, BaseOpenError> {
    if !path.is_dir() {
        return Ok(false);
    }
    let settings = path.join("config.json");
    let content = read_settings(&settings).map_err(|cause| BaseOpenError::Io {
        path: settings.clone(),
        cause,
    })?;
    crate::config::is_classifier(&content).map_err(|cause| BaseOpenError::Config { path: settings, cause })
}

fn open_directory(path: &Path) -> Result<OpenedBase, BaseOpenError> {
    let settings = path.join("config.json");
    let content = read_settings(&settings).map_err(|cause| BaseOpenError::Io {
        path: settings.clone(),
        cause,
    })?;
    let config = parse_config(&content).map_err(|cause| BaseOpenError::Config {
        path: settings.clone(),
        cause,
    })?;
    let weights = SafetensorsDir::open(path)?;
    let text = TextModel::from_dir(path, None)?;
    let facts = facts(path, &config, &text, directory_totals(&weights))?;
    Ok(OpenedBase {
        path: path.to_owned(),
        config,
        text,
        weights: BaseWeights::Safetensors(weights),
        gguf: None,
        facts,
    })
}

/// Opens a directory of safetensors or a GGUF file.
///
/// **Errors:** anything that keeps the base from being used: files, settings, tokenizer, template.
/// **Cost:** headers and tokenizer only; a tenth of a second for 50,000 tokens.
pub fn open_base(path: &Path) -> Result<OpenedBase, BaseOpenError> {
    if !path.exists() {
        return Err(BaseOpenError::NoBase { path: path.to_owned() });
    }
    refuse_pointers(path)?;
    match form_of(path)? {
        BaseForm::Directory => open_directory(path),
        BaseForm::Gguf => open_gguf(path),
        BaseForm::Other => Err(BaseOpenError::NoBase { path: path.to_owned() }),
    }
}

/// What kind of base lies at a path, by its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BaseForm {
    Directory,
    /// A file that begins as GGUF files do, or whose name ends like theirs.
    Gguf,
    Other,
}

/// Says what kind of base lies at a path: other programs keep GGUF files under a digest, without an ending.
///
/// **Errors:** a file that cannot be read.
pub fn form_of(path: &Path) -> Result<BaseForm, BaseOpenError> {
    if path.is_dir() {
        return Ok(BaseForm::Directory);
    }
    let extension = path.extension().unwrap_or_default();
    if extension.eq_ignore_ascii_case("gguf") {
        return Ok(BaseForm::Gguf);
    }
    let head = dlm_files::read_at(path, 0, MAGIC.len() as u64).map_err(|error| BaseOpenError::Io {
        path: path.to_owned(),
        cause: error.into_io(),
    })?;
    Ok(if head == MAGIC { BaseForm::Gguf } else { BaseForm::Other })
}

/// Refuses a base of whose files one stands for a file that was not fetched.
///
/// **Errors:** [`BaseOpenError::LfsPointer`] with the first such file, or a file that cannot be read.
pub fn refuse_pointers(path: &Path) -> Result<(), BaseOpenError> {
    let files = match path.is_dir() {
        true => model_files(path)?.into_iter().map(|name| path.join(name)).collect(),
        false => vec![path.to_owned()],
    };
    for path in files {
        let is_pointer = dlm_files::is_lfs_pointer(&path).map_err(|error| BaseOpenError::Io {
            path: path.clone(),
            cause: error.into_io(),
        })?;
        if is_pointer {
            return Err(BaseOpenError::LfsPointer { path });
        }
    }
    Ok(())
}

impl OpenedBase {
    /// Returns the path that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns what is known without loading.
    pub fn facts(&self) -> OpenedFacts {
        self.facts.clone()
    }

    /// Returns the settings of the decoder.
    pub fn config(&self) -> &DecoderConfig {
        &self.config
    }

    /// Returns tokenizer, template and stop rules.
    pub fn text(&self) -> &TextModel {
        &self.text
    }

    /// Returns the textual part read as another dialect than the template shows, as the registry may say.
    ///
    /// **Errors:** as opening.
    pub fn text_as(&self, dialect: TemplateDialect) -> Result<TextModel, TextError> {
        match &self.gguf {
            Some(file) => TextModel::from_gguf(file, Some(dialect)),
            None => TextModel::from_dir(&self.path, Some(dialect)),
        }
    }

    /// Returns the GGUF file, where the base is one.
    pub fn gguf(&self) -> Option<&Arc<GgufFile>> {
        self.gguf.as_ref()
    }

    /// Returns the weights under their Hugging Face names.
    pub fn weights(&self) -> &dyn WeightSource {
        match &self.weights {
            BaseWeights::Safetensors(source) => source,
            BaseWeights::Gguf(source) => source,
        }
    }

    /// Returns the bytes that the weights take in memory once loaded, without packed copies.
    pub fn weights_memory_bytes(&self, storage: WeightStorage) -> u64 {
        if storage == WeightStorage::FourBits {
            return self.facts.bytes - self.bytes_saved_by_four_bits();
        }
        let Some(file) = &self.gguf else {
            return self.facts.bytes;
        };
        let in_memory = |dtype: GgmlType, stored: u64, count: u64| {
            if dtype.is_quantized() && storage == WeightStorage::Dequantized {
                4 * count
            } else {
                stored
            }
        };
        let tensors = file.header().tensors.values();
        tensors
            .map(|info| in_memory(info.dtype, info.bytes.len() as u64, values(&info.shape)))
            .sum()
    }

    /// The floats of the blocks' products, less what they take in NF4.
    fn bytes_saved_by_four_bits(&self) -> u64 {
        let layers = 0..self.config.n_layers;
        let plans = layers.flat_map(|layer| slot_plans(&self.config, layer));
        let modules = plans.flat_map(|plan| plan.modules.into_iter().map(move |(path, rows)| (path, plan.k, rows)));
        modules
            .map(|(path, k, rows)| {
                let values = rows.iter().sum::<usize>() * k;
                match self.weights().stored_as(&format!("{path}.weight")) {
                    Some(ty) if !ty.is_quantized() => {
                        let stored = (values * ty.block_bytes()) as u64;
                        let four_bits: u64 = rows.iter().map(|rows| Nf4Matrix::bytes_of((rows * k) as u64)).sum();
                        stored.saturating_sub(four_bits)
                    }
                    _ => 0,
                }
            })
            .sum()
    }

    /// Returns the bytes of the copies that single tokens of block-quantized weights are multiplied from
    /// ([`Prepare::Decode`](crate::Prepare)): about those of the stored blocks; floats have none.
    pub fn decode_memory_bytes(&self) -> u64 {
        let tensors = self.gguf.iter().flat_map(|file| file.header().tensors.values());
        let quantized = tensors.filter(|info| info.dtype.is_quantized());
        quantized.map(|info| info.bytes.len() as u64).sum()
    }

    /// Returns the bytes of the largest tensor as `f32`: what is copied, decoded or merged whole exists once more meanwhile.
    pub fn largest_tensor_bytes(&self) -> u64 {
        let shape = &self.facts.shape;
        let rows = u64::from(shape.vocab).max(u64::from(shape.d_ff));
        4 * rows * u64::from(shape.d_model)
    }

    /// Looks every tensor up that the decoder needs, without loading one.
    ///
    /// **Errors:** as [`Model::check`].
    pub fn check(&self) -> Result<(), LoadError> {
        Model::check(&self.config, self.weights())
    }

    /// Loads the weights.
    ///
    /// **Errors:** as [`Model::load`].
    pub fn load(&self, options: LoadOptions) -> Result<Model, LoadError> {
        Model::load(self.config.clone(), self.weights(), options)
    }

    /// Computes the fingerprint in hex: the file's SHA-256, or the digest of a directory's model files: for each in
    /// path order its path, a zero byte, its SHA-256 in hex and a newline, all into one SHA-256.
    ///
    /// **Errors:** a file that cannot be read. **Cost:** reads everything once, about a gigabyte per second.
    /// **Source:** `spec/bases.md` section 7.
    pub fn sha256(&self) -> Result<String, BaseOpenError> {
        if let Some(file) = &self.gguf {
            let digest = sha256_hex(file.bytes());
            file.release_pages();
            return Ok(digest);
        }
        directory_sha256(&self.path)
    }
}

/// The digest of a directory's model files.
pub(crate) fn directory_sha256(path: &Path) -> Result<String, BaseOpenError> {
    fingerprint(path, &mut dlm_files::sha256_file)
}

/// The fingerprint of a base that need not be openable, as [`OpenedBase::sha256`] has it; `sha256` gives the digests of its
/// files.
///
/// **Errors:** a directory that cannot be listed, and those of `sha256`.
pub fn fingerprint(
    path: &Path,
    sha256: &mut dyn FnMut(&Path) -> Result<String, DiskError>,
) -> Result<String, BaseOpenError> {
    let mut of = |file: PathBuf| {
        sha256(&file).map_err(|error| BaseOpenError::Io {
            path: file,
            cause: error.into_io(),
        })
    };
    if !path.is_dir() {
        return of(path.to_owned());
    }
    let mut digest = Sha256::new();
    for name in model_files(path)? {
        digest.update(name.as_bytes());
        digest.update([0]);
        let found = of(path.join(&name))?;
        digest.update(found);
        digest.update(b"\n");
    }
    Ok(digest.finish_hex())
}

/// The files of a directory that make the model what it is, sorted; notes beside them do not count.
///
/// **Errors:** a directory that cannot be listed.
pub fn model_files(dir: &Path) -> Result<Vec<String>, BaseOpenError> {
    const NAMES: [&str; 5] = [
        "config.json",
        "generation_config.json",
        "special_tokens_map.json",
        "chat_template.jinja",
        "model.safetensors.index.json",
    ];
    let io = |cause| BaseOpenError::Io {
        path: dir.to_owned(),
        cause,
    };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(io)? {
        let name = entry.map_err(io)?.file_name().to_string_lossy().into_owned();
        let counts = NAMES.contains(&name.as_str()) || name.starts_with("tokenizer") || name.ends_with(".safetensors");
        if counts && dir.join(&name).is_file() {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}
