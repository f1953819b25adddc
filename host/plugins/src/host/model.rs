//! The import `model`: requests to the engine, checked against the grants and counted in tokens.

use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};

use dlm_core::Cancel;
use dlm_core::inert::{cut, inert_line};
use dlm_core::ports::model::{
    GenerateRequest, Model, ModelAllowance, ModelError, ModelFinish, ModelMessage, ModelPrompt, ModelRole,
    ModelSampling, ModelToken, ModelWeights, NextRequest, RankRequest, ScoreRequest,
};
use dlm_core::units::size;
use dlm_packages::limits::LimitName;
use wasmtime::component::Resource;

use super::wit::model;
use super::{State, Stop, WitError};
use crate::limits::{MODEL_IDS_MAX, MODEL_TEXT_BYTES_MAX, MODEL_TEXT_BYTES_RUN_MAX, PassedLimit};

/// Longest selector shown in a refusal.
const SHOWN_BYTES_MAX: usize = 200;
const REQUESTS_MAX: usize = 4096;

/// A model that a guest opened.
pub struct Handle(Arc<dyn Model>);

/// How much one call asks for.
#[derive(Default)]
struct Asked {
    requests: usize,
    /// All its text.
    bytes: usize,
    /// Its longest prompt or completion.
    longest: usize,
    /// Completions whose tokens come back one by one.
    listed: usize,
}

impl Asked {
    /// Counts one text.
    fn text(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.longest = self.longest.max(bytes);
    }

    fn prompt(&mut self, prompt: &ModelPrompt) {
        self.requests += 1;
        self.text(match prompt {
            ModelPrompt::Raw(text) => text.len(),
            ModelPrompt::Chat(chat) => chat_bytes(chat),
        });
    }

    /// Counts the requests of a call, each with `count`.
    fn of<R>(requests: &[R], count: impl Fn(&mut Asked, &R)) -> Asked {
        let mut asked = Asked::default();
        requests.iter().for_each(|request| count(&mut asked, request));
        asked
    }

    /// One request about a text.
    fn one(bytes: usize) -> Asked {
        Asked {
            requests: 1,
            bytes,
            longest: bytes,
            listed: 0,
        }
    }
}

fn chat_bytes(chat: &[ModelMessage]) -> usize {
    chat.iter().map(|message| message.content.len()).sum()
}

type Answer<T> = wasmtime::Result<Result<T, WitError>>;

impl State {
    fn model(&self, handle: &Resource<Handle>) -> wasmtime::Result<Arc<dyn Model>> {
        Ok(Arc::clone(&self.table.get(handle)?.0))
    }

    /// Asks a model for work on its weights, within the tokens of the run and the time of the call.
    fn ask<T>(
        &mut self,
        handle: &Resource<Handle>,
        asked: Asked,
        work: impl FnOnce(&dyn Model, &ModelAllowance) -> Result<T, ModelError>,
    ) -> Answer<T> {
        let model = self.model(handle)?;
        if let Err(refusal) = self.admit(&asked)? {
            return Ok(Err(refusal));
        }
        let left = self
            .new
            .limits
            .tokens
            .saturating_sub(self.earlier.1 + self.used.model_tokens);
        if left == 0 {
            return Err(Stop::trap(self.tokens_passed()));
        }
        let (answer, taken) = self.in_host(|state| {
            state.timed(|cancel| {
                let allowance = ModelAllowance::new(left, cancel);
                (work(&*model, &allowance), allowance.taken())
            })
        });
        self.used.model_tokens += taken;
        self.settled(answer)
    }

    /// Asks a model for work on text alone.
    fn ask_text<T>(
        &mut self,
        handle: &Resource<Handle>,
        asked: Asked,
        work: impl FnOnce(&dyn Model) -> Result<T, ModelError>,
    ) -> Answer<T> {
        let model = self.model(handle)?;
        if let Err(refusal) = self.admit(&asked)? {
            return Ok(Err(refusal));
        }
        let answer = self.in_host(|_| work(&*model));
        self.settled(answer)
    }

    /// Counts what is asked, and refuses what is too much for one call.
    ///
    /// **Errors:** the text that a run may hand to models is used up.
    fn admit(&mut self, asked: &Asked) -> wasmtime::Result<Result<(), WitError>> {
        let refuse = |message: String| Ok(Err(WitError::InvalidInput(message)));
        if asked.requests > REQUESTS_MAX {
            return refuse(format!("more than {REQUESTS_MAX} requests in one call"));
        }
        let longest = asked.longest.max(asked.listed);
        if longest > MODEL_TEXT_BYTES_MAX {
            let (found, most) = (size(longest as u64), size(MODEL_TEXT_BYTES_MAX as u64));
            return refuse(match asked.longest >= asked.listed {
                true => format!("a text of {found} for a model, at most {most} are read at once"),
                false => format!("completions of {found} whose tokens are listed, at most {most} in one call"),
            });
        }
        self.model_text_bytes = self.model_text_bytes.saturating_add(asked.bytes as u64);
        if self.model_text_bytes > MODEL_TEXT_BYTES_RUN_MAX {
            let text = format!("{} of text for models", size(MODEL_TEXT_BYTES_RUN_MAX));
            return Err(Stop::trap(PassedLimit::fixed("model-text", text)));
        }
        self.used.model_requests += asked.requests as u64;
        Ok(Ok(()))
    }

