//! Exports for runtimes that fetch the base themselves and load the adapter as it was trained.
//!
//! Invariants: no weight is loaded or converted here; the trained version is read, never changed.

use dlm_core::Subject;
use dlm_core::ports::target::{Artifact, ArtifactKind, TargetPlan};
use dlm_plan::ExportPlan;

use std::path::Path;

use super::ExportCommand;
use super::artifact::{WrittenArtifacts, artifact as written};
use super::chosen::{Chosen, PEFT_FILES};
use super::describe;
use crate::failure::Failure;
use crate::surroundings::Surroundings;

/// What the records call weights that were not converted.
pub(super) const QUANT: &str = "hf";
/// What artefacts of the adapter begin with.
fn prefix(chosen: &Chosen) -> String {
    format!("adapters/{}", chosen.module())
}

/// The files of the trained version, to be placed by the target; those of a mix lie in `mixed`.
pub(super) fn artifacts(chosen: &Chosen, mixed: Option<&Path>) -> Result<WrittenArtifacts, Failure> {
    let directory = mixed
        .or_else(|| chosen.directory())
        .ok_or_else(|| Failure::new(Subject::Export, "there is no adapter to export"))?;
    let prefix = prefix(chosen);
    let artifact = |file: &&str| {
        let path = directory.join(file);
        let found = written(file, ArtifactKind::Adapter, &path)?;
        Ok(Artifact {
            name: format!("{prefix}/{file}"),
            staged_path: None,
            ..found
        })
    };
    Ok(WrittenArtifacts {
        artifacts: PEFT_FILES.iter().map(artifact).collect::<Result<_, Failure>>()?,
        verified: Vec::new(),
        notes: Vec::new(),
        beside: Vec::new(),
        imatrix_sha256: None,
        is_base_cached: false,
    })
}

/// Describes the export to its target.
pub(super) fn target_plan(around: &Surroundings, chosen: &Chosen, plan: &ExportPlan) -> TargetPlan {
    describe::unquantized_plan(around, chosen, plan, prefix(chosen))
}

/// Names the given flags that this kind of target has no use for.
pub(super) fn warn_of_unused(around: &Surroundings, target: &str, command: &ExportCommand) {
    let options = &command.options;
    let flags = [
        ("--quant", !command.quants.is_empty()),
        ("--merged", options.is_merged),
        ("--dequantize", options.is_dequantize_confirmed),
        ("--no-imatrix", options.without_imatrix),
        ("--imatrix", options.imatrix_file.is_some()),
        ("--no-draft", options.without_draft),
        ("--draft", options.draft.is_some()),
        ("--no-template", options.without_template),
        ("--skip-ollama", !command.is_registered),
        // The server of mlx_lm knows its model by one fixed name.
        ("--name", options.name.is_some() && target == "mlx-serve"),
    ];
    let given: Vec<&str> = flags
        .iter()
        .filter(|(_, given)| *given)
        .map(|(flag, _)| *flag)
        .collect();
    if !given.is_empty() {
        let text = format!("--target {target} has no use for {}", given.join(", "));
        around.warn(text);
    }
}
