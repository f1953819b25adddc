//! The answers of a case's scripted host: which there are, and the keys of each.
//!
//! Invariant: a key that nothing reads is an error, so that a typing mistake cannot turn a part of an answer off.

use serde_json::{Map, Value};

/// One kind of answer of the scripted host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The list under `host`.
    pub list: &'static str,
    /// The key that holds the request, or in `info` the facts themselves.
    pub key: &'static str,
    /// Keys of the request, where it is an object.
    pub request: &'static [&'static str],
    /// Keys beside the request.
    pub answer: &'static [&'static str],
    pub meaning: &'static str,
}

/// Every kind of answer.
pub const ANSWERS: [Answer; 10] = [
    Answer {
        list: "model",
        key: "info",
        request: &[
            "architecture",
            "context-length",
            "vocabulary-size",
            "has-adapter",
            "adapter-version",
            "has-chat-template",
            "revision",
        ],
        answer: &[],
        meaning: "no request: what the model says about itself",
    },
    Answer {
        list: "model",
        key: "generate",
        request: &["prompt", "weights", "max-new-tokens", "temperature"],
        answer: &["text", "prompt-tokens", "completion-tokens", "finish", "error"],
        meaning: "a completion; `finish` is `stop` or `length`",
    },
    Answer {
        list: "model",
        key: "score",
        request: &["prompt", "completion", "weights"],
        answer: &["logprob", "token-count", "tokens", "error"],
        meaning: "how likely a completion is",
    },
    Answer {
        list: "model",
        key: "rank",
        request: &["prompt", "completion"],
        answer: &["value", "error"],
        meaning: "a reward model's number",
    },
    Answer {
        list: "model",
        key: "next",
        request: &["prompt", "weights", "top"],
        answer: &["tokens", "error"],
        meaning: "the likeliest next tokens, each with `id`, `text`, `logprob`",
    },
    Answer {
        list: "model",
        key: "tokenize",
        request: &[],
        answer: &["ids", "error"],
        meaning: "the request is a text",
    },
    Answer {
        list: "model",
        key: "detokenize",
        request: &[],
        answer: &["text", "error"],
        meaning: "the request is a list of ids",
    },
    Answer {
        list: "model",
        key: "render",
        request: &["chat", "add-generation-prompt"],
        answer: &["text", "error"],
        meaning: "a chat as the model reads it",
    },
    Answer {
        list: "http",
        key: "request",
        request: &["method", "url", "headers", "secret-headers", "body"],
        answer: &["status", "headers", "body", "error"],
        meaning: "one answer of a server; a secret header is named, its value is not in the case",
    },
    Answer {
        list: "process",
        key: "run",
        request: &["program", "arguments", "stdin"],
        answer: &["status", "stdout", "stderr", "error"],
        meaning: "one run of a program",
    },
];

/// Refuses a scripted answer with a key that nothing reads, so that a typing mistake cannot turn a part of it off.
///
/// **Errors** name the key and those that there are.
pub(super) fn check(host: &[(&str, &[Map<String, Value>])]) -> Result<(), String> {
    for (list, given) in host {
        for answer in *given {
            let mut known = ANSWERS.iter().filter(|known| known.list == *list);
            let Some(known) = known.clone().find(|known| answer.contains_key(known.key)) else {
                let keys: Vec<&str> = known.by_ref().map(|known| known.key).collect();
                return Err(format!(
                    "an answer of `host.{list}` has no request under {}",
                    keys.join(", ")
                ));
            };
            let place = format!("host.{list}");
            let beside: Vec<&str> = known.answer.iter().copied().chain([known.key]).collect();
            refuse_unknown(&place, answer, &beside)?;
            if let Some(request) = answer.get(known.key).and_then(Value::as_object)
                && !known.request.is_empty()
            {
                refuse_unknown(&format!("{place}.{}", known.key), request, known.request)?;
            }
        }
    }
    Ok(())
}

fn refuse_unknown(place: &str, given: &Map<String, Value>, known: &[&str]) -> Result<(), String> {
    match given.keys().find(|key| !known.contains(&key.as_str())) {
        None => Ok(()),
        Some(key) => Err(format!(
            "`{place}` has the key `{}`, which nothing reads; there are {}",
            dlm_core::inert::inert_line(&dlm_core::inert::cut(key, 80)),
            known.join(", ")
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn checked(host: &Value) -> Result<(), String> {
        let lists = host.as_object().unwrap().iter().map(|(list, answers)| {
            let answers = answers.as_array().unwrap().iter();
            (
                list.as_str(),
                answers
                    .map(|answer| answer.as_object().unwrap().clone())
                    .collect::<Vec<_>>(),
            )
        });
        let lists: Vec<_> = lists.collect();
        let given: Vec<_> = lists
            .iter()
            .map(|(list, answers)| (*list, answers.as_slice()))
            .collect();
        check(&given)
    }

    #[test]
    fn a_mistyped_key_of_an_answer_is_told() {
        for (host, part) in [
            (
                json!({ "http": [{ "request": { "url": "u" }, "stauts": 200 }] }),
                "`stauts`, which nothing reads",
            ),
            (
                json!({ "http": [{ "request": { "uri": "u" } }] }),
                "`host.http.request` has the key `uri`",
            ),
            (
                json!({ "model": [{ "scores": {} }] }),
                "no request under info, generate, score",
            ),
            (
                json!({ "process": [{ "run": { "program": "a" }, "stdin": "" }] }),
                "there are status, stdout",
            ),
        ] {
            let error = checked(&host).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
        let good = json!({ "model": [{ "tokenize": "a", "ids": [1] }, { "info": { "has-adapter": false } }] });
        assert!(checked(&good).is_ok());
    }
}
