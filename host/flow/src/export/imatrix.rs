//! The importance matrix of an export: what the base's products read of the document's rows and of general text.
//!
//! Invariants: one matrix a store, made again when anything that it hangs on has changed, and only then; the adapter has no part
//! in it, so that a base is rounded the same whatever is trained on it next.
//! **Source:** `spec/export.md` section 9.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use dlm_core::digest::sha256_hex;
use dlm_core::ports::target::ArtifactKind;
use dlm_core::{Event, Subject};
use dlm_doc::{Rows, Section, SectionKind};
use dlm_export::Imatrix;
use dlm_model::chat::{Message, Thinking};
use dlm_model::text::{LossRow, TextModel};
use dlm_model::{Batch, InputSquares};
use dlm_store::Store;
use dlm_train::rows::question_messages;
use serde::{Deserialize, Serialize};

use super::ExportedFile;
use super::artifact::artifact;
use crate::failure::Failure;
use crate::inference::{LoadedModel, LocatedModel};
use crate::surroundings::Surroundings;

/// Tokens of a chunk.
const CHUNK_SIZE: usize = 512;
/// Chunks that are read at most.
const CHUNKS_MAX: usize = 256;
/// Text of many kinds that no document and no evaluation has, so that a small document does not round for itself alone.
const GENERAL: &str = include_str!("general.txt");
/// The matrix, in the store and beside an export.
const FILE: &str = "imatrix.gguf";
/// What the matrix was made of.
const META_FILE: &str = "imatrix.meta.json";
/// What lies beside an export.
pub(super) const FILES: [&str; 2] = [FILE, META_FILE];
/// Largest record that is read.
const META_BYTES_MAX: u64 = 1 << 20;

/// The record beside a matrix.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Meta {
    path: String,
    sha256: String,
    base_revision: String,
    /// Of the tokens that were read, row by row: of the document, what earlier runs learned, and general text.
    corpus_sha256: String,
    chunks: u32,
    chunk_size: u32,
    built_at: String,
}

/// A matrix that is ready.
pub(super) struct Calibration {
    pub matrix: Imatrix,
    pub sha256: String,
    /// Where it and its record lie.
    files: Vec<PathBuf>,
}

impl Calibration {
    /// Puts the matrix beside an export.
    pub(super) fn copy_to(&self, around: &Surroundings, directory: &Path) -> Result<Vec<ExportedFile>, Failure> {
        let mut copied = Vec::new();
        for from in &self.files {
            let name = from.file_name().expect("a file has a name").to_string_lossy();
            let path = directory.join(&*name);
            around.private_disk().duplicate_tree(from, &path)?;
            let made = artifact(&name, ArtifactKind::Gguf, &path)?;
            copied.push(ExportedFile {
                path,
                bytes: made.size,
                sha256: made.sha256,
            });
        }
        Ok(copied)
    }
}

/// Takes a matrix from a file of the user's.
pub(super) fn given(path: &Path) -> Result<Calibration, Failure> {
    let matrix = Imatrix::read(path)?;
    let sha256 = artifact(FILE, ArtifactKind::Gguf, &path.to_path_buf())?.sha256;
    Ok(Calibration {
        matrix,
        sha256,
        files: Vec::new(),
    })
}

/// The store's matrix, made where it is missing or of something else.
///
/// **Errors:** interrupted, sums that are not finite, a disk that fails.
pub(super) fn own(
    around: &Surroundings,
    located: &LocatedModel,
    loaded: &LoadedModel,
    store: &Store,
) -> Result<Calibration, Failure> {
    let chunks = chunks(rows(located, store)?);
    let directory = store.paths().imatrix();
    let wanted = Meta {
        path: FILE.to_owned(),
        sha256: String::new(),
        base_revision: located.base.resolved.record.revision.clone(),
        corpus_sha256: digest(&chunks),
        chunks: chunks.len() as u32,
        chunk_size: CHUNK_SIZE as u32,
        built_at: around.now().naive().to_string(),
    };
    let files = FILES.map(|name| directory.join(name)).to_vec();
    if let Some((matrix, sha256)) = kept(&directory, &wanted) {
        return Ok(Calibration { matrix, sha256, files });
    }
    let matrix = Imatrix {
        datasets: vec!["the document's rows and general text".to_owned()],
        chunk_count: wanted.chunks,
        chunk_size: wanted.chunk_size,
        ..measured(around, located, loaded, &chunks)?
    };
    let disk = around.private_disk();
    disk.create_directories(&directory)?;
    let sha256 = matrix.write(&files[0])?.sha256;
    let meta = Meta {
        sha256: sha256.clone(),
        ..wanted
    };
    let text = serde_json::to_string_pretty(&meta).expect("a record is plain data") + "\n";
    disk.write(&files[1], text.as_bytes())?;
    Ok(Calibration { matrix, sha256, files })
}

/// The matrix that an earlier export left, where it is whole and of the same base and text.
fn kept(directory: &Path, wanted: &Meta) -> Option<(Imatrix, String)> {
    let bytes = dlm_files::read(&directory.join(META_FILE), META_BYTES_MAX).ok()??;
    let found: Meta = serde_json::from_slice(&bytes).ok()?;
    let is_same = found
        == Meta {
            sha256: found.sha256.clone(),
            built_at: found.built_at.clone(),
            ..wanted.clone()
        };
    let path = directory.join(FILE);
    let is_whole = || artifact(FILE, ArtifactKind::Gguf, &path).is_ok_and(|file| file.sha256 == found.sha256);
    // A damaged one is made again, as a missing one is.
    let matrix = (is_same && is_whole()).then(|| Imatrix::read(&path).ok())??;
    Some((matrix, found.sha256))
}

