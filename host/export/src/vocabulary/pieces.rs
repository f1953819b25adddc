//! What a SentencePiece pipeline does around its pieces, and the scores of pieces that are made by merges.
//!
//! Invariant: a step that the format has no key for is refused by name, never left out.

use std::collections::HashMap;

use serde_json::Value as Json;

use super::{SCORE_ADDED, TokenType, fail, flag, steps, text};
use crate::error::ExportError;

/// What SentencePiece writes for a space.
pub(super) const SPACE_MARK: &str = "\u{2581}";

/// Where a pipeline puts a space that the text does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Prefix {
    #[default]
    Never,
    /// Before the first text alone, not before text that follows a special token.
    First,
    /// Before every piece of text between special tokens.
    Always,
}

/// The treatment of characters and spaces before pieces are looked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Spaces {
    pub prefix: Prefix,
    pub merges_runs: bool,
    /// SentencePiece's compiled map of characters; empty for none.
    pub charsmap: Vec<u8>,
}

impl Spaces {
    /// Reads normalizer and pre-tokenizer of a pipeline.
    ///
    /// **Errors:** a step that a GGUF file cannot say.
    pub(super) fn of(pipeline: &Json) -> Result<Spaces, ExportError> {
        let mut spaces = Spaces::default();
        let none = Json::Null;
        for step in steps(pipeline.get("normalizer").unwrap_or(&none), "normalizers") {
            spaces.normalize(step)?;
        }
        for step in steps(pipeline.get("pre_tokenizer").unwrap_or(&none), "pretokenizers") {
            spaces.cut(step)?;
        }
        Ok(spaces)
    }

    fn normalize(&mut self, step: &Json) -> Result<(), ExportError> {
        let pattern = |kind| step.get("pattern").map_or("", |pattern| text(pattern, kind));
        let content = text(step, "content");
        match text(step, "type") {
            "Prepend" if text(step, "prepend") == SPACE_MARK => self.prefix = Prefix::Always,
            "Replace" if pattern("String") == " " && content == SPACE_MARK => {}
            "Replace" if pattern("Regex") == " {2,}" && [" ", SPACE_MARK].contains(&content) => self.merges_runs = true,
            // Blanks at the ends go with the runs; the check of the file finds where only one of the two is meant.
            "Replace" if pattern("Regex") == "^ +| +$" && content.is_empty() => self.merges_runs = true,
            "Strip" => {}
            "Precompiled" => {
                let encoded = text(step, "precompiled_charsmap");
                self.charsmap = from_base64(encoded).ok_or_else(|| fail("its character map is no base64"))?;
            }
            other => return Err(fail(format!("its normalizer step `{other}` has no GGUF key"))),
        }
        Ok(())
    }

    fn cut(&mut self, step: &Json) -> Result<(), ExportError> {
        let pattern = step.get("pattern").map_or("", |pattern| text(pattern, "String"));
        match text(step, "type") {
            "Metaspace" if text(step, "replacement") == SPACE_MARK => {
                self.prefix = match text(step, "prepend_scheme") {
                    "never" => self.prefix,
                    "first" => Prefix::First,
                    _ => Prefix::Always,
                };
            }
            "WhitespaceSplit" => self.merges_runs = true,
            // Gemma's: by then there are no spaces left to cut at.
            "Split" if pattern == " " => {}
            other => return Err(fail(format!("its pre-tokenizer step `{other}` has no GGUF key"))),
        }
        Ok(())
    }
}

/// Gives every piece that merges make the rank of its first merge, negated: runtimes join the highest score first.
pub(super) fn scores(tokens: &[String], types: &[TokenType], merges: &[(&str, &str)]) -> Vec<f32> {
    let mut ranks: HashMap<String, f32> = HashMap::with_capacity(merges.len());
    for (left, right) in merges {
        let next = -(ranks.len() as f32);
        ranks.entry(format!("{left}{right}")).or_insert(next);
    }
    let lowest = -(ranks.len() as f32);
    let score = |(token, kind): (&String, &TokenType)| match *kind {
        TokenType::Normal => ranks.get(token).copied().unwrap_or(lowest),
        TokenType::Byte => 0.0,
        _ => SCORE_ADDED,
    };
    tokens.iter().zip(types).map(score).collect()
}

