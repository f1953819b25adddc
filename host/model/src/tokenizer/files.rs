//! The tokenizer files of a model directory: `tokenizer.json`, `tokenizer_config.json`, `chat_template.jinja`,
//! `special_tokens_map.json`, `generation_config.json`, and `config.json` for role ids that nothing else names.
//!
//! Invariants: every file has a size limit; `tokenizer.json` is checked for what the library would trust blindly.
//! Precedence is that of the reference: `chat_template.jinja` over the configuration's template.

use std::path::{Path, PathBuf};
use std::time::Duration;

use dlm_files::DiskError;
use serde_json::{Map, Value};
use tokenizers::ModelWrapper;

use super::check::check;
use super::{Specials, Tokenizer, TokenizerError};
use crate::foreign::{self, Allowance};

/// The file that holds a chat template and nothing else.
pub const TEMPLATE_FILE: &str = "chat_template.jinja";

/// Bytes of `tokenizer.json`; the largest published ones have about 35 MB.
const TOKENIZER_BYTES_MAX: u64 = 128 << 20;
/// Bytes of the small files.
const SETTINGS_BYTES_MAX: u64 = 16 << 20;

/// Reading the largest published tokenizer takes a tenth of it.
const READING: Allowance = Allowance {
    what: "the tokenizer",
    bytes: 4 << 30,
    time: Duration::from_secs(120),
};

/// What a directory says about text.
#[derive(Debug)]
pub struct TokenizerFiles {
    pub tokenizer: Tokenizer,
    /// The template's source and the file that it came from.
    pub chat_template: Option<(String, PathBuf)>,
    /// Every id that ends a generation according to the directory.
    pub eos_ids: Vec<u32>,
}

/// Reads a file whole; `None` when there is none.
fn read_optional(path: &Path, max: u64) -> Result<Option<Vec<u8>>, TokenizerError> {
    dlm_files::read(path, max).map_err(|error| match error {
        DiskError::TooLarge {
            path,
            found_bytes,
            limit_bytes,
        } => TokenizerError::TooLarge {
            path,
            bytes: found_bytes,
            max: limit_bytes,
        },
        error => TokenizerError::Io {
            path: path.to_owned(),
            cause: error.into_io(),
        },
    })
}

fn invalid(path: &Path, cause: impl ToString) -> TokenizerError {
    TokenizerError::Invalid {
        path: path.to_owned(),
        cause: cause.to_string(),
    }
}

/// Reads a small JSON object; an absent file is an empty one.
fn read_object(path: &Path) -> Result<Map<String, Value>, TokenizerError> {
    let Some(content) = read_optional(path, SETTINGS_BYTES_MAX)? else {
        return Ok(Map::new());
    };
    serde_json::from_slice(&content).map_err(|cause| TokenizerError::Json {
        path: path.to_owned(),
        cause,
    })
}

fn read_pipeline(dir: &Path) -> Result<tokenizers::Tokenizer, TokenizerError> {
    let path = dir.join("tokenizer.json");
    let Some(content) = read_optional(&path, TOKENIZER_BYTES_MAX)? else {
        return Err(TokenizerError::NoTokenizer {
            path: dir.to_owned(),
            sentencepiece: dir.join("tokenizer.model").exists(),
        });
    };
    let value: Value = serde_json::from_slice(&content).map_err(|cause| TokenizerError::Json {
        path: path.clone(),
        cause,
    })?;
    check(&value).map_err(|cause| invalid(&path, cause))?;
    drop(value);
    let read = foreign::here(READING, || tokenizers::Tokenizer::from_bytes(&content));
    let read = read.map_err(|cause| invalid(&path, cause))?;
    let mut inner = read.map_err(|cause| invalid(&path, cause))?;
    // Rows and prompts have limits of their own; a file may not cut or pad them.
    inner.with_truncation(None).map_err(|cause| invalid(&path, cause))?;
    inner.with_padding(None);
    // One text has one encoding: merges left out at random belong to the training of the vocabulary.
    if let ModelWrapper::BPE(model) = inner.get_model()
        && model.dropout.is_some()
    {
        let mut exact = model.clone();
        exact.dropout = None;
        inner.with_model(exact);
    }
    Ok(inner)
}

/// The text of a token setting, written plainly or as an object with `content`.
fn token_text(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value.get("content").and_then(Value::as_str))
}

fn id_list(value: Option<&Value>) -> Vec<u32> {
    let one = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    match value {
        Some(Value::Array(list)) => list.iter().filter_map(one).collect(),
        Some(value) => one(value).into_iter().collect(),
        None => Vec::new(),
    }
}

