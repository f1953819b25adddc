//! What earlier versions of the document give to a run: sections to rehearse, and a few that measure what is kept.
//!
//! Invariants: a section of the current document is never drawn, nor one that was edited: its question has a new answer.
//! Every draw is a function of the corpus, the document and the seed alone, never of the clock, so that a run repeats.
//! Reading changes nothing; what is damaged is set aside once the store is locked.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use dlm_core::digest::sha256;
use dlm_core::manifest::Manifest;
use dlm_core::stamp::Stamp;
use dlm_core::{Event, SectionId};
use dlm_doc::{Parsed, Rows, Section, SectionKind};
use dlm_model::text::TextModel;
use dlm_store::replay::{
    Candidates, MinedPreferences, ReplayError, SampleRequest, SampleScheme, SectionText, Snapshot, preference_count,
    section_count, superseded,
};
use dlm_store::{Delta, Store, StoreGuard};
use dlm_train::dataset::Entry;
use dlm_train::{Dataset, Origin, Pair, Source};
use serde::Serialize;

use super::lane::Lane;
use crate::failure::Failure;
use crate::rows;
use crate::surroundings::Surroundings;

/// Share of the replayable sections that are never rehearsed (`training.md` section 11).
const RETENTION_SHARE: f64 = 0.05;
/// Replayable sections from which some are kept aside: the only one is worth more rehearsed than measured.
const RETENTION_CANDIDATES_MIN: usize = 2;
/// Sections kept aside at most; more make the mean no surer and cost a forward pass each.
const RETENTION_MAX: usize = 64;

/// What was remembered of earlier versions, sorted out against the current document.
pub(crate) struct Memory {
    candidates: Candidates,
    preferences: Candidates,
    retained: Vec<Snapshot>,
    synthesized: BTreeSet<SectionId>,
    superseded: Vec<(SectionId, SectionId)>,
    request: SampleRequest,
    damaged: Vec<ReplayError>,
    index_error: Option<ReplayError>,
    warnings: Vec<String>,
    new: BTreeSet<SectionId>,
}

/// The rows that a run gets from earlier versions.
pub(crate) struct Replay {
    pub report: ReplayReport,
    /// Rows of the sections kept aside, never trained on.
    pub retained: Vec<Entry>,
    /// Removed sections and those that took their place.
    pub superseded: Vec<(SectionId, SectionId)>,
    /// Sections that the document did not have in the last run.
    pub new: BTreeSet<SectionId>,
    damaged: Vec<ReplayError>,
    index_error: Option<ReplayError>,
    warnings: Vec<String>,
}

/// What a run rehearses, as it is shown and recorded.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ReplayReport {
    /// Sections drawn, by id.
    pub drawn: Vec<DrawnSection>,
    /// Ids of sections that are never rehearsed: their loss says what is kept without.
    pub retained: Vec<String>,
    /// Ids of edited sections, each with the section that took its place.
    pub superseded: BTreeMap<String, String>,
    /// Preference pairs drawn, by the id of their section.
    pub preferences: Vec<String>,
}

/// One section that is rehearsed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DrawnSection {
    /// `replay:<id>:<last seen>`.
    pub row_id: String,
    pub rows: usize,
    /// Of those, the rows on the validation side.
    pub held_out: usize,
    pub tokens: usize,
}

impl ReplayReport {
    /// Rows of all sections drawn.
    pub fn rows(&self) -> usize {
        self.drawn.iter().map(|section| section.rows).sum()
    }
}

