//! The keys below `tokenizer.ggml`, each with its type.
//!
//! Invariants: lists have one entry per token; an id that is returned lies in the vocabulary, one that does not is noted.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;

use tokenizers::AddedToken;

use crate::gguf::{GgufFile, Value};
use crate::tokenizer::{Specials, TokenizerError};

pub(super) const MODEL: &str = "tokenizer.ggml.model";
pub(super) const PRE: &str = "tokenizer.ggml.pre";
pub(super) const MERGES: &str = "tokenizer.ggml.merges";
const TOKENS: &str = "tokenizer.ggml.tokens";
const TYPES: &str = "tokenizer.ggml.token_type";
const SCORES: &str = "tokenizer.ggml.scores";

/// What a token is for, as `tokenizer.ggml.token_type` numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenType {
    /// A piece of text. Types that the format does not define count as this one, as in llama.cpp.
    Normal,
    Unknown,
    Control,
    UserDefined,
    /// A row of the embedding that no text reaches.
    Unused,
    /// One byte, written as `<0x0A>`.
    Byte,
}

impl TokenType {
    fn of(number: u64) -> TokenType {
        match number {
            2 => TokenType::Unknown,
            3 => TokenType::Control,
            4 => TokenType::UserDefined,
            5 => TokenType::Unused,
            6 => TokenType::Byte,
            _ => TokenType::Normal,
        }
    }
}

/// What a kind of vocabulary assumes when a file is silent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RoleDefaults {
    pub bos: Option<u32>,
    pub eos: Option<u32>,
    pub pad: Option<u32>,
    pub unk: Option<u32>,
    pub adds_bos: bool,
}

/// Typed access to the metadata of a file.
pub(super) struct Keys<'a> {
    pub file: &'a GgufFile,
    /// What was found and passed over.
    pub notes: RefCell<Vec<String>>,
}

