//! One line of the body, outside code blocks: a fence, a broken fence, something close to one, or text.
//!
//! Invariants: a line is judged alone; a fence is the whole line but for blanks around it.

use dlm_core::{Media, SectionKind};

use crate::frontmatter::field::nearest;
use crate::frontmatter::read::{ADAPTER_NAME_PATTERN, is_adapter_name};
use crate::text::trim_blanks;

/// A well-formed fence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fence {
    pub kind: SectionKind,
    pub adapter: Option<String>,
    pub media: Option<Media>,
}

/// What a line is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    Fence(Fence),
    Broken(FenceError),
    /// Text that looks like a fence for this type.
    NearMiss(SectionKind),
    Text,
}

/// What is wrong with a fence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FenceError {
    #[error("unknown section type in `{fence}`, expected one of {}", types())]
    UnknownType { fence: String, name: String },
    #[error("empty adapter name in `{fence}`, expected `{head}#name` with a name that matches {ADAPTER_NAME_PATTERN}")]
    EmptyAdapter { fence: String, head: String },
    #[error("adapter name `{name}` in `{fence}` does not match {ADAPTER_NAME_PATTERN}")]
    BadAdapter { fence: String, name: String },
    #[error("`{fence}` needs attributes, for example `{}`", example(*kind))]
    MediaWithoutAttributes { fence: String, kind: SectionKind },
    #[error("unknown fence type `{name}` with attributes, expected {}", attribute_types())]
    UnknownAttributeType { name: String },
    #[error(
        "section type `{kind}` takes no attributes, expected `::{kind}::` (attributes belong to {})",
        attribute_types()
    )]
    TakesNoAttributes { kind: SectionKind },
    #[error("attribute `{key}` is repeated in the `{kind}` fence (allowed: {})", allowed(*kind))]
    RepeatedAttribute { kind: SectionKind, key: String },
    #[error("unknown attribute `{key}` in the `{kind}` fence (allowed: {})", allowed(*kind))]
    UnknownAttribute { kind: SectionKind, key: String },
    #[error("attribute `{key}` of the `{kind}` fence has a non-ASCII value (allowed: {}, in ASCII)", allowed(*kind))]
    NonAsciiValue { kind: SectionKind, key: String },
    #[error("the `{kind}` fence lacks {} (allowed: {})", quoted(keys), allowed(*kind))]
    MissingAttributes { kind: SectionKind, keys: Vec<&'static str> },
    #[error("attribute `{key}` of the `{kind}` fence is empty (allowed: {}, not empty)", allowed(*kind))]
    EmptyAttribute { kind: SectionKind, key: &'static str },
}

impl FenceError {
    /// An edit that remedies it.
    pub fn hint(&self) -> Option<String> {
        match self {
            FenceError::UnknownType { name, .. } | FenceError::UnknownAttributeType { name } => {
                let near = nearest(name, SectionKind::ALL.iter().map(|kind| kind.as_str()));
                Some(match near.and_then(SectionKind::from_name) {
                    Some(kind) => format!("write `{}`", example(kind)),
                    None => "put the line inside a code block if it is text".to_owned(),
                })
            }
            FenceError::EmptyAdapter { head, .. } => Some(format!("write `::{head}::`, or name an adapter")),
            FenceError::BadAdapter { name, .. } => {
                let fixed: String = name.to_lowercase().replace(['-', '#'], "_");
                is_adapter_name(&fixed).then(|| format!("name the adapter `{fixed}`"))
            }
            FenceError::MediaWithoutAttributes { kind, .. } => Some(format!("write `{}`", example(*kind))),
            FenceError::TakesNoAttributes { kind } => Some(format!("write `::{kind}::`")),
            _ => None,
        }
    }
}

fn quoted(words: &[&str]) -> String {
    words
        .iter()
        .map(|word| format!("`{word}`"))
        .collect::<Vec<_>>()
        .join(", ")
}

fn types() -> String {
    quoted(&SectionKind::ALL.map(SectionKind::as_str))
}

fn attribute_types() -> String {
    quoted(&[SectionKind::Image.as_str(), SectionKind::Audio.as_str()])
}

fn allowed(kind: SectionKind) -> String {
    let rule = rule(kind);
    let all: Vec<&str> = rule.required.iter().chain(rule.optional).copied().collect();
    quoted(&all)
}

/// A fence of this type as one would write it.
pub(crate) fn example(kind: SectionKind) -> &'static str {
    match kind {
        SectionKind::Prose => "::prose::",
        SectionKind::Instruction => "::instruction::",
        SectionKind::Preference => "::preference::",
        SectionKind::Image => "::image path=\"figures/a.png\" alt=\"what it shows\"::",
        SectionKind::Audio => "::audio path=\"clips/a.wav\" transcript=\"what is said\"::",
    }
}

