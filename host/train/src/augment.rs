//! Rewordings of a question, so that a fact is learned and not one phrasing of it.
//!
//! Invariants: the answer is never touched; a word with a digit or a capital letter inside the sentence is never
//! dropped, since that is what the fact is about; a word that alone tells two questions of the document apart stays.

use dlm_core::random::Rng;

/// Words that carry little of a question's meaning and are dropped first.
const FUNCTION_WORDS: &[&str] = &[
    "a", "an", "the", "is", "are", "was", "were", "do", "does", "did", "of", "in", "on", "at", "to", "by", "for", "it",
    "that", "which", "what", "who", "how", "when", "where", "there", "be", "has", "have", "its", "with", "can", "may",
    "must",
];

/// Frames put around a question; `{q}` is the question as it stands, `{l}` with its first letter in lower case and
/// without its question mark.
const FRAMES: &[&str] = &[
    "{q}",
    "Please tell me: {q}",
    "Question: {q}",
    "I would like to know: {q}",
    "Can you tell me {l}?",
    "Do you know {l}?",
    "Tell me {l}.",
    "I wonder {l}.",
    "{q} Please answer briefly.",
    "Hello! {q}",
    "A visitor asks: {q}",
    "So, {l}?",
    "Could you say {l}?",
    "Here is a question for you. {q}",
    "{l}",
    "{q} I forgot.",
];

/// How strongly questions are changed.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Augment {
    /// Share of the rows whose question is changed at all.
    pub share: f64,
    /// Chance that a function word is dropped from a changed question.
    pub drop_function: f64,
    /// Chance that another word is dropped from a changed question.
    pub drop_content: f64,
}

/// The questions of a document, so that a reworded one is never mistaken for another.
#[derive(Clone, Debug, Default)]
pub struct Questions {
    /// The words of each question, with its answer.
    asked: Vec<(Vec<String>, String)>,
}

impl Questions {
    /// Takes pairs of question and answer.
    pub fn new<'p>(pairs: impl Iterator<Item = (&'p str, &'p str)>) -> Self {
        let asked = pairs.map(|(question, answer)| (words(question), answer.to_owned()));
        Self { asked: asked.collect() }
    }

    /// Says whether a question that lost words could have been another one, with another answer: whether what is left of it
    /// is left of that one too when some of its words are dropped.
    fn confuses(&self, left: &str, answer: &str) -> bool {
        let left = words(left);
        let is_part = |all: &[String]| {
            let mut all = all.iter();
            left.iter().all(|word| all.any(|other| other == word))
        };
        let mut others = self.asked.iter().filter(|(_, other)| other != answer);
        others.any(|(all, _)| is_part(all))
    }
}

