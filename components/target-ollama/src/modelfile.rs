//! The text of a Modelfile.
//!
//! Ollama's parser takes quoted values literally: it strips the quotes and decodes no escapes (its `parser.go`, function
//! `unquote`). So a value that JSON would write unchanged goes in one pair of quotes, and any other goes between triple
//! quotes as it is; a value that holds three quotes in a row cannot be written and is refused. So is one with a character
//! that the parser drops.

use dlm_plugin::inputs::{self, Weights};
use dlm_plugin::target::Plan;
use dlm_plugin::text::one_line;
use dlm_plugin::{Error, serde_json};

use crate::template;

/// Who wrote the file, and when.
pub struct Made {
    pub by: String,
    pub at: String,
}

/// Writes the groups in their fixed order, one blank line between them.
pub fn write(plan: &Plan, weights: &Weights, made: &Made) -> Result<String, Error> {
    let mut groups = vec![header(plan, made), from(weights)?];
    if let Some(chat) = plan.chat.as_ref().filter(|chat| chat.written) {
        let derived = plan.options.iter().find(|option| option.name == template::OPTION);
        let body = match derived {
            Some(derived) => derived.value.clone(),
            None => template::body(chat)?,
        };
        groups.push(format!("TEMPLATE {}", literal("the template", &body)?));
    }
    groups.push(parameters(plan)?);
    if let Some(system) = plan
        .system_prompt
        .as_deref()
        .map(str::trim)
        .filter(|text| !text.is_empty())
    {
        groups.push(format!("SYSTEM {}", quoted("the system prompt", system)?));
    }
    if let Some(license) = plan
        .base
        .license
        .as_deref()
        .map(str::trim)
        .filter(|text| !text.is_empty())
    {
        groups.push(format!("LICENSE {}", quoted("the licence", license)?));
    }
    groups.retain(|group| !group.is_empty());
    Ok(groups.join("\n\n") + "\n")
}

fn header(plan: &Plan, made: &Made) -> String {
    let mut lines = vec![format!("# {}, {}", made.by, made.at)];
    if let Some(source) = &plan.source {
        lines.push(format!("# source: {}", one_line(source)));
    }
    lines.push(format!("# dlm_id: {}", one_line(&plan.document_id)));
    let version = plan.adapters.iter().map(|adapter| adapter.version).max();
    if let Some(version) = version {
        lines.push(format!("# adapter_version: {version}"));
    }
    let revision = plan.base.revision.as_deref().unwrap_or("none");
    lines.push(format!(
        "# base_model: {} (revision {})",
        one_line(&plan.base.reference),
        one_line(revision)
    ));
    lines.push(format!("# quant: {}", one_line(&plan.quant)));
    lines.push(format!("# merged: {}", plan.merged));
    lines.join("\n")
}

fn from(weights: &Weights) -> Result<String, Error> {
    let mut lines = vec![format!("FROM ./{}", file_name(&inputs::path(&weights.model))?)];
    if let Some(adapter) = &weights.adapter {
        lines.push(format!("ADAPTER ./{}", file_name(&inputs::path(adapter))?));
    }
    Ok(lines.join("\n"))
}

/// A file name that stands unquoted in a Modelfile.
fn file_name(name: &str) -> Result<String, Error> {
    if name.chars().any(|c| c.is_whitespace() || c.is_control() || c == '"') {
        return Err(Error::Unsupported(format!(
            "the file name `{}` cannot be written in a Modelfile",
            one_line(name)
        )));
    }
    Ok(name.to_owned())
}

fn parameters(plan: &Plan) -> Result<String, Error> {
    let mut lines = Vec::new();
    for stop in plan.chat.iter().flat_map(|chat| &chat.stop) {
        lines.push(format!("PARAMETER stop {}", quoted("a stop text", stop)?));
    }
    if let Some(temperature) = plan.temperature {
        lines.push(format!("PARAMETER temperature {}", number("temperature", temperature)?));
    }
    if let Some(top_p) = plan.top_p {
        lines.push(format!("PARAMETER top_p {}", number("top_p", top_p)?));
    }
    if plan.context_length > 0 {
        lines.push(format!("PARAMETER num_ctx {}", plan.context_length));
    }
    if let Some(draft) = &plan.draft {
        let draft = one_line(draft);
        lines.push(format!("# draft model for speculative decoding: {draft}"));
        lines.push(format!(
            "# fetch it with `ollama pull {draft}` and give it to a runtime that decodes speculatively"
        ));
    }
    Ok(lines.join("\n"))
}

