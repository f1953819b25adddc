//! The phase that teaches preferences: from the adapter that is there, measured against a reference, and taken back as far as it
//! would cost answers that the adapter gave before.
//!
//! Invariants: one base is loaded; the reference is a second adapter on it at most, whose log-probabilities are computed once
//! before the first step; whoever resumes computes them again from the same weights.

use dlm_core::Subject;
use dlm_core::event::Rewards;
use dlm_core::training::{PreferenceMethod, PreferenceReference};
use dlm_model::{Adapter, Engine};
use dlm_plan::train::PreferencePlan;
use dlm_train::run::Outcome;
use dlm_train::{Both, Pair, PairRecall, PreferenceRule, Preferences, pair_logprobs_of, preference_digest};

use super::job::Job;
use super::measure::{Examination, Findings};
use super::preference_report::{Judgement, PreferenceReport, Trial};
use super::recipe::recipe;
use super::report::TrainReport;
use super::run::Lesson;
use crate::failure::Failure;
use crate::integrity::check_adapter;

/// The shares of what the phase changed that are tried, the first that costs no answer is kept (`spec/training.md` section 19.16).
const SCALES: [f64; 4] = [1.0, 0.75, 0.5, 0.25];

/// Log-probabilities of every pair before the phase.
struct Logprobs {
    start: Vec<Both<f64>>,
    reference: Vec<Both<f64>>,
}

impl Job<'_> {
    /// Teaches the pairs.
    pub(super) fn train_preferences(&self, engine: &dyn Engine, plan: &PreferencePlan) -> Result<TrainReport, Failure> {
        let prepared = self.prepared;
        let start = self.trained(engine)?;
        self.around.note("asking what is preferred before the phase");
        let logprobs = self.logprobs(engine, plan, &start)?;
        let recipe = recipe(prepared, self.phase);
        let rule = recipe.preference.expect("the phase teaches preferences");
        let objective = Preferences {
            pairs: &prepared.pairs,
            reference: &logprobs.reference,
            rule,
            seed: recipe.seed,
            pairs_per_step: recipe.rows_per_step,
            sequence_len_max: recipe.sequence_len_max,
        };
        let weights = prepared.weights_name();
        let kept = [logprobs.start.as_slice(), logprobs.reference.as_slice()];
        let lesson = Lesson {
            objective: &objective,
            recipe: &recipe,
            digest: preference_digest(&recipe, &prepared.pairs, kept, &start.spec, &weights),
            // Noise in a difference of log-probabilities is variance and nothing else (`spec/training.md` section 7).
            dropout: 0.0,
            start: &start,
        };
        self.teach(engine, &lesson, &|outcome| {
            self.settle(engine, &start, &logprobs, rule, outcome)
        })
    }

    /// The adapter that the phase begins with: the current version, or, where none was trained, one that changes nothing.
    fn trained(&self, engine: &dyn Engine) -> Result<Adapter, Failure> {
        let Some(current) = self.lane.current(&self.store)? else {
            return self.fresh(engine);
        };
        check_adapter(self.around, &self.store, &self.lane.slot, &current, &self.command.path)?;
        engine.read_adapter(&current.directory).map_err(training)
    }

    fn logprobs(&self, engine: &dyn Engine, plan: &PreferencePlan, start: &Adapter) -> Result<Logprobs, Failure> {
        let pairs = &self.prepared.pairs;
        let before = pair_logprobs_of(engine, start, pairs).map_err(training)?;
        let reference = match (plan.method, plan.reference) {
            (PreferenceMethod::Dpo, PreferenceReference::PreAdapter) => before.clone(),
            // A fresh adapter changes nothing, so it is the base, with the products of training.
            (PreferenceMethod::Dpo, PreferenceReference::Base) => {
                pair_logprobs_of(engine, &self.fresh(engine)?, pairs).map_err(training)?
            }
            (PreferenceMethod::Orpo, _) => vec![Both::default(); pairs.len()],
        };
        Ok(Logprobs {
            start: before,
            reference,
        })
    }

    fn examination<'e>(&'e self, engine: &'e dyn Engine, adapter: &'e Adapter) -> Examination<'e> {
        Examination {
            around: self.around,
            prepared: self.prepared,
            engine,
            adapter,
            before: None,
        }
    }

    /// Keeps as much of what the phase changed as costs no answer that was given before, and says what was gained.
    fn settle(
        &self,
        engine: &dyn Engine,
        start: &Adapter,
        logprobs: &Logprobs,
        rule: PreferenceRule,
        outcome: &mut Outcome,
    ) -> Result<Findings, Failure> {
        self.around.note("asking every question of the document");
        let trained = outcome.adapter.params.clone();
        let (mut tried, mut asked): (Vec<Trial>, Vec<Vec<PairRecall>>) = (Vec::new(), Vec::new());
        let mut before: Option<Vec<PairRecall>> = None;
        for scale in SCALES {
            outcome.adapter.params = between(&start.params, &trained, scale);
            let recall = self.examination(engine, &outcome.adapter).recall()?;
            if before.is_none() && recall.iter().any(|pair| !pair.recalled) {
                // What was not known before cannot break.
                before = Some(self.examination(engine, start).recall()?);
            }
            let broken = before.as_ref().map_or(0, |before| broken(before, &recall));
            tried.push(Trial { scale, broken });
            asked.push(recall);
            if broken == 0 {
                break;
            }
        }
        let best = (0..tried.len())
            .min_by_key(|index| tried[*index].broken)
            .expect("one was tried");
        let scale = tried[best].scale;
        outcome.adapter.params = between(&start.params, &trained, scale);
        let recall = asked.swap_remove(best);
        let pairs = &self.prepared.pairs;
        let after = pair_logprobs_of(engine, &outcome.adapter, pairs).map_err(training)?;
        Ok(Findings {
            probes: self.examination(engine, &outcome.adapter).probes(&recall)?,
            recall,
            retention: None,
            preference: Some(PreferenceReport {
                pairs: pairs.len(),
                before: judgement(pairs, rule, &logprobs.start, &logprobs.reference),
                after: judgement(pairs, rule, &after, &logprobs.reference),
                scale,
                tried,
            }),
        })
    }
}

