//! What a synthesized pair must be before anything is asked about it, and which pairs are the same.
//!
//! Invariants: a pair is taken as it is or dropped with a reason, never altered beyond its surrounding blanks; a probe's
//! question is never synthesized.

use std::collections::BTreeSet;

use dlm_core::{Section, SectionKind};
use dlm_doc::guard::is_inert;
use dlm_doc::{Rows, explicit_probes, rows};

use super::Filter;
use crate::staging::similarity::is_near_duplicate;

/// Longest question and answer, in characters.
const QUESTION_CHARS_MAX: usize = 400;
const ANSWER_CHARS_MAX: usize = 4000;
/// Words that only make sense beside the passage.
const POINTERS: [&str; 17] = [
    "the passage",
    "this passage",
    "the given passage",
    "the provided passage",
    "the text",
    "this text",
    "the given text",
    "the provided text",
    "the document",
    "this document",
    "the excerpt",
    "this excerpt",
    "the article",
    "mentioned above",
    "described above",
    "the above",
    "as stated above",
];

/// A pair that may go on.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CleanPair {
    pub question: String,
    pub answer: String,
    pub section: Section,
}

/// Why a pair may not go on.
pub(crate) type Refusal = (&'static str, Option<String>);

/// Checks one pair that a teacher wrote from `passage`.
pub(crate) fn clean(question: &str, answer: &str, passage: &str) -> Result<CleanPair, Refusal> {
    let normal = |text: &str| dlm_core::section::normalize_newlines(text).trim().to_owned();
    let (question, answer) = (normal(question), normal(answer));
    if question.is_empty() || answer.is_empty() {
        return Err(("empty_pair", None));
    }
    for (what, text, max) in [
        ("question", &question, QUESTION_CHARS_MAX),
        ("answer", &answer, ANSWER_CHARS_MAX),
    ] {
        let chars = text.chars().count();
        if chars > max {
            return Err((
                "too_long",
                Some(format!("the {what} has {chars} characters, at most {max} are taken")),
            ));
        }
    }
    if flat(&question) == flat(&answer) {
        return Err(("repeats_question", None));
    }
    if let Some(words) = pointer(&question, passage).or_else(|| pointer(&answer, passage)) {
        return Err(("refers_to_passage", Some(format!("it says \"{words}\""))));
    }
    let is_plain = |text: &str| is_inert(text, SectionKind::Instruction);
    let section = Section::text(SectionKind::Instruction, format!("### Q\n{question}\n### A\n{answer}"));
    let reads_back = match rows(&section) {
        Ok(Rows::Pairs(pairs)) => {
            matches!(pairs.as_slice(), [pair] if pair.question == question && pair.answer == answer)
        }
        _ => false,
    };
    if !is_plain(&question) || !is_plain(&answer) || !reads_back {
        return Err(("unrepresentable", Some("it holds a line that is grammar".to_owned())));
    }
    Ok(CleanPair {
        question,
        answer,
        section,
    })
}

/// The first pointer to a passage that the passage itself does not use.
fn pointer(text: &str, passage: &str) -> Option<&'static str> {
    let (text, passage) = (flat(text), flat(passage));
    let stands = |text: &str, words: &str| {
        text.match_indices(words).any(|(at, _)| {
            let before = text[..at].chars().next_back();
            let after = text[at + words.len()..].chars().next();
            !before.is_some_and(char::is_alphanumeric) && !after.is_some_and(char::is_alphanumeric)
        })
    };
    POINTERS
        .into_iter()
        .find(|words| stands(&text, words) && !stands(&passage, words))
}

