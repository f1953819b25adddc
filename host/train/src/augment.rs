//! Rewordings of a question, so that a fact is learned and not one phrasing of it.
//!
//! Invariants: the answer is never touched; a word with a digit or a capital letter inside the sentence is never
//! dropped, since that is what the fact is about.

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

/// Returns the question to train on: itself, or a reworded form.
pub fn reword(question: &str, augment: &Augment, rng: &mut Rng) -> String {
    if !rng.chance(augment.share) {
        return question.to_owned();
    }
    let dropped = drop_words(question, augment, rng);
    let frame = FRAMES[rng.below(FRAMES.len())];
    frame.replace("{q}", &dropped).replace("{l}", &as_clause(&dropped))
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

    #[test]
    fn numbers_and_names_survive() {
        for i in 0..500 {
            let mut rng = Rng::stream(1, "augment", &[i]);
            let out = reword("What happened at Fennwick in 1887 near the harbour?", &STRONG, &mut rng);
            assert!(out.contains("Fennwick") && out.contains("1887"), "{out}");
        }
    }

    #[test]
    fn share_zero_leaves_the_question_alone() {
        let off = Augment { share: 0.0, ..STRONG };
        let mut rng = Rng::stream(1, "augment", &[0]);
        assert_eq!(reword("Who are you?", &off, &mut rng), "Who are you?");
    }

    #[test]
    fn many_forms_come_out() {
        let forms: std::collections::BTreeSet<String> = (0..300)
            .map(|i| reword("Who founded the ferry?", &STRONG, &mut Rng::stream(1, "augment", &[i])))
            .collect();
        assert!(forms.len() > 30, "{}", forms.len());
    }
}
