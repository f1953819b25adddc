//! Checks that every plugin must pass, without a case of its own: strange texts, a failing host, no grants, Ctrl-C.
//!
//! Invariant: a plugin may answer or fail in the words of the contract; it may not crash, pass a limit or break a rule.

use dlm_packages::Kind;
use dlm_packages::manifest::Manifest;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::case::{Case, Host};
use super::script::Failing;
use super::{Around, CaseFile, CaseReport, Trial, is_too_slow};

/// Longest text that is tried.
const HUGE: usize = 1 << 20;
/// Most templates of a source that are fetched.
const TEMPLATES_MAX: usize = 64;
/// Longest answer of a teacher that is shown.
const ANSWER_BYTES_MAX: usize = 2000;
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
    /// What was asked and answered, where the author can learn from it.
    pub shown: Option<String>,
}

impl Standing {
    fn new(name: impl Into<String>, problem: Option<String>) -> Standing {
        Standing {
            name: name.into(),
            problem,
            shown: None,
        }
    }
}

impl Trial {
    /// Runs the checks; cases that cannot be read are left to their own report, and so are those that ran out of time: each
    /// check of them would take as long again.
    pub fn standing(&self, files: &[CaseFile], reports: &[CaseReport]) -> Vec<Standing> {
        let is_too_slow = |file: &CaseFile| {
            let mut own = reports.iter().filter(|report| report.name == file.name);
            own.any(CaseReport::is_too_slow)
        };
        let (slow, quick): (Vec<&CaseFile>, Vec<&CaseFile>) = files.iter().partition(|file| is_too_slow(file));
        let read = |file: &&CaseFile| Some((file.name.clone(), Case::parse(&file.text).ok()?));
        let slow: Vec<(String, Case)> = slow.iter().filter_map(read).collect();
        let read: Vec<(String, Case)> = quick.iter().filter_map(read).collect();
        let cases: Vec<(&str, Case)> = read.iter().map(|(name, case)| (name.as_str(), case.clone())).collect();
        let mut checks = Vec::new();
        if !cases.is_empty() || slow.is_empty() {
            checks.push(self.opens(&cases));
            checks.extend(self.in_use(&cases));
        }
        checks.extend(cases.iter().flat_map(|(name, case)| self.same_again(name, case)));
        let slow_kinds: Vec<Kind> = slow.iter().map(|(_, case)| case.kind).collect();
        checks.extend(self.strange_texts(&cases, &slow_kinds));
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

    /// What the commands do with a plugin: asks a teacher as `dlm synth` does, and fetches every template that is listed.
    fn in_use(&self, cases: &[(&str, Case)]) -> Vec<Standing> {
        let usual = |kind: Kind| {
            let mut own = cases.iter().filter(|(_, case)| case.kind == kind);
            let answering = own.find(|(_, case)| !case.expect.contains_key("error"));
            answering.map_or_else(|| plain(kind, Map::new()), |(_, case)| case.clone())
        };
        let mut checks = Vec::new();
        for kind in &self.plugin.manifest.kinds {
            match kind {
                Kind::Teacher => checks.extend(self.taught(usual(*kind))),
                Kind::Templates => checks.extend(self.fetched(&usual(*kind))),
                Kind::Judge | Kind::Target | Kind::Destination => {}
            }
        }
        checks
    }

    /// Asks a teacher what a run would; nothing where its answer comes from elsewhere, which the script does not know.
    fn taught(&self, mut case: Case) -> Option<Standing> {
        let asked = (self.uses.teacher_request)();
        let complete = json!({
            "system": asked.system, "user": asked.user, "max-new-tokens": asked.new_tokens_max,
            "temperature": asked.temperature, "seed": asked.seed,
        });
        case.call = Map::from_iter([("complete".to_owned(), complete)]);
        let ran = self.once(&case, Around::default());
        if ran.has_asked {
            return None;
        }
        let answer = ran.found.pointer("/completion/text").and_then(Value::as_str);
        let problem = match answer {
            Some(answer) => (self.uses.teacher_problem)(answer),
            None => failure(&ran.found),
        };
        let shown = format!(
            "dlm synth tells a teacher:\n{}\n\nand asks:\n{}\n\nthe answer was:\n{}",
            asked.system,
            asked.user,
            dlm_core::inert::cut(answer.unwrap_or("(none)"), ANSWER_BYTES_MAX)
        );
        Some(Standing {
            name: "teacher: pairs for `dlm synth`".to_owned(),
            problem,
            shown: Some(shown),
        })
    }

    /// Fetches what a template source lists, as `dlm init` would; what the script does not answer is left out.
    fn fetched(&self, case: &Case) -> Vec<Standing> {
        let mut list = case.clone();
        list.call = Map::from_iter([("list".to_owned(), Value::Null)]);
        let listed = self.once(&list, Around::default());
        if !listed.missing.is_empty() {
            return Vec::new();
        }
        let names = listed.found.pointer("/templates").and_then(Value::as_array);
        let names = names
            .into_iter()
            .flatten()
            .filter_map(|meta| meta.get("name")?.as_str());
        let mut checks = Vec::new();
        for name in names.take(TEMPLATES_MAX) {
            let mut fetch = case.clone();
            fetch.call = Map::from_iter([("fetch".to_owned(), json!(name))]);
            let ran = self.once(&fetch, Around::default());
            if !ran.missing.is_empty() {
                continue;
            }
            let problem = match &ran.bundle {
                Some(bundle) => (self.uses.template_problem)(&self.plugin.manifest.name, name, bundle),
                None => failure(&ran.found),
            };
            let name = dlm_core::inert::inert_line(name);
            checks.push(Standing::new(format!("templates: `{name}` starts a document"), problem));
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
        Standing::new("opens twice within its limits", problem)
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
        Some(Standing::new(
            format!("{name}: the same answer again"),
            problem.map(str::to_owned),
        ))
    }

    /// Empty, huge and unusual texts; the host answers nothing.
    fn strange_texts(&self, cases: &[(&str, Case)], slow: &[Kind]) -> Vec<Standing> {
        let mut kinds: Vec<Kind> = self.plugin.manifest.kinds.clone();
        kinds.extend(cases.iter().map(|(_, case)| case.kind));
        kinds.sort();
        kinds.dedup();
        kinds.retain(|kind| !slow.contains(kind));
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
                let found = self.once(&case, around).found;
                checks.push(Standing::new(format!("{kind}: text that is {what}"), fault(&found)));
                if is_too_slow(&found) {
                    // The other texts would take as long again.
                    break;
                }
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
        Standing::new(format!("{name}: a host that fails"), problem)
    }

    fn survives(&self, name: String, case: &Case, around: Around) -> Standing {
        let found = self.once(case, around).found;
        Standing::new(name, fault(&found))
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

/// The failure in the place of an answer, whosever fault it is.
fn failure(found: &Value) -> Option<String> {
    let message = found.pointer("/error/message").and_then(Value::as_str);
    message.map(|message| format!("it failed: {message}"))
}

/// The fault in an answer, if it is one.
fn fault(found: &Value) -> Option<String> {
    let error = found.get("error")?;
    let code = error.get("code").and_then(Value::as_str)?;
    let message = error.get("message").and_then(Value::as_str).unwrap_or_default();
    FAULTS.contains(&code).then(|| format!("it failed: {message}"))
}
