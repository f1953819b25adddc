//! Errors, warnings and problems as text for people: `path:line:col: message`, the offending line, a caret, the edit.
//!
//! Invariants: reads the same without color; nothing in the file that could redraw a terminal is in them.

use std::fmt::Write as _;

use dlm_core::inert::is_harmful;

use crate::check::{CheckReport, TrainingProblem};
use crate::error::{ErrorClass, ParseErrors, Warning};
use crate::findings::Findings;

/// Widest excerpt, in characters; longer lines are cut around the caret.
const EXCERPT_CHARS_MAX: usize = 100;

/// Where messages point when the text has no path.
pub const NO_PATH: &str = "<text>";

/// Renders all errors of a document with excerpts of its text.
///
/// `source` is the file's text; pass what could be decoded of a file that is not UTF-8, or nothing.
pub fn render_errors(path: Option<&str>, source: &str, errors: &ParseErrors) -> String {
    let excerpts = Excerpts::new(path, source);
    let mut out = String::new();
    for error in &errors.errors {
        let head = format!("{}: ", error.class);
        if error.class == ErrorClass::SchemaValidation && !error.problems.is_empty() {
            for problem in &error.problems {
                let message = format!("{head}{}: {}", problem.path, problem.message);
                excerpts.push(
                    &mut out,
                    problem.line,
                    Some(problem.col),
                    &message,
                    problem.hint.as_deref(),
                );
            }
            push_rest(&mut out, error.problems.rest("problem"));
        } else {
            let message = format!("{head}{}", error.message);
            excerpts.push(&mut out, error.line, Some(error.col), &message, error.hint.as_deref());
        }
    }
    push_rest(&mut out, errors.errors.rest("error"));
    push_warnings(&mut out, &excerpts, &errors.warnings);
    out
}

/// Renders warnings with excerpts.
pub fn render_warnings(path: Option<&str>, source: &str, warnings: &Findings<Warning>) -> String {
    let mut out = String::new();
    push_warnings(&mut out, &Excerpts::new(path, source), warnings);
    out
}

/// Renders the problems that training would refuse, with excerpts.
pub fn render_problems(path: Option<&str>, source: &str, problems: &Findings<TrainingProblem>) -> String {
    let excerpts = Excerpts::new(path, source);
    let mut out = String::new();
    for problem in problems {
        excerpts.push(
            &mut out,
            problem.line,
            Some(1),
            &format!("{}: {}", problem.class, problem.message),
            None,
        );
    }
    push_rest(&mut out, problems.rest("problem"));
    out
}

/// The line that says how much is not shown.
fn push_rest(out: &mut String, rest: Option<String>) {
    if let Some(rest) = rest {
        out.push_str(&rest);
        out.push('\n');
    }
}

/// Renders everything a check found wrong; empty when there is nothing.
pub fn render_check(path: Option<&str>, source: &str, report: &CheckReport) -> String {
    match &report.outcome {
        Err(errors) => render_errors(path, source, errors),
        Ok(parsed) => {
            let problems = render_problems(path, source, &report.problems);
            problems + &render_warnings(path, source, &parsed.warnings)
        }
    }
}

fn push_warnings(out: &mut String, excerpts: &Excerpts<'_>, warnings: &Findings<Warning>) {
    for warning in warnings {
        excerpts.push(out, warning.line, None, &format!("warning: {}", warning.message), None);
    }
    push_rest(out, warnings.rest("warning"));
}

struct Excerpts<'a> {
    path: &'a str,
    lines: Vec<String>,
}

impl<'a> Excerpts<'a> {
    fn new(path: Option<&'a str>, source: &str) -> Self {
        let text = dlm_core::section::normalize_newlines(source);
        Excerpts {
            path: path.unwrap_or(NO_PATH),
            lines: text.split('\n').map(str::to_owned).collect(),
        }
    }

