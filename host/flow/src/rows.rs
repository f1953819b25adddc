//! From a document's sections to rows of training, and to the facts that a plan is made from.

use std::path::Path;

use dlm_core::split::{VALIDATION_SHARE, is_validation};
use dlm_core::{SectionId, Subject};
use dlm_doc::{Frontmatter, Parsed, Rows, Section, SectionKind};
use dlm_model::text::TextModel;
use dlm_plan::train::{DocumentFacts, RowFacts, recipe};
use dlm_train::rows::{RowOptions, plain};
use dlm_train::windows::windows;
use dlm_train::{SourceBody, SourceRow};

use crate::document::Document;
use crate::failure::Failure;

/// Instruction rows from which the hash may hold some of them out, when the author asks for it.
const HOLDOUT_PAIRS_MIN: usize = 64;

/// Refuses a document whose rows have mistakes; all of them are in the failure.
pub fn check_rows(document: &Document) -> Result<(), Failure> {
    let problems = dlm_doc::training_problems(&document.parsed);
    if problems.is_empty() {
        return Ok(());
    }
    let place = document.path.display().to_string();
    let text = dlm_doc::render::render_problems(Some(&place), &document.text, &problems);
    Err(Failure::new(Subject::Parse, text.trim_end()))
}

/// Refuses what a run of this version cannot train on.
pub fn check_trainable(path: &Path, parsed: &Parsed) -> Result<(), Failure> {
    let front = parsed.frontmatter();
    let not_built = |what: &str| {
        Failure::misuse(Subject::Training, format!("{what} is not built yet in this version"))
            .hint("take it out of the document; the rest is trained")
    };
    if front.training.adapters.is_some() {
        return Err(not_built("training several named adapters (`training.adapters`)"));
    }
    if front.training.sources.is_some() {
        return Err(not_built("taking in files through `training.sources`"));
    }
    if let Some(section) = parsed.sections().iter().find(|s| s.kind.is_media()) {
        return Err(Failure::new(
            Subject::Training,
            format!(
                "{}:{}: a text base cannot learn an {} section",
                path.display(),
                section.start_line,
                section.kind
            ),
        )
        .hint("remove the section; pictures and sound come in a later version"));
    }
    if front.training.cpt.embed_warmup_steps > 0 {
        return Err(not_built(
            "training the embedding first (`training.cpt.embed_warmup_steps`)",
        ));
    }
    Ok(())
}

/// Makes the rows of a document; prose is cut into windows of `window` tokens.
pub fn source_rows(parsed: &Parsed, text: &TextModel, seed: i64, window: usize) -> Result<Vec<SourceRow>, Failure> {
    let mut sections = Vec::new();
    for section in parsed.sections() {
        sections.push((section, section_rows(section, text, window)?));
    }
    let policy = HoldOut::new(parsed.frontmatter(), sections.iter().flat_map(|(_, rows)| rows), seed);
    let mut all = Vec::new();
    for (section, mut rows) in sections {
        let id = section.id();
        for row in &mut rows {
            row.is_validation = policy.holds(&id, row, section.synth.is_some());
        }
        all.append(&mut rows);
    }
    // A document whose every row would be held out teaches nothing; then all of them train.
    if all.iter().all(|r| r.is_validation) {
        all.iter_mut().for_each(|r| r.is_validation = false);
    }
    Ok(all)
}

/// Makes the rows of one section, none of them held out.
pub fn section_rows(section: &Section, text: &TextModel, window: usize) -> Result<Vec<SourceRow>, Failure> {
    let row = |sub_index: usize, body: SourceBody| SourceRow {
        section_id: section.id().as_str().to_owned(),
        sub_index: sub_index as u32,
        line: section.start_line,
        body,
        is_validation: false,
    };
    Ok(match section.kind {
        SectionKind::Prose => {
            // A text that cannot be encoded is refused when its row is made, with the section's name.
            let count = |piece: &str| text.tokenizer.encode(piece).map_or(usize::MAX, |ids| ids.len());
            // The tokens that a row has beside its text.
            let around = text.prose_row("").map_or(0, |row| row.ids.len());
            let limit = window.saturating_sub(around).max(1);
            let overlap = (limit as f64 * recipe::PROSE_OVERLAP) as usize;
            windows(&section.content, limit, overlap, &count)
                .into_iter()
                .enumerate()
                .map(|(i, window)| {
                    row(
                        i,
                        SourceBody::Prose {
                            text: window.text,
                            context: window.context,
                        },
                    )
                })
                .collect()
        }
        SectionKind::Instruction => match dlm_doc::rows(section).map_err(|e| Failure::new(Subject::Parse, e))? {
            Rows::Pairs(pairs) => pairs
                .into_iter()
                .enumerate()
                .map(|(i, pair)| {
                    row(
                        i,
                        SourceBody::Pair {
                            question: pair.question,
                            answer: pair.answer,
                        },
                    )
                })
                .collect(),
            Rows::Triples(_) | Rows::None => Vec::new(),
        },
        SectionKind::Preference | SectionKind::Image | SectionKind::Audio => Vec::new(),
    })
}

