//! Exports for runtimes that fetch the base themselves and load the adapter as it was trained.
//!
//! Invariants: no weight is loaded or converted here; the trained version is read, never changed.

use dlm_core::Subject;
use dlm_core::ports::target::{Artifact, ArtifactKind, TargetPlan};
use dlm_plan::ExportPlan;

use super::ExportCommand;
use super::artifact::{WrittenArtifacts, artifact as written};
use super::describe;
use crate::failure::Failure;
use crate::inference::LocatedModel;
use crate::surroundings::Surroundings;

/// What the records call weights that were not converted.
pub(super) const QUANT: &str = "hf";
/// What artefacts of the adapter begin with.
const PREFIX: &str = "adapters/default";
/// The two files of an adapter.
const FILES: [&str; 2] = ["adapter_config.json", "adapter_model.safetensors"];

/// The files of the trained version, to be placed by the target.
pub(super) fn artifacts(located: &LocatedModel) -> Result<WrittenArtifacts, Failure> {
    let (directory, _) = located
        .adapter
        .as_ref()
        .ok_or_else(|| Failure::new(Subject::Export, "there is no adapter to export"))?;
    let artifact = |file: &&str| {
        let path = directory.join(file);
        let found = written(file, ArtifactKind::Adapter, &path)?;
        Ok(Artifact {
            name: format!("{PREFIX}/{file}"),
            staged_path: None,
            ..found
        })
    };
    Ok(WrittenArtifacts {
        artifacts: FILES.iter().map(artifact).collect::<Result<_, Failure>>()?,
        verified: Vec::new(),
        notes: Vec::new(),
        beside: Vec::new(),
        imatrix_sha256: None,
        is_base_cached: false,
    })
}

/// Describes the export to its target.
pub(super) fn target_plan(around: &Surroundings, located: &LocatedModel, plan: &ExportPlan) -> TargetPlan {
    describe::unquantized_plan(around, located, plan, PREFIX.to_owned())
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
