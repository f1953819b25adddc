//! The pre-tokenizers that GGUF files name by a label, as pipelines of the `tokenizers` library.
//!
//! Invariants: a label that is not in the table is refused: a wrong split gives other ids without any error.
//! **Source:** the `tokenizer.json` files of the families named; the labels are llama.cpp's.

use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{NormalizerWrapper, SplitDelimiterBehavior};

/// Contractions, words, up to three digits, punctuation, line ends, blanks (the cl100k pattern).
const CL100K: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// The same with every digit alone.
const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Words split where lower case turns upper (the o200k pattern).
const O200K: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// As o200k without contractions and with every digit alone.
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Split1 {
    /// The byte-level splitter's own pattern (GPT-2).
    Gpt2,
    /// Every digit alone, then GPT-2.
    DigitsGpt2,
    /// A pattern of its own, then bytes.
    Pattern(&'static str),
}

/// One label: how text is cut, and what else belongs to the family.
pub(crate) struct Label {
    names: &'static [&'static str],
    split: Split1,
    /// Words that are tokens as they stand skip the merges.
    pub(crate) ignore_merges: bool,
    /// Text is brought to composed form first.
    composes: bool,
    /// bos is added when the file does not say.
    pub(crate) adds_bos: bool,
}

const LABELS: [Label; 8] = [
    Label {
        names: &["smollm", "starcoder", "refact", "command-r", "codeshell"],
        split: Split1::DigitsGpt2,
        ignore_merges: false,
        composes: false,
        adds_bos: false,
    },
    Label {
        names: &["gpt-2", "phi-2", "olmo", "mpt", "roberta-bpe"],
        split: Split1::Gpt2,
        ignore_merges: false,
        composes: false,
        adds_bos: false,
    },
    Label {
        names: &["llama-bpe", "llama3", "llama-v3", "falcon3"],
        split: Split1::Pattern(CL100K),
        ignore_merges: true,
        composes: false,
        adds_bos: true,
    },
    Label {
        names: &["smaug-bpe"],
        split: Split1::Pattern(CL100K),
        ignore_merges: true,
        composes: false,
        adds_bos: false,
    },
    Label {
        names: &["dbrx", "olmo2"],
        split: Split1::Pattern(CL100K),
        ignore_merges: false,
        composes: false,
        adds_bos: false,
    },
    Label {
        names: &["qwen2", "deepseek-r1-qwen"],
        split: Split1::Pattern(QWEN2),
        ignore_merges: false,
        composes: true,
        adds_bos: false,
    },
    Label {
        names: &["gpt-4o", "llama4"],
        split: Split1::Pattern(O200K),
        ignore_merges: false,
        composes: false,
        adds_bos: false,
    },
    Label {
        names: &["tekken"],
        split: Split1::Pattern(TEKKEN),
        ignore_merges: true,
        composes: false,
        adds_bos: true,
    },
];

/// Returns the labels of `tokenizer.ggml.pre` that can be rebuilt.
pub fn known_labels() -> Vec<&'static str> {
    LABELS.iter().flat_map(|label| label.names).copied().collect()
}

pub(crate) fn find_label(name: &str) -> Option<&'static Label> {
    LABELS.iter().find(|label| label.names.contains(&name))
}

impl Label {
    pub(crate) fn normalizer(&self) -> Option<NormalizerWrapper> {
        self.composes
            .then(|| NormalizerWrapper::NFC(tokenizers::normalizers::NFC))
    }

    pub(crate) fn pre_tokenizer(&self) -> Result<PreTokenizerWrapper, tokenizers::Error> {
        let cut_by_gpt2 = ByteLevel::new(false, true, true);
        let bytes_only = ByteLevel::new(false, true, false);
        Ok(match self.split {
            Split1::Gpt2 => cut_by_gpt2.into(),
            Split1::DigitsGpt2 => Sequence::new(vec![Digits::new(true).into(), cut_by_gpt2.into()]).into(),
            Split1::Pattern(pattern) => {
                let pattern = SplitPattern::Regex(pattern.to_owned());
                let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false)?;
                Sequence::new(vec![split.into(), bytes_only.into()]).into()
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

    use super::{find_label, known_labels};

    fn check(label: &str, text: &str, expected: &[&str]) {
        let mut cut = PreTokenizedString::from(text);
        find_label(label)
            .unwrap()
            .pre_tokenizer()
            .unwrap()
            .pre_tokenize(&mut cut)
            .unwrap();
        let pieces = cut.get_splits(OffsetReferential::Original, OffsetType::Byte);
        let pieces: Vec<&str> = pieces
            .into_iter()
            .map(|(_, (start, end), _)| &text[start..end])
            .collect();
        assert_eq!(pieces, expected, "{label}");
    }

    #[test]
    fn families_cut_digits_words_and_blanks_their_own_way() {
        let text = "I'LL add 1234  MiXed\n\n x";
        check(
            "gpt-2",
            text,
            &["I", "'", "LL", " add", " 1234", " ", " MiXed", "\n\n", " x"],
        );
        check(
            "smollm",
            text,
            &[
                "I", "'", "LL", " add", " ", "1", "2", "3", "4", " ", " MiXed", "\n\n", " x",
            ],
        );
        check(
            "llama-bpe",
            text,
            &["I", "'LL", " add", " ", "123", "4", " ", " MiXed", "\n\n", " x"],
        );
        check(
            "qwen2",
            text,
            &["I", "'LL", " add", " ", "1", "2", "3", "4", " ", " MiXed", "\n\n", " x"],
        );
        check(
            "gpt-4o",
            text,
            &["I'LL", " add", " ", "123", "4", " ", " Mi", "Xed", "\n\n", " x"],
        );
        check(
            "tekken",
            text,
            &[
                "I", "'LL", " add", " ", "1", "2", "3", "4", " ", " Mi", "Xed", "\n\n", " x",
            ],
        );
    }

    #[test]
    fn every_label_has_a_pipeline() {
        for name in known_labels() {
            assert!(find_label(name).unwrap().pre_tokenizer().is_ok(), "{name}");
        }
        assert!(find_label("default").is_none());
    }
}
