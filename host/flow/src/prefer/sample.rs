//! Draws the answers that are compared.
//!
//! Invariants: an answer depends on the seed, the question and its number alone, not on what else is in the batch. All
//! answers of several prompts are one request to the model, twice: the second half may be drawn hotter than the first.

use dlm_core::Cancel;
use dlm_core::digest::{first_eight, sha256};
use dlm_core::ports::model::{
    GenerateRequest, Model, ModelAllowance, ModelError, ModelFinish, ModelGeneration, ModelMessage, ModelPrompt,
    ModelRole, ModelSampling, ModelWeights,
};

use crate::staging::similarity::is_near_duplicate;

/// Longest answer.
const NEW_TOKENS_MAX: u32 = 256;
/// How much hotter the second half is drawn when the first half is all alike.
const HOTTER: f64 = 0.4;
/// Above this temperature small models write noise.
const TEMPERATURE_MAX: f64 = 1.2;

/// How answers are drawn.
pub(super) struct Sampler<'a> {
    pub model: &'a dyn Model,
    pub system: Option<&'a str>,
    pub seed: i64,
    pub samples: usize,
    pub temperature: f64,
    pub top_p: Option<f64>,
}

/// One drawn answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sample {
    pub text: String,
    /// Ended by the token limit.
    pub is_cut: bool,
}

impl Sampler<'_> {
    /// Draws every answer of the prompts.
    pub(super) fn draw(&self, prompts: &[&str], cancel: &Cancel) -> Result<Vec<Vec<Sample>>, ModelError> {
        let first = self.samples.div_ceil(2);
        let plain = vec![self.temperature; prompts.len()];
        let mut drawn = self.round(prompts, 0..first, &plain, cancel)?;
        let hotter = (self.temperature + HOTTER).min(TEMPERATURE_MAX).max(self.temperature);
        let temperatures: Vec<f64> = drawn
            .iter()
            .map(|samples| if is_varied(samples) { self.temperature } else { hotter })
            .collect();
        let rest = self.round(prompts, first..self.samples, &temperatures, cancel)?;
        for (samples, more) in drawn.iter_mut().zip(rest) {
            samples.extend(more);
        }
        Ok(drawn)
    }

    fn round(
        &self,
        prompts: &[&str],
        numbers: std::ops::Range<usize>,
        temperatures: &[f64],
        cancel: &Cancel,
    ) -> Result<Vec<Vec<Sample>>, ModelError> {
        let per_prompt = numbers.len();
        if per_prompt == 0 {
            return Ok(vec![Vec::new(); prompts.len()]);
        }
        let requests: Vec<GenerateRequest> = prompts
            .iter()
            .zip(temperatures)
            .flat_map(|(prompt, temperature)| numbers.clone().map(|number| self.request(prompt, number, *temperature)))
            .collect();
        let answers = self.model.generate(&requests, &ModelAllowance::unbounded(cancel))?;
        if answers.len() != requests.len() {
            let what = format!(
                "the model gave {} answers to {} requests",
                answers.len(),
                requests.len()
            );
            return Err(ModelError::Failed(what));
        }
        let samples: Vec<Sample> = answers.into_iter().map(sample).collect();
        Ok(samples.chunks(per_prompt).map(<[Sample]>::to_vec).collect())
    }

    fn request(&self, prompt: &str, number: usize, temperature: f64) -> GenerateRequest {
        let message = |role, content: &str| ModelMessage {
            role,
            content: content.to_owned(),
        };
        let system = self.system.map(|system| message(ModelRole::System, system));
        GenerateRequest {
            prompt: ModelPrompt::Chat(system.into_iter().chain([message(ModelRole::User, prompt)]).collect()),
            weights: ModelWeights::Adapter,
            sampling: ModelSampling {
                new_tokens_max: NEW_TOKENS_MAX,
                temperature: temperature as f32,
                top_p: self.top_p.map(|p| p as f32),
                top_k: None,
                seed: Some(seed_of(self.seed, prompt, number)),
                stop: Vec::new(),
            },
        }
    }
}

fn sample(answer: ModelGeneration) -> Sample {
    Sample {
        text: dlm_core::section::normalize_newlines(&answer.text).trim().to_owned(),
        is_cut: answer.finish == ModelFinish::Length,
    }
}

/// Says whether two of the answers differ by more than a near duplicate does.
fn is_varied(samples: &[Sample]) -> bool {
    let texts: Vec<&str> = samples
        .iter()
        .map(|s| s.text.as_str())
        .filter(|t| !t.is_empty())
        .collect();
    texts
        .iter()
        .enumerate()
        .any(|(i, a)| texts[i + 1..].iter().any(|b| !is_near_duplicate(a, b)))
}

/// The seed of one answer: first 8 bytes of SHA-256 over seed, question and number.
pub(super) fn seed_of(seed: i64, prompt: &str, number: usize) -> u64 {
    u64::from_be_bytes(first_eight(&sha256(format!("{seed}\0{prompt}\0{number}"))))
}
