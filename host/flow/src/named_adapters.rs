//! Which of a document's adapters a command works with.
//!
//! Invariant: a document with several adapters is asked with one that was named, and one without has nothing to choose from; a
//! refusal says which is so, with the names.

use dlm_core::Subject;
use dlm_core::shell::quoted_path;
use dlm_store::AdapterSlot;

use crate::document::Document;
use crate::failure::Failure;

/// Returns where the adapter lies that `--adapter` names, or that a document has which names none.
///
/// **Errors** are misuse: a name on a document with one adapter, one that is not declared, none where it is needed.
pub fn slot(document: &Document, adapter: Option<&str>, subject: Subject) -> Result<AdapterSlot, Failure> {
    match (declared(document), adapter) {
        (None, None) => Ok(AdapterSlot::Flat),
        (None, Some(_)) => Err(none(document, "--adapter", subject)),
        (Some(names), Some(name)) if names.contains(&name) => {
            AdapterSlot::named(name).map_err(|error| Failure::new(subject, error))
        }
        (Some(names), Some(name)) => {
            let what = format!(
                "adapter `{name}` is not declared; `training.adapters` has {}",
                quoted(&names)
            );
            Err(Failure::misuse(subject, what).hint(format!("give `--adapter {}`", names[0])))
        }
        (Some(names), None) => {
            let what = format!(
                "{} has several adapters ({}), and this works with one of them",
                document.path.display(),
                quoted(&names)
            );
            let is_export = subject == Subject::Export;
            let failure = Failure::misuse(subject, what).hint(format!("give `--adapter {}`", names[0]));
            Err(match is_export {
                true => {
                    let mix: Vec<String> = names.iter().map(|name| format!("{name}:1")).collect();
                    failure.hint(format!("or export them as one: `--adapter-mix {}`", mix.join(",")))
                }
                false => failure,
            })
        }
    }
}

/// The names of a document's adapters, in their order; none where it declares none.
pub fn declared(document: &Document) -> Option<Vec<&str>> {
    let declared = document.parsed.frontmatter().training.adapters.as_ref()?;
    Some(declared.iter().map(|(name, _)| name.as_str()).collect())
}

fn quoted(names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    names.join(", ")
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
    .hint(format!("leave it out: `dlm prompt {}`", quoted_path(&document.path)))
}