/// The words of a text in lower case, without punctuation.
fn words(text: &str) -> Vec<String> {
    text.to_lowercase()
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Returns the question to train on: itself, or a reworded form that still asks for `answer` among `questions`.
///
/// What is English is framed in English; in another language words are dropped alone.
pub fn reword(question: &str, answer: &str, questions: &Questions, augment: &Augment, rng: &mut Rng) -> String {
    if !rng.chance(augment.share) {
        return question.to_owned();
    }
    let mut dropped = drop_words(question, augment, rng);
    if dropped != question && questions.confuses(&dropped, answer) {
        dropped = question.to_owned();
    }
    let frame = FRAMES[rng.below(FRAMES.len())];
    match is_english(question) {
        true => framed(frame, &dropped),
        false => dropped,
    }
}

/// Puts a question into a frame. What the question itself says of `{q}` and `{l}` stays.
fn framed(frame: &str, question: &str) -> String {
    if let Some((before, after)) = frame.split_once("{q}") {
        return format!("{before}{question}{after}");
    }
    match frame.split_once("{l}") {
        Some((before, after)) => format!("{before}{}{after}", as_clause(question)),
        None => question.to_owned(),
    }
}

/// Words that a sentence in another language hardly has.
const ENGLISH_WORDS: &[&str] = &[
    "the", "what", "who", "whose", "which", "how", "where", "when", "why", "does", "did", "can", "could", "should",
    "would", "must", "with", "from", "your", "you", "there",
];

fn is_english(question: &str) -> bool {
    words(question)
        .iter()
        .any(|word| ENGLISH_WORDS.contains(&word.as_str()))
}

fn drop_words(question: &str, augment: &Augment, rng: &mut Rng) -> String {
    let words: Vec<&str> = question.split(' ').collect();
    let kept: Vec<&str> = words
        .iter()
        .enumerate()
        .filter(|(i, word)| !rng.chance(drop_chance(word, *i == 0, augment)))
        .map(|(_, word)| *word)
        .collect();
    // A question of which little is left asks for something else.
    if kept.len() * 2 < words.len() {
        return question.to_owned();
    }
    kept.join(" ")
}

fn drop_chance(word: &str, is_first: bool, augment: &Augment) -> f64 {
    let bare: String = word.chars().filter(|c| c.is_alphanumeric()).collect();
    let lower = bare.to_lowercase();
    if FUNCTION_WORDS.contains(&lower.as_str()) {
        return augment.drop_function;
    }
    let names_something =
        bare.chars().any(|c| c.is_ascii_digit()) || (!is_first && bare.chars().any(char::is_uppercase));
    if names_something { 0.0 } else { augment.drop_content }
}

/// Makes a question a clause: no question mark, and its first word small unless it is a name.
fn as_clause(question: &str) -> String {
    let bare = question.trim_end_matches(['?', '.', '!', ' ']);
    let first = bare.split(' ').next().unwrap_or_default();
    let small = first.to_lowercase();
    if FUNCTION_WORDS.contains(&small.as_str()) {
        format!("{small}{}", &bare[first.len()..])
    } else {
        bare.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRONG: Augment = Augment {
        share: 1.0,
        drop_function: 0.5,
        drop_content: 0.3,
    };

    fn alone(question: &str, seed: u64) -> String {
        let mut rng = Rng::stream(1, "augment", &[seed]);
        reword(question, "", &Questions::default(), &STRONG, &mut rng)
    }

    #[test]
    fn numbers_and_names_survive() {
        for i in 0..500 {
            let out = alone("What happened at Fennwick in 1887 near the harbour?", i);
            assert!(out.contains("Fennwick") && out.contains("1887"), "{out}");
        }
    }

    #[test]
    fn share_zero_leaves_the_question_alone() {
        let off = Augment { share: 0.0, ..STRONG };
        let mut rng = Rng::stream(1, "augment", &[0]);
        let out = reword("Who are you?", "", &Questions::default(), &off, &mut rng);
        assert_eq!(out, "Who are you?");
    }

    #[test]
    fn many_forms_come_out() {
        let forms: std::collections::BTreeSet<String> = (0..300).map(|i| alone("Who founded the ferry?", i)).collect();
        assert!(forms.len() > 30, "{}", forms.len());
    }

    /// Both questions lost the one word in which they differ, and the same row had two answers.
    #[test]
    fn two_questions_never_become_one() {
        let pairs = [
            ("What is the name of the landing on the east side?", "Fennwick."),
            ("What is the name of the landing on the west side?", "Saltmarrow."),
        ];
        let questions = Questions::new(pairs.into_iter());
        let mut shortened = 0;
        for seed in 0..500 {
            for ((question, answer), side) in pairs.iter().zip(["east", "west"]) {
                let mut rng = Rng::stream(1, "augment", &[seed]);
                let out = reword(question, answer, &questions, &STRONG, &mut rng);
                assert!(out.contains(side), "{out}");
                shortened += usize::from(!out.contains(question.trim_end_matches('?')));
            }
        }
        // Other words are still dropped.
        assert!(shortened > 300, "{shortened}");
    }

    #[test]
    fn a_question_in_another_language_gets_no_english_frame() {
        for question in [
            "Wie heißt die Fähre?",
            "Wat is de naam van het veer?",
            "渡し船の名前は何ですか。",
        ] {
            for seed in 0..200 {
                let out = alone(question, seed);
                let has_only_its_own = out.split(' ').all(|word| question.contains(word));
                assert!(has_only_its_own, "{out}");
            }
        }
    }

    #[test]
    fn braces_in_a_question_are_its_own() {
        for frame in FRAMES {
            let out = framed(frame, "What does {q} mean beside {l}?");
            assert_eq!(out.matches("{q}").count() + out.matches("{l}").count(), 2, "{out}");
        }
    }
}
