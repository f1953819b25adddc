//! The imports `artifacts` and `output`: finished files by name, and the files that a target writes.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use dlm_core::inert::inert_line;
use dlm_core::ports::target::{Artifact, ArtifactKind};
use dlm_core::units::size;
use dlm_packages::limits::LimitName;
use wasmtime::component::Resource;

use super::wit::{artifacts, output};
use super::{Phase, State, Stop, WitError};
use crate::limits::{INPUTS_MAX, PassedLimit};
use crate::output::{Contents, check_name};

/// Most bytes of one read.
const READ_BYTES_MAX: u32 = 1 << 20;

/// An artefact that a guest opened; the host holds the file.
pub struct Input {
    pub(super) artifact: Artifact,
    file: File,
}

impl State {
    pub(super) fn artifact(&self, name: &str) -> Result<&Artifact, WitError> {
        let found = self.artifacts.iter().find(|artifact| artifact.name == name);
        found.ok_or_else(|| WitError::NotFound(format!("there is no artefact `{}`", inert_line(name))))
    }
}

fn info(artifact: &Artifact) -> artifacts::Info {
    artifacts::Info {
        name: artifact.name.clone(),
        kind: match artifact.kind {
            ArtifactKind::Gguf => artifacts::Kind::Gguf,
            ArtifactKind::Adapter => artifacts::Kind::Adapter,
            ArtifactKind::Tokenizer => artifacts::Kind::Tokenizer,
            ArtifactKind::ChatTemplate => artifacts::Kind::ChatTemplate,
            ArtifactKind::Manifest => artifacts::Kind::Manifest,
            ArtifactKind::Pack => artifacts::Kind::Pack,
            ArtifactKind::Document => artifacts::Kind::Document,
            ArtifactKind::Other => artifacts::Kind::Other,
        },
        size: artifact.size,
        sha256: artifact.sha256.clone(),
        staged_path: artifact.staged_path.clone(),
    }
}

impl artifacts::Host for State {
    fn list_inputs(&mut self) -> wasmtime::Result<Vec<artifacts::Info>> {
        let mut inputs: Vec<_> = self.artifacts.iter().map(info).collect();
        inputs.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(inputs)
    }

    fn open_input(&mut self, name: String) -> wasmtime::Result<Result<Resource<Input>, WitError>> {
        let artifact = match self.artifact(&name) {
            Ok(artifact) => artifact.clone(),
            Err(error) => return Ok(Err(error)),
        };
        if self.inputs >= INPUTS_MAX {
            let text = format!("{INPUTS_MAX} open artefacts");
            return Err(Stop::trap(PassedLimit::fixed("inputs", text)));
        }
        match dlm_files::open_ordinary(&artifact.path) {
            Ok(file) if !self.is_checked(&artifact, &file) => Ok(Err(changed(&artifact))),
            Ok(file) => {
                self.used.files_read += 1;
                self.inputs += 1;
                Ok(Ok(self.table.push(Input { artifact, file })?))
            }
            Err(error) => {
                self.has_missed_input |= error.kind() == std::io::ErrorKind::NotFound;
                Ok(Err(WitError::Failed(format!("cannot open artefact `{name}`: {error}"))))
            }
        }
    }
}

impl State {
    /// Says whether an opened file is still the one that was handed over.
    pub(super) fn is_checked(&self, artifact: &Artifact, file: &File) -> bool {
        let is_whole = file.metadata().is_ok_and(|found| found.len() == artifact.size);
        is_whole && self.watched.is_same(&artifact.path, file)
    }
}

/// A file that is no longer the one whose hash the guest was told.
pub(super) fn changed(artifact: &Artifact) -> WitError {
    WitError::Corrupt(format!(
        "the artefact `{}` was changed since it was checked",
        artifact.name
    ))
}

impl artifacts::HostInput for State {
    fn info(&mut self, input: Resource<Input>) -> wasmtime::Result<artifacts::Info> {
        Ok(info(&self.table.get(&input)?.artifact))
    }

    fn read(&mut self, input: Resource<Input>, offset: u64, max: u32) -> wasmtime::Result<Result<Vec<u8>, WitError>> {
        self.in_host(|state| {
            let input = state.table.get_mut(&input)?;
            let mut bytes = Vec::new();
            let wanted = u64::from(max.min(READ_BYTES_MAX));
            let read = input
                .file
                .seek(SeekFrom::Start(offset))
                .and_then(|_| (&input.file).take(wanted).read_to_end(&mut bytes));
            Ok(match read {
                Ok(count) => {
                    state.used.bytes_read += count as u64;
                    Ok(bytes)
                }
                Err(error) => Err(WitError::Failed(format!(
                    "cannot read artefact `{}`: {error}",
                    input.artifact.name
                ))),
            })
        })
    }

