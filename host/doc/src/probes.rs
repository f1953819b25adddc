//! Probes: the questions that are asked before and after training.
//!
//! Invariants: explicit probes first, in document order; the rest is chosen by a hash of seed and question alone.

use dlm_core::digest::sha256;
use dlm_core::{Section, SectionId};
use serde::Serialize;

use crate::rows::{Pair, Rows, rows};

/// How many probes a run uses when the document does not mark more.
pub const PROBES_MIN: usize = 3;

/// One question with the answer that the document gives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Probe {
    pub question: String,
    pub answer: String,
    pub section_id: SectionId,
    /// Marked `### Q !probe` by the author.
    pub is_explicit: bool,
}

/// Every pair of the document with its section, in order; sections whose rows do not parse are passed over, as
/// [`rows`] reports them.
fn pairs(sections: &[Section]) -> Vec<(SectionId, Pair)> {
    let of = |section: &Section| match rows(section) {
        Ok(Rows::Pairs(pairs)) => pairs.into_iter().map(|pair| (section.id(), pair)).collect(),
        _ => Vec::new(),
    };
    sections.iter().flat_map(of).collect()
}

/// The probes of a document: all that are marked, filled up to `count` from the other pairs.
pub fn probes(sections: &[Section], count: usize, seed: i64) -> Vec<Probe> {
    let all = pairs(sections);
    let probe = |(section_id, pair): &(SectionId, Pair)| Probe {
        question: pair.question.clone(),
        answer: pair.answer.clone(),
        section_id: section_id.clone(),
        is_explicit: pair.is_probe,
    };
    let mut chosen: Vec<Probe> = all.iter().filter(|(_, pair)| pair.is_probe).map(probe).collect();
    let mut others: Vec<&(SectionId, Pair)> = all.iter().filter(|(_, pair)| !pair.is_probe).collect();
    others.sort_by_cached_key(|(_, pair)| sha256(format!("{seed}\0{}", pair.question)));
    for other in others {
        if chosen.len() >= count {
            break;
        }
        if !chosen.iter().any(|known| known.question == other.1.question) {
            chosen.push(probe(other));
        }
    }
    chosen
}

/// The questions that are marked `### Q !probe`, in document order.
pub fn explicit_probes(sections: &[Section]) -> Vec<String> {
    pairs(sections)
        .into_iter()
        .filter(|(_, pair)| pair.is_probe)
        .map(|(_, pair)| pair.question)
        .collect()
}

#[cfg(test)]
mod tests {
    use dlm_core::SectionKind;

    use super::*;

    fn document(marked: bool) -> Vec<Section> {
        let mark = if marked { " !probe" } else { "" };
        let text = |name: &str, mark: &str| format!("### Q{mark}\n{name}?\n### A\n{name}.");
        vec![
            Section::text(
                SectionKind::Instruction,
                [text("a", ""), text("b", mark), text("c", "")].join("\n"),
            ),
            Section::text(SectionKind::Prose, text("p", "")),
            Section::text(SectionKind::Instruction, "### Q\nbroken"),
            Section::text(SectionKind::Instruction, [text("d", ""), text("a", "")].join("\n")),
        ]
    }

    #[test]
    fn explicit_ones_come_first_and_questions_do_not_repeat() {
        let found = probes(&document(true), PROBES_MIN, 42);
        assert_eq!(
            (found.len(), found[0].question.as_str(), found[0].is_explicit),
            (3, "b?", true)
        );
        let all: Vec<String> = probes(&document(true), 99, 42)
            .into_iter()
            .map(|probe| probe.question)
            .collect();
        assert_eq!(all.len(), 4);
        assert_eq!(explicit_probes(&document(true)), ["b?"]);
    }

    #[test]
    fn the_rest_follows_the_hash_of_seed_and_question() {
        let order = |seed| {
            probes(&document(false), 99, seed)
                .into_iter()
                .map(|probe| probe.question)
                .collect::<Vec<_>>()
        };
        let mut expected = vec!["a?", "b?", "c?", "d?"];
        expected.sort_by_key(|question| sha256(format!("42\0{question}")));
        assert_eq!(order(42), expected);
        assert_ne!((0..20).map(order).collect::<std::collections::BTreeSet<_>>().len(), 1);
    }
}
