//! The tokenizer as GGUF metadata.
//!
//! Invariants: one text and one type per embedding row; what the format has no key for is refused or noted. Byte-level BPE
//! is written as merges and a label (`label`), SentencePiece as pieces with scores (`pieces`).
//! **Source:** `spec/export.md` section 6 (tokenizer keys).

mod label;
mod pieces;

use dlm_model::gguf::Value;
use dlm_model::tokenizer::Tokenizer;
use serde_json::Value as Json;

use crate::error::ExportError;
use crate::metadata::Keys;
use pieces::{Prefix, SPACE_MARK, Spaces};

/// The score of tokens that no text reaches by way of pieces.
const SCORE_ADDED: f32 = -1000.0;

/// How a vocabulary cuts text, by the format's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VocabularyModel {
    /// Byte-level BPE, `gpt2`.
    ByteLevel,
    /// SentencePiece BPE, `llama`.
    Pieces,
    /// Unigram, `t5`.
    Unigram,
}

impl VocabularyModel {
    const fn name(self) -> &'static str {
        match self {
            VocabularyModel::ByteLevel => "gpt2",
            VocabularyModel::Pieces => "llama",
            VocabularyModel::Unigram => "t5",
        }
    }
}

/// What a token is for, with the format's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenType {
    Normal = 1,
    Unknown = 2,
    Control = 3,
    UserDefined = 4,
    Unused = 5,
    Byte = 6,
}

/// Everything that `tokenizer.ggml.*` says.
#[derive(Clone, Debug, PartialEq)]
pub struct Vocabulary {
    pub model: VocabularyModel,
    /// The pre-tokenizer's label.
    pub pre: &'static str,
    /// One text per embedding row.
    pub tokens: Vec<String>,
    /// One type per embedding row.
    pub types: Vec<TokenType>,
    /// One score per embedding row, SentencePiece only.
    pub scores: Vec<f32>,
    /// `left right` pairs, byte-level BPE only.
    pub merges: Vec<String>,
    pub bos: Option<u32>,
    pub eos: Option<u32>,
    pub pad: Option<u32>,
    pub unk: Option<u32>,
    /// Ends a turn, where that is not `eos`.
    pub eot: Option<u32>,
    pub add_bos: bool,
    pub add_eos: bool,
    pub add_space_prefix: bool,
    /// Runs of spaces become one, Unigram only.
    pub remove_extra_whitespaces: bool,
    /// SentencePiece's compiled map of characters, Unigram only; empty for none.
    pub charsmap: Vec<u8>,
    /// Special tokens take the spaces after them, as Phi-3's do; runtimes know it by the model's name alone.
    pub strips_as_phi3: bool,
    /// What other programs do otherwise with such a vocabulary.
    pub notes: Vec<String>,
}

fn fail(cause: impl Into<String>) -> ExportError {
    ExportError::Tokenizer { cause: cause.into() }
}

fn text<'a>(value: &'a Json, key: &str) -> &'a str {
    value.get(key).and_then(Json::as_str).unwrap_or("")
}

fn flag(value: &Json, key: &str) -> bool {
    value.get(key).and_then(Json::as_bool).unwrap_or(false)
}

fn list<'a>(value: &'a Json, key: &str) -> &'a [Json] {
    value.get(key).and_then(Json::as_array).map_or(&[], Vec::as_slice)
}

/// The steps of a `Sequence`, or the one step that there is.
fn steps<'a>(value: &'a Json, key: &str) -> Vec<&'a Json> {
    match value.get(key).and_then(Json::as_array) {
        Some(list) => list.iter().collect(),
        None if value.is_null() => Vec::new(),
        None => vec![value],
    }
}

fn merges(model: &Json) -> Result<Vec<(&str, &str)>, ExportError> {
    let list = model
        .get("merges")
        .and_then(Json::as_array)
        .ok_or_else(|| fail("its model has no merges"))?;
    list.iter()
        .map(|merge| match merge {
            Json::String(both) => both.split_once(' '),
            Json::Array(pair) => match pair.as_slice() {
                [left, right] => left.as_str().zip(right.as_str()),
                _ => None,
            },
            _ => None,
        })
        .collect::<Option<Vec<_>>>()
        .ok_or_else(|| fail("a merge is no pair of tokens"))
}

/// Tells the kinds of models apart.
fn model_of(model: &Json) -> Result<VocabularyModel, ExportError> {
    match text(model, "type") {
        "BPE" if flag(model, "byte_fallback") => Ok(VocabularyModel::Pieces),
        "BPE" => Ok(VocabularyModel::ByteLevel),
        "Unigram" => Ok(VocabularyModel::Unigram),
        other => Err(fail(format!("its model is `{other}`, expected BPE or Unigram"))),
    }
}

