//! The loop that generates: feed, choose, decode, stop. For one sequence here, for several side by side in `many`.
//!
//! Invariants: text handed out is never taken back, so text that may be the beginning of a stop text waits; the stop
//! token is never part of the text; text handed out piece by piece, joined, is the text of the result.
//! **Source:** `spec/inference.md` sections 4.2 to 4.4.

mod many;
mod sequence;

use dlm_core::{Cancel, Hints, Subject};

use crate::sampling::{Sampler, Sampling, SamplingError};
use crate::session::{Session, SessionError};
use crate::text::Stops;
use crate::tokenizer::{StreamDecoder, Tokenizer, TokenizerError};

pub use many::{GenerateJob, ManyOptions, Watch, generate_many};
pub use sequence::Sequence;

/// Something that takes tokens in and says what may come next.
pub trait NextToken {
    type Error: std::error::Error + Send + Sync + 'static;

    /// Takes tokens in and returns the logits after the last.
    ///
    /// **Errors:** no tokens, a full context, an id outside the vocabulary.
    fn feed(&mut self, tokens: &[u32]) -> Result<&[f32], Self::Error>;

    /// Returns how many more tokens fit.
    fn room(&self) -> usize;
}

impl NextToken for Session<'_> {
    type Error = SessionError;

    fn feed(&mut self, tokens: &[u32]) -> Result<&[f32], SessionError> {
        match tokens {
            [token] if !self.is_empty() => self.step(*token),
            _ => self.prefill(tokens),
        }
    }

    fn room(&self) -> usize {
        self.context() - self.len()
    }
}

/// What to generate.
#[derive(Clone, Debug)]
pub struct GenerateOptions {
    pub sampling: Sampling,
    /// Most tokens that are generated; at least 1.
    pub tokens_max: usize,
    pub stops: Stops,
    /// Raised by whoever interrupts; looked at before every token.
    pub cancel: Cancel,
}

/// Why a generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// A stop token.
    Eos,
    /// A stop text.
    Stop,
    /// `tokens_max`, or a full context.
    Length,
    /// The flag was raised.
    Cancelled,
}

impl StopReason {
    /// The name that is shown and written in records.
    pub fn name(self) -> &'static str {
        match self {
            StopReason::Eos => "eos",
            StopReason::Stop => "stop",
            StopReason::Length => "length",
            StopReason::Cancelled => "cancelled",
        }
    }
}

/// What was generated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generation {
    /// The tokens chosen, without the stop token; with those of a stop text.
    pub tokens: Vec<u32>,
    /// The decoded text, cut before a stop text, without special tokens.
    pub text: String,
    pub reason: StopReason,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
}

/// One step, told as it happens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step<'a> {
    /// The prompt was read; generation begins.
    PromptRead { tokens: usize },
    /// A token was chosen; `text` became certain by it and may be empty.
    Token { id: u32, text: &'a str },
    /// The rest of the text, after the last token.
    Rest { text: &'a str },
}

/// A generation that fails.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    #[error("generate: the prompt has no tokens")]
    EmptyPrompt,
    #[error(
        "generate: a prompt of {prompt} tokens and an answer of up to {tokens_max} do not fit a context of {context}"
    )]
    TooLong {
        prompt: usize,
        tokens_max: usize,
        context: usize,
    },
    #[error("generate: {0}")]
    Sampling(#[from] SamplingError),
    #[error("generate: {0}")]
    Tokenizer(#[from] TokenizerError),
    #[error("generate: the model gave no finite logit after {tokens} tokens")]
    NotFinite { tokens: usize },
    #[error("generate: no further token is allowed")]
    Refused,
    #[error("generate: {0}")]
    Model(Box<SessionFailure>),
}

/// The failure of the model that generates.
#[derive(Debug, thiserror::Error)]
#[error("{cause}")]
pub struct SessionFailure {
    cause: String,
}

impl Hints for GenerateError {
    fn subject(&self) -> Subject {
        Subject::Inference
    }

    fn hints(&self) -> Vec<String> {
        match self {
            GenerateError::TooLong { .. } => vec!["shorten the prompt, or lower --max-tokens".to_owned()],
            _ => Vec::new(),
        }
    }
}

fn model_failed(error: impl std::error::Error) -> GenerateError {
    GenerateError::Model(Box::new(SessionFailure {
        cause: error.to_string(),
    }))
}

/// Holds back text that may be the beginning of a stop text.
struct StopFilter<'s> {
    stops: &'s [String],
    held: String,
    /// A stop text appeared.
    hit: bool,
}

