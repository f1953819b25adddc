//! The text of a Modelfile.
//!
//! Ollama's parser takes quoted values literally: it strips the quotes and decodes no escapes (its `parser.go`, function
//! `unquote`). So a value that JSON would write unchanged goes in one pair of quotes, and any other goes between triple
//! quotes as it is; a value that holds three quotes in a row cannot be written and is refused.

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
        let body = template::body(chat)?;
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
    let json = serde_json::Value::String(value.to_owned()).to_string();
    if json.len() == value.len() + 2 {
        return Ok(json);
    }
    literal(what, value)
}

/// Triple quotes around the value as it is.
fn literal(what: &str, value: &str) -> Result<String, Error> {
    if value.contains("\"\"\"") || value.ends_with('"') {
        return Err(Error::Unsupported(format!(
            "{what} holds three double quotes in a row or ends with one, which a Modelfile cannot express"
        )));
    }
    let unprintable = value.chars().find(|c| c.is_control() && *c != '\n');
    if let Some(c) = unprintable {
        return Err(Error::Unsupported(format!(
            "{what} holds the control character U+{:04X}, which ollama drops from a Modelfile",
            u32::from(c)
        )));
    }
    Ok(format!("\"\"\"{value}\"\"\""))
}
