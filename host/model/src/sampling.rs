//! From logits to the next token.
//!
//! Invariants: the order of operations is fixed (penalty, argmax at temperature 0, temperature, top-k, top-p, draw);
//! ties go to the lowest id; a draw depends on the seed and on how many draws came before, on nothing else.
//! **Source:** `spec/inference.md` section 4.2.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use dlm_core::random;

/// How a token is chosen. Off means off: nothing is taken from the base's bundled settings.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// 0 chooses the likeliest token.
    pub temperature: f32,
    /// Keeps the `k` likeliest tokens.
    pub top_k: Option<usize>,
    /// Keeps the shortest list of likeliest tokens whose probabilities reach this.
    pub top_p: Option<f32>,
    /// Divides positive logits of tokens that were seen, multiplies negative ones.
    pub repetition_penalty: Option<f32>,
    pub seed: u64,
}

impl Sampling {
    /// Always the likeliest token.
    pub fn greedy() -> Self {
        Self {
            temperature: 0.0,
            top_k: None,
            top_p: None,
            repetition_penalty: None,
            seed: 0,
        }
    }
}

/// A setting outside its range.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("`{name}` is {found}, expected {expected}")]
pub struct SamplingError {
    pub name: &'static str,
    pub found: String,
    pub expected: &'static str,
}

/// Chooses tokens, one after the other.
#[derive(Clone, Debug)]
pub struct Sampler {
    settings: Sampling,
    draws: u64,
    /// Tokens of prompt and output, for the penalty; sorted, each once.
    seen: Vec<u32>,
}

/// One candidate; the greater is the likelier, and of equals the one with the lower id.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Candidate {
    id: u32,
    value: f32,
    /// Its probability up to a factor that all have in common; a function of `value`.
    share: f64,
}

impl Eq for Candidate {}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        self.value.total_cmp(&other.value).then(other.id.cmp(&self.id))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Returns the index of the greatest value, the lowest of equals; values that are no number lose.
pub fn argmax(values: &[f32]) -> u32 {
    let mut best = 0;
    for (index, value) in values.iter().enumerate() {
        if *value > values[best] || (values[best].is_nan() && !value.is_nan()) {
            best = index;
        }
    }
    best as u32
}

impl Sampler {
    /// Makes a sampler; `prompt` counts as seen for the penalty.
    ///
    /// **Errors:** a setting outside its range.
    pub fn new(settings: Sampling, prompt: &[u32]) -> Result<Self, SamplingError> {
        let check = |is_good: bool, name, found: String, expected| {
            if is_good {
                Ok(())
            } else {
                Err(SamplingError { name, found, expected })
            }
        };
        let t = settings.temperature;
        check(t.is_finite() && t >= 0.0, "temperature", t.to_string(), "0 or more")?;
        let p = settings.top_p.unwrap_or(1.0);
        check(p > 0.0 && p <= 1.0, "top_p", p.to_string(), "above 0 and up to 1")?;
        check(settings.top_k != Some(0), "top_k", "0".to_owned(), "1 or more")?;
        let penalty = settings.repetition_penalty.unwrap_or(1.0);
        check(
            penalty.is_finite() && penalty > 0.0,
            "repetition_penalty",
            penalty.to_string(),
            "above 0",
        )?;
        let mut seen = Vec::new();
        if settings.repetition_penalty.is_some() {
            seen = prompt.to_vec();
            seen.sort_unstable();
            seen.dedup();
        }
        Ok(Self {
            settings,
            draws: 0,
            seen,
        })
    }

    /// Chooses the next token; `logits` are changed. The choice counts as seen from then on.
    pub fn next(&mut self, logits: &mut [f32]) -> u32 {
        if let Some(penalty) = self.settings.repetition_penalty {
            for &id in &self.seen {
                if let Some(logit) = logits.get_mut(id as usize) {
                    *logit = if *logit > 0.0 {
                        *logit / penalty
                    } else {
                        *logit * penalty
                    };
                }
            }
        }
        let id = if self.settings.temperature == 0.0 {
            argmax(logits)
        } else {
            let index = self.draws;
            self.draws += 1;
            self.draw(logits, random::unit(random::draw(self.settings.seed, index)))
        };
        if self.settings.repetition_penalty.is_some()
            && let Err(place) = self.seen.binary_search(&id)
        {
            self.seen.insert(place, id);
        }
        id
    }

    fn draw(&self, logits: &mut [f32], point: f64) -> u32 {
        for logit in logits.iter_mut() {
            *logit /= self.settings.temperature;
        }
        let best = argmax(logits);
        let top = logits[best as usize];
        // A logit that is no number counts for nothing.
        let share = |value: f32| {
            let share = f64::from(value - top).exp();
            if share.is_nan() { 0.0 } else { share }
        };
        let candidates = logits.iter().enumerate().map(|(id, &value)| Candidate {
            id: id as u32,
            value,
            share: share(value),
        });
        let kept = self.keep(candidates.collect());
        let mut left = point * mass(&kept);
        let mut last = best;
        for candidate in &kept {
            if candidate.share > 0.0 {
                last = candidate.id;
                if left < candidate.share {
                    break;
                }
                left -= candidate.share;
            }
        }
        last
    }

    /// The likeliest candidates within both limits, by id.
    fn keep(&self, all: Vec<Candidate>) -> Vec<Candidate> {
        let mut kept = match (self.settings.top_k, self.settings.top_p) {
            (None, None) => return all,
            (None, Some(p)) => {
                let goal = f64::from(p) * mass(&all);
                likeliest(all, usize::MAX, goal)
            }
            (Some(k), p) => {
                let top = likeliest(all, k, f64::INFINITY);
                match p {
                    // Top-p looks at the probabilities among the k that are left.
                    Some(p) => {
                        let goal = f64::from(p) * mass(&top);
                        likeliest(top, usize::MAX, goal)
                    }
                    None => top,
                }
            }
        };
        kept.sort_unstable_by_key(|candidate| candidate.id);
        kept
    }
}

