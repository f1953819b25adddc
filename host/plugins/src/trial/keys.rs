//! The keys of case files: those of each reader, with what they mean, and those of the host's scripted answers.
//!
//! Invariant: which keys there are, the readers say; this file only says what they mean, and a test holds that it leaves
//! none out.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::case::{Case, Host, Input};
use super::case_plugin::{ItemJson, PackJson, PlanJson, RequestJson};

/// One table of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaseKeys {
    pub title: &'static str,
    pub about: &'static str,
    /// Each key with its meaning.
    pub keys: Vec<(String, &'static str)>,
}

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

/// What the keys of the readers mean.
const MEANINGS: [(&str, &[(&str, &str)]); 7] = [
    (
        CASE,
        &[
            ("kind", "as what the plugin is opened; required"),
            ("arg", "its argument"),
            ("grants", "what it holds in this case, in grant syntax"),
            ("config", "its settings"),
            ("host", "what the host answers"),
            ("call", "one function with its argument; required"),
            (
                "expect",
                "the part of the answer that matters, `error` for a failure; `margin-tolerance` and `max-guest-ms` beside it",
            ),
        ],
    ),
    (
        HOST,
        &[
            ("model", "answers of models, as below"),
            ("http", "answers of servers, as below"),
            ("process", "answers of programs, as below"),
            ("secrets", "values by name"),
            ("inputs", "files that the host hands over"),
        ],
    ),
    (
        INPUT,
        &[
            ("name", "as the plugin asks for it; required"),
            (
                "kind",
                "`gguf`, `adapter`, `tokenizer`, `chat-template`, `manifest`, `pack`, `document` or `other`",
            ),
            ("contents", "a text; required"),
        ],
    ),
    (
        SCORE,
        &[
            ("system", "the system turn"),
            ("prompt", "the question; required"),
            ("candidates", "the answers to score; required"),
            ("reference", "a known good answer"),
        ],
    ),
    (
        COMPLETE,
        &[
            ("system", "the system turn"),
            ("user", "the request; required"),
            ("max-new-tokens", "256 where it is not given"),
            ("temperature", "0 where it is not given"),
            ("top-p", "of the sampling"),
            ("seed", "of the sampling"),
        ],
    ),
    (
        EXPORT,
        &[
            ("name", "of the model; `model` where it is not given"),
            ("quant", "`Q4_K_M` where it is not given"),
            ("merged", "the adapter is merged into the base"),
            ("source", "the document's file name"),
            ("context-length", "2048 where it is not given"),
            ("system-prompt", "of the document"),
            ("temperature", "of the document"),
            ("top-p", "of the document"),
            ("platform", "`linux/x86_64` where it is not given"),
            ("options", "what the host derived for the target, by name"),
        ],
    ),
    (
        PUSH,
        &[
            ("file-name", "`model.dlm.pack` where it is not given"),
            ("contents", "of the pack, a text"),
            ("readme", "the model card"),
            ("license", "of the base"),
            ("private", "as the user asked"),
            ("force", "as the user asked"),
            ("options", "as the contract has them"),
        ],
    ),
];

const CASE: &str = "A case";
const HOST: &str = "host";
const INPUT: &str = "host.inputs";
const SCORE: &str = "call: score";
const COMPLETE: &str = "call: complete";
const EXPORT: &str = "call: prepare, install";
const PUSH: &str = "call: preview, push";
const OTHER: &str = "call: list, fetch";

/// Every table, in the order of the book.
pub fn places() -> Vec<CaseKeys> {
    vec![
        read::<Case>(CASE, "The whole file is one object."),
        read::<Host>(
            HOST,
            "The first answer whose request fits is given, as often as it is asked for. A request that no answer fits fails the case.",
        ),
        read::<Input>(INPUT, "A list of files."),
        read::<ItemJson>(
            SCORE,
            "A list of items, for a judge. The answer is `verdicts`, each with `scores` and `reasoning`.",
        ),
        read::<RequestJson>(
            COMPLETE,
            "A request, for a teacher. The answer is `completion` with `text`, `truncated` and `usage`.",
        ),
        read::<PlanJson>(
            EXPORT,
            "A plan, for a target. The answer of `prepare` is `prepared` and `output`, that of `install` is `registration`.",
        ),
        read::<PackJson>(
            PUSH,
            "A pack with its options, for a destination. The answer of `preview` is `steps`, that of `push` is `receipt`.",
        ),
        CaseKeys {
            title: OTHER,
            about: "For a template source. The answers are `templates` and `bundle`.",
            keys: vec![
                ("list".to_owned(), "a query as a text, or null"),
                ("fetch".to_owned(), "a template's name"),
            ],
        },
    ]
}

/// The keys that a reader says it expects.
fn read<T: DeserializeOwned>(title: &'static str, about: &'static str) -> CaseKeys {
    let refused = serde_json::from_value::<T>(json!({ UNKNOWN: null })).err();
    let message = refused.map(|error| error.to_string()).unwrap_or_default();
    let expected = message.split_once("expected").map_or("", |(_, expected)| expected);
    let names = expected.split('`').skip(1).step_by(2);
    let meanings = MEANINGS.iter().find(|(place, _)| *place == title);
    let meaning = |name: &str| {
        let found = meanings.and_then(|(_, all)| all.iter().find(|(key, _)| *key == name));
        found.map_or("", |(_, meaning)| meaning)
    };
    CaseKeys {
        title,
        about,
        keys: names.map(|name| (name.to_owned(), meaning(name))).collect(),
    }
}

/// No reader knows it.
const UNKNOWN: &str = "?";

/// Refuses a scripted answer with a key that nothing reads, so that a typing mistake cannot turn a part of it off.
///
/// **Errors** name the key and those that there are.
pub(super) fn check(host: &Host) -> Result<(), String> {
    for (list, given) in [("model", &host.model), ("http", &host.http), ("process", &host.process)] {
        for answer in given {
            let mut known = ANSWERS.iter().filter(|known| known.list == list);
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
    use super::*;

    #[test]
    fn every_key_of_every_reader_is_explained_and_no_other() {
        for place in places() {
            assert!(!place.keys.is_empty(), "{}", place.title);
            for (key, meaning) in &place.keys {
                assert!(!meaning.is_empty(), "`{key}` of {} has no meaning here", place.title);
            }
            let explained = MEANINGS.iter().find(|(title, _)| *title == place.title);
            for (key, _) in explained.map_or(&[][..], |(_, all)| all) {
                assert!(
                    place.keys.iter().any(|(known, _)| known == key),
                    "{} does not read `{key}`",
                    place.title
                );
            }
        }
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
            let error = check(&serde_json::from_value(host).unwrap()).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
        let good = json!({ "model": [{ "tokenize": "a", "ids": [1] }, { "info": { "has-adapter": false } }] });
        assert!(check(&serde_json::from_value(good).unwrap()).is_ok());
    }
}