impl Memory {
    /// Reads the corpus of a store and sorts out what is one adapter's against the document; pairs that a judge mined take part
    /// where `mined` says so.
    ///
    /// **Errors** when the disk fails; damage is kept and told when the run begins.
    pub(crate) fn load(
        store: &Store,
        manifest: Option<&Manifest>,
        parsed: &Parsed,
        seed: i64,
        lane: &Lane,
        mined: MinedPreferences,
    ) -> Result<Self, Failure> {
        let ids: Vec<SectionId> = parsed.sections().iter().map(Section::id).collect();
        let recorded = manifest.map(|m| m.content_hashes.clone()).unwrap_or_default();
        let delta = dlm_store::delta(&ids, &recorded);
        let (corpus, index_error) = match store.replay() {
            Ok(corpus) => (Some(corpus), None),
            Err(ReplayError::Disk(error)) => return Err(error.into()),
            Err(error) => (None, Some(error)),
        };
        let current: BTreeSet<SectionId> = ids.into_iter().collect();
        let newest = |c: &dlm_store::replay::Corpus| c.entries().iter().map(|entry| entry.added_at).max();
        let now = corpus.as_ref().and_then(newest).unwrap_or(Stamp::from_unix_ms(0));
        let mut memory = Memory {
            candidates: Candidates::default(),
            preferences: Candidates::default(),
            retained: Vec::new(),
            synthesized: BTreeSet::new(),
            superseded: Vec::new(),
            request: SampleRequest {
                count: section_count(delta.new.len()),
                // Ages count from the newest section, not from the clock: the same corpus gives the same draw tomorrow.
                now,
                seed: seed.wrapping_add(i64::from(lane.version)),
                scheme: SampleScheme::Recency,
            },
            damaged: Vec::new(),
            index_error,
            warnings: Vec::new(),
            new: delta.new.iter().cloned().collect(),
        };
        let Some(corpus) = corpus else {
            return Ok(memory);
        };
        memory.warnings.extend(corpus.extra_flaw.clone());
        let mut candidates = corpus.section_candidates(&current);
        let mut preferences = corpus.preference_candidates(&current, MinedPreferences::Include);
        memory.damaged.append(&mut candidates.damaged);
        let removed: Vec<SectionText> = candidates
            .readable
            .iter()
            .chain(&preferences.readable)
            .map(|(_, snapshot)| snapshot_text(snapshot))
            .collect();
        memory.superseded = find_superseded(&removed, parsed, &delta);
        let edited: BTreeSet<&SectionId> = memory.superseded.iter().map(|(old, _)| old).collect();
        for candidates in [&mut candidates, &mut preferences] {
            candidates.readable.retain(|(entry, snapshot)| {
                let routed = corpus.extra(&entry.section_id).adapter;
                !edited.contains(&entry.section_id) && lane.takes(snapshot.section_type, routed.as_deref())
            });
        }
        if mined == MinedPreferences::Exclude {
            preferences.readable.retain(|(_, snapshot)| !snapshot.auto_mined);
        }
        memory.preferences = preferences;
        memory.retained = take_retained(&mut candidates, seed);
        let is_synthesized = |id: &&SectionId| corpus.extra(id).is_synthesized;
        let known = candidates.readable.iter().map(|(entry, _)| &entry.section_id);
        memory.synthesized = known.filter(is_synthesized).cloned().collect();
        memory.candidates = candidates;
        Ok(memory)
    }

    /// Draws sections and makes their rows: by weight, as long as all of them together have no more tokens than the
    /// document's own rows.
    pub(crate) fn draw(&self, document: &Dataset, text: &TextModel, sequence_len_max: usize) -> Draw {
        let mut left = document.own_tokens();
        let mut drawn = Draw::default();
        // What was fitting once may be too long for another base; it is not worth refusing the run.
        let fitting = |source: &Source| -> Vec<Entry> {
            let made = document.entries_of(source, text).filter_map(Result::ok);
            made.filter(|entry| entry.tokens.ids.len() <= sequence_len_max)
                .collect()
        };
        for snapshot in self.candidates.draw_in_order(&self.request) {
            let source = match self.source(snapshot) {
                Ok(source) => source,
                Err(reason) => {
                    drawn.warnings.push(reason);
                    continue;
                }
            };
            for entry in source.iter().flat_map(fitting) {
                let tokens = entry.tokens.ids.len();
                if tokens <= left {
                    left -= tokens;
                    drawn.entries.push(entry);
                }
            }
        }
        drawn
            .entries
            .sort_by_cached_key(|entry| (entry.example.origin.to_string(), entry.example.index));
        for snapshot in &self.retained {
            match self.source(snapshot) {
                Ok(source) => drawn.retained.extend(source.iter().flat_map(fitting)),
                Err(reason) => drawn.warnings.push(reason),
            }
        }
        drawn
    }

    /// Draws preferences for a phase over `own` pairs of the document; none where the document has none of its own to rehearse
    /// them beside.
    pub(crate) fn draw_pairs(
        &self,
        own: usize,
        system: Option<&str>,
        text: &TextModel,
        sequence_len_max: usize,
    ) -> Vec<Pair> {
        let request = SampleRequest {
            count: preference_count(own),
            ..self.request
        };
        let drawn = if own > 0 {
            self.preferences.draw(&request)
        } else {
            Vec::new()
        };
        let pairs = drawn.iter().flat_map(|snapshot| {
            let section = Section::text(snapshot.section_type, snapshot.content.clone());
            let origin = Origin::Replay {
                id: snapshot.section_id.clone(),
                last_seen: snapshot.last_seen_at,
            };
            // What was a pair once need not be one for this base; it is not worth refusing the run.
            rows::pairs(&section, origin, system, text).unwrap_or_default()
        });
        pairs
            .filter(|pair| pair.check_length(sequence_len_max, usize::MAX).is_ok())
            .collect()
    }