    fn push(&self, out: &mut String, line: usize, col: Option<usize>, message: &str, hint: Option<&str>) {
        let place = match col {
            Some(col) => format!("{}:{line}:{col}", self.path),
            None => format!("{}:{line}", self.path),
        };
        let mut text = format!("{place}: {}\n", printable(message));
        let source = line.checked_sub(1).and_then(|index| self.lines.get(index));
        // What is missing at the end of a section has a place, but nothing to show there.
        if let Some(source) = source.filter(|source| !source.trim().is_empty()) {
            let (excerpt, caret) = cut(source, col.unwrap_or(1));
            let margin = line.to_string().len();
            let number = format!("{line:>margin$} | ");
            writeln!(text, "  {number}{excerpt}").expect("writing to a string cannot fail");
            if col.is_some() {
                let blank = " ".repeat(margin);
                writeln!(text, "  {blank} | {}^", " ".repeat(caret)).expect("writing to a string cannot fail");
            }
        }
        if let Some(hint) = hint {
            writeln!(text, "  hint: {}", printable(hint)).expect("writing to a string cannot fail");
        }
        out.push_str(&text);
    }
}

fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if is_harmful(c) { '\u{fffd}' } else { c })
        .collect()
}

/// The part of a line around a column, and where in it the caret goes (characters from 0).
fn cut(line: &str, col: usize) -> (String, usize) {
    let chars: Vec<char> = line
        .chars()
        .map(|c| if c == '\t' { ' ' } else { c })
        .map(|c| if is_harmful(c) { '\u{fffd}' } else { c })
        .collect();
    let at = col.saturating_sub(1).min(chars.len());
    if chars.len() <= EXCERPT_CHARS_MAX {
        return (chars.iter().collect(), at);
    }
    let from = at
        .saturating_sub(EXCERPT_CHARS_MAX / 2)
        .min(chars.len() - EXCERPT_CHARS_MAX);
    let part: String = chars[from..from + EXCERPT_CHARS_MAX].iter().collect();
    let left = if from > 0 { "…" } else { "" };
    let right = if from + EXCERPT_CHARS_MAX < chars.len() {
        "…"
    } else {
        ""
    };
    (format!("{left}{part}{right}"), at - from + left.chars().count())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::check;
    use crate::limits::Limits;

    #[test]
    fn every_problem_is_shown_with_its_line() {
        let text = "---\ndlm_id: 01HZ4X7TGZM3J1A2B3C4D5E6F7\nbase_model: smollm2-135m\ntraining:\n  lora_rank: 8\n  num_epochs: 0\n---\n\nProse.\n::instructoin::\n```\n";
        let report = check(text.as_bytes(), &Limits::default());
        insta::assert_snapshot!(render_check(Some("a.dlm"), text, &report), @r#"
        a.dlm:5:3: SchemaValidationError: training.lora_rank: unknown key
          5 |   lora_rank: 8
            |   ^
        a.dlm:6:3: SchemaValidationError: training.num_epochs: expected an integer >= 1, found the number `0`
          6 |   num_epochs: 0
            |   ^
        a.dlm:10:1: FenceError: unknown section type in `::instructoin::`, expected one of `prose`, `instruction`, `preference`, `image`, `audio`
          10 | ::instructoin::
             | ^
          hint: write `::instruction::`
        a.dlm:11:1: FenceError: unterminated code block: no closing run of backticks before the end of the file
          11 | ```
             | ^
          hint: close the block with as many backticks as open it
        "#);
    }

    #[test]
    fn long_lines_are_cut_around_the_caret() {
        let line: String = "ab".repeat(200);
        let (excerpt, caret) = cut(&line, 201);
        assert_eq!(excerpt.chars().count(), EXCERPT_CHARS_MAX + 2);
        assert_eq!(excerpt.chars().nth(caret), line.chars().nth(200));
        assert_eq!(cut("short", 99), ("short".to_owned(), 5));
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        let errors = crate::parse("---\na: \u{1b}[31m\n---\n").unwrap_err();
        let text = render_errors(None, "---\na: \u{1b}[31m\n---\n", &errors);
        assert!(text.starts_with("<text>:2:4: FrontmatterError: invalid YAML"), "{text}");
        assert!(!text.contains('\u{1b}'));
    }
}
