//! The replay corpus: earlier sections, rehearsed so that an edit does not make the model forget.
//!
//! Invariants: frames are appended and flushed before an index names them; bytes that no entry covers are dead, never an
//! error; compaction replaces corpus and index through a journal, so a stop at any point loses nothing. What we know
//! beyond the shared format lies in `extra.json`, whose loss is harmless.

mod cbor;
mod index;
mod sample;
mod snapshot;
mod supersede;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use dlm_core::{Hints, SectionId, SectionKind, Subject};
use dlm_files::{Disk, DiskError};
use serde::{Deserialize, Serialize};

use crate::json;
use crate::record::{self, Flaw};
use crate::store::{Store, StoreGuard};

pub use index::{Eviction, IndexEntry, evict};
pub use sample::{SampleRequest, SampleScheme, draw_order, preference_count, sample, section_count, weight};
pub use snapshot::{FrameError, Snapshot};
pub use supersede::{SectionText, overlap, superseded};

/// Frames that the corpus may hold before the oldest are dropped.
pub const BUDGET_BYTES_DEFAULT: u64 = 256 << 20;
/// Largest index that is read; a million entries take about 150 MiB.
const INDEX_BYTES_MAX: u64 = 256 << 20;
/// Largest frame that is read.
const FRAME_BYTES_MAX: u64 = 256 << 20;

const CORPUS: &str = "corpus.zst";
const INDEX: &str = "index.json";
const EXTRA: &str = "extra.json";
const SET_ASIDE: &str = "set-aside.json";
/// An index that could not be read, kept for a person to look at.
const INDEX_SET_ASIDE: &str = "index-set-aside.json";
/// The compacted corpus and index; the index's existence is the decision to use them.
const COMPACTED_CORPUS: &str = "compacted.zst";
const COMPACTED_INDEX: &str = "compacted.json";

/// A corpus that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error("`{}`: replay index is corrupt: {flaw}", path.display())]
    Index {
        path: PathBuf,
        #[source]
        flaw: Flaw,
    },
    #[error("`{}`: the frame of section {section_id} at offset {byte_offset}, length {length} is corrupt: {source}", path.display())]
    Frame {
        path: PathBuf,
        section_id: SectionId,
        byte_offset: u64,
        length: u64,
        source: FrameError,
    },
    #[error("`{}`: the frame at offset {byte_offset} is of section {found}, the index says {section_id}", path.display())]
    Mismatch {
        path: PathBuf,
        section_id: SectionId,
        found: SectionId,
        byte_offset: u64,
    },
    #[error("section {section_id} is of type {kind}, which is not replayed")]
    Kind { section_id: SectionId, kind: SectionKind },
    #[error("section {section_id} cannot be packed: {source}")]
    Pack {
        section_id: SectionId,
        source: std::io::Error,
    },
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl Hints for ReplayError {
    fn subject(&self) -> Subject {
        match self {
            ReplayError::Disk(error) => error.subject(),
            _ => Subject::Store,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            ReplayError::Index { path, .. } => vec![format!(
                "run `dlm train`; it moves `{}` aside and begins a new one from the document",
                path.display()
            )],
            ReplayError::Frame { .. } | ReplayError::Mismatch { .. } => {
                vec!["run `dlm train`; it sets the damaged entry aside and goes on".to_owned()]
            }
            ReplayError::Disk(error) => error.hints(),
            ReplayError::Kind { .. } | ReplayError::Pack { .. } => Vec::new(),
        }
    }
}

/// What we record about a section beyond the shared format.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extra {
    /// The adapter that the section was routed to.
    #[serde(default)]
    pub adapter: Option<String>,
    /// The section that took its place; it is not drawn any more.
    #[serde(default)]
    pub superseded_by: Option<SectionId>,
    /// A program made it, so that its rows follow the split's hash.
    #[serde(default, alias = "is_synthesised")]
    pub is_synthesized: bool,
}

/// A section to remember.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remember {
    /// The section; `first_seen_at` and earlier runs of an entry that is known already are kept.
    pub snapshot: Snapshot,
    /// The adapter that it was routed to.
    pub adapter: Option<String>,
    /// Whether a program made it (`auto_synth`), not a person.
    pub is_synthesized: bool,
}

