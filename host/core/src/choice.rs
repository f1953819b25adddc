//! Values that are one of a closed set of words: the words stand in one table per type, and whatever reads or writes
//! them (frontmatter, stored records, `--json`, the command line) goes by that table.
//!
//! Invariants: a table holds every value once, in the order in which messages list the words; a word reads back as the
//! value that it was written for.

use std::borrow::Cow;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serializer};

/// A value that is one of a closed set of words.
pub trait Choice: Copy + PartialEq + 'static {
    /// Every value with its word.
    const TABLE: &'static [(&'static str, Self)];

    /// The word of the value.
    fn word(self) -> &'static str {
        Self::TABLE
            .iter()
            .find(|(_, value)| *value == self)
            .map(|(word, _)| *word)
            .expect("a choice is in its table")
    }

    /// The value of a word; case matters.
    fn from_word(word: &str) -> Option<Self> {
        Self::TABLE
            .iter()
            .find(|(known, _)| *known == word)
            .map(|(_, value)| *value)
    }

    /// Every word, in the order of the table; what a parser of the command line offers.
    fn words() -> impl Iterator<Item = &'static str> {
        Self::TABLE.iter().map(|(word, _)| *word)
    }
}

/// Writes a choice as its word.
pub fn serialize<C: Choice, S: Serializer>(choice: &C, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(choice.word())
}

/// Reads a choice from its word.
///
/// **Errors** list the words that are known.
pub fn deserialize<'de, C: Choice, D: Deserializer<'de>>(deserializer: D) -> Result<C, D::Error> {
    let word = Cow::<'de, str>::deserialize(deserializer)?;
    C::from_word(&word).ok_or_else(|| {
        let known: Vec<_> = C::words().map(|word| format!("`{word}`")).collect();
        D::Error::custom(format!(
            "unknown variant `{word}`, expected one of {}",
            known.join(", ")
        ))
    })
}

/// Gives types with a [`Choice`] table the method `name` and serde's two traits; neither can be had from a blanket
/// implementation.
#[macro_export]
macro_rules! named_choices {
    ($($choice:ty),+ $(,)?) => {
        $(
            impl $choice {
                /// The word that stands for the value in files, messages and flags.
                pub fn name(self) -> &'static str {
                    $crate::choice::Choice::word(self)
                }
            }

            impl ::serde::Serialize for $choice {
                fn serialize<S: ::serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                    $crate::choice::serialize(self, serializer)
                }
            }

            impl<'de> ::serde::Deserialize<'de> for $choice {
                fn deserialize<D: ::serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                    $crate::choice::deserialize(deserializer)
                }
            }
        )+
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::determinism::Determinism;
    use crate::hardware::{Backend, SimdLevel};
    use crate::lock::HardwareTier;
    use crate::manifest::RunStatus;
    use crate::quant::Quant;
    use crate::training::*;

    fn check<C: Choice + serde::Serialize + serde::de::DeserializeOwned + std::fmt::Debug>(words: &[&str]) {
        assert_eq!(C::words().collect::<Vec<_>>(), words);
        for (word, value) in C::TABLE {
            assert_eq!(value.word(), *word);
            assert_eq!(C::from_word(word), Some(*value));
            let json = serde_json::to_value(value).unwrap();
            assert_eq!(json, *word);
            assert_eq!(serde_json::from_value::<C>(json).unwrap(), *value);
        }
    }

    #[test]
    fn every_table_holds_the_words_of_files_and_reads_them_back() {
        check::<AdapterKind>(&["lora", "qlora", "dora"]);
        check::<Optimizer>(&[
            "adamw_torch",
            "adamw_bnb_8bit",
            "paged_adamw_8bit",
            "galore_adamw",
            "galore_adamw_8bit",
        ]);
        check::<MomentType>(&["f32", "8bit"]);
        check::<LrSchedule>(&["cosine", "linear", "constant"]);
        check::<CptSchedule>(&["auto", "dapt", "sft"]);
        check::<Precision>(&["bf16", "fp16", "fp32"]);
        check::<SourcesPolicy>(&["permissive", "strict"]);
        check::<PreferenceMethod>(&["dpo", "orpo"]);
        check::<PreferenceLoss>(&["sigmoid", "hinge", "ipo"]);
        check::<PreferenceReference>(&["base", "pre_adapter"]);
        check::<Ending>(&["complete", "early_stop", "max_steps", "cancelled"]);
        check::<Quant>(&["Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0", "F16", "IQ4_XS", "Q3_K_M"]);
        check::<Determinism>(&["strong", "best-effort", "advisory"]);
        check::<SimdLevel>(&["scalar", "avx2", "avx512", "avx512-bf16", "amx-bf16"]);
        check::<Backend>(&["cpu", "cuda", "mps", "rocm"]);
        check::<HardwareTier>(&["cuda-sm80+", "cuda-sm<80", "mps", "cpu", "rocm"]);
        check::<RunStatus>(&["running", "completed", "failed", "cancelled"]);
    }

    #[test]
    fn a_wrong_word_is_refused_with_the_known_ones() {
        let error = serde_json::from_str::<LrSchedule>("\"cosin\"").unwrap_err();
        assert_eq!(
            error.to_string(),
            "unknown variant `cosin`, expected one of `cosine`, `linear`, `constant`"
        );
    }
}
