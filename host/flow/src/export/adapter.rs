//! Exports for runtimes that fetch the base themselves and load the adapter as it was trained.
//!
//! Invariants: no weight is loaded or converted here; the trained version is read, never changed.

use std::path::Path;

use dlm_core::Subject;
use dlm_core::ports::target::{Artifact, ArtifactKind, TargetPlan};
use dlm_files::Disk;
use dlm_plan::ExportPlan;

use super::write::{self, WrittenArtifacts};
use super::{ExportCommand, ExportedFile};
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
        let found = write::artifact(file, ArtifactKind::Adapter, &path)?;
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
    })
}

/// Describes the export to its target.
pub(super) fn target_plan(around: &Surroundings, located: &LocatedModel, plan: &ExportPlan) -> TargetPlan {
    write::unquantized_plan(around, located, plan, PREFIX.to_owned())
}

/// Names the given flags that this kind of target has no use for.
pub(super) fn warn_of_unused(around: &Surroundings, target: &str, command: &ExportCommand) {
    let options = &command.options;
    let flags = [
        ("--quant", options.quant.is_some()),
        ("--merged", options.is_merged),
        ("--dequantize", options.is_dequantize_confirmed),
        ("--no-imatrix", options.without_imatrix),
        ("--no-draft", options.without_draft),
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

/// Removes what an older export left in the directories that were just written to, such as a module that is gone. Other directories,
/// and files beside the launch script, are not ours to remove.
pub(super) fn remove_stale(directory: &Path, files: &[ExportedFile]) -> Result<(), Failure> {
    let fail = |path: &Path, e| Failure::new(Subject::Export, format!("{} cannot be tidied: {e}", path.display()));
    let entries = |path: &Path| -> Result<Vec<std::fs::DirEntry>, Failure> {
        let list = std::fs::read_dir(path).and_then(Iterator::collect);
        list.map_err(|e| fail(path, e))
    };
    let holds = |path: &Path| files.iter().any(|file| file.path.starts_with(path));
    let disk = Disk::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(open) = directories.pop() {
        for entry in entries(&open)? {
            let path = entry.path();
            let is_directory = entry.file_type().map_err(|e| fail(&path, e))?.is_dir();
            match (holds(&path), is_directory) {
                (true, true) => directories.push(path),
                (true, false) => {}
                (false, _) if open == directory => {}
                (false, true) => disk.remove_tree(&path).map_err(|e| fail(&path, e.into_io()))?,
                (false, false) => drop(disk.remove_file(&path).map_err(|e| fail(&path, e.into_io()))?),
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_just_written_stays_in_the_directories() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let kept = ["adapters/tone/a", "vllm_launch.sh", "notes.txt", "mine/b"];
        let gone = ["adapters/tone/old", "adapters/gone/a"];
        for name in kept.iter().chain(&gone) {
            std::fs::create_dir_all(at(name).parent().unwrap()).unwrap();
            std::fs::write(at(name), "x").unwrap();
        }
        let file = |name: &str| ExportedFile {
            path: at(name),
            bytes: 1,
            sha256: String::new(),
        };
        remove_stale(directory.path(), &[file("adapters/tone/a"), file("vllm_launch.sh")]).unwrap();
        assert!(kept.iter().all(|name| at(name).exists()));
        assert!(gone.iter().all(|name| !at(name).exists()));
        assert!(!at("adapters/gone").exists());
    }
}
