//! From a document's sections to what a run is made of: its sources, and the facts that a plan is made from.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use dlm_core::Subject;
use dlm_core::base::BaseRecord;
use dlm_core::training::AdapterKind;
use dlm_doc::{Frontmatter, Parsed, Rows, Section, SectionKind, Triple};
use dlm_model::text::{TextError, TextModel};
use dlm_plan::train::{DocumentFacts, RowFacts};
use dlm_train::{Dataset, Origin, Pair, Preference, Source, SourceContent};

use crate::document::Document;
use crate::failure::Failure;

/// Tokens of the shortest row that could be trained.
const TOKENS_MIN: u64 = 16;

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

/// Refuses what a run of this version cannot train on, whatever the base.
pub fn check_trainable(parsed: &Parsed) -> Result<(), Failure> {
    let front = parsed.frontmatter();
    let not_built = |what: &str| {
        Failure::misuse(Subject::Training, format!("{what} is not built yet in this version"))
            .hint("take it out of the document; the rest is trained")
    };
    if front.training.sources.is_some() {
        return Err(not_built("taking in files through `training.sources`"));
    }
    if front.training.cpt.embed_warmup_steps > 0 {
        return Err(not_built(
            "training the embedding first (`training.cpt.embed_warmup_steps`)",
        ));
    }
    Ok(())
}

/// Refuses pictures and sound, which a text base cannot learn.
pub fn check_media(document: &Document, base: &BaseRecord) -> Result<(), Failure> {
    let media = document.parsed.sections().iter().find(|s| s.kind.is_media());
    let Some(section) = media else {
        return Ok(());
    };
    Err(Failure::new(
        Subject::Training,
        format!(
            "{}:{}: `{}` is a text base and cannot learn an {} section",
            document.path.display(),
            section.start_line,
            base.key,
            section.kind
        ),
    )
    .hint("remove the section; pictures and sound come in a later version"))
}

/// Lists what those of a document's sections teach that `takes` chooses.
///
/// **Errors:** an instruction section that does not parse.
pub fn sources(parsed: &Parsed, takes: impl Fn(&Section) -> bool) -> Result<Vec<Source>, Failure> {
    let mut sources = Vec::new();
    for section in parsed.sections().iter().filter(|section| takes(section)) {
        sources.extend(source(section, origin(section), section.synth.is_some())?);
    }
    Ok(sources)
}

fn origin(section: &Section) -> Origin {
    Origin::Section {
        id: section.id(),
        line: section.start_line,
    }
}

/// Which preferences of a document a run takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PreferenceFilter {
    /// Whether the command has a phase for them.
    pub is_wanted: bool,
    /// Whether those that a judge mined are left out.
    pub skips_mined: bool,
}

impl PreferenceFilter {
    /// Lists the preference sections that a run of `parsed` takes.
    pub fn sections(self, parsed: &Parsed) -> impl Iterator<Item = &Section> {
        let is_on = self.is_wanted && parsed.preference_enabled();
        let sections = parsed.sections().iter().filter(move |_| is_on);
        sections.filter(move |s| s.kind == SectionKind::Preference && !(self.skips_mined && s.mined.is_some()))
    }
}

/// Makes the pairs of a preference section.
///
/// **Errors:** a section that does not parse, a pair that cannot be trained on.
pub fn pairs(section: &Section, origin: Origin, system: Option<&str>, text: &TextModel) -> Result<Vec<Pair>, Failure> {
    let Rows::Triples(triples) = dlm_doc::rows(section).map_err(|e| Failure::new(Subject::Parse, e))? else {
        return Ok(Vec::new());
    };
    let pair = |(index, triple): (usize, Triple)| {
        let preference = Preference {
            prompt: triple.prompt,
            chosen: triple.chosen,
            rejected: triple.rejected,
        };
        Ok(Pair::new(origin.clone(), index as u32, preference, system, text)?)
    };
    triples.into_iter().enumerate().map(pair).collect()
}

/// Makes the pairs of those of a document's sections that `filter` and `takes` choose.
///
/// **Errors:** as [`pairs`].
pub fn document_pairs(
    parsed: &Parsed,
    filter: PreferenceFilter,
    takes: impl Fn(&Section) -> bool,
    text: &TextModel,
) -> Result<Vec<Pair>, Failure> {
    let system = parsed.frontmatter().system();
    let mut all = Vec::new();
    for section in filter.sections(parsed).filter(|section| takes(section)) {
        all.extend(pairs(section, origin(section), system, text)?);
    }
    Ok(all)
}

