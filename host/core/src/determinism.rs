//! What a run may promise about being repeated, and the two sets of words for it.
//!
//! Invariants: whatever is said of it, on a screen, as JSON, in logs and summaries, is said with the run's words (`strict`,
//! `best_effort`, `loose`); the file `dlm.lock` alone has its own (`strong`, `best-effort`, `advisory`, the [`Choice`] table).
//! **Source:** `spec/training.md` section 3.2.

use serde::{Deserialize, Deserializer, Serializer};

use crate::choice::Choice;
use crate::hardware::Backend;

/// What a run may promise about repetition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Determinism {
    /// Same inputs, same bytes.
    Strong,
    /// Same inputs, nearly the same numbers.
    BestEffort,
    /// No promise.
    Advisory,
}

impl Choice for Determinism {
    const TABLE: &'static [(&'static str, Self)] = &[
        ("strong", Self::Strong),
        ("best-effort", Self::BestEffort),
        ("advisory", Self::Advisory),
    ];
}

crate::named_choices!(Determinism);

/// The words that are said of a run.
const RUN_WORDS: [(&str, Determinism); 3] = [
    ("strict", Determinism::Strong),
    ("best_effort", Determinism::BestEffort),
    ("loose", Determinism::Advisory),
];

impl Determinism {
    /// The class that a run on this back end has.
    pub fn of_run(backend: Backend) -> Self {
        match backend {
            Backend::Cuda => Determinism::Strong,
            Backend::Mps | Backend::Rocm | Backend::Cpu => Determinism::BestEffort,
        }
    }

    /// The word in a run's log, its summary and what the command says.
    pub fn run_word(self) -> &'static str {
        let (word, _) = RUN_WORDS
            .iter()
            .find(|(_, class)| *class == self)
            .expect("every class has a word");
        word
    }

    /// The class of a word that was written for a run. The lock's words are read too: logs of earlier versions of this
    /// program have them.
    pub fn from_run_word(word: &str) -> Option<Self> {
        RUN_WORDS
            .iter()
            .find(|(known, _)| *known == word)
            .map(|(_, class)| *class)
            .or_else(|| Determinism::from_word(word))
    }
}

/// For `#[serde(with = "determinism::run_word")]`: a class in the words that are said of a run.
pub mod run_word {
    use std::borrow::Cow;

    use serde::de::Error;

    use super::{Deserialize, Deserializer, Determinism, RUN_WORDS, Serializer};

    /// Writes the run's word.
    pub fn serialize<S: Serializer>(class: &Determinism, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(class.run_word())
    }

    /// Reads the run's word, or the lock's.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Determinism, D::Error> {
        let word = Cow::<'de, str>::deserialize(deserializer)?;
        Determinism::from_run_word(&word).ok_or_else(|| {
            let known = RUN_WORDS.map(|(word, _)| format!("`{word}`")).join(", ");
            D::Error::custom(format!("unknown variant `{word}`, expected one of {known}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_has_its_own_words() {
        let words = |class: Determinism| (class.run_word(), class.name());
        assert_eq!(words(Determinism::Strong), ("strict", "strong"));
        assert_eq!(words(Determinism::BestEffort), ("best_effort", "best-effort"));
        assert_eq!(words(Determinism::Advisory), ("loose", "advisory"));
        for (_, class) in Determinism::TABLE {
            assert_eq!(Determinism::from_run_word(class.run_word()), Some(*class));
            assert_eq!(Determinism::from_run_word(class.name()), Some(*class));
        }
        assert_eq!(Determinism::from_run_word("exact"), None);
    }

    #[test]
    fn a_class_belongs_to_a_back_end() {
        assert_eq!(Determinism::of_run(Backend::Cuda), Determinism::Strong);
        assert_eq!(Determinism::of_run(Backend::Mps), Determinism::BestEffort);
        assert_eq!(Determinism::of_run(Backend::Cpu), Determinism::BestEffort);
    }
}