impl<'s> StopFilter<'s> {
    fn new(stops: &'s [String]) -> Self {
        Self {
            stops,
            held: String::new(),
            hit: false,
        }
    }

    /// Takes text in and returns what is certain to stay.
    fn push(&mut self, text: &str) -> String {
        self.held.push_str(text);
        let first = self
            .stops
            .iter()
            .filter(|stop| !stop.is_empty())
            .filter_map(|stop| self.held.find(stop))
            .min();
        if let Some(at) = first {
            self.hit = true;
            self.held.truncate(at);
            return std::mem::take(&mut self.held);
        }
        let keep = self.longest_beginning();
        let rest = self.held.split_off(self.held.len() - keep);
        std::mem::replace(&mut self.held, rest)
    }

    /// Length of the longest end of the held text that begins a stop text.
    fn longest_beginning(&self) -> usize {
        let begins = |stop: &String| {
            let longest = stop.len().saturating_sub(1).min(self.held.len());
            let fits = |len: &usize| stop.is_char_boundary(*len) && self.held.ends_with(&stop[..*len]);
            (1..=longest).rev().find(fits).unwrap_or(0)
        };
        self.stops.iter().map(begins).max().unwrap_or(0)
    }
}

/// Checks before any work that prompt and answer fit.
fn check_fit(prompt: &[u32], options: &GenerateOptions, room: usize) -> Result<(), GenerateError> {
    if prompt.is_empty() {
        return Err(GenerateError::EmptyPrompt);
    }
    if prompt.len().saturating_add(options.tokens_max) > room {
        return Err(GenerateError::TooLong {
            prompt: prompt.len(),
            tokens_max: options.tokens_max,
            context: room,
        });
    }
    Ok(())
}

/// One answer as it grows: chooses tokens, decodes them, watches for what ends it.
struct Growing<'a> {
    sampler: Sampler,
    decoder: StreamDecoder<'a>,
    filter: StopFilter<'a>,
    stops: &'a Stops,
    tokens_max: usize,
    result: Generation,
}

impl<'a> Growing<'a> {
    fn new(tokenizer: &'a Tokenizer, prompt: &[u32], options: &'a GenerateOptions) -> Result<Self, GenerateError> {
        Ok(Self {
            sampler: Sampler::new(options.sampling.clone(), prompt)?,
            decoder: tokenizer.stream(),
            filter: StopFilter::new(&options.stops.texts),
            stops: &options.stops,
            tokens_max: options.tokens_max,
            result: Generation {
                tokens: Vec::new(),
                text: String::new(),
                reason: StopReason::Length,
                prompt_tokens: prompt.len(),
            },
        })
    }

