//! Sequence classifiers with one label: reward models, which say with one number how good an answer is.
//!
//! Invariants: the number is the head's raw output, never squashed; it does not depend on what else is ranked in the same
//! call; a text that is too long loses its beginning, never its end, and the caller is told.
//! **Source:** `GenericForSequenceClassification` of transformers (the head `score`, without bias, reads the row of the last
//! token that is not padding); `spec/judges-and-teachers.md` section 3.

use std::path::{Path, PathBuf};

use dlm_core::base::TemplateDialect;
use dlm_core::{Cancel, Hints, Subject};
use dlm_kernels::{Bytes, Weight};

use crate::base::{BaseOpenError, OpenedFacts, directory_sha256, directory_totals, shape};
use crate::batch::Batch;
use crate::chat::{Ending, Message, Thinking};
use crate::config::json::LABELS_CLASS;
use crate::config::{ClassifierConfig, ConfigError, DecoderConfig, parse_classifier_config};
use crate::engine::{Cpu, CpuEngine, CpuOptions, Engine, EngineError, Reader, ReaderOptions};
use crate::model::{LoadError, Model};
use crate::safetensors_dir::{SafetensorsDir, SafetensorsDirError};
use crate::session::PrecisionPaths;
use crate::text::{TextError, TextModel};
use crate::weights::{WeightError, WeightSource};

/// The head's tensor.
const HEAD: &str = "score.weight";
/// Rows of one pass, as for scores.
const ROWS_MAX: usize = 2048;

/// A classifier whose files are open; nothing heavy is loaded.
#[derive(Debug)]
pub struct OpenedRanker {
    path: PathBuf,
    config: ClassifierConfig,
    text: TextModel,
    weights: SafetensorsDir,
}

/// A loaded classifier with one label.
pub struct Ranker {
    /// The decoder under the head.
    engine: Box<dyn Engine>,
    head: Vec<f32>,
    pad: Option<u32>,
}

/// A text as a classifier reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RankInput {
    pub ids: Vec<u32>,
    /// Tokens that were cut from its beginning.
    pub cut: usize,
}

