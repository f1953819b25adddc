//! Edits in place: only the bytes concerned change, everything else stays as the author left it.
//!
//! Invariants: line ends, comments, key order and every untouched section stay byte-identical; the result is parsed
//! again, and an edit that would change anything it should not is refused.

mod lines;
mod migrate;

use dlm_core::{Hints, Section, Subject};

use crate::document::{NO_ID, Parsed, parse, parse_template};
use crate::error::ParseErrors;
use crate::limits::Limits;
use crate::write::{WriteError, is_same, scalar, write_section};

pub use migrate::{MigratedText, migrate_text};

/// Why a text was not edited.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum EditError {
    #[error("the document does not parse: {0}")]
    Source(ParseErrors),
    #[error("{0}")]
    Section(WriteError),
    #[error("no section {index}, the document has {sections}")]
    NoSuchSection { index: usize, sections: usize },
    #[error("the edited text would not parse: {0}")]
    Result(ParseErrors),
    #[error("the edit would change section {index}, probably because a content holds a fence or marker line")]
    Changes { index: usize },
    #[error("`training.dpo` on line {line} uses anchors, aliases or merge keys and cannot be moved by machine")]
    SharedYaml { line: usize },
    #[error("the migrated frontmatter would read differently")]
    FrontmatterChanges,
}

impl Hints for EditError {
    fn subject(&self) -> Subject {
        Subject::Edit
    }

    fn hints(&self) -> Vec<String> {
        match self {
            EditError::Source(errors) | EditError::Result(errors) => errors.hints(),
            EditError::SharedYaml { .. } | EditError::FrontmatterChanges => {
                vec!["rename `training.dpo` to `training.preference` by hand and set `dlm_version: 15`".to_owned()]
            }
            _ => Vec::new(),
        }
    }
}

/// Appends sections at the end of a text.
///
/// No blank line is put before the first new fence, so the last section keeps its content and its id.
///
/// **Errors**: the text does not parse; a section cannot be written, or would read back differently.
pub fn append_sections(source: &str, sections: &[Section]) -> Result<String, EditError> {
    let before = parse(source).map_err(EditError::Source)?;
    let mut added = String::new();
    for (index, section) in sections.iter().enumerate() {
        // Never as the first section of a document, which alone may go without a fence.
        write_section(&mut added, index.max(1), section).map_err(EditError::Section)?;
    }
    let newline = lines::newline_of(source);
    let mut text = source.to_owned();
    if !added.is_empty() && !text.ends_with(['\n', '\r']) {
        text.push_str(newline);
    }
    text.push_str(&added.replace('\n', newline));
    let expected: Vec<&Section> = before.sections().iter().chain(sections).collect();
    verify(&before, &expected, &text)?;
    Ok(text)
}

/// Inserts each section directly after the section with its index, in the given order.
///
/// No blank line is put around the new fences, so every section keeps its content and its id.
///
/// **Errors**: as [`append_sections`]; there is no such section.
pub fn insert_sections(source: &str, sections: &[(usize, Section)]) -> Result<String, EditError> {
    let before = parse(source).map_err(EditError::Source)?;
    let count = before.sections().len();
    if let Some((index, _)) = sections.iter().find(|(index, _)| *index >= count) {
        return Err(EditError::NoSuchSection {
            index: *index,
            sections: count,
        });
    }
    let newline = lines::newline_of(source);
    let ranges = lines::ranges(source);
    let mut text = String::with_capacity(source.len());
    let mut expected: Vec<&Section> = Vec::new();
    let mut from = 0;
    for (index, kept) in before.sections().iter().enumerate() {
        expected.push(kept);
        let mut added = String::new();
        for (_, section) in sections.iter().filter(|(after, _)| *after == index) {
            write_section(&mut added, index + 1, section).map_err(EditError::Section)?;
            expected.push(section);
        }
        if added.is_empty() {
            continue;
        }
        let next_fence = before.fence_lines.iter().copied().find(|line| *line > kept.start_line);
        let to = next_fence.map_or(source.len(), |line| ranges[line - 1].start);
        text.push_str(&source[from..to]);
        if !text.ends_with(['\n', '\r']) {
            text.push_str(newline);
        }
        text.push_str(&added.replace('\n', newline));
        from = to;
    }
    text.push_str(&source[from..]);
    verify(&before, &expected, &text)?;
    Ok(text)
}

