//! Checks that every plugin must pass, without a case of its own: strange texts, a failing host, no grants, Ctrl-C.
//!
//! Invariant: a plugin may answer or fail in the words of the contract; it may not crash, pass a limit or break a rule.

use dlm_packages::Kind;
use dlm_packages::manifest::Manifest;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::case::{Case, Host};
use super::script::Failing;
use super::{Around, CaseFile, Trial};

/// Longest text that is tried.
const HUGE: usize = 1 << 20;
/// Codes that say that the plugin, not the user or the far side, is at fault.
const FAULTS: [&str; 5] = [
    "plugin::crashed",
    "plugin::limit",
    "plugin::bad-result",
    "plugin::malformed",
    "plugin::import",
];

/// How one of the checks went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Standing {
    pub name: String,
    pub problem: Option<String>,
}

impl Trial {
    /// Runs the checks; cases that cannot be read are left to their own report.
    pub fn standing(&self, files: &[CaseFile]) -> Vec<Standing> {
        let cases: Vec<(&str, Case)> = files
            .iter()
            .filter_map(|file| Some((file.name.as_str(), Case::parse(&file.text).ok()?)))
            .collect();
        let mut checks = vec![self.opens(&cases)];
        checks.extend(cases.iter().flat_map(|(name, case)| self.same_again(name, case)));
        checks.extend(self.strange_texts(&cases));
        for (name, case) in &cases {
            if !is_empty(&case.host) {
                checks.push(self.failing_host(name, case));
                checks.push(self.survives(
                    format!("{name}: Ctrl-C while the host answers"),
                    case,
                    Around {
                        failing: Some(Failing::Cancelled),
                        ..Around::default()
                    },
                ));
            }
            checks.push(self.survives(
                format!("{name}: without any grant"),
                case,
                Around {
                    is_sandboxed: true,
                    ..Around::default()
                },
            ));
        }
        checks
    }

    /// Loads and opens, twice, with the arguments of the cases and with none.
    fn opens(&self, cases: &[(&str, Case)]) -> Standing {
        let kinds = &self.plugin.manifest.kinds;
        let usual = kinds.first().copied().unwrap_or(Kind::Judge);
        let case = cases
            .first()
            .map_or_else(|| plain(usual, Map::new()), |(_, case)| case.clone());
        let mut problem = None;
        for _ in 0..2 {
            let found = self.once(&case, Around::default()).found;
            problem = problem.or_else(|| fault(&found));
        }
        Standing {
            name: "opens twice within its limits".to_owned(),
            problem,
        }
    }

    /// A fresh instance and a used one say the same, where the manifest promises it.
    fn same_again(&self, name: &str, case: &Case) -> Option<Standing> {
        if !is_promised(&self.plugin.manifest) || !matches!(case.kind, Kind::Judge | Kind::Teacher | Kind::Templates) {
            return None;
        }
        let around = Around {
            is_repeated: true,
            ..Around::default()
        };
        let first = self.once(case, around);
        // A call that breaks down is told by its own case.
        if fault(&first.found).is_some() {
            return None;
        }
        let second = self.once(case, Around::default());
        let problem = match first.again {
            Some(again) if again != first.found => Some("the second call of one instance gives another answer"),
            _ if second.found != first.found => Some("another instance gives another answer"),
            _ => None,
        };
        Some(Standing {
            name: format!("{name}: the same answer again"),
            problem: problem.map(str::to_owned),
        })
    }

    /// Empty, huge and unusual texts; the host answers nothing.
    fn strange_texts(&self, cases: &[(&str, Case)]) -> Vec<Standing> {
        let mut kinds: Vec<Kind> = self.plugin.manifest.kinds.clone();
        kinds.extend(cases.iter().map(|(_, case)| case.kind));
        kinds.sort();
        kinds.dedup();
        let huge = "x".repeat(HUGE);
        let texts = [
            ("empty", String::new()),
            ("huge (1 MiB)", huge),
            ("outside the basic plane", "𝄞 👩‍👩‍👧 \u{10ffff}".to_owned()),
            (
                "full of control and direction marks",
                "a\u{1b}[31m\u{202e}b\0c".to_owned(),
            ),
        ];
        let mut checks = Vec::new();
        for kind in kinds {
            for (what, text) in &texts {
                let Some(call) = call_with(kind, text) else { continue };
                let mut case = plain(kind, call);
                // The settings and grants of a case, so that a required setting is there.
                if let Some((_, usual)) = cases.iter().find(|(_, case)| case.kind == kind) {
                    case.config.clone_from(&usual.config);
                    case.grants.clone_from(&usual.grants);
                }
                let around = Around {
                    failing: Some(Failing::Unavailable),
                    ..Around::default()
                };
                checks.push(self.survives(format!("{kind}: text that is {what}"), &case, around));
            }
        }
        checks
    }

    /// Every host call of a case fails, with each error of the contract.
    fn failing_host(&self, name: &str, case: &Case) -> Standing {
        let problem = Failing::ALL.into_iter().find_map(|failing| {
            let around = Around {
                failing: Some(failing),
                ..Around::default()
            };
            let found = self.once(case, around).found;
            fault(&found).map(|problem| format!("when the host says `{}`: {problem}", failing.name()))
        });
        Standing {
            name: format!("{name}: a host that fails"),
            problem,
        }
    }

    fn survives(&self, name: String, case: &Case, around: Around) -> Standing {
        let found = self.once(case, around).found;
        Standing {
            name,
            problem: fault(&found),
        }
    }
}

fn is_promised(manifest: &Manifest) -> bool {
    manifest.deterministic
}

fn is_empty(host: &Host) -> bool {
    host.model.is_empty() && host.http.is_empty() && host.process.is_empty()
}

fn plain(kind: Kind, call: Map<String, Value>) -> Case {
    Case {
        kind,
        arg: String::new(),
        grants: Vec::new(),
        config: Map::new(),
        host: Host::default(),
        call,
        expect: Map::new(),
    }
}

/// A call with `text` wherever a user's text goes.
fn call_with(kind: Kind, text: &str) -> Option<Map<String, Value>> {
    // A huge prompt alone: what a judge hands to the model for each candidate stays below the limit of one call.
    let answer = if text.len() >= HUGE { "a" } else { text };
    let call = match kind {
        Kind::Judge => json!({ "score": [ { "prompt": text, "candidates": [answer, ""] } ] }),
        Kind::Teacher => json!({ "complete": { "system": answer, "user": text } }),
        Kind::Templates => json!({ "fetch": text }),
        // Their texts are names and paths that the host has checked.
        Kind::Target | Kind::Destination => return None,
    };
    call.as_object().cloned()
}

/// The fault in an answer, if it is one.
fn fault(found: &Value) -> Option<String> {
    let error = found.get("error")?;
    let code = error.get("code").and_then(Value::as_str)?;
    let message = error.get("message").and_then(Value::as_str).unwrap_or_default();
    FAULTS.contains(&code).then(|| format!("it failed: {message}"))
}