    fn tokens_passed(&self) -> PassedLimit {
        let allowed = self.new.limits.tokens;
        PassedLimit::raisable(LimitName::Tokens, allowed, format!("{allowed} tokens of models"))
    }

    /// Hands an answer to the guest, or ends it where it was stopped.
    fn settled<T>(&self, answer: Result<T, ModelError>) -> Answer<T> {
        match answer {
            Ok(answer) => Ok(Ok(answer)),
            // The flag was raised for the run, or because the time of the call is over.
            Err(ModelError::Cancelled) => Err(wasmtime::Error::new(self.stop().unwrap_or(Stop::Cancelled))),
            Err(ModelError::Tokens) => Err(Stop::trap(self.tokens_passed())),
            Err(error) => Ok(Err(wire_error(error))),
        }
    }

    /// Runs work with a flag that is raised with the run's, and when the time of this call is over.
    fn timed<T>(&self, work: impl FnOnce(Cancel) -> T) -> T {
        let cancel = self.new.ports.cancel.below();
        let (left, raised) = (self.wall_left(), cancel.clone());
        let (working, done) = mpsc::channel::<()>();
        let watch = move || {
            if done.recv_timeout(left) == Err(RecvTimeoutError::Timeout) {
                raised.cancel();
            }
        };
        let watching = std::thread::Builder::new().name("wall-time".to_owned()).spawn(watch);
        if watching.is_err() {
            // No watch, no work: it might never end.
            cancel.cancel();
        }
        let result = work(cancel);
        drop(working);
        result
    }

    fn open(
        &mut self,
        selector: Option<&str>,
        find: impl FnOnce(&State) -> Result<Arc<dyn Model>, ModelError>,
    ) -> Answer<Resource<Handle>> {
        if !self.new.grants.allows_model(selector) {
            let shown = inert_line(&cut(selector.unwrap_or("current"), SHOWN_BYTES_MAX));
            return Ok(Err(self.denied(format!("model:{shown}"), "this model is not granted")));
        }
        match self.in_host(|state| find(state)) {
            Ok(model) => Ok(Ok(self.table.push(Handle(model))?)),
            Err(ModelError::Cancelled) => Err(wasmtime::Error::new(Stop::Cancelled)),
            Err(error) => Ok(Err(wire_error(error))),
        }
    }
}

fn wire_error(error: ModelError) -> WitError {
    match error {
        ModelError::InvalidInput(message) => WitError::InvalidInput(message),
        ModelError::Unsupported(message) => WitError::Unsupported(message),
        ModelError::Unavailable(message) => WitError::Unavailable(message),
        ModelError::NotFound(message) => WitError::NotFound(message),
        ModelError::Cancelled => WitError::Cancelled,
        // Ends the guest before it comes here.
        error @ ModelError::Tokens => WitError::Failed(error.to_string()),
        ModelError::Failed(message) => WitError::Failed(message),
    }
}

fn weights(weights: model::Weights) -> ModelWeights {
    match weights {
        model::Weights::Base => ModelWeights::Base,
        model::Weights::Adapter => ModelWeights::Adapter,
    }
}

fn message(message: model::Message) -> ModelMessage {
    ModelMessage {
        role: match message.role {
            model::Role::System => ModelRole::System,
            model::Role::User => ModelRole::User,
            model::Role::Assistant => ModelRole::Assistant,
        },
        content: message.content,
    }
}

fn prompt(prompt: model::Prompt) -> ModelPrompt {
    match prompt {
        model::Prompt::Raw(text) => ModelPrompt::Raw(text),
        model::Prompt::Chat(chat) => ModelPrompt::Chat(chat.into_iter().map(message).collect()),
    }
}

fn sampling(sampling: model::Sampling) -> ModelSampling {
    ModelSampling {
        new_tokens_max: sampling.max_new_tokens,
        temperature: sampling.temperature,
        top_p: sampling.top_p,
        top_k: sampling.top_k,
        seed: sampling.seed,
        stop: sampling.stop,
    }
}

fn tokens(tokens: Vec<ModelToken>) -> Vec<model::Token> {
    let token = |token: ModelToken| model::Token {
        id: token.id,
        text: token.text,
        logprob: token.logprob,
    };
    tokens.into_iter().map(token).collect()
}

impl model::Host for State {
    fn current(&mut self) -> Answer<Resource<Handle>> {
        self.open(None, |state| state.new.ports.models.current())
    }

    fn named(&mut self, selector: String) -> Answer<Resource<Handle>> {
        self.open(Some(&selector), |state| state.new.ports.models.named(&selector))
    }
}