/// What appending did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppendReport {
    /// Sections remembered for the first time.
    pub added: usize,
    /// Sections that came back.
    pub refreshed: usize,
    /// Sections dropped to fit the budget.
    pub evicted: usize,
    /// Whether dead bytes were cut out.
    pub compacted: bool,
}

/// The remembered sections of one store, for reading.
#[derive(Clone, Debug)]
pub struct Corpus {
    corpus: PathBuf,
    entries: Vec<IndexEntry>,
    extra: BTreeMap<SectionId, Extra>,
    /// What was wrong with `extra.json`, if anything; the corpus is usable without.
    pub extra_flaw: Option<String>,
}

/// The readable candidates of a draw, and what could not be read.
#[derive(Debug, Default)]
pub struct Candidates {
    /// Entries that may be drawn, by id, with their sections.
    pub readable: Vec<(IndexEntry, Snapshot)>,
    /// One error per damaged entry.
    pub damaged: Vec<ReplayError>,
}

impl Store {
    /// Opens the replay corpus; a missing one is empty.
    ///
    /// **Errors** when the index is corrupt.
    pub fn replay(&self) -> Result<Corpus, ReplayError> {
        Corpus::open(self.paths().replay())
    }
}

impl Corpus {
    fn open(directory: PathBuf) -> Result<Self, ReplayError> {
        // Between the two renames of a compaction the new index still has its journal name.
        let compacted = directory.join(COMPACTED_INDEX);
        let is_decided = compacted.is_file();
        let (path, corpus) = match (is_decided, directory.join(COMPACTED_CORPUS)) {
            (true, corpus) if corpus.is_file() => (compacted, corpus),
            (true, _) => (compacted, directory.join(CORPUS)),
            (false, _) => (directory.join(INDEX), directory.join(CORPUS)),
        };
        let entries = match dlm_files::read(&path, INDEX_BYTES_MAX)? {
            Some(bytes) => index::parse(&bytes).map_err(|flaw| ReplayError::Index { path, flaw })?,
            None => Vec::new(),
        };
        let (extra, extra_flaw) = read_extra(&directory.join(EXTRA))?;
        Ok(Self {
            corpus,
            entries,
            extra,
            extra_flaw,
        })
    }

    /// Every entry by id.
    pub fn entries(&self) -> &[IndexEntry] {
        &self.entries
    }

    /// What we record about a section beyond the shared format.
    pub fn extra(&self, id: &SectionId) -> Extra {
        self.extra.get(id).cloned().unwrap_or_default()
    }

    /// Bytes of the corpus file that no entry covers.
    ///
    /// **Errors** name the path.
    pub fn dead_bytes(&self) -> Result<u64, DiskError> {
        let live: u64 = self.entries.iter().map(|entry| entry.length).sum();
        Ok(dlm_files::file_size(&self.corpus)?.saturating_sub(live))
    }

    /// Reads the section of an entry.
    ///
    /// **Errors** with offset and length when the frame is damaged.
    pub fn read(&self, entry: &IndexEntry) -> Result<Snapshot, ReplayError> {
        let damaged = |source| ReplayError::Frame {
            path: self.corpus.clone(),
            section_id: entry.section_id.clone(),
            byte_offset: entry.byte_offset,
            length: entry.length,
            source,
        };
        if entry.length > FRAME_BYTES_MAX {
            return Err(damaged(FrameError::TooLarge));
        }
        let size = dlm_files::file_size(&self.corpus)?;
        let left = size.saturating_sub(entry.byte_offset);
        if left < entry.length {
            return Err(damaged(FrameError::Short { found: left }));
        }
        let frame = dlm_files::read_at(&self.corpus, entry.byte_offset, entry.length)?;
        let snapshot = Snapshot::from_frame(&frame).map_err(damaged)?;
        // An id is the digest of the text, so that a flipped bit shows.
        let found = match snapshot.section_id == entry.section_id {
            true => SectionId::of_content(snapshot.section_type, &snapshot.content),
            false => snapshot.section_id.clone(),
        };
        if found != entry.section_id {
            return Err(ReplayError::Mismatch {
                path: self.corpus.clone(),
                section_id: entry.section_id.clone(),
                found,
                byte_offset: entry.byte_offset,
            });
        }
        Ok(snapshot)
    }

