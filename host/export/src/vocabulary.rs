//! The tokenizer as GGUF metadata.
//!
//! Invariants: one text and one type per embedding row; the pre-tokenizer's label is worked out from its structure, and a
//! structure without a label is refused: a wrong label gives a model that loads and talks nonsense.
//! **Source:** `spec/export.md` section 6 (tokenizer keys), `spec/bases.md` section 4 (labels).

use std::collections::HashMap;

use dlm_model::gguf::Value;
use dlm_model::tokenizer::Tokenizer;
use serde_json::Value as Json;

use crate::error::ExportError;
use crate::metadata::Keys;

const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;
const BYTE: i32 = 6;
/// The score of tokens that no merge makes.
const SCORE_ADDED: f32 = -1000.0;
/// What SentencePiece writes for a space.
const SPACE_MARK: char = '\u{2581}';

/// Contractions, words, up to three digits, punctuation, line ends, blanks (the cl100k pattern).
const CL100K: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// The same with every digit alone.
const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Begins the patterns that split words where lower case turns upper.
const CASED_START: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+";

/// Everything that `tokenizer.ggml.*` says.
#[derive(Clone, Debug, PartialEq)]
pub struct Vocabulary {
    /// `gpt2` (byte-level BPE) or `llama` (SentencePiece BPE).
    pub model: &'static str,
    /// The pre-tokenizer's label.
    pub pre: &'static str,
    /// One text per embedding row.
    pub tokens: Vec<String>,
    /// One kind per embedding row.
    pub types: Vec<i32>,
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

/// The steps of a `Sequence`, or the one step that there is.
fn steps<'a>(value: &'a Json, key: &str) -> Vec<&'a Json> {
    match value.get(key).and_then(Json::as_array) {
        Some(list) => list.iter().collect(),
        None if value.is_null() => Vec::new(),
        None => vec![value],
    }
}