/// Says whether special tokens take the spaces after them as Phi-3's do: all but three of them.
///
/// No key of the format says so; runtimes go by the name of the model.
pub(super) fn strips_as_phi3(pipeline: &Json) -> bool {
    const KEEPS: [&str; 3] = ["<unk>", "<s>", "<|endoftext|>"];
    let added = pipeline.get("added_tokens").and_then(Json::as_array);
    let added = added.map_or(&[][..], Vec::as_slice);
    let has = |token: &str| added.iter().any(|added| text(added, "content") == token);
    let follows = |added: &Json| flag(added, "rstrip") != KEEPS.contains(&text(added, "content"));
    KEEPS.into_iter().all(has) && has("</s>") && added.iter().all(follows)
}

/// Decodes base64; `None` for anything else.
fn from_base64(encoded: &str) -> Option<Vec<u8>> {
    let digits = encoded.trim_end_matches('=').as_bytes();
    let mut bytes = Vec::with_capacity(digits.len() * 3 / 4);
    for group in digits.chunks(4) {
        let mut bits = 0u32;
        for digit in group {
            let value = match digit {
                b'A'..=b'Z' => digit - b'A',
                b'a'..=b'z' => digit - b'a' + 26,
                b'0'..=b'9' => digit - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                _ => return None,
            };
            bits = bits << 6 | u32::from(value);
        }
        let whole = group.len() * 6 / 8;
        bits <<= 6 * (4 - group.len());
        bytes.extend(&bits.to_be_bytes()[1..][..whole]);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn scores_follow_the_first_merge_of_a_piece() {
        let tokens = ["<unk>", "<0x0A>", "a", "b", "ab", "aab"].map(str::to_owned);
        let mut types = [TokenType::Normal; 6];
        (types[0], types[1]) = (TokenType::Unknown, TokenType::Byte);
        let found = scores(&tokens, &types, &[("a", "b"), ("a", "ab"), ("aa", "b")]);
        assert_eq!(found, [-1000.0, 0.0, -2.0, -2.0, 0.0, -1.0]);
    }

    #[test]
    fn spaces_follow_the_structure() {
        let prepend = json!({"type": "Prepend", "prepend": "▁"});
        let replace = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
        let metaspace = |scheme: &str| json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme});
        let sequence = |steps: &[&Json]| json!({"type": "Sequence", "normalizers": steps});
        let split = json!({"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious"});
        let runs = json!({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "▁"});
        let map = json!({"type": "Precompiled", "precompiled_charsmap": "AAECAw=="});
        let check = |normalizer: Json, pre: Json, expected: Option<Spaces>| {
            let pipeline = json!({"normalizer": normalizer, "pre_tokenizer": pre});
            assert_eq!(Spaces::of(&pipeline).ok(), expected, "{pipeline}");
        };
        let spaces = |prefix, merges_runs, charsmap: &[u8]| {
            Some(Spaces {
                prefix,
                merges_runs,
                charsmap: charsmap.to_vec(),
            })
        };
        // Llama-2, Gemma, Mistral 0.3, T5.
        let llama = sequence(&[&prepend, &replace]);
        check(llama, Json::Null, spaces(Prefix::Always, false, &[]));
        check(replace.clone(), split, spaces(Prefix::Never, false, &[]));
        check(Json::Null, metaspace("first"), spaces(Prefix::First, false, &[]));
        let t5 = sequence(&[&map, &json!({"type": "Strip"}), &runs]);
        check(t5, metaspace("always"), spaces(Prefix::Always, true, &[0, 1, 2, 3]));
        check(json!({"type": "NFKC"}), Json::Null, None);
        check(Json::Null, json!({"type": "Whitespace"}), None);
    }

    #[test]
    fn phi3_is_known_by_what_its_tokens_do() {
        let pipeline = |rstrip: bool| {
            let token = |content: &str, rstrip: bool| json!({"content": content, "rstrip": rstrip});
            json!({"added_tokens": [token("<unk>", false), token("<s>", false), token("</s>", rstrip),
                token("<|endoftext|>", false), token("<|user|>", true)]})
        };
        assert!(strips_as_phi3(&pipeline(true)));
        assert!(!strips_as_phi3(&pipeline(false)));
        assert!(!strips_as_phi3(&json!({"added_tokens": []})));
    }

    #[test]
    fn base64_of_every_length() {
        for (encoded, expected) in [
            ("", Some(&b""[..])),
            ("Zg==", Some(b"f")),
            ("Zm8=", Some(b"fo")),
            ("Zm9v", Some(b"foo")),
            ("+/+/", Some(&[0xFB, 0xFF, 0xBF])),
            ("Zm9v!", None),
        ] {
            assert_eq!(from_base64(encoded).as_deref(), expected, "{encoded}");
        }
    }
}
