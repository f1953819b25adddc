//! Rebuilding a byte-level BPE tokenizer from GGUF metadata.
//!
//! Invariants: tokens are distinct, every merge joins tokens of the vocabulary, role ids lie in the vocabulary. Models
//! other than `gpt2` (SentencePiece, WordPiece) are refused: their files lack what an exact copy needs.

use std::collections::HashMap;
use std::path::Path;

use tokenizers::AddedToken;
use tokenizers::decoders::byte_level::ByteLevel;
use tokenizers::models::bpe::{BPE, Vocab};

use super::pretokenize::{find_label, known_labels};
use super::{Specials, Tokenizer, TokenizerError};
use crate::gguf::{GgufFile, Value};

const MODEL: &str = "tokenizer.ggml.model";
const PRE: &str = "tokenizer.ggml.pre";
const TOKENS: &str = "tokenizer.ggml.tokens";
const TYPES: &str = "tokenizer.ggml.token_type";
const MERGES: &str = "tokenizer.ggml.merges";

/// Kinds of tokens as `tokenizer.ggml.token_type` numbers them.
const UNKNOWN: u64 = 2;
const CONTROL: u64 = 3;
const USER_DEFINED: u64 = 4;

struct Reader<'a> {
    file: &'a GgufFile,
}

impl<'a> Reader<'a> {
    fn path(&self) -> &'a Path {
        self.file.path()
    }

    fn missing(&self, key: &'static str) -> TokenizerError {
        TokenizerError::GgufMissing {
            path: self.path().to_owned(),
            key,
        }
    }

    fn wrong(&self, key: &'static str, found: impl ToString, expected: impl Into<String>) -> TokenizerError {
        TokenizerError::GgufValue {
            path: self.path().to_owned(),
            key,
            found: found.to_string(),
            expected: expected.into(),
        }
    }

    fn text(&self, key: &'static str) -> Result<&'a str, TokenizerError> {
        let value = self.file.value(key).ok_or_else(|| self.missing(key))?;
        value
            .as_str()
            .ok_or_else(|| self.wrong(key, format!("{value:?}"), "a text"))
    }

    fn texts(&self, key: &'static str) -> Result<Vec<&'a str>, TokenizerError> {
        let value = self.file.value(key).ok_or_else(|| self.missing(key))?;
        let list = value
            .as_array()
            .and_then(|list| list.iter().map(Value::as_str).collect());
        list.ok_or_else(|| self.wrong(key, "something else", "a list of texts"))
    }

    fn id(&self, key: &'static str, vocab: usize) -> Result<Option<u32>, TokenizerError> {
        let Some(value) = self.file.value(key) else {
            return Ok(None);
        };
        match value.as_u64() {
            Some(id) if id < vocab as u64 => Ok(Some(id as u32)),
            _ => Err(self.wrong(key, format!("{value:?}"), format!("an id below {vocab}"))),
        }
    }

    fn vocabulary(&self) -> Result<Vec<&'a str>, TokenizerError> {
        let tokens = self.texts(TOKENS)?;
        let mut seen: HashMap<&str, usize> = HashMap::with_capacity(tokens.len());
        for (index, token) in tokens.iter().enumerate() {
            if let Some(first) = seen.insert(token, index) {
                return Err(TokenizerError::DuplicateToken {
                    path: self.path().to_owned(),
                    first,
                    second: index,
                    token: (*token).to_owned(),
                });
            }
        }
        Ok(tokens)
    }

    /// The merges, each checked: the library trusts them.
    fn merges(&self, vocab: &HashMap<&str, u32>) -> Result<Vec<(String, String)>, TokenizerError> {
        let mut merges = Vec::new();
        for (index, merge) in self.texts(MERGES)?.into_iter().enumerate() {
            let pair = merge.split_once(' ').filter(|(left, right)| {
                let joined = format!("{left}{right}");
                vocab.contains_key(left) && vocab.contains_key(right) && vocab.contains_key(joined.as_str())
            });
            let (left, right) = pair.ok_or_else(|| TokenizerError::Merge {
                path: self.path().to_owned(),
                index,
                merge: merge.to_owned(),
            })?;
            merges.push((left.to_owned(), right.to_owned()));
        }
        Ok(merges)
    }

    fn added(&self, tokens: &[&str]) -> Result<Vec<AddedToken>, TokenizerError> {
        let value = self.file.value(TYPES).ok_or_else(|| self.missing(TYPES))?;
        let types: Option<Vec<u64>> = value
            .as_array()
            .and_then(|list| list.iter().map(Value::as_u64).collect());
        let types = types.filter(|types| types.len() == tokens.len());
        let expected = || format!("{} whole numbers, one per token", tokens.len());
        let types = types.ok_or_else(|| self.wrong(TYPES, "something else", expected()))?;
        let mut added = Vec::new();
        for (token, kind) in tokens.iter().zip(types) {
            match kind {
                // An empty text would match everywhere.
                _ if token.is_empty() => {}
                UNKNOWN | CONTROL => added.push(AddedToken::from(*token, true)),
                USER_DEFINED => added.push(AddedToken::from(*token, false).normalized(false)),
                _ => {}
            }
        }
        Ok(added)
    }

    fn specials(&self, vocab: usize, adds_bos: bool) -> Result<Specials, TokenizerError> {
        let stated = self.file.value("tokenizer.ggml.add_bos_token").and_then(Value::as_bool);
        let bos = self.id("tokenizer.ggml.bos_token_id", vocab)?;
        Ok(Specials {
            bos,
            eos: self.id("tokenizer.ggml.eos_token_id", vocab)?,
            pad: self.id("tokenizer.ggml.padding_token_id", vocab)?,
            unk: self.id("tokenizer.ggml.unknown_token_id", vocab)?,
            add_bos: stated.unwrap_or(adds_bos) && bos.is_some(),
        })
    }
}

