//! A case: what a plugin is asked, what the host answers it meanwhile, and what it must say.
//!
//! Invariant: an unknown key is an error, so that a typing mistake cannot turn a check off.

use std::collections::BTreeMap;

use dlm_packages::Kind;
use serde::Deserialize;
use serde_json::{Map, Value};

/// Tolerance of scores where a case names none.
const MARGIN_TOLERANCE: f64 = 1e-9;

/// One case file.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Case {
    pub kind: Kind,
    /// For `open`.
    #[serde(default)]
    pub arg: String,
    /// What it holds in this case, in grant syntax.
    #[serde(default)]
    pub grants: Vec<String>,
    #[serde(default)]
    pub config: Map<String, Value>,
    #[serde(default)]
    pub host: Host,
    /// One function with its argument.
    pub call: Map<String, Value>,
    #[serde(default)]
    pub expect: Map<String, Value>,
}

/// What the host answers. The first answer whose request fits is given, as often as it is asked for.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Host {
    #[serde(default)]
    pub model: Vec<Map<String, Value>>,
    #[serde(default)]
    pub http: Vec<Map<String, Value>>,
    #[serde(default)]
    pub process: Vec<Map<String, Value>>,
    #[serde(default)]
    pub secrets: BTreeMap<String, String>,
    /// Files that the host hands to a target, a destination or a template source.
    #[serde(default)]
    pub inputs: Vec<Input>,
}

/// A file of the host.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Input {
    pub name: String,
    #[serde(default)]
    pub kind: Option<String>,
    /// Where a script in the output directory finds it.
    #[serde(default)]
    pub staged_path: Option<String>,
    pub contents: String,
}

impl Case {
    /// Reads a case.
    ///
    /// **Errors**: what is wrong, in words.
    pub fn parse(text: &str) -> Result<Case, String> {
        let case: Case = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let host = &case.host;
        super::answers::check(&[("model", &host.model), ("http", &host.http), ("process", &host.process)])?;
        if case.call.len() != 1 {
            return Err(format!("`call` names {} functions, one was expected", case.call.len()));
        }
        Ok(case)
    }

    /// The function and its argument.
    pub fn call(&self) -> (&str, &Value) {
        let call = self.call.iter().next();
        call.map(|(name, argument)| (name.as_str(), argument))
            .unwrap_or(("", &Value::Null))
    }

    /// How far two numbers may lie apart.
    pub fn tolerance(&self) -> f64 {
        let stated = self.expect.get("margin-tolerance").and_then(Value::as_f64);
        stated.unwrap_or(MARGIN_TOLERANCE)
    }

    /// The most time that the call may take.
    pub fn guest_ms_max(&self) -> Option<f64> {
        self.expect.get("max-guest-ms").and_then(Value::as_f64)
    }

    /// What is compared with the answer.
    pub fn expected(&self) -> Map<String, Value> {
        let mut expected = self.expect.clone();
        expected.remove("margin-tolerance");
        expected.remove("max-guest-ms");
        expected
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_case_of_the_specification_is_read() {
        let case = Case::parse(
            r#"{ "kind": "judge", "arg": "terse", "grants": ["model:current"], "config": { "strictness": 0.7 },
                 "host": { "model": [ { "score": { "completion": "Yes." }, "logprob": -1.5, "token-count": 2 } ],
                           "http": [ { "request": { "url": "https://api.example.com/v1/r" }, "status": 200, "body": "ok" } ],
                           "secrets": { "KEY": "k-123" } },
                 "call": { "score": [ { "prompt": "2+2?", "candidates": ["4", "five"] } ] },
                 "expect": { "verdicts": [ { "scores": [1.0, 0.0], "reasoning": { "matches": "arithmetic" } } ],
                             "margin-tolerance": 1e-3, "max-guest-ms": 50 } }"#,
        )
        .unwrap();
        assert_eq!(
            (case.call().0, case.tolerance(), case.guest_ms_max()),
            ("score", 1e-3, Some(50.0))
        );
        assert_eq!(case.expected().keys().collect::<Vec<_>>(), ["verdicts"]);
    }

    #[test]
    fn a_mistake_is_told() {
        for (text, part) in [
            (
                r#"{"kind":"judge","call":{"score":[]},"expects":{}}"#,
                "unknown field `expects`",
            ),
            (r#"{"kind":"judge","call":{}}"#, "names 0 functions"),
            (r#"{"kind":"oracle","call":{"a":1}}"#, "unknown variant"),
            ("{", "EOF"),
        ] {
            let error = Case::parse(text).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
