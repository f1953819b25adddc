//! Preference losses: from the log-probabilities of two completions of one prompt to a loss and its slopes.
//!
//! Invariants: everything is in `f64` and in nats; a slope is the derivative by the *sum* of the log-probabilities of a
//! completion's tokens, so it is the negative gradient weight of each of them.
//!
//! **Source:** Rafailov et al. 2023 (DPO), Azar et al. 2023 (IPO), Hong et al. 2024 (ORPO); `spec/training.md` section 8.

use dlm_core::training::{PreferenceLoss, PreferenceMethod};
use serde::{Deserialize, Serialize};

/// Largest mean log-probability that ORPO's odds are computed of: the odds of a certain completion are infinite.
const MEAN_LOGPROB_MAX: f64 = -1e-7;

/// How preferences are taught.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PreferenceRule {
    pub method: PreferenceMethod,
    /// Of DPO.
    pub loss: PreferenceLoss,
    /// Of DPO: how far a pair may leave its reference, 0 to 1.
    pub beta: f64,
    /// Of ORPO: weight of the odds beside the likelihood of the chosen completion, 0 to 1.
    pub alpha: f64,
}

/// A value for each completion of a pair.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Both<T> {
    pub chosen: T,
    pub rejected: T,
}

impl<T> Both<T> {
    /// Makes a value of each completion's.
    pub fn map<U>(self, mut f: impl FnMut(T) -> U) -> Both<U> {
        Both {
            chosen: f(self.chosen),
            rejected: f(self.rejected),
        }
    }
}

/// One pair's loss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PairLoss {
    /// Of ORPO the part of the odds alone; the likelihood of the chosen completion is an ordinary loss beside it.
    pub loss: f64,
    /// Derivative by the summed log-probability of each completion.
    pub slopes: Both<f64>,
}

impl PreferenceRule {
    /// Returns the loss of a pair from the summed log-probabilities of its completions under the policy and the reference,
    /// and their lengths in tokens. ORPO looks at no reference.
    pub fn pair_loss(&self, policy: Both<f64>, reference: Both<f64>, lengths: Both<usize>) -> PairLoss {
        match self.method {
            PreferenceMethod::Dpo => self.dpo(policy, reference, lengths),
            PreferenceMethod::Orpo => self.orpo(policy, lengths),
        }
    }

    /// Returns the implicit rewards of a pair: of DPO `beta` times the log-ratio to the reference, of ORPO `alpha` times the
    /// mean log-probability of a token.
    pub fn rewards(&self, policy: Both<f64>, reference: Both<f64>, lengths: Both<usize>) -> Both<f64> {
        match self.method {
            PreferenceMethod::Dpo => Both {
                chosen: self.beta * (policy.chosen - reference.chosen),
                rejected: self.beta * (policy.rejected - reference.rejected),
            },
            PreferenceMethod::Orpo => means(policy, lengths).map(|mean| self.alpha * mean),
        }
    }

    fn dpo(&self, policy: Both<f64>, reference: Both<f64>, lengths: Both<usize>) -> PairLoss {
        let ratios = Both {
            chosen: policy.chosen - reference.chosen,
            rejected: policy.rejected - reference.rejected,
        };
        if self.loss == PreferenceLoss::Ipo {
            let ratios = means(ratios, lengths);
            let distance = ratios.chosen - ratios.rejected - 1.0 / (2.0 * self.beta);
            return PairLoss {
                loss: distance * distance,
                slopes: along(2.0 * distance, lengths.map(|length| 1.0 / length as f64)),
            };
        }
        let margin = self.beta * (ratios.chosen - ratios.rejected);
        let (loss, slope) = match self.loss {
            PreferenceLoss::Hinge => ((1.0 - margin).max(0.0), if margin < 1.0 { -1.0 } else { 0.0 }),
            PreferenceLoss::Sigmoid | PreferenceLoss::Ipo => (softplus(-margin), -sigmoid(-margin)),
        };
        PairLoss {
            loss,
            slopes: along(
                self.beta * slope,
                Both {
                    chosen: 1.0,
                    rejected: 1.0,
                },
            ),
        }
    }

