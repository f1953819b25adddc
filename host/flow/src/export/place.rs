//! Where an export lies: written aside, then put in the place of the one before in one step.
//!
//! Invariants: at every moment the place holds the old export or the new one, whole; what a user put beside an export stays
//! beside the next one; what failed its smoke test is kept apart, and never in the place of what passed.

use std::path::{Path, PathBuf};

use dlm_core::ports::target::TargetInfo;
use dlm_core::shell::quoted_path;
use dlm_core::{Quant, Subject};
use dlm_files::{Disk, Staging, list, sweep_aside};
use dlm_plan::ExportPlan;
use dlm_store::Store;
use dlm_store::integrity::{EXPORT_MANIFEST_FILE, FAILED_EXPORT, export_sums};

use super::{ExportedFile, Form};
use crate::failure::Failure;
use crate::surroundings::Surroundings;

/// Largest record of an export that is read.
const RECORD_BYTES_MAX: u64 = 16 << 20;
/// What the built-in targets write. Earlier versions left one target's files beside another's, where no record lists them.
const TARGET_FILES: [&str; 6] = [
    "Modelfile",
    "llama-server_launch.sh",
    "chat-template.jinja",
    "vllm_launch.sh",
    "vllm_config.json",
    "mlx-serve_launch.sh",
];

/// The directory of an export: one for each quantization, and one for each target that takes the adapter; of a document with
/// several adapters, one for each of them and each mix.
pub(super) struct Place(PathBuf);

impl Place {
    pub(super) fn of(
        store: &Store,
        form: Form,
        plan: &ExportPlan,
        info: &TargetInfo,
        label: Option<&str>,
    ) -> Result<Place, Failure> {
        let form = match form {
            Form::Gguf => plan.quant.value.name(),
            Form::Adapter => info.name.as_str(),
        };
        let name = label.map_or_else(|| form.to_owned(), |label| format!("{form}-{label}"));
        let directory = store.paths().export(&name);
        Ok(Place(directory.map_err(|e| Failure::new(Subject::Export, e))?))
    }

    /// Where the export lies when it is done.
    pub(super) fn directory(&self) -> &Path {
        &self.0
    }

    /// This place and those of the same quantization with other adapters, whose base may be the same.
    pub(super) fn alike(&self, quant: Quant) -> Vec<PathBuf> {
        let siblings = self.0.parent().and_then(|parent| list(parent).ok()).unwrap_or_default();
        let is_alike = |name: &str| {
            let rest = name.strip_prefix(quant.name());
            rest.is_some_and(|rest| (rest.is_empty() || rest.starts_with('-')) && !name.ends_with(FAILED_EXPORT))
        };
        let mut places = vec![self.0.clone()];
        let siblings = siblings.iter().filter(|entry| is_alike(&entry.name));
        let siblings = siblings.map(|entry| self.0.with_file_name(&entry.name));
        places.extend(siblings.filter(|place| *place != self.0));
        places
    }

    fn failed(&self) -> PathBuf {
        self.0.with_added_extension(&FAILED_EXPORT[1..])
    }

    /// Begins to write aside, after other exports of this form are done. What killed ones left is removed.
    pub(super) fn begin(&self, around: &Surroundings) -> Result<Staging, Failure> {
        let disk = around.private_disk();
        let parent = self.0.parent().expect("an export lies in a directory");
        disk.create_directories(parent)?;
        sweep_aside(&disk, parent)?;
        let wait = || around.note("waiting for another export of this document to end");
        let staging = Staging::begin(&disk, &self.0, &around.cancel, wait)?;
        staging.ok_or_else(|| Failure::interrupted("nothing was exported"))
    }

    /// Puts what was written in its place, with what a user keeps beside it; returns the files where they are now.
    pub(super) fn take(
        &self,
        around: &Surroundings,
        staging: Staging,
        files: &[ExportedFile],
    ) -> Result<Vec<ExportedFile>, Failure> {
        let disk = around.private_disk();
        let moved = files.iter().map(|file| ExportedFile {
            path: match file.path.strip_prefix(staging.directory()) {
                Ok(name) => self.0.join(name),
                Err(_) => file.path.clone(),
            },
            ..file.clone()
        });
        let moved = moved.collect();
        self.carry_over(&disk, staging.directory())?;
        staging.take_place()?;
        disk.remove_tree(&self.failed())?;
        Ok(moved)
    }

