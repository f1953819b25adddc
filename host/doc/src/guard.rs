//! Text that a tool made and is about to put into a body: made harmless before it is written.
//!
//! Invariants: the result holds no active fence or row header and leaves no code block open; the text itself is never
//! altered, only wrapped.

use std::borrow::Cow;

use dlm_core::SectionKind;

use crate::code_block::{CodeTracker, longest_run};
use crate::fence::{self, Line};

/// A text that cannot stand in a body.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GuardError {
    #[error("the text is blank, so no row can hold it")]
    Blank,
}

/// Row headers that end a body in sections of this type.
fn headers(kind: SectionKind) -> &'static [&'static str] {
    match kind {
        SectionKind::Instruction => &["### Q", "### Q !probe", "### A"],
        SectionKind::Preference => &["### Prompt", "### Chosen", "### Rejected"],
        _ => &[],
    }
}

/// Makes a text safe as a body of a row (or as content) of a section of this type: as it is when nothing in it is
/// active, else wrapped in a code block with more backticks than any run inside.
///
/// **Errors**: the text is blank.
pub fn guard(text: &str, kind: SectionKind) -> Result<Cow<'_, str>, GuardError> {
    if text.trim().is_empty() {
        return Err(GuardError::Blank);
    }
    let clean: Cow<'_, str> = if text.contains(['\r', '\u{feff}']) {
        Cow::Owned(dlm_core::section::normalize_newlines(text))
    } else {
        Cow::Borrowed(text)
    };
    if is_inert(&clean, kind) {
        return Ok(clean);
    }
    let ticks = "`".repeat((longest_run(&clean) + 1).max(3));
    Ok(Cow::Owned(format!("{ticks}\n{clean}\n{ticks}")))
}

/// Says whether a text can stand in a row of this type as it is: no line of it is a fence, a marker or a row header, and
/// no code block stays open.
pub fn is_inert(text: &str, kind: SectionKind) -> bool {
    let mut tracker = CodeTracker::default();
    for (index, line) in text.split('\n').enumerate() {
        let is_code = tracker.line(line, index + 1);
        let is_fence = matches!(fence::classify(line), Line::Fence(_) | Line::Broken(_));
        let is_marker = line.trim_start().starts_with(crate::marker::RESERVED);
        if !is_code && (is_fence || is_marker || headers(kind).contains(&line.trim())) {
            return false;
        }
    }
    tracker.open_line().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        assert_eq!(guard(text, SectionKind::Instruction).unwrap(), expected);
    }

    #[test]
    fn harmless_text_stays() {
        for text in ["a", "# heading\n\n- ::x", "```\n::prose::\n### Q\n```", "### Prompt"] {
            check(text, text);
        }
    }

    #[test]
    fn active_lines_are_wrapped() {
        check("a\n::prose::", "```\na\n::prose::\n```");
        check("::nope::", "```\n::nope::\n```");
        check("### A", "```\n### A\n```");
        check("```\nx\n```\n### Q !probe", "````\n```\nx\n```\n### Q !probe\n````");
        check("<!-- dlm-auto-mined: -->", "```\n<!-- dlm-auto-mined: -->\n```");
        check("a\r::prose::", "```\na\n::prose::\n```");
    }

    #[test]
    fn an_open_block_is_closed_by_wrapping() {
        check("```\nx", "````\n```\nx\n````");
    }

    #[test]
    fn blank_text_is_refused() {
        assert_eq!(guard(" \n", SectionKind::Prose), Err(GuardError::Blank));
    }
}
