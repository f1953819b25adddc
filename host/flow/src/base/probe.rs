//! The checks that a base from outside the registry must pass before a document stands on it.
//!
//! Invariants: no weight is read; a base of the registry is never probed, because its entry was checked when it was made.

use dlm_export::Vocabulary;
use dlm_model::base::OpenedBase;
use dlm_plan::base::{ProbeFacts, Registry, ResolvedBase, probe};

use crate::failure::Failure;

/// Whether it is checked that the base can be exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportProbes {
    Run,
    /// `--skip-export-probes`: for a base that is only trained and asked.
    Skip,
}

/// Says whether a base is probed.
pub(crate) fn is_probed(resolved: &ResolvedBase) -> bool {
    Registry::builtin().get(&resolved.record.key).is_none()
}

/// Probes an opened base; one of the registry passes.
///
/// **Errors** name every failed check; where only export is in question, the flag that leaves it out.
pub(crate) fn check_probes(resolved: &ResolvedBase, opened: &OpenedBase, export: ExportProbes) -> Result<(), Failure> {
    if !is_probed(resolved) {
        return Ok(());
    }
    let facts = opened.facts();
    let labels = Vocabulary::new(&opened.text().tokenizer, facts.shape.vocab as usize);
    let probed = ProbeFacts {
        config_class: facts.architecture,
        has_chat_template: opened.text().template.is_some(),
        media_token_ids: None,
        is_gguf_writable: facts.gguf_arch.is_some(),
        vocabulary_fault: labels.err().map(|error| error.to_string()),
    };
    Ok(probe(&resolved.record, &probed, export == ExportProbes::Run)?)
}