/// Names the pre-tokenizer of a byte-level BPE pipeline.
fn label(pipeline: &Json, add_bos: bool) -> Result<&'static str, ExportError> {
    let pre = pipeline.get("pre_tokenizer").unwrap_or(&Json::Null);
    let steps = steps(pre, "pretokenizers");
    let kinds: Vec<&str> = steps.iter().map(|step| text(step, "type")).collect();
    let ignore_merges = flag(&pipeline["model"], "ignore_merges");
    let unknown = || fail(format!("its pre-tokenizer ({}) has no GGUF label", kinds.join(", ")));
    match kinds.as_slice() {
        ["ByteLevel"] if flag(steps[0], "use_regex") => Ok("gpt-2"),
        ["Digits", "ByteLevel"] if flag(steps[0], "individual_digits") && flag(steps[1], "use_regex") => Ok("smollm"),
        ["Split", "ByteLevel"] if !flag(steps[1], "use_regex") => {
            let pattern = steps[0].get("pattern").map_or("", |pattern| text(pattern, "Regex"));
            match pattern {
                CL100K if !ignore_merges => Ok("dbrx"),
                CL100K if add_bos => Ok("llama-bpe"),
                CL100K => Ok("smaug-bpe"),
                QWEN2 => Ok("qwen2"),
                _ if pattern.starts_with(CASED_START) && pattern.contains(r"\p{N}{1,3}") => Ok("gpt-4o"),
                _ if pattern.starts_with(CASED_START) && ignore_merges => Ok("tekken"),
                _ => Err(unknown()),
            }
        }
        _ => Err(unknown()),
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

impl Vocabulary {
    /// Reads the tables out of a tokenizer, for a model with `rows` embedding rows.
    ///
    /// **Errors:** a model other than BPE, a pre-tokenizer without a label, ids beyond the rows.
    pub fn new(tokenizer: &Tokenizer, rows: usize) -> Result<Vocabulary, ExportError> {
        let json = tokenizer.to_json().map_err(|cause| fail(cause.to_string()))?;
        let pipeline: Json = serde_json::from_str(&json).map_err(|cause| fail(cause.to_string()))?;
        let model = &pipeline["model"];
        if text(model, "type") != "BPE" {
            return Err(fail(format!("its model is `{}`, expected BPE", text(model, "type"))));
        }
        let sentencepiece = flag(model, "byte_fallback");
        let specials = &tokenizer.specials;
        let mut vocabulary = Vocabulary {
            model: if sentencepiece { "llama" } else { "gpt2" },
            pre: if sentencepiece {
                "default"
            } else {
                label(&pipeline, specials.add_bos)?
            },
            tokens: (0..rows).map(|id| format!("[PAD{id}]")).collect(),
            types: vec![UNUSED; rows],
            scores: Vec::new(),
            merges: Vec::new(),
            bos: specials.bos,
            eos: specials.eos,
            pad: specials.pad,
            unk: specials.unk,
            eot: None,
            add_bos: specials.add_bos,
            add_eos: false,
            add_space_prefix: sentencepiece && adds_space(&pipeline),
        };
        vocabulary.fill(&pipeline, sentencepiece)?;
        if sentencepiece {
            vocabulary.score(&merges(model)?);
        } else {
            for (left, right) in merges(model)? {
                if left.contains(' ') || right.contains(' ') {
                    return Err(fail(format!("merge `{left}` + `{right}` holds a space")));
                }
                vocabulary.merges.push(format!("{left} {right}"));
            }
        }
        Ok(vocabulary)
    }

    fn set(&mut self, id: u64, token: &str, kind: i32) -> Result<(), ExportError> {
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

    fn fill(&mut self, pipeline: &Json, sentencepiece: bool) -> Result<(), ExportError> {
        let model = &pipeline["model"];
        let vocab = model
            .get("vocab")
            .and_then(Json::as_object)
            .ok_or_else(|| fail("its model has no vocabulary"))?;
        let unknown = text(model, "unk_token");
        for (token, id) in vocab {
            let id = id
                .as_u64()
                .ok_or_else(|| fail(format!("the id of token `{token}` is no number")))?;
            let is_byte = token.len() == 6 && token.starts_with("<0x") && token.ends_with('>');
            let kind = match sentencepiece {
                true if is_byte => BYTE,
                true if token == unknown => UNKNOWN,
                _ => NORMAL,
            };
            self.set(id, token, kind)?;
        }
        for added in pipeline
            .get("added_tokens")
            .and_then(Json::as_array)
            .into_iter()
            .flatten()
        {
            let token = text(added, "content");
            let id = added
                .get("id")
                .and_then(Json::as_u64)
                .ok_or_else(|| fail("an added token has no id"))?;
            let special = flag(added, "special");
            if sentencepiece && token == unknown {
                self.set(id, token, UNKNOWN)?;
            } else if sentencepiece && !special {
                self.set(id, &token.replace(SPACE_MARK, " "), USER_DEFINED)?;
            } else {
                self.set(id, token, if special { CONTROL } else { USER_DEFINED })?;
            }
        }
        Ok(())
    }

    /// Gives every token that merges make the rank of its first merge, negated: runtimes join the highest score first.
    fn score(&mut self, merges: &[(&str, &str)]) {
        let mut ranks: HashMap<String, f32> = HashMap::with_capacity(merges.len());
        for (left, right) in merges {
            let next = -(ranks.len() as f32);
            ranks.entry(format!("{left}{right}")).or_insert(next);
        }
        let lowest = -(ranks.len() as f32);
        let scores = self.tokens.iter().zip(&self.types).map(|(token, kind)| match *kind {
            NORMAL => ranks.get(token).copied().unwrap_or(lowest),
            BYTE => 0.0,
            _ => SCORE_ADDED,
        });
        self.scores = scores.collect();
    }

    /// Returns the metadata, with the chat template if there is one.
    pub(crate) fn metadata(&self, chat_template: Option<&str>) -> Vec<(String, Value)> {
        let mut keys = Keys::new("tokenizer.ggml");
        let texts = |list: &[String]| Value::Array(list.iter().cloned().map(Value::String).collect());
        keys.text("model", self.model);
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
            Value::Array(self.types.iter().copied().map(Value::I32).collect()),
        );
        if self.model == "gpt2" {
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
        let template = chat_template.map(|text| ("tokenizer.chat_template".to_owned(), Value::String(text.to_owned())));
        keys.list.extend(template);
        keys.list
    }
}

/// Says whether a SentencePiece pipeline puts a space before the text.
fn adds_space(pipeline: &Json) -> bool {
    let normalizer = pipeline.get("normalizer").unwrap_or(&Json::Null);
    let pre = pipeline.get("pre_tokenizer").unwrap_or(&Json::Null);
    let prepends = steps(normalizer, "normalizers")
        .iter()
        .any(|step| text(step, "type") == "Prepend");
    let metaspace = steps(pre, "pretokenizers")
        .iter()
        .any(|step| text(step, "type") == "Metaspace" && text(step, "prepend_scheme") != "never");
    prepends || metaspace
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(pre: Json, ignore_merges: bool, add_bos: bool, expected: Option<&str>) {
        let pipeline = json!({"pre_tokenizer": pre, "model": {"ignore_merges": ignore_merges}});
        assert_eq!(label(&pipeline, add_bos).ok(), expected, "{pipeline}");
    }

    fn split(pattern: &str) -> Json {
        json!({"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated"},
            {"type": "ByteLevel", "use_regex": false}]})
    }

    #[test]
    fn labels_follow_the_structure() {
        check(
            json!({"type": "ByteLevel", "use_regex": true}),
            false,
            false,
            Some("gpt-2"),
        );
        let digits = json!({"type": "Sequence", "pretokenizers": [
            {"type": "Digits", "individual_digits": true}, {"type": "ByteLevel", "use_regex": true}]});
        check(digits, false, false, Some("smollm"));
        check(split(CL100K), true, true, Some("llama-bpe"));
        check(split(CL100K), true, false, Some("smaug-bpe"));
        check(split(CL100K), false, false, Some("dbrx"));
        check(split(QWEN2), false, false, Some("qwen2"));
        check(
            split(&format!(r"{CASED_START}|\p{{N}}{{1,3}}")),
            false,
            false,
            Some("gpt-4o"),
        );
        check(split(&format!(r"{CASED_START}|\p{{N}}| ")), true, true, Some("tekken"));
        check(split(r"\w+"), false, false, None);
        check(json!({"type": "Whitespace"}), false, false, None);
        check(Json::Null, false, false, None);
    }

    #[test]
    fn scores_follow_the_first_merge_of_a_token() {
        let mut vocabulary = Vocabulary {
            model: "llama",
            pre: "default",
            tokens: ["<unk>", "<0x0A>", "a", "b", "ab", "aab"].map(str::to_owned).to_vec(),
            types: vec![UNKNOWN, BYTE, NORMAL, NORMAL, NORMAL, NORMAL],
            scores: Vec::new(),
            merges: Vec::new(),
            bos: None,
            eos: None,
            pad: None,
            unk: Some(0),
            eot: None,
            add_bos: true,
            add_eos: false,
            add_space_prefix: true,
        };
        vocabulary.score(&[("a", "b"), ("a", "ab"), ("aa", "b")]);
        assert_eq!(vocabulary.scores, [-1000.0, 0.0, -2.0, -2.0, 0.0, -1.0]);
    }
}