/// Returns what one section teaches; nothing where this version teaches nothing of its kind.
///
/// **Errors:** an instruction section that does not parse.
pub fn source(section: &Section, origin: Origin, is_synthesized: bool) -> Result<Option<Source>, Failure> {
    let content = match section.kind {
        SectionKind::Prose => SourceContent::Prose(section.content.clone()),
        SectionKind::Instruction => match dlm_doc::rows(section).map_err(|e| Failure::new(Subject::Parse, e))? {
            Rows::Pairs(pairs) => {
                SourceContent::Pairs(pairs.into_iter().map(|pair| (pair.question, pair.answer)).collect())
            }
            Rows::Triples(_) | Rows::None => return Ok(None),
        },
        SectionKind::Preference | SectionKind::Image | SectionKind::Audio => return Ok(None),
    };
    Ok(Some(Source {
        origin,
        content,
        is_synthesized,
    }))
}

/// Says which characters of a document its base cannot express, with the line of the first section that has one; they would be lost on the way.
///
/// **Errors:** a tokenizer that fails.
pub fn inexpressible(document: &Document, text: &TextModel) -> Result<Option<String>, Failure> {
    let mut known: BTreeMap<char, bool> = BTreeMap::new();
    let mut first = None;
    for section in document.parsed.sections() {
        for character in section.content.chars().filter(|c| !c.is_whitespace()) {
            if let Entry::Vacant(entry) = known.entry(character) {
                let is_expressed = text.tokenizer.expresses(character).map_err(TextError::from)?;
                entry.insert(is_expressed);
                if !is_expressed && first.is_none() {
                    first = Some(section.start_line);
                }
            }
        }
    }
    let Some(line) = first else {
        return Ok(None);
    };
    let lost = known.iter().filter(|(_, is_expressed)| !**is_expressed);
    let lost: Vec<String> = lost.map(|(c, _)| format!("`{}`", c.escape_debug())).collect();
    let shown = lost
        .iter()
        .take(SHOWN)
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join(", ");
    let more = match lost.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Ok(Some(format!(
        "{}:{line}: the vocabulary of `{}` has no token for {shown}{more}: the model neither reads nor writes them",
        document.path.display(),
        text.name
    )))
}

/// Characters that are shown in a warning.
const SHOWN: usize = 8;

/// Counts what one adapter of a document learns, for the plan.
pub fn document_facts(parsed: &Parsed, adapter: Option<&str>, dataset: &Dataset, pairs: &[Pair]) -> DocumentFacts {
    let front = parsed.frontmatter();
    DocumentFacts {
        knobs: front.written_knobs(adapter),
        rows: RowFacts {
            sections: parsed.sections().len() as u64,
            preference_rows: pairs.len() as u64,
            preference_tokens: pairs.iter().map(|pair| pair.len() as u64).sum(),
            preference_tokens_max: pairs.iter().map(|pair| pair.len() as u64).max().unwrap_or(0),
            ..dataset.facts()
        },
        preference: front.written_preference(),
        adapter_name: adapter.map(str::to_owned),
        wants_four_bits: wants_four_bits(front),
    }
}

/// Says whether any adapter of a document is `qlora`.
fn wants_four_bits(front: &Frontmatter) -> bool {
    let is_qlora = |name: Option<&str>| front.written_knobs(name).adapter == Some(AdapterKind::Qlora);
    match &front.training.adapters {
        Some(adapters) => adapters.iter().any(|(name, _)| is_qlora(Some(name))),
        None => is_qlora(None),
    }
}

/// The least that a plan can be made of before the base's tokenizer is here: the document's settings and one short row of each kind,
/// if it has any or an earlier version (`is_known`) may have left some.
pub fn least_facts(parsed: &Parsed, is_known: bool, filter: PreferenceFilter) -> DocumentFacts {
    let teaches = |s: &Section| matches!(s.kind, SectionKind::Prose | SectionKind::Instruction);
    let rows = u64::from(is_known || parsed.sections().iter().any(teaches));
    let pairs = u64::from(filter.sections(parsed).next().is_some());
    let front = parsed.frontmatter();
    DocumentFacts {
        knobs: front.written_knobs(None),
        rows: RowFacts {
            sections: parsed.sections().len() as u64,
            instruction_rows: rows,
            instruction_tokens: rows * TOKENS_MIN,
            answer_tokens: rows * TOKENS_MIN / 2,
            instruction_tokens_max: rows * TOKENS_MIN,
            preference_rows: pairs,
            preference_tokens: pairs * TOKENS_MIN,
            preference_tokens_max: pairs * TOKENS_MIN,
            ..RowFacts::default()
        },
        preference: front.written_preference(),
        adapter_name: None,
        wants_four_bits: wants_four_bits(front),
    }
}