    fn orpo(&self, policy: Both<f64>, lengths: Both<usize>) -> PairLoss {
        let mean = means(policy, lengths).map(|mean| mean.min(MEAN_LOGPROB_MAX));
        let log_odds = (mean.chosen - mean.rejected) - (log1m_exp(mean.chosen) - log1m_exp(mean.rejected));
        // d log(p / (1 - p)) / d log p = 1 / (1 - p).
        let by_mean = mean.map(|mean| 1.0 / -mean.exp_m1());
        PairLoss {
            loss: self.alpha * softplus(-log_odds),
            slopes: along(
                -self.alpha * sigmoid(-log_odds),
                Both {
                    chosen: by_mean.chosen / lengths.chosen as f64,
                    rejected: by_mean.rejected / lengths.rejected as f64,
                },
            ),
        }
    }
}

/// The slopes of a function of a difference: up the chosen side, down the rejected one.
fn along(slope: f64, factors: Both<f64>) -> Both<f64> {
    Both {
        chosen: slope * factors.chosen,
        rejected: -slope * factors.rejected,
    }
}

fn means(sums: Both<f64>, lengths: Both<usize>) -> Both<f64> {
    Both {
        chosen: sums.chosen / lengths.chosen as f64,
        rejected: sums.rejected / lengths.rejected as f64,
    }
}

/// `log(1 + e^x)` without overflow.
fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

fn sigmoid(x: f64) -> f64 {
    (-softplus(-x)).exp()
}

/// `log(1 - e^x)` for `x < 0`, in the form that loses no digits (`spec/training.md` section 8).
fn log1m_exp(x: f64) -> f64 {
    match x > -std::f64::consts::LN_2 {
        true => (-x.exp_m1()).ln(),
        false => (-x.exp()).ln_1p(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: Both<f64> = Both {
        chosen: -20.0,
        rejected: -25.0,
    };
    const REFERENCE: Both<f64> = Both {
        chosen: -22.0,
        rejected: -24.0,
    };
    const LENGTHS: Both<usize> = Both {
        chosen: 10,
        rejected: 12,
    };

    fn rule(method: PreferenceMethod, loss: PreferenceLoss) -> PreferenceRule {
        PreferenceRule {
            method,
            loss,
            beta: 0.1,
            alpha: 0.1,
        }
    }

    fn rules() -> [PreferenceRule; 4] {
        [
            rule(PreferenceMethod::Dpo, PreferenceLoss::Sigmoid),
            rule(PreferenceMethod::Dpo, PreferenceLoss::Hinge),
            rule(PreferenceMethod::Dpo, PreferenceLoss::Ipo),
            rule(PreferenceMethod::Orpo, PreferenceLoss::Sigmoid),
        ]
    }

    #[test]
    fn follows_the_worked_examples_of_the_specification() {
        let expected = [0.5544, 0.7, 22.247, 0.0646];
        for (rule, expected) in rules().into_iter().zip(expected) {
            let loss = rule.pair_loss(POLICY, REFERENCE, LENGTHS).loss;
            assert!((loss - expected).abs() < 1e-3, "{rule:?}: {loss}");
        }
    }

    #[test]
    fn slopes_are_the_derivatives() {
        const STEP: f64 = 1e-5;
        for rule in rules() {
            let at = |chosen: f64, rejected: f64| {
                let policy = Both {
                    chosen: POLICY.chosen + chosen,
                    rejected: POLICY.rejected + rejected,
                };
                rule.pair_loss(policy, REFERENCE, LENGTHS).loss
            };
            let slopes = rule.pair_loss(POLICY, REFERENCE, LENGTHS).slopes;
            let chosen = (at(STEP, 0.0) - at(-STEP, 0.0)) / (2.0 * STEP);
            let rejected = (at(0.0, STEP) - at(0.0, -STEP)) / (2.0 * STEP);
            assert!(
                (slopes.chosen - chosen).abs() < 1e-6,
                "{rule:?}: {} {chosen}",
                slopes.chosen
            );
            assert!(
                (slopes.rejected - rejected).abs() < 1e-6,
                "{rule:?}: {} {rejected}",
                slopes.rejected
            );
        }
    }

    #[test]
    fn no_extreme_is_infinite() {
        let sure = Both {
            chosen: 0.0,
            rejected: -1e5,
        };
        for rule in rules() {
            for policy in [
                sure,
                Both {
                    chosen: -1e5,
                    rejected: 0.0,
                },
            ] {
                let PairLoss { loss, slopes } = rule.pair_loss(policy, REFERENCE, LENGTHS);
                assert!(
                    loss.is_finite() && slopes.chosen.is_finite() && slopes.rejected.is_finite(),
                    "{rule:?}"
                );
            }
        }
    }
}