impl Vocabulary {
    /// Reads the tables out of a tokenizer, for a model with `rows` embedding rows.
    ///
    /// **Errors:** a model other than BPE and Unigram, a step that the format has no key for, a pre-tokenizer without a
    /// label, ids beyond the rows.
    pub fn new(tokenizer: &Tokenizer, rows: usize) -> Result<Vocabulary, ExportError> {
        let json = tokenizer.to_json().map_err(|cause| fail(cause.to_string()))?;
        let pipeline: Json = serde_json::from_str(&json).map_err(|cause| fail(cause.to_string()))?;
        let model = model_of(&pipeline["model"])?;
        let specials = &tokenizer.specials;
        let mut vocabulary = Vocabulary {
            model,
            pre: match model {
                VocabularyModel::ByteLevel => label::label(&pipeline, specials.add_bos)?,
                _ => "default",
            },
            tokens: (0..rows).map(|id| format!("[PAD{id}]")).collect(),
            types: vec![TokenType::Unused; rows],
            scores: Vec::new(),
            merges: Vec::new(),
            bos: specials.bos,
            eos: specials.eos,
            pad: specials.pad,
            unk: specials.unk,
            eot: None,
            add_bos: specials.add_bos,
            add_eos: false,
            add_space_prefix: false,
            remove_extra_whitespaces: false,
            charsmap: Vec::new(),
            strips_as_phi3: false,
            notes: Vec::new(),
        };
        match model {
            VocabularyModel::ByteLevel => vocabulary.byte_level(&pipeline)?,
            VocabularyModel::Pieces => vocabulary.pieces(&pipeline)?,
            VocabularyModel::Unigram => vocabulary.unigram(&pipeline)?,
        }
        Ok(vocabulary)
    }

    fn byte_level(&mut self, pipeline: &Json) -> Result<(), ExportError> {
        let model = &pipeline["model"];
        self.own_tokens(&pairs(model)?, None)?;
        self.added_tokens(pipeline, None)?;
        for (left, right) in merges(model)? {
            if left.contains(' ') || right.contains(' ') {
                return Err(fail(format!("merge `{left}` + `{right}` holds a space")));
            }
            self.merges.push(format!("{left} {right}"));
        }
        Ok(())
    }

    fn pieces(&mut self, pipeline: &Json) -> Result<(), ExportError> {
        let model = &pipeline["model"];
        let spaces = Spaces::of(pipeline)?;
        if spaces.merges_runs || !spaces.charsmap.is_empty() {
            return Err(fail(
                "it changes text before it cuts it, which a file with merged pieces cannot say",
            ));
        }
        self.spaces(spaces);
        let unknown = Some(text(model, "unk_token"));
        self.own_tokens(&pairs(model)?, unknown)?;
        self.added_tokens(pipeline, unknown)?;
        self.scores = pieces::scores(&self.tokens, &self.types, &merges(model)?);
        self.strips_as_phi3 = pieces::strips_as_phi3(pipeline);
        Ok(())
    }

    fn unigram(&mut self, pipeline: &Json) -> Result<(), ExportError> {
        let model = &pipeline["model"];
        self.spaces(Spaces::of(pipeline)?);
        let scored = list(model, "vocab").iter().map(|entry| {
            let pair = entry.as_array().map(Vec::as_slice);
            match pair {
                Some([token, score]) => token.as_str().zip(score.as_f64()),
                _ => None,
            }
        });
        let scored: Vec<(&str, f64)> = scored
            .collect::<Option<_>>()
            .ok_or_else(|| fail("its vocabulary is no list of pieces and scores"))?;
        let unknown = model.get("unk_id").and_then(Json::as_u64);
        let unknown = unknown.and_then(|id| Some(scored.get(usize::try_from(id).ok()?)?.0));
        let own: Vec<(&str, u64)> = scored.iter().zip(0..).map(|((token, _), id)| (*token, id)).collect();
        self.own_tokens(&own, Some(unknown.unwrap_or("")))?;
        self.added_tokens(pipeline, Some(unknown.unwrap_or("")))?;
        self.scores = vec![SCORE_ADDED; self.tokens.len()];
        for (place, (_, score)) in self.scores.iter_mut().zip(&scored) {
            *place = *score as f32;
        }
        if flag(model, "byte_fallback") {
            self.notes.push(
                "characters that the vocabulary lacks are bytes to this model; llama.cpp may read the unknown token"
                    .to_owned(),
            );
        }
        Ok(())
    }

    fn spaces(&mut self, spaces: Spaces) {
        self.add_space_prefix = spaces.prefix == Prefix::Always;
        self.remove_extra_whitespaces = spaces.merges_runs;
        self.charsmap = spaces.charsmap;
        if spaces.prefix == Prefix::First {
            // Prompts begin with a special token, and text behind one has no space of its own here.
            self.notes.push(
                "plain text without a special token before it begins with a space for this model; llama.cpp leaves it out"
                    .to_owned(),
            );
        }
    }