/// Reads the chunks and takes down what the products read.
fn measured(
    around: &Surroundings,
    located: &LocatedModel,
    loaded: &LoadedModel,
    chunks: &[Vec<Vec<u32>>],
) -> Result<Imatrix, Failure> {
    let (model, progress, phase) = (loaded.engine.model(), &around.progress, || "imatrix".to_owned());
    progress.event(Event::PhaseStarted {
        phase: phase(),
        total: Some(chunks.len() as u64),
        unit: "chunks",
    });
    let mut squares = InputSquares::new(model);
    for (done, chunk) in chunks.iter().enumerate() {
        let read = model.watch_inputs(&around.cancel, &Batch::packed(chunk), squares);
        squares = read.map_err(|e| Failure::new(Subject::Export, e))?;
        if around.cancel.is_cancelled() {
            return Err(Failure::interrupted("nothing was exported"));
        }
        progress.event(Event::PhaseAdvanced {
            phase: phase(),
            done: done as u64 + 1,
        });
    }
    progress.event(Event::PhaseEnded { phase: phase() });
    Ok(Imatrix::of(located.base.opened.config(), model.modules(), &squares)?)
}

/// Every row as the model reads it in use: questions and answers in the frame of the chat template, prose as it is.
fn rows(located: &LocatedModel, store: &Store) -> Result<Vec<Vec<u32>>, Failure> {
    let general = GENERAL
        .split("\n\n")
        .map(|part| Section::text(SectionKind::Prose, part.trim().to_owned()));
    let mut sections: Vec<Section> = general.collect();
    let mut known = BTreeSet::new();
    // A corpus that cannot be read has its own way of being told, and is no reason against an export.
    if let Ok(corpus) = store.replay() {
        for entry in corpus.entries() {
            if let Ok(snapshot) = corpus.read(entry) {
                known.insert(snapshot.section_id.clone());
                sections.push(Section::text(snapshot.section_type, snapshot.content));
            }
        }
    }
    let own = located.document.parsed.sections().iter();
    sections.extend(own.filter(|s| !s.kind.is_media() && !known.contains(&s.id())).cloned());
    let system = located.document.parsed.frontmatter().system();
    let rows = sections.iter().flat_map(|s| section_rows(&located.text, system, s));
    Ok(rows.map(|row| row.ids).collect())
}

/// The rows of a section; what does not parse or render teaches nothing and is left out here too.
pub(super) fn section_rows(text: &TextModel, system: Option<&str>, section: &Section) -> Vec<LossRow> {
    let answered = |question: &str, answer: String| {
        let mut messages = question_messages(system, question);
        messages.push(Message::assistant(answer));
        text.answer_row(&messages, Thinking::default()).ok()
    };
    match dlm_doc::rows(section) {
        Ok(Rows::Pairs(pairs)) => pairs
            .into_iter()
            .filter_map(|p| answered(&p.question, p.answer))
            .collect(),
        Ok(Rows::Triples(triples)) => triples
            .into_iter()
            .filter_map(|t| answered(&t.prompt, t.chosen))
            .collect(),
        Ok(Rows::None) if section.kind == SectionKind::Prose => {
            text.prose_row(section.content.trim()).ok().into_iter().collect()
        }
        Ok(Rows::None) | Err(_) => Vec::new(),
    }
}

/// Packs rows into chunks; a row that is longer than a chunk goes on in the next.
fn chunks(rows: Vec<Vec<u32>>) -> Vec<Vec<Vec<u32>>> {
    let mut chunks: Vec<Vec<Vec<u32>>> = Vec::new();
    let mut room = 0;
    for row in rows {
        for piece in row.chunks(CHUNK_SIZE) {
            if piece.len() > room {
                chunks.push(Vec::new());
                room = CHUNK_SIZE;
            }
            room -= piece.len();
            chunks.last_mut().expect("one was pushed").push(piece.to_vec());
        }
    }
    chunks.truncate(CHUNKS_MAX);
    chunks
}

/// The digest of all rows and of how they are cut.
fn digest(chunks: &[Vec<Vec<u32>>]) -> String {
    let mut bytes = Vec::new();
    for chunk in chunks {
        for row in chunk {
            bytes.extend((row.len() as u32).to_le_bytes());
            bytes.extend(row.iter().flat_map(|id| id.to_le_bytes()));
        }
        bytes.extend(0u32.to_le_bytes());
    }
    sha256_hex(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_fill_chunks_in_their_order() {
        let row = |len: usize, first: u32| -> Vec<u32> { (first..first + len as u32).collect() };
        let found = chunks(vec![row(300, 0), row(212, 1000), row(1, 5), row(1100, 0)]);
        let lengths: Vec<Vec<usize>> = found.iter().map(|c| c.iter().map(Vec::len).collect()).collect();
        assert_eq!(lengths, [vec![300, 212], vec![1], vec![512], vec![512], vec![76]]);
        assert_ne!(digest(&found[..1]), digest(&[vec![row(512, 0)]]));
        assert_eq!(chunks(vec![row(512, 0); 300]).len(), CHUNKS_MAX);
    }
}