    /// Reads the entries that may be drawn for a run on sections: neither in the current document, nor superseded, nor
    /// preferences.
    pub fn section_candidates(&self, current: &BTreeSet<SectionId>) -> Candidates {
        self.candidates(
            |id| !current.contains(id),
            |snapshot| snapshot.section_type != SectionKind::Preference,
        )
    }

    /// Reads the entries that may be drawn for a preference run.
    pub fn preference_candidates(&self, current: &BTreeSet<SectionId>, mined: MinedPreferences) -> Candidates {
        self.candidates(
            |id| !current.contains(id),
            |snapshot| {
                let is_wanted = mined == MinedPreferences::Include || !snapshot.auto_mined;
                snapshot.section_type == SectionKind::Preference && is_wanted
            },
        )
    }

    fn candidates(&self, wants_id: impl Fn(&SectionId) -> bool, wants: impl Fn(&Snapshot) -> bool) -> Candidates {
        let mut found = Candidates::default();
        for entry in &self.entries {
            let is_superseded = self
                .extra
                .get(&entry.section_id)
                .is_some_and(|extra| extra.superseded_by.is_some());
            if is_superseded || !wants_id(&entry.section_id) {
                continue;
            }
            match self.read(entry) {
                Ok(snapshot) if wants(&snapshot) => found.readable.push((entry.clone(), snapshot)),
                Ok(_) => {}
                Err(error) => found.damaged.push(error),
            }
        }
        found
    }
}

/// Whether pairs that a judge mined take part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MinedPreferences {
    Include,
    /// `--no-mined`.
    Exclude,
}

impl Candidates {
    /// Draws from the readable ones; returns them in the order of the draw, so that a caller who has no room for all
    /// leaves out the last.
    pub fn draw_in_order(&self, request: &SampleRequest) -> Vec<&Snapshot> {
        let entries: Vec<_> = self.readable.iter().map(|(entry, _)| entry.clone()).collect();
        let by_id: BTreeMap<_, _> = self
            .readable
            .iter()
            .map(|(entry, snapshot)| (&entry.section_id, snapshot))
            .collect();
        draw_order(&entries, request)
            .iter()
            .take(request.count)
            .map(|entry| by_id[&entry.section_id])
            .collect()
    }

    /// Draws from the readable ones; returns them by id.
    pub fn draw(&self, request: &SampleRequest) -> Vec<Snapshot> {
        let entries: Vec<_> = self.readable.iter().map(|(entry, _)| entry.clone()).collect();
        let drawn: BTreeSet<_> = sample(&entries, request)
            .into_iter()
            .map(|entry| entry.section_id)
            .collect();
        self.readable
            .iter()
            .filter(|(entry, _)| drawn.contains(&entry.section_id))
            .map(|(_, snapshot)| snapshot.clone())
            .collect()
    }
}

/// Appends, evicts, compacts, and marks: the writer's side.
#[derive(Debug)]
pub struct ReplayWriter<'guard> {
    guard: &'guard StoreGuard,
    directory: PathBuf,
}

impl StoreGuard {
    /// Opens the corpus for writing, finishing a compaction that was cut short.
    ///
    /// **Errors** name the path.
    pub fn replay_writer(&self) -> Result<ReplayWriter<'_>, ReplayError> {
        let writer = ReplayWriter {
            guard: self,
            directory: self.paths().replay(),
        };
        writer.finish_compaction()?;
        Ok(writer)
    }
}

