//! Scalars as YAML text that reads back as the same value, here and in PyYAML.
//!
//! Invariants: a string that could be read as anything else is quoted; nothing depends on the locale or on width.

use std::fmt::Write as _;

use crate::limits::Limits;
use crate::yaml::{self, Kind};

/// Writes a string for one line: plain when that reads back as the same string, else in double quotes.
pub(crate) fn string(text: &str) -> String {
    if is_plain_safe(text) {
        text.to_owned()
    } else {
        quoted(text)
    }
}

/// Writes a mapping's key.
pub(crate) fn key(text: &str) -> String {
    flow_string(text)
}

/// Writes a string inside a flow list.
pub(crate) fn flow_string(text: &str) -> String {
    let is_word = text
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'/' | b'-'));
    if is_word && is_plain_safe(text) {
        text.to_owned()
    } else {
        quoted(text)
    }
}

fn is_plain_safe(text: &str) -> bool {
    let first = text.chars().next();
    let starts_well = first.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '/' | '.' | '(' | '~'));
    let shape = starts_well
        && text.trim() == text
        && !text.contains([':', '#', '"', '\'', '\\', '\t', '`', '{', '}', '[', ']', ','])
        || is_word_with_colon(text);
    let printable = text
        .chars()
        .all(|c| !c.is_control() && !matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}'));
    shape && printable && reads_back(text)
}

/// `hf:org/name` and the like: a colon that no blank follows does not end a key.
fn is_word_with_colon(text: &str) -> bool {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'/' | b'-' | b':');
    text.starts_with(|c: char| c.is_ascii_alphabetic()) && !text.ends_with(':') && text.bytes().all(good)
}

/// The final judge: the reader itself.
fn reads_back(text: &str) -> bool {
    let Ok(Some(node)) = yaml::parse(&format!("key: {text}\n"), &Limits::default()) else {
        return false;
    };
    let Kind::Map(entries) = &node.kind else { return false };
    match entries.as_slice() {
        [(_, value)] => yaml::resolve(value) == yaml::Value::Str(text.to_owned()),
        _ => false,
    }
}

fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if needs_escape(c) => push_escape(&mut out, c),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn needs_escape(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

fn push_escape(out: &mut String, c: char) {
    let code = u32::from(c);
    let written = match code {
        0..=0xff => write!(out, "\\x{code:02X}"),
        _ => write!(out, "\\u{code:04X}"),
    };
    written.expect("writing to a string cannot fail");
}

/// Writes a possibly long string as the value of a key at the left margin: a block scalar when it has several lines.
pub(crate) fn text_value(text: &str) -> String {
    let is_block_safe = text.contains('\n')
        && !text.trim_matches('\n').is_empty()
        // A document marker would end the frontmatter; indentation hides it. Control characters are not allowed.
        && text.chars().all(|c| c == '\n' || c == '\t' || !needs_escape(c))
        // Readers disagree about lines of blanks and about tabs where indentation is expected.
        && text.split('\n').all(|line| line.is_empty() || !(line.starts_with('\t') || line.trim().is_empty()));
    if !is_block_safe {
        return string(text);
    }
    let chomping = match text.len() - text.trim_end_matches('\n').len() {
        0 => "-",
        1 => "",
        _ => "+",
    };
    let mut out = format!("|2{chomping}");
    let body = text.strip_suffix('\n').unwrap_or(text);
    for line in body.split('\n') {
        out.push('\n');
        if !line.is_empty() {
            out.push_str("  ");
            out.push_str(line);
        }
    }
    out
}

/// Writes a finite number in its shortest form, always with a dot so that PyYAML reads a float.
pub(crate) fn real(value: f64) -> String {
    let magnitude = value.abs();
    if value == 0.0 || (1e-4..1e16).contains(&magnitude) {
        return format!("{value:?}");
    }
    let text = format!("{value:e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let dot = if mantissa.contains('.') { "" } else { ".0" };
    let sign = if exponent.starts_with('-') { "" } else { "+" };
    format!("{mantissa}{dot}e{sign}{exponent}")
}
