//! The keys of case files: those of each reader, with what they mean.
//!
//! Invariant: which keys there are, the readers say; this file only says what they mean, and a test holds that it leaves
//! none out.

use serde::de::DeserializeOwned;
use serde_json::json;

use super::case::{Case, Host, Input};
use super::case_plugin::{ItemJson, PackJson, RequestJson};
use crate::wire::plan::PlanJson;

/// One table of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaseKeys {
    pub title: &'static str,
    pub about: &'static str,
    /// Each key with its meaning.
    pub keys: Vec<(String, &'static str)>,
}

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
            ("staged-path", "where a script in the output directory finds it"),
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
            ("document-id", "a usual one where it is not given"),
            ("base", "the base, as `base-model` in `wit/target.wit`"),
            ("adapters", "as `adapter` in `wit/target.wit`"),
            ("chat", "as `chat` in `wit/target.wit`"),
            ("draft", "model for speculative decoding"),
            ("probe", "as `probe` in `wit/target.wit`"),
            ("options", "a list of objects with `name` and `value`"),
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
            ("options", "a list of objects with `name` and `value`"),
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
}
