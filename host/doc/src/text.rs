//! From bytes to text with LF line ends, and the split of a file into frontmatter and body.
//!
//! Invariants: only LF splits lines after [`normalize`]; no Unicode folding happens anywhere; line numbers are 1-based
//! lines of the file and survive the folding of CRLF and CR.

use crate::error::{ErrorClass, ParseError, Warning, WarningKind};
use crate::findings::Findings;

/// Longest line quoted in a message, in characters.
const QUOTE_CHARS_MAX: usize = 60;

/// Decodes strict UTF-8.
///
/// **Errors**: `EncodingError` with the zero-based offset of the first bad byte.
pub fn decode(bytes: &[u8]) -> Result<&str, ParseError> {
    std::str::from_utf8(bytes).map_err(|error| {
        let offset = error.valid_up_to();
        let reason = match (error.error_len(), bytes.get(offset)) {
            (None, _) => "unexpected end of data".to_owned(),
            (Some(_), Some(0x80..=0xbf)) => "invalid start byte, a continuation byte stands alone".to_owned(),
            (Some(_), Some(byte)) => format!("byte 0x{byte:02x} starts no valid character"),
            (Some(_), None) => "invalid byte".to_owned(),
        };
        // The part before the bad byte is valid, so its lines can be counted.
        let before = String::from_utf8_lossy(&bytes[..offset]);
        let (line, col) = position_of_end(&dlm_core::section::normalize_newlines(&before));
        ParseError::new(
            ErrorClass::Encoding,
            line,
            col,
            format!("invalid UTF-8 at byte {offset}: {reason}"),
        )
        .with_hint("save the file as UTF-8")
    })
}

fn position_of_end(text: &str) -> (usize, usize) {
    let line = text.matches('\n').count() + 1;
    let col = text.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (line, col)
}

/// Removes one BOM (with a warning) and folds CRLF and CR to LF.
pub(crate) fn normalize(text: &str, warnings: &mut Findings<Warning>) -> String {
    if text.starts_with('\u{feff}') {
        warnings.push(Warning::new(
            WarningKind::Bom,
            1,
            "the file starts with a byte order mark, which is ignored",
        ));
    }
    dlm_core::section::normalize_newlines(text)
}

/// The two parts of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout<'a> {
    /// The YAML text; its first line is file line 2.
    pub yaml: &'a str,
    /// Line of the closing `---`.
    pub closer_line: usize,
    /// The body without the layout's own line ends.
    pub body: &'a str,
    /// Line of the body's first line.
    pub body_line: usize,
}

/// Splits a normalized text at its `---` lines.
pub(crate) fn split(text: &str) -> Result<Layout<'_>, ParseError> {
    let (first, rest) = match text.split_once('\n') {
        Some((first, rest)) => (first, Some(rest)),
        None => (text, None),
    };
    if first != "---" {
        let found = if text.is_empty() {
            "an empty file".to_owned()
        } else {
            format!("`{}`", quote(first))
        };
        let message = format!("expected `---` on line 1, found {found}");
        return Err(ParseError::new(ErrorClass::Frontmatter, 1, 1, message)
            .with_hint("start the file with `---`, the frontmatter, and `---` again"));
    }
    let rest = rest.unwrap_or_default();
    let mut offset = 0;
    for (index, line) in rest.split('\n').enumerate() {
        if line == "---" {
            let closer_line = index + 2;
            let after = rest.get(offset + line.len() + 1..).unwrap_or_default();
            let (body, body_line) = match after.strip_prefix('\n') {
                Some(body) => (body, closer_line + 2),
                None => (after, closer_line + 1),
            };
            let body = body.strip_suffix('\n').unwrap_or(body);
            return Ok(Layout {
                yaml: &rest[..offset],
                closer_line,
                body,
                body_line,
            });
        }
        offset += line.len() + 1;
    }
    Err(ParseError::new(
        ErrorClass::Frontmatter,
        1,
        1,
        "no closing `---` after the frontmatter that starts on line 1",
    )
    .with_hint("end the frontmatter with a line that is exactly `---`"))
}

/// Shortens a line for a message.
pub(crate) fn quote(line: &str) -> String {
    if line.chars().count() <= QUOTE_CHARS_MAX {
        line.to_owned()
    } else {
        let head: String = line.chars().take(QUOTE_CHARS_MAX).collect();
        format!("{head}…")
    }
}

/// Strips spaces and tabs, the only characters that the document calls blanks.
pub(crate) fn trim_blanks(line: &str) -> &str {
    line.trim_matches([' ', '\t'])
}