    fn set(&mut self, id: u64, token: &str, kind: TokenType) -> Result<(), ExportError> {
        let rows = self.tokens.len();
        let at = usize::try_from(id).ok().filter(|id| *id < rows);
        let at = at.ok_or_else(|| {
            fail(format!(
                "token `{token}` has id {id}, but the embedding has {rows} rows"
            ))
        })?;
        token.clone_into(&mut self.tokens[at]);
        self.types[at] = kind;
        Ok(())
    }

    /// Takes over the model's own tokens; SentencePiece (`unknown` given) has some with a meaning.
    fn own_tokens(&mut self, tokens: &[(&str, u64)], unknown: Option<&str>) -> Result<(), ExportError> {
        for (token, id) in tokens {
            let is_byte = token.len() == 6 && token.starts_with("<0x") && token.ends_with('>');
            let kind = match unknown {
                Some(_) if is_byte => TokenType::Byte,
                Some(unknown) if *token == unknown => TokenType::Unknown,
                _ => TokenType::Normal,
            };
            self.set(*id, token, kind)?;
        }
        Ok(())
    }

    fn added_tokens(&mut self, pipeline: &Json, unknown: Option<&str>) -> Result<(), ExportError> {
        for added in list(pipeline, "added_tokens") {
            let token = text(added, "content");
            let id = added
                .get("id")
                .and_then(Json::as_u64)
                .ok_or_else(|| fail("an added token has no id"))?;
            let condition = ["single_word", "lstrip", "rstrip"]
                .into_iter()
                .find(|key| flag(added, key));
            if let Some(condition) = condition.filter(|_| !flag(added, "special") && !pieces::strips_as_phi3(pipeline))
            {
                // Runtimes find the user's own tokens anywhere in the text, and take nothing around them.
                return Err(fail(format!(
                    "its added token `{token}` has `{condition}`, for which there is no GGUF key"
                )));
            }
            match (unknown, flag(added, "special")) {
                (Some(unknown), _) if token == unknown => self.set(id, token, TokenType::Unknown)?,
                // Runtimes look for the user's own tokens in the text as it stands.
                (Some(_), false) => self.set(id, &token.replace(SPACE_MARK, " "), TokenType::UserDefined)?,
                (None, false) => self.set(id, token, TokenType::UserDefined)?,
                (_, true) => self.set(id, token, TokenType::Control)?,
            }
        }
        Ok(())
    }

    /// Returns the metadata, with the chat template if there is one.
    pub fn metadata(&self, chat_template: Option<&str>) -> Vec<(String, Value)> {
        let mut keys = Keys::new("tokenizer.ggml");
        let texts = |list: &[String]| Value::Array(list.iter().cloned().map(Value::String).collect());
        keys.text("model", self.model.name());
        keys.text("pre", self.pre);
        keys.put("tokens", texts(&self.tokens));
        if !self.scores.is_empty() {
            keys.put(
                "scores",
                Value::Array(self.scores.iter().copied().map(Value::F32).collect()),
            );
        }
        keys.put(
            "token_type",
            Value::Array(self.types.iter().map(|kind| Value::I32(*kind as i32)).collect()),
        );
        if self.model == VocabularyModel::ByteLevel {
            keys.put("merges", texts(&self.merges));
        }
        let roles = [
            ("bos_token_id", self.bos),
            ("eos_token_id", self.eos),
            ("padding_token_id", self.pad),
            ("unknown_token_id", self.unk),
            ("eot_token_id", self.eot),
        ];
        for (key, id) in roles {
            if let Some(id) = id {
                keys.put(key, Value::U32(id));
            }
        }
        keys.put("add_bos_token", Value::Bool(self.add_bos));
        keys.put("add_eos_token", Value::Bool(self.add_eos));
        keys.put("add_space_prefix", Value::Bool(self.add_space_prefix));
        if self.model == VocabularyModel::Unigram {
            keys.put("remove_extra_whitespaces", Value::Bool(self.remove_extra_whitespaces));
        }
        if !self.charsmap.is_empty() {
            let bytes = self.charsmap.iter().copied().map(Value::U8).collect();
            keys.put("precompiled_charsmap", Value::Array(bytes));
        }
        let template = chat_template.map(|text| ("tokenizer.chat_template".to_owned(), Value::String(text.to_owned())));
        keys.list.extend(template);
        keys.list
    }
}

/// Tokens and ids of a BPE vocabulary.
fn pairs(model: &Json) -> Result<Vec<(&str, u64)>, ExportError> {
    let vocab = model
        .get("vocab")
        .and_then(Json::as_object)
        .ok_or_else(|| fail("its model has no vocabulary"))?;
    let number = |token: &str, id: &Json| {
        id.as_u64()
            .ok_or_else(|| fail(format!("the id of token `{token}` is no number")))
    };
    vocab
        .iter()
        .map(|(token, id)| Ok((token.as_str(), number(token, id)?)))
        .collect()
}
