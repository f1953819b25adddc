//! The `check` report: what was parsed and everything that is wrong, as values for `--json` and for reading.
//!
//! Invariants: touches no store and no other file; a problem that would only show at training (rows, routing) is in
//! the same report as the errors of parsing, with its absolute line.

use serde::Serialize;
use serde_json::{Map, Value, json};

use dlm_core::{Section, SectionKind};

use crate::document::{Parsed, parse_bytes};
use crate::error::{ErrorClass, ParseErrors, Warning};
use crate::findings::Findings;
use crate::limits::Limits;
use crate::probes::explicit_probes;
use crate::rows::{RowError, Rows, all_rows, rows};

/// Something that parses but that training will refuse.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TrainingProblem {
    /// `InstructionGrammarError`, `PreferenceGrammarError` or `RoutingError`.
    pub class: String,
    pub line: usize,
    pub message: String,
}

/// The outcome of a check.
#[derive(Clone, Debug)]
pub struct CheckReport {
    pub outcome: Result<Parsed, ParseErrors>,
    /// Row and routing problems, by line; empty when the file does not parse.
    pub problems: Findings<TrainingProblem>,
}

/// Checks the bytes of a file.
pub fn check(bytes: &[u8], limits: &Limits) -> CheckReport {
    let outcome = parse_bytes(bytes, limits);
    let problems = outcome.as_ref().map(training_problems).unwrap_or_default();
    CheckReport { outcome, problems }
}

/// Everything that parses but that training will refuse: malformed rows and suffixes of undeclared adapters.
pub fn training_problems(parsed: &Parsed) -> Findings<TrainingProblem> {
    let mut problems = Findings::default();
    for section in parsed.sections() {
        if let Some(problem) = routing_problem(parsed, section) {
            problems.push(problem);
        }
        for error in all_rows(section).err().unwrap_or_default() {
            problems.push_with(|| TrainingProblem {
                class: error.class.as_str().to_owned(),
                line: error.line,
                message: error.to_string(),
            });
        }
    }
    problems
}

/// Says whether the suffix of a section names a declared adapter (document chapter, section 6).
fn routing_problem(parsed: &Parsed, section: &Section) -> Option<TrainingProblem> {
    let name = section.adapter.as_ref()?;
    let message = match &parsed.frontmatter().training.adapters {
        None => format!("section names adapter `{name}`, but the frontmatter has no `training.adapters`"),
        Some(adapters) if adapters.iter().any(|(known, _)| known == name) => return None,
        Some(adapters) => {
            let known = adapters
                .iter()
                .map(|(known, _)| format!("`{known}`"))
                .collect::<Vec<_>>()
                .join(", ");
            format!("section names adapter `{name}`, which is not declared; `training.adapters` has {known}")
        }
    };
    Some(TrainingProblem {
        class: "RoutingError".to_owned(),
        line: section.start_line,
        message,
    })
}

impl CheckReport {
    /// The value that `dlm check --json` prints.
    pub fn to_json(&self) -> Value {
        match &self.outcome {
            Ok(parsed) => json!({
                "frontmatter": parsed.frontmatter(),
                "declared_version": parsed.declared_version,
                "sections": parsed.sections().iter().enumerate().map(section_json).collect::<Vec<_>>(),
                "explicit_probes": explicit_probes(parsed.sections()),
                "warnings": warnings_json(&parsed.warnings),
                "warnings_more": parsed.warnings.more(),
                "problems": self.problems.to_vec(),
                "problems_more": self.problems.more(),
            }),
            Err(errors) => json!({
                "errors": errors.errors.iter().map(error_json).collect::<Vec<_>>(),
                "errors_more": errors.errors.more(),
                "warnings": warnings_json(&errors.warnings),
                "warnings_more": errors.warnings.more(),
            }),
        }
    }
}

fn error_json(error: &crate::ParseError) -> Value {
    let mut value = json!({
        "class": error.class.as_str(),
        "line": error.line,
        "col": error.col,
        "message": error.message,
        "hint": error.hint,
    });
    if error.class == ErrorClass::SchemaValidation {
        let problem = |p: &crate::Problem| json!({"path": p.path, "line": p.line, "col": p.col, "message": p.message});
        value["problems"] = error.problems.iter().map(problem).collect();
        value["problems_more"] = json!(error.problems.more());
    }
    value
}

fn warnings_json(warnings: &[Warning]) -> Vec<Value> {
    warnings
        .iter()
        .map(|w| json!({"kind": w.kind.as_str(), "line": w.line, "message": w.message}))
        .collect()
}

fn section_json((index, section): (usize, &Section)) -> Value {
    let mut value = json!({
        "index": index,
        "type": section.kind.as_str(),
        "id": section.id(),
        "adapter": section.adapter,
        "start_line": section.start_line,
        "content": section.content,
        "attributes": attributes_json(section),
        "auto_harvest": section.harvest_source.is_some(),
        "auto_mined": section.mined.is_some(),
        "auto_synth": section.synth.is_some(),
    });
    let Value::Object(object) = &mut value else {
        return value;
    };
    if let Some(source) = &section.harvest_source {
        object.insert("harvest_source".to_owned(), json!(source));
    }
    for record in [
        section.mined.as_ref().map(|m| json!(m)),
        section.synth.as_ref().map(|s| json!(s)),
    ] {
        if let Some(Value::Object(fields)) = record {
            object.extend(fields);
        }
    }
    if matches!(section.kind, SectionKind::Instruction | SectionKind::Preference) {
        object.insert("rows".to_owned(), rows_json(rows(section)));
    }
    value
}

fn attributes_json(section: &Section) -> Value {
    let mut attributes = Map::new();
    if let Some(media) = &section.media {
        attributes.insert("path".to_owned(), json!(media.path));
        for (key, value) in [("alt", &media.alt), ("transcript", &media.transcript)] {
            if let Some(value) = value {
                attributes.insert(key.to_owned(), json!(value));
            }
        }
    }
    Value::Object(attributes)
}

fn rows_json(rows: Result<Rows, RowError>) -> Value {
    match rows {
        Ok(Rows::Pairs(pairs)) => {
            let pair = |p: &crate::Pair| json!({"question": p.question, "answer": p.answer});
            json!({"pairs": pairs.iter().map(pair).collect::<Vec<_>>()})
        }
        Ok(Rows::Triples(triples)) => {
            let triple = |t: &crate::Triple| json!({"prompt": t.prompt, "chosen": t.chosen, "rejected": t.rejected});
            json!({"triples": triples.iter().map(triple).collect::<Vec<_>>()})
        }
        Ok(Rows::None) => Value::Null,
        Err(error) => {
            json!({"error": {"section_line": error.section_line, "line": error.line, "message": error.to_string()}})
        }
    }
}