impl ReplayWriter<'_> {
    fn disk(&self) -> &Disk {
        self.guard.disk()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Remembers sections, then keeps the corpus within `budget_bytes`; ids in `current` are never dropped.
    ///
    /// A section that is known already gets a fresh frame in place of its old one, so that appending twice after a crash
    /// changes nothing but times.
    ///
    /// **Errors** name section or path; what was remembered before stays.
    pub fn append(
        &self,
        sections: &[Remember],
        current: &BTreeSet<SectionId>,
        budget_bytes: u64,
    ) -> Result<AppendReport, ReplayError> {
        let mut corpus = Corpus::open(self.directory.clone())?;
        let mut report = AppendReport::default();
        if !sections.is_empty() {
            self.disk().create_directories(&self.directory)?;
            self.append_frames(&mut corpus, sections, &mut report)?;
        }
        let eviction = evict(std::mem::take(&mut corpus.entries), budget_bytes, current);
        report.evicted = eviction.dropped.len();
        corpus.entries = eviction.kept;
        if !sections.is_empty() || report.evicted > 0 {
            self.write_index(INDEX, &mut corpus.entries)?;
            self.write_extra(&corpus)?;
        }
        let size = dlm_files::file_size(&corpus.corpus)?;
        // An entry that points past the end is for `set_aside`; its bytes cannot be copied.
        let is_whole = corpus
            .entries
            .iter()
            .all(|entry| entry.byte_offset.saturating_add(entry.length) <= size);
        if is_whole && corpus.dead_bytes()? > size / 2 {
            self.compact(&corpus)?;
            report.compacted = true;
        }
        Ok(report)
    }

    fn append_frames(
        &self,
        corpus: &mut Corpus,
        sections: &[Remember],
        report: &mut AppendReport,
    ) -> Result<(), ReplayError> {
        let mut frames = Vec::new();
        let mut fresh = Vec::new();
        for Remember {
            snapshot,
            adapter,
            is_synthesized,
        } in sections
        {
            let id = &snapshot.section_id;
            if snapshot.section_type.is_media() {
                return Err(ReplayError::Kind {
                    section_id: id.clone(),
                    kind: snapshot.section_type,
                });
            }
            let known = corpus.entries.iter().find(|entry| entry.section_id == *id).cloned();
            let merged = match known.as_ref().map(|entry| corpus.read(entry)) {
                Some(Ok(old)) => merge(old, snapshot),
                // A damaged old frame is replaced by the good new one.
                Some(Err(ReplayError::Disk(error))) => return Err(error.into()),
                Some(Err(_)) | None => snapshot.clone(),
            };
            let frame = merged.frame().map_err(|source| ReplayError::Pack {
                section_id: id.clone(),
                source,
            })?;
            match known {
                Some(_) => report.refreshed += 1,
                None => report.added += 1,
            }
            fresh.push(IndexEntry {
                section_id: id.clone(),
                byte_offset: frames.len() as u64,
                length: frame.len() as u64,
                added_at: merged.last_seen_at,
                weight: known.map_or(1.0, |entry| entry.weight),
            });
            frames.extend_from_slice(&frame);
            let extra = corpus.extra.entry(id.clone()).or_default();
            extra.adapter = adapter.clone();
            extra.is_synthesized = *is_synthesized;
            // It is in the document again.
            extra.superseded_by = None;
        }
        let begin = self.disk().append(&self.path(CORPUS), &frames)?;
        for mut entry in fresh {
            entry.byte_offset += begin;
            corpus.entries.retain(|old| old.section_id != entry.section_id);
            corpus.entries.push(entry);
        }
        Ok(())
    }

    /// Marks sections whose place another took, so that they are not drawn any more.
    ///
    /// **Errors** name the path.
    pub fn supersede(&self, pairs: &[(SectionId, SectionId)]) -> Result<(), ReplayError> {
        let mut corpus = Corpus::open(self.directory.clone())?;
        for (old, new) in pairs {
            let is_known = corpus.entries.iter().any(|entry| entry.section_id == *old);
            if is_known {
                corpus.extra.entry(old.clone()).or_default().superseded_by = Some(new.clone());
            }
        }
        self.write_extra(&corpus)
    }

    /// Takes damaged entries out of the index and keeps what they said in `set-aside.json`.
    ///
    /// **Errors** name the path.
    pub fn set_aside(&self, damaged: &[ReplayError]) -> Result<usize, ReplayError> {
        let ids: BTreeSet<_> = damaged.iter().filter_map(section_of).collect();
        let mut corpus = Corpus::open(self.directory.clone())?;
        let (gone, mut kept): (Vec<_>, Vec<_>) = std::mem::take(&mut corpus.entries)
            .into_iter()
            .partition(|entry| ids.contains(&entry.section_id));
        if gone.is_empty() {
            return Ok(0);
        }
        let path = self.path(SET_ASIDE);
        let earlier = dlm_files::read(&path, INDEX_BYTES_MAX)?.and_then(|bytes| index::parse(&bytes).ok());
        let mut aside = earlier.unwrap_or_default();
        aside.retain(|entry| !ids.contains(&entry.section_id));
        aside.extend(gone.iter().cloned());
        self.disk().write(&path, index::text(&mut aside).as_bytes())?;
        self.write_index(INDEX, &mut kept)?;
        Ok(gone.len())
    }

    /// Moves an index that cannot be read out of the way; the corpus begins anew and its old bytes are dead.
    ///
    /// **Errors** name the path.
    pub fn set_index_aside(&self) -> Result<PathBuf, ReplayError> {
        let target = self.path(INDEX_SET_ASIDE);
        self.disk().rename(&self.path(INDEX), &target)?;
        Ok(target)
    }

    fn write_index(&self, name: &str, entries: &mut [IndexEntry]) -> Result<(), ReplayError> {
        Ok(self.disk().write(&self.path(name), index::text(entries).as_bytes())?)
    }

    fn write_extra(&self, corpus: &Corpus) -> Result<(), ReplayError> {
        let ids: BTreeSet<_> = corpus.entries.iter().map(|entry| &entry.section_id).collect();
        let kept: BTreeMap<_, _> = corpus
            .extra
            .iter()
            .filter(|(id, extra)| ids.contains(id) && **extra != Extra::default())
            .map(|(id, extra)| (id.as_str().to_owned(), extra))
            .collect();
        let path = self.path(EXTRA);
        if kept.is_empty() && !path.exists() {
            return Ok(());
        }
        let value = serde_json::to_value(kept).expect("extras have only text keys");
        Ok(self.disk().write(&path, json::pretty(&value).as_bytes())?)
    }

    /// Cuts dead bytes out: writes a new corpus and index beside the old ones, then puts both in place.
    fn compact(&self, corpus: &Corpus) -> Result<(), ReplayError> {
        let mut entries = corpus.entries.clone();
        let total: u64 = entries.iter().map(|entry| entry.length).sum();
        let mut offset = 0;
        for entry in &mut entries {
            entry.byte_offset = offset;
            offset += entry.length;
        }
        let source = corpus.corpus.clone();
        self.disk().write_with(&self.path(COMPACTED_CORPUS), total, |file| {
            for entry in &corpus.entries {
                let frame =
                    dlm_files::read_at(&source, entry.byte_offset, entry.length).map_err(std::io::Error::other)?;
                std::io::Write::write_all(file, &frame)?;
            }
            Ok(())
        })?;
        self.write_index(COMPACTED_INDEX, &mut entries)?;
        self.finish_compaction()
    }

    /// Puts a compacted corpus and index in place, or clears a corpus whose index was never written.
    fn finish_compaction(&self) -> Result<(), ReplayError> {
        let (corpus, index) = (self.path(COMPACTED_CORPUS), self.path(COMPACTED_INDEX));
        if index.is_file() {
            if corpus.is_file() {
                self.disk().rename(&corpus, &self.path(CORPUS))?;
            }
            self.disk().rename(&index, &self.path(INDEX))?;
        } else if corpus.is_file() {
            self.disk().remove_file(&corpus)?;
        }
        Ok(())
    }
}