/// Rebuilds the tokenizer of a GGUF file.
///
/// **Errors:** another model than byte-level BPE, an unknown pre-tokenizer label, tokens or merges that contradict
/// each other. **Cost:** tens of milliseconds for 50,000 tokens.
pub fn tokenizer_from_gguf(file: &GgufFile) -> Result<Tokenizer, TokenizerError> {
    let reader = Reader { file };
    let model = reader.text(MODEL)?;
    if model != "gpt2" {
        return Err(reader.wrong(MODEL, model, "gpt2 (byte-level BPE)"));
    }
    let name = reader.text(PRE)?;
    let label =
        find_label(name).ok_or_else(|| reader.wrong(PRE, name, format!("one of {}", known_labels().join(", "))))?;
    let tokens = reader.vocabulary()?;
    let by_text: HashMap<&str, u32> = tokens
        .iter()
        .enumerate()
        .map(|(id, token)| (*token, id as u32))
        .collect();
    let merges = reader.merges(&by_text)?;
    let added = reader.added(&tokens)?;
    let specials = reader.specials(tokens.len(), label.adds_bos)?;
    let invalid = |cause: tokenizers::Error| TokenizerError::Invalid {
        path: reader.path().to_owned(),
        cause: cause.to_string(),
    };
    let vocab: Vocab = by_text.iter().map(|(token, id)| ((*token).to_owned(), *id)).collect();
    let builder = BPE::builder()
        .vocab_and_merges(vocab, merges)
        .ignore_merges(label.ignore_merges);
    let mut inner = tokenizers::Tokenizer::new(builder.build().map_err(invalid)?);
    inner.with_normalizer(label.normalizer()).map_err(invalid)?;
    inner.with_pre_tokenizer(Some(label.pre_tokenizer().map_err(invalid)?));
    inner.with_decoder(Some(ByteLevel::default()));
    let (special, plain): (Vec<_>, Vec<_>) = added.into_iter().partition(|token| token.special);
    inner.add_special_tokens(special).map_err(invalid)?;
    inner.add_tokens(plain).map_err(invalid)?;
    Ok(Tokenizer::new(inner, specials))
}