struct Settings {
    tokenizer: Map<String, Value>,
    specials: Map<String, Value>,
    generation: Map<String, Value>,
    model: Map<String, Value>,
}

impl Settings {
    fn read(dir: &Path) -> Result<Self, TokenizerError> {
        Ok(Self {
            tokenizer: read_object(&dir.join("tokenizer_config.json"))?,
            specials: read_object(&dir.join("special_tokens_map.json"))?,
            generation: read_object(&dir.join("generation_config.json"))?,
            model: read_object(&dir.join("config.json"))?,
        })
    }

    /// A role's id: the tokenizer's word first, then the ids of the model's settings.
    fn role(&self, inner: &tokenizers::Tokenizer, name: &str) -> Option<u32> {
        let key = format!("{name}_token");
        if let Some(value) = self.tokenizer.get(&key) {
            // An explicit null says that there is none.
            return token_text(value).and_then(|text| inner.token_to_id(text));
        }
        if let Some(text) = self.specials.get(&key).and_then(token_text) {
            return inner.token_to_id(text);
        }
        let id = id_list(self.model.get(&format!("{name}_token_id"))).first().copied()?;
        inner.id_to_token(id).map(|_| id)
    }

    fn add_bos(&self, inner: &tokenizers::Tokenizer, bos: Option<u32>) -> Result<bool, tokenizers::Error> {
        let Some(bos) = bos else {
            return Ok(false);
        };
        if let Some(stated) = self.tokenizer.get("add_bos_token").and_then(Value::as_bool) {
            return Ok(stated);
        }
        let encoded = foreign::here(READING, || inner.encode_fast("", true))??;
        Ok(encoded.get_ids().first() == Some(&bos))
    }
}

/// The chat template that stands in a file of its own, and that file.
pub(crate) fn template_file(dir: &Path) -> Result<Option<(String, PathBuf)>, TokenizerError> {
    let file = dir.join(TEMPLATE_FILE);
    let Some(content) = read_optional(&file, SETTINGS_BYTES_MAX)? else {
        return Ok(None);
    };
    let text = String::from_utf8(content).map_err(|_| invalid(&file, "it is not UTF-8"))?;
    Ok(Some((text, file)))
}

fn chat_template(dir: &Path, settings: &Settings) -> Result<Option<(String, PathBuf)>, TokenizerError> {
    if let Some(found) = template_file(dir)? {
        return Ok(Some(found));
    }
    let path = dir.join("tokenizer_config.json");
    let text = match settings.tokenizer.get("chat_template") {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(text.clone()),
        Some(Value::Array(named)) => {
            let is_default = |entry: &&Value| entry.get("name").and_then(Value::as_str) == Some("default");
            let entry = named.iter().find(is_default);
            let text = entry.and_then(|entry| entry.get("template")).and_then(Value::as_str);
            Some(
                text.ok_or_else(|| invalid(&path, "its list of chat templates has no `default`"))?
                    .to_owned(),
            )
        }
        Some(_) => return Err(invalid(&path, "`chat_template` is neither a text nor a list")),
    };
    Ok(text.map(|text| (text, path)))
}

/// Reads the tokenizer files of a directory.
///
/// **Errors:** no `tokenizer.json`, or a file that cannot be read or contradicts itself.
pub fn read_tokenizer_dir(dir: &Path) -> Result<TokenizerFiles, TokenizerError> {
    let inner = read_pipeline(dir)?;
    let settings = Settings::read(dir)?;
    let bos = settings.role(&inner, "bos");
    let add_bos = settings
        .add_bos(&inner, bos)
        .map_err(|cause| invalid(&dir.join("tokenizer.json"), cause))?;
    let specials = Specials {
        bos,
        eos: settings.role(&inner, "eos"),
        pad: settings.role(&inner, "pad"),
        unk: settings.role(&inner, "unk"),
        add_bos,
    };
    let mut eos_ids: Vec<u32> = specials.eos.into_iter().collect();
    eos_ids.extend(id_list(settings.generation.get("eos_token_id")));
    eos_ids.extend(id_list(settings.model.get("eos_token_id")));
    eos_ids.retain(|id| inner.id_to_token(*id).is_some());
    eos_ids.sort_unstable();
    eos_ids.dedup();
    Ok(TokenizerFiles {
        chat_template: chat_template(dir, &settings)?,
        tokenizer: Tokenizer::new(inner, specials),
        eos_ids,
    })
}
