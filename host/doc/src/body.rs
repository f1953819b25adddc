//! The scanner: body lines to sections.
//!
//! Invariants: one pass, linear in the size of the body; every error is reported and scanning goes on behind it; the
//! content of a section is its lines joined with LF, without fence, lifted markers and final LF.

use dlm_core::{Section, SectionKind};

use crate::code_block::CodeTracker;
use crate::error::{ErrorClass, ParseError, Warning, WarningKind};
use crate::fence::{self, Fence, Line};
use crate::findings::Findings;
use crate::limits::Limits;
use crate::marker::{self, Marker};
use crate::text::{quote, trim_blanks};

/// What the scanner found.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    pub sections: Vec<Section>,
    /// Line of every fence, also of those whose blank prose section was dropped.
    pub fence_lines: Vec<usize>,
    pub errors: Findings<ParseError>,
    pub warnings: Findings<Warning>,
}

/// The section that is being read.
struct Open {
    /// `None` behind a broken fence: the lines are read for code blocks only.
    fence: Option<Fence>,
    start_line: usize,
    /// Byte offset of the first content line and its line number.
    content_from: usize,
    content_line: usize,
}

/// Scans a body whose first line is file line `first_line`.
pub(crate) fn scan(body: &str, first_line: usize, limits: &Limits) -> Scan {
    let mut scan = Scan::default();
    let mut tracker = CodeTracker::default();
    let mut open = Open {
        fence: Some(Fence {
            kind: SectionKind::Prose,
            adapter: None,
            media: None,
        }),
        start_line: first_line,
        content_from: 0,
        content_line: first_line,
    };
    let mut offset = 0;
    let lines = if body.is_empty() { None } else { Some(body.split('\n')) };
    for (index, line) in lines.into_iter().flatten().enumerate() {
        let number = first_line + index;
        let next = offset + line.len() + 1;
        if !tracker.line(line, number) {
            let fence = match fence::classify(line) {
                Line::Text => None,
                Line::NearMiss(kind) => {
                    scan.warnings.push(near_miss(line, number, kind));
                    None
                }
                Line::Fence(fence) => Some(Some(fence)),
                Line::Broken(error) => {
                    scan.errors.push(fence_error(&error, number));
                    Some(None)
                }
            };
            if let Some(fence) = fence {
                close(&open, body, offset, limits, &mut scan);
                scan.fence_lines.push(number);
                open = Open {
                    fence,
                    start_line: number,
                    content_from: next,
                    content_line: number + 1,
                };
            }
        }
        offset = next;
    }
    close(&open, body, body.len() + 1, limits, &mut scan);
    if let Some(line) = tracker.open_line() {
        let message = "unterminated code block: no closing run of backticks before the end of the file";
        let error = ParseError::new(ErrorClass::Fence, line, 1, message);
        scan.errors
            .push(error.with_hint("close the block with as many backticks as open it"));
    }
    scan.errors.sort_by_key(|error| (error.line, error.col));
    scan
}

fn near_miss(line: &str, number: usize, kind: SectionKind) -> Warning {
    let form = if kind.is_media() {
        format!("::{kind} path=\"…\"::")
    } else {
        format!("::{kind}::")
    };
    let message = format!(
        "`{}` looks like a fence but is read as text; a fence is `{form}`",
        quote(trim_blanks(line))
    );
    Warning::new(WarningKind::NearMissFence, number, message)
}

fn fence_error(error: &fence::FenceError, line: usize) -> ParseError {
    let parsed = ParseError::new(ErrorClass::Fence, line, 1, error.to_string());
    match error.hint() {
        Some(hint) => parsed.with_hint(hint),
        None => parsed,
    }
}