    /// What a remembered section teaches; or why it teaches nothing.
    fn source(&self, snapshot: &Snapshot) -> Result<Option<Source>, String> {
        debug_assert_ne!(snapshot.section_type, SectionKind::Preference);
        let section = Section::text(snapshot.section_type, snapshot.content.clone());
        let origin = Origin::Replay {
            id: snapshot.section_id.clone(),
            last_seen: snapshot.last_seen_at,
        };
        let is_synthesized = self.synthesized.contains(&snapshot.section_id);
        rows::source(&section, origin, is_synthesized)
            .map_err(|error| format!("section {} is left out: {}", snapshot.section_id, error.message()))
    }

    /// Closes the books: what the run will rehearse, measure and mark.
    pub(crate) fn settle(self, drawn: Draw, pairs: &[Pair]) -> Replay {
        let mut report = ReplayReport {
            retained: self.retained.iter().map(|s| s.section_id.to_string()).collect(),
            superseded: self
                .superseded
                .iter()
                .map(|(old, new)| (old.to_string(), new.to_string()))
                .collect(),
            preferences: pairs
                .iter()
                .filter(|pair| pair.origin.is_replay())
                .map(|pair| pair.origin.to_string())
                .collect(),
            ..ReplayReport::default()
        };
        for entry in &drawn.entries {
            let row_id = entry.example.origin.to_string();
            if report.drawn.last().is_none_or(|last| last.row_id != row_id) {
                report.drawn.push(DrawnSection {
                    row_id,
                    rows: 0,
                    held_out: 0,
                    tokens: 0,
                });
            }
            let section = report.drawn.last_mut().expect("one was pushed");
            section.rows += 1;
            section.held_out += usize::from(entry.example.is_validation());
            section.tokens += entry.tokens.ids.len();
        }
        let mut warnings = self.warnings;
        warnings.extend(drawn.warnings);
        Replay {
            report,
            retained: drawn.retained,
            superseded: self.superseded,
            new: self.new,
            damaged: self.damaged,
            index_error: self.index_error,
            warnings,
        }
    }
}

/// The rows of a draw.
#[derive(Default)]
pub(crate) struct Draw {
    /// Those that are rehearsed, in the order of their ids.
    pub entries: Vec<Entry>,
    retained: Vec<Entry>,
    warnings: Vec<String>,
}

impl Replay {
    /// Sets aside what was found damaged and says so.
    ///
    /// **Errors** name the path.
    pub(crate) fn admit(&self, around: &Surroundings, guard: &StoreGuard) -> Result<(), Failure> {
        let warn = |text: String| around.progress.event(Event::Warning(text));
        self.warnings.iter().for_each(|text| warn(format!("replay: {text}")));
        if let Some(error) = &self.index_error {
            let place = guard.replay_writer()?.set_index_aside()?;
            warn(format!("replay: {error}; it is set aside as {}", place.display()));
        }
        if !self.damaged.is_empty() {
            guard.replay_writer()?.set_aside(&self.damaged)?;
            for error in &self.damaged {
                warn(format!("replay: {error}; it is set aside"));
            }
        }
        Ok(())
    }
}

/// Takes the sections out that are never rehearsed: a share of them, those with the smallest hashes.
fn take_retained(candidates: &mut Candidates, seed: i64) -> Vec<Snapshot> {
    let total = candidates.readable.len();
    if total < RETENTION_CANDIDATES_MIN {
        return Vec::new();
    }
    let wanted = ((total as f64 * RETENTION_SHARE).ceil() as usize).clamp(1, RETENTION_MAX);
    let rank = |id: &SectionId| sha256(format!("{seed}\0{id}"));
    candidates
        .readable
        .sort_by_cached_key(|(entry, _)| Reverse(rank(&entry.section_id)));
    let mut taken: Vec<Snapshot> = candidates
        .readable
        .split_off(total - wanted)
        .into_iter()
        .map(|(_, snapshot)| snapshot)
        .collect();
    taken.sort_by(|a, b| a.section_id.cmp(&b.section_id));
    taken
}

fn find_superseded(removed: &[SectionText], parsed: &Parsed, delta: &Delta) -> Vec<(SectionId, SectionId)> {
    let new: BTreeSet<&SectionId> = delta.new.iter().collect();
    let (new, unchanged): (Vec<_>, Vec<_>) = parsed
        .sections()
        .iter()
        .filter(|section| !section.kind.is_media())
        .map(section_text)
        .partition(|section| new.contains(&section.id));
    superseded(removed, &new, &unchanged)
}

fn section_text(section: &Section) -> SectionText {
    SectionText {
        id: section.id(),
        kind: section.kind,
        content: section.content.clone(),
        // A section whose rows do not parse has no question; the words still tell an edit.
        prompts: dlm_doc::rows(section).map(Rows::prompts).unwrap_or_default(),
    }
}

fn snapshot_text(snapshot: &Snapshot) -> SectionText {
    SectionText {
        id: snapshot.section_id.clone(),
        ..section_text(&Section::text(snapshot.section_type, snapshot.content.clone()))
    }
}