fn mass(candidates: &[Candidate]) -> f64 {
    candidates.iter().map(|candidate| candidate.share).sum()
}

/// Takes the likeliest candidates, at least one, until there are `count` or their shares reach `goal`.
///
/// **Cost:** linear in the candidates plus the logarithm for each one taken.
fn likeliest(from: Vec<Candidate>, count: usize, goal: f64) -> Vec<Candidate> {
    let mut heap = BinaryHeap::from(from);
    let mut kept = Vec::new();
    let mut sum = 0.0;
    while kept.len() < count
        && let Some(candidate) = heap.pop()
    {
        sum += candidate.share;
        kept.push(candidate);
        if sum >= goal {
            break;
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use dlm_core::random;

    use super::{Sampler, Sampling, argmax};

    fn sampling(temperature: f32, seed: u64) -> Sampling {
        Sampling {
            temperature,
            seed,
            ..Sampling::greedy()
        }
    }

    fn frequencies(settings: Sampling, logits: &[f32], draws: usize) -> Vec<f64> {
        let mut sampler = Sampler::new(settings, &[]).unwrap();
        let mut counts = vec![0.0; logits.len()];
        for _ in 0..draws {
            counts[sampler.next(&mut logits.to_vec()) as usize] += 1.0 / draws as f64;
        }
        counts
    }

    #[test]
    fn ties_go_to_the_lowest_id() {
        assert_eq!(argmax(&[1.0, 3.0, 3.0, 2.0]), 1);
        assert_eq!(argmax(&[f32::NAN, f32::NEG_INFINITY, -1.0]), 2);
        let mut sampler = Sampler::new(Sampling::greedy(), &[]).unwrap();
        assert_eq!(sampler.next(&mut [0.5, 0.5]), 0);
    }

    #[test]
    fn frequencies_follow_the_probabilities() {
        let logits = [0.0, 2f32.ln(), 5f32.ln()];
        let found = frequencies(sampling(1.0, 7), &logits, 20_000);
        for (found, expected) in found.iter().zip([0.125, 0.25, 0.625]) {
            assert!((found - expected).abs() < 0.012, "{found} for {expected}");
        }
        // Half the temperature squares the probabilities.
        let found = frequencies(sampling(0.5, 7), &logits, 20_000);
        assert!((found[2] - 25.0 / 30.0).abs() < 0.012);
    }

    #[test]
    fn limits_cut_the_tail() {
        let logits = [1.0, 4.0, 3.0, 2.0];
        let top_k = Sampling {
            top_k: Some(2),
            ..sampling(1.0, 1)
        };
        let found = frequencies(top_k.clone(), &logits, 500);
        assert!(found[1] > 0.0 && found[2] > 0.0 && found[0] == 0.0 && found[3] == 0.0);
        // Probabilities are 0.644, 0.237, 0.087, 0.032: the first alone reaches 0.6, two are needed for 0.7.
        let top_p = |p| Sampling {
            top_p: Some(p),
            ..sampling(1.0, 1)
        };
        assert_eq!(
            frequencies(top_p(0.6), &logits, 200)[1],
            frequencies(top_p(0.001), &logits, 200)[1]
        );
        let found = frequencies(top_p(0.7), &logits, 500);
        assert!(found[1] < 1.0 && found[2] > 0.0 && found[3] == 0.0);
        // Among two the first has 0.731, so 0.7 of them is the first alone.
        let both = Sampling {
            top_p: Some(0.7),
            ..top_k
        };
        assert!((frequencies(both, &logits, 200)[1] - 1.0).abs() < 1e-9);
    }

    #[test]
    fn the_penalty_counts_prompt_and_output() {
        let settings = Sampling {
            repetition_penalty: Some(2.0),
            ..Sampling::greedy()
        };
        let mut sampler = Sampler::new(settings, &[0, 2, 2]).unwrap();
        // 4/2, 3, -1*2, 1.9: token 1 leads, and is then seen itself: 1.5 is below 2.
        assert_eq!(sampler.next(&mut [4.0, 3.0, -1.0, 1.9]), 1);
        assert_eq!(sampler.next(&mut [4.0, 3.0, -1.0, 1.9]), 0);
    }

    #[test]
    fn a_seed_repeats_its_draws() {
        let logits = [0.0; 64];
        let run = |seed| {
            let mut sampler = Sampler::new(sampling(1.0, seed), &[]).unwrap();
            (0..32).map(|_| sampler.next(&mut logits.to_vec())).collect::<Vec<_>>()
        };
        assert_eq!(run(3), run(3));
        assert_ne!(run(3), run(4));
        assert!((0..1000).all(|i| (0.0..1.0).contains(&random::unit(random::draw(u64::MAX, i)))));
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        let bad = |change: fn(&mut Sampling)| {
            let mut settings = sampling(1.0, 0);
            change(&mut settings);
            Sampler::new(settings, &[]).unwrap_err().name
        };
        assert_eq!(bad(|s| s.temperature = -1.0), "temperature");
        assert_eq!(bad(|s| s.temperature = f32::NAN), "temperature");
        assert_eq!(bad(|s| s.top_p = Some(0.0)), "top_p");
        assert_eq!(bad(|s| s.top_p = Some(1.5)), "top_p");
        assert_eq!(bad(|s| s.top_k = Some(0)), "top_k");
        assert_eq!(bad(|s| s.repetition_penalty = Some(0.0)), "repetition_penalty");
    }
}
