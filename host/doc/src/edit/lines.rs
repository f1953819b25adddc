//! Lines of a text with whatever line ends it has.
//!
//! Invariants: numbering agrees with the parser, which folds CRLF and CR to LF.

use std::ops::Range;

/// Byte ranges of the lines, each with its own line end; a text that ends with one has no empty line behind it.
pub(super) fn ranges(text: &str) -> Vec<Range<usize>> {
    let bytes = text.as_bytes();
    let mut ranges = Vec::new();
    let mut from = 0;
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'\r' if bytes.get(at + 1) == Some(&b'\n') => at + 2,
            b'\r' | b'\n' => at + 1,
            _ => {
                at += 1;
                continue;
            }
        };
        ranges.push(from..end);
        from = end;
        at = end;
    }
    if from < bytes.len() {
        ranges.push(from..bytes.len());
    }
    ranges
}

/// The line end that the first line uses.
pub(super) fn newline_of(text: &str) -> &'static str {
    match text.find(['\n', '\r']) {
        Some(at) if text[at..].starts_with("\r\n") => "\r\n",
        Some(at) if text[at..].starts_with('\r') => "\r",
        _ => "\n",
    }
}