/// Attributes of a type's fence.
pub(crate) struct AttributeRule {
    pub(crate) required: &'static [&'static str],
    pub(crate) optional: &'static [&'static str],
}

/// The attributes that a type's fence takes.
pub(crate) fn rule(kind: SectionKind) -> AttributeRule {
    match kind {
        SectionKind::Image => AttributeRule {
            required: &["path"],
            optional: &["alt"],
        },
        SectionKind::Audio => AttributeRule {
            required: &["path", "transcript"],
            optional: &[],
        },
        _ => AttributeRule {
            required: &[],
            optional: &[],
        },
    }
}

/// Judges one line outside code blocks.
pub(crate) fn classify(line: &str) -> Line {
    let text = trim_blanks(line);
    let Some(rest) = text.strip_prefix("::") else {
        return Line::Text;
    };
    if let Some((name, attributes)) = attribute_form(rest) {
        if let Some(result) = resolve_attributes(name, attributes) {
            return result.map_or_else(Line::Broken, Line::Fence);
        }
    } else if let Some(name) = bare_form(rest) {
        return resolve_bare(text, name).map_or_else(Line::Broken, Line::Fence);
    }
    near_miss(text).map_or(Line::Text, Line::NearMiss)
}

fn near_miss(text: &str) -> Option<SectionKind> {
    if !text.ends_with("::") {
        return None;
    }
    let lower = text.to_ascii_lowercase();
    SectionKind::ALL.into_iter().find(|kind| lower.contains(kind.as_str()))
}

/// The name of `name::` when it has only letters, digits and `_ # -`.
fn bare_form(rest: &str) -> Option<&str> {
    let name = rest.strip_suffix("::")?;
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'#' | b'-');
    (!name.is_empty() && name.bytes().all(good)).then_some(name)
}

fn resolve_bare(fence: &str, name: &str) -> Result<Fence, FenceError> {
    let (head, tail) = match name.split_once('#') {
        Some((head, tail)) => (head, Some(tail)),
        None => (name, None),
    };
    let fence = || fence.to_owned();
    match tail {
        Some("") => {
            return Err(FenceError::EmptyAdapter {
                fence: fence(),
                head: head.to_owned(),
            });
        }
        Some(tail) if !is_adapter_name(tail) => {
            return Err(FenceError::BadAdapter {
                fence: fence(),
                name: tail.to_owned(),
            });
        }
        _ => {}
    }
    let Some(kind) = SectionKind::from_name(head) else {
        return Err(FenceError::UnknownType {
            fence: fence(),
            name: head.to_owned(),
        });
    };
    if kind.is_media() {
        return Err(FenceError::MediaWithoutAttributes { fence: fence(), kind });
    }
    Ok(Fence {
        kind,
        adapter: tail.map(str::to_owned),
        media: None,
    })
}

type Attributes<'a> = Vec<(&'a str, &'a str)>;

/// Splits `name key="value" …::` into name and attributes; at least one attribute.
fn attribute_form(rest: &str) -> Option<(&str, Attributes<'_>)> {
    let inner = rest.strip_suffix("::")?;
    let name_len = inner
        .bytes()
        .take_while(|b| b.is_ascii_alphanumeric() || *b == b'_')
        .count();
    let (name, inner) = inner.split_at(name_len);
    if !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return None;
    }
    let (attributes, tail) = attributes(inner);
    (!attributes.is_empty() && trim_blanks(tail).is_empty()).then_some((name, attributes))
}