fn training(error: impl std::error::Error + Send + Sync + 'static) -> Failure {
    Failure::new(Subject::Training, error)
}

/// Parameters on the way from `start` to `end`; at 1 exactly the latter.
fn between(start: &[f32], end: &[f32], scale: f64) -> Vec<f32> {
    if scale == 1.0 {
        return end.to_vec();
    }
    let blend = |(start, end): (&f32, &f32)| (f64::from(*start) + scale * f64::from(end - start)) as f32;
    start.iter().zip(end).map(blend).collect()
}

/// Counts the answers that were given before and are no more.
fn broken(before: &[PairRecall], now: &[PairRecall]) -> usize {
    before
        .iter()
        .zip(now)
        .filter(|(before, now)| before.recalled && !now.recalled)
        .count()
}

fn judgement(pairs: &[Pair], rule: PreferenceRule, policy: &[Both<f64>], reference: &[Both<f64>]) -> Judgement {
    let is_preferred = |(pair, logprobs): (&Pair, &Both<f64>)| {
        let lengths = pair.lengths();
        logprobs.chosen / lengths.chosen as f64 > logprobs.rejected / lengths.rejected as f64
    };
    let margin: f64 = policy.iter().map(|logprobs| logprobs.chosen - logprobs.rejected).sum();
    let rewards = pairs
        .iter()
        .zip(policy)
        .zip(reference)
        .map(|((pair, policy), reference)| {
            let rewards = rule.rewards(*policy, *reference, pair.lengths());
            (rewards.chosen, rewards.rejected)
        });
    Judgement {
        preferred: pairs.iter().zip(policy).filter(|both| is_preferred(*both)).count(),
        logprob_margin: margin / pairs.len().max(1) as f64,
        rewards: Rewards::mean(rewards),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_back_ends_at_both_ends() {
        let (start, end) = ([0.5, -2.0], [1.5, 4.0]);
        assert_eq!(between(&start, &end, 1.0), end);
        assert_eq!(between(&start, &end, 0.0), start);
        assert_eq!(between(&start, &end, 0.5), [1.0, 1.0]);
    }
}
