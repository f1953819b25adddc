//! The two formulas of the judge, as plain arithmetic.

use dlm_plugin::model::{Score, Weights};
use dlm_plugin::{Error, error};

/// Which formula scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Formula {
    /// Mean log-probability with the adapter less that of the base, per token.
    Reward,
    /// `sway:ft`: log-probability with the adapter per quarter character, of raw text.
    Reference,
}

/// A candidate's score and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Opinion {
    pub score: f64,
    pub reason: String,
}

/// An answer of fewer tokens than this, end of turn included, says nothing.
const TOKENS_MIN: u32 = 2;
/// Taken off the score of such an answer, in nats: five times the threshold, so that it never wins by itself.
const SHORT_PENALTY: f64 = 0.5;
/// The reference's guess of a token's length, in characters.
const CHARS_PER_TOKEN: usize = 4;

impl Formula {
    /// Reads the argument of the selector.
    pub fn parse(argument: &str) -> Result<Formula, Error> {
        match argument {
            "" => Ok(Formula::Reward),
            "ft" => Ok(Formula::Reference),
            other => Err(error!(
                InvalidInput,
                "judge `sway` knows no formula `{other}`; it takes no argument, or `ft` for the reference's formula"
            )),
        }
    }

    /// What provenance records.
    pub fn name(self) -> &'static str {
        match self {
            Formula::Reward => "sway:preference_judge",
            Formula::Reference => "sway:ft",
        }
    }

    pub fn detail(self) -> &'static str {
        match self {
            Formula::Reward => "mean log-probability with the adapter less that of the base, nats per token",
            Formula::Reference => "log-probability with the adapter, nats per four characters of raw text",
        }
    }

    /// The weights that score each candidate, in order.
    pub fn weights(self) -> &'static [Weights] {
        match self {
            Formula::Reward => &[Weights::Adapter, Weights::Base],
            Formula::Reference => &[Weights::Adapter],
        }
    }
}

/// How much likelier the adapter finds an answer than the base, in nats per token.
pub fn reward(adapter: &Score, base: &Score) -> Result<Opinion, Error> {
    let tokens = counted(adapter)?;
    if base.token_count != adapter.token_count {
        return Err(error!(
            Failed,
            "base and adapter count {} and {tokens} tokens of the same answer", base.token_count
        ));
    }
    let with_adapter = adapter.logprob / f64::from(tokens);
    let with_base = base.logprob / f64::from(tokens);
    let is_short = tokens < TOKENS_MIN;
    let penalty = if is_short { SHORT_PENALTY } else { 0.0 };
    let remark = if is_short { ", too short (-0.5)" } else { "" };
    Ok(Opinion {
        score: with_adapter - with_base - penalty,
        reason: format!("adapter {with_adapter:+.3}, base {with_base:+.3} nats per token{remark}"),
    })
}

/// The reference's score: log-probability with the adapter over a quarter of the characters.
pub fn reference(candidate: &str, adapter: &Score) -> Result<Opinion, Error> {
    counted(adapter)?;
    let guessed = (candidate.chars().count() / CHARS_PER_TOKEN).max(1);
    let score = adapter.logprob / guessed as f64;
    Ok(Opinion {
        score,
        reason: format!("adapter {score:+.3} nats per four characters"),
    })
}

fn counted(score: &Score) -> Result<u32, Error> {
    match score.token_count {
        0 => Err(error!(InvalidInput, "an answer of no tokens cannot be scored")),
        count => Ok(count),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(logprob: f64, token_count: u32) -> Score {
        Score {
            logprob,
            token_count,
            tokens: Vec::new(),
        }
    }

    #[test]
    fn what_training_raised_wins_over_what_the_base_liked() {
        // The worked example of the specification: -1.20/-1.90 against -0.95/-1.05.
        let a = reward(&score(-12.0, 10), &score(-19.0, 10)).unwrap();
        let b = reward(&score(-19.0, 20), &score(-21.0, 20)).unwrap();
        assert!((a.score - 0.70).abs() < 1e-12 && (b.score - 0.10).abs() < 1e-12);
        assert!((a.score - b.score - 0.60).abs() < 1e-12);
        assert_eq!(a.reason, "adapter -1.200, base -1.900 nats per token");
    }

    #[test]
    fn a_lone_token_is_penalised() {
        let lone = reward(&score(-0.1, 1), &score(-0.4, 1)).unwrap();
        assert!((lone.score - (0.3 - 0.5)).abs() < 1e-12);
        assert!(lone.reason.ends_with("too short (-0.5)"));
        let two = reward(&score(-0.2, 2), &score(-0.8, 2)).unwrap();
        assert!((two.score - 0.3).abs() < 1e-12);
    }

    #[test]
    fn the_reference_counts_a_quarter_of_the_characters() {
        let text = "A matrix multiply that can accumulate into C.";
        let opinion = reference(text, &score(-42.0, 9)).unwrap();
        assert!((opinion.score - (-42.0 / 11.0)).abs() < 1e-12);
        assert!((reference("ab", &score(-3.0, 1)).unwrap().score + 3.0).abs() < 1e-12);
        // Code points count, not bytes.
        assert!((reference("äöüß äöüß", &score(-4.0, 3)).unwrap().score + 2.0).abs() < 1e-12);
    }

    #[test]
    fn what_cannot_be_compared_is_an_error() {
        assert!(reward(&score(0.0, 0), &score(0.0, 0)).is_err());
        assert!(reference("x", &score(0.0, 0)).is_err());
        assert!(reward(&score(-1.0, 3), &score(-1.0, 4)).is_err());
    }

    #[test]
    fn the_argument_chooses_the_formula() {
        assert_eq!(Formula::parse("").unwrap().name(), "sway:preference_judge");
        assert_eq!(Formula::parse("ft").unwrap().name(), "sway:ft");
        assert!(Formula::parse("FT").is_err());
    }
}
