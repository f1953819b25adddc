//! Which of the scored candidates become a preference: pure rules, no model and no judge.
//!
//! Invariants: a near-duplicate pair is never scored; an answer that was cut by the token limit is never chosen; the
//! document's own answer is never rejected.

use crate::staging::similarity::is_near_duplicate;

/// One distinct answer to a prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub text: String,
    /// Every sample with this text was ended by the token limit.
    pub is_cut: bool,
    /// The document's own answer, or equal to it.
    pub is_anchor: bool,
}

/// Two candidates with the judge's scores.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ScoredPair {
    pub first: usize,
    pub second: usize,
    pub score_first: f64,
    pub score_second: f64,
    pub reasoning: Option<String>,
}

/// What the rules say about one prompt.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Choice {
    Pair {
        winner: usize,
        loser: usize,
        score_winner: f64,
        score_loser: f64,
        reasoning: Option<String>,
    },
    Skip {
        reason: &'static str,
        detail: String,
    },
}

/// Makes the distinct candidates of a prompt, samples in the order they were drawn, the document's answer last.
pub(crate) fn candidates(samples: &[(String, bool)], own_answer: Option<&str>) -> Vec<Candidate> {
    let mut found: Vec<Candidate> = Vec::new();
    for (text, is_cut) in samples.iter().filter(|(text, _)| !text.is_empty()) {
        match found.iter_mut().find(|known| known.text == *text) {
            Some(known) => known.is_cut &= is_cut,
            None => found.push(Candidate {
                text: text.clone(),
                is_cut: *is_cut,
                is_anchor: false,
            }),
        }
    }
    if let Some(answer) = own_answer.map(str::trim).filter(|answer| !answer.is_empty()) {
        match found.iter_mut().find(|known| known.text == answer) {
            Some(known) => (known.is_anchor, known.is_cut) = (true, false),
            None => found.push(Candidate {
                text: answer.to_owned(),
                is_cut: false,
                is_anchor: true,
            }),
        }
    }
    found
}

/// The pairs worth scoring, in index order: not nearly the same, and with at least one outcome that may be written.
pub(crate) fn pairs(candidates: &[Candidate]) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    for (first, a) in candidates.iter().enumerate() {
        for (second, b) in candidates.iter().enumerate().skip(first + 1) {
            if (may_beat(a, b) || may_beat(b, a)) && !is_near_duplicate(&a.text, &b.text) {
                found.push((first, second));
            }
        }
    }
    found
}

fn may_beat(winner: &Candidate, loser: &Candidate) -> bool {
    !winner.is_cut && !loser.is_anchor
}