/// Lower case with single blanks.
fn flat(text: &str) -> String {
    text.to_lowercase().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The pairs that are there already: those of the document and those kept so far.
pub(crate) struct PairIndex {
    questions: BTreeSet<String>,
    pairs: BTreeSet<String>,
    texts: Vec<String>,
    probes: BTreeSet<String>,
}

impl PairIndex {
    /// Takes the pairs and probes of a document; malformed sections have none.
    pub(crate) fn new(sections: &[Section]) -> Self {
        let mut known = Self {
            questions: BTreeSet::new(),
            pairs: BTreeSet::new(),
            texts: Vec::new(),
            probes: explicit_probes(sections)
                .iter()
                .map(|question| flat(question))
                .collect(),
        };
        for section in sections {
            if let Ok(Rows::Pairs(pairs)) = rows(section) {
                pairs.iter().for_each(|pair| known.keep(&pair.question, &pair.answer));
            }
        }
        known
    }

    fn keep(&mut self, question: &str, answer: &str) {
        self.questions.insert(flat(question));
        self.pairs.insert(flat(&text(question, answer)));
        self.texts.push(text(question, answer));
    }

    /// Takes a pair that is new.
    ///
    /// **Errors**: why it is not.
    pub(crate) fn add(&mut self, question: &str, answer: &str, filter: Filter) -> Result<(), String> {
        let asked = flat(question);
        if self.probes.contains(&asked) {
            return Err("its question is a probe".to_owned());
        }
        let new = text(question, answer);
        if self.pairs.contains(&flat(&new)) {
            return Err("the same pair is there already".to_owned());
        }
        if filter != Filter::None {
            if self.questions.contains(&asked) {
                return Err("its question is there already".to_owned());
            }
            if self.texts.iter().any(|known| is_near_duplicate(known, &new)) {
                return Err("a pair that is nearly the same is there already".to_owned());
            }
        }
        self.keep(question, answer);
        Ok(())
    }
}

fn text(question: &str, answer: &str) -> String {
    format!("{question}\n{answer}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(question: &str, answer: &str, passage: &str) -> &'static str {
        clean(question, answer, passage).expect_err(question).0
    }

    #[test]
    fn hygiene() {
        assert_eq!(
            clean(" q? ", "a\r\nb", "").unwrap().section.content,
            "### Q\nq?\n### A\na\nb"
        );
        assert_eq!(refused(" ", "a", ""), "empty_pair");
        assert_eq!(refused(&"q".repeat(401), "a", ""), "too_long");
        assert_eq!(refused("q", &"a".repeat(4001), ""), "too_long");
        assert_eq!(refused("The  bell", "the bell", ""), "repeats_question");
        assert_eq!(refused("What does the passage say?", "a", ""), "refers_to_passage");
        assert_eq!(refused("q", "As stated above, it rings.", ""), "refers_to_passage");
        assert!(clean("How do I check the document?", "a", "Check the document first.").is_ok());
        assert!(clean("What is the textile made of?", "wool", "").is_ok());
        for line in ["### A", "### Q !probe", "::prose::", "<!-- dlm-auto-synth: x", "```"] {
            assert_eq!(refused("q", &format!("a\n{line}\nb"), ""), "unrepresentable", "{line}");
        }
    }

    #[test]
    fn duplicates_and_probes() {
        let section = Section::text(
            SectionKind::Instruction,
            "### Q\nWho rings?\n### A\nThe keeper.\n### Q !probe\nWhen?\n### A\nAt noon.",
        );
        let mut known = PairIndex::new(&[section]);
        assert!(
            known
                .add("who  RINGS?", "Somebody else entirely.", Filter::DedupOnly)
                .is_err()
        );
        assert!(
            known
                .add("who  RINGS?", "Somebody else entirely.", Filter::None)
                .is_ok()
        );
        assert!(known.add("Who rings?", "the keeper.", Filter::None).is_err());
        assert!(known.add("When?", "never", Filter::None).is_err());
        let long = "The keeper of the harbour rings the bell at noon and at midnight, every single day.";
        assert!(known.add("What does the keeper do?", long, Filter::Sway).is_ok());
        assert!(known.add("What does the keeper do!", long, Filter::Sway).is_err());
        assert!(known.add("What does the keeper do!", long, Filter::None).is_ok());
    }
}
