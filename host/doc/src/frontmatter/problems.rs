//! The collection of schema violations that the reader of the frontmatter fills.

use crate::error::{ErrorClass, ParseError, Problem};
use crate::findings::Findings;
use crate::yaml::Pos;

/// The violations found so far.
#[derive(Debug, Default)]
pub(crate) struct Problems(Findings<Problem>);

impl Problems {
    pub fn push(&mut self, path: impl Into<String>, pos: Pos, message: impl Into<String>) {
        self.push_with_hint(path, pos, message, None);
    }

    pub fn push_with_hint(
        &mut self,
        path: impl Into<String>,
        pos: Pos,
        message: impl Into<String>,
        hint: Option<String>,
    ) {
        let (path, message) = (path.into(), message.into());
        self.0.push(Problem {
            path,
            line: pos.line,
            col: pos.col,
            message,
            hint,
        });
    }

    /// Adds one, or counts it without making it.
    pub fn push_made(&mut self, make: impl FnOnce() -> Problem) {
        self.0.push_with(make);
    }

    /// Adds the problems of another error.
    pub fn append(&mut self, problems: Findings<Problem>) {
        self.0.append(problems);
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Joins everything into the one error that the specification asks for, at the first offending key.
    pub fn into_error(mut self) -> Option<ParseError> {
        self.0.sort_by_key(|problem| (problem.line, problem.col));
        let first = self.0.first()?;
        let (line, col) = (first.line, first.col);
        let message = self
            .0
            .iter()
            .map(|p| format!("{}: {}", p.path, p.message))
            .collect::<Vec<_>>()
            .join("; ");
        let mut error = ParseError::new(ErrorClass::SchemaValidation, line, col, message);
        error.hint = self.0.iter().find_map(|problem| problem.hint.clone());
        error.problems = self.0;
        Some(error)
    }
}
