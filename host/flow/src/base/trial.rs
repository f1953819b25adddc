//! Trust in the textual part of a base: it is tried in a process of its own once, and the verdict is kept by hash.
//!
//! Invariants: no tokenizer and no template of a base is read in this process before it was tried; a verdict is about the bytes
//! of every file that the trial reads and about the version of dlm that tried them; no verdict is kept of a trial that was not
//! run to its end.

use std::path::{Path, PathBuf};

use dlm_core::Subject;
use dlm_core::digest::Sha256;
use dlm_core::ports::text_trial::{TrialError, Verdict};
use dlm_model::gguf::GgufFile;
use dlm_model::tokenizer::TEMPLATE_FILE;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::surroundings::Surroundings;

/// The files of a directory that a trial reads.
const TEXT_FILES: [&str; 6] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "generation_config.json",
    "config.json",
    TEMPLATE_FILE,
];
/// Larger files are refused by whoever reads them.
const FILE_BYTES_MAX: u64 = 256 << 20;
/// A verdict has a sentence at most.
const RECORD_BYTES_MAX: u64 = 64 << 10;

/// What is kept of a trial.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    /// None of one that is sound.
    flaw: Option<String>,
}

/// Tries the tokenizer and the chat template of a base or a reward model, unless these bytes were tried before.
///
/// **Errors**: what is wrong with them, or no trial was possible.
pub(crate) fn vet(around: &Surroundings, path: &Path) -> Result<(), Failure> {
    let kept = record_path(around, path)?;
    let known = dlm_files::read_ordinary(&kept, RECORD_BYTES_MAX).ok().flatten();
    // What is no record is written anew.
    let known = known.and_then(|bytes| serde_json::from_slice::<Record>(&bytes).ok());
    let flaw = match known {
        Some(record) => record.flaw,
        None => tried(around, path, &kept)?,
    };
    match flaw {
        None => Ok(()),
        Some(flaw) => {
            // Without a separator at its end.
            let shown: PathBuf = path.components().collect();
            let what = format!(
                "the tokenizer or chat template of {} is not usable: {flaw}",
                shown.display()
            );
            Err(Failure::new(Subject::BaseModel, what).hint("choose another base: `dlm base list`"))
        }
    }
}

fn tried(around: &Surroundings, path: &Path, kept: &Path) -> Result<Option<String>, Failure> {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let flaw = match around.trial.run(&absolute, &around.cancel) {
        Ok(Verdict::Sound) => None,
        Ok(Verdict::Unsound(flaw)) => Some(flaw),
        Err(TrialError::Cancelled) => return Err(Failure::interrupted("nothing was changed")),
        Err(error @ TrialError::Unrun(_)) => return Err(Failure::new(Subject::BaseModel, error)),
    };
    let record = Record { flaw };
    let bytes = serde_json::to_vec(&record).expect("a record is plain data");
    let disk = around.private_disk();
    let parent = kept.parent().expect("the record has a directory");
    let written = disk.create_directories(parent).and_then(|()| disk.write(kept, &bytes));
    // What killed writers left half is in nobody's way, and nobody else removes it.
    let _left = disk.sweep_beside(kept);
    if let Err(error) = written {
        around.note(format!(
            "the trial of the base is not kept and will be run again: {error}"
        ));
    }
    Ok(record.flaw)
}

/// Where the verdict on these bytes lies.
fn record_path(around: &Surroundings, path: &Path) -> Result<PathBuf, Failure> {
    let mut hash = Sha256::new();
    hash.update(around.version.as_bytes());
    match path.is_dir() {
        true => {
            for name in TEXT_FILES {
                add_file(&mut hash, &path.join(name))?;
            }
        }
        false => {
            let file = GgufFile::open(path)?;
            hash.update(file.metadata_bytes());
            // A template may stand beside a file that has none.
            add_file(&mut hash, &path.with_file_name(TEMPLATE_FILE))?;
        }
    }
    let directory = around.home.text_verdicts();
    Ok(directory.join(format!("{}.json", hash.finish_hex())))
}

fn add_file(hash: &mut Sha256, path: &Path) -> Result<(), Failure> {
    let content = dlm_files::read(path, FILE_BYTES_MAX)?;
    // Absent and empty are two things, and lengths keep neighbors apart.
    let length = content.as_ref().map_or(u64::MAX, |content| content.len() as u64);
    hash.update(length.to_le_bytes());
    hash.update(content.unwrap_or_default());
    Ok(())
}