fn number(what: &str, value: f32) -> Result<String, Error> {
    if value.is_finite() {
        return Ok(value.to_string());
    }
    Err(Error::InvalidInput(format!(
        "{what} is {value}, a finite number was expected"
    )))
}

/// One pair of quotes where the value needs no escape, triple quotes otherwise.
fn quoted(what: &str, value: &str) -> Result<String, Error> {
    check_kept(what, value)?;
    let json = serde_json::Value::String(value.to_owned()).to_string();
    if json.len() == value.len() + 2 {
        return Ok(json);
    }
    literal(what, value)
}

/// Triple quotes around the value as it is.
fn literal(what: &str, value: &str) -> Result<String, Error> {
    check_kept(what, value)?;
    // A quote at the end is no part of the three that close the value: the parser takes the last three off.
    if value.contains("\"\"\"") {
        return Err(Error::Unsupported(format!(
            "{what} holds three double quotes in a row, which a Modelfile cannot express"
        )));
    }
    Ok(format!("\"\"\"{value}\"\"\""))
}

/// Refuses a value of which the parser drops a part.
fn check_kept(what: &str, value: &str) -> Result<(), Error> {
    let Some((at, c)) = value.char_indices().find(|(_, c)| !is_kept(*c)) else {
        return Ok(());
    };
    let line = value[..at].matches('\n').count() + 1;
    let remedy = if c.is_whitespace() && !c.is_control() {
        "write a plain blank instead"
    } else {
        "leave it out"
    };
    Err(Error::Unsupported(format!(
        "{what} holds U+{:04X} in its line {line}, which ollama drops from a Modelfile; {remedy}",
        u32::from(c)
    )))
}

/// Whether the parser keeps a character: line ends, tabs and the blank, and what Go counts as printable: letters, marks,
/// numbers, punctuation and symbols.
///
/// Rust escapes the same characters and no others inside a text, besides quotes and the like.
/// **Source:** Ollama's `parser.go`; `strconv.IsPrint`; `core::unicode::printable`.
fn is_kept(c: char) -> bool {
    // A letter in front, because a mark at the beginning of a text is escaped, too.
    matches!(c, '\n' | '\t') || !format!("a{c}").escape_debug().to_string().contains("\\u{") && c != '\r'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_parser_drops_is_found() {
        for kept in [
            'a', 'é', '\u{301}', '😀', ' ', '\n', '\t', '{', '}', '"', '\'', '\\', '世', '∑',
        ] {
            assert!(is_kept(kept), "{kept:?}");
        }
        let dropped = [
            '\u{a0}', '\u{3000}', '\u{202f}', '\u{2009}', '\u{200b}', '\u{200d}', '\u{ad}', '\u{feff}', '\u{202e}',
            '\u{e000}', '\u{7}', '\r',
        ];
        for dropped in dropped {
            assert!(!is_kept(dropped), "{dropped:?}");
        }
    }

    #[test]
    fn the_place_and_the_remedy_are_named() {
        let told = |value: &str| quoted("the system prompt", value).unwrap_err();
        let Error::Unsupported(message) = told("one\ntwo\u{a0}three") else {
            panic!()
        };
        assert_eq!(
            message,
            "the system prompt holds U+00A0 in its line 2, which ollama drops from a Modelfile; write a plain blank instead"
        );
        assert!(matches!(told("a\u{200b}"), Error::Unsupported(message) if message.ends_with("leave it out")));
    }

    #[test]
    fn a_quote_at_the_end_is_expressed() {
        assert_eq!(quoted("x", "say \"yes\"").unwrap(), "\"\"\"say \"yes\"\"\"\"");
        assert!(quoted("x", "a\"\"\"b").is_err());
    }
}
