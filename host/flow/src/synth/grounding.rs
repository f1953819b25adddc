//! The filter of synthesized pairs: does the passage make the answer likelier to the base, and are its words in there?
//!
//! Invariants: the base alone is asked, so what the adapter says already is worth nothing here; every number of an
//! extracted answer must stand in the passage.
//!
//! **Source**: `spec/judges-and-teachers.md`, section 9.3.

use std::collections::BTreeSet;

use dlm_core::Cancel;
use dlm_core::ports::model::{
    Model, ModelAllowance, ModelError, ModelMessage, ModelPrompt, ModelRole, ModelScore, ModelWeights, ScoreRequest,
};

use super::Strategy;

/// Smallest gain that counts, nats per token.
pub(crate) const THRESHOLD: f64 = 0.1;
/// Smallest share of an extracted answer's words that the passage must have.
const SUPPORT_MIN: f64 = 0.5;
/// Shortest word that counts as content.
const WORD_CHARS_MIN: usize = 3;
/// From this length on a word may be found in another form of it.
const STEM_CHARS_MIN: usize = 4;
/// Words that say nothing about a passage.
const EMPTY_WORDS: [&str; 56] = [
    "the", "and", "for", "are", "was", "were", "that", "this", "with", "from", "has", "have", "had", "not", "but",
    "its", "can", "may", "will", "would", "should", "could", "which", "who", "whom", "what", "when", "where", "why",
    "how", "there", "their", "they", "them", "then", "than", "these", "those", "into", "onto", "also", "such", "been",
    "being", "does", "did", "you", "your", "our", "his", "her", "him", "she", "all", "any", "yes",
];

/// What was measured of one pair.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Measurement {
    /// Gain of the passage, nats per token.
    pub gain: f64,
    /// Share of content words found, 0 to 1.
    pub support: f64,
    /// All numbers of the answer stand in the passage.
    pub has_all_numbers: bool,
}