/// What a section's entry becomes when it comes back.
fn merge(old: Snapshot, new: &Snapshot) -> Snapshot {
    let runs: BTreeSet<_> = old
        .training_runs_seen
        .iter()
        .chain(&new.training_runs_seen)
        .copied()
        .collect();
    Snapshot {
        first_seen_at: old.first_seen_at.min(new.first_seen_at),
        last_seen_at: old.last_seen_at.max(new.last_seen_at),
        training_runs_seen: runs.into_iter().collect(),
        ..new.clone()
    }
}

fn section_of(error: &ReplayError) -> Option<SectionId> {
    match error {
        ReplayError::Frame { section_id, .. } | ReplayError::Mismatch { section_id, .. } => Some(section_id.clone()),
        _ => None,
    }
}

type ReadExtra = (BTreeMap<SectionId, Extra>, Option<String>);

fn read_extra(path: &Path) -> Result<ReadExtra, DiskError> {
    let Some(bytes) = dlm_files::read(path, INDEX_BYTES_MAX)? else {
        return Ok(Default::default());
    };
    match record::parse(&bytes) {
        Ok(extra) => Ok((extra, None)),
        Err(flaw) => Ok((
            BTreeMap::new(),
            Some(format!("`{}` was ignored: {flaw}", path.display())),
        )),
    }
}