    /// Gives what is none of the old export's files second names in the new one.
    fn carry_over(&self, disk: &Disk, to: &Path) -> Result<(), Failure> {
        let record = dlm_files::read(&self.0.join(EXPORT_MANIFEST_FILE), RECORD_BYTES_MAX)?;
        let listed = record.as_deref().and_then(export_sums).unwrap_or_default();
        let first = |name: &String| name.split('/').next().unwrap_or_default().to_owned();
        let listed: Vec<String> = listed.keys().map(first).collect();
        for entry in list(&self.0)? {
            let name = entry.name.as_str();
            let is_ours = name == EXPORT_MANIFEST_FILE
                || TARGET_FILES.contains(&name)
                || [".gguf", ".partial"].iter().any(|ending| name.ends_with(ending))
                || listed.iter().any(|listed| listed == name);
            let place = to.join(name);
            if !is_ours && place.symlink_metadata().is_err() {
                disk.duplicate_tree(&self.0.join(name), &place)?;
            }
        }
        Ok(())
    }

    /// Gives files that an earlier target of the same command put into this place second names in the new export, but for those
    /// that it has itself.
    pub(super) fn keep(
        &self,
        around: &Surroundings,
        directory: &Path,
        before: &[ExportedFile],
    ) -> Result<Vec<ExportedFile>, Failure> {
        let mut kept = Vec::new();
        for file in before {
            let name = file.path.strip_prefix(&self.0).unwrap_or(&file.path);
            let path = directory.join(name);
            if path.symlink_metadata().is_err() {
                around.private_disk().duplicate_tree(&file.path, &path)?;
                kept.push(ExportedFile { path, ..file.clone() });
            }
        }
        Ok(kept)
    }

    /// Keeps files that failed their last test, so that it can be repeated by hand; the earlier export stays.
    pub(super) fn keep_failed(&self, staging: Staging, failure: Failure) -> Failure {
        let place = self.failed();
        let stays = match self.0.exists() {
            true => "; the earlier export stays as it was",
            false => "",
        };
        match staging.keep_as(&place) {
            Ok(()) => failure.hint(format!(
                "to repeat the step by hand, what was written is kept in {}{stays}",
                quoted_path(&place)
            )),
            Err(error) => failure.hint(format!("what was written could not be kept: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use dlm_core::Cancel;

    use super::*;

    #[test]
    fn what_is_none_of_the_export_stays_beside_the_next_one() {
        let directory = tempfile::tempdir().unwrap();
        let place = Place(directory.path().join("Q4_K_M"));
        let at = |name: &str| place.directory().join(name);
        let (mine, old) = (
            ["notes.txt", "mine/b", "mine/deep/c"],
            [
                "base.Q4_K_M.gguf",
                "Modelfile",
                "adapters/tone/a",
                "adapters/gone/b",
                "half.partial",
            ],
        );
        for name in mine.iter().chain(&old) {
            std::fs::create_dir_all(at(name).parent().unwrap()).unwrap();
            std::fs::write(at(name), "old").unwrap();
        }
        let record = r#"{"artifacts": [{"path": "adapters/tone/a", "sha256": "x"}]}"#;
        std::fs::write(at(EXPORT_MANIFEST_FILE), record).unwrap();
        let disk = Disk::new();
        let staging = Staging::begin(&disk, place.directory(), &Cancel::new(), || ())
            .unwrap()
            .unwrap();
        std::fs::write(staging.directory().join("base.Q4_K_M.gguf"), "new").unwrap();
        place.carry_over(&disk, staging.directory()).unwrap();
        staging.take_place().unwrap();
        assert!(mine.iter().all(|name| at(name).exists()));
        assert!(old[1..].iter().all(|name| !at(name).exists()));
        assert_eq!(std::fs::read(at("base.Q4_K_M.gguf")).unwrap(), b"new");
    }
}
