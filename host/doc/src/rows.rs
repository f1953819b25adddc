//! The row grammar: question-answer pairs and preference triples inside a section.
//!
//! Invariants: rows are read when training or checking, never by the document parser; only LF splits lines; headers
//! inside code blocks are text.

use dlm_core::{Section, SectionKind};
use serde::{Deserialize, Serialize};

use crate::code_block::CodeTracker;
use crate::error::ErrorClass;
use crate::text::quote;

/// One question and its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    pub question: String,
    pub answer: String,
    /// Marked `### Q !probe`.
    pub is_probe: bool,
    /// Line of the `### Q` header; 1 is the first content line.
    pub section_line: usize,
}

/// One preference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Triple {
    pub prompt: String,
    pub chosen: String,
    pub rejected: String,
    /// Line of the `### Prompt` header; 1 is the first content line.
    pub section_line: usize,
}

/// The rows of a section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rows {
    Pairs(Vec<Pair>),
    Triples(Vec<Triple>),
    /// The type has no row grammar.
    None,
}

impl Rows {
    /// What the rows ask: the questions of pairs, the prompts of triples.
    pub fn prompts(self) -> Vec<String> {
        match self {
            Rows::Pairs(pairs) => pairs.into_iter().map(|pair| pair.question).collect(),
            Rows::Triples(triples) => triples.into_iter().map(|triple| triple.prompt).collect(),
            Rows::None => Vec::new(),
        }
    }
}

/// What is wrong with the rows of a section.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RowProblem {
    #[error("no {what} found, expected `{header}`")]
    NoRows { what: &'static str, header: &'static str },
    #[error("expected `{expected}`, found `{found}`")]
    Unexpected { expected: &'static str, found: String },
    #[error("empty body under `{header}`")]
    EmptyBody { header: &'static str },
    #[error("the section ends without the `{expected}` that belongs to the `{header}` on line {opened}")]
    CutShort {
        expected: &'static str,
        /// The last header that is there.
        header: &'static str,
        /// Where that header stands: 1-based line of the file.
        opened: usize,
    },
}

/// A problem with its place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct RowError {
    pub class: ErrorClass,
    /// 1 is the first content line; may be one past the last.
    pub section_line: usize,
    /// 1-based line of the file.
    pub line: usize,
    pub problem: RowProblem,
}

const QUESTION: &str = "### Q";
pub(crate) const PROBE: &str = "### Q !probe";
const ANSWER: &str = "### A";
const PAIR: &[&str] = &[QUESTION, ANSWER];
const TRIPLE: &[&str] = &["### Prompt", "### Chosen", "### Rejected"];

/// The headers of one row of this type, in order; empty when the type has no rows.
pub(crate) fn headers(kind: SectionKind) -> &'static [&'static str] {
    match kind {
        SectionKind::Instruction => PAIR,
        SectionKind::Preference => TRIPLE,
        SectionKind::Prose | SectionKind::Image | SectionKind::Audio => &[],
    }
}

/// Reads the rows of a section.
///
/// **Errors**: the first violation of the grammar in the section.
pub fn rows(section: &Section) -> Result<Rows, RowError> {
    all_rows(section).map_err(|mut errors| errors.swap_remove(0))
}

/// Reads the rows of a section.
///
/// **Errors**: every record that violates the grammar, at its first violation, by line; what follows from one violation
/// inside the same record is not told.
pub fn all_rows(section: &Section) -> Result<Rows, Vec<RowError>> {
    let (class, read) = match section.kind {
        SectionKind::Instruction => (ErrorClass::InstructionGrammar, pairs(&section.content).map(Rows::Pairs)),
        SectionKind::Preference => (
            ErrorClass::PreferenceGrammar,
            triples(&section.content).map(Rows::Triples),
        ),
        _ => return Ok(Rows::None),
    };
    let error = |(section_line, mut problem): Flaw| {
        if let RowProblem::CutShort { opened, .. } = &mut problem {
            *opened = section.file_line(*opened);
        }
        RowError {
            class,
            section_line,
            line: section.file_line(section_line),
            problem,
        }
    };
    read.map_err(|flaws| flaws.into_iter().map(error).collect())
}

/// A problem and its section line; lines inside the problem count from the section too.
type Flaw = (usize, RowProblem);