/// Reads as many `WS+ key="value"` as there are; returns the rest.
pub(crate) fn attributes(mut text: &str) -> (Attributes<'_>, &str) {
    let mut found = Vec::new();
    while let Some((key, value, rest)) = attribute(text) {
        found.push((key, value));
        text = rest;
    }
    (found, text)
}

fn attribute(text: &str) -> Option<(&str, &str, &str)> {
    let inner = text.trim_start_matches([' ', '\t']);
    if inner.len() == text.len() {
        return None;
    }
    let (key, rest) = inner.split_once("=\"")?;
    let good = key.starts_with(|c: char| c.is_ascii_lowercase())
        && key
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    let (value, rest) = rest.split_once('"')?;
    good.then_some((key, value, rest))
}

/// `None` when the name admits no attribute form at all, so that the line is text.
fn resolve_attributes(name: &str, attributes: Attributes<'_>) -> Option<Result<Fence, FenceError>> {
    let Some(kind) = SectionKind::from_name(name) else {
        let is_lower = !name.bytes().any(|b| b.is_ascii_uppercase());
        let is_type_in_other_case = SectionKind::from_name(&name.to_ascii_lowercase()).is_some();
        let error = FenceError::UnknownAttributeType { name: name.to_owned() };
        return (is_lower || is_type_in_other_case).then_some(Err(error));
    };
    if !kind.is_media() {
        return Some(Err(FenceError::TakesNoAttributes { kind }));
    }
    Some(media_of(kind, attributes).map(|media| Fence {
        kind,
        adapter: None,
        media: Some(media),
    }))
}

fn media_of(kind: SectionKind, attributes: Attributes<'_>) -> Result<Media, FenceError> {
    let rule = rule(kind);
    let mut values: Vec<(&str, &str)> = Vec::new();
    for (key, value) in attributes {
        if values.iter().any(|(known, _)| *known == key) {
            return Err(FenceError::RepeatedAttribute {
                kind,
                key: key.to_owned(),
            });
        }
        if !rule.required.contains(&key) && !rule.optional.contains(&key) {
            return Err(FenceError::UnknownAttribute {
                kind,
                key: key.to_owned(),
            });
        }
        if !value.is_ascii() {
            return Err(FenceError::NonAsciiValue {
                kind,
                key: key.to_owned(),
            });
        }
        values.push((key, value));
    }
    let value = |key: &str| values.iter().find(|(known, _)| *known == key).map(|(_, value)| *value);
    let missing: Vec<&'static str> = rule
        .required
        .iter()
        .copied()
        .filter(|key| value(key).is_none())
        .collect();
    if !missing.is_empty() {
        return Err(FenceError::MissingAttributes { kind, keys: missing });
    }
    if let Some(key) = rule
        .required
        .iter()
        .copied()
        .find(|key| value(key).is_some_and(|v| v.trim().is_empty()))
    {
        return Err(FenceError::EmptyAttribute { kind, key });
    }
    Ok(Media {
        path: value("path").unwrap_or_default().to_owned(),
        alt: value("alt").map(str::to_owned),
        transcript: value("transcript").map(str::to_owned),
        blob_sha: None,
    })
}

/// Writes the fence line of a section.
pub(crate) fn write(kind: SectionKind, adapter: Option<&str>, media: Option<&Media>) -> String {
    let mut line = format!("::{kind}");
    if let Some(adapter) = adapter {
        line.push('#');
        line.push_str(adapter);
    }
    if let Some(media) = media {
        let pairs = [
            ("path", Some(&media.path)),
            ("alt", media.alt.as_ref()),
            ("transcript", media.transcript.as_ref()),
        ];
        for (key, value) in pairs {
            if let Some(value) = value {
                line.push_str(&format!(" {key}=\"{value}\""));
            }
        }
    }
    line.push_str("::");
    line
}

#[cfg(test)]
#[path = "fence/tests.rs"]
mod tests;