/// The verdict on one pair: none when it passes.
pub(crate) type Refusal = (&'static str, String);

/// Measures pairs against their passage, in one request.
pub(crate) fn measure(
    model: &dyn Model,
    passage: &str,
    pairs: &[(&str, &str)],
    cancel: &Cancel,
) -> Result<Vec<Measurement>, ModelError> {
    let is_chat = model.info().has_chat_template;
    let requests: Vec<ScoreRequest> = pairs
        .iter()
        .flat_map(|(question, answer)| {
            let read = format!("{passage}\n\n{question}");
            [read, (*question).to_owned()].map(|asked| request(asked, answer, is_chat))
        })
        .collect();
    let scores = model.score(&requests, &ModelAllowance::unbounded(cancel))?;
    if scores.len() != requests.len() {
        let what = format!("the model gave {} scores to {} requests", scores.len(), requests.len());
        return Err(ModelError::Failed(what));
    }
    let words = Words::of(passage);
    Ok(scores
        .chunks(2)
        .zip(pairs)
        .map(|(both, (_, answer))| {
            let (support, has_all_numbers) = words.support(answer);
            Measurement {
                gain: per_token(&both[0]) - per_token(&both[1]),
                support,
                has_all_numbers,
            }
        })
        .collect())
}

fn request(asked: String, answer: &str, is_chat: bool) -> ScoreRequest {
    let (prompt, completion) = match is_chat {
        true => {
            let message = ModelMessage {
                role: ModelRole::User,
                content: asked,
            };
            (ModelPrompt::Chat(vec![message]), answer.to_owned())
        }
        false => (ModelPrompt::Raw(format!("{asked}\n")), answer.to_owned()),
    };
    ScoreRequest {
        prompt,
        completion,
        weights: ModelWeights::Base,
        is_per_token: false,
    }
}

fn per_token(score: &ModelScore) -> f64 {
    score.logprob / f64::from(score.token_count.max(1))
}

/// Judges one pair. `threshold` is what the user typed; without it extracted pairs need [`THRESHOLD`], others 0.
pub(crate) fn judge(measured: &Measurement, strategy: Strategy, threshold: Option<f64>) -> Result<(), Refusal> {
    let needed = threshold.unwrap_or(match strategy {
        Strategy::Extraction => THRESHOLD,
        Strategy::Expansion => 0.0,
    });
    let gain = measured.gain;
    if gain < 0.0 || gain.is_nan() {
        let what = format!("the passage makes the answer less likely ({gain:+.3} nats per token)");
        return Err(("judge_disfavored", what));
    }
    if strategy == Strategy::Extraction && !measured.has_all_numbers {
        return Err(("unsupported", "a number of the answer is not in the passage".to_owned()));
    }
    if strategy == Strategy::Extraction && measured.support < SUPPORT_MIN {
        let what = format!(
            "the passage has {:.0} % of the answer's words, {:.0} % are needed",
            measured.support * 100.0,
            SUPPORT_MIN * 100.0
        );
        return Err(("unsupported", what));
    }
    if gain < needed {
        return Err(("below_threshold", format!("grounding {gain:.3}, threshold {needed:.3}")));
    }
    Ok(())
}

/// The words and numbers of a passage.
struct Words {
    text: String,
    words: BTreeSet<String>,
    numbers: BTreeSet<String>,
}

impl Words {
    fn of(passage: &str) -> Self {
        let text = passage.to_lowercase();
        let (words, numbers) = split(&text);
        Self {
            words: words.into_iter().collect(),
            numbers: numbers.into_iter().collect(),
            text,
        }
    }

    /// The share of the answer's content words that the passage has, and whether it has all of the numbers.
    fn support(&self, answer: &str) -> (f64, bool) {
        let (words, numbers) = split(&answer.to_lowercase());
        let content: Vec<&String> = words
            .iter()
            .filter(|word| word.chars().count() >= WORD_CHARS_MIN && !EMPTY_WORDS.contains(&word.as_str()))
            .collect();
        let found = content.iter().filter(|word| self.has(word)).count()
            + numbers.iter().filter(|n| self.numbers.contains(*n)).count();
        let all = content.len() + numbers.len();
        let share = if all == 0 { 1.0 } else { found as f64 / all as f64 };
        (share, numbers.iter().all(|number| self.numbers.contains(number)))
    }

    fn has(&self, word: &str) -> bool {
        if self.words.contains(word) {
            return true;
        }
        if !word.is_ascii() {
            // Writing without blanks: a run of letters is many words.
            return self.text.contains(word);
        }
        let is_form = |known: &String| {
            let shorter = known.len().min(word.len());
            shorter >= STEM_CHARS_MIN
                && known.is_ascii()
                && (known.starts_with(word) || word.starts_with(known.as_str()))
        };
        self.words.iter().any(is_form)
    }
}

/// Splits a lower-case text into words (letters, digits and `_`, identifiers whole) and numbers without separators.
fn split(text: &str) -> (Vec<String>, Vec<String>) {
    let (mut words, mut numbers) = (Vec::new(), Vec::new());
    let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == '.' || c == ',';
    for run in text.split(|c: char| !is_part(c)) {
        let run = run.trim_matches(['.', ',']);
        let is_number = run.starts_with(|c: char| c.is_ascii_digit())
            && run.chars().all(|c| c.is_ascii_digit() || ".,".contains(c));
        if is_number {
            numbers.push(plain_number(run));
            continue;
        }
        for word in run.split(['.', ',']).filter(|word| !word.is_empty()) {
            match word.bytes().all(|b| b.is_ascii_digit()) {
                true => numbers.push(plain_number(word)),
                false => words.push(word.to_owned()),
            }
        }
    }
    (words, numbers)
}

/// `1,640` and `1640` are one number, `3.50` and `3.5` too.
fn plain_number(run: &str) -> String {
    let is_grouped = run
        .split(',')
        .skip(1)
        .all(|group| group.len() >= 3 && group.as_bytes()[..3].iter().all(u8::is_ascii_digit));
    let run = if is_grouped {
        run.replace(',', "")
    } else {
        run.replace(',', ".")
    };
    match run.split_once('.') {
        Some((whole, part)) if !part.contains('.') => {
            let part = part.trim_end_matches('0');
            if part.is_empty() {
                whole.to_owned()
            } else {
                format!("{whole}.{part}")
            }
        }
        _ => run,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn support(passage: &str, answer: &str) -> (f64, bool) {
        Words::of(passage).support(answer)
    }

    #[test]
    fn words_and_numbers_are_looked_for() {
        let passage = "The bell of Skarrow rings 1,640 times a year; it costs 3.50 florins. Call `ring_bell` first.";
        assert_eq!(support(passage, "It rings 1640 times."), (1.0, true));
        assert_eq!(support(passage, "It costs 3.5 florins, the bells ring."), (1.0, true));
        assert_eq!(support(passage, "ring_bell"), (1.0, true));
        let (share, numbers) = support(passage, "It rings 1641 times.");
        assert!(share > 0.5 && !numbers);
        assert!(support(passage, "Elephants wander through deserts.").0 < 0.1);
        assert_eq!(support(passage, "Yes."), (1.0, true));
        assert_eq!(support("鐘は正午に鳴る。", "正午に鳴る").0, 1.0);
    }

    #[test]
    fn the_verdict_follows_the_strategy() {
        let good = Measurement {
            gain: 0.1,
            support: 0.5,
            has_all_numbers: true,
        };
        let reason = |measured: Measurement, strategy, threshold| {
            judge(&measured, strategy, threshold).err().map(|(reason, _)| reason)
        };
        assert_eq!(reason(good, Strategy::Extraction, None), None);
        assert_eq!(reason(good, Strategy::Extraction, Some(0.2)), Some("below_threshold"));
        let weak = Measurement { gain: 0.05, ..good };
        assert_eq!(reason(weak, Strategy::Extraction, None), Some("below_threshold"));
        assert_eq!(reason(weak, Strategy::Expansion, None), None);
        assert_eq!(
            reason(Measurement { gain: -0.01, ..good }, Strategy::Expansion, None),
            Some("judge_disfavored")
        );
        assert_eq!(
            reason(Measurement { gain: f64::NAN, ..good }, Strategy::Expansion, None),
            Some("judge_disfavored")
        );
        assert_eq!(
            reason(Measurement { support: 0.4, ..good }, Strategy::Extraction, None),
            Some("unsupported")
        );
        assert_eq!(
            reason(Measurement { support: 0.4, ..good }, Strategy::Expansion, None),
            None
        );
        let wrong_number = Measurement {
            has_all_numbers: false,
            ..good
        };
        assert_eq!(reason(wrong_number, Strategy::Extraction, None), Some("unsupported"));
    }
}