/// Ends the open section before byte `end` (the start of the next fence, or one past the end of the body).
fn close(open: &Open, body: &str, end: usize, limits: &Limits, scan: &mut Scan) {
    let Some(fence) = &open.fence else { return };
    // `end` is where the next line starts, so the LF before it is not content.
    let content = if open.content_from < end {
        &body[open.content_from..end - 1]
    } else {
        ""
    };
    if fence.kind == SectionKind::Prose && content.chars().all(char::is_whitespace) {
        return;
    }
    let mut section = Section::text(fence.kind, "");
    section.start_line = open.start_line;
    section.adapter.clone_from(&fence.adapter);
    section.media.clone_from(&fence.media);
    let content = lift_markers(content, open, &mut section, scan);
    check_size(content.len(), open.start_line, limits, scan);
    section.content = content.to_owned();
    if let Some(media) = &section.media {
        check_media_path(&media.path, open.start_line, scan);
    }
    scan.sections.push(section);
}

/// Takes the leading markers out of a content; returns what is left.
fn lift_markers<'a>(content: &'a str, open: &Open, section: &mut Section, scan: &mut Scan) -> &'a str {
    let mut rest = Some(content);
    let mut line_number = open.content_line;
    while let Some(text) = rest {
        let (line, tail) = match text.split_once('\n') {
            Some((line, tail)) => (line, Some(tail)),
            None => (text, None),
        };
        match marker::read(line, section.kind) {
            None => {
                warn_near_markers(text, line_number, section.kind, scan);
                break;
            }
            Some(Ok(Marker::Harvest(source))) => section.harvest_source = Some(source),
            Some(Ok(Marker::Mined(mined))) => section.mined = Some(mined),
            Some(Ok(Marker::Synth(synth))) => section.synth = Some(synth),
            Some(Err(error)) => scan
                .errors
                .push(ParseError::new(ErrorClass::Fence, line_number, 1, error.to_string())),
        }
        section.marker_lines += 1;
        line_number += 1;
        rest = tail;
    }
    rest.unwrap_or_default()
}

/// Warns about reserved comments at the head of a section that were not lifted.
fn warn_near_markers(text: &str, first_line: usize, kind: SectionKind, scan: &mut Scan) {
    if !matches!(kind, SectionKind::Instruction | SectionKind::Preference) {
        return;
    }
    for (index, line) in text.split('\n').enumerate() {
        let trimmed = line.trim();
        if trimmed.starts_with(marker::RESERVED) {
            let message = format!(
                "`{}` is read as text: a marker stands alone on its line directly under the fence of a section of its type",
                quote(trimmed)
            );
            scan.warnings
                .push(Warning::new(WarningKind::NearMissMarker, first_line + index, message));
        } else if !trimmed.is_empty() {
            return;
        }
    }
}

fn check_size(bytes: usize, line: usize, limits: &Limits, scan: &mut Scan) {
    if bytes > limits.section_bytes_max {
        let message = format!(
            "section has {bytes} bytes, more than the limit of {}",
            limits.section_bytes_max
        );
        let error = ParseError::new(ErrorClass::Limit, line, 1, message);
        scan.errors.push(error.with_hint("split the section with a fence"));
    } else if bytes > limits.section_bytes_warn {
        let message = format!(
            "section has {bytes} bytes; above {} bytes most of it is outside one training window",
            limits.section_bytes_warn
        );
        scan.warnings
            .push(Warning::new(WarningKind::LargeSection, line, message));
    }
}

fn check_media_path(path: &str, line: usize, scan: &mut Scan) {
    let bytes = path.as_bytes();
    let is_drive = bytes.len() >= 2 && bytes[0].is_ascii_alphabetic() && bytes[1] == b':';
    let mut depth = 0i64;
    let leaves = path.split(['/', '\\']).any(|part| {
        depth += match part {
            "" | "." => 0,
            ".." => -1,
            _ => 1,
        };
        depth < 0
    });
    let what = if path.starts_with(['/', '\\', '~']) || is_drive {
        "is absolute"
    } else if leaves {
        "leaves the document's directory"
    } else {
        return;
    };
    let message = format!(
        "path `{}` {what}, so the document cannot be moved with its files",
        quote(path)
    );
    scan.warnings.push(Warning::new(WarningKind::MediaPath, line, message));
}