/// A classifier that cannot be opened, loaded or used.
#[derive(Debug, thiserror::Error)]
pub enum RankError {
    #[error("read `{path}`: {cause}")]
    Io { path: PathBuf, cause: std::io::Error },
    #[error("read `{path}`: {cause}")]
    Config { path: PathBuf, cause: ConfigError },
    #[error("`{path}` is a classifier with {labels} labels, and one that ranks has 1")]
    Labels { path: PathBuf, labels: usize },
    #[error("`{path}`: the embedding has {rows} rows, its tokenizer {tokens} tokens")]
    Tokens { path: PathBuf, rows: usize, tokens: usize },
    #[error("tensor `{HEAD}`: expected shape [1, {d_model}], found {found:?}")]
    HeadShape { d_model: usize, found: Vec<usize> },
    #[error(transparent)]
    Files(#[from] SafetensorsDirError),
    #[error(transparent)]
    Text(#[from] TextError),
    #[error(transparent)]
    Weight(#[from] WeightError),
    #[error("tensor `{HEAD}`: {0}")]
    Head(#[from] dlm_kernels::WeightError),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("rank: text {index} has no tokens")]
    Empty { index: usize },
    #[error("rank: {0}")]
    Engine(#[from] EngineError),
    #[error("rank: the score of text {index} is {value}, not a finite number")]
    NotFinite { index: usize, value: f64 },
    #[error("cancelled")]
    Cancelled,
}

impl Hints for RankError {
    fn subject(&self) -> Subject {
        Subject::Model
    }

    fn hints(&self) -> Vec<String> {
        match self {
            RankError::Config { cause, .. } => cause.hints(),
            RankError::Files(error) => error.hints(),
            RankError::Text(error) => error.hints(),
            RankError::Load(error) => error.hints(),
            RankError::Labels { .. } => vec!["choose a reward model: a sequence classifier with one label".to_owned()],
            _ => Vec::new(),
        }
    }
}

/// Opens a directory with a `...ForSequenceClassification` model.
///
/// **Errors:** unreadable files, an unsupported class, or another number of labels than one.
pub fn open_ranker(path: &Path) -> Result<OpenedRanker, RankError> {
    let settings = path.join("config.json");
    let content = crate::base::read_settings(&settings).map_err(|cause| RankError::Io {
        path: settings.clone(),
        cause,
    })?;
    let config = parse_classifier_config(&content).map_err(|cause| RankError::Config {
        path: settings.clone(),
        cause,
    })?;
    if config.labels != 1 {
        return Err(RankError::Labels {
            path: path.to_owned(),
            labels: config.labels,
        });
    }
    let weights = SafetensorsDir::open(path)?;
    let text = TextModel::from_dir(path, None)?;
    let (rows, tokens) = (config.decoder.vocab, text.tokenizer.vocab());
    if tokens > rows {
        return Err(RankError::Tokens {
            path: path.to_owned(),
            rows,
            tokens,
        });
    }
    Ok(OpenedRanker {
        path: path.to_owned(),
        config,
        text,
        weights,
    })
}

impl OpenedRanker {
    /// Returns the path that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the settings of the decoder under the head.
    pub fn config(&self) -> &DecoderConfig {
        &self.config.decoder
    }

    /// Returns tokenizer and template.
    pub fn text(&self) -> &TextModel {
        &self.text
    }

    /// Returns the bytes that the weights take once loaded, without packed copies.
    pub fn weights_memory_bytes(&self) -> u64 {
        directory_totals(&self.weights).bytes
    }

    /// Returns what is known without loading; without a template its dialect counts as ChatML.
    pub fn facts(&self) -> OpenedFacts {
        let (config, totals) = (&self.config.decoder, directory_totals(&self.weights));
        OpenedFacts {
            bytes: totals.bytes,
            storage: totals.storage,
            architecture: config.arch.facts().hub_class.to_owned() + LABELS_CLASS,
            params: totals.params,
            template: self.text.dialect().unwrap_or(TemplateDialect::ChatMl),
            context_length: u32::try_from(config.context_max).unwrap_or(u32::MAX),
            shape: shape(config),
            tokenizer_pre: None,
            gguf_arch: None,
            license_spdx: None,
            notes: self.text.tokenizer.notes.clone(),
        }
    }

    /// Computes the fingerprint as [`crate::OpenedBase::sha256`] does.
    ///
    /// **Errors:** a file that cannot be read.
    pub fn sha256(&self) -> Result<String, BaseOpenError> {
        directory_sha256(&self.path)
    }

    /// Loads decoder and head.
    ///
    /// **Errors:** a missing or misshapen tensor.
    pub fn load(&self, cpu: &Cpu, options: &CpuOptions) -> Result<Ranker, RankError> {
        let d_model = self.config.decoder.d_model;
        let raw = self.weights.tensor(HEAD)?;
        if raw.shape != [1, d_model] {
            return Err(RankError::HeadShape {
                d_model,
                found: raw.shape,
            });
        }
        let head = Weight::from_bytes(raw.dtype, 1, d_model, Bytes::from_vec(raw.bytes.into_owned()))?.to_f32();
        let body = Model::load_body(self.config.decoder.clone(), &self.weights, options.on(cpu))?;
        Ok(Ranker {
            engine: Box::new(CpuEngine::new(body)),
            head,
            pad: self.config.pad,
        })
    }

    /// Renders a conversation and its answer with the template, without a generation prompt.
    ///
    /// **Errors:** no template, its refusal, or text that cannot be encoded.
    pub fn chat_input(&self, prompt: &[Message], answer: &str) -> Result<RankInput, TextError> {
        let mut messages = prompt.to_vec();
        messages.push(Message::assistant(answer));
        let ids = self
            .text
            .conversation_ids(&messages, Ending::Complete, Thinking::default())?;
        Ok(self.fitted(ids))
    }

    /// Encodes prompt and answer as the tokenizer joins two texts.
    ///
    /// **Errors:** text that cannot be encoded.
    pub fn pair_input(&self, prompt: &str, answer: &str) -> Result<RankInput, TextError> {
        Ok(self.fitted(self.text.tokenizer.encode_pair(prompt, answer)?))
    }

    fn fitted(&self, mut ids: Vec<u32>) -> RankInput {
        let cut = ids.len().saturating_sub(self.config.decoder.context_max);
        ids.drain(..cut);
        RankInput { ids, cut }
    }
}

impl Ranker {
    /// Returns the head's output for every text.
    ///
    /// **Errors:** a text without tokens, a token outside the vocabulary, a number that is not finite, a raised flag.
    pub fn rank(&self, inputs: &[RankInput], cancel: &Cancel) -> Result<Vec<f64>, RankError> {
        if let Some(index) = inputs.iter().position(|input| input.ids.is_empty()) {
            return Err(RankError::Empty { index });
        }
        // Packed products whatever the number of rows, so that a text has the same bits in every pass.
        let options = ReaderOptions {
            precision_paths: PrecisionPaths::PACKED,
            cancel: cancel.clone(),
        };
        let mut reader = self.engine.reader(None, options)?;
        let mut out = Vec::with_capacity(inputs.len());
        while out.len() < inputs.len() {
            if cancel.is_cancelled() {
                return Err(RankError::Cancelled);
            }
            let rest = &inputs[out.len()..];
            let mut rows = 0;
            let fits = |input: &&RankInput| {
                rows += input.ids.len();
                rows <= ROWS_MAX
            };
            let count = rest.iter().take_while(fits).count().max(1);
            self.run_pass(&mut *reader, &rest[..count], &mut out)?;
        }
        Ok(out)
    }

    fn run_pass(&self, reader: &mut dyn Reader, inputs: &[RankInput], out: &mut Vec<f64>) -> Result<(), RankError> {
        let sequences: Vec<&[u32]> = inputs.iter().map(|input| input.ids.as_slice()).collect();
        let batch = Batch::packed(&sequences);
        // A text of padding alone is read at its first token, as the reference does.
        let last = |ids: &[u32]| match self.pad {
            Some(pad) => ids.iter().rposition(|id| *id != pad).unwrap_or(0),
            None => ids.len() - 1,
        };
        let rows: Vec<usize> = sequences
            .iter()
            .zip(&batch.segments)
            .map(|(ids, segment)| segment.q.start + last(ids))
            .collect();
        let hidden = reader.hidden(&batch, &rows)?;
        for hidden in hidden.chunks_exact(self.head.len()) {
            let products = hidden
                .iter()
                .zip(&self.head)
                .map(|(x, w)| f64::from(*x) * f64::from(*w));
            let value: f64 = products.sum();
            if !value.is_finite() {
                return Err(RankError::NotFinite {
                    index: out.len(),
                    value,
                });
            }
            out.push(value);
        }
        Ok(())
    }
}