/// Which rows are held out: prose, synthesized pairs, and all pairs of an author who asked for it follow the hash of
/// their section; pairs by hand always train.
pub(crate) struct HoldOut {
    seed: i64,
    holds_pairs: bool,
}

impl HoldOut {
    /// The policy of a document with these rows.
    pub(crate) fn new<'a>(front: &Frontmatter, rows: impl Iterator<Item = &'a SourceRow>, seed: i64) -> Self {
        let pairs = rows.filter(|r| matches!(r.body, SourceBody::Pair { .. })).count();
        Self {
            seed,
            holds_pairs: front.training.holdout && pairs >= HOLDOUT_PAIRS_MIN,
        }
    }

    /// Whether a row of section `id` is held out; a replayed row goes by the id of the section that it was in.
    pub(crate) fn holds(&self, id: &SectionId, row: &SourceRow, is_synthesized: bool) -> bool {
        let follows_hash = match row.body {
            SourceBody::Prose { .. } => true,
            SourceBody::Pair { .. } => is_synthesized || self.holds_pairs,
        };
        follows_hash && is_validation(self.seed, id, row.sub_index as usize, VALIDATION_SHARE)
    }
}

/// Refuses a pair that is longer than a row may be, before anything is loaded.
pub fn check_lengths(rows: &[SourceRow], text: &TextModel, options: &RowOptions) -> Result<(), Failure> {
    for row in rows {
        plain(row, text, options)?;
    }
    Ok(())
}

/// Counts rows and tokens for the plan.
pub fn document_facts(parsed: &Parsed, rows: &[SourceRow], text: &TextModel) -> Result<DocumentFacts, Failure> {
    let front = parsed.frontmatter();
    let options = RowOptions {
        system_prompt: front.system_prompt.clone(),
        sequence_len_max: usize::MAX,
        prose_weight: 1.0,
    };
    let mut facts = RowFacts {
        sections: parsed.sections().len() as u64,
        ..RowFacts::default()
    };
    let common = |a: &[u32], b: &[u32]| a.iter().zip(b).take_while(|(x, y)| x == y).count();
    let mut shared: Option<Vec<u32>> = None;
    let mut replayed = Vec::new();
    for source in rows {
        if source.is_validation {
            facts.validation_rows += 1;
            continue;
        }
        let row = plain(source, text, &options)?;
        let len = row.ids.len() as u64;
        if source.is_replayed() {
            replayed.push(row.ids);
            continue;
        }
        match source.body {
            SourceBody::Pair { .. } => {
                facts.instruction_rows += 1;
                facts.instruction_tokens += len;
                facts.answer_tokens += row.targets.len() as u64;
                facts.instruction_tokens_max = facts.instruction_tokens_max.max(len);
                let keep = shared.as_ref().map_or(row.ids.len(), |s| common(s, &row.ids));
                shared = Some(row.ids[..keep].to_vec());
            }
            SourceBody::Prose { .. } => {
                facts.prose_sections += 1;
                facts.prose_tokens += len;
            }
        }
    }
    if facts.instruction_rows > 1 {
        facts.shared_prefix_tokens = shared.as_ref().map_or(0, |s| s.len() as u64);
        facts.instruction_tokens -= facts.shared_prefix_tokens * facts.instruction_rows;
        facts.instruction_tokens_max -= facts.shared_prefix_tokens;
    }
    let shared = shared.filter(|_| facts.instruction_rows > 1).unwrap_or_default();
    facts.replay_rows = replayed.len() as u64;
    facts.replay_tokens = replayed
        .iter()
        .map(|ids| (ids.len() - common(&shared, ids)) as u64)
        .sum();
    facts.preference_rows = parsed
        .sections()
        .iter()
        .filter(|s| s.kind == SectionKind::Preference)
        .count() as u64;
    Ok(DocumentFacts {
        knobs: front.written_knobs(),
        rows: facts,
        adapter_name: None,
    })
}