    /// Chooses the token after what was fed, given its logits (which are changed); returns it where it must be fed next,
    /// nothing where the answer has ended.
    fn take(&mut self, logits: &mut [f32], on_step: &mut dyn FnMut(Step<'_>)) -> Result<Option<u32>, GenerateError> {
        if self.result.tokens.len() >= self.tokens_max {
            return Ok(None);
        }
        if !logits.iter().any(|logit| logit.is_finite()) {
            let tokens = self.result.prompt_tokens + self.result.tokens.len();
            return Err(GenerateError::NotFinite { tokens });
        }
        let id = self.sampler.next(logits);
        if self.stops.ids.contains(&id) {
            self.result.reason = StopReason::Eos;
            return Ok(None);
        }
        self.result.tokens.push(id);
        let text = self.filter.push(&self.decoder.push(id)?);
        self.result.text.push_str(&text);
        on_step(Step::Token { id, text: &text });
        if self.filter.hit {
            self.result.reason = StopReason::Stop;
            return Ok(None);
        }
        Ok((self.result.tokens.len() < self.tokens_max).then_some(id))
    }

    /// Ends the answer: text that waited is given, or cut where it completes a stop text.
    fn finish(mut self, on_step: &mut dyn FnMut(Step<'_>)) -> Result<Generation, GenerateError> {
        if self.filter.hit {
            return Ok(self.result);
        }
        let mut rest = self.filter.push(&self.decoder.finish()?);
        if self.filter.hit {
            self.result.reason = StopReason::Stop;
        } else {
            rest.push_str(&self.filter.held);
        }
        self.result.text.push_str(&rest);
        if !rest.is_empty() {
            on_step(Step::Rest { text: &rest });
        }
        Ok(self.result)
    }
}

/// Continues `prompt` until something stops it.
///
/// `on_step` hears every token as it comes; the pieces of text, joined, are the text of the result. The session may
/// already hold tokens (an earlier turn); they count as context, not for the repetition penalty.
///
/// **Errors:** an empty prompt, one that does not fit with `tokens_max`, a setting out of range, a failing model.
pub fn generate<M: NextToken>(
    model: &mut M,
    tokenizer: &Tokenizer,
    prompt: &[u32],
    options: &GenerateOptions,
    mut on_step: impl FnMut(Step<'_>),
) -> Result<Generation, GenerateError> {
    check_fit(prompt, options, model.room())?;
    let mut growing = Growing::new(tokenizer, prompt, options)?;
    let mut logits: Vec<f32> = match model.feed(prompt) {
        Ok(logits) => logits.to_vec(),
        Err(_) if options.cancel.is_cancelled() => {
            growing.result.reason = StopReason::Cancelled;
            return growing.finish(&mut on_step);
        }
        Err(error) => return Err(model_failed(error)),
    };
    on_step(Step::PromptRead { tokens: prompt.len() });
    loop {
        if options.cancel.is_cancelled() {
            growing.result.reason = StopReason::Cancelled;
            break;
        }
        let Some(id) = growing.take(&mut logits, &mut on_step)? else {
            break;
        };
        match model.feed(&[id]) {
            Ok(after) => {
                logits.clear();
                logits.extend_from_slice(after);
            }
            // A reader ends with an error where the flag is raised; what there is stays.
            Err(_) if options.cancel.is_cancelled() => {}
            Err(error) => return Err(model_failed(error)),
        }
    }
    growing.finish(&mut on_step)
}

#[cfg(test)]
mod tests {
    use super::StopFilter;

    fn run(stops: &[&str], pieces: &[&str]) -> (Vec<String>, String, bool) {
        let stops: Vec<String> = stops.iter().map(|stop| (*stop).to_owned()).collect();
        let mut filter = StopFilter::new(&stops);
        let mut given = Vec::new();
        for piece in pieces {
            given.push(filter.push(piece));
            if filter.hit {
                break;
            }
        }
        (given, filter.held.clone(), filter.hit)
    }

    #[test]
    fn text_that_may_begin_a_stop_waits() {
        let (given, held, hit) = run(&["[INST]"], &["a [", "IN", "STALL"]);
        assert_eq!((given.concat().as_str(), held.as_str(), hit), ("a [INSTALL", "", false));
        assert_eq!(given[0], "a ");
        assert_eq!(given[1], "");
    }

    #[test]
    fn a_stop_text_is_cut_with_what_follows() {
        let (given, _, hit) = run(&["[INST]", "END"], &["one EN", "D two"]);
        assert_eq!((given.concat().as_str(), hit), ("one ", true));
        let (given, _, hit) = run(&["日本"], &["x日", "本y"]);
        assert_eq!((given.concat().as_str(), hit), ("x", true));
    }

    #[test]
    fn without_stops_nothing_waits() {
        let (given, held, hit) = run(&[], &["a", "b"]);
        assert_eq!(
            (given, held.as_str(), hit),
            (vec!["a".to_owned(), "b".to_owned()], "", false)
        );
    }
}
