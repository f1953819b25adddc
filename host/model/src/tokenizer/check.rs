//! What the tokenizer library trusts blindly in a `tokenizer.json`: ids that it makes tables of, prefixes that it cuts off,
//! tokens that its post-processor writes.
//!
//! Invariants: linear in the file; what passes has ids below [`ID_MAX`] alone, each for one token of the vocabulary (of two, the
//! library keeps one at random when it writes the file), and its merges and its post-processor name tokens of the vocabulary.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

/// Ids end below this; the largest published vocabularies have some 260,000 tokens, and tables have a row for every id.
pub(crate) const ID_MAX: u64 = 1 << 24;

/// Checks a whole file.
///
/// **Errors**: what is wrong, in words.
pub(super) fn check(file: &Value) -> Result<(), String> {
    let model = file.get("model").ok_or("it has no `model`")?;
    let (mut ids, mut tokens) = (HashSet::new(), HashMap::new());
    for (token, id) in vocabulary(model)? {
        let id = id.ok_or_else(|| format!("the id of token `{token}` is no number from 0"))?;
        take_id(&mut ids, id, &token)?;
        if let Some(other) = tokens.insert(id, token.clone()) {
            return Err(format!("tokens `{other}` and `{token}` both have the id {id}"));
        }
    }
    for added in list(file, "added_tokens") {
        let text = added.get("content").and_then(Value::as_str).unwrap_or_default();
        let id = added.get("id").and_then(Value::as_u64);
        let id = id.ok_or_else(|| format!("the id of the added token `{text}` is no number from 0"))?;
        take_id(&mut ids, id, text)?;
    }
    check_merges(model)?;
    match file.get("post_processor") {
        Some(processor) => check_processor(processor, &ids),
        None => Ok(()),
    }
}

fn take_id(ids: &mut HashSet<u64>, id: u64, token: &str) -> Result<(), String> {
    if id >= ID_MAX {
        return Err(format!("token `{token}` has the id {id}; ids end below {ID_MAX}"));
    }
    ids.insert(id);
    Ok(())
}

/// The tokens of a model with their ids: those of a list count from 0.
fn vocabulary(model: &Value) -> Result<Vec<(String, Option<u64>)>, String> {
    match model.get("vocab") {
        Some(Value::Object(tokens)) => Ok(tokens.iter().map(|(token, id)| (token.clone(), id.as_u64())).collect()),
        Some(Value::Array(tokens)) => {
            let unknown = model.get("unk_id").and_then(Value::as_u64);
            if let Some(unknown) = unknown.filter(|unknown| *unknown >= tokens.len() as u64) {
                return Err(format!(
                    "its unknown token {unknown} is not among the {} tokens",
                    tokens.len()
                ));
            }
            let ids = tokens.iter().zip(0..);
            Ok(ids
                .map(|(token, id)| {
                    (
                        token.get(0).and_then(Value::as_str).unwrap_or_default().to_owned(),
                        Some(id),
                    )
                })
                .collect())
        }
        Some(_) => Err("its vocabulary is neither a list nor an object".to_owned()),
        None if model.get("merges").is_some() => Err("its model has merges but no vocabulary".to_owned()),
        None => Ok(Vec::new()),
    }
}

/// The library indexes a buffer of the longest token's length with a merge, and cuts the prefix of continued tokens off its
/// second part.
fn check_merges(model: &Value) -> Result<(), String> {
    let merges = list(model, "merges");
    let prefix = model
        .get("continuing_subword_prefix")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let tokens = model.get("vocab").and_then(Value::as_object);
    let longest = tokens.map_or(0, |tokens| tokens.keys().map(String::len).max().unwrap_or(0));
    for (index, merge) in merges.iter().enumerate() {
        let pair = match merge {
            Value::String(pair) => pair.split_once(' '),
            Value::Array(pair) => match pair.as_slice() {
                [Value::String(first), Value::String(second)] => Some((first.as_str(), second.as_str())),
                _ => None,
            },
            _ => None,
        };
        let (first, second) = pair.ok_or_else(|| format!("merge {index} is no pair of tokens"))?;
        if !second.starts_with(prefix) {
            return Err(format!(
                "merge {index} continues with `{second}`, which does not begin with the model's prefix `{prefix}`"
            ));
        }
        if first.len() + second.len() - prefix.len() > longest {
            return Err(format!("merge {index} gives a token longer than any in the vocabulary"));
        }
    }
    Ok(())
}

