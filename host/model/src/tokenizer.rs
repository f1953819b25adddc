//! Text to token ids and back.
//!
//! Invariants: encoding never adds tokens of its own (templates write theirs, prose rows are told); text of special
//! tokens inside the input is recognized as those tokens, as the reference does, unless it is marked as text (`literal`). A tokenizer is either the
//! `tokenizer.json` of a directory or rebuilt from GGUF metadata (`gguf`), never guessed.

pub(crate) mod check;
mod files;
mod gguf;
mod literal;
mod pretokenize;
mod stream;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aho_corasick::AhoCorasick;
use dlm_core::{Hints, Subject};
use tokenizers::DecoderWrapper;

use crate::foreign::{self, Allowance, ForeignError};

pub(crate) use files::template_file;
pub use files::{TEMPLATE_FILE, TokenizerFiles, read_tokenizer_dir};
pub use gguf::tokenizer_from_gguf;
pub(crate) use literal::unmarked;
pub use pretokenize::known_labels;
pub use stream::StreamDecoder;

/// The tokens with a role.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Specials {
    pub bos: Option<u32>,
    pub eos: Option<u32>,
    pub pad: Option<u32>,
    pub unk: Option<u32>,
    /// Whether plain text begins with `bos`.
    pub add_bos: bool,
}

/// What a row would be padded with, were rows padded.
///
/// **Source:** `spec/training.md` section 1.6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PadChoice {
    /// The tokenizer's own, different from eos.
    Own(u32),
    /// The unknown token.
    Unknown(u32),
    /// A row of the embedding that no token uses.
    Spare(u32),
    /// The vocabulary would have to grow.
    Grow,
}

/// A span of text that a token came from, in bytes.
pub type ByteSpan = (usize, usize);

/// Text to token ids and back.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// The tokens with a role.
    pub specials: Specials,
    /// Every token is a string of bytes of its own, so bytes can be joined without looking at neighbors.
    byte_level: bool,
    /// One more than the highest id; ids may have gaps.
    vocab: usize,
    /// What its files say that was passed over, for whoever adds the base.
    pub notes: Vec<String>,
    /// Finds the texts of special tokens.
    specials_finder: Option<Arc<AhoCorasick>>,
}