/// Chooses the pair with the largest margin; of equal ones the first.
pub(crate) fn choose(candidates: &[Candidate], scored: &[ScoredPair], threshold: f64) -> Choice {
    let mut best: Option<(f64, usize, usize, &ScoredPair)> = None;
    let (mut ties, mut forbidden) = (0, 0);
    for pair in scored {
        let margin = (pair.score_first - pair.score_second).abs();
        let (winner, loser) = match pair.score_first.partial_cmp(&pair.score_second) {
            Some(std::cmp::Ordering::Greater) => (pair.first, pair.second),
            Some(std::cmp::Ordering::Less) => (pair.second, pair.first),
            _ => {
                ties += 1;
                continue;
            }
        };
        if !may_beat(&candidates[winner], &candidates[loser]) {
            forbidden += 1;
            continue;
        }
        if best.as_ref().is_none_or(|(known, ..)| margin > *known) {
            best = Some((margin, winner, loser, pair));
        }
    }
    let Some((margin, winner, loser, pair)) = best else {
        return match forbidden {
            0 => Choice::Skip {
                reason: "too_similar",
                detail: format!("{ties} pair(s), all tied"),
            },
            _ => Choice::Skip {
                reason: "no_valid_winner",
                detail: "every preferred answer was cut by the token limit or beat the document's own answer"
                    .to_owned(),
            },
        };
    };
    if margin < threshold {
        return Choice::Skip {
            reason: "below_threshold",
            detail: format!("margin {margin:.3}, threshold {threshold:.3}"),
        };
    }
    Choice::Pair {
        winner,
        loser,
        score_winner: pair.score_first.max(pair.score_second),
        score_loser: pair.score_first.min(pair.score_second),
        reasoning: pair.reasoning.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(text: &str, is_cut: bool, is_anchor: bool) -> Candidate {
        Candidate {
            text: text.into(),
            is_cut,
            is_anchor,
        }
    }

    fn scored(candidates: &[Candidate], scores: &[f64]) -> Vec<ScoredPair> {
        pairs(candidates)
            .into_iter()
            .map(|(first, second)| ScoredPair {
                first,
                second,
                score_first: scores[first],
                score_second: scores[second],
                reasoning: None,
            })
            .collect()
    }

    fn check(candidates: &[Candidate], scores: &[f64], threshold: f64, expected: Result<(usize, usize), &str>) {
        match choose(candidates, &scored(candidates, scores), threshold) {
            Choice::Pair { winner, loser, .. } => assert_eq!(Ok((winner, loser)), expected),
            Choice::Skip { reason, .. } => assert_eq!(Err(reason), expected),
        }
    }

    fn plain() -> Vec<Candidate> {
        ["alpha", "beta", "gamma"]
            .map(|text| candidate(text, false, false))
            .to_vec()
    }

    #[test]
    fn the_largest_margin_wins_and_the_first_of_equal_ones() {
        check(&plain(), &[1.0, 3.0, 2.0], 0.1, Ok((1, 0)));
        check(&plain(), &[2.0, 1.0, 1.0], 0.1, Ok((0, 1)));
    }

    #[test]
    fn equality_with_the_threshold_is_enough_and_ties_never_are() {
        check(&plain()[..2], &[0.75, 0.5], 0.25, Ok((0, 1)));
        check(&plain()[..2], &[0.75, 0.5], 0.2500001, Err("below_threshold"));
        check(&plain(), &[1.0, 1.0, 1.0], 0.0, Err("too_similar"));
    }

    #[test]
    fn a_cut_answer_is_never_chosen_but_may_be_rejected() {
        let two = [candidate("alpha", true, false), candidate("beta", false, false)];
        check(&two, &[1.0, 0.0], 0.0, Err("no_valid_winner"));
        check(&two, &[0.0, 1.0], 0.0, Ok((1, 0)));
        let both = [candidate("alpha", true, false), candidate("beta", true, false)];
        assert!(pairs(&both).is_empty());
    }

    #[test]
    fn the_own_answer_may_be_chosen_and_is_never_rejected() {
        let two = [candidate("alpha", false, false), candidate("beta", false, true)];
        check(&two, &[0.0, 1.0], 0.0, Ok((1, 0)));
        check(&two, &[1.0, 0.0], 0.0, Err("no_valid_winner"));
    }

    #[test]
    fn candidates_are_distinct_and_know_where_they_came_from() {
        let samples =
            [("a", true), ("", false), ("b", false), ("a", false), ("c", true)].map(|(t, c)| (t.to_owned(), c));
        assert_eq!(
            candidates(&samples, Some(" b ")),
            [
                candidate("a", false, false),
                candidate("b", false, true),
                candidate("c", true, false)
            ]
        );
        assert_eq!(candidates(&samples[1..2], Some("own")), [candidate("own", false, true)]);
        assert!(candidates(&[], None).is_empty());
    }

    #[test]
    fn near_duplicates_are_never_scored() {
        let long = "The quick brown fox jumps over the lazy dog near the river bank.";
        let three = [
            candidate(long, false, false),
            candidate(&long.replace("bank.", "bank!"), false, false),
            candidate("no", false, false),
        ];
        assert_eq!(pairs(&three), [(0, 2), (1, 2)]);
    }
}