/// Every id that the post-processor writes is a token's.
fn check_processor(processor: &Value, ids: &HashSet<u64>) -> Result<(), String> {
    let mut written: Vec<&Value> = Vec::new();
    // `Sequence` nests; the depth is bounded by the JSON reader's.
    let mut open = vec![processor];
    while let Some(processor) = open.pop() {
        open.extend(list(processor, "processors"));
        written.extend(["sep", "cls"].iter().filter_map(|role| processor.get(role)?.get(1)));
        let special = processor.get("special_tokens").and_then(Value::as_object);
        for token in special.into_iter().flat_map(|tokens| tokens.values()) {
            written.extend(list(token, "ids"));
        }
    }
    let unknown = written
        .into_iter()
        .find(|id| !id.as_u64().is_some_and(|id| ids.contains(&id)));
    match unknown {
        Some(id) => Err(format!(
            "its post-processor writes the token {id}, which is not in the vocabulary"
        )),
        None => Ok(()),
    }
}

fn list<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_the_library_trusts_is_checked() {
        let sound = json!({
            "added_tokens": [{"id": 3, "content": "<s>"}],
            "model": {"vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]},
            "post_processor": {"type": "Sequence", "processors": [
                {"type": "TemplateProcessing", "special_tokens": {"<s>": {"id": "<s>", "ids": [3], "tokens": ["<s>"]}}},
                {"type": "RobertaProcessing", "sep": ["b", 1], "cls": ["a", 0]},
            ]},
        });
        assert_eq!(check(&sound), Ok(()));
        let unigram = json!({"model": {"vocab": [["a", -1.0], ["b", -2.0]], "unk_id": 1}});
        assert_eq!(check(&unigram), Ok(()));
        let at_the_limit = json!({"model": {"vocab": {"a": ID_MAX - 1}}});
        assert_eq!(check(&at_the_limit), Ok(()));
        let pointers: [(&str, Value, &str); 10] = [
            ("/model/vocab/a", json!(ID_MAX), "has the id 16777216"),
            ("/model/vocab/a", json!(4_000_000_000_u64), "ids end below"),
            ("/model/vocab/a", json!(-1), "no number from 0"),
            ("/added_tokens/0/id", json!(u64::MAX), "ids end below"),
            ("/model/vocab", json!("x"), "neither a list nor an object"),
            ("/model/merges/0", json!(["a"]), "merge 0 is no pair"),
            ("/model/merges/0", json!("ab"), "merge 0 is no pair"),
            ("/model/merges/0", json!(["a", "bbb"]), "longer than any"),
            (
                "/post_processor/processors/0/special_tokens/<s>/ids/0",
                json!(9),
                "writes the token 9",
            ),
            ("/post_processor/processors/1/cls/1", json!(7), "writes the token 7"),
        ];
        for (pointer, value, says) in pointers {
            let mut changed = sound.clone();
            *changed.pointer_mut(pointer).unwrap() = value;
            let error = check(&changed).unwrap_err();
            assert!(error.contains(says), "{pointer}: {error}");
        }
        let mut prefixed = sound.clone();
        prefixed["model"]["continuing_subword_prefix"] = json!("xxxxxxxxxxxx");
        assert!(
            check(&prefixed)
                .unwrap_err()
                .contains("does not begin with the model's prefix")
        );
        assert!(check(&json!({})).unwrap_err().contains("no `model`"));
        let shared = json!({"model": {"vocab": {"a": 0, "b": 1, "c": 1}}});
        assert_eq!(check(&shared).unwrap_err(), "tokens `b` and `c` both have the id 1");
        let unknown = json!({"model": {"vocab": [["a", -1.0]], "unk_id": 1}});
        assert!(check(&unknown).unwrap_err().contains("unknown token 1"));
    }
}
