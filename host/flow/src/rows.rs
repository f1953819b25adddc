//! From a document's sections to rows of training, and to the facts that a plan is made from.

use dlm_doc::{Frontmatter, Parsed, Rows, Section, SectionKind};
use dlm_model::text::TextModel;
use dlm_plan::train::{Auto, DocumentFacts, RowFacts, TargetModules, TrainingKnobs};
use dlm_train::rows::{RowOptions, plain, windows};
use dlm_train::split::is_held_out;
use dlm_train::{SourceBody, SourceRow};
use serde::de::DeserializeOwned;

use crate::document::Document;
use crate::failure::Failure;

/// Instruction rows from which the hash may hold some of them out, when the author asks for it.
const HOLDOUT_PAIRS_MIN: usize = 64;

/// Checks what a run of this version can train on; every problem of the rows in one failure.
pub fn check_trainable(document: &Document) -> Result<(), Failure> {
    let parsed = &document.parsed;
    let problems = dlm_doc::training_problems(parsed);
    if !problems.is_empty() {
        let place = document.path.display();
        let lines: Vec<String> = problems
            .iter()
            .map(|p| format!("{place}:{}: {}", p.line, p.message))
            .collect();
        return Err(Failure::new("parse", lines.join("\nparse: ")).hint(format!("dlm check {place}")));
    }
    let front = parsed.frontmatter();
    let not_built = |what: &str| {
        Failure::misuse("training", format!("{what} is not built yet in this version"))
            .hint("see docs/status.md for what works and what comes next")
    };
    if front.training.adapters.is_some() {
        return Err(not_built("training several named adapters (`training.adapters`)"));
    }
    if front.training.sources.is_some() {
        return Err(not_built("taking in files through `training.sources`"));
    }
    if let Some(section) = parsed.sections().iter().find(|s| s.kind.is_media()) {
        return Err(Failure::new(
            "training",
            format!(
                "{}:{}: a text base cannot learn an {} section",
                document.path.display(),
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
pub fn source_rows(parsed: &Parsed, text: &TextModel, seed: u64, window: usize) -> Result<Vec<SourceRow>, Failure> {
    let mut rows = Vec::new();
    for section in parsed.sections() {
        rows.extend(section_rows(section, text, window)?);
    }
    hold_out(parsed.frontmatter(), parsed, seed, &mut rows);
    Ok(rows)
}

/// Makes the rows of one section.
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
            windows(section.content.trim(), window, &count)
                .into_iter()
                .enumerate()
                .map(|(i, text)| row(i, SourceBody::Prose { text }))
                .collect()
        }
        SectionKind::Instruction => match dlm_doc::rows(section).map_err(|e| Failure::of("parse", &e))? {
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

/// Marks the rows that follow the hash: prose, synthesised pairs, and all pairs of an author who asked for it.
fn hold_out(front: &Frontmatter, parsed: &Parsed, seed: u64, rows: &mut [SourceRow]) {
    let pairs = rows
        .iter()
        .filter(|r| matches!(r.body, SourceBody::Pair { .. }))
        .count();
    let synthesised = |id: &str| {
        parsed
            .sections()
            .iter()
            .any(|s| s.synth.is_some() && s.id().as_str() == id)
    };
    for row in rows.iter_mut() {
        let follows_hash = match row.body {
            SourceBody::Prose { .. } => true,
            SourceBody::Pair { .. } => {
                synthesised(&row.section_id) || (front.training.holdout && pairs >= HOLDOUT_PAIRS_MIN)
            }
        };
        row.is_validation = follows_hash && is_held_out(seed, &row.section_id, row.sub_index);
    }
    // A document whose every row would be held out teaches nothing; then all of them train.
    if rows.iter().all(|r| r.is_validation) {
        rows.iter_mut().for_each(|r| r.is_validation = false);
    }
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
    let mut shared: Option<Vec<u32>> = None;
    for source in rows {
        if source.is_validation {
            facts.validation_rows += 1;
            continue;
        }
        let row = plain(source, text, &options)?;
        let len = row.ids.len() as u64;
        match source.body {
            SourceBody::Pair { .. } => {
                facts.instruction_rows += 1;
                facts.instruction_tokens += len;
                facts.answer_tokens += row.targets.len() as u64;
                facts.instruction_tokens_max = facts.instruction_tokens_max.max(len);
                let common = |a: &[u32], b: &[u32]| a.iter().zip(b).take_while(|(x, y)| x == y).count();
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
        facts.shared_prefix_tokens = shared.map_or(0, |s| s.len() as u64);
        facts.instruction_tokens -= facts.shared_prefix_tokens * facts.instruction_rows;
        facts.instruction_tokens_max -= facts.shared_prefix_tokens;
    }
    facts.preference_rows = parsed
        .sections()
        .iter()
        .filter(|s| s.kind == SectionKind::Preference)
        .count() as u64;
    Ok(DocumentFacts {
        knobs: knobs(front),
        rows: facts,
        adapter_name: None,
    })
}

/// The training keys that the author wrote, in the plan's words.
fn knobs(front: &Frontmatter) -> TrainingKnobs {
    let written = front.written_knobs();
    TrainingKnobs {
        adapter: written.adapter.map(same_word),
        lora_r: written.lora_r,
        lora_alpha: written.lora_alpha,
        lora_dropout: written.lora_dropout,
        target_modules: written.target_modules.map(TargetModules::Named),
        sequence_len: written.sequence_len,
        micro_batch_size: written.micro_batch_size.map(Auto::Given),
        grad_accum: written.grad_accum.map(Auto::Given),
        learning_rate: written.learning_rate,
        num_epochs: written.num_epochs,
        optimizer: written.optimizer.map(same_word),
        lr_scheduler: written.lr_scheduler.map(same_word),
        warmup_ratio: written.warmup_ratio,
        seed: written.seed,
        precision: written.precision.map(same_word),
        cpt_schedule: front
            .wrote("training.cpt.schedule")
            .then(|| same_word(front.training.cpt.schedule)),
        embed_warmup_steps: None,
    }
}

/// Translates between the document's and the plan's enums, which share their words in the file.
fn same_word<T: DeserializeOwned>(value: impl serde::Serialize) -> T {
    let word = serde_json::to_value(value).expect("a choice is one word");
    serde_json::from_value(word).expect("both sides list the words of the schema")
}
