//! The label of a byte-level pre-tokenizer, worked out from its structure.
//!
//! Invariant: a structure without a label is refused: a wrong label gives a model that loads and talks nonsense.
//! **Source:** `spec/bases.md` section 4.

use serde_json::Value as Json;

use super::{fail, flag, steps, text};
use crate::error::ExportError;

/// Contractions, words, up to three digits, punctuation, line ends, blanks (the cl100k pattern).
const CL100K: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// The same with every digit alone.
const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Begins the patterns that split words where lower case turns upper.
const CASED_START: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+";

/// Names the pre-tokenizer of a byte-level BPE pipeline.
pub(super) fn label(pipeline: &Json, add_bos: bool) -> Result<&'static str, ExportError> {
    check_normalizer(pipeline.get("normalizer").unwrap_or(&Json::Null))?;
    let pre = pipeline.get("pre_tokenizer").unwrap_or(&Json::Null);
    let steps = steps(pre, "pretokenizers");
    let kinds: Vec<&str> = steps.iter().map(|step| text(step, "type")).collect();
    let ignore_merges = flag(&pipeline["model"], "ignore_merges");
    let unknown = || fail(format!("its pre-tokenizer ({}) has no GGUF label", kinds.join(", ")));
    if steps.iter().any(|step| flag(step, "add_prefix_space")) {
        return Err(fail(
            "its pre-tokenizer puts a space before every text (`add_prefix_space`), for which there is no GGUF key",
        ));
    }
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

/// Refuses a step that changes the text: files with byte-level tokens have no key for one. Composed characters (NFC) are what
/// nearly every text has anyway.
fn check_normalizer(normalizer: &Json) -> Result<(), ExportError> {
    let steps = steps(normalizer, "normalizers");
    let kinds = steps.iter().map(|step| text(step, "type"));
    match kinds.clone().find(|kind| !matches!(*kind, "NFC" | "")) {
        None => Ok(()),
        Some(kind) => Err(fail(format!("its normalizer `{kind}` has no GGUF key"))),
    }
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
        check(
            json!({"type": "ByteLevel", "use_regex": true, "add_prefix_space": true}),
            false,
            false,
            None,
        );
        for (normalizer, fits) in [
            (Json::Null, true),
            (json!({"type": "NFC"}), true),
            (json!({"type": "Sequence", "normalizers": []}), true),
            (json!({"type": "Lowercase"}), false),
            (
                json!({"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Strip"}]}),
                false,
            ),
        ] {
            assert_eq!(check_normalizer(&normalizer).is_ok(), fits, "{normalizer}");
        }
    }
}