/// A tokenizer that cannot be had, or text it cannot take.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    #[error("read `{path}`: {cause}")]
    Io { path: PathBuf, cause: std::io::Error },
    #[error("read `{path}`: {bytes} bytes, the limit is {max}")]
    TooLarge { path: PathBuf, bytes: u64, max: u64 },
    #[error("read `{path}`: {cause}")]
    Json { path: PathBuf, cause: serde_json::Error },
    #[error("read tokenizer `{path}`: {cause}")]
    Invalid { path: PathBuf, cause: String },
    #[error("`{path}` has no `tokenizer.json`{}", if *.sentencepiece { "; its `tokenizer.model` alone is not enough" } else { "" })]
    NoTokenizer { path: PathBuf, sentencepiece: bool },
    #[error("rebuild the tokenizer of `{path}`: `{key}` is missing")]
    GgufMissing { path: PathBuf, key: &'static str },
    #[error("rebuild the tokenizer of `{path}`: `{key}` is {found}, expected {expected}")]
    GgufValue {
        path: PathBuf,
        key: &'static str,
        found: String,
        expected: String,
    },
    #[error("rebuild the tokenizer of `{path}`: tokens {first} and {second} are both `{token}`")]
    DuplicateToken {
        path: PathBuf,
        first: usize,
        second: usize,
        token: String,
    },
    #[error("rebuild the tokenizer of `{path}`: merge {index} `{merge}` joins tokens that are not in the vocabulary")]
    Merge { path: PathBuf, index: usize, merge: String },
    #[error("encode text: {0}")]
    Encode(String),
    #[error("decode tokens: {0}")]
    Decode(String),
    #[error("encode text: it holds U+{:04X}, which Unicode reserves and no text should hold", u32::from(*found))]
    Noncharacter { found: char },
    #[error("encode text: the vocabulary cannot express `{text}` as text")]
    Unbreakable { text: String },
    /// What it is about cannot be used, whatever the text.
    #[error("{action}: {cause}")]
    Foreign { action: &'static str, cause: ForeignError },
}

impl Hints for TokenizerError {
    fn subject(&self) -> Subject {
        Subject::BaseModel
    }

    fn hints(&self) -> Vec<String> {
        match self {
            TokenizerError::NoTokenizer {
                sentencepiece: true, ..
            } => {
                vec!["add the `tokenizer.json` that the base's repository ships".to_owned()]
            }
            TokenizerError::GgufValue {
                key: "tokenizer.ggml.model" | "tokenizer.ggml.pre",
                ..
            } => vec!["use the safetensors form of this base".to_owned()],
            TokenizerError::GgufMissing { .. }
            | TokenizerError::DuplicateToken { .. }
            | TokenizerError::Merge { .. } => {
                vec!["use a file that a current converter wrote, or the safetensors form of this base".to_owned()]
            }
            TokenizerError::Noncharacter { .. } => vec!["delete the character from the document".to_owned()],
            TokenizerError::Unbreakable { .. } => {
                vec!["write it with a space between its characters: this base takes it for a control token".to_owned()]
            }
            _ => Vec::new(),
        }
    }
}

/// What a tokenizer may use for a text, or for tokens, of some length: an encoding has about a hundred bytes for each byte.
fn working(length: usize) -> Allowance {
    Allowance {
        what: "the tokenizer",
        bytes: length.saturating_mul(1024).saturating_add(512 << 20),
        time: Duration::from_secs(60) + Duration::from_micros(length as u64 * 10),
    }
}

fn encoding_of(
    bytes: usize,
    encode: impl FnOnce() -> tokenizers::Result<tokenizers::Encoding>,
) -> Result<tokenizers::Encoding, TokenizerError> {
    let encoding = foreign::here(working(bytes), encode).map_err(|cause| TokenizerError::Foreign {
        action: "encode text",
        cause,
    })?;
    encoding.map_err(|cause| TokenizerError::Encode(cause.to_string()))
}

impl Tokenizer {
    /// Wraps a finished pipeline.
    pub(crate) fn new(inner: tokenizers::Tokenizer, specials: Specials) -> Self {
        let highest = inner.get_vocab(true).into_values().max();
        Self {
            byte_level: matches!(inner.get_decoder(), Some(DecoderWrapper::ByteLevel(_))),
            vocab: highest.map_or(0, |id| id as usize + 1),
            specials_finder: literal::finder(&inner),
            inner,
            specials,
            notes: Vec::new(),
        }
    }

    /// Turns text into ids; nothing is added at either end.
    ///
    /// **Errors:** text that the model cannot express (no byte fallback, no unknown token).
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        let encoding = encoding_of(text.len(), || self.inner.encode_fast(text, false))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Turns two texts that belong together into ids, with the special tokens that the tokenizer puts around and between.
    ///
    /// **Errors:** as [`encode`](Self::encode).
    pub fn encode_pair(&self, first: &str, second: &str) -> Result<Vec<u32>, TokenizerError> {
        let bytes = first.len() + second.len();
        let encoding = encoding_of(bytes, || self.inner.encode_fast((first, second), true))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Returns what a token adds to a text that it continues, special tokens written out: with its leading space where it
    /// has one. Bytes that are no whole character become U+FFFD.
    ///
    /// **Errors:** a decoder of the pipeline that fails.
    pub fn piece(&self, id: u32) -> Result<String, TokenizerError> {
        // The second of two copies is decoded as a continuation, whatever the decoder does at the start of a text.
        let (one, two) = (self.decode_all(&[id])?, self.decode_all(&[id, id])?);
        Ok(match two.strip_prefix(&one) {
            Some(rest) => rest.to_owned(),
            None => one,
        })
    }

    /// Turns text into ids, each with the bytes of the text that it came from.
    ///
    /// **Errors:** as [`encode`](Self::encode).
    pub fn encode_with_spans(&self, text: &str) -> Result<(Vec<u32>, Vec<ByteSpan>), TokenizerError> {
        let encoding = encoding_of(text.len(), || self.inner.encode(text, false))?;
        Ok((encoding.get_ids().to_vec(), encoding.get_offsets().to_vec()))
    }

    /// Turns ids into text with every token written out, special ones too. Bytes that are no UTF-8 become U+FFFD.
    ///
    /// **Errors:** a decoder of the pipeline that fails.
    pub fn decode_all(&self, ids: &[u32]) -> Result<String, TokenizerError> {
        self.decoded(ids, false)
    }

    /// Turns ids into text without special tokens. Bytes that are no UTF-8 become U+FFFD.
    ///
    /// **Errors:** a decoder of the pipeline that fails.
    pub fn decode(&self, ids: &[u32]) -> Result<String, TokenizerError> {
        self.decoded(ids, true)
    }

    fn decoded(&self, ids: &[u32], is_without_special: bool) -> Result<String, TokenizerError> {
        let text = foreign::here(working(ids.len()), || self.inner.decode(ids, is_without_special));
        let text = text.map_err(|cause| TokenizerError::Foreign {
            action: "decode tokens",
            cause,
        })?;
        text.map_err(|cause| TokenizerError::Decode(cause.to_string()))
    }

    /// Returns the id of a token by its text in the vocabulary.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// Returns the text of a token as it stands in the vocabulary.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// Says whether the vocabulary has tokens for a character; others become the unknown token, or nothing.
    ///
    /// **Errors:** a pipeline that fails.
    pub fn expresses(&self, character: char) -> Result<bool, TokenizerError> {
        if self.byte_level {
            return Ok(true);
        }
        let ids = match self.encode(character.encode_utf8(&mut [0; 4])) {
            Err(TokenizerError::Encode(_)) => return Ok(false),
            ids => ids?,
        };
        Ok(!ids.is_empty() && !ids.iter().any(|id| Some(*id) == self.specials.unk))
    }

    /// Says whether a token is special, so that decoding leaves it out.
    pub fn is_special(&self, id: u32) -> bool {
        self.token(id)
            .is_some_and(|token| self.inner.get_added_vocabulary().is_special_token(&token))
    }

    /// Returns one more than the highest id.
    pub fn vocab(&self) -> usize {
        self.vocab
    }

    /// Returns the pipeline as the content of a `tokenizer.json`.
    ///
    /// **Errors:** a pipeline that cannot be written.
    pub fn to_json(&self) -> Result<String, TokenizerError> {
        self.inner
            .to_string(false)
            .map_err(|cause| TokenizerError::Encode(cause.to_string()))
    }

    /// Chooses the padding token for a model with `rows` embedding rows.
    pub fn pad_choice(&self, rows: usize) -> PadChoice {
        let differs = |id: &u32| Some(*id) != self.specials.eos;
        if let Some(own) = self.specials.pad.filter(differs) {
            PadChoice::Own(own)
        } else if let Some(unk) = self.specials.unk.filter(differs) {
            PadChoice::Unknown(unk)
        } else if rows > self.vocab() {
            PadChoice::Spare(self.vocab() as u32)
        } else {
            PadChoice::Grow
        }
    }

    /// Begins to decode a stream of ids, special tokens left out.
    pub fn stream(&self) -> StreamDecoder<'_> {
        StreamDecoder::new(self)
    }

    pub(crate) fn is_byte_level(&self) -> bool {
        self.byte_level
    }
}