fn pairs(content: &str) -> Result<Vec<Pair>, Vec<Flaw>> {
    let records = records(content, PAIR, "question and answer pairs")?;
    Ok(records
        .into_iter()
        .map(|record| {
            let [question, answer] = <[String; 2]>::try_from(record.bodies).expect("a pair has two bodies");
            Pair {
                question,
                answer,
                is_probe: record.is_probe,
                section_line: record.line,
            }
        })
        .collect())
}

fn triples(content: &str) -> Result<Vec<Triple>, Vec<Flaw>> {
    let records = records(content, TRIPLE, "preference triples")?;
    Ok(records
        .into_iter()
        .map(|record| {
            let [prompt, chosen, rejected] = <[String; 3]>::try_from(record.bodies).expect("a triple has three bodies");
            Triple {
                prompt,
                chosen,
                rejected,
                section_line: record.line,
            }
        })
        .collect())
}

/// One repetition of the headers, in order.
struct Record {
    bodies: Vec<String>,
    is_probe: bool,
    line: usize,
}

/// Finds which header a line is; `is_probe` when it carries the mark.
fn header_of(line: &str, headers: &[&'static str]) -> Option<(&'static str, bool)> {
    let text = line.trim();
    if text == PROBE && headers.contains(&QUESTION) {
        return Some((QUESTION, true));
    }
    headers
        .iter()
        .find(|header| **header == text)
        .map(|header| (*header, false))
}

fn records(content: &str, headers: &'static [&'static str], what: &'static str) -> Result<Vec<Record>, Vec<Flaw>> {
    let mut tracker = CodeTracker::default();
    let lines: Vec<(&str, Option<(&'static str, bool)>)> = content
        .split('\n')
        .enumerate()
        .map(|(index, line)| {
            (
                line,
                if tracker.line(line, index + 1) {
                    None
                } else {
                    header_of(line, headers)
                },
            )
        })
        .collect();
    let (mut records, mut flaws) = (Vec::new(), Vec::new());
    let mut at = 0;
    loop {
        while at < lines.len() && lines[at].0.trim().is_empty() {
            at += 1;
        }
        if at == lines.len() {
            break;
        }
        let start = at;
        match record(&lines, &mut at, headers) {
            Ok(record) => records.push(record),
            Err(flaw) => {
                flaws.push(flaw);
                // The next record begins at the next first header.
                let next = (at.max(start + 1)..lines.len())
                    .find(|index| lines[*index].1.is_some_and(|(header, _)| header == headers[0]));
                at = next.unwrap_or(lines.len());
            }
        }
    }
    if records.is_empty() && flaws.is_empty() {
        let header = headers[0];
        flaws.push((1, RowProblem::NoRows { what, header }));
    }
    if flaws.is_empty() { Ok(records) } else { Err(flaws) }
}

type HeadedLine<'a> = (&'a str, Option<(&'static str, bool)>);

/// Reads one record from line index `at` on, which is left behind it.
fn record(lines: &[HeadedLine<'_>], at: &mut usize, headers: &'static [&'static str]) -> Result<Record, Flaw> {
    let mut record = Record {
        bodies: Vec::with_capacity(headers.len()),
        is_probe: false,
        line: *at + 1,
    };
    let mut opened = record.line;
    for expected in headers {
        let Some((line, header)) = lines.get(*at) else {
            let previous = headers[record.bodies.len().saturating_sub(1)];
            let problem = RowProblem::CutShort {
                expected,
                header: previous,
                opened,
            };
            return Err((lines.len() + 1, problem));
        };
        match header {
            Some((found, is_probe)) if found == expected => record.is_probe |= is_probe,
            _ => {
                return Err((
                    *at + 1,
                    RowProblem::Unexpected {
                        expected,
                        found: quote(line.trim()),
                    },
                ));
            }
        }
        opened = *at + 1;
        let from = *at + 1;
        let to = (from..lines.len())
            .find(|index| lines[*index].1.is_some())
            .unwrap_or(lines.len());
        let body = lines[from..to]
            .iter()
            .map(|(line, _)| *line)
            .collect::<Vec<_>>()
            .join("\n");
        let body = body.trim();
        if body.is_empty() {
            return Err((to + 1, RowProblem::EmptyBody { header: expected }));
        }
        record.bodies.push(body.to_owned());
        *at = to;
    }
    Ok(record)
}

#[cfg(test)]
#[path = "rows/tests.rs"]
mod tests;