impl model::HostHandle for State {
    fn info(&mut self, handle: Resource<Handle>) -> wasmtime::Result<model::Info> {
        let info = self.model(&handle)?.info();
        Ok(model::Info {
            name: info.name,
            revision: info.revision,
            architecture: info.architecture,
            context_length: info.context_length,
            vocabulary_size: info.vocabulary_size,
            has_adapter: info.has_adapter,
            adapter_version: info.adapter_version,
            has_chat_template: info.has_chat_template,
        })
    }

    fn generate(
        &mut self,
        handle: Resource<Handle>,
        requests: Vec<model::GenerateRequest>,
    ) -> Answer<Vec<model::Generation>> {
        let asked: Vec<GenerateRequest> = requests
            .into_iter()
            .map(|request| GenerateRequest {
                prompt: prompt(request.prompt),
                weights: weights(request.weights),
                sampling: sampling(request.sampling),
            })
            .collect();
        let made = self.ask(
            &handle,
            Asked::of(&asked, |asked, request: &GenerateRequest| {
                asked.prompt(&request.prompt);
                asked.text(request.sampling.stop.iter().map(String::len).sum());
            }),
            |model, allowance| model.generate(&asked, allowance),
        )?;
        Ok(made.map(|made| {
            let one = made.into_iter().map(|one| model::Generation {
                text: one.text,
                prompt_tokens: one.prompt_tokens,
                completion_tokens: one.completion_tokens,
                finish: match one.finish {
                    ModelFinish::Stop => model::Finish::Stop,
                    ModelFinish::Length => model::Finish::Length,
                },
            });
            one.collect()
        }))
    }

    fn score(&mut self, handle: Resource<Handle>, requests: Vec<model::ScoreRequest>) -> Answer<Vec<model::Score>> {
        let asked: Vec<ScoreRequest> = requests
            .into_iter()
            .map(|request| ScoreRequest {
                prompt: prompt(request.prompt),
                completion: request.completion,
                weights: weights(request.weights),
                is_per_token: request.per_token,
            })
            .collect();
        let scored = self.ask(
            &handle,
            Asked::of(&asked, |asked, request: &ScoreRequest| {
                asked.prompt(&request.prompt);
                asked.text(request.completion.len());
                asked.listed += if request.is_per_token {
                    request.completion.len()
                } else {
                    0
                };
            }),
            |model, allowance| model.score(&asked, allowance),
        )?;
        Ok(scored.map(|scored| {
            let one = scored.into_iter().map(|one| model::Score {
                logprob: one.logprob,
                token_count: one.token_count,
                tokens: tokens(one.tokens),
            });
            one.collect()
        }))
    }

    fn rank(&mut self, handle: Resource<Handle>, requests: Vec<model::RankRequest>) -> Answer<Vec<f64>> {
        let asked: Vec<RankRequest> = requests
            .into_iter()
            .map(|request| RankRequest {
                prompt: prompt(request.prompt),
                completion: request.completion,
            })
            .collect();
        self.ask(
            &handle,
            Asked::of(&asked, |asked, request: &RankRequest| {
                asked.prompt(&request.prompt);
                asked.text(request.completion.len());
            }),
            |model, allowance| model.rank(&asked, allowance),
        )
    }

    fn next(&mut self, handle: Resource<Handle>, requests: Vec<model::NextRequest>) -> Answer<Vec<Vec<model::Token>>> {
        let asked: Vec<NextRequest> = requests
            .into_iter()
            .map(|request| NextRequest {
                prompt: prompt(request.prompt),
                weights: weights(request.weights),
                top: request.top,
            })
            .collect();
        let lists = self.ask(
            &handle,
            Asked::of(&asked, |asked, request: &NextRequest| asked.prompt(&request.prompt)),
            |model, allowance| model.next(&asked, allowance),
        )?;
        Ok(lists.map(|lists| lists.into_iter().map(tokens).collect()))
    }

    fn tokenize(&mut self, handle: Resource<Handle>, text: String) -> Answer<Vec<u32>> {
        self.ask_text(&handle, Asked::one(text.len()), |model| model.tokenize(&text))
    }

    fn detokenize(&mut self, handle: Resource<Handle>, ids: Vec<u32>) -> Answer<String> {
        if ids.len() > MODEL_IDS_MAX {
            let message = format!("{} ids, at most {MODEL_IDS_MAX} are read at once", ids.len());
            return Ok(Err(WitError::InvalidInput(message)));
        }
        self.ask_text(&handle, Asked::one(0), |model| model.detokenize(&ids))
    }

    fn render(
        &mut self,
        handle: Resource<Handle>,
        chat: Vec<model::Message>,
        add_generation_prompt: bool,
    ) -> Answer<String> {
        let chat: Vec<ModelMessage> = chat.into_iter().map(message).collect();
        self.ask_text(&handle, Asked::one(chat_bytes(&chat)), |model| {
            model.render(&chat, add_generation_prompt)
        })
    }

    fn drop(&mut self, handle: Resource<Handle>) -> wasmtime::Result<()> {
        self.table.delete(handle)?;
        Ok(())
    }
}