impl<'a> Keys<'a> {
    pub(super) fn path(&self) -> &'a Path {
        self.file.path()
    }

    pub(super) fn invalid(&self, cause: impl ToString) -> TokenizerError {
        TokenizerError::Invalid {
            path: self.path().to_owned(),
            cause: cause.to_string(),
        }
    }

    pub(super) fn wrong(&self, key: &'static str, found: impl ToString, expected: impl Into<String>) -> TokenizerError {
        TokenizerError::GgufValue {
            path: self.path().to_owned(),
            key,
            found: found.to_string(),
            expected: expected.into(),
        }
    }

    fn value(&self, key: &'static str) -> Result<&'a Value, TokenizerError> {
        self.file.value(key).ok_or_else(|| TokenizerError::GgufMissing {
            path: self.path().to_owned(),
            key,
        })
    }

    pub(super) fn text(&self, key: &'static str) -> Result<&'a str, TokenizerError> {
        let value = self.value(key)?;
        value
            .as_str()
            .ok_or_else(|| self.wrong(key, format!("{value:?}"), "a text"))
    }

    pub(super) fn texts(&self, key: &'static str) -> Result<Vec<&'a str>, TokenizerError> {
        let list = self
            .value(key)?
            .as_array()
            .and_then(|list| list.iter().map(Value::as_str).collect());
        list.ok_or_else(|| self.wrong(key, "something else", "a list of texts"))
    }

    /// A truth value, or what stands for a missing one.
    pub(super) fn flag(&self, key: &'static str, default: bool) -> Result<bool, TokenizerError> {
        match self.file.value(key) {
            None => Ok(default),
            Some(value) => value
                .as_bool()
                .ok_or_else(|| self.wrong(key, format!("{value:?}"), "true or false")),
        }
    }

    /// The text of every token.
    pub(super) fn tokens(&self) -> Result<Vec<&'a str>, TokenizerError> {
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

    /// The type of each of `count` tokens.
    pub(super) fn types(&self, count: usize) -> Result<Vec<TokenType>, TokenizerError> {
        let numbers = self.value(TYPES)?.as_array();
        let types: Option<Vec<TokenType>> =
            numbers.and_then(|list| list.iter().map(|number| number.as_u64().map(TokenType::of)).collect());
        let expected = || format!("{count} whole numbers, one per token");
        types
            .filter(|types| types.len() == count)
            .ok_or_else(|| self.wrong(TYPES, "something else", expected()))
    }

    /// The score of each of `count` tokens; old files write whole numbers.
    pub(super) fn scores(&self, count: usize) -> Result<Vec<f32>, TokenizerError> {
        let number = |value: &Value| match *value {
            Value::F32(score) => Some(score),
            Value::I32(score) => Some(score as f32),
            _ => None,
        };
        let list = self.value(SCORES)?.as_array();
        let scores: Option<Vec<f32>> = list.and_then(|list| list.iter().map(number).collect());
        let expected = || format!("{count} finite numbers, one per token");
        scores
            .filter(|scores| scores.len() == count && scores.iter().all(|score| score.is_finite()))
            .ok_or_else(|| self.wrong(SCORES, "something else", expected()))
    }

    /// The bytes of a list, empty when there is none.
    pub(super) fn bytes(&self, key: &'static str) -> Result<Vec<u8>, TokenizerError> {
        let Some(value) = self.file.value(key) else {
            return Ok(Vec::new());
        };
        let byte = |value: &Value| match *value {
            Value::U8(byte) => Some(byte),
            // Some converters write bytes with a sign.
            Value::I8(byte) => Some(byte as u8),
            _ => None,
        };
        let bytes = value.as_array().and_then(|list| list.iter().map(byte).collect());
        bytes.ok_or_else(|| self.wrong(key, "something else", "a list of bytes"))
    }

    fn id(&self, key: &'static str, vocab: usize) -> Result<Option<u32>, TokenizerError> {
        let Some(value) = self.file.value(key) else {
            return Ok(None);
        };
        let number = value
            .as_number()
            .filter(|_| value.as_f64().is_none())
            .ok_or_else(|| self.wrong(key, format!("{value:?}"), "a whole number"))?;
        match value.as_u64().filter(|id| *id < vocab as u64) {
            Some(id) => Ok(Some(id as u32)),
            // The role is then played by no token, or by the usual one; every text still has its ids.
            // **Source:** llama.cpp's `llama_vocab::impl::load`, which warns.
            None => {
                let note = format!("`{key}` is {number}, the vocabulary has {vocab} tokens: it is passed over");
                self.notes.borrow_mut().push(note);
                Ok(None)
            }
        }
    }

    /// The tokens with a role in a vocabulary of `vocab` tokens.
    pub(super) fn specials(&self, vocab: usize, defaults: RoleDefaults) -> Result<Specials, TokenizerError> {
        let stated = self.file.value("tokenizer.ggml.add_bos_token").and_then(Value::as_bool);
        let role = |key, default: Option<u32>| -> Result<Option<u32>, TokenizerError> {
            let default = default.filter(|id| (*id as usize) < vocab);
            Ok(self.id(key, vocab)?.or(default))
        };
        let bos = role("tokenizer.ggml.bos_token_id", defaults.bos)?;
        Ok(Specials {
            bos,
            eos: role("tokenizer.ggml.eos_token_id", defaults.eos)?,
            pad: role("tokenizer.ggml.padding_token_id", defaults.pad)?,
            unk: role("tokenizer.ggml.unknown_token_id", defaults.unk)?,
            add_bos: stated.unwrap_or(defaults.adds_bos) && bos.is_some(),
        })
    }

    /// Adds the tokens that are found in text before anything else is: control tokens, the unknown one, the user's own.
    pub(super) fn add_tokens(
        &self,
        inner: &mut tokenizers::Tokenizer,
        tokens: &[impl AsRef<str>],
        types: &[TokenType],
        strips_right: impl Fn(&str) -> bool,
    ) -> Result<(), TokenizerError> {
        let added = tokens.iter().zip(types).filter_map(|(token, kind)| {
            let token = token.as_ref();
            let special = match kind {
                // An empty text would match everywhere.
                _ if token.is_empty() => return None,
                TokenType::Unknown | TokenType::Control => true,
                TokenType::UserDefined => false,
                _ => return None,
            };
            let added = AddedToken::from(token, special).normalized(false);
            Some(added.rstrip(strips_right(token)))
        });
        let (special, plain): (Vec<_>, Vec<_>) = added.partition(|token| token.special);
        inner.add_special_tokens(special).map_err(|cause| self.invalid(cause))?;
        inner.add_tokens(plain).map_err(|cause| self.invalid(cause))?;
        Ok(())
    }
}