/// Gives a document another id, and a template that has none its first: only the value of `dlm_id` changes, comments and order
/// stay.
///
/// **Errors**: the text does not parse; its `dlm_id` does not stand on one line of its own.
pub fn replace_id(source: &str, dlm_id: &dlm_core::Ulid) -> Result<String, EditError> {
    let before = parse_template(source, &Limits::default()).map_err(EditError::Source)?;
    let old = before.frontmatter().dlm_id.as_str();
    let ranges = lines::ranges(source);
    let head = &ranges[..before.body_line.saturating_sub(1).min(ranges.len())];
    let is_key = |range: &&std::ops::Range<usize>| source[(*range).clone()].starts_with("dlm_id");
    let line = head
        .iter()
        .find(|range| is_key(range) && source[(*range).clone()].contains(old));
    let text = match (line, head.first()) {
        (Some(line), _) => {
            let changed = source[line.clone()].replacen(old, dlm_id.as_str(), 1);
            [&source[..line.start], &changed, &source[line.end..]].concat()
        }
        (None, Some(first)) if old == NO_ID => {
            let newline = if source[first.clone()].ends_with("\r\n") {
                "\r\n"
            } else {
                "\n"
            };
            let added = format!("dlm_id: {dlm_id}{newline}");
            [&source[..first.end], &added, &source[first.end..]].concat()
        }
        _ => return Err(EditError::FrontmatterChanges),
    };
    let after = parse(&text).map_err(EditError::Result)?;
    let mut expected = before.frontmatter().clone();
    expected.dlm_id = dlm_id.clone();
    let pairs = || before.sections().iter().zip(after.sections());
    let has_same = before.sections().len() == after.sections().len() && pairs().all(|(old, new)| is_same(old, new));
    if *after.frontmatter() != expected || !has_same {
        return Err(EditError::FrontmatterChanges);
    }
    Ok(text)
}

/// Gives a document another base: only the line of `base_model` changes, everything else stays.
///
/// **Errors**: the text does not parse; its `base_model` does not stand on one line of its own.
pub fn replace_base(source: &str, base_model: &str) -> Result<String, EditError> {
    let before = parse(source).map_err(EditError::Source)?;
    let body = lines::ranges(source)
        .get(before.body_line - 1)
        .map_or(source.len(), |range| range.start);
    let line = lines::ranges(source)
        .into_iter()
        .take_while(|range| range.start < body)
        .find(|range| source[range.clone()].starts_with("base_model"))
        .ok_or(EditError::FrontmatterChanges)?;
    let old = &source[line.clone()];
    let end = &old[old.trim_end_matches(['\r', '\n']).len()..];
    let mut text = source[..line.start].to_owned();
    text.push_str(&format!("base_model: {}{end}", scalar::string(base_model)));
    text.push_str(&source[line.end..]);
    let after = parse(&text).map_err(EditError::Result)?;
    let mut expected = before.frontmatter().clone();
    base_model.clone_into(&mut expected.base_model);
    if *after.frontmatter() != expected || after.sections() != before.sections() {
        return Err(EditError::FrontmatterChanges);
    }
    Ok(text)
}

/// Removes the sections with these indices, each from its fence to the line before the next fence.
///
/// **Errors**: the text does not parse; there is no such section.
pub fn remove_sections(source: &str, indices: &[usize]) -> Result<String, EditError> {
    let before = parse(source).map_err(EditError::Source)?;
    let sections = before.sections();
    if let Some(index) = indices.iter().copied().find(|index| *index >= sections.len()) {
        return Err(EditError::NoSuchSection {
            index,
            sections: sections.len(),
        });
    }
    let ranges = lines::ranges(source);
    let mut is_removed = vec![false; ranges.len()];
    for index in indices {
        let from = sections[*index].start_line;
        let to = before
            .fence_lines
            .iter()
            .copied()
            .find(|line| *line > from)
            .unwrap_or(ranges.len() + 1);
        is_removed[from - 1..to - 1].fill(true);
    }
    let kept = ranges.iter().zip(&is_removed).filter(|(_, removed)| !**removed);
    let text: String = kept.map(|(range, _)| &source[range.clone()]).collect();
    let expected: Vec<&Section> = sections
        .iter()
        .enumerate()
        .filter(|(index, _)| !indices.contains(index))
        .map(|(_, section)| section)
        .collect();
    verify(&before, &expected, &text)?;
    Ok(text)
}

fn verify(before: &Parsed, expected: &[&Section], text: &str) -> Result<(), EditError> {
    let after = parse(text).map_err(EditError::Result)?;
    if after.frontmatter() != before.frontmatter() {
        return Err(EditError::FrontmatterChanges);
    }
    let found = after.sections();
    let changed = expected
        .iter()
        .zip(found)
        .position(|(expected, found)| !is_same(expected, found));
    let index = changed.or_else(|| (expected.len() != found.len()).then(|| expected.len().min(found.len())));
    match index {
        Some(index) => Err(EditError::Changes { index }),
        None => Ok(()),
    }
}

#[cfg(test)]
#[path = "edit/tests.rs"]
mod tests;
