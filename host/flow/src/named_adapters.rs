//! The flags that choose among the named adapters of a document, against what the document has.
//!
//! Invariant: a refusal says what is so: a document without named adapters has nothing to choose from, and one that has some is
//! neither trained nor asked in this version.

use std::path::Path;

use dlm_core::Subject;

use crate::document::{self, Document};
use crate::failure::Failure;

/// What was typed.
#[derive(Clone, Copy, Debug, Default)]
pub struct AdapterFlags<'a> {
    /// `--adapter NAME`.
    pub adapter: Option<&'a str>,
    /// `--gate`, its value.
    pub gate: Option<&'a str>,
}

/// Refuses flags that do not fit the document; reads it only where one was typed.
///
/// **Errors** are misuse.
pub fn check_flags(path: &Path, flags: &AdapterFlags<'_>, subject: Subject) -> Result<(), Failure> {
    let gate = flags.gate.map(|value| format!("--gate {value}"));
    let Some(flag) = flags.adapter.map(|_| "--adapter".to_owned()).or(gate) else {
        return Ok(());
    };
    let document = document::load(path)?;
    check_document(&document, flags.adapter, subject.clone())?;
    Err(none(&document, &flag, subject))
}

/// Refuses a document with named adapters, after an adapter that it does not name.
///
/// **Errors** are misuse.
pub(crate) fn check_document(document: &Document, adapter: Option<&str>, subject: Subject) -> Result<(), Failure> {
    let Some(declared) = &document.parsed.frontmatter().training.adapters else {
        return Ok(());
    };
    let names: Vec<String> = declared.iter().map(|(name, _)| format!("`{name}`")).collect();
    let names = names.join(", ");
    if let Some(unknown) = adapter.filter(|wanted| !declared.iter().any(|(name, _)| name == wanted)) {
        let what = format!("adapter `{unknown}` is not declared; `training.adapters` has {names}");
        return Err(Failure::misuse(subject, what));
    }
    Err(Failure::misuse(
        subject,
        format!(
            "{} has named adapters ({names}), and training or asking them is not built yet in this version",
            document.path.display()
        ),
    )
    .hint("take `training.adapters` out of the document, with the `#name` of its fences"))
}

/// That a document has nothing to choose from.
pub(crate) fn none(document: &Document, flag: &str, subject: Subject) -> Failure {
    Failure::misuse(
        subject,
        format!(
            "`{flag}` is only valid on documents with several adapters, and {} has no `training.adapters`",
            document.path.display()
        ),
    )
    .hint("leave it out")
}
