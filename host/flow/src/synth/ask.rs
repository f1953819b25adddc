//! One teacher at work on one section: requests, tries, and a second question where the answer cannot be read.
//!
//! Invariants: only failures that may pass are tried again, at most [`Asker::tries`] times, with waits that the far side can
//! lengthen but not beyond [`WAIT_MAX`]; a section gives everything it has or the first failure that ended it.

use std::time::Duration;

use dlm_core::Cancel;
use dlm_core::digest::sha256;
use dlm_core::ports::plugin::PluginFailure;
use dlm_core::ports::teacher::{Teacher, TeacherCompletion, TeacherRequest, TeacherUsage};

use super::Strategy;
use super::answers::KeptAnswers;
use super::parse::parse;
use super::passage::{Passage, again, system, user};

/// How often a request is sent at most, where waiting can help.
pub(crate) const TRIES: usize = 4;
/// Waits before the second, third and fourth try, in seconds.
const WAITS_S: [f64; TRIES - 1] = [1.0, 4.0, 16.0];
/// Share of a wait that is added by chance, so that parallel teachers do not come back at once.
const JITTER: f64 = 0.25;
/// Longest wait, also when the far side asks for more.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// How requests are made.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub new_tokens_max: u32,
    pub temperature: f64,
    pub top_p: Option<f64>,
    pub seed: Option<u64>,
}

/// One question to the teacher.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub passage: Passage,
    pub strategy: Strategy,
    pub pairs: usize,
}

/// What one call gave.
#[derive(Clone, Debug)]
pub(crate) struct CallAnswer {
    pub pairs: Vec<(String, String)>,
    /// Items that were no pair, and why there is none at all.
    pub dropped: usize,
    pub complaint: Option<String>,
    pub is_truncated: bool,
}

/// What one section gave: the answers before the failure, if there was one.
#[derive(Debug, Default)]
pub(crate) struct SectionAnswer {
    pub answers: Vec<CallAnswer>,
    pub failure: Option<PluginFailure>,
    pub usage: TeacherUsage,
    pub kept_answers: u64,
    /// An answer could not be kept for the next run.
    pub disk_problem: Option<String>,
}

/// A teacher with what it needs.
pub(crate) struct Asker<'a> {
    pub teacher: Box<dyn Teacher>,
    pub settings: &'a Settings,
    pub kept: Option<&'a KeptAnswers>,
    /// How often a request is sent at most.
    pub tries: usize,
    pub pause: &'a (dyn Fn(Duration, &Cancel) + Sync),
    pub cancel: &'a Cancel,
}

impl Asker<'_> {
    /// Does all calls of a section, up to the first failure.
    pub(crate) fn section(&mut self, calls: &[Call]) -> SectionAnswer {
        let mut section = SectionAnswer::default();
        for call in calls {
            match self.call(call, &mut section) {
                Ok(answer) => section.answers.push(answer),
                Err(failure) => {
                    section.failure = Some(failure);
                    break;
                }
            }
        }
        section
    }

    fn call(&mut self, call: &Call, section: &mut SectionAnswer) -> Result<CallAnswer, PluginFailure> {
        let first = user(call.strategy, &call.passage, call.pairs);
        let mut asked = first.clone();
        let mut complaint = String::new();
        for _ in 0..2 {
            let completion = self.complete(call.strategy, &asked, section)?;
            match parse(&completion.text) {
                Ok(mut answer) => {
                    answer.pairs.truncate(call.pairs);
                    return Ok(CallAnswer {
                        pairs: answer.pairs,
                        dropped: answer.dropped,
                        complaint: None,
                        is_truncated: completion.is_truncated,
                    });
                }
                Err(found) => {
                    asked = again(&first, &found);
                    complaint = match completion.is_truncated {
                        true => format!("{found}; it was cut at --max-new-tokens"),
                        false => found,
                    };
                }
            }
        }
        Ok(CallAnswer {
            pairs: Vec::new(),
            dropped: 0,
            complaint: Some(complaint),
            is_truncated: false,
        })
    }

    fn complete(
        &mut self,
        strategy: Strategy,
        asked: &str,
        section: &mut SectionAnswer,
    ) -> Result<TeacherCompletion, PluginFailure> {
        let request = TeacherRequest {
            system: system(strategy),
            user: asked.to_owned(),
            new_tokens_max: self.settings.new_tokens_max,
            temperature: self.settings.temperature as f32,
            top_p: self.settings.top_p.map(|p| p as f32),
            seed: self.settings.seed,
        };
        if let Some(completion) = self.kept.and_then(|kept| kept.find(&request)) {
            section.kept_answers += 1;
            return Ok(completion);
        }
        let completion = self.with_tries(&request)?;
        section.usage.requests += completion.usage.requests;
        section.usage.prompt_tokens += completion.usage.prompt_tokens;
        section.usage.completion_tokens += completion.usage.completion_tokens;
        if let Some(Err(error)) = self.kept.map(|kept| kept.keep(&request, &completion)) {
            section.disk_problem = Some(error.to_string());
        }
        Ok(completion)
    }

    fn with_tries(&mut self, request: &TeacherRequest) -> Result<TeacherCompletion, PluginFailure> {
        let mut tries = 0;
        loop {
            let failure = match self.teacher.complete(request) {
                Ok(completion) => return Ok(completion),
                Err(failure) => failure,
            };
            tries += 1;
            if tries == self.tries || !failure.is_transient() || self.cancel.is_cancelled() {
                let message = match tries {
                    1 => failure.message.clone(),
                    tries => format!("{} (after {tries} tries)", failure.message),
                };
                return Err(PluginFailure { message, ..failure });
            }
            (self.pause)(wait(request, tries, failure.after_ms()), self.cancel);
        }
    }
}

/// The wait after the given number of failed tries.
fn wait(request: &TeacherRequest, tries: usize, asked_ms: Option<u32>) -> Duration {
    let hash = sha256(format!("{:?}\0{tries}\0{}", request.seed, request.user));
    let chance = f64::from(u16::from_be_bytes([hash[0], hash[1]])) / f64::from(u16::MAX);
    let own = Duration::from_secs_f64(WAITS_S[tries - 1] * (1.0 + JITTER * chance));
    let asked = Duration::from_millis(u64::from(asked_ms.unwrap_or(0)));
    own.max(asked).min(WAIT_MAX)
}
