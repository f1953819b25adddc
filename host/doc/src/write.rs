//! The canonical writer: a document as values to the text that reads back as the same values.
//!
//! Invariants: parse(write(d)) equals d in everything but start lines, and write(parse(write(d))) is byte-identical;
//! what cannot be written so is refused. Nothing of an existing file is kept: tools that change a file edit in place
//! (`edit`).

mod frontmatter;
pub(crate) mod scalar;

use dlm_core::{Section, SectionKind};

use crate::document::{Document, parse};
use crate::error::ParseErrors;
use crate::fence;
use crate::marker::{self, MarkerWriteError};

/// Why a document cannot be written.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum WriteError {
    #[error("section {index} ({kind}): {source}")]
    Marker {
        index: usize,
        kind: SectionKind,
        source: MarkerWriteError,
    },
    #[error("section {index} ({kind}): attribute `{key}` cannot hold a quotation mark or a line end, found {value:?}")]
    Attribute {
        index: usize,
        kind: SectionKind,
        key: &'static str,
        value: String,
    },
    #[error("section {index} ({kind}) carries tags or a blob, which only directives make and no fence can hold")]
    NotFromText { index: usize, kind: SectionKind },
    #[error("the written text would not parse: {0}")]
    DoesNotParse(ParseErrors),
    #[error("section {index} ({kind}) would read back differently, its content probably holds a fence or marker line")]
    SectionChanges { index: usize, kind: SectionKind },
    #[error("{intended} sections would read back as {found}; a content holds a fence line or a prose section is blank")]
    SectionCount { intended: usize, found: usize },
    #[error("the frontmatter would read back differently at `{path}`")]
    FrontmatterChanges { path: String },
}

/// Writes a document in canonical form.
///
/// **Errors**: the result is parsed again and refused unless frontmatter, ids, types, adapters, provenance and
/// content are the intended ones.
pub fn write(document: &Document) -> Result<String, WriteError> {
    let mut text = frontmatter::write(&document.frontmatter);
    text.push('\n');
    for (index, section) in document.sections.iter().enumerate() {
        write_section(&mut text, index, section)?;
    }
    verify(document, &text)?;
    Ok(text)
}

/// Writes the frontmatter alone, with both `---` lines.
pub fn write_frontmatter(frontmatter: &crate::Frontmatter) -> String {
    frontmatter::write(frontmatter)
}

/// Writes fence, markers and content of one section; `index` 0 may go without a prose fence.
pub(crate) fn write_section(text: &mut String, index: usize, section: &Section) -> Result<(), WriteError> {
    let kind = section.kind;
    check_attributes(index, section)?;
    let markers = marker::write(
        kind,
        section.harvest_source.as_deref(),
        section.mined.as_ref(),
        section.synth.as_ref(),
    )
    .map_err(|source| WriteError::Marker { index, kind, source })?;
    let is_unfenced = index == 0 && kind == SectionKind::Prose && section.adapter.is_none();
    if !is_unfenced {
        text.push_str(&fence::write(kind, section.adapter.as_deref(), section.media.as_ref()));
        text.push('\n');
    }
    for line in markers {
        text.push_str(&line);
        text.push('\n');
    }
    text.push_str(&section.content);
    text.push('\n');
    Ok(())
}

fn check_attributes(index: usize, section: &Section) -> Result<(), WriteError> {
    let kind = section.kind;
    let has_blob = section.media.as_ref().is_some_and(|media| media.blob_sha.is_some());
    if !section.tags.is_empty() || has_blob {
        return Err(WriteError::NotFromText { index, kind });
    }
    let Some(media) = &section.media else { return Ok(()) };
    let pairs = [
        ("path", Some(&media.path)),
        ("alt", media.alt.as_ref()),
        ("transcript", media.transcript.as_ref()),
    ];
    for (key, value) in pairs {
        if let Some(value) = value.filter(|value| value.contains(['"', '\n', '\r'])) {
            return Err(WriteError::Attribute {
                index,
                kind,
                key,
                value: value.clone(),
            });
        }
    }
    Ok(())
}

fn verify(document: &Document, text: &str) -> Result<(), WriteError> {
    let parsed = parse(text).map_err(WriteError::DoesNotParse)?;
    if let Some(path) = frontmatter::difference(&document.frontmatter, parsed.frontmatter()) {
        return Err(WriteError::FrontmatterChanges { path });
    }
    let found = parsed.sections();
    for (index, (intended, found)) in document.sections.iter().zip(found).enumerate() {
        if !is_same(intended, found) {
            return Err(WriteError::SectionChanges {
                index,
                kind: intended.kind,
            });
        }
    }
    if found.len() != document.sections.len() {
        return Err(WriteError::SectionCount {
            intended: document.sections.len(),
            found: found.len(),
        });
    }
    Ok(())
}

/// Compares everything but the places in the file.
pub fn is_same(left: &Section, right: &Section) -> bool {
    let bare = |section: &Section| Section {
        start_line: 0,
        marker_lines: 0,
        ..section.clone()
    };
    bare(left) == bare(right)
}

#[cfg(test)]
#[path = "write/tests.rs"]
mod tests;