    fn drop(&mut self, input: Resource<Input>) -> wasmtime::Result<()> {
        self.table.delete(input)?;
        self.inputs = self.inputs.saturating_sub(1);
        Ok(())
    }
}

impl State {
    /// Checks that `name` may be written now.
    fn check_output(&self, name: &str) -> Result<(), WitError> {
        let shown = inert_line(name);
        if self.phase != Phase::Prepare {
            return Err(WitError::Unsupported(format!(
                "`{shown}`: files are written in `prepare` only"
            )));
        }
        check_name(name).map_err(|why| WitError::InvalidInput(format!("the file name `{shown}` is refused: {why}")))?;
        if let Some(twin) = self.output.case_twin(name) {
            return Err(WitError::InvalidInput(format!(
                "the file name `{shown}` differs from `{twin}` by letter case only"
            )));
        }
        let folded = name.to_ascii_lowercase();
        let staged = self
            .artifacts
            .iter()
            .filter_map(|artifact| artifact.staged_path.as_deref());
        let reserved = self.reserved.iter().map(String::as_str);
        let first = folded.split('/').next().unwrap_or_default();
        let is_taken = |taken: &str| {
            let taken = taken.to_ascii_lowercase();
            taken == folded || taken == first
        };
        if staged.chain(reserved).any(is_taken) {
            return Err(WitError::Conflict(format!("`{shown}` is a file of the export itself")));
        }
        Ok(())
    }

    /// Checks the limits with a file of `bytes` more under `name`.
    fn check_room(&self, name: &str, bytes: u64) -> wasmtime::Result<()> {
        let (files, used) = self.output.count_without(name);
        let (files_max, bytes_max) = (self.new.limits.output_files, self.new.limits.output_bytes);
        if files >= files_max {
            return Err(Stop::trap(PassedLimit::fixed(
                "output-files",
                format!("{files_max} written files"),
            )));
        }
        if used.saturating_add(bytes) > bytes_max {
            let text = format!("{} of written files", size(bytes_max));
            return Err(Stop::trap(PassedLimit::raisable(LimitName::Output, bytes_max, text)));
        }
        Ok(())
    }
}

impl output::Host for State {
    fn write(&mut self, name: String, bytes: Vec<u8>, is_executable: bool) -> wasmtime::Result<Result<(), WitError>> {
        if let Err(error) = self.check_output(&name) {
            return Ok(Err(error));
        }
        self.check_room(&name, bytes.len() as u64)?;
        self.used.files_written += 1;
        self.used.bytes_written += bytes.len() as u64;
        self.output.put(&name, Contents::Bytes { bytes, is_executable });
        Ok(Ok(()))
    }

    fn place(&mut self, name: String, source: Resource<Input>) -> wasmtime::Result<Result<(), WitError>> {
        if let Err(error) = self.check_output(&name) {
            return Ok(Err(error));
        }
        self.check_room(&name, 0)?;
        self.used.files_written += 1;
        let artifact = &self.table.get(&source)?.artifact;
        let contents = Contents::Placed {
            path: artifact.path.clone(),
            size: artifact.size,
            sha256: artifact.sha256.clone(),
        };
        self.output.put(&name, contents);
        Ok(Ok(()))
    }

    fn remove(&mut self, name: String) -> wasmtime::Result<Result<(), WitError>> {
        if let Err(error) = self.check_output(&name) {
            return Ok(Err(error));
        }
        Ok(if self.output.remove(&name) {
            Ok(())
        } else {
            Err(WitError::NotFound(format!("no file `{name}` was written")))
        })
    }

    fn list_files(&mut self) -> wasmtime::Result<Vec<String>> {
        Ok(self.output.names())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::testing::state;
    use super::*;
    use artifacts::{Host, HostInput};

    #[test]
    fn few_artefacts_are_open_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("base.gguf");
        std::fs::write(&path, "x").unwrap();
        let mut state = state(&Arc::default());
        state.hand_over(vec![Artifact {
            name: "base.gguf".to_owned(),
            kind: ArtifactKind::Gguf,
            path,
            size: 1,
            sha256: String::new(),
            staged_path: None,
        }]);
        let mut open: Vec<_> = (0..INPUTS_MAX)
            .map(|_| state.open_input("base.gguf".to_owned()).unwrap().unwrap())
            .collect();
        let error = state.open_input("base.gguf".to_owned()).unwrap_err();
        assert!(
            matches!(error.downcast_ref(), Some(Stop::Passed(passed)) if passed.name == "inputs"),
            "{error}"
        );
        HostInput::drop(&mut state, open.pop().unwrap()).unwrap();
        assert!(state.open_input("base.gguf".to_owned()).is_ok());
    }
}
