//! Which remembered sections were edited, so that their old text must not be rehearsed.
//!
//! Invariants: pure. A section that was plainly deleted stays replayable; one whose place a new section took does not.

use std::collections::BTreeMap;

use dlm_core::{SectionId, SectionKind};

/// Share of common words from which a new section counts as an edit of an old one.
const OVERLAP_MIN: f64 = 0.6;

/// What decides whether one section is an edit of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SectionText {
    pub id: SectionId,
    pub kind: SectionKind,
    pub content: String,
    /// Questions of an instruction section or prompts of a preference section, as the document's grammar reads them.
    pub prompts: Vec<String>,
}

/// Pairs each removed section with the one that took its place, if one did.
///
/// A new section takes its place when it has the same type and shares a question or prompt, or at least 0.6 of the
/// words; the first one that does is named. One that was there before takes it only by a shared question: two alike
/// sections of which one is deleted are no edit, but a question that the document answers has no other answer.
pub fn superseded(
    removed: &[SectionText],
    new: &[SectionText],
    unchanged: &[SectionText],
) -> Vec<(SectionId, SectionId)> {
    let mut pairs = Vec::new();
    for old in removed {
        let by_edit = new.iter().find(|candidate| is_edit_of(candidate, old));
        let successor = by_edit.or_else(|| unchanged.iter().find(|candidate| shares_prompt(candidate, old)));
        if let Some(successor) = successor {
            pairs.push((old.id.clone(), successor.id.clone()));
        }
    }
    pairs
}

fn is_edit_of(new: &SectionText, old: &SectionText) -> bool {
    shares_prompt(new, old) || (new.kind == old.kind && overlap(&new.content, &old.content) >= OVERLAP_MIN)
}

fn shares_prompt(new: &SectionText, old: &SectionText) -> bool {
    let asks = |prompt: &String| old.prompts.iter().any(|other| prompt.trim() == other.trim());
    new.kind == old.kind && new.prompts.iter().any(asks)
}

/// Share of words that two texts have in common: twice the common ones over all of them; 0 when both are empty.
pub fn overlap(left: &str, right: &str) -> f64 {
    let (left, right) = (word_counts(left), word_counts(right));
    let total: usize = left.values().sum::<usize>() + right.values().sum::<usize>();
    if total == 0 {
        return 0.0;
    }
    let common: usize = left
        .iter()
        .map(|(word, count)| (*count).min(right.get(word).copied().unwrap_or(0)))
        .sum();
    2.0 * common as f64 / total as f64
}

fn word_counts(text: &str) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    let words = text.split(|character: char| !character.is_alphanumeric());
    for word in words.filter(|word| !word.is_empty()) {
        *counts.entry(word.to_lowercase()).or_insert(0) += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(kind: SectionKind, content: &str, prompts: &[&str]) -> SectionText {
        SectionText {
            id: SectionId::of_content(kind, content),
            kind,
            content: content.to_owned(),
            prompts: prompts.iter().map(|prompt| (*prompt).to_owned()).collect(),
        }
    }

    #[test]
    fn same_question_or_most_words_make_an_edit() {
        use SectionKind::{Instruction, Prose};
        let old = text(Instruction, "### Q\nHow high?\n### A\n10 m", &["How high?"]);
        let edited = text(
            Instruction,
            "### Q\nHow high?\n### A\nTwelve metres exactly, says the survey",
            &["How high? "],
        );
        let other = text(Instruction, "### Q\nWho built it?\n### A\nAnn", &["Who built it?"]);
        assert_eq!(
            superseded(std::slice::from_ref(&old), &[other.clone(), edited.clone()], &[]),
            [(old.id.clone(), edited.id.clone())]
        );
        assert_eq!(superseded(std::slice::from_ref(&old), &[other], &[]), []);
        assert_eq!(
            superseded(std::slice::from_ref(&old), &[], std::slice::from_ref(&edited)),
            [(old.id, edited.id)],
            "a question that is answered has no other answer"
        );

        let prose = text(Prose, "The tower is ten metres high.", &[]);
        let close = text(Prose, "The tower is twelve metres high.", &[]);
        let far = text(Prose, "Bees sleep in winter.", &[]);
        let other_kind = text(Instruction, "The tower is ten metres high!", &[]);
        assert_eq!(
            superseded(std::slice::from_ref(&prose), &[far.clone(), close.clone()], &[]),
            [(prose.id.clone(), close.id.clone())]
        );
        assert_eq!(superseded(std::slice::from_ref(&prose), &[far, other_kind], &[]), []);
        assert_eq!(superseded(&[prose], &[], &[close]), [], "a deleted twin is no edit");
    }

    #[test]
    fn overlap_counts_words() {
        assert_eq!(overlap("a b c", "A, b; C."), 1.0);
        assert_eq!(overlap("a a b", "a b b"), 2.0 / 3.0);
        assert_eq!(overlap("", ""), 0.0);
        assert_eq!(overlap("a", ""), 0.0);
    }
}
