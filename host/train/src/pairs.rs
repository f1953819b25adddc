//! The pairs of a preference run: two completions of one prompt, their tokens, and what a reference thinks of them.
//!
//! Invariants: both rows of a pair begin with the same prompt and share a pass, in which the prompt is computed once; log
//! probabilities are sums over the completion and its end of turn, never over the prompt.

use dlm_core::training::PreferenceMethod;
use dlm_model::text::{LossRow, TextModel};
use dlm_model::{Adapter, Engine, EngineError, Logprobs, ReaderOptions, TargetKind};

use crate::batch::pack;
use crate::dataset::{Origin, Place, RowError};
use crate::objective::{Objective, PairTerm, StepRows, visits};
use crate::preference::{Both, PreferenceRule};
use crate::rows::{Row, answer_tokens};

/// A preference as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preference {
    pub prompt: String,
    pub chosen: String,
    pub rejected: String,
}

/// One preference with its tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct Pair {
    pub origin: Origin,
    /// Position inside its section.
    pub index: u32,
    pub preference: Preference,
    /// Prompt and completion of each; the loss range is the completion.
    pub tokens: Both<LossRow>,
}

impl Pair {
    /// Renders a preference as prompts are rendered, and tokenizes it.
    ///
    /// **Errors:** a completion without a token, text that cannot be encoded.
    pub fn new(
        origin: Origin,
        index: u32,
        preference: Preference,
        system_prompt: Option<&str>,
        text: &TextModel,
    ) -> Result<Pair, RowError> {
        let place = Place { origin: &origin, index };
        let row = |completion: &str| {
            let row = answer_tokens(system_prompt, &preference.prompt, completion, text);
            let row = row.map_err(|cause| place.text_error(cause))?;
            match row.loss.is_empty() {
                false => Ok(row),
                true => Err(place.empty_answer()),
            }
        };
        let tokens = Both {
            chosen: row(&preference.chosen)?,
            rejected: row(&preference.rejected)?,
        };
        Ok(Pair {
            origin,
            index,
            preference,
            tokens,
        })
    }

    /// Refuses a pair that is longer than a row may be; `readable` is what the base reads at most.
    ///
    /// **Errors** name its section.
    pub fn check_length(&self, allowed: usize, readable: usize) -> Result<(), RowError> {
        let tokens = self.tokens.chosen.ids.len().max(self.tokens.rejected.ids.len());
        let place = Place {
            origin: &self.origin,
            index: self.index,
        };
        place.check_length(tokens, allowed.min(readable), readable)
    }

    /// Tokens that both rows take in a pass, the prompt counted once.
    pub fn len(&self) -> usize {
        let Both { chosen, rejected } = &self.tokens;
        let shared = chosen.ids.iter().zip(&rejected.ids).take_while(|(a, b)| a == b).count();
        chosen.ids.len() + rejected.ids.len() - shared
    }

    /// Says whether there is no token, which no pair has.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tokens of each completion.
    pub fn lengths(&self) -> Both<usize> {
        Both {
            chosen: self.tokens.chosen.loss.len(),
            rejected: self.tokens.rejected.loss.len(),
        }
    }

    /// Both rows, their targets weighted alike.
    fn rows(&self, chosen: f32, rejected: f32) -> [Row; 2] {
        [
            Row::new(&self.tokens.chosen, chosen),
            Row::new(&self.tokens.rejected, rejected),
        ]
    }
}

/// Returns the summed log-probability of each completion of every pair, in nats.
///
/// **Errors:** a pair that the model refuses.
pub fn pair_logprobs(model: &mut dyn Logprobs, pairs: &[Pair]) -> Result<Vec<Both<f64>>, EngineError> {
    let one = |pair: &Pair| {
        let packed = pack(&pair.rows(1.0, 1.0), 1.0);
        let tokens: Vec<(usize, u32)> = packed.targets.iter().map(|t| (t.row, token(&t.kind))).collect();
        let mut sums = [0.0f64; 2];
        let logprobs = model.logprobs(&packed.batch, &tokens)?;
        for (owner, logprob) in packed.owners.iter().zip(logprobs) {
            sums[*owner] += f64::from(logprob);
        }
        let [chosen, rejected] = sums;
        Ok(Both { chosen, rejected })
    };
    pairs.iter().map(one).collect()
}

/// [`pair_logprobs`] with the products of training, which a reader takes by default.
///
/// **Errors:** as [`pair_logprobs`], and no room on the device.
pub fn pair_logprobs_of(engine: &dyn Engine, adapter: &Adapter, pairs: &[Pair]) -> Result<Vec<Both<f64>>, EngineError> {
    pair_logprobs(&mut *engine.reader(Some(adapter), ReaderOptions::default())?, pairs)
}

fn token(kind: &TargetKind) -> u32 {
    match kind {
        TargetKind::Token(token) => *token,
        TargetKind::TopK { .. } => unreachable!("a completion is tokens"),
    }
}

/// Learns which of two completions is preferred.
pub struct Preferences<'a> {
    pub pairs: &'a [Pair],
    /// Log-probabilities under the reference, pair by pair.
    pub reference: &'a [Both<f64>],
    pub rule: PreferenceRule,
    pub seed: u64,
    pub pairs_per_step: usize,
    pub sequence_len_max: usize,
}

impl Objective for Preferences<'_> {
    fn examples(&self) -> usize {
        self.pairs.len()
    }

    fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    fn check(&self) -> Result<(), RowError> {
        let check = |pair: &Pair| pair.check_length(self.sequence_len_max, usize::MAX);
        self.pairs.iter().try_for_each(check)
    }

    fn rows(&self, index: u64) -> Result<StepRows, RowError> {
        let all: Vec<usize> = (0..self.pairs.len()).collect();
        let visited: Vec<usize> = visits(&all, self.pairs_per_step, self.seed, index)
            .into_iter()
            .map(|visit| visit.example)
            .collect();
        // Of ORPO the likelihood of the chosen completions is an ordinary loss, the mean over their tokens.
        let likelihood = match self.rule.method {
            PreferenceMethod::Dpo => 0.0,
            PreferenceMethod::Orpo => {
                let tokens: usize = visited.iter().map(|&i| self.pairs[i].lengths().chosen).sum();
                1.0 / tokens as f32
            }
        };
        let scale = 1.0 / visited.len() as f64;
        Ok(StepRows {
            rows: visited
                .iter()
                .flat_map(|&i| self.pairs[i].rows(likelihood, 0.0))
                .collect(),
            pairs: visited
                .iter()
                .map(|&i| PairTerm {
                    rule: self.rule,
                    reference: self.reference[i],
                    lengths: self.pairs[i].lengths(),
                    scale,
                })
                .collect(),
            visited,
        })
    }
}
